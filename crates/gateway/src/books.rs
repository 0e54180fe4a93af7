//! Finished exchanges on their way from the workers to the store: written behind, in groups.
//!
//! No call waits for it. A full queue is counted and shown in the metrics; what was dropped is missing
//! from the store's ledger and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::time::Wall;
use holdfast_store::BookedExchange;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::ledger::Entry;
use crate::worker::Shared;

/// The most exchanges in one write.
const GROUP: usize = 256;
/// How long a group is collected.
const COLLECT: Duration = Duration::from_millis(100);
/// How long the store is left alone after a write that failed.
const REST: Duration = Duration::from_secs(1);

/// One finished exchange with what it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Booked {
    pub(crate) entry: Arc<Entry>,
    pub(crate) scope: String,
    pub(crate) run: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) at: Wall,
}

/// The queue. Without a store nothing is put into it.
#[derive(Debug, Default)]
pub(crate) struct Books {
    queue: Mutex<Option<mpsc::Sender<Booked>>>,
}

impl Books {
    /// Opens the queue for `limit` exchanges.
    pub(crate) fn open(&self, limit: usize) -> mpsc::Receiver<Booked> {
        let (sender, receiver) = mpsc::channel(limit);
        *self.queue.lock() = Some(sender);
        receiver
    }

    /// No more is taken; what is in the queue is still written.
    pub(crate) fn close(&self) {
        *self.queue.lock() = None;
    }

    /// `false` = it did not fit.
    pub(crate) fn put(&self, booked: impl FnOnce() -> Booked) -> bool {
        match &*self.queue.lock() {
            Some(queue) => queue.try_send(booked()).is_ok(),
            None => true,
        }
    }
}

/// Writes until the queue is closed and empty.
pub(crate) async fn write(shared: Arc<Shared>, mut queue: mpsc::Receiver<Booked>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        if group.len() < GROUP && !shared.is_draining() {
            tokio::time::sleep(COLLECT).await;
            while group.len() < GROUP
                && let Ok(next) = queue.try_recv()
            {
                group.push(next);
            }
        }
        let rows: Vec<BookedExchange> = group.drain(..).map(row).collect();
        let count = rows.len() as u64;
        let written = match shared.durable.mounted() {
            Some(store) => store.book(rows).await,
            None => Ok(()),
        };
        if let Err(error) = written {
            shared.metrics.ledger_dropped.inc_by(count);
            tracing::warn!(%error, count, "finished exchanges could not be stored");
            if !shared.is_draining() {
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn row(booked: Booked) -> BookedExchange {
    BookedExchange {
        id: booked.entry.id.clone(),
        at: booked.at,
        scope: booked.scope,
        route: booked.entry.route.to_string(),
        run: booked.run,
        step: booked.step,
        outcome: booked.entry.outcome.to_owned(),
        json: serde_json::to_string(&*booked.entry).unwrap_or_default(),
    }
}
