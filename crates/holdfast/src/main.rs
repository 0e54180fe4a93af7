//! The `holdfast` binary: reads the command line and the environment, and runs one command.

mod background;
mod client;
mod commands;
mod printer;
mod reload;
mod services;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    approvals, check, demo, effects, explain, gap, init, review, runs, serve, sim, store,
};

// Thousands of small buffers of many lifetimes: jemalloc keeps the memory of long streams low.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A gateway between AI workflows and model vendors: a whole answer or an explicit error, never half
/// an answer.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  holdfast serve                        # routes made from the vendor keys in the environment
  holdfast init && holdfast check       # write a commented holdfast.yaml, then validate it
  holdfast serve --config holdfast.yaml
  holdfast explain HF-012               # what an error code means and what to do";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::Args),
    /// Write a commented configuration
    Init(init::Args),
    /// Validate a configuration, and optionally ask each provider a tiny question
    Check(check::Args),
    /// Look at the review queue, and decide what lies in it
    Review(review::Args),
    /// Look at runs and their timelines
    Runs(runs::Args),
    /// Send side effects, and look at them
    Effects(effects::Args),
    /// Ask people, and answer what workflows ask
    Approvals(approvals::Args),
    /// Reckon how reliable a chain of steps is, and what a change would buy
    Gap(gap::Args),
    /// Check, copy and describe what is kept
    Store(store::Args),
    /// Run simulated vendors with scripted faults
    Sim(sim::Args),
    /// Play a vendor's outage and compare: straight to the vendor, and through Holdfast
    Demo(demo::Args),
    /// Say what an error code means and what to do
    Explain(explain::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Review(args) => review::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Effects(args) => effects::run(&args),
        Command::Approvals(args) => approvals::run(&args),
        Command::Gap(args) => gap::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Sim(args) => sim::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Explain(args) => explain::run(&args),
    }
}
