//! Everything that can be known after an attempt, and what becomes of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_config::Disk;
use holdfast_effects::{CUT_HEADER, Kind, Signer, Target, Targets};
use holdfast_upstream::SystemRoots;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::house::{House, Reply, at, dir, target};
use crate::site::{Play, Site};

const EFFECT: &str = r#"{"target":"t","path":"/v1/charges","payload":{"amount":1},"key":"k-1"}"#;

/// One effect at a site that plays `plays`.
async fn played(
    honours_keys: bool,
    plays: Vec<Play>,
    change: fn(&mut Target),
) -> (Reply, Site, Option<Value>) {
    let site = Site::start(plays).await;
    let mut target = target("t", &site, honours_keys);
    change(&mut target);
    let (_dir, path) = dir();
    let house = House::open(&path, [target]).await;
    let reply = house.post(EFFECT).await.unwrap();
    let ticket = match reply.json["ticket"].as_str() {
        Some(id) => house.store.ticket(id).await.unwrap(),
        None => None,
    };
    (reply, site, ticket.map(|ticket| ticket.facts))
}

fn raw(text: &str) -> Play {
    Play::Raw(text.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_nothing_is_sent_twice() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
    let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc";
    for (play, state, error) in [
        (Play::Answer(200, "{}"), "done", ""),
        (Play::Answer(204, ""), "done", ""),
        (
            Play::Answer(301, ""),
            "failed",
            "redirects are not followed",
        ),
        (
            Play::Answer(307, ""),
            "failed",
            "redirects are not followed",
        ),
        (Play::Answer(400, "{}"), "failed", "400"),
        (Play::Answer(409, "{}"), "failed", "409"),
        (Play::Answer(408, "{}"), "doubt", "408"),
        (Play::Answer(500, "{}"), "doubt", "500"),
        (Play::Answer(502, "{}"), "doubt", "502"),
        (Play::Answer(503, "{}"), "doubt", "503"),
        (Play::Close, "doubt", "no answer was read"),
        (raw(cut), "doubt", "status 200, then the answer broke off"),
        (raw(chunk), "doubt", "status 200, then the answer broke off"),
        (
            raw("SSH-2.0-nothing\r\n\r\n"),
            "doubt",
            "no answer was read",
        ),
        (raw("HTTP/1.1 2"), "doubt", "no answer was read"),
    ] {
        let shown = format!("{play:?}");
        let (reply, site, facts) = played(false, vec![play], |_| {}).await;
        assert_eq!(reply.text("state"), state, "{shown}: {}", reply.json);
        assert!(
            reply.text("error").contains(error),
            "{shown}: {}",
            reply.json
        );
        assert_eq!(site.count(), 1, "{shown}");
        let is_over = state != "doubt";
        assert_eq!(reply.status, if is_over { 200 } else { 202 }, "{shown}");
        assert_eq!(facts.is_none(), is_over, "{shown}");
        if let Some(facts) = facts {
            assert_eq!(facts["happened"], "unknown", "{shown}");
            assert_eq!(facts["key_sent"], "k-1");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_it_is_asked_until_the_target_tells() {
    for play in [
        Play::Answer(408, ""),
        Play::Answer(409, ""),
        Play::Answer(425, ""),
        Play::Answer(429, ""),
        Play::Answer(500, ""),
        Play::Answer(503, ""),
        Play::Close,
        raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
    ] {
        let shown = format!("{play:?}");
        let plays = vec![play.clone(), play];
        let (reply, site, _) = played(true, plays, |_| {}).await;
        assert_eq!(reply.text("state"), "done", "{shown}: {}", reply.json);
        assert_eq!(reply.json["attempts"], 3, "{shown}");
        let keys: Vec<_> = site
            .seen()
            .iter()
            .map(|seen| seen.header("idempotency-key").map(str::to_owned))
            .collect();
        assert_eq!(keys, vec![Some("k-1".to_owned()); 3], "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_attempts_are_used_a_person_is_asked() {
    let plays = vec![Play::Answer(500, ""); 5];
    let (reply, site, facts) = played(true, plays, |_| {}).await;
    assert_eq!((reply.text("state"), site.count()), ("doubt", 3));
    assert_eq!(facts.unwrap()["happened"], "unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_slow_down_even_a_target_without_keys_is_asked_again() {
    let (reply, site, _) = played(false, vec![Play::Answer(429, "")], |_| {}).await;
    assert_eq!((reply.text("state"), site.count()), ("done", 2));
    let plays = vec![Play::Answer(429, ""); 5];
    let (reply, site, facts) = played(false, plays, |_| {}).await;
    assert_eq!((reply.text("state"), site.count()), ("doubt", 3));
    assert_eq!(facts.unwrap()["happened"], "no");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_the_request_is_doubt() {
    let quick = |target: &mut Target| target.timeout = Duration::from_millis(200);
    let (reply, site, facts) = played(false, vec![Play::Hang], quick).await;
    assert_eq!((reply.text("state"), site.count()), ("doubt", 1));
    assert!(reply.text("error").contains("no answer within"));
    assert_eq!(facts.unwrap()["happened"], "unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_before_the_request_is_not() {
    // TLS is never answered: the request itself never left.
    let tls = |target: &mut Target| {
        target.timeout = Duration::from_millis(200);
        let Kind::Http(http) = &mut target.kind else {
            unreachable!()
        };
        http.tls = Some(crate::mail::client_config(None));
    };
    let (reply, site, facts) = played(false, vec![], tls).await;
    assert_eq!((reply.text("state"), site.count()), ("doubt", 0));
    assert!(
        reply.text("error").contains("nothing was sent"),
        "{}",
        reply.json
    );
    assert_eq!(facts.unwrap()["happened"], "no");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_retried_and_then_told() {
    let (_dir, path) = dir();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let house = House::open(&path, [at("t", "127.0.0.1", port, false)]).await;
    let reply = house.post(EFFECT).await.unwrap();
    assert_eq!(reply.text("state"), "doubt");
    assert_eq!(reply.json["attempts"], 3);
    let ticket = house.store.ticket(reply.text("ticket")).await.unwrap();
    let ticket = ticket.unwrap();
    assert_eq!(ticket.facts["happened"], "no");
    assert!(ticket.title.contains("did not happen"), "{}", ticket.title);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_cut_and_marked() {
    let body = "x".repeat(holdfast_effects::ANSWER_BYTES + 1);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let (reply, site, _) = played(false, vec![raw(&(head + &body))], |_| {}).await;
    assert_eq!((reply.text("state"), site.count()), ("done", 1));
    let result = &reply.json["result"];
    let kept = result["body"].as_str().unwrap().len();
    assert_eq!(kept, holdfast_effects::ANSWER_BYTES);
    assert_eq!(result["headers"][CUT_HEADER], kept.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_carries_what_it_must_and_the_answer_is_kept() {
    let site = Site::start([]).await;
    let mut target = target("t", &site, true);
    let Kind::Http(http) = &mut target.kind else {
        unreachable!()
    };
    http.sign = Some(Signer::new("a secret of many letters").unwrap());
    let (_dir, path) = dir();
    let house = House::open(&path, [target]).await;
    let body = r#"{"target":"t","method":"PUT","path":"/v1/a","payload":{"b": 1.0,"a":[]},
        "headers":{"X-Tenant":"seven"},"key":"\"quoted\""}"#;
    let reply = house.post(body).await.unwrap();
    let seen = site.seen().remove(0);
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str(), seen.body.as_str()),
        ("PUT", "/base/v1/a", r#"{"b": 1.0,"a":[]}"#)
    );
    let host = format!("target.example:{}", site.address.port());
    for (name, value) in [
        ("host", host.as_str()),
        ("authorization", "Bearer of-the-target"),
        ("x-tenant", "seven"),
        ("content-type", "application/json"),
        ("idempotency-key", "quoted"),
        ("webhook-id", reply.text("id")),
        ("accept-encoding", "identity"),
        ("connection", "close"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert!(seen.header("webhook-signature").unwrap().starts_with("v1,"));
    let result = &reply.json["result"];
    assert_eq!(result["status"], 200);
    assert_eq!(result["body"]["ok"], true);
    assert_eq!(result["headers"]["set-cookie"], Value::Null);
    let kept = house.store.effect(reply.text("id")).await.unwrap().unwrap();
    let kept = format!("{kept:?}{}", String::from_utf8_lossy(&kept.payload));
    assert!(
        !kept.contains("of-the-target"),
        "a credential is never kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_hears_the_key_under_the_name_that_it_knows() {
    let site = Site::start([Play::Close]).await;
    let text = format!(
        "providers: [{{name: ollama}}]
routes: [{{model: m, targets: [ollama]}}]
effects:
  targets:
    - name: t
      url: http://127.0.0.1:{}
      honours_keys: true
      allow_private: true
      methods: [POST]
      paths: [/v1/*]
      key_header: X-Order-Key
",
        site.address.port()
    );
    let nowhere = Disk {
        directory: PathBuf::new(),
    };
    let loaded = holdfast_config::parse("test.yaml", &text, &|_| None, &nowhere).unwrap();
    let roots = SystemRoots::load();
    let targets = Targets::from_config(&loaded.config.effects, &[], &roots).unwrap();
    let (_dir, path) = dir();
    let house = House::open(&path, []).await;
    house.effects.set_targets(targets);
    let reply = house.post(EFFECT).await.unwrap();
    assert_eq!(reply.text("state"), "done", "{}", reply.json);
    let seen = site.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!(seen.header("x-order-key"), Some("k-1"));
        assert_eq!(seen.header("idempotency-key"), None);
    }
}

/// TLS in front of a site.
async fn secured(site: &Site, server: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = site.address;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(server.clone());
            tokio::spawn(async move {
                if let Ok(mut front) = acceptor.accept(tcp).await {
                    let mut back = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut front, &mut back).await;
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_the_configured_host_is_spoken_to() {
    let (server, certificate) = crate::mail::certificate();
    for (host, trusted, state) in [
        ("localhost", Some(certificate.clone()), "done"),
        ("localhost", None, "doubt"),
        // The certificate is for another name.
        ("127.0.0.1", Some(certificate), "doubt"),
    ] {
        let site = Site::start([]).await;
        let port = secured(&site, server.clone()).await;
        let mut target = at("t", host, port, false);
        let Kind::Http(http) = &mut target.kind else {
            unreachable!()
        };
        http.tls = Some(crate::mail::client_config(trusted));
        let (_dir, path) = dir();
        let house = House::open(&path, [target]).await;
        let reply = house.post(EFFECT).await.unwrap();
        assert_eq!(reply.text("state"), state, "{host}: {}", reply.json);
        assert_eq!(site.count(), usize::from(state == "done"), "{host}");
        if state == "doubt" {
            assert!(reply.text("error").contains("no TLS"), "{}", reply.json);
        }
    }
}
