//! The one place of the data path that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_core::time::Time;

/// The process's clock: monotonic, counted from the gateway's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            epoch: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Time {
        Time::new(self.epoch.elapsed())
    }

    /// The runtime's instant of a moment.
    pub(crate) fn instant(self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.epoch + time.since_epoch())
    }
}

/// Wall time in seconds since 1970, for what callers are shown.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
