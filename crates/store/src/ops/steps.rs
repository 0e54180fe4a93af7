//! Steps: checkpoints with a lease and a fence.

use holdfast_core::time::Wall;

use super::to_json;
use crate::engine::sql::{Row, Tx, args};
use crate::error::{Error, Result};
use crate::model::run::{Failure, Step, StepState};
use crate::{MAX_FAILURES, MAX_STEPS};

/// A [`Failure`] as it is written: attempt, begun, at, lapsed, error.
type KeptFailure = (i64, i64, i64, bool, String);

/// As much of a reason is remembered of each attempt, in characters.
const REASON: usize = 200;

macro_rules! head {
    () => {
        "scope, run, step, state, fence, until, attempts, error, created, begun, updated, failures"
    };
}

macro_rules! whole {
    () => {
        concat!(head!(), ", result")
    };
}

/// Which step.
#[derive(Clone, Debug)]
pub(crate) struct StepId {
    pub(crate) scope: String,
    pub(crate) run: String,
    pub(crate) step: String,
}

#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) id: StepId,
    pub(crate) until: Wall,
    pub(crate) now: Wall,
}

/// What became of it; a result is still sealed.
#[derive(Debug)]
pub(crate) enum Outcome {
    Begun { fence: i64 },
    Running { until: Wall },
    Done(Box<Step>),
}

/// What a beginner finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Again,
    Running,
    Done,
}

pub(crate) async fn begin(tx: &mut Tx, call: &Beginning) -> Result<Outcome> {
    let id = &call.id;
    super::runs::touch(tx, &(id.scope.clone(), id.run.clone(), call.now)).await?;
    let inserted = tx
        .changed(
            "INSERT INTO steps (scope, run, step, state, fence, until, attempts, created, begun, updated, failures) VALUES ($1, $2, $3, 'running', 1, $4, 1, $5, $5, $5, '[]') ON CONFLICT (scope, run, step) DO NOTHING",
            args![&id.scope, &id.run, &id.step, call.until, call.now],
        )
        .await?;
    if inserted {
        return Ok(Outcome::Begun { fence: 1 });
    }
    let Some(step) = locked(tx, id).await? else {
        return Err(Error::Unavailable("the run was just forgotten".to_owned()));
    };
    match decide(step.state, step.until, call.now) {
        Verdict::Done => Ok(Outcome::Done(Box::new(step))),
        Verdict::Running => Ok(Outcome::Running { until: step.until }),
        Verdict::Again => {
            let fence = step.fence + 1;
            let failures = match step.state {
                StepState::Running => Some(with_failure(&step, step.until, None)?),
                StepState::Failed | StepState::Done => None,
            };
            tx.execute(
                "UPDATE steps SET state = 'running', fence = $4, until = $5, attempts = attempts + 1, begun = $6, updated = $6, failures = COALESCE($7, failures) WHERE scope = $1 AND run = $2 AND step = $3",
                args![
                    &id.scope, &id.run, &id.step, fence, call.until, call.now, failures
                ],
            )
            .await?;
            Ok(Outcome::Begun { fence })
        }
    }
}

async fn locked(tx: &mut Tx, id: &StepId) -> Result<Option<Step>> {
    let row = tx
        .row(
            concat!(
                "SELECT ",
                whole!(),
                " FROM steps WHERE scope = $1 AND run = $2 AND step = $3 FOR UPDATE"
            ),
            args![&id.scope, &id.run, &id.step],
        )
        .await?;
    row.map(read).transpose()
}

fn decide(state: StepState, until: Wall, now: Wall) -> Verdict {
    match state {
        StepState::Done => Verdict::Done,
        StepState::Failed => Verdict::Again,
        StepState::Running if until > now => Verdict::Running,
        StepState::Running => Verdict::Again,
    }
}

