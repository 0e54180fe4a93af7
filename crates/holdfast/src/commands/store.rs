//! `holdfast store`: checks, copies and describes what is kept, where no gateway is running on it.
//!
//! SQLite belongs to one process at a time: while a gateway runs, the file is its own, and these
//! commands say so. PostgreSQL can be asked at any time. What is sealed is not opened here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args as ClapArgs, Parser, Subcommand};
use holdfast_config::checked::{StorePlace, StoreTerms};
use holdfast_config::load;
use holdfast_store::{Counts, Error, Options, Place, Status, Store};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{USAGE, env, fail};
use crate::client::pretty;
use crate::client::table::facts;
use crate::client::words::when;
use crate::printer;

/// Check, copy and describe what is kept
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    which: Which,
}

const EXAMPLES: &str = "\
Examples:
  holdfast store check --config holdfast.yaml
  holdfast store backup /backups/holdfast-2026-11-24.db --config holdfast.yaml
  holdfast store status --json

SQLite: `backup` works while the gateway does; for `check` and `status` end it first, or check the copy.
PostgreSQL: `check` and `status` at any time; copies are for `pg_dump`.

Exit status: 0 = sound, or done; 1 = damaged, or it can't be opened; 2 = the configuration is wrong.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Look for damage, in the file and in what belongs together
    Check,
    /// Copy the database to a new file
    Backup {
        /// Where to; there must be no such file yet
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Say how much is kept, and how the store is doing
    Status,
}

#[derive(Debug, ClapArgs)]
struct Which {
    /// The configuration file, whose `store` it is
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "holdfast.yaml",
        env = "HOLDFAST_CONFIG",
        global = true
    )]
    config: PathBuf,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What a command found: what is printed, and whether all is well.
struct Found {
    text: String,
    sound: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let terms = match load(&args.which.config, &env) {
        Ok(loaded) => loaded.config.store,
        Err(rejected) => {
            printer::say(&rejected.render(printer::color()));
            return ExitCode::from(USAGE);
        }
    };
    let Some(terms) = terms else {
        return fail("the configuration says `store: none`: nothing is kept");
    };
    if let StorePlace::Sqlite(path) = &terms.place
        && !path.exists()
    {
        // Opening would make it.
        return fail(&format!(
            "there is no store at `{}` yet\nhelp: the first `holdfast serve` makes it",
            path.display()
        ));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    match work(args, &terms, &runtime) {
        Ok(found) => {
            printer::data(&found.text);
            if found.sound {
                ExitCode::SUCCESS
            } else {
                fail(
                    "the store is damaged\nhelp: restore a backup, or move the file away and begin anew",
                )
            }
        }
        Err(error) => fail(&format!("{error}{}", help(&error))),
    }
}

fn work(args: &Args, terms: &StoreTerms, runtime: &Runtime) -> Result<Found, Error> {
    runtime.block_on(async {
        if let (Verb::Backup { to }, StorePlace::Sqlite(from)) = (&args.verb, &terms.place) {
            let to = absolute(to);
            let bytes = Store::copy_file(from, &to).await?;
            return Ok(copied(&to, bytes, args.which.json));
        }
        let store = Store::open(options(terms), runtime.handle().clone()).await?;
        let found = look(args, &store).await;
        store.close().await;
        found
    })
}

async fn look(args: &Args, store: &Store) -> Result<Found, Error> {
    let as_json = args.which.json;
    match &args.verb {
        Verb::Check => store.check().await.map(|damage| checked(&damage, as_json)),
        Verb::Backup { to } => {
            let to = absolute(to);
            let bytes = store.backup(to.clone()).await?;
            Ok(copied(&to, bytes, as_json))
        }
        Verb::Status => {
            let counts = store.counts().await?;
            Ok(described(&store.status(), &counts, as_json))
        }
    }
}

fn options(terms: &StoreTerms) -> Options {
    let place = match &terms.place {
        StorePlace::Sqlite(path) => Place::Sqlite(path.clone()),
        StorePlace::Postgres(url) => Place::Postgres(url.expose().to_owned()),
    };
    Options {
        connections: 2,
        timeout: terms.timeout,
        lease: terms.lease,
        ..Options::new(place)
    }
}

/// A database's own working directory is not always ours.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn help(error: &Error) -> &'static str {
    match error {
        Error::Locked(_) => {
            "\nhelp: a gateway is running on it: end that first, or look at a copy (`holdfast store backup FILE` \
             works meanwhile)"
        }
        Error::NewerSchema { .. } => "\nhelp: use the newer Holdfast",
        Error::Corrupt(_) => "\nhelp: restore a backup, or move the file away and begin anew",
        Error::Unavailable(_)
        | Error::Full(_)
        | Error::Busy
        | Error::TooLarge { .. }
        | Error::Internal(_) => "",
    }
}

fn checked(damage: &[String], as_json: bool) -> Found {
    let sound = damage.is_empty();
    let text = if as_json {
        pretty(&json!({"sound": sound, "damage": damage}))
    } else if sound {
        "sound\n".to_owned()
    } else {
        format!("{}\n", damage.join("\n"))
    };
    Found { text, sound }
}

fn copied(to: &Path, bytes: u64, as_json: bool) -> Found {
    let text = if as_json {
        pretty(&json!({"file": to.display().to_string(), "bytes": bytes}))
    } else {
        format!("wrote {}, {bytes} bytes\n", to.display())
    };
    Found { text, sound: true }
}

fn described(status: &Status, counts: &Counts, as_json: bool) -> Found {
    let tickets: Value = counts
        .tickets
        .iter()
        .map(|(kind, count)| (kind.as_str().to_owned(), Value::from(*count)))
        .collect();
    let effects: Value = counts
        .effects
        .iter()
        .map(|(state, count)| (state.as_str().to_owned(), Value::from(*count)))
        .collect();
    let shown = json!({
        "kind": status.kind,
        "schema": status.schema,
        "healthy": status.healthy,
        "keys": counts.keys,
        "tickets": tickets,
        "oldest_ticket": counts.oldest_ticket.map(|at| at.0),
        "effects": effects,
        "open_runs": counts.open_runs,
        "orphaned_runs": counts.orphaned_runs,
        "open_approvals": counts.open_approvals,
        "processes": counts.owners,
        "events": counts.events,
    });
    let text = if as_json {
        pretty(&shown)
    } else {
        let text = crate::client::words::text;
        facts(&[
            ("store", text(&shown["kind"])),
            ("schema", text(&shown["schema"])),
            ("keys", text(&shown["keys"])),
            (
                "open tickets",
                text(&shown["tickets"]).or_else(|| Some("none".to_owned())),
            ),
            ("oldest ticket", when(&shown["oldest_ticket"])),
            (
                "open effects",
                text(&shown["effects"]).or_else(|| Some("none".to_owned())),
            ),
            ("open runs", text(&shown["open_runs"])),
            ("orphaned runs", text(&shown["orphaned_runs"])),
            ("open approvals", text(&shown["open_approvals"])),
            // This command is one of them.
            ("processes", text(&shown["processes"])),
            ("last event", text(&shown["events"])),
        ])
    };
    Found { text, sound: true }
}
