"""The world around an orchestrated workflow, and the scenes that each one must pass.

A flow is a module of `flows/` with `NAME` and `class Flow`: `setup(world)` starts what the flow needs beside Holdfast
(nothing, for most), `start(run)` starts the workflow for a run and gives something with `wait()` (its result as a
dict) and `kill()` (SIGKILL, as the machine would), `close()` ends it all. The scenes do not know which flow it is.

The vendor and the target count; the gateway is the real binary on a SQLite file, killed and started again on its port.
Waits end at an event, or fail after `PATIENCE`.
"""

import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXAMPLES = ROOT / "examples" / "orchestrators"
PATIENCE = 90


class Failed(Exception):
    """A promise was broken, or something did not come in time."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def until(condition, message):
    """Looks again and again; for what tells nobody that it is ready."""
    end = time.monotonic() + PATIENCE
    while not condition():
        check(time.monotonic() < end, message)
        time.sleep(0.02)


def answers(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# === What counts ===


class Counting:
    """An HTTP server that counts by run, and can keep an answer back until it is let go."""

    def __init__(self, answer):
        outer = self
        self.answer, self.counts, self.changed = answer, Counter(), threading.Condition()
        self.held, self.stopped = None, False

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told = outer.heard(self.headers, body)
                raw = json.dumps(told).encode()
                try:
                    self.send_response(200)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(raw)))
                    self.end_headers()
                    self.wfile.write(raw)
                except OSError:
                    pass  # the gateway was killed meanwhile

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def heard(self, headers, body):
        run, told = self.answer(headers, body)
        with self.changed:
            self.counts[run] += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.held != run or self.stopped, PATIENCE)
        return told

    def hold(self, run):
        """Keeps the answers for a run back."""
        with self.changed:
            self.held = run

    def let_go(self):
        with self.changed:
            self.held = None
            self.changed.notify_all()

    def reached(self, run):
        """Waits until something came for this run."""
        with self.changed:
            check(self.changed.wait_for(lambda: self.counts[run], PATIENCE), f"nothing came for {run}")

    def close(self):
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        self.server.shutdown()


class Vendor(Counting):
    """Answers chat completions, each time in other words: a second call would be seen in the result."""

    def __init__(self):
        super().__init__(self.reply)
        self.number, self.spoiled, self.prompts = 0, Counter(), {}

    def spoil(self, run, times):
        """So many answers for a run have no text from now on: no gate lets them through."""
        self.spoiled[run] = times

    def reply(self, headers, body):
        said = [message["content"] for message in body["messages"]]
        said = [content if isinstance(content, str) else content[0]["text"] for content in said]
        # Whoever is asked again has the question first, and why he is asked again last.
        run = next(word for prompt in said for word in prompt.replace(":", " ").split() if word.startswith("invoice-"))
        self.prompts.setdefault(run, []).append(said[-1])
        self.number += 1
        mail = {"subject": f"Reminder {self.number}", "text": f"Dear customer, {run} is still open. Kind regards."}
        if self.spoiled[run] > 0:
            self.spoiled[run] -= 1
            del mail["text"]
        message = {"role": "assistant", "content": json.dumps(mail), "refusal": None}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return run, {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


class Target(Counting):
    """Performs each key once; `counts` are requests, `performed` what came of them."""

    def __init__(self):
        super().__init__(self.reply)
        self.performed, self.receipts = Counter(), {}

    def reply(self, headers, body):
        key = headers["idempotency-key"]
        if key not in self.receipts:
            self.performed[body["invoice"]] += 1
            self.receipts[key] = {"receipt": len(self.receipts) + 1, "subject": body["subject"]}
        return body["invoice"], self.receipts[key]


# === The gateway ===


class Gateway:
    def __init__(self, directory, vendor, target):
        self.directory, self.port, self.process = Path(directory), free_port(), None
        self.url = f"http://127.0.0.1:{self.port}"
        binary = os.environ.get("HOLDFAST_BIN") or str(ROOT / "target" / "debug" / "holdfast")
        self.command = [binary, "serve", "--config", str(EXAMPLES / "holdfast.yaml"), "--log", "warn"]
        self.env = os.environ | {
            "LISTEN": f"127.0.0.1:{self.port}", "STORE": f"sqlite:{self.directory}/holdfast.db", "VENDOR_URL": vendor.url,
            "VENDOR_KEY": "vendor-key", "VENDOR_MODEL": "m", "TARGET_URL": target.url, "TARGET_PRIVATE": "true",
        }

    def start(self):
        log = open(self.directory / "gateway.log", "ab")
        self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.PIPE, env=self.env)
        # The line that says where it listens is its first one.
        for line in self.process.stderr:
            log.write(line)
            if b"listens on" in line:
                break
        else:
            raise Failed("the gateway did not start: " + (self.directory / "gateway.log").read_text()[-2000:])
        threading.Thread(target=lambda pipe=self.process.stderr: [log.write(line) for line in pipe], daemon=True).start()
        until(self.is_ready, "the gateway's store does not open")

    def is_ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", "/readyz")
        return json.loads(connection.getresponse().read()).get("store") == "up"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        check(answer.status < 300, f"{method} {path}: {answer.status}: {told}")
        return told

    def asked(self, run):
        """The approval of a run, waited for by the event stream from its beginning."""
        return self.event(f"/v1/approvals?run={run}", "approvals", f"no approval of {run} was asked for")

    def event(self, path, name, missing):
        """The first of a list that has something in it after some event."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", "/v1/events?after=0")
        end = time.monotonic() + PATIENCE
        # A silent stream has its comments, so the end is looked at.
        for line in connection.getresponse():
            if time.monotonic() > end:
                break
            if line.startswith(b"data:"):
                found = self.ask("GET", path)[name]
                if found:
                    connection.close()
                    return found[0]
        raise Failed(missing)

    def ticket(self, run):
        """The ticket of a run's call, waited for in the same way."""
        return self.event(f"/v1/tickets?kind=gate&state=open&run={run}", "tickets", f"no ticket of {run} was opened")

    def decide(self, run, choice="approve"):
        approval = self.asked(run)
        self.ask("POST", f"/v1/approvals/{approval['id']}/decide", {"choice": choice, "by": "Ann"})


