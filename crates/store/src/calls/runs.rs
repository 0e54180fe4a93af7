//! Runs and steps.

use crate::error::{Error, Result};
use crate::model::run::{Begun, NewRun, Run, RunFilter, RunState, Step};
use crate::model::ticket::NewTicket;
use crate::store::Store;
use holdfast_core::time::Wall;

impl Store {
    /// A sign of life; makes the run on its first use.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn touch_run(&self, scope: &str, run: &str, now: Wall) -> Result<()> {
        let _ = (scope, run, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Declares a run, also one that was made by its first use.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn declare_run(&self, run: NewRun) -> Result<Run> {
        let _ = (run,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// A run.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn run(&self, scope: &str, id: &str) -> Result<Option<Run>> {
        let _ = (scope, id);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Runs, newest first.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        let _ = (filter,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Ends an open or orphaned run. `false` = it is ended, or there is none.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn end_run(&self, scope: &str, id: &str, state: RunState, now: Wall) -> Result<bool> {
        let _ = (scope, id, state, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Begins a step, or tells where it is.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn begin_step(
        &self,
        scope: &str,
        run: &str,
        step: &str,
        until: Wall,
        now: Wall,
    ) -> Result<Begun> {
        let _ = (scope, run, step, until, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Ends a step well. `false` = fenced off.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn complete_step(
        &self,
        scope: &str,
        run: &str,
        step: &str,
        fence: i64,
        result: Vec<u8>,
        now: Wall,
    ) -> Result<bool> {
        let _ = (scope, run, step, fence, result, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Ends a step badly: it may be begun again. `false` = fenced off.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn fail_step(
        &self,
        scope: &str,
        run: &str,
        step: &str,
        fence: i64,
        error: &str,
        now: Wall,
    ) -> Result<bool> {
        let _ = (scope, run, step, fence, error, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// A run's steps in the order they were first begun, without results.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn steps(&self, scope: &str, run: &str) -> Result<Vec<Step>> {
        let _ = (scope, run);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// A step with its result.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn step(&self, scope: &str, run: &str, step: &str) -> Result<Option<Step>> {
        let _ = (scope, run, step);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Open runs past their deadline or heartbeat.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn quiet_runs(&self, now: Wall, limit: usize) -> Result<Vec<Run>> {
        let _ = (now, limit);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Makes a quiet run an orphan, with its ticket. `None` = it is not quiet any more.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn orphan_run(
        &self,
        scope: &str,
        run: &str,
        ticket: NewTicket,
        now: Wall,
    ) -> Result<Option<String>> {
        let _ = (scope, run, ticket, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }
}
