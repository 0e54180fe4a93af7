//! The endpoints beside the model calls.

use std::collections::HashMap;

use http::Method;
use serde_json::{Value, json};

use crate::rig::{Running, chat, messages, send, two_vendors, until, vendor};

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_by_the_vendor() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let mut body = messages("claude", false, "one two three");
    body.as_object_mut().unwrap().remove("max_tokens");
    let straight = send(
        one.addr(),
        Method::POST,
        "/v1/messages/count_tokens",
        &[("anthropic-version", "2023-06-01")],
        body.to_string(),
    )
    .await;
    let counted = gateway.post("/v1/messages/count_tokens", &body).await;
    assert_eq!(counted.status, 200, "{counted:?}");
    assert!(counted.json()["input_tokens"].as_u64().unwrap() > 0);
    assert_eq!(counted.json(), straight.json());
    assert_eq!(one.stats().paths["/v1/messages/count_tokens"], 2);
    assert_eq!(gateway.handle.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_nobody_can_make_is_refused_in_the_dialect() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let count = "/v1/messages/count_tokens";
    let refused = gateway.post(count, &messages("gpt", false, "x")).await;
    refused.assert_fault(400, "HF-020");
    assert_eq!(refused.json()["type"], "error");
    gateway
        .post(count, &messages("nobody", false, "x"))
        .await
        .assert_fault(404, "HF-003");
    gateway.get(count).await.assert_fault(405, "HF-007");
    one.set_listening(false).await;
    let counted = gateway.post(count, &messages("claude", false, "x")).await;
    assert_eq!(counted.status, 200, "the next vendor counts: {counted:?}");
    two.set_listening(false).await;
    gateway
        .post(count, &messages("claude", false, "x"))
        .await
        .assert_fault(502, "HF-013");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_for_both_dialects() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let list = gateway.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["has_more"], false);
    let models = list["data"].as_array().unwrap();
    assert_eq!(models.len(), 1, "wildcards are no names");
    assert_eq!(
        (&models[0]["id"], &models[0]["object"]),
        (&json!("alone"), &json!("model"))
    );
    assert_eq!(models[0]["type"], "model");
    assert_eq!(
        (&list["first_id"], &list["last_id"]),
        (&json!("alone"), &json!("alone"))
    );
    assert_eq!(
        gateway.get("/v1/models/claude-anything").await.json()["id"],
        "claude-anything"
    );
    gateway
        .get("/v1/models/nobody")
        .await
        .assert_fault(404, "HF-003");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_are_told_without_a_key() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let more = "callers: [{name: team, key: key-of-the-team-0123}]\ndefaults: {attempts_per_target: 1, breaker: {consecutive: 1, open: 10m, open_max: 10m}}";
    let gateway = Running::start(&two_vendors(&one, &two, more));
    assert_eq!(gateway.get("/healthz").await.json()["status"], "ok");
    assert_eq!(gateway.get("/api/hello").await.status, 200);
    let head = send(gateway.address, Method::HEAD, "/", &[], "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    let ready = gateway.get("/readyz").await.json();
    assert_eq!(
        (&ready["status"], &ready["targets"]["one/*"]),
        (&json!("ready"), &json!("healthy"))
    );
    for sim in [&one, &two] {
        sim.set_fault(&"status:500".parse().unwrap());
    }
    let key = [("x-api-key", "key-of-the-team-0123")];
    let body = messages("claude", false, "x").to_string();
    send(
        gateway.address,
        Method::POST,
        "/v1/messages",
        &key,
        body.clone(),
    )
    .await;
    let ready = gateway.get("/readyz").await;
    assert_eq!(
        ready.status, 200,
        "a vendor's outage does not take the gateway out of service"
    );
    assert_eq!(ready.json()["targets"]["two/*"], "shut");
    assert_eq!(ready.json()["routes_without_a_target"], json!(["claude*"]));
    let refused = send(gateway.address, Method::POST, "/v1/messages", &key, body).await;
    refused.assert_fault(503, "HF-018");
    assert_eq!(refused.header("retry-after"), "60", "clamped");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_valid_open_metrics() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"cut-rst:half".parse().unwrap());
    let more = "defaults: {attempts_per_target: 1}";
    let gateway = Running::start(&two_vendors(&one, &two, more));
    gateway
        .post(
            "/v1/messages",
            &messages("claude \"odd\" \\ name", true, "x"),
        )
        .await
        .assert_whole();
    gateway
        .post("/v1/chat/completions", &chat("gpt", false, "x"))
        .await
        .assert_whole();
    let named = messages("claude-of-a-callers-own-naming", false, "x");
    gateway.post("/v1/messages", &named).await.assert_whole();
    until("all are settled", || {
        gateway.handle.ledger().last(3).len() == 3
    })
    .await;
    let answer = gateway.get("/metrics").await;
    let kind = answer.header("content-type");
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    check(&answer.text);
    // Callers name models as they like: no label may grow with that.
    assert!(!answer.text.contains("naming"), "{}", answer.text);
    for sample in [
        "holdfast_exchanges_total{route=\"claude*\",outcome=\"whole\",code=\"\"} 2",
        "holdfast_attempts_total{target=\"chat-two/*\",verdict=\"whole\",flaw=\"\"} 1",
        "holdfast_joins_total 1",
        "holdfast_in_flight 0",
        "holdfast_breaker_open{target=\"one/*\"} 0",
        "gen_ai_client_operation_duration_seconds_count 3",
    ] {
        assert!(
            answer.text.contains(&format!("\n{sample}\n")),
            "no {sample} in {}",
            answer.text
        );
    }
}

