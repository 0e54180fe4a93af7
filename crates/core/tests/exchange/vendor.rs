//! Vendors that are simulated without I/O: what one call to them brings, and when.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::exchange::{Ask, Head, Send};
use holdfast_wire::turn::Dialect;

use crate::dice::Dice;
use crate::script::{Look, Script};

/// What happens to a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Happening {
    Connected,
    SendFailed,
    Untranslatable,
    Head(Head),
    Chunk(Bytes),
    End(Result<(), String>),
}

/// What happens, each so long after the call was sent. What does not end hangs.
pub(crate) type Feed = VecDeque<(Duration, Happening)>;

/// The ways in which a vendor fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    None,
    Unfit,
    Refuse,
    HangConnect,
    ResetBeforeHead,
    HangHead,
    Status(u16),
    StatusAfter(u16, u64),
    Empty,
    Html,
    JsonError,
    OddEncoding,
    Cut,
    Reset,
    Stall,
    PingsOnly,
    Garbage,
    InBandError,
    NoTerminal,
    NoStopReason,
    UnknownStop,
    OpenBlock,
    CutArguments,
    AfterTheEnd,
}

/// Faults after which the same request may go elsewhere.
pub(crate) const PASSING: [Fault; 26] = [
    Fault::Unfit,
    Fault::Refuse,
    Fault::HangConnect,
    Fault::ResetBeforeHead,
    Fault::HangHead,
    Fault::Status(401),
    Fault::Status(402),
    Fault::Status(404),
    Fault::Status(429),
    Fault::StatusAfter(429, 2),
    Fault::Status(500),
    Fault::StatusAfter(503, 100_000),
    Fault::Status(529),
    Fault::Empty,
    Fault::Html,
    Fault::JsonError,
    Fault::OddEncoding,
    Fault::Cut,
    Fault::Reset,
    Fault::Stall,
    Fault::PingsOnly,
    Fault::Garbage,
    Fault::InBandError,
    Fault::NoTerminal,
    Fault::NoStopReason,
    Fault::UnknownStop,
];

/// Faults that only some answers can have; the others are then answered well.
pub(crate) const SHAPED: [Fault; 2] = [Fault::OpenBlock, Fault::CutArguments];

struct Writer<'a> {
    at: Duration,
    step: Duration,
    feed: Feed,
    dice: &'a mut Dice,
}

impl Writer<'_> {
    fn push(&mut self, what: Happening) {
        self.feed.push_back((self.at, what));
        self.at += self.step * u32::try_from(self.dice.below(3)).unwrap();
    }

    fn head(&mut self, status: u16, kind: Option<&str>) {
        self.push(Happening::Head(Head {
            status,
            content_type: kind.map(str::to_owned),
            ..Head::default()
        }));
    }

    /// The bytes in chunks of any size.
    fn chunks(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = self.dice.of(&[7, 200, 4000]);
            let size = (1 + self.dice.below(most)).min(rest.len());
            self.push(Happening::Chunk(Bytes::copy_from_slice(&rest[..size])));
            rest = &rest[size..];
        }
    }

    fn end(mut self) -> Feed {
        self.push(Happening::End(Ok(())));
        self.feed
    }

    fn reset(mut self) -> Feed {
        self.push(Happening::End(Err("connection reset".into())));
        self.feed
    }
}

/// Where the text of the answer to `send` begins: a model that continues likes to repeat whole words.
fn begin_of(script: &Script, send: &Send, dice: &mut Dice) -> usize {
    let Ask::Continue { shown } = &send.ask else {
        return 0;
    };
    assert!(
        script.text.starts_with(shown.as_str()),
        "shown was {shown:?} of {:?}",
        script.text
    );
    let words = |at: &usize| *at == 0 || script.text[..*at].ends_with(' ');
    // Two words and more: a single one may be meant.
    let repeats = (0..shown.len().saturating_sub(20)).rev();
    let repeats = repeats
        .filter(|at| script.text.is_char_boundary(*at))
        .filter(words)
        .filter(|at| shown[*at..].trim().contains(' '));
    match dice.below(3) {
        0 => repeats.take(3).last().unwrap_or(shown.len()),
        _ => shown.len(),
    }
}

