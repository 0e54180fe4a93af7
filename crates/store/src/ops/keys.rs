//! Keys: who may do what belongs to one, and what came of it.
//!
//! The common path of a claim is one statement, an insert that does nothing where the key is known.
//! All others lock the row, let [`decide`] say what it is, and do that.

use holdfast_core::time::Wall;

use super::to_json;
use super::{runs, tickets};
use crate::engine::sql::{Row, Tx, ValueRef, args, lent};
use crate::error::Result;
use crate::model::key::{KeyId, NewClaim};
use crate::model::ticket::NewTicket;

/// A key's row, still sealed.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: KeyId,
    pub(crate) state: State,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) exchange: String,
    pub(crate) owner: String,
    pub(crate) alive: bool,
    pub(crate) fence: i64,
    pub(crate) ticket: Option<String>,
    pub(crate) run: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) created: Wall,
    pub(crate) expires: Wall,
    pub(crate) status: i64,
    pub(crate) headers: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) request: Option<Vec<u8>>,
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Running,
    Done,
    Ticket,
}

/// What became of a claim, with the answer still sealed.
#[derive(Debug)]
pub(crate) enum Outcome {
    Fresh { fence: i64 },
    Known(Box<Kept>),
    Mismatch,
}

/// What a claim finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// It is expired: as if it had never been.
    Anew,
    /// Its owner is dead.
    TakeOver,
    Known,
    Mismatch,
}

/// An answer to be stored, its body sealed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) exchange: String,
    pub(crate) outcome: String,
    pub(crate) status: i64,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

macro_rules! columns {
    () => {
        "keys.scope, keys.key, keys.state, keys.fingerprint, keys.exchange, keys.owner, CAST(CASE WHEN EXISTS (SELECT 1 FROM owners WHERE owners.id = keys.owner) THEN 1 ELSE 0 END AS BIGINT), keys.fence, keys.ticket, keys.run, keys.step, keys.created, keys.expires, keys.status, keys.headers, keys.outcome, keys.request, keys.body"
    };
}

/// A claim and the fence of a new row.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) new: NewClaim,
    pub(crate) fence: i64,
    /// Sealed.
    pub(crate) request: Option<Vec<u8>>,
}

/// How often a claim looks again at a key that comes and goes.
const LOOKS: usize = 16;

/// The claim of a key that nobody knows.
pub(crate) const INSERT: &str = "INSERT INTO keys (scope, key, state, fingerprint, exchange, owner, fence, run, step, created, expires, request) VALUES ($1, $2, 'running', $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (scope, key) DO NOTHING";

pub(crate) fn claim_values<'a>(claim: &'a Claim, owner: &'a str) -> Vec<ValueRef<'a>> {
    let new = &claim.new;
    lent![
        &new.id.scope,
        &new.id.key,
        new.fingerprint.as_slice(),
        &new.exchange,
        owner,
        claim.fence,
        new.run.as_deref(),
        new.step.as_deref(),
        new.now,
        new.expires,
        claim.request.as_deref()
    ]
}

macro_rules! completion {
    ($expires:literal) => {
        concat!(
            "UPDATE keys SET state = 'done', exchange = ?5, status = ?6, headers = ?7, body = ?8, outcome = ?9, ",
            $expires,
            "request = NULL, token = NULL WHERE scope = ?1 AND key = ?2 AND fence = ?3 AND owner = ?4 AND state = 'running' AND ticket IS NULL"
        )
    };
}

/// The completion of a key that has no ticket.
pub(crate) const COMPLETION: &str = completion!("expires = ?10, ");

/// The same where it expires as it was claimed to: another moment moves it in an index.
pub(crate) const PROMPT_COMPLETION: &str = completion!("");

pub(crate) fn completion_values<'a>(done: &'a Completion, owner: &'a str) -> Vec<ValueRef<'a>> {
    let (id, answer) = (&done.id, &done.answer);
    let mut values = lent![
        &id.scope,
        &id.key,
        done.fence,
        owner,
        &answer.exchange,
        answer.status,
        &answer.headers,
        answer.body.as_slice(),
        &answer.outcome
    ];
    values.extend(done.expires.map(ValueRef::from));
    values
}

const LOCKED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM keys WHERE scope = $1 AND key = $2 FOR UPDATE"
);

