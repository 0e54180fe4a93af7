//! The life of a ticket of each kind, from opening to what its decision makes of the thing behind.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_store::{
    ApprovalState, Asked, Claimed, Effect, EffectEnd, EffectState, NewApproval, NewEffect, NewRun,
    NewTicket, Recorded, RetryPolicy, RunState, StoredAnswer, TicketKind,
};
use serde_json::{Value, json};

use crate::stage::{Stage, WEEK, caller};

fn done(claimed: Claimed) -> StoredAnswer {
    match claimed {
        Claimed::Done(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_looked_at_claimed_and_answered_by_hand() {
    let stage = Stage::new().await;
    let id = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    let ann = caller("ann");
    let (status, list) = stage.get(&ann, "/v1/tickets?kind=call&state=open").await;
    assert_eq!(status, 200);
    assert_eq!(list["tickets"][0]["id"], json!(id));
    assert_eq!(list["tickets"][0].get("content"), None);
    let (_, shown) = stage.get(&ann, &format!("/v1/tickets/{id}")).await;
    assert_eq!(shown["content"]["body"]["messages"][0]["content"], "k1");
    assert_eq!(
        shown["facts"]["exchange"]["attempts"][0]["verdict"],
        "broken"
    );
    assert_eq!(shown["fits"], json!(["answer", "retry", "reject"]));
    assert_eq!(shown["key"], "k1");
    let (_, bare) = stage
        .get(&ann, &format!("/v1/tickets/{id}?content=false"))
        .await;
    assert_eq!(bare.get("content"), None);

    let (status, claim) = stage
        .post(&ann, &id, "claim", json!({"by": "Ann B.", "for": "5m"}))
        .await;
    assert_eq!((status, &claim["by"]), (200, &json!("Ann B. (ann)")));
    let (_, shown) = stage.get(&ann, &format!("/v1/tickets/{id}")).await;
    assert_eq!(
        (&shown["state"], &shown["claimed_by"]),
        (&json!("claimed"), &json!("Ann B. (ann)"))
    );

    let answer = json!({"fence": claim["fence"], "text": "By hand."});
    let (status, decided) = stage.post(&ann, &id, "answer", answer).await;
    assert_eq!(
        (status, &decided["consequence"]),
        (200, &json!("answered")),
        "{decided}"
    );
    assert_eq!(decided["ticket"]["state"], "resolved");
    assert_eq!(decided["ticket"]["decided_by"], "Ann B. (ann)");
    assert_eq!(decided["ticket"]["fits"], json!([]));
    let answer = done(stage.repeat("k1").await);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["content"][0]["text"], "By hand.");
    let booked = stage
        .store
        .exchange(&answer.exchange)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (booked.outcome.as_str(), booked.scope.as_str()),
        ("whole", "ann")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_call_is_told_the_reason_from_then_on() {
    let stage = Stage::new().await;
    let id = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    let ann = caller("ann");
    let (status, _) = stage
        .post(&ann, &id, "reject", json!({"reason": "  "}))
        .await;
    assert_eq!(status, 400);
    let (status, decided) = stage
        .post(&ann, &id, "reject", json!({"reason": "not wanted"}))
        .await;
    assert_eq!((status, &decided["consequence"]), (200, &json!("refused")));
    let answer = done(stage.repeat("k1").await);
    assert_eq!(answer.status, 403);
    assert!(
        String::from_utf8(answer.body)
            .unwrap()
            .contains("not wanted (HF-036)")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_by_hand_must_pass_the_judge_and_the_gate() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let ticket = NewTicket {
        kind: TicketKind::Gate,
        key: None,
        ..stage.ticket("k1", "claude", true)
    };
    let id = stage.store.open_ticket(ticket).await.unwrap();
    let before = stage.store.ticket(&id).await.unwrap();
    let cut = json!({"body": {"content": [{"type": "text", "text": "x"}]}});
    let (status, fault) = stage.post(&ann, &id, "answer", cut).await;
    assert_eq!((status, &fault["code"]), (400, &json!("HF-001")));
    *stage.vendors.complaint.lock() = Some("`total` is missing".to_owned());
    let (status, fault) = stage.post(&ann, &id, "answer", json!({"text": "x"})).await;
    assert_eq!((status, &fault["code"]), (422, &json!("HF-033")));
    assert!(
        fault["message"]
            .as_str()
            .unwrap()
            .contains("`total` is missing")
    );
    assert_eq!(
        stage.store.ticket(&id).await.unwrap(),
        before,
        "nothing is stored"
    );

    *stage.vendors.complaint.lock() = None;
    let whole =
        json!({"body": {"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}});
    let (status, _) = stage.post(&ann, &id, "answer", whole).await;
    assert_eq!(status, 200);
    // The gate sees a body whatever the caller asked for; who asked for a stream gets one.
    let checked = stage.vendors.checked.lock().pop().unwrap();
    assert!(serde_json::from_slice::<Value>(&checked).is_ok());
    let kept = stage
        .store
        .ticket(&id)
        .await
        .unwrap()
        .unwrap()
        .answer
        .unwrap();
    let text = String::from_utf8(kept.body).unwrap();
    assert!(
        text.starts_with("event: message_start\n") && text.ends_with("\"message_stop\"}\n\n"),
        "{text}"
    );
    let (_, shown) = stage.get(&ann, &format!("/v1/tickets/{id}")).await;
    assert!(
        shown["answer"]["body"]
            .as_str()
            .unwrap()
            .contains("message_stop")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_key_can_be_closed_and_one_with_a_key_cannot() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let keyed = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    let (status, fault) = stage.post(&ann, &keyed, "close", json!({})).await;
    assert_eq!(status, 400);
    let message = fault["message"].as_str().unwrap();
    assert!(message.contains("`answer`, `retry`, `reject`"), "{message}");
    let ticket = NewTicket {
        key: None,
        ..stage.ticket("k2", "claude", false)
    };
    let keyless = stage.store.open_ticket(ticket).await.unwrap();
    let (status, decided) = stage
        .post(&ann, &keyless, "close", json!({"note": "old"}))
        .await;
    assert_eq!(
        (status, &decided["consequence"]),
        (200, &json!("left_as_it_is"))
    );
}

async fn doubtful(stage: &Stage, key: &str) -> (Effect, String) {
    let now = stage.wall();
    let effect = NewEffect {
        id: format!("effect{key}"),
        scope: "ann".to_owned(),
        key: key.to_owned(),
        fingerprint: [1; 32],
        target: "mail".to_owned(),
        payload: b"{\"to\":\"bob\"}".to_vec(),
        headers: Vec::new(),
        run: None,
        step: None,
        requires: Vec::new(),
        due: now,
        expires: now + WEEK,
        now,
    };
    let Recorded::Fresh(effect) = stage.store.record_effect(effect).await.unwrap() else {
        panic!("it is recorded already");
    };
    let sending = stage.store.claim_effects("mail", now, 10).await.unwrap();
    let sending = sending.iter().find(|one| one.id == effect.id).unwrap();
    let ticket = NewTicket {
        kind: TicketKind::Effect,
        subject: effect.id.clone(),
        key: None,
        route: None,
        title: "mail: no answer".to_owned(),
        content: Some(effect.payload.clone()),
        policy: RetryPolicy::Never,
        ..stage.ticket(key, "mail", false)
    };
    let end = EffectEnd::Doubt(ticket, "timed out".to_owned());
    let stored = stage
        .store
        .finish_effect(&effect.id, sending.fence, end, now)
        .await;
    assert!(stored.unwrap());
    let ticket = stage
        .store
        .effect(&effect.id)
        .await
        .unwrap()
        .unwrap()
        .ticket
        .unwrap();
    (effect, ticket)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_in_doubt_was_done_or_not_or_is_sent_again() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let table = [
        ("done", EffectState::Done, "effect_done"),
        ("not_done", EffectState::Failed, "effect_failed"),
        ("send_again", EffectState::Recorded, "effect_sent_again"),
    ];
    for (outcome, state, consequence) in table {
        let (effect, ticket) = doubtful(&stage, outcome).await;
        let (_, shown) = stage.get(&ann, &format!("/v1/tickets/{ticket}")).await;
        assert_eq!(shown["content"]["to"], "bob");
        let (status, fault) = stage
            .post(&ann, &ticket, "answer", json!({"text": "x"}))
            .await;
        assert_eq!(status, 400, "{fault}");
        assert!(
            fault["message"]
                .as_str()
                .unwrap()
                .ends_with("what fits: `effect`"),
            "{fault}"
        );
        let (status, _) = stage
            .post(&ann, &ticket, "effect", json!({"outcome": "maybe"}))
            .await;
        assert_eq!(status, 400);
        let body = json!({"outcome": outcome, "note": "looked into the outbox"});
        let (status, decided) = stage.post(&ann, &ticket, "effect", body).await;
        assert_eq!(
            (status, &decided["consequence"]),
            (200, &json!(consequence)),
            "{decided}"
        );
        let effect = stage.store.effect(&effect.id).await.unwrap().unwrap();
        assert_eq!(effect.state, state, "{outcome}");
    }
}

pub(crate) async fn question(
    stage: &Stage,
    id: &str,
    deadline: Option<Duration>,
    default: Option<&str>,
) -> String {
    let now = stage.wall();
    let approval = NewApproval {
        id: id.to_owned(),
        scope: "ann".to_owned(),
        key: None,
        fingerprint: [2; 32],
        question: "Send it?".to_owned(),
        choices: vec!["yes".to_owned(), "no".to_owned()],
        default: default.map(str::to_owned),
        deadline: deadline.map(|deadline| now + deadline),
        context: json!({"draft": "Dear Bob"}),
        run: None,
        step: None,
        expires: now + WEEK,
        now,
    };
    match stage.store.ask_approval(approval).await.unwrap() {
        Asked::Fresh(approval) => approval.ticket,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_takes_one_of_its_choices() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let ticket = question(&stage, "a1", None, None).await;
    let (status, fault) = stage
        .post(&ann, &ticket, "choose", json!({"choice": "perhaps"}))
        .await;
    assert_eq!(status, 400);
    assert!(fault["message"].as_str().unwrap().contains("`yes`, `no`"));
    let (status, decided) = stage
        .post(
            &ann,
            &ticket,
            "choose",
            json!({"choice": "yes", "by": "Bob"}),
        )
        .await;
    assert_eq!(
        (status, &decided["consequence"]),
        (200, &json!("approval_decided"))
    );
    let approval = stage.store.approval("a1").await.unwrap().unwrap();
    assert_eq!(approval.state, ApprovalState::Decided);
    assert_eq!(approval.choice.as_deref(), Some("yes"));
    assert_eq!(approval.decided_by.as_deref(), Some("Bob (ann)"));
    let (status, fault) = stage
        .post(&ann, &ticket, "choose", json!({"choice": "no"}))
        .await;
    assert_eq!((status, &fault["code"]), (409, &json!("HF-032")));
    let message = fault["message"].as_str().unwrap();
    assert!(
        message.ends_with("was decided by Bob (ann): choose \"yes\""),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_on_an_approval_ends_with_its_deadline() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let ticket = question(&stage, "a1", Some(Duration::from_secs(30)), Some("no")).await;
    let (_, claim) = stage
        .post(&ann, &ticket, "claim", json!({"for": "1h"}))
        .await;
    assert_eq!(claim["until"], (stage.wall() + Duration::from_secs(30)).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_after_the_deadline_is_refused() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let ticket = question(&stage, "a1", Some(Duration::from_secs(30)), Some("no")).await;
    stage.turn(Duration::from_secs(30));
    let (status, fault) = stage
        .post(&ann, &ticket, "choose", json!({"choice": "yes"}))
        .await;
    assert_eq!((status, &fault["code"]), (409, &json!("HF-032")));
    let message = fault["message"].as_str().unwrap();
    assert!(message.contains("its deadline has passed"), "{message}");
    let approval = stage.store.approval("a1").await.unwrap().unwrap();
    assert_eq!(approval.state, ApprovalState::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_shown_with_what_it_was_asked_with() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let ticket = question(&stage, "a1", None, None).await;
    let (_, shown) = stage.get(&ann, &format!("/v1/tickets/{ticket}")).await;
    assert_eq!(shown["content"], json!({"draft": "Dear Bob"}));
    let path = format!("/v1/tickets/{ticket}?content=false");
    assert_eq!(stage.get(&ann, &path).await.1.get("content"), None);
}

async fn orphan(stage: &Stage, id: &str) -> String {
    let now = stage.wall();
    let run = NewRun {
        scope: "ann".to_owned(),
        id: id.to_owned(),
        expect: vec!["send".to_owned()],
        deadline: Some(now + Duration::from_secs(1)),
        heartbeat: None,
        labels: BTreeMap::new(),
        now,
    };
    stage.store.declare_run(run).await.unwrap();
    stage.turn(Duration::from_secs(2));
    let quiet = stage.store.quiet_runs(stage.wall(), 10).await.unwrap();
    assert!(quiet.iter().any(|run| run.id == id));
    let ticket = NewTicket {
        kind: TicketKind::Run,
        subject: format!("ann/{id}"),
        key: None,
        run: Some(id.to_owned()),
        step: None,
        route: None,
        title: format!("run {id} went quiet"),
        content: None,
        policy: RetryPolicy::Never,
        ..stage.ticket(id, "run", false)
    };
    let opened = stage
        .store
        .orphan_run("ann", id, ticket, stage.wall())
        .await;
    opened.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_closed_ended_or_resumed() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let table = [
        (
            "choose",
            json!({"choice": "done"}),
            RunState::Done,
            "run_done",
        ),
        (
            "choose",
            json!({"choice": "failed"}),
            RunState::Failed,
            "run_failed",
        ),
        (
            "choose",
            json!({"choice": "resume"}),
            RunState::Open,
            "run_resumed",
        ),
        (
            "close",
            json!({"note": "known"}),
            RunState::Orphaned,
            "left_as_it_is",
        ),
    ];
    for (at, (verb, body, state, consequence)) in table.into_iter().enumerate() {
        let run = format!("run{at}");
        let ticket = orphan(&stage, &run).await;
        let (status, fault) = stage
            .post(&ann, &ticket, "choose", json!({"choice": "x"}))
            .await;
        assert_eq!(status, 400, "{fault}");
        let (status, decided) = stage.post(&ann, &ticket, verb, body).await;
        assert_eq!(
            (status, &decided["consequence"]),
            (200, &json!(consequence)),
            "{decided}"
        );
        let run = stage.store.run("ann", &run).await.unwrap().unwrap();
        assert_eq!(run.state, state);
    }
}
