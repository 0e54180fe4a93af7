//! Model calls make the run that they name, and are signs of its life.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_core::time::Wall;
use holdfast_store::{NewRun, Run, RunState, Store};
use http::Method;

use crate::keyed::{Kept, kept};
use crate::rig::{Answer, messages, send, two_vendors, vendor};

fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Wall(i64::try_from(since.as_millis()).unwrap())
}

async fn call(kept: &Kept, headers: &[(&'static str, &str)]) -> Answer {
    let body = messages("claude", false, "tell me").to_string();
    let answer = send(
        kept.gateway.address,
        Method::POST,
        "/v1/messages",
        headers,
        body,
    )
    .await;
    answer.assert_whole();
    answer
}

/// The run, as soon as it was seen after `at`.
async fn seen(store: &Store, id: &str, at: Wall) -> Run {
    loop {
        let run = store.run("", id).await.unwrap();
        if let Some(run) = run.filter(|run| run.seen > at) {
            return run;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_makes_the_run_that_it_names() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(&one, &two, "")).await;
    call(&kept, &[]).await;
    // With a key it is there before the vendor is asked.
    call(&kept, &[("holdfast-run", "keyed"), ("holdfast-step", "s")]).await;
    let run = kept.store.run("", "keyed").await.unwrap().unwrap();
    assert_eq!((run.state, run.declared), (RunState::Open, false));
    call(&kept, &[("holdfast-run", "unkeyed")]).await;
    let run = seen(&kept.store, "unkeyed", Wall(0)).await;
    assert_eq!((run.state, run.declared), (RunState::Open, false));
    let runs = kept.store.runs(&holdfast_store::RunFilter::default()).await;
    assert_eq!(runs.unwrap().len(), 2, "a call that names none makes none");
    assert_eq!(kept.gateway.metric("holdfast_signs_dropped_total"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_only_makes_model_calls_is_no_orphan() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&two_vendors(&one, &two, "")).await;
    let long_ago = Wall(now().0 - 120_000);
    let calls = [
        vec![("holdfast-run", "unkeyed")],
        vec![("holdfast-run", "keyed"), ("holdfast-step", "s")],
    ];
    for headers in calls {
        let id = headers[0].1;
        let declared = NewRun {
            scope: String::new(),
            id: id.to_owned(),
            expect: Vec::new(),
            deadline: None,
            heartbeat: Some(Duration::from_mins(1)),
            labels: std::collections::BTreeMap::default(),
            now: long_ago,
        };
        kept.store.declare_run(declared).await.unwrap();
        let quiet = kept.store.quiet_runs(now(), 10).await.unwrap();
        assert_eq!(quiet.len(), 1);
        call(&kept, &headers).await;
        seen(&kept.store, id, long_ago).await;
        assert_eq!(kept.store.quiet_runs(now(), 10).await, Ok(Vec::new()));
    }
}

/// What the drain closes is written still.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_outlives_the_drain() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let mut kept = kept(&two_vendors(&one, &two, "")).await;
    for place in 0..50 {
        let run = format!("r{place}");
        call(&kept, &[("holdfast-run", &run)]).await;
    }
    assert!(kept.gateway.drain().await.unwrap());
    kept.books.await.unwrap();
    for place in 0..50 {
        let run = kept.store.run("", &format!("r{place}")).await.unwrap();
        assert!(run.is_some(), "r{place}");
    }
}
