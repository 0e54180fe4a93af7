"""What calls that are let in cost while many times as many are refused. Numbers, not a test: prints a Markdown table.

    tests/overload.py                 five rounds, about a minute and a half
    tests/overload.py --rounds N      so many
    tests/overload.py --seconds N     so long for each row of a round (8)
    tests/overload.py --help          this text

A vendor holds each call for 100 ms, and says in its answer how long it really was. The gateway has room for 16 calls. Sixteen callers
ask one call after the other; who is refused asks again after 20 ms. Without others they fill the room and are never refused. With
others, a process of its own sends calls at a rate over kept connections, whatever becomes of them. Time is taken by the sixteen:
from the request written to the whole answer read, less the time that the vendor held it. The rows take turns in each round; shown is
the median over the rounds, in brackets the least and the most. HOLDFAST_BIN names the program (a release build).
"""

import asyncio
import json
import multiprocessing
import re
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "blackbox"))

import rig

ROOM = 16
HOLD = 0.1
AGAIN = 0.02
# Calls a second that the others send, so that ten times as many come as are let in: 16 in 100 ms, and the sixteen callers ask too.
CROWD = 1250
REQUEST = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi " * 200}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REQUEST)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"


class Message(asyncio.Protocol):
    """One end of a kept connection: gives each whole message to `take`."""

    def connection_made(self, transport):
        self.transport, self.read = transport, b""
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.read += data
        head, gap, rest = self.read.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if gap and len(rest) >= int(length[1] if length else 0):
            self.read = b""
            self.take(head, rest)


class Vendor(Message):
    def take(self, _head, _body):
        began = time.perf_counter()
        asyncio.get_running_loop().call_later(HOLD, self.answer, began)

    def answer(self, began):
        text = f"held:{int((time.perf_counter() - began) * 1e6)} " + "word " * 150
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        body = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


class Caller(Message):
    """Asks, and waits: (status, body, seconds)."""

    answer = None

    async def ask(self, data=HEAD + REQUEST):
        self.answer = asyncio.get_running_loop().create_future()
        self.began = time.perf_counter()
        self.transport.write(data)
        return await self.answer

    def take(self, head, body):
        self.answer.set_result((int(head[9:12]), body, time.perf_counter() - self.began))

    def connection_lost(self, error):
        if self.answer and not self.answer.done():
            self.answer.set_exception(error or ConnectionError("closed"))


async def connect(port):
    return (await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port))[1]


def vendor(pipe):
    async def serve():
        server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def others(port, pipe):
    """Sends `CROWD` calls a second until it is told to stop; then tells how many were let in and refused."""
    async def send():
        loop, free, counts, calls = asyncio.get_running_loop(), [], {200: 0, 503: 0}, set()

        async def one():
            caller = free.pop() if free else await connect(port)
            counts[(await caller.ask())[0]] += 1
            free.append(caller)

        due = loop.time()
        while not pipe.poll():
            due += 1 / CROWD
            task = asyncio.ensure_future(one())
            calls.add(task)
            task.add_done_callback(calls.discard)
            # Late ones are sent at once: the rate holds.
            await asyncio.sleep(max(0, due - loop.time()))
        await asyncio.gather(*calls)
        pipe.send(counts)

    asyncio.run(send())


async def sixteen(port, seconds):
    """What they were answered: added seconds of those let in, seconds until a refusal, seconds of `/healthz`."""
    let_in, refused, health = [], [], []
    end = time.perf_counter() + seconds

    async def caller():
        kept = await connect(port)
        while time.perf_counter() < end:
            status, body, took = await kept.ask()
            if status == 200:
                let_in.append(took - int(re.search(rb"held:(\d+)", body)[1]) / 1e6)
            else:
                assert status == 503, (status, body)
                refused.append(took)
                await asyncio.sleep(AGAIN)

    async def watch():
        while time.perf_counter() < end:
            kept = await connect(port)
            status, _, took = await kept.ask(HEALTH)
            assert status == 200, status
            health.append(took)
            kept.transport.close()
            await asyncio.sleep(AGAIN)

    await asyncio.gather(watch(), *(caller() for _ in range(ROOM)))
    return let_in, refused, health


def child(work, *arguments):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    return process, ours


def row(port, seconds, crowded):
    process = pipe = None
    if crowded:
        process, pipe = child(others, port)
    let_in, refused, health = asyncio.run(sixteen(port, seconds))
    came, taken = len(let_in) + len(refused), len(let_in)
    if process:
        pipe.send("stop")
        counts = pipe.recv()
        process.join()
        came, taken = came + sum(counts.values()), taken + counts[200]

    def ms(times, share):
        return sorted(times)[int(share * (len(times) - 1))] * 1e3 if times else None

    return {
        "calls a second": came / seconds, "let in a second": taken / seconds, "came for one let in": came / taken,
        "added to those let in, ms: median": ms(let_in, 0.5), "99th percentile": ms(let_in, 0.99),
        "until a refusal, ms: median": ms(refused, 0.5), "99th percentile ": ms(refused, 0.99),
        "`/healthz`, ms: median": ms(health, 0.5), "99th percentile  ": ms(health, 0.99),
    }


def shown(values):
    if None in values:
        return "-"
    digits = 0 if min(values) >= 50 else 2
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}-{high})"


def main(arguments):
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    given = dict(zip(arguments[::2], arguments[1::2]))
    rounds, seconds = int(given.get("--rounds", 5)), float(given.get("--seconds", 8))
    process, pipe = child(vendor)
    base = f"http://127.0.0.1:{pipe.recv()}/v1"
    config = {
        "workers": 2, "limits": {"in_flight": ROOM},
        "providers": [{"name": "v", "kind": "openai", "base_url": base, "key": "sk-canary", "http2": "never"}],
        "routes": [{"model": "m", "targets": [{"provider": "v", "model": "m", "upstream_stream": "never"}]}],
        "log": {"level": "warn"},
    }
    rows = {False: [], True: []}
    with rig.Gateway(config) as gateway:
        row(gateway.port, 1, True)
        for number in range(rounds):
            for crowded in (number % 2 == 1, number % 2 == 0):
                print(f"round {number + 1}: {'crowded' if crowded else 'alone'}", file=sys.stderr)
                rows[crowded].append(row(gateway.port, seconds, crowded))
    process.terminate()
    print(f"| {rounds} rounds of {seconds:.0f} s | as many as there is room for | ten times as many |\n| --- | ---: | ---: |")
    for name in rows[True][0]:
        print(f"| {name.strip()} | {shown([one[name] for one in rows[False]])} | {shown([one[name] for one in rows[True]])} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
