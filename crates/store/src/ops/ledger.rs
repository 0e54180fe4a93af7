//! The ledger and the events.

use std::collections::BTreeMap;

use super::list::List;
use crate::engine::bulk::{Bulk, LARGEST};
use crate::engine::sql::{Row, Tx, Value, args};
use crate::error::Result;
use crate::model::ledger::{BookedExchange, Event, ExchangeFilter};
use crate::store::list_limit;

macro_rules! columns {
    () => {
        "id, at, scope, route, run, step, outcome, json"
    };
}

static INSERT: Bulk = Bulk::new(
    concat!("INSERT INTO exchanges (", columns!(), ") VALUES "),
    8,
    " ON CONFLICT (id) DO UPDATE SET at = excluded.at, route = excluded.route, run = excluded.run, step = excluded.step, outcome = excluded.outcome, json = excluded.json",
);

pub(crate) async fn book(tx: &mut Tx, entries: &[BookedExchange]) -> Result<()> {
    // One statement can't write a row twice: of the same id the last one counts.
    let latest: BTreeMap<&str, &BookedExchange> =
        entries.iter().map(|entry| (&*entry.id, entry)).collect();
    let latest: Vec<&BookedExchange> = latest.into_values().collect();
    for some in latest.chunks(LARGEST) {
        // What is left goes one by one, so that two texts are prepared.
        let rows = if some.len() == LARGEST { LARGEST } else { 1 };
        for some in some.chunks(rows) {
            let values = some.iter().flat_map(|entry| values(entry)).collect();
            tx.execute(INSERT.text(rows, tx.is_postgres()), values)
                .await?;
        }
    }
    Ok(())
}

fn values(entry: &BookedExchange) -> Vec<Value> {
    args![
        &entry.id,
        entry.at,
        &entry.scope,
        &entry.route,
        &entry.run,
        &entry.step,
        &entry.outcome,
        &entry.json
    ]
}

pub(crate) async fn exchange(tx: &mut Tx, id: &String) -> Result<Option<BookedExchange>> {
    let row = tx
        .row(
            concat!("SELECT ", columns!(), " FROM exchanges WHERE id = $1"),
            args![id],
        )
        .await?;
    row.map(read).transpose()
}

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

pub(crate) async fn exchanges(tx: &mut Tx, filter: &ExchangeFilter) -> Result<Vec<BookedExchange>> {
    let rows = List::new(concat!("SELECT ", columns!(), " FROM exchanges"))
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
