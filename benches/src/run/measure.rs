//! One server under one load: what it took, and what its callers got.

use std::time::Duration;

use super::phases::{Load, Unit, Work};
use super::process::{Client, Server, pause};
use super::table::Samples;
use crate::Error;
use crate::load::Report;

/// Calls that began later than this after their time were not the load that was meant.
const LATE: u32 = 20_000;

/// How often a warm-up without a wrong answer is tried.
const TRIES: u32 = 30;

/// What one measurement said; what it did not say is no number.
pub(crate) struct Point {
    /// Microseconds of CPU time for a unit.
    pub(crate) cost: f64,
    /// KiB for each open stream.
    pub(crate) memory: f64,
    /// Microseconds from request to answer, without what the vendor held back.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    /// The load was what it was meant to be.
    pub(crate) kept: bool,
}

/// The points of all rounds.
#[derive(Clone, Default)]
pub(crate) struct Cell {
    pub(crate) cost: Samples,
    pub(crate) memory: Samples,
    pub(crate) p50: Samples,
    pub(crate) p99: Samples,
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    /// Rounds in which the load was not what it was meant to be.
    pub(crate) unkept: u64,
}

impl Cell {
    pub(crate) fn push(&mut self, point: &Point) {
        self.cost.push(point.cost);
        self.memory.push(point.memory);
        self.p50.push(point.p50);
        self.p99.push(point.p99);
        self.right += point.right;
        self.wrong += point.wrong;
        self.unkept += u64::from(!point.kept);
    }

    /// A round in which nothing could be measured.
    pub(crate) fn miss(&mut self) {
        for samples in [
            &mut self.cost,
            &mut self.memory,
            &mut self.p50,
            &mut self.p99,
        ] {
            samples.push(f64::NAN);
        }
    }
}

pub(crate) fn measure(server: &Server, work: &Work) -> Result<Point, Error> {
    warm(server, work)?;
    let idle = server.memory()?;
    let client = Client::ready(server.port, &work.args())?;
    let before = server.cpu()?;
    let mut held = f64::NAN;
    let report = client.go(|| {
        // Every stream has shown a token; a moment later all are in their steady state.
        pause(Duration::from_millis(500));
        held = server.memory()? - idle;
        Ok(())
    })?;
    let cpu = micros(server.cpu()?.since(&before));
    let kept = kept(work, &report);
    if !kept {
        eprintln!(
            "  the pace was not kept: {} ms behind, calls {} ms late",
            report.behind_ms,
            report.late.p99 / 1000
        );
    }
    Ok(Point {
        cost: cpu / units(work, &report),
        memory: held / count(work.connections as u64),
        p50: f64::from(report.latency.p50),
        p99: f64::from(report.latency.p99),
        right: report.whole,
        wrong: report.errors,
        kept,
    })
}

/// A few calls, so that what is made once is made. None of them is held open.
fn warm(server: &Server, work: &Work) -> Result<(), Error> {
    let load = match work.load {
        Load::Streams { .. } => Load::Streams {
            tokens: 20,
            pace: 1,
            each: 4,
        },
        Load::Closed { .. } | Load::Open { .. } => Load::Closed {
            seconds: 0.2,
            fill: 0,
        },
    };
    let few = Work {
        load,
        connections: 8,
        ..*work
    };
    // A gateway may accept before its store is open, and calls with a key have to wait for that.
    for _ in 0..TRIES {
        let client = Client::ready(server.port, &few.args())?;
        if client.quietly(|| Ok(()))?.errors == 0 {
            return Ok(());
        }
        pause(Duration::from_millis(100));
    }
    Err("no call was answered".into())
}

/// What the CPU time is divided by.
fn units(work: &Work, report: &Report) -> f64 {
    match (work.unit(), work.load) {
        (Unit::Token, _) => count(report.tokens),
        (Unit::Mib, Load::Closed { fill, .. }) => {
            count(report.whole) * count(fill as u64) / count(1 << 20)
        }
        _ => count(report.whole),
    }
}

/// Whether streams came at their pace and calls were made in their time.
fn kept(work: &Work, report: &Report) -> bool {
    match work.load {
        Load::Streams { tokens, pace, .. } => {
            let due = tokens * pace;
            // The first token may be late by one pace, and opening thousands takes a while.
            report.behind_ms <= due / 10 + 2 * pace + 200
        }
        Load::Open { .. } => report.late.p99 <= LATE,
        Load::Closed { .. } => true,
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn count(number: u64) -> f64 {
    number as f64
}
