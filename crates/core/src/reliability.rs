//! Chain mathematics: how reliable steps are, what a chain of them should be, what it is, and why.
//!
//! Counts become shares with Wilson intervals; independent steps multiply; whole runs are compared with
//! that product (the coordination gap). What failures have in common is in [`shared`], what one change
//! would buy in [`change`]. Nothing is read from a ledger here, and no figure is believed: every number
//! that comes in is checked once, and what is checked is a type.
//!
//! The formulas, their sources and what they can't tell are in `docs/gap.md`.

pub mod change;
mod normal;
pub mod shared;
#[cfg(test)]
mod tests;

use std::fmt;

/// A chain with so many steps in a row that nothing supervises is warned of. Six steps that are right 99
/// times in 100 are wrong together one time in 17.
pub const LONG_CHAIN: usize = 6;

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Probability(f64);

/// How sure an interval is meant to be: from 0.5 to 0.999999.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Confidence(f64);

/// How often it went well, of how often it was tried. Never of nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tally {
    ok: u64,
    total: u64,
}

/// From `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// A share, and how far it can be trusted. No interval where it was given and not counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub interval: Option<Interval>,
}

/// What is known of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known {
    Counted(Tally),
    Given(Probability),
}

/// How whole runs compare with what independent steps predict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    pub predicted: Estimate,
    pub measured: Estimate,
    /// Predicted less measured: above zero, runs are worse than their steps.
    pub gap: f64,
    /// Of the gap. Too wide rather than too narrow where runs and steps were counted in the same data.
    pub interval: Interval,
    pub reading: Reading,
}

/// What can be said of a gap at its confidence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// Runs fail where no step did: hand-overs, what stands between the steps.
    Worse,
    /// Chance may be all that is behind the difference.
    Within,
    /// Steps fail together, in the same runs.
    Better,
}

/// Steps in a row that nothing supervises.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stretch {
    /// The first of them, from 0.
    pub from: usize,
    pub length: usize,
}

/// A figure that can't be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Error {
    NotAProbability(f64),
    Confidence(f64),
    MoreThanAll {
        ok: u64,
        total: u64,
    },
    NothingCounted,
    NoSteps,
    /// A unit of common-cause counting names what was not seen in it, or one twice.
    Unit {
        unit: usize,
    },
}

// === impl Probability ===

impl Probability {
    pub const ZERO: Self = Self(0.0);
    pub const ONE: Self = Self(1.0);

    pub fn new(value: f64) -> Result<Self, Error> {
        // Not a number is in no range.
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(Error::NotAProbability(value))
        }
    }

    /// What rounding may have carried a hair beyond its bounds.
    fn near(value: f64) -> Self {
        Self(value.clamp(0.0, 1.0))
    }

    pub fn get(self) -> f64 {
        self.0
    }

    /// The probability of the opposite.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(1.0 - self.0)
    }
}

// === impl Confidence ===

impl Confidence {
    /// `0.95` for 95 %.
    pub fn new(value: f64) -> Result<Self, Error> {
        if (0.5..=0.999_999).contains(&value) {
            Ok(Self(value))
        } else {
            Err(Error::Confidence(value))
        }
    }

    pub fn get(self) -> f64 {
        self.0
    }

    /// How many standard deviations on both sides it stands for: 1.96 for 95 %.
    pub fn z(self) -> f64 {
        normal::quantile(f64::midpoint(1.0, self.0))
    }
}

impl Default for Confidence {
    fn default() -> Self {
        Self(0.95)
    }
}

// === impl Tally ===

impl Tally {
    pub fn new(ok: u64, total: u64) -> Result<Self, Error> {
        if total == 0 {
            Err(Error::NothingCounted)
        } else if ok > total {
            Err(Error::MoreThanAll { ok, total })
        } else {
            Ok(Self { ok, total })
        }
    }

    pub fn ok(self) -> u64 {
        self.ok
    }

    pub fn total(self) -> u64 {
        self.total
    }

    pub fn share(self) -> Probability {
        Probability::near(count(self.ok) / count(self.total))
    }

    /// The Wilson score interval.
    pub fn interval(self, confidence: Confidence) -> Interval {
        wilson(self.share(), count(self.total), confidence)
    }

    pub fn estimate(self, confidence: Confidence) -> Estimate {
        Estimate {
            value: self.share().get(),
            interval: Some(self.interval(confidence)),
        }
    }
}

// === impl Interval ===

impl Interval {
    /// Nothing but one value.
    fn point(value: f64) -> Self {
        Self {
            low: value,
            high: value,
        }
    }

