//! Tickets: what waits for a person, or for a vendor to come back.

use holdfast_core::time::Wall;

use super::key::{KeyId, StoredAnswer};
use super::words;

words! {
    /// What a ticket is about.
    TicketKind {
        /// A call that every target failed.
        Call = "call",
        /// An effect of which nobody knows whether it happened.
        Effect = "effect",
        /// An answer that did not pass its gate.
        Gate = "gate",
        /// A question that a workflow asked.
        Approval = "approval",
        /// A run that went quiet.
        Run = "run",
    }

    /// Where a ticket is.
    TicketState {
        /// Waits.
        Open = "open",
        /// A person has it, until `claim_until`. A claim past its end counts as open.
        Claimed = "claimed",
        /// A process is asking again.
        Retrying = "retrying",
        /// Decided.
        Resolved = "resolved",
        /// Nobody decided in time.
        Expired = "expired",
    }

    /// When a call is tried again without a person.
    RetryPolicy {
        /// When the caller repeats it.
        OnRepeat = "on_repeat",
        /// By itself, when the vendor is back.
        WhenHealthy = "when_healthy",
        /// Only a person can.
        Never = "never",
    }
}

/// A ticket to be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTicket {
    pub kind: TicketKind,
    pub scope: String,
    /// The exchange's id, the effect's id, the approval's id, or `scope/run` (a slash in the scope as
    /// `%2F`). One open ticket for each kind and subject.
    pub subject: String,
    pub key: Option<KeyId>,
    pub run: Option<String>,
    pub step: Option<String>,
    pub route: Option<String>,
    pub title: String,
    /// What is shown in lists, and is not secret.
    pub facts: serde_json::Value,
    /// What is shown only to who may decide; sealed where a key is configured.
    pub content: Option<Vec<u8>>,
    pub policy: RetryPolicy,
    pub not_before: Wall,
    /// [`NEVER`] where deciding it is the only way on: of an effect in doubt, of an orphaned run.
    pub expires: Wall,
    pub now: Wall,
}

/// The end of what waits for as long as it takes.
pub const NEVER: Wall = Wall(i64::MAX);

/// A ticket as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    pub id: String,
    pub kind: TicketKind,
    pub state: TicketState,
    pub scope: String,
    pub subject: String,
    pub key: Option<KeyId>,
    pub run: Option<String>,
    pub step: Option<String>,
    pub route: Option<String>,
    pub title: String,
    pub facts: serde_json::Value,
    /// `None` also in lists.
    pub content: Option<Vec<u8>>,
    pub policy: RetryPolicy,
    pub not_before: Wall,
    pub expires: Wall,
    pub created: Wall,
    pub updated: Wall,
    pub claimed_by: Option<String>,
    pub claim_until: Option<Wall>,
    pub fence: i64,
    /// How often the call behind it has failed.
    pub attempts: i64,
    /// Why the last retry failed.
    pub reason: Option<String>,
    pub decision: Option<serde_json::Value>,
    pub decided_by: Option<String>,
    pub decided_at: Option<Wall>,
    /// The answer that was given to a call without a key; one with a key has it there. `None` also in
    /// lists.
    pub answer: Option<StoredAnswer>,
}

/// Which tickets. All conditions hold; empty ones do not count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TicketFilter {
    pub scope: Option<String>,
    pub kind: Option<TicketKind>,
    pub state: Option<TicketState>,
    pub run: Option<String>,
    pub route: Option<String>,
    /// Only older ones than this id.
    pub after: Option<String>,
    /// At most this many; 0 and all above [`crate::MAX_LIST`] mean that.
    pub limit: usize,
}

/// What became of a person's claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TicketClaim {
    Claimed {
        fence: i64,
    },
    Held {
        by: String,
        until: Wall,
    },
    /// It is decided or expired.
    Decided,
    Missing,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// This is the answer of the call.
    Answer(StoredAnswer),
    /// The call is refused; `answer` is what its caller gets to see.
    Reject {
        answer: StoredAnswer,
        reason: String,
    },
    EffectDone {
        note: String,
    },
    EffectNotDone {
        note: String,
    },
    EffectSendAgain {
        note: String,
    },
    /// An approval's choice; of a run: `done`, `failed` or `resume`.
    Choose {
        choice: String,
        note: String,
    },
    /// Nothing more is done about it: a call's key is free again, an approval expires, a run stays an
    /// orphan.
    Close {
        note: String,
    },
}

/// What became of a decision.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "few live at once, and callers take them apart at once"
)]
pub enum Decided {
    Done(Ticket),
    /// Somebody else was faster, or it does not apply; in words.
    Conflict(String),
    Missing,
}

/// How an automatic retry ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Retried {
    Answered(StoredAnswer),
    Failed { reason: String, not_before: Wall },
}
