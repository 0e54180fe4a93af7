//! The result as a small table and one sentence.

use std::fmt::Write;
use std::time::Duration;

use super::load::{Board, SIDES};
use super::tally::Tally;
use super::verdict::Outcome;

/// The table, with a newline at its end.
pub(super) fn table(board: &Board) -> String {
    let mut text = String::new();
    let mut row = |name: &str, cells: [String; 2]| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<22}{:>10}{:>19}", cells[0], cells[1]);
    };
    let both = |cell: &dyn Fn(&Tally) -> String| board.tallies.each_ref().map(cell);
    row("", SIDES.map(str::to_owned));
    row("asked", both(&|tally| grouped(tally.asked)));
    for outcome in Outcome::ALL {
        row(outcome.word(), both(&|tally| grouped(tally.of(outcome))));
    }
    row(
        "p50 of whole answers",
        both(&|tally| millis(tally.latency(50))),
    );
    row(
        "p99 of whole answers",
        both(&|tally| millis(tally.latency(99))),
    );
    row(
        "vendor calls per call",
        both(&|tally| format!("{:.2}", tally.calls_per_call())),
    );
    text
}

/// What the words of the table mean.
pub(super) const LEGEND: &str = "\
whole   the right answer, to its end             half    cut or wrong, and no error
told    an explicit error                        silent  success with nothing, or nonsense, in it
                                                 hung    nothing new within the client's patience
";

/// The result in one sentence, on two lines.
pub(super) fn sentence(board: &Board) -> String {
    let [straight, through] = &board.tallies;
    let whole = grouped(through.of(Outcome::Whole));
    let right = match (through.broken_promises(), through.of(Outcome::Told)) {
        (0, 0) => format!("not one through Holdfast: all {whole} answers are whole"),
        (0, told) => format!(
            "not one through Holdfast: {whole} answers are whole, and {} ended in an explicit error",
            grouped(told)
        ),
        (broken, _) => format!(
            "through Holdfast {} were too, and that is a bug in Holdfast",
            grouped(broken)
        ),
    };
    format!(
        "Straight to the failing vendor, {} of {} calls left their program with half an answer, a wrong one or none,\n\
         and without an error; {right}.\n",
        grouped(straight.broken_promises()),
        grouped(straight.asked),
    )
}

/// A number with commas between its thousands.
pub(super) fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn millis(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::verdict::{End, Told};

    fn board(through: &[(Outcome, u32)]) -> Board {
        let fill = |counts: &[(Outcome, u32)]| {
            let mut tally = Tally::new();
            for (outcome, count) in counts {
                for _ in 0..*count {
                    let end = if *outcome == Outcome::Told {
                        End::Told(Told::Aborted)
                    } else {
                        End::Ended
                    };
                    tally.asked += 1;
                    tally.count(0.0, *outcome, end, Duration::from_millis(250));
                }
            }
            tally.vendor_calls = u64::from(tally.asked) + 1;
            tally
        };
        Board {
            tallies: [
                fill(&[
                    (Outcome::Whole, 1200),
                    (Outcome::Half, 3),
                    (Outcome::Hung, 1),
                ]),
                fill(through),
            ],
            failed: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn a_table_has_a_row_for_everything() {
        assert_eq!(
            table(&board(&[(Outcome::Whole, 4)])),
            "                        straight   through Holdfast\n\
             asked                      1,204                  4\n\
             whole                      1,200                  4\n\
             told                           0                  0\n\
             half                           3                  0\n\
             silent                         0                  0\n\
             hung                           1                  0\n\
             p50 of whole answers      250 ms             250 ms\n\
             p99 of whole answers      250 ms             250 ms\n\
             vendor calls per call       1.00               1.25\n"
        );
    }

    #[test]
    fn the_sentence_says_what_happened() {
        let whole = sentence(&board(&[(Outcome::Whole, 4)]));
        assert!(whole.contains("4 of 1,204 calls"), "{whole}");
        assert!(
            whole.contains("not one through Holdfast: all 4 answers are whole"),
            "{whole}"
        );
        let told = sentence(&board(&[(Outcome::Whole, 4), (Outcome::Told, 2)]));
        assert!(told.contains("and 2 ended in an explicit error"), "{told}");
        let broken = sentence(&board(&[(Outcome::Silent, 1)]));
        assert!(broken.contains("1 were too, and that is a bug"), "{broken}");
    }

    #[test]
    fn a_promise_is_kept_only_if_something_was_asked() {
        assert!(board(&[(Outcome::Told, 1)]).is_kept());
        assert!(!board(&[(Outcome::Half, 1)]).is_kept());
        assert!(!board(&[]).is_kept());
    }

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
