//! Calls that were accepted to be answered later are made, or lie before a person: whatever happens to
//! the process, to the configuration, or to the place that they need.

use std::path::Path;
use std::time::Duration;

use holdfast_store::{Options, Place, Store};
use http::Method;
use tokio::runtime::Handle;

use crate::rig::{Answer, Running, WATCHDOG, messages, send, two_vendors, until, vendor};

/// Calls of the dead are looked for this often.
const SOON: Duration = Duration::from_millis(20);

async fn open(path: &Path) -> Store {
    let options = Options::new(Place::Sqlite(path.to_owned()));
    Store::open(options, Handle::current()).await.unwrap()
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
