//! Approvals: questions that a workflow asks a person.

use holdfast_core::time::Wall;

use super::words;

words! {
    /// Where an approval is.
    ApprovalState {
        /// Waits for somebody.
        Open = "open",
        /// A choice was made.
        Decided = "decided",
        /// Nobody chose in time, or it was closed without a choice.
        Expired = "expired",
    }
}

/// A question to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct NewApproval {
    pub id: String,
    pub scope: String,
    /// One approval for each key of a scope.
    pub key: Option<String>,
    pub fingerprint: [u8; 32],
    pub question: String,
    pub choices: Vec<String>,
    /// Chosen when the deadline passes.
    pub default: Option<String>,
    pub deadline: Option<Wall>,
    /// Shown to who decides; sealed where a key is configured.
    pub context: serde_json::Value,
    pub run: Option<String>,
    pub step: Option<String>,
    /// When its ticket expires.
    pub expires: Wall,
    pub now: Wall,
}

/// An approval as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Approval {
    pub id: String,
    pub scope: String,
    pub key: Option<String>,
    pub state: ApprovalState,
    pub question: String,
    pub choices: Vec<String>,
    pub default: Option<String>,
    pub deadline: Option<Wall>,
    /// `Null` in lists.
    pub context: serde_json::Value,
    pub run: Option<String>,
    pub step: Option<String>,
    pub choice: Option<String>,
    pub note: Option<String>,
    pub decided_by: Option<String>,
    pub decided_at: Option<Wall>,
    pub created: Wall,
    pub ticket: String,
}

/// What became of asking.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Fresh(Approval),
    /// The same was asked before.
    Known(Approval),
    /// The key belongs to another question.
    Mismatch,
}

/// Which approvals. All conditions hold; empty ones do not count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ApprovalFilter {
    pub scope: Option<String>,
    pub state: Option<ApprovalState>,
    pub run: Option<String>,
    /// Only older ones than this id.
    pub after: Option<String>,
    /// At most this many; 0 and all above [`crate::MAX_LIST`] mean that.
    pub limit: usize,
}
