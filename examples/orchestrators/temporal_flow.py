"""The workflow in Temporal.

    temporal server start-dev &
    python temporal_flow.py worker &
    python temporal_flow.py invoice-1042

Temporal runs an activity again when its worker died inside of it, or when its answer was lost: what the activity did
then happens twice. Here it does not: each activity names its run and step, so the second attempt gets what the first
one brought. That holds even for a second execution of the same invoice, after Temporal forgot the first.
"""

import asyncio
import json
import os
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    import httpx
    from openai import APIStatusError, AsyncOpenAI

HOLDFAST = os.environ.get("HOLDFAST_URL", "http://127.0.0.1:4000")
QUEUE = "reminders"


def place(run, step):
    return {"Holdfast-Run": run, "Holdfast-Step": step}


def checked(answer):
    """What may pass is Temporal's to try again; what will not is the workflow's end."""
    if answer.headers.get("x-should-retry") == "false":
        raise ApplicationError(answer.text, non_retryable=True)
    return answer.raise_for_status().json()


async def alive(work):
    """Tells Temporal that this worker lives; else a dead one is missed only when the activity's time is over."""
    task = asyncio.ensure_future(work)
    while not (await asyncio.wait([task], timeout=2))[0]:
        activity.heartbeat()
    return task.result()


async def ask_model(run):
    model = AsyncOpenAI(base_url=f"{HOLDFAST}/v1", api_key=os.environ.get("HOLDFAST_KEY", "none"), max_retries=0)
    question = f'Write a friendly reminder for {run} as JSON: {{"subject", "text"}}.'
    try:
        answer = await model.chat.completions.with_raw_response.create(
            model="reminder", messages=[{"role": "user", "content": question}], extra_headers=place(run, "draft")
        )
    except APIStatusError as error:
        checked(error.response)
        raise
    return {"mail": json.loads(answer.parse().choices[0].message.content), "exchange": answer.headers["holdfast-exchange"]}


async def post_and_wait(step, run, path, body, key, waiting):
    """Asks for something once, and waits as long as it takes."""
    async with httpx.AsyncClient(base_url=HOLDFAST, timeout=90) as api:
        told = checked(await api.post(path, headers=place(run, step) | key, json=body))
        while told["state"] in waiting:
            told = checked(await api.get(f"{path}/{told['id']}", params={"wait": "60s"}))
    return told


@activity.defn
async def draft(run: str) -> dict:
    return await alive(ask_model(run))


@activity.defn
async def approve(run: str, mail: dict) -> str:
    question, key = {"question": f"Send {mail['subject']!r}?", "context": mail}, {"Idempotency-Key": f"{run}/approve"}
    approval = await alive(post_and_wait("approve", run, "/v1/approvals", question, key, ["open"]))
    return approval["choice"]


@activity.defn
async def send(run: str, mail: dict, exchange: str) -> dict:
    effect = {"target": "outbox", "path": "/reminders", "payload": {"invoice": run, **mail}, "requires": [exchange]}
    sent = await alive(post_and_wait("send", run, "/v1/effects", effect, {}, ["recorded", "sending", "doubt"]))
    return {"effect": sent["state"], "receipt": sent["result"]["body"]}


@workflow.defn
class Reminder:
    @workflow.run
    async def run(self, run: str) -> dict:
        limits = {"start_to_close_timeout": timedelta(days=7), "heartbeat_timeout": timedelta(seconds=10)}
        drafted = await workflow.execute_activity(draft, run, **limits)
        choice = await workflow.execute_activity(approve, args=[run, drafted["mail"]], **limits)
        if choice != "approve":
            return {"run": run, "choice": choice}
        sent = await workflow.execute_activity(send, args=[run, drafted["mail"], drafted["exchange"]], **limits)
        return {"run": run, "choice": choice} | sent


async def main(what):
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    if what == "worker":
        return await Worker(client, task_queue=QUEUE, workflows=[Reminder], activities=[draft, approve, send]).run()
    # The workflow that runs for this invoice is joined.
    join = WorkflowIDConflictPolicy.USE_EXISTING
    result = await client.execute_workflow(Reminder.run, what, id=what, task_queue=QUEUE, id_conflict_policy=join)
    # The thread of the SDK that brought this may still be inside of Python, and would abort the process at its end.
    await asyncio.sleep(0.2)
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
