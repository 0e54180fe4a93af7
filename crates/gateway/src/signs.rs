//! Signs of life of runs on their way to the store: a model call that names a run is one, when it
//! begins.
//!
//! No call waits for it: written behind, like the ledger. However many calls a run makes, it is written
//! about once a second. Where more runs wait than may, what does not fit is counted. A keyed call gives
//! its sign with the claim of its key, so that only one that joined another comes here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::time::Wall;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::admit::Call;
use crate::worker::Shared;

/// Between two writes.
const REST: Duration = Duration::from_secs(1);
/// The most runs in one write.
const GROUP: usize = 64;

/// Scope and name.
type Run = (String, String);

/// The runs that gave a sign since the last write. Without a store nothing is put into it.
#[derive(Debug)]
pub(crate) struct Signs {
    /// At most so many runs wait; 0 = not open.
    waiting: Mutex<(usize, BTreeMap<Run, Wall>)>,
    /// The first one waits.
    rang: Notify,
    closed: watch::Sender<bool>,
}

// === impl Signs ===

impl Default for Signs {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            rang: Notify::new(),
            closed: watch::Sender::new(false),
        }
    }
}

impl Signs {
    /// From now on up to `limit` runs may wait.
    pub(crate) fn open(&self, limit: usize) {
        self.waiting.lock().0 = limit;
    }

    /// No more is taken; what waits is still written.
    pub(crate) fn close(&self) {
        self.waiting.lock().0 = 0;
        self.closed.send_replace(true);
        self.rang.notify_one();
    }

    /// `false` = it did not fit.
    fn put(&self, run: Run, at: Wall) -> bool {
        let mut waiting = self.waiting.lock();
        let (limit, runs) = &mut *waiting;
        if *limit == 0 {
            return true;
        }
        let count = runs.len();
        if count >= *limit && !runs.contains_key(&run) {
            return false;
        }
        let last = runs.entry(run).or_insert(at);
        *last = at.max(*last);
        if count == 0 {
            self.rang.notify_one();
        }
        true
    }

    fn take(&self) -> Vec<(String, String, Wall)> {
        let runs = std::mem::take(&mut self.waiting.lock().1);
        let flat = runs.into_iter();
        flat.map(|((scope, run), at)| (scope, run, at)).collect()
    }
}

/// Notes that the call's run lives, where it names one.
pub(crate) fn note(shared: &Shared, call: &Call) {
    let Some(run) = &call.run else { return };
    let run = (call.scope.clone(), run.clone());
    if !shared.signs.put(run, shared.clock.wall()) {
        shared.metrics.signs_dropped.inc();
    }
}

/// Writes until it is closed and empty.
pub(crate) async fn write(shared: Arc<Shared>) {
    let signs = &shared.signs;
    let mut closed = signs.closed.subscribe();
    let mut is_closed = false;
    while !is_closed {
        signs.rang.notified().await;
        is_closed = *closed.borrow();
        for group in signs.take().chunks(GROUP) {
            store(&shared, group, is_closed).await;
        }
        // Nobody is left to close it: the same.
        let _ = tokio::time::timeout(REST, closed.wait_for(|closed| *closed)).await;
    }
}

/// What the store does not take waits on for the next time, for as long as there is one.
async fn store(shared: &Shared, group: &[(String, String, Wall)], is_last: bool) {
    let Some(store) = shared.durable.mounted() else {
        return;
    };
    let Err(error) = store.touch_runs(group.to_vec()).await else {
        return;
    };
    tracing::warn!(%error, runs = group.len(), "signs of life could not be stored");
    for (scope, run, at) in group {
        let run = (scope.clone(), run.clone());
        if is_last || !shared.signs.put(run, *at) {
            shared.metrics.signs_dropped.inc();
        }
    }
}
