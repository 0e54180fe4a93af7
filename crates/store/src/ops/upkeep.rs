//! Forgetting, counting, and what does not fit together.

use std::time::Duration;

use holdfast_core::time::Wall;
use serde_json::json;

use super::{approvals, keys, tickets};
use crate::engine::sql::{NewEvent, Tx, args};
use crate::error::Result;
use crate::model::effect::EffectState;
use crate::model::key::KeyId;
use crate::model::ledger::{Counts, Retention};
use crate::model::ticket::TicketKind;
use crate::pages::slot;

#[derive(Debug)]
pub(crate) struct Expiring {
    pub(crate) now: Wall,
    pub(crate) retention: Retention,
    pub(crate) limit: usize,
}

/// The moment before which something kept for `time` is over.
fn before(now: Wall, time: Duration) -> Wall {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Wall(now.0.saturating_sub(millis))
}

/// The least id of an exchange that began at this moment: a UUID of version 7 begins with its time in
/// milliseconds (RFC 9562, 5.7).
fn id_of(moment: Wall) -> String {
    format!("{:012x}", moment.0.max(0))
}

/// Keys past their time, unless a living process is at it.
pub(crate) async fn expire_keys(tx: &mut Tx, call: &Expiring) -> Result<u64> {
    tx.execute(
        "DELETE FROM keys WHERE expires <= $1 AND (scope, key) IN (SELECT scope, key FROM keys WHERE expires <= $1 AND (state <> 'running' OR NOT EXISTS (SELECT 1 FROM owners WHERE owners.id = keys.owner)) ORDER BY expires LIMIT $2)",
        args![call.now, call.limit],
    )
    .await
}

/// Undecided tickets past their time, and claims past theirs. Those of effects in doubt and of orphaned
/// runs have none: deciding them is the only way on.
pub(crate) async fn expire_tickets(tx: &mut Tx, call: &Expiring) -> Result<u64> {
    let mut count = tx
        .execute(
            "UPDATE tickets SET state = 'open', claimed_by = NULL, claim_until = NULL WHERE id IN (SELECT id FROM tickets WHERE state = 'claimed' AND claim_until <= $1 LIMIT $2) AND state = 'claimed' AND claim_until <= $1",
            args![call.now, call.limit],
        )
        .await?;
    let rows = tx
        .rows(
            "SELECT id, key_scope, key, kind, subject FROM tickets WHERE state IN ('open', 'claimed', 'retrying') AND expires <= $1 AND kind NOT IN ('effect', 'run') AND NOT (state = 'retrying' AND EXISTS (SELECT 1 FROM owners WHERE owners.id = tickets.owner)) LIMIT $2",
            args![call.now, call.limit],
        )
        .await?;
    for mut row in rows {
        let (id, scope, key) = (row.text()?, row.opt_text()?, row.opt_text()?);
        let key = scope.zip(key).map(|(scope, key)| KeyId { scope, key });
        let (kind, subject) = (row.word(TicketKind::find)?, row.text()?);
        if kind == TicketKind::Approval {
            count += expire_approval(tx, &id, &subject, call.now).await?;
        } else {
            count += expire_ticket(tx, &id, key.as_ref(), call.now).await?;
        }
    }
    Ok(count)
}

/// The approval goes with its ticket, and those who wait for it are told.
async fn expire_approval(tx: &mut Tx, id: &str, approval: &str, now: Wall) -> Result<u64> {
    approvals::lock(tx, approval).await?;
    let expired = expire_ticket(tx, id, None, now).await?;
    if expired > 0 {
        let over = approvals::Choosing {
            id: approval,
            chosen: None,
            by: "expiry",
            by_time: true,
            now,
        };
        // Where it is decided already, there is nothing to tell.
        approvals::choose(tx, &over).await?;
    }
    Ok(expired)
}

