//! The outbox: recorded before it is sent, and never sent twice by two processes.
//!
//! A claim is committed before the first byte goes out, so that a process that dies afterwards leaves a
//! row that says so.

use holdfast_core::time::Wall;
use serde_json::json;

use super::list::List;
use super::{tickets, to_json};
use crate::engine::sql::{NewEvent, Row, Tx, args};
use crate::error::{Error, Result};
use crate::model::effect::{Effect, EffectFilter, EffectState, NewEffect};
use crate::model::ticket::NewTicket;

macro_rules! head {
    () => {
        "id, scope, key, fingerprint, target, state, headers, run, step, requires, due, expires, created, updated, owner, fence, attempts, error, ticket, result_status, result_headers"
    };
}

macro_rules! whole {
    () => {
        concat!(head!(), ", payload, result_body")
    };
}

/// How often a recording looks again at a key that comes and goes.
const LOOKS: usize = 8;

/// An effect's row, still sealed.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Without payload and result.
    pub(crate) effect: Effect,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) status: Option<i64>,
    pub(crate) headers: Option<String>,
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) new: NewEffect,
    /// Sealed.
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Fresh(Box<Kept>),
    Known(Box<Kept>),
    Mismatch,
}

pub(crate) async fn record(tx: &mut Tx, recording: &Recording) -> Result<Outcome> {
    let new = &recording.new;
    for _ in 0..LOOKS {
        if let Some(kept) = insert(tx, recording).await? {
            tx.event(event("effect.recorded", &kept.effect, new.now));
            return Ok(Outcome::Fresh(Box::new(kept)));
        }
        let row = tx
            .row(
                concat!(
                    "SELECT ",
                    whole!(),
                    " FROM effects WHERE scope = $1 AND key = $2 FOR UPDATE"
                ),
                args![&new.scope, &new.key],
            )
            .await?;
        let Some(row) = row else { continue };
        let kept = read(row)?;
        if kept.effect.expires <= new.now && is_over(kept.effect.state) {
            tx.execute("DELETE FROM effects WHERE id = $1", args![kept.effect.id])
                .await?;
        } else if kept.effect.fingerprint == new.fingerprint {
            return Ok(Outcome::Known(Box::new(kept)));
        } else {
            return Ok(Outcome::Mismatch);
        }
    }
    Err(Error::Unavailable(
        "too many conflicts about one key".to_owned(),
    ))
}

async fn insert(tx: &mut Tx, recording: &Recording) -> Result<Option<Kept>> {
    let new = &recording.new;
    let row = tx
        .row(
            concat!(
                "INSERT INTO effects (id, scope, key, fingerprint, target, state, headers, run, step, requires, due, expires, created, updated, fence, attempts, payload) VALUES ($1, $2, $3, $4, $5, 'recorded', $6, $7, $8, $9, $10, $11, $12, $12, 0, 0, $13) ON CONFLICT DO NOTHING RETURNING ",
                whole!()
            ),
            args![
                &new.id,
                &new.scope,
                &new.key,
                new.fingerprint.as_slice(),
                &new.target,
                to_json(&new.headers)?,
                &new.run,
                &new.step,
                to_json(&new.requires)?,
                new.due,
                new.expires,
                new.now,
                &recording.payload
            ],
        )
        .await?;
    row.map(read).transpose()
}

const fn is_over(state: EffectState) -> bool {
    match state {
        EffectState::Done | EffectState::Failed | EffectState::Cancelled => true,
        EffectState::Recorded | EffectState::Sending | EffectState::Doubt => false,
    }
}

fn event(kind: &'static str, effect: &Effect, at: Wall) -> NewEvent {
    NewEvent {
        at,
        scope: effect.scope.clone(),
        kind,
        subject: effect.id.clone(),
        json: json!({
            "target": effect.target, "key": effect.key, "state": effect.state,
            "attempts": effect.attempts, "run": effect.run, "step": effect.step,
            "error": effect.error, "ticket": effect.ticket,
        }),
    }
}

// === Sending ===

#[derive(Debug)]
pub(crate) struct Claiming {
    pub(crate) target: String,
    pub(crate) now: Wall,
    pub(crate) limit: usize,
    pub(crate) token: String,
}

