//! The ledger and the events.

use crate::engine::job::Shape;
use crate::error::Result;
use crate::model::ledger::{BookedExchange, Event, ExchangeFilter};
use crate::ops::ledger::{self, After};
use crate::store::{Store, names, texts};

impl Store {
    /// Books exchanges; one that is there already is replaced.
    pub async fn book(&self, entries: Vec<BookedExchange>) -> Result<()> {
        for entry in &entries {
            names(&[&entry.id, &entry.scope, &entry.route, &entry.outcome])?;
            texts(&[&entry.json])?;
        }
        self.write(Shape::Many, entries, |tx, entries| {
            Box::pin(ledger::book(tx, entries))
        })
        .await
    }

    /// A booked exchange.
    pub async fn exchange(&self, id: &str) -> Result<Option<BookedExchange>> {
        self.read(id.to_owned(), |tx, id| Box::pin(ledger::exchange(tx, id)))
            .await
    }

    /// How an exchange of a scope ended, in the ledger's words. The ledger is written behind the
    /// answers; an answer that is kept under its key says it too.
    pub async fn outcome(&self, scope: &str, exchange: &str) -> Result<Option<String>> {
        let place = (scope.to_owned(), exchange.to_owned());
        self.read(place, |tx, place| Box::pin(ledger::outcome(tx, place)))
            .await
    }

    /// Booked exchanges, newest first.
    pub async fn exchanges(&self, filter: &ExchangeFilter) -> Result<Vec<BookedExchange>> {
        self.read(filter.clone(), |tx, filter| {
            Box::pin(ledger::exchanges(tx, filter))
        })
        .await
    }

    /// Events after a number, in order; of one scope, or of all.
    pub async fn events(
        &self,
        after: i64,
        scope: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Event>> {
        let after = After {
            seq: after,
            scope: scope.map(str::to_owned),
            limit,
        };
        self.read(after, |tx, after| Box::pin(ledger::events(tx, after)))
            .await
    }
}
