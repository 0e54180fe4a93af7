//! Steps: checkpoints with a lease and a fence.

use holdfast_core::time::Wall;

use crate::engine::sql::{Row, Tx, args};
use crate::error::{Error, Result};
use crate::model::run::{Step, StepState};

macro_rules! head {
    () => {
        "scope, run, step, state, fence, until, attempts, error, created, updated"
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
            "INSERT INTO steps (scope, run, step, state, fence, until, attempts, created, updated) VALUES ($1, $2, $3, 'running', 1, $4, 1, $5, $5) ON CONFLICT (scope, run, step) DO NOTHING",
            args![&id.scope, &id.run, &id.step, call.until, call.now],
        )
        .await?;
    if inserted {
        return Ok(Outcome::Begun { fence: 1 });
    }
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
    let Some(row) = row else {
        return Err(Error::Unavailable("the run was just forgotten".to_owned()));
    };
    let step = read(row)?;
    match decide(step.state, step.until, call.now) {
        Verdict::Done => Ok(Outcome::Done(Box::new(step))),
        Verdict::Running => Ok(Outcome::Running { until: step.until }),
        Verdict::Again => {
            let fence = step.fence + 1;
            tx.execute(
                "UPDATE steps SET state = 'running', fence = $4, until = $5, attempts = attempts + 1, updated = $6 WHERE scope = $1 AND run = $2 AND step = $3",
                args![&id.scope, &id.run, &id.step, fence, call.until, call.now],
            )
            .await?;
            Ok(Outcome::Begun { fence })
        }
    }
}

fn decide(state: StepState, until: Wall, now: Wall) -> Verdict {
    match state {
        StepState::Done => Verdict::Done,
        StepState::Failed => Verdict::Again,
        StepState::Running if until > now => Verdict::Running,
        StepState::Running => Verdict::Again,
    }
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
    let (state, result, error) = match &call.end {
        End::Done(result) => ("done", Some(result.clone()), None),
        End::Failed(error) => ("failed", None, Some(error.clone())),
    };
    super::runs::touch(tx, &(id.scope.clone(), id.run.clone(), call.now)).await?;
    let ended = tx
        .changed(
            "UPDATE steps SET state = $5, result = $6, error = $7, updated = $8 WHERE scope = $1 AND run = $2 AND step = $3 AND fence = $4 AND state = 'running'",
            args![
                &id.scope, &id.run, &id.step, call.fence, state, &result, error, call.now
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
                ", NULL FROM steps WHERE scope = $1 AND run = $2 ORDER BY created, step LIMIT 10000"
            ),
            args![&run.0, &run.1],
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
        updated: row.wall()?,
        result: row.opt_blob()?,
    })
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