/// What this call brings.
pub(crate) fn answer(
    script: &Script,
    dialect: Dialect,
    send: &Send,
    fault: Fault,
    step: Duration,
    dice: &mut Dice,
) -> Feed {
    let look = Look::any(dice);
    let from = begin_of(script, send, dice);
    let mut out = Writer {
        at: Duration::ZERO,
        step,
        feed: Feed::new(),
        dice,
    };
    match fault {
        Fault::Unfit => {
            out.push(Happening::Untranslatable);
            return out.feed;
        }
        Fault::Refuse => {
            out.push(Happening::SendFailed);
            return out.feed;
        }
        Fault::HangConnect => return out.feed,
        _ => out.push(Happening::Connected),
    }
    let error = match dialect {
        Dialect::Anthropic => {
            r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#
        }
        Dialect::OpenAi => r#"{"error":{"message":"busy","type":"server_error","code":null}}"#,
    };
    match fault {
        Fault::ResetBeforeHead => {
            out.push(Happening::SendFailed);
            return out.feed;
        }
        Fault::HangHead => return out.feed,
        Fault::Status(status) | Fault::StatusAfter(status, _) => {
            let after = match fault {
                Fault::StatusAfter(_, seconds) => Some(Duration::from_secs(seconds)),
                _ => None,
            };
            out.push(Happening::Head(Head {
                status,
                retry_after: after,
                ..Head::default()
            }));
            out.chunks(error.as_bytes());
            return out.end();
        }
        Fault::Empty => {
            let kind = out
                .dice
                .of(&[None, Some("text/event-stream"), Some("application/json")]);
            out.head(200, kind);
            return out.end();
        }
        Fault::Html => {
            let kind = out
                .dice
                .of(&[None, Some("text/event-stream"), Some("text/html")]);
            out.head(200, kind);
            out.chunks(b"<!DOCTYPE html><html><body>Bad gateway</body></html>\n\n");
            return out.end();
        }
        Fault::JsonError => {
            let kind = out.dice.of(&[None, Some("application/json")]);
            out.head(200, kind);
            out.chunks(error.as_bytes());
            return out.end();
        }
        Fault::OddEncoding => {
            out.push(Happening::Head(Head {
                status: 200,
                encoding: Some("gzip".into()),
                ..Head::default()
            }));
            out.chunks(b"\x1f\x8b\x08");
            return out.end();
        }
        _ => {}
    }
    // Some servers answer a wish for a stream with a body.
    if !send.stream || out.dice.percent(4) {
        let kind = out.dice.of(&[None, Some("application/json")]);
        out.head(200, kind);
        return body(script, dialect, fault, from, out);
    }
    let kind = out
        .dice
        .of(&[None, Some("text/event-stream"), Some("text/event-stream")]);
    out.head(200, kind);
    let mut said = script.clone();
    if let (Fault::CutArguments, Some((_, arguments))) = (fault, said.calls.last_mut()) {
        arguments.pop();
    }
    stream(
        &said.frames(dialect, look, from),
        dialect,
        fault,
        error,
        out,
    )
}

fn body(script: &Script, dialect: Dialect, fault: Fault, from: usize, mut out: Writer<'_>) -> Feed {
    let body = script.body(dialect, from);
    let cut = out.dice.below(body.len());
    match fault {
        Fault::None | Fault::OpenBlock | Fault::CutArguments | Fault::AfterTheEnd => {
            out.chunks(body.as_bytes());
            out.end()
        }
        Fault::Stall | Fault::PingsOnly => {
            out.chunks(&body.as_bytes()[..cut]);
            out.feed
        }
        Fault::Reset => {
            out.chunks(&body.as_bytes()[..cut]);
            out.reset()
        }
        Fault::Garbage => {
            out.chunks(b"{\"what\": [}");
            out.end()
        }
        _ => {
            out.chunks(&body.as_bytes()[..cut]);
            out.end()
        }
    }
}

