//! Gates of routes and of steps, asked by calls, by answers given by hand, and by results.

use std::net::SocketAddr;

use holdfast_sim::Sim;
use holdfast_store::KeptRequest;
use http::Method;
use serde_json::{Value, json};

use crate::rig::{Answer, Running, messages, send, two_vendors, vendor};

/// Two routes, one of them with a gate; run and step are no key, so that there is nothing to store.
fn config(sim: &Sim) -> String {
    let more = "  - {model: free, targets: [one]}
  - {model: long, targets: [one], gate: {min_length: 100000, asks: 0}}
  - {model: worded, targets: [one], gate: {min_length: 10}}
steps:
  - {step: any, gate: {min_length: 1, asks: 2}}
  - {step: draft*, gate: {must_contain: [never said], asks: 0}}
  - {step: draft-of-json, gate: {on: json}}
defaults: {idempotency: {derive: false}, budget: {floor_per_second: 1000}}";
    two_vendors(sim, sim, more)
}

async fn ask(at: SocketAddr, model: &str, step: Option<&str>) -> Answer {
    let mut headers = vec![("holdfast-run", "nightly")];
    headers.extend(step.map(|step| ("holdfast-step", step)));
    let body = messages(model, false, "tell me").to_string();
    send(at, Method::POST, "/v1/messages", &headers, body).await
}

fn assert_refused(answer: &Answer, by: &str) {
    answer.assert_fault(502, "HF-033");
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains(by), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steps_answers_pass_its_gate_whichever_route_they_come_by() {
    let sim = vendor("one").await;
    let gateway = Running::start(&config(&sim));
    let at = gateway.address;
    for step in [None, Some("any"), Some("other"), Some("dra")] {
        ask(at, "free", step).await.assert_whole();
    }
    for step in ["draft", "draft-17"] {
        assert_refused(&ask(at, "free", Some(step)).await, "must_contain: ");
    }
    assert_refused(&ask(at, "free", Some("draft-of-json")).await, "json: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_gates_must_be_passed_and_the_more_patient_one_says_how_often_is_asked_again() {
    let sim = vendor("one").await;
    let gateway = Running::start(&config(&sim));
    let at = gateway.address;
    assert_refused(&ask(at, "long", None).await, "min_length: ");
    assert_eq!(sim.requests().len(), 1);
    assert_refused(&ask(at, "long", Some("any")).await, "needs at least 100000");
    // The route would not have asked again. (Once is all: this vendor then has nothing to add.)
    assert_eq!(sim.requests().len(), 1 + 2);
    assert_refused(&ask(at, "worded", Some("draft")).await, "must_contain: ");
}

fn kept(path: &str, step: Option<&str>) -> KeptRequest {
    let header = |step: &str| ("holdfast-step".to_owned(), step.to_owned());
    KeptRequest {
        path: path.to_owned(),
        route: "worded".to_owned(),
        headers: step.into_iter().map(header).collect(),
        ..KeptRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_by_hand_is_looked_at_as_a_vendors_would_be() {
    let sim = vendor("one").await;
    let gateway = Running::start(&config(&sim));
    let check = |kept: &KeptRequest, body: &Value| {
        let body = body.to_string();
        gateway.handle.check_answer(kept, body.as_bytes())
    };
    let message = |content: &Value, stop: &str| {
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": content, "stop_reason": stop, "stop_sequence": null,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        })
    };
    let text = |text: &str| message(&json!([{"type": "text", "text": text}]), "end_turn");
    let plain = kept("/v1/messages", None);
    let drafted = kept("/v1/messages", Some("draft"));
    assert_eq!(check(&plain, &text("long enough")), Ok(()));
    let why = check(&plain, &text("short")).unwrap_err();
    assert!(why.starts_with("min_length: "), "{why}");
    let why = check(&drafted, &text("long enough")).unwrap_err();
    assert!(why.starts_with("must_contain: "), "{why}");
    assert_eq!(check(&drafted, &text("what was never said")), Ok(()));
    // The final answer is still to come.
    let call = json!([{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}]);
    for kept in [&plain, &drafted] {
        assert_eq!(check(kept, &message(&call, "tool_use")), Ok(()));
    }
    let calls = json!([{"id": "call_1", "type": "function",
        "function": {"name": "look", "arguments": "{}"}}]);
    let chat = |second: &Value, finish: &str| {
        let first = json!({"role": "assistant", "content": "long enough"});
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [
                {"index": 0, "message": first, "finish_reason": "stop"},
                {"index": 1, "message": second, "finish_reason": finish},
            ],
        })
    };
    let plain = kept("/v1/chat/completions", None);
    let short = json!({"role": "assistant", "content": "short"});
    assert!(check(&plain, &chat(&short, "stop")).is_err());
    let call = json!({"role": "assistant", "content": null, "tool_calls": calls});
    assert_eq!(check(&plain, &chat(&call, "tool_calls")), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_passes_the_gate_of_its_step() {
    let sim = vendor("one").await;
    let gateway = Running::start(&config(&sim));
    let check = |step: &str, result: &str| gateway.handle.check_step(step, result);
    assert_eq!(check("other", ""), Ok(()));
    assert_eq!(check("draft-of-json", "{}"), Ok(()));
    assert_eq!(check("draft", "what was never said"), Ok(()));
    for (step, result) in [("draft-of-json", "{"), ("draft", "{}"), ("any", "")] {
        assert!(check(step, result).is_err(), "{step}");
    }
}
