//! What happens without a person: calls are asked again when their vendor is back, approvals get their
//! default.
//!
//! One task, [`Review::run`]. The pace is decided in `core::review::retries`; which of several
//! processes asks a call is decided by the store, so the pace holds for each process.

use std::collections::HashMap;
use std::time::Duration;

use holdfast_core::fault::Fault;
use holdfast_core::idempotency::{Afterwards, afterwards};
use holdfast_core::review::retries::{Pace, Retries};
use holdfast_store::{Error, KeptRequest, Retention, Retried, Ticket};
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};

use crate::Review;
use crate::again::{persist, reason};

/// How late a deadline of an approval is noticed.
const LOOK: Duration = Duration::from_secs(1);
/// Late approvals taken from the store at once.
const BATCH: usize = 16;
/// Tickets of dead processes brought back at once.
const RECOVERED: usize = 256;
/// The most routes that are looked at for a call to be asked.
const ROUTES: usize = 1000;
/// How often what is over is cleared away, and how many rows of each kind at once.
const CLEAR: Duration = Duration::from_mins(1);
const CLEARED: usize = 1000;

/// Something under way came to its end.
enum Ended {
    Asked { answered: bool },
    Rested { route: String },
}

/// What the task has in hand.
struct Desk {
    review: Review,
    retries: Retries,
    under_way: JoinSet<Ended>,
    /// The routes of the calls under way.
    asked: HashMap<task::Id, String>,
}

impl Review {
    /// Works until `drain` says true (or its sender has gone), then ends what is under way.
    ///
    /// Dropped before, it gives up the calls under way; the store hands their tickets out again once
    /// this process is known to be dead.
    pub async fn run(self, mut drain: watch::Receiver<bool>) {
        let mut events = self.inner.store.event_signal();
        let interval = self.inner.terms.retry_interval;
        let mut desk = Desk::new(self.clone());
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut since = interval;
        let mut uncleared = CLEAR;
        loop {
            tokio::select! {
                () = drained(&mut drain) => break,
                _ = ticks.tick() => {
                    if let Some(retention) = &self.inner.terms.retention {
                        self.decide_late_approvals().await;
                        uncleared += LOOK;
                        if uncleared >= CLEAR {
                            uncleared = Duration::ZERO;
                            self.clear(retention).await;
                        }
                    }
                    since += LOOK;
                    let news = events.has_changed().unwrap_or(false);
                    if since >= interval || news {
                        events.mark_unchanged();
                        since = Duration::ZERO;
                        desk.begin_retries().await;
                    }
                }
                Some(ended) = desk.under_way.join_next_with_id() => {
                    desk.note(ended);
                    desk.begin_retries().await;
                }
            }
        }
        desk.end().await;
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }

    /// Expires what nobody decided in time, and forgets what is over for long.
    async fn clear(&self, retention: &Retention) {
        let store = &self.inner.store;
        loop {
            match store.expire(self.now(), retention, CLEARED).await {
                Ok(0) => return,
                Ok(_) => task::yield_now().await,
                Err(error) => {
                    tracing::warn!(%error, "what is over can't be cleared away");
                    return;
                }
            }
        }
    }

