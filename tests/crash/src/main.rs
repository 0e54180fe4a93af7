//! `holdfast-crash`: what Holdfast promises, while it is killed, frozen and cut off.
//!
//! It runs the real binary against vendors and effect targets of its own that count what reaches them,
//! and prints the counts. The manual is `docs/crash-tests.md`. Nothing here depends on Holdfast's crates:
//! it is a second reading of the promises, from outside.

mod binary;
mod client;
mod history;
mod kill;
mod load;
mod plan;
mod process;
mod proxy;
mod replicas;
mod report;
mod scene;
mod seen;
mod server;
mod stand;
mod targets;
mod vendor;
mod verdict;
mod windows;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Kills, freezes and cuts off Holdfast under load, and counts what was promised
#[derive(Debug, Parser)]
#[command(after_help = "Manual: docs/crash-tests.md")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Kill(kill::Args),
    Replicas(replicas::Args),
    History(history::Args),
    Windows(windows::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            report::say(&format!("error: no runtime: {error}"));
            return ExitCode::from(2);
        }
    };
    let ended = runtime.block_on(async {
        match args.command {
            Command::Kill(args) => kill::run(args).await,
            Command::Replicas(args) => replicas::run(args).await,
            Command::History(args) => history::run(args).await,
            Command::Windows(args) => windows::run(args).await,
        }
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::say(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}
