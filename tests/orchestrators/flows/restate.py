"""Restate: its server from the npm package, the service as a process that is killed."""

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import frame

HOME = frame.EXAMPLES / "restate"
MODULES = Path(os.environ.get("HOLDFAST_FLOWS") or frame.ROOT / ".cache" / "flows") / "node_modules"
# The SDK wants a newer Node than Debian has.
NODE = str(MODULES / ".bin" / "node")


class Started:
    """The service and one client that waits for the result."""

    def __init__(self, flow, run):
        self.flow = flow
        self.client = frame.Process([NODE, "start.js", run], flow.env(), flow.copy, flow.world.directory / "start.log")

    def wait(self):
        return self.client.wait()

    def kill(self):
        self.flow.service.kill()
        self.client.kill()


class Flow:
    def setup(self, world):
        self.world, self.service, self.server = world, None, None
        # Node finds packages beside the file that wants them.
        self.copy = world.directory / "restate"
        self.copy.mkdir()
        for name in ["package.json", "service.js", "start.js"]:
            (self.copy / name).write_text((HOME / name).read_text())
        (self.copy / "node_modules").symlink_to(MODULES)
        self.ports = {name: frame.free_port() for name in ["ingress", "admin", "node", "service"]}
        env = os.environ | {
            "RESTATE_BASE_DIR": str(world.directory / "restate-data"),
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.ports['ingress']}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{self.ports['admin']}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{self.ports['node']}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{self.ports['node']}",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }
        log = open(world.directory / "restate-server.log", "ab")
        command = [str(MODULES / ".bin" / "restate-server"), "--no-logo"]
        self.server = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=world.directory)
        frame.until(lambda: frame.answers(self.ports["admin"], "/health") and frame.answers(self.ports["ingress"], "/restate/health"), "Restate does not start")
        self.serve()
        uri = {"uri": f"http://127.0.0.1:{self.ports['service']}"}
        frame.until(lambda: self.register(uri), "Restate does not take the service")

    def register(self, uri):
        address = f"http://127.0.0.1:{self.ports['admin']}/deployments"
        request = urllib.request.Request(address, json.dumps(uri).encode(), {"content-type": "application/json"})
        try:
            return urllib.request.urlopen(request, timeout=frame.PATIENCE).status < 300
        except OSError:
            return False

    def serve(self):
        if self.service is None or self.service.process.poll() is not None:
            env = {"HOLDFAST_URL": self.world.gateway.url, "PORT": str(self.ports["service"])}
            self.service = frame.Process([NODE, "service.js"], env, self.copy, self.world.directory / "service.log")

    def env(self):
        return {"RESTATE_INGRESS": f"http://127.0.0.1:{self.ports['ingress']}"}

    def start(self, run):
        self.serve()
        return Started(self, run)

    def close(self):
        if self.service:
            self.service.kill()
        if self.server:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
