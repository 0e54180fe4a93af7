//! Calls with an idempotency key: one vendor call, one answer, for whoever repeats it and whenever.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_store::{KeptRequest, KeyId, NewClaim, Options, Place, Store, TicketFilter};
use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::rig::{Answer, Running, chat, messages, raw, send, two_vendors, until, vendor};

pub(crate) const LEASE: Duration = Duration::from_mins(1);

/// A gateway with a SQLite store in a directory of its own.
pub(crate) struct Kept {
    pub(crate) gateway: Running,
    pub(crate) store: Store,
    /// What is written behind.
    pub(crate) books: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

pub(crate) async fn kept(config: &str) -> Kept {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("holdfast.db")).await;
    let gateway = Running::start(config);
    let books = gateway.handle.mount_store(store.clone(), LEASE);
    let books = tokio::spawn(books);
    Kept {
        gateway,
        books,
        store,
        _directory: directory,
    }
}

async fn open(path: &std::path::Path) -> Store {
    try_open(path).await.unwrap()
}

async fn try_open(path: &std::path::Path) -> holdfast_store::Result<Store> {
    let options = Options {
        lease: LEASE,
        ..Options::new(Place::Sqlite(path.to_owned()))
    };
    Store::open(options, tokio::runtime::Handle::current()).await
}

/// A process accepts a call and dies before it makes it.
fn accept_and_die(path: std::path::PathBuf, id: KeyId, request: Vec<u8>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async move {
        let store = open(&path).await;
        let now = holdfast_core::time::Wall(1_700_000_000_000);
        let claim = NewClaim {
            id,
            fingerprint: [7; 32],
            exchange: "accepted".to_owned(),
            request: Some(request),
            run: None,
            step: None,
            now,
            expires: now + Duration::from_hours(24 * 36_500),
        };
        store.claim_key(claim).await.unwrap();
    });
    runtime.shutdown_background();
}

pub(crate) async fn call(address: SocketAddr, path: &str, key: &str, body: &Value) -> Answer {
    let headers = [("idempotency-key", key)];
    send(address, Method::POST, path, &headers, body.to_string()).await
}

