//! Follows the store's events: what other processes (and people) did to effects.
//!
//! One reader for the process, however many callers wait. It only rings bells: a missed event costs a
//! waiting caller a few seconds, never a result.

use std::time::Duration;

use holdfast_store::Event;

use crate::effects::Effects;

/// Read at once.
const EVENTS: usize = 500;
/// After the store could not be read.
const AGAIN: Duration = Duration::from_secs(1);

impl Effects {
    /// Never ends while the store is open.
    pub(crate) async fn follow_events(&self) {
        let mut signal = self.store.event_signal();
        let mut after = loop {
            match self.store.counts().await {
                Ok(counts) => break counts.events,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        loop {
            signal.borrow_and_update();
            match self.store.events(after, None, EVENTS).await {
                Ok(events) if events.is_empty() => {
                    if signal.changed().await.is_err() {
                        // The store is closed; `run` is told to end by its drain.
                        std::future::pending::<()>().await;
                    }
                }
                Ok(events) => {
                    for event in events {
                        after = event.seq;
                        self.heard(&event);
                    }
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    fn heard(&self, event: &Event) {
        match event.kind.as_str() {
            // Recorded by another process, or to be sent again because a person said so.
            "effect.recorded" | "ticket.decided" => self.wake(),
            kind if kind.starts_with("effect.") => {}
            _ => return,
        }
        self.bell.ring(&event.subject);
    }
}
