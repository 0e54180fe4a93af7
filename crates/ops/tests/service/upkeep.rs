//! Orphans are found once, signs of life keep runs, and what is over is forgotten.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::time::Wall;
use holdfast_ops::{Checked, Ops, Terms};
use holdfast_store::{TicketFilter, TicketKind};
use serde_json::json;

use crate::harness::{Bench, get, open, open_working, post, put};

async fn orphans(bench: &Bench) -> usize {
    bench.ops.check().await.unwrap().orphans
}

async fn run_tickets(bench: &Bench) -> Vec<holdfast_store::Ticket> {
    let filter = TicketFilter {
        kind: Some(TicketKind::Run),
        ..TicketFilter::default()
    };
    bench.store.tickets(&filter).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_past_its_deadline_is_an_orphan_once() {
    let bench = open().await;
    let declared = r#"{"id":"nightly","expect":["a","b"],"deadline":"10m"}"#;
    bench.ok(post("/v1/runs", declared)).await;
    bench
        .ok(put("/v1/runs/nightly/steps/a", r#"{"do":"begin"}"#))
        .await;
    bench
        .ok(put(
            "/v1/runs/nightly/steps/a",
            r#"{"do":"complete","fence":1}"#,
        ))
        .await;
    bench.pass(599);
    assert_eq!(orphans(&bench).await, 0);
    bench.pass(1);
    assert_eq!(orphans(&bench).await, 1);
    assert_eq!(orphans(&bench).await, 0);
    let run = bench.ok(get("/v1/runs/nightly")).await;
    assert_eq!(run["state"], "orphaned");
    let tickets = run_tickets(&bench).await;
    assert_eq!(tickets.len(), 1);
    assert_eq!(run["ticket"], tickets[0].id.as_str());
    assert_eq!(tickets[0].subject, "alice/nightly");
    assert_eq!(tickets[0].facts["missing"], json!(["b"]));
    assert_eq!(tickets[0].facts["done"], json!(["a"]));
    let title = &tickets[0].title;
    assert_eq!(
        title,
        "the run `nightly` was to end by 2026-11-24T02:30:38.000Z"
    );
    let kinds = bench.events().await;
    let orphaned = kinds.iter().filter(|kind| *kind == "run.orphaned");
    assert_eq!(orphaned.count(), 1, "{kinds:?}");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signs_of_life_keep_a_run_and_bring_it_back() {
    let bench = open().await;
    bench
        .ok(post("/v1/runs", r#"{"id":"r","heartbeat":"1m"}"#))
        .await;
    for _ in 0..3 {
        bench.pass(59);
        assert_eq!(orphans(&bench).await, 0);
        bench.ok(post("/v1/runs/r/heartbeat", "")).await;
    }
    bench.pass(59);
    // A step is one as well.
    bench
        .ok(put("/v1/runs/r/steps/s", r#"{"do":"begin"}"#))
        .await;
    bench.pass(59);
    assert_eq!(orphans(&bench).await, 0);
    bench.pass(31);
    assert_eq!(orphans(&bench).await, 1);
    let tickets = run_tickets(&bench).await;
    assert_eq!(tickets[0].title, "the run `r` has been silent for 90s");
    assert_eq!(tickets[0].facts["running"], json!(["s"]));
    let run = bench.ok(post("/v1/runs/r/heartbeat", "")).await;
    assert_eq!(run["state"], "open", "it was only slow");
    bench.pass(60);
    assert_eq!(orphans(&bench).await, 1, "and it can go quiet again");
    assert_eq!(run_tickets(&bench).await.len(), 2);
    bench.down().await;
}

/// Names may have slashes: two runs whose scopes and names make the same text are two.
#[tokio::test(flavor = "multi_thread")]
async fn every_orphan_has_a_ticket_of_its_own() {
    let bench = open().await;
    let runs = [("a", "b/c"), ("a/b", "c"), ("a%2Fb", "c")];
    for (scope, run) in runs {
        let body = json!({"id": run, "deadline": "1m"}).to_string();
        bench.send(post("/v1/runs", &body).by(scope)).await;
    }
    bench.pass(61);
    assert_eq!(orphans(&bench).await, runs.len());
    let tickets = bench.store.tickets(&TicketFilter::default()).await.unwrap();
    let mut whose: Vec<_> = tickets
        .iter()
        .map(|ticket| (ticket.scope.as_str(), ticket.run.as_deref().unwrap()))
        .collect();
    whose.sort_unstable();
    assert_eq!(whose, [("a", "b/c"), ("a%2Fb", "c"), ("a/b", "c")]);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_or_undeclared_run_is_no_orphan() {
    let bench = open().await;
    bench
        .ok(post("/v1/runs", r#"{"id":"ended","deadline":"1m"}"#))
        .await;
    bench
        .ok(post("/v1/runs/ended/end", r#"{"state":"failed"}"#))
        .await;
    bench
        .ok(put("/v1/runs/seen/steps/s", r#"{"do":"begin"}"#))
        .await;
    bench.pass(1_000_000);
    assert_eq!(orphans(&bench).await, 0);
    bench.down().await;
}

/// As two replicas on one database: both look at the same moment, many times.
#[tokio::test(flavor = "multi_thread")]
async fn two_watches_make_one_orphan() {
    let bench = open().await;
    let now = bench.now();
    let clock = Arc::new(move || Wall(now.0 + 3_600_000));
    let replicas: Vec<Arc<Ops>> = (0..4)
        .map(|_| {
            Ops::new(
                bench.store.clone(),
                Vec::new(),
                Arc::new(()),
                Terms::default(),
                clock.clone(),
            )
        })
        .collect();
    for place in 0..30 {
        let body = format!(r#"{{"id":"run {place}","deadline":"1m"}}"#);
        bench.ok(post("/v1/runs", &body)).await;
        let body = r#"{"question":"?","deadline":"1m","default":"reject"}"#;
        bench.send(post("/v1/approvals", body)).await;
    }
    let looks: Vec<_> = replicas
        .into_iter()
        .map(|ops| tokio::spawn(async move { ops.check().await.unwrap() }))
        .collect();
    let mut all = Checked::default();
    for look in looks {
        let checked = look.await.unwrap();
        all.orphans += checked.orphans;
        all.approvals += checked.approvals;
    }
    assert_eq!((all.orphans, all.approvals), (30, 30));
    assert_eq!(run_tickets(&bench).await.len(), 30);
    let kinds = bench.events().await;
    let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
    assert_eq!(count("run.orphaned"), 30);
    assert_eq!(count("approval.decided"), 30);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_forgotten() {
    let bench = open().await;
    bench.ok(post("/v1/runs", r#"{"id":"old"}"#)).await;
    bench
        .ok(post("/v1/runs/old/end", r#"{"state":"done"}"#))
        .await;
    assert_eq!(bench.ops.expire().await.unwrap(), 0);
    bench.pass(91 * 24 * 3600);
    assert!(bench.ops.expire().await.unwrap() >= 2);
    assert_eq!(bench.ok(get("/v1/runs")).await["runs"], json!([]));
    assert!(bench.events().await.is_empty());
    assert_eq!(bench.ops.expire().await.unwrap(), 0);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_works_by_itself_until_the_gateway_goes_down() {
    let soon = Duration::from_millis(1);
    let bench = open_working(Terms {
        check_every: soon,
        expire_every: soon,
        ..Terms::default()
    })
    .await;
    bench
        .ok(post("/v1/runs", r#"{"id":"quiet","deadline":"1m"}"#))
        .await;
    let mut stream = bench.stream(get("/v1/events?after=0")).await;
    bench.pass(60);
    let (_, event) = stream.event().await.unwrap();
    assert_eq!(event["kind"], "ticket.opened");
    let (_, event) = stream.event().await.unwrap();
    assert_eq!(
        (&event["kind"], &event["subject"]),
        (&"run.orphaned".into(), &"quiet".into())
    );
    // Events of long ago go without being asked for; the orphan's ticket stays.
    bench.pass(8 * 24 * 3600);
    while !bench.events().await.is_empty() {
        tokio::task::yield_now().await;
    }
    let tickets = run_tickets(&bench).await;
    assert_eq!(tickets[0].state, holdfast_store::TicketState::Open);
    bench.down().await;
}

/// A run with as much as can be said of one.
async fn heavy(bench: &Bench) {
    let name = |place: usize, long: usize| format!("{place}{}", "\u{1}".repeat(long - 4));
    let labels = (0..64).map(|place| (name(place + 100, 999), "\u{1}".repeat(1000)));
    let labels: std::collections::BTreeMap<String, String> = labels.collect();
    let step = |place: usize| format!("{place}{}", "\u{1f980}".repeat(124));
    let expect: Vec<String> = (0..1000).map(step).collect();
    let declared = json!({"id": "heavy", "expect": expect, "deadline": "1m", "labels": labels});
    bench.ok(post("/v1/runs", &declared.to_string())).await;
    for place in 0..150 {
        let path = format!("/v1/runs/heavy/steps/s{place}");
        bench.ok(put(&path, r#"{"do":"begin"}"#)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_all_that_can_be_said_of_one_has_a_ticket() {
    let bench = open().await;
    heavy(&bench).await;
    bench.pass(60);
    assert_eq!(orphans(&bench).await, 1);
    let facts = &run_tickets(&bench).await[0].facts;
    for (name, more) in [("missing", 900), ("running", 50)] {
        assert_eq!(facts[name].as_array().unwrap().len(), 100, "{name}");
        assert_eq!(facts["more"][name], more, "{name}");
    }
    assert_eq!(facts["more"]["done"], json!(null));
    assert!(!facts["labels"].as_object().unwrap().is_empty());
    bench.down().await;
}

/// What can't be made an orphan is in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_run_does_not_stop_the_watch() {
    let bench = open().await;
    let bad = holdfast_store::NewRun {
        // With the run's name, no ticket takes it for its subject.
        scope: "s".repeat(1000),
        id: "r".repeat(100),
        expect: Vec::new(),
        deadline: Some(bench.now()),
        heartbeat: None,
        labels: std::collections::BTreeMap::default(),
        now: bench.now(),
    };
    bench.store.declare_run(bad).await.unwrap();
    for id in ["a", "b"] {
        let declared = format!(r#"{{"id":"{id}","deadline":"1m"}}"#);
        bench.ok(post("/v1/runs", &declared)).await;
    }
    let body = r#"{"question":"?","deadline":"1m","default":"reject"}"#;
    let asked = bench.send(post("/v1/approvals", body)).await;
    bench.pass(60);
    assert!(bench.ops.check().await.is_err(), "it is told");
    assert_eq!(run_tickets(&bench).await.len(), 2);
    let path = format!("/v1/approvals/{}", asked.json["id"].as_str().unwrap());
    assert_eq!(bench.ok(get(&path)).await["state"], "decided");
    bench.down().await;
}