pub(crate) async fn claim(tx: &mut Tx, claim: &Claiming) -> Result<Vec<Kept>> {
    let rows = tx
        .rows(
            "SELECT id FROM effects WHERE state = 'recorded' AND target = $1 AND due <= $2 ORDER BY due, id LIMIT $3 FOR UPDATE SKIP LOCKED",
            args![&claim.target, claim.now, claim.limit],
        )
        .await?;
    let mut mine = Vec::with_capacity(rows.len());
    for mut row in rows {
        let (id, me) = (row.text()?, tx.owner.to_string());
        let row = tx
            .row(
                concat!(
                    "UPDATE effects SET state = 'sending', owner = $2, token = $3, fence = fence + 1, attempts = attempts + 1, updated = $4 WHERE id = $1 AND state = 'recorded' RETURNING ",
                    whole!()
                ),
                args![id, me, &claim.token, claim.now],
            )
            .await?;
        mine.extend(row.map(read).transpose()?);
    }
    Ok(mine)
}

/// Effects whose sender died, taken over under a token.
pub(crate) async fn stranded(tx: &mut Tx, args: &(String, usize)) -> Result<Vec<Kept>> {
    let (token, limit) = args;
    let rows = tx
        .rows(
            "SELECT id FROM effects WHERE state = 'sending' AND NOT EXISTS (SELECT 1 FROM owners WHERE owners.id = effects.owner) LIMIT $1 FOR UPDATE SKIP LOCKED",
            args![*limit],
        )
        .await?;
    let mut mine = Vec::with_capacity(rows.len());
    for mut row in rows {
        let (id, me) = (row.text()?, tx.owner.to_string());
        let row = tx
            .row(
                concat!(
                    "UPDATE effects SET owner = $2, token = $3, fence = fence + 1 WHERE id = $1 AND state = 'sending' RETURNING ",
                    whole!()
                ),
                args![id, me, token],
            )
            .await?;
        mine.extend(row.map(read).transpose()?);
    }
    Ok(mine)
}

#[derive(Debug)]
pub(crate) struct Finishing {
    pub(crate) id: String,
    pub(crate) fence: i64,
    pub(crate) end: End,
    pub(crate) now: Wall,
}

/// How a sending ended, sealed.
#[derive(Debug)]
pub(crate) enum End {
    Done(Answered),
    Failed(String, Option<Answered>),
    Retry {
        due: Wall,
        error: String,
    },
    Doubt {
        ticket: Box<NewTicket>,
        id: String,
        content: Option<Vec<u8>>,
        error: String,
    },
}

/// A target's answer, its body sealed.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: i64,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) async fn finish(tx: &mut Tx, call: &Finishing) -> Result<bool> {
    let (state, kind, error, due, answered) = match &call.end {
        End::Done(answered) => ("done", Some("effect.done"), None, None, Some(answered)),
        End::Failed(error, answered) => (
            "failed",
            Some("effect.failed"),
            Some(error),
            None,
            answered.as_ref(),
        ),
        End::Retry { due, error } => ("recorded", None, Some(error), Some(*due), None),
        End::Doubt { error, .. } => ("doubt", Some("effect.in_doubt"), Some(error), None, None),
    };
    let me = tx.owner.to_string();
    let row = tx
        .row(
            concat!(
                "UPDATE effects SET state = $4, error = $5, due = COALESCE($6, due), updated = $7, result_status = $8, result_headers = $9, result_body = $10, token = NULL WHERE id = $1 AND fence = $2 AND owner = $3 AND state = 'sending' RETURNING ",
                head!(),
                ", NULL, NULL"
            ),
            args![
                &call.id,
                call.fence,
                me.as_str(),
                state,
                error.cloned(),
                due,
                call.now,
                answered.map(|answered| answered.status),
                answered.map(|answered| answered.headers.clone()),
                &answered.map(|answered| answered.body.clone())
            ],
        )
        .await?;
    let Some(row) = row else {
        // The first time's answer may have got lost.
        let row = tx
            .row(
                "SELECT fence FROM effects WHERE id = $1 AND fence = $2 AND owner = $3 AND state = $4",
                args![&call.id, call.fence, me, state],
            )
            .await?;
        return Ok(row.is_some());
    };
    let mut kept = read(row)?;
    if let End::Doubt {
        ticket,
        id,
        content,
        ..
    } = &call.end
    {
        let ticket = tickets::insert(tx, id, ticket, content.as_ref()).await?;
        tx.execute(
            "UPDATE effects SET ticket = $2 WHERE id = $1",
            args![&call.id, &ticket],
        )
        .await?;
        kept.effect.ticket = Some(ticket);
    }
    if let Some(kind) = kind {
        tx.event(event(kind, &kept.effect, call.now));
    }
    Ok(true)
}

