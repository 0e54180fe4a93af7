//! Waiting for news: a ring of a bell, the end of the caller's patience, or going down.
//!
//! The bell is taken before the state is read, so that nothing can happen in between unheard. A ring
//! says that something happened, not what: who waits reads again. The store's bell rings for every
//! event; a thousand long polls must not read a thousand times for each effect that is done, so
//! [`relay`] reads the events once and rings a bell of their own when one of them is for long polls.

use std::time::Duration;

use holdfast_store::{Error, Event};
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
    /// Hears of every event.
    pub(crate) fn for_events(shared: &Shared) -> Self {
        Self {
            bell: shared.store.event_signal(),
            drain: shared.drain.subscribe(),
        }
    }

    /// Hears of approvals.
    pub(crate) fn for_approvals(shared: &Shared) -> Self {
        Self {
            bell: shared.approvals.subscribe(),
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

/// Events of one reading.
const PAGE: usize = 500;
/// After a failed reading, and for a bell that did not ring.
const AGAIN: Duration = Duration::from_secs(5);

/// Rings for those who wait for approvals, until the gateway goes down.
pub(crate) async fn relay(shared: &Shared) {
    let mut waiting = Waiting::for_events(shared);
    let mut last = None;
    loop {
        waiting.listen();
        // What can't be read may concern anybody.
        if news(shared, &mut last).await.unwrap_or(true) {
            shared.approvals.send_modify(|rings| *rings += 1);
        }
        match waiting.until(end_of(AGAIN)).await {
            Woken::News | Woken::TimeUp => {}
            Woken::Drain => return,
        }
    }
}

/// Whether an approval has changed since the `last` event.
async fn news(shared: &Shared, last: &mut Option<i64>) -> Result<bool, Error> {
    let Some(last) = last else {
        *last = Some(shared.store.counts().await?.events);
        // Something may have happened before the first look.
        return Ok(true);
    };
    let mut is_news = false;
    loop {
        let events = shared.store.events(*last, None, PAGE).await?;
        if let Some(newest) = events.last() {
            *last = newest.seq;
        }
        is_news |= events.iter().any(ends_waiting);
        if events.len() < PAGE {
            return Ok(is_news);
        }
    }
}

/// A ticket that expires takes its approval with it.
fn ends_waiting(event: &Event) -> bool {
    matches!(
        event.kind.as_str(),
        "approval.decided" | "approval.expired" | "ticket.expired"
    )
}