/// A call of a run is a sign of its life, whatever comes of it; not one that is refused.
pub(crate) async fn claim(tx: &mut Tx, claim: &Claim) -> Result<Outcome> {
    let outcome = take_or_tell(tx, claim).await?;
    let new = &claim.new;
    match (&outcome, &new.run) {
        (Outcome::Fresh { .. } | Outcome::Known(_), Some(run)) => {
            runs::alive(tx, &new.id.scope, run, new.now).await?;
        }
        (Outcome::Mismatch, _) | (_, None) => {}
    }
    Ok(outcome)
}

async fn take_or_tell(tx: &mut Tx, claim: &Claim) -> Result<Outcome> {
    let new = &claim.new;
    let (me, id) = (tx.owner.to_string(), &new.id);
    for _ in 0..LOOKS {
        let inserted = tx
            .changed(
                INSERT,
                args![
                    &id.scope,
                    &id.key,
                    new.fingerprint.as_slice(),
                    &new.exchange,
                    me.as_str(),
                    claim.fence,
                    &new.run,
                    &new.step,
                    new.now,
                    new.expires,
                    &claim.request
                ],
            )
            .await?;
        if inserted {
            return Ok(Outcome::Fresh { fence: claim.fence });
        }
        let Some(row) = tx.row(LOCKED, args![&id.scope, &id.key]).await? else {
            continue;
        };
        let kept = read(row)?;
        return match decide(&kept, &new.fingerprint, new.now) {
            Verdict::Mismatch => Ok(Outcome::Mismatch),
            Verdict::Known => Ok(Outcome::Known(Box::new(kept))),
            Verdict::Anew => take(tx, claim, &kept, true).await,
            Verdict::TakeOver => take(tx, claim, &kept, false).await,
        };
    }
    Err(crate::Error::Unavailable(
        "too many conflicts about one key".to_owned(),
    ))
}

/// What a claim with this fingerprint finds.
fn decide(kept: &Kept, fingerprint: &[u8; 32], now: Wall) -> Verdict {
    let running = kept.state == State::Running;
    if kept.expires <= now && !(running && kept.alive) {
        Verdict::Anew
    } else if kept.fingerprint != *fingerprint {
        Verdict::Mismatch
    } else if running && !kept.alive {
        Verdict::TakeOver
    } else {
        Verdict::Known
    }
}

/// The row is the claim's. Where it is taken over in a new round, its ticket comes along.
async fn take(tx: &mut Tx, claim: &Claim, kept: &Kept, anew: bool) -> Result<Outcome> {
    let (new, fence) = (&claim.new, kept.fence + 1);
    let me = tx.owner.to_string();
    let request = claim.request.as_ref();
    let (ticket, created, request) = if anew {
        (None, new.now, request)
    } else {
        // Whoever was promised an answer later still is, though this one waits for it.
        let request = request.or(kept.request.as_ref());
        (kept.ticket.as_deref(), kept.created, request)
    };
    tx.execute(
        "UPDATE keys SET state = 'running', fingerprint = $3, exchange = $4, owner = $5, fence = $6, token = NULL, ticket = $7, run = $8, step = $9, created = $10, expires = $11, status = NULL, headers = NULL, outcome = NULL, request = $12, body = NULL WHERE scope = $1 AND key = $2",
        args![
            &new.id.scope,
            &new.id.key,
            new.fingerprint.as_slice(),
            &new.exchange,
            me,
            fence,
            ticket,
            &new.run,
            &new.step,
            created,
            new.expires,
            &request.cloned()
        ],
    )
    .await?;
    if let Some(ticket) = ticket {
        tickets::retry_goes_on(tx, ticket).await?;
    }
    Ok(Outcome::Fresh { fence })
}

#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) id: KeyId,
    pub(crate) fence: i64,
    pub(crate) answer: Answer,
    pub(crate) now: Wall,
    /// `None` = as it was claimed.
    pub(crate) expires: Option<Wall>,
}

