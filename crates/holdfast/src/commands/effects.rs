//! `holdfast effects`: side effects, from recording one to looking at what became of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use holdfast_core::run::moment::parse_span;
use serde_json::{Value, json};

use super::review::read;
use super::runs::{Page, list};
use crate::client::table::{facts, section, table};
use crate::client::words::{age, cell, text, when};
use crate::client::{Ask, Client, Connection, Error, Told, finish, pretty};

/// Send side effects through the gateway, and look at them
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
  holdfast effects list --state doubt
  holdfast effects show 019ab3c0f1e27d7c8a4b5c6d7e8f9a0b
  holdfast effects send crm --path /v1/notes --key note-4711 --payload '{\"text\": \"paid\"}'
  cat mail.json | holdfast effects send mail --key mail-4711 --payload -
  holdfast effects cancel ID

Exit status: 0 = done (or recorded, with `--no-wait`), 1 = refused, not found, failed or in doubt,
2 = the command line is wrong.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the effects, newest first
    List(List),
    /// Print one effect
    Show {
        /// The effect
        id: String,
        /// Wait so long for its end: `30s`
        #[arg(long, value_name = "TIME", value_parser = span)]
        wait: Option<Span>,
    },
    /// Cancel an effect that is not on its way yet
    Cancel {
        /// The effect
        id: String,
    },
    /// Record an effect, which the gateway then sends, once
    Send(Box<Send>),
}

#[derive(Debug, ClapArgs)]
struct List {
    /// Only in this state: `recorded`, `sending`, `done`, `failed`, `doubt`, `cancelled`
    #[arg(long)]
    state: Option<String>,
    /// Only to this target
    #[arg(long)]
    target: Option<String>,
    /// Only of this run
    #[arg(long)]
    run: Option<String>,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, ClapArgs)]
struct Send {
    /// The target, as the configuration names it
    target: String,
    /// What is sent: JSON, or else text; `-` reads it from standard input
    #[arg(
        long,
        value_name = "JSON",
        default_value = "null",
        allow_hyphen_values = true
    )]
    payload: String,
    /// A file with what is sent
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    file: Option<PathBuf>,
    /// The same key is the same effect: it is sent once [default: made from `--run` and `--step`]
    #[arg(long)]
    key: Option<String>,
    /// The method, where the target takes several
    #[arg(long)]
    method: Option<String>,
    /// The path behind the target's address
    #[arg(long)]
    path: Option<String>,
    /// A header that the target lets callers set; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// An exchange that must have ended whole; may be repeated
    #[arg(long, value_name = "EXCHANGE")]
    requires: Vec<String>,
    /// The run that it belongs to
    #[arg(long)]
    run: Option<String>,
    /// The step of the run
    #[arg(long, requires = "run")]
    step: Option<String>,
    /// Wait so long for its end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = span)]
    wait: Span,
    /// Do not wait: it is recorded, and sent whatever happens to this command
    #[arg(long)]
    no_wait: bool,
}

/// A time as it was written, and as it is.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) text: String,
    pub(super) time: Duration,
}

