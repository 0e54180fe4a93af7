//! Runs and steps.

use holdfast_core::time::Wall;

use crate::engine::job::Shape;
use crate::error::Result;
use crate::model::run::{Begun, NewRun, Run, RunFilter, RunState, Step};
use crate::model::ticket::NewTicket;
use crate::ops::runs::{self, Ending, Orphaning};
use crate::ops::steps::{self, Beginning, StepId};
use crate::ops::to_json;
use crate::store::{Store, names, new_id, texts};

impl Store {
    /// A sign of life; makes the run on its first use. An orphan whose deadline has not passed is open
    /// again, and its ticket resolved.
    pub async fn touch_run(&self, scope: &str, run: &str, now: Wall) -> Result<()> {
        names(&[scope, run])?;
        self.write(
            Shape::Many,
            (scope.to_owned(), run.to_owned(), now),
            |tx, call| Box::pin(runs::touch(tx, call)),
        )
        .await
    }

    /// Signs of life of several runs, each with its moment, in one transaction. Given in one order by
    /// everybody, nobody waits in a circle.
    pub async fn touch_runs(&self, signs: Vec<(String, String, Wall)>) -> Result<()> {
        for (scope, run, _) in &signs {
            names(&[scope, run])?;
        }
        self.write(Shape::Many, signs, |tx, signs| {
            Box::pin(runs::touch_all(tx, signs))
        })
        .await
    }

    /// Declares a run, also one that was made by its first use. One that has ended stays so.
    pub async fn declare_run(&self, run: NewRun) -> Result<Run> {
        names(&[&run.scope, &run.id])?;
        texts(&[&to_json(&run.expect)?, &to_json(&run.labels)?])?;
        self.write(Shape::Many, run, |tx, run| Box::pin(runs::declare(tx, run)))
            .await
    }

    /// A run.
    pub async fn run(&self, scope: &str, id: &str) -> Result<Option<Run>> {
        self.read((scope.to_owned(), id.to_owned()), |tx, id| {
            Box::pin(runs::get(tx, id))
        })
        .await
    }

    /// Runs, newest first.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        self.read(filter.clone(), |tx, filter| {
            Box::pin(runs::list(tx, filter))
        })
        .await
    }

    /// Ends an open or orphaned run, as `Done` or `Failed`. `false` = it is ended, there is none, or
    /// `state` is no end.
    pub async fn end_run(&self, scope: &str, id: &str, state: RunState, now: Wall) -> Result<bool> {
        match state {
            RunState::Open | RunState::Orphaned => return Ok(false),
            RunState::Done | RunState::Failed => {}
        }
        let call = Ending {
            scope: scope.to_owned(),
            id: id.to_owned(),
            state,
            now,
        };
        self.write(Shape::Many, call, |tx, call| Box::pin(runs::end(tx, call)))
            .await
    }

    /// Begins a step, or tells where it is. A failed one, and one whose lease has ended, begins again
    /// with the next fence.
    pub async fn begin_step(
        &self,
        scope: &str,
        run: &str,
        step: &str,
        until: Wall,
        now: Wall,
    ) -> Result<Begun> {
        let call = Beginning {
            id: step_id(scope, run, step)?,
            until,
            now,
        };
        let outcome = self
            .write(Shape::Many, call, |tx, call| {
                Box::pin(steps::begin(tx, call))
            })
            .await?;
        Ok(match outcome {
            steps::Outcome::Begun { fence } => Begun::Begun { fence },
            steps::Outcome::Running { until } => Begun::Running { until },
            steps::Outcome::Done(step) => Begun::Done(self.whole_step(*step)?),
        })
    }

    /// Ends a step well. `false` = fenced off.
    pub async fn complete_step(
        &self,
        scope: &str,
        run: &str,
        step: &str,
        fence: i64,
        result: Vec<u8>,
        now: Wall,
    ) -> Result<bool> {
        let id = step_id(scope, run, step)?;
        let sealed = self.seal("steps", place(&id), &result)?;
        self.end_step(id, fence, steps::End::Done(sealed), now)
            .await
    }

    /// Ends a step badly: it may be begun again. `false` = fenced off.
    pub async fn fail_step(
        &self,
        scope: &str,
        run: &str,
        step: &str,
        fence: i64,
        error: &str,
        now: Wall,
    ) -> Result<bool> {
        texts(&[error])?;
        let end = steps::End::Failed(error.to_owned());
        self.end_step(step_id(scope, run, step)?, fence, end, now)
            .await
    }

    /// A run's steps in the order they were first begun, without results. At most
    /// [`crate::MAX_STEPS`].
    pub async fn steps(&self, scope: &str, run: &str) -> Result<Vec<Step>> {
        self.read((scope.to_owned(), run.to_owned()), |tx, run| {
            Box::pin(steps::list(tx, run))
        })
        .await
    }

    /// A step with its result.
    pub async fn step(&self, scope: &str, run: &str, step: &str) -> Result<Option<Step>> {
        let kept = self
            .read(step_id(scope, run, step)?, |tx, id| {
                Box::pin(steps::get(tx, id))
            })
            .await?;
        kept.map(|step| self.whole_step(step)).transpose()
    }

    /// Open runs past their deadline or heartbeat.
    pub async fn quiet_runs(&self, now: Wall, limit: usize) -> Result<Vec<Run>> {
        self.read((now, limit), |tx, call| Box::pin(runs::quiet(tx, call)))
            .await
    }

    /// Makes a quiet run an orphan, with its ticket. `None` = it is not quiet any more.
    pub async fn orphan_run(
        &self,
        scope: &str,
        run: &str,
        ticket: NewTicket,
        now: Wall,
    ) -> Result<Option<String>> {
        let call = Orphaning {
            scope: scope.to_owned(),
            id: run.to_owned(),
            content: self.ticket_content(&ticket)?,
            ticket: NewTicket {
                content: None,
                scope: scope.to_owned(),
                run: Some(run.to_owned()),
                ..ticket
            },
            ticket_id: new_id(),
            now,
        };
        self.write(Shape::Many, call, |tx, call| {
            Box::pin(runs::orphan(tx, call))
        })
        .await
    }

    async fn end_step(&self, id: StepId, fence: i64, end: steps::End, now: Wall) -> Result<bool> {
        let call = steps::Ending {
            id,
            fence,
            end,
            now,
        };
        self.write(Shape::Many, call, |tx, call| Box::pin(steps::end(tx, call)))
            .await
    }

    fn whole_step(&self, mut step: Step) -> Result<Step> {
        if let Some(sealed) = step.result.take() {
            let id = StepId {
                scope: step.scope.clone(),
                run: step.run.clone(),
                step: step.step.clone(),
            };
            step.result = Some(self.unseal("steps", place(&id), sealed)?);
        }
        Ok(step)
    }
}

fn step_id(scope: &str, run: &str, step: &str) -> Result<StepId> {
    names(&[scope, run, step])?;
    Ok(StepId {
        scope: scope.to_owned(),
        run: run.to_owned(),
        step: step.to_owned(),
    })
}

/// A step in one text; the lengths keep two of them apart.
fn place(id: &StepId) -> String {
    format!(
        "{}/{}/{}/{}/{}",
        id.scope.len(),
        id.run.len(),
        id.scope,
        id.run,
        id.step
    )
}
