//! One worker: a thread with its own runtime, its own vendor connections, its own calls.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use holdfast_telemetry::Metrics;
use holdfast_upstream::Pool;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::books::Books;
use crate::clock::Clock;
use crate::durable::Durable;
use crate::health::Healths;
use crate::keyed::Registry;
use crate::ledger::Ledger;
use crate::services::Services;
use crate::signs::Signs;
use crate::snapshot::Snapshot;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) healths: Healths,
    pub(crate) metrics: Metrics,
    pub(crate) ledger: Ledger,
    pub(crate) clock: Clock,
    pub(crate) draining: AtomicBool,
    /// Accept loops that serve calls which came before the gateway was told to go down.
    pub(crate) busy: watch::Sender<usize>,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    pub(crate) buffered: Arc<AtomicUsize>,
    /// What has to be kept is kept here.
    pub(crate) durable: Durable,
    /// The keyed calls in hand.
    pub(crate) registry: Registry,
    /// What answers the paths beside the model calls.
    pub(crate) services: ArcSwapOption<Services>,
    /// Finished exchanges on their way to the store.
    pub(crate) books: Books,
    /// Runs that live, on their way to the store.
    pub(crate) signs: Signs,
}

impl Shared {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// One worker's own state; never leaves its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pools: RefCell<HashMap<usize, Pool>>,
    generation: Cell<u64>,
    /// Calls that nobody's connection carries. They are waited for like connections.
    tasks: RefCell<JoinSet<()>>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            pools: RefCell::default(),
            generation: Cell::new(0),
            tasks: RefCell::default(),
        })
    }

    /// Runs something on this worker that outlives the connection it came from.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        while let Some(ended) = tasks.try_join_next() {
            note(ended);
        }
        tasks.spawn_local(task);
    }

    /// Waits until nothing of it runs any more.
    pub(crate) async fn finish(&self) {
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            if tasks.is_empty() {
                return;
            }
            while let Some(ended) = tasks.join_next().await {
                note(ended);
            }
        }
    }

    /// The connections to a provider of this snapshot. A new configuration begins with new ones; calls
    /// under way keep theirs.
    pub(crate) fn pool(&self, snapshot: &Snapshot, provider: usize) -> Pool {
        let mut pools = self.pools.borrow_mut();
        if self.generation.get() != snapshot.generation {
            if self.generation.get() > snapshot.generation {
                // A call that began under the old configuration asks once more.
                return Pool::new(snapshot.providers[provider].endpoint.clone());
            }
            pools.clear();
            self.generation.set(snapshot.generation);
        }
        pools
            .entry(provider)
            .or_insert_with(|| Pool::new(snapshot.providers[provider].endpoint.clone()))
            .clone()
    }
}

/// What a task leaves behind is put in order by what it holds; here it is only told.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a call ended in a panic");
    }
}

/// A place among the calls under way, given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<Shared>,
}

impl Permit {
    /// `None` = the limit is reached.
    pub(crate) fn take(shared: &Arc<Shared>, limit: usize) -> Option<Self> {
        let before = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        shared.metrics.in_flight.inc();
        // Dropped where the limit is reached, which gives the place back.
        let permit = Self {
            shared: shared.clone(),
        };
        (before < limit).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.in_flight.dec();
    }
}

/// A share of the memory for held requests and answers, given back on drop.
#[derive(Debug)]
pub(crate) struct Held {
    buffered: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self::of(shared.buffered.clone())
    }

    /// A share of what `buffered` counts.
    pub(crate) fn of(buffered: Arc<AtomicUsize>) -> Self {
        Self { buffered, bytes: 0 }
    }

    /// Takes `bytes` more; `false` = the limit is reached.
    pub(crate) fn grow(&mut self, bytes: usize, limit: usize) -> bool {
        self.bytes += bytes;
        self.buffered.fetch_add(bytes, Ordering::Relaxed) + bytes <= limit
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
