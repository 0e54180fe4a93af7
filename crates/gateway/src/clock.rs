//! The one place of the data path that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_core::time::{Time, Wall};

/// The process's clock: monotonic, counted from the gateway's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
    /// Wall time at the epoch. Wall time goes on from it with the monotonic clock, so that a clock that
    /// is set while the process runs moves no deadline.
    began: Wall,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            epoch: Instant::now(),
            began: Wall(i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Wall time, steady.
    pub(crate) fn wall(self) -> Wall {
        self.began + self.epoch.elapsed()
    }

    pub(crate) fn now(self) -> Time {
        Time::new(self.epoch.elapsed())
    }

    /// The runtime's instant of a moment.
    pub(crate) fn instant(self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.epoch + time.since_epoch())
    }
}

/// The id of a new exchange: a UUID of version 7 (RFC 9562, 5.7), in hexadecimal digits. Its random
/// part keeps no secret, and the system's source of randomness is a system call for each id.
pub(crate) fn exchange_id() -> String {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let millis = u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    id.simple().to_string()
}

/// Wall time in seconds since 1970, for what callers are shown.
pub(crate) fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}
