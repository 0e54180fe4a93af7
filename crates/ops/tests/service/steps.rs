//! Steps: two workers, leases, fences, and results that stay.

use std::sync::Arc;

use holdfast_core::fault::Code;
use holdfast_ops::{Gates, Ops, Terms};
use http::{Method, StatusCode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{Bench, ask, get, open, open_gated, open_with, put};

const STEP: &str = "/v1/runs/nightly/steps/draft";
const BEGIN: &str = r#"{"do":"begin","lease":"60s"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_done_once_and_then_skipped() {
    let bench = open().await;
    let begun = bench.ok(put(STEP, BEGIN)).await;
    assert_eq!(
        (&begun["state"], &begun["fence"]),
        (&"begun".into(), &1.into())
    );
    assert_eq!(begun["until"], bench.now().0 + 60_000);
    assert_eq!(bench.ok(get(STEP)).await["state"], "running");
    let ended = bench
        .ok(put(
            STEP,
            r#"{"do":"complete","fence":1,"result":{"n":1.50,  "b":[1 ,2]}}"#,
        ))
        .await;
    assert_eq!(ended["state"], "done");
    // Byte for byte, blanks and digits included.
    let again = bench.send(put(STEP, BEGIN)).await;
    assert_eq!(
        again.text,
        r#"{"state":"done","fence":1,"result":{"n":1.50,  "b":[1 ,2]}}"#
    );
    let shown = bench.send(get(STEP)).await;
    assert!(
        shown.text.contains(r#""result":{"n":1.50,  "b":[1 ,2]}"#),
        "{}",
        shown.text
    );
    // The run was made by its first use.
    let run = bench.ok(get("/v1/runs/nightly")).await;
    assert_eq!(
        (&run["state"], &run["declared"]),
        (&"open".into(), &false.into())
    );
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_worker_waits_for_the_lease_and_the_first_one_is_fenced_off() {
    let bench = open().await;
    bench.ok(put(STEP, BEGIN)).await;
    bench.pass(57);
    let taken = bench.send(put(STEP, BEGIN)).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert_eq!(taken.json["state"], "running");
    assert_eq!(taken.json["until"], bench.now().0 + 3000);
    assert_eq!(taken.headers["holdfast-code"], "HF-032");
    assert_eq!(taken.headers["retry-after"], "3");
    bench.pass(3);
    assert_eq!(bench.ok(put(STEP, BEGIN)).await["fence"], 2);
    let old = put(STEP, r#"{"do":"complete","fence":1,"result":"first"}"#);
    let (code, message) = bench.refused(old).await;
    assert_eq!(code, Code::Conflict);
    assert!(message.contains("begun again"), "{message}");
    let (code, _) = bench.refused(put(STEP, r#"{"do":"fail","fence":1}"#)).await;
    assert_eq!(code, Code::Conflict);
    bench
        .ok(put(
            STEP,
            r#"{"do":"complete","fence":2,"result":"second"}"#,
        ))
        .await;
    assert_eq!(bench.ok(get(STEP)).await["result"], "second");
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_does_not_matter_while_nobody_else_has_begun() {
    let bench = open().await;
    bench.ok(put(STEP, BEGIN)).await;
    bench.pass(3600);
    bench
        .ok(put(STEP, r#"{"do":"complete","fence":1,"result":1}"#))
        .await;
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_can_be_asked_for_again_and_another_result_is_refused() {
    let bench = open().await;
    bench.ok(put(STEP, BEGIN)).await;
    let complete = put(STEP, r#"{"do":"complete","fence":1,"result":[1]}"#);
    bench.ok(complete.clone()).await;
    bench.ok(complete).await;
    let other = put(STEP, r#"{"do":"complete","fence":1,"result":[2]}"#);
    let (code, message) = bench.refused(other).await;
    assert_eq!(code, Code::Conflict);
    assert!(message.contains("another result"), "{message}");
    let (code, _) = bench
        .refused(put(STEP, r#"{"do":"fail","fence":1,"error":"no"}"#))
        .await;
    assert_eq!(code, Code::Conflict);
    assert_eq!(bench.send(get(STEP)).await.json["result"][0], 1);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_may_be_begun_again_at_once() {
    let bench = open().await;
    bench.ok(put(STEP, BEGIN)).await;
    bench
        .ok(put(STEP, r#"{"do":"fail","fence":1,"error":"no network"}"#))
        .await;
    let shown = bench.ok(get(STEP)).await;
    assert_eq!(
        (&shown["state"], &shown["error"]),
        (&"failed".into(), &"no network".into())
    );
    assert_eq!(bench.ok(put(STEP, BEGIN)).await["fence"], 2);
    let (code, _) = bench.refused(put(STEP, r#"{"do":"fail","fence":1}"#)).await;
    assert_eq!(code, Code::Conflict);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_beginners_get_one_step() {
    let bench = open().await;
    let all = (0..20).map(|_| bench.send(put(STEP, BEGIN)));
    let mut begun = 0;
    for reply in join_all(all).await {
        begun += usize::from(reply.status == StatusCode::OK);
    }
    assert_eq!(begun, 1);
    bench.down().await;
}

async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        waiting.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_changes_are_refused_and_store_nothing() {
    let bench = open_with(Terms {
        result_bytes: 10,
        ..Terms::default()
    })
    .await;
    for (body, expected) in [
        ("", Code::InvalidRequest),
        ("{", Code::InvalidRequest),
        ("[]", Code::InvalidRequest),
        (r#"{"do":"start"}"#, Code::InvalidRequest),
        (r#"{"do":"begin","lease":"0s"}"#, Code::InvalidRequest),
        (r#"{"do":"begin","lease":"25h"}"#, Code::InvalidRequest),
        (r#"{"do":"begin","lease":60}"#, Code::InvalidRequest),
        (r#"{"do":"begin","leese":"60s"}"#, Code::InvalidRequest),
        (r#"{"do":"complete","result":1}"#, Code::InvalidRequest),
        (r#"{"do":"complete","fence":"1"}"#, Code::InvalidRequest),
        (r#"{"do":"complete","fence":1,"result":1}"#, Code::NotFound),
        (r#"{"do":"fail","fence":1}"#, Code::NotFound),
        (
            r#"{"do":"complete","fence":1,"result":"12345678901"}"#,
            Code::BodyTooLarge,
        ),
    ] {
        let (code, message) = bench.refused(put(STEP, body)).await;
        assert_eq!(code, expected, "{body}: {message}");
    }
    let long = format!("/v1/runs/{}/steps/a", "x".repeat(129));
    for path in [
        long.as_str(),
        "/v1/runs/a%0Ab/steps/a",
        "/v1/runs/a/steps/%20",
        "/v1/runs/a/steps/b%7F",
    ] {
        let (code, _) = bench.refused(put(path, BEGIN)).await;
        assert_eq!(code, Code::KeyInvalid, "{path}");
    }
    assert_eq!(
        bench.ok(get("/v1/runs")).await["runs"],
        serde_json::json!([])
    );
    assert!(bench.events().await.is_empty());
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_step_is_not_found_and_not_touched() {
    let bench = open().await;
    bench.ok(put(STEP, BEGIN)).await;
    assert_eq!(bench.refused(get(STEP).by("bob")).await.0, Code::NotFound);
    let theirs = format!("{STEP}?scope=alice");
    assert_eq!(
        bench.refused(get(&theirs).by("bob")).await.0,
        Code::NotFound
    );
    let end = put(STEP, r#"{"do":"complete","fence":1,"result":0}"#).by("bob");
    assert_eq!(bench.refused(end).await.0, Code::NotFound);
    assert_eq!(
        bench.ok(get(&theirs).by("bob").reviewer()).await["state"],
        "running"
    );
    let (code, _) = bench.refused(ask(Method::DELETE, STEP, "")).await;
    assert_eq!(code, Code::MethodNotAllowed);
    bench.down().await;
}

/// Demands of each step more characters than its name has.
struct Longer;

impl Gates for Longer {
    fn check_step(&self, step: &str, result: &str) -> Result<(), String> {
        if result.chars().count() > step.chars().count() {
            return Ok(());
        }
        Err(format!("min_length: {result:?} is too short"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_fails_its_gate_is_refused_and_the_step_can_still_be_completed() {
    let bench = open_gated(Arc::new(Longer), Terms::default()).await;
    bench.ok(put(STEP, BEGIN)).await;
    for (result, seen) in [
        (r#""\u00e4bc""#, r#""äbc""#),
        // As it was written.
        ("[1 ]", r#""[1 ]""#),
        ("null", r#""null""#),
    ] {
        let body = format!(r#"{{"do":"complete","fence":1,"result":{result}}}"#);
        let refused = bench.try_send(put(STEP, &body)).await.unwrap().unwrap_err();
        assert_eq!((refused.code, refused.status), (Code::GateFailed, 422));
        let message = refused.message;
        assert!(
            message.contains(&format!("min_length: {seen}")),
            "{message}"
        );
        let shown = bench.ok(get(STEP)).await;
        assert_eq!(shown["state"], "running");
        assert_eq!(shown.get("result"), None, "{shown}");
    }
    let none = put(STEP, r#"{"do":"complete","fence":1}"#);
    assert_eq!(bench.refused(none).await.0, Code::GateFailed);
    let good = put(
        STEP,
        r#"{"do":"complete","fence":1,"result":"long enough"}"#,
    );
    bench.ok(good).await;
    assert_eq!(bench.ok(get(STEP)).await["result"], "long enough");
    // What was never begun is not found, whatever the gate says.
    let other = "/v1/runs/nightly/steps/other";
    let early = put(other, r#"{"do":"complete","fence":1,"result":""}"#);
    assert_eq!(bench.refused(early).await.0, Code::NotFound);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_came_later_changes_nothing_that_is_done() {
    let bench = open().await;
    bench.ok(put(STEP, BEGIN)).await;
    let complete = put(STEP, r#"{"do":"complete","fence":1,"result":1}"#);
    bench.ok(complete.clone()).await;
    let now = bench.now();
    let stricter = Ops::new(
        bench.store.clone(),
        Vec::new(),
        Arc::new(Longer),
        Terms::default(),
        Arc::new(move || now),
    );
    let bench = bench.with(stricter);
    assert_eq!(bench.ok(complete).await["state"], "done");
    bench.down().await;
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Begin(usize),
    Complete(usize),
    Fail(usize),
    Pass(i64),
}

fn any_moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (0_usize..2).prop_map(Move::Begin),
        (0_usize..2).prop_map(Move::Complete),
        (0_usize..2).prop_map(Move::Fail),
        (1_i64..90).prop_map(Move::Pass),
    ];
    prop::collection::vec(one, 1..25)
}

/// The store does with steps what `core::run` says, in any order of what two workers do.
#[test]
fn the_store_keeps_the_rules_of_the_core() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(open());
    let mut runner = TestRunner::new(Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    });
    let run = std::cell::Cell::new(0);
    let kept = runner.run(&any_moves(), |moves| {
        run.set(run.get() + 1);
        runtime.block_on(replay(&bench, run.get(), &moves));
        Ok(())
    });
    runtime.block_on(bench.down());
    kept.unwrap();
}

async fn replay(bench: &Bench, run: u32, moves: &[Move]) {
    use holdfast_core::run::{Begin, End, State, Step, begin, complete, fail};
    use std::time::Duration;

    let path = format!("/v1/runs/run-{run}/steps/s");
    let mut model: Option<Step> = None;
    let mut fences = [7_i64; 2];
    let mut result = None;
    for made in moves {
        let now = bench.now();
        match *made {
            Move::Pass(seconds) => bench.pass(seconds),
            Move::Begin(worker) => {
                let reply = bench.send(put(&path, BEGIN)).await;
                match begin(model, now) {
                    Begin::Go { fence } => {
                        assert_eq!(reply.json["fence"], fence, "{moves:?}");
                        assert_eq!(reply.json["state"], "begun", "{moves:?}");
                        fences[worker] = fence;
                        let until = now + Duration::from_mins(1);
                        model = Some(Step {
                            state: State::Running,
                            fence,
                            until,
                        });
                    }
                    Begin::Busy { until } => {
                        assert_eq!(reply.status, StatusCode::CONFLICT, "{moves:?}");
                        assert_eq!(reply.json["until"], until.0, "{moves:?}");
                    }
                    Begin::Done => assert_eq!(Some(reply.json["result"].clone()), result),
                }
            }
            Move::Complete(worker) | Move::Fail(worker) => {
                let fence = fences[worker];
                let is_complete = matches!(made, Move::Complete(_));
                let (end, body) = if is_complete {
                    let body = format!(r#"{{"do":"complete","fence":{fence},"result":{fence}}}"#);
                    (complete(model, fence), body)
                } else {
                    (
                        fail(model, fence),
                        format!(r#"{{"do":"fail","fence":{fence}}}"#),
                    )
                };
                let sent = bench.try_send(put(&path, &body)).await.unwrap();
                match (end, sent) {
                    (End::Accepted, Ok(_)) => {
                        let state = if is_complete {
                            State::Done
                        } else {
                            State::Failed
                        };
                        model = model.map(|step| Step { state, ..step });
                        if is_complete {
                            assert_eq!(result.replace(fence.into()), None, "{moves:?}");
                        }
                    }
                    (End::Known, Ok(_)) => {}
                    (End::FencedOff, Err(fault)) => assert_eq!(fault.code, Code::Conflict),
                    (End::Missing, Err(fault)) => assert_eq!(fault.code, Code::NotFound),
                    (end, sent) => panic!("{end:?} in the core, {sent:?} here: {moves:?}"),
                }
            }
        }
    }
}
