//! The breaker of a target: stops asking a vendor that fails, and finds out when it is back.
//!
//! Failures are told at the *end* of an answer, so a stream that was cut counts. It opens on
//! consecutive failures, on a failure share within a window, or at once on a money error. When its
//! time is over one probe is let through; the probe's end decides.

use std::time::Duration;

use crate::time::Time;

/// When to open and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Failures in a row that open it.
    pub consecutive: u32,
    /// Share of failures in the window that opens it.
    pub share: f64,
    pub window: Duration,
    /// Calls in the window below which the share says nothing.
    pub min_calls: u32,
    /// First open time; doubles with every failed probe up to `open_max`.
    pub open: Duration,
    pub open_max: Duration,
    /// Open time after a money error.
    pub money: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            consecutive: 5,
            share: 0.5,
            window: Duration::from_secs(10),
            min_calls: 20,
            open: Duration::from_secs(5),
            open_max: Duration::from_mins(1),
            money: Duration::from_mins(10),
        }
    }
}

/// How an attempt ended, as the breaker sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Report {
    Success,
    Failure,
    /// The account is out of money: asking again is pointless until somebody pays.
    Money,
    /// Says nothing about the target: the caller's fault, or the caller went away.
    Neutral,
}

/// May this target be asked now?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    Go,
    /// Go, and your end decides whether the target is back.
    Probe,
    /// No; ask again at that time.
    Open(Time),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Closed,
    Open {
        until: Time,
    },
    /// One probe is out, since then.
    HalfOpen {
        since: Time,
    },
}

const BUCKETS: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    slot: u64,
    calls: u32,
    failures: u32,
}

/// One target's breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    terms: Terms,
    state: State,
    consecutive: u32,
    open_for: Duration,
    buckets: [Bucket; BUCKETS],
}

impl Breaker {
    /// A closed breaker.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            state: State::Closed,
            consecutive: 0,
            open_for: terms.open,
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    /// Asks for one call. After `Go` or `Probe` exactly one [`Self::report`] must follow.
    pub fn admit(&mut self, now: Time) -> Admission {
        match self.state {
            State::Closed => Admission::Go,
            State::Open { until } if now < until => Admission::Open(until),
            // A probe that never reported (its process was killed with it) must not shut the target
            // for ever.
            State::HalfOpen { since } if now < since + self.terms.open_max => {
                Admission::Open(since + self.terms.open_max)
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { since: now };
                Admission::Probe
            }
        }
    }

    /// Tells how an admitted call ended.
    pub fn report(&mut self, now: Time, report: Report, probe: bool) {
        match report {
            Report::Money => self.open(now, self.terms.money),
            Report::Success => {
                self.consecutive = 0;
                self.count(now, false);
                if probe {
                    self.close();
                }
            }
            Report::Failure => {
                self.consecutive += 1;
                self.count(now, true);
                if probe {
                    self.open_for = (self.open_for * 2).min(self.terms.open_max);
                    self.open(now, self.open_for);
                } else if self.state == State::Closed && self.has_failed_enough(now) {
                    self.open(now, self.open_for);
                }
            }
            // The probe told nothing: let the next call probe.
            Report::Neutral if probe => self.state = State::Open { until: now },
            Report::Neutral => {}
        }
    }

