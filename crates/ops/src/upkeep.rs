//! What is done without being asked: orphans are found, deadlines of approvals are kept, and what is
//! over is forgotten.
//!
//! Every process does so. The store lets exactly one of them turn a run into an orphan or decide an
//! approval; the others find it done.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::run::moment::{moment, span};
use holdfast_core::run::{self, Life, Orphan};
use holdfast_core::time::Wall;
use holdfast_store::{
    Decided, Error, NEVER, NewTicket, RetryPolicy, Run, Step, StepState, TicketKind,
};
use serde_json::json;
use tokio::sync::watch;

use crate::shared::Shared;

/// Runs or approvals of one look.
const PAGE: usize = 100;
/// Rows of each kind that are forgotten in one transaction.
const FORGET: usize = 500;
/// The most steps of each list of an orphan's ticket; the rest is counted.
const NAMED: usize = 100;
/// The most labels on an orphan's ticket, in bytes.
const LABELS: usize = 32 << 10;

/// What one look has come to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Checked {
    /// Runs that became orphans by it.
    pub orphans: usize,
    /// Approvals that were decided or closed by it.
    pub approvals: usize,
}

/// Looks for orphans and for due approvals until the gateway goes down. Each by itself: trouble with
/// one does not stop the other.
pub(crate) async fn watch(shared: &Shared) {
    let runs = async {
        let mut drain = shared.drain.subscribe();
        let mut trouble = Trouble::default();
        while pause(&mut drain, shared.terms().check_every).await {
            let (_, error) = orphans(shared).await;
            trouble.told(error.as_ref(), "the watch over runs");
        }
    };
    let approvals = async {
        let mut drain = shared.drain.subscribe();
        let mut trouble = Trouble::default();
        while pause(&mut drain, shared.terms().check_every).await {
            let (_, error) = late_approvals(shared).await;
            trouble.told(error.as_ref(), "the watch over approvals");
        }
    };
    tokio::join!(runs, approvals);
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

/// One look. The first trouble is told after everything was looked at.
pub(crate) async fn check(shared: &Shared) -> Result<Checked, Error> {
    let (orphans, of_runs) = orphans(shared).await;
    let (approvals, of_approvals) = late_approvals(shared).await;
    match of_runs.or(of_approvals) {
        Some(error) => Err(error),
        None => Ok(Checked { orphans, approvals }),
    }
}

/// Makes orphans of what went quiet: how many, and the first trouble. A run that can't be made one is
/// no reason to leave the others.
async fn orphans(shared: &Shared) -> (usize, Option<Error>) {
    let (mut made, mut trouble) = (0, None);
    loop {
        let quiet = match shared.store.quiet_runs(shared.now(), PAGE).await {
            Ok(quiet) => quiet,
            Err(error) => return (made, trouble.or(Some(error))),
        };
        let (found, before) = (quiet.len(), made);
        for run in quiet {
            match orphan(shared, &run).await {
                Ok(is_new) => made += usize::from(is_new),
                Err(error) => {
                    tracing::debug!(%error, run = run.id, "a quiet run can't be made an orphan");
                    trouble.get_or_insert(error);
                }
            }
        }
        if found < PAGE || made == before {
            return (made, trouble);
        }
    }
}

/// Keeps what was promised for the deadline: how many approvals, and the first trouble.
async fn late_approvals(shared: &Shared) -> (usize, Option<Error>) {
    let (mut made, mut trouble) = (0, None);
    loop {
        let due = match shared.store.due_approvals(shared.now(), PAGE).await {
            Ok(due) => due,
            Err(error) => return (made, trouble.or(Some(error))),
        };
        let (found, before) = (due.len(), made);
        for approval in due {
            match shared.store.time_out(&approval, shared.now()).await {
                Ok(decided) => made += usize::from(matches!(decided, Decided::Done(_))),
                Err(error) => {
                    tracing::debug!(%error, approval = approval.id, "a late approval can't be decided");
                    trouble.get_or_insert(error);
                }
            }
        }
        if found < PAGE || made == before {
            return (made, trouble);
        }
    }
}

/// Makes a quiet run an orphan. `false` = somebody else has, or it gave a sign of life.
async fn orphan(shared: &Shared, run: &Run) -> Result<bool, Error> {
    let steps = shared.store.steps(&run.scope, &run.id).await?;
    let now = shared.now();
    let ticket = ticket(run, &steps, now);
    let opened = shared
        .store
        .orphan_run(&run.scope, &run.id, ticket, now)
        .await?;
    Ok(opened.is_some())
}

fn ticket(run: &Run, steps: &[Step], now: Wall) -> NewTicket {
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
    let lists = [
        ("missing", run::missing(&run.expect, &done)),
        ("running", in_state(StepState::Running)),
        ("failed", in_state(StepState::Failed)),
        ("done", done),
    ];
    let mut facts = json!({
        "run": run.id,
        "why": why,
        "deadline": run.deadline.map(|at| at.0),
        "heartbeat": run.heartbeat.map(span),
        "seen": run.seen.0,
        "labels": labels(&run.labels),
        // What the lists leave out.
        "more": {},
    });
    for (name, steps) in lists {
        if let Some(more) = steps.len().checked_sub(NAMED).filter(|more| *more > 0) {
            facts["more"][name] = more.into();
        }
        facts[name] = steps.into_iter().take(NAMED).collect();
    }
    NewTicket {
        kind: TicketKind::Run,
        scope: run.scope.clone(),
        subject: subject(&run.scope, &run.id),
        key: None,
        run: Some(run.id.clone()),
        step: None,
        route: None,
        title: format!("the run `{}` {why}", run.id),
        facts,
        content: None,
        policy: RetryPolicy::Never,
        not_before: now,
        // Nothing else ends it.
        expires: NEVER,
        now,
    }
}

/// `scope/run`, for people and for the one open ticket of each run. The first slash is the one between
/// them: a name may have slashes of its own.
fn subject(scope: &str, run: &str) -> String {
    let scope = scope.replace('%', "%25").replace('/', "%2F");
    format!("{scope}/{run}")
}

/// The first ones, as far as they have room: a ticket has to fit whatever its run was given.
fn labels(all: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let mut room = LABELS;
    let fitting = all.iter().take_while(|(name, value)| {
        let bytes = name.len() + value.len();
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    });
    fitting
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
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
