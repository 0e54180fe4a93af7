//! Who may call, and whose credential goes where.

use std::fmt::Write as _;

use holdfast_sim::Sim;
use http::Method;
use serde_json::Value;

use crate::rig::{
    Answer, Running, chat, messages, raw, read_raw, send, two_vendors, until, vendor,
};

async fn call(gateway: &Running, path: &str, headers: &[(&str, &str)], model: &str) -> Answer {
    let body = match path {
        "/v1/messages" => messages(model, false, "x"),
        _ => chat(model, false, "x"),
    };
    send(
        gateway.address,
        Method::POST,
        path,
        headers,
        body.to_string(),
    )
    .await
}

const CALLERS: &str = "callers:
  - {name: team, key: key-of-the-team-0123, routes: [claude*]}
  - {name: other, key_sha256: 5bef3e1a6ed9dae4a0c8fbb7cf4a0b9a9a1a4f5f9f5f0c6f4a0c6f7f3f5f0a11}";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told_in_the_dialect_and_nobody_is_asked() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, CALLERS));
    for headers in [
        &[][..],
        &[("x-api-key", "wrong")],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Basic key-of-the-team-0123")],
        &[("x-api-key", "key-of-the-team-012")],
        &[("x-api-key", "key-of-one")],
    ] {
        let answer = call(&gateway, "/v1/messages", headers, "claude").await;
        answer.assert_fault(401, "HF-005");
        assert_eq!(answer.json()["type"], "error");
        assert_eq!(answer.json()["error"]["type"], "authentication_error");
        let answer = call(&gateway, "/v1/chat/completions", headers, "gpt").await;
        answer.assert_fault(401, "HF-005");
        assert_eq!(answer.json()["type"], Value::Null);
        assert_eq!(answer.json()["error"]["code"], "unauthenticated");
        // A stranger can't find out which models there are either.
        let answer = call(&gateway, "/v1/messages", headers, "no-such-model").await;
        answer.assert_fault(401, "HF-005");
        for path in ["/v1/models", "/holdfast/exchanges"] {
            let answer = send(gateway.address, Method::GET, path, headers, "").await;
            answer.assert_fault(401, "HF-005");
        }
    }
    assert_eq!(one.stats().calls + two.stats().calls, 0);
}

/// A stranger's body would be held in memory that callers need.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told_before_the_body_is_read() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, CALLERS));
    let head = "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nx-api-key: wrong\r\nContent-Length: 1000000\r\n\r\n{";
    let text = read_raw(raw(gateway.address, head).await).await;
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_in_both_headers_and_its_routes_are_all_it_may_use() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, CALLERS));
    for header in [
        ("x-api-key", "key-of-the-team-0123"),
        ("authorization", "Bearer key-of-the-team-0123"),
        ("authorization", "bearer  key-of-the-team-0123 "),
    ] {
        call(&gateway, "/v1/messages", &[header], "claude")
            .await
            .assert_whole();
        let answer = call(&gateway, "/v1/chat/completions", &[header], "gpt").await;
        answer.assert_fault(403, "HF-006");
    }
    let team = [("x-api-key", "key-of-the-team-0123")];
    let entries = send(
        gateway.address,
        Method::GET,
        "/holdfast/exchanges",
        &team,
        "",
    )
    .await;
    let entries = entries.json();
    assert_eq!(entries["data"].as_array().unwrap().len(), 3);
    assert_eq!(entries["data"][0]["caller"], "team");
}

/// The key itself is nowhere in what the process knows of its callers.
#[test]
fn keys_of_callers_are_hashed() {
    let config = crate::rig::parse(&format!(
        "providers: [{{name: ollama}}]\nroutes: [{{model: m, targets: [ollama]}}]\n{}",
        CALLERS.replace(", routes: [claude*]", "")
    ));
    assert_eq!(config.caller("key-of-the-team-0123").unwrap().name, "team");
    assert!(config.caller("key-of-the-team-0124").is_none());
    let mut shown = String::new();
    write!(shown, "{config:?}").unwrap();
    assert!(!shown.contains("key-of-the-team"), "{shown}");
}

/// The credentials that a vendor was sent with its last call: `x-api-key`, `authorization`.
async fn credentials(sim: &Sim) -> (Option<String>, Option<String>) {
    let seen = send(sim.addr(), Method::GET, "/_sim/requests?last=1", &[], "")
        .await
        .json();
    let header = |wanted: &str| {
        let headers = seen[0]["headers"].as_array().unwrap();
        let found = headers
            .iter()
            .find(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(wanted))?;
        Some(found[1].as_str().unwrap().to_owned())
    };
    (header("x-api-key"), header("authorization"))
}