pub(crate) async fn complete(tx: &mut Tx, done: &Completion) -> Result<bool> {
    let me = tx.owner.to_string();
    let (id, answer) = (&done.id, &done.answer);
    let row = tx
        .row(
            "UPDATE keys SET state = 'done', exchange = $5, status = $6, headers = $7, body = $8, expires = COALESCE($9, expires), outcome = $10, request = NULL, token = NULL WHERE scope = $1 AND key = $2 AND fence = $3 AND owner = $4 AND state = 'running' RETURNING ticket",
            args![
                &id.scope,
                &id.key,
                done.fence,
                me,
                &answer.exchange,
                answer.status,
                &answer.headers,
                &answer.body,
                done.expires,
                &answer.outcome
            ],
        )
        .await?;
    let Some(mut row) = row else {
        return is_at(tx, id, done.fence, "done").await;
    };
    if let Some(ticket) = row.opt_text()? {
        tickets::answered_by_repeat(tx, &ticket, done.now).await?;
    }
    Ok(true)
}

/// Whether this very claim has brought the key there: the first time's answer got lost.
async fn is_at(tx: &mut Tx, id: &KeyId, fence: i64, state: &str) -> Result<bool> {
    let me = tx.owner.to_string();
    let row = tx
        .row(
            "SELECT fence FROM keys WHERE scope = $1 AND key = $2 AND fence = $3 AND owner = $4 AND state = $5",
            args![&id.scope, &id.key, fence, me, state],
        )
        .await?;
    Ok(row.is_some())
}

pub(crate) async fn release(tx: &mut Tx, claim: &(KeyId, i64)) -> Result<bool> {
    let (id, fence) = claim;
    let me = tx.owner.to_string();
    let gone = tx
        .changed(
            "DELETE FROM keys WHERE scope = $1 AND key = $2 AND fence = $3 AND owner = $4 AND state = 'running' AND ticket IS NULL",
            args![&id.scope, &id.key, *fence, me.as_str()],
        )
        .await?;
    if gone {
        return Ok(true);
    }
    let row = tx
        .row(
            "UPDATE keys SET state = 'ticket', token = NULL, request = NULL WHERE scope = $1 AND key = $2 AND fence = $3 AND owner = $4 AND state = 'running' AND ticket IS NOT NULL RETURNING ticket",
            args![&id.scope, &id.key, *fence, me],
        )
        .await?;
    let Some(mut row) = row else { return Ok(false) };
    let ticket = row.text()?;
    tickets::back_to_open(tx, &ticket).await?;
    Ok(true)
}

#[derive(Debug)]
pub(crate) struct Ticketing {
    pub(crate) id: KeyId,
    pub(crate) fence: i64,
    pub(crate) ticket: NewTicket,
    /// The new ticket's id, where one is needed.
    pub(crate) ticket_id: String,
    /// Sealed.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) expires: Wall,
}

/// Gives the ticket's id, which is another than proposed where one was open.
pub(crate) async fn ticket(tx: &mut Tx, call: &Ticketing) -> Result<Option<String>> {
    let me = tx.owner.to_string();
    let Some(kept) = locked(tx, &call.id).await? else {
        return Ok(None);
    };
    let mine = kept.state == State::Running && kept.fence == call.fence && kept.owner == me;
    if !mine {
        let again = kept.state == State::Ticket && kept.fence == call.fence && kept.owner == me;
        return Ok(kept.ticket.filter(|_| again));
    }
    let failed = tickets::Failed {
        old: kept.ticket.as_deref(),
        new: &call.ticket,
        id: &call.ticket_id,
        content: call.content.as_ref(),
    };
    let ticket = tickets::failed_again(tx, &failed).await?;
    tx.execute(
        "UPDATE keys SET state = 'ticket', ticket = $3, expires = $4, request = NULL, token = NULL WHERE scope = $1 AND key = $2",
        args![&call.id.scope, &call.id.key, &ticket, call.expires],
    )
    .await?;
    Ok(Some(ticket))
}

#[derive(Debug)]
pub(crate) struct Reopening {
    pub(crate) id: KeyId,
    pub(crate) exchange: String,
    /// Sealed.
    pub(crate) request: Option<Vec<u8>>,
    pub(crate) now: Wall,
}

