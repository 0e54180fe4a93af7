//! The tables of decision 1: two shapes of a runtime, and many long streams over HTTP/2.

use super::cost::Choice;
use super::measure::{count, measure, micros};
use super::phases::{Load, streams, work};
use super::process::{Client, connections_to};
use super::rows::{Kind, Place, Row, SHAPES, STREAMS, USUAL};
use super::table::{Samples, markdown};
use crate::Error;

/// Streams of the HTTP/2 table.
const MANY: usize = 1000;

/// Does something with each row in each round, beginning with another one each time.
fn interleave(
    rows: &[Row],
    rounds: usize,
    mut work: impl FnMut(Row, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    for round in 0..rounds {
        for turn in 0..rows.len() {
            let which = (round + turn) % rows.len();
            eprintln!("  round {}: {}", round + 1, rows[which].name);
            work(rows[which], which)?;
        }
    }
    Ok(())
}

/// The two shapes turn about, often and without anything between them.
pub(crate) fn shapes(place: &Place, choice: &Choice) -> Result<String, Error> {
    let closed = Load::Closed {
        seconds: 1.5,
        fill: 0,
    };
    let (call, token) = (work(32, closed), streams(200, 100, 20));
    let (mut calls, mut tokens) = (vec![Samples::default(); 2], vec![Samples::default(); 2]);
    let rounds = if choice.quick {
        1
    } else {
        2 * choice.rounds + 1
    };
    interleave(SHAPES, rounds, |row, which| {
        let server = row.start(place, &USUAL)?;
        calls[which].push(measure(&server, &call)?.cost);
        tokens[which].push(measure(&server, &token)?.cost);
        Ok(())
    })?;
    let line = |name: &str, samples: &[Samples]| {
        vec![
            name.to_owned(),
            samples[0].shown(1),
            samples[1].shown(1),
            samples[1].to(&samples[0]).shown(2),
        ]
    };
    let head = ["bare hyper", "work-stealing", "a runtime per core", "ratio"];
    let lines = [
        line("CPU-µs per call", &calls),
        line("CPU-µs per token", &tokens),
    ];
    Ok(markdown(&head, &lines))
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

pub(crate) fn http2(place: &Place, choice: &Choice) -> Result<String, Error> {
    let mut flows = vec![Flow::default(); STREAMS.len()];
    let load = streams(MANY, 60, 50);
    let rounds = if choice.quick {
        1
    } else {
        choice.rounds.min(2)
    };
    interleave(STREAMS, rounds, |row, which| {
        let server = row.start(place, &USUAL)?;
        let client = Client::ready(server.port, &load.args())?;
        let before = server.cpu()?;
        let report = client.go(|| Ok(()))?;
        let cpu = server.cpu()?.since(&before);
        let flow = &mut flows[which];
        flow.stalled.push(count(report.stalled));
        flow.middle.push(f64::from(report.first_token.p50) / 1e3);
        flow.slowest.push(f64::from(report.first_token.most) / 1e3);
        flow.token.push(micros(cpu) / count(report.tokens));
        // All are kept for a while after their last stream.
        flow.connections
            .push(count(connections_to(vendor(row, place))?));
        flow.wrong += report.errors;
        Ok(())
    })?;
    Ok(flow_table(&flows))
}

fn vendor(row: Row, place: &Place) -> u16 {
    match row.kind {
        Kind::Bare(args) if !args.contains("--h2") => place.vendor,
        _ => place.vendor_h2,
    }
}

fn flow_table(flows: &[Flow]) -> String {
    let lines: Vec<Vec<String>> = STREAMS
        .iter()
        .zip(flows)
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
        "1,000 streams at once",
        "stalled over 1 s",
        "first token, median ms",
        "slowest ms",
        "CPU-µs per token",
        "vendor connections",
        "wrong answers",
    ];
    markdown(&head, &lines)
}
