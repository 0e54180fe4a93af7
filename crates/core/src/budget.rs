//! The retry budget of a target: repeated asks are a share of recent calls, never a multiple.
//!
//! A token bucket: every call puts in a share of a token, time puts in a small floor so that a quiet
//! gateway can still retry, and a second ask at the same target takes one out. Moving on to another
//! target takes nothing.

use std::time::Duration;

use crate::time::Time;

/// What the bucket is filled by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Tokens per call (0.1 = one retry in ten calls).
    pub share: f64,
    /// Tokens per second, whatever the traffic.
    pub floor_per_second: f64,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            share: 0.1,
            floor_per_second: 1.0,
        }
    }
}

/// The most that can be saved up, in seconds of the floor and of calls: bursts after a quiet time
/// stay small.
const SAVED: Duration = Duration::from_secs(10);
/// Tokens saved up from calls at the most.
const SAVED_CALLS: f64 = 10.0;

/// One target's bucket.
#[derive(Clone, Debug)]
pub struct Budget {
    terms: Terms,
    tokens: f64,
    filled: Time,
}

impl Budget {
    /// A bucket that holds one second of the floor.
    pub fn new(terms: Terms, now: Time) -> Self {
        Self {
            terms,
            tokens: terms.floor_per_second,
            filled: now,
        }
    }

    /// A first ask was made.
    pub fn deposit(&mut self, now: Time) {
        self.fill(now);
        self.tokens = (self.tokens + self.terms.share).min(self.most());
    }

    /// Takes one token for a repeated ask; `false` = there is none.
    pub fn withdraw(&mut self, now: Time) -> bool {
        self.fill(now);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }

    fn most(&self) -> f64 {
        self.terms.floor_per_second * SAVED.as_secs_f64() + SAVED_CALLS
    }

    fn fill(&mut self, now: Time) {
        let gained = now.since(self.filled).as_secs_f64() * self.terms.floor_per_second;
        self.tokens = (self.tokens + gained).min(self.most());
        self.filled = now.max(self.filled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_a_tenth_of_the_calls_plus_the_floor() {
        let mut budget = Budget::new(Terms::default(), Time::default());
        let mut granted = 0;
        // 100 calls a second for 100 s, each of which wants a retry.
        for call in 0..10_000_u64 {
            let now = Time::from_millis(call * 10);
            budget.deposit(now);
            granted += u32::from(budget.withdraw(now));
        }
        assert!((1090..=1111).contains(&granted), "{granted}");
    }

    #[test]
    fn a_quiet_gateway_can_still_retry() {
        let mut budget = Budget::new(Terms::default(), Time::default());
        assert!(budget.withdraw(Time::default()));
        assert!(!budget.withdraw(Time::default()));
        assert!(budget.withdraw(Time::from_millis(1000)));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing() {
        let mut budget = Budget::new(Terms::default(), Time::from_millis(5000));
        assert!(budget.withdraw(Time::from_millis(5000)));
        assert!(!budget.withdraw(Time::from_millis(1000)));
        assert!(!budget.withdraw(Time::from_millis(5000)));
    }
}
