//! One exchange, as the ledger tells it: metadata only, never a prompt or an answer.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A word of the program: borrowed where it is booked, owned where it was read.
pub type Word = Cow<'static, str>;

/// One exchange, as it ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LedgerEntry {
    /// A UUID of version 7 in hexadecimal digits.
    pub id: String,
    /// Unix seconds of its end.
    pub at: u64,
    pub caller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(serialize_with = "text")]
    pub route: Arc<str>,
    pub dialect: Word,
    pub stream: bool,
    pub delivery: Word,
    /// The verdict, or `told`, or `caller_gone`.
    pub outcome: Word,
    pub code: Option<Word>,
    pub joins: u32,
    pub millis: u64,
    /// What the route's gate has against an answer that was streamed before it could be held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flagged: Option<String>,
    /// What a translation could not carry.
    pub losses: Vec<String>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub attempts: Vec<LedgerAttempt>,
}

/// One attempt of an exchange.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LedgerAttempt {
    /// `provider/model`.
    #[serde(serialize_with = "text")]
    pub target: Arc<str>,
    pub status: u16,
    pub verdict: Word,
    pub flaw: Option<Word>,
    pub message: Option<String>,
    /// From the exchange's begin.
    pub began_millis: u64,
    pub millis: u64,
    pub first_token_millis: Option<u64>,
}

/// What many records share is written as the text that it is.
fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
