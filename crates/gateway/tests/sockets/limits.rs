//! Each limit refuses with its own code, touches nobody else, and is over when the cause is.

use tokio::io::AsyncWriteExt;

use crate::rig::{Running, chat, messages, raw, raw_post, read_raw, two_vendors, until, vendor};

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_in_flight_are_refused_and_let_in_again() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"stall:4".parse().unwrap());
    let gateway = Running::start(&two_vendors(&one, &two, "limits: {in_flight: 2}"));
    let body = messages("claude", true, "tell me").to_string();
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(raw(gateway.address, &raw_post("/v1/messages", &body)).await);
    }
    until("both are under way", || one.stats().open_streams == 2).await;
    let refused = gateway
        .post("/v1/messages", &messages("claude", true, "x"))
        .await;
    refused.assert_fault(503, "HF-010");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.header("x-should-retry"), "true");
    gateway
        .post("/v1/chat/completions", &chat("gpt", true, "x"))
        .await
        .assert_fault(503, "HF-010");
    // What is no call is not counted as one.
    assert_eq!(gateway.get("/healthz").await.status, 200);
    assert!(gateway.metric("holdfast_shed_total") == 2);
    running.pop();
    until("a place is free", || gateway.handle.in_flight() == 1).await;
    one.set_fault(&"ok".parse().unwrap());
    gateway
        .post("/v1/messages", &messages("claude", true, "x"))
        .await
        .assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_are_refused_and_let_in_again() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, "limits: {connections: 3}"));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(raw(gateway.address, "").await);
    }
    until("all are open", || {
        gateway.metric("holdfast_connections") == 3
    })
    .await;
    let text = read_raw(raw(gateway.address, "").await).await;
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("\r\nholdfast-code: HF-010\r\n"), "{text}");
    assert!(text.contains("\r\nretry-after: 1\r\n"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{text}"
    );
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("HF-010"),
        "{body}"
    );
    assert!(gateway.metric("holdfast_shed_total") == 1);
    open.pop();
    until("a place is free", || {
        gateway.metric("holdfast_connections") == 2
    })
    .await;
    gateway
        .post("/v1/messages", &messages("claude", true, "x"))
        .await
        .assert_whole();
}

/// The accept loop may see many at once, before any of them has been looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_connections_does_not_pass_the_limit() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, "limits: {connections: 5}"));
    let mut open = Vec::new();
    for _ in 0..60 {
        open.push(raw(gateway.address, "").await);
    }
    until("the rest was refused", || {
        gateway.metric("holdfast_shed_total") >= 55
    })
    .await;
    assert!(gateway.metric("holdfast_connections") == 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_buffered_bytes_are_refused_and_let_in_again() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"stall:4".parse().unwrap());
    let limits = "limits: {buffered_bytes: 100KiB, body_bytes: 100KiB, event_bytes: 50KiB, answer_bytes: 50KiB}";
    let gateway = Running::start(&two_vendors(&one, &two, limits));
    let long = messages("claude", true, &"long ".repeat(14_000));
    let running = raw(
        gateway.address,
        &raw_post("/v1/messages", &long.to_string()),
    )
    .await;
    until("it is under way", || one.stats().open_streams == 1).await;
    let refused = gateway.post("/v1/messages", &long).await;
    refused.assert_fault(503, "HF-024");
    assert_eq!(refused.header("retry-after"), "1");
    drop(running);
    until("the memory is free", || gateway.handle.in_flight() == 0).await;
    one.set_fault(&"ok".parse().unwrap());
    gateway.post("/v1/messages", &long).await.assert_whole();
    gateway.post("/v1/messages", &long).await.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_however_it_comes() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, "limits: {body_bytes: 10KiB}"));
    let long = messages("claude", true, &"long ".repeat(4000));
    gateway
        .post("/v1/messages", &long)
        .await
        .assert_fault(413, "HF-004");
    let head = "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = raw(gateway.address, head).await;
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    for _ in 0..3 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    let text = read_raw(stream).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(text.contains("HF-004"), "{text}");
    assert_eq!(one.stats().calls, 0);
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_bodies_are_ended() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let limits = "limits: {header_timeout: 200ms, body_timeout: 200ms}";
    let gateway = Running::start(&two_vendors(&one, &two, limits));
    let silent = raw(gateway.address, "").await;
    assert_eq!(read_raw(silent).await, "");
    for begun in ["P", "PRI", "POST /v1/messages HTTP/1.1\r\nHost: ga"] {
        let half = raw(gateway.address, begun).await;
        let text = read_raw(half).await;
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 408 "),
            "{text}"
        );
    }
    let head = "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nContent-Length: 100\r\n\r\n{\"mo";
    let text = read_raw(raw(gateway.address, head).await).await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(text.contains("HF-009"), "{text}");
    gateway.at_rest().await;
}
