//! Is there an order of a key's calls that explains what each caller heard?
//!
//! The model is a register that is written once: the first call that takes effect decides the body and
//! the answer; every later call with that body gets that answer, with another body a refusal. A call of
//! which nobody heard the end may have taken effect at any later moment, or never. The search is Wing
//! and Gong's with Lowe's memory of states; keys are independent, so each is checked by itself.

use std::collections::HashSet;

/// The most calls of one history.
pub(crate) const MOST: usize = 128;

/// What a caller heard.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Heard {
    /// This answer, whole. Every vendor call's answer is another one.
    Answer(u64),
    /// The key belongs to another body.
    Refused,
    /// Nothing that tells whether it took effect.
    Unknown,
}

/// One call: `invoked` and `returned` are moments of one clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) invoked: u64,
    pub(crate) returned: u64,
    pub(crate) body: u8,
    pub(crate) heard: Heard,
}

/// The register: what was decided so far.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Register {
    Empty,
    /// A call with this body took effect; its answer was not seen yet.
    Decided(u8),
    Seen(u8, u64),
}

// === impl Op ===

impl Op {
    pub(crate) fn is_unknown(&self) -> bool {
        self.heard == Heard::Unknown
    }

    /// A call whose end nobody heard can still take effect.
    fn end(&self) -> u64 {
        if self.is_unknown() {
            u64::MAX
        } else {
            self.returned
        }
    }

    /// The register after this call took effect in `before`; `None` = it can't have.
    fn apply(&self, before: Register) -> Option<Register> {
        match (before, self.heard) {
            (Register::Empty, Heard::Answer(answer)) => Some(Register::Seen(self.body, answer)),
            (Register::Empty, Heard::Unknown) => Some(Register::Decided(self.body)),
            (Register::Empty, Heard::Refused) => None,
            (Register::Decided(body) | Register::Seen(body, _), Heard::Refused) => {
                (body != self.body).then_some(before)
            }
            (Register::Decided(body), Heard::Answer(answer)) => {
                (body == self.body).then_some(Register::Seen(body, answer))
            }
            (Register::Seen(body, seen), Heard::Answer(answer)) => {
                (body == self.body && seen == answer).then_some(before)
            }
            // It changed nothing, and nobody heard.
            (Register::Decided(_) | Register::Seen(..), Heard::Unknown) => Some(before),
        }
    }
}

/// `Err` = no order of the calls explains what was heard; in words.
pub(crate) fn check(history: &[Op]) -> Result<(), String> {
    assert!(history.len() <= MOST, "a history of at most {MOST} calls");
    let must: u128 = mask(history.iter().map(|op| !op.is_unknown()));
    let mut known = HashSet::new();
    let mut open = vec![(0_u128, Register::Empty)];
    while let Some((done, register)) = open.pop() {
        if done & must == must {
            return Ok(());
        }
        // Whatever is next was invoked before any other that is left had returned.
        let left = || (0..history.len()).filter(|at| done & (1 << at) == 0);
        let first_end = left().map(|at| history[at].end()).min().unwrap_or(u64::MAX);
        for at in left().filter(|at| history[*at].invoked <= first_end) {
            if let Some(after) = history[at].apply(register) {
                let next = (done | 1 << at, after);
                if known.insert(next) {
                    open.push(next);
                }
            }
        }
    }
    let mut shown: Vec<&Op> = history.iter().collect();
    shown.sort_by_key(|op| op.invoked);
    Err(format!("no order explains {shown:?}"))
}

