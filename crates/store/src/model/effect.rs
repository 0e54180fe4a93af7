//! Effects: what is done outside, once.

use holdfast_core::time::Wall;
use serde::{Deserialize, Serialize};

use super::key::as_base64;
use super::ticket::NewTicket;
use super::words;

words! {
    /// Where an effect is.
    EffectState {
        /// Not sent; goes out when it is due.
        Recorded = "recorded",
        /// On its way: it may have happened.
        Sending = "sending",
        /// The target said so.
        Done = "done",
        /// It did not happen and will not.
        Failed = "failed",
        /// Nobody knows whether it happened.
        Doubt = "doubt",
        /// Cancelled before it was sent.
        Cancelled = "cancelled",
    }
}

/// An effect to be recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewEffect {
    pub id: String,
    pub scope: String,
    /// One effect for each key of a scope. Goes to the target.
    pub key: String,
    /// Of target, method, path and payload; another one under the same key is a mismatch.
    pub fingerprint: [u8; 32],
    pub target: String,
    pub payload: Vec<u8>,
    pub headers: Vec<(String, String)>,
    pub run: Option<String>,
    pub step: Option<String>,
    /// Exchanges that must have been whole.
    pub requires: Vec<String>,
    pub due: Wall,
    /// When the key may be forgotten.
    pub expires: Wall,
    pub now: Wall,
}

/// An effect as it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Effect {
    pub id: String,
    pub scope: String,
    pub key: String,
    pub fingerprint: [u8; 32],
    pub target: String,
    pub state: EffectState,
    /// Empty in lists.
    pub payload: Vec<u8>,
    pub headers: Vec<(String, String)>,
    pub run: Option<String>,
    pub step: Option<String>,
    pub requires: Vec<String>,
    pub due: Wall,
    pub expires: Wall,
    pub created: Wall,
    pub updated: Wall,
    pub owner: Option<String>,
    pub fence: i64,
    /// How often it was sent.
    pub attempts: i64,
    /// `None` also in lists.
    pub result: Option<EffectResult>,
    pub error: Option<String>,
    pub ticket: Option<String>,
}

/// What the target answered.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct EffectResult {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// In JSON: base64.
    #[serde(with = "as_base64")]
    pub body: Vec<u8>,
}

/// What became of recording one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recorded {
    Fresh(Effect),
    /// The same one was recorded before.
    Known(Effect),
    /// The key belongs to another effect.
    Mismatch,
}

/// How a sending ended.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "few live at once, and callers take them apart at once"
)]
pub enum EffectEnd {
    Done(EffectResult),
    /// It did not happen, and will not be tried again.
    Failed {
        error: String,
        result: Option<EffectResult>,
    },
    /// It did not happen (or the target honours keys): once more at `due`.
    Retry {
        due: Wall,
        error: String,
    },
    /// Nobody knows; the ticket's kind is `Effect`. With the error.
    Doubt(NewTicket, String),
}

/// Which effects. All conditions hold; empty ones do not count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EffectFilter {
    pub scope: Option<String>,
    pub state: Option<EffectState>,
    pub target: Option<String>,
    pub run: Option<String>,
    /// Only older ones than this id.
    pub after: Option<String>,
    /// At most this many; 0 and all above [`crate::MAX_LIST`] mean that.
    pub limit: usize,
}
