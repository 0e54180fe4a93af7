//! Gates: what a route asks of an answer beyond being whole.
//!
//! Only the word for it is here. What a gate looks at (a JSON Schema, an expression) is built by
//! another crate, so that the machine that decides stays small; when a gate is asked, and what follows
//! from its answer, is decided in [`crate::exchange`].

use std::fmt;

/// The longest reason that is told on, in characters: it goes into a prompt.
pub const LONGEST_REASON: usize = 500;

/// The most of an answer that is kept after it was held back, in bytes: whoever decides about its
/// ticket reads it.
pub const LONGEST_HELD_BACK: usize = 64 << 10;

/// A check of an answer. It has no side effect and gives the same answer every time.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Whether the answer passes.
    fn check(&self, answer: &Answered<'_>) -> Result<(), Refusal>;
}

/// A whole answer, as a gate sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answered<'a> {
    /// All text of the answer; thinking is not text.
    pub text: &'a str,
    /// The model or a filter refused to answer.
    pub refused: bool,
    /// The answer was ended by a token limit.
    pub limited: bool,
}

/// Why an answer did not pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Which check it was: `json_schema`, `cel`, `min_length`, ...
    pub check: &'static str,
    /// What is wrong, for the model that wrote the answer: it may quote it, and is said to nobody else.
    pub reason: String,
    /// What is wrong, for everybody else: it is stored, logged and sent to webhooks, and names checks
    /// and places, never what the answer says there.
    pub told: String,
}

impl Refusal {
    /// A refusal whose reason quotes nothing of the answer, cut to [`LONGEST_REASON`].
    pub fn new(check: &'static str, reason: impl Into<String>) -> Self {
        let reason = cut(reason.into());
        let told = reason.clone();
        Self {
            check,
            reason,
            told,
        }
    }

    /// A refusal whose reason quotes the answer, with what is told in its place; both cut to
    /// [`LONGEST_REASON`].
    pub fn quoting(check: &'static str, reason: String, told: String) -> Self {
        Self {
            check,
            reason: cut(reason),
            told: cut(told),
        }
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_REASON) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// As it is told to everybody but the model.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.told)
    }
}

/// A gate with how often an answer that failed it is asked for again.
#[derive(Clone, Debug)]
pub struct Gated {
    pub gate: std::sync::Arc<dyn Gate>,
    /// How often each target is asked again with the reason.
    pub asks: u32,
}