#[tokio::test(flavor = "multi_thread")]
async fn vendors_get_the_gateways_key_and_never_the_callers() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let headers = [
        ("x-api-key", "callers-own"),
        ("authorization", "Bearer callers-own"),
        ("cookie", "callers-own"),
    ];
    call(&gateway, "/v1/messages", &headers, "claude")
        .await
        .assert_whole();
    assert_eq!(credentials(&one).await, (Some("key-of-one".into()), None));
    call(&gateway, "/v1/chat/completions", &headers, "gpt")
        .await
        .assert_whole();
    assert_eq!(
        credentials(&one).await,
        (None, Some("Bearer key-of-one".into()))
    );
    let seen = send(one.addr(), Method::GET, "/_sim/requests", &[], "")
        .await
        .text;
    assert!(!seen.contains("callers-own"), "{seen}");
}

fn pass_through(one: &Sim, two: &Sim, more: &str) -> String {
    let (one, two) = (one.url(), two.url());
    format!(
        "listen: 127.0.0.1:0
providers:
  - {{name: own, kind: anthropic, base_url: '{one}', auth: caller, domain: one}}
  - {{name: ours, kind: anthropic, base_url: '{two}', key: key-of-two, domain: two}}
  - {{name: theirs, kind: anthropic, base_url: '{two}', auth: caller, domain: two}}
routes:
  - {{model: claude, targets: [own, theirs, ours], attempts_per_target: 1}}
{more}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_own_credential_goes_to_its_vendor_only() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&pass_through(&one, &two, ""));
    for (sent, seen) in [
        (
            ("x-api-key", "callers-own"),
            (Some("callers-own".into()), None),
        ),
        (
            ("authorization", "Bearer callers-own"),
            (None, Some("Bearer callers-own".to_owned())),
        ),
    ] {
        one.set_fault(&"ok".parse().unwrap());
        call(&gateway, "/v1/messages", &[sent], "claude")
            .await
            .assert_whole();
        assert_eq!(credentials(&one).await, seen);
        // The next vendor is asked with the gateway's own key, never with the caller's.
        one.set_fault(&"status:529".parse().unwrap());
        call(&gateway, "/v1/messages", &[sent], "claude")
            .await
            .assert_whole();
        assert_eq!(credentials(&two).await, (Some("key-of-two".into()), None));
    }
    let seen = send(two.addr(), Method::GET, "/_sim/requests", &[], "")
        .await
        .text;
    assert!(!seen.contains("callers-own"), "{seen}");
}

/// A header in a scheme of its own must not hide the key that stands beside it.
#[tokio::test(flavor = "multi_thread")]
async fn the_credential_that_was_recognised_is_the_one_that_is_passed() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&pass_through(&one, &two, ""));
    let headers = [
        ("authorization", "Basic of-a-proxy"),
        ("x-api-key", "callers-own"),
    ];
    call(&gateway, "/v1/messages", &headers, "claude")
        .await
        .assert_whole();
    assert_eq!(credentials(&one).await, (Some("callers-own".into()), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_callers_a_strangers_credential_never_uses_the_gateways() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let callers = "callers: [{name: team, key: key-of-the-team-0123}]";
    let gateway = Running::start(&pass_through(&one, &two, callers));
    // A key of ours is not shown to the vendor that takes callers' own.
    let ours = [("x-api-key", "key-of-the-team-0123")];
    call(&gateway, "/v1/messages", &ours, "claude")
        .await
        .assert_whole();
    assert_eq!(one.stats().calls, 0);
    assert_eq!(credentials(&two).await, (Some("key-of-two".into()), None));
    // A stranger reaches only the vendor that judges the credential itself.
    one.set_fault(&"status:529".parse().unwrap());
    let calls = two.stats().calls;
    let stranger = [("x-api-key", "callers-own")];
    let answer = call(&gateway, "/v1/messages", &stranger, "claude").await;
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!((one.stats().calls, two.stats().calls), (1, calls));
}

/// Reached from elsewhere and without keys of its own, it can't tell callers apart.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_not_open_to_the_network() {
    let one = vendor("one").await;
    let gateway = Running::start(&format!(
        "listen: 0.0.0.0:0
providers: [{{name: own, kind: anthropic, base_url: '{}', auth: caller}}]
routes: [{{model: claude, targets: [own]}}]
",
        one.url()
    ));
    let address = (std::net::Ipv4Addr::LOCALHOST, gateway.address.port()).into();
    let headers = [("x-api-key", "callers-own")];
    let body = messages("claude", false, "x").to_string();
    let answer = send(address, Method::POST, "/v1/messages", &headers, body).await;
    answer.assert_whole();
    until("it is settled", || {
        gateway.handle.ledger().last(1).len() == 1
    })
    .await;
    let list = send(address, Method::GET, "/holdfast/exchanges", &headers, "").await;
    list.assert_fault(403, "HF-006");
    // Who has the id of an exchange made it.
    let path = format!("/holdfast/exchanges/{}", answer.header("holdfast-exchange"));
    let entry = send(address, Method::GET, &path, &headers, "").await;
    assert_eq!(entry.json()["outcome"], "whole");
}