    pub fn contains(self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

// === impl Known ===

impl Known {
    pub fn share(self) -> Probability {
        match self {
            Self::Counted(tally) => tally.share(),
            Self::Given(share) => share,
        }
    }

    pub fn estimate(self, confidence: Confidence) -> Estimate {
        match self {
            Self::Counted(tally) => tally.estimate(confidence),
            Self::Given(share) => Estimate {
                value: share.get(),
                interval: None,
            },
        }
    }
}

// === impl Error ===

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAProbability(value) => write!(f, "{value} is not a number from 0 to 1"),
            Self::Confidence(value) => {
                write!(f, "a confidence is from 0.5 to 0.999999, not {value}")
            }
            Self::MoreThanAll { ok, total } => {
                write!(
                    f,
                    "{ok} of {total} can't have gone well: that is more than all"
                )
            }
            Self::NothingCounted => f.write_str("a share of nothing: the total is 0"),
            Self::NoSteps => f.write_str("a chain has at least one step"),
            Self::Unit { unit } => {
                write!(
                    f,
                    "unit {unit} names what was not seen in it, or one thing twice"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

/// The Wilson score interval of a share among `n` (E. B. Wilson, "Probable Inference, the Law of
/// Succession, and Statistical Inference", J. Am. Stat. Assoc. 22 (1927), 209-212). Stays within 0 to 1,
/// and says something sensible of 0 and of all.
fn wilson(share: Probability, n: f64, confidence: Confidence) -> Interval {
    let (p, z) = (share.get(), confidence.z());
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // The bounds are exact at both ends, where rounding would leave crumbs.
    Interval {
        low: if p <= 0.0 {
            0.0
        } else {
            (centre - half).max(0.0)
        },
        high: if p >= 1.0 {
            1.0
        } else {
            (centre + half).min(1.0)
        },
    }
}

/// What a chain of independent steps should be: the product.
///
/// Its interval is recovered from those of the counted steps on the scale of logarithms (the method of
/// variance estimates recovery: G. Y. Zou and A. Donner, Stat. Med. 27 (2008), 1693-1702); given steps
/// are taken for exact. No interval where no step was counted.
pub fn chain(steps: &[Known], confidence: Confidence) -> Result<Estimate, Error> {
    if steps.is_empty() {
        return Err(Error::NoSteps);
    }
    let value = steps.iter().map(|step| step.share().get()).product();
    let is_counted = |step: &Known| matches!(step, Known::Counted(_));
    let interval = steps
        .iter()
        .any(is_counted)
        .then(|| chain_interval(steps, value, confidence));
    Ok(Estimate { value, interval })
}

fn chain_interval(steps: &[Known], value: f64, confidence: Confidence) -> Interval {
    let parts = steps.iter().map(|step| {
        let estimate = step.estimate(confidence);
        let interval = estimate
            .interval
            .unwrap_or_else(|| Interval::point(estimate.value));
        (estimate.value, interval)
    });
    if value <= 0.0 {
        // A step that never went well has no logarithm; the chain is no better than the worst of them.
        let high = parts.map(|(_, interval)| interval.high).fold(1.0, f64::min);
        return Interval { low: 0.0, high };
    }
    let (mut below, mut above) = (0.0, 0.0);
    for (share, interval) in parts {
        below += (share / interval.low).ln().powi(2);
        above += (interval.high / share).ln().powi(2);
    }
    Interval {
        low: value * (-f64::sqrt(below)).exp(),
        high: (value * f64::sqrt(above).exp()).min(1.0),
    }
}

/// Compares whole runs with what their steps predict.
///
/// The interval of the difference is recovered from those of its two parts, as if these were
/// independent (R. G. Newcombe, Stat. Med. 17 (1998), 873-890).
pub fn gap(predicted: Estimate, runs: Tally, confidence: Confidence) -> Gap {
    let measured = runs.estimate(confidence);
    let of = |estimate: Estimate| {
        estimate
            .interval
            .unwrap_or_else(|| Interval::point(estimate.value))
    };
    let (p, m) = (of(predicted), of(measured));
    let gap = predicted.value - measured.value;
    let interval = Interval {
        low: gap - (predicted.value - p.low).hypot(m.high - measured.value),
        high: gap + (p.high - predicted.value).hypot(measured.value - m.low),
    };
    let reading = if interval.low > 0.0 {
        Reading::Worse
    } else if interval.high < 0.0 {
        Reading::Better
    } else {
        Reading::Within
    };
    Gap {
        predicted,
        measured,
        gap,
        interval,
        reading,
    }
}

/// The longest row of steps without supervision; of equally long ones the first. `supervised` says of
/// each step whether a gate, a checkpoint or an approval stands behind it. `None` = every step is.
pub fn longest_unsupervised(supervised: &[bool]) -> Option<Stretch> {
    let mut longest: Option<Stretch> = None;
    let mut from = 0;
    for (step, is_supervised) in supervised.iter().enumerate() {
        // What is checked is checked at its end: the step itself closes the row.
        let length = if *is_supervised { 0 } else { step + 1 - from };
        if *is_supervised {
            from = step + 1;
        }
        if length > longest.map_or(0, |row| row.length) {
            longest = Some(Stretch { from, length });
        }
    }
    longest
}

#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 the last digits of a count say nothing of a share"
)]
fn count(number: u64) -> f64 {
    number as f64
}

fn length(number: usize) -> f64 {
    count(u64::try_from(number).unwrap_or(u64::MAX))
}
