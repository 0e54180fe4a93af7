//! Runs: declared, seen, shown whole, ended.

use std::time::Duration;

use holdfast_core::fault::Code;
use holdfast_core::time::Wall;
use holdfast_ops::Terms;
use holdfast_store::{BookedExchange, EffectEnd, EffectResult, NewEffect, Recorded};
use serde_json::{Value, json};

use crate::harness::{BEGIN, Bench, get, open, open_with, post, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_declared_shown_and_ended() {
    let bench = open().await;
    let declared = r#"{"id":"nightly","expect":["fetch","draft","fetch"],"deadline":"10m","heartbeat":"1m","labels":{"team":"a"}}"#;
    let run = bench.ok(post("/v1/runs", declared)).await;
    assert_eq!(run["state"], "open");
    assert_eq!(run["declared"], true);
    assert_eq!(run["expect"], json!(["fetch", "draft"]));
    assert_eq!(run["deadline"], BEGIN + 600_000);
    assert_eq!(run["heartbeat"], "1m");
    assert_eq!(run["labels"]["team"], "a");
    bench.pass(5);
    let run = bench.ok(post("/v1/runs/nightly/heartbeat", "")).await;
    assert_eq!(run["seen"], BEGIN + 5000);
    let whole = bench.ok(get("/v1/runs/nightly")).await;
    assert_eq!(whole["missing"], json!(["fetch", "draft"]));
    let end = post("/v1/runs/nightly/end", r#"{"state":"done"}"#);
    assert_eq!(bench.ok(end.clone()).await["ended"], BEGIN + 5000);
    bench.pass(5);
    assert_eq!(
        bench.ok(end).await["ended"],
        BEGIN + 5000,
        "ending twice is no mistake"
    );
    let other = post("/v1/runs/nightly/end", r#"{"state":"failed"}"#);
    let (code, message) = bench.refused(other).await;
    assert_eq!(code, Code::Conflict);
    assert!(message.contains("it is done"), "{message}");
    let beat = post("/v1/runs/nightly/heartbeat", "");
    assert_eq!(bench.refused(beat).await.0, Code::Conflict);
    assert_eq!(bench.events().await, ["run.ended"]);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_comes_from_the_body_the_header_or_holdfast() {
    let terms = Terms {
        heartbeat: Some(Duration::from_mins(3)),
        ..Terms::default()
    };
    let bench = open_with(terms).await;
    let run = bench
        .ok(post("/v1/runs", "").with("holdfast-run", "größer 7"))
        .await;
    assert_eq!(run["id"], "größer 7");
    assert_eq!(run["heartbeat"], "3m", "the configuration's");
    let path = "/v1/runs/gr%C3%B6%C3%9Fer%207";
    assert_eq!(bench.ok(get(path)).await["id"], "größer 7");
    let named = post("/v1/runs", r#"{"id":"mine"}"#).with("holdfast-run", "other");
    assert_eq!(bench.ok(named).await["id"], "mine");
    let made = bench.ok(post("/v1/runs", "")).await["id"].clone();
    assert_eq!(made.as_str().unwrap().len(), 32);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_declarations_are_refused_and_store_nothing() {
    let bench = open().await;
    let many = format!(r#"{{"expect":[{}"x"]}}"#, r#""s","#.repeat(1000));
    let labels: serde_json::Map<String, Value> = (0..65)
        .map(|place| (place.to_string(), json!("")))
        .collect();
    let labels = json!({"labels": labels}).to_string();
    let long = json!({"labels": {"a": "x".repeat(1001)}}).to_string();
    for (body, expected) in [
        ("{", Code::InvalidRequest),
        (r#"{"name":"a"}"#, Code::InvalidRequest),
        (r#"{"id":""}"#, Code::KeyInvalid),
        (r#"{"id":"a\u0000"}"#, Code::KeyInvalid),
        (r#"{"expect":[""]}"#, Code::KeyInvalid),
        (r#"{"deadline":"yesterday"}"#, Code::InvalidRequest),
        (
            r#"{"deadline":"2020-01-01T00:00:00Z"}"#,
            Code::InvalidRequest,
        ),
        (r#"{"heartbeat":"0s"}"#, Code::InvalidRequest),
        (r#"{"heartbeat":"31d"}"#, Code::InvalidRequest),
        (r#"{"labels":{"a":1}}"#, Code::InvalidRequest),
        (many.as_str(), Code::InvalidRequest),
        (labels.as_str(), Code::InvalidRequest),
        (long.as_str(), Code::InvalidRequest),
    ] {
        let (code, message) = bench.refused(post("/v1/runs", body)).await;
        assert_eq!(code, expected, "{body}: {message}");
    }
    for (path, body, expected) in [
        (
            "/v1/runs/a/end",
            r#"{"state":"open"}"#,
            Code::InvalidRequest,
        ),
        ("/v1/runs/a/end", "", Code::InvalidRequest),
        ("/v1/runs/a/end", r#"{"state":"done"}"#, Code::NotFound),
        ("/v1/runs/a/heartbeat", "", Code::NotFound),
        ("/v1/runs/a", "", Code::MethodNotAllowed),
        ("/v1/runs/a/b", "", Code::UnknownPath),
    ] {
        assert_eq!(
            bench.refused(post(path, body)).await.0,
            expected,
            "{path} {body}"
        );
    }
    for query in [
        "limit=0",
        "limit=501",
        "limit=x",
        "state=gone",
        "after=x",
        "after=1/",
    ] {
        let (code, _) = bench.refused(get(&format!("/v1/runs?{query}"))).await;
        assert_eq!(code, Code::InvalidRequest, "{query}");
    }
    assert_eq!(bench.ok(get("/v1/runs")).await["runs"], json!([]));
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_page_by_page_and_only_the_own() {
    let bench = open().await;
    for place in 0..5 {
        bench
            .ok(post("/v1/runs", &format!(r#"{{"id":"run {place}"}}"#)))
            .await;
        bench.pass(place % 2);
    }
    bench
        .ok(post("/v1/runs", r#"{"id":"bobs"}"#).by("bob"))
        .await;
    let mut seen = Vec::new();
    let mut path = "/v1/runs?limit=2".to_owned();
    loop {
        let page = bench.ok(get(&path)).await;
        let runs = page["runs"].as_array().unwrap();
        seen.extend(
            runs.iter()
                .map(|run| run["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/runs?limit=2&after={}", next.replace(' ', "%20"));
    }
    assert_eq!(seen, ["run 4", "run 3", "run 2", "run 1", "run 0"]);
    let all = bench.ok(get("/v1/runs").reviewer()).await;
    assert_eq!(all["runs"].as_array().unwrap().len(), 6);
    let bobs = bench.ok(get("/v1/runs?scope=bob").reviewer()).await;
    assert_eq!(bobs["runs"][0]["id"], "bobs");
    let hidden = bench.ok(get("/v1/runs?scope=bob")).await;
    assert_eq!(hidden["runs"], json!([]));
    bench
        .ok(post("/v1/runs/run%201/end", r#"{"state":"failed"}"#))
        .await;
    let failed = bench.ok(get("/v1/runs?state=failed")).await;
    assert_eq!(failed["runs"][0]["id"], "run 1");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_run_is_not_found() {
    let bench = open().await;
    bench.ok(post("/v1/runs", r#"{"id":"mine"}"#)).await;
    for asked in [
        get("/v1/runs/mine"),
        get("/v1/runs/mine?scope=alice"),
        post("/v1/runs/mine/heartbeat", ""),
        post("/v1/runs/mine/end?scope=alice", r#"{"state":"done"}"#),
    ] {
        let (code, message) = bench.refused(asked.by("bob")).await;
        assert_eq!(code, Code::NotFound);
        assert_eq!(message, "there is no run `mine`");
    }
    let theirs = get("/v1/runs/mine?scope=alice").by("bob").reviewer();
    assert_eq!(bench.ok(theirs).await["state"], "open");
    bench.down().await;
}

async fn effect(bench: &Bench) {
    let now = bench.now();
    let new = NewEffect {
        id: "e1".to_owned(),
        scope: "alice".to_owned(),
        key: "k".to_owned(),
        fingerprint: [0; 32],
        target: "billing".to_owned(),
        payload: b"{}".to_vec(),
        headers: Vec::new(),
        run: Some("nightly".to_owned()),
        step: Some("send".to_owned()),
        requires: Vec::new(),
        due: now,
        expires: now + Duration::from_hours(1),
        now,
    };
    let recorded = bench.store.record_effect(new).await.unwrap();
    assert!(matches!(recorded, Recorded::Fresh(_)));
    bench.pass(1);
    let claimed = bench
        .store
        .claim_effects("billing", bench.now(), 1)
        .await
        .unwrap();
    let result = EffectResult {
        status: 200,
        headers: Vec::new(),
        body: Vec::new(),
    };
    let end = EffectEnd::Done(result);
    let ended = bench
        .store
        .finish_effect("e1", claimed[0].fence, end, bench.now())
        .await;
    assert!(ended.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_tells_everything_in_order() {
    let bench = open().await;
    let declared = r#"{"id":"nightly","expect":["draft","send","report"]}"#;
    bench.ok(post("/v1/runs", declared)).await;
    bench.pass(1);
    bench
        .ok(put("/v1/runs/nightly/steps/draft", r#"{"do":"begin"}"#))
        .await;
    bench.pass(1);
    let booked = BookedExchange {
        id: "x1".to_owned(),
        at: bench.now(),
        scope: "alice".to_owned(),
        route: "writer".to_owned(),
        run: Some("nightly".to_owned()),
        step: Some("draft".to_owned()),
        outcome: "whole".to_owned(),
        json: r#"{"attempts":[]}"#.to_owned(),
    };
    let foreign = BookedExchange {
        id: "x2".to_owned(),
        scope: "bob".to_owned(),
        ..booked.clone()
    };
    bench.store.book(vec![booked, foreign]).await.unwrap();
    bench.pass(1);
    bench
        .ok(put(
            "/v1/runs/nightly/steps/draft",
            r#"{"do":"complete","fence":1}"#,
        ))
        .await;
    bench.pass(1);
    let question = post("/v1/approvals", r#"{"question":"Send?"}"#);
    let question = question
        .with("holdfast-run", "nightly")
        .with("holdfast-step", "send");
    let id = bench.send(question).await.json["id"]
        .as_str()
        .unwrap()
        .to_owned();
    bench.pass(1);
    let decide = post(
        &format!("/v1/approvals/{id}/decide"),
        r#"{"choice":"approve"}"#,
    );
    bench.ok(decide).await;
    bench.pass(1);
    effect(&bench).await;
    bench.pass(1);
    bench
        .ok(post("/v1/runs/nightly/end", r#"{"state":"done"}"#))
        .await;

    let run = bench.ok(get("/v1/runs/nightly")).await;
    assert_eq!(run["missing"], json!(["send", "report"]));
    assert_eq!(run["exchanges"][0]["facts"], json!({"attempts": []}));
    assert_eq!(
        run["exchanges"].as_array().unwrap().len(),
        1,
        "only the own"
    );
    assert_eq!(run["cut"], false);
    let timeline = run["timeline"].as_array().unwrap();
    let told: Vec<(i64, &str, Option<&str>)> = timeline
        .iter()
        .map(|entry| {
            let at = entry["at"].as_i64().unwrap() - BEGIN;
            (
                at / 1000,
                entry["kind"].as_str().unwrap(),
                entry["step"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (0, "run.declared", None),
            (1, "step.begun", Some("draft")),
            (2, "exchange", Some("draft")),
            (3, "step.done", Some("draft")),
            (4, "ticket.opened", Some("send")),
            (4, "approval.asked", Some("send")),
            (5, "ticket.decided", Some("send")),
            (5, "approval.decided", Some("send")),
            (6, "effect.recorded", Some("send")),
            (7, "effect.done", Some("send")),
            (8, "run.ended", None),
        ]
    );
    assert_eq!(timeline[2]["id"], "x1");
    assert_eq!(timeline[7]["text"], "approve, by alice");
    let seen = Wall(run["seen"].as_i64().unwrap());
    assert!(seen <= bench.now());
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_keeps_attempts_that_failed() {
    let bench = open().await;
    let step = "/v1/runs/nightly/steps/draft";
    bench.ok(put(step, r#"{"do":"begin","lease":"10s"}"#)).await;
    bench.pass(1);
    bench
        .ok(put(step, r#"{"do":"fail","fence":1,"error":"no network"}"#))
        .await;
    bench.pass(1);
    bench.ok(put(step, r#"{"do":"begin","lease":"10s"}"#)).await;
    bench.pass(20);
    bench.ok(put(step, r#"{"do":"begin"}"#)).await;
    bench.pass(1);
    bench.ok(put(step, r#"{"do":"complete","fence":3}"#)).await;
    let run = bench.ok(get("/v1/runs/nightly")).await;
    let told = run["timeline"].as_array().unwrap().iter();
    let told = told.map(|entry| {
        let at = entry["at"].as_i64().unwrap() - BEGIN;
        (at / 1000, entry["kind"].clone(), entry["text"].clone())
    });
    let expected = [
        (0, "run.seen", "nightly"),
        (0, "step.begun", ""),
        (1, "step.failed", "no network"),
        (2, "step.begun_again", "attempt 2"),
        (12, "step.lapsed", ""),
        (22, "step.begun_again", "attempt 3"),
        (23, "step.done", ""),
    ];
    let expected = expected.map(|(at, kind, text)| (at, json!(kind), json!(text)));
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let failures = json!([
        {"attempt": 1, "begun": BEGIN, "at": BEGIN + 1000, "why": "failed", "error": "no network"},
        {"attempt": 2, "begun": BEGIN + 2000, "at": BEGIN + 12_000, "why": "lapsed", "error": ""},
    ]);
    assert_eq!(run["steps"][0]["failures"], failures);
    assert_eq!(bench.ok(get(step)).await["failures"], failures);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_list_of_steps_is_said_to_be_cut() {
    let bench = open().await;
    let mut begun = tokio::task::JoinSet::new();
    for place in 0..holdfast_store::MAX_STEPS {
        let (store, now) = (bench.store.clone(), bench.now());
        begun.spawn(async move {
            let step = format!("s{place}");
            store.begin_step("alice", "r", &step, now, now).await
        });
        if place % 500 == 499 {
            while let Some(one) = begun.join_next().await {
                one.unwrap().unwrap();
            }
        }
    }
    assert_eq!(bench.ok(get("/v1/runs/r")).await["cut"], true);
    bench.down().await;
}
