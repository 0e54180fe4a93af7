//! `holdfast check`: validates a configuration; with `--probe` asks each provider a tiny question.

mod probe;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use holdfast_config::{Config, load};

use super::{USAGE, env};
use crate::{printer, services};

/// Validate a configuration.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  holdfast check\n  holdfast check --config holdfast.yaml --probe"
)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "holdfast.yaml",
        env = "HOLDFAST_CONFIG"
    )]
    config: PathBuf,
    /// Ask every target one tiny question (costs a few tokens each)
    #[arg(long)]
    probe: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let loaded = match load(&args.config, &env) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            printer::say(&rejected.render(printer::color()));
            return ExitCode::from(USAGE);
        }
    };
    for warning in &loaded.warnings {
        printer::say(&warning.render(printer::color()));
    }
    let config = Arc::new(loaded.config);
    if let Err(why) = build(&config) {
        printer::error(&why);
        return ExitCode::from(USAGE);
    }
    let targets: usize = config.routes.iter().map(|route| route.targets.len()).sum();
    printer::data(&format!(
        "{}: good: {}, {}, {}, {}\n",
        args.config.display(),
        count(config.providers.len(), "provider"),
        count(config.routes.len(), "route"),
        count(targets, "target"),
        count(loaded.warnings.len(), "warning"),
    ));
    if args.probe {
        probe::run(&config)
    } else {
        ExitCode::SUCCESS
    }
}

/// What can't be seen in the file's text: gates compile, certificates load, headers can be sent.
fn build(config: &Arc<Config>) -> Result<(), String> {
    holdfast_gateway::verify(config.clone()).map_err(|error| error.to_string())?;
    services::targets(config).map(drop)
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
