"""HTTP/2 by hand, for both ends: whoever uses it decides when a window opens, and sees each frame that came.

Only what the tests need: no padding, no push, no Huffman, no dynamic table; heads are written as literals, and of a head that
came only a status in one byte is understood.
"""

import asyncio
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
# What both sides may send before they are told anything else (RFC 9113, 6.9.2).
FIRST_WINDOW = 65_535
LARGEST = 16_384
OK = 0x88


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(name, value):
    return struct.pack(">HI", name, value)


def literal(name, value):
    """A header that neither side remembers (RFC 7541, 6.2.2)."""
    def text(word):
        word = word.encode()
        length, size = len(word), b""
        if length < 127:
            return bytes([length]) + word
        length -= 127
        while length >= 128:
            size, length = size + bytes([length % 128 + 128]), length // 128
        return b"\x7f" + size + bytes([length]) + word

    return b"\x00" + text(name) + text(value)


class Stream:
    """One call on a connection."""

    def __init__(self, link, number):
        self.link, self.number = link, number
        self.head, self.data = None, bytearray()
        self.came = asyncio.Event()
        self.asked = self.ended = self.reset = self.gone = False
        self.room = link.first_room
        self.written = 0

    @property
    def over(self):
        return self.ended or self.reset or self.gone

    async def until(self, condition):
        """Waits until something came that makes it true."""
        while not condition():
            self.came.clear()
            await self.came.wait()

    def grant(self, size):
        """Lets the other side send so much more."""
        self.link.send(frame(WINDOW, 0, self.number, struct.pack(">I", size)))

    async def write(self, data, end=False):
        """All of it, as the windows allow; raises when the other side does not want it any more."""
        while data or end:
            if self.over:
                raise ConnectionError("the stream was reset")
            size = min(len(data), LARGEST, self.room, self.link.room)
            if size <= 0 and data:
                self.came.clear()
                await self.came.wait()
                continue
            piece, data = data[:size], data[size:]
            self.room -= size
            self.link.room -= size
            self.written += size
            self.link.send(frame(DATA, END_STREAM if end and not data else 0, self.number, piece))
            end = end and bool(data)
            await self.link.writer.drain()


class Link:
    """One connection, as a client or (`opened` is told each new stream) as a server."""

    def __init__(self, reader, writer, opened=None):
        self.reader, self.writer, self.opened = reader, writer, opened
        self.streams, self.next = {}, 1
        self.room = self.first_room = FIRST_WINDOW

    @classmethod
    async def connect(cls, port):
        link = cls(*await asyncio.open_connection("127.0.0.1", port))
        link.writer.write(PREFACE + frame(SETTINGS, 0, 0))
        # The connection as such never holds anybody up here, only a stream does.
        link.send(frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30)))
        link.task = asyncio.ensure_future(link.run())
        return link

    def send(self, data):
        if not self.writer.is_closing():
            self.writer.write(data)

    def request(self, path, body, headers=()):
        """A call whose answer nobody has made room for beyond the first window."""
        stream = self.streams[self.next] = Stream(self, self.next)
        self.next += 2
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "gateway"), (":path", path), ("content-type", "application/json"), *headers]
        self.send(frame(HEADERS, END_HEADERS, stream.number, b"".join(literal(*field) for field in fields)))
        self.send(frame(DATA, END_STREAM, stream.number, body))
        return stream

    async def run(self):
        try:
            if self.opened:
                await self.reader.readexactly(len(PREFACE))
            while True:
                head = await self.reader.readexactly(9)
                size, kind, flags, number = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF
                self.take(kind, flags, number, await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writer.close()
            for stream in list(self.streams.values()):
                stream.gone = True
                stream.came.set()

    def take(self, kind, flags, number, payload):
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == 4:
                    for stream in self.streams.values():
                        stream.room += value - self.first_room
                    self.first_room = value
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == WINDOW and number == 0:
            self.room += int.from_bytes(payload, "big")
            for stream in self.streams.values():
                stream.came.set()
        elif kind == HEADERS and self.opened and number not in self.streams:
            stream = self.streams[number] = Stream(self, number)
            self.opened(stream)
        stream = self.streams.get(number)
        if stream is None:
            return
        if kind == HEADERS:
            stream.head = stream.head or payload
        elif kind == DATA:
            stream.data += payload
            if self.opened and payload:
                # A server takes what it is sent.
                self.send(frame(WINDOW, 0, 0, struct.pack(">I", len(payload))))
                stream.grant(len(payload))
        elif kind == WINDOW:
            stream.room += int.from_bytes(payload, "big")
        elif kind == RESET:
            stream.reset = True
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            # What a client has sent to its end can still be answered.
            stream.asked = True
            stream.ended = stream.ended or not self.opened
        stream.came.set()

    async def close(self):
        self.writer.close()
        await self.task
