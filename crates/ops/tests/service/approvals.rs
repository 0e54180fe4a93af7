//! Approvals: asked once, waited for, decided once.

use std::time::Duration;

use holdfast_core::fault::Code;
use holdfast_ops::Terms;
use holdfast_store::{TicketFilter, TicketKind, TicketState};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{BEGIN, Bench, get, open, open_with, post};

const PATH: &str = "/v1/approvals";

async fn asked(bench: &Bench, body: &str) -> String {
    let reply = bench.send(post(PATH, body)).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    reply.json["id"].as_str().unwrap().to_owned()
}

fn one(id: &str) -> String {
    format!("{PATH}/{id}")
}

fn decide(id: &str) -> String {
    format!("{PATH}/{id}/decide")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_asked_waited_for_and_decided() {
    let bench = open().await;
    let body = r#"{"question":" Send 3 mails? ","context":{"to":["a"]},"deadline":"1h","default":"reject"}"#;
    let reply = bench
        .send(post(PATH, body).with("holdfast-run", "nightly"))
        .await;
    assert_eq!(reply.status, StatusCode::CREATED);
    let id = reply.json["id"].as_str().unwrap();
    assert_eq!(reply.headers["location"], one(id));
    assert_eq!(reply.json["question"], "Send 3 mails?");
    assert_eq!(reply.json["choices"], json!(["approve", "reject"]));
    assert_eq!(reply.json["deadline"], BEGIN + 3_600_000);
    assert_eq!(reply.json["context"]["to"][0], "a");
    assert_eq!(bench.ok(get("/v1/runs/nightly")).await["declared"], false);
    let shown = bench.ok(get(&one(id))).await;
    assert_eq!(
        shown["state"], "open",
        "without `wait` it is answered at once"
    );

    let waiting = get(&format!("{}?wait=60s", one(id)));
    let deciding = post(
        &decide(id),
        r#"{"choice":"approve","note":"fine","by":"Eve"}"#,
    );
    let (waited, decided) = tokio::join!(bench.ok(waiting), bench.ok(deciding));
    for shown in [waited, decided] {
        assert_eq!(shown["state"], "decided");
        assert_eq!(shown["choice"], "approve");
        assert_eq!(shown["note"], "fine");
        assert_eq!(shown["decided_by"], "Eve (alice)");
    }
    let late = post(&decide(id), r#"{"choice":"reject"}"#);
    let (code, message) = bench.refused(late).await;
    assert_eq!(code, Code::Conflict);
    assert!(message.contains("`approve`, by Eve (alice)"), "{message}");
    let open = bench.ok(get("/v1/approvals?state=open")).await;
    assert_eq!(open["approvals"], json!([]));
    let listed = bench.ok(get("/v1/approvals?run=nightly")).await;
    assert_eq!(listed["approvals"][0]["id"], id);
    assert_eq!(listed["approvals"][0].get("context"), None);
    bench.down().await;
}

/// The waiter is polled until it waits, then somebody decides: it has to be woken.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_is_woken_by_the_decision() {
    let bench = open().await;
    let id = asked(&bench, r#"{"question":"?"}"#).await;
    let mut rings = bench.store.event_signal();
    let mut waiting = Box::pin(bench.ok(get(&format!("{}?wait=60s", one(&id)))));
    let other = asked(&bench, r#"{"question":"another"}"#);
    // Rung by another question, it goes on waiting.
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("nothing was decided"),
        _ = other => {}
    }
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("nothing was decided"),
        rung = rings.changed() => rung.unwrap(),
    }
    let deciding = bench.ok(post(&decide(&id), r#"{"choice":"reject"}"#));
    let (waited, _) = tokio::join!(waiting, deciding);
    assert_eq!(waited["choice"], "reject");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_with_its_time_and_with_the_gateway() {
    let bench = open().await;
    let id = asked(&bench, r#"{"question":"?"}"#).await;
    let shown = bench.ok(get(&format!("{}?wait=20ms", one(&id)))).await;
    assert_eq!(shown["state"], "open");
    assert_eq!(
        bench.ok(get(&format!("{}?wait=0s", one(&id)))).await["state"],
        "open"
    );
    let waiting = bench.ok(get(&format!("{}?wait=60s", one(&id))));
    let going = async { bench.go_down() };
    let (shown, ()) = tokio::join!(waiting, going);
    assert_eq!(shown["state"], "open");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_question() {
    let bench = open().await;
    let body = r#"{"question":"Send?","context":{"b":1,"a":2},"deadline":"10m"}"#;
    let first = bench
        .send(post(PATH, body).with("idempotency-key", "\"k 1\""))
        .await;
    assert_eq!(first.status, StatusCode::CREATED);
    bench.pass(60);
    let keyed = r#"{"question":"Send?","context":{"a":2,"b":1},"deadline":"10m","key":"k 1"}"#;
    let again = bench.send(post(PATH, keyed)).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.json, first.json);
    for other in [
        r#"{"question":"Send!","context":{"b":1,"a":2},"deadline":"10m","key":"k 1"}"#,
        r#"{"question":"Send?","context":{"b":1,"a":2},"key":"k 1"}"#,
        r#"{"question":"Send?","context":{"b":2,"a":2},"deadline":"10m","key":"k 1"}"#,
        r#"{"question":"Send?","context":{"b":1,"a":2},"deadline":"10m","key":"k 1","choices":["a"]}"#,
    ] {
        let (code, _) = bench.refused(post(PATH, other)).await;
        assert_eq!(code, Code::KeyReused, "{other}");
    }
    let bobs = bench
        .send(post(PATH, body).with("idempotency-key", "k 1").by("bob"))
        .await;
    assert_eq!(
        bobs.status,
        StatusCode::CREATED,
        "another caller's key is another key"
    );
    let two = post(PATH, keyed).with("idempotency-key", "k 2");
    assert_eq!(bench.refused(two).await.0, Code::KeyInvalid);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_can_not_decide_twice() {
    let bench = open().await;
    let id = asked(&bench, r#"{"question":"?","choices":["a","b"]}"#).await;
    let (a, b) = tokio::join!(
        bench.try_send(post(&decide(&id), r#"{"choice":"a"}"#)),
        bench.try_send(post(&decide(&id), r#"{"choice":"b"}"#).by("bob").reviewer()),
    );
    let taken = [a.unwrap().is_ok(), b.unwrap().is_ok()];
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    let shown = bench.ok(get(&one(&id))).await;
    assert_eq!(shown["choice"], if taken[0] { "a" } else { "b" });
    let kinds = bench.events().await;
    let decided = kinds.iter().filter(|kind| *kind == "approval.decided");
    assert_eq!(decided.count(), 1);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_claimed_the_ticket_decides() {
    let bench = open().await;
    let id = asked(&bench, r#"{"question":"?"}"#).await;
    let ticket = bench.ok(get(&one(&id))).await["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let until = bench.now() + Duration::from_mins(10);
    let claim = bench
        .store
        .claim_ticket(&ticket, "eve", None, until, bench.now())
        .await
        .unwrap();
    let holdfast_store::TicketClaim::Claimed { fence } = claim else {
        panic!("{claim:?}");
    };
    let (code, _) = bench
        .refused(post(&decide(&id), r#"{"choice":"approve"}"#))
        .await;
    assert_eq!(code, Code::Conflict);
    let body = json!({"choice": "approve", "fence": fence}).to_string();
    assert_eq!(
        bench.ok(post(&decide(&id), &body)).await["choice"],
        "approve"
    );
    bench.down().await;
}

/// The fence of a claim that is over decides nothing, whether the claim was cleared away or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_has_ended_decides_nothing() {
    let bench = open().await;
    let id = asked(&bench, r#"{"question":"?"}"#).await;
    let ticket = bench.ok(get(&one(&id))).await["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let until = bench.now() + Duration::from_secs(1);
    let claim = bench
        .store
        .claim_ticket(&ticket, "eve", None, until, bench.now())
        .await
        .unwrap();
    let holdfast_store::TicketClaim::Claimed { fence } = claim else {
        panic!("{claim:?}");
    };
    bench.pass(1);
    let body = json!({"choice": "approve", "fence": fence}).to_string();
    let (code, message) = bench.refused(post(&decide(&id), &body)).await;
    assert_eq!(code, Code::Conflict, "{message}");
    bench.ops.expire().await.unwrap();
    let (code, message) = bench.refused(post(&decide(&id), &body)).await;
    assert_eq!(code, Code::Conflict, "{message}");
    let decided = bench.ok(post(&decide(&id), r#"{"choice":"reject"}"#)).await;
    assert_eq!(decided["choice"], "reject");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_chooses_the_default_or_nothing_once() {
    let bench = open().await;
    let with = asked(
        &bench,
        r#"{"question":"?","deadline":"10m","default":"reject"}"#,
    )
    .await;
    let without = asked(&bench, r#"{"question":"?","deadline":"10m"}"#).await;
    bench.pass(599);
    assert_eq!(bench.ops.check().await.unwrap().approvals, 0);
    bench.pass(1);
    let (code, message) = bench
        .refused(post(&decide(&with), r#"{"choice":"approve"}"#))
        .await;
    assert_eq!(code, Code::Conflict);
    assert!(message.contains("deadline has passed"), "{message}");
    let waiting = get(&format!("{}?wait=60s", one(&with)));
    let (waited, checked) = tokio::join!(bench.ok(waiting), bench.ops.check());
    assert_eq!(checked.unwrap().approvals, 2);
    assert_eq!(waited["state"], "decided");
    assert_eq!(
        (&waited["choice"], &waited["decided_by"]),
        (&"reject".into(), &"timeout".into())
    );
    let expired = bench.ok(get(&one(&without))).await;
    assert_eq!(
        (&expired["state"], &expired["choice"]),
        (&"expired".into(), &Value::Null)
    );
    let late = post(&decide(&without), r#"{"choice":"approve"}"#);
    assert_eq!(bench.refused(late).await.0, Code::Conflict);
    assert_eq!(bench.ops.check().await.unwrap().approvals, 0);
    let open = TicketFilter {
        kind: Some(TicketKind::Approval),
        state: Some(TicketState::Open),
        ..TicketFilter::default()
    };
    assert_eq!(bench.store.tickets(&open).await.unwrap(), []);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_approval_is_not_found() {
    let bench = open().await;
    let id = asked(&bench, r#"{"question":"?"}"#).await;
    assert_eq!(
        bench.refused(get(&one(&id)).by("bob")).await.0,
        Code::NotFound
    );
    let deciding = post(&decide(&id), r#"{"choice":"approve"}"#);
    assert_eq!(
        bench.refused(deciding.clone().by("bob")).await.0,
        Code::NotFound
    );
    assert_eq!(bench.ok(get(PATH).by("bob")).await["approvals"], json!([]));
    let decided = bench.ok(deciding.by("bob").reviewer()).await;
    assert_eq!(decided["decided_by"], "bob");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_questions_are_refused_and_store_nothing() {
    let bench = open().await;
    let long = json!({"question": "x".repeat(10_001)}).to_string();
    let huge = json!({"question": "?", "context": "x".repeat(1 << 20)}).to_string();
    for (body, expected) in [
        ("", Code::InvalidRequest),
        ("{", Code::InvalidRequest),
        (r#"{"question":1}"#, Code::InvalidRequest),
        (r#"{"question":" "}"#, Code::InvalidRequest),
        (r#"{"question":"?","choices":[]}"#, Code::InvalidRequest),
        (
            r#"{"question":"?","choices":["a","a"]}"#,
            Code::InvalidRequest,
        ),
        (r#"{"question":"?","choices":[""]}"#, Code::InvalidRequest),
        (
            r#"{"question":"?","choices":["a\nb"]}"#,
            Code::InvalidRequest,
        ),
        (
            r#"{"question":"?","default":"approve"}"#,
            Code::InvalidRequest,
        ),
        (
            r#"{"question":"?","default":"maybe","deadline":"1m"}"#,
            Code::InvalidRequest,
        ),
        (
            r#"{"question":"?","deadline":"soon"}"#,
            Code::InvalidRequest,
        ),
        (r#"{"question":"?","key":""}"#, Code::KeyInvalid),
        (r#"{"question":"?","urgent":true}"#, Code::InvalidRequest),
        (long.as_str(), Code::InvalidRequest),
        (huge.as_str(), Code::BodyTooLarge),
    ] {
        let (code, message) = bench.refused(post(PATH, body)).await;
        assert_eq!(code, expected, "{body:.100}: {message}");
    }
    for (header, value) in [
        ("holdfast-run", ""),
        ("holdfast-run", "tab\tin it"),
        ("holdfast-step", " "),
        ("holdfast-step", "no run"),
        ("idempotency-key", "\"open"),
    ] {
        let asked = post(PATH, r#"{"question":"?"}"#).with(header, value);
        assert_eq!(bench.refused(asked).await.0, Code::KeyInvalid, "{header}");
    }
    let id = asked(&bench, r#"{"question":"?"}"#).await;
    let count = bench.events().await.len();
    for (body, expected) in [
        ("", Code::InvalidRequest),
        (r#"{"choice":"maybe"}"#, Code::InvalidRequest),
        (r#"{"choice":"approve","by":""}"#, Code::InvalidRequest),
        (r#"{"choice":"approve","fence":77}"#, Code::Conflict),
    ] {
        assert_eq!(
            bench.refused(post(&decide(&id), body)).await.0,
            expected,
            "{body}"
        );
    }
    for wait in ["soon", "-1s", "10"] {
        let asked = get(&format!("{}?wait={wait}", one(&id)));
        assert_eq!(bench.refused(asked).await.0, Code::InvalidRequest, "{wait}");
    }
    assert_eq!(bench.events().await.len(), count);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_expires_with_its_ticket_and_wakes_who_waits() {
    let bench = open().await;
    let id = asked(&bench, r#"{"question":"?"}"#).await;
    bench.pass(7 * 24 * 3600);
    let waiting = get(&format!("{}?wait=60s", one(&id)));
    let (waited, expired) = tokio::join!(bench.ok(waiting), bench.ops.expire());
    assert_eq!(waited["state"], "expired");
    assert!(expired.unwrap() >= 1);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_gone_is_told_and_ends_streams() {
    let bench = open_with(Terms {
        keep_alive: Duration::from_millis(5),
        ..Terms::default()
    })
    .await;
    let id = asked(&bench, r#"{"question":"?"}"#).await;
    let mut stream = bench.stream(get("/v1/events?after=0")).await;
    stream.event().await.unwrap();
    bench.store.close().await;
    for asked in [
        get(&one(&id)),
        get("/v1/runs"),
        post(PATH, r#"{"question":"?"}"#),
        post("/v1/runs", ""),
        get("/v1/events"),
    ] {
        assert_eq!(bench.refused(asked).await.0, Code::StoreUnavailable);
    }
    let mut last = String::new();
    while let Some(block) = stream.block().await {
        last = block;
    }
    assert_eq!(last, ": the store is unavailable");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_and_a_step_are_a_key() {
    let bench = open().await;
    let ask = |step: &str, body: &str| {
        post(PATH, body)
            .with("holdfast-run", "nightly")
            .with("holdfast-step", step)
    };
    let first = bench.send(ask("send", r#"{"question":"Send?"}"#)).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(first.json["key"], "nightly/send");
    let again = bench.send(ask("send", r#"{"question":"Send?"}"#)).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.json["id"], first.json["id"]);
    let other = ask("send", r#"{"question":"Really?"}"#);
    assert_eq!(bench.refused(other).await.0, Code::KeyReused);
    // Another step, another caller, a key that is said: other questions.
    let others = [
        ask("check", r#"{"question":"Send?"}"#),
        ask("send", r#"{"question":"Send?"}"#).by("bob"),
        ask("send", r#"{"question":"Send?","key":"k"}"#),
    ];
    for asked in others {
        assert_eq!(bench.send(asked).await.status, StatusCode::CREATED);
    }
    // A run alone is none.
    for _ in 0..2 {
        let asked = post(PATH, r#"{"question":"Send?"}"#).with("holdfast-run", "nightly");
        assert_eq!(bench.send(asked).await.status, StatusCode::CREATED);
    }
    bench.down().await;
}