/// The failures of a step with one more; `error` = `None`: its lease ended.
fn with_failure(step: &Step, at: Wall, error: Option<&str>) -> Result<String> {
    let mut failures = step.failures.clone();
    failures.push(Failure {
        attempt: step.attempts,
        begun: step.begun,
        at,
        lapsed: error.is_none(),
        error: error.unwrap_or_default().chars().take(REASON).collect(),
    });
    let old = failures.len().saturating_sub(MAX_FAILURES);
    let kept = failures.into_iter().skip(old);
    let kept: Vec<KeptFailure> = kept
        .map(|one| (one.attempt, one.begun.0, one.at.0, one.lapsed, one.error))
        .collect();
    to_json(&kept)
}

#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) id: StepId,
    pub(crate) fence: i64,
    pub(crate) end: End,
    pub(crate) now: Wall,
}

#[derive(Debug)]
pub(crate) enum End {
    /// Sealed.
    Done(Vec<u8>),
    Failed(String),
}

pub(crate) async fn end(tx: &mut Tx, call: &Ending) -> Result<bool> {
    let id = &call.id;
    super::runs::touch(tx, &(id.scope.clone(), id.run.clone(), call.now)).await?;
    let (state, result, error, failures) = match &call.end {
        End::Done(result) => ("done", Some(result.clone()), None, None),
        End::Failed(error) => {
            let step = locked(tx, id).await?;
            let failures = step.map(|step| with_failure(&step, call.now, Some(error)));
            ("failed", None, Some(error.clone()), failures.transpose()?)
        }
    };
    let ended = tx
        .changed(
            "UPDATE steps SET state = $5, result = $6, error = $7, updated = $8, failures = COALESCE($9, failures) WHERE scope = $1 AND run = $2 AND step = $3 AND fence = $4 AND state = 'running'",
            args![
                &id.scope, &id.run, &id.step, call.fence, state, &result, error, call.now, failures
            ],
        )
        .await?;
    if ended {
        return Ok(true);
    }
    // The first time's answer may have got lost.
    let row = tx
        .row(
            "SELECT fence FROM steps WHERE scope = $1 AND run = $2 AND step = $3 AND fence = $4 AND state = $5",
            args![&id.scope, &id.run, &id.step, call.fence, state],
        )
        .await?;
    Ok(row.is_some())
}

pub(crate) async fn get(tx: &mut Tx, id: &StepId) -> Result<Option<Step>> {
    let row = tx
        .row(
            concat!(
                "SELECT ",
                whole!(),
                " FROM steps WHERE scope = $1 AND run = $2 AND step = $3"
            ),
            args![&id.scope, &id.run, &id.step],
        )
        .await?;
    row.map(read).transpose()
}

pub(crate) async fn list(tx: &mut Tx, run: &(String, String)) -> Result<Vec<Step>> {
    let rows = tx
        .rows(
            concat!(
                "SELECT ",
                head!(),
                ", NULL FROM steps WHERE scope = $1 AND run = $2 ORDER BY created, step LIMIT $3"
            ),
            args![&run.0, &run.1, MAX_STEPS],
        )
        .await?;
    rows.into_iter().map(read).collect()
}

fn read(mut row: Row) -> Result<Step> {
    Ok(Step {
        scope: row.text()?,
        run: row.text()?,
        step: row.text()?,
        state: row.word(StepState::find)?,
        fence: row.int()?,
        until: row.wall()?,
        attempts: row.int()?,
        error: row.opt_text()?,
        created: row.wall()?,
        begun: row.wall()?,
        updated: row.wall()?,
        failures: failures(row.json()?),
        result: row.opt_blob()?,
    })
}

fn failures(kept: Vec<KeptFailure>) -> Vec<Failure> {
    let read = |(attempt, begun, at, lapsed, error)| Failure {
        attempt,
        begun: Wall(begun),
        at: Wall(at),
        lapsed,
        error,
    };
    kept.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_beginner_finds() {
        let now = Wall(100);
        let table = [
            (StepState::Done, Wall(0), Verdict::Done),
            (StepState::Done, Wall(200), Verdict::Done),
            (StepState::Failed, Wall(200), Verdict::Again),
            (StepState::Running, Wall(101), Verdict::Running),
            (StepState::Running, Wall(100), Verdict::Again),
            (StepState::Running, Wall(0), Verdict::Again),
        ];
        for (state, until, verdict) in table {
            assert_eq!(decide(state, until, now), verdict, "{state} {until:?}");
        }
    }
}
