//! Going down: what runs is finished, what comes is refused, and then nothing is left.

use serde_json::Value;

use crate::rig::{Running, messages, raw, raw_post, read_raw, two_vendors, until, vendor};

/// Streams that take as long as the test wants: one word every few milliseconds.
async fn slow(more: &str) -> (Running, [holdfast_sim::Sim; 2]) {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let script = r#"{"token_ms": 5}"#;
    one.set_script(holdfast_sim::Script::parse(script).unwrap())
        .unwrap();
    let gateway = Running::start(&two_vendors(&one, &two, more));
    (gateway, [one, two])
}

#[tokio::test(flavor = "multi_thread")]
async fn running_answers_are_finished_and_new_calls_refused_with_a_code() {
    let (mut gateway, [one, _two]) = slow("").await;
    let body = messages("claude", true, "tell me [[words:200]]").to_string();
    let running = raw(gateway.address, &raw_post("/v1/messages", &body)).await;
    until("the vendor works", || one.stats().open_streams == 1).await;
    let draining = gateway.drain();
    until("it drains", || gateway.handle.is_draining()).await;
    // On whichever worker's socket the kernel puts it.
    let refused = gateway
        .post("/v1/messages", &messages("claude", true, "tell me"))
        .await;
    refused.assert_fault(503, "HF-011");
    assert_eq!(refused.json()["type"], "error");
    assert_eq!(refused.header("retry-after"), "1");
    let refused = gateway
        .post("/v1/chat/completions", &crate::rig::chat("gpt", true, "x"))
        .await;
    refused.assert_fault(503, "HF-011");
    assert_eq!(refused.json()["type"], Value::Null);
    let ready = gateway.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (503, &Value::from("draining"))
    );
    assert_eq!(gateway.handle.in_flight(), 1, "the running one goes on");
    let text = read_raw(running).await;
    assert!(text.contains("event: message_stop"), "{text}");
    assert!(text.ends_with("\r\n0\r\n\r\n"), "{text}");
    assert!(draining.await.unwrap(), "all ended");
    assert_eq!(one.stats().calls, 1);
    let closed = tokio::net::TcpStream::connect(gateway.address).await;
    assert!(closed.is_err(), "nobody listens any longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_silent_connections_do_not_hold_it_up() {
    let (mut gateway, _vendors) = slow("limits: {header_timeout: 1s}").await;
    let silent = raw(gateway.address, "").await;
    let half = raw(
        gateway.address,
        "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\n",
    )
    .await;
    let mut idle = raw(
        gateway.address,
        "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n",
    )
    .await;
    let mut some = [0; 64];
    tokio::io::AsyncReadExt::read(&mut idle, &mut some)
        .await
        .unwrap();
    until("all are open", || {
        gateway.metric("holdfast_connections") == 3
    })
    .await;
    assert!(gateway.drain().await.unwrap());
    assert_eq!(read_raw(silent).await, "");
    drop(half);
    read_raw(idle).await;
}
