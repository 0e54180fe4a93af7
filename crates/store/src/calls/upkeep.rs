//! Forgetting, checking, copying, counting.

use crate::error::{Error, Result};
use crate::model::ledger::{Counts, Retention};
use crate::store::Store;
use holdfast_core::time::Wall;
use std::path::PathBuf;

impl Store {
    /// Forgets what is over, at most `limit` rows of each kind, and expires what nobody decided. Gives the number of rows touched: call again until it is 0.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn expire(&self, now: Wall, retention: &Retention, limit: usize) -> Result<u64> {
        let _ = (now, retention, limit);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Looks for damage. Empty = sound.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn check(&self) -> Result<Vec<String>> {
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Copies the database to a new file while it works, and gives the copy's size in bytes. SQLite only.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn backup(&self, to: PathBuf) -> Result<u64> {
        let _ = (to,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// How much there is.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn counts(&self) -> Result<Counts> {
        Err(Error::Unavailable("not available yet".to_owned()))
    }
}
