//! What goes on beside the calls: signs of life, the dead, what is to be given back, and finding out
//! when a store that was ill is well again.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::time::Time;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::engine::Engine;
use crate::engine::job::Shape;
use crate::engine::owners::{self, Watch};
use crate::engine::sql::{Tx, args};
use crate::engine::undo;
use crate::error::{Error, Result};
use crate::store::Inner;

/// While it is ill, this often somebody looks.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A damaged database is checked ever more seldom, up to this.
const CHECK_AT_MOST_EVERY: Duration = Duration::from_mins(1);

/// When all undos are due.
const LAST: Time = Time::new(Duration::MAX);

/// What is written to see whether writing works: more than fits into what happens to be free.
const PROBE_BYTES: usize = 64 << 10;

/// Beats, buries and gives back, until `closing`.
pub(crate) async fn beat(inner: Arc<Inner>, lease: Duration, mut closing: watch::Receiver<bool>) {
    let start = Instant::now();
    let mut watch = Watch::new(lease);
    let mut tick = interval((lease / 4).max(Duration::from_millis(10)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = 0;
    loop {
        let ticked = tokio::select! {
            _ = tick.tick() => true,
            () = inner.undos.rang.notified() => false,
            _ = closing.changed() => {
                give_back(&inner, LAST).await;
                return;
            }
        };
        if ticked {
            beat_once(&inner, &mut watch, start).await;
            poll_events(&inner, &mut last).await;
        }
        give_back(&inner, Time::new(start.elapsed())).await;
    }
}

async fn beat_once(inner: &Inner, watch: &mut Watch, start: Instant) {
    let beats = inner
        .write(Shape::One, (), |tx, args| Box::pin(owners::beat(tx, args)))
        .await;
    // Taken after the answer: a slow database makes nobody older.
    let now = Time::new(start.elapsed());
    // Errors are noted where they happen; what could not be seen is no proof of anything.
    let Ok(beats) = beats else { return };
    let dead = watch.observe(&inner.owner, now, beats);
    if !dead.is_empty() {
        drop(
            inner
                .write(Shape::One, dead, |tx, dead| {
                    Box::pin(owners::bury(tx, dead))
                })
                .await,
        );
    }
}

/// Rings for events of others that no notification told of.
async fn poll_events(inner: &Inner, last: &mut i64) {
    if matches!(inner.engine, Engine::Sqlite(_)) {
        return;
    }
    let newest = inner
        .write(Shape::One, (), |tx, ()| Box::pin(newest_event(tx)))
        .await;
    if let Ok(newest) = newest
        && newest > *last
    {
        *last = newest;
        inner.health.ring();
    }
}

async fn newest_event(tx: &mut Tx) -> Result<i64> {
    match tx.row("SELECT MAX(seq) FROM events", args![]).await? {
        Some(mut row) => Ok(row.opt_int()?.unwrap_or(0)),
        None => Ok(0),
    }
}

async fn give_back(inner: &Inner, now: Time) {
    let mut due = inner.undos.take(now).into_iter();
    let mut later = Vec::new();
    for one in due.by_ref() {
        let done = inner
            .write(Shape::Many, one.undo.clone(), |tx, one| {
                Box::pin(undo::undo(tx, one))
            })
            .await;
        match done {
            Ok(found) => later.extend(one.done(found, now)),
            Err(error) => {
                later.push(one);
                // What fails by itself keeps the others from nothing.
                if !error.is_lasting() {
                    break;
                }
            }
        }
    }
    later.extend(due);
    inner.undos.put_back(later);
}

/// Looks for recovery whenever the store is ill, until `closing`.
pub(crate) async fn probe(inner: Arc<Inner>, mut closing: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = inner.health.ill.notified() => {}
            _ = closing.changed() => return,
        }
        let mut wait = PROBE_EVERY;
        while !inner.health.is_well() {
            let damaged = matches!(inner.health.trouble(), Some(Error::Corrupt(_)));
            if works(&inner, damaged).await {
                inner.health.recover();
                break;
            }
            tokio::select! {
                () = sleep(wait) => {}
                _ = closing.changed() => return,
            }
            if damaged {
                wait = (wait * 2).min(CHECK_AT_MOST_EVERY);
            }
        }
    }
}

/// Whether something can be written, and where there was damage, whether that is gone.
async fn works(inner: &Inner, damaged: bool) -> bool {
    if damaged
        && !matches!(crate::calls::upkeep::damage(inner).await, Ok(found) if found.is_empty())
    {
        return false;
    }
    let written = inner
        .write(Shape::Many, (), |tx, ()| Box::pin(write_probe(tx)))
        .await;
    let removed = inner
        .write(Shape::One, (), |tx, ()| Box::pin(remove_probe(tx)))
        .await;
    written.is_ok() && removed.is_ok()
}

async fn write_probe(tx: &mut Tx) -> Result<()> {
    let (id, filler) = (tx.owner.to_string(), vec![0; PROBE_BYTES]);
    tx.execute(
        "INSERT INTO probe (id, filler) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET filler = excluded.filler",
        args![id, &filler],
    )
    .await?;
    Ok(())
}

async fn remove_probe(tx: &mut Tx) -> Result<()> {
    let id = tx.owner.to_string();
    tx.execute("DELETE FROM probe WHERE id = $1", args![id])
        .await?;
    Ok(())
}
