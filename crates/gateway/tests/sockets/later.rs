//! Calls that were accepted to be answered later are made, or lie before a person: whatever happens to
//! the process, to the configuration, or to the place that they need.

use std::path::Path;
use std::time::Duration;

use holdfast_core::time::Wall;
use holdfast_store::{Claimed, KeptRequest, KeyId, KeyState, NewClaim, Options, Place, Store};
use holdfast_store::{TicketFilter, TicketKind};
use http::Method;
use tokio::runtime::Handle;

use crate::rig::{Answer, Running, WATCHDOG, messages, send, two_vendors, until, vendor};

/// Calls of the dead are looked for this often.
const SOON: Duration = Duration::from_millis(20);

async fn open(path: &Path) -> Store {
    let options = Options::new(Place::Sqlite(path.to_owned()));
    Store::open(options, Handle::current()).await.unwrap()
}

/// A store in which a dead process has left the accepted call `k` of `scope`.
async fn with_an_accepted_call(path: &Path, scope: &str, model: &str) -> Store {
    let store = open(path).await;
    let body = messages(model, false, "tell me").to_string();
    let kept = KeptRequest {
        path: "/v1/messages".to_owned(),
        dialect: "anthropic".to_owned(),
        route: model.to_owned(),
        delivery: "whole".to_owned(),
        body: body.into_bytes(),
        ..KeptRequest::default()
    };
    let claim = NewClaim {
        id: key(scope),
        fingerprint: [7; 32],
        exchange: "e".to_owned(),
        request: Some(kept.to_bytes()),
        run: Some("nightly".to_owned()),
        step: None,
        now: Wall(0),
        expires: Wall(i64::MAX),
    };
    let claimed = store.claim_key(claim).await;
    assert!(matches!(claimed, Ok(Claimed::Fresh { .. })), "{claimed:?}");
    store.close().await;
    open(path).await
}

fn key(scope: &str) -> KeyId {
    KeyId {
        scope: scope.to_owned(),
        key: "k".to_owned(),
    }
}

fn mount(gateway: &Running, store: &Store) {
    tokio::spawn(gateway.handle.mount_store(store.clone(), SOON));
}

/// What is there for the caller once the call has ended.
async fn fetched(gateway: &Running) -> Answer {
    let fetching = async {
        loop {
            let answer = gateway.get("/v1/calls/k").await;
            if answer.status != 202 {
                return answer;
            }
        }
    };
    let fetched = tokio::time::timeout(WATCHDOG, fetching).await;
    fetched.expect("an accepted call is never answered")
}

/// Waits until the key is so.
async fn stands(store: &Store, is_so: impl Fn(&KeyState) -> bool) {
    let standing = async {
        while !is_so(&store.key(&key("")).await.unwrap().unwrap().state) {
            tokio::task::yield_now().await;
        }
    };
    let standing = tokio::time::timeout(WATCHDOG, standing).await;
    standing.expect("the key never stands so");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_call_waits_for_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdfast.db");
    let (one, two) = (vendor("one").await, vendor("two").await);
    let store = with_an_accepted_call(&path, "", "claude").await;
    let gateway = Running::start(&two_vendors(&one, &two, "limits: {in_flight: 1}"));
    one.set_fault(&"hang-before-headers".parse().unwrap());
    let at = gateway.address;
    let body = messages("claude", false, "the only place").to_string();
    let other = tokio::spawn(send(at, Method::POST, "/v1/messages", &[], body));
    until("the only place is taken", || one.requests().len() == 1).await;
    mount(&gateway, &store);
    // It was taken over and given back; it is not gone.
    let me = store.owner().to_owned();
    stands(&store, |state| match state {
        KeyState::Running { owner, alive } => !alive && *owner != me && owner.is_empty(),
        KeyState::Done(_) | KeyState::Ticketed { .. } => panic!("there was no place: {state:?}"),
    })
    .await;
    one.set_fault(&"ok".parse().unwrap());
    other.abort();
    fetched(&gateway).await.assert_whole();
    assert_eq!(one.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_call_that_can_not_be_made_lies_before_a_person() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    for (scope, model, code) in [
        ("", "no-such-model", "HF-003"),
        ("key:0", "claude", "HF-006"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdfast.db");
        let store = with_an_accepted_call(&path, scope, model).await;
        let gateway = Running::start(&two_vendors(&one, &two, ""));
        mount(&gateway, &store);
        let find = async || store.tickets(&TicketFilter::default()).await.unwrap();
        let waiting = async {
            while find().await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let waiting = tokio::time::timeout(WATCHDOG, waiting).await;
        waiting.expect("there is no ticket");
        let id = find().await.remove(0).id;
        let ticket = store.ticket(&id).await.unwrap().unwrap();
        assert_eq!(
            (ticket.kind, ticket.scope.as_str()),
            (TicketKind::Call, scope)
        );
        assert_eq!(
            (ticket.key, ticket.subject.as_str()),
            (Some(key(scope)), "e")
        );
        assert_eq!(ticket.run.as_deref(), Some("nightly"));
        assert_eq!(ticket.facts["code"], code);
        let kept = KeptRequest::from_bytes(&ticket.content.unwrap()).unwrap();
        assert_eq!(kept.route, model);
        let state = store.key(&key(scope)).await.unwrap().unwrap().state;
        assert_eq!(state, KeyState::Ticketed { ticket: id });
    }
    assert_eq!(one.requests().len() + two.requests().len(), 0);
}

/// The first caller waits, the second one is told that it may come back: so it may, even if the process
/// dies that made the call for the first one.
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_and_is_told_to_come_back_finds_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdfast.db");
    let (one, two) = (vendor("one").await, vendor("two").await);
    let config = two_vendors(&one, &two, "");
    let store = open(&path).await;
    let first = Running::start(&config);
    mount(&first, &store);
    one.set_fault(&"hang-before-headers".parse().unwrap());
    let body = messages("claude", false, "tell me").to_string();
    let at = first.address;
    let call = |headers: &'static [(&'static str, &'static str)]| {
        send(at, Method::POST, "/v1/messages", headers, body.clone())
    };
    let waiting = tokio::spawn(call(&[("idempotency-key", "k")]));
    until("the vendor is asked", || one.requests().len() == 1).await;
    let accepted = call(&[("idempotency-key", "k"), ("prefer", "respond-async")]).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    waiting.abort();
    // Its process is dead, as others see it.
    store.close().await;

    one.set_fault(&"ok".parse().unwrap());
    let store = open(&path).await;
    let next = Running::start(&config);
    mount(&next, &store);
    fetched(&next).await.assert_whole();
    assert_eq!(one.requests().len(), 2);
}
