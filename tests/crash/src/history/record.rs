//! Callers that fight for keys, with two bodies for each, while gateways are killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::Args;
use super::check::{Heard, Op};
use crate::client::{self, Ask, PATIENCE};
use crate::plan::Plan;
use crate::process::{self, Gateway, Recipe};
use crate::scene::Stage;
use crate::words::{self, Dialect, Marker, Reading};

/// Callers for one key, and how often each asks.
const CALLERS: u64 = 6;
const ASKS: u32 = 4;
/// Keys at once.
const AT_ONCE: usize = 6;

/// All calls, by key.
pub(super) type Histories = BTreeMap<String, Vec<Op>>;

struct Fight {
    plan: Plan,
    key: String,
    gateways: Vec<SocketAddr>,
    zero: Instant,
    histories: Arc<Mutex<Histories>>,
}

pub(super) async fn record(
    stage: &Stage,
    args: &Args,
    seed: u64,
) -> Result<Histories, process::Error> {
    let names: &[&str] = match args.postgres {
        Some(_) => &["a", "b"],
        None => &["a"],
    };
    let mut running = Vec::new();
    for name in names {
        let recipe = stage.stand.recipe(name, &stage.terms)?;
        running.push((recipe.start().await?, recipe));
    }
    let gateways: Vec<_> = running
        .iter()
        .map(|(gateway, _)| gateway.address())
        .collect();
    let plan = Plan::new(seed, "");
    let histories = Arc::new(Mutex::new(Histories::new()));
    let zero = Instant::now();
    let mut fights = JoinSet::new();
    let mut dice = plan.dice(u64::MAX);
    let mut keys = 0..args.keys;
    let mut kills = 0;
    loop {
        while fights.len() < AT_ONCE
            && let Some(n) = keys.next()
        {
            let fight = Fight {
                plan: plan.clone(),
                key: stage.name("h"),
                gateways: gateways.clone(),
                zero,
                histories: histories.clone(),
            };
            fights.spawn(fight.run(n));
        }
        let done = args.keys - keys.end.saturating_sub(keys.start);
        // The kills are spread over the keys.
        let due = u64::from(kills) * args.keys < done * u64::from(args.kills);
        if due && kills < args.kills {
            kills += 1;
            let at = dice.usize(..running.len());
            kill(&mut running[at], &mut dice).await?;
        }
        if fights.join_next().await.is_none() {
            break;
        }
    }
    let histories = std::mem::take(&mut *histories.lock());
    Ok(histories)
}

async fn kill(
    (gateway, recipe): &mut (Gateway, Recipe),
    dice: &mut Rng,
) -> Result<(), process::Error> {
    tokio::time::sleep(Duration::from_millis(dice.u64(..150))).await;
    gateway.kill().await?;
    *gateway = recipe.spawn()?;
    gateway.ready().await
}

impl Fight {
    async fn run(self, number: u64) {
        let fight = Arc::new(self);
        let mut dice = fight.plan.dice(number);
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (fight, dice) = (fight.clone(), dice.fork());
            callers.spawn(async move { fight.call(dice).await });
        }
        while callers.join_next().await.is_some() {}
    }

    async fn call(&self, mut dice: Rng) {
        for _ in 0..ASKS {
            tokio::time::sleep(Duration::from_millis(dice.u64(..60))).await;
            let body = u8::from(dice.u32(..4) == 0);
            let stream = self.key.ends_with(['0', '2', '4', '6', '8']);
            let ask = self.ask(body, stream);
            let at = self.gateways[dice.usize(..self.gateways.len())];
            let patience = if dice.u32(..10) == 0 {
                Duration::from_millis(dice.u64(1..60))
            } else {
                PATIENCE
            };
            let invoked = self.now();
            let heard = ask.send_within(at, patience).await;
            if matches!(heard, client::Heard::Refused) {
                // Nothing was sent: no call.
                continue;
            }
            let op = Op {
                invoked,
                returned: self.now(),
                body,
                heard: self.judge(body, stream, &heard),
            };
            self.histories
                .lock()
                .entry(self.key.clone())
                .or_default()
                .push(op);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The vendor's answer names the body that it answers.
    fn marker(&self, body: u8) -> String {
        format!("{}.{body}", self.key)
    }

    fn ask(&self, body: u8, stream: bool) -> Ask {
        let marker = Marker {
            key: self.marker(body),
            sick: 0,
            slow: 40,
        };
        let body = words::call_body(Dialect::OpenAi, stream, &marker);
        Ask::post(Dialect::OpenAi.path(), &body).with("idempotency-key", self.key.clone())
    }

    fn judge(&self, body: u8, stream: bool, heard: &client::Heard) -> Heard {
        let client::Heard::Reply(reply) = heard else {
            return Heard::Unknown;
        };
        if reply.status == 422 && reply.code().as_deref() == Some("HF-027") {
            return Heard::Refused;
        }
        if reply.status != 200 {
            return Heard::Unknown;
        }
        let key = self.marker(body);
        let reading = match (stream, reply.ended) {
            (true, _) => words::read_stream(Dialect::OpenAi, &key, &reply.body),
            (false, true) => words::read_plain(Dialect::OpenAi, &key, &reply.body),
            (false, false) => Reading::Unfinished,
        };
        match reading {
            Reading::Whole { call } => Heard::Answer(call),
            Reading::Unfinished if !reply.ended => Heard::Unknown,
            // An answer that no vendor call gave: no order explains it beside any other.
            Reading::Unfinished | Reading::Wrong => Heard::Answer(u64::MAX),
        }
    }
}