    /// Gives every approval past its deadline its default, or ends it without a choice.
    async fn decide_late_approvals(&self) {
        let store = &self.inner.store;
        match store.due_approvals(self.now(), BATCH).await {
            Ok(late) => {
                for approval in late {
                    let ticket = &approval.ticket;
                    // Where it is decided meanwhile, somebody or another process was here.
                    if let Err(error) = store.time_out(&approval, self.now()).await {
                        tracing::warn!(%error, ticket, "a late approval can't be decided");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "late approvals can't be looked for"),
        }
    }
}

/// Ready once it is said to drain, or nobody is left to say it.
async fn drained(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}

// === impl Desk ===

impl Desk {
    fn new(review: Review) -> Self {
        let terms = review.inner.terms;
        Self {
            retries: Retries::new(Pace {
                interval: terms.retry_interval,
                cap: terms.retry_cap,
                parallel: terms.retry_parallel,
            }),
            review,
            under_way: JoinSet::new(),
            asked: HashMap::new(),
        }
    }

    /// Begins with as many due calls as the pace allows, oldest first.
    async fn begin_retries(&mut self) {
        if let Err(error) = self.try_begin_retries().await {
            tracing::debug!(%error, "calls to be retried can't be looked for");
        }
    }

    async fn try_begin_retries(&mut self) -> Result<(), Error> {
        let store = self.review.inner.store.clone();
        store.recover_tickets(RECOVERED).await?;
        if self.retries.room() == 0 {
            return Ok(());
        }
        let now = self.review.now();
        let mut routes = store.waiting_routes(ROUTES).await?;
        routes.retain(|(_, due)| *due <= now);
        routes.sort_by_key(|(_, due)| *due);
        for (route, _) in routes {
            let may_ask = || self.review.inner.ask.is_route_healthy(&route);
            if self.retries.may_begin(&route) && may_ask() {
                // Only what is asked is taken: people can have what waits for a vendor that is down.
                for ticket in store.due_tickets(&route, now, 1).await? {
                    self.begin(ticket);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, ticket: Ticket) {
        let route = ticket.route.clone().unwrap_or_default();
        self.retries.begin(&route);
        let review = self.review.clone();
        let task = self.under_way.spawn(async move {
            let answered = review.ask_again(ticket).await;
            Ended::Asked { answered }
        });
        self.asked.insert(task.id(), route);
    }

    /// Takes in what came to its end: a route may be asked, or there is room for another.
    fn note(&mut self, ended: Result<(task::Id, Ended), JoinError>) {
        let (id, answered) = match ended {
            Ok((_, Ended::Rested { route })) => return self.retries.rested(&route),
            Ok((id, Ended::Asked { answered })) => (id, answered),
            Err(error) => {
                tracing::error!(%error, "an automatic retry ended in a panic");
                (error.id(), false)
            }
        };
        let Some(route) = self.asked.remove(&id) else {
            return;
        };
        let rest = self.retries.end(&route, answered);
        self.under_way.spawn(async move {
            tokio::time::sleep(rest).await;
            Ended::Rested { route }
        });
    }

    /// Waits for the calls under way, not for the rests.
    async fn end(mut self) {
        while self.retries.asking() > 0 {
            match self.under_way.join_next_with_id().await {
                Some(ended) => self.note(ended),
                None => return,
            }
        }
    }
}

impl Review {
    /// Asks one call again and stores what came of it. Whether it was answered.
    async fn ask_again(&self, ticket: Ticket) -> bool {
        let inner = &self.inner;
        let kept = ticket.content.as_deref().and_then(KeptRequest::from_bytes);
        let outcome = match kept {
            Some(kept) => inner.ask.ask(kept, &ticket.scope, None).await,
            None => Err(Fault::new(
                holdfast_core::fault::Code::Internal,
                "its request was not kept",
            )),
        };
        let (outcome, answered) = match outcome {
            Ok(answer) => (Retried::Answered(answer), true),
            Err(fault) => (self.failure(&ticket, &fault), false),
        };
        let (id, fence) = (ticket.id.as_str(), ticket.fence);
        let stored = persist(|| {
            inner
                .store
                .ticket_retried(id, fence, outcome.clone(), self.now())
        });
        match stored.await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(ticket = id, "somebody else took a ticket over"),
            Err(error) => tracing::error!(%error, ticket = id, "a retry's end can't be stored"),
        }
        answered
    }

    /// Waits longer after each failure; longest for what only a person can put right.
    fn failure(&self, ticket: &Ticket, fault: &Fault) -> Retried {
        let terms = self.inner.terms;
        let pace = Pace {
            interval: terms.retry_interval,
            cap: terms.retry_cap,
            parallel: terms.retry_parallel,
        };
        let failures = u32::try_from(ticket.attempts).unwrap_or(u32::MAX);
        let is_passing = afterwards(fault.code) == Afterwards::Ticket || fault.code.is_passing();
        let wait = if is_passing {
            pace.rest(failures)
        } else {
            terms.retry_cap
        };
        Retried::Failed {
            reason: reason(fault),
            not_before: self.now() + wait,
        }
    }
}
