//! Runs and their steps: checkpoints of workflows.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::time::Wall;

use super::words;

words! {
    /// Where a run is.
    RunState {
        /// Goes on.
        Open = "open",
        /// Ended well.
        Done = "done",
        /// Ended badly.
        Failed = "failed",
        /// Went quiet past its deadline or heartbeat.
        Orphaned = "orphaned",
    }

    /// Where a step is.
    StepState {
        /// Somebody is at it, until its lease ends.
        Running = "running",
        /// Its result is kept.
        Done = "done",
        /// It may be begun again.
        Failed = "failed",
    }
}

/// A run that is declared before (or while) it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewRun {
    pub scope: String,
    pub id: String,
    /// The steps that it should have.
    pub expect: Vec<String>,
    pub deadline: Option<Wall>,
    /// The longest silence.
    pub heartbeat: Option<Duration>,
    pub labels: BTreeMap<String, String>,
    pub now: Wall,
}

/// A run as it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    pub scope: String,
    pub id: String,
    pub state: RunState,
    /// `false`: made by its first use.
    pub declared: bool,
    pub expect: Vec<String>,
    pub deadline: Option<Wall>,
    pub heartbeat: Option<Duration>,
    pub labels: BTreeMap<String, String>,
    /// The last sign of life.
    pub seen: Wall,
    pub created: Wall,
    pub ended: Option<Wall>,
    pub ticket: Option<String>,
}

/// Which runs. All conditions hold; empty ones do not count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RunFilter {
    pub scope: Option<String>,
    pub state: Option<RunState>,
    /// Only those made before the run with this cursor, `created` in milliseconds, then `/`, then the
    /// id; see [`Run::cursor`].
    pub after: Option<String>,
    /// At most this many; 0 and all above [`crate::MAX_LIST`] mean that.
    pub limit: usize,
}

impl Run {
    /// What `RunFilter::after` takes to go on behind this one.
    pub fn cursor(&self) -> String {
        format!("{}/{}", self.created.0, self.id)
    }
}

/// A step as it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    pub scope: String,
    pub run: String,
    pub step: String,
    pub state: StepState,
    pub fence: i64,
    /// The end of the lease.
    pub until: Wall,
    /// How often it was begun.
    pub attempts: i64,
    pub result: Option<Vec<u8>>,
    pub error: Option<String>,
    pub created: Wall,
    /// When it was begun the last time.
    pub begun: Wall,
    pub updated: Wall,
    /// The last attempts that came to nothing, oldest first; at most [`crate::MAX_FAILURES`].
    pub failures: Vec<Failure>,
}

/// An attempt of a step that came to nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Which one, from 1.
    pub attempt: i64,
    pub begun: Wall,
    /// When it failed, or its lease ended.
    pub at: Wall,
    /// Nobody said that it failed: its lease ended, and somebody else began.
    pub lapsed: bool,
    /// The beginning of what was said.
    pub error: String,
}

/// What became of beginning a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Begun {
    /// Go on; say `fence` at the end. Also after a failure and after a lease that ended.
    Begun { fence: i64 },
    /// Somebody else is at it.
    Running { until: Wall },
    /// It was done before.
    Done(Step),
}
