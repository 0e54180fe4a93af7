//! What is given back because nobody learned that it was taken.
//!
//! A caller may go away between handing in a claim and hearing of it, and a commit may get lost
//! together with its connection. Nothing was done yet with what was claimed so: it is free again.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::sql::{Tx, args};
use crate::error::Result;

/// The most that wait to be undone; the oldest are dropped, and come free when this process ends.
const MOST: usize = 100_000;

/// Something taken, to be given back.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    /// The key that an exchange claimed.
    Key {
        scope: String,
        key: String,
        exchange: String,
    },
    /// Effects that were taken to be sent, under a token.
    Effects { token: String },
    /// Effects of dead owners that were taken over, under a token.
    Stranded { token: String },
    /// Tickets that were taken to be retried, under a token.
    Tickets { token: String },
    /// Calls of dead owners that were taken over, under a token.
    Calls { token: String },
}

/// Those that wait.
#[derive(Debug, Default)]
pub(crate) struct Undos {
    waiting: Mutex<Vec<Undo>>,
    pub(crate) rang: Notify,
}

impl Undos {
    pub(crate) fn push(&self, undo: Undo) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST {
            waiting.remove(0);
        }
        waiting.push(undo);
        drop(waiting);
        self.rang.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<Undo> {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// What could not be undone yet. Rings nobody: it waits for the next tick.
    pub(crate) fn put_back(&self, undos: Vec<Undo>) {
        self.waiting.lock().extend(undos);
    }
}

/// Gives back. An owner of nobody is a dead one: what it has is there to be taken.
pub(crate) async fn undo(tx: &mut Tx, undo: &Undo) -> Result<()> {
    let owner = tx.owner.to_string();
    match undo {
        Undo::Key {
            scope,
            key,
            exchange,
        } => {
            let row = tx
                .row(
                    "UPDATE keys SET owner = '' WHERE scope = $1 AND key = $2 AND exchange = $3 AND owner = $4 AND state = 'running' RETURNING ticket",
                    args![scope, key, exchange, owner.as_str()],
                )
                .await?;
            if let Some(mut row) = row
                && let Some(ticket) = row.opt_text()?
            {
                tx.execute(
                    "UPDATE tickets SET owner = '' WHERE id = $1 AND owner = $2 AND state = 'retrying'",
                    args![ticket, owner],
                )
                .await?;
            }
        }
        Undo::Effects { token } => {
            tx.execute(
                "UPDATE effects SET state = 'recorded', owner = NULL, token = NULL, attempts = attempts - 1 WHERE token = $1 AND owner = $2 AND state = 'sending'",
                args![token, owner],
            )
            .await?;
        }
        Undo::Stranded { token } => {
            tx.execute(
                "UPDATE effects SET owner = '' WHERE token = $1 AND owner = $2 AND state = 'sending'",
                args![token, owner],
            )
            .await?;
        }
        Undo::Tickets { token } => {
            tx.execute(
                "UPDATE tickets SET state = 'open', owner = NULL, token = NULL WHERE token = $1 AND owner = $2 AND state = 'retrying'",
                args![token, owner],
            )
            .await?;
        }
        Undo::Calls { token } => {
            tx.execute(
                "UPDATE keys SET owner = '' WHERE token = $1 AND owner = $2 AND state = 'running'",
                args![token, owner],
            )
            .await?;
        }
    }
    Ok(())
}
