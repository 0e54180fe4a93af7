//! Tells webhooks of events, through the same outbox as every effect.
//!
//! For each event and webhook one effect is recorded under a key made of both, so that it is recorded
//! once however many processes do it and however often they begin anew; sending, retrying and giving
//! up are those of effects. Where a webhook stands is read from its newest delivery: deliveries are
//! recorded in the order of events. A webhook without any is told of all events that are still kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::fault::{Code, Fault};
use holdfast_store::{EffectFilter, Event};
use serde_json::json;
use tokio::sync::watch;

use crate::effects::Effects;
use crate::outgoing::Outgoing;
use crate::submit::Submission;

/// The scope of what Holdfast does on its own behalf; do not name a caller so.
pub const SCOPE: &str = "holdfast:webhooks";

/// What the names of webhooks' targets begin with; no target of the configuration can have it.
const TARGET: &str = "webhook:";

/// Read at once.
const EVENTS: usize = 200;
/// After the store could not be read or written.
const AGAIN: Duration = Duration::from_secs(1);

/// Who is told of what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscription {
    /// The webhook's name.
    pub name: String,
    /// Kinds of events; empty = all.
    pub events: Vec<String>,
}

/// The name of a webhook's target.
pub fn target_name(webhook: &str) -> String {
    format!("{TARGET}{webhook}")
}

/// Whether a target is a webhook's.
pub(crate) fn is_target(name: &str) -> bool {
    name.starts_with(TARGET)
}

impl Subscription {
    fn wants(&self, event: &Event) -> bool {
        // What is done to tell of an event is no news.
        event.scope != SCOPE && (self.events.is_empty() || self.events.contains(&event.kind))
    }
}

impl Effects {
    /// Records deliveries until `drain` becomes `true` (or its sender is gone). `subscriptions` can
    /// change at any time.
    pub async fn run_webhooks(
        self: Arc<Self>,
        subscriptions: watch::Receiver<Arc<Vec<Subscription>>>,
        mut drain: watch::Receiver<bool>,
    ) {
        tokio::select! {
            _ = drain.wait_for(|drain| *drain) => {}
            () = self.tell(subscriptions) => {}
        }
    }

    async fn tell(&self, mut subscriptions: watch::Receiver<Arc<Vec<Subscription>>>) {
        let mut signal = self.store.event_signal();
        let mut places: HashMap<String, i64> = HashMap::new();
        loop {
            signal.borrow_and_update();
            let told = subscriptions.borrow_and_update().clone();
            let mut is_ahead = true;
            for subscription in told.iter() {
                match self.tell_one(subscription, &mut places).await {
                    Ok(is_done) => is_ahead &= is_done,
                    Err(fault) => {
                        tracing::warn!(webhook = %subscription.name, error = %fault.message, "deliveries can't be recorded yet");
                        tokio::time::sleep(AGAIN).await;
                        is_ahead = false;
                    }
                }
            }
            if is_ahead {
                tokio::select! {
                    rung = signal.changed() => if rung.is_err() { return },
                    changed = subscriptions.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    /// Records the next deliveries of one webhook. `true` = there were no more events.
    async fn tell_one(
        &self,
        subscription: &Subscription,
        places: &mut HashMap<String, i64>,
    ) -> Result<bool, Fault> {
        let after = match places.get(&subscription.name) {
            Some(after) => *after,
            None => self.place(subscription).await?,
        };
        places.insert(subscription.name.clone(), after);
        let events = self.store.events(after, None, EVENTS).await?;
        let is_done = events.len() < EVENTS;
        for event in events {
            if subscription.wants(&event) {
                match self.record(SCOPE, delivery(subscription, &event)).await {
                    // Recorded by a Holdfast that told it in other words: it is told.
                    Err(fault) if fault.code == Code::KeyReused => {}
                    recorded => drop(recorded?),
                }
            }
            places.insert(subscription.name.clone(), event.seq);
        }
        Ok(is_done)
    }

    /// The last event that a webhook has a delivery of.
    async fn place(&self, subscription: &Subscription) -> Result<i64, Fault> {
        let filter = EffectFilter {
            scope: Some(SCOPE.to_owned()),
            target: Some(target_name(&subscription.name)),
            limit: 1,
            ..EffectFilter::default()
        };
        let newest = self.outbox.effects(&filter).await?;
        let seq = newest
            .first()
            .and_then(|effect| effect.key.rsplit(':').next()?.parse().ok());
        Ok(seq.unwrap_or(0))
    }
}

/// The payload follows the habit of Standard Webhooks: type, timestamp, data.
fn delivery(subscription: &Subscription, event: &Event) -> Submission {
    let body = json!({
        "type": event.kind,
        "timestamp": holdfast_core::run::moment::moment(event.at),
        "data": {
            "seq": event.seq,
            "scope": event.scope,
            "subject": event.subject,
            "detail": event.json,
        },
    });
    Submission {
        target: target_name(&subscription.name),
        key: Some(format!("webhook:{}:{}", subscription.name, event.seq)),
        outgoing: Outgoing {
            method: "POST".to_owned(),
            path: String::new(),
            content_type: Some("application/json".to_owned()),
            body: body.to_string(),
        },
        headers: Vec::new(),
        requires: Vec::new(),
        run: None,
        step: None,
    }
}
