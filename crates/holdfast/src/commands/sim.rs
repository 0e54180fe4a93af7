//! `holdfast sim`: simulated vendors with scripted faults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use holdfast_sim::Options;

use super::fail;
use crate::printer;

/// Run simulated vendors with scripted faults.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// One vendor listens at each address; they share a scenario
    #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1:4010")]
    listen: Vec<SocketAddr>,
    /// An address for the control endpoint alone (it is also at `/_sim/` of each vendor)
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
    /// A script of faults (YAML or JSON)
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// A built-in scenario, such as `outage-2026-06-21`
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Multiplies the scenario's times
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    time_scale: f64,
    /// A key that is accepted; may be repeated [default: all are]
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// Milliseconds before the first token
    #[arg(long, value_name = "MS", default_value_t = 0)]
    first_token: u64,
    /// Milliseconds between tokens
    #[arg(long, value_name = "MS", default_value_t = 0)]
    token: u64,
    /// Call tools only where the request forces it
    #[arg(long)]
    no_auto_tools: bool,
    /// Print every fault with its meaning and end
    #[arg(long)]
    list: bool,
    /// As JSON
    #[arg(long, requires = "list")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  holdfast sim --listen 127.0.0.1:4010 --listen 127.0.0.1:4011
  holdfast sim --scenario outage-2026-06-21 --time-scale 0.1
  holdfast sim --list
  curl 127.0.0.1:4010/v1/chat/completions -d \\
    '{\"model\":\"sim-ok\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'";

pub(crate) fn run(args: Args) -> ExitCode {
    if args.list {
        let list = if args.json {
            serde_json::to_string(&holdfast_sim::faults())
                .expect("invariant: a list of texts is JSON")
        } else {
            holdfast_sim::list()
        };
        printer::data(&list);
        return ExitCode::SUCCESS;
    }
    let options = Options {
        listen: args.listen,
        control: args.control,
        script: args.script,
        scenario: args.scenario,
        time_scale: args.time_scale,
        keys: args.key,
        first_token: Duration::from_millis(args.first_token),
        token: Duration::from_millis(args.token),
        auto_tools: !args.no_auto_tools,
        ..Options::default()
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let shutdown = async {
        // Without signals the process is ended the hard way, which is fine for a simulator.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    match runtime.block_on(options.run(shutdown, announce)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn announce(sims: &[holdfast_sim::Sim]) {
    for sim in sims {
        printer::say(&format!("simulated vendor at {}", sim.url()));
    }
}
