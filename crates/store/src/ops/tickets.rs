//! The review queue: opening, claiming, retrying. What a decision does is in `decide`.
//!
//! Locks are taken in one order everywhere: first the thing that a ticket is about, then the ticket.

use holdfast_core::time::Wall;
use serde_json::json;

use super::list::List;
use super::{keys, to_json};
use crate::engine::sql::{NewEvent, Row, Tx, args};
use crate::error::Result;
use crate::model::key::KeyId;
use crate::model::ticket::{
    NewTicket, RetryPolicy, Ticket, TicketClaim, TicketFilter, TicketKind, TicketState,
};

macro_rules! columns {
    () => {
        "tickets.id, tickets.kind, tickets.state, tickets.scope, tickets.subject, tickets.key_scope, tickets.key, tickets.run, tickets.step, tickets.route, tickets.title, tickets.facts, tickets.policy, tickets.not_before, tickets.expires, tickets.created, tickets.updated, tickets.claimed_by, tickets.claim_until, tickets.fence, tickets.attempts, tickets.reason, tickets.decision, tickets.decided_by, tickets.decided_at, tickets.owner, CAST(CASE WHEN EXISTS (SELECT 1 FROM owners WHERE owners.id = tickets.owner) THEN 1 ELSE 0 END AS BIGINT)"
    };
}

/// A ticket's row, still sealed.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) ticket: Ticket,
    pub(crate) owner: Option<String>,
    /// Whether `owner` lives.
    pub(crate) alive: bool,
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) answer: Option<Vec<u8>>,
}

/// A ticket to be opened, sealed.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) id: String,
    pub(crate) new: NewTicket,
    pub(crate) content: Option<Vec<u8>>,
}

/// A call that failed, perhaps not for the first time.
pub(crate) struct Failed<'a> {
    pub(crate) old: Option<&'a str>,
    pub(crate) new: &'a NewTicket,
    pub(crate) id: &'a str,
    pub(crate) content: Option<&'a Vec<u8>>,
}

/// How often an opening looks again at a ticket that comes and goes.
const LOOKS: usize = 8;

/// What became of a new round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Retry {
    Begun,
    /// The ticket is decided, expired or gone.
    Over,
    /// Somebody has it, or it is too early.
    NotNow,
}

// === Opening ===

pub(crate) async fn open(tx: &mut Tx, opening: &Opening) -> Result<String> {
    insert(tx, &opening.id, &opening.new, opening.content.as_ref()).await
}

/// Opens a ticket, or gives the undecided one of the same kind and subject.
pub(crate) async fn insert(
    tx: &mut Tx,
    id: &str,
    new: &NewTicket,
    content: Option<&Vec<u8>>,
) -> Result<String> {
    for _ in 0..LOOKS {
        if try_insert(tx, id, new, content).await? {
            tx.event(event("ticket.opened", id, new));
            return Ok(id.to_owned());
        }
        let row = tx
            .row(
                "SELECT id FROM tickets WHERE kind = $1 AND subject = $2 AND state IN ('open', 'claimed', 'retrying')",
                args![new.kind.as_str(), &new.subject],
            )
            .await?;
        // Else it was decided a moment ago.
        if let Some(mut row) = row {
            return row.text();
        }
    }
    Err(crate::Error::Unavailable(
        "too many conflicts about one ticket".to_owned(),
    ))
}

async fn try_insert(
    tx: &mut Tx,
    id: &str,
    new: &NewTicket,
    content: Option<&Vec<u8>>,
) -> Result<bool> {
    let content = content.cloned();
    tx.changed(
        "INSERT INTO tickets (id, kind, state, scope, subject, key_scope, key, run, step, route, title, facts, policy, not_before, expires, created, updated, fence, attempts, content) VALUES ($1, $2, 'open', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, 0, 1, $16) ON CONFLICT (kind, subject) WHERE state IN ('open', 'claimed', 'retrying') DO NOTHING",
        args![
            id,
            new.kind.as_str(),
            &new.scope,
            &new.subject,
            new.key.as_ref().map(|key| key.scope.clone()),
            new.key.as_ref().map(|key| key.key.clone()),
            &new.run,
            &new.step,
            &new.route,
            &new.title,
            to_json(&new.facts)?,
            new.policy.as_str(),
            new.not_before,
            new.expires,
            new.now,
            &content
        ],
    )
    .await
}

