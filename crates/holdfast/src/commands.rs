//! One module for each command.

pub(crate) mod approvals;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod effects;
pub(crate) mod explain;
pub(crate) mod gap;
pub(crate) mod init;
pub(crate) mod review;
pub(crate) mod runs;
pub(crate) mod serve;
pub(crate) mod sim;
pub(crate) mod store;

use std::process::ExitCode;

use crate::printer;

/// Exit status for a wrong command line or configuration (sysexits `EX_CONFIG` is for daemons; the
/// shell's usual 2 is what people test for).
pub(crate) const USAGE: u8 = 2;

/// The variable of the environment, if it is set and readable.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Says what went wrong and gives the exit status for it.
pub(crate) fn fail(message: &str) -> ExitCode {
    printer::error(message);
    ExitCode::FAILURE
}
