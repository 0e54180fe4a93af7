//! The process dies in each crash window; another one takes over.

use std::panic::resume_unwind;
use std::sync::Arc;

use holdfast_effects::{
    AFTER_ANSWER, AFTER_CLAIM, AFTER_SEND, BEFORE_FINISH, Failpoint, system_resolver,
};
use http::Method;
use tokio::sync::Notify;

use crate::house::{House, dir, target};
use crate::site::{Site, in_time};

const EFFECT: &str = r#"{"target":"t","path":"/v1/a","payload":{"a":1},"key":"k"}"#;

/// Dies at a place: the task that came there ends, and `reached` rings.
fn dies_at(at: &'static str, reached: Arc<Notify>) -> Failpoint {
    Failpoint::new(move |place| {
        if place == at {
            reached.notify_one();
            resume_unwind(Box::new("the process dies here"));
        }
    })
}

/// Requests that the target read before and after the death, and how it ended.
async fn killed(place: &'static str, honours_keys: bool) -> (usize, usize, String) {
    let site = Site::start([]).await;
    let targets = || [target("t", &site, honours_keys)];
    let (_dir, path) = dir();
    let reached = Arc::new(Notify::new());
    let failpoint = dies_at(place, reached.clone());
    let mut first = House::with(&path, targets(), failpoint, system_resolver()).await;
    first.begin();
    let posted = first.post_async(EFFECT).await;
    assert_eq!(posted.status, 202);
    in_time(reached.notified()).await;
    if place != AFTER_CLAIM {
        site.reached(1).await;
    }
    first.die().await;
    let before = site.count();

    let second = House::open(&path, targets()).await;
    let place = format!("/v1/effects/{}?wait=30s", posted.text("id"));
    let after = second.get(&place).await.unwrap();
    let again = second.post(EFFECT).await.unwrap();
    assert_eq!(again.text("id"), posted.text("id"));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    (before, site.count(), after.text("state").to_owned())
}

impl House {
    async fn post_async(&self, body: &str) -> crate::house::Reply {
        let headers = [("prefer", "wait=1, respond-async")];
        self.ask(Method::POST, "/v1/effects", &headers, body)
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_a_death_on_the_way_is_a_persons_matter() {
    for (place, sent) in [
        (AFTER_CLAIM, 0),
        (AFTER_SEND, 1),
        (AFTER_ANSWER, 1),
        (BEFORE_FINISH, 1),
    ] {
        let expected = (sent, sent, "doubt".to_owned());
        assert_eq!(killed(place, false).await, expected, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_it_goes_out_again_under_the_same_one() {
    for (place, sent) in [
        (AFTER_CLAIM, 0),
        (AFTER_SEND, 1),
        (AFTER_ANSWER, 1),
        (BEFORE_FINISH, 1),
    ] {
        let expected = (sent, sent + 1, "done".to_owned());
        assert_eq!(killed(place, true).await, expected, "{place}");
    }
}

/// Recorded, and the process dies before it claims: it goes out once, whatever the target.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_only_recorded_goes_out_once() {
    for honours_keys in [true, false] {
        let site = Site::start([]).await;
        let targets = || [target("t", &site, honours_keys)];
        let (_dir, path) = dir();
        let first = House::with(&path, targets(), Failpoint::default(), system_resolver()).await;
        let posted = first.post_async(EFFECT).await;
        assert_eq!(posted.text("state"), "recorded");
        first.die().await;
        let second = House::open(&path, targets()).await;
        let place = format!("/v1/effects/{}?wait=30s", posted.text("id"));
        let after = second.get(&place).await.unwrap();
        assert_eq!((after.text("state"), site.count()), ("done", 1));
    }
}

/// Stored, and the process dies before it tells: the repeat gets the stored result.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_result_is_told_to_the_repeat() {
    let site = Site::start([]).await;
    let targets = || [target("t", &site, false)];
    let (_dir, path) = dir();
    let first = House::open(&path, targets()).await;
    let told = first.post(EFFECT).await.unwrap();
    first.die().await;
    let second = House::open(&path, targets()).await;
    let again = second.post(EFFECT).await.unwrap();
    assert_eq!(again.json, told.json);
    assert_eq!((again.text("state"), site.count()), ("done", 1));
}

/// Two senders on one store: each effect goes out once.
#[tokio::test(flavor = "multi_thread")]
async fn two_senders_share_the_work() {
    const EFFECTS: usize = 200;
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let mut one = House::with(
        &path,
        [target("t", &site, false)],
        Failpoint::default(),
        system_resolver(),
    )
    .await;
    for at in 0..EFFECTS {
        let body = format!(r#"{{"target":"t","path":"/v1/a","key":"k-{at}"}}"#);
        one.post_async(&body).await;
    }
    let mut two = House::on(
        one.store.clone(),
        [target("t", &site, false)],
        Failpoint::default(),
        system_resolver(),
    );
    one.begin();
    two.begin();
    site.reached(EFFECTS).await;
    for house in [&mut one, &mut two] {
        house.drain.send_replace(true);
        house.task.take().unwrap().await.unwrap();
    }
    let mut keys: Vec<_> = site
        .seen()
        .iter()
        .map(|seen| seen.header("idempotency-key").unwrap().to_owned())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((site.count(), keys.len()), (EFFECTS, EFFECTS));
    let done = one.get("/v1/effects?state=done&limit=500").await.unwrap();
    assert_eq!(done.json["effects"].as_array().unwrap().len(), EFFECTS);
}

/// A cancelled effect is never sent, a sent one is never called cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_send_race_to_one_end() {
    const EFFECTS: usize = 60;
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let mut house = House::with(
        &path,
        [target("t", &site, false)],
        Failpoint::default(),
        system_resolver(),
    )
    .await;
    let mut ids = Vec::new();
    for at in 0..EFFECTS {
        let body = format!(r#"{{"target":"t","path":"/v1/{at}"}}"#);
        ids.push(house.post_async(&body).await.text("id").to_owned());
    }
    house.begin();
    for (at, id) in ids.iter().enumerate().rev() {
        let path = format!("/v1/effects/{id}/cancel");
        let cancelled = house.ask(Method::POST, &path, &[], "").await;
        let look = format!("/v1/effects/{id}?wait=30s");
        let state = house.get(&look).await.unwrap().text("state").to_owned();
        let sent = site.seen();
        let path = format!("/base/v1/{at}");
        let sent = sent.iter().filter(|seen| seen.path == path).count();
        match cancelled {
            Ok(_) => assert_eq!((state.as_str(), sent), ("cancelled", 0), "{at}"),
            Err(fault) => {
                assert_eq!(fault.status, 409, "{at}");
                assert_eq!((state.as_str(), sent), ("done", 1), "{at}");
            }
        }
    }
}
