//! `holdfast-crash kill`: `kill -9` at random moments under load, restarted at once, again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use fastrand::Rng;
use tokio::task::JoinSet;

use crate::binary;
use crate::client::PATIENCE;
use crate::load::{self, Field, Item, call_ask, effect_ask};
use crate::plan::{Kind, Plan};
use crate::process::{self, Gateway, Recipe};
use crate::report::{Report, say};
use crate::seen::{After, Span};
use crate::stand::{Stand, Terms};
use crate::verdict::{self, Verdict};

/// So short that a life can see the death of the one before it, which `PostgreSQL` needs.
const LEASE: Duration = Duration::from_millis(800);

/// Kill the gateway at random moments under load, and count what was promised
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How often it is killed
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    cycles: u32,
    /// Where the gateway keeps things
    #[arg(long, value_enum, default_value_t = Place::Sqlite)]
    store: Place,
    /// The database for `--store postgres`
    #[arg(long, value_name = "URL", required_if_eq("store", "postgres"))]
    postgres: Option<String>,
    /// The gateway's binary [default: that of `HOLDFAST_BIN`, else the one beside this program]
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Seeds the work and the moments of the kills [default: the clock]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// The longest usual life of a process
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds_per_cycle: f64,
    /// Gateways at once on one PostgreSQL, of which one is killed each time
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=8))]
    replicas: u8,
    /// Clients at once
    #[arg(long, value_name = "NUMBER", default_value_t = 24)]
    clients: u64,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Place {
    Sqlite,
    Postgres,
}

const EXAMPLES: &str = "\
Examples:
  holdfast-crash kill                                 # 100 kills on SQLite, about a minute
  holdfast-crash kill --cycles 1000 --seed 7
  url=$(tests/postgres start /tmp/pg 55432)
  holdfast-crash kill --store postgres --postgres \"$url\" --json
  holdfast-crash kill --store postgres --postgres \"$url\" --replicas 3

Exit code 1 if anything was lost, done twice, or stuck.";

pub(crate) async fn run(args: Args) -> Result<bool, process::Error> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let plan = Plan::new(seed, &format!("{:06x}", fastrand::u32(..0xff_ffff)));
    let stand = Stand::new(binary::find(args.bin.clone())?).await?;
    let terms = Terms {
        postgres: args
            .postgres
            .clone()
            .filter(|_| args.store == Place::Postgres),
        // Alone nobody can be taken for dead; beside others a busy machine must not make it so.
        lease: (args.replicas == 1).then_some(LEASE),
        ..Terms::default()
    };
    let mut gateways = Vec::new();
    for number in 0..if args.store == Place::Postgres {
        args.replicas
    } else {
        1
    } {
        let recipe = stand.recipe(&format!("gateway{number}"), &terms)?;
        gateways.push(Replica {
            gateway: recipe.start().await?,
            recipe,
        });
    }
    say(&format!(
        "seed {seed}; {} kills on {:?}",
        args.cycles, args.store
    ));
    let addresses: Vec<_> = gateways.iter().map(|one| one.recipe.address).collect();
    let field = Field::new(plan.clone(), addresses.clone());
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        clients.spawn(load::client(field.clone(), number));
    }
    let mut dice = plan.dice(u64::MAX);
    let kills = kill(&args, &mut gateways, &mut dice).await?;
    field.settle();
    while clients.join_next().await.is_some() {}
    let settled = began.elapsed();
    let items = field.items();
    let before = stand.vendor.book.total();
    let lost = check_again(&items, &addresses, args.clients).await;
    let late = stand.vendor.book.total() - before;
    let said = verdict::listen(addresses[0]).await;

    let store = format!("{:?}", args.store).to_lowercase();
    let mut report = Report::new(format!(
        "seed {seed}: {} kills on {store} in {} s, {} requests",
        kills.len(),
        settled.as_secs(),
        field.requests()
    ));
    report.tell("kills", kills.len() as u64);
    match said {
        Ok(said) => {
            let verdict = Verdict::of(
                &items,
                &stand.vendor.book,
                &stand.targets.book,
                &kills,
                &said,
            );
            verdict.put(&mut report);
            report.zero("effects that nobody brings to an end", said.moving);
        }
        Err(error) => report.fault(error),
    }
    report.zero("accepted answers and ends lost", lost.len() as u64);
    report.zero("vendor calls when all was asked for again", late);
    let (count, complaints) = field.complaints();
    report.zero("unexpected replies", count);
    for fault in lost.into_iter().chain(complaints) {
        report.fault(fault);
    }
    drop(gateways);
    let is_good = report.is_good();
    report.print(args.json);
    if !is_good {
        say(&format!("everything is kept in {}", stand.keep().display()));
    }
    Ok(is_good)
}

