//! A request of one dialect written for a target of the other one, with a report of what was lost.
//!
//! This is the only place where a request becomes a tree: on the same-dialect path the caller's own
//! bytes go on. What the target has no word for is either a [`Loss`] (said to the caller, in the
//! ledger and in a header) or a [`Refusal`]: a loss that would change the meaning of the answer.
//! Answers come back through the readers and writers, see [`crate::answer`].

use std::collections::BTreeMap;

use crate::turn::Dialect;

mod anthropic_to_openai;
pub mod back;
mod openai_to_anthropic;
mod read;
pub mod stops;
mod tools;

/// What the target takes. Where a server deviates from its dialect is data, never its name.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The model's name at the target.
    pub model: &'a str,
    /// Ask for a stream.
    pub stream: bool,
    /// The most tokens that the model can answer with; sent where the dialect demands a limit and
    /// the caller gave none.
    pub max_output: Option<u64>,
    /// The most stop sequences taken in one call; `None` = no limit known.
    pub stop_limit: Option<usize>,
    /// Tool-call ids must be nine characters of `[a-zA-Z0-9]`.
    pub tool_id_alnum9: bool,
    /// The field is `max_completion_tokens` (OpenAI) instead of `max_tokens`.
    pub max_completion_tokens: bool,
    /// The server takes `stream_options.include_usage` (OpenAI).
    pub stream_options: bool,
}

impl Target<'_> {
    /// A wish for more tokens than the model can give is lowered.
    fn clamp(&self, wish: u64) -> u64 {
        self.max_output.map_or(wish, |most| wish.min(most))
    }
}

/// A request in the target's dialect.
#[derive(Clone, Debug, Default)]
pub struct Translated {
    pub body: Vec<u8>,
    /// What could not be carried.
    pub losses: Vec<Loss>,
    /// Tool names that had to be changed: the target's name -> the caller's.
    pub names: BTreeMap<String, String>,
    /// Stop sequences that the target can't take: the answer is to be cut here, see [`back::Back`].
    pub stops: Vec<String>,
}

/// Something that could not be carried and does not change what the answer means.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Loss {
    /// Where it stood in the caller's request (`messages[3].content[0]`).
    pub path: String,
    pub why: &'static str,
}

/// Why a request can't be carried to this target at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Without it the answer would mean something else.
    #[error("{path} can't be carried: {why}")]
    Meaning { path: String, why: String },
    /// Not what this dialect's requests look like.
    #[error("{path} is not as the dialect says: {why}")]
    Shape { path: String, why: String },
}

/// Writes a caller's request for a target of the other dialect.
///
/// # Errors
/// [`Refusal`] when the target can't carry it without changing its meaning, or when the request
/// does not have its own dialect's shape.
pub fn request(from: Dialect, body: &[u8], target: &Target<'_>) -> Result<Translated, Refusal> {
    match from {
        Dialect::Anthropic => anthropic_to_openai::translate(body, target),
        Dialect::OpenAi => openai_to_anthropic::translate(body, target),
    }
}
