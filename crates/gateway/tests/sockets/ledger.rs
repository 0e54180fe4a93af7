//! What is remembered of an exchange: what happened, and never what was said or who paid.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::rig::{Running, chat, messages, send, two_vendors, until, vendor};

async fn entry(gateway: &Running, id: &str) -> Value {
    let path = format!("/holdfast/exchanges/{id}");
    let handle = &gateway.handle;
    until("it is settled", || handle.ledger().find(id).is_some()).await;
    let answer = gateway.get(&path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The sum of a counter over all label sets that contain these words.
fn sum(metrics: &str, name: &str, words: &str) -> u64 {
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(words));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_is_told_with_both_attempts_and_all_that_they_cost() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"cut-rst:half".parse().unwrap());
    let gateway = Running::start(&two_vendors(
        &one,
        &two,
        "defaults: {attempts_per_target: 1}",
    ));
    let mut counted = chat("gpt", true, "tell me");
    counted["stream_options"] = serde_json::json!({"include_usage": true});
    for (path, body) in [
        ("/v1/messages", messages("claude", true, "tell me")),
        ("/v1/chat/completions", counted),
    ] {
        let before = gateway.handle.metrics();
        let answer = gateway.post(path, &body).await;
        answer.assert_whole();
        let entry = entry(&gateway, answer.header("holdfast-exchange")).await;
        assert_eq!(entry["outcome"], "whole");
        assert_eq!((&entry["joins"], &entry["code"]), (&1.into(), &Value::Null));
        let attempts = entry["attempts"].as_array().unwrap();
        let verdicts: Vec<_> = attempts.iter().map(|attempt| &attempt["verdict"]).collect();
        assert_eq!(verdicts, ["broken", "whole"]);
        assert!(attempts[0]["flaw"].is_string(), "{entry}");
        assert_eq!(attempts[1]["flaw"], Value::Null);
        assert_ne!(attempts[0]["target"], attempts[1]["target"]);
        // Every attempt's tokens were paid for.
        let after = gateway.handle.metrics();
        for (field, kind) in [
            ("input_tokens", "\"input\""),
            ("output_tokens", "\"output\""),
        ] {
            let counted = |text: &str| sum(text, "gen_ai_client_tokens_total", kind);
            let told = counted(&after) - counted(&before);
            assert!(told > 0, "{after}");
            assert_eq!(entry[field].as_u64(), Some(told), "{field} of {entry}");
        }
    }
    assert_eq!(gateway.metric("holdfast_joins_total"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_told_error_is_remembered_with_its_code_and_every_attempt() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"status:529".parse().unwrap());
    two.set_fault(&"empty-200".parse().unwrap());
    let more = "defaults: {attempts_per_target: 2, backoff: {base: 1ms, cap: 2ms}}";
    let gateway = Running::start(&two_vendors(&one, &two, more));
    let answer = gateway
        .post("/v1/messages", &messages("claude", false, "tell me"))
        .await;
    assert!(answer.status >= 500, "{answer:?}");
    let entry = entry(&gateway, answer.header("holdfast-exchange")).await;
    assert_eq!(entry["outcome"], "told");
    assert_eq!(entry["code"], answer.header("holdfast-code"));
    let attempts = entry["attempts"].as_array().unwrap();
    assert_eq!(
        attempts.len().to_string(),
        answer.header("holdfast-attempts")
    );
    assert_eq!(one.stats().calls + two.stats().calls, attempts.len() as u64);
    for attempt in attempts {
        let status = if attempt["target"] == "one/claude" {
            529
        } else {
            200
        };
        assert_eq!(attempt["status"], status, "{entry}");
    }
    let last = gateway.get("/holdfast/exchanges").await.json();
    assert_eq!(last["data"], Value::Array(vec![entry]));
}

/// A vendor that answers everything by an error which quotes the whole request.
async fn parrot(status: u16) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !seen.ends_with(b"}") {
                    if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let quoted = String::from_utf8(seen).unwrap();
                let body = serde_json::json!({
                    "type": "error",
                    "error": {"type": "invalid_request_error", "message": format!("bad: {quoted}")},
                })
                .to_string();
                let head = format!(
                    "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                // The gateway may have left.
                let _ = stream.write_all((head + &body).as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_keys_nor_a_rejected_request_are_remembered_even_where_a_vendor_quotes_them() {
    for status in [400, 401, 403, 413, 422, 429, 500, 529] {
        let address = parrot(status).await;
        let gateway = Running::start(&format!(
            "listen: 127.0.0.1:0
callers: [{{name: team, key: canary-caller-key-0123456789}}]
providers: [{{name: parrot, kind: anthropic, base_url: 'http://{address}', key: canary-vendor-key-0123456789}}]
routes: [{{model: claude, targets: [parrot], attempts_per_target: 1}}]
"
        ));
        let key = [("x-api-key", "canary-caller-key-0123456789")];
        let body = messages("claude", false, "canary-prompt").to_string();
        let answer = send(
            gateway.address,
            http::Method::POST,
            "/v1/messages",
            &key,
            body,
        )
        .await;
        assert!(answer.status >= 400, "{answer:?}");
        assert!(
            !answer.text.contains("canary-vendor-key"),
            "{status}: {}",
            answer.text
        );
        until("it is settled", || {
            gateway.handle.ledger().last(1).len() == 1
        })
        .await;
        let mut shown = gateway.handle.metrics();
        for path in ["/holdfast/exchanges", "/metrics"] {
            let answer = send(gateway.address, http::Method::GET, path, &key, "").await;
            assert_eq!(answer.status, 200);
            shown += &answer.text;
        }
        assert!(shown.contains("parrot"), "{shown}");
        assert!(
            shown.contains(&format!("\"message\":\"status {status}")),
            "{shown}"
        );
        assert!(!shown.contains("canary-caller-key"), "{status}: {shown}");
        assert!(!shown.contains("canary-vendor-key"), "{status}: {shown}");
        if matches!(status, 400 | 413 | 422) {
            assert!(!shown.contains("canary"), "{status}: {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_exchanges_are_remembered() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, "limits: {ledger_records: 3}"));
    let mut ids = Vec::new();
    for _ in 0..5 {
        let answer = gateway
            .post("/v1/messages", &messages("claude", false, "x"))
            .await;
        ids.push(answer.header("holdfast-exchange").to_owned());
    }
    let last = gateway.get("/holdfast/exchanges").await.json();
    let shown: Vec<_> = last["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["id"])
        .collect();
    assert_eq!(shown, [&ids[4], &ids[3], &ids[2]]);
    let path = format!("/holdfast/exchanges/{}", ids[0]);
    gateway.get(&path).await.assert_fault(404, "HF-002");
}
