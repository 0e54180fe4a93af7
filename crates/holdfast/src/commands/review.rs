//! `holdfast review`: the review queue, from the terminal.

mod watch;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::client::table::{facts, plain, section, table};
use crate::client::words::{age, cell, text, when};
use crate::client::{Ask, Client, Connection, Error, Told, finish, pretty};

/// How long a call that is made once more may take: a vendor's whole answer.
const CALL: Duration = Duration::from_mins(20);

/// Look at the review queue, and decide what lies in it
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
  holdfast review list --state open
  holdfast review show 019ab3c0f1e27d7c8a4b5c6d7e8f9a0b
  holdfast review claim ID --for 10m --by ana     # prints the fence that the decision takes
  holdfast review answer ID --fence 3 --text 'The invoice is paid.'
  cat answer.txt | holdfast review answer ID --text -
  holdfast review retry ID --target anthropic/claude-sonnet-4-5
  holdfast review effect ID not-done --note 'not in the bank statement'
  holdfast review watch --json | jq .kind

Exit status: 0 = done, 1 = refused or not found, 2 = the command line is wrong.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the tickets, newest first
    List(List),
    /// Print one ticket with everything needed to decide it
    Show {
        /// The ticket
        id: String,
    },
    /// Take a ticket for a while, so that nobody else decides it
    Claim {
        /// The ticket
        id: String,
        /// How long: `30s`, `10m`, `2h` [default: the gateway's `review.claim`]
        #[arg(long = "for", value_name = "TIME")]
        span: Option<String>,
        #[command(flatten)]
        hand: Hand,
    },
    /// Give a claimed ticket back
    Release {
        /// The ticket
        id: String,
        /// The number that the claim printed
        #[arg(long, value_name = "NUMBER")]
        fence: i64,
    },
    /// Answer a call by hand; its caller gets the answer at the next repeat
    Answer(Answer),
    /// Make the call once more, now
    Retry {
        /// The ticket
        id: String,
        /// Ask this target (`provider/model`) and no other
        #[arg(long)]
        target: Option<String>,
        #[command(flatten)]
        hand: Hand,
    },
    /// Refuse the call; its caller is told the reason
    Reject {
        /// The ticket
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        hand: Hand,
    },
    /// Make a choice: of an approval, or `done`, `failed`, `resume` for a run that went quiet
    Choose {
        /// The ticket
        id: String,
        /// One of the choices that `show` prints
        choice: String,
        #[command(flatten)]
        noted: Noted,
    },
    /// Say what became of an effect in doubt
    Effect {
        /// The ticket
        id: String,
        /// What you found when you looked
        outcome: Outcome,
        #[command(flatten)]
        noted: Noted,
    },
    /// Do nothing more about a ticket
    Close {
        /// The ticket
        id: String,
        #[command(flatten)]
        noted: Noted,
    },
    /// Follow what happens, event by event
    Watch(watch::Args),
}

#[derive(Debug, ClapArgs)]
struct List {
    /// Only this kind: `call`, `effect`, `gate`, `approval`, `run`
    #[arg(long)]
    kind: Option<String>,
    /// Only in this state: `open`, `claimed`, `retrying`, `resolved`, `expired`
    #[arg(long)]
    state: Option<String>,
    /// Only of this route
    #[arg(long)]
    route: Option<String>,
    /// Only of this run
    #[arg(long)]
    run: Option<String>,
    /// Only of this caller
    #[arg(long)]
    scope: Option<String>,
    #[command(flatten)]
    page: super::runs::Page,
}

#[derive(Debug, ClapArgs)]
struct Hand {
    /// The number that the claim printed, where the ticket is claimed
    #[arg(long, value_name = "NUMBER")]
    fence: Option<i64>,
    /// Who decides, as it is written down
    #[arg(long, value_name = "NAME", env = "HOLDFAST_BY")]
    by: Option<String>,
}

#[derive(Debug, ClapArgs)]
struct Noted {
    /// Kept with the decision
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    hand: Hand,
}

