//! How fast the store is, on this machine: `cargo run --release -p holdfast-store --example store_throughput`.
//!
//!     throughput [DIR | postgres://..] [--rows N] [--callers N] [--seconds N]
//!
//! Prints keyed calls per second (one claim and one completion each, synced) with many callers, the
//! latency of a claim that finds the stored answer, and with a million keys and tickets the time of
//! lists and look-ups. DIR (default: a temporary directory) should be on a real disk.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast_core::time::Wall;
use holdfast_store::{
    Claimed, KeyId, NewClaim, NewTicket, Options, Place, RetryPolicy, Store, StoredAnswer,
    TicketFilter, TicketKind, TicketState,
};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error>>;

const NOW: Wall = Wall(1_700_000_000_000);
const LATER: Wall = Wall(1_800_000_000_000);

/// About so many keys are looked up.
const LOOKS: usize = 1000;

struct Asked {
    place: Place,
    rows: usize,
    callers: usize,
    seconds: u64,
    /// Goes with the last of it.
    dir: Option<tempfile::TempDir>,
}

fn main() -> Outcome<()> {
    let asked = asked()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(&asked))
}

fn asked() -> Outcome<Asked> {
    let mut asked = Asked {
        place: Place::Sqlite(PathBuf::new()),
        rows: 1_000_000,
        callers: 64,
        seconds: 10,
        dir: None,
    };
    let mut place = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().unwrap_or_default().parse::<usize>();
        match word.as_str() {
            "--rows" => asked.rows = number()?,
            "--callers" => asked.callers = number()?,
            "--seconds" => asked.seconds = u64::try_from(number()?)?,
            _ => place = Some(word),
        }
    }
    asked.place = match place {
        Some(url) if url.starts_with("postgres") => Place::Postgres(url),
        Some(dir) => Place::Sqlite(PathBuf::from(dir).join("throughput.db")),
        None => {
            let dir = tempfile::tempdir()?;
            let file = dir.path().join("throughput.db");
            asked.dir = Some(dir);
            Place::Sqlite(file)
        }
    };
    Ok(asked)
}

#[expect(clippy::print_stdout, reason = "its output is the point")]
async fn measure(asked: &Asked) -> Outcome<()> {
    let options = Options {
        timeout: Duration::from_mins(1),
        connections: 16,
        ..Options::new(asked.place.clone())
    };
    let store = Store::open(options, tokio::runtime::Handle::current()).await?;
    let limit = Duration::from_secs(asked.seconds);

    let (calls, taken) = keyed_calls(&store, asked.callers, limit).await?;
    let rate = f64::from(calls) / taken.as_secs_f64();
    let commits = store.status().commits;
    println!(
        "keyed calls: {rate:.0}/s with {} callers ({commits} commits)",
        asked.callers
    );
    for callers in [1, 8] {
        let times = replays(&store, callers, 5000).await?;
        println!("replay, {callers} callers: {}", shown(times));
    }

    let started = Instant::now();
    let names = fill(&store, asked.rows).await?;
    println!(
        "filled {} keys and tickets in {:.0?}",
        asked.rows,
        started.elapsed()
    );
    look_up(&store, asked.rows, &names).await?;
    let times = replays(&store, 1, 2000).await?;
    println!("replay, 1 caller, full: {}", shown(times));
    let (calls, taken) = keyed_calls(&store, asked.callers, limit).await?;
    let rate = f64::from(calls) / taken.as_secs_f64();
    println!("keyed calls, full: {rate:.0}/s");
    store.close().await;
    Ok(())
}

fn claim(key: String) -> NewClaim {
    NewClaim {
        id: KeyId {
            scope: "caller".to_owned(),
            key,
        },
        fingerprint: [7; 32],
        exchange: uuid::Uuid::now_v7().simple().to_string(),
        request: None,
        run: None,
        step: None,
        now: NOW,
        expires: LATER,
    }
}

fn answer(exchange: String) -> StoredAnswer {
    StoredAnswer {
        exchange,
        outcome: "whole".to_owned(),
        status: 200,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: vec![b'x'; 1024],
    }
}

/// Claims and completes until the time is over.
async fn keyed_calls(store: &Store, callers: usize, limit: Duration) -> Outcome<(u32, Duration)> {
    let started = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..callers {
        let store = store.clone();
        all.spawn(async move {
            let mut calls = 0_u32;
            while started.elapsed() < limit {
                one_call(&store, &random_name()).await?;
                calls += 1;
            }
            Ok::<_, holdfast_store::Error>(calls)
        });
    }
    let mut calls = 0;
    while let Some(done) = all.join_next().await {
        calls += done??;
    }
    Ok((calls, started.elapsed()))
}

async fn one_call(store: &Store, key: &str) -> holdfast_store::Result<()> {
    let claim = claim(key.to_owned());
    let (id, exchange) = (claim.id.clone(), claim.exchange.clone());
    if let Claimed::Fresh { fence } = store.claim_key(claim).await? {
        store
            .complete_key(&id, fence, answer(exchange), NOW, LATER)
            .await?;
    }
    Ok(())
}

