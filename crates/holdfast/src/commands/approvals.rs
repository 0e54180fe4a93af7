//! `holdfast approvals`: questions that workflows ask people; a script can ask one and wait.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, Parser, Subcommand};
use serde_json::{Value, json};

use super::effects::{Span, span};
use super::runs::{Page, list};
use crate::client::table::{facts, plain, section, table};
use crate::client::words::{age, cell, text, when};
use crate::client::{Ask, Client, Connection, Error, Told, finish, pretty};

/// The longest that one request waits; more is waited for with several.
const POLL: Duration = Duration::from_secs(30);

/// Ask people, and answer what workflows ask
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
  holdfast approvals list --state open
  holdfast approvals decide ID approve --note 'checked with Ben' --by ana
  holdfast approvals ask 'Send 40 invoices?' --key batch-17 --wait 8h
  choice=$(holdfast approvals ask 'Which?' --choice red --choice blue --wait 1h)

`ask --wait` prints the choice and nothing else. A question with a `--key` is asked once, however often
the script runs.

Exit status: 0 = done, 1 = refused, not found, or not decided in time, 2 = the command line is wrong.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the questions, newest first
    List {
        /// Only in this state: `open`, `decided`, `expired`
        #[arg(long)]
        state: Option<String>,
        /// Only of this run
        #[arg(long)]
        run: Option<String>,
        /// Only of this caller
        #[arg(long)]
        scope: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Print one question with its context
    Show {
        /// The approval
        id: String,
        /// Wait so long for the decision: `10m`
        #[arg(long, value_name = "TIME", value_parser = span)]
        wait: Option<Span>,
    },
    /// Decide
    Decide {
        /// The approval
        id: String,
        /// One of its choices
        choice: String,
        /// Kept with the decision
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Who decides, as it is written down
        #[arg(long, value_name = "NAME", env = "HOLDFAST_BY")]
        by: Option<String>,
        /// The number that the claim of its ticket printed, where that is claimed
        #[arg(long, value_name = "NUMBER")]
        fence: Option<i64>,
    },
    /// Ask
    Ask(Box<Asked>),
}

#[derive(Debug, ClapArgs)]
struct Asked {
    /// The question
    question: String,
    /// A choice; may be repeated [default: `approve` and `reject`]
    #[arg(long = "choice", value_name = "CHOICE")]
    choices: Vec<String>,
    /// When it is too late: `2h`, or a moment as in RFC 3339
    #[arg(long, value_name = "WHEN")]
    deadline: Option<String>,
    /// Chosen at the deadline
    #[arg(long, value_name = "CHOICE", requires = "deadline")]
    default: Option<String>,
    /// What the person should know: JSON, or else text
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    /// The same key is the same question
    #[arg(long)]
    key: Option<String>,
    /// The run that it belongs to
    #[arg(long)]
    run: Option<String>,
    /// The step of the run
    #[arg(long, requires = "run")]
    step: Option<String>,
    /// Wait so long for the decision, and print the choice
    #[arg(long, value_name = "TIME", value_parser = span)]
    wait: Option<Span>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    finish(tell(args))
}

fn tell(args: &Args) -> Told {
    let client = args.connection.client()?;
    match &args.verb {
        Verb::List {
            state,
            run,
            scope,
            page,
        } => {
            let ask = Ask::get(&["approvals"])
                .param("state", state.as_deref())
                .param("run", run.as_deref())
                .param("scope", scope.as_deref());
            show_list(&client, &page.on(ask), args.json)
        }
        Verb::Show { id, wait } => {
            let longest = wait.as_ref().map_or(Duration::ZERO, |wait| wait.time);
            let approval = wait_for(&client, id, longest)?;
            Ok(show(&approval, args.json))
        }
        Verb::Decide {
            id,
            choice,
            note,
            by,
            fence,
        } => {
            let mut body = json!({"choice": choice});
            for (name, value) in [("note", note), ("by", by)] {
                if let Some(value) = value {
                    body[name] = value.as_str().into();
                }
            }
            if let Some(fence) = fence {
                body["fence"] = (*fence).into();
            }
            let approval = client.ask(&Ask::post(&["approvals", id, "decide"], body))?;
            Ok(if args.json {
                pretty(&approval)
            } else {
                let by = cell(&approval["decided_by"]);
                format!("{}, by {}\n", plain(&cell(&approval["choice"])), plain(&by))
            })
        }
        Verb::Ask(question) => ask(&client, question, args.json),
    }
}

