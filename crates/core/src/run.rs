//! Runs and steps: who may do a step, what its end is worth, and when a run has no one watching it.
//!
//! A step is begun under a lease and gets a fence, a number that each beginning raises. Its end counts
//! only under the fence of its last beginning: whoever was silent for too long and was replaced can't
//! write any more. A result, once accepted, stays. How times are read and written is in [`moment`].
//!
//! The store does the same in SQL; the tests of `holdfast-ops` hold it to these words. Nothing is
//! stored here, and no clock is read.

pub mod moment;

use std::time::Duration;

use crate::idempotency::parse_name;
use crate::time::Wall;

/// The longest lease of a step.
pub const LONGEST_LEASE: Duration = Duration::from_hours(24);
/// The shortest lease of a step.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// The longest silence that a run can be allowed.
pub const LONGEST_SILENCE: Duration = Duration::from_hours(24 * 30);

/// Where a begun step is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Somebody is at it, until the lease ends.
    Running,
    /// Its result is kept.
    Done,
    /// It may be begun again.
    Failed,
}

/// A step that was begun, as it is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    pub state: State,
    /// Of the last beginning; from 1.
    pub fence: i64,
    /// The end of the lease.
    pub until: Wall,
}

/// What beginning a step comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begin {
    /// It is the caller's, under this fence.
    Go { fence: i64 },
    /// Somebody else has it.
    Busy { until: Wall },
    /// There is a result: skip it.
    Done,
}

/// What ending a step comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    Accepted,
    /// It ended so before, under this very fence: the answer was lost on its way, perhaps.
    Known,
    /// It is somebody else's by now, or it ended otherwise.
    FencedOff,
    /// Nobody has begun it.
    Missing,
}

/// What is known of a run's life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Life {
    /// When it should have ended.
    pub deadline: Option<Wall>,
    /// The longest silence.
    pub heartbeat: Option<Duration>,
    /// The last sign of life.
    pub seen: Wall,
}

/// Why a run is an orphan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Orphan {
    /// It was to have ended `late` ago.
    Overdue { late: Duration },
    /// Nothing was heard of it for `silence`.
    Quiet { silence: Duration },
}

/// Whether a step can be begun at `now`; `None` = it never was. A lease that ended is free for
/// anybody, its first holder included.
pub fn begin(step: Option<Step>, now: Wall) -> Begin {
    let Some(step) = step else {
        return Begin::Go { fence: 1 };
    };
    match step.state {
        State::Done => Begin::Done,
        State::Running if now < step.until => Begin::Busy { until: step.until },
        State::Running | State::Failed => Begin::Go {
            fence: step.fence.saturating_add(1),
        },
    }
}

/// Whether a result is taken. A lease that ended does not matter as long as nobody else has begun.
pub fn complete(step: Option<Step>, fence: i64) -> End {
    end(step, fence, State::Done)
}

/// Whether a failure is taken. It makes no result undone.
pub fn fail(step: Option<Step>, fence: i64) -> End {
    end(step, fence, State::Failed)
}

fn end(step: Option<Step>, fence: i64, as_what: State) -> End {
    let Some(step) = step else {
        return End::Missing;
    };
    if step.fence != fence {
        return End::FencedOff;
    }
    match step.state {
        State::Running => End::Accepted,
        ended if ended == as_what => End::Known,
        State::Done | State::Failed => End::FencedOff,
    }
}

/// Whether an open run has no one watching it; the deadline is named first.
pub fn orphan(life: Life, now: Wall) -> Option<Orphan> {
    if let Some(deadline) = life.deadline.filter(|deadline| *deadline <= now) {
        let late = now.since(deadline);
        return Some(Orphan::Overdue { late });
    }
    let silence = now.since(life.seen);
    life.heartbeat
        .filter(|longest| silence >= *longest)
        .map(|_| Orphan::Quiet { silence })
}

/// The steps that were expected and have no result, in the order in which they were expected.
pub fn missing<'a>(expect: &'a [String], done: &[&str]) -> Vec<&'a str> {
    expect
        .iter()
        .map(String::as_str)
        .filter(|step| !done.contains(step))
        .collect()
}

/// A run's name, as in `Holdfast-Run`.
pub fn run_name(text: &str) -> Result<String, String> {
    parse_name("run", text)
}

/// A step's name, as in `Holdfast-Step`.
pub fn step_name(text: &str) -> Result<String, String> {
    parse_name("step", text)
}

#[cfg(test)]
mod tests;
