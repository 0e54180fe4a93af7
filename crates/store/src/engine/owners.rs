//! Which processes live: a counter that each raises, watched by the others.
//!
//! No wall clock decides about death: an observer sees a counter stand still for a whole lease on its
//! own monotonic clock, while it could see at all. Dead = no row.

use std::collections::HashMap;
use std::time::Duration;

use holdfast_core::time::Time;

use super::sql::{Tx, args};
use crate::error::Result;

/// What one process knows of the others' counters.
#[derive(Debug)]
pub(crate) struct Watch {
    lease: Duration,
    seen: HashMap<String, (i64, Time)>,
    last: Option<Time>,
}

impl Watch {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            lease,
            seen: HashMap::new(),
            last: None,
        }
    }

    /// The counters, read at `now`. Gives the owners that stood still for a lease, with the counter
    /// at which they did.
    ///
    /// Where nothing was seen for more than half a lease, the observer itself was cut off or asleep:
    /// the others then could perhaps not beat either, and everybody's time starts anew.
    pub(crate) fn observe(
        &mut self,
        me: &str,
        now: Time,
        beats: Vec<(String, i64)>,
    ) -> Vec<(String, i64)> {
        let was_blind = self
            .last
            .is_none_or(|last| now.since(last) > self.lease / 2);
        self.last = Some(now);
        let mut dead = Vec::new();
        let mut seen = HashMap::with_capacity(beats.len());
        for (id, beat) in beats.into_iter().filter(|(id, _)| id != me) {
            let since = match self.seen.get(&id) {
                Some((old, since)) if *old == beat && !was_blind => *since,
                _ => now,
            };
            if now.since(since) >= self.lease {
                dead.push((id.clone(), beat));
            }
            seen.insert(id, (beat, since));
        }
        self.seen = seen;
        dead
    }
}

/// Raises this process's counter, puts its row back where it was taken out, and reads all counters.
pub(crate) async fn beat(tx: &mut Tx, (): &()) -> Result<Vec<(String, i64)>> {
    let me = tx.owner.to_string();
    tx.execute(
        "INSERT INTO owners (id, beat) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET beat = owners.beat + 1",
        args![me],
    )
    .await?;
    let rows = tx.rows("SELECT id, beat FROM owners", args![]).await?;
    rows.into_iter()
        .map(|mut row| Ok((row.text()?, row.int()?)))
        .collect()
}

/// Takes out the owners that stood still, unless they have moved since.
pub(crate) async fn bury(tx: &mut Tx, dead: &Vec<(String, i64)>) -> Result<()> {
    for (id, beat) in dead {
        tx.execute(
            "DELETE FROM owners WHERE id = $1 AND beat = $2",
            args![id, *beat],
        )
        .await?;
    }
    Ok(())
}

/// Takes this process out.
pub(crate) async fn leave(tx: &mut Tx, (): &()) -> Result<()> {
    let me = tx.owner.to_string();
    tx.execute("DELETE FROM owners WHERE id = $1", args![me])
        .await?;
    Ok(())
}

/// The only process that may have this database: all others are dead.
pub(crate) async fn alone(tx: &mut Tx, (): &()) -> Result<()> {
    let me = tx.owner.to_string();
    tx.execute("DELETE FROM owners WHERE id <> $1", args![me])
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn beats(all: &[(&str, i64)]) -> Vec<(String, i64)> {
        all.iter()
            .map(|(id, beat)| ((*id).to_owned(), *beat))
            .collect()
    }

    #[test]
    fn a_counter_that_stands_still_for_a_lease_is_dead() {
        let mut watch = Watch::new(Duration::from_secs(12));
        for second in (0..12).step_by(3) {
            let dead = watch.observe("me", at(second), beats(&[("me", 1), ("a", 7), ("b", 1)]));
            assert!(dead.is_empty(), "{second}");
        }
        let dead = watch.observe("me", at(12), beats(&[("me", 1), ("a", 7), ("b", 2)]));
        assert_eq!(dead, beats(&[("a", 7)]));
    }

    #[test]
    fn who_could_not_see_declares_nobody_dead() {
        let mut watch = Watch::new(Duration::from_secs(12));
        watch.observe("me", at(0), beats(&[("a", 7)]));
        // Cut off, or stopped, for an hour.
        assert!(watch.observe("me", at(3600), beats(&[("a", 7)])).is_empty());
        for second in [3603, 3606, 3609] {
            assert!(
                watch
                    .observe("me", at(second), beats(&[("a", 7)]))
                    .is_empty()
            );
        }
        assert_eq!(
            watch.observe("me", at(3612), beats(&[("a", 7)])),
            beats(&[("a", 7)])
        );
    }

    #[test]
    fn who_comes_back_starts_anew() {
        let mut watch = Watch::new(Duration::from_secs(12));
        watch.observe("me", at(0), beats(&[("a", 7)]));
        watch.observe("me", at(5), beats(&[]));
        assert!(watch.observe("me", at(10), beats(&[("a", 7)])).is_empty());
        assert!(watch.observe("me", at(15), beats(&[("a", 7)])).is_empty());
    }
}
