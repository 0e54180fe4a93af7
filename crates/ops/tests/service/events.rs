//! The stream of events: whole, in order, resumed without a gap, ended with the gateway.

use std::time::Duration;

use holdfast_core::fault::Code;
use holdfast_ops::Terms;
use http::StatusCode;

use crate::harness::{Bench, get, open, open_with, post};

async fn happen(bench: &Bench, scope: &str, name: &str) {
    let declared = format!(r#"{{"id":"{name}"}}"#);
    bench.ok(post("/v1/runs", &declared).by(scope)).await;
    let end = post(&format!("/v1/runs/{name}/end"), r#"{"state":"done"}"#);
    bench.ok(end.by(scope)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_resumed_without_a_gap_or_a_double() {
    let bench = open().await;
    for place in 0..250 {
        happen(&bench, "alice", &format!("r{place}")).await;
    }
    let mut seen = Vec::new();
    let mut last = 0;
    // Cut off again and again, at odd places, with new events in between.
    for round in 0..20_usize {
        let asked = get("/v1/events?after=0").with("last-event-id", &last.to_string());
        let mut stream = bench.stream(asked).await;
        for _ in 0..13 {
            let (id, event) = stream.event().await.unwrap();
            assert!(id > last, "{id} after {last}");
            last = id;
            seen.push(event["subject"].as_str().unwrap().to_owned());
        }
        drop(stream);
        happen(&bench, "alice", &format!("r{}", 250 + round)).await;
    }
    let mut stream = bench.stream(get(&format!("/v1/events?after={last}"))).await;
    while seen.len() < 270 {
        let (_, event) = stream.event().await.unwrap();
        seen.push(event["subject"].as_str().unwrap().to_owned());
    }
    let expected: Vec<String> = (0..270).map(|place| format!("r{place}")).collect();
    assert_eq!(seen, expected);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_while_the_stream_is_open() {
    let bench = open().await;
    happen(&bench, "alice", "before").await;
    let mut stream = bench.stream(get("/v1/events")).await;
    let first = stream.block().await.unwrap();
    assert_eq!(first, "retry: 1000\nid: 1", "behind what was there");
    let (next, ()) = tokio::join!(stream.event(), happen(&bench, "alice", "new"));
    let (id, event) = next.unwrap();
    assert_eq!((id, &event["seq"]), (2, &2.into()));
    assert_eq!(event["kind"], "run.ended");
    assert_eq!(event["subject"], "new");
    assert_eq!(event["at"], bench.now().0);
    assert_eq!(event["data"]["state"], "done");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_reviewer_hears_of_others() {
    let bench = open().await;
    happen(&bench, "bob", "bobs").await;
    happen(&bench, "alice", "alices").await;
    let mut own = bench.stream(get("/v1/events?after=0")).await;
    assert_eq!(own.event().await.unwrap().1["subject"], "alices");
    let mut all = bench.stream(get("/v1/events?after=0").reviewer()).await;
    assert_eq!(all.event().await.unwrap().1["subject"], "bobs");
    assert_eq!(all.event().await.unwrap().1["subject"], "alices");
    let mut bobs = bench
        .stream(get("/v1/events?after=0&scope=bob").reviewer())
        .await;
    assert_eq!(bobs.event().await.unwrap().1["subject"], "bobs");
    let (code, _) = bench.refused(get("/v1/events?scope=bob")).await;
    assert_eq!(code, Code::Forbidden);
    drop((own, all, bobs));
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_the_gateway_goes_down() {
    let bench = open().await;
    let mut stream = bench.stream(get("/v1/events")).await;
    stream.block().await.unwrap();
    let going = async { bench.go_down() };
    let (block, ()) = tokio::join!(stream.block(), going);
    assert_eq!(block.unwrap(), ": going down");
    assert_eq!(stream.block().await, None);
    let (code, _) = bench.refused(get("/v1/events")).await;
    assert_eq!(code, Code::Draining);
    bench.down().await;
}

/// Its reader takes nothing, so that there is nothing to wait for but the end of the patience.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_cut_off_and_going_down_does_not_wait_for_it() {
    let terms = Terms {
        stall: Duration::from_millis(10),
        ..Terms::default()
    };
    let bench = open_with(terms).await;
    for place in 0..400 {
        happen(&bench, "alice", &format!("r{place}")).await;
    }
    let mut stream = bench.stream(get("/v1/events?after=0")).await;
    let (mut last, mut count) = (0, 0);
    // It reads on at last, and finds an end after what was held for it.
    bench.settled().await;
    while let Some((id, _)) = stream.event().await {
        last = id;
        count += 1;
    }
    assert!(count > 0 && count < 400, "{count} events");
    let mut rest = bench
        .stream(get("/v1/events").with("last-event-id", &last.to_string()))
        .await;
    assert_eq!(rest.event().await.unwrap().0, last + 1);
    let patient = Terms {
        stall: Duration::from_hours(1),
        ..Terms::default()
    };
    bench.ops.set_terms(patient);
    let _unread = bench.stream(get("/v1/events?after=0")).await;
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_filled_with_comments() {
    let terms = Terms {
        keep_alive: Duration::from_millis(5),
        ..Terms::default()
    };
    let bench = open_with(terms).await;
    let mut stream = bench.stream(get("/v1/events")).await;
    stream.block().await.unwrap();
    assert_eq!(stream.block().await.unwrap(), ": still here");
    assert_eq!(stream.block().await.unwrap(), ": still here");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_limited_and_free_again_when_their_reader_has_gone() {
    let terms = Terms {
        streams: 1,
        keep_alive: Duration::from_millis(5),
        ..Terms::default()
    };
    let bench = open_with(terms).await;
    let one = bench.stream(get("/v1/events")).await;
    let (code, _) = bench.refused(get("/v1/events")).await;
    assert_eq!(code, Code::Overloaded);
    drop(one);
    bench.settled().await;
    let mut other = bench.stream(get("/v1/events")).await;
    assert!(other.block().await.is_some());
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_number_is_refused() {
    let bench = open().await;
    for asked in [
        get("/v1/events?after=x"),
        get("/v1/events?after=-1"),
        get("/v1/events?after=99999999999999999999"),
        get("/v1/events").with("last-event-id", "abc"),
    ] {
        assert_eq!(bench.refused(asked).await.0, Code::InvalidRequest);
    }
    let reply = bench.ops_head(get("/v1/events")).await;
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    assert_eq!(reply.headers()["cache-control"], "no-store");
    drop(reply);
    bench.down().await;
}

/// More than one page, and more while it is open: each number once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn one_stream_tells_each_event_once() {
    let bench = open().await;
    for place in 0..120 {
        happen(&bench, "alice", &format!("r{place}")).await;
    }
    let mut stream = bench.stream(get("/v1/events?after=0")).await;
    for expected in 1..=120 {
        assert_eq!(stream.event().await.unwrap().0, expected);
    }
    for expected in 121..=125 {
        happen(&bench, "alice", &format!("r{expected}")).await;
        assert_eq!(stream.event().await.unwrap().0, expected);
    }
    bench.down().await;
}
