//! What failures have in common: the beta factor.
//!
//! The beta-factor model (K. N. Fleming, GA-A13284, 1974) splits the failures of like components into
//! those of each by itself and those that take all of them at once; β is the share of the latter. Its
//! estimate from events is that of A. Mosleh et al., "Procedures for Treating Common Cause Failures in
//! Safety and Reliability Studies", NUREG/CR-4780 (1988): failures in events with two or more of them,
//! of all failures.
//!
//! An event is here whatever failed within one unit, a window of time or a run. Two may fail in one
//! window by chance; how much of the share that explains is computed, and taken off.

use super::{Confidence, Error, Interval, Probability, count, length, wilson};

/// A window of time, or a run: which components were used in it, and which of them failed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unit {
    /// Numbers of components, each once.
    pub seen: Vec<usize>,
    /// Of those seen.
    pub failed: Vec<usize>,
}

/// What failures have in common, as far as the units tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shared {
    /// Units in which something failed.
    pub events: u64,
    /// Failures: components that failed, over all events.
    pub failures: u64,
    /// Failures in events with two or more of them.
    pub together: u64,
    /// `together` of `failures`: the estimator as it stands in NUREG/CR-4780.
    pub observed: Probability,
    /// What `observed` would be if the components failed as often, each by itself.
    pub by_chance: Probability,
    /// What is left when chance is taken off: the shared-cause share. 0 where chance explains it all.
    pub beta: Probability,
    /// Of `beta`; a Wilson interval with the events as its count, because failures of one event are not
    /// independent of each other.
    pub interval: Interval,
}

/// Estimates the shared-cause share. `None` where nothing failed, or where no two components were ever
/// used in one unit: then nothing can be said.
pub fn estimate(units: &[Unit], confidence: Confidence) -> Result<Option<Shared>, Error> {
    let rates = rates(units)?;
    let (mut events, mut failures, mut together) = (0, 0, 0);
    for unit in units {
        let failed = unit.failed.len() as u64;
        events += u64::from(failed > 0);
        failures += failed;
        together += if failed > 1 { failed } else { 0 };
    }
    if failures == 0 || units.iter().all(|unit| unit.seen.len() < 2) {
        return Ok(None);
    }
    let observed = Probability::near(count(together) / count(failures));
    let by_chance = by_chance(units, &rates);
    let observed_interval = wilson(observed, count(events), confidence);
    Ok(Some(Shared {
        events,
        failures,
        together,
        observed,
        by_chance,
        beta: Probability::near(beyond(observed.get(), by_chance)),
        interval: Interval {
            low: beyond(observed_interval.low, by_chance),
            high: beyond(observed_interval.high, by_chance),
        },
    }))
}

/// How often each component failed, of the units in which it was used.
fn rates(units: &[Unit]) -> Result<Vec<f64>, Error> {
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for (number, unit) in units.iter().enumerate() {
        let wrong = Error::Unit { unit: number };
        for (place, component) in unit.seen.iter().enumerate() {
            if unit.seen[..place].contains(component) {
                return Err(wrong);
            }
            if counts.len() <= *component {
                counts.resize(component + 1, (0, 0));
            }
            counts[*component].1 += 1;
        }
        for (place, component) in unit.failed.iter().enumerate() {
            if unit.failed[..place].contains(component) || !unit.seen.contains(component) {
                return Err(wrong);
            }
            counts[*component].0 += 1;
        }
    }
    let rate = |(failed, seen): (usize, usize)| length(failed) / length(seen).max(1.0);
    Ok(counts.into_iter().map(rate).collect())
}

/// The share of failures that fall together if each component fails at its own rate, whatever the others
/// do.
fn by_chance(units: &[Unit], rates: &[f64]) -> Probability {
    let (mut all, mut lone) = (0.0, 0.0);
    for unit in units {
        for component in &unit.seen {
            all += rates[*component];
            let others = unit.seen.iter().filter(|other| *other != component);
            let alone: f64 = others.map(|other| 1.0 - rates[*other]).product();
            lone += rates[*component] * alone;
        }
    }
    if all > 0.0 {
        Probability::near(1.0 - lone / all)
    } else {
        Probability::ZERO
    }
}

/// Failures stay alone only if no shared cause and no chance brings another: `1 - observed = (1 - β)(1 -
/// chance)`.
fn beyond(observed: f64, by_chance: Probability) -> f64 {
    let chance = by_chance.get();
    if chance >= 1.0 {
        // All of them always fail: one and the same picture with and without a shared cause.
        return 0.0;
    }
    ((observed - chance) / (1.0 - chance)).clamp(0.0, 1.0)
}