#[derive(Debug, ClapArgs)]
struct Answer {
    /// The ticket
    id: String,
    #[command(flatten)]
    words: Words,
    #[command(flatten)]
    hand: Hand,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
struct Words {
    /// The answer's text; `-` reads it from standard input
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// A file with the answer's text
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A file with a whole answer as JSON of the call's dialect; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    /// It happened
    Done,
    /// It did not happen, and is not wanted any more
    NotDone,
    /// It did not happen: send it once more
    SendAgain,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    finish(tell(args))
}

fn tell(args: &Args) -> Told {
    let client = args.connection.client()?;
    let (id, verb, body) = match &args.verb {
        Verb::List(list) => return show_list(&client, list, args.json),
        Verb::Show { id } => return show_one(&client, id, args.json),
        Verb::Watch(watch) => return watch::run(&client, watch, args.json),
        Verb::Claim { id, span, hand } => {
            let mut body = hand.body();
            put(&mut body, "for", span.as_deref());
            (id, "claim", body)
        }
        Verb::Release { id, fence } => (id, "release", json!({"fence": fence})),
        Verb::Answer(answer) => (&answer.id, "answer", answer.body()?),
        Verb::Retry { id, target, hand } => {
            let mut body = hand.body();
            put(&mut body, "target", target.as_deref());
            return retry(&client, id, body, args.json);
        }
        Verb::Reject { id, reason, hand } => {
            let mut body = hand.body();
            put(&mut body, "reason", Some(reason));
            (id, "reject", body)
        }
        Verb::Choose { id, choice, noted } => {
            let mut body = noted.body();
            put(&mut body, "choice", Some(choice));
            (id, "choose", body)
        }
        Verb::Effect { id, outcome, noted } => {
            let mut body = noted.body();
            put(&mut body, "outcome", Some(outcome.word()));
            (id, "effect", body)
        }
        Verb::Close { id, noted } => (id, "close", noted.body()),
    };
    let answer = client.ask(&Ask::post(&["tickets", id, verb], body))?;
    Ok(if args.json {
        pretty(&answer)
    } else {
        done(verb, id, &answer)
    })
}

impl Hand {
    fn body(&self) -> Value {
        let mut body = json!({});
        put(&mut body, "by", self.by.as_deref());
        if let Some(fence) = self.fence {
            body["fence"] = fence.into();
        }
        body
    }
}

impl Noted {
    fn body(&self) -> Value {
        let mut body = self.hand.body();
        put(&mut body, "note", self.note.as_deref());
        body
    }
}

impl Answer {
    fn body(&self) -> Result<Value, Error> {
        let mut body = self.hand.body();
        let Words {
            text,
            file,
            body: whole,
        } = &self.words;
        if let Some(path) = whole {
            let read = read(path)?;
            body["body"] = serde_json::from_str(&read).map_err(|error| {
                Error::Usage(format!("`{}` is no JSON: {error}", path.display()))
            })?;
        } else if let Some(path) = file {
            body["text"] = read(path)?.into();
        } else if let Some(text) = text {
            body["text"] = match text.as_str() {
                "-" => read(Path::new("-"))?.into(),
                text => text.into(),
            };
        }
        Ok(body)
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotDone => "not_done",
            Self::SendAgain => "send_again",
        }
    }
}

fn put(body: &mut Value, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        body[name] = value.into();
    }
}

/// A file's text; `-` = standard input.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        return match std::io::stdin().read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(Error::Usage(format!(
                "standard input can't be read: {error}"
            ))),
        };
    }
    std::fs::read_to_string(path)
        .map_err(|error| Error::Usage(format!("`{}` can't be read: {error}", path.display())))
}