fn event(kind: &'static str, id: &str, new: &NewTicket) -> NewEvent {
    NewEvent {
        at: new.now,
        scope: new.scope.clone(),
        kind,
        subject: id.to_owned(),
        json: json!({
            "kind": new.kind, "subject": new.subject, "title": new.title, "route": new.route,
            "run": new.run, "step": new.step, "facts": new.facts,
        }),
    }
}

/// The ticket of a call that failed: the old one again where it is undecided, else a new one.
pub(crate) async fn failed_again(tx: &mut Tx, failed: &Failed<'_>) -> Result<String> {
    let new = failed.new;
    if let Some(old) = failed.old {
        let updated = tx
            .changed(
                "UPDATE tickets SET kind = $2, state = 'open', subject = $3, route = $4, title = $5, facts = $6, policy = $7, not_before = $8, expires = $9, updated = $10, content = $11, attempts = attempts + 1, fence = fence + 1, owner = NULL, token = NULL, claimed_by = NULL, claim_until = NULL WHERE id = $1 AND state IN ('open', 'claimed', 'retrying')",
                args![
                    old,
                    new.kind.as_str(),
                    &new.subject,
                    &new.route,
                    &new.title,
                    to_json(&new.facts)?,
                    new.policy.as_str(),
                    new.not_before,
                    new.expires,
                    new.now,
                    &failed.content.cloned()
                ],
            )
            .await?;
        if updated {
            tx.event(event("ticket.failed_again", old, new));
            return Ok(old.to_owned());
        }
    }
    insert(tx, failed.id, new, failed.content).await
}

// === Reading ===

pub(crate) async fn list(tx: &mut Tx, filter: &TicketFilter) -> Result<Vec<Ticket>> {
    let rows = List::new(concat!("SELECT ", columns!(), ", NULL, NULL FROM tickets"))
        .only("scope =", filter.scope.as_ref())
        .only("kind =", filter.kind.map(TicketKind::as_str))
        .only("state =", filter.state.map(TicketState::as_str))
        .only("run =", filter.run.as_ref())
        .only("route =", filter.route.as_ref())
        .only("id <", filter.after.as_ref())
        .rows(tx, "id DESC", filter.limit)
        .await?;
    rows.into_iter().map(|row| Ok(read(row)?.ticket)).collect()
}

pub(crate) async fn get(tx: &mut Tx, id: &String) -> Result<Option<Kept>> {
    let row = tx
        .row(
            concat!(
                "SELECT ",
                columns!(),
                ", content, answer FROM tickets WHERE id = $1"
            ),
            args![id],
        )
        .await?;
    row.map(read).transpose()
}

/// The row, locked until the transaction's end.
pub(crate) async fn locked(tx: &mut Tx, id: &str) -> Result<Option<Kept>> {
    let row = tx
        .row(
            concat!(
                "SELECT ",
                columns!(),
                ", content, answer FROM tickets WHERE id = $1 FOR UPDATE"
            ),
            args![id],
        )
        .await?;
    row.map(read).transpose()
}

fn read(mut row: Row) -> Result<Kept> {
    let ticket = Ticket {
        id: row.text()?,
        kind: row.word(TicketKind::find)?,
        state: row.word(TicketState::find)?,
        scope: row.text()?,
        subject: row.text()?,
        key: match (row.opt_text()?, row.opt_text()?) {
            (Some(scope), Some(key)) => Some(KeyId { scope, key }),
            _ => None,
        },
        run: row.opt_text()?,
        step: row.opt_text()?,
        route: row.opt_text()?,
        title: row.text()?,
        facts: row.json()?,
        content: None,
        policy: row.word(RetryPolicy::find)?,
        not_before: row.wall()?,
        expires: row.wall()?,
        created: row.wall()?,
        updated: row.wall()?,
        claimed_by: row.opt_text()?,
        claim_until: row.opt_wall()?,
        fence: row.int()?,
        attempts: row.int()?,
        reason: row.opt_text()?,
        decision: row
            .opt_text()?
            .and_then(|text| serde_json::from_str(&text).ok()),
        decided_by: row.opt_text()?,
        decided_at: row.opt_wall()?,
        answer: None,
    };
    Ok(Kept {
        ticket,
        owner: row.opt_text()?,
        alive: row.flag()?,
        content: row.opt_blob()?,
        answer: row.opt_blob()?,
    })
}

// === A person's claim ===

#[derive(Debug)]
pub(crate) struct Claiming {
    pub(crate) id: String,
    pub(crate) by: String,
    /// Of the claim to renew.
    pub(crate) renewed: Option<i64>,
    pub(crate) until: Wall,
    pub(crate) now: Wall,
}

