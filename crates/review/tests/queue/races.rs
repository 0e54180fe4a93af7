//! Two people, one ticket: whoever is second is told who was first, and nothing is decided twice.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::review::{Consequence, RUN_CHOICES};
use holdfast_store::{Claimed, RetryPolicy};
use serde_json::{Value, json};

use crate::kinds::question;
use crate::stage::{Stage, caller, reviewer};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_decide_at_once_one_does() {
    let stage = Arc::new(Stage::new().await);
    for round in 0..8 {
        let key = format!("k{round}");
        let id = stage.failed_call(&key, RetryPolicy::OnRepeat).await;
        let deeds = (0..12).map(|at| {
            let (stage, id) = (stage.clone(), id.clone());
            tokio::spawn(async move {
                let who = reviewer(&format!("person{at}"));
                match at % 3 {
                    0 => {
                        stage
                            .post(&who, &id, "answer", json!({"text": format!("a{at}")}))
                            .await
                    }
                    1 => {
                        stage
                            .post(&who, &id, "reject", json!({"reason": "r"}))
                            .await
                    }
                    _ => stage.post(&who, &id, "retry", json!({})).await,
                }
            })
        });
        let deeds: Vec<_> = deeds.collect();
        let mut results = Vec::new();
        for deed in deeds {
            results.push(deed.await.unwrap());
        }
        let (won, lost): (Vec<_>, Vec<_>) =
            results.into_iter().partition(|(status, _)| *status == 200);
        assert_eq!(won.len(), 1, "{won:?}");
        let winner = won[0].1["ticket"]["decided_by"]
            .as_str()
            .unwrap()
            .to_owned();
        for (status, fault) in lost {
            assert_eq!((status, &fault["code"]), (409, &json!("HF-032")), "{fault}");
            let message = fault["message"].as_str().unwrap();
            let told = [
                format!("decided by {winner}: "),
                " is claimed by ".to_owned(),
            ];
            assert!(told.iter().any(|told| message.contains(told)), "{message}");
        }
        assert!(matches!(stage.repeat(&key).await, Claimed::Done(_)));
    }
    // A call that lost was not made, or its ticket was claimed for it beforehand.
    assert!(stage.vendors.asked().len() <= 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_claim_at_once_one_has_it() {
    let stage = Arc::new(Stage::new().await);
    let id = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    let claims: Vec<_> = (0..10)
        .map(|at| {
            let (stage, id) = (stage.clone(), id.clone());
            // Even the same person in two windows.
            let who = reviewer(if at < 5 { "one" } else { "two" });
            tokio::spawn(async move { stage.post(&who, &id, "claim", json!({})).await })
        })
        .collect();
    let mut won = 0;
    for claim in claims {
        let (status, body) = claim.await.unwrap();
        won += u32::from(status == 200);
        assert!(
            status == 200
                || body["message"]
                    .as_str()
                    .unwrap()
                    .contains(" is claimed by "),
            "{body}"
        );
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_holds_until_its_end_and_is_worth_nothing_afterwards() {
    let stage = Stage::new().await;
    let id = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    let (one, two) = (reviewer("one"), reviewer("two"));
    let (_, claim) = stage.post(&one, &id, "claim", json!({"for": "60s"})).await;
    let fence = &claim["fence"];
    let message = |fault: &Value| fault["message"].as_str().unwrap().to_owned();

    let (status, fault) = stage.post(&two, &id, "answer", json!({"text": "x"})).await;
    assert_eq!(status, 409);
    assert!(
        message(&fault).ends_with("is claimed by one for another 60 s"),
        "{fault}"
    );
    let (status, _) = stage.post(&one, &id, "answer", json!({"text": "x"})).await;
    assert_eq!(
        status, 409,
        "without its fence even the claimant is somebody else"
    );
    let (status, _) = stage
        .post(&one, &id, "answer", json!({"text": "x", "fence": 99}))
        .await;
    assert_eq!(status, 409);

    stage.turn(Duration::from_secs(59));
    let (status, renewed) = stage
        .post(&one, &id, "claim", json!({"fence": fence, "for": "60s"}))
        .await;
    assert_eq!((status, &renewed["by"]), (200, &json!("one")), "{renewed}");
    assert_eq!(renewed["until"], (stage.wall() + Duration::from_mins(1)).0);

    stage.turn(Duration::from_mins(1));
    let (_, shown) = stage.get(&one, &format!("/v1/tickets/{id}")).await;
    assert_eq!(
        (&shown["state"], &shown["claimed_by"]),
        (&json!("open"), &Value::Null)
    );
    for verb in ["answer", "retry", "reject"] {
        let body = match verb {
            "answer" => json!({"text": "late", "fence": renewed["fence"]}),
            "reject" => json!({"reason": "late", "fence": renewed["fence"]}),
            _ => json!({"fence": renewed["fence"]}),
        };
        let (status, fault) = stage.post(&one, &id, verb, body).await;
        assert_eq!(status, 409, "{verb}");
        assert!(
            message(&fault).contains("is over; claim it again"),
            "{fault}"
        );
    }
    let (status, _) = stage
        .post(&one, &id, "release", json!({"fence": renewed["fence"]}))
        .await;
    assert_eq!(status, 409);
    let (status, claim) = stage.post(&two, &id, "claim", json!({})).await;
    assert_eq!(status, 200);
    let (status, _) = stage
        .post(&two, &id, "release", json!({"fence": claim["fence"]}))
        .await;
    assert_eq!(status, 200);
    let (status, _) = stage
        .post(&one, &id, "answer", json!({"text": "in time"}))
        .await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decided_ticket_takes_no_claim_and_names_the_decision() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let id = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    stage
        .post(&ann, &id, "reject", json!({"reason": "old news"}))
        .await;
    for (verb, body) in [
        ("claim", json!({})),
        ("answer", json!({"text": "x"})),
        ("retry", json!({})),
    ] {
        let (status, fault) = stage.post(&ann, &id, verb, body).await;
        assert_eq!(status, 409);
        let message = fault["message"].as_str().unwrap();
        assert!(
            message.ends_with("was decided by ann: reject \"old news\""),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_approval_is_chosen_once() {
    let stage = Arc::new(Stage::new().await);
    let ticket = question(&stage, "a1", None, None).await;
    let chosen: Vec<_> = (0..10)
        .map(|at| {
            let (stage, ticket) = (stage.clone(), ticket.clone());
            let choice = if at % 2 == 0 { "yes" } else { "no" };
            let choice = json!({"choice": choice});
            let who = reviewer(&format!("person{at}"));
            tokio::spawn(async move { stage.post(&who, &ticket, "choose", choice).await.0 })
        })
        .collect();
    let mut won = 0;
    for status in chosen {
        won += u32::from(status.await.unwrap() == 200);
    }
    assert_eq!(won, 1);
}

#[test]
fn the_choices_about_a_run_are_those_of_the_decisions() {
    assert_eq!(RUN_CHOICES, ["done", "failed", "resume"]);
    assert_eq!(Consequence::RunResumed.name(), "run_resumed");
}
