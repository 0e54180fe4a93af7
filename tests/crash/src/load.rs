//! Clients that do not give up: each repeats its work with the same key until it has an accepted end.
//!
//! Half of a crash test is that nobody behaves: clients hang up in the middle, ask again while the first
//! call runs, and come back for what they have already. What each sees is kept with the work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::client::{Ask, Heard, PATIENCE};
use crate::plan::{Call, Effect, Kind, Plan, Step, Work};
use crate::report::say;
use crate::seen::{After, CallSeen, EffectSeen, Span, StepSeen, passing};
use crate::words;

/// After the last restart, this many repeats must be enough.
pub(crate) const REPEATS: u32 = 400;
/// And this much time. Leases of dead processes have to pass first.
const SETTLE: Duration = Duration::from_mins(1);
/// Clients come back to one of so many of the newest pieces of work.
const RECENT: u64 = 300;

/// One piece of work and all that was seen of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) work: Work,
    pub(crate) call: Mutex<CallSeen>,
    pub(crate) effect: Mutex<EffectSeen>,
    pub(crate) step: Mutex<StepSeen>,
    /// The exchange that the effect requires, chosen by whoever sends it first.
    pub(crate) requires: OnceLock<Option<String>>,
}

/// Where the clients are at it.
#[derive(Debug)]
pub(crate) struct Field {
    plan: Plan,
    gateways: Vec<SocketAddr>,
    items: Mutex<BTreeMap<u64, Arc<Item>>>,
    next: AtomicU64,
    requests: AtomicU64,
    /// The exchange of the answer that was accepted last. An effect may require it from that moment on,
    /// whatever dies.
    accepted: Mutex<Option<String>>,
    /// When the killing ended; then no new work is begun.
    settling: Mutex<Option<Instant>>,
    /// By their sort: how many, and the first one.
    complaints: Mutex<BTreeMap<String, (u64, String)>>,
}

/// How one client fared with one piece of work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pursued {
    Ended,
    Stuck,
}

// === impl Field ===

impl Field {
    pub(crate) fn new(plan: Plan, gateways: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            plan,
            gateways,
            items: Mutex::default(),
            next: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            accepted: Mutex::default(),
            settling: Mutex::default(),
            complaints: Mutex::default(),
        })
    }

    /// No new work from now on; what was begun is brought to its end.
    pub(crate) fn settle(&self) {
        *self.settling.lock() = Some(Instant::now());
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn items(&self) -> Vec<Arc<Item>> {
        self.items.lock().values().cloned().collect()
    }

    /// How many replies were not to be expected, and one line for each sort of them.
    pub(crate) fn complaints(&self) -> (u64, Vec<String>) {
        let complaints = self.complaints.lock();
        let count = complaints.values().map(|(count, _)| count).sum();
        let lines = complaints.values();
        let lines = lines.map(|(count, line)| format!("{count} times, first {line}"));
        (count, lines.collect())
    }

    fn item(&self, n: u64) -> Arc<Item> {
        let mut items = self.items.lock();
        let fresh = || {
            Arc::new(Item {
                work: self.plan.work(n),
                call: Mutex::default(),
                effect: Mutex::default(),
                step: Mutex::default(),
                requires: OnceLock::new(),
            })
        };
        items.entry(n).or_insert_with(fresh).clone()
    }

    fn gateway(&self, dice: &mut Rng) -> SocketAddr {
        self.gateways[dice.usize(..self.gateways.len())]
    }

    async fn send(&self, ask: &Ask, dice: &mut Rng, patience: Duration) -> (Span, Heard) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let invoked = Instant::now();
        let heard = ask.send_within(self.gateway(dice), patience).await;
        let span = Span {
            invoked,
            heard: Instant::now(),
        };
        (span, heard)
    }

    fn complain(&self, item: &Item, what: &str) {
        // The same about another key says nothing new.
        let sort: String = what
            .chars()
            .filter(|c| !c.is_ascii_digit())
            .take(60)
            .collect();
        let line = format!("{}: {what}", item.work.name);
        let mut complaints = self.complaints.lock();
        let (count, _) = complaints.entry(sort).or_insert_with(|| {
            say(&format!("!! {line}"));
            (0, line)
        });
        *count += 1;
    }
}