/// `None` = there is no such key.
pub(crate) async fn reopen(tx: &mut Tx, call: &Reopening) -> Result<Option<Outcome>> {
    let Some(kept) = locked(tx, &call.id).await? else {
        return Ok(None);
    };
    if kept.state != State::Ticket {
        return Ok(Some(Outcome::Known(Box::new(kept))));
    }
    let ticket = kept.ticket.clone().unwrap_or_default();
    let keeps = match tickets::begin_retry(tx, &ticket, call.now).await? {
        tickets::Retry::Begun => true,
        tickets::Retry::Over => false,
        tickets::Retry::NotNow => return Ok(Some(Outcome::Known(Box::new(kept)))),
    };
    let (me, fence) = (tx.owner.to_string(), kept.fence + 1);
    tx.execute(
        "UPDATE keys SET state = 'running', owner = $3, fence = $4, exchange = $5, ticket = $6, request = $7, token = NULL WHERE scope = $1 AND key = $2",
        args![
            &call.id.scope,
            &call.id.key,
            me,
            fence,
            &call.exchange,
            keeps.then_some(ticket),
            &call.request
        ],
    )
    .await?;
    Ok(Some(Outcome::Fresh { fence }))
}

#[derive(Debug)]
pub(crate) struct Keeping {
    pub(crate) id: KeyId,
    pub(crate) fingerprint: [u8; 32],
    /// Sealed.
    pub(crate) request: Vec<u8>,
}

/// The request of a running call is kept, if it is not yet. `false` = it does not run any more.
pub(crate) async fn keep_request(tx: &mut Tx, call: &Keeping) -> Result<bool> {
    tx.changed(
        "UPDATE keys SET request = COALESCE(request, $4) WHERE scope = $1 AND key = $2 AND fingerprint = $3 AND state = 'running'",
        args![
            &call.id.scope,
            &call.id.key,
            call.fingerprint.as_slice(),
            &call.request
        ],
    )
    .await
}

/// A call of the review queue is answered; also one whose new round died. `false` = its key has gone another way.
pub(crate) async fn answer_ticketed(
    tx: &mut Tx,
    id: &KeyId,
    ticket: &str,
    answer: &Answer,
    expires: Wall,
) -> Result<bool> {
    tx.changed(
        "UPDATE keys SET state = 'done', fence = fence + 1, exchange = $4, status = $5, headers = $6, body = $7, outcome = $9, expires = CASE WHEN expires > $8 THEN expires ELSE $8 END, token = NULL WHERE scope = $1 AND key = $2 AND ticket = $3 AND (state = 'ticket' OR (state = 'running' AND NOT EXISTS (SELECT 1 FROM owners WHERE owners.id = keys.owner)))",
        args![
            &id.scope,
            &id.key,
            ticket,
            &answer.exchange,
            answer.status,
            &answer.headers,
            &answer.body,
            expires,
            &answer.outcome
        ],
    )
    .await
}

/// A call of the review queue is closed, or its ticket expired: the key is free.
pub(crate) async fn free_ticketed(tx: &mut Tx, id: &KeyId, ticket: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM keys WHERE scope = $1 AND key = $2 AND ticket = $3 AND (state = 'ticket' OR (state = 'running' AND NOT EXISTS (SELECT 1 FROM owners WHERE owners.id = keys.owner)))",
        args![&id.scope, &id.key, ticket],
    )
    .await?;
    Ok(())
}

/// Asynchronous calls of the dead, taken over under a token. Never this process's own: it may have been
/// taken for dead while it was frozen, or be leaving, and still be making them.
pub(crate) async fn abandoned(tx: &mut Tx, args: &(String, usize)) -> Result<Vec<Kept>> {
    let (token, limit) = args;
    let rows = tx
        .rows(
            "SELECT scope, key FROM keys WHERE state = 'running' AND request IS NOT NULL AND owner <> $2 AND NOT EXISTS (SELECT 1 FROM owners WHERE owners.id = keys.owner) LIMIT $1 FOR UPDATE SKIP LOCKED",
            args![*limit, tx.owner.to_string()],
        )
        .await?;
    let mut mine = Vec::with_capacity(rows.len());
    for mut row in rows {
        let id = KeyId {
            scope: row.text()?,
            key: row.text()?,
        };
        let me = tx.owner.to_string();
        let row = tx
            .row(
                concat!(
                    "UPDATE keys SET owner = $3, fence = fence + 1, token = $4 WHERE scope = $1 AND key = $2 RETURNING ",
                    columns!()
                ),
                args![&id.scope, &id.key, me, token],
            )
            .await?;
        let Some(row) = row else { continue };
        let kept = read(row)?;
        if let Some(ticket) = &kept.ticket {
            tickets::retry_goes_on(tx, ticket).await?;
        }
        mine.push(kept);
    }
    Ok(mine)
}

