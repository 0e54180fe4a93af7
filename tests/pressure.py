"""Pressure from both sides: callers that do not read, vendors that do not read, and more calls than there is room for.

A slow caller slows its own vendor, in bounded memory, and nobody else. What is too much is refused at once, with 503 and
`Retry-After`, while what was let in is still under way. Nothing here is judged by the clock: a test waits for what must happen,
and looks at the order of it and at counts.

    tests/pressure.py                the tests
    tests/pressure.py NAME...        those with one of these words in their name
    tests/pressure.py --help         this text

HOLDFAST_BIN names the program.
"""

import asyncio
import json
import logging
import re
import resource
import socket
import sys
import time
import zlib
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent / name) for name in ("blackbox", "once")]

import frames
import held
import rig
import wire

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
DIALECTS = ("openai", "anthropic")
# Of what a vendor wrote for one caller who does not read, the most that may be in the gateway itself.
HELD_KIB = 512
# The same for everything of such a caller, its connections and its state included.
SLOW_KIB = 768
# No test waits longer for anything. A bound against hanging, not a measurement.
PATIENCE = 50


def config(vendor, http2=False, limits=None, connections=None, **defaults):
    """The routes `openai` and `anthropic` to one vendor, each in its dialect."""
    port = vendor.port_h2 if http2 else vendor.port

    def provider(dialect):
        base = f"http://127.0.0.1:{port}" + ("/v1" if dialect == "openai" else "")
        way = {"http2": "prior-knowledge", "connections": connections or {}} if http2 else {"http2": "never"}
        return {"name": dialect, "kind": dialect, "base_url": base, "key": "sk-vendor-canary", **way}

    timeouts = dict.fromkeys(("head", "first_token", "idle"), "5m")
    return {
        "workers": 2,
        "providers": [provider(dialect) for dialect in DIALECTS],
        "routes": [{"model": dialect, "targets": [{"provider": dialect, "model": "m", "upstream_stream": "never"}]} for dialect in DIALECTS],
        "defaults": {"attempts_per_target": 1, "timeouts": timeouts, **defaults},
        "limits": {"write_timeout": "5m", **(limits or {})},
        # The disk of a busy machine is not what is tested here.
        "store": {"timeout": "1m"},
        "log": {"level": "warn"},
    }


def question(dialect, order, stream=True, fill=b""):
    text = f"hi {fill.decode()} [[{order}]]"
    limit = {"max_tokens": 60_000} if dialect == "anthropic" else {}
    return json.dumps({"model": dialect, "stream": stream, **limit, "messages": [{"role": "user", "content": text}]}).encode()


def path_of(dialect):
    return CHAT if dialect == "openai" else MESSAGES


def head_of(dialect, length, *extra):
    lines = (f"POST {path_of(dialect)} HTTP/1.1", "Host: gateway", "Content-Type: application/json", f"Content-Length: {length}", *extra)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def check_whole(body, least=0):
    """Every token in its order, and the end behind them."""
    numbers = [int(number) for number in re.findall(rb"#(\d{8}) ", body)]
    assert numbers == list(range(len(numbers))), f"{len(numbers)} tokens, not in their order: {numbers[:5]}..."
    end = re.search(rb"#end(\d+)", body)
    assert end, f"no end: {body[-200:]!r}"
    assert int(end[1]) == len(numbers) >= least, f"{len(numbers)} tokens of {int(end[1])}"
    assert b"[DONE]" in body[-40:] or b"message_stop" in body[-60:], body[-200:]


