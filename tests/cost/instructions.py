#!/usr/bin/env python3
"""Counts the instructions of the pure hot path under callgrind and compares them with the kept counts.

    tests/cost/instructions.py             # fails where a count grew by more than 5 %
    tests/cost/instructions.py --write     # keeps the counts of this toolchain

Instructions, not seconds: the same program on the same input takes the same number of them, whatever else the computer
does. A count is the difference of two runs, so that the start of the program falls out. Counts are kept for each version
of the compiler, since another one makes other code; without counts for this one the check says so and passes.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(__file__).with_name("instructions.json")
TOLERANCE = 1.05
# What is counted, with a smaller and a larger number of it.
COUNTED = {"call": (20, 120), "token": (100, 1100)}
DIALECTS = 2


def build() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    command = ["cargo", "build", "--release", "--locked", "-p", "holdfast-core", "--example", "hot_path"]
    subprocess.run(command, cwd=ROOT, check=True)
    return target / "release" / "examples" / "hot_path"


def instructions(program: Path, what: str, count: int) -> int:
    with tempfile.TemporaryDirectory() as directory:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", program, what, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    counted = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or counted is None:
        sys.exit(f"valgrind failed:\n{done.stderr}")
    return int(counted[1])


def compiler() -> str:
    said = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[1]


def main() -> int:
    program = build()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    version = compiler()
    now = {}
    for what, (few, many) in COUNTED.items():
        more = instructions(program, what, many) - instructions(program, what, few)
        now[what] = round(more / (many - few) / DIALECTS)
    if "--write" in sys.argv[1:]:
        kept[version] = now
        KEPT.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    before = kept.get(version)
    if before is None:
        print(f"no counts are kept for rustc {version}; now: {now}. Keep them with --write")
        print("1 passed, 0 failed")
        return 0
    failed = 0
    for what, count in now.items():
        grew = count > before[what] * TOLERANCE
        failed += grew
        print(f"{what}: {count} instructions, kept {before[what]}{', more than 5 % over' if grew else ''}")
    print(f"{len(now) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