/// The rules of the text format (`OpenMetrics` 1.0, "Overall Structure" and the types' suffixes).
fn check(text: &str) {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut kinds: HashMap<String, String> = HashMap::new();
    let mut family = String::new();
    let mut last_bucket = (String::new(), 0.0);
    let mut counts = HashMap::new();
    for line in body.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (word, name, rest) = (
                words.next().unwrap(),
                words.next().unwrap(),
                words.next().unwrap(),
            );
            match word {
                "TYPE" => {
                    assert!(
                        kinds.insert(name.to_owned(), rest.to_owned()).is_none(),
                        "twice: {line}"
                    );
                    name.clone_into(&mut family);
                }
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => assert!(!rest.is_empty(), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let suffix = name
            .strip_prefix(family.as_str())
            .unwrap_or_else(|| panic!("astray: {line}"));
        let suffixes: &[&str] = match kinds[&family].as_str() {
            "counter" => &["_total", "_created"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum", "_created"],
            kind => panic!("{kind}"),
        };
        assert!(suffixes.contains(&suffix), "{line}");
        let (labels, value) = rest.rsplit_once(' ').unwrap();
        let value: f64 = value
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line}"));
        if suffix == "_total" || suffix == "_bucket" {
            assert!(value >= 0.0, "{line}");
        }
        check_labels(labels, line);
        if suffix == "_bucket" {
            assert!(
                last_bucket.0 != family || value >= last_bucket.1,
                "falls: {line}"
            );
            last_bucket = (family.clone(), value);
        }
        // Every histogram here is without labels.
        if suffix == "_count" || labels == "{le=\"+Inf\"}" {
            let count = *counts.entry(family.clone()).or_insert(value);
            assert!((value - count).abs() < 0.5, "{line}");
        }
    }
    assert_eq!(counts.len(), 2, "both histograms are counted");
}

fn check_labels(labels: &str, line: &str) {
    if labels.is_empty() {
        return;
    }
    let inner = labels
        .strip_prefix('{')
        .and_then(|labels| labels.strip_suffix('}'))
        .unwrap_or_else(|| panic!("{line}"));
    // Every value is a string as JSON writes one.
    let object = inner.split("\",").map(|label| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let value = value.strip_suffix('"').unwrap_or(value);
        format!("\"{name}\":{value}\"")
    });
    let object = format!("{{{}}}", object.collect::<Vec<_>>().join(","));
    let parsed: Result<HashMap<String, Value>, _> = serde_json::from_str(&object);
    assert!(
        parsed.is_ok_and(|labels| labels.values().all(Value::is_string)),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_nobody_serves_are_told_in_a_dialect() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    gateway
        .get("/v1/messages")
        .await
        .assert_fault(405, "HF-007");
    gateway.get("/nowhere").await.assert_fault(404, "HF-002");
    let anthropic = [("anthropic-version", "2023-06-01")];
    let answer = send(
        gateway.address,
        Method::POST,
        "/v1/complete",
        &anthropic,
        "{}",
    )
    .await;
    answer.assert_fault(404, "HF-002");
    assert_eq!(answer.json()["type"], "error");
}
