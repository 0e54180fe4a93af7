//! Calls of every kind for a Holdfast that counts what runs.

use crate::Error;
use crate::order::LOADS;
use crate::profile::Subject;
use crate::run::process::{Client, Server};
use crate::run::rows::{HOLDFAST, USUAL};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Seconds for each kind.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    let (place, _vendor) = args.subject.with_vendor()?;
    let directory = HOLDFAST.directory(&place)?;
    let (mut holdfast, port) = HOLDFAST.command(&place, &USUAL, &directory)?;
    let server = Server::start(&mut holdfast, port, &directory.join("log"))?;
    let long = "--fill 1048576 --connections 8";
    for load in LOADS.into_iter().chain([long]) {
        let load = format!("--seconds {} {load}", args.seconds);
        let report = Client::ready(port, &load)?.go(|| Ok(()))?;
        eprintln!("{load}: {} whole answers", report.whole);
    }
    // The counters are written at its end.
    server.finish()
}