class World:
    """One for each flow."""

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="holdfast-flow-"))
        self.vendor, self.target = Vendor(), Target()
        self.gateway = Gateway(self.directory, self.vendor, self.target)
        self.gateway.start()
        return self

    def __exit__(self, *_):
        self.vendor.close()
        self.target.close()
        self.gateway.kill()

    def totals(self, run):
        """Vendor calls, approvals, effects performed."""
        approvals = self.gateway.ask("GET", f"/v1/approvals?run={run}")["approvals"]
        return self.vendor.counts[run], len(approvals), self.target.performed[run]


# === Workflows that are processes ===


class Process:
    """A workflow in a process group of its own, whose last line is its result."""

    def __init__(self, command, env, directory, log):
        self.log = open(log, "ab")
        self.process = subprocess.Popen(
            command, env=os.environ | env, cwd=directory, stdout=subprocess.PIPE, stderr=self.log, start_new_session=True
        )

    def wait(self):
        out, _ = self.process.communicate(timeout=PATIENCE)
        tail = Path(self.log.name).read_text(errors="replace")[-1500:]
        check(self.process.returncode == 0, f"exit {self.process.returncode}: {out.decode()[-500:]} {tail}")
        return json.loads(out.splitlines()[-1])

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


class Script:
    """A flow whose whole orchestrator is one command with the run as its argument."""

    command = []

    def setup(self, world):
        self.world = world

    def env(self):
        return {"HOLDFAST_URL": self.world.gateway.url}

    def start(self, run):
        return Process([*self.command, run], self.env(), self.world.directory, self.world.directory / "flow.log")

    def close(self):
        pass


def python():
    """The interpreter that this runs in: its environment has the flows' packages."""
    return sys.executable


# === Scenes ===


def is_whole(result, run):
    check(result["run"] == run and result["choice"] == "approve" and result["effect"] == "done", f"not a whole result: {result}")
    check(result["receipt"]["receipt"] > 0 and result["receipt"]["subject"].startswith("Reminder"), f"no receipt: {result}")


def once(world, run):
    totals = world.totals(run)
    check(totals == (1, 1, 1), f"{run}: {totals[0]} vendor calls, {totals[1]} approvals, {totals[2]} effects; each should be 1")


def twice(world, flow):
    """To its end, then again: the same result, and nothing happens."""
    run = "invoice-1"
    first = flow.start(run)
    world.gateway.decide(run)
    result = first.wait()
    is_whole(result, run)
    once(world, run)
    again = flow.start(run).wait()
    check(again == result, f"the second time brought {again}, the first {result}")
    once(world, run)


