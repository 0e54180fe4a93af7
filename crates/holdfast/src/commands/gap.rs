//! `holdfast gap`: how reliable a chain of steps is, against what its steps promise; and what would help.
//!
//! Figures come from the command line or from the ledger of a running gateway. The mathematics are in
//! `holdfast_core::reliability`, the manual in `docs/gap.md`.

mod figures;
mod ledger;
mod plot;
mod report;
mod show;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use holdfast_core::run::moment::parse_span;

use crate::client::{Connection, Error, Told, finish, pretty};
use crate::printer;

/// Reckon how reliable a chain of steps is, and what a change would buy
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A chain of so many equal steps; needs `--reliability`
    #[arg(long, value_name = "STEPS", requires = "reliability",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: Option<u16>,
    /// How reliable each of these steps is: `0.99` or `99%`
    #[arg(long, value_name = "SHARE", value_parser = figures::share, requires = "steps")]
    reliability: Option<f64>,
    /// A step as it was counted: `NAME=OK/TOTAL`; may be repeated, in the order of the chain
    #[arg(long, value_name = "NAME=OK/TOTAL", value_parser = figures::step, conflicts_with = "steps")]
    step: Vec<figures::Counted>,
    /// Whole runs that went well; needs `--runs-total`
    #[arg(long, value_name = "RUNS", requires = "runs_total")]
    runs_ok: Option<u64>,
    /// Whole runs
    #[arg(long, value_name = "RUNS", requires = "runs_ok")]
    runs_total: Option<u64>,
    /// A step (its name, or its number from 1) with a gate, a checkpoint or an approval behind it; may
    /// be repeated
    #[arg(long, value_name = "STEP")]
    supervised: Vec<String>,
    /// The share of failures that a second vendor meets as well, because they share their cause; where
    /// it is not given it is estimated from the ledger, or 0
    #[arg(long, value_name = "SHARE", value_parser = figures::share)]
    beta: Option<f64>,
    /// The share of failures that one retry meets again; where it is not given it is measured in the
    /// ledger, or taken to be that of `--beta`
    #[arg(long, value_name = "SHARE", value_parser = figures::share)]
    sticky: Option<f64>,
    /// How reliable the chain should be
    #[arg(long, value_name = "SHARE", value_parser = figures::share, default_value = "0.99")]
    wanted: f64,
    /// How sure the intervals are meant to be, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 95.0)]
    confidence: f64,
    /// Ledger: the most runs that are read, newest first
    #[arg(long, value_name = "RUNS", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Ledger: only runs with this label; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Ledger: failures within one window of this length may share their cause
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_span)]
    window: Duration,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

const EXAMPLES: &str = "\
Examples:
  holdfast gap --steps 6 --reliability 99%
  holdfast gap --steps 12 --reliability 0.995 --beta 0.1 --supervised 4 --supervised 8
  holdfast gap --step plan=198/200 --step write=191/198 --step send=188/191 \\
               --runs-ok 180 --runs-total 200
  holdfast gap --url http://127.0.0.1:4000        # from the ledger of a running gateway
  holdfast gap --label flow=invoices --window 5m --json | jq .gap

Without figures the runs of the gateway at `--url` are read. `docs/gap.md` says what is counted, how
the estimates are made, and what they can't tell.";

pub(crate) fn run(args: &Args) -> ExitCode {
    finish(tell(args))
}

fn tell(args: &Args) -> Told {
    let is_given = args.steps.is_some() || !args.step.is_empty();
    let terms = figures::terms(args)?;
    let figures = if is_given {
        figures::given(args)?
    } else if args.runs_ok.is_some() {
        return Err(Error::Usage(
            "whole runs are compared with their steps: add `--step NAME=OK/TOTAL` or `--steps`"
                .to_owned(),
        ));
    } else {
        let client = args.connection.client()?;
        let reading = ledger::Reading {
            runs: args.runs,
            labels: &args.label,
            window: args.window,
        };
        let read = ledger::read(&client, &reading)?;
        for note in &read.notes {
            printer::say(note);
        }
        ledger::figures(&read, &terms, &args.supervised)?
    };
    let report = report::report(&figures, &terms).map_err(figures::wrong)?;
    Ok(if args.json {
        pretty(&show::json(&report))
    } else {
        format!("{}\n{}", show::table(&report), plot::plot(&report))
    })
}
