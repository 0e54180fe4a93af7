//! Idempotency keys and the answers stored under them.

use holdfast_core::time::Wall;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which key: a caller's, so that two callers may use the same one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct KeyId {
    pub scope: String,
    pub key: String,
}

/// Somebody wants to do what belongs to a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewClaim {
    pub id: KeyId,
    /// Of the request; another one under the same key is a mismatch.
    pub fingerprint: [u8; 32],
    /// The exchange that will answer.
    pub exchange: String,
    /// The request itself: only of asynchronous calls, so that another process can go on with it. Once
    /// there it stays until the call has ended, whoever repeats it.
    pub request: Option<Vec<u8>>,
    pub run: Option<String>,
    pub step: Option<String>,
    pub now: Wall,
    /// When the key is forgotten.
    pub expires: Wall,
}

/// What became of a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claimed {
    /// Go on; say `fence` with everything that follows.
    Fresh { fence: i64 },
    /// It runs, at `owner`.
    Running {
        owner: String,
        fence: i64,
        exchange: String,
    },
    /// It is done.
    Done(StoredAnswer),
    /// It lies in the review queue.
    Ticketed { ticket: String, exchange: String },
    /// The key belongs to another request.
    Mismatch,
}

/// A whole answer, as it was (or would have been) sent.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct StoredAnswer {
    pub exchange: String,
    /// How the exchange ended, in the ledger's words: `whole`, `tools`, `limit`, ..
    pub outcome: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// In JSON: base64.
    #[serde(with = "as_base64")]
    pub body: Vec<u8>,
}

/// A key as it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRow {
    pub id: KeyId,
    pub state: KeyState,
    pub fingerprint: [u8; 32],
    pub exchange: String,
    pub fence: i64,
    pub run: Option<String>,
    pub step: Option<String>,
    pub created: Wall,
    pub expires: Wall,
}

/// Where a key's call is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyState {
    /// `alive`: the owner has not been declared dead.
    Running {
        owner: String,
        alive: bool,
    },
    Done(StoredAnswer),
    Ticketed {
        ticket: String,
    },
}

/// An asynchronous call whose owner died; it is the caller's now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Abandoned {
    pub id: KeyId,
    /// The new fence.
    pub fence: i64,
    pub request: Vec<u8>,
    pub exchange: String,
    pub fingerprint: [u8; 32],
    pub run: Option<String>,
    pub step: Option<String>,
    pub expires: Wall,
}

/// A request as it is kept for the review queue: enough to ask again, or to answer by hand.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct KeptRequest {
    pub path: String,
    pub dialect: String,
    pub route: String,
    pub stream: bool,
    pub delivery: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// All values of each, in their order.
    pub headers: Vec<(String, String)>,
    /// In JSON: base64.
    #[serde(with = "as_base64")]
    pub body: Vec<u8>,
    /// What the last answer said that a gate held back. Nobody is sent it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl KeptRequest {
    /// As a ticket's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: strings and bytes always become JSON")
    }

    /// The value of a header that was kept.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// From a ticket's content; `None` where it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

pub(crate) mod as_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_request_comes_back() {
        let kept = KeptRequest {
            path: "/v1/messages".to_owned(),
            dialect: "anthropic".to_owned(),
            stream: true,
            query: Some("c=d".to_owned()),
            headers: vec![("a".to_owned(), "b".to_owned())],
            body: vec![0, 255, 7],
            refused: Some("no".to_owned()),
            ..KeptRequest::default()
        };
        assert_eq!(KeptRequest::from_bytes(&kept.to_bytes()), Some(kept));
        assert_eq!(KeptRequest::from_bytes(b"{}"), None);
    }
}
