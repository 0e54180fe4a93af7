//! All proxies in one run, round by round, and the tables.
//!
//! Each round measures every row once, beginning with another row each time, so that what else the
//! computer does falls on all of them. Of the rounds the median counts; least and most are shown.

mod process;
mod rows;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use self::process::{Client, Server, connections_to, free_port, pause};
use self::rows::{COST, Place, Row, SHAPES, STREAMS};
use self::table::{Samples, percentile};
use clap::ValueEnum;

use crate::Error;
use crate::load::Report;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The gateway's release binary.
    #[arg(long)]
    holdfast: PathBuf,
    #[arg(long, default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// An empty directory for configurations and logs.
    #[arg(long)]
    directory: PathBuf,
    /// A minute instead of several: rough numbers.
    #[arg(long)]
    quick: bool,
    /// Only this table; all without it.
    #[arg(long, value_enum)]
    table: Option<Table>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// Calls, tokens and open streams beside nginx.
    Cost,
    /// The two shapes of a runtime.
    Shapes,
    /// Many long streams over HTTP/2.
    Streams,
}

/// How much is asked in each step.
struct Sizes {
    rounds: usize,
    /// On each of 32 connections.
    calls: usize,
    /// Each of 200 tokens, on each of 200 connections.
    streams: usize,
    /// Open at once for the memory.
    open: usize,
    shape_rounds: usize,
    stream_rounds: usize,
}

const FULL: Sizes = Sizes {
    rounds: 5,
    calls: 1000,
    streams: 2,
    open: 1000,
    shape_rounds: 9,
    stream_rounds: 3,
};
const QUICK: Sizes = Sizes {
    rounds: 1,
    calls: 300,
    streams: 1,
    open: 500,
    shape_rounds: 1,
    stream_rounds: 1,
};

/// Milliseconds between the tokens of one stream where tokens are counted.
const PACE: u64 = 20;
const TOKENS: u64 = 200;
/// Streams of the HTTP/2 table.
const MANY: usize = 500;
/// A stream without a token after this many milliseconds waits for others, not for its vendor.
const STALLED: u64 = 1000;

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    let sizes = if args.quick { QUICK } else { FULL };
    let vendor = free_port()?;
    let place = Place {
        directory: args.directory.canonicalize()?,
        holdfast: args.holdfast.canonicalize()?,
        nginx: args.nginx.clone(),
        vendor,
    };
    let mut mock = Command::new(std::env::current_exe()?);
    mock.args(["mock", "--port", &vendor.to_string()]);
    let _mock = Server::start(&mut mock, vendor, &place.directory.join("mock.log"))?;
    let wanted = |table| args.table.is_none_or(|only| only == table);
    if wanted(Table::Cost) {
        cost_table(&place, &sizes)?;
    }
    if wanted(Table::Shapes) {
        shape_table(&place, &sizes)?;
    }
    if wanted(Table::Streams) {
        streams_table(&place, &sizes)?;
    }
    Ok(())
}

/// What one row cost over the rounds.
#[derive(Clone, Default)]
struct Cost {
    call: Samples,
    token: Samples,
    open: Samples,
    wrong: u64,
}

fn cost_table(place: &Place, sizes: &Sizes) -> Result<(), Error> {
    let mut costs = vec![Cost::default(); COST.len()];
    interleave(COST, sizes.rounds, |row, which| {
        let server = row.start(place)?;
        calls_and_tokens(&server, sizes, &mut costs[which])?;
        drop(server);
        open_streams(&row.start(place)?, sizes, &mut costs[which])
    })?;
    let measure = &costs[0];
    let row = |(row, cost): (&Row, &Cost)| {
        vec![
            row.name.to_owned(),
            cost.call.shown(1),
            cost.call.to(&measure.call).shown(2),
            cost.token.shown(1),
            cost.token.to(&measure.token).shown(2),
            cost.open.shown(1),
            cost.open.to(&measure.open).shown(2),
            cost.wrong.to_string(),
        ]
    };
    let head = [
        "",
        "CPU-µs per call",
        "to nginx",
        "CPU-µs per token",
        "to nginx",
        "KiB per open stream",
        "to nginx",
        "wrong answers",
    ];
    table::print(&head, &COST.iter().zip(&costs).map(row).collect::<Vec<_>>());
    Ok(())
}

/// The two shapes turn about, often and without anything between them.
fn shape_table(place: &Place, sizes: &Sizes) -> Result<(), Error> {
    let mut costs = vec![Cost::default(); SHAPES.len()];
    interleave(SHAPES, sizes.shape_rounds, |row, which| {
        calls_and_tokens(&row.start(place)?, sizes, &mut costs[which])
    })?;
    let [stealing, per_core] = costs.as_slice() else {
        return Err("two shapes are compared".into());
    };
    let rows = [
        ("CPU-µs per call", &stealing.call, &per_core.call),
        ("CPU-µs per token", &stealing.token, &per_core.token),
    ];
    let row = |(name, stealing, per_core): (&str, &Samples, &Samples)| {
        vec![
            name.to_owned(),
            stealing.shown(1),
            per_core.shown(1),
            per_core.to(stealing).shown(2),
        ]
    };
    let head = ["bare hyper", "work-stealing", "a runtime per core", "ratio"];
    table::print(&head, &rows.map(row));
    Ok(())
}

