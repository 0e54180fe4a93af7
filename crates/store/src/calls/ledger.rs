//! The ledger and the events.

use crate::error::{Error, Result};
use crate::model::ledger::{BookedExchange, Event, ExchangeFilter};
use crate::store::Store;

impl Store {
    /// Books exchanges; one that is there already is replaced.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn book(&self, entries: Vec<BookedExchange>) -> Result<()> {
        let _ = (entries,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// A booked exchange.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn exchange(&self, id: &str) -> Result<Option<BookedExchange>> {
        let _ = (id,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Booked exchanges, newest first.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn exchanges(&self, filter: &ExchangeFilter) -> Result<Vec<BookedExchange>> {
        let _ = (filter,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Events after a number, in order; of one scope, or of all.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn events(
        &self,
        after: i64,
        scope: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Event>> {
        let _ = (after, scope, limit);
        Err(Error::Unavailable("not available yet".to_owned()))
    }
}
