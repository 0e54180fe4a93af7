"""A workflow in plain Python: the vendor's own SDK, no framework.

    python plain.py invoice-1042

Kill it anywhere and start it again with the same invoice: it goes on where it was. Nothing of that is in this file.
Each step says which run and which step it is, and Holdfast keeps what came of it.
"""

import json
import os
import sys

import httpx
from openai import OpenAI

HOLDFAST = os.environ.get("HOLDFAST_URL", "http://127.0.0.1:4000")
api = httpx.Client(base_url=HOLDFAST, timeout=90)


def place(run, step):
    return {"Holdfast-Run": run, "Holdfast-Step": step}


def draft(run):
    """Asks the model once, however often this is run: run and step are the call's key."""
    client = OpenAI(base_url=f"{HOLDFAST}/v1", api_key=os.environ.get("HOLDFAST_KEY", "none"))
    answer = client.chat.completions.with_raw_response.create(
        model="reminder",
        messages=[{"role": "user", "content": f'Write a friendly reminder for {run} as JSON: {{"subject", "text"}}.'}],
        extra_headers=place(run, "draft"),
    )
    mail = json.loads(answer.parse().choices[0].message.content)  # the route's gate let nothing else through
    return mail, answer.headers["holdfast-exchange"]


def ask(run, mail):
    """Asks a person once, and waits as long as it takes."""
    approval = api.post(
        "/v1/approvals", headers=place(run, "approve") | {"Idempotency-Key": f"{run}/approve"}, json={"question": f"Send {mail['subject']!r}?", "context": mail}
    )
    approval = approval.raise_for_status().json()
    while approval["state"] == "open":
        approval = api.get(f"/v1/approvals/{approval['id']}", params={"wait": "60s"}).raise_for_status().json()
    return approval["choice"]


def send(run, mail, exchange):
    """Sends it once; and only if the answer that it is made of was whole."""
    effect = {"target": "outbox", "path": "/reminders", "payload": {"invoice": run, **mail}, "requires": [exchange]}
    sent = api.post("/v1/effects", headers=place(run, "send"), json=effect).raise_for_status().json()
    while sent["state"] in ("recorded", "sending", "doubt"):  # in doubt: a person is looking
        sent = api.get(f"/v1/effects/{sent['id']}", params={"wait": "60s"}).raise_for_status().json()
    return sent


def main(run):
    api.post("/v1/runs", json={"id": run, "expect": ["draft", "approve", "send"], "deadline": "7d"}).raise_for_status()
    mail, exchange = draft(run)
    result = {"run": run, "choice": ask(run, mail)}
    if result["choice"] == "approve":
        sent = send(run, mail, exchange)
        result |= {"effect": sent["state"], "receipt": sent["result"]["body"]}
    api.post(f"/v1/runs/{run}/end", json={"state": "done"}).raise_for_status()
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
