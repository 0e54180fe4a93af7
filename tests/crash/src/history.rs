//! `holdfast-crash history`: concurrent calls are recorded with their moments, and every key's history is
//! held against a register that the first call writes once.

mod check;
mod record;

use std::path::PathBuf;

use clap::Parser;

use crate::binary;
use crate::process;
use crate::report::{Report, say};
use crate::scene::Stage;
use crate::stand::{Stand, Terms};

/// Record concurrent calls under few keys and check that they are linearizable
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many keys are fought for
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    keys: u64,
    /// Two replicas on this database instead of one gateway on `SQLite`
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Kill a gateway every so often meanwhile
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    kills: u32,
    /// Seeds callers and kills [default: the clock]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// The gateway's binary [default: that of `HOLDFAST_BIN`, else the one beside this program]
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  holdfast-crash history
  holdfast-crash history --keys 1000 --kills 100 --seed 7
  url=$(tests/postgres start /tmp/pg 55432)
  holdfast-crash history --postgres \"$url\"

Exit code 1 if a history can't be explained.";

pub(crate) async fn run(args: Args) -> Result<bool, process::Error> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let stand = Stand::new(binary::find(args.bin.clone())?).await?;
    let terms = Terms {
        postgres: args.postgres.clone(),
        ..Terms::default()
    };
    let stage = Stage::new(stand, terms);
    let place = if args.postgres.is_some() {
        "two replicas on PostgreSQL"
    } else {
        "one gateway on SQLite"
    };
    let mut report = Report::new(format!("seed {seed}: histories of keys, {place}"));
    let histories = record::record(&stage, &args, seed).await?;
    let (mut calls, mut unknown, mut broken) = (0, 0, 0);
    for (key, history) in &histories {
        calls += history.len() as u64;
        unknown += history.iter().filter(|call| call.is_unknown()).count() as u64;
        if let Err(why) = check::check(history) {
            broken += 1;
            report.fault(format!("{key}: {why}"));
        }
    }
    report.tell("keys", histories.len() as u64);
    report.tell("calls", calls);
    report.tell("  of which nobody heard the end", unknown);
    report.zero("histories that no order explains", broken);
    let is_good = report.is_good();
    report.print(args.json);
    if !is_good {
        say(&format!(
            "everything is kept in {}",
            stage.stand.keep().display()
        ));
    }
    Ok(is_good)
}
