//! What is given back because nobody learned that it was taken.
//!
//! A caller may go away between handing in a claim and hearing of it, and a commit may get lost
//! together with its connection. Nothing was done yet with what was claimed so: it is free again.

use std::time::Duration;

use holdfast_core::time::Time;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::sql::{Tx, args};
use crate::error::Result;

/// The most that wait to be undone; the oldest are dropped, and come free when this process ends.
const MOST: usize = 100_000;

/// A commit whose outcome is unknown may still happen: that long it is undone again and again, until
/// there was something to undo. What is committed even later comes free when this process ends.
const UNSURE_FOR: Duration = Duration::from_mins(10);
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_mins(1);

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
    waiting: Mutex<Vec<Waiting>>,
    pub(crate) rang: Notify,
}

/// One that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) undo: Undo,
    /// What it undoes may be committed later still.
    is_unsure: bool,
    /// When it was done first.
    since: Option<Time>,
    due: Time,
    pause: Duration,
}

// === impl Undos ===

impl Undos {
    /// Of what is certainly there, or certainly not.
    pub(crate) fn push(&self, undo: Undo) {
        self.wait(undo, false);
    }

    /// Of what may or may not be there, now or in a while.
    pub(crate) fn push_unsure(&self, undo: Undo) {
        self.wait(undo, true);
    }

    fn wait(&self, undo: Undo, is_unsure: bool) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST {
            waiting.remove(0);
        }
        waiting.push(Waiting {
            undo,
            is_unsure,
            since: None,
            due: Time::default(),
            pause: AGAIN / 2,
        });
        drop(waiting);
        self.rang.notify_one();
    }

    /// Those that are due.
    pub(crate) fn take(&self, now: Time) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let (due, later) = std::mem::take(&mut *waiting)
            .into_iter()
            .partition(|one| one.due <= now);
        *waiting = later;
        due
    }

    /// What could not be undone yet. Rings nobody: it waits for the next tick.
    pub(crate) fn put_back(&self, undos: Vec<Waiting>) {
        self.waiting.lock().extend(undos);
    }
}

// === impl Waiting ===

impl Waiting {
    /// It was done; `found` = there was something to undo. Gives it back where it has to be done once
    /// more.
    pub(crate) fn done(mut self, found: bool, now: Time) -> Option<Self> {
        let since = *self.since.get_or_insert(now);
        if found || !self.is_unsure || now.since(since) >= UNSURE_FOR {
            return None;
        }
        self.pause = (self.pause * 2).min(AGAIN_MAX);
        self.due = now + self.pause;
        Some(self)
    }
}

/// Gives back. An owner of nobody is a dead one: what it has is there to be taken. `false` = nothing was
/// there.
pub(crate) async fn undo(tx: &mut Tx, undo: &Undo) -> Result<bool> {
    let owner = tx.owner.to_string();
    let changed = match undo {
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
            let Some(mut row) = row else { return Ok(false) };
            if let Some(ticket) = row.opt_text()? {
                tx.execute(
                    "UPDATE tickets SET owner = '' WHERE id = $1 AND owner = $2 AND state = 'retrying'",
                    args![ticket, owner],
                )
                .await?;
            }
            1
        }
        Undo::Effects { token } => {
            tx.execute(
                "UPDATE effects SET state = 'recorded', owner = NULL, token = NULL, attempts = attempts - 1 WHERE token = $1 AND owner = $2 AND state = 'sending'",
                args![token, owner],
            )
            .await?
        }
        Undo::Stranded { token } => {
            tx.execute(
                "UPDATE effects SET owner = '' WHERE token = $1 AND owner = $2 AND state = 'sending'",
                args![token, owner],
            )
            .await?
        }
        Undo::Tickets { token } => {
            tx.execute(
                "UPDATE tickets SET state = 'open', owner = NULL, token = NULL WHERE token = $1 AND owner = $2 AND state = 'retrying'",
                args![token, owner],
            )
            .await?
        }
        Undo::Calls { token } => {
            tx.execute(
                "UPDATE keys SET owner = '' WHERE token = $1 AND owner = $2 AND state = 'running'",
                args![token, owner],
            )
            .await?
        }
    };
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn undo() -> Undo {
        let token = "t".to_owned();
        Undo::Effects { token }
    }

    #[test]
    fn what_is_certain_is_undone_once() {
        let undos = Undos::default();
        undos.push(undo());
        let mut due = undos.take(at(0));
        assert!(due.pop().unwrap().done(false, at(0)).is_none());
        assert!(due.is_empty() && undos.take(at(9)).is_empty());
    }

    #[test]
    fn what_may_still_be_committed_is_undone_until_it_was_there() {
        let undos = Undos::default();
        undos.push_unsure(undo());
        let (mut rounds, mut now) = (0, 0);
        loop {
            let Some(one) = undos.take(at(now)).pop() else {
                now += 1;
                continue;
            };
            rounds += 1;
            assert!(one.clone().done(true, at(now)).is_none());
            let Some(again) = one.done(false, at(now)) else {
                break;
            };
            undos.put_back(vec![again]);
        }
        // Ever more seldom, and not for ever.
        assert!(now >= UNSURE_FOR.as_secs() && rounds < 25, "{rounds}");
    }

    #[test]
    fn the_oldest_make_room() {
        let undos = Undos::default();
        for _ in 0..=MOST {
            undos.push_unsure(undo());
        }
        assert_eq!(undos.take(at(0)).len(), MOST);
    }
}
