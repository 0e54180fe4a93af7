"""HTTP/1.1 by hand, for clients that must know exactly how an answer ended, and for servers that count.

Nothing here retries or hides anything: a body that was cut is an error.
"""

import asyncio
import json


class Cut(Exception):
    """The connection ended before the answer did."""


class Answer:
    """A whole HTTP response."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def replayed(self):
        return self.headers.get("idempotent-replayed") == "true"


async def head(reader):
    """The first line's words and the headers, in lower case; `None` at a neat end."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise Cut("in the head") from error
    lines = raw.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, found, value = line.partition(":")
        if found:
            headers[name.strip().lower()] = value.strip()
    return lines[0].split(" ", 2), headers


async def body(reader, headers):
    try:
        if "chunked" in headers.get("transfer-encoding", ""):
            pieces = []
            while True:
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                piece = await reader.readexactly(size + 2)
                if size == 0:
                    return b"".join(pieces)
                pieces.append(piece[:-2])
        return await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
        raise Cut("in the body") from error


async def ask(port, method, path, payload=None, headers=None, limit=30):
    """One request on a connection of its own. Raises `Cut` or `OSError` where no whole response came."""

    async def asking():
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        try:
            data = b"" if payload is None else payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            lines = [f"{method} {path} HTTP/1.1", "Host: gateway", "Connection: close", f"Content-Length: {len(data)}"]
            lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
            writer.write("\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + data)
            await writer.drain()
            told = await head(reader)
            if told is None:
                raise Cut("before the head")
            (_, status, *_), found = told
            return Answer(int(status), found, await body(reader, found))
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise Cut(str(error)) from error
        finally:
            writer.close()

    try:
        return await asyncio.wait_for(asking(), limit)
    except TimeoutError as error:
        raise Cut("nothing came in time") from error


async def serve(handler):
    """A server on a free port. `handler(method, path, headers, body, writer)` writes the response."""

    async def connected(reader, writer):
        try:
            while (told := await head(reader)) is not None:
                (method, path, *_), headers = told
                await handler(method, path, headers, await body(reader, headers), writer)
                await writer.drain()
        except (Cut, ConnectionError, asyncio.CancelledError):
            # A caller that is gone, or the end of the test.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    return server, server.sockets[0].getsockname()[1]


def respond(writer, value, status=200):
    data = json.dumps(value).encode()
    writer.write(f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
