//! The ledger and the events. What is in a page is the calls' business.

use super::list::List;
use crate::engine::bulk::{Bulk, LARGEST};
use crate::engine::sql::{Row, Tx, Value, args};
use crate::error::Result;
use crate::model::ledger::{BookedExchange, Event, ExchangeFilter};
use crate::pages::{Page, slot};
use crate::store::list_limit;

/// The most pages that are read at once.
pub(crate) const STEP: usize = 32;

static PAGES: Bulk = Bulk::new(
    "INSERT INTO ledger_pages (slot, page, oldest, newest, body) VALUES ",
    5,
);

static RUNS: Bulk = Bulk::new("INSERT INTO ledger_runs (run, slot, page) VALUES ", 3);

pub(crate) async fn book(tx: &mut Tx, pages: &[Page]) -> Result<()> {
    insert(tx, &PAGES, pages.iter().map(values).collect()).await?;
    let runs = |page: &Page| {
        let row = |run| args![run, &page.slot, &page.id];
        page.runs.iter().map(row).collect::<Vec<_>>()
    };
    insert(tx, &RUNS, pages.iter().flat_map(runs).collect()).await
}

fn values(page: &Page) -> Vec<Value> {
    args![&page.slot, &page.id, &page.oldest, &page.newest, &page.body]
}

async fn insert(tx: &mut Tx, bulk: &'static Bulk, mut rows: Vec<Vec<Value>>) -> Result<()> {
    while !rows.is_empty() {
        // What is left goes one by one, so that two texts are prepared.
        let count = if rows.len() < LARGEST { 1 } else { LARGEST };
        let values = rows.split_off(rows.len() - count).concat();
        tx.execute(bulk.text(count, tx.is_postgres()), values)
            .await?;
    }
    Ok(())
}

/// A page as it lies in the store.
#[derive(Debug)]
pub(crate) struct KeptPage {
    pub(crate) slot: String,
    pub(crate) id: String,
    /// The id of its newest exchange.
    pub(crate) newest: String,
    pub(crate) body: Vec<u8>,
}

/// Where to go on reading pages: slots from the newest to the oldest, in each the newer page first.
#[derive(Clone, Debug, Default)]
pub(crate) struct From {
    /// Only pages with exchanges of this run.
    pub(crate) run: Option<String>,
    /// Only pages with exchanges that are older than this id.
    pub(crate) after: Option<String>,
    /// Slot and page of the last one that was read.
    pub(crate) last: Option<(String, String)>,
}

pub(crate) async fn pages(tx: &mut Tx, from: &From) -> Result<Vec<KeptPage>> {
    // The order is that of the table that leads, for the other one would have to be sorted.
    let (sql, place, order) = if from.run.is_some() {
        (
            "SELECT p.slot, p.page, p.newest, p.body FROM ledger_runs r JOIN ledger_pages p ON p.slot = r.slot AND p.page = r.page",
            ("r.slot", "r.page", "r.slot <="),
            "r.slot DESC, r.page DESC",
        )
    } else {
        (
            "SELECT p.slot, p.page, p.newest, p.body FROM ledger_pages p",
            ("p.slot", "p.page", "p.slot <="),
            "p.slot DESC, p.page DESC",
        )
    };
    let after = from.after.as_deref();
    let mut list = List::new(sql)
        .only("r.run =", from.run.as_ref())
        .only(place.2, after.map(slot))
        .only("p.oldest <", after);
    if let Some((slot, page)) = &from.last {
        list = list.before(place.0, slot, place.1, page);
    }
    let rows = list.rows(tx, order, STEP).await?;
    rows.into_iter().map(page).collect()
}

/// Pages that may have an exchange, the newest first.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) id: String,
    /// Only older ones than this page.
    pub(crate) last: Option<String>,
}

pub(crate) async fn pages_around(tx: &mut Tx, place: &Around) -> Result<Vec<KeptPage>> {
    let rows = List::new("SELECT slot, page, newest, body FROM ledger_pages")
        .only("slot =", Some(slot(&place.id)))
        .only("oldest <=", Some(&place.id))
        .only("newest >=", Some(&place.id))
        .only("page <", place.last.as_ref())
        .rows(tx, "slot DESC, page DESC", STEP)
        .await?;
    rows.into_iter().map(page).collect()
}

fn page(mut row: Row) -> Result<KeptPage> {
    Ok(KeptPage {
        slot: row.text()?,
        id: row.text()?,
        newest: row.text()?,
        body: row.blob()?,
    })
}

// === Exchanges that were booked before there were pages ===

macro_rules! columns {
    () => {
        "SELECT id, at, scope, route, run, step, outcome, json FROM exchanges"
    };
}

pub(crate) async fn row(tx: &mut Tx, id: &String) -> Result<Option<BookedExchange>> {
    let row = tx
        .row(concat!(columns!(), " WHERE id = $1"), args![id])
        .await?;
    row.map(read).transpose()
}

/// How it ended, where no page says it.
pub(crate) async fn outcome(tx: &mut Tx, place: &(String, String)) -> Result<Option<String>> {
    let (scope, exchange) = place;
    for text in [
        "SELECT outcome FROM exchanges WHERE id = $1 AND scope = $2",
        "SELECT outcome FROM keys WHERE state = 'done' AND exchange = $1 AND scope = $2",
    ] {
        if let Some(mut row) = tx.row(text, args![exchange, scope]).await? {
            return row.opt_text();
        }
    }
    Ok(None)
}

pub(crate) async fn rows(tx: &mut Tx, filter: &ExchangeFilter) -> Result<Vec<BookedExchange>> {
    let rows = List::new(columns!())
        .only("scope =", filter.scope.as_ref())
        .only("route =", filter.route.as_ref())
        .only("run =", filter.run.as_ref())
        .only("outcome =", filter.outcome.as_ref())
        .only("at >=", filter.since)
        .only("id <", filter.after.as_ref())
        .rows(tx, "id DESC", filter.limit)
        .await?;
    rows.into_iter().map(read).collect()
}

fn read(mut row: Row) -> Result<BookedExchange> {
    Ok(BookedExchange {
        id: row.text()?,
        at: row.wall()?,
        scope: row.text()?,
        route: row.text()?,
        run: row.opt_text()?,
        step: row.opt_text()?,
        outcome: row.text()?,
        json: row.text()?,
    })
}

// === Events ===

#[derive(Debug)]
pub(crate) struct After {
    pub(crate) seq: i64,
    pub(crate) scope: Option<String>,
    pub(crate) limit: usize,
}

pub(crate) async fn events(tx: &mut Tx, after: &After) -> Result<Vec<Event>> {
    let rows = List::new("SELECT seq, at, scope, kind, subject, json FROM events")
        .only("scope =", after.scope.as_ref())
        .only("seq >", Some(after.seq))
        .rows(tx, "seq", list_limit(after.limit))
        .await?;
    rows.into_iter()
        .map(|mut row| {
            Ok(Event {
                seq: row.int()?,
                at: row.wall()?,
                scope: row.text()?,
                kind: row.text()?,
                subject: row.text()?,
                json: row.json()?,
            })
        })
        .collect()
}