async fn expire_ticket(tx: &mut Tx, id: &str, key: Option<&KeyId>, now: Wall) -> Result<u64> {
    if let Some(key) = key {
        keys::locked(tx, key).await?;
    }
    let changed = tx
        .changed(
            "UPDATE tickets SET state = 'expired', updated = $2, fence = fence + 1, owner = NULL, token = NULL WHERE id = $1 AND state IN ('open', 'claimed', 'retrying') AND expires <= $2 AND NOT (state = 'retrying' AND EXISTS (SELECT 1 FROM owners WHERE owners.id = tickets.owner))",
            args![id, now],
        )
        .await?;
    if !changed {
        return Ok(0);
    }
    if let Some(key) = key {
        keys::free_ticketed(tx, key, id).await?;
    }
    if let Some(kept) = tickets::get(tx, &id.to_owned()).await? {
        let ticket = kept.ticket;
        tx.event(NewEvent {
            at: now,
            scope: ticket.scope,
            kind: "ticket.expired",
            subject: ticket.id,
            json: json!({
                "kind": ticket.kind, "subject": ticket.subject, "title": ticket.title,
                "run": ticket.run, "step": ticket.step,
            }),
        });
    }
    Ok(1)
}

/// What is over for so long that nobody asks for it.
pub(crate) async fn forget(tx: &mut Tx, call: &Expiring) -> Result<u64> {
    let (now, kept, limit) = (call.now, &call.retention, call.limit);
    let mut count = 0;
    let by_age = [
        (
            "DELETE FROM tickets WHERE id IN (SELECT id FROM tickets WHERE state IN ('resolved', 'expired') AND updated <= $1 LIMIT $2)",
            kept.tickets,
        ),
        (
            "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals WHERE state <> 'open' AND decided_at <= $1 ORDER BY decided_at LIMIT $2)",
            kept.tickets,
        ),
        (
            "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at <= $1 ORDER BY at LIMIT $2)",
            kept.events,
        ),
    ];
    for (sql, age) in by_age {
        count += tx.execute(sql, args![before(now, age), limit]).await?;
    }
    count += forget_ledger(tx, call).await?;
    count += tx
        .execute(
            "DELETE FROM effects WHERE id IN (SELECT id FROM effects WHERE state IN ('done', 'failed', 'cancelled') AND expires <= $1 AND updated <= $2 LIMIT $3)",
            args![now, before(now, kept.effects), limit],
        )
        .await?;
    Ok(count + forget_runs(tx, call).await?)
}

/// Whole pages of exchanges that are old, and what says that runs are in them.
async fn forget_ledger(tx: &mut Tx, call: &Expiring) -> Result<u64> {
    let oldest = id_of(before(call.now, call.retention.exchanges));
    let slot = slot(&oldest);
    let mut count = tx
        .execute(
            "DELETE FROM exchanges WHERE id IN (SELECT id FROM exchanges WHERE id < $1 ORDER BY id LIMIT $2)",
            args![&oldest, call.limit],
        )
        .await?;
    count += tx
        .execute(
            "DELETE FROM ledger_pages WHERE (slot, page) IN (SELECT slot, page FROM ledger_pages WHERE slot <= $1 AND newest < $2 ORDER BY slot, page LIMIT $3)",
            args![slot, &oldest, call.limit],
        )
        .await?;
    count += tx
        .execute(
            "DELETE FROM ledger_runs WHERE (run, slot, page) IN (SELECT r.run, r.slot, r.page FROM ledger_runs r WHERE r.slot <= $1 AND NOT EXISTS (SELECT 1 FROM ledger_pages p WHERE p.slot = r.slot AND p.page = r.page) ORDER BY r.slot, r.page LIMIT $2)",
            args![slot, call.limit],
        )
        .await?;
    Ok(count)
}

