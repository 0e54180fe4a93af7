//! The review queue: whatever could not be finished lies here in front of a person.
//!
//! [`Review`] answers the paths under `/v1/tickets` and, by [`Review::run`], asks again by itself what
//! may be asked again. What fits a ticket and what follows from it is decided in
//! `holdfast_core::review`; that exactly one decision is taken is the store's work; calls are made by
//! the gateway, through [`Ask`]. No call is made here without a ticket, and none twice for one answer.

mod again;
mod answer;
mod ask;
mod auto;
mod body;
mod decide;
mod openapi;
mod service;
mod shown;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use holdfast_api::{Caller, Clock};
use holdfast_core::fault::Fault;
use holdfast_core::time::Wall;
use holdfast_store::{Retention, Store, Ticket};
use parking_lot::Mutex;
use tokio::task::JoinSet;

pub use answer::TARGET;
pub use ask::{Ask, Asking};
pub use openapi::openapi;

/// The longest claim that can be asked for.
pub const LONGEST_CLAIM: Duration = Duration::from_hours(24);

/// How the queue works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// How long a claim lasts where its maker does not say.
    pub claim: Duration,
    /// The rest of a route between two automatic retries.
    pub retry_interval: Duration,
    /// The longest rest, after many failures in a row.
    pub retry_cap: Duration,
    /// Automatic retries at once, over all routes.
    pub retry_parallel: usize,
    /// The upkeep is done here too: approvals get their default at the deadline, tickets that nobody
    /// decided expire, what is over for so long is forgotten. `None` = somebody else does it.
    pub retention: Option<Retention>,
}

/// The queue's work. Cheap to clone; every clone is the same queue.
#[derive(Clone)]
pub struct Review {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    ask: Arc<dyn Ask>,
    terms: Terms,
    clock: Clock,
    /// Calls that somebody asked to be made now. They run on when that somebody hangs up, because
    /// their answers are paid for.
    tasks: Mutex<JoinSet<()>>,
}

// === impl Terms ===

impl Default for Terms {
    fn default() -> Self {
        Self {
            claim: Duration::from_mins(10),
            retry_interval: Duration::from_secs(10),
            retry_cap: Duration::from_mins(10),
            retry_parallel: 1,
            retention: Some(Retention::default()),
        }
    }
}

// === impl Review ===

impl Review {
    /// The queue of `store`. Nothing runs by itself until [`run`](Self::run).
    pub fn new(store: Store, ask: Arc<dyn Ask>, terms: Terms, clock: Clock) -> Self {
        let inner = Inner {
            store,
            ask,
            terms,
            clock,
            tasks: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    fn now(&self) -> Wall {
        (self.inner.clock)()
    }

    /// The ticket, if this caller may see it. Another's is told in the words of one that is not there.
    async fn find(&self, caller: &Caller, id: &str) -> Result<Ticket, Fault> {
        let missing = || holdfast_api::not_found("ticket", id);
        // Ids are 32 hexadecimal digits; what can't be one is not looked up.
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(missing());
        }
        let ticket = self.inner.store.ticket(id).await?;
        ticket
            .filter(|ticket| caller.may_see(&ticket.scope))
            .ok_or_else(missing)
    }
}

impl fmt::Debug for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Review")
            .field("terms", &self.inner.terms)
            .finish_non_exhaustive()
    }
}
