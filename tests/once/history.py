#!/usr/bin/env python3
"""Records what many clients saw of shared keys, kills between, and looks for an order that explains it.

    tests/once/history.py --bin target/debug/holdfast [--store postgres://...] [--keys 200] [--kills 10]

Clients race for the same keys with two different requests each. The model of a key: the first request to take effect decides;
the same request gets that answer for ever, another one gets 422. A call without an answer may have taken effect or not. The
histories are checked by the search of Wing and Gong ("Testing and verifying concurrent objects", 1993), key by key: keys do
not touch each other, so the whole is linearizable if each is. The checker is tested first with histories that no order explains.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import wire
import world

FOREVER = float("inf")


def explains(history):
    """Whether some order of the operations, each between its begin and its end, is a run of the model.

    An operation is `(begin, end, request, result)`: a result is `("answer", bytes)`, `("other",)` for 422, or `None` where nobody
    knows; those have no end and may be left out.
    """
    known = [op for op in history if op[3] is not None]
    if not known:
        return True
    seen = set()

    def search(done, state):
        if all(place in done for place, op in enumerate(history) if op[3] is not None):
            return True
        if (done, state) in seen:
            return False
        seen.add((done, state))
        left = [place for place in range(len(history)) if place not in done]
        # What ended before another began comes first.
        first_end = min(history[place][1] for place in left)
        for place in left:
            begin, _, request, result = history[place]
            if begin > first_end:
                continue
            for after in steps(state, request, result):
                if search(done | {place}, after):
                    return True
        return False

    return search(frozenset(), None)


def steps(state, request, result):
    """The states that an operation can lead to; none where the model forbids its result."""
    if result is None:
        # It took effect with an answer that nobody saw, or found one, or nothing came of it.
        return [state] if state else [(request, None), None]
    if result[0] == "other":
        return [state] if state and state[0] != request else []
    if state is None:
        return [(request, result[1])]
    if state[0] != request:
        return []
    return [(request, result[1])] if state[1] in (None, result[1]) else []


def selftest():
    """The checker accepts what is right and refuses what is wrong."""
    a, b = ("answer", b"a"), ("answer", b"b")
    right = [
        [(0, 1, "x", a), (2, 3, "x", a)],
        [(0, 9, "x", a), (1, 2, "y", ("other",))],
        [(0, FOREVER, "x", None), (1, 2, "y", ("other",)), (3, 4, "x", a)],
        [(0, FOREVER, "x", None), (1, 2, "y", b)],
        [],
    ]
    wrong = [
        [(0, 1, "x", a), (2, 3, "x", b)],
        [(0, 1, "x", a), (2, 3, "y", b)],
        [(0, 1, "y", ("other",)), (2, 3, "x", a)],
        [(0, 1, "x", a), (2, 3, "x", ("other",))],
        [(0, 3, "x", a), (1, 4, "x", b)],
    ]
    assert all(explains(history) for history in right), "the checker refuses what is right"
    assert not any(explains(history) for history in wrong), "the checker accepts what is wrong"
    return len(right) + len(wrong)


async def client(gateway, dice, histories, ended):
    while not ended.is_set():
        key = dice.choice(list(histories))
        request = dice.choice("xxy")
        # The mark is the key's: what the vendor says differs with every call all the same.
        path, body = world.model_call("anthropic", request == "y", f"mark-{key}")
        begin = time.monotonic()
        try:
            answer = await wire.ask(gateway.port, "POST", path, body, {"Idempotency-Key": key, "Content-Type": "application/json"}, limit=10)
        except (wire.Cut, OSError):
            answer = None
        end = time.monotonic()
        if answer is not None and answer.status == 200:
            histories[key].append((begin, end, request, ("answer", answer.body)))
        elif answer is not None and answer.status == 422:
            histories[key].append((begin, end, request, ("other",)))
        elif answer is None or answer.status not in (409,):
            histories[key].append((begin, FOREVER, request, None))
        await asyncio.sleep(dice.random() * 0.02)


async def play(args, directory):
    dice = world.dice(args.seed)
    vendor, honouring, plain = world.Vendor(0.002), world.Target(True, dice), world.Target(False, dice)
    for part in (vendor, honouring, plain):
        await part.start()
    url = args.store or f"sqlite:{Path(directory) / 'holdfast.db'}"
    gateway = world.Gateway(args.bin, world.config(vendor, honouring, plain, f"{{url: '{url}', lease: 300ms}}"), directory)
    gateway.spawn()
    await gateway.ready()
    histories = {f"{args.seed}-{number}": [] for number in range(args.keys)}
    ended = asyncio.Event()
    clients = [asyncio.create_task(client(gateway, dice, histories, ended)) for _ in range(16)]
    for _ in range(args.kills):
        await asyncio.sleep(0.3 + dice.random() * 0.5)
        gateway.kill()
        gateway.spawn()
        await gateway.ready()
    await asyncio.sleep(1)
    ended.set()
    await asyncio.gather(*clients)
    gateway.stop()
    bad = [key for key, history in histories.items() if not explains(history)]
    operations = sum(map(len, histories.values()))
    unknown = sum(op[3] is None for history in histories.values() for op in history)
    refused = sum(op[3] == ("other",) for history in histories.values() for op in history)
    print(f"seed {args.seed}: {operations} operations on {args.keys} keys, {refused} refused, {unknown} without an answer, {args.kills} kills")
    for key in bad[:3]:
        print("  no order explains", key, [(op[2], op[3] and op[3][0]) for op in histories[key]])
    print(f"{args.keys - len(bad)} passed, {len(bad)} failed")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("HOLDFAST_BIN", "target/debug/holdfast"), help="the gateway")
    parser.add_argument("--store", help="a postgres:// URL; without it SQLite in a directory of its own")
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    print(f"the checker knows {selftest()} histories")
    with tempfile.TemporaryDirectory(prefix="holdfast-history-") as directory:
        sys.exit(1 if asyncio.run(play(args, directory)) else 0)


if __name__ == "__main__":
    main()
