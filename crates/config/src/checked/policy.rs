//! How hard Holdfast tries, how long it waits and what the caller may see meanwhile.
//!
//! The defaults are written once, here; the file overrides them under `defaults:`, then per route.

use std::time::Duration;

use super::durable::{GateTerms, Idempotency, KeepTickets, TicketRetry};
use crate::words::words;

/// What a route promises its callers.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How a stream reaches the caller. A call without `stream` is always delivered `whole`.
    pub delivery: Delivery,
    /// Whether a text that was cut after it was shown may be continued by another target, if it is at most 1 MiB long.
    pub join: bool,
    /// The most calls to one target for one exchange, the first included.
    pub attempts_per_target: u32,
    /// The most calls to all targets together for one exchange.
    pub max_attempts: u32,
    /// The longest that one exchange may take, over all attempts and waits.
    pub deadline: Duration,
    /// The route's own; [`super::Target::timeouts`] is what applies to a call.
    pub timeouts: Timeouts,
    pub backoff: Backoff,
    pub on_refusal: OnRefusal,
    pub empty_answer: EmptyAnswer,
    /// How often a waiting caller of a stream gets a keep-alive.
    pub heartbeat: Duration,
    /// How often a paused turn (`pause_turn`) is sent back for one exchange.
    pub max_continuations: u32,
    pub idempotency: Idempotency,
    /// Which calls that nobody could answer are kept for review.
    pub tickets: KeepTickets,
    pub ticket_retry: TicketRetry,
    /// How long a ticket waits for somebody.
    pub ticket_expiry: Duration,
    /// How long after a failure a kept call may be tried again.
    pub retry_after: Duration,
    /// What an answer must be beyond whole.
    pub gate: Option<GateTerms>,
}

/// The five time limits of one attempt, and one for the bytes after its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// Name lookup, TCP and TLS together.
    pub connect: Duration,
    /// From the request sent to the response head.
    pub head: Duration,
    /// From the response head to the first content. Pings and comments are not content.
    pub first_token: Duration,
    /// Between two pieces of content. Pings and comments are not content.
    pub idle: Duration,
    /// The whole attempt.
    pub attempt: Duration,
    /// How long the terminal marker may lag behind the finish reason: some servers never send it.
    pub after_finish: Duration,
}

/// Waiting before the same target is asked again: full jitter over a doubling span.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// The first span.
    pub base: Duration,
    /// The largest span.
    pub cap: Duration,
}

/// The retry budget of a target: second attempts and hedges draw on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Retries for each recent call, 0 to 1.
    pub share: f64,
    /// Retries per second that are always allowed, so that a quiet gateway can retry too.
    pub floor_per_second: f64,
}

/// When a target is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Opens after so many failures in a row.
    pub consecutive: u32,
    /// Opens when this share of the calls in `window` failed, 0 to 1.
    pub share: f64,
    pub window: Duration,
    /// `share` counts only with at least so many calls in `window`.
    pub min_calls: u32,
    /// How long it stays open at first; doubles with every failed probe.
    pub open: Duration,
    /// The longest it stays open.
    pub open_max: Duration,
    /// How long it stays open after a money error (no credit, spend limit).
    pub money: Duration,
}

words! {
    /// How a stream reaches the caller.
    pub enum Delivery {
        /// Everything as it comes; only the end is checked.
        Live = "live",
        /// Text and thinking as they come; tool calls and the end once the answer is proven whole.
        Guarded = "guarded",
        /// Keep-alives until the answer is proven whole, then all of it.
        Whole = "whole",
    }
}

words! {
    /// What is done with a refusal of the model or its filter.
    pub enum OnRefusal {
        /// The caller gets it: it is an answer.
        Deliver = "deliver",
        /// The next target is asked, if nothing was shown yet.
        Next = "next",
    }
}

words! {
    /// What an answer without any content counts as.
    pub enum EmptyAnswer {
        /// A failure: the next target is asked.
        Broken = "broken",
        /// An answer: some workflows expect silence.
        Whole = "whole",
    }
}

words! {
    /// Whether a call without `stream` is made as a stream to the vendor, so that a stall is noticed
    /// after `idle` and not after `attempt`.
    pub enum UpstreamStream {
        /// Where the stream folds into exactly the same body.
        Auto = "auto",
        /// For every call.
        Always = "always",
        /// For none.
        Never = "never",
    }
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            delivery: Delivery::Guarded,
            join: true,
            attempts_per_target: 2,
            max_attempts: 6,
            deadline: Duration::from_mins(10),
            timeouts: Timeouts::default(),
            backoff: Backoff::default(),
            on_refusal: OnRefusal::Deliver,
            empty_answer: EmptyAnswer::Broken,
            heartbeat: Duration::from_secs(10),
            max_continuations: 8,
            idempotency: Idempotency::default(),
            tickets: KeepTickets::Keyed,
            ticket_retry: TicketRetry::OnRepeat,
            ticket_expiry: Duration::from_hours(7 * 24),
            retry_after: Duration::from_secs(5),
            gate: None,
        }
    }
}

// === impl Timeouts ===

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(30),
            first_token: Duration::from_secs(30),
            idle: Duration::from_secs(20),
            attempt: Duration::from_mins(10),
            after_finish: Duration::from_secs(2),
        }
    }
}

// === impl Backoff ===

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(8),
        }
    }
}

// === impl Budget ===

impl Default for Budget {
    fn default() -> Self {
        Self {
            share: 0.10,
            floor_per_second: 1.0,
        }
    }
}

// === impl Breaker ===

impl Default for Breaker {
    fn default() -> Self {
        Self {
            consecutive: 5,
            share: 0.5,
            window: Duration::from_secs(10),
            min_calls: 20,
            open: Duration::from_secs(5),
            open_max: Duration::from_mins(1),
            money: Duration::from_mins(10),
        }
    }
}
