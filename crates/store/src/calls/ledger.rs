//! The ledger and the events.

use crate::engine::job::Shape;
use crate::error::Result;
use crate::model::ledger::{BookedExchange, Event, ExchangeFilter};
use crate::ops::ledger::{self, After, Around, From, KeptPage, STEP};
use crate::pages::{Found, Pages, exchanges};
use crate::store::{Store, list_limit};

impl Store {
    /// Books exchanges; one that is there already is replaced.
    pub async fn book(&self, entries: Vec<BookedExchange>) -> Result<()> {
        let mut pages = Pages::default();
        for entry in &entries {
            pages.add_told(entry)?;
        }
        self.book_pages(pages).await
    }

    /// Books all exchanges of these pages, or none.
    pub async fn book_pages(&self, pages: Pages) -> Result<()> {
        self.write(Shape::Many, pages.into_pages(), |tx, pages| {
            Box::pin(ledger::book(tx, pages))
        })
        .await
    }

    /// A booked exchange.
    pub async fn exchange(&self, id: &str) -> Result<Option<BookedExchange>> {
        if let Some(found) = self.paged(id).await? {
            return Ok(Some(found));
        }
        self.read(id.to_owned(), |tx, id| Box::pin(ledger::row(tx, id)))
            .await
    }

    /// How an exchange of a scope ended, in the ledger's words. The ledger is written behind the
    /// answers; an answer that is kept under its key says it too.
    pub async fn outcome(&self, scope: &str, exchange: &str) -> Result<Option<String>> {
        if let Some(found) = self.paged(exchange).await?
            && found.scope == scope
        {
            return Ok(Some(found.outcome));
        }
        let place = (scope.to_owned(), exchange.to_owned());
        self.read(place, |tx, place| Box::pin(ledger::outcome(tx, place)))
            .await
    }

    /// Booked exchanges, newest first.
    pub async fn exchanges(&self, filter: &ExchangeFilter) -> Result<Vec<BookedExchange>> {
        let mut found = Found::new(filter, list_limit(filter.limit));
        let mut from = From {
            run: filter.run.clone(),
            after: filter.after.clone(),
            last: None,
        };
        while let Some(pages) = self.pages(&mut from).await? {
            for page in pages {
                if found.is_settled(&page.slot) {
                    return Ok(found.into_list());
                }
                found.page(&page)?;
            }
        }
        let rows = self.read(filter.clone(), |tx, filter| {
            Box::pin(ledger::rows(tx, filter))
        });
        for row in rows.await? {
            found.row(row);
        }
        Ok(found.into_list())
    }

    /// Looks into every page; gives what is wrong with the first `most` that can't be read.
    pub(crate) async fn damaged_pages(&self, most: usize) -> Result<Vec<String>> {
        let mut damage = Vec::new();
        let mut from = From::default();
        while let Some(pages) = self.pages(&mut from).await? {
            for page in pages {
                let all = exchanges(&page.body);
                let all = all.and_then(|all| all.iter().try_for_each(|one| one.booked().map(drop)));
                if let Err(error) = all {
                    damage.push(format!("{error} (`{}` of `{}`)", page.id, page.slot));
                }
                if damage.len() >= most {
                    return Ok(damage);
                }
            }
        }
        Ok(damage)
    }

    /// The next pages; `None` = there are no more. What they say is read outside of the database's
    /// turn: a page that can't be read makes no store ill.
    async fn pages(&self, from: &mut From) -> Result<Option<Vec<KeptPage>>> {
        let pages = self
            .read(from.clone(), |tx, from| Box::pin(ledger::pages(tx, from)))
            .await?;
        let last = pages.last();
        from.last = last.map(|page| (page.slot.clone(), page.id.clone()));
        Ok(Some(pages).filter(|pages| !pages.is_empty()))
    }

    /// An exchange that lies in a page.
    async fn paged(&self, id: &str) -> Result<Option<BookedExchange>> {
        let mut last = None;
        loop {
            let place = Around {
                id: id.to_owned(),
                last,
            };
            let pages = self
                .read(place, |tx, place| Box::pin(ledger::pages_around(tx, place)))
                .await?;
            for page in &pages {
                // The last one counts.
                let all = exchanges(&page.body)?;
                if let Some(found) = all.iter().rfind(|kept| kept.id == id) {
                    return found.booked().map(Some);
                }
            }
            match pages.into_iter().nth(STEP - 1) {
                Some(page) => last = Some(page.id),
                None => return Ok(None),
            }
        }
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
