//! The handle: opening, closing, and how it is doing.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::model::ledger::Status;
use crate::options::Options;

/// What Holdfast keeps. Cheap to clone; may be awaited from any runtime.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    owner: String,
    health: watch::Sender<bool>,
    events: watch::Sender<u64>,
}

impl Store {
    /// Opens the database, makes and migrates it where needed, and enters this process into its
    /// owners. Its work runs on `runtime`.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn open(_options: Options, _runtime: Handle) -> Result<Self> {
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Ends: what waits is done, this process is taken out of the owners, the files are put in order.
    /// Every call after it fails.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn close(&self) {}

    /// This process, as others see it.
    pub fn owner(&self) -> &str {
        &self.inner.owner
    }

    /// Whether the last operations worked. While it is `false`, what needs the store is refused
    /// before anything is done.
    pub fn is_healthy(&self) -> bool {
        *self.inner.health.borrow()
    }

    /// Tells changes of [`Self::is_healthy`].
    pub fn health(&self) -> watch::Receiver<bool> {
        self.inner.health.subscribe()
    }

    /// How it is doing; for people and metrics.
    pub fn status(&self) -> Status {
        Status {
            kind: "sqlite",
            owner: self.inner.owner.clone(),
            healthy: self.is_healthy(),
            trouble: None,
            waiting: 0,
            operations: 0,
            commits: 0,
            failures: 0,
            schema: 0,
        }
    }

    /// Rings when there may be new events: at once for this process's, within a second for others'.
    pub fn event_signal(&self) -> watch::Receiver<u64> {
        self.inner.events.subscribe()
    }
}
