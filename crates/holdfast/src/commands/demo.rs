//! `holdfast demo`: a vendor's outage in fast motion, once straight and once through Holdfast.
//!
//! Everything runs in this process on loopback: simulated vendors, the real gateway, and programs
//! that call both sides side by side as the vendors' SDKs would. The manual is `docs/demo.md`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use super::fail;
use crate::printer;
use load::Board;
use plan::Plan;
use progress::Progress;
use stage::Stage;
use timeline::Ink;

mod client;
mod held;
mod keep;
mod load;
mod plan;
mod progress;
mod report;
mod sse;
mod stage;
mod table;
mod tally;
mod timeline;
mod verdict;

/// Play a vendor's outage and compare: straight to the vendor, and through Holdfast
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How long the outage, with a healthy time before and after it, is made to last
    #[arg(long, value_name = "SECONDS", default_value_t = 36,
          value_parser = clap::value_parser!(u32).range(6..=3600))]
    seconds: u32,
    /// Calls per second on each side
    #[arg(long, value_name = "CALLS", default_value_t = 40,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Seeds the calls and the vendor's dice
    #[arg(long, value_name = "NUMBER", default_value_t = 20_260_621)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Leave everything running afterwards and print curl lines to try
    #[arg(long)]
    keep: bool,
}

const EXAMPLES: &str = "\
Examples:
  holdfast demo                            # about 40 seconds, 1,440 calls on each side
  holdfast demo --seconds 12 --rate 100    # shorter and denser
  holdfast demo --seed 7 --json | jq .holdfast
  holdfast demo --keep                     # and try it by hand

The exit status is 0 only if no program was left with half an answer, a wrong one or none through
Holdfast.";

pub(crate) fn run(args: &Args) -> ExitCode {
    let plan = Plan {
        seed: args.seed,
        rate: args.rate,
        length: Duration::from_secs(args.seconds.into()),
    };
    let stage = match Stage::start(plan.seed, plan.length) {
        Ok(stage) => stage,
        Err(error) => return fail(&error.to_string()),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let board = match runtime.block_on(play(args, &plan, &stage)) {
        Ok(board) => board,
        Err(error) => return fail(&error.to_string()),
    };
    show(args, &plan, &stage, &board);
    if args.keep {
        printer::say(&keep::lines(stage.holdfast(), stage.behind()));
        // Without signals the process is ended the hard way, which ends all of it too.
        let _ = runtime.block_on(tokio::signal::ctrl_c());
    }
    stage.end();
    if board.is_kept() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn play(args: &Args, plan: &Plan, stage: &Stage) -> Result<Board, stage::Error> {
    printer::say(&format!(
        "{} for {} s: {} calls to a failing vendor, and the same through Holdfast with a second vendor behind it",
        stage::SCENARIO,
        args.seconds,
        table::grouped(plan.count()),
    ));
    let live = (!args.json && std::io::stdout().is_terminal()).then(ink);
    let mut progress = Progress::new(stage.phases(), live);
    stage.begin()?;
    let sides = [stage.straight(), stage.holdfast()];
    let mut board = load::play(plan, sides, |board| progress.show(board)).await;
    progress.clear();
    for (tally, calls) in board.tallies.iter_mut().zip(stage.vendor_calls()) {
        tally.vendor_calls = calls;
    }
    Ok(board)
}

fn show(args: &Args, plan: &Plan, stage: &Stage, board: &Board) {
    if args.json {
        printer::data(&format!("{:#}\n", report::report(plan, stage, board)));
        return;
    }
    printer::data(&format!(
        "\n{}\n{}\n{}{}\n{}",
        table::table(board),
        table::LEGEND,
        timeline::timeline(&stage.phases(), &board.tallies, ink()),
        timeline::LEGEND,
        table::sentence(board),
    ));
    let is_broken = |failed: &&load::Failed| failed.outcome.is_broken_promise();
    for broken in board.failed.iter().filter(is_broken) {
        printer::error(&format!(
            "broken promise: {:#}",
            report::example(stage, broken)
        ));
    }
}

/// Colour for standard output, where it is a terminal and `NO_COLOR` is not set.
fn ink() -> Ink {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !refused {
        Ink::Colour
    } else {
        Ink::Plain
    }
}
