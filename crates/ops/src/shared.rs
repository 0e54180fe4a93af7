//! What every handler of this room has: the store, the clock, the terms, and word of going down.

use std::sync::Arc;

use holdfast_api::Clock;
use holdfast_core::fault::{Code, Fault};
use holdfast_core::time::Wall;
use holdfast_store::Store;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::gates::Gates;
use crate::terms::Terms;

/// The common ground of the handlers and the tasks.
pub(crate) struct Shared {
    pub(crate) store: Store,
    /// Of steps.
    pub(crate) gates: Arc<dyn Gates>,
    clock: Clock,
    terms: RwLock<Arc<Terms>>,
    /// Rings when an approval may have changed; see `wait::relay`.
    pub(crate) approvals: watch::Sender<u64>,
    /// `true` from the beginning of going down.
    pub(crate) drain: watch::Sender<bool>,
    /// The streams of events that are being written.
    pub(crate) streams: Mutex<JoinSet<()>>,
    pub(crate) document: Value,
}

impl Shared {
    pub(crate) fn new(
        store: Store,
        gates: Arc<dyn Gates>,
        terms: Terms,
        clock: Clock,
        document: Value,
    ) -> Self {
        Self {
            store,
            gates,
            clock,
            terms: RwLock::new(Arc::new(terms)),
            approvals: watch::Sender::new(0),
            drain: watch::Sender::new(false),
            streams: Mutex::new(JoinSet::new()),
            document,
        }
    }

    pub(crate) fn now(&self) -> Wall {
        (self.clock)()
    }

    /// The terms as they are at this moment.
    pub(crate) fn terms(&self) -> Arc<Terms> {
        self.terms.read().clone()
    }

    pub(crate) fn set_terms(&self, terms: Terms) {
        *self.terms.write() = Arc::new(terms);
    }

    /// How many streams of events are being written.
    pub(crate) fn open_streams(&self) -> usize {
        let mut streams = self.streams.lock();
        while streams.try_join_next().is_some() {}
        streams.len()
    }

    /// Why nothing new is begun any more.
    pub(crate) fn going_down() -> Fault {
        Fault::new(Code::Draining, "the gateway is going down")
    }
}
