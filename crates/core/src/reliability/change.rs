//! What one change to a chain would buy: a second vendor, a retry, a checkpoint, better steps.

use super::{Error, Probability, length};

/// The work of one finished run, in steps that were carried out, where a failed run begins again from
/// its last checkpoint until it is through. Infinite where a step never goes well.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The length of the chain: what a run without failures costs.
    pub least: f64,
    /// Begin again from the first step.
    pub without: f64,
    /// With one checkpoint where it saves the most. `None` for a single step.
    pub with_one: Option<Checkpoint>,
    /// With a checkpoint after every step.
    pub with_all: f64,
}

/// One checkpoint, and what is left to do with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checkpoint {
    /// It stands behind this step, from 0.
    pub after: usize,
    pub work: f64,
}

/// A step with a second go at what failed: a second vendor, or one retry. `beta` is the share of failures
/// that meets the second go as well, because they share their cause; 0 = independent.
///
/// Of the failure probability `q`, the shared part `βq` fails both at once, the rest each by itself
/// (the beta-factor model, see [`super::shared`]), composed exactly and not for rare failures only.
#[must_use]
pub fn second_go(step: Probability, second: Probability, beta: Probability) -> Probability {
    let alone = |share: Probability, common: f64| {
        let q = share.complement().get();
        if common >= 1.0 {
            0.0
        } else {
            ((q - common) / (1.0 - common)).max(0.0)
        }
    };
    // A cause that both share can't be more frequent than the failures of the better one.
    let least = step.complement().get().min(second.complement().get());
    let common = beta.get() * least;
    let both = common + (1.0 - common) * alone(step, common) * alone(second, common);
    Probability::near(1.0 - both)
}

/// How reliable each of `steps` equal steps must be for the chain to be `wanted`; also the (geometric)
/// mean step of a chain that is so reliable.
pub fn needed(wanted: Probability, steps: usize) -> Result<Probability, Error> {
    if steps == 0 {
        return Err(Error::NoSteps);
    }
    Ok(Probability::near(wanted.get().powf(1.0 / length(steps))))
}

/// The expected work of a finished run, by where it begins again after a failure.
///
/// Reaching the end of step k costs `E(k) = (E(k-1) + 1) / p(k)`: the way there and the step itself, as
/// often as it takes until the step goes well (successes in a row, W. Feller, "An Introduction to
/// Probability Theory", vol. 1, XIII.7, here with steps that differ).
pub fn work(steps: &[Probability]) -> Result<Work, Error> {
    if steps.is_empty() {
        return Err(Error::NoSteps);
    }
    let with_one = (1..steps.len())
        .map(|cut| Checkpoint {
            after: cut - 1,
            work: from_start(&steps[..cut]) + from_start(&steps[cut..]),
        })
        .reduce(|best, other| if other.work < best.work { other } else { best });
    Ok(Work {
        least: length(steps.len()),
        without: from_start(steps),
        with_one,
        with_all: steps.iter().map(|step| 1.0 / step.get()).sum(),
    })
}

fn from_start(steps: &[Probability]) -> f64 {
    steps
        .iter()
        .fold(0.0, |work, step| (work + 1.0) / step.get())
}
