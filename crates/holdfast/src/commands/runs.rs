//! `holdfast runs`: the runs of workflows, and what happened in them.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::client::table::{facts, table};
use crate::client::words::{age, cell, text, when};
use crate::client::{Ask, Client, Connection, Told, finish, pretty};
use crate::printer;

/// Look at runs and their timelines
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
    /// Print what the gateway answers, as JSON
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  holdfast runs list --state orphaned
  holdfast runs show invoice-4711
  holdfast runs show invoice-4711 --json | jq '.steps[] | select(.state == \"failed\")'
  holdfast runs end invoice-4711 failed

Exit status: 0 = done, 1 = refused or not found, 2 = the command line is wrong.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the runs, newest first
    List {
        /// Only in this state: `open`, `done`, `failed`, `orphaned`
        #[arg(long)]
        state: Option<String>,
        /// Only of this caller
        #[arg(long)]
        scope: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Print one run with everything that happened in it
    Show {
        /// The run
        run: String,
        /// The caller that it belongs to, where it is not your own
        #[arg(long)]
        scope: Option<String>,
    },
    /// End a run
    End {
        /// The run
        run: String,
        /// How it ended
        state: Ending,
        /// The caller that it belongs to, where it is not your own
        #[arg(long)]
        scope: Option<String>,
    },
}

/// Which part of a list.
#[derive(Debug, ClapArgs)]
pub(super) struct Page {
    /// The most rows, 1 to 500
    #[arg(long, value_name = "ROWS", default_value_t = 50,
          value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Go on behind this one: what the list before named at its end
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ending {
    Done,
    Failed,
}

impl Page {
    /// The request for it.
    pub(super) fn on(&self, ask: Ask) -> Ask {
        ask.param("limit", Some(self.limit))
            .param("after", self.after.as_deref())
    }
}

/// A list as a table; says on standard error how to go on where there is more.
pub(super) fn list(
    answer: &Value,
    name: &str,
    empty: &str,
    draw: impl Fn(&[Vec<String>]) -> String,
    row: impl Fn(&Value) -> Vec<String>,
) -> String {
    let rows: Vec<Vec<String>> = answer[name]
        .as_array()
        .into_iter()
        .flatten()
        .map(row)
        .collect();
    if let Some(next) = text(&answer["next"]) {
        printer::say(&format!("there is more: `--after {next}`"));
    }
    if rows.is_empty() {
        printer::say(empty.trim_end());
        return String::new();
    }
    draw(&rows)
}

pub(crate) fn run(args: &Args) -> ExitCode {
    finish(tell(args))
}

fn tell(args: &Args) -> Told {
    let client = args.connection.client()?;
    match &args.verb {
        Verb::List { state, scope, page } => {
            let ask = Ask::get(&["runs"])
                .param("state", state.as_deref())
                .param("scope", scope.as_deref());
            show_list(&client, &page.on(ask), args.json)
        }
        Verb::Show { run, scope } => {
            let ask = Ask::get(&["runs", run]).param("scope", scope.as_deref());
            let answer = client.ask(&ask)?;
            Ok(if args.json {
                pretty(&answer)
            } else {
                shown(&answer)
            })
        }
        Verb::End { run, state, scope } => {
            let word = match state {
                Ending::Done => "done",
                Ending::Failed => "failed",
            };
            let ask = Ask::post(&["runs", run, "end"], json!({"state": word}))
                .param("scope", scope.as_deref());
            let answer = client.ask(&ask)?;
            Ok(if args.json {
                pretty(&answer)
            } else {
                format!("{} is {}\n", cell(&answer["id"]), cell(&answer["state"]))
            })
        }
    }
}

fn show_list(client: &Client, ask: &Ask, as_json: bool) -> Told {
    let answer = client.ask(ask)?;
    if as_json {
        return Ok(pretty(&answer));
    }
    let row = |run: &Value| {
        vec![
            cell(&run["state"]),
            age(&run["created"]),
            age(&run["seen"]),
            cell(&run["scope"]),
            cell(&run["id"]),
        ]
    };
    Ok(list(
        &answer,
        "runs",
        "no runs",
        |rows| table(&["STATE", "AGE", "SEEN", "CALLER", "RUN"], rows),
        row,
    ))
}

fn shown(run: &Value) -> String {
    let mut out = facts(&[
        ("run", text(&run["id"])),
        ("state", text(&run["state"])),
        ("caller", text(&run["scope"])),
        ("labels", text(&run["labels"])),
        ("began", when(&run["created"])),
        ("last seen", when(&run["seen"])),
        ("ended", when(&run["ended"])),
        ("deadline", when(&run["deadline"])),
        ("heartbeat", text(&run["heartbeat"])),
        ("expected", text(&run["expect"])),
        ("missing", text(&run["missing"])),
        ("ticket", text(&run["ticket"])),
    ]);
    let entries = run["timeline"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = entries
        .map(|entry| {
            let when = when(&entry["at"]).unwrap_or_default();
            let about = [text(&entry["text"]), text(&entry["id"])];
            let about: Vec<String> = about.into_iter().flatten().collect();
            vec![
                // The day stands above.
                when.get(11..).unwrap_or_default().to_owned(),
                cell(&entry["kind"]),
                cell(&entry["step"]),
                about.join("  "),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&table(&["TIME", "WHAT", "STEP", ""], &rows));
    }
    if run["cut"] == true {
        printer::say("the run has more than is shown here; ask for its parts");
    }
    out
}
