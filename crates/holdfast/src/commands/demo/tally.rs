//! Counting: what became of the calls of each side, over all and over time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::verdict::{End, Outcome, Told};

/// Slots of the timeline.
pub(super) const SLOTS: usize = 60;

/// The counts of one side.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) asked: u32,
    /// In the order of [`Outcome::ALL`].
    ended: [u32; 5],
    /// How programs were told.
    pub(super) told: BTreeMap<Told, u32>,
    /// How long each whole answer took.
    whole: Vec<Duration>,
    slots: Vec<Slot>,
    /// Calls that reached a vendor.
    pub(super) vendor_calls: u64,
}

/// What became of the calls that were asked in one stretch of time; the worst of it counts.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Slot {
    /// Nothing was asked, or nothing has ended yet.
    #[default]
    Empty,
    /// Every answer was whole.
    Healthy,
    /// Some calls failed with an error that was told.
    Told,
    /// Some programs were left with half, wrong or no answers.
    Failed,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![Slot::Empty; SLOTS],
            ..Self::default()
        }
    }

    /// A call that was asked when `share` of the demo had passed has ended.
    pub(super) fn count(&mut self, share: f64, outcome: Outcome, end: End, took: Duration) {
        self.ended[place(outcome)] += 1;
        if let End::Told(told) = end {
            *self.told.entry(told).or_default() += 1;
        }
        if outcome == Outcome::Whole {
            self.whole.push(took);
        }
        let slot = &mut self.slots[slot_at(share)];
        *slot = (*slot).max(match outcome {
            Outcome::Whole => Slot::Healthy,
            Outcome::Told => Slot::Told,
            Outcome::Half | Outcome::Silent | Outcome::Hung => Slot::Failed,
        });
    }

    pub(super) fn of(&self, outcome: Outcome) -> u32 {
        self.ended[place(outcome)]
    }

    /// Answers that are half, silent or hung.
    pub(super) fn broken_promises(&self) -> u32 {
        let all = Outcome::ALL.iter();
        all.filter(|outcome| outcome.is_broken_promise())
            .map(|outcome| self.of(*outcome))
            .sum()
    }

    /// The time within which `percent` of the whole answers came; none without any.
    pub(super) fn latency(&self, percent: usize) -> Option<Duration> {
        let mut all = self.whole.clone();
        all.sort_unstable();
        let rank = (all.len() * percent).div_ceil(100).max(1);
        all.get(rank - 1).copied()
    }

    /// Vendor calls for each call that was asked.
    pub(super) fn calls_per_call(&self) -> f64 {
        let vendor_calls = u32::try_from(self.vendor_calls).unwrap_or(u32::MAX);
        if self.asked == 0 {
            return 0.0;
        }
        f64::from(vendor_calls) / f64::from(self.asked)
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

fn place(outcome: Outcome) -> usize {
    Outcome::ALL
        .iter()
        .position(|known| *known == outcome)
        .expect("invariant: every outcome is in the list of all")
}

/// The slot of a moment, given as the share of the demo that had passed.
pub(super) fn slot_at(share: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a handful of slots; the cast saturates"
    )]
    let slot = (share * SLOTS as f64) as usize;
    slot.min(SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn percentiles_are_of_whole_answers_only() {
        let mut tally = Tally::new();
        assert_eq!(tally.latency(50), None);
        for took in 1..=100 {
            tally.count(0.0, Outcome::Whole, End::Ended, millis(took));
        }
        tally.count(0.0, Outcome::Hung, End::Stalled, millis(9000));
        assert_eq!(tally.latency(50), Some(millis(50)));
        assert_eq!(tally.latency(99), Some(millis(99)));
        assert_eq!(tally.of(Outcome::Whole), 100);
        assert_eq!(tally.broken_promises(), 1);
    }

    #[test]
    fn the_worst_of_a_slot_is_shown() {
        let mut tally = Tally::new();
        let told = End::Told(Told::Status(529));
        tally.count(0.0, Outcome::Told, told, millis(1));
        tally.count(0.0, Outcome::Whole, End::Ended, millis(1));
        tally.count(0.5, Outcome::Whole, End::Ended, millis(1));
        tally.count(1.0, Outcome::Half, End::Ended, millis(1));
        assert_eq!(tally.slots()[0], Slot::Told);
        assert_eq!(tally.slots()[1], Slot::Empty);
        assert_eq!(tally.slots()[SLOTS / 2], Slot::Healthy);
        assert_eq!(tally.slots()[SLOTS - 1], Slot::Failed);
        assert_eq!(tally.told[&Told::Status(529)], 1);
        assert_eq!(tally.broken_promises(), 1);
    }

    #[test]
    fn vendor_calls_are_counted_for_each_call() {
        let tally = Tally {
            asked: 4,
            vendor_calls: 5,
            ..Tally::new()
        };
        assert!((tally.calls_per_call() - 1.25).abs() < 1e-9);
        assert!(Tally::new().calls_per_call().abs() < 1e-9);
    }
}
