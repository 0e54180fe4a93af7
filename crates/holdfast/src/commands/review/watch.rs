//! `holdfast review watch`: the gateway's events, one line each, for as long as somebody looks.
//!
//! A stream that is cut off is taken up again behind the last event that was seen.

use std::time::Duration;

use bytes::Bytes;
use clap::Args as ClapArgs;
use holdfast_wire::sse::Decoder;
use serde_json::Value;

use crate::client::table::{WIDTH, cut, line};
use crate::client::words::{cell, text, when};
use crate::client::{Ask, Client, Error, Told};
use crate::printer;

/// The longest event.
const LONGEST: usize = 16 << 20;
/// Before a stream that was cut off is opened again.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Begin behind this event's number; 0 = with the oldest that is kept [default: with the next one]
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Only events whose kind begins so: `ticket`, `effect.in_doubt`; may be repeated
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// End after so many events
    #[arg(long, value_name = "EVENTS")]
    count: Option<u64>,
}

/// What is shown, and how far it has come.
struct Watch<'a> {
    args: &'a Args,
    as_json: bool,
    /// The last event that was seen.
    after: Option<u64>,
    left: Option<u64>,
    /// Something came since the stream was opened.
    is_fresh: bool,
}

pub(super) fn run(client: &Client, args: &Args, as_json: bool) -> Told {
    let mut watch = Watch {
        args,
        as_json,
        after: args.after,
        left: args.count,
        is_fresh: false,
    };
    let mut rest = AGAIN;
    let mut is_open = false;
    loop {
        if watch.left == Some(0) {
            return Ok(String::new());
        }
        let cut_off = match watch.follow(client) {
            Ok(()) => "the gateway ended the stream".to_owned(),
            // What never worked is no interruption.
            Err(error) if !is_open && !watch.is_fresh => return Err(error),
            Err(error @ (Error::Usage(_) | Error::Refused { .. } | Error::Failed(_))) => {
                return Err(error);
            }
            Err(error) => error.to_string().lines().next().unwrap_or("").to_owned(),
        };
        if watch.left == Some(0) {
            return Ok(String::new());
        }
        is_open = true;
        rest = if watch.is_fresh {
            AGAIN
        } else {
            (rest * 2).min(AGAIN_MAX)
        };
        printer::say(&format!(
            "{}; coming back in {} s",
            line(&cut_off),
            rest.as_secs()
        ));
        client.rest(rest);
    }
}

impl Watch<'_> {
    /// One stream, to its end.
    fn follow(&mut self, client: &Client) -> Result<(), Error> {
        self.is_fresh = false;
        let mut decoder = Decoder::new(LONGEST);
        let ask = Ask::get(&["events"])
            .param("after", self.after)
            .header("accept", Some("text/event-stream"));
        client.follow(&ask, |bytes: Bytes| {
            decoder.push(bytes);
            loop {
                let frame = decoder
                    .next_frame()
                    .map_err(|error| Error::Failed(format!("the events can't be read: {error}")))?;
                let Some(frame) = frame else { return Ok(false) };
                self.is_fresh = true;
                if let Some(data) = frame.data()
                    && self.event(&data)?
                {
                    return Ok(true);
                }
            }
        })
    }

    /// Shows an event. `true` = enough.
    fn event(&mut self, data: &[u8]) -> Result<bool, Error> {
        let event: Value = serde_json::from_slice(data)
            .map_err(|error| Error::Failed(format!("an event can't be read: {error}")))?;
        self.after = event["seq"].as_u64().or(self.after);
        let kind = cell(&event["kind"]);
        let wanted = &self.args.kind;
        if !wanted.is_empty() && !wanted.iter().any(|wanted| kind.starts_with(wanted)) {
            return Ok(false);
        }
        printer::data(&if self.as_json {
            format!("{event}\n")
        } else {
            shown(&event)
        });
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(self.left == Some(0))
    }
}

/// When, what, which; and below it what it is about.
fn shown(event: &Value) -> String {
    let at = when(&event["at"]).unwrap_or_default();
    let first = format!(
        "{at}  {:<18}  {}",
        cell(&event["kind"]),
        cell(&event["subject"])
    );
    let data = &event["data"];
    let about = ["title", "question", "error", "reason", "target"];
    let about = about.iter().find_map(|name| text(&data[*name]));
    match about {
        Some(about) => {
            let about = cut(&line(&about), WIDTH - 4);
            format!("{}\n    {about}\n", line(&first))
        }
        None => format!("{}\n", line(&first)),
    }
}