/// Reads `30s`, `10m`.
pub(super) fn span(text: &str) -> Result<Span, String> {
    parse_span(text).map(|time| Span {
        text: text.trim().to_owned(),
        time,
    })
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("a header is written `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(crate) fn run(args: &Args) -> ExitCode {
    finish(tell(args))
}

fn tell(args: &Args) -> Told {
    let client = args.connection.client()?;
    match &args.verb {
        Verb::List(list) => show_list(&client, list, args.json),
        Verb::Show { id, wait } => {
            let mut ask = Ask::get(&["effects", id]);
            if let Some(wait) = wait {
                ask = ask.param("wait", Some(&wait.text)).waiting(wait.time);
            }
            let effect = client.ask(&ask)?;
            Ok(show(&effect, args.json))
        }
        Verb::Cancel { id } => {
            let effect = client.ask(&Ask::post(&["effects", id, "cancel"], json!({})))?;
            Ok(if args.json {
                pretty(&effect)
            } else {
                format!("{} is {}\n", cell(&effect["id"]), cell(&effect["state"]))
            })
        }
        Verb::Send(send) => ended(&submit(&client, send)?, args.json),
    }
}

fn submit(client: &Client, send: &Send) -> Result<Value, Error> {
    let payload = match (&send.file, send.payload.as_str()) {
        (Some(path), _) => read(path)?,
        (None, "-") => read("-".as_ref())?,
        (None, text) => text.to_owned(),
    };
    let payload = serde_json::from_str(&payload).unwrap_or(Value::String(payload));
    let mut body = json!({"target": send.target, "payload": payload});
    for (name, value) in [
        ("key", &send.key),
        ("method", &send.method),
        ("path", &send.path),
    ] {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    if !send.header.is_empty() {
        body["headers"] = send
            .header
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
    }
    if !send.requires.is_empty() {
        body["requires"] = send.requires.clone().into();
    }
    let mut ask = Ask::post(&["effects"], body)
        .header("holdfast-run", send.run.as_deref())
        .header("holdfast-step", send.step.as_deref());
    ask = if send.no_wait {
        ask.header("prefer", Some("respond-async"))
    } else {
        ask.param("wait", Some(&send.wait.text))
            .waiting(send.wait.time)
    };
    client.ask(&ask)
}

/// Prints an effect that was sent. One that did not come about is no success.
fn ended(effect: &Value, as_json: bool) -> Told {
    let (id, state) = (cell(&effect["id"]), cell(&effect["state"]));
    let why = text(&effect["error"]).map_or_else(String::new, |why| format!(": {why}"));
    let told = show(effect, as_json);
    let failed = match state.as_str() {
        "failed" | "cancelled" => format!("effect `{id}` is {state}{why}"),
        "doubt" => format!(
            "nobody knows whether effect `{id}` happened{why}\nhelp: look at the target, then `holdfast review effect {} done|not-done|send-again`",
            cell(&effect["ticket"])
        ),
        _ => return Ok(told),
    };
    crate::printer::data(&told);
    Err(Error::Failed(failed))
}

fn show(effect: &Value, as_json: bool) -> String {
    if as_json {
        return pretty(effect);
    }
    let mut out = facts(&[
        ("effect", text(&effect["id"])),
        ("state", text(&effect["state"])),
        ("target", text(&effect["target"])),
        ("key", text(&effect["key"])),
        ("caller", text(&effect["scope"])),
        ("run", text(&effect["run"])),
        ("step", text(&effect["step"])),
        ("requires", text(&effect["requires"])),
        ("attempts", text(&effect["attempts"])),
        ("due", when(&effect["due"])),
        ("recorded", when(&effect["created"])),
        ("changed", when(&effect["updated"])),
        ("error", text(&effect["error"])),
        ("ticket", text(&effect["ticket"])),
        ("status", text(&effect["result"]["status"])),
    ]);
    let body = &effect["result"]["body"];
    if text(body).is_some() {
        out.push_str(&section("result", body));
    }
    out
}

fn show_list(client: &Client, wanted: &List, as_json: bool) -> Told {
    let ask = Ask::get(&["effects"])
        .param("state", wanted.state.as_deref())
        .param("target", wanted.target.as_deref())
        .param("run", wanted.run.as_deref());
    let answer = client.ask(&wanted.page.on(ask))?;
    if as_json {
        return Ok(pretty(&answer));
    }
    let row = |effect: &Value| {
        vec![
            cell(&effect["id"]),
            cell(&effect["state"]),
            age(&effect["created"]),
            cell(&effect["target"]),
            cell(&effect["key"]),
        ]
    };
    Ok(list(
        &answer,
        "effects",
        "no effects",
        |rows| table(&["ID", "STATE", "AGE", "TARGET", "KEY"], rows),
        row,
    ))
}
