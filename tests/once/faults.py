#!/usr/bin/env python3
"""What breaks beside processes: a full disk, a damaged page, a database that goes and comes, clocks that jump, callers' nonsense.

    tests/once/faults.py [--bin target/debug/holdfast] [--only TEXT]

The real binary before a counting vendor and counting effect targets. The full disk is a small tmpfs for root, and a limit on the
size of files for everybody. PostgreSQL is started by tests/postgres and left out where there is none, clocks are turned by
libfaketime (Debian: faketime) and left out where it is not. The last line is `N passed, N failed`.
"""

import argparse
import asyncio
import contextlib
import glob
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wire
import world

ROOT = Path(__file__).resolve().parents[2]
JSON = {"Content-Type": "application/json"}
# A bound against hanging, not a measurement.
PATIENCE = 30


class Broken(Exception):
    """A promise was."""


class Skipped(Exception):
    """What the test needs is not there."""


def expect(holds, what):
    if not holds:
        raise Broken(what() if callable(what) else what)


def shown(answer):
    return f"{answer.status} {answer.headers.get('holdfast-code', '')} {answer.body[:300]!r}"


class Stage:
    """A counting world, and gateways in a directory of their own."""

    def __init__(self, binary, directory):
        self.binary, self.directory, self.names = binary, Path(directory), 0
        dice = world.dice(1)
        self.vendor, self.honouring, self.plain = world.Vendor(), world.Target(True, dice), world.Target(False, dice)
        self.gateways = []

    async def start(self):
        for part in (self.vendor, self.honouring, self.plain):
            await part.start()

    def gateway(self, store, more="", env=None, prepare=None):
        config = world.config(self.vendor, self.honouring, self.plain, store, more)
        self.names += 1
        gateway = Gateway(self.binary, config, self.directory, f"gateway{self.names}", env)
        gateway.prepare = prepare
        self.gateways.append(gateway)
        return gateway

    def sqlite(self, directory=None, timeout="1s", **more):
        return self.gateway(f"{{url: 'sqlite:{Path(directory or self.directory) / 'holdfast.db'}', lease: 500ms, timeout: {timeout}}}", **more)

    def stop(self):
        for gateway in self.gateways:
            gateway.stop()

    def mark(self, what):
        self.names += 1
        return f"mark-{what}-{self.names}x"

    def calls(self, mark):
        return len(self.vendor.calls[mark])


class Gateway(world.Gateway):
    prepare = None

    def spawn(self, env=None):
        # What is set before the binary runs: limits, and signals that it then inherits.
        command = [self.binary, "serve", "--config", str(self.path), "--log", "warn"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env={**self.env, **(env or {})}, preexec_fn=self.prepare)

    async def start(self):
        self.spawn()
        await self.ready()
        return self

    async def call(self, mark, key=True, stream=False, headers=None):
        path, body = world.model_call("anthropic", stream, mark)
        named = {"Idempotency-Key": mark} if key is True else {"Idempotency-Key": key} if key else {}
        return await wire.ask(self.port, "POST", path, body, {**JSON, **named, **(headers or {})})

    async def effect(self, target, mark, more="", headers=None):
        return await wire.ask(self.port, "POST", f"/v1/effects{more}", {"target": target, "key": mark, "payload": {"do": mark}}, {**JSON, **(headers or {})})

    async def get(self, path, headers=None):
        return await wire.ask(self.port, "GET", path, None, headers)


async def until(what, condition, patience=PATIENCE):
    """Waits for something that sends no event; gives the first true value."""
    end, last = time.monotonic() + patience, None
    while time.monotonic() < end:
        try:
            if value := await condition():
                return value
        except (wire.Cut, OSError) as error:
            last = error
        await asyncio.sleep(0.05)
    raise Broken(f"waited {patience} s in vain for: {what} ({last})")


async def accepted(gateway, mark, before=None):
    """Repeats until there is an answer. `before` = the answer that it has to be, marked as a repeat."""
    async def ask():
        answer = await gateway.call(mark)
        expect(answer.status in (200, 503), lambda: f"{mark}: {shown(answer)}")
        return answer if answer.status == 200 else None

    answer = await until(f"an answer to {mark}", ask)
    expect(world.is_whole(False, answer.body), lambda: f"{mark}: not whole: {shown(answer)}")
    if before is not None:
        expect(answer.body == before.body, lambda: f"{mark}: another answer: {shown(before)} then {shown(answer)}")
        expect(answer.replayed, f"{mark}: a repeat that is not marked")
    return answer


