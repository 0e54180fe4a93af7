//! Addresses that an effect must not reach, in every way that they can be written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_effects::{Failpoint, Resolve};

use crate::house::{House, at, dir};
use crate::site::Site;

const EFFECT: &str = r#"{"target":"t","path":"/v1/a","payload":1}"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_writing_it_reaches_this_machine() {
    let site = Site::start([]).await;
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0x7f.0.0.1",
        "017700000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ] {
        let mut target = at("t", host, site.address.port(), true);
        target.allow_private = false;
        target.attempts = 1;
        let (_dir, path) = dir();
        let house = House::open(&path, [target]).await;
        let reply = house.post(EFFECT).await.unwrap();
        assert_eq!(reply.text("state"), "doubt", "{host}: {}", reply.json);
        let error = reply.text("error");
        let is_refused = error.contains("allow_private") || error.contains("can't be resolved");
        assert!(is_refused, "{host}: {error}");
        assert_eq!(site.count(), 0, "{host}");
    }
}

/// Answers its addresses in turn, and counts.
fn resolver(answers: Vec<Vec<&'static str>>, asked: Arc<AtomicUsize>) -> Resolve {
    Arc::new(move |_, port| {
        let at = asked.fetch_add(1, Ordering::SeqCst);
        let found: Vec<SocketAddr> = answers[at.min(answers.len() - 1)]
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), port))
            .collect();
        Box::pin(async move { Ok(found) })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_one_private_address_is_refused_whole() {
    let site = Site::start([]).await;
    for addresses in [
        vec!["127.0.0.1"],
        vec!["127.0.0.1", "8.8.8.8"],
        vec!["::ffff:127.0.0.1", "8.8.8.8"],
        vec![],
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let resolve = resolver(vec![addresses.clone()], asked.clone());
        let mut target = at("t", "rebind.example", site.address.port(), true);
        target.allow_private = false;
        target.attempts = 1;
        let (_dir, path) = dir();
        let mut house = House::with(&path, [target], Failpoint::default(), resolve).await;
        house.begin();
        let reply = house.post(EFFECT).await.unwrap();
        assert_eq!(reply.text("state"), "doubt", "{addresses:?}");
        assert!(
            reply.text("error").contains("nothing was sent"),
            "{addresses:?}"
        );
        assert_eq!((site.count(), asked.load(Ordering::SeqCst)), (0, 1));
    }
}

/// What was checked is what is connected to: the name is asked for once.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_once_for_each_attempt() {
    let site = Site::start([]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = vec![vec!["127.0.0.1"], vec!["127.0.0.2"]];
    let resolve = resolver(answers, asked.clone());
    let target = at("t", "rebind.example", site.address.port(), true);
    let (_dir, path) = dir();
    let mut house = House::with(&path, [target], Failpoint::default(), resolve).await;
    house.begin();
    let reply = house.post(EFFECT).await.unwrap();
    assert_eq!(reply.text("state"), "done", "{}", reply.json);
    assert_eq!((site.count(), asked.load(Ordering::SeqCst)), (1, 1));
}
