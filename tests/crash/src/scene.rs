//! Scripted scenes: each begins with its own gateways, plays, and either holds or says what broke.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Ask, Heard, Reply};
use crate::plan::Call;
use crate::process::{Gateway, Recipe};
use crate::report::{Report, say};
use crate::seen::{After, CallSeen, Span};
use crate::stand::{Stand, Terms};
use crate::targets::{Mode, Order};
use crate::words::{self, Dialect, Marker};

/// What broke, in words.
pub(crate) type Held = Result<(), String>;

/// A scene, ready to be played.
pub(crate) type Scene<'a> = (String, Pin<Box<dyn Future<Output = Held> + 'a>>);

/// How long something that must come may take. A bound against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often other processes are looked at, which send no event.
const LOOK: Duration = Duration::from_millis(15);

/// The stage of all scenes of one command.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) stand: Stand,
    pub(crate) terms: Terms,
    /// Sets the names apart from what other runs left in the same database.
    tag: String,
    names: AtomicU64,
}

/// A scripted keyed call: a key, and what is asked under it.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    pub(crate) key: String,
    pub(crate) call: Call,
}

// === impl Stage ===

impl Stage {
    pub(crate) fn new(stand: Stand, terms: Terms) -> Self {
        Self {
            stand,
            terms,
            tag: format!("{:06x}", fastrand::u32(..0xff_ffff)),
            names: AtomicU64::new(0),
        }
    }

    /// A name that nothing else has.
    pub(crate) fn name(&self, what: &str) -> String {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("{}-{what}{number}", self.tag)
    }

    pub(crate) fn recipe(&self, terms: &Terms) -> Result<Recipe, String> {
        self.stand
            .recipe(&self.name("gateway"), terms)
            .map_err(told)
    }

    /// A gateway that serves.
    pub(crate) async fn gateway(&self) -> Result<Gateway, String> {
        self.recipe(&self.terms)?.start().await.map_err(told)
    }

    pub(crate) fn keyed(&self, dialect: Dialect, stream: bool, slow: u64) -> Keyed {
        let key = self.name("k");
        let call = Call {
            dialect,
            stream,
            delivery: "live",
            marker: Marker {
                key: key.clone(),
                sick: 0,
                slow,
            },
            is_derived: false,
            is_async: false,
        };
        Keyed { key, call }
    }

    pub(crate) fn vendor_calls(&self, keyed: &Keyed) -> usize {
        self.stand.vendor.book.calls(&keyed.key).len()
    }

    /// The vendor has so many calls of this key.
    pub(crate) async fn vendor_has(&self, keyed: &Keyed, calls: usize) -> Held {
        until(&format!("vendor call {calls}"), async || {
            self.vendor_calls(keyed) >= calls
        })
        .await
    }

    pub(crate) fn order(&self, mode: Mode, slow: u64) -> Order {
        Order {
            marker: self.name("e"),
            mode,
            slow,
        }
    }

    pub(crate) fn requests(&self, order: &Order) -> u32 {
        self.stand.targets.book.tally(&order.marker).requests
    }

    pub(crate) fn performed(&self, order: &Order) -> u32 {
        self.stand.targets.book.tally(&order.marker).performed
    }

    /// The target has so many requests of this order.
    pub(crate) async fn target_has(&self, order: &Order, requests: u32) -> Held {
        until(&format!("request {requests} at the target"), async || {
            self.requests(order) >= requests
        })
        .await
    }

    /// Plays scenes one after another.
    pub(crate) async fn play(scenes: Vec<Scene<'_>>, report: &mut Report) {
        let (mut held, mut broken) = (0, 0);
        for (name, scene) in scenes {
            let began = Instant::now();
            match scene.await {
                Ok(()) => {
                    held += 1;
                    say(&format!(
                        "ok     {name} ({:.1} s)",
                        began.elapsed().as_secs_f64()
                    ));
                }
                Err(what) => {
                    broken += 1;
                    say(&format!("BROKEN {name}: {what}"));
                    report.fault(format!("{name}: {what}"));
                }
            }
        }
        report.tell("scenes that held", held);
        report.zero("scenes that broke", broken);
    }
}

// === impl Keyed ===

