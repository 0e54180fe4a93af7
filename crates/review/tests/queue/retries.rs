//! Calls made once more: by a person's wish, and by the clock.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::fault::{Code, Fault};
use holdfast_review::Terms;
use holdfast_store::{ApprovalState, Claimed, NewTicket, RetryPolicy, TicketState};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::kinds::question;
use crate::stage::{Stage, caller, reviewer};

const INTERVAL: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_answered_answers_the_caller() {
    let stage = Stage::new().await;
    let id = stage.failed_call("k1", RetryPolicy::Never).await;
    let eve = reviewer("eve");
    let (status, told) = stage
        .post(&eve, &id, "retry", json!({"target": "backup/large"}))
        .await;
    assert_eq!((status, &told["answered"]), (200, &json!(true)), "{told}");
    assert_eq!(told["ticket"]["decided_by"], "eve");
    let asked = stage.vendors.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target.as_deref(), Some("backup/large"));
    assert_eq!(
        asked[0].scope, "ann",
        "it is the caller's call, not the reviewer's"
    );
    assert!(asked[0].body.contains("k1"));
    let Claimed::Done(answer) = stage.repeat("k1").await else {
        panic!("the repeat has no answer");
    };
    assert_eq!(answer.exchange, "asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_fails_gives_the_ticket_back_and_says_why() {
    let stage = Stage::new().await;
    let id = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    let ann = caller("ann");
    let (_, claim) = stage.post(&ann, &id, "claim", json!({})).await;
    stage.vendors.fail();
    let (status, told) = stage
        .post(&ann, &id, "retry", json!({"fence": claim["fence"]}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(told["answered"], false);
    assert_eq!(
        (&told["code"], &told["reason"]),
        (&json!("HF-013"), &json!("all are down"))
    );
    assert_eq!(told["ticket"]["state"], "open");
    assert_eq!(told["ticket"]["reason"], "all are down (HF-013)");
    assert_eq!(told["ticket"]["attempts"], 2);

    let unknown = Fault::new(Code::InvalidRequest, "the route has no target `x`");
    stage.vendors.say(Err(unknown));
    let (status, fault) = stage.post(&ann, &id, "retry", json!({"target": "x"})).await;
    assert_eq!(
        (status, &fault["message"]),
        (400, &json!("the route has no target `x`"))
    );
    let ticket = stage.store.ticket(&id).await.unwrap().unwrap();
    assert_eq!((ticket.state, ticket.attempts), (TicketState::Open, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_does_not_lose_the_answer() {
    let stage = Arc::new(Stage::new().await);
    stage.vendors.hold();
    let id = stage.failed_call("k1", RetryPolicy::Never).await;
    let mut events = stage.store.event_signal();
    let asking = {
        let (stage, id) = (stage.clone(), id.clone());
        tokio::spawn(async move { stage.post(&caller("ann"), &id, "retry", json!({})).await })
    };
    stage.vendors.begun.acquire().await.unwrap().forget();
    let (status, fault) = stage
        .post(&reviewer("eve"), &id, "answer", json!({"text": "x"}))
        .await;
    assert_eq!(status, 409, "{fault}");
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    stage.vendors.permits.add_permits(1);
    while stage.store.ticket(&id).await.unwrap().unwrap().state != TicketState::Resolved {
        events.changed().await.unwrap();
    }
    assert!(matches!(stage.repeat("k1").await, Claimed::Done(_)));
}

/// The claim could not be renewed in time. Nobody else came: what the call brought is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_whose_claim_ran_out_is_not_for_nothing() {
    let stage = Arc::new(Stage::new().await);
    stage.vendors.hold();
    let id = stage.failed_call("k1", RetryPolicy::Never).await;
    let asking = {
        let (stage, id) = (stage.clone(), id.clone());
        tokio::spawn(async move { stage.post(&caller("ann"), &id, "retry", json!({})).await })
    };
    stage.vendors.begun.acquire().await.unwrap().forget();
    stage.turn(Duration::from_hours(24));
    stage.vendors.permits.add_permits(1);
    let (status, told) = asking.await.unwrap();
    assert_eq!((status, &told["answered"]), (200, &json!(true)), "{told}");
    assert!(matches!(stage.repeat("k1").await, Claimed::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn a_long_retry_keeps_its_claim() {
    let (stage, runtime) = Quiet::stage(terms()).await;
    stage.vendors.hold();
    let id = stage.failed_call("k1", RetryPolicy::Never).await;
    let asking = {
        let (stage, id) = (stage.clone(), id.clone());
        tokio::spawn(async move { stage.post(&caller("ann"), &id, "retry", json!({})).await })
    };
    stage.vendors.begun.acquire().await.unwrap().forget();
    let fence = stage.store.ticket(&id).await.unwrap().unwrap().fence;
    for _ in 0..3 {
        stage.turn(Duration::from_mins(5));
        tokio::time::sleep(Duration::from_mins(5)).await;
    }
    let mut events = stage.store.event_signal();
    let until = stage.wall() + Duration::from_mins(5);
    let ticket = async || stage.store.ticket(&id).await.unwrap().unwrap();
    while ticket().await.claim_until.is_none_or(|end| end < until) {
        events.changed().await.unwrap();
    }
    assert!(ticket().await.fence > fence);
    let (status, fault) = stage.post(&reviewer("eve"), &id, "claim", json!({})).await;
    assert_eq!(status, 409, "{fault}");
    stage.vendors.permits.add_permits(1);
    assert_eq!(asking.await.unwrap().0, 200);
    runtime.shutdown_background();
}

/// A stage whose store works on real time, while the test's own time stands still between events.
struct Quiet {
    stage: Arc<Stage>,
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Dropped last, and not inside of an async context.
    runtime: Option<Runtime>,
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Quiet {
    /// A stage to be prepared before the queue's own task runs.
    async fn stage(terms: Terms) -> (Arc<Stage>, Runtime) {
        let runtime = Runtime::new().unwrap();
        let stage = Stage::on(runtime.handle().clone(), terms, None).await;
        (Arc::new(stage), runtime)
    }

    fn run((stage, runtime): (Arc<Stage>, Runtime)) -> Self {
        let (drain, drained) = watch::channel(false);
        let task = tokio::spawn(stage.review.clone().run(drained));
        Self {
            stage,
            drain,
            task,
            runtime: Some(runtime),
        }
    }

    /// Waits until so many calls were asked.
    async fn asked(&self, count: u32) {
        for _ in 0..count {
            self.stage.vendors.begun.acquire().await.unwrap().forget();
        }
    }

    async fn end(&mut self) {
        self.drain.send(true).unwrap();
        (&mut self.task).await.unwrap();
    }
}

fn terms() -> Terms {
    Terms {
        retry_interval: INTERVAL,
        ..Terms::default()
    }
}

fn prompts(stage: &Stage) -> Vec<String> {
    let asked = stage.vendors.asked();
    let prompt = |body: &str| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["messages"][0]["content"].as_str().unwrap().to_owned()
    };
    asked.iter().map(|asked| prompt(&asked.body)).collect()
}

#[tokio::test(start_paused = true)]
async fn calls_are_asked_again_slowly_oldest_first_one_at_a_time_on_a_route() {
    let (stage, runtime) = Quiet::stage(terms()).await;
    for (at, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
        stage.failed_call(key, RetryPolicy::WhenHealthy).await;
        stage.turn(Duration::from_secs(at as u64 + 1));
    }
    for policy in [RetryPolicy::OnRepeat, RetryPolicy::Never] {
        stage.failed_call(policy.as_str(), policy).await;
    }
    let mut quiet = Quiet::run((stage.clone(), runtime));
    quiet.asked(4).await;
    assert_eq!(prompts(&stage), ["a", "b", "c", "d"]);
    let asked = stage.vendors.asked();
    for pair in asked.windows(2) {
        assert!(pair[1].at - pair[0].at >= INTERVAL, "{pair:?}");
    }
    quiet.end().await;
    for key in ["a", "b", "c", "d"] {
        assert!(matches!(stage.repeat(key).await, Claimed::Done(_)), "{key}");
    }
    assert_eq!(
        stage.vendors.asked().len(),
        4,
        "other policies wait for somebody"
    );
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_down_is_left_alone_and_the_others_are_not() {
    let (stage, runtime) = Quiet::stage(terms()).await;
    stage.vendors.down.lock().insert("down".to_owned());
    let waiting = NewTicket {
        policy: RetryPolicy::WhenHealthy,
        key: None,
        ..stage.ticket("w", "down", false)
    };
    let waiting = stage.store.open_ticket(waiting).await.unwrap();
    let mut quiet = Quiet::run((stage.clone(), runtime));
    // Long after, nothing was done about it, and people can have it.
    tokio::time::sleep(INTERVAL * 20).await;
    assert!(stage.vendors.asked().is_empty());
    let ticket = stage.store.ticket(&waiting).await.unwrap().unwrap();
    assert_eq!(
        (ticket.state, ticket.attempts, ticket.fence),
        (TicketState::Open, 1, 0)
    );
    stage.failed_call("up", RetryPolicy::WhenHealthy).await;
    quiet.asked(1).await;
    assert_eq!(prompts(&stage), ["up"]);
    stage.vendors.down.lock().clear();
    quiet.asked(1).await;
    assert_eq!(prompts(&stage), ["up", "w"]);
    quiet.end().await;
    let ticket = stage.store.ticket(&waiting).await.unwrap().unwrap();
    assert_eq!(ticket.state, TicketState::Resolved);
    assert_eq!(ticket.answer.unwrap().exchange, "asked");
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_route_and_the_ticket_wait_longer() {
    let (stage, runtime) = Quiet::stage(terms()).await;
    stage.vendors.fail();
    let first = stage.failed_call("a", RetryPolicy::WhenHealthy).await;
    stage.turn(Duration::from_secs(1));
    stage.failed_call("b", RetryPolicy::WhenHealthy).await;
    let began = stage.wall();
    let mut quiet = Quiet::run((stage.clone(), runtime));
    quiet.asked(2).await;
    let asked = stage.vendors.asked();
    assert_eq!(
        prompts(&stage),
        ["a", "b"],
        "the next one's turn comes first"
    );
    assert!(asked[1].at - asked[0].at >= INTERVAL * 2);
    let ticket = stage.store.ticket(&first).await.unwrap().unwrap();
    assert_eq!((ticket.state, ticket.attempts), (TicketState::Open, 2));
    assert_eq!(ticket.not_before, began + INTERVAL * 2);
    assert_eq!(ticket.reason.as_deref(), Some("all are down (HF-013)"));
    // Its moment comes.
    stage.turn(INTERVAL * 2);
    quiet.asked(1).await;
    quiet.end().await;
    assert!(matches!(stage.repeat("a").await, Claimed::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_call_under_way_is_finished_and_stored() {
    let (stage, runtime) = Quiet::stage(terms()).await;
    stage.vendors.hold();
    stage.failed_call("a", RetryPolicy::WhenHealthy).await;
    let mut quiet = Quiet::run((stage.clone(), runtime));
    quiet.asked(1).await;
    quiet.drain.send(true).unwrap();
    stage.vendors.permits.add_permits(1);
    quiet.end().await;
    assert!(matches!(stage.repeat("a").await, Claimed::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn a_late_approval_gets_its_default_or_ends_without_a_choice() {
    let (stage, runtime) = Quiet::stage(terms()).await;
    let minute = Some(Duration::from_mins(1));
    let with = question(&stage, "with", minute, Some("no")).await;
    let without = question(&stage, "without", minute, None).await;
    let open = question(&stage, "open", None, Some("no")).await;
    // Somebody has it in hand: the deadline holds all the same.
    stage
        .post(&caller("ann"), &with, "claim", json!({"for": "1h"}))
        .await;
    let mut quiet = Quiet::run((stage.clone(), runtime));
    let mut events = stage.store.event_signal();
    let where_is = async |ticket: &str| stage.store.ticket(ticket).await.unwrap().unwrap().state;
    assert_eq!(where_is(&with).await, TicketState::Claimed);
    stage.turn(Duration::from_mins(1));
    while where_is(&with).await != TicketState::Resolved
        || where_is(&without).await != TicketState::Resolved
    {
        events.changed().await.unwrap();
    }
    quiet.end().await;
    let approval = stage.store.approval("with").await.unwrap().unwrap();
    assert_eq!(
        (approval.state, approval.choice.as_deref()),
        (ApprovalState::Decided, Some("no"))
    );
    assert_eq!(approval.decided_by.as_deref(), Some("timeout"));
    let approval = stage.store.approval("without").await.unwrap().unwrap();
    assert_eq!(
        (approval.state, approval.choice),
        (ApprovalState::Expired, None)
    );
    assert_eq!(where_is(&open).await, TicketState::Open);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_decides_expires() {
    let (stage, runtime) = Quiet::stage(terms()).await;
    let id = stage.failed_call("k1", RetryPolicy::Never).await;
    stage.turn(crate::stage::WEEK);
    let mut quiet = Quiet::run((stage.clone(), runtime));
    let mut events = stage.store.event_signal();
    while stage.store.ticket(&id).await.unwrap().unwrap().state != TicketState::Expired {
        events.changed().await.unwrap();
    }
    quiet.end().await;
    let (status, fault) = stage
        .post(&caller("ann"), &id, "answer", json!({"text": "x"}))
        .await;
    assert_eq!(status, 409);
    assert!(fault["message"].as_str().unwrap().ends_with("has expired"));
}

#[tokio::test(start_paused = true)]
async fn a_route_with_a_long_queue_does_not_hold_up_the_others() {
    let terms = Terms {
        retry_parallel: 2,
        ..terms()
    };
    let (stage, runtime) = Quiet::stage(terms).await;
    stage.vendors.down.lock().insert("down".to_owned());
    let mut down = Vec::new();
    let routes = [&["down"][..], &["busy", "down"]];
    for at in 0..300 {
        for route in routes[usize::from(at >= 260)] {
            let ticket = NewTicket {
                policy: RetryPolicy::WhenHealthy,
                key: None,
                ..stage.ticket(&format!("{route}{at}"), route, false)
            };
            let id = stage.store.open_ticket(ticket).await.unwrap();
            if *route == "down" {
                down.push(id);
            }
        }
        stage.turn(Duration::from_millis(1));
    }
    stage.failed_call("last", RetryPolicy::WhenHealthy).await;
    let mut quiet = Quiet::run((stage.clone(), runtime));
    quiet.asked(3).await;
    assert_eq!(prompts(&stage)[..2], ["busy260", "last"]);
    assert_eq!(prompts(&stage)[2], "busy261");
    quiet.end().await;
    for id in down {
        let ticket = stage.store.ticket(&id).await.unwrap().unwrap();
        assert_eq!(ticket.state, TicketState::Open, "people can have it");
    }
}
