//! The ledger: what happened to every exchange. Metadata only, never a prompt or an answer. What a
//! vendor said of its own failure is remembered in short, what it said of the request is not.
//!
//! Kept in memory, the newest first to be found, a bounded number of them; nothing on the data path
//! waits for it beyond one short lock at the end of an exchange.

use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) use holdfast_store::LedgerAttempt as Attempt;
pub use holdfast_store::LedgerEntry as Entry;
use parking_lot::Mutex;

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