/// Names of keys are random, as callers' are.
fn random_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Claims that find the stored answer.
async fn replays(store: &Store, callers: usize, each: usize) -> Outcome<Vec<Duration>> {
    one_call(store, "replayed").await?;
    let mut all = JoinSet::new();
    for _ in 0..callers {
        let store = store.clone();
        all.spawn(async move {
            let mut times = Vec::with_capacity(each);
            for _ in 0..each {
                let started = Instant::now();
                let found = store.claim_key(claim("replayed".to_owned())).await?;
                times.push(started.elapsed());
                assert!(matches!(found, Claimed::Done(_)));
            }
            Ok::<_, holdfast_store::Error>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = all.join_next().await {
        times.extend(done??);
    }
    Ok(times)
}

fn shown(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!(
        "p50 {:.0?}, p99 {:.0?}, max {:.0?}",
        at(50),
        at(99),
        at(100)
    )
}

/// Every tenth ticket stays open. Gives the names of some keys, spread over all.
async fn fill(store: &Store, rows: usize) -> Outcome<Vec<String>> {
    let mut all = JoinSet::new();
    let callers = 256;
    for caller in 0..callers {
        let store = store.clone();
        all.spawn(async move {
            let mut names = Vec::new();
            for number in (caller..rows).step_by(callers) {
                let name = format!("{:016x}{number:016}", fastrand::u64(..));
                if number % rows.div_ceil(LOOKS) == 0 {
                    names.push(name.clone());
                }
                store.claim_key(claim(name)).await?;
                let id = store.open_ticket(ticket(number)).await?;
                if number % 10 != 0 {
                    let note = String::new();
                    store
                        .decide(
                            &id,
                            None,
                            "ann",
                            holdfast_store::Decision::Close { note },
                            NOW,
                        )
                        .await?;
                }
            }
            Ok::<_, holdfast_store::Error>(names)
        });
    }
    let mut names = Vec::new();
    while let Some(done) = all.join_next().await {
        names.extend(done??);
    }
    Ok(names)
}

fn ticket(number: usize) -> NewTicket {
    NewTicket {
        kind: if number.is_multiple_of(1000) {
            TicketKind::Gate
        } else {
            TicketKind::Call
        },
        scope: format!("caller{}", number % 7),
        subject: format!("exchange{number}"),
        key: None,
        run: Some(format!("run{}", number % 100_000)),
        step: None,
        route: Some("model".to_owned()),
        title: "every target failed".to_owned(),
        facts: serde_json::json!({ "attempts": 3 }),
        content: Some(vec![b'y'; 256]),
        policy: RetryPolicy::WhenHealthy,
        not_before: NOW,
        expires: LATER,
        now: NOW,
    }
}

#[expect(clippy::print_stdout, reason = "its output is the point")]
async fn look_up(store: &Store, rows: usize, names: &[String]) -> Outcome<()> {
    let all = TicketFilter {
        limit: 50,
        ..TicketFilter::default()
    };
    let filters = filters(&all);
    let middle = store
        .tickets(&TicketFilter {
            limit: 1000,
            ..all.clone()
        })
        .await?;
    let after = middle.last().map(|ticket| ticket.id.clone());
    for (name, filter) in filters {
        for filter in [
            filter.clone(),
            TicketFilter {
                after: after.clone(),
                ..filter
            },
        ] {
            let mut times = Vec::new();
            for _ in 0..50 {
                let started = Instant::now();
                store.tickets(&filter).await?;
                times.push(started.elapsed());
            }
            println!("tickets of {rows}, {name}: {}", shown(times));
        }
    }
    let mut times = Vec::new();
    for ticket in middle.iter().step_by(10) {
        let started = Instant::now();
        store.ticket(&ticket.id).await?;
        times.push(started.elapsed());
    }
    println!("a ticket: {}", shown(times));
    let mut times = Vec::new();
    for name in names {
        let id = KeyId {
            scope: "caller".to_owned(),
            key: name.clone(),
        };
        let started = Instant::now();
        let found = store.key(&id).await?;
        times.push(started.elapsed());
        assert!(found.is_some(), "it was claimed");
    }
    println!("a key of {rows}: {}", shown(times));
    let mut times = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        for (route, _) in store.waiting_routes(10).await? {
            store.due_tickets(&route, NOW, 10).await?;
        }
        times.push(started.elapsed());
    }
    println!("10 due tickets of each route: {}", shown(times));
    let started = Instant::now();
    let counts = store.counts().await?;
    println!("counts: {:.0?} ({} keys)", started.elapsed(), counts.keys);
    Ok(())
}

fn filters(all: &TicketFilter) -> [(&'static str, TicketFilter); 9] {
    let scope = || Some("caller3".to_owned());
    [
        ("all", all.clone()),
        (
            "open",
            TicketFilter {
                state: Some(TicketState::Open),
                ..all.clone()
            },
        ),
        (
            "one caller's",
            TicketFilter {
                scope: scope(),
                ..all.clone()
            },
        ),
        (
            "one caller's open",
            TicketFilter {
                scope: scope(),
                state: Some(TicketState::Open),
                ..all.clone()
            },
        ),
        (
            "a rare kind",
            TicketFilter {
                kind: Some(TicketKind::Gate),
                ..all.clone()
            },
        ),
        (
            "a rare kind, open",
            TicketFilter {
                kind: Some(TicketKind::Gate),
                state: Some(TicketState::Open),
                ..all.clone()
            },
        ),
        (
            "a kind without any",
            TicketFilter {
                kind: Some(TicketKind::Run),
                state: Some(TicketState::Open),
                ..all.clone()
            },
        ),
        (
            "a state without any",
            TicketFilter {
                state: Some(TicketState::Retrying),
                ..all.clone()
            },
        ),
        (
            "one run's",
            TicketFilter {
                run: Some("run77".to_owned()),
                ..all.clone()
            },
        ),
    ]
}
