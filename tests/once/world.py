"""The world around the gateway: a vendor and effect targets that count, and the gateway as a process."""

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path

import wire

MARK = re.compile(rb"mark-[0-9a-z-]+")


class Vendor:
    """Answers both dialects, plain and streamed, slowly enough to be cut. No two answers are the same."""

    def __init__(self, pause=0.004):
        self.pause = pause
        self.calls = defaultdict(list)
        self.count = 0
        self.down = False

    async def start(self):
        self.server, self.port = await wire.serve(self.handle)

    async def handle(self, method, path, headers, body, writer):
        marks = MARK.findall(body)
        mark = marks[-1].decode() if marks else "none"
        self.calls[mark].append(time.monotonic())
        self.count += 1
        if self.down:
            return wire.respond(writer, {"error": {"message": "down"}, "type": "error"}, 500)
        words = [f"answer {self.count} to {mark}: "] + [f"piece {n} " for n in range(4)] + ["end"]
        asked = json.loads(body)
        chat = "chat" in path
        if not asked.get("stream"):
            await asyncio.sleep(self.pause * len(words))
            return wire.respond(writer, chat_body(words) if chat else message_body(words))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for frame in chat_frames(words) if chat else message_frames(words):
            writer.write(b"%x\r\n%s\r\n" % (len(frame), frame))
            await writer.drain()
            await asyncio.sleep(self.pause)
        writer.write(b"0\r\n\r\n")


def message_body(words):
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None,
        "content": [{"type": "text", "text": "".join(words)}], "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def message_frames(words):
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
             "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    events = [{"type": "message_start", "message": start},
              {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}]
    events += [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words]
    events += [{"type": "content_block_stop", "index": 0},
               {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 9}},
               {"type": "message_stop"}]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def chat_body(words):
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(words)}}]}


def chat_frames(words):
    def chunk(delta, finish=None):
        value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        return f"data: {json.dumps(value)}\n\n".encode()

    return [chunk({"role": "assistant", "content": ""})] + [chunk({"content": word}) for word in words] + [chunk({}, "stop"), b"data: [DONE]\n\n"]


class Target:
    """An effect target. One that honours keys performs each key once; the other performs whatever comes."""

    def __init__(self, honours, dice):
        self.honours, self.dice = honours, dice
        self.performed = Counter()
        self.requests = Counter()
        self.answers = {}

    async def start(self):
        self.server, self.port = await wire.serve(self.handle)

    async def handle(self, method, path, headers, body, writer):
        mark = MARK.search(body).group().decode()
        self.requests[mark] += 1
        await asyncio.sleep(self.dice.random() * 0.02)
        key = headers["idempotency-key"]
        if not self.honours or key not in self.answers:
            self.performed[mark] += 1
            self.answers[key] = {"performed": mark, "number": sum(self.performed.values())}
        await asyncio.sleep(self.dice.random() * 0.02)
        wire.respond(writer, self.answers[key])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gateway:
    """`holdfast serve` as a process that can be killed, frozen and started again on the same port."""

    def __init__(self, binary, config, directory, name="gateway", env=None):
        self.binary, self.port, self.name = binary, free_port(), name
        self.directory = Path(directory)
        self.path = self.directory / f"{name}.yaml"
        self.path.write_text(config.replace("PORT", str(self.port)))
        self.log = open(self.directory / f"{name}.log", "ab")
        self.env = {**os.environ, **(env or {})}
        self.process = None

    def spawn(self, env=None):
        command = [self.binary, "serve", "--config", str(self.path), "--log", "warn"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env={**self.env, **(env or {})})

    async def ready(self, seconds=30, store=True):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the gateway ended with {self.process.returncode}: {self.tail()}")
            try:
                answer = await wire.ask(self.port, "GET", "/readyz", limit=2)
                if not store or answer.json().get("store") == "up":
                    return
            except (wire.Cut, OSError):
                pass
            await asyncio.sleep(0.005)
        raise RuntimeError(f"the gateway does not get ready: {self.tail()}")

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def tail(self):
        return (self.directory / f"{self.name}.log").read_text(errors="replace")[-2000:]


def config(vendor, honouring, plain, store, more=""):
    """A gateway in front of the counting world; PORT is filled in later."""
    return f"""
listen: 127.0.0.1:PORT
workers: 2
drain: 5s
store: {store}
providers:
  - {{name: claude, kind: anthropic, base_url: 'http://127.0.0.1:{vendor.port}', key: vendor-key}}
  - {{name: chat, kind: openai, base_url: 'http://127.0.0.1:{vendor.port}', key: vendor-key}}
routes:
  - {{model: claude, targets: [claude/m]}}
  - {{model: gpt, targets: [chat/m]}}
defaults: {{retry_after: 50ms, backoff: {{base: 20ms, cap: 100ms}}}}
effects:
  targets:
    - {{name: honouring, url: 'http://127.0.0.1:{honouring.port}', honours_keys: true, allow_private: true, attempts: 50, backoff: {{base: 20ms, cap: 100ms}}}}
    - {{name: plain, url: 'http://127.0.0.1:{plain.port}', honours_keys: false, allow_private: true, backoff: {{base: 20ms, cap: 100ms}}}}
{more}
"""


def model_call(dialect, stream, mark):
    """The path and the bytes of a call."""
    prompt = [{"role": "user", "content": f"do {mark}"}]
    if dialect == "anthropic":
        return "/v1/messages", json.dumps({"model": "claude", "max_tokens": 99, "stream": stream, "messages": prompt}).encode()
    return "/v1/chat/completions", json.dumps({"model": "gpt", "stream": stream, "messages": prompt}).encode()


def is_whole(stream, body):
    """Whether a body that ended neatly is a whole answer of its dialect."""
    if not stream:
        return b"piece 3 end" in body
    return b"message_stop" in body or b"data: [DONE]" in body


def dice(seed):
    return random.Random(seed)