fn mask(bits: impl Iterator<Item = bool>) -> u128 {
    bits.enumerate()
        .fold(0, |mask, (at, bit)| mask | u128::from(bit) << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(invoked: u64, returned: u64, body: u8, heard: Heard) -> Op {
        Op {
            invoked,
            returned,
            body,
            heard,
        }
    }

    use Heard::{Answer, Refused, Unknown};

    #[test]
    fn good_histories_pass() {
        let good: &[&[Op]] = &[
            &[],
            &[
                op(0, 9, 0, Answer(1)),
                op(2, 5, 0, Answer(1)),
                op(10, 11, 0, Answer(1)),
            ],
            // Refused while the first one runs.
            &[op(0, 9, 0, Answer(1)), op(2, 3, 1, Refused)],
            // The second to be invoked was the first to take effect.
            &[op(0, 9, 0, Refused), op(2, 8, 1, Answer(1))],
            // Nobody heard the first one, and it took effect long after.
            &[
                op(0, 1, 0, Unknown),
                op(2, 3, 1, Answer(4)),
                op(5, 6, 1, Answer(4)),
            ],
            &[
                op(0, 1, 0, Unknown),
                op(2, 3, 0, Answer(4)),
                op(5, 6, 1, Refused),
            ],
            // Refused because of a call that nobody heard.
            &[
                op(0, 1, 0, Unknown),
                op(2, 3, 1, Refused),
                op(4, 5, 0, Answer(2)),
            ],
            &[op(0, 1, 0, Unknown), op(0, 1, 1, Unknown)],
        ];
        for history in good {
            assert_eq!(check(history), Ok(()));
        }
    }

    #[test]
    fn bad_histories_are_rejected() {
        let bad: &[(&str, &[Op])] = &[
            (
                "two answers",
                &[op(0, 1, 0, Answer(1)), op(2, 3, 0, Answer(2))],
            ),
            (
                "two answers at once",
                &[op(0, 9, 0, Answer(1)), op(0, 9, 0, Answer(2))],
            ),
            (
                "both bodies answered",
                &[op(0, 9, 0, Answer(1)), op(1, 8, 1, Answer(1))],
            ),
            (
                "refused for its own body",
                &[op(0, 1, 0, Answer(1)), op(2, 3, 0, Refused)],
            ),
            (
                "refused before anything was",
                &[op(0, 1, 1, Refused), op(2, 3, 0, Answer(1))],
            ),
            ("refused by nothing", &[op(0, 1, 0, Refused)]),
            (
                "the winner changes",
                &[
                    op(0, 1, 0, Answer(1)),
                    op(2, 3, 1, Answer(2)),
                    op(4, 5, 0, Answer(1)),
                ],
            ),
            (
                "an answer is forgotten",
                &[
                    op(0, 1, 0, Unknown),
                    op(2, 3, 0, Answer(1)),
                    op(4, 5, 0, Answer(2)),
                ],
            ),
            (
                "refused, and then nothing was there",
                &[
                    op(0, 1, 0, Unknown),
                    op(2, 3, 1, Refused),
                    op(4, 5, 1, Answer(2)),
                ],
            ),
        ];
        for (what, history) in bad {
            assert!(check(history).is_err(), "{what}");
        }
    }

    /// Random histories of a real register pass, and with one answer changed they do not.
    #[test]
    fn histories_of_a_register_pass_and_spoilt_ones_do_not() {
        let mut dice = fastrand::Rng::with_seed(5);
        for _ in 0..300 {
            let mut register = Register::Empty;
            let mut history = Vec::new();
            for n in 0..30_u64 {
                let point = n * 10;
                let body = u8::from(dice.u32(..4) == 0);
                if register == Register::Empty {
                    register = Register::Seen(body, 7);
                }
                let heard = match register {
                    Register::Seen(winner, answer) if winner == body => Answer(answer),
                    _ => Refused,
                };
                let heard = if dice.u32(..8) == 0 { Unknown } else { heard };
                let early = point.saturating_sub(dice.u64(..40));
                history.push(op(early, point + dice.u64(..40), body, heard));
            }
            assert_eq!(check(&history), Ok(()));
            let answers: Vec<usize> = (0..30)
                .filter(|at| matches!(history[*at].heard, Answer(_)))
                .collect();
            if let [one, _, ..] = answers[..] {
                history[one].heard = Answer(8);
                assert!(check(&history).is_err());
            }
        }
    }
}
