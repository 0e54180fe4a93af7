"""The dependency rules, read from `cargo metadata` and deny.toml with nothing but Python's own library.

Three checks: no banned crate and no source but the crates.io registry or this tree; every licence is one that deny.toml allows;
`holdfast-wire` and `holdfast-core` reach no crate that does input or output, reads a clock or rolls dice.
It does not look at advisories: that needs data from the network.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PURE = ("holdfast-wire", "holdfast-core")
# What a pure crate may never reach over normal edges.
IMPURE = {
    "async-std", "axum", "chrono", "fastrand", "getrandom", "hyper", "hyper-util", "jiff", "libc", "mio", "native-tls", "notify",
    "openssl", "polling", "rand", "rand_core", "reqwest", "rustix", "rustls", "signal-hook", "smol", "socket2", "sqlx", "time",
    "tokio", "tokio-rustls", "tokio-util", "tower", "tracing-subscriber", "ureq", "windows-sys",
}


def metadata():
    """The resolved graph. Offline when every crate is at hand already."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
    for extra in (["--offline"], []):
        done = subprocess.run(command + extra, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            return json.loads(done.stdout)
    sys.exit(f"cargo metadata failed:\n{done.stderr}")


def licence_allowed(expression, allowed):
    """Whether an SPDX expression (AND, OR, WITH, brackets, the old slash) can be met with allowed licences alone."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    at = 0

    def either():
        nonlocal at
        value = both()
        while at < len(words) and words[at].upper() == "OR":
            at += 1
            value = both() or value
        return value

    def both():
        nonlocal at
        value = one()
        while at < len(words) and words[at].upper() == "AND":
            at += 1
            value = one() and value
        return value

    def one():
        nonlocal at
        if words[at] == "(":
            at += 1
            value = either()
            at += 1
            return value
        name = words[at]
        at += 1
        if at + 1 < len(words) and words[at].upper() == "WITH":
            name = f"{name} WITH {words[at + 1]}"
            at += 2
        return name in allowed

    return either()


def reachable(graph, start):
    """Names of the crates that `start` (a package id) reaches over normal edges, with the path to each."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    names = {package["id"]: package["name"] for package in graph["packages"]}
    paths, queue = {start: [names[start]]}, [start]
    while queue:
        here = queue.pop()
        for edge in nodes[here]["deps"]:
            normal = any(kind["kind"] is None for kind in edge["dep_kinds"])
            if normal and edge["pkg"] not in paths:
                paths[edge["pkg"]] = paths[here] + [names[edge["pkg"]]]
                queue.append(edge["pkg"])
    return {path[-1]: path for path in paths.values()}


def built(graph):
    """The packages that anything of this tree is built from. `cargo metadata` also lists optional ones that no feature turns on;
    `cargo tree` resolves features as the build does."""
    command = ["cargo", "tree", "--workspace", "--locked", "--prefix", "none", "--format", "{p}", "--edges", "all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = {tuple(line.split()[:2]) for line in done.stdout.splitlines() if line.strip()}
    return [package for package in graph["packages"] if (package["name"], f"v{package['version']}") in names]


def main():
    graph = metadata()
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    banned = {rule["crate"] for rule in rules["bans"]["deny"]}
    allowed = set(rules["licenses"]["allow"])
    faults, checks = [], 0
    packages = built(graph)
    for package in packages:
        name, source = package["name"], package["source"]
        checks += 3
        if name in banned:
            faults.append(f"banned crate: {name} {package['version']}")
        if source is not None and not source.startswith("registry+"):
            faults.append(f"foreign source: {name} from {source}")
        licence = package["license"]
        if licence is None or not licence_allowed(licence, allowed):
            faults.append(f"licence not allowed: {name} {package['version']}: {licence}")
    for package in graph["packages"]:
        if package["name"] in PURE:
            checks += 1
            reached = reachable(graph, package["id"])
            for name in sorted(set(reached) & IMPURE):
                faults.append(f"{package['name']} must stay pure but reaches {name}: {' -> '.join(reached[name])}")
    if not checks:
        faults.append("nothing was checked: cargo metadata listed no package")
    for fault in faults:
        print(f"  {fault}")
    print(f"{len(packages)} crates, {checks} checks, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