/// One client, until the work is settled.
pub(crate) async fn client(field: Arc<Field>, number: u64) {
    let mut dice = field.plan.dice(u64::MAX / 2 + number);
    while field.settling.lock().is_none() {
        let newest = field.next.load(Ordering::Relaxed);
        if newest > 0 && dice.u32(..100) < 30 {
            let n = dice.u64(newest.saturating_sub(RECENT)..newest);
            let item = field.item(n);
            visit(&field, &item, &mut dice).await;
        } else {
            let n = field.next.fetch_add(1, Ordering::Relaxed);
            let item = field.item(n);
            pursue(&field, &item, &mut dice).await;
        }
        // A client has something else to do, too; and the machine is not only ours.
        tokio::time::sleep(Duration::from_millis(dice.u64(..8))).await;
    }
}

/// Comes by once, whatever the work's state: joins it, repeats it, or begins it.
async fn visit(field: &Field, item: &Item, dice: &mut Rng) {
    let after = match &item.work.kind {
        Kind::Call(call) => try_call(field, item, call, dice, true).await,
        Kind::Effect(effect) => try_effect(field, item, effect, dice).await,
        Kind::Step(_) => After::Settled,
    };
    if let After::Wrong(what) = after {
        field.complain(item, &what);
    }
}

async fn pursue(field: &Field, item: &Item, dice: &mut Rng) {
    match &item.work.kind {
        Kind::Call(call) => {
            let mut pace = Pace::default();
            while let Some(after) = pace.next(field, dice).await {
                let after = match after {
                    Turn::Try => try_call(field, item, call, dice, true).await,
                    Turn::LastTry => try_call(field, item, call, dice, false).await,
                };
                if pace.heard(field, item, after) == Some(Pursued::Ended) {
                    break;
                }
            }
        }
        Kind::Effect(effect) => {
            let mut pace = Pace::default();
            while pace.next(field, dice).await.is_some() {
                let after = try_effect(field, item, effect, dice).await;
                if pace.heard(field, item, after) == Some(Pursued::Ended) {
                    break;
                }
            }
        }
        Kind::Step(step) => {
            let mut other = dice.fork();
            tokio::join!(
                work_at(field, item, step, dice, 1),
                work_at(field, item, step, &mut other, 2)
            );
        }
    }
}

/// How long one client goes on.
#[derive(Debug, Default)]
struct Pace {
    tries: u32,
    settled_tries: u32,
    last: String,
}

enum Turn {
    Try,
    /// The killing is over: nobody hangs up any more.
    LastTry,
}

impl Pace {
    /// The next try; `None` = it should have had its end by now, and is stuck.
    async fn next(&mut self, field: &Field, dice: &mut Rng) -> Option<Turn> {
        if self.tries > 0 {
            let rest = dice.u64(2..20) + u64::from(self.settled_tries.min(100));
            tokio::time::sleep(Duration::from_millis(rest)).await;
        }
        self.tries += 1;
        let settling = *field.settling.lock();
        let Some(since) = settling else {
            return Some(Turn::Try);
        };
        self.settled_tries += 1;
        let may = self.settled_tries <= REPEATS && since.elapsed() < SETTLE;
        may.then_some(Turn::LastTry)
    }

    fn heard(&mut self, field: &Field, item: &Item, after: After) -> Option<Pursued> {
        match after {
            After::Settled => return Some(Pursued::Ended),
            After::Again(why) => self.last = why,
            After::Wrong(what) => {
                field.complain(item, &what);
                self.last = what;
            }
        }
        if self.settled_tries >= REPEATS {
            field.complain(item, &format!("stuck: {}", self.last));
            return Some(Pursued::Stuck);
        }
        None
    }
}

// === Calls ===

pub(crate) fn call_ask(work: &Work, call: &Call) -> Ask {
    let body = words::call_body(call.dialect, call.stream, &call.marker);
    let ask = Ask::post(call.dialect.path(), &body).with("holdfast-delivery", call.delivery);
    if call.is_derived {
        ask.with("holdfast-run", format!("{}-run", work.name))
            .with("holdfast-step", "only")
    } else {
        ask.with("idempotency-key", work.name.clone())
    }
}

async fn try_call(
    field: &Field,
    item: &Item,
    call: &Call,
    dice: &mut Rng,
    may_hang_up: bool,
) -> After {
    let patience = if may_hang_up && dice.u32(..100) < 8 {
        Duration::from_millis(dice.u64(1..80))
    } else {
        PATIENCE
    };
    let promised = {
        let seen = item.call.lock();
        // From then on nobody repeats it: it has to come to its end by itself.
        seen.promised.clone().filter(|_| !seen.is_in_review)
    };
    let is_look = promised.is_some();
    let ask = match promised {
        Some(place) => Ask::get(place),
        // Callers that wait and callers that come back may share a key.
        None if call.is_async && dice.u32(..100) < 80 => {
            call_ask(&item.work, call).with("prefer", "respond-async")
        }
        None => call_ask(&item.work, call),
    };
    let (span, heard) = field.send(&ask, dice, patience).await;
    let after = if is_look {
        item.call.lock().look(call, span, &heard)
    } else {
        item.call.lock().hear(call, span, &heard)
    };
    if let (After::Settled, Heard::Reply(reply)) = (&after, &heard)
        && let Some(exchange) = reply.header("holdfast-exchange")
    {
        *field.accepted.lock() = Some(exchange.to_owned());
    }
    after
}

