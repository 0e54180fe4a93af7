"""The Node SDKs and Claude Code through the gateway, with a first vendor that dies on every call and a healthy second one."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "blackbox"))

import ask
import cells
import rig

NODE = Path(os.environ.get("HOLDFAST_NODE", rig.ROOT / ".cache" / "node"))
# Each breaks the stream in another way; none shows a tool call before it, so that `guarded` must repair all of them.
FAULTS = ("status:529", "reset-before-headers", "cut-clean:half", "cut-rst:after:3", "stall:3", "error-in-band:3", "empty-200", "no-stop")
QUESTION = "hi [[seed:5 words:40 text]]"


def clean(home):
    """The environment of a client: nothing of the developer's own."""
    return {"PATH": os.environ["PATH"], "HOME": home, "HOLDFAST_NODE": str(NODE)}


def sdk_runs(bad, good):
    catalogue = [case for case in bad.control("GET", "catalogue") if case["spec"] in FAULTS]
    config = cells.config(catalogue, bad.port, good.port)
    # As without a word in the configuration: that a text was complete but for its end is believed when two calls say so.
    del config["defaults"]["attempts_per_target"]
    with rig.Gateway(config) as gateway, tempfile.TemporaryDirectory() as home:
        done = subprocess.run(["node", str(HERE / "clients.mjs"), f"http://127.0.0.1:{gateway.port}", *FAULTS],
                              env=clean(home), capture_output=True, text=True, timeout=300)
    print(done.stdout, end="")
    if done.stderr.strip():
        print(done.stderr[-2000:])
    last = done.stdout.strip().splitlines()[-1:] or [""]
    if done.returncode != 0 or not last[0].endswith(" passed, 0 failed"):
        raise rig.Failed("the Node SDKs did not get a whole answer to every question")


def claude(port, home, question=QUESTION):
    """(exit code, the result as JSON) of one `claude -p`."""
    env = clean(home) | {
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}", "ANTHROPIC_API_KEY": "sk-ant-test", "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1",
    }
    done = subprocess.run([str(NODE / "node_modules" / ".bin" / "claude"), "-p", question, "--output-format", "json"],
                          env=env, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        raise rig.Failed(f"claude ended with {done.returncode} and no JSON: {done.stdout[-500:]} {done.stderr[-500:]}") from None


def claude_code_config(bad, good, other_dialect=False):
    """Two vendors of Claude Code's own dialect, or a second one that speaks OpenAI's."""
    provider = {"kind": "anthropic", "key": "sk-vendor"}
    second = {"kind": "openai", "base_url": f"http://127.0.0.1:{good.port}/v1"} if other_dialect else {"base_url": f"http://127.0.0.1:{good.port}"}
    return {
        "providers": [
            {**provider, "name": "bad", "base_url": f"http://127.0.0.1:{bad.port}", "domain": "bad"},
            {**provider, "name": "good", "domain": "good", **second},
        ],
        "routes": [{"model": "*", "targets": ["bad", "good/sim-ok"]}],
        "defaults": {"timeouts": cells.TIMEOUTS, "breaker": {"consecutive": 1000000, "min_calls": 1000000}},
    }


def main():
    with rig.Sim() as bad, rig.Sim() as good:
        def node_sdks_with_a_dying_first_vendor():
            sdk_runs(bad, good)

        def claude_code_with(fault, other_dialect=False):
            def test():
                bad.control("PUT", "faults", {"faults": [{"fault": fault}]})
                with rig.Gateway(claude_code_config(bad, good, other_dialect)) as gateway, tempfile.TemporaryDirectory() as home:
                    before = bad.stats()["calls"]
                    code, result = claude(gateway.port, home)
                    asked = bad.stats()["calls"] - before
                bad.control("DELETE", "faults")
                told = f"exit {code}, {json.dumps(result)[:600]}"
                assert code == 0 and result.get("is_error") is False, told
                assert ask.sealed(result["result"].strip()), f"the answer is not whole: {told}"
                assert asked >= 1, "the first vendor was never asked: this proves nothing"
                assert result.get("num_turns") == 1, f"Claude Code repaired it by itself: {told}"

            test.__name__ = f"claude_code_with_{fault}" + "_and_a_vendor_of_the_other_dialect" * other_dialect
            return test

        tests = [node_sdks_with_a_dying_first_vendor, *(claude_code_with(fault) for fault in ("ok", *FAULTS)),
                 *(claude_code_with(fault, other_dialect=True) for fault in ("status:529", "cut-clean:half", "no-stop"))]
        return rig.suite("node clients", tests)


if __name__ == "__main__":
    sys.exit(main())
