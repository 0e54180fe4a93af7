//! Runs: signs of life, declarations, ends and orphans.

use std::time::Duration;

use holdfast_core::time::Wall;
use serde_json::json;

use super::list::List;
use super::tickets::{self, Resolution};
use super::to_json;
use crate::engine::sql::{NewEvent, Row, Tx, args};
use crate::error::{Error, Result};
use crate::model::run::{NewRun, Run, RunFilter, RunState};
use crate::model::ticket::{NewTicket, Ticket};
use crate::store::list_limit;

/// A sign of life is recent for so long, in milliseconds.
const RECENT: i64 = 1000;

/// A run that is told to go on has at least so long for it, in milliseconds.
const SHORTEST_RESUMED: i64 = 60_000;

macro_rules! columns {
    () => {
        "scope, id, state, declared, expect, deadline, heartbeat, labels, seen, created, ended, ticket"
    };
}

/// A sign of life. An orphan whose deadline has not passed is no orphan any more.
pub(crate) async fn touch(tx: &mut Tx, call: &(String, String, Wall)) -> Result<()> {
    let (scope, id, now) = call;
    let row = tx
        .row(
            concat!(
                "INSERT INTO runs (scope, id, state, declared, expect, labels, seen, created) VALUES ($1, $2, 'open', 0, '[]', '{}', $3, $3) ON CONFLICT (scope, id) DO UPDATE SET seen = CASE WHEN runs.seen < excluded.seen THEN excluded.seen ELSE runs.seen END RETURNING ",
                columns!()
            ),
            args![scope, id, *now],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let run = read(row)?;
    if run.state == RunState::Orphaned && run.deadline.is_none_or(|deadline| deadline > *now) {
        reopen(tx, &run, *now).await?;
    }
    Ok(())
}

/// An orphan is none any more, by itself.
async fn reopen(tx: &mut Tx, run: &Run, now: Wall) -> Result<()> {
    tx.execute(
        "UPDATE runs SET state = 'open', ticket = NULL WHERE scope = $1 AND id = $2",
        args![&run.scope, &run.id],
    )
    .await?;
    ticket_over(tx, run, "resume", now).await?;
    tx.event(event("run.resumed", run, now));
    Ok(())
}

/// Signs of life of several runs.
pub(crate) async fn touch_all(tx: &mut Tx, calls: &Vec<(String, String, Wall)>) -> Result<()> {
    for call in calls {
        touch(tx, call).await?;
    }
    Ok(())
}

/// A sign of life that comes along with something else: nothing is written where the last one is
/// recent. Looked at first, because a write that changes nothing would still hold the row, and with it
/// every other call of the run.
pub(crate) async fn alive(tx: &mut Tx, scope: &str, id: &str, now: Wall) -> Result<()> {
    let row = tx
        .row(
            "SELECT seen FROM runs WHERE scope = $1 AND id = $2 AND state <> 'orphaned' AND seen > $3 AND (heartbeat IS NULL OR seen + heartbeat / 2 > $4)",
            args![scope, id, Wall(now.0.saturating_sub(RECENT)), now],
        )
        .await?;
    if row.is_some() {
        return Ok(());
    }
    touch(tx, &(scope.to_owned(), id.to_owned(), now)).await
}

/// The run itself has ended its ticket.
async fn ticket_over(tx: &mut Tx, run: &Run, choice: &str, now: Wall) -> Result<()> {
    let Some(id) = &run.ticket else { return Ok(()) };
    if let Some(kept) = tickets::locked(tx, id).await? {
        let over = Resolution {
            decision: json!({ "decision": "choose", "choice": choice }),
            by: "run",
            now,
            answer: None,
        };
        tickets::resolve(tx, &kept.ticket, &over).await?;
    }
    Ok(())
}

fn event(kind: &'static str, run: &Run, at: Wall) -> NewEvent {
    NewEvent {
        at,
        scope: run.scope.clone(),
        kind,
        subject: run.id.clone(),
        json: json!({ "run": run.id, "labels": run.labels, "seen": run.seen.0 }),
    }
}

pub(crate) async fn declare(tx: &mut Tx, new: &NewRun) -> Result<Run> {
    let heartbeat = new.heartbeat.map(millis);
    let row = tx
        .row(
            concat!(
                "INSERT INTO runs (scope, id, state, declared, expect, deadline, heartbeat, labels, seen, created) VALUES ($1, $2, 'open', 1, $3, $4, $5, $6, $7, $7) ON CONFLICT (scope, id) DO UPDATE SET declared = 1, expect = excluded.expect, deadline = excluded.deadline, heartbeat = excluded.heartbeat, labels = excluded.labels, seen = CASE WHEN runs.seen < excluded.seen THEN excluded.seen ELSE runs.seen END RETURNING ",
                columns!()
            ),
            args![
                &new.scope,
                &new.id,
                to_json(&new.expect)?,
                new.deadline,
                heartbeat,
                to_json(&new.labels)?,
                new.now
            ],
        )
        .await?;
    let Some(row) = row else {
        return Err(Error::Internal("a declared run is not there".to_owned()));
    };
    let run = read(row)?;
    if run.state != RunState::Orphaned {
        return Ok(run);
    }
    // New terms are for a run that is watched: the old ones made their orphan.
    reopen(tx, &run, new.now).await?;
    Ok(Run {
        state: RunState::Open,
        ticket: None,
        ..run
    })
}

pub(crate) async fn get(tx: &mut Tx, id: &(String, String)) -> Result<Option<Run>> {
    let row = tx
        .row(
            concat!(
                "SELECT ",
                columns!(),
                " FROM runs WHERE scope = $1 AND id = $2"
            ),
            args![&id.0, &id.1],
        )
        .await?;
    row.map(read).transpose()
}

pub(crate) async fn list(tx: &mut Tx, filter: &RunFilter) -> Result<Vec<Run>> {
    let list = List::new(concat!("SELECT ", columns!(), " FROM runs"))
        .only("scope =", filter.scope.as_ref())
        .only("state =", filter.state.map(RunState::as_str));
    let cursor = filter
        .after
        .as_deref()
        .and_then(|after| after.split_once('/'))
        .and_then(|(created, id)| Some((created.parse::<i64>().ok()?, id)));
    let list = match cursor {
        Some((created, id)) => list.before("created", created, "id", id),
        None => list,
    };
    let rows = list.rows(tx, "created DESC, id DESC", filter.limit).await?;
    rows.into_iter().map(read).collect()
}

#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) scope: String,
    pub(crate) id: String,
    pub(crate) state: RunState,
    pub(crate) now: Wall,
}

