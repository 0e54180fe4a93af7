//! The store as the gateway sees it: there, or not there and why.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use holdfast_core::fault::{Code, Fault};
use holdfast_store::Store;
use parking_lot::Mutex;

/// The store, once it could be opened.
#[derive(Debug)]
pub(crate) struct Durable {
    store: ArcSwapOption<Store>,
    why_not: Mutex<String>,
}

impl Durable {
    pub(crate) fn none() -> Self {
        Self {
            store: ArcSwapOption::empty(),
            why_not: Mutex::new("no store is configured: add `store:` to the configuration".into()),
        }
    }

    pub(crate) fn mount(&self, store: Store) {
        self.store.store(Some(Arc::new(store)));
    }

    /// It can't be opened; `why` is told to whoever needs it.
    pub(crate) fn refuse(&self, why: String) {
        *self.why_not.lock() = why;
    }

    /// The store, if it works at this moment: asked before anything is sent that has to be kept.
    pub(crate) fn store(&self) -> Result<Arc<Store>, Fault> {
        let unavailable = |why: &str| {
            let message = format!("nothing can be kept now, so nothing was sent: {why}");
            Fault::new(Code::StoreUnavailable, message)
        };
        match self.store.load_full() {
            Some(store) if store.is_healthy() => Ok(store),
            Some(store) => Err(unavailable(&store.status().trouble.unwrap_or_default())),
            None => Err(unavailable(&self.why_not.lock())),
        }
    }

    /// The store, whether it works or not.
    pub(crate) fn mounted(&self) -> Option<Arc<Store>> {
        self.store.load_full()
    }
}
