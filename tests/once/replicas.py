#!/usr/bin/env python3
"""Two gateways on one PostgreSQL: one call for each key, whoever dies, freezes or loses the database.

    tests/once/replicas.py --bin target/debug/holdfast --postgres postgres://postgres@127.0.0.1:5433/postgres

Each check says what it saw. The last line is `N passed, N failed`.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from urllib.parse import urlsplit, urlunsplit

import wire
import world

LEASE = 1.5
JSON = {"Content-Type": "application/json"}


class Proxy:
    """Stands between a gateway and its database, and can be cut."""

    def __init__(self, host, port):
        self.there = (host, port)
        self.open = True
        self.pairs = set()

    async def start(self):
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def connected(self, reader, writer):
        if not self.open:
            return writer.close()
        far_reader, far_writer = await asyncio.open_connection(*self.there)
        self.pairs |= {writer, far_writer}

        async def pump(source, sink):
            try:
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
            except (ConnectionError, asyncio.CancelledError):
                pass
            sink.close()

        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        except asyncio.CancelledError:
            # The end of the test.
            pass

    def cut(self):
        self.open = False
        for writer in self.pairs:
            writer.close()
        self.pairs.clear()


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, holds, seen=""):
        print(f"  {'ok' if holds else 'FAILED'}: {what}{'' if holds else f' ({seen})'}", flush=True)
        self.passed += bool(holds)
        self.failed += not holds


async def insist(port, method, path, payload, headers, done, seconds=40):
    """Repeats until `done(answer)`; the last answer."""
    end = time.monotonic() + seconds
    answer = None
    while time.monotonic() < end:
        try:
            answer = await wire.ask(port, method, path, payload, headers, limit=20)
            if done(answer):
                return answer
        except (wire.Cut, OSError):
            pass
        await asyncio.sleep(0.03)
    return answer


async def until(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"never came true: {what}")
        await asyncio.sleep(0.005)


def keyed(mark):
    return {**JSON, "Idempotency-Key": mark}


async def one_call_for_twenty(checks, vendor, one, two):
    for stream in (False, True):
        mark = f"mark-twenty-{str(stream).lower()}"
        path, body = world.model_call("anthropic", stream, mark)
        ports = [one.port, two.port] * 10
        answers = await asyncio.gather(*(wire.ask(port, "POST", path, body, keyed(mark)) for port in ports))
        bodies = {answer.body for answer in answers}
        statuses = {answer.status for answer in answers}
        checks.check(f"20 callers over two replicas, stream {stream}: one vendor call, one answer",
                     statuses == {200} and len(bodies) == 1 and len(vendor.calls[mark]) == 1,
                     f"{statuses} {len(bodies)} bodies, {len(vendor.calls[mark])} calls")


async def a_dead_one_is_taken_over(checks, vendor, one, two):
    mark = "mark-dead"
    vendor.pause = 0.5
    path, body = world.model_call("openai", False, mark)
    begun = asyncio.create_task(wire.ask(one.port, "POST", path, body, keyed(mark)))
    await until("the vendor is asked", lambda: vendor.calls[mark])
    one.kill()
    cut = (await asyncio.gather(begun, return_exceptions=True))[0]
    vendor.pause = 0.004
    answer = await insist(two.port, "POST", path, body, keyed(mark), lambda a: a.status == 200)
    checks.check("a call whose replica died is made by the other one", answer.status == 200 and isinstance(cut, wire.Cut), cut)
    again = await wire.ask(two.port, "POST", path, body, keyed(mark))
    checks.check("and is stored", again.replayed and again.body == answer.body and len(vendor.calls[mark]) == 2)
    one.spawn()
    await one.ready()


async def a_frozen_one_is_fenced_off(checks, vendor, one, two):
    mark = "mark-frozen"
    vendor.pause = 0.2
    path, body = world.model_call("anthropic", False, mark)
    begun = asyncio.create_task(wire.ask(one.port, "POST", path, body, keyed(mark), limit=60))
    await until("the vendor is asked", lambda: vendor.calls[mark])
    one.signal(signal.SIGSTOP)
    vendor.pause = 0.004
    answer = await insist(two.port, "POST", path, body, keyed(mark), lambda a: a.status == 200)
    one.signal(signal.SIGCONT)
    late = (await asyncio.gather(begun, return_exceptions=True))[0]
    told = isinstance(late, wire.Cut) or late.status != 200 or late.body == answer.body
    checks.check("a frozen replica's call is taken over", answer.status == 200)
    checks.check("what the frozen one computed is not given out as an answer", told, getattr(late, "body", late))
    again = await insist(one.port, "POST", path, body, keyed(mark), lambda a: a.status == 200)
    checks.check("both replay the same answer afterwards", again.replayed and again.body == answer.body)


async def effects_are_not_sent_twice(checks, one, two, honouring, plain):
    marks = [f"mark-effects-{n}" for n in range(30)]
    payload = {mark: {"target": "plain" if n % 2 else "honouring", "key": mark, "payload": {"do": mark}} for n, mark in enumerate(marks)}

    async def perform(mark, port):
        return await insist(port, "POST", "/v1/effects?wait=5s", payload[mark], JSON,
                            lambda a: a.status in (200, 202) and a.json()["state"] in ("done", "doubt"))

    load = asyncio.gather(*(perform(mark, port) for mark in marks for port in (one.port, two.port)))
    await asyncio.sleep(0.02)
    one.signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE * 3)
    one.signal(signal.SIGCONT)
    states = [answer.json()["state"] for answer in await load]
    checks.check("effects of both replicas end", set(states) <= {"done", "doubt"}, states)
    checks.check("none is performed twice where keys are honoured", max(honouring.performed[mark] for mark in marks) <= 1)
    checks.check("none is sent twice where they are not", max(plain.requests[mark] for mark in marks) <= 1,
                 {mark: plain.requests[mark] for mark in marks if plain.requests[mark] > 1})


async def one_decision(checks, one, two):
    asked = await wire.ask(one.port, "POST", "/v1/approvals", {"question": "go?"}, JSON)
    approval = asked.json()["id"]
    both = await asyncio.gather(*(
        wire.ask(gateway.port, "POST", f"/v1/approvals/{approval}/decide", {"choice": choice}, JSON)
        for gateway, choice in [(one, "approve"), (two, "reject")] * 5))
    statuses = sorted(answer.status for answer in both)
    checks.check("of ten decisions over two replicas one counts", statuses == [200] + [409] * 9, statuses)


async def without_the_database(checks, vendor, one, two, proxy):
    proxy.cut()
    path, body = world.model_call("openai", False, "mark-cut-off")
    refused = await insist(one.port, "POST", path, body, keyed("cut-off"), lambda a: a.status == 503)
    checks.check("cut off from the database, a keyed call is refused", refused.status == 503 and refused.headers["holdfast-code"] == "HF-029", refused.status)
    before = len(vendor.calls["mark-cut-off"])
    refused = await wire.ask(one.port, "POST", path, body, keyed("cut-off-2"))
    effect = await wire.ask(one.port, "POST", "/v1/effects", {"target": "plain", "key": "cut-off", "payload": {"do": "mark-cut-off"}}, JSON)
    checks.check("and an effect, and nothing was sent", (refused.status, effect.status) == (503, 503) and len(vendor.calls["mark-cut-off"]) == before)
    free = await wire.ask(one.port, "POST", path, body, JSON)
    checks.check("an unkeyed call goes on", free.status == 200, free.status)
    ready = (await wire.ask(one.port, "GET", "/readyz")).json()
    metrics = (await wire.ask(one.port, "GET", "/metrics")).body.decode()
    checks.check("readiness and metrics say so", ready["store"] not in ("up", "none") and "holdfast_store_up 0" in metrics, ready)
    other = await wire.ask(two.port, "POST", path, body, keyed("cut-off"))
    checks.check("the other replica goes on", other.status == 200, other.status)
    proxy.open = True
    back = await insist(one.port, "POST", path, body, keyed("cut-off"), lambda a: a.status == 200)
    checks.check("with the database back, keyed calls go on", back.status == 200 and back.replayed and back.body == other.body)


async def play(args, directory):
    parts = urlsplit(args.postgres)
    name = f"holdfast_{uuid.uuid4().hex}"
    subprocess.run(["psql", args.postgres, "-qc", f"create database {name}"], check=True, stdout=subprocess.DEVNULL)
    proxy = Proxy(parts.hostname, parts.port or 5432)
    await proxy.start()
    dice = world.dice(args.seed)
    vendor, honouring, plain = world.Vendor(), world.Target(True, dice), world.Target(False, dice)
    for part in (vendor, honouring, plain):
        await part.start()
    direct = urlunsplit(parts._replace(path=f"/{name}"))
    through = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}", path=f"/{name}"))
    store = "{{url: '{}', lease: {}s, timeout: 2s}}"
    one = world.Gateway(args.bin, world.config(vendor, honouring, plain, store.format(through, LEASE)), directory, "one")
    two = world.Gateway(args.bin, world.config(vendor, honouring, plain, store.format(direct, LEASE)), directory, "two")
    checks = Checks()
    try:
        for gateway in (one, two):
            gateway.spawn()
            await gateway.ready()
        await one_call_for_twenty(checks, vendor, one, two)
        await a_dead_one_is_taken_over(checks, vendor, one, two)
        await a_frozen_one_is_fenced_off(checks, vendor, one, two)
        await effects_are_not_sent_twice(checks, one, two, honouring, plain)
        await one_decision(checks, one, two)
        await without_the_database(checks, vendor, one, two, proxy)
    finally:
        for gateway in (one, two):
            gateway.stop()
        if checks.failed:
            print(one.tail()[-600:], two.tail()[-600:], sep="\n")
    print(f"{checks.passed} passed, {checks.failed} failed")
    return checks.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("HOLDFAST_BIN", "target/debug/holdfast"), help="the gateway")
    parser.add_argument("--postgres", default=os.environ.get("HOLDFAST_TEST_POSTGRES"), help="a server where databases may be made")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    if not args.postgres:
        parser.error("say where PostgreSQL is: --postgres or HOLDFAST_TEST_POSTGRES")
    with tempfile.TemporaryDirectory(prefix="holdfast-replicas-") as directory:
        sys.exit(1 if asyncio.run(play(args, directory)) else 0)


if __name__ == "__main__":
    main()
