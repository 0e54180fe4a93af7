//! A hole in Holdfast itself: the task of a keyed call panics. In a process of its own, because a
//! failpoint is everybody's.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed anyway"
)]

#[expect(dead_code, reason = "the other tests need the rest")]
#[path = "sockets/rig.rs"]
mod rig;

use std::time::Duration;

use holdfast_store::{Options, Place, Store};
use http::Method;

use rig::{Running, messages, send, two_vendors, vendor};

/// Longer than the test: nobody's death frees a key.
const LEASE: Duration = Duration::from_mins(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_leaves_no_key_behind() {
    holdfast_gateway::failpoint::set("panic:key.before_store".to_owned());
    let (one, two) = (vendor("one").await, vendor("two").await);
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        lease: LEASE,
        ..Options::new(Place::Sqlite(directory.path().join("holdfast.db")))
    };
    let store = Store::open(options, tokio::runtime::Handle::current())
        .await
        .unwrap();
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    tokio::spawn(gateway.handle.mount_store(store, LEASE));
    let body = messages("claude", false, "tell me").to_string();
    let call = async || {
        let headers = [("idempotency-key", "k")];
        let at = gateway.address;
        send(at, Method::POST, "/v1/messages", &headers, body.clone()).await
    };
    call().await.assert_fault(500, "HF-023");
    // The key comes free by itself; the repeat waits for that.
    call().await.assert_whole();
    assert_eq!(one.requests().len(), 2);
    let replay = call().await;
    replay.assert_whole();
    assert_eq!(replay.header("idempotent-replayed"), "true");
    gateway.at_rest().await;
}