async def refuses(stage, gateway):
    """Whatever has to be kept is refused before it is sent, everything else goes on, and it is said."""
    for _ in range(3):
        mark = stage.mark("refused")
        answer = await gateway.call(mark)
        expect((answer.status, answer.headers.get("holdfast-code")) == (503, "HF-029"), lambda: f"a keyed call got {shown(answer)}")
        expect(stage.calls(mark) == 0, "a refused call was sent")
        answer = await gateway.effect("plain", mark)
        expect((answer.status, answer.headers.get("holdfast-code")) == (503, "HF-029"), lambda: f"an effect got {shown(answer)}")
        expect(stage.plain.requests[mark] == 0, "a refused effect was sent")
    await goes_on(stage, gateway)
    ready = await gateway.get("/readyz")
    expect(ready.json()["store"] != "up", lambda: f"readiness does not say it: {shown(ready)}")
    metrics = (await gateway.get("/metrics")).body.decode()
    expect(any(line.startswith("holdfast_store_up") and line.endswith(" 0") for line in metrics.splitlines()), "metrics do not say it")


async def goes_on(stage, gateway):
    for stream in (False, True):
        answer = await gateway.call(stage.mark("unkeyed"), key=None, stream=stream)
        expect(answer.status == 200 and world.is_whole(stream, answer.body), lambda: f"an unkeyed call got {shown(answer)}")


async def is_ill(gateway):
    """Until the store notices by itself: the first one to write finds out."""
    async def ask():
        answer = await gateway.call("mark-probe-of-illness")
        return answer.status == 503

    await until("the store to be found ill", ask)


# === Full disks ===

