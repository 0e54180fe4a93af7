//! How far it is: lines that are drawn again at a terminal, now and then a plain line elsewhere.

use std::fmt::Write;
use std::time::Duration;

use super::load::{Board, SIDES};
use super::tally::Tally;
use super::timeline::{Ink, timeline};
use super::verdict::Outcome;
use crate::printer;

/// Between two plain lines.
const PLAIN: Duration = Duration::from_secs(6);

/// A line that is too wide for the terminal is cut there: wrapped, it would be two lines to draw over.
const UNWRAPPED: &str = "\x1b[?7l";
const WRAPPED: &str = "\x1b[?7h";

/// Where progress goes.
#[derive(Debug)]
pub(super) struct Progress {
    phases: Vec<(String, Duration)>,
    live: Option<Ink>,
    /// Lines that stand on the terminal and are drawn over.
    drawn: usize,
    next_plain: Duration,
}

impl Progress {
    /// `live` for a terminal, with or without colour.
    pub(super) const fn new(phases: Vec<(String, Duration)>, live: Option<Ink>) -> Self {
        Self {
            phases,
            live,
            drawn: 0,
            next_plain: PLAIN,
        }
    }

    /// Shows how far it is.
    pub(super) fn show(&mut self, board: &Board) {
        if let Some(ink) = self.live {
            let text = format!(
                "{}\n{}{}",
                self.clock(board.elapsed),
                timeline(&self.phases, &board.tallies, ink),
                counts(board)
            );
            printer::data(&(UNWRAPPED.to_owned() + &self.over(&text) + WRAPPED));
        } else if board.elapsed >= self.next_plain {
            self.next_plain += PLAIN;
            let sides = SIDES.iter().zip(&board.tallies);
            let sides: Vec<_> = sides.map(|(side, tally)| brief(side, tally)).collect();
            printer::say(&format!(
                "{}: {}",
                self.clock(board.elapsed),
                sides.join("; ")
            ));
        }
    }

    /// Takes the live lines off the terminal.
    pub(super) fn clear(&mut self) {
        if self.drawn > 0 {
            printer::data(&self.over(""));
        }
    }

    /// `text` in the place of what is drawn.
    fn over(&mut self, text: &str) -> String {
        let back = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        self.drawn = text.lines().count();
        back + text
    }

    /// `12 s of 36 s, outage`.
    fn clock(&self, elapsed: Duration) -> String {
        let length: Duration = self.phases.iter().map(|(_, lasts)| *lasts).sum();
        let mut passed = Duration::ZERO;
        let phase = self.phases.iter().find(|(_, lasts)| {
            passed += *lasts;
            elapsed < passed
        });
        let phase = phase.map_or("waiting for the last answers", |(name, _)| name.as_str());
        format!(
            "{:>2} s of {} s, {phase}",
            elapsed.as_secs(),
            length.as_secs()
        )
    }
}

/// The counts of both sides, a line each.
fn counts(board: &Board) -> String {
    let mut text = String::new();
    for (side, tally) in SIDES.iter().zip(&board.tallies) {
        // Writing into a string cannot fail.
        let _ = write!(text, "{side:<18}asked {:<6}", tally.asked);
        for outcome in Outcome::ALL {
            let _ = write!(text, "{} {:<6}", outcome.word(), tally.of(outcome));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// One side in a few words.
fn brief(side: &str, tally: &Tally) -> String {
    format!(
        "{side} {} whole, {} told, {} half, silent or hung",
        tally.of(Outcome::Whole),
        tally.of(Outcome::Told),
        tally.broken_promises()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        let phase = |name: &str, seconds| (name.to_owned(), Duration::from_secs(seconds));
        Progress::new(vec![phase("healthy", 6), phase("outage", 24)], None)
    }

    #[test]
    fn the_clock_names_the_phase() {
        let clock = |seconds| progress().clock(Duration::from_secs(seconds));
        assert_eq!(clock(0), " 0 s of 30 s, healthy");
        assert_eq!(clock(6), " 6 s of 30 s, outage");
        assert_eq!(clock(31), "31 s of 30 s, waiting for the last answers");
    }

    #[test]
    fn live_lines_are_drawn_over_each_other() {
        let mut progress = progress();
        assert_eq!(progress.over("a\nb\n"), "a\nb\n");
        assert_eq!(progress.over("c\nd\n"), "\x1b[2A\x1b[Jc\nd\n");
        assert_eq!(progress.over(""), "\x1b[2A\x1b[J");
    }

    #[test]
    fn every_count_is_shown() {
        let board = Board {
            tallies: [Tally::new(), Tally::new()],
            failed: Vec::new(),
            elapsed: Duration::ZERO,
        };
        assert_eq!(
            counts(&board).lines().next(),
            Some(
                "straight          asked 0     whole 0     told 0     half 0     silent 0     hung 0"
            )
        );
        assert_eq!(
            brief("straight", &board.tallies[0]),
            "straight 0 whole, 0 told, 0 half, silent or hung"
        );
    }
}
