//! What Holdfast keeps: idempotency keys with stored answers, tickets, effects, runs, approvals, the
//! ledger and the events, in SQLite or PostgreSQL.
//!
//! [`Store`] is the whole interface. Every call either did what it says, durably, or gives an
//! [`Error`]. It reads no wall clock: moments are arguments; which process is dead is decided by
//! counters that stand still on the observer's own monotonic clock. A result of `false` or `None`
//! where a fence was given means that somebody else has taken the thing over.
//!
//! It makes no decision about vendors, retries or people: it only makes sure that of several who
//! want the same thing exactly one gets it.

mod calls;
mod engine;
mod error;
mod model;
mod ops;
mod options;
mod pages;
mod seal;
mod store;
mod tend;

pub use error::{Error, Result};
pub use model::approval::{Approval, ApprovalFilter, ApprovalState, Asked, NewApproval};
pub use model::effect::{
    Effect, EffectEnd, EffectFilter, EffectResult, EffectState, NewEffect, Recorded,
};
pub use model::entry::{LedgerAttempt, LedgerEntry, Word};
pub use model::key::{
    Abandoned, Claimed, KeptRequest, KeyId, KeyRow, KeyState, NewClaim, StoredAnswer,
};
pub use model::ledger::{BookedExchange, Counts, Event, ExchangeFilter, Retention, Status};
pub use model::run::{Begun, Failure, NewRun, Run, RunFilter, RunState, Step, StepState};
pub use model::ticket::{
    Decided, Decision, NEVER, NewTicket, Retried, RetryPolicy, Ticket, TicketClaim, TicketFilter,
    TicketKind, TicketState,
};
pub use options::{Options, Place};
pub use pages::Pages;
pub use seal::Seal;
pub use store::Store;

/// The most that one list gives.
pub const MAX_LIST: usize = 1000;

/// The most steps of one run that are listed.
pub const MAX_STEPS: usize = 10_000;

/// The most attempts of one step that came to nothing and are remembered.
pub const MAX_FAILURES: usize = 20;

/// The longest name (scope, key, run, step, subject) that is kept, in bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// The longest text (title, facts, headers, labels, error) that is kept, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// The longest content (stored answer, request, payload, result) that is kept, in bytes.
pub const MAX_CONTENT_BYTES: usize = 64 << 20;