fn show_list(client: &Client, list: &List, as_json: bool) -> Told {
    let ask = Ask::get(&["tickets"])
        .param("kind", list.kind.as_deref())
        .param("state", list.state.as_deref())
        .param("route", list.route.as_deref())
        .param("run", list.run.as_deref())
        .param("scope", list.scope.as_deref());
    let answer = client.ask(&list.page.on(ask))?;
    if as_json {
        return Ok(pretty(&answer));
    }
    let row = |ticket: &Value| {
        vec![
            cell(&ticket["id"]),
            cell(&ticket["kind"]),
            cell(&ticket["state"]),
            age(&ticket["created"]),
            cell(&ticket["title"]),
        ]
    };
    Ok(super::runs::list(
        &answer,
        "tickets",
        "no tickets: nothing waits for anybody\n",
        |rows| table(&["ID", "KIND", "STATE", "AGE", "TITLE"], rows),
        row,
    ))
}

fn show_one(client: &Client, id: &str, as_json: bool) -> Told {
    let ticket = client.ask(&Ask::get(&["tickets", id]))?;
    Ok(if as_json {
        pretty(&ticket)
    } else {
        shown(&ticket)
    })
}

fn shown(ticket: &Value) -> String {
    let claim = text(&ticket["claimed_by"]).map(|by| {
        let until = when(&ticket["claim_until"]).unwrap_or_default();
        format!("{by}, until {until}")
    });
    let decided = text(&ticket["decision"]).map(|decision| {
        let by = text(&ticket["decided_by"]).unwrap_or_default();
        let at = when(&ticket["decided_at"]).unwrap_or_default();
        format!("{decision}; by {by}, {at}")
    });
    let mut out = facts(&[
        ("ticket", text(&ticket["id"])),
        ("kind", text(&ticket["kind"])),
        ("state", text(&ticket["state"])),
        ("title", text(&ticket["title"])),
        ("caller", text(&ticket["scope"])),
        ("route", text(&ticket["route"])),
        ("run", text(&ticket["run"])),
        ("step", text(&ticket["step"])),
        ("key", text(&ticket["key"])),
        ("about", text(&ticket["subject"])),
        ("opened", when(&ticket["created"])),
        ("expires", when(&ticket["expires"])),
        ("retried", text(&ticket["retry"])),
        ("attempts", text(&ticket["attempts"])),
        ("last", text(&ticket["reason"])),
        ("claimed by", claim),
        ("decided", decided),
        ("can be", text(&ticket["fits"])),
    ]);
    for name in ["facts", "content", "answer"] {
        let value = &ticket[name];
        let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        if !is_empty {
            out.push_str(&section(name, value));
        }
    }
    out
}

fn retry(client: &Client, id: &str, body: Value, as_json: bool) -> Told {
    let ask = Ask::post(&["tickets", id, "retry"], body).waiting(CALL);
    let answer = client.ask(&ask)?;
    let is_answered = answer["answered"] == true;
    match (is_answered, as_json) {
        (true, true) => Ok(pretty(&answer)),
        (true, false) => Ok(done("retry", id, &answer)),
        (false, _) => {
            let why = text(&answer["reason"]).or_else(|| text(&answer["ticket"]["reason"]));
            let why = why.unwrap_or_else(|| "the vendors failed again".to_owned());
            Err(Error::Failed(format!(
                "not answered: {why}\nhelp: the ticket is open again; `holdfast review answer {id}` answers it by hand"
            )))
        }
    }
}

/// What a decision has brought, in a line or two.
fn done(verb: &str, id: &str, answer: &Value) -> String {
    let line = match verb {
        "claim" => {
            let by = text(&answer["by"]).unwrap_or_else(|| "you".to_owned());
            let until = when(&answer["until"]).unwrap_or_default();
            let fence = cell(&answer["fence"]);
            format!(
                "claimed by {by} until {until}\nfence {fence}: decide with `--fence {fence}`, or give it back with `holdfast review release {id} --fence {fence}`"
            )
        }
        "release" => format!("{id} is open again"),
        _ => {
            let consequence = text(&answer["consequence"]).map(|word| word.replace('_', " "));
            let state = text(&answer["ticket"]["state"]).unwrap_or_else(|| "decided".to_owned());
            match consequence {
                Some(consequence) => format!("{id} is {state}: {consequence}"),
                None => format!("{id} is {state}"),
            }
        }
    };
    format!("{}\n", plain(&line))
}