impl Keyed {
    pub(crate) fn ask(&self) -> Ask {
        self.unkeyed().with("idempotency-key", self.key.clone())
    }

    /// The same call without its key.
    pub(crate) fn unkeyed(&self) -> Ask {
        let call = &self.call;
        let body = words::call_body(call.dialect, call.stream, &call.marker);
        Ask::post(call.dialect.path(), &body).with("holdfast-delivery", call.delivery)
    }

    /// Asks in the background.
    pub(crate) fn begin(&self, at: SocketAddr) -> JoinHandle<Heard> {
        let ask = self.ask();
        tokio::spawn(async move { ask.send(at).await })
    }

    /// Asks until there is an accepted answer, and notes it in `seen`.
    pub(crate) async fn settle(&self, at: SocketAddr, seen: &mut CallSeen) -> Held {
        let end = Instant::now() + PATIENCE;
        loop {
            let invoked = Instant::now();
            let heard = self.ask().send(at).await;
            match self.note(seen, invoked, &heard) {
                After::Settled => return Ok(()),
                After::Wrong(what) => return Err(what),
                After::Again(what) if Instant::now() > end => {
                    return Err(format!("no answer in {PATIENCE:?}: {what}"));
                }
                After::Again(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    pub(crate) fn note(&self, seen: &mut CallSeen, invoked: Instant, heard: &Heard) -> After {
        let span = Span {
            invoked,
            heard: Instant::now(),
        };
        seen.hear(&self.call, span, heard)
    }
}

// === Effects ===

/// The effect of an order, submitted under the order's marker.
pub(crate) fn effect(target: &str, order: &Order) -> Ask {
    let body = json!({"target": target, "payload": order});
    Ask::post("/v1/effects?wait=2s", &body).with("idempotency-key", order.marker.clone())
}

/// The same, without waiting for its end.
pub(crate) fn effect_async(target: &str, order: &Order) -> Ask {
    effect(target, order).with("prefer", "respond-async")
}

/// Submits until the effect has one of these states; gives it as it is shown.
pub(crate) async fn effect_state(
    ask: &Ask,
    at: SocketAddr,
    states: &[&str],
) -> Result<Value, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let heard = ask.send(at).await;
        let brief = heard.brief();
        let shown = heard.whole().map(|reply| reply.json()).unwrap_or_default();
        if shown["state"]
            .as_str()
            .is_some_and(|state| states.contains(&state))
        {
            return Ok(shown);
        }
        if Instant::now() > end {
            return Err(format!("never {states:?} in {PATIENCE:?}; last {brief}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// An open ticket for an effect in doubt.
pub(crate) async fn ticket_of(shown: &Value, at: SocketAddr) -> Result<String, String> {
    let id = shown["ticket"]
        .as_str()
        .ok_or_else(|| format!("no ticket: {shown}"))?;
    let reply = whole(Ask::get(format!("/v1/tickets/{id}")).send(at).await)?;
    let ticket = reply.json();
    let is_it = ticket["kind"] == "effect" && ticket["subject"] == shown["id"];
    if is_it && ticket["state"] == "open" {
        Ok(id.to_owned())
    } else {
        Err(format!(
            "not an open ticket for {}: {}",
            shown["id"],
            reply.brief()
        ))
    }
}

// === Helpers ===

pub(crate) fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(crate) fn whole(heard: Heard) -> Result<Reply, String> {
    let brief = heard.brief();
    heard.whole().ok_or(brief)
}

pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(what()) }
}

/// Waits for a condition of another process, which sends no event.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) -> Held {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        if Instant::now() > end {
            return Err(format!("waited {PATIENCE:?} in vain for: {what}"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Asks the same of several places at once; as many replies as places, in their order.
pub(crate) async fn at_once(asks: Vec<(Ask, SocketAddr)>) -> Result<Vec<Heard>, String> {
    let barrier = Arc::new(tokio::sync::Barrier::new(asks.len()));
    let tasks: Vec<_> = asks
        .into_iter()
        .map(|(ask, at)| {
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier.wait().await;
                ask.send(at).await
            })
        })
        .collect();
    let mut heard = Vec::new();
    for task in tasks {
        heard.push(task.await.map_err(told)?);
    }
    Ok(heard)
}