fn ask(client: &Client, question: &Asked, as_json: bool) -> Told {
    let mut body = json!({"question": question.question});
    if !question.choices.is_empty() {
        body["choices"] = question.choices.clone().into();
    }
    for (name, value) in [
        ("deadline", &question.deadline),
        ("default", &question.default),
        ("key", &question.key),
    ] {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    if let Some(context) = &question.context {
        body["context"] =
            serde_json::from_str(context).unwrap_or_else(|_| Value::from(context.as_str()));
    }
    let asked = client.ask(
        &Ask::post(&["approvals"], body)
            .header("holdfast-run", question.run.as_deref())
            .header("holdfast-step", question.step.as_deref()),
    )?;
    let Some(wait) = &question.wait else {
        return Ok(if as_json {
            pretty(&asked)
        } else {
            format!("{}\n", cell(&asked["id"]))
        });
    };
    let id = cell(&asked["id"]);
    let decided = wait_for(client, &id, wait.time)?;
    if decided["state"] != "decided" {
        let state = cell(&decided["state"]);
        return Err(Error::Failed(format!(
            "approval `{id}` is {state}: nobody has decided\nhelp: the same command with the same `--key` goes on waiting"
        )));
    }
    Ok(if as_json {
        pretty(&decided)
    } else {
        format!("{}\n", plain(&cell(&decided["choice"])))
    })
}

/// The approval, as soon as it is decided or the time is over.
fn wait_for(client: &Client, id: &str, longest: Duration) -> Result<Value, Error> {
    let began = Instant::now();
    loop {
        let left = longest.saturating_sub(began.elapsed()).min(POLL);
        let mut ask = Ask::get(&["approvals", id]).waiting(left);
        if !left.is_zero() {
            let millis = left.as_millis().max(1);
            ask = ask.param("wait", Some(format!("{millis}ms")));
        }
        let asked = Instant::now();
        let approval = client.ask(&ask)?;
        if approval["state"] != "open" || began.elapsed() >= longest {
            return Ok(approval);
        }
        // A gateway that answers at once, because it goes down, is not asked again at once.
        if asked.elapsed() < left.min(Duration::from_millis(500)) {
            client.rest(Duration::from_millis(500));
        }
    }
}

fn show(approval: &Value, as_json: bool) -> String {
    if as_json {
        return pretty(approval);
    }
    let choice = text(&approval["choice"]).map(|choice| {
        let by = cell(&approval["decided_by"]);
        let at = when(&approval["decided_at"]).unwrap_or_default();
        format!("{choice}; by {by}, {at}")
    });
    let mut out = facts(&[
        ("approval", text(&approval["id"])),
        ("state", text(&approval["state"])),
        ("question", text(&approval["question"])),
        ("choices", text(&approval["choices"])),
        ("decided", choice),
        ("note", text(&approval["note"])),
        ("deadline", when(&approval["deadline"])),
        ("default", text(&approval["default"])),
        ("caller", text(&approval["scope"])),
        ("run", text(&approval["run"])),
        ("step", text(&approval["step"])),
        ("key", text(&approval["key"])),
        ("asked", when(&approval["created"])),
        ("ticket", text(&approval["ticket"])),
    ]);
    let context = &approval["context"];
    if !context.is_null() {
        out.push_str(&section("context", context));
    }
    out
}

fn show_list(client: &Client, ask: &Ask, as_json: bool) -> Told {
    let answer = client.ask(ask)?;
    if as_json {
        return Ok(pretty(&answer));
    }
    let row = |approval: &Value| {
        let choice =
            text(&approval["choice"]).map_or_else(String::new, |choice| format!("{choice}: "));
        vec![
            cell(&approval["id"]),
            cell(&approval["state"]),
            age(&approval["created"]),
            format!("{choice}{}", cell(&approval["question"])),
        ]
    };
    Ok(list(
        &answer,
        "approvals",
        "no approvals",
        |rows| table(&["ID", "STATE", "AGE", "QUESTION"], rows),
        row,
    ))
}