def killed_in_the_model_call(world, flow):
    """The vendor has the call and the workflow dies: the answer that was paid for is the one that is used."""
    run = "invoice-2"
    world.vendor.hold(run)
    first = flow.start(run)
    world.vendor.reached(run)
    first.kill()
    world.vendor.let_go()
    again = flow.start(run)
    world.gateway.decide(run)
    is_whole(again.wait(), run)
    once(world, run)


def killed_while_it_waits(world, flow):
    """The person decides while nothing runs."""
    run = "invoice-3"
    first = flow.start(run)
    world.gateway.asked(run)
    first.kill()
    world.gateway.decide(run)
    is_whole(flow.start(run).wait(), run)
    once(world, run)


def killed_in_the_effect(world, flow):
    """The target has it, the workflow dies before it hears so."""
    run = "invoice-4"
    world.target.hold(run)
    first = flow.start(run)
    world.gateway.decide(run)
    world.target.reached(run)
    first.kill()
    world.target.let_go()
    is_whole(flow.start(run).wait(), run)
    once(world, run)
    check(world.target.counts[run] == 1, "the target was asked twice")


def both_killed(world, flow):
    """The gateway dies as well, while a person is asked; both come back."""
    run = "invoice-5"
    first = flow.start(run)
    world.gateway.asked(run)
    first.kill()
    world.gateway.kill()
    world.gateway.start()
    again = flow.start(run)
    world.gateway.decide(run)
    is_whole(again.wait(), run)
    once(world, run)


def the_gate_asks_again(world, flow):
    """The first answer fails the gate: the model is told why, and no step sees anything but its second one."""
    run = "invoice-6"
    world.vendor.spoil(run, 1)
    first = flow.start(run)
    world.gateway.decide(run)
    result = first.wait()
    is_whole(result, run)
    check(world.totals(run) == (2, 1, 1), f"{run}: {world.totals(run)}")
    reason = world.vendor.prompts[run][1]
    check("not accepted" in reason and "text" in reason, f"the model was not told why: {reason}")
    check(flow.start(run).wait() == result, "the second time brought something else")
    check(world.totals(run) == (2, 1, 1), f"{run}: {world.totals(run)} after the second time")


def answered_by_hand(world, flow):
    """No answer passes: a person writes one, and the workflow goes on with it as if the model had."""
    run = "invoice-7"
    world.vendor.spoil(run, 1000)
    first = flow.start(run)
    ticket = world.gateway.ticket(run)
    first.kill()
    asked = world.vendor.counts[run]
    check(world.target.counts[run] == 0, "something was sent")
    mail = json.dumps({"subject": "Reminder by hand", "text": f"Dear customer, {run} is still open. Kind regards."})
    world.gateway.ask("POST", f"/v1/tickets/{ticket['id']}/answer", {"text": mail, "by": "Ann"})
    again = flow.start(run)
    world.gateway.decide(run)
    result = again.wait()
    is_whole(result, run)
    check(result["receipt"]["subject"] == "Reminder by hand", f"not what the person wrote: {result}")
    check(world.totals(run) == (asked, 1, 1), f"{run}: {world.totals(run)}")


def rejected(world, flow):
    """The person says no: nothing is sent, now or later, and the workflow ends and says so."""
    run = "invoice-8"
    first = flow.start(run)
    world.gateway.decide(run, "reject")
    result = first.wait()
    check(result == {"run": run, "choice": "reject"}, f"it does not say that it was rejected: {result}")
    check(flow.start(run).wait() == result, "the second time brought something else")
    check(world.totals(run) == (1, 1, 0), f"{run}: {world.totals(run)}")
    shown = world.gateway.ask("GET", f"/v1/runs/{run}")
    # An orchestrator with a memory of its own declares no run, and ends none.
    ended = shown["state"] == "done" or not shown["declared"]
    check(ended and not shown["effects"], f"the run is {shown['state']} with {len(shown['effects'])} effects")
    check(world.target.counts[run] == 0, "the target was asked")


SCENES = [twice, killed_in_the_model_call, killed_while_it_waits, killed_in_the_effect, both_killed]
# What the gate and the person may say as well, where a flow needs no server of its own that is slow to start.
TURNS = [the_gate_asks_again, answered_by_hand, rejected]