/// A gateway, and how the one after it is started.
struct Replica {
    gateway: Gateway,
    recipe: Recipe,
}

/// Lives of random length, each ended by SIGKILL. Gives the moments.
async fn kill(
    args: &Args,
    replicas: &mut [Replica],
    dice: &mut Rng,
) -> Result<Vec<Instant>, process::Error> {
    let mut kills = Vec::new();
    for cycle in 0..args.cycles {
        let life = life(args, dice);
        let Replica { gateway, recipe } = &mut replicas[dice.usize(..replicas.len())];
        if life.waits {
            gateway.ready().await?;
        }
        tokio::time::sleep(life.length).await;
        if gateway.has_ended()? {
            // Something other than us ended it: `ready` tells what.
            gateway.ready().await?;
        }
        gateway.kill().await?;
        // Taken afterwards: what a dying process still sent was sent before this.
        kills.push(Instant::now());
        *gateway = recipe.spawn()?;
        if (cycle + 1) % 50 == 0 {
            say(&format!("{} of {} kills", cycle + 1, args.cycles));
        }
    }
    for replica in replicas {
        replica.gateway.ready().await?;
    }
    Ok(kills)
}

struct Life {
    /// It may serve before it dies.
    waits: bool,
    length: Duration,
}

fn life(args: &Args, dice: &mut Rng) -> Life {
    let usual = args.seconds_per_cycle.max(0.01);
    let (waits, longest) = match dice.u32(..100) {
        // While it starts, opens the store, takes over.
        0..20 => (false, 0.3),
        // Just when it serves.
        20..35 => (true, usual / 10.0),
        // Long enough to see that the one before it is dead.
        35..60 if args.store == Place::Postgres => (true, usual + LEASE.as_secs_f64() * 3.0),
        _ => (true, usual),
    };
    Life {
        waits,
        length: Duration::from_secs_f64(dice.f64() * longest),
    }
}

/// Everything once more: what was accepted must be there, marked as a repeat, without a new call.
async fn check_again(
    items: &[Arc<Item>],
    gateways: &[std::net::SocketAddr],
    clients: u64,
) -> Vec<String> {
    let mut turns = gateways.iter().cycle();
    let (mut checks, mut lost) = (JoinSet::new(), Vec::new());
    let mut items = items.iter();
    loop {
        while (checks.len() as u64) < clients
            && let (Some(item), Some(gateway)) = (items.next(), turns.next())
        {
            checks.spawn(ask_again(item.clone(), *gateway));
        }
        match checks.join_next().await {
            None => return lost,
            Some(fault) => lost.extend(fault.unwrap_or_else(|error| Some(error.to_string()))),
        }
    }
}

async fn ask_again(item: Arc<Item>, gateway: std::net::SocketAddr) -> Option<String> {
    let work = &item.work;
    let ask = match &work.kind {
        Kind::Call(call) if item.call.lock().accepted.is_some() => call_ask(work, call),
        Kind::Effect(effect) if item.effect.lock().ended.is_some() => effect_ask(&item, effect),
        Kind::Step(step) if item.step.lock().is_done => {
            let path = format!("/v1/runs/{}/steps/{}", step.run, work.name);
            crate::client::Ask::get(path)
        }
        // Stuck; that is counted already.
        Kind::Call(_) | Kind::Effect(_) | Kind::Step(_) => return None,
    };
    let invoked = Instant::now();
    let heard = ask.send_within(gateway, PATIENCE).await;
    let span = Span {
        invoked,
        heard: Instant::now(),
    };
    let after = match &work.kind {
        Kind::Call(call) => item.call.lock().hear(call, span, &heard),
        Kind::Effect(_) => item.effect.lock().hear(span, &heard),
        Kind::Step(_) => {
            let shown = heard.clone().whole().map(|reply| reply.json());
            let shown = shown.filter(|shown| shown["state"] == "done");
            match shown {
                Some(shown) if item.step.lock().results == [shown["result"].clone()] => {
                    After::Settled
                }
                _ => After::Wrong(heard.brief()),
            }
        }
    };
    match after {
        After::Settled => None,
        After::Again(what) | After::Wrong(what) => {
            Some(format!("{}: asked for again: {what}", work.name))
        }
    }
}
