#!/usr/bin/env python3
"""`kill -9` of the real gateway at random moments, under load, and then the counts.

    tests/once/kill.py --bin target/debug/holdfast --cycles 100
    tests/once/kill.py --store postgres://postgres@127.0.0.1:5433/postgres --cycles 1000 --seed 7

Keyed calls of both dialects (plain and streamed), effects to a target that honours keys and to one that does not, and steps
of runs, from clients that repeat with the same key until they have an accepted end. A counting vendor and counting targets
know what really happened. Exit code 1 if a promise was broken; the last line is `N passed, N failed`.
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

CLIENTS = 24
# A life must be able to outlast it, so that what the dead left behind is taken over.
LEASE = "300ms"
# How long after the last restart a client repeats before its key counts as stuck, in seconds.
PATIENCE = 60.0


class Load:
    """What the clients saw."""

    def __init__(self, gateway, dice):
        self.gateway, self.dice = gateway, dice
        self.ended = None
        self.number = 0
        self.accepted = {}
        self.effects = {}
        self.steps = {}
        self.stuck = []
        self.wrong = []
        self.repeats = 0

    def mark(self, kind):
        self.number += 1
        return f"mark-{kind}-{self.number}"

    async def insist(self, mark, method, path, payload, headers, done):
        """Repeats until `done(answer)`, over every kind of failure."""
        last = None
        while self.ended is None or time.monotonic() < self.ended + PATIENCE:
            try:
                answer = await wire.ask(self.gateway.port, method, path, payload, headers, limit=15)
                if done(answer):
                    return answer
                last = (answer.status, answer.body[:200])
            except (wire.Cut, OSError) as error:
                last = repr(error)
            self.repeats += 1
            await asyncio.sleep(0.01 + self.dice.random() * 0.03)
        self.stuck.append((mark, last))
        return None

    async def call(self):
        stream = self.dice.random() < 0.5
        dialect = self.dice.choice(["anthropic", "openai"])
        mark = self.mark("call")
        path, payload = world.model_call(dialect, stream, mark)
        headers = {"Idempotency-Key": mark, "Content-Type": "application/json"}
        answer = await self.insist(mark, "POST", path, payload, headers, lambda a: a.status == 200)
        if answer is None:
            return
        if not world.is_whole(stream, answer.body):
            self.wrong.append((mark, "half an answer ended neatly", answer.body[-200:]))
        self.accepted[mark] = (time.monotonic(), path, payload, answer.body)

    async def effect(self):
        target = self.dice.choice(["honouring", "plain"])
        mark = self.mark("effect")
        payload = {"target": target, "key": mark, "payload": {"do": mark}}
        ends = {"done", "doubt", "failed", "cancelled"}
        answer = await self.insist(mark, "POST", "/v1/effects?wait=3s", payload, {"Content-Type": "application/json"},
                                   lambda a: a.status in (200, 202) and a.json()["state"] in ends)
        if answer is not None:
            self.effects[mark] = (target, answer.json())

    async def step(self):
        mark = self.mark("step")
        path = f"/v1/runs/{mark}/steps/one"
        headers = {"Content-Type": "application/json"}
        begun = await self.insist(mark, "PUT", path, {"do": "begin", "lease": "1s"}, headers, lambda a: a.status == 200)
        if begun is None:
            return
        told = begun.json()
        if told["state"] == "begun":
            await self.insist(mark, "PUT", path, {"do": "complete", "fence": told["fence"], "result": mark}, headers,
                              lambda a: a.status in (200, 409))
        shown = await self.insist(mark, "PUT", path, {"do": "begin", "lease": "1s"}, headers, lambda a: a.status == 200)
        if shown is not None:
            self.steps[mark] = shown.json()

    async def client(self):
        while self.ended is None:
            roll = self.dice.random()
            await (self.call() if roll < 0.6 else self.effect() if roll < 0.9 else self.step())


async def play(args, directory):
    dice = world.dice(args.seed)
    vendor = world.Vendor()
    honouring, plain = world.Target(True, dice), world.Target(False, dice)
    for part in (vendor, honouring, plain):
        await part.start()
    store = f"{{url: '{args.store or 'sqlite:' + str(Path(directory) / 'holdfast.db')}', lease: {LEASE}}}"
    gateway = world.Gateway(args.bin, world.config(vendor, honouring, plain, store), directory)
    gateway.spawn()
    await gateway.ready()
    load = Load(gateway, dice)
    clients = [asyncio.create_task(load.client()) for _ in range(args.clients)]
    began = time.monotonic()
    for cycle in range(args.cycles):
        # Now and then it dies before it listens.
        if dice.random() < 0.9:
            await gateway.ready()
            await asyncio.sleep(dice.random() * args.seconds)
        else:
            await asyncio.sleep(dice.random() * 0.05)
        gateway.kill()
        gateway.spawn()
        if (cycle + 1) % 50 == 0:
            print(f"  {cycle + 1} kills, {len(load.accepted)} answers, {len(load.effects)} effects, {len(load.steps)} steps, {time.monotonic() - began:.0f} s", flush=True)
    await gateway.ready()
    load.ended = time.monotonic()
    await asyncio.gather(*clients)
    bad = await check(load, vendor, honouring, plain)
    gateway.stop()
    return bad


async def check(load, vendor, honouring, plain):
    """Prints the counts; gives how many promises were broken."""
    port = load.gateway.port
    lost = differ = unpaid = late = 0
    for mark, (when, path, payload, body) in load.accepted.items():
        answer = await wire.ask(port, "POST", path, payload, {"Idempotency-Key": mark, "Content-Type": "application/json"})
        lost += not answer.replayed
        differ += answer.body != body
        unpaid += not vendor.calls[mark]
        late += any(call > when for call in vendor.calls[mark])
    again = sum(len(calls) - 1 for mark, calls in vendor.calls.items() if mark.startswith("mark-call"))
    twice_honouring = sum(count > 1 for count in honouring.performed.values())
    twice_plain = sum(count > 1 for count in plain.requests.values())
    states = {}
    ticketless = untrue = 0
    for mark, (target, effect) in load.effects.items():
        states[effect["state"]] = states.get(effect["state"], 0) + 1
        if effect["state"] == "doubt" and not effect.get("ticket"):
            ticketless += 1
        if effect["state"] == "done":
            performed = (honouring if target == "honouring" else plain).performed[mark]
            untrue += performed != 1 or effect["result"]["body"]["performed"] != mark
    doubts = [mark for mark, (target, effect) in load.effects.items() if effect["state"] == "doubt"]
    tickets = set()
    after = ""
    while True:
        page = (await wire.ask(port, "GET", f"/v1/tickets?kind=effect&state=open&limit=500{after}")).json()
        tickets |= {ticket["id"] for ticket in page["tickets"]}
        if not page.get("next"):
            break
        after = f"&after={page['next']}"
    missing = sum(load.effects[mark][1].get("ticket") not in tickets for mark in doubts)
    steps_wrong = sum(step.get("state") == "done" and step.get("result") != mark for mark, step in load.steps.items())
    print(f"accepted answers {len(load.accepted)}, effects {len(load.effects)} {states}, steps {len(load.steps)}, repeats of clients {load.repeats}")
    print(f"vendor calls {sum(map(len, vendor.calls.values()))}, of them made again because a kill came first: {again}")
    broken = 0
    for name, count in [
        ("accepted answers lost", lost),
        ("accepted answers that changed", differ),
        ("accepted answers without a vendor call", unpaid),
        ("vendor calls after the answer was accepted", late),
        ("half answers that ended neatly", len(load.wrong)),
        ("effects performed twice at the target that honours keys", twice_honouring),
        ("effects sent twice to the target that does not", twice_plain),
        ("effects said to be done that were not", untrue),
        ("effects in doubt without a ticket", ticketless + missing),
        ("steps with another's result", steps_wrong),
        ("keys stuck", len(load.stuck)),
    ]:
        print(f"  {name}: {count}")
        broken += count > 0
    for example in (load.stuck + load.wrong)[:5]:
        print("  e.g.", example)
    print(f"{11 - broken} passed, {broken} failed")
    return broken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("HOLDFAST_BIN", "target/debug/holdfast"), help="the gateway")
    parser.add_argument("--store", help="a postgres:// URL; without it SQLite in a directory of its own")
    parser.add_argument("--cycles", type=int, default=100, help="how many kills")
    parser.add_argument("--seconds", type=float, default=0.4, help="the longest life of the gateway")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    print(f"seed {args.seed}, {args.cycles} kills, {'PostgreSQL' if args.store else 'SQLite'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="holdfast-once-") as directory:
        sys.exit(1 if asyncio.run(play(args, directory)) else 0)


if __name__ == "__main__":
    main()
