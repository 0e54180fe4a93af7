//! Waiting for news: a ring of the store's bell, the end of the caller's patience, or going down.
//!
//! The bell is taken before the state is read, so that nothing can happen in between unheard. A ring
//! says that something happened, not what: who waits reads again.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::shared::Shared;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Woken {
    /// There may be news.
    News,
    /// The time is over.
    TimeUp,
    /// The gateway goes down, or the store is closed.
    Drain,
}

/// Somebody who waits.
pub(crate) struct Waiting {
    bell: watch::Receiver<u64>,
    drain: watch::Receiver<bool>,
}

impl Waiting {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            bell: shared.store.event_signal(),
            drain: shared.drain.subscribe(),
        }
    }

    /// From here on rings count: called before each reading.
    pub(crate) fn listen(&mut self) {
        self.bell.borrow_and_update();
    }

    pub(crate) async fn until(&mut self, end: Instant) -> Woken {
        tokio::select! {
            biased;
            _ = self.drain.wait_for(|drain| *drain) => Woken::Drain,
            rung = self.bell.changed() => match rung {
                Ok(()) => Woken::News,
                Err(_) => Woken::Drain,
            },
            () = sleep_until(end) => Woken::TimeUp,
        }
    }

    /// Ends when the gateway goes down.
    pub(crate) async fn drained(&mut self) {
        // Nobody is left to say so: the same.
        let _ = self.drain.wait_for(|drain| *drain).await;
    }
}

/// `wait` from now on.
pub(crate) fn end_of(wait: Duration) -> Instant {
    Instant::now() + wait
}