pub(crate) async fn claim(tx: &mut Tx, claim: &Claiming) -> Result<TicketClaim> {
    let Some(kept) = locked(tx, &claim.id).await? else {
        return Ok(TicketClaim::Missing);
    };
    let ticket = &kept.ticket;
    let is_mine = ticket.state == TicketState::Claimed
        && claim.renewed == Some(ticket.fence)
        && ticket.claimed_by.as_ref() == Some(&claim.by);
    match ticket.state {
        TicketState::Resolved | TicketState::Expired => return Ok(TicketClaim::Decided),
        TicketState::Retrying if kept.alive => {
            return Ok(TicketClaim::Held {
                by: "a retry".to_owned(),
                until: claim.now,
            });
        }
        TicketState::Claimed if !is_mine => {
            if let Some(until) = ticket.claim_until.filter(|until| *until > claim.now) {
                return Ok(TicketClaim::Held {
                    by: ticket.claimed_by.clone().unwrap_or_default(),
                    until,
                });
            }
        }
        TicketState::Open | TicketState::Retrying | TicketState::Claimed => {}
    }
    let fence = ticket.fence + 1;
    tx.execute(
        "UPDATE tickets SET state = 'claimed', claimed_by = $2, claim_until = $3, updated = $4, fence = $5, owner = NULL, token = NULL WHERE id = $1",
        args![&claim.id, &claim.by, claim.until, claim.now, fence],
    )
    .await?;
    tx.event(NewEvent {
        at: claim.now,
        scope: ticket.scope.clone(),
        kind: "ticket.claimed",
        subject: claim.id.clone(),
        json: json!({ "by": claim.by, "until": claim.until.0 }),
    });
    Ok(TicketClaim::Claimed { fence })
}

pub(crate) async fn release(tx: &mut Tx, claim: &(String, i64)) -> Result<bool> {
    tx.changed(
        "UPDATE tickets SET state = 'open', claimed_by = NULL, claim_until = NULL WHERE id = $1 AND fence = $2 AND state = 'claimed'",
        args![&claim.0, claim.1],
    )
    .await
}

// === New rounds ===

/// A caller repeats its call: the ticket is this process's until the round has ended.
pub(crate) async fn begin_retry(tx: &mut Tx, id: &str, now: Wall) -> Result<Retry> {
    let Some(kept) = locked(tx, id).await? else {
        return Ok(Retry::Over);
    };
    let free = match kept.ticket.state {
        TicketState::Resolved | TicketState::Expired => return Ok(Retry::Over),
        TicketState::Open => true,
        TicketState::Retrying => !kept.alive,
        TicketState::Claimed => kept.ticket.claim_until.is_none_or(|until| until <= now),
    };
    if !free || kept.ticket.not_before > now {
        return Ok(Retry::NotNow);
    }
    retry_goes_on(tx, id).await?;
    Ok(Retry::Begun)
}

/// An undecided ticket is being retried by this process.
pub(crate) async fn retry_goes_on(tx: &mut Tx, id: &str) -> Result<()> {
    let me = tx.owner.to_string();
    tx.execute(
        "UPDATE tickets SET state = 'retrying', owner = $2, token = NULL, fence = fence + 1, claimed_by = NULL, claim_until = NULL WHERE id = $1 AND state IN ('open', 'claimed', 'retrying')",
        args![id, me],
    )
    .await?;
    Ok(())
}

/// A round ended without a word about the ticket.
pub(crate) async fn back_to_open(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute(
        "UPDATE tickets SET state = 'open', owner = NULL, token = NULL WHERE id = $1 AND state = 'retrying'",
        args![id],
    )
    .await?;
    Ok(())
}

/// The repeat of a call got its answer.
pub(crate) async fn answered_by_repeat(tx: &mut Tx, id: &str, now: Wall) -> Result<()> {
    let Some(kept) = locked(tx, id).await? else {
        return Ok(());
    };
    let over = Resolution {
        decision: json!({ "decision": "answer" }),
        by: "repeat",
        now,
        answer: None,
    };
    resolve(tx, &kept.ticket, &over).await?;
    Ok(())
}

/// How a ticket ends.
pub(crate) struct Resolution<'a> {
    pub(crate) decision: serde_json::Value,
    pub(crate) by: &'a str,
    pub(crate) now: Wall,
    /// Sealed; of calls without a key.
    pub(crate) answer: Option<Vec<u8>>,
}

