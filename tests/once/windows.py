#!/usr/bin/env python3
"""Each crash window on purpose: the gateway aborts at a named place, and what is promised afterwards holds.

    tests/once/windows.py --bin target/debug/holdfast [--store postgres://...]

The places are those of docs/effects.md (W3 to W5) and docs/idempotency.md. The last line is `N passed, N failed`.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import wire
import world
from replicas import JSON, Checks, insist, keyed

EFFECT_PLACES = ["effect.after_claim", "effect.after_send", "effect.after_answer", "effect.before_finish"]
# Place, and how many vendor calls the key has cost at the end: the answer was stored, or it was not.
KEY_PLACES = [("key.after_claim", 1), ("key.before_store", 2), ("key.after_store", 1)]


async def died(gateway):
    for _ in range(2000):
        if gateway.process.poll() is not None:
            return gateway.process.returncode
        await asyncio.sleep(0.01)
    gateway.kill()
    return None


async def at(gateway, place, ask):
    """Runs the gateway until it aborts at `place` under `ask`, then starts it again without a place."""
    gateway.stop()
    gateway.spawn({"HOLDFAST_FAILPOINT": place})
    await gateway.ready()
    asking = asyncio.create_task(ask())
    code = await died(gateway)
    await asyncio.gather(asking, return_exceptions=True)
    gateway.spawn()
    await gateway.ready()
    return code


async def play(args, directory):
    dice = world.dice(1)
    vendor, honouring, plain = world.Vendor(), world.Target(True, dice), world.Target(False, dice)
    for part in (vendor, honouring, plain):
        await part.start()
    url = args.store or f"sqlite:{Path(directory) / 'holdfast.db'}"
    gateway = world.Gateway(args.bin, world.config(vendor, honouring, plain, f"{{url: '{url}', lease: 300ms}}"), directory)
    gateway.spawn()
    await gateway.ready()
    checks = Checks()
    for place in EFFECT_PLACES:
        for target in ("honouring", "plain"):
            mark = f"mark-{place.split('.')[1].replace('_', '-')}-{target}"
            payload = {"target": target, "key": mark, "payload": {"do": mark}}

            async def perform():
                return await wire.ask(gateway.port, "POST", "/v1/effects?wait=5s", payload, JSON)

            code = await at(gateway, place, perform)
            ended = await insist(gateway.port, "POST", "/v1/effects?wait=5s", payload, JSON,
                                 lambda a: a.status in (200, 202) and a.json()["state"] in ("done", "doubt"))
            effect = ended.json()
            seen = f"abort {code}, {effect['state']}, sent {plain.requests[mark]}, performed {honouring.performed[mark]}"
            if target == "honouring":
                holds = effect["state"] == "done" and honouring.performed[mark] == 1
                checks.check(f"{place}, keys honoured: done, performed once", code == -6 and holds, seen)
            else:
                holds = effect["state"] == "doubt" and effect["ticket"] and plain.requests[mark] <= 1
                checks.check(f"{place}, keys not honoured: in doubt, a ticket, sent at most once", code == -6 and holds, seen)
    for place, calls in KEY_PLACES:
        for stream in (False, True):
            mark = f"mark-{place.split('.')[1].replace('_', '-')}-{str(stream).lower()}"
            path, body = world.model_call("anthropic", stream, mark)

            async def call():
                return await wire.ask(gateway.port, "POST", path, body, keyed(mark))

            code = await at(gateway, place, call)
            answer = await insist(gateway.port, "POST", path, body, keyed(mark), lambda a: a.status == 200)
            again = await wire.ask(gateway.port, "POST", path, body, keyed(mark))
            holds = answer.status == 200 and world.is_whole(stream, answer.body) and again.replayed and again.body == answer.body
            seen = f"abort {code}, {answer.status}, {len(vendor.calls[mark])} calls"
            checks.check(f"{place}, stream {stream}: answered whole and stored, {calls} vendor call(s)",
                         code == -6 and holds and len(vendor.calls[mark]) == calls, seen)
    gateway.stop()
    print(f"{checks.passed} passed, {checks.failed} failed")
    return checks.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("HOLDFAST_BIN", "target/debug/holdfast"), help="the gateway")
    parser.add_argument("--store", help="a postgres:// URL; without it SQLite in a directory of its own")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-windows-") as directory:
        sys.exit(1 if asyncio.run(play(args, directory)) else 0)


if __name__ == "__main__":
    main()