pub(crate) fn replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == "true"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_stored_answer_byte_for_byte() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let mut calls = 0;
    for (path, body) in [
        ("/v1/messages", messages("claude", false, "tell me")),
        ("/v1/messages", messages("claude", true, "tell me")),
        ("/v1/chat/completions", chat("gpt", false, "tell me")),
        ("/v1/chat/completions", chat("gpt", true, "tell me")),
    ] {
        calls += 1;
        let key = format!("key-{calls}");
        let first = call(at, path, &key, &body).await;
        first.assert_whole();
        assert!(!replayed(&first));
        // Quoted, as the draft has it, it is the same key.
        for key in [key.clone(), format!("\"{key}\"")] {
            let again = call(at, path, &key, &body).await;
            assert!(replayed(&again), "{again:?}");
            assert_eq!((again.status, &again.text), (200, &first.text));
            for name in ["content-type", "holdfast-exchange", "holdfast-target"] {
                assert_eq!(again.header(name), first.header(name), "{name}");
            }
        }
        assert_eq!(one.requests().len(), calls);
    }
    assert_eq!(two.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_under_the_key_is_refused_and_changes_nothing() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me");
    let first = call(at, "/v1/messages", "k", &body).await;
    for other in [
        messages("claude", true, "tell me"),
        messages("claude", false, "tell me more"),
    ] {
        let refused = call(at, "/v1/messages", "k", &other).await;
        refused.assert_fault(422, "HF-027");
    }
    assert_eq!(call(at, "/v1/messages", "k", &body).await.text, first.text);
    assert_eq!(one.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_callers_at_once_make_one_call() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"slow-headers:300".parse().unwrap());
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    for stream in [false, true] {
        let body = messages("claude", stream, "tell me");
        let before = one.requests().len();
        let key = format!("stream-{stream}");
        let calls = (0..20).map(|_| {
            let (key, body) = (key.clone(), body.clone());
            tokio::spawn(async move { call(at, "/v1/messages", &key, &body).await })
        });
        let calls: Vec<_> = calls.collect();
        let mut texts = Vec::new();
        for call in calls {
            let answer = call.await.unwrap();
            answer.assert_whole();
            texts.push(answer.text);
        }
        texts.dedup();
        assert_eq!(texts.len(), 1, "all callers have the same bytes");
        assert_eq!(one.requests().len() - before, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_runs_on_when_its_caller_hangs_up() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"slow-headers:300".parse().unwrap());
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me");
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nIdempotency-Key: gone\r\nContent-Length: {}\r\n\r\n{body}",
        body.to_string().len()
    );
    let caller: TcpStream = raw(at, &request).await;
    until("the vendor is asked", || one.requests().len() == 1).await;
    drop(caller);
    let answer = call(at, "/v1/messages", "gone", &body).await;
    answer.assert_whole();
    assert!(replayed(&answer));
    assert_eq!(one.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_and_a_step_are_a_key() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me").to_string();
    let step = |step: &'static str| {
        let headers = [("holdfast-run", "r1"), ("holdfast-step", step)];
        let body = body.clone();
        async move { send(at, Method::POST, "/v1/messages", &headers, body).await }
    };
    let first = step("draft").await;
    first.assert_whole();
    assert!(replayed(&step("draft").await));
    assert!(!replayed(&step("check").await));
    assert_eq!(one.requests().len(), 2);
    let alone = [("holdfast-step", "draft")];
    let refused = send(at, Method::POST, "/v1/messages", &alone, body.clone()).await;
    refused.assert_fault(400, "HF-026");
    let store = kept.store.clone();
    let booked = || async {
        let exchange = store.exchange(first.header("holdfast-exchange")).await;
        exchange.unwrap()
    };
    let mut row = booked().await;
    while row.is_none() {
        tokio::task::yield_now().await;
        row = booked().await;
    }
    let row = row.unwrap();
    assert_eq!(
        (row.run.as_deref(), row.step.as_deref()),
        (Some("r1"), Some("draft"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_own_mistake_is_not_kept() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me");
    one.set_fault(&"status:400".parse().unwrap());
    let refused = call(at, "/v1/messages", "k", &body).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    one.set_fault(&"ok".parse().unwrap());
    let answer = call(at, "/v1/messages", "k", &body).await;
    answer.assert_whole();
    assert!(!replayed(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_could_answer_is_a_ticket_and_then_an_answer() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let policy = "defaults: {attempts_per_target: 1, retry_after: 1ms}";
    let kept = kept(&two_vendors(&one, &two, policy)).await;
    let at = kept.gateway.address;
    for stream in [false, true] {
        let body = messages("claude", stream, "tell me");
        let key = format!("stream-{stream}");
        one.set_fault(&"status:500".parse().unwrap());
        two.set_fault(&"status:500".parse().unwrap());
        let failed = call(at, "/v1/messages", &key, &body).await;
        failed.assert_fault(502, "HF-013");
        assert!(failed.text.contains("ticket"), "{failed:?}");
        let tickets = kept.store.tickets(&TicketFilter::default()).await.unwrap();
        assert_eq!(tickets[0].kind, holdfast_store::TicketKind::Call);
        let ticket = kept.store.ticket(&tickets[0].id).await.unwrap().unwrap();
        let content = ticket.content.unwrap();
        let request = KeptRequest::from_bytes(&content).unwrap();
        assert_eq!(request.body, body.to_string().into_bytes());
        one.set_fault(&"ok".parse().unwrap());
        let answer = call(at, "/v1/messages", &key, &body).await;
        answer.assert_whole();
        let after = kept.store.ticket(&ticket.id).await.unwrap().unwrap();
        assert_eq!(after.state, holdfast_store::TicketState::Resolved);
        assert!(replayed(&call(at, "/v1/messages", &key, &body).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_route_keeps_all_a_call_needs_no_key_for_it() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let policy = "defaults: {attempts_per_target: 1, tickets: all}";
    let kept = kept(&two_vendors(&one, &two, policy)).await;
    one.set_fault(&"status:500".parse().unwrap());
    two.set_fault(&"status:500".parse().unwrap());
    let body = messages("claude", false, "tell me");
    let failed = kept.gateway.post("/v1/messages", &body).await;
    failed.assert_fault(502, "HF-013");
    let find = || async { kept.store.tickets(&TicketFilter::default()).await.unwrap() };
    let mut tickets = find().await;
    while tickets.is_empty() {
        tokio::task::yield_now().await;
        tickets = find().await;
    }
    assert_eq!(tickets.len(), 1);
    assert_eq!(tickets[0].subject, failed.header("holdfast-exchange"));
    assert_eq!(tickets[0].key, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_holds_back_what_it_refuses() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let policy = "defaults: {gate: {must_contain: ['no vendor says this'], asks: 1}}";
    let kept = kept(&two_vendors(&one, &two, policy)).await;
    let body = messages("claude", false, "tell me");
    let refused = call(kept.gateway.address, "/v1/messages", "k", &body).await;
    refused.assert_fault(502, "HF-033");
    assert_eq!((one.requests().len(), two.requests().len()), (2, 2));
    let tickets = kept.store.tickets(&TicketFilter::default()).await.unwrap();
    assert_eq!(tickets[0].kind, holdfast_store::TicketKind::Gate);
    // A stream that is not held is shown, and flagged.
    let body = messages("claude", true, "tell me");
    let shown = kept.gateway.post("/v1/messages", &body).await;
    shown.assert_whole();
    let id = shown.header("holdfast-exchange");
    let ledger = kept.gateway.handle.ledger();
    until("it is settled", || ledger.find(id).is_some()).await;
    let flagged = ledger.find(id).unwrap().flagged.clone();
    assert!(flagged.unwrap().contains("must_contain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_may_be_refused_while_the_first_runs() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"slow-headers:300".parse().unwrap());
    let policy = "defaults: {idempotency: {repeats: refuse}}";
    let kept = kept(&two_vendors(&one, &two, policy)).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me");
    let first = {
        let body = body.clone();
        tokio::spawn(async move { call(at, "/v1/messages", "k", &body).await })
    };
    until("the vendor is asked", || one.requests().len() == 1).await;
    let refused = call(at, "/v1/messages", "k", &body).await;
    refused.assert_fault(409, "HF-028");
    first.await.unwrap().assert_whole();
    assert!(replayed(&call(at, "/v1/messages", "k", &body).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_be_fetched_later() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"slow-headers:300".parse().unwrap());
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me").to_string();
    for key in [None, Some("own/key")] {
        let mut headers = vec![("prefer", "respond-async")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let accepted = send(at, Method::POST, "/v1/messages", &headers, body.clone()).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let place = accepted.header("location").to_owned();
        let mut answer = kept.gateway.get(&place).await;
        while answer.status == 202 {
            answer = kept.gateway.get(&place).await;
        }
        answer.assert_whole();
    }
    let missing = kept.gateway.get("/v1/calls/nothing").await;
    missing.assert_fault(404, "HF-031");
}

/// A 202 is a promise that outlives this process: also of a call that somebody waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_waited_for_is_promised_for_later_once_it_is_kept() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"slow-headers:300".parse().unwrap());
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me");
    let first = {
        let body = body.clone();
        tokio::spawn(async move { call(at, "/v1/messages", "k", &body).await })
    };
    until("the vendor is asked", || one.requests().len() == 1).await;
    let headers = [("prefer", "respond-async"), ("idempotency-key", "k")];
    let joined = send(at, Method::POST, "/v1/messages", &headers, body.to_string()).await;
    assert_eq!(joined.status, 202, "{joined:?}");
    first.await.unwrap().assert_whole();
    let fetched = kept.gateway.get("/v1/calls/k").await;
    fetched.assert_whole();
    assert!(replayed(&fetched));
    assert_eq!(one.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_accepted_is_answered_or_lies_before_a_person() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    for (model, is_answered) in [("claude", true), ("gone", false)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdfast.db");
        let request = KeptRequest {
            path: "/v1/messages".to_owned(),
            dialect: "anthropic".to_owned(),
            route: model.to_owned(),
            delivery: "guarded".to_owned(),
            body: messages(model, false, "tell me").to_string().into_bytes(),
            ..KeptRequest::default()
        };
        let id = KeyId {
            scope: String::new(),
            key: "k".to_owned(),
        };
        let dying = (path.clone(), id.clone(), request.to_bytes());
        let died = move || accept_and_die(dying.0, dying.1, dying.2);
        tokio::task::spawn_blocking(died).await.unwrap();
        let store = loop {
            // The lock of the dead comes free a moment later.
            match try_open(&path).await {
                Ok(store) => break store,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let gateway = Running::start(&two_vendors(&one, &two, ""));
        tokio::spawn(gateway.handle.mount_store(store.clone(), LEASE));
        let mut answer = gateway.get("/v1/calls/k").await;
        while answer.status == 202 {
            answer = gateway.get("/v1/calls/k").await;
        }
        if is_answered {
            answer.assert_whole();
        } else {
            answer.assert_fault(503, "HF-030");
            let tickets = store.tickets(&TicketFilter::default()).await.unwrap();
            assert_eq!(tickets[0].subject, "accepted");
            let ticket = store.ticket(&tickets[0].id).await.unwrap().unwrap();
            assert_eq!(ticket.content, Some(request.to_bytes()));
        }
    }
    assert_eq!(one.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_keys_are_refused_and_nothing_is_sent() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me");
    let long = "k".repeat(256);
    for key in ["", "\"\"", "\"open", "a\tb", &long] {
        let refused = call(at, "/v1/messages", key, &body).await;
        refused.assert_fault(400, "HF-026");
    }
    assert_eq!(one.requests().len() + two.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_keyed_calls_are_refused_and_others_go_on() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let body = messages("claude", false, "tell me");
    let refused = call(gateway.address, "/v1/messages", "k", &body).await;
    refused.assert_fault(503, "HF-029");
    assert_eq!(one.requests().len(), 0);
    gateway.post("/v1/messages", &body).await.assert_whole();
    let ready = gateway.get("/readyz").await.json();
    assert_eq!(
        (&ready["status"], &ready["store"]),
        (&json!("ready"), &json!("none"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_has_keys_of_its_own() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let callers = "callers: [{name: a, key: key-of-caller-a}, {name: b, key: key-of-caller-b}]";
    let kept = kept(&two_vendors(&one, &two, callers)).await;
    let at = kept.gateway.address;
    let body = messages("claude", false, "tell me").to_string();
    let as_caller = |key: &'static str| {
        let headers = [("x-api-key", key), ("idempotency-key", "shared")];
        let body = body.clone();
        async move { send(at, Method::POST, "/v1/messages", &headers, body).await }
    };
    assert!(!replayed(&as_caller("key-of-caller-a").await));
    assert!(!replayed(&as_caller("key-of-caller-b").await));
    assert!(replayed(&as_caller("key-of-caller-a").await));
    assert_eq!(one.requests().len(), 2);
}

/// Whoever comes in the middle of a stream gets it from its first byte, and follows it live.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_joins_a_stream_in_its_middle() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"trickle:25".parse().unwrap());
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let at = kept.gateway.address;
    let body = messages("claude", true, "[[seed:7 words:60]] tell me");
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: {}\r\n\r\n{body}",
        body.to_string().len()
    );
    let mut first: TcpStream = raw(at, &request).await;
    let mut seen = Vec::new();
    while String::from_utf8_lossy(&seen).matches("text_delta").count() < 3 {
        assert_ne!(first.read_buf(&mut seen).await.unwrap(), 0);
    }
    let mut second: TcpStream = raw(at, &request).await;
    let mut joined = Vec::new();
    while String::from_utf8_lossy(&joined)
        .matches("text_delta")
        .count()
        < 3
    {
        assert_ne!(second.read_buf(&mut joined).await.unwrap(), 0);
    }
    assert_eq!(one.stats().open_streams, 1, "it is still under way");
    first.read_to_end(&mut seen).await.unwrap();
    second.read_to_end(&mut joined).await.unwrap();
    let part = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), unchunked(body))
    };
    let ((first_head, first), (head, joined)) = (part(seen), part(joined));
    assert!(!first_head.contains("idempotent-replayed"));
    assert!(head.contains("idempotent-replayed: true"), "{head}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(joined, first);
    assert!(joined.contains("event: message_stop"), "{joined}");
    // Afterwards it is a stream again, and the same one.
    let replay = call(at, "/v1/messages", "k", &body).await;
    replay.assert_whole();
    assert!(replayed(&replay));
    let kind = replay.header("content-type");
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    assert_eq!(replay.text, first);
    assert_eq!(one.requests().len(), 1);
}

/// The body of a chunked response.
fn unchunked(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&rest[..length]);
        chunks = &rest[length + 2..];
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_forgotten_after_its_routes_own_time() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let config = two_vendors(&one, &two, "defaults: {idempotency: {expiry: 2h}}").replace(
        "{model: gpt*,",
        "{model: gpt*, idempotency: {expiry: 500ms},",
    );
    let kept = kept(&config).await;
    let at = kept.gateway.address;
    let (long, short) = (messages("claude", false, "x"), chat("gpt", false, "x"));
    call(at, "/v1/messages", "long", &long).await.assert_whole();
    call(at, "/v1/chat/completions", "short", &short)
        .await
        .assert_whole();
    let left = async |key: &str| {
        let id = KeyId {
            scope: String::new(),
            key: key.to_owned(),
        };
        let row = kept.store.key(&id).await.unwrap().unwrap();
        row.expires.since(row.created)
    };
    let hours = left("long").await;
    assert!(hours >= Duration::from_hours(2) && hours < Duration::from_hours(3));
    assert!(left("short").await < Duration::from_hours(1));
    let again = async || call(at, "/v1/chat/completions", "short", &short).await;
    let mut answer = again().await;
    while replayed(&answer) {
        answer = again().await;
    }
    answer.assert_whole();
    assert!(replayed(&call(at, "/v1/messages", "long", &long).await));
    assert_eq!(one.requests().len(), 3);
}
