//! What is done without being asked: orphans are found, deadlines of approvals are kept, and what is
//! over is forgotten.
//!
//! Every process does so. The store lets exactly one of them turn a run into an orphan or decide an
//! approval; the others find it done.

use std::time::Duration;

use holdfast_core::run::moment::{moment, span};
use holdfast_core::run::{self, Life, Orphan};
use holdfast_core::time::Wall;
use holdfast_store::{
    Decided, Error, NewTicket, RetryPolicy, Run, Step, StepState, TicketKind,
};
use serde_json::json;
use tokio::sync::watch;

use crate::shared::Shared;

/// Runs or approvals of one look.
const PAGE: usize = 100;
/// Rows of each kind that are forgotten in one transaction.
const FORGET: usize = 500;

/// What one look has come to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Checked {
    /// Runs that became orphans by it.
    pub orphans: usize,
    /// Approvals that were decided or closed by it.
    pub approvals: usize,
}

/// Looks for orphans and due approvals until the gateway goes down.
pub(crate) async fn watch(shared: &Shared) {
    let mut drain = shared.drain.subscribe();
    let mut trouble = Trouble::default();
    while pause(&mut drain, shared.terms().check_every).await {
        trouble.told(
            check(shared).await.err().as_ref(),
            "the watch over runs and approvals",
        );
    }
}

/// Forgets what is over until the gateway goes down.
pub(crate) async fn forget(shared: &Shared) {
    let mut drain = shared.drain.subscribe();
    let mut trouble = Trouble::default();
    while pause(&mut drain, shared.terms().expire_every).await {
        trouble.told(
            expire(shared).await.err().as_ref(),
            "forgetting what is over",
        );
    }
}

/// `false` = the gateway goes down.
async fn pause(drain: &mut watch::Receiver<bool>, length: Duration) -> bool {
    tokio::select! {
        biased;
        _ = drain.wait_for(|drain| *drain) => false,
        () = tokio::time::sleep(length) => true,
    }
}

/// Says once that something does not work, and once that it does again.
#[derive(Default)]
struct Trouble(bool);

impl Trouble {
    fn told(&mut self, error: Option<&Error>, what: &str) {
        match (self.0, error) {
            (false, Some(error)) => tracing::warn!(%error, "{what} does not work"),
            (true, None) => tracing::info!("{what} works again"),
            (true, Some(_)) | (false, None) => {}
        }
        self.0 = error.is_some();
    }
}

/// One look.
pub(crate) async fn check(shared: &Shared) -> Result<Checked, Error> {
    let mut checked = Checked::default();
    loop {
        let quiet = shared.store.quiet_runs(shared.now(), PAGE).await?;
        let found = quiet.len();
        let before = checked.orphans;
        for run in quiet {
            checked.orphans += usize::from(orphan(shared, &run).await?);
        }
        if found < PAGE || checked.orphans == before {
            break;
        }
    }
    loop {
        let due = shared.store.due_approvals(shared.now(), PAGE).await?;
        let found = due.len();
        let before = checked.approvals;
        for approval in due {
            let decided = shared.store.time_out(&approval, shared.now()).await?;
            checked.approvals += usize::from(matches!(decided, Decided::Done(_)));
        }
        if found < PAGE || checked.approvals == before {
            break;
        }
    }
    Ok(checked)
}

/// Makes a quiet run an orphan. `false` = somebody else has, or it gave a sign of life.
async fn orphan(shared: &Shared, run: &Run) -> Result<bool, Error> {
    let steps = shared.store.steps(&run.scope, &run.id).await?;
    let now = shared.now();
    let ticket = ticket(run, &steps, now + shared.terms().ticket_expiry, now);
    let opened = shared
        .store
        .orphan_run(&run.scope, &run.id, ticket, now)
        .await?;
    Ok(opened.is_some())
}

fn ticket(run: &Run, steps: &[Step], expires: Wall, now: Wall) -> NewTicket {
    let life = Life {
        deadline: run.deadline,
        heartbeat: run.heartbeat,
        seen: run.seen,
    };
    let why = match (run::orphan(life, now), run.deadline) {
        (Some(Orphan::Overdue { .. }), Some(deadline)) => {
            format!("was to end by {}", moment(deadline))
        }
        (Some(Orphan::Quiet { silence }), _) => {
            let silence = Duration::from_secs(silence.as_secs());
            format!("has been silent for {}", span(silence))
        }
        (_, _) => "went quiet".to_owned(),
    };
    let in_state = |state| {
        let names = steps.iter().filter(move |step| step.state == state);
        names.map(|step| step.step.as_str()).collect::<Vec<&str>>()
    };
    let done = in_state(StepState::Done);
    let facts = json!({
        "run": run.id,
        "why": why,
        "deadline": run.deadline.map(|at| at.0),
        "heartbeat": run.heartbeat.map(span),
        "seen": run.seen.0,
        "labels": run.labels,
        "missing": run::missing(&run.expect, &done),
        "done": done,
        "running": in_state(StepState::Running),
        "failed": in_state(StepState::Failed),
    });
    NewTicket {
        kind: TicketKind::Run,
        scope: run.scope.clone(),
        subject: format!("{}/{}", run.scope, run.id),
        key: None,
        run: Some(run.id.clone()),
        step: None,
        route: None,
        title: format!("the run `{}` {why}", run.id),
        facts,
        content: None,
        policy: RetryPolicy::Never,
        not_before: now,
        expires,
        now,
    }
}

/// Forgets all that may be forgotten now, in small transactions; gives the number of rows.
pub(crate) async fn expire(shared: &Shared) -> Result<u64, Error> {
    let retention = shared.terms().retention;
    let drain = shared.drain.subscribe();
    let mut rows = 0;
    while !*drain.borrow() {
        let touched = shared
            .store
            .expire(shared.now(), &retention, FORGET)
            .await?;
        rows += touched;
        if touched == 0 {
            break;
        }
    }
    Ok(rows)
}