def memory_kib(gateway):
    text = Path(f"/proc/{gateway.child.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])


def queued(*ports):
    """Bytes that wait in the kernel's sockets of these ports, on either end."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, waiting = line.split()[:5]
        if {int(local[-4:], 16), int(remote[-4:], 16)} & set(ports):
            out, into = waiting.split(":")
            total += int(out, 16) + int(into, 16)
    return total


# === Callers ===

class SlowHttp1:
    """A caller over HTTP/1.1 that asks and does not read; its own kernel takes next to nothing for it."""

    async def open(self, port, dialect, order, delivery, stream=True):
        body = question(dialect, order, stream)
        self.wire = socket.socket()
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.wire.setblocking(False)
        self.loop = asyncio.get_running_loop()
        await self.loop.sock_connect(self.wire, ("127.0.0.1", port))
        await self.loop.sock_sendall(self.wire, head_of(dialect, len(body), "Connection: close", f"Holdfast-Delivery: {delivery}") + body)
        return self

    async def read_on(self):
        """The body, to its very end."""
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        pieces = []
        while piece := await self.loop.sock_recv(self.wire, 1 << 18):
            pieces.append(piece)
        self.close()
        head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        assert body.endswith(b"0\r\n\r\n"), f"the body was not ended: {body[-100:]!r}"
        return unchunk(body)

    def close(self):
        self.wire.close()


class SlowHttp2:
    """A caller over HTTP/2 that makes no room beyond the first window, though its connection lives: several share one."""

    def __init__(self, link):
        self.link = link

    async def open(self, _port, dialect, order, delivery, stream=True):
        self.stream = self.link.request(path_of(dialect), question(dialect, order, stream), [("holdfast-delivery", delivery)])
        return self

    async def read_on(self):
        self.stream.grant(1 << 30)
        await self.stream.until(lambda: self.stream.over)
        assert self.stream.ended and self.stream.head[0] == frames.OK, "the stream was reset"
        return bytes(self.stream.data)

    def close(self):
        self.link.send(frames.frame(frames.RESET, 0, self.stream.number, b"\0\0\0\x08"))


def unchunk(data):
    body, at = [], 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        if size == 0:
            return b"".join(body)
        body.append(data[end + 2:end + 2 + size])
        at = end + 4 + size


async def callers(http2, count, port, order, delivery, links, stream=True):
    """`count` slow ones, in both dialects; 50 of HTTP/2 share a connection."""
    slow = []
    for number in range(count):
        if http2 and number % 50 == 0:
            links.append(await frames.Link.connect(port))
        caller = SlowHttp2(links[-1]) if http2 else SlowHttp1()
        slow.append(await caller.open(port, DIALECTS[number % 2], order, delivery, stream))
    return slow


async def fast(port, number=0, tokens=50):
    """One call of somebody else, who reads."""
    dialect = DIALECTS[number % 2]
    answer = await wire.ask(port, "POST", path_of(dialect), question(dialect, f"tokens:{tokens}"), {"content-type": "application/json"})
    assert answer.status == 200, f"{answer.status} {answer.body[:300]!r}"
    check_whole(answer.body, tokens)


async def crowd(port, count, tokens=50, at_once=20):
    """`count` fast calls, some at once; each ends whole."""
    numbers = iter(range(count))

    async def some():
        for number in numbers:
            await fast(port, number, tokens)

    await asyncio.gather(*(some() for _ in range(at_once)))


async def standstill(vendor, port, order="endless"):
    """Waits until the vendor can write no more for those, though it does for others; the bytes that it could write. A kernel takes
    a little more now and then: a thousandth is nothing."""
    still, before = 0, 0
    while still < 3:
        await crowd(port, 8)
        now = vendor.written(order)
        still, before = (still + 1 if now - before <= now // 1000 else 0), now
    return before


async def healthy(port):
    assert (await wire.ask(port, "GET", "/healthz")).status == 200


# === Slow callers ===

def slow_callers(count, delivery, to_caller, to_vendor):
    async def test():
        async with held.Vendor() as vendor:
            with rig.Gateway(config(vendor, to_vendor)) as gateway:
                # What comes with the first calls is not what slow ones cost.
                await crowd(gateway.port, 60)
                before, links = memory_kib(gateway), []
                slow = await callers(to_caller, count, gateway.port, "endless", delivery, links)
                await vendor.until(lambda: len(vendor.running("endless")) == count)
                written = await standstill(vendor, gateway.port)
                grown = memory_kib(gateway) - before
                ports = (gateway.port, vendor.port, vendor.port_h2)
                # What came to an HTTP/2 caller unasked is in its first window.
                inside = written - queued(*ports) - sum(len(stream.data) for link in links for stream in link.streams.values())
                print(f"         {count} callers: {written >> 10} KiB written, of that {max(inside, 0) // count >> 10} KiB each in the gateway; it grew by {grown / count:.0f} KiB each")
                assert inside < count * HELD_KIB << 10, f"{inside // count} bytes of each stream wait in the gateway"
                assert grown < count * SLOW_KIB, f"the gateway grew by {grown} KiB"
                # Those who read on get all of it; who leaves takes the vendor's call with it.
                stay, leave = slow[:5], slow[5:]
                for caller in leave:
                    caller.close()
                await vendor.until(lambda: len(vendor.running("endless")) == len(stay))
                vendor.finish.set()
                for body in await asyncio.gather(*(caller.read_on() for caller in stay)):
                    check_whole(body)
                for link in links:
                    await link.close()

    test.__name__ = f"{count}_callers_that_do_not_read_{delivery}_over_{http(to_caller)}_from_{http(to_vendor)}"
    return test


def http(second):
    return "HTTP2" if second else "HTTP1"


def neighbours(to_caller, to_vendor):
    async def test():
        async with held.Vendor() as vendor:
            with rig.Gateway(config(vendor, to_vendor)) as gateway:
                links = []
                slow = await callers(to_caller, 200, gateway.port, "endless", "live", links)
                await vendor.until(lambda: len(vendor.running("endless")) == 200)
                await standstill(vendor, gateway.port)
                await crowd(gateway.port, 300, tokens=100)
                if to_caller:
                    # The same connection, too: one that is read beside those that are not.
                    for link in links:
                        await beside(link)
                assert len(vendor.running("endless")) == 200, "slow ones have ended"
                for caller in slow:
                    caller.close()
                for link in links:
                    await link.close()

    test.__name__ = f"fast_calls_beside_200_slow_ones_over_{http(to_caller)}_from_{http(to_vendor)}"
    return test


async def beside(link):
    stream = link.request(CHAT, question("openai", "tokens:1000"))
    stream.grant(1 << 30)
    await stream.until(lambda: stream.over)
    assert stream.ended, "the stream was reset"
    check_whole(bytes(stream.data), 1000)


def given_up(to_caller, stream=True):
    async def test():
        async with held.Vendor() as vendor:
            with rig.Gateway(config(vendor, limits={"write_timeout": "1s"})) as gateway:
                links = []
                slow = await callers(to_caller, 20, gateway.port, "endless" if stream else "big:2048", "live", links, stream)
                # It gives them up, and with each its vendor's call, where that still runs.
                await vendor.until(lambda: sum(call.given_up or not stream and call.ended for call in vendor.calls) == 20)
                if to_caller:
                    for caller in slow:
                        await caller.stream.until(lambda caller=caller: caller.stream.over)
                        assert caller.stream.reset, "the stream was ended, though not whole"
                        assert len(caller.stream.data) <= frames.FIRST_WINDOW
                    # They are over, and not the connection.
                    await beside(links[0])
                    await links[0].close()
                rig.until("no call to be under way", lambda: metric(gateway, "holdfast_in_flight") == 0)

    test.__name__ = f"callers_over_{http(to_caller)}_that_never_read_{'a_stream' if stream else 'an_answer'}_are_given_up"
    return test


def metric(gateway, name):
    text = rig.ask(gateway.port, "GET", "/metrics")[2].decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])


async def a_caller_that_waits_for_a_silent_vendor_is_not_slow():
    """A stream without anything to read for longer than `write_timeout` is the vendor's silence, not the caller's."""
    async with held.Vendor() as vendor:
        with rig.Gateway(config(vendor, limits={"write_timeout": "100ms"})) as gateway:
            link = await frames.Link.connect(gateway.port)
            stream = link.request(CHAT, question("openai", "long:5"), [("holdfast-delivery", "live")])
            await stream.until(lambda: b"#00000000" in stream.data)
            # Four times five callers that do not read are given up meanwhile.
            for turn in range(1, 5):
                slow = await callers(False, 5, gateway.port, "endless", "live", [])
                await vendor.until(lambda turn=turn: sum(call.given_up for call in vendor.calls) == 5 * turn)
                for caller in slow:
                    caller.close()
            vendor.finish.set()
            await stream.until(lambda: stream.over)
            assert stream.ended, "it was reset"
            check_whole(bytes(stream.data), 5)
            await link.close()


def long_answers(to_caller):
    """A fast caller of a long stream costs no more than a slow one: what has passed is not kept."""
    async def test():
        async with held.Vendor() as vendor:
            with rig.Gateway(config(vendor)) as gateway:
                await crowd(gateway.port, 60)
                before, links, peaks = memory_kib(gateway), [], []
                (caller,) = await callers(to_caller, 1, gateway.port, "endless", "live", links)
                reading = asyncio.ensure_future(caller.read_on())
                while vendor.written("endless") < 48 << 20:
                    peaks.append(memory_kib(gateway))
                    await asyncio.wait([reading], timeout=0.01)
                    assert not reading.done(), f"it ended: {(await reading)[-300:]!r}"
                vendor.finish.set()
                check_whole(await reading)
                print(f"         48 MiB read: it grew by {max(peaks) - before} KiB at the most")
                assert max(peaks) - before < 16 << 10, f"the gateway grew by {max(peaks) - before} KiB"
                for link in links:
                    await link.close()

    test.__name__ = f"a_long_answer_over_{http(to_caller)}_is_not_kept"
    return test


async def a_cut_behind_a_long_text_is_told():
    """What is too long to be kept can't be continued, and that is said."""
    async with held.Vendor() as vendor:
        with rig.Gateway(config(vendor)) as gateway:
            for length, why in ((80, b"it is too long to be continued"), (40, b"")):
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                body = question("openai", f"cut:{length}")
                writer.write(head_of("openai", len(body), "Holdfast-Delivery: live") + body)
                read = await reader.read()
                writer.close()
                last = read.rpartition(b"data: ")[2]
                assert read.count(b"#000000") == length and b"HF-0" in last and not last.endswith(b"\r\n0\r\n\r\n"), last[-400:]
                assert why in last and (why or b"too long" not in last), last[-400:]


# === Large requests ===

async def slow_bodies_are_bounded_together():
    """Requests of which the last byte does not come hold what they sent, all together no more than `buffered_bytes`."""
    body = question("openai", "tokens:3", fill=b"x" * (8 << 20))
    async with held.Vendor() as vendor:
        with rig.Gateway(config(vendor, limits={"buffered_bytes": "80MiB"})) as gateway:
            await crowd(gateway.port, 60)
            before = memory_kib(gateway)

            async def begin(number):
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                if number % 2:
                    writer.write(head_of("openai", len(body)) + body[:-1])
                else:
                    # Without telling how much it will be.
                    lines = f"POST {CHAT} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                    writer.write(lines.encode() + b"%x\r\n%s" % (len(body), body[:-1]))
                answer = asyncio.ensure_future(wire.head(reader))
                try:
                    await writer.drain()
                except ConnectionError:
                    pass
                return number, writer, answer

            begun = await asyncio.gather(*(begin(number) for number in range(40)))
            # Nine fit. The others are refused while those still wait.
            answers = [answer for _, _, answer in begun]
            while sum(answer.done() for answer in answers) < 31:
                await asyncio.wait([answer for answer in answers if not answer.done()], return_when=asyncio.FIRST_COMPLETED)
            refused = [answer.result() for answer in answers if answer.done() and not answer.exception() and answer.result()]
            for (_, status, *_), headers in refused:
                assert (status, headers["holdfast-code"], headers["retry-after"]) == ("503", "HF-024", "1"), (status, headers)
            grown = memory_kib(gateway) - before
            print(f"         40 requests of 8 MiB without their last byte: {len(refused)} told of 31 refused, it grew by {grown >> 10} MiB")
            assert len(refused) == 31, f"{len(refused)} of the 31 were told why"
            assert grown < 200 << 10, f"the gateway grew by {grown} KiB"
            await healthy(gateway.port)
            waiting = [(number, writer, answer) for number, writer, answer in begun if not answer.done()]
            assert len(waiting) == 9 and not vendor.running(), f"{len(waiting)} wait"
            for number, writer, answer in waiting:
                writer.write(body[-1:] + (b"" if number % 2 else b"\r\n0\r\n\r\n"))
                (_, status, *_), _ = await answer
                assert status == "200", status
            for _, writer, _ in begun:
                writer.close()


async def bodies_that_a_vendor_does_not_read():
    """They are held once, and reach it whole when it does."""
    fill = b"x" * (4 << 20)
    async with held.Vendor(deaf=True) as vendor:
        with rig.Gateway(config(vendor)) as gateway:
            before = memory_kib(gateway)
            body = question("openai", f"fill:{zlib.crc32(fill)}", stream=False, fill=fill)
            asked = [asyncio.ensure_future(wire.ask(gateway.port, "POST", CHAT, body, {"content-type": "application/json"}, PATIENCE)) for _ in range(20)]
            await vendor.until(lambda: len(vendor.running("deaf")) == 20)
            grown = memory_kib(gateway) - before
            print(f"         20 requests of 4 MiB: it grew by {grown >> 10} MiB")
            assert grown < 140 << 10, f"the gateway grew by {grown} KiB"
            vendor.finish.set()
            for answer in await asyncio.gather(*asked):
                assert answer.status == 200 and b"good #end" in answer.body, answer.body[:200]


# === Overload ===

class Burst:
    """Calls that are sent at once and looked at one by one as their answers come."""

    def __init__(self, port, count, order="hold", key=None, fill=b"", stream=False):
        self.port, self.left = port, []
        for number in range(count):
            self.left.append(asyncio.ensure_future(self.ask(number, order, key and f"{key}-{number}", fill, stream)))
        self.answers = asyncio.as_completed(self.left)

    async def ask(self, number, order, key, fill, stream):
        dialect = DIALECTS[number % 2]
        headers = {"content-type": "application/json", **({"Idempotency-Key": key} if key else {})}
        answer = await wire.ask(self.port, "POST", path_of(dialect), question(dialect, order, stream, fill), headers, PATIENCE)
        answer.number, answer.dialect = number, dialect
        return answer

    async def take(self, count):
        return [await next(self.answers) for _ in range(count)]


def check_shed(answer, code="HF-010"):
    assert answer.status == 503, f"{answer.status} {answer.body[:200]!r}"
    assert (answer.headers["holdfast-code"], answer.headers["retry-after"], answer.headers["x-should-retry"]) == (code, "1", "true"), f"{answer.headers} {answer.body[:400]!r}"
    error = answer.json()
    assert code in error["error"]["message"] and (answer.dialect == "openai" or error["type"] == "error"), error


def check_held(answer):
    assert answer.status == 200 and b"held #end" in answer.body, f"{answer.status} {answer.body[:200]!r}"


def overload(keyed, to_vendor):
    async def test():
        async with held.Vendor() as vendor:
            with rig.Gateway(config(vendor, to_vendor, limits={"in_flight": 50})) as gateway:
                # It serves before its store is open; calls with a key need that.
                rig.until("the store to be open", lambda: json.loads(rig.ask(gateway.port, "GET", "/readyz")[2])["store"] == "up")
                burst = Burst(gateway.port, 500, key="k" if keyed else None)
                refused = await burst.take(450)
                for answer in refused:
                    check_shed(answer)
                # All that is told while those let in are under way, and nothing of theirs has ended.
                await vendor.until(lambda: len(vendor.running("hold")) == 50)
                assert len(vendor.calls) == 50, f"{len(vendor.calls)} calls reached the vendor"
                await healthy(gateway.port)
                vendor.finish.set()
                for answer in await burst.take(50):
                    check_held(answer)
                assert len(vendor.calls) == 50
                # Who was refused may come again, with the same key too: it was never asked.
                again = [asyncio.ensure_future(burst.ask(answer.number, "hold", f"k-{answer.number}" if keyed else None, b"", False)) for answer in refused[:40]]
                for answer in await asyncio.gather(*again):
                    check_held(answer)
                    assert not answer.replayed
                assert len(vendor.calls) == 90

    test.__name__ = f"500_{'keyed_' if keyed else ''}calls_where_50_have_room_from_{http(to_vendor)}"
    return test


async def streams_over_in_flight_do_not_touch_those_let_in():
    async with held.Vendor() as vendor:
        with rig.Gateway(config(vendor, limits={"in_flight": 50})) as gateway:
            running = [await SlowHttp1().open(gateway.port, DIALECTS[number % 2], "long:200", "live") for number in range(50)]
            await vendor.until(lambda: len(vendor.running("long")) == 50)
            for answer in await Burst(gateway.port, 500, "tokens:5", stream=True).take(500):
                check_shed(answer)
            await healthy(gateway.port)
            assert len(vendor.calls) == 50
            vendor.finish.set()
            for body in await asyncio.gather(*(caller.read_on() for caller in running)):
                check_whole(body, 200)


async def connections_over_the_limit():
    async with held.Vendor() as vendor:
        with rig.Gateway(config(vendor, limits={"connections": 50})) as gateway:
            burst = Burst(gateway.port, 500)
            refused = await burst.take(450)
            for answer in refused:
                assert (answer.status, answer.headers["holdfast-code"], answer.headers["retry-after"]) == (503, "HF-010", "1"), answer.headers
            await vendor.until(lambda: len(vendor.running("hold")) == 50)
            # Whoever restarts what does not answer must not do it because there is much to do.
            await healthy(gateway.port)
            assert len(vendor.calls) == 50
            vendor.finish.set()
            for answer in await burst.take(50):
                check_held(answer)


async def bodies_over_buffered_bytes():
    async with held.Vendor() as vendor:
        limits = {"buffered_bytes": "1MiB", "body_bytes": "1MiB", "event_bytes": "64KiB", "answer_bytes": "64KiB"}
        with rig.Gateway(config(vendor, limits=limits)) as gateway:
            burst = Burst(gateway.port, 100, fill=b"x" * (100 << 10))
            # Ten fit, and what is refused may for a moment be in the way of one that would.
            refused = await burst.take(90)
            for answer in refused:
                check_shed(answer, "HF-024")
            await healthy(gateway.port)
            vendor.finish.set()
            rest = await burst.take(10)
            for answer in rest:
                check_held(answer) if answer.status == 200 else check_shed(answer, "HF-024")
            print(f"         {len(vendor.calls)} of 100 requests of 100 KiB had room in 1 MiB")
            assert 1 <= len(vendor.calls) <= 10
            check_held(await burst.ask(0, "hold", None, b"x" * (100 << 10), False))


# === Many streams to one vendor over HTTP/2 ===

async def a_thousand_long_streams_to_one_host():
    """All are under way at once, on a few connections, before any of them goes on."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    async with held.Vendor() as vendor:
        with rig.Gateway(config(vendor, True, connections={"h2_streams_per_connection": 50, "h2_max_connections": 20})) as gateway:
            slow = [await SlowHttp1().open(gateway.port, DIALECTS[number % 2], "long:20", "live") for number in range(1000)]
            await vendor.until(lambda: len(vendor.running("long")) == 1000)
            # Each has shown its caller its first token.
            await asyncio.gather(*(first_token(caller) for caller in slow))
            most = max(len(link.streams) for link in vendor.links)
            print(f"         1,000 streams on {vendor.connections} connections, {most} on one at the most")
            # Two workers, between which the kernel spreads the callers.
            assert vendor.connections <= 40 and most <= 50, f"{vendor.connections} connections, {most} streams on one"
            vendor.finish.set()
            for body in await asyncio.gather(*(caller.read_on() for caller in slow)):
                check_whole(body, 20)


async def first_token(caller):
    """Waits for it without taking it."""
    while True:
        await readable(caller)
        if b"#00000000" in caller.wire.recv(65536, socket.MSG_PEEK):
            return


async def readable(caller):
    """Waits for something to read without reading it."""
    come = asyncio.get_running_loop().create_future()
    caller.loop.add_reader(caller.wire, lambda: come.done() or come.set_result(True))
    try:
        return await come
    finally:
        caller.loop.remove_reader(caller.wire)


async def streams_at_the_cap_share_the_connections():
    async with held.Vendor() as vendor:
        with rig.Gateway(config(vendor, True, connections={"h2_streams_per_connection": 10, "h2_max_connections": 2})) as gateway:
            slow = await callers(False, 300, gateway.port, "long:20", "live", [])
            await vendor.until(lambda: len(vendor.running("long")) == 300)
            # Two for each dialect's provider of each worker.
            assert vendor.connections <= 8, vendor.connections
            vendor.finish.set()
            for body in await asyncio.gather(*(caller.read_on() for caller in slow)):
                check_whole(body, 20)


TESTS = [
    *(slow_callers(100, delivery, to_caller, False) for delivery in ("live", "guarded") for to_caller in (False, True)),
    slow_callers(100, "guarded", False, True), slow_callers(100, "live", True, True),
    *(neighbours(to_caller, to_vendor) for to_caller in (False, True) for to_vendor in (False, True)),
    given_up(False), given_up(True), given_up(False, stream=False), given_up(True, stream=False), a_caller_that_waits_for_a_silent_vendor_is_not_slow,
    long_answers(False), long_answers(True), a_cut_behind_a_long_text_is_told,
    slow_bodies_are_bounded_together, bodies_that_a_vendor_does_not_read,
    overload(False, False), overload(False, True), overload(True, False), streams_over_in_flight_do_not_touch_those_let_in,
    connections_over_the_limit, bodies_over_buffered_bytes,
    a_thousand_long_streams_to_one_host, streams_at_the_cap_share_the_connections,
]


def in_a_loop(test):
    def run():
        # A test that fails leaves tasks behind, each with an error of its own.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        asyncio.run(asyncio.wait_for(test(), PATIENCE))

    run.__name__ = test.__name__
    return run


def main(words):
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    chosen = [test for test in TESTS if not words or any(word in test.__name__ for word in words)]
    return rig.suite("pressure", [in_a_loop(test) for test in chosen])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
