//! `holdfast init`: writes a commented configuration for the keys that are there.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use holdfast_config::{DetectedKeys, init_text};

use super::{env, fail};
use crate::printer;

/// Write a commented configuration.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  holdfast init\n  holdfast init --output - | less\n  holdfast init -o /etc/holdfast.yaml"
)]
pub(crate) struct Args {
    /// Where to write; `-` prints it
    #[arg(short, long, value_name = "FILE", default_value = "holdfast.yaml")]
    output: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let text = init_text(&DetectedKeys::in_env(&env));
    if args.output.as_os_str() == "-" {
        printer::data(&text);
        return ExitCode::SUCCESS;
    }
    let shown = args.output.display();
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .create_new(!args.force);
    match options
        .open(&args.output)
        .and_then(|mut file| file.write_all(text.as_bytes()))
    {
        Ok(()) => {
            printer::say(&format!(
                "wrote {shown}\nnext: holdfast check --config {shown}"
            ));
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => fail(&format!(
            "{shown} is there already\nhelp: `--force` writes over it, `--output` names another file"
        )),
        Err(error) => fail(&format!("cannot write {shown}: {error}")),
    }
}
