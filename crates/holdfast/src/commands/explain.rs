//! `holdfast explain CODE`: the documentation page of an error code, out of the binary.

use std::process::ExitCode;

use clap::Parser;
use holdfast_core::fault::Code;

use super::{USAGE, fail};
use crate::printer;

mod pages;

/// Say what an error code means and what to do.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  holdfast explain HF-012\n  holdfast explain upstream_incomplete\n  holdfast explain --list"
)]
pub(crate) struct Args {
    /// The code (`HF-012`) or its word (`upstream_incomplete`)
    #[arg(required_unless_present = "list")]
    code: Option<String>,
    /// Print every code and its word
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    if args.list {
        for code in Code::ALL {
            printer::data(&format!(
                "{}  {:3}  {}\n",
                code.number(),
                code.status(),
                code.slug()
            ));
        }
        return ExitCode::SUCCESS;
    }
    let asked = args.code.as_deref().unwrap_or_default();
    if let Some(code) = Code::find(asked) {
        printer::data(pages::of(code));
        ExitCode::SUCCESS
    } else {
        let _ = fail(&format!(
            "no code `{asked}`\nhelp: `holdfast explain --list` prints them all"
        ));
        ExitCode::from(USAGE)
    }
}
