"""A vendor that does as each question says, counts every byte that it could write, and ends an answer when the test says so.

It lives in the test's own loop, speaks both dialects over HTTP/1.1 or HTTP/2, and reads its orders from the question:

    [[tokens:N]]   a stream of N tokens
    [[endless]]    a stream of large events, until `finish`
    [[cut:N]]      N large events, and then the connection breaks
    [[long:N]]     N tokens, of which the second and later ones wait for `finish`
    [[hold]]       a whole answer, after `finish`
    [[big:N]]      a whole answer of so many KiB, at once
    [[fill:CRC]]   a whole answer, if the question's letters have this checksum

Each text ends in `#end`; each token carries its number, so that a caller can tell whether it has all of them in their order.
"""

import asyncio
import json
import re
import socket
import zlib

import frames

# Every event of an endless answer.
LARGE = 16 << 10
# Small, so that what a blocked vendor could write is what others hold, and not its own kernel.
SEND_BUFFER = 64 << 10
WHOLE = ("hold", "big", "fill")
ORDER = re.compile(rb"\[\[(\w+)(?::(\d+))?\]\]")


def pieces(dialect):
    """The events before, for and after a text, which gives its pieces one by one."""
    if dialect == "anthropic":
        start = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None, "stop_sequence": None,
                 "usage": {"input_tokens": 3, "output_tokens": 1}}
        first = event({"type": "message_start", "message": start}) + event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        tail = event({"type": "content_block_stop", "index": 0}) + event(
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 3}}) + event({"type": "message_stop"})
        return first, (lambda piece: event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})), tail
    tail = chunk({}, "stop") + b"data: [DONE]\n\n"
    return chunk({"role": "assistant", "content": ""}), (lambda piece: chunk({"content": piece})), tail


def event(value):
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode()


def chunk(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'created': 1, 'model': 'm', 'choices': [choice]})}\n\n".encode()


def whole(dialect, text):
    if dialect == "anthropic":
        return {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": text}], "model": "m",
                "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 3}}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


class Call:
    """One call that reached the vendor."""

    def __init__(self, order, count):
        self.order, self.count = order, count
        self.written, self.ended, self.given_up = 0, False, False


class Vendor:
    """`deaf` = it reads the head of a request, and nothing of the body until `finish`."""

    def __init__(self, deaf=False):
        self.deaf = deaf
        self.calls, self.links, self.connections = [], [], 0
        self.finish, self.changed = asyncio.Event(), asyncio.Event()

    async def __aenter__(self):
        self.over_http1, self.port = await self.listen(self.serve_http1)
        self.over_http2, self.port_h2 = await self.listen(self.serve_http2)
        return self

    async def __aexit__(self, *_):
        self.finish.set()
        self.over_http1.close()
        self.over_http2.close()

    async def listen(self, serve):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if self.deaf:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SEND_BUFFER)
        listener.bind(("127.0.0.1", 0))
        # Small where nothing is to be read ahead.
        server = await asyncio.start_server(serve, sock=listener, limit=64 << 10 if self.deaf else 1 << 20, backlog=4096)
        return server, listener.getsockname()[1]

    def running(self, order=None):
        return [call for call in self.calls if not call.ended and not call.given_up and order in (None, call.order)]

    def written(self, order):
        return sum(call.written for call in self.calls if call.order == order)

    def note(self):
        self.changed.set()

    async def until(self, condition):
        """Waits until what the vendor saw makes it true."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    # === HTTP/1.1 ===

    async def serve_http1(self, reader, writer):
        self.connections += 1
        # A write is over when the kernel has it, and nothing waits in between.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if self.deaf:
                    self.calls.append(Call("deaf", 0))
                    self.note()
                    await self.finish.wait()
                length = int(re.search(rb"content-length: (\d+)", head)[1])
                body = await reader.readexactly(length)
                call = self.order(body)
                await self.answer_http1(call, "anthropic" if b"/v1/messages" in head else "openai", body, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # A caller that is gone, or the end of the test.
            pass
        finally:
            writer.close()

    async def answer_http1(self, call, dialect, body, writer):
        async def write(data):
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
            call.written += len(data)

        try:
            if call.order in WHOLE:
                data = json.dumps(whole(dialect, await self.say(call, body))).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data))
                await writer.drain()
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                await self.stream(call, dialect, write)
                writer.write(b"0\r\n\r\n")
                await writer.drain()
            call.ended = True
        except ConnectionError:
            call.given_up = True
            raise
        finally:
            self.note()

    # === HTTP/2 ===

    async def serve_http2(self, reader, writer):
        self.connections += 1
        writer.transport.set_write_buffer_limits(high=256 << 10)
        running = set()

        def opened(stream):
            task = asyncio.ensure_future(self.answer_http2(stream))
            running.add(task)
            task.add_done_callback(running.discard)

        link = frames.Link(reader, writer, opened)
        self.links.append(link)
        link.send(frames.frame(frames.SETTINGS, 0, 0, frames.setting(3, 10_000)))
        await link.run()

    async def answer_http2(self, stream):
        # Its head is not understood here, so the question tells the dialect as well.
        await stream.until(lambda: stream.asked or stream.over)
        body = bytes(stream.data)
        call = self.order(body)
        dialect = "anthropic" if b"max_tokens" in body else "openai"

        async def write(data):
            await stream.write(data)
            call.written += len(data)

        try:
            kind = "application/json" if call.order in WHOLE else "text/event-stream"
            stream.link.send(frames.frame(frames.HEADERS, frames.END_HEADERS, stream.number, bytes([frames.OK]) + frames.literal("content-type", kind)))
            if call.order in WHOLE:
                await stream.write(json.dumps(whole(dialect, await self.say(call, body))).encode())
            else:
                await self.stream(call, dialect, write)
            await stream.write(b"", end=True)
            call.ended = True
        except ConnectionError:
            call.given_up = True
        finally:
            stream.link.streams.pop(stream.number, None)
            self.note()

    # === What is said ===

    def order(self, body):
        # Looked for at the end of the question: nobody searches megabytes.
        found = ORDER.search(body[-2048:])
        call = Call(found[1].decode(), int(found[2] or 0))
        self.calls.append(call)
        self.note()
        return call

    async def say(self, call, body):
        if call.order == "hold":
            await self.finish.wait()
            return "held #end"
        if call.order == "big":
            return "x" * (call.count << 10) + " #end"
        return "good #end" if zlib.crc32(re.search(rb"x{64,}", body)[0]) == call.count else "damaged"

    async def stream(self, call, dialect, write):
        first, token, tail = pieces(dialect)
        await write(first)
        number = 0
        while number < call.count or (call.order == "endless" and not self.finish.is_set()):
            if call.order == "long" and number == 1:
                self.note()
                await self.finish.wait()
            await write(token(f"#{number:08d} " + ("x" * LARGE if call.order in ("endless", "cut") else "")))
            number += 1
        if call.order == "cut":
            raise ConnectionResetError
        await write(token(f"#end{number}") + tail)