pub(crate) async fn end(tx: &mut Tx, call: &Ending) -> Result<bool> {
    let row = tx
        .row(
            concat!(
                "UPDATE runs SET state = $3, ended = $4, seen = $4 WHERE scope = $1 AND id = $2 AND state IN ('open', 'orphaned') RETURNING ",
                columns!()
            ),
            args![&call.scope, &call.id, call.state.as_str(), call.now],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let run = read(row)?;
    ticket_over(tx, &run, call.state.as_str(), call.now).await?;
    tx.event(ended(&run, call.now));
    Ok(true)
}

fn ended(run: &Run, at: Wall) -> NewEvent {
    NewEvent {
        at,
        scope: run.scope.clone(),
        kind: "run.ended",
        subject: run.id.clone(),
        json: json!({ "run": run.id, "state": run.state, "labels": run.labels }),
    }
}

// === Orphans ===

/// Two searches, because a condition with `OR` reads every open run; each with its own limit, because a
/// union reads all of both.
const QUIET: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM (SELECT ",
    columns!(),
    " FROM runs WHERE state = 'open' AND deadline <= $1 ORDER BY deadline LIMIT $2) AS late UNION SELECT ",
    columns!(),
    " FROM (SELECT ",
    columns!(),
    " FROM runs WHERE state = 'open' AND heartbeat IS NOT NULL AND seen + heartbeat <= $1 ORDER BY seen + heartbeat LIMIT $2) AS silent LIMIT $2"
);

pub(crate) async fn quiet(tx: &mut Tx, call: &(Wall, usize)) -> Result<Vec<Run>> {
    let rows = tx.rows(QUIET, args![call.0, list_limit(call.1)]).await?;
    rows.into_iter().map(read).collect()
}

#[derive(Debug)]
pub(crate) struct Orphaning {
    pub(crate) scope: String,
    pub(crate) id: String,
    pub(crate) ticket: NewTicket,
    pub(crate) ticket_id: String,
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) now: Wall,
}

pub(crate) async fn orphan(tx: &mut Tx, call: &Orphaning) -> Result<Option<String>> {
    let row = tx
        .row(
            concat!(
                "UPDATE runs SET state = 'orphaned' WHERE scope = $2 AND id = $3 AND state = 'open' AND (deadline <= $1 OR seen + heartbeat <= $1) RETURNING ",
                columns!()
            ),
            args![call.now, &call.scope, &call.id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let run = read(row)?;
    let ticket = tickets::insert(tx, &call.ticket_id, &call.ticket, call.content.as_ref()).await?;
    tx.execute(
        "UPDATE runs SET ticket = $3 WHERE scope = $1 AND id = $2",
        args![&call.scope, &call.id, &ticket],
    )
    .await?;
    tx.event(event("run.orphaned", &run, call.now));
    Ok(Some(ticket))
}

/// What a person makes of an orphan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Done,
    Failed,
    Resume,
}

impl Fate {
    pub(crate) fn find(word: &str) -> Option<Self> {
        match word {
            "done" => Some(Self::Done),
            "failed" => Some(Self::Failed),
            "resume" => Some(Self::Resume),
            _ => None,
        }
    }
}

/// `false` = it is not an orphan any more. A run that goes on is watched as before: a deadline that
/// has passed begins anew, as long as it was at first.
pub(crate) async fn orphan_decided(
    tx: &mut Tx,
    ticket: &Ticket,
    fate: Fate,
    now: Wall,
) -> Result<bool> {
    let (state, end) = match fate {
        Fate::Done => ("done", Some(now)),
        Fate::Failed => ("failed", Some(now)),
        Fate::Resume => ("open", None),
    };
    let row = tx
        .row(
            concat!(
                "UPDATE runs SET state = $3, ended = $4, seen = $5, deadline = CASE WHEN deadline > $5 OR deadline IS NULL THEN deadline WHEN deadline - created > $6 THEN $5 + (deadline - created) ELSE $5 + $6 END, ticket = NULL WHERE scope = $1 AND id = $2 AND state = 'orphaned' RETURNING ",
                columns!()
            ),
            args![
                &ticket.scope,
                &ticket.run,
                state,
                end,
                now,
                SHORTEST_RESUMED
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let run = read(row)?;
    tx.event(match fate {
        Fate::Done | Fate::Failed => ended(&run, now),
        Fate::Resume => event("run.resumed", &run, now),
    });
    Ok(true)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}

fn read(mut row: Row) -> Result<Run> {
    Ok(Run {
        scope: row.text()?,
        id: row.text()?,
        state: row.word(RunState::find)?,
        declared: row.flag()?,
        expect: row.json()?,
        deadline: row.opt_wall()?,
        heartbeat: row
            .opt_int()?
            .map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
        labels: row.json()?,
        seen: row.wall()?,
        created: row.wall()?,
        ended: row.opt_wall()?,
        ticket: row.opt_text()?,
    })
}
