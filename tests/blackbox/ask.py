"""One question through an official SDK, and what a program that trusts the SDK would then hold.

The outcome is judged from outside: the same question, put to a healthy simulated vendor, has one right answer, and texts carry a
checksum of their own. Retries of the SDKs are off; what is seen is what the server did.
"""

import asyncio
import json
import zlib
from dataclasses import dataclass, field

import anthropic
import openai

# No answer of the matrix takes this long: every limit in its configuration is shorter.
HUNG_AFTER = 25.0
TOOL = {
    "type": "object",
    "properties": {"note": {"type": "string"}, "count": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["note", "count", "tags"],
}
LEGAL = {
    # The last four are compatible servers' own words for a lawful end, a limit and a refusal; they name what happened.
    "openai": {"stop", "length", "tool_calls", "function_call", "content_filter", "eos", "eos_token", "model_length", "sensitive"},
    "anthropic": {"end_turn", "stop_sequence", "tool_use", "max_tokens", "model_context_window_exceeded", "refusal"},
}
# Stop reasons that tell the truth about an answer that is not all there.
LIMITS = {"length", "max_tokens", "model_context_window_exceeded", "model_length", "content_filter", "sensitive", "refusal"}
WORDS = ("whole", "told", "half", "silent", "hung")


@dataclass
class Answer:
    """What an SDK handed over without an exception."""

    text: str = ""
    tools: list = field(default_factory=list)
    stop: str | None = None
    ended: bool = False
    ids: set = field(default_factory=set)


def question(seed, words, tools):
    """The words that steer the simulated vendor to one certain answer."""
    return f"Please answer. [[seed:{seed} words:{words}]]" + (" [[tools:2 say]]" if tools else "")


def sealed(text):
    """Whether a text carries its own right checksum."""
    body, seal, tail = text.rpartition(" #sum:")
    return bool(seal) and tail == f"{zlib.crc32(body.encode()):08x}"


def same_tools(mine, theirs):
    """Whether two lists of (name, arguments as text) are the same calls."""
    try:
        return [(name, json.loads(arguments or "null")) for name, arguments in mine] == [(name, json.loads(a)) for name, a in theirs]
    except ValueError:
        return False


def judge(answer, right, dialect):
    """The word for an answer that came without an exception."""
    if answer.stop is None or not answer.ended:
        return "silent"
    if answer.stop not in LEGAL[dialect]:
        return "silent"
    if answer.text == right.text and same_tools(answer.tools, right.tools):
        return "whole"
    if answer.stop in LIMITS and begins(answer, right):
        return "told"
    return "half"


def begins(answer, right):
    """Whether an answer is the beginning of the right one: its text, and whole tool calls but for a last one that may be cut."""
    if not right.text.startswith(answer.text) or len(answer.tools) > len(right.tools):
        return False
    if not answer.tools:
        return True
    whole, (name, arguments) = answer.tools[:-1], answer.tools[-1]
    if not same_tools(whole, right.tools[: len(whole)]):
        return False
    right_name, right_arguments = right.tools[len(whole)]
    return name == right_name and (right_arguments.startswith(arguments) or same_tools([(name, arguments)], [(right_name, right_arguments)]))


class Clients:
    """The two SDKs against one address."""

    def __init__(self, port, key="sk-test", connections=256):
        limits = {"timeout": 120.0, "max_retries": 0}
        address = f"http://127.0.0.1:{port}"
        self.openai = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key, **limits)
        self.anthropic = anthropic.AsyncAnthropic(base_url=address, api_key=key, **limits)

    async def ask(self, dialect, model, text, stream, tools, delivery=None, max_tokens=4000):
        """(word or None, Answer, exception): None as word when an answer came, to be judged."""
        headers = {"Holdfast-Delivery": delivery} if delivery else {}
        call = self._openai if dialect == "openai" else self._anthropic
        answer = Answer()
        try:
            await asyncio.wait_for(call(answer, model, text, stream, tools, headers, max_tokens), HUNG_AFTER)
        except TimeoutError:
            return "hung", answer, None
        except Exception as error:  # noqa: BLE001 - any exception reaches the application: it is told
            return "told", answer, error
        return None, answer, None

    async def _openai(self, answer, model, text, stream, tools, headers, max_tokens):
        extra = {"tools": [{"type": "function", "function": {"name": "record", "description": "Record.", "parameters": TOOL}}]} if tools else {}
        if stream:
            extra["stream_options"] = {"include_usage": True}
        result = await self.openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], stream=stream, max_completion_tokens=max_tokens,
            extra_headers=headers, **extra)
        if not stream:
            if not result.choices:
                return
            choice = result.choices[0]
            answer.text = (choice.message.content or "") + (getattr(choice.message, "refusal", None) or "")
            answer.tools = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
            answer.stop, answer.ended = choice.finish_reason, True
            return
        calls = {}
        async with result:
            async for chunk in result:
                answer.ids.add(chunk.id)
                for choice in chunk.choices or []:
                    answer.text += (choice.delta.content or "") + (choice.delta.refusal or "")
                    for call in choice.delta.tool_calls or []:
                        # A call without an index, or with a second id on one index, is a call of its own, as agents take it.
                        key = call.index if call.index is not None else len(calls)
                        if call.id and key in calls and calls[key][0] not in (None, call.id):
                            key = f"{key}/{call.id}"
                        known = calls.setdefault(key, [call.id, "", ""])
                        known[1] = call.function.name or known[1]
                        known[2] += call.function.arguments or ""
                    if choice.finish_reason is not None:
                        answer.stop, answer.ended = choice.finish_reason, True
        answer.tools = [(name, arguments) for _, name, arguments in calls.values()]

    async def _anthropic(self, answer, model, text, stream, tools, headers, max_tokens):
        extra = {"tools": [{"name": "record", "description": "Record.", "input_schema": TOOL}]} if tools else {}
        result = await self.anthropic.messages.create(
            model=model, messages=[{"role": "user", "content": text}], stream=stream, max_tokens=max_tokens, extra_headers=headers, **extra)
        if not stream:
            for block in result.content or []:
                if block.type == "text":
                    answer.text += block.text
                elif block.type == "tool_use":
                    answer.tools.append((block.name, json.dumps(block.input)))
            answer.stop, answer.ended = result.stop_reason, True
            return
        blocks = {}
        async with result:
            async for event in result:
                if event.type == "message_start":
                    answer.ids.add(event.message.id)
                elif event.type == "content_block_start" and event.content_block.type == "tool_use":
                    blocks[event.index] = [event.content_block.name, ""]
                elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                    answer.text += event.delta.text
                elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                    if event.index in blocks:
                        blocks[event.index][1] += event.delta.partial_json
                elif event.type == "message_delta":
                    answer.stop = event.delta.stop_reason or answer.stop
                elif event.type == "message_stop":
                    answer.ended = True
        answer.tools = [tuple(block) for block in blocks.values()]

    async def close(self):
        await self.openai.close()
        await self.anthropic.close()