// === Effects ===

pub(crate) fn effect_ask(item: &Item, effect: &Effect) -> Ask {
    let target = if effect.honours { "honours" } else { "plain" };
    let requires: Vec<&String> = item.requires.get().into_iter().flatten().collect();
    let body = json!({"target": target, "payload": effect.order, "requires": requires});
    Ask::post("/v1/effects?wait=2s", &body).with("idempotency-key", item.work.name.clone())
}

async fn try_effect(field: &Field, item: &Item, effect: &Effect, dice: &mut Rng) -> After {
    item.requires.get_or_init(|| {
        let is_free = dice.u32(..100) < 30;
        field.accepted.lock().clone().filter(|_| !is_free)
    });
    let mut ask = effect_ask(item, effect);
    if dice.u32(..100) < 10 {
        ask = ask.with("prefer", "respond-async");
    }
    let (span, heard) = field.send(&ask, dice, PATIENCE).await;
    item.effect.lock().hear(span, &heard)
}

// === Steps ===

/// One worker at a step. The gateway may die under it; its fence is still its own then.
async fn work_at(field: &Field, item: &Item, step: &Step, dice: &mut Rng, worker: u32) {
    let mut pace = Pace::default();
    let mut has_forgotten = !(step.forgets && worker == 1);
    while pace.next(field, dice).await.is_some() {
        let after = match begin(field, item, step, dice).await {
            Ok(fence) if !has_forgotten => {
                has_forgotten = true;
                After::Again(format!("forgot the fence {fence}"))
            }
            Ok(fence) => {
                tokio::time::sleep(Duration::from_millis(step.slow)).await;
                // No two attempts have the same result: a second completion would show.
                let result = json!({"worker": worker, "fence": fence, "dice": dice.u32(..)});
                complete(field, item, step, dice, fence, &result).await
            }
            Err(after) => after,
        };
        if pace.heard(field, item, after).is_some() {
            return;
        }
    }
}

fn step_path(item: &Item, step: &Step) -> String {
    format!("/v1/runs/{}/steps/{}", step.run, item.work.name)
}

/// The fence, or what is to be done instead.
async fn begin(field: &Field, item: &Item, step: &Step, dice: &mut Rng) -> Result<i64, After> {
    let ask = Ask::put(
        step_path(item, step),
        &json!({"do": "begin", "lease": "1s"}),
    );
    let (_, heard) = field.send(&ask, dice, PATIENCE).await;
    let Heard::Reply(reply) = &heard else {
        return Err(After::Again(heard.brief()));
    };
    let shown = reply.json();
    match (reply.status.as_u16(), shown["state"].as_str()) {
        (200, Some("begun")) => shown["fence"]
            .as_i64()
            .ok_or_else(|| After::Wrong(reply.brief())),
        (200, Some("done")) => {
            item.step.lock().result(&shown["result"]);
            Err(After::Settled)
        }
        (409, Some("running")) => Err(After::Again(reply.brief())),
        _ => Err(passing(reply)),
    }
}

/// Says it is done until somebody has heard it: the same end twice is the same end.
async fn complete(
    field: &Field,
    item: &Item,
    step: &Step,
    dice: &mut Rng,
    fence: i64,
    result: &Value,
) -> After {
    let body = json!({"do": "complete", "fence": fence, "result": result});
    let ask = Ask::put(step_path(item, step), &body);
    let mut pace = Pace::default();
    while pace.next(field, dice).await.is_some() {
        let (_, heard) = field.send(&ask, dice, PATIENCE).await;
        let after = match &heard {
            Heard::Reply(reply) if reply.status == 200 && reply.ended => {
                item.step.lock().result(result);
                After::Settled
            }
            // Somebody else has it: look what came of it.
            Heard::Reply(reply) if reply.status == 409 => return After::Again(reply.brief()),
            Heard::Reply(reply) => passing(reply),
            Heard::Refused | Heard::Lost => After::Again(heard.brief()),
        };
        if pace.heard(field, item, after).is_some() {
            return After::Settled;
        }
    }
    After::Again("the completion was not heard".to_owned())
}
