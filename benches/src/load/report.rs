//! What a client saw, and how it is told to the run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Seen;
use crate::Error;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Whole answers.
    pub(crate) whole: u64,
    /// Answers that were refused, cut, or not what the vendor said.
    pub(crate) errors: u64,
    /// The first error in words.
    pub(crate) first_error: Option<String>,
    pub(crate) tokens: u64,
    /// From the first call to the end of the last.
    pub(crate) seconds: f64,
    /// How much longer than its pace the slowest stream took.
    pub(crate) behind_ms: u64,
    /// Microseconds to the first token of each stream; in the end their quantiles.
    pub(crate) first_token: Spread,
    /// Streams without a token for more than a second after they were asked for.
    pub(crate) stalled: u64,
    /// Microseconds of each whole answer, less the time that the vendor held it.
    pub(crate) latency: Spread,
    /// How much later than due calls began, where they were due.
    pub(crate) late: Spread,
}

/// Many times, or what is left of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    #[serde(skip)]
    all: Vec<u32>,
    pub(crate) p50: u32,
    pub(crate) p99: u32,
    pub(crate) most: u32,
}

impl Spread {
    pub(super) fn push(&mut self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.all.push(micros);
    }

    fn sum(&mut self) {
        self.all.sort_unstable();
        self.p50 = quantile(&self.all, 50);
        self.p99 = quantile(&self.all, 99);
        self.most = quantile(&self.all, 100);
    }
}

/// The value that this share of the sorted values does not exceed.
fn quantile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

impl Report {
    pub(super) fn right(&mut self, seen: &Seen, took: Duration, tokens: Option<u64>, pace: u64) {
        self.whole += 1;
        self.tokens += seen.tokens;
        if let Some(first) = seen.first_token {
            self.stalled += u64::from(first > Duration::from_secs(1));
            self.first_token.push(first);
            let due = Duration::from_millis(tokens.unwrap_or(0) * pace);
            let behind = took.saturating_sub(due).as_millis();
            self.behind_ms = self
                .behind_ms
                .max(u64::try_from(behind).unwrap_or(u64::MAX));
        } else {
            self.latency.push(took.saturating_sub(seen.held));
        }
    }

    pub(super) fn wrong(&mut self, error: &Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn late(&mut self, late: Duration) {
        self.late.push(late);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.whole += other.whole;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.tokens += other.tokens;
        self.seconds = self.seconds.max(other.seconds);
        self.behind_ms = self.behind_ms.max(other.behind_ms);
        self.stalled += other.stalled;
        self.first_token.all.extend(other.first_token.all);
        self.latency.all.extend(other.latency.all);
        self.late.all.extend(other.late.all);
    }

    /// With its quantiles.
    pub(super) fn summed(mut self) -> Self {
        for spread in [&mut self.first_token, &mut self.latency, &mut self.late] {
            spread.sum();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_quantile_of_what_is_there() {
        assert_eq!(quantile(&[1, 2, 3, 4, 5], 50), 3);
        assert_eq!(quantile(&[1, 2, 3, 4, 5], 100), 5);
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&hundred, 99), 99);
        assert_eq!(quantile(&[], 50), 0);
    }

    #[test]
    fn what_the_vendor_held_is_no_latency() {
        let seen = Seen {
            held: Duration::from_millis(60),
            ..Seen::default()
        };
        let mut report = Report::default();
        report.right(&seen, Duration::from_micros(60_250), None, 0);
        assert_eq!(report.summed().latency.p99, 250);
    }
}