/// What a claim would find, where nothing has to be written for that.
pub(crate) async fn look(tx: &mut Tx, call: &(KeyId, [u8; 32], Wall)) -> Result<Option<Outcome>> {
    let (id, fingerprint, now) = call;
    let Some(kept) = get(tx, id).await? else {
        return Ok(None);
    };
    Ok(match decide(&kept, fingerprint, *now) {
        Verdict::Mismatch => Some(Outcome::Mismatch),
        Verdict::Known => Some(Outcome::Known(Box::new(kept))),
        Verdict::Anew | Verdict::TakeOver => None,
    })
}

pub(crate) async fn get(tx: &mut Tx, id: &KeyId) -> Result<Option<Kept>> {
    let row = tx
        .row(
            concat!(
                "SELECT ",
                columns!(),
                " FROM keys WHERE scope = $1 AND key = $2"
            ),
            args![&id.scope, &id.key],
        )
        .await?;
    row.map(read).transpose()
}

/// The row, locked until the transaction's end.
pub(crate) async fn locked(tx: &mut Tx, id: &KeyId) -> Result<Option<Kept>> {
    let row = tx.row(LOCKED, args![&id.scope, &id.key]).await?;
    row.map(read).transpose()
}

fn read(mut row: Row) -> Result<Kept> {
    Ok(Kept {
        id: KeyId {
            scope: row.text()?,
            key: row.text()?,
        },
        state: row.word(State::find)?,
        fingerprint: row.fingerprint()?,
        exchange: row.text()?,
        owner: row.text()?,
        alive: row.flag()?,
        fence: row.int()?,
        ticket: row.opt_text()?,
        run: row.opt_text()?,
        step: row.opt_text()?,
        created: row.wall()?,
        expires: row.wall()?,
        status: row.opt_int()?.unwrap_or_default(),
        headers: row.opt_text()?,
        outcome: row.opt_text()?,
        request: row.opt_blob()?,
        body: row.opt_blob()?,
    })
}

impl State {
    fn find(word: &str) -> Option<Self> {
        match word {
            "running" => Some(Self::Running),
            "done" => Some(Self::Done),
            "ticket" => Some(Self::Ticket),
            _ => None,
        }
    }
}

impl Answer {
    pub(crate) fn new(answer: &crate::StoredAnswer, sealed: Vec<u8>) -> Result<Self> {
        let headers = to_json(&answer.headers)?;
        crate::store::texts(&[&headers])?;
        crate::store::names(&[&answer.exchange, &answer.outcome])?;
        Ok(Self {
            exchange: answer.exchange.clone(),
            outcome: answer.outcome.clone(),
            status: i64::from(answer.status),
            headers,
            body: sealed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_claim_finds() {
        use State::{Done, Running, Ticket};
        use Verdict::{Anew, Known, Mismatch, TakeOver};
        // state, alive, expired, same fingerprint -> verdict
        let table = [
            (Running, true, false, true, Known),
            (Running, true, false, false, Mismatch),
            // A living owner keeps what it has, however long it takes.
            (Running, true, true, true, Known),
            (Running, true, true, false, Mismatch),
            (Running, false, false, true, TakeOver),
            (Running, false, false, false, Mismatch),
            (Running, false, true, true, Anew),
            (Running, false, true, false, Anew),
            (Done, false, false, true, Known),
            (Done, false, false, false, Mismatch),
            (Done, true, true, true, Anew),
            (Done, true, true, false, Anew),
            (Ticket, false, false, true, Known),
            (Ticket, false, false, false, Mismatch),
            (Ticket, true, true, true, Anew),
        ];
        for (state, alive, expired, same, verdict) in table {
            let kept = Kept {
                id: KeyId {
                    scope: String::new(),
                    key: "k".to_owned(),
                },
                state,
                fingerprint: [1; 32],
                exchange: "e".to_owned(),
                owner: "o".to_owned(),
                alive,
                fence: 7,
                ticket: None,
                run: None,
                step: None,
                created: Wall(0),
                expires: Wall(if expired { 10 } else { 11 }),
                status: 0,
                headers: None,
                outcome: None,
                request: None,
                body: None,
            };
            let fingerprint = if same { [1; 32] } else { [2; 32] };
            let found = decide(&kept, &fingerprint, Wall(10));
            assert_eq!(found, verdict, "{state:?} {alive} {expired} {same}");
        }
    }
}