/// What a person says of an effect in doubt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settled<'a> {
    Done(&'a str),
    NotDone(&'a str),
    SendAgain(&'a str),
}

/// `false` = it is not in doubt.
pub(crate) async fn settle(
    tx: &mut Tx,
    id: &str,
    settled: &Settled<'_>,
    now: Wall,
) -> Result<bool> {
    let (state, kind, note) = match settled {
        Settled::Done(note) => ("done", "effect.done", note),
        Settled::NotDone(note) => ("failed", "effect.failed", note),
        Settled::SendAgain(note) => ("recorded", "effect.recorded", note),
    };
    let row = tx
        .row(
            concat!(
                "UPDATE effects SET state = $2, error = $3, due = $4, updated = $4, fence = fence + 1, owner = NULL WHERE id = $1 AND state = 'doubt' RETURNING ",
                head!(),
                ", NULL, NULL"
            ),
            args![id, state, *note, now],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let kept = read(row)?;
    tx.event(event(kind, &kept.effect, now));
    Ok(true)
}

/// Only as the caller has seen it: an attempt in between may have happened.
pub(crate) async fn cancel(tx: &mut Tx, call: &(String, i64, Wall)) -> Result<Option<Kept>> {
    let (id, attempts, now) = call;
    let row = tx
        .row(
            concat!(
                "UPDATE effects SET state = 'cancelled', updated = $3, fence = fence + 1 WHERE id = $1 AND state = 'recorded' AND attempts = $2 RETURNING ",
                whole!()
            ),
            args![id, *attempts, *now],
        )
        .await?;
    let Some(row) = row else {
        return get(tx, id).await;
    };
    let kept = read(row)?;
    tx.event(event("effect.cancelled", &kept.effect, *now));
    Ok(Some(kept))
}

// === Reading ===

pub(crate) async fn get(tx: &mut Tx, id: &String) -> Result<Option<Kept>> {
    let row = tx
        .row(
            concat!("SELECT ", whole!(), " FROM effects WHERE id = $1"),
            args![id],
        )
        .await?;
    row.map(read).transpose()
}

pub(crate) async fn of_key(tx: &mut Tx, key: &(String, String)) -> Result<Option<Kept>> {
    let row = tx
        .row(
            concat!(
                "SELECT ",
                whole!(),
                " FROM effects WHERE scope = $1 AND key = $2"
            ),
            args![&key.0, &key.1],
        )
        .await?;
    row.map(read).transpose()
}

pub(crate) async fn list(tx: &mut Tx, filter: &EffectFilter) -> Result<Vec<Effect>> {
    let rows = List::new(concat!("SELECT ", head!(), ", NULL, NULL FROM effects"))
        .only("scope =", filter.scope.as_ref())
        .only("state =", filter.state.map(EffectState::as_str))
        .only("target =", filter.target.as_ref())
        .only("run =", filter.run.as_ref())
        .only("id <", filter.after.as_ref())
        .rows(tx, "id DESC", filter.limit)
        .await?;
    rows.into_iter().map(|row| Ok(read(row)?.effect)).collect()
}

/// The targets that something is recorded for, each with its earliest due moment: one look into the
/// index for each target, however long their queues are.
pub(crate) async fn waiting_targets(tx: &mut Tx, limit: &usize) -> Result<Vec<(String, Wall)>> {
    let mut targets: Vec<(String, Wall)> = Vec::new();
    while targets.len() < *limit {
        let last = targets.last().map_or("", |(target, _)| target.as_str());
        let row = tx
            .row(
                "SELECT target, due FROM effects WHERE state = 'recorded' AND target > $1 ORDER BY target, due, id LIMIT 1",
                args![last],
            )
            .await?;
        let Some(mut row) = row else { break };
        targets.push((row.text()?, row.wall()?));
    }
    Ok(targets)
}

fn read(mut row: Row) -> Result<Kept> {
    let effect = Effect {
        id: row.text()?,
        scope: row.text()?,
        key: row.text()?,
        fingerprint: row.fingerprint()?,
        target: row.text()?,
        state: row.word(EffectState::find)?,
        payload: Vec::new(),
        headers: row.json()?,
        run: row.opt_text()?,
        step: row.opt_text()?,
        requires: row.json()?,
        due: row.wall()?,
        expires: row.wall()?,
        created: row.wall()?,
        updated: row.wall()?,
        owner: row.opt_text()?,
        fence: row.int()?,
        attempts: row.int()?,
        error: row.opt_text()?,
        ticket: row.opt_text()?,
        result: None,
    };
    Ok(Kept {
        effect,
        status: row.opt_int()?,
        headers: row.opt_text()?,
        payload: row.opt_blob()?,
        body: row.opt_blob()?,
    })
}
