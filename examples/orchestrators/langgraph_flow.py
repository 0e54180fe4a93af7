"""The workflow as a LangGraph graph, with a checkpointer of its own.

    python langgraph_flow.py invoice-1042

LangGraph runs a node again when its process died inside of it: what the node did then happens twice. Here it does not:
each node names its run and step, so a node that is run again gets what the first time brought.
"""

import json
import os
import sqlite3
import sys
from typing import TypedDict

import httpx
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

HOLDFAST = os.environ.get("HOLDFAST_URL", "http://127.0.0.1:4000")
api = httpx.Client(base_url=HOLDFAST, timeout=90)


class State(TypedDict, total=False):
    run: str
    mail: dict
    exchange: str
    choice: str
    effect: str
    receipt: dict


def place(state, step):
    return {"Holdfast-Run": state["run"], "Holdfast-Step": step}


def draft(state: State):
    model = ChatOpenAI(
        model="reminder",
        base_url=f"{HOLDFAST}/v1",
        api_key=os.environ.get("HOLDFAST_KEY", "none"),
        default_headers=place(state, "draft"),
        include_response_headers=True,
        max_retries=0,  # Holdfast retries, fails over, and keeps what no vendor could answer for a person
    )
    answer = model.invoke(f'Write a friendly reminder for {state["run"]} as JSON: {{"subject", "text"}}.')
    return {"mail": json.loads(answer.content), "exchange": answer.response_metadata["headers"]["holdfast-exchange"]}


def approve(state: State):
    key = {"Idempotency-Key": f"{state['run']}/approve"}
    question = {"question": f"Send {state['mail']['subject']!r}?", "context": state["mail"]}
    approval = api.post("/v1/approvals", headers=place(state, "approve") | key, json=question).raise_for_status().json()
    while approval["state"] == "open":
        approval = api.get(f"/v1/approvals/{approval['id']}", params={"wait": "60s"}).raise_for_status().json()
    return {"choice": approval["choice"]}


def send(state: State):
    effect = {"target": "outbox", "path": "/reminders", "payload": {"invoice": state["run"], **state["mail"]}, "requires": [state["exchange"]]}
    sent = api.post("/v1/effects", headers=place(state, "send"), json=effect).raise_for_status().json()
    while sent["state"] in ("recorded", "sending", "doubt"):
        sent = api.get(f"/v1/effects/{sent['id']}", params={"wait": "60s"}).raise_for_status().json()
    return {"effect": sent["state"], "receipt": sent["result"]["body"]}


def graph(checkpointer):
    flow = StateGraph(State)
    flow.add_node("draft", draft)
    flow.add_node("approve", approve)
    flow.add_node("send", send)
    flow.add_edge(START, "draft")
    flow.add_edge("draft", "approve")
    flow.add_conditional_edges("approve", lambda state: "send" if state["choice"] == "approve" else END)
    flow.add_edge("send", END)
    return flow.compile(checkpointer=checkpointer)


def main(run):
    path = os.environ.get("CHECKPOINTS", "checkpoints.db")
    flow = graph(SqliteSaver(sqlite3.connect(path, check_same_thread=False)))
    config = {"configurable": {"thread_id": run}}
    # A thread that has begun goes on; a new one gets its input.
    state = flow.invoke(None if flow.get_state(config).next else {"run": run}, config)
    print(json.dumps({key: state[key] for key in ("run", "choice", "effect", "receipt") if key in state}))


if __name__ == "__main__":
    main(sys.argv[1])
