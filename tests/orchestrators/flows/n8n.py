"""n8n itself, on PostgreSQL (its SQLite driver is built by a script of its package), started and killed as a process."""

import http.client
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import frame

MODULES = Path(os.environ.get("HOLDFAST_N8N") or frame.ROOT / ".cache" / "n8n") / "node_modules"
NODE = str(Path(os.environ.get("HOLDFAST_FLOWS") or frame.ROOT / ".cache" / "flows") / "node_modules" / ".bin" / "node")
POSTGRES = os.environ.get("HOLDFAST_TEST_POSTGRES", "")


class Asked:
    """One call of the webhook, which answers with the workflow's result."""

    def __init__(self, flow, run):
        self.flow, self.answer = flow, None
        self.thread = threading.Thread(target=self.ask, args=[run], daemon=True)
        self.thread.start()

    def ask(self, run):
        connection = http.client.HTTPConnection("127.0.0.1", self.flow.port, timeout=frame.PATIENCE)
        try:
            connection.request("POST", "/webhook/reminder", json.dumps({"invoice": run}), {"content-type": "application/json"})
            answer = connection.getresponse()
            self.answer = answer.status, answer.read()
        except OSError as error:
            self.answer = 0, str(error).encode()

    def wait(self):
        self.thread.join(frame.PATIENCE)
        frame.check(self.answer and self.answer[0] == 200, f"n8n answered {self.answer}")
        return json.loads(self.answer[1])

    def kill(self):
        self.flow.kill()
        self.thread.join(frame.PATIENCE)


class Flow:
    def setup(self, world):
        frame.check(POSTGRES, "n8n needs a database: set HOLDFAST_TEST_POSTGRES")
        self.world, self.process, self.port = world, None, frame.free_port()
        address, _, _ = POSTGRES.rpartition("/")
        host, _, port = address.rpartition("@")[2].partition(":")
        database = f"n8n_{self.port}"
        subprocess.run(["psql", POSTGRES, "-qc", f"create database {database}"], check=True)
        self.env = os.environ | {
            "DB_TYPE": "postgresdb", "DB_POSTGRESDB_HOST": host, "DB_POSTGRESDB_PORT": port or "5432",
            "DB_POSTGRESDB_DATABASE": database, "DB_POSTGRESDB_USER": "postgres", "DB_POSTGRESDB_PASSWORD": "",
            "N8N_USER_FOLDER": str(world.directory), "N8N_ENCRYPTION_KEY": "of-this-test", "N8N_PORT": str(self.port),
            "N8N_LISTEN_ADDRESS": "127.0.0.1", "N8N_DIAGNOSTICS_ENABLED": "false", "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
            "N8N_TEMPLATES_ENABLED": "false", "N8N_PERSONALIZATION_ENABLED": "false", "N8N_RUNNERS_ENABLED": "false",
            "N8N_COMMUNITY_PACKAGES_ENABLED": "false", "PATH": f"{Path(NODE).parent}:{os.environ['PATH']}",
        }
        self.put("workflow", (frame.EXAMPLES / "n8n.json").read_text().replace("http://127.0.0.1:4000", world.gateway.url))
        data = {
            "apiKey": "none", "url": f"{world.gateway.url}/v1", "header": True, "headerName": "Idempotency-Key",
            "headerValue": "={{ $json.body.invoice }}/draft",
        }
        self.put("credentials", json.dumps([{"id": "holdfast", "name": "Holdfast", "type": "openAiApi", "data": data}]))
        self.n8n("publish:workflow", "--id=holdfastReminder")

    def put(self, what, text):
        path = self.world.directory / f"{what}.json"
        path.write_text(text)
        self.n8n(f"import:{what}", f"--input={path}")

    def command(self, *args):
        return [NODE, str(MODULES / "n8n" / "bin" / "n8n"), *args]

    def n8n(self, *args):
        done = subprocess.run(self.command(*args), env=self.env, capture_output=True, text=True, timeout=4 * frame.PATIENCE)
        frame.check(done.returncode == 0 and "rror" not in done.stderr, f"n8n {args[0]}: {done.stdout[-800:]} {done.stderr[-800:]}")

    def serve(self):
        log = open(self.world.directory / "n8n.log", "ab")
        self.process = subprocess.Popen(self.command("start"), env=self.env, stdout=log, stderr=log, start_new_session=True)
        # It is ready before its webhooks are: they take a GET for the wrong method once they are there.
        frame.until(lambda: frame.answers(self.port, "/healthz/readiness") and self.has_webhook(), "n8n does not start")

    def has_webhook(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=frame.PATIENCE)
        connection.request("GET", "/webhook/reminder")
        return b"not registered for GET" in connection.getresponse().read()

    def start(self, run):
        if self.process is None:
            self.serve()
        return Asked(self, run)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def close(self):
        if self.process:
            self.kill()
