//! What runs, approvals and events may cost: every number is a limit.

use std::time::Duration;

use holdfast_store::Retention;

/// The limits and times of this room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// The longest that a caller may wait for something to happen (`?wait=`).
    pub wait: Duration,
    /// The lease of a step that is begun without one.
    pub lease: Duration,
    /// The largest result of a step, and the largest context of an approval, in bytes of JSON.
    pub result_bytes: usize,
    /// The longest silence of a declared run that names none; `None` = any.
    pub heartbeat: Option<Duration>,
    /// Between two looks for quiet runs and for approvals whose deadline has passed.
    pub check_every: Duration,
    /// How long an approval without a deadline lies in the queue.
    pub approval_expiry: Duration,
    pub retention: Retention,
    /// Between two looks for what may be forgotten.
    pub expire_every: Duration,
    /// The most streams of events at once. Beyond: 503.
    pub streams: usize,
    /// The longest silence on a stream of events; then a comment is sent.
    pub keep_alive: Duration,
    /// A stream of events whose reader takes nothing for this long ends; it can be resumed.
    pub stall: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            wait: Duration::from_mins(1),
            lease: Duration::from_mins(1),
            result_bytes: 1 << 20,
            heartbeat: None,
            check_every: Duration::from_secs(1),
            approval_expiry: Duration::from_hours(7 * 24),
            retention: Retention::default(),
            expire_every: Duration::from_mins(1),
            streams: 256,
            keep_alive: Duration::from_secs(15),
            stall: Duration::from_secs(30),
        }
    }
}
