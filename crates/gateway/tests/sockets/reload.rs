//! A new configuration holds for new calls; a call under way keeps the one that it began with.

use crate::rig::{Running, messages, parse, raw, raw_post, read_raw, two_vendors, until, vendor};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_exchange_keeps_its_snapshot() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let other = vendor("other").await;
    // The first attempt is still on its way when the configuration changes; its second vendor is the
    // old one.
    one.set_script(
        holdfast_sim::Script::parse(r#"{"token_ms": 5, "faults": [{"fault": "cut-rst:half"}]}"#)
            .unwrap(),
    )
    .unwrap();
    let more = "defaults: {delivery: whole, attempts_per_target: 1}";
    let gateway = Running::start(&two_vendors(&one, &two, more));
    let body = messages("claude", true, "tell me [[words:200]]").to_string();
    let running = raw(gateway.address, &raw_post("/v1/messages", &body)).await;
    until("the first vendor works", || one.stats().open_streams == 1).await;
    let changes = gateway
        .handle
        .reload(parse(&two_vendors(&other, &other, more)))
        .unwrap();
    assert!(!changes.is_empty());
    gateway
        .post("/v1/messages", &messages("claude", true, "new"))
        .await
        .assert_whole();
    let text = read_raw(running).await;
    assert!(text.contains("event: message_stop"), "{text}");
    assert_eq!(
        (one.stats().calls, two.stats().calls, other.stats().calls),
        (1, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_during_a_hundred_reloads_are_all_whole() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..100 {
        let address = gateway.address;
        let body = messages("claude", true, &format!("question {number}")).to_string();
        asked.spawn(async move {
            crate::rig::send(address, http::Method::POST, "/v1/messages", &[], body).await
        });
        let (first, second) = if number % 2 == 0 {
            (&two, &one)
        } else {
            (&one, &two)
        };
        gateway
            .handle
            .reload(parse(&two_vendors(first, second, "")))
            .unwrap();
    }
    while let Some(answer) = asked.join_next().await {
        answer.unwrap().assert_whole();
    }
    assert_eq!(one.stats().calls + two.stats().calls, 100);
    gateway.at_rest().await;
}

/// The breaker's terms belong to the configuration as everything else does.
#[tokio::test(flavor = "multi_thread")]
async fn changed_terms_of_the_breaker_hold() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"status:500".parse().unwrap());
    let terms = |consecutive: u32| {
        let breaker = format!("{{consecutive: {consecutive}, open: 10m, open_max: 10m}}");
        two_vendors(
            &one,
            &two,
            &format!("defaults: {{attempts_per_target: 1, breaker: {breaker}}}"),
        )
    };
    let gateway = Running::start(&terms(100));
    gateway
        .post("/v1/messages", &messages("claude", false, "x"))
        .await
        .assert_whole();
    gateway.handle.reload(parse(&terms(2))).unwrap();
    for _ in 0..5 {
        gateway
            .post("/v1/messages", &messages("claude", false, "x"))
            .await
            .assert_whole();
    }
    assert!(
        (2..=3).contains(&one.stats().calls),
        "{}",
        one.stats().calls
    );
    // What is known of a target outlives a reload that does not touch it.
    gateway.handle.reload(parse(&terms(2))).unwrap();
    let before = one.stats().calls;
    gateway
        .post("/v1/messages", &messages("claude", false, "x"))
        .await
        .assert_whole();
    assert_eq!(one.stats().calls, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_reload_hold_at_once() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let question = messages("claude", false, &"long ".repeat(1000));
    gateway.post("/v1/messages", &question).await.assert_whole();
    let smaller = two_vendors(&one, &two, "limits: {body_bytes: 1KiB}");
    gateway.handle.reload(parse(&smaller)).unwrap();
    gateway
        .post("/v1/messages", &question)
        .await
        .assert_fault(413, "HF-004");
}
