//! The functions that a start and the usual calls run, for the linker to lay side by side.
//!
//! The kernel maps a program in pieces of 64 KiB around what runs. Functions that run are a fifth of the
//! program's code; in the order of the compiler they lie in three quarters of all pieces.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;
use crate::profile::{ALONE, Subject, under_callgrind, until_open};
use crate::run::process::{Client, Server, pause};
use crate::run::rows::{HOLDFAST, Place};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// The file that the program's build script reads.
    #[arg(long)]
    write: PathBuf,
}

/// Calls of each kind, and how many more the next time. What takes less than an instruction more for each
/// does not run in all.
const CALLS: u64 = 50;
/// The plainest calls, and those that are usual as well.
pub(crate) const LOADS: [&str; 5] = [
    "",
    "--keyed",
    "--mode stream --tokens 5",
    "--dialect anthropic",
    "--dialect anthropic --mode stream --tokens 5",
];

/// In this time all that is done by a clock is done.
const TICKS: Duration = Duration::from_secs(15);

const HEAD: &str = "\
# The functions that run in plain calls, those of the start, and those of other usual calls: side by side in
# the program, so that the rest of it is never mapped. Written by `benches/order`; build.rs hands them to the
# linker. The stars stand for hashes, which are others with another compiler. A name that is not there does
# no harm.
";

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    let (place, _vendor) = args.subject.with_vendor()?;
    let [few, many] = [
        run(&place, &LOADS[..1], CALLS)?,
        run(&place, &LOADS[..1], 2 * CALLS)?,
    ];
    let all = run(&place, &LOADS, CALLS)?;
    let (mut calls, mut start) = (BTreeSet::new(), BTreeSet::new());
    for (name, cost) in &many {
        let more = cost.saturating_sub(few.get(name).copied().unwrap_or_default());
        let group = if more >= CALLS {
            &mut calls
        } else {
            &mut start
        };
        group.insert(pattern(name));
    }
    start.retain(|name| !calls.contains(name));
    let others = all.keys().map(|name| pattern(name));
    let others = others
        .filter(|name| !calls.contains(name) && !start.contains(name))
        .collect();
    let groups = [calls, start, others];
    let mut text = HEAD.to_owned();
    for group in &groups {
        text.push('\n');
        text.extend(group.iter().map(|name| format!("{name}\n")));
    }
    fs::write(&args.write, text)?;
    println!(
        "{:?} functions of plain calls, the start, other calls",
        groups.map(|group| group.len())
    );
    Ok(())
}

/// The program's functions that ran, by their symbols, and their instructions.
fn run(place: &Place, loads: &[&str], calls: u64) -> Result<HashMap<String, u64>, Error> {
    let directory = HOLDFAST.directory(place)?;
    let (holdfast, port) = HOLDFAST.command(place, &ALONE, &directory)?;
    let out = place
        .directory
        .join(format!("callgrind.{calls}.{}", loads.len()));
    let mut command = under_callgrind(&holdfast, &out, true);
    eprintln!(
        "a start and {calls} calls of {} kinds under valgrind",
        loads.len()
    );
    let server = Server::start(&mut command, port, &directory.join("log"))?;
    until_open(port)?;
    for load in loads {
        let load = format!("--connections 1 --calls {calls} {load}");
        Client::ready(port, &load)?.go(|| Ok(()))?;
    }
    pause(TICKS);
    server.finish()?;
    let text = fs::read_to_string(&out)?;
    Ok(functions(&text, holdfast.get_program().as_ref()))
}

/// Reads callgrind's format: under `ob=` and `fn=` lines of `line cost`; that after `calls=` is of the
/// function called. <https://valgrind.org/docs/manual/cl-format.html>
fn functions(text: &str, program: &Path) -> HashMap<String, u64> {
    let mut costs = HashMap::new();
    let (mut ours, mut function, mut called) = (false, "", false);
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = Path::new(object) == program;
        } else if let Some(name) = line.strip_prefix("fn=") {
            // Numbered where it calls itself.
            function = name.split('\'').next().unwrap_or(name);
        } else if line.starts_with("calls=") {
            called = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
            // `(below main)`, `0x12345`: they have no name for the linker.
            let has_name =
                function.starts_with(|first: char| first == '_' || first.is_alphabetic());
            if ours && has_name && !called {
                *costs.entry(function.to_owned()).or_default() += cost.unwrap_or(0);
            }
            called = false;
        }
    }
    costs
}

/// The symbol with a star for its hash and for the number of its copy: both are others with each build.
fn pattern(symbol: &str) -> String {
    let name = symbol.trim_end_matches(|last: char| last.is_ascii_digit());
    let name = name.strip_suffix('.').unwrap_or(symbol);
    let name = name.strip_suffix(".llvm").unwrap_or(name);
    match name.rsplit_once("17h") {
        Some((name, hash)) if name.starts_with("_ZN") && hash.len() == 17 => format!("{name}17h*"),
        _ if name.starts_with("_R") => format!("{name}*"),
        _ => symbol.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_what_they_took_alone() {
        let text = "events: Ir\nob=/bin/hf\nfl=a.rs\nfn=_ZN1a17h0123456789abcdefE\n1 10\n+2 5\n\
            cob=/lib/libc\ncfn=memcpy\ncalls=3 7\n9 100\n* 1\nfn=_ZN1a17h0123456789abcdefE'2\n4 4\n\
            ob=/lib/libc\nfn=memcpy\n7 100\n";
        let costs = functions(text, Path::new("/bin/hf"));
        assert_eq!(costs.len(), 1);
        assert_eq!(costs["_ZN1a17h0123456789abcdefE"], 20);
    }

    #[test]
    fn hashes_and_numbers_are_any() {
        let hash = "17h0123456789abcdefE";
        for symbol in ["", ".77", ".llvm.77"] {
            assert_eq!(pattern(&format!("_ZN1a{hash}{symbol}")), "_ZN1a17h*");
            assert_eq!(pattern(&format!("_RNv1a{symbol}")), "_RNv1a*");
        }
        assert_eq!(pattern("sqlite3VdbeExec"), "sqlite3VdbeExec");
        assert_eq!(pattern("columnIsGood.isra.0"), "columnIsGood.isra.0");
    }
}
