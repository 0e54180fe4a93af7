"""Starts the built program as simulated vendors and as a gateway, and talks to their control endpoints.

Everything runs on loopback with dummy keys. A process that does not come up, or does not go down, fails the test that asked for
it, with the end of its log.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = os.environ.get("HOLDFAST_BIN", str(ROOT / "target" / "debug" / "holdfast"))
# How long a process may take to serve or to end. A bound against hanging, not a measurement.
PATIENCE = 20.0


class Failed(Exception):
    """A test's own verdict."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, patience=PATIENCE):
    """Waits for a condition of another process, which sends no event; returns the first true value."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited {patience:.0f} s in vain for: {what}")
        time.sleep(0.02)


def ask(port, method, path, body=None, headers=None, timeout=PATIENCE):
    """One plain HTTP call: (status, headers, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        kind = {"content-type": "application/json"} if data is not None else {}
        connection.request(method, path, data, {**kind, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read()
    finally:
        connection.close()


class Process:
    """One child process, its log and its end."""

    def __init__(self, name, command, env=None):
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix=f"holdfast-{name}-"))
        self.log_path = self.directory / "log"
        # Nothing of the developer's own environment: a vendor key there must not reach a test.
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "NO_COLOR": "1", "HOLDFAST_CANARY": "1"}
        with open(self.log_path, "wb") as log:
            self.child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**clean, **(env or {})})

    def log(self):
        return self.log_path.read_text(errors="replace")

    def ready(self, port, path):
        def answers():
            if self.child.poll() is not None:
                raise Failed(f"{self.name} ended with {self.child.returncode}:\n{self.log()[-3000:]}")
            try:
                return ask(port, "GET", path, timeout=2)[0] == 200
            except OSError:
                return False

        try:
            until(f"{self.name} to serve {path}", answers)
        except Failed as failed:
            self.stop()
            raise Failed(f"{failed}\n{self.log()[-3000:]}") from None

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, patience=PATIENCE):
        return self.child.wait(patience)

    def memory_kib(self):
        """The peak of the resident memory."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Sim(Process):
    """One simulated vendor; it speaks both dialects on one port."""

    def __init__(self, *arguments):
        self.port = free_port()
        super().__init__("sim", [BIN, "sim", "--listen", f"127.0.0.1:{self.port}", *arguments])
        self.ready(self.port, "/_sim/stats")

    def control(self, method, path, body=None):
        status, _, answer = ask(self.port, method, f"/_sim/{path}", body)
        if status >= 300:
            raise Failed(f"the simulated vendor answered {status} to {method} {path}: {answer[:300]!r}")
        return json.loads(answer) if answer.strip() else None

    def stats(self):
        return self.control("GET", "stats")


class Gateway(Process):
    """`holdfast serve` with a configuration given as data (JSON is YAML)."""

    def __init__(self, config, env=None):
        self.port = free_port()
        self.config_path = Path(tempfile.mkdtemp(prefix="holdfast-config-")) / "holdfast.yaml"
        self.write({**config, "listen": f"127.0.0.1:{self.port}"})
        super().__init__("serve", [BIN, "serve", "--config", str(self.config_path)], env)
        self.ready(self.port, "/readyz")

    def write(self, config):
        text = config if isinstance(config, str) else json.dumps(config, ensure_ascii=False, indent=1)
        fresh = self.config_path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.config_path)

    def __exit__(self, *_):
        super().__exit__()
        shutil.rmtree(self.config_path.parent, ignore_errors=True)


def suite(title, tests):
    """Runs named tests one after another; prints each, and the closing counts. Returns the exit code."""
    passed, failed = 0, 0
    for test in tests:
        name = test.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            test()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test failed and the others go on
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        else:
            passed += 1
            print(f"ok     {name} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{title}:\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0