/// Whether the frame is the one that ends the answer, or tells why it stopped.
fn is_ending(dialect: Dialect, frame: &str) -> bool {
    match dialect {
        Dialect::Anthropic => frame.contains("\"message_stop\""),
        Dialect::OpenAi => frame.contains("\"finish_reason\":\"") || frame.contains("[DONE]"),
    }
}

fn stops(dialect: Dialect, frame: &str) -> bool {
    match dialect {
        Dialect::Anthropic => frame.contains("\"message_delta\""),
        Dialect::OpenAi => frame.contains("\"finish_reason\":\""),
    }
}

fn stream(
    frames: &[String],
    dialect: Dialect,
    fault: Fault,
    error: &str,
    mut out: Writer<'_>,
) -> Feed {
    let first_end = frames
        .iter()
        .position(|frame| is_ending(dialect, frame))
        .unwrap();
    // A place within the answer, before its end.
    let place = out.dice.below(first_end + 1);
    let before = frames[..place].concat();
    match fault {
        Fault::None | Fault::CutArguments => out.chunks(frames.concat().as_bytes()),
        Fault::Cut | Fault::Reset => {
            let whole = frames[..first_end].concat();
            let cut = out.dice.below(whole.len() + 1);
            out.chunks(&whole.as_bytes()[..cut]);
            return if fault == Fault::Cut {
                out.end()
            } else {
                out.reset()
            };
        }
        Fault::Stall => {
            out.chunks(before.as_bytes());
            return out.feed;
        }
        Fault::PingsOnly => {
            out.chunks(before.as_bytes());
            for second in 1..400 {
                out.at += Duration::from_secs(1);
                out.push(Happening::Chunk(match (dialect, second % 2) {
                    (Dialect::Anthropic, 0) => {
                        Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n")
                    }
                    _ => Bytes::from_static(b": still here\n\n"),
                }));
            }
            return out.feed;
        }
        Fault::Garbage => {
            out.chunks(before.as_bytes());
            let junk = out.dice.of(&[
                "data: {\"half\":\n\n",
                "data: \u{0}\n\n",
                "data: <html>\n\n",
            ]);
            out.chunks(junk.as_bytes());
            out.chunks(frames[place..].concat().as_bytes());
        }
        Fault::InBandError => {
            out.chunks(before.as_bytes());
            let name = if dialect == Dialect::Anthropic {
                "event: error\n"
            } else {
                ""
            };
            out.chunks(format!("{name}data: {error}\n\n").as_bytes());
        }
        Fault::NoTerminal => {
            // Chat needs no `[DONE]`, but a finish reason.
            out.chunks(frames[..first_end].concat().as_bytes());
        }
        Fault::NoStopReason => {
            let kept: Vec<&str> = frames
                .iter()
                .map(String::as_str)
                .filter(|frame| !stops(dialect, frame))
                .collect();
            out.chunks(kept.concat().as_bytes());
        }
        Fault::UnknownStop => {
            let mut all = frames.concat();
            for word in ["end_turn", "tool_use", "max_tokens", "refusal"] {
                all = all.replace(
                    &format!("\"stop_reason\":\"{word}\""),
                    "\"stop_reason\":\"novel\"",
                );
            }
            for word in ["stop", "tool_calls", "length", "content_filter"] {
                all = all.replace(
                    &format!("\"finish_reason\":\"{word}\""),
                    "\"finish_reason\":\"novel\"",
                );
            }
            out.chunks(all.as_bytes());
        }
        Fault::OpenBlock => {
            let kept: Vec<&str> = frames
                .iter()
                .map(String::as_str)
                .filter(|frame| !frame.contains("\"content_block_stop\""))
                .collect();
            out.chunks(kept.concat().as_bytes());
        }
        Fault::AfterTheEnd => {
            out.chunks(frames.concat().as_bytes());
            out.chunks(frames.concat().as_bytes());
        }
        other => unreachable!("{other:?} has no stream"),
    }
    out.end()
}
