//! What makes two requests the same, and that what is asked again is what the caller sent.

use holdfast_sim::Sim;
use holdfast_store::{KeptRequest, TicketFilter};
use http::Method;

use crate::keyed::kept;
use crate::rig::{Running, messages, send, two_vendors, vendor};

/// What a vendor was sent last: the path with its query, and the values of a header.
async fn seen(sim: &Sim, name: &str) -> (String, Vec<String>) {
    let seen = send(sim.addr(), Method::GET, "/_sim/requests?last=1", &[], "").await;
    let seen = &seen.json()[0];
    let headers = seen["headers"].as_array().unwrap().iter();
    let values = headers
        .filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name))
        .map(|pair| pair[1].as_str().unwrap().to_owned());
    (seen["path"].as_str().unwrap().to_owned(), values.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_again_is_what_was_sent() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(
        &one,
        &two,
        "defaults: {attempts_per_target: 1}",
    ))
    .await;
    one.set_fault(&"status:500".parse().unwrap());
    two.set_fault(&"status:500".parse().unwrap());
    let headers = [
        ("idempotency-key", "k"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two,three"),
        ("x-of-the-vendor", "yes"),
        ("x-api-key", "canary"),
    ];
    let body = messages("claude", false, "tell me").to_string();
    let path = "/v1/messages?beta=true&key=canary";
    let failed = send(kept.gateway.address, Method::POST, path, &headers, body).await;
    failed.assert_fault(502, "HF-013");
    let tickets = kept.store.tickets(&TicketFilter::default()).await.unwrap();
    let ticket = kept.store.ticket(&tickets[0].id).await.unwrap().unwrap();
    let content = ticket.content.unwrap();
    let text = String::from_utf8(content.clone()).unwrap();
    assert!(!text.contains("canary"), "{text}");
    one.set_fault(&"ok".parse().unwrap());
    let request = KeptRequest::from_bytes(&content).unwrap();
    let asked = kept.gateway.handle.ask(request, "", Some("one")).await;
    assert_eq!(asked.unwrap().status, 200);
    for (name, values) in [
        ("anthropic-version", &["2023-06-01"][..]),
        ("anthropic-beta", &["one", "two,three"]),
        ("x-of-the-vendor", &["yes"]),
        ("x-api-key", &["key-of-one"]),
    ] {
        let (path, sent) = seen(&one, name).await;
        assert_eq!(sent, values, "{name}");
        assert!(path.ends_with("/messages?beta=true"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_the_answer_makes_another_request() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me").to_string();
    let usual = [
        ("holdfast-delivery", "guarded"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two"),
    ];
    let call = async |path: &str, headers: &[(&str, &str)]| {
        let headers = [&[("idempotency-key", "k")], headers].concat();
        send(at, Method::POST, path, &headers, body.clone()).await
    };
    call("/v1/messages?beta=true", &usual).await.assert_whole();
    for (place, other) in [
        (0, ("holdfast-delivery", "whole")),
        (1, ("anthropic-version", "2023-01-01")),
        (2, ("anthropic-beta", "another")),
        (3, ("anthropic-beta", "another")),
        (3, ("x-of-no-matter", "one")),
    ] {
        let mut headers = usual;
        headers[place] = other;
        let refused = call("/v1/messages?beta=true", &headers).await;
        refused.assert_fault(422, "HF-027");
    }
    for path in ["/v1/messages", "/v1/messages?beta=false"] {
        call(path, &usual).await.assert_fault(422, "HF-027");
    }
    let again = call("/v1/messages?beta=true", &usual).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(one.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_is_sent_the_version_that_counts() {
    let one = vendor("one").await;
    let config = |more: &str| {
        format!(
            "listen: 127.0.0.1:0\nproviders:\n  - {{name: one, kind: anthropic, base_url: '{}', key: k{more}}}\n\
             routes:\n  - {{model: claude*, targets: [one]}}\n",
            one.url()
        )
    };
    let body = messages("claude", false, "tell me").to_string();
    let old = &[("anthropic-version", "2023-06-01")][..];
    let new = &[("anthropic-version", "2026-10-21")][..];
    let set = ", anthropic_version: 2026-10-21";
    for (more, headers, version) in [
        ("", &[][..], "2023-06-01"),
        ("", new, "2026-10-21"),
        (set, &[][..], "2026-10-21"),
        (set, old, "2026-10-21"),
    ] {
        let gateway = Running::start(&config(more));
        let call = send(
            gateway.address,
            Method::POST,
            "/v1/messages",
            headers,
            body.clone(),
        );
        call.await.assert_whole();
        let (_, told) = seen(&one, "anthropic-version").await;
        assert_eq!(told, [version], "{more} {headers:?}");
    }
}
