//! Instructions of Holdfast for a call or a token, by function, under valgrind's callgrind.
//!
//! Two runs with different numbers of calls are subtracted, so that the start, the warm-up and the
//! end fall out. Instructions are no time, but they are the same on a busy computer; what is written
//! behind the calls by a clock (the ledger) makes them differ by some percent of its share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Error;
use crate::run::process::{Client, Server, free_port, pause};
use crate::run::rows::{HOLDFAST, Place, Setup, USUAL};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: Subject,
    #[arg(long, value_enum, default_value = "call")]
    mode: Unit,
    /// Calls (or tokens) of the first run, and how many more of the second.
    #[arg(long, default_value_t = 1000)]
    calls: u64,
    /// Functions that are shown.
    #[arg(long, default_value_t = 30)]
    top: usize,
}

/// What is looked at.
#[derive(clap::Args)]
pub(crate) struct Subject {
    /// The gateway's release binary, with symbols and line tables.
    #[arg(long)]
    holdfast: PathBuf,
    /// An empty directory for configurations and logs.
    #[arg(long)]
    directory: PathBuf,
}

/// What is counted.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Unit {
    /// A plain call.
    Call,
    /// One with a new `Idempotency-Key`.
    Keyed,
    /// A token of a stream.
    Stream,
}

/// Milliseconds between the tokens of a stream in the longer run.
const PACE: u64 = 25;
/// Connections of the client.
const CONNECTIONS: u64 = 4;
pub(crate) const ALONE: Setup = Setup {
    workers: 1,
    ..USUAL
};

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    let (place, _vendor) = args.subject.with_vendor()?;
    let (few, done) = run(&place, args, args.calls)?;
    let (many, more) = run(&place, args, 2 * args.calls)?;
    let (unit, between) = match args.mode {
        Unit::Call | Unit::Keyed => ("call", more - done),
        Unit::Stream => ("token", more - done),
    };
    for (title, inclusive) in [("alone", false), ("with what they call", true)] {
        let [few, many] = [&few, &many].map(|file| annotated(file, inclusive));
        let costs = difference(&few?, &many?, between);
        let total = costs.total;
        if !inclusive {
            println!("{total:.0} instructions per {unit} ({between} of them)");
        }
        println!("\nfunctions {title}, instructions per {unit}:");
        for (name, cost) in costs.functions.iter().take(args.top) {
            println!("{cost:>10.0} {:>5.1} %  {name}", cost / total * 100.0);
        }
    }
    Ok(())
}

impl Subject {
    /// Holdfast and nothing else at its place, and the vendor that runs beside it.
    pub(crate) fn with_vendor(&self) -> Result<(Place, Server), Error> {
        let place = Place {
            directory: self.directory.canonicalize()?,
            holdfast: self.holdfast.canonicalize()?,
            nginx: PathBuf::new(),
            haproxy: PathBuf::new(),
            litellm: None,
            vendor: free_port()?,
            vendor_h2: 0,
            dead: 0,
        };
        let mut mock = Command::new(std::env::current_exe()?);
        mock.args(["mock", "--port", &place.vendor.to_string()]);
        let vendor = Server::start(&mut mock, place.vendor, &place.directory.join("mock"))?;
        Ok((place, vendor))
    }
}

/// Waits until the store is open, which takes a while under valgrind: until then calls with a key are refused.
pub(crate) fn until_open(port: u16) -> Result<(), Error> {
    let one = "--keyed --connections 1 --calls 1";
    while Client::ready(port, one)?.go(|| Ok(()))?.errors > 0 {
        pause(Duration::from_millis(100));
    }
    Ok(())
}

