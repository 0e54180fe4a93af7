//! How long to wait before asking the same target again: full jitter under a growing cap.
//!
//! Full jitter spreads the retries of many callers best; see the AWS Architecture Blog,
//! "Exponential Backoff And Jitter".

use std::time::Duration;

/// `base * 2^n`, capped; the wait is drawn evenly between zero and that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    pub base: Duration,
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(8),
        }
    }
}

impl Backoff {
    /// The wait before retry number `retry` (0 = the first); `dice` is evenly spread over all `u64`.
    pub fn wait(self, retry: u32, dice: u64) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(2_u32.saturating_pow(retry))
            .min(self.cap);
        let nanos = u128::from(u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX));
        // The product fits: both factors are below 2^64.
        let share = (nanos * u128::from(dice)) >> 64;
        Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_between_zero_and_the_growing_cap() {
        let backoff = Backoff::default();
        for retry in 0..40 {
            assert_eq!(backoff.wait(retry, 0), Duration::ZERO);
            let most = backoff.wait(retry, u64::MAX);
            let ceiling = Duration::from_millis(500 * (1 << retry.min(4)));
            assert!(most <= ceiling.min(backoff.cap) && most * 2 > ceiling.min(backoff.cap));
        }
    }
}