/// Does something with each row in each round, beginning with another one each time.
fn interleave(
    rows: &[Row],
    rounds: usize,
    mut work: impl FnMut(Row, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    for round in 0..rounds {
        for turn in 0..rows.len() {
            let which = (round + turn) % rows.len();
            eprintln!("round {}: {}", round + 1, rows[which].name);
            work(rows[which], which)?;
        }
    }
    Ok(())
}

fn calls_and_tokens(server: &Server, sizes: &Sizes, cost: &mut Cost) -> Result<(), Error> {
    let calls = format!("--mode call --connections 32 --calls {}", sizes.calls);
    let (report, cpu) = spent(server, &calls)?;
    cost.wrong += report.errors;
    cost.call.push(micros(cpu) / count(report.whole));

    let streams = format!(
        "--mode stream --connections 200 --calls {} --tokens {TOKENS} --pace {PACE}",
        sizes.streams
    );
    let begun = Instant::now();
    let (report, cpu) = spent(server, &streams)?;
    let due = Duration::from_millis(PACE * TOKENS) * u32::try_from(sizes.streams)?;
    if begun.elapsed() > due.mul_f64(1.5) {
        eprintln!("  the pace was not kept: {:?} for {due:?}", begun.elapsed());
    }
    cost.wrong += report.errors;
    cost.token.push(micros(cpu) / count(report.tokens));
    Ok(())
}

/// What open streams hold, in a process that did little before.
fn open_streams(server: &Server, sizes: &Sizes, cost: &mut Cost) -> Result<(), Error> {
    let warm = "--mode stream --connections 8 --calls 4 --tokens 20";
    cost.wrong += Client::ready(server.port, warm)?.go()?.errors;
    let before = server.memory()?;
    let open = sizes.open;
    let held = format!("--mode stream --connections {open} --tokens 1000 --pace 1000 --hold");
    let client = Client::ready(server.port, &held)?;
    // Every stream is in its steady state, one token a second.
    pause(Duration::from_secs(2));
    let held = server.memory()? - before;
    cost.wrong += client.go()?.errors;
    cost.open.push(held / count(open as u64));
    Ok(())
}

/// Lets a client do its work and says what CPU time the server took for it.
fn spent(server: &Server, args: &str) -> Result<(Report, Duration), Error> {
    let client = Client::ready(server.port, args)?;
    let before = server.cpu()?;
    let report = client.go()?;
    Ok((report, server.cpu()?.saturating_sub(before)))
}

/// What many streams over the vendor's connections got.
#[derive(Clone, Default)]
struct Flow {
    stalled: Samples,
    middle: Samples,
    slowest: Samples,
    token: Samples,
    connections: Samples,
    wrong: u64,
}

fn streams_table(place: &Place, sizes: &Sizes) -> Result<(), Error> {
    let mut flows = vec![Flow::default(); STREAMS.len()];
    let args = format!("--mode stream --connections {MANY} --calls 1 --tokens 60 --pace 50");
    interleave(STREAMS, sizes.stream_rounds, |row, which| {
        let server = row.start(place)?;
        let (report, cpu) = spent(&server, &args)?;
        // All are kept for a while after their last stream.
        let connections = connections_to(place.vendor)?;
        let firsts = &report.first_token_ms;
        let stalled = firsts.iter().filter(|first| **first > STALLED).count();
        let flow = &mut flows[which];
        flow.stalled.push(count(stalled as u64));
        flow.middle.push(count(percentile(firsts, 50)));
        flow.slowest.push(count(percentile(firsts, 100)));
        flow.token.push(micros(cpu) / count(report.tokens));
        flow.connections.push(count(connections));
        flow.wrong += report.errors;
        Ok(())
    })?;
    let rows: Vec<Vec<String>> = STREAMS
        .iter()
        .zip(&flows)
        .map(|(row, flow)| {
            vec![
                row.name.to_owned(),
                flow.stalled.shown(0),
                flow.middle.shown(0),
                flow.slowest.shown(0),
                flow.token.shown(1),
                flow.connections.shown(0),
                flow.wrong.to_string(),
            ]
        })
        .collect();
    let head = [
        "500 streams at once",
        "stalled over 1 s",
        "first token, median ms",
        "slowest ms",
        "CPU-µs per token",
        "vendor connections",
        "wrong answers",
    ];
    table::print(&head, &rows);
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}
