//! Idempotency keys.

use crate::error::{Error, Result};
use crate::model::key::{Abandoned, Claimed, KeyId, KeyRow, NewClaim, StoredAnswer};
use crate::model::ticket::NewTicket;
use crate::store::Store;
use holdfast_core::time::Wall;

impl Store {
    /// Claims a key: free, expired, or its owner dead -> `Fresh`; else what it is.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn claim_key(&self, claim: NewClaim) -> Result<Claimed> {
        let _ = (claim,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Stores the answer. `false` = fenced off.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn complete_key(
        &self,
        id: &KeyId,
        fence: i64,
        answer: StoredAnswer,
        now: Wall,
        expires: Wall,
    ) -> Result<bool> {
        let _ = (id, fence, answer, now, expires);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Makes the key free again (it goes back to its ticket where it came from one). `false` = fenced off.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn release_key(&self, id: &KeyId, fence: i64) -> Result<bool> {
        let _ = (id, fence);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Puts the call into the review queue: an open ticket of the key is updated and keeps its id. `None` = fenced off.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn ticket_key(
        &self,
        id: &KeyId,
        fence: i64,
        ticket: NewTicket,
        expires: Wall,
    ) -> Result<Option<String>> {
        let _ = (id, fence, ticket, expires);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// A new round for a key in the review queue: `Fresh` if its ticket is open, nobody has claimed it and its `not_before` has passed; else what it is.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn reopen_key(&self, id: &KeyId, exchange: &str, now: Wall) -> Result<Claimed> {
        let _ = (id, exchange, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// The key as it stands.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn key(&self, id: &KeyId) -> Result<Option<KeyRow>> {
        let _ = (id,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Takes over asynchronous calls of dead owners.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn abandoned_calls(&self, limit: usize) -> Result<Vec<Abandoned>> {
        let _ = (limit,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }
}
