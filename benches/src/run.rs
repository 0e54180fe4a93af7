//! All proxies in one run, round by round, and the tables.
//!
//! Each round measures every row of every phase once, beginning with another row each time, so that
//! what else the computer does falls on all of them. Of the rounds the median counts; least and most
//! are shown.

mod config;
mod cost;
mod goals;
mod measure;
mod other;
mod page;
mod phases;
mod plot;
pub(crate) mod process;
pub(crate) mod rows;
mod scale;
mod settings;
mod start;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use socket2::{Domain, Socket, Type};

use self::cost::Choice;
use self::page::Page;
use self::process::{Server, free_port};
use self::rows::Place;
use crate::Error;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The gateway's release binary.
    #[arg(long)]
    holdfast: PathBuf,
    #[arg(long, default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    #[arg(long, default_value = "/usr/sbin/haproxy")]
    haproxy: PathBuf,
    /// A virtual environment with `LiteLLM` in it.
    #[arg(long)]
    litellm: Option<PathBuf>,
    /// An empty directory for configurations and logs.
    #[arg(long)]
    directory: PathBuf,
    /// One short round: rough numbers, and of the table of costs alone if no other is named.
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these tables; all without it.
    #[arg(long, value_enum)]
    table: Vec<Table>,
    /// Only these phases of the table of costs; all without it.
    #[arg(long)]
    phase: Vec<String>,
    /// Only these rows.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// The page whose results are replaced, with the plot beside it.
    #[arg(long)]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// Calls, tokens, bodies, latency, memory and starts beside nginx.
    Cost,
    /// How cost grows.
    Scale,
    /// The two shapes of a runtime.
    Shapes,
    /// Many long streams over HTTP/2.
    Streams,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    known(args)?;
    let refusing = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    refusing.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let dead = refusing.local_addr()?.as_socket();
    let place = Place {
        directory: args.directory.canonicalize()?,
        holdfast: args.holdfast.canonicalize()?,
        nginx: args.nginx.clone(),
        haproxy: args.haproxy.clone(),
        litellm: args.litellm.clone(),
        vendor: free_port()?,
        vendor_h2: free_port()?,
        dead: dead.ok_or("an odd address")?.port(),
    };
    let _vendor = vendor(&place, place.vendor, "mock", &[])?;
    let _h2 = vendor(&place, place.vendor_h2, "mock-h2", &["--h2"])?;
    if place.litellm.is_none() {
        eprintln!("LiteLLM is not installed: its rows are left out");
    }
    let choice = Choice {
        rounds: if args.quick { 1 } else { args.rounds },
        quick: args.quick,
        phases: args.phase.clone(),
        rows: args.rows.clone(),
    };
    let mut page = Page::default();
    tables(args, &place, &choice, &mut page)?;
    if let Some(path) = &args.write {
        page.write(path)?;
    }
    Ok(())
}

const ROWS: [&str; 5] = ["nginx", "haproxy", "bare", "litellm", "holdfast"];

/// Names that nobody has are mistakes.
fn known(args: &Args) -> Result<(), Error> {
    let phases: Vec<&str> = phases::PHASES.iter().map(|phase| phase.name).collect();
    for name in &args.phase {
        if name != "start" && !phases.contains(&name.as_str()) {
            return Err(format!("no phase {name}: start, {}", phases.join(", ")).into());
        }
    }
    for name in &args.rows {
        if !ROWS.contains(&name.as_str()) {
            return Err(format!("no row {name}: {}", ROWS.join(", ")).into());
        }
    }
    Ok(())
}

fn vendor(place: &Place, port: u16, name: &str, more: &[&str]) -> Result<Server, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["mock", "--port", &port.to_string()])
        .args(more);
    Server::start(&mut command, port, &place.directory.join(name))
}

fn tables(args: &Args, place: &Place, choice: &Choice, page: &mut Page) -> Result<(), Error> {
    let all = args.table.is_empty() && !args.quick;
    let unasked = |table| args.table.is_empty() && table == Table::Cost;
    let wanted = |table| all || unasked(table) || args.table.contains(&table);
    if wanted(Table::Cost) {
        costs(args, place, choice, page)?;
    }
    // Phases are of the table of costs: who asks for some asks for nothing else.
    let others = args.phase.is_empty();
    if others && wanted(Table::Scale) {
        page.section("scale", scale::table(place, choice));
    }
    if others && wanted(Table::Shapes) {
        page.section("shapes", other::shapes(place, choice)?);
    }
    if others && wanted(Table::Streams) {
        page.section("streams", other::http2(place, choice)?);
    }
    Ok(())
}

fn costs(args: &Args, place: &Place, choice: &Choice, page: &mut Page) -> Result<(), Error> {
    let results = cost::run(place, choice);
    page.section(
        "settings",
        settings::said(place, choice.rounds, choice.quick),
    );
    page.section("goals", goals::table(&results));
    page.section("cpu", results.cpu_table());
    page.section("latency", results.latency_table());
    page.section("memory", results.memory_table());
    page.section("start", results.start_table());
    page.section("remarks", results.remarks());
    if let Some(path) = &args.write {
        fs::write(path.with_extension("svg"), plot::svg(&results))?;
    }
    Ok(())
}