/// Runs without a sign of life for so long, with their steps. An orphan waits for its ticket.
async fn forget_runs(tx: &mut Tx, call: &Expiring) -> Result<u64> {
    let rows = tx
        .rows(
            "SELECT scope, id FROM runs WHERE seen <= $1 AND state <> 'orphaned' AND (state <> 'open' OR (deadline IS NULL AND heartbeat IS NULL)) ORDER BY seen LIMIT $2 FOR UPDATE SKIP LOCKED",
            args![before(call.now, call.retention.runs), call.limit],
        )
        .await?;
    let mut count = 0;
    for mut row in rows {
        let (scope, id) = (row.text()?, row.text()?);
        tx.execute(
            "DELETE FROM steps WHERE scope = $1 AND run = $2",
            args![&scope, &id],
        )
        .await?;
        count += tx
            .execute(
                "DELETE FROM runs WHERE scope = $1 AND id = $2",
                args![scope, id],
            )
            .await?;
    }
    Ok(count)
}

// === Counting ===

pub(crate) async fn counts(tx: &mut Tx, (): &()) -> Result<Counts> {
    let mut counts = Counts {
        keys: number(tx, "SELECT COUNT(*) FROM keys").await?,
        open_runs: number(tx, "SELECT COUNT(*) FROM runs WHERE state = 'open'").await?,
        orphaned_runs: number(tx, "SELECT COUNT(*) FROM runs WHERE state = 'orphaned'").await?,
        open_approvals: number(tx, "SELECT COUNT(*) FROM approvals WHERE state = 'open'").await?,
        owners: number(tx, "SELECT COUNT(*) FROM owners").await?,
        events: number(tx, "SELECT MAX(seq) FROM events").await?,
        ..Counts::default()
    };
    let rows = tx
        .rows(
            "SELECT kind, COUNT(*), MIN(created) FROM tickets WHERE state IN ('open', 'claimed', 'retrying') GROUP BY kind",
            args![],
        )
        .await?;
    for mut row in rows {
        let kind = row.word(TicketKind::find)?;
        counts.tickets.insert(kind, row.int()?);
        let oldest = row.opt_wall()?;
        counts.oldest_ticket = match (counts.oldest_ticket, oldest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    let rows = tx
        .rows(
            "SELECT state, COUNT(*) FROM effects WHERE state IN ('recorded', 'sending', 'doubt') GROUP BY state",
            args![],
        )
        .await?;
    for mut row in rows {
        let state = row.word(EffectState::find)?;
        counts.effects.insert(state, row.int()?);
    }
    Ok(counts)
}

async fn number(tx: &mut Tx, sql: &'static str) -> Result<i64> {
    match tx.row(sql, args![]).await? {
        Some(mut row) => Ok(row.opt_int()?.unwrap_or(0)),
        None => Ok(0),
    }
}

// === Checking ===

/// Things that do not fit together: what they are, and how many.
const MISFITS: &[(&str, &str)] = &[
    (
        "keys in the review queue without an undecided ticket",
        "SELECT COUNT(*) FROM keys WHERE state = 'ticket' AND NOT EXISTS (SELECT 1 FROM tickets WHERE tickets.id = keys.ticket AND tickets.state IN ('open', 'claimed', 'retrying'))",
    ),
    (
        "finished keys without an answer",
        "SELECT COUNT(*) FROM keys WHERE state = 'done' AND (body IS NULL OR status IS NULL OR headers IS NULL)",
    ),
    (
        "effects in doubt without an undecided ticket",
        "SELECT COUNT(*) FROM effects WHERE state = 'doubt' AND NOT EXISTS (SELECT 1 FROM tickets WHERE tickets.id = effects.ticket AND tickets.state IN ('open', 'claimed', 'retrying'))",
    ),
    (
        "open approvals without their ticket",
        "SELECT COUNT(*) FROM approvals WHERE state = 'open' AND NOT EXISTS (SELECT 1 FROM tickets WHERE tickets.id = approvals.ticket)",
    ),
    (
        "orphaned runs without a ticket",
        "SELECT COUNT(*) FROM runs WHERE state = 'orphaned' AND ticket IS NULL",
    ),
];

pub(crate) async fn misfits(tx: &mut Tx, (): &()) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (what, sql) in MISFITS {
        let count = number(tx, sql).await?;
        if count > 0 {
            found.push(format!("{count} {what}"));
        }
    }
    Ok(found)
}
