//! The result over time: one character for each slot, and above it what the vendor was going through.

use std::fmt::Write;
use std::time::Duration;

use super::load::SIDES;
use super::tally::{SLOTS, Slot, Tally, slot_at};

/// Whether colour is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ink {
    Plain,
    Colour,
}

/// What the characters of the timeline mean.
pub(super) const LEGEND: &str = "`.` all whole   `o` some calls got an explicit error   `X` some answers half, silent or hung\n";

/// The timeline of both sides, with a newline at its end.
pub(super) fn timeline(phases: &[(String, Duration)], tallies: &[Tally; 2], ink: Ink) -> String {
    let mut text = format!("{:<18}{}\n", "first vendor", ruler(phases));
    for (side, tally) in SIDES.iter().zip(tallies) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{side:<18}{}", strip(tally.slots(), ink));
    }
    text
}

/// The phases of the scenario, each from its first slot on.
fn ruler(phases: &[(String, Duration)]) -> String {
    let length: Duration = phases.iter().map(|(_, lasts)| *lasts).sum();
    let mut ruler = vec![' '; SLOTS];
    let mut passed = Duration::ZERO;
    for (name, lasts) in phases {
        let from = slot_at(passed.as_secs_f64() / length.as_secs_f64());
        passed += *lasts;
        let to = if passed >= length {
            SLOTS
        } else {
            slot_at(passed.as_secs_f64() / length.as_secs_f64())
        };
        let label = "|".chars().chain(name.chars());
        for (place, letter) in ruler[from..to].iter_mut().zip(label) {
            *place = letter;
        }
    }
    String::from_iter(ruler).trim_end().to_owned()
}

/// One character for each slot.
fn strip(slots: &[Slot], ink: Ink) -> String {
    let mut text = String::new();
    let mut last = Slot::Empty;
    for slot in slots {
        if ink == Ink::Colour && *slot != last {
            text.push_str(colour(*slot));
            last = *slot;
        }
        text.push(match slot {
            Slot::Empty => ' ',
            Slot::Healthy => '.',
            Slot::Told => 'o',
            Slot::Failed => 'X',
        });
    }
    let mut text = text.trim_end().to_owned();
    if ink == Ink::Colour && last != Slot::Empty {
        text.push_str(colour(Slot::Empty));
    }
    text
}

const fn colour(slot: Slot) -> &'static str {
    match slot {
        Slot::Empty => "\x1b[0m",
        Slot::Healthy => "\x1b[0;32m",
        Slot::Told => "\x1b[0;33m",
        Slot::Failed => "\x1b[0;31m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::verdict::{End, Outcome, Told};

    fn phases() -> Vec<(String, Duration)> {
        let phase = |name: &str, seconds| (name.to_owned(), Duration::from_secs(seconds));
        vec![
            phase("healthy", 6),
            phase("outage", 24),
            phase("recovery", 6),
        ]
    }

    fn tally(failing: Outcome) -> Tally {
        let mut tally = Tally::new();
        for slot in 0..36_u32 {
            let outcome = if (6..30).contains(&slot) {
                failing
            } else {
                Outcome::Whole
            };
            let end = if outcome == Outcome::Told {
                End::Told(Told::Status(529))
            } else {
                End::Ended
            };
            for part in [0.0, 0.5] {
                let share = (f64::from(slot) + part) / 36.0;
                tally.count(share, outcome, end, Duration::ZERO);
            }
        }
        tally
    }

    #[test]
    fn the_outage_stands_under_its_name() {
        let shown = timeline(
            &phases(),
            &[tally(Outcome::Half), tally(Outcome::Told)],
            Ink::Plain,
        );
        assert_eq!(
            shown,
            format!(
                "first vendor      |healthy  |outage{}|recovery\n\
                 straight          {}{}{}\n\
                 through Holdfast  {}{}{}\n",
                " ".repeat(33),
                ".".repeat(10),
                "X".repeat(40),
                ".".repeat(10),
                ".".repeat(10),
                "o".repeat(40),
                ".".repeat(10),
            )
        );
    }

    #[test]
    fn colour_changes_nothing_but_the_colour() {
        let slots = [Slot::Healthy, Slot::Failed, Slot::Failed, Slot::Told];
        assert_eq!(
            strip(&slots, Ink::Colour),
            "\x1b[0;32m.\x1b[0;31mXX\x1b[0;33mo\x1b[0m"
        );
        assert_eq!(strip(&slots, Ink::Plain), ".XXo");
    }
}