@contextlib.contextmanager
def small_disk(directory):
    """A file system of 6 MiB."""
    place = Path(directory) / "small"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", place], capture_output=True).returncode == 0
    if not mounted:
        raise Skipped("no tmpfs can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def fill(place):
    """Leaves not a byte."""
    with open(place / "filler", "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


async def a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing(stage):
    with small_disk(stage.directory) as place:
        gateway = await stage.sqlite(place).start()
        try:
            early = {mark: await accepted(gateway, mark) for mark in (stage.mark("early") for _ in range(5))}
            done = stage.mark("effect")
            first = (await gateway.effect("plain", done)).json()
            expect(first["state"] == "done", lambda: f"the first effect: {first}")
            fill(place)
            await is_ill(gateway)
            await refuses(stage, gateway)
            # A crash while it is full: what was accepted is there afterwards.
            gateway.kill()
            gateway.spawn()
            await gateway.ready(store=False)
            await goes_on(stage, gateway)
            (place / "filler").unlink()
            await gateway.ready()
            for mark, answer in early.items():
                await accepted(gateway, mark, answer)
                expect(stage.calls(mark) == 1, f"{mark} was called {stage.calls(mark)} times")
            late = stage.mark("late")
            await accepted(gateway, late)
            again = await gateway.effect("plain", done)
            expect(again.json() == first and again.replayed, lambda: f"{first}, and then {shown(again)}")
            expect(stage.plain.requests[done] == 1, "an effect was sent again")
        finally:
            gateway.stop()


async def a_disk_that_fills_while_a_call_runs(stage):
    with small_disk(stage.directory) as place:
        stage.vendor.pause = 0.1
        gateway = await stage.sqlite(place).start()
        try:
            mark = stage.mark("running")
            running = asyncio.create_task(gateway.call(mark))
            await until("the vendor's call", lambda: asyncio.sleep(0, stage.calls(mark) == 1))
            fill(place)
            answer = await running
            # Room that the database had already may have sufficed.
            if answer.status != 200:
                expect((answer.status, answer.headers.get("holdfast-code")) == (503, "HF-029"), lambda: f"got {shown(answer)}")
            (place / "filler").unlink()
            kept = await accepted(gateway, mark)
            if answer.status == 200:
                expect(kept.body == answer.body, "another answer")
            await accepted(gateway, mark, kept)
            expect(stage.calls(mark) == 1, f"the answer that was there was asked for again: {stage.calls(mark)} calls")
        finally:
            gateway.stop()


async def a_limit_on_the_size_of_files(stage):
    def prepare():
        # Ignored signals stay ignored in the binary: writes fail instead of killing it.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400 << 10, 400 << 10))

    gateway = await stage.sqlite(prepare=prepare).start()
    answers = {}
    for _ in range(2000):
        mark = stage.mark("until-full")
        answer = await gateway.call(mark)
        if answer.status != 200:
            break
        answers[mark] = answer
    else:
        raise Broken("the limit was never reached")
    expect(answers, lambda: f"not one call was kept: {shown(answer)}")
    expect((answer.status, answer.headers.get("holdfast-code")) == (503, "HF-029"), lambda: f"got {shown(answer)}")
    await goes_on(stage, gateway)
    gateway.kill()
    gateway.prepare = None
    await gateway.start()
    for mark, answer in answers.items():
        await accepted(gateway, mark, answer)
        expect(stage.calls(mark) == 1, f"{mark} was called {stage.calls(mark)} times")
    await accepted(gateway, mark + "-more")


# === Damage ===

async def a_damaged_page_is_told_and_a_backup_is_as_good_as_the_original(stage):
    gateway = await stage.sqlite().start()
    answers = {mark: await accepted(gateway, mark) for mark in (stage.mark("kept") for _ in range(60))}
    done = stage.mark("effect")
    expect((await gateway.effect("plain", done)).json()["state"] == "done", "the effect")
    gateway.stop()
    file, copy = stage.directory / "holdfast.db", stage.directory / "copy.db"

    def store(*arguments):
        return subprocess.run([stage.binary, "store", *arguments, "--config", str(gateway.path)], capture_output=True, text=True, timeout=60, check=False)

    backup = store("backup", str(copy))
    expect(backup.returncode == 0, lambda: f"backup: {backup.stderr}")
    sound = store("check")
    expect(sound.returncode == 0, lambda: f"a sound file: {sound.stdout}{sound.stderr}")
    pages = file.stat().st_size // 4096
    expect(pages > 6, f"only {pages} pages")
    told = 0
    for page in [0, *range(2, pages, max(1, pages // 8))]:
        damaged = bytearray(copy.read_bytes())
        damaged[page * 4096:page * 4096 + 4096] = bytes((n * 7 + 13) % 256 for n in range(4096))
        restore(file, bytes(damaged))
        judged = store("check")
        gateway.spawn()
        ended = await ends_or_serves(gateway)
        if ended:
            # It does not begin on what it can't trust, and says what to do.
            tail = gateway.tail().lower()
            expect("damaged" in tail or "corrupt" in tail or "not a database" in tail, lambda: f"page {page}: {tail[-400:]}")
            expect("panicked" not in tail, lambda: f"page {page}: {tail[-400:]}")
            told += 1
        else:
            # Whatever it gives must be what was accepted.
            expect(judged.returncode == 0 or (await gateway.get("/readyz")).json()["store"] != "up" or await gives_only_the_truth(gateway, answers),
                   f"page {page}: it serves a damaged file as if it were sound")
            await gives_only_the_truth(gateway, answers)
            await goes_on(stage, gateway)
            told += judged.returncode != 0
        gateway.stop()
    expect(told > 0, "no damage was noticed at all")
    restore(file, copy.read_bytes())
    await gateway.start()
    for mark, answer in answers.items():
        await accepted(gateway, mark, answer)
        expect(stage.calls(mark) == 1, f"{mark} was called {stage.calls(mark)} times")
    again = await gateway.effect("plain", done)
    expect(again.replayed and stage.plain.requests[done] == 1, lambda: f"the effect: {shown(again)}")


def restore(file, content):
    for rest in ("-wal", "-shm"):
        Path(f"{file}{rest}").unlink(missing_ok=True)
    file.write_bytes(content)


async def ends_or_serves(gateway):
    """Whether the process ended instead of serving."""
    async def either():
        if gateway.process.poll() is not None:
            return "ended"
        answer = await gateway.get("/readyz")
        return "serves" if answer.status == 200 else None

    if await until("the gateway to serve or to end", either) == "ended":
        return True
    # It serves while the store is looked at, and ends then.
    with contextlib.suppress(Broken):
        await until("the gateway's store, or its end", lambda: settled(gateway), 10)
    return gateway.process.poll() is not None


async def settled(gateway):
    return gateway.process.poll() is not None or (await gateway.get("/readyz")).json()["store"] == "up"


async def gives_only_the_truth(gateway, answers):
    for mark, before in list(answers.items())[:10]:
        answer = await gateway.call(mark)
        if answer.status == 200 and answer.replayed:
            expect(answer.body == before.body, lambda: f"another answer from a damaged file: {shown(answer)}")
        else:
            expect(answer.status in (200, 500, 503), lambda: f"from a damaged file: {shown(answer)}")
    return True


# === PostgreSQL goes and comes ===

class Postgres:
    """A server of our own, in a directory that its user can reach."""

    def __init__(self):
        found = shutil.which("postgres") or glob.glob("/usr/lib/postgresql/*/bin/postgres")
        if not found:
            raise Skipped("no PostgreSQL on this machine")
        self.directory = tempfile.mkdtemp(prefix="holdfast-faults-pg-")
        os.chmod(self.directory, 0o755)
        self.port = world.free_port()

    def run(self, what, *more):
        command = [str(ROOT / "tests" / "postgres"), what, self.directory, *more]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120, check=False)
        expect(done.returncode == 0, f"tests/postgres {what} failed")
        return done.stdout.strip()

    def __enter__(self):
        self.url = self.run("start", str(self.port))
        return self

    def start(self):
        self.run("start", str(self.port))

    def __exit__(self, *_):
        with contextlib.suppress(Broken):
            self.run("kill")
        shutil.rmtree(self.directory, ignore_errors=True)

    def store(self, lease="1s"):
        return f"{{url: '{self.url}', lease: {lease}, timeout: 1s}}"


async def a_database_that_stops_and_starts(stage):
    with Postgres() as postgres:
        gateway = await stage.gateway(postgres.store()).start()
        early = {mark: await accepted(gateway, mark) for mark in (stage.mark("early") for _ in range(5))}
        done = stage.mark("effect")
        expect((await gateway.effect("plain", done)).json()["state"] == "done", "the effect")
        for how in ("stop", "kill"):
            stage.vendor.pause = 0.1
            mark = stage.mark("running")
            running = asyncio.create_task(gateway.call(mark))
            await until("the vendor's call", lambda mark=mark: asyncio.sleep(0, stage.calls(mark) == 1))
            postgres.run(how)
            answer = await running
            stage.vendor.pause = 0.004
            expect((answer.status, answer.headers.get("holdfast-code")) == (503, "HF-029"), lambda: f"{how}: got {shown(answer)}")
            await is_ill(gateway)
            await refuses(stage, gateway)
            postgres.start()
            await gateway.ready()
            for kept, before in early.items():
                await accepted(gateway, kept, before)
                expect(stage.calls(kept) == 1, f"{how}: {kept} was called {stage.calls(kept)} times")
            after = await accepted(gateway, mark)
            await accepted(gateway, mark, after)
            expect(stage.calls(mark) <= 2, f"{how}: {mark} was called {stage.calls(mark)} times")
            again = await gateway.effect("plain", done)
            expect(again.replayed and stage.plain.requests[done] == 1, lambda: f"{how}: the effect: {shown(again)}")


async def a_gateway_that_starts_before_its_database(stage):
    with Postgres() as postgres:
        postgres.run("stop")
        gateway = stage.gateway(postgres.store())
        gateway.spawn()
        await gateway.ready(store=False)
        await refuses(stage, gateway)
        postgres.start()
        await gateway.ready()
        await accepted(gateway, stage.mark("late"))


# === Clocks ===

def faketime():
    for pattern in ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1"):
        for found in glob.glob(pattern):
            return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "faketime"], **quiet)
        for found in glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"):
            return found
    raise Skipped("no libfaketime; install the Debian package faketime")


class Clock:
    """The wall clock of a process, to be turned while it runs. The monotonic clock stays what it is."""

    def __init__(self, directory):
        self.file = Path(directory) / f"clock-{time.monotonic_ns()}"
        self.set("+0")
        self.env = {
            "LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1",
        }

    def set(self, offset):
        fresh = self.file.with_suffix(".new")
        fresh.write_text(offset + "\n")
        fresh.rename(self.file)


async def a_clock_that_jumps_by_an_hour(stage):
    clock = Clock(stage.directory)
    gateway = await stage.sqlite(env=clock.env).start()
    early = {mark: await accepted(gateway, mark) for mark in (stage.mark("early") for _ in range(3))}

    async def effects(when):
        for target, counts in (("plain", stage.plain), ("honouring", stage.honouring)):
            mark = stage.mark(target)
            effect = (await gateway.effect(target, mark)).json()
            expect(effect["state"] == "done" and counts.performed[mark] == 1, lambda: f"{when}: {effect}")
        return effect["created"] - time.time() * 1000

    for offset in (3600, -3600, 0):
        stage.vendor.pause = 0.05
        running = stage.mark("running")
        call = asyncio.create_task(gateway.call(running))
        await until("the vendor's call", lambda running=running: asyncio.sleep(0, stage.calls(running) == 1))
        clock.set(f"{offset:+}")
        answer = await call
        stage.vendor.pause = 0.004
        expect(answer.status == 200, lambda: f"a call during the jump got {shown(answer)}")
        early[running] = answer
        await effects(f"in the jump to {offset}")
        # And a crash: the next life begins with the clock as it is now.
        gateway.kill()
        await gateway.start()
        moved = await effects(f"after the jump to {offset}")
        expect(abs(moved - offset * 1000) < 600_000, f"the clock was not turned: {moved} ms, not {offset} s")
        for mark, before in early.items():
            await accepted(gateway, mark, before)
            expect(stage.calls(mark) == 1, f"{offset}: {mark} was called {stage.calls(mark)} times")


async def a_replica_whose_clock_is_an_hour_ahead_declares_nobody_dead(stage):
    clock = Clock(stage.directory)
    with Postgres() as postgres:
        steady = await stage.gateway(postgres.store()).start()
        jumping = stage.gateway(postgres.store(), env=clock.env)
        for offset in ("+3600", "-3600"):
            # It starts with its clock wrong, and the clock is set while it runs.
            clock.set(offset)
            jumping.stop()
            await jumping.start()
            stage.vendor.pause = 0.4
            mark = stage.mark("running")
            running = asyncio.create_task(steady.call(mark))
            await until("the vendor's call", lambda mark=mark: asyncio.sleep(0, stage.calls(mark) == 1))
            clock.set("+0")
            answer, other = await asyncio.gather(running, jumping.call(mark))
            stage.vendor.pause = 0.004
            expect(answer.status == 200 and other.body == answer.body, lambda: f"{offset}: {shown(answer)} and {shown(other)}")
            expect(stage.calls(mark) == 1, f"{offset}: {stage.calls(mark)} vendor calls: a living process was taken for dead")
            sent = stage.mark("effect")
            ends = await asyncio.gather(steady.effect("plain", sent), jumping.effect("plain", sent))
            expect(all(end.json()["state"] == "done" for end in ends), lambda: f"{offset}: {[shown(end) for end in ends]}")
            expect(stage.plain.requests[sent] == 1, f"{offset}: sent {stage.plain.requests[sent]} times")


# === Callers' nonsense ===

CALLERS = "callers:\n  - {name: ann, key: key-ann-0123456789}\n  - {name: bob, key: key-bob-0123456789}\n"
ANN, BOB = {"Authorization": "Bearer key-ann-0123456789"}, {"Authorization": "Bearer key-bob-0123456789"}


async def raw(port, head, body=b""):
    """A request that no HTTP library would send: the status, or 0 where the connection was ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        line = await asyncio.wait_for(reader.readline(), 10)
        return int(line.split()[1]) if line else 0
    finally:
        writer.close()


def effect_of(**members):
    return {"target": "plain", "payload": {"do": "mark-nonsense"}, **members}


def nonsense():
    """(what, method, path, body, headers, statuses, code or None)"""
    big = {"target": "plain", "key": "big", "payload": "mark-nonsense " + "x" * (1 << 21)}
    key = {"Idempotency-Key": "k"}
    return [
        ("an effect that is no JSON", "POST", "/v1/effects", b"{", key, (400,), "HF-001"),
        ("an effect that is no object", "POST", "/v1/effects", b"[1]", key, (400,), "HF-001"),
        ("an empty effect", "POST", "/v1/effects", b"{}", key, (400,), "HF-001"),
        ("an effect that is not UTF-8", "POST", "/v1/effects", b'{"target":"plain","payload":"\xff"}', key, (400,), "HF-001"),
        ("a misspelt member", "POST", "/v1/effects", effect_of(palyoad=1), key, (400,), "HF-001"),
        ("an unknown target", "POST", "/v1/effects", effect_of(target="nobody"), key, (400, 404), None),
        ("an effect to a free address", "POST", "/v1/effects", effect_of(url="http://127.0.0.1:1/"), key, (400,), "HF-001"),
        ("a path that is not allowed", "POST", "/v1/effects", effect_of(path="/etc/passwd"), key, (400, 403), None),
        ("a path that climbs", "POST", "/v1/effects", effect_of(path="/../x"), key, (400, 403), None),
        ("a method that is not allowed", "POST", "/v1/effects", effect_of(method="DELETE"), key, (400, 403), None),
        ("a header that is not allowed", "POST", "/v1/effects", effect_of(headers={"Authorization": "x"}), key, (400, 403), None),
        ("a payload over the limit", "POST", "/v1/effects", big, {}, (413,), "HF-004"),
        ("a key of 256 characters", "POST", "/v1/effects", effect_of(key="k" * 256), {}, (400,), "HF-026"),
        ("an empty key", "POST", "/v1/effects", effect_of(key=""), {}, (400,), "HF-026"),
        ("a key with a control character", "POST", "/v1/effects", effect_of(key="a\u0001b"), {}, (400,), "HF-026"),
        ("a key with a line's end", "POST", "/v1/effects", effect_of(key="a\r\nX: y"), {}, (400,), "HF-026"),
        ("a requirement that nobody knows", "POST", "/v1/effects", effect_of(requires=["nothing"]), key, (424,), "HF-034"),
        ("a wait that is no time", "POST", "/v1/effects?wait=soon", effect_of(), key, (400,), "HF-001"),
        ("effects with a wrong method", "DELETE", "/v1/effects", None, {}, (405,), "HF-007"),
        ("an effect that is not there", "GET", "/v1/effects/0190", None, {}, (404,), "HF-031"),
        ("a state that is none", "GET", "/v1/effects?state=odd", None, {}, (400,), "HF-001"),
        ("a limit that is none", "GET", "/v1/effects?limit=-1", None, {}, (400,), "HF-001"),
        ("a ticket that is not there", "GET", "/v1/tickets/0190", None, {}, (404,), "HF-031"),
        ("a claim of a ticket that is not there", "POST", "/v1/tickets/0190/claim", {}, {}, (404,), "HF-031"),
        ("a step that is no JSON", "PUT", "/v1/runs/r/steps/s", b"nope", {}, (400,), "HF-001"),
        ("a step without a deed", "PUT", "/v1/runs/r/steps/s", {}, {}, (400,), "HF-001"),
        ("a lease of nothing", "PUT", "/v1/runs/r/steps/s", {"do": "begin", "lease": "0s"}, {}, (400,), "HF-001"),
        ("a lease of a year", "PUT", "/v1/runs/r/steps/s", {"do": "begin", "lease": "9000h"}, {}, (400,), "HF-001"),
        ("a completion without a fence", "PUT", "/v1/runs/r/steps/s", {"do": "complete", "result": 1}, {}, (400,), "HF-001"),
        ("a completion of nothing begun", "PUT", "/v1/runs/r/steps/s", {"do": "complete", "fence": 1, "result": 1}, {}, (404,), "HF-031"),
        ("a run's name that is too long", "PUT", "/v1/runs/" + "r" * 129 + "/steps/s", {"do": "begin"}, {}, (400,), None),
        ("a run's name with a control character", "PUT", "/v1/runs/a%01b/steps/s", {"do": "begin"}, {}, (400,), None),
        ("a deadline that is no time", "POST", "/v1/runs", {"id": "r", "deadline": "later"}, {}, (400,), "HF-001"),
        ("an approval without a question", "POST", "/v1/approvals", {"choices": ["a"]}, {}, (400,), "HF-001"),
        ("an approval with a default that is no choice", "POST", "/v1/approvals", {"question": "?", "default": "maybe", "deadline": "1h"}, {}, (400,), "HF-001"),
        ("a call whose answer nobody asked for", "GET", "/v1/calls/nothing", None, {}, (404,), "HF-031"),
        ("an event after a word", "GET", "/v1/events?after=now", None, {}, (400,), "HF-001"),
    ]


async def nonsense_is_refused_in_clear_words_and_stores_nothing(stage):
    gateway = await stage.sqlite(more=CALLERS).start()
    wrong = []
    for what, method, path, body, headers, statuses, code in nonsense():
        answer = await wire.ask(gateway.port, method, path, body, {**JSON, **ANN, **headers})
        fits = answer.status in statuses and (code is None or answer.headers.get("holdfast-code") == code)
        told = answer.json().get("error") if answer.body[:1] == b"{" else None
        message = told.get("message") if isinstance(told, dict) else None
        if not fits or not message:
            wrong.append(f"{what}: {shown(answer)}, not {statuses} {code}")
    path, body = world.model_call("anthropic", False, "mark-nonsense")
    for what, key in (("256 characters", "k" * 256), ("nothing", ""), ("empty quotes", '""'), ("a tab", "a\tb")):
        answer = await wire.ask(gateway.port, "POST", path, body, {**JSON, **ANN, "Idempotency-Key": key})
        if (answer.status, answer.headers.get("holdfast-code")) != (400, "HF-026"):
            wrong.append(f"a model call whose key is {what}: {shown(answer)}")
    start = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nAuthorization: Bearer key-ann-0123456789\r\nIdempotency-Key: ".encode()
    for what, key in (("a NUL", b"a\0b"), ("an escape", b"a\x1bb"), ("bytes that are not UTF-8", b"a\xffb"), ("two keys", b"a\r\nIdempotency-Key: b")):
        status = await raw(gateway.port, start + key, body)
        if status not in (0, 400):
            wrong.append(f"a model call whose key has {what}: {status}")
    expect(not wrong, "\n    ".join(wrong))
    for path, member in (("/v1/effects", "effects"), ("/v1/tickets", "tickets"), ("/v1/runs", "runs"), ("/v1/approvals", "approvals")):
        rows = (await gateway.get(path, ANN)).json()[member]
        expect(rows == [], lambda: f"{path} keeps {rows}")
    expect(stage.calls("mark-nonsense") == 0, "nonsense was sent to the vendor")
    expect(stage.plain.requests["mark-nonsense"] == 0, "nonsense was sent to a target")


async def what_is_anothers_is_not_there(stage):
    gateway = await stage.sqlite(more=CALLERS).start()
    port = gateway.port
    effect = (await gateway.effect("plain", stage.mark("own"), headers=ANN)).json()
    approval = (await wire.ask(port, "POST", "/v1/approvals", {"question": "Send it?"}, {**JSON, **ANN})).json()
    ticket = (await gateway.get("/v1/tickets", ANN)).json()["tickets"][0]["id"]
    begun = await wire.ask(port, "PUT", "/v1/runs/r/steps/s", {"do": "begin"}, {**JSON, **ANN})
    expect(begun.json()["state"] == "begun", lambda: shown(begun))
    mark = stage.mark("own")
    own = await gateway.call(mark, headers=ANN)
    theirs = [
        ("GET", f"/v1/effects/{effect['id']}", None), ("POST", f"/v1/effects/{effect['id']}/cancel", {}),
        ("GET", f"/v1/tickets/{ticket}", None), ("POST", f"/v1/tickets/{ticket}/claim", {}), ("POST", f"/v1/tickets/{ticket}/release", {"fence": 1}),
        ("POST", f"/v1/tickets/{ticket}/choose", {"choice": "approve"}), ("POST", f"/v1/tickets/{ticket}/close", {}),
        ("POST", f"/v1/tickets/{ticket}/reject", {"reason": "no"}), ("POST", f"/v1/tickets/{ticket}/answer", {"text": "x"}),
        ("POST", f"/v1/tickets/{ticket}/retry", {}), ("POST", f"/v1/tickets/{ticket}/effect", {"outcome": "done"}),
        ("GET", f"/v1/approvals/{approval['id']}", None), ("POST", f"/v1/approvals/{approval['id']}/decide", {"choice": "approve"}),
        ("GET", "/v1/runs/r", None), ("GET", "/v1/runs/r/steps/s", None), ("POST", "/v1/runs/r/heartbeat", {}), ("POST", "/v1/runs/r/end", {"state": "done"}),
        ("GET", f"/v1/calls/{mark}", None),
    ]
    wrong = []
    for method, path, body in theirs:
        answer = await wire.ask(port, method, path, body, {**JSON, **BOB})
        absent = await wire.ask(port, method, path.replace(effect["id"], "0190").replace(ticket, "0190").replace(approval["id"], "0190"), body, {**JSON, **BOB})
        if (answer.status, answer.headers.get("holdfast-code")) != (404, "HF-031") or absent.status != 404:
            wrong.append(f"{method} {path}: {shown(answer)}")
        no_one = await wire.ask(port, method, path, body, JSON)
        if no_one.status != 401:
            wrong.append(f"{method} {path} without a key: {shown(no_one)}")
    expect(not wrong, "\n    ".join(wrong))
    for path, member in (("/v1/effects", "effects"), ("/v1/tickets", "tickets"), ("/v1/runs", "runs"), ("/v1/approvals", "approvals")):
        rows = (await gateway.get(path, BOB)).json()[member]
        expect(rows == [], lambda: f"{path} shows {rows}")
    # The same key of another caller is another key.
    other = await gateway.call(mark, headers=BOB)
    expect(own.status == other.status == 200 and own.body != other.body and not other.replayed, lambda: f"{shown(own)} and {shown(other)}")
    still = (await gateway.get(f"/v1/tickets/{ticket}", ANN)).json()
    expect(still["state"] == "open", f"the ticket: {still}")


async def leases_that_have_ended_are_worth_nothing(stage):
    # A write that a busy machine gave up for lost would hold the lease of a minute.
    gateway = await stage.sqlite(timeout="20s").start()
    port = gateway.port

    async def step(body):
        return await wire.ask(port, "PUT", "/v1/runs/r/steps/s", body, JSON)

    old = (await step({"do": "begin", "lease": "1s"})).json()["fence"]
    taken = await step({"do": "begin", "lease": "1s"})
    expect(taken.status == 409 and taken.json()["state"] == "running", lambda: f"a step that is taken: {shown(taken)}")

    async def begin():
        answer = await step({"do": "begin", "lease": "1m"})
        return answer.json().get("fence") if answer.status == 200 else None

    new = await until("the lease to end", begin)
    expect(new > old, f"fences {old} and {new}")
    for what in ({"do": "complete", "fence": old, "result": "old"}, {"do": "fail", "fence": old, "error": "x"}, {"do": "complete", "fence": new + 7, "result": "odd"}):
        late = await step(what)
        expect((late.status, late.headers.get("holdfast-code")) == (409, "HF-032"), lambda: f"{what}: {shown(late)}")
    expect((await step({"do": "complete", "fence": new, "result": "new"})).status == 200, "the new one may")
    again = await step({"do": "complete", "fence": new, "result": "other"})
    expect(again.status == 409, lambda: f"another result: {shown(again)}")
    expect((await step({"do": "begin"})).json()["result"] == "new", "the first result stays")

    await wire.ask(port, "POST", "/v1/approvals", {"question": "Send it?"}, JSON)
    ticket = (await gateway.get("/v1/tickets")).json()["tickets"][0]["id"]

    async def claim(span):
        answer = await wire.ask(port, "POST", f"/v1/tickets/{ticket}/claim", {"for": span, "by": span}, JSON)
        return answer.json()["fence"] if answer.status == 200 else None

    old = await claim("1s")
    expect(old is not None and await claim("1m") is None, "a claimed ticket was claimed")
    await until("the claim to end", lambda: claim("1m"))
    late = await wire.ask(port, "POST", f"/v1/tickets/{ticket}/choose", {"choice": "approve", "fence": old}, JSON)
    expect((late.status, late.headers.get("holdfast-code")) == (409, "HF-032"), lambda: f"an ended claim decided: {shown(late)}")


TESTS = [
    nonsense_is_refused_in_clear_words_and_stores_nothing,
    what_is_anothers_is_not_there,
    leases_that_have_ended_are_worth_nothing,
    a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing,
    a_disk_that_fills_while_a_call_runs,
    a_limit_on_the_size_of_files,
    a_damaged_page_is_told_and_a_backup_is_as_good_as_the_original,
    a_database_that_stops_and_starts,
    a_gateway_that_starts_before_its_database,
    a_clock_that_jumps_by_an_hour,
    a_replica_whose_clock_is_an_hour_ahead_declares_nobody_dead,
]


async def run(test, binary):
    with tempfile.TemporaryDirectory(prefix="holdfast-faults-") as directory:
        stage = Stage(binary, directory)
        await stage.start()
        try:
            await test(stage)
        finally:
            stage.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("HOLDFAST_BIN", str(ROOT / "target" / "debug" / "holdfast")), help="the gateway's binary")
    parser.add_argument("--only", default="", help="only tests with this in their name")
    args = parser.parse_args()
    passed = failed = 0
    for test in TESTS:
        name = test.__name__.replace("_", " ")
        if args.only not in name:
            continue
        started = time.monotonic()
        try:
            asyncio.run(run(test, os.path.abspath(args.bin)))
        except Skipped as why:
            print(f"--     {name}: left out: {why}", flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test failed and the others go on
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        else:
            passed += 1
            print(f"ok     {name} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