/// The same command under valgrind, its functions named as the compiler does if `symbols`.
pub(crate) fn under_callgrind(program: &Command, out: &Path, symbols: bool) -> Command {
    let mut command = Command::new("valgrind");
    let demangle = if symbols { "no" } else { "yes" };
    command
        .args(["--tool=callgrind", "--compress-strings=no"])
        .arg(format!("--demangle={demangle}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program.get_program())
        .args(program.get_args());
    command
}

/// The profile of so many calls, and how many calls or tokens there were.
fn run(place: &Place, args: &Args, calls: u64) -> Result<(PathBuf, u64), Error> {
    let directory = HOLDFAST.directory(place)?;
    let (holdfast, port) = HOLDFAST.command(place, &ALONE, &directory)?;
    let out = place.directory.join(format!("callgrind.{calls}"));
    let mut command = under_callgrind(&holdfast, &out, false);
    eprintln!("{calls} calls or tokens under valgrind");
    let server = Server::start(&mut command, port, &directory.join("log"))?;
    until_open(port)?;
    let each = calls / CONNECTIONS;
    let load = match args.mode {
        Unit::Call => format!("--calls {each}"),
        Unit::Keyed => format!("--keyed --calls {each}"),
        // At a pace that can be kept under valgrind, so that a token is read alone. Both runs have as
        // many streams and take as long, so that calls and what is done by a clock fall out.
        Unit::Stream => {
            let gap = PACE * 2 * args.calls / calls;
            format!("--mode stream --tokens {each} --pace {gap}")
        }
    };
    let load = format!("--connections {CONNECTIONS} {load}");
    let report = Client::ready(port, &load)?.go(|| Ok(()))?;
    server.finish()?;
    Ok(match args.mode {
        Unit::Call | Unit::Keyed => (out, report.whole),
        Unit::Stream => (out, report.tokens),
    })
}

/// Instructions by function, and of all.
#[derive(Default)]
struct Costs {
    total: f64,
    functions: HashMap<String, f64>,
}

/// Instructions of a unit, the dearest function first.
struct Profile {
    total: f64,
    functions: Vec<(String, f64)>,
}

fn annotated(file: &Path, inclusive: bool) -> Result<Costs, Error> {
    // A function has a line for each file that code was inlined from. Alone they are its parts; with
    // what it calls each is the whole.
    let (inclusive, fold): (_, Fold) = if inclusive {
        ("yes", f64::max)
    } else {
        ("no", |one, other| one + other)
    };
    let output = Command::new("callgrind_annotate")
        .arg(format!("--inclusive={inclusive}"))
        .args(["--threshold=100", "--auto=no"])
        .arg(file)
        .output()?;
    Ok(read(&String::from_utf8_lossy(&output.stdout), fold))
}

type Fold = fn(f64, f64) -> f64;

/// Lines like `1,234 (5.6%)  file:function [object]`.
fn read(text: &str, fold: Fold) -> Costs {
    let mut costs = Costs::default();
    for line in text.lines() {
        let Some((number, rest)) = line.trim_start().split_once(' ') else {
            continue;
        };
        let Ok(cost) = number.replace(',', "").parse::<f64>() else {
            continue;
        };
        // A share in brackets, padded with blanks.
        let name = rest
            .trim_start()
            .split_once(')')
            .map_or(rest, |(_, name)| name);
        let name = name.trim().split(" [/").next().unwrap_or_default();
        if name == "PROGRAM TOTALS" {
            costs.total = cost;
        } else if let Some((_, function)) = name.split_once(':') {
            let known = costs.functions.entry(function.to_owned()).or_default();
            *known = fold(*known, cost);
        }
    }
    costs
}

fn difference(few: &Costs, many: &Costs, between: u64) -> Profile {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of calls are far below 2^52"
    )]
    let between = between.max(1) as f64;
    let mut functions: Vec<(String, f64)> = many
        .functions
        .iter()
        .map(|(name, cost)| {
            let before = few.functions.get(name).copied().unwrap_or_default();
            (name.clone(), (cost - before) / between)
        })
        .collect();
    functions.sort_by(|one, other| other.1.total_cmp(&one.1));
    Profile {
        total: (many.total - few.total) / between,
        functions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_function_are_added_alone() {
        let text = "10 (1.0%)  a.rs:f [/x]\n 5 (0.5%)  b.rs:f [/x]\n";
        assert!((read(text, |one, other| one + other).functions["f"] - 15.0).abs() < 1e-9);
        assert!((read(text, f64::max).functions["f"] - 10.0).abs() < 1e-9);
    }

    const FEW: &str = "\
--------------------------------------------------------------------------------
1,000 (100.0%)  PROGRAM TOTALS
  600 (60.00%)  src/a.rs:a::start [/bin/holdfast]
  400 ( 4.00%)  ???:a::<impl b::C>::call'2 [/bin/holdfast]
";
    const MANY: &str = "\
3,000 (100.0%)  PROGRAM TOTALS
2,400 (80.00%)  ???:a::<impl b::C>::call'2 [/bin/holdfast]
  600 (20.00%)  src/a.rs:a::start [/bin/holdfast]
";

    #[test]
    fn what_is_done_once_falls_out() {
        let profile = difference(&read(FEW, f64::max), &read(MANY, f64::max), 100);
        assert!((profile.total - 20.0).abs() < 1e-9);
        assert_eq!(profile.functions[0].0, "a::<impl b::C>::call'2");
        assert!((profile.functions[0].1 - 20.0).abs() < 1e-9);
        assert!(profile.functions[1].1.abs() < 1e-9);
    }
}