/// Ends a ticket that is undecided. `false` = it is not.
pub(crate) async fn resolve(tx: &mut Tx, ticket: &Ticket, over: &Resolution<'_>) -> Result<bool> {
    let changed = tx
        .changed(
            "UPDATE tickets SET state = 'resolved', decision = $2, decided_by = $3, decided_at = $4, updated = $4, answer = $5, fence = fence + 1, owner = NULL, token = NULL, claim_until = NULL WHERE id = $1 AND state IN ('open', 'claimed', 'retrying')",
            args![
                &ticket.id,
                to_json(&over.decision)?,
                over.by,
                over.now,
                &over.answer
            ],
        )
        .await?;
    if changed {
        tx.event(NewEvent {
            at: over.now,
            scope: ticket.scope.clone(),
            kind: "ticket.decided",
            subject: ticket.id.clone(),
            json: json!({
                "kind": ticket.kind, "subject": ticket.subject, "title": ticket.title,
                "route": ticket.route, "run": ticket.run, "step": ticket.step,
                "by": over.by, "decision": over.decision,
            }),
        });
    }
    Ok(changed)
}

#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) route: String,
    pub(crate) now: Wall,
    pub(crate) limit: usize,
    pub(crate) token: String,
}

/// The routes of what is to be retried by itself, each with its longest due moment: one look into the
/// index for each route, however long their queues are.
pub(crate) async fn waiting_routes(tx: &mut Tx, limit: &usize) -> Result<Vec<(String, Wall)>> {
    let mut routes: Vec<(String, Wall)> = Vec::new();
    while routes.len() < *limit {
        let last = routes.last().map_or("", |(route, _)| route.as_str());
        let row = tx
            .row(
                "SELECT route, not_before FROM tickets WHERE state = 'open' AND policy = 'when_healthy' AND route > $1 ORDER BY route, not_before, id LIMIT 1",
                args![last],
            )
            .await?;
        let Some(mut row) = row else { break };
        routes.push((row.text()?, row.wall()?));
    }
    Ok(routes)
}

/// Brings back what dead processes were retrying.
pub(crate) async fn recover(tx: &mut Tx, limit: &usize) -> Result<u64> {
    let rows = tx
        .rows(
            "SELECT id, key_scope, key FROM tickets WHERE state = 'retrying' AND NOT EXISTS (SELECT 1 FROM owners WHERE owners.id = tickets.owner) LIMIT $1",
            args![*limit],
        )
        .await?;
    let mut count = 0;
    for mut row in rows {
        let (id, scope, key) = (row.text()?, row.opt_text()?, row.opt_text()?);
        if let (Some(scope), Some(key)) = (scope, key) {
            let key = KeyId { scope, key };
            // A living repeat has it: that one brings the ticket along when it ends.
            if let Some(kept) = keys::locked(tx, &key).await?
                && kept.ticket.as_ref() == Some(&id)
                && kept.state == keys::State::Running
            {
                if kept.alive {
                    continue;
                }
                tx.execute(
                    "UPDATE keys SET state = 'ticket', fence = fence + 1, token = NULL, request = NULL WHERE scope = $1 AND key = $2",
                    args![key.scope, key.key],
                )
                .await?;
            }
        }
        count += tx
            .execute(
                "UPDATE tickets SET state = 'open', owner = NULL, token = NULL, fence = fence + 1 WHERE id = $1 AND state = 'retrying' AND NOT EXISTS (SELECT 1 FROM owners WHERE owners.id = tickets.owner)",
                args![id],
            )
            .await?;
    }
    Ok(count)
}

/// Takes what a route is to be asked again.
pub(crate) async fn due(tx: &mut Tx, due: &Due) -> Result<Vec<Kept>> {
    let rows = tx
        .rows(
            "SELECT id FROM tickets WHERE state = 'open' AND policy = 'when_healthy' AND route = $1 AND not_before <= $2 AND expires > $2 ORDER BY not_before, id LIMIT $3 FOR UPDATE SKIP LOCKED",
            args![&due.route, due.now, due.limit],
        )
        .await?;
    let mut mine = Vec::with_capacity(rows.len());
    for mut row in rows {
        let (id, me) = (row.text()?, tx.owner.to_string());
        let row = tx
            .row(
                concat!(
                    "UPDATE tickets SET state = 'retrying', owner = $2, token = $3, fence = fence + 1 WHERE id = $1 RETURNING ",
                    columns!(),
                    ", content, answer"
                ),
                args![id, me, &due.token],
            )
            .await?;
        mine.extend(row.map(read).transpose()?);
    }
    Ok(mine)
}
