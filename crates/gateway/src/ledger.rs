//! The ledger: what happened to every exchange. Metadata only, never a prompt or an answer. What a
//! vendor said of its own failure is remembered in short, what it said of the request is not.
//!
//! Kept in memory, the newest first to be found, a bounded number of them; nothing on the data path
//! waits for it beyond one short lock at the end of an exchange.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Serialize, Serializer};

/// One exchange, as it ended.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
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
    pub dialect: &'static str,
    pub stream: bool,
    pub delivery: &'static str,
    /// The verdict, or `told`, or `caller_gone`.
    pub outcome: &'static str,
    pub code: Option<&'static str>,
    pub joins: u32,
    pub millis: u64,
    /// What the route's gate has against an answer that was streamed before it could be held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flagged: Option<String>,
    /// What a translation could not carry.
    pub losses: Vec<String>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub attempts: Vec<Attempt>,
}

/// One attempt of an exchange.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// `provider/model`.
    #[serde(serialize_with = "text")]
    pub target: Arc<str>,
    pub status: u16,
    pub verdict: &'static str,
    pub flaw: Option<&'static str>,
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

/// The last exchanges.
#[derive(Debug)]
pub struct Ledger {
    entries: Mutex<VecDeque<Arc<Entry>>>,
    limit: usize,
}

impl Ledger {
    /// A ledger of the last `limit` exchanges.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: Mutex::default(),
            limit,
        }
    }

    pub(crate) fn push(&self, entry: Arc<Entry>) {
        let mut entries = self.entries.lock();
        if entries.len() >= self.limit {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// The exchange with this id, if it is still remembered.
    pub fn find(&self, id: &str) -> Option<Arc<Entry>> {
        self.entries
            .lock()
            .iter()
            .rev()
            .find(|entry| entry.id == id)
            .cloned()
    }

    /// The last `count` exchanges, newest first.
    pub fn last(&self, count: usize) -> Vec<Arc<Entry>> {
        self.entries
            .lock()
            .iter()
            .rev()
            .take(count)
            .cloned()
            .collect()
    }
}