    /// Until when it is open; `None` = closed or probing.
    pub fn open_until(&self) -> Option<Time> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Whether calls flow freely.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.open_for = self.terms.open;
        self.buckets = [Bucket::default(); BUCKETS];
    }

    fn open(&mut self, now: Time, time: Duration) {
        self.state = State::Open { until: now + time };
    }

    fn slot_width(&self) -> u128 {
        (self.terms.window.as_nanos() / BUCKETS as u128).max(1)
    }

    fn slot(&self, now: Time) -> u64 {
        u64::try_from(now.since_epoch().as_nanos() / self.slot_width()).unwrap_or(u64::MAX)
    }

    fn count(&mut self, now: Time, failed: bool) {
        let slot = self.slot(now);
        let place = usize::try_from(slot % BUCKETS as u64).unwrap_or(0);
        let bucket = &mut self.buckets[place];
        if bucket.slot != slot {
            *bucket = Bucket {
                slot,
                ..Bucket::default()
            };
        }
        bucket.calls += 1;
        bucket.failures += u32::from(failed);
    }

    fn has_failed_enough(&self, now: Time) -> bool {
        if self.consecutive >= self.terms.consecutive {
            return true;
        }
        let oldest = self.slot(now).saturating_sub(BUCKETS as u64 - 1);
        let (calls, failures) = self
            .buckets
            .iter()
            .filter(|bucket| bucket.slot >= oldest)
            .fold((0, 0), |(calls, failures), bucket| {
                (calls + bucket.calls, failures + bucket.failures)
            });
        calls >= self.terms.min_calls && f64::from(failures) >= self.terms.share * f64::from(calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, millis: u64) -> Admission {
        let now = Time::from_millis(millis);
        let admission = breaker.admit(now);
        match admission {
            Admission::Go => breaker.report(now, Report::Failure, false),
            Admission::Probe => breaker.report(now, Report::Failure, true),
            Admission::Open(_) => {}
        }
        admission
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_probe_decides() {
        let mut breaker = Breaker::new(Terms::default());
        for n in 0..5 {
            assert_eq!(fail(&mut breaker, n), Admission::Go);
        }
        assert_eq!(
            breaker.admit(Time::from_millis(5000)),
            Admission::Open(Time::from_millis(5004))
        );
        assert_eq!(breaker.admit(Time::from_millis(5004)), Admission::Probe);
        assert!(
            matches!(breaker.admit(Time::from_millis(5005)), Admission::Open(_)),
            "one probe only"
        );
        breaker.report(Time::from_millis(5010), Report::Failure, true);
        assert_eq!(
            breaker.admit(Time::from_millis(5011)),
            Admission::Open(Time::from_millis(15_010)),
            "the open time doubles"
        );
        assert_eq!(breaker.admit(Time::from_millis(15_010)), Admission::Probe);
        breaker.report(Time::from_millis(15_020), Report::Success, true);
        assert_eq!(breaker.admit(Time::from_millis(15_021)), Admission::Go);
    }

    #[test]
    fn half_of_twenty_calls_within_the_window_open_it() {
        let mut breaker = Breaker::new(Terms::default());
        for n in 0..19 {
            let now = Time::from_millis(n * 100);
            let report = if n % 2 == 0 {
                Report::Failure
            } else {
                Report::Success
            };
            breaker.report(now, report, false);
            assert!(breaker.is_closed(), "after {n}");
        }
        breaker.report(Time::from_millis(1900), Report::Success, false);
        breaker.report(Time::from_millis(1901), Report::Failure, false);
        assert!(!breaker.is_closed());
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut breaker = Breaker::new(Terms::default());
        for n in 0..200_u64 {
            let report = if n % 4 == 0 {
                Report::Failure
            } else {
                Report::Success
            };
            breaker.report(Time::from_millis(n * 50), report, false);
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn money_shuts_it_for_long_and_a_neutral_probe_frees_the_place() {
        let mut breaker = Breaker::new(Terms::default());
        breaker.report(Time::default(), Report::Money, false);
        assert!(matches!(
            breaker.admit(Time::from_millis(599_999)),
            Admission::Open(_)
        ));
        assert_eq!(breaker.admit(Time::from_millis(600_000)), Admission::Probe);
        breaker.report(Time::from_millis(600_001), Report::Neutral, true);
        assert_eq!(breaker.admit(Time::from_millis(600_002)), Admission::Probe);
    }

    #[test]
    fn a_lost_probe_does_not_shut_the_target_for_ever() {
        let mut breaker = Breaker::new(Terms::default());
        for n in 0..5 {
            fail(&mut breaker, n);
        }
        assert_eq!(breaker.admit(Time::from_millis(6000)), Admission::Probe);
        assert_eq!(breaker.admit(Time::from_millis(66_000)), Admission::Probe);
    }
}
