"""The cells of the fault matrix: which questions are asked, what is right, and which outcomes break the promise.

A cell is one fault of one vendor dialect, asked in one caller dialect, as a stream or not, for text or tools, in one delivery and
one set-up: `one` (the faulty target alone) or `two` (a healthy target in another failure domain behind it).
"""

import asyncio
import collections
from dataclasses import dataclass, field

import ask

DIALECTS = ("openai", "anthropic")
DELIVERIES = ("live", "guarded", "whole")
SEEDS = tuple(range(101, 113))
WORDS = 60
# The limits of the gateway under test: short, so that a silent vendor costs a second and not twenty.
TIMEOUTS = {"connect": "2s", "head": "1s", "first_token": "1s", "idle": "1s", "attempt": "8s", "after_finish": "500ms"}
EVENT_BYTES = 512 << 10
# A caller's fault is told and never asked again elsewhere; neither is an answer that the vendor refused or that a limit ended.
CALLERS_FAULT = (
    "status:400", "status:412", "status:413", "status:422", "status:431", "status-html:413",
    "error:context_length_exceeded", "error:invalid_prompt", "error:content_policy_violation", "error:unsupported_parameter",
)


@dataclass(frozen=True)
class Cell:
    spec: str
    vendor: str
    caller: str
    stream: bool
    kind: str
    delivery: str
    setup: str
    seed: int
    # What the simulated vendor says of this fault in this mode; None where the fault does not show in it.
    verdict: str | None
    lawful: bool

    @property
    def model(self):
        return f"{self.setup}/{self.vendor}/{self.spec}"


@dataclass
class Outcome:
    cell: Cell
    word: str
    fault: str | None
    error: str = ""
    shown: bool = False


@dataclass
class Tally:
    """Counts of words, by set-up and fault."""

    words: collections.Counter = field(default_factory=collections.Counter)

    def text(self):
        return ", ".join(f"{self.words[word]} {word}" for word in ask.WORDS if self.words[word]) or "-"


def small(spec):
    """A fault at a size that many calls at once can bear."""
    return f"oversized:{2 * EVENT_BYTES}" if spec.startswith("oversized:") else spec


def cases(catalogue):
    """(spec, vendor dialect) -> {stream: case}, in the order of the catalogue."""
    found = {}
    for case in catalogue:
        found.setdefault((small(case["spec"]), case["dialect"]), {})[case["stream"]] = case
    return found


def cells(catalogue, setups):
    """Every cell. Seeds go round, so that answers of calls at the same time differ and can't be mixed up unseen."""
    number = 0
    for setup in setups:
        for (spec, vendor), modes in cases(catalogue).items():
            needs_tools = all(case["needs_tools"] for case in modes.values())
            for caller in DIALECTS if setup != "straight" else (vendor,):
                for stream in (True, False):
                    deliveries = DELIVERIES if stream and setup != "straight" else ("whole",)
                    for delivery in deliveries:
                        for kind in ("tools",) if needs_tools else ("text", "tools"):
                            case = modes.get(stream)
                            number += 1
                            yield Cell(spec, vendor, caller, stream, kind, delivery, setup, SEEDS[number % len(SEEDS)],
                                       case and case["verdict"], bool(case and case["lawful"]))


def config(catalogue, bad_port, good_port, same_dialect=False):
    """A configuration with one route, and so one breaker, for each fault; nothing in it hides a fault from the next call."""
    providers, routes = [], []
    for dialect in DIALECTS:
        for name, port in (("bad", bad_port), ("good", good_port)):
            base = f"http://127.0.0.1:{port}" + ("/v1" if dialect == "openai" else "")
            kind = "anthropic" if dialect == "anthropic" else "openai"
            providers.append({"name": f"{name}-{dialect}", "kind": kind, "base_url": base, "key": "sk-vendor-canary", "domain": name})
    for number, (spec, vendor) in enumerate(cases(catalogue)):
        bad = {"provider": f"bad-{vendor}", "model": f"fault:{spec}", "max_output_tokens": 4000}
        # The second target speaks either dialect in turn.
        spoken = vendor if same_dialect else DIALECTS[number % 2]
        good = {"provider": f"good-{spoken}", "model": "sim-ok", "max_output_tokens": 4000}
        routes.append({"model": f"one/{vendor}/{spec}", "targets": [bad]})
        routes.append({"model": f"two/{vendor}/{spec}", "targets": [bad, good]})
    return {
        "providers": providers,
        "routes": routes,
        "defaults": {
            "attempts_per_target": 1,
            "deadline": "20s",
            "heartbeat": "1s",
            "timeouts": TIMEOUTS,
            # Nobody here is to be spared: each call must meet its fault.
            "breaker": {"consecutive": 1000000, "min_calls": 1000000, "money": "1ms"},
        },
        "limits": {"event_bytes": EVENT_BYTES},
        "log": {"level": "error"},
    }


async def right_answers(port):
    """What a healthy vendor answers to each question; checked by its own checksum."""
    clients = ask.Clients(port)
    answers = {}
    for kind in ("text", "tools"):
        for seed in SEEDS:
            _, answer, error = await clients.ask("openai", "sim-ok", ask.question(seed, WORDS, kind == "tools"), False, kind == "tools")
            if error is not None or not ask.sealed(answer.text) or (kind == "tools" and len(answer.tools) != 2):
                raise SystemExit(f"the healthy vendor gave no right answer to {kind}/{seed}: {error or answer}")
            answers[kind, seed] = answer
    await clients.close()
    return answers


def breach(outcome):
    """Why this outcome breaks the promise, or None."""
    cell, word = outcome.cell, outcome.word
    if word in ("half", "silent", "hung"):
        return f"{word} answer"
    if word == "told":
        if cell.verdict == "whole" and cell.lawful:
            return "a whole and lawful answer was refused" if cell.setup == "one" else "told although both targets were whole"
        spared = cell.spec.startswith(CALLERS_FAULT) or cell.verdict in ("limit", "refused")
        if cell.setup == "two" and not spared:
            if cell.delivery == "whole":
                return "told although a healthy target was there"
            if not outcome.shown:
                return "told before anything was shown, although a healthy target was there"
    elif cell.setup == "one" and cell.verdict in ("broken", "unknown", "error") and cell.lawful:
        return "an answer that is not whole was passed off as whole"
    return None


async def run(port, todo, answers, at_once, progress=None):
    """Asks every cell, `at_once` at a time; returns the outcomes in order."""
    clients = ask.Clients(port)
    gate = asyncio.Semaphore(at_once)
    done = 0

    async def one(cell):
        nonlocal done
        async with gate:
            text = ask.question(cell.seed, WORDS, cell.kind == "tools")
            model = f"fault:{cell.spec}" if cell.setup == "straight" else cell.model
            delivery = cell.delivery if cell.setup != "straight" and cell.stream else None
            word, answer, error = await clients.ask(cell.caller, model, text, cell.stream, cell.kind == "tools", delivery)
            right = answers[cell.kind, cell.seed]
            word = word or ask.judge(answer, right, cell.caller)
            done += 1
            if progress and done % 500 == 0:
                progress(done)
            outcome = Outcome(cell, word, None, f"{type(error).__name__}: {error}"[:300] if error else "", bool(answer.text or answer.tools))
            outcome.fault = breach(outcome)
            return outcome

    outcomes = await asyncio.gather(*(one(cell) for cell in todo))
    await clients.close()
    return outcomes
