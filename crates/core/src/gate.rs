//! Gates: what a route asks of an answer beyond being whole.
//!
//! Only the word for it is here. What a gate looks at (a JSON Schema, an expression) is built by
//! another crate, so that the machine that decides stays small; when a gate is asked, and what follows
//! from its answer, is decided in [`crate::exchange`].

use std::fmt;

/// The longest reason that is told on, in characters: it goes into a prompt.
pub const LONGEST_REASON: usize = 500;

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
    /// What is wrong, for the model and for people.
    pub reason: String,
}

impl Refusal {
    /// A refusal with its reason cut to [`LONGEST_REASON`].
    pub fn new(check: &'static str, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
            reason.truncate(end);
            reason.push('…');
        }
        Self { check, reason }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.reason)
    }
}

/// A gate with how often an answer that failed it is asked for again.
#[derive(Clone, Debug)]
pub struct Gated {
    pub gate: std::sync::Arc<dyn Gate>,
    /// How often each target is asked again with the reason.
    pub asks: u32,
}
