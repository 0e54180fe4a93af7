//! Finished exchanges on their way from the workers to the store: written behind, in groups.
//!
//! No call waits for it. A full queue is counted and shown in the metrics; what was dropped is missing
//! from the store's ledger and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::time::Wall;
use holdfast_store::Pages;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ledger::Entry;
use crate::worker::Shared;

/// The most exchanges in one write.
const GROUP: usize = 1024;
/// How long a group is collected, unless the queue is half full before. A commit takes the processor and
/// the disk from calls for a moment: fewer of them are noticed by fewer calls.
const COLLECT: Duration = Duration::from_millis(500);
/// How long the store is left alone after a write that failed.
const REST: Duration = Duration::from_secs(1);

/// One finished exchange with what it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Booked {
    pub(crate) entry: Arc<Entry>,
    /// The scope of somebody without a name; else it is the caller.
    pub(crate) stranger: Option<String>,
    pub(crate) at: Wall,
}

/// The queue. Without a store nothing is put into it.
#[derive(Debug, Default)]
pub(crate) struct Books {
    queue: Mutex<Queue>,
    /// The first one waits, or so many that they must not wait longer, or no more will come.
    rang: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Booked>,
    /// At most so many wait; `None` = not open.
    limit: Option<usize>,
}

// === impl Books ===

impl Books {
    /// Opens the queue for `limit` exchanges.
    pub(crate) fn open(&self, limit: usize) {
        self.queue.lock().limit = Some(limit);
    }

    /// No more is taken; what is in the queue is still written.
    pub(crate) fn close(&self) {
        self.queue.lock().limit = None;
        self.rang.notify_one();
    }

    /// `false` = it did not fit.
    pub(crate) fn put(&self, booked: impl FnOnce() -> Booked) -> bool {
        let mut queue = self.queue.lock();
        let Some(limit) = queue.limit else {
            return true;
        };
        let count = queue.waiting.len();
        if count >= limit {
            return false;
        }
        queue.waiting.push(booked());
        drop(queue);
        if count == 0 || count == limit / 2 {
            self.rang.notify_one();
        }
        true
    }

    /// What waits, for an empty list of whoever writes. `false` = no more will come.
    fn take(&self, empty: &mut Vec<Booked>) -> bool {
        let mut queue = self.queue.lock();
        std::mem::swap(&mut queue.waiting, empty);
        queue.limit.is_some()
    }
}

/// Writes until the queue is closed and empty.
pub(crate) async fn write(shared: Arc<Shared>) {
    let mut waiting = Vec::new();
    let mut is_open = true;
    while is_open {
        shared.books.rang.notified().await;
        if !shared.is_draining() {
            // Late or early, what has come is written.
            let _ = tokio::time::timeout(COLLECT, shared.books.rang.notified()).await;
        }
        is_open = shared.books.take(&mut waiting);
        for group in waiting.chunks(GROUP) {
            store(&shared, group).await;
        }
        waiting.clear();
    }
}

async fn store(shared: &Shared, group: &[Booked]) {
    let Some(store) = shared.durable.mounted() else {
        return;
    };
    let mut pages = Pages::default();
    for booked in group {
        let caller = booked.entry.caller.as_deref();
        let scope = booked.stranger.as_deref().or(caller).unwrap_or_default();
        if let Err(error) = pages.add(booked.at, scope, &booked.entry) {
            lost(shared, 1, &error);
        }
    }
    let count = pages.len();
    if let Err(error) = store.book_pages(pages).await {
        lost(shared, count, &error);
        if !shared.is_draining() {
            tokio::time::sleep(REST).await;
        }
    }
}

fn lost(shared: &Shared, count: usize, error: &holdfast_store::Error) {
    let dropped = u64::try_from(count).unwrap_or(u64::MAX);
    shared.metrics.ledger_dropped.inc_by(dropped);
    tracing::warn!(%error, count, "finished exchanges could not be stored");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn booked(id: &str) -> Booked {
        Booked {
            entry: Arc::new(Entry {
                id: id.to_owned(),
                at: 0,
                caller: None,
                run: None,
                step: None,
                route: "r".into(),
                dialect: "openai".into(),
                stream: false,
                delivery: "live".into(),
                outcome: "whole".into(),
                code: None,
                joins: 0,
                millis: 0,
                flagged: None,
                losses: Vec::new(),
                input_tokens: None,
                output_tokens: None,
                attempts: Vec::new(),
            }),
            stranger: None,
            at: Wall(0),
        }
    }

    #[test]
    fn the_queue_takes_what_fits_while_it_is_open() {
        let books = Books::default();
        let mut taken = Vec::new();
        assert!(books.put(|| unreachable!("nobody would write it")));
        books.open(2);
        assert!(books.put(|| booked("a")) && books.put(|| booked("b")));
        assert!(!books.put(|| booked("c")), "it is full");
        assert!(books.take(&mut taken));
        assert_eq!(taken.len(), 2);
        taken.clear();
        assert!(books.put(|| booked("d")));
        books.close();
        assert!(books.put(|| unreachable!("nobody would write it")));
        assert!(!books.take(&mut taken));
        assert_eq!(taken.len(), 1, "it was in the queue before");
    }

    /// Also where nobody waited when it rang.
    #[tokio::test]
    async fn the_first_one_rings() {
        let books = Books::default();
        books.open(2);
        let mut taken = Vec::new();
        for _ in 0..2 {
            assert!(books.put(|| booked("a")));
            books.rang.notified().await;
            books.take(&mut taken);
            taken.clear();
        }
        books.close();
        books.rang.notified().await;
    }
}
