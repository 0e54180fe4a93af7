//! Reads an answer of the Messages dialect into neutral events.
//!
//! A [`Reader`] is fed the frames of one stream in order, or one whole body. It keeps which blocks
//! are open, so that what the vendor could not legally say comes out as [`Event::Garbage`]; whether
//! the answer is whole is the judge's business. Every frame gives at least one event. A text delta
//! without escapes is read without allocating.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::anthropic::stop::stop_kind;
use crate::borrowed::{Text, WRONG_SHAPE, or_empty, why_not};
use crate::sse;
use crate::stencil::{Stencil, Trace};
use crate::turn::{Block, Delta, Event, Stop};
use crate::vendor_error;

mod body;
mod name;
mod shape;

pub use crate::vendor_error::error_body;
pub use name::with_event_name;

/// Reads one answer. Feed it the answer's frames in order by [`frame`](Self::frame), or its whole
/// body once by [`body`](Self::body).
#[derive(Debug, Default)]
pub struct Reader {
    /// Every block that was opened, by the vendor's index; `None` once it is closed.
    blocks: BTreeMap<u32, Option<Open>>,
    started: bool,
    stopped: bool,
    ended: bool,
    stencil: Stencil,
}

/// What kind of block is open, as far as it decides which deltas are legal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Open {
    Text,
    Thinking,
    Tool,
    Other,
}

// === impl Reader ===

impl Reader {
    /// Reads the next frame of the stream; gives `sink` one event or more.
    pub fn frame(&mut self, frame: &sse::Frame, sink: &mut impl FnMut(Event<'_>)) {
        match (frame.data(), frame.event()) {
            (Some(data), event) => self.data(event, &data, sink),
            (None, None | Some(b"ping")) => sink(Event::Ping),
            (None, Some(_)) => sink(garbage("event without data")),
        }
    }

    /// Reads the joined `data` of a frame and the frame's `event` name, if it had one.
    pub fn data(
        &mut self,
        event_name: Option<&[u8]>,
        data: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) {
        if event_name == Some(b"content_block_delta")
            && let Some(event) = self.stencil.read(data)
        {
            return sink(event);
        }
        let mut trace = Trace::default();
        self.parse(event_name, data, &mut |event| {
            trace.note(&event, data);
            sink(event);
        });
        self.stencil.learn(data, &trace);
    }

    /// As [`Self::data`], without a look at the frame before.
    pub(crate) fn parse(
        &mut self,
        event_name: Option<&[u8]>,
        data: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let Ok(text) = std::str::from_utf8(data) else {
            return sink(garbage("not UTF-8"));
        };
        let Ok(frame) = serde_json::from_str::<shape::Frame<'_>>(text) else {
            if event_name == Some(b"error") {
                return sink(Event::Error(vendor_error::named(text)));
            }
            return self.unreadable(text, sink);
        };
        let Some(Text(kind)) = &frame.kind else {
            // Imitators send the error of another dialect, or theirs without a type.
            if event_name == Some(b"error") || frame.error.is_some_and(vendor_error::is_truthy) {
                return sink(Event::Error(vendor_error::named(text)));
            }
            return sink(garbage("event without a type"));
        };
        if event_name.is_some_and(|name| name != kind.as_bytes()) {
            return sink(garbage("event name and type disagree"));
        }
        match kind.as_ref() {
            "content_block_delta" => self.block_delta(frame, text, sink),
            "ping" => sink(Event::Ping),
            "error" => sink(Event::Error(
                frame.error.map(vendor_error::read).unwrap_or_default(),
            )),
            "message_start"
            | "content_block_start"
            | "content_block_stop"
            | "message_delta"
            | "message_stop"
                if self.ended =>
            {
                sink(garbage("event after message_stop"));
            }
            "message_start" => self.message_start(&frame, sink),
            "content_block_start" => self.block_start(&frame, sink),
            "content_block_stop" => self.block_stop(frame.index, sink),
            "message_delta" => self.message_delta(frame, sink),
            "message_stop" => self.message_stop(sink),
            _ => sink(Event::Unknown { kind: kind.clone() }),
        }
    }

    fn message_start(&mut self, frame: &shape::Frame<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if self.started {
            return sink(garbage("second message_start"));
        }
        let message = frame
            .message
            .and_then(|raw| serde_json::from_str::<shape::Message<'_>>(raw.get()).ok());
        let Some(message) = message else {
            return sink(garbage("message_start without a message"));
        };
        self.message(message, sink);
    }

    fn block_start(&mut self, frame: &shape::Frame<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let (Some(index), Some(raw)) = (frame.index, frame.content_block) else {
            return sink(garbage("content_block_start without an index or a block"));
        };
        if !self.started {
            return sink(garbage("block before message_start"));
        }
        if self.stopped {
            return sink(garbage("block after the stop reason"));
        }
        if self.blocks.contains_key(&index) {
            return sink(garbage("second start of a block"));
        }
        match read_block(raw) {
            Ok((open, block)) => {
                self.blocks.insert(index, Some(open));
                sink(Event::BlockStart {
                    index,
                    choice: 0,
                    block,
                });
            }
            Err(why) => sink(garbage(why)),
        }
    }

    fn block_delta(&self, frame: shape::Frame<'_>, text: &str, sink: &mut impl FnMut(Event<'_>)) {
        let (Some(index), Some(delta)) = (frame.index, frame.delta) else {
            return sink(garbage("content_block_delta without an index or a delta"));
        };
        let open = match self.open_block(index) {
            Ok(open) => open,
            Err(why) => return sink(garbage(why)),
        };
        let (fits, delta) = match delta.kind.as_ref().map(|kind| kind.0.as_ref()) {
            Some("text_delta") => (Open::Text, delta.text.map(|text| Delta::Text(text.0))),
            Some("input_json_delta") => (
                Open::Tool,
                delta.partial_json.map(|json| Delta::Arguments(json.0)),
            ),
            Some("thinking_delta") => (
                Open::Thinking,
                delta.thinking.map(|text| Delta::Thinking(text.0)),
            ),
            Some("signature_delta") => (
                Open::Thinking,
                delta.signature.map(|text| Delta::Signature(text.0)),
            ),
            Some(_) => return opaque_delta(index, text, sink),
            None => return sink(garbage("delta without a type")),
        };
        match delta {
            None => sink(garbage("delta without its content")),
            Some(_) if open != fits && open != Open::Other => {
                sink(garbage("delta does not fit its block"));
            }
            Some(delta) => sink(Event::Delta { index, delta }),
        }
    }

    /// The open block that a delta may grow, or why there is none.
    fn open_block(&self, index: u32) -> Result<Open, &'static str> {
        if self.ended {
            return Err("event after message_stop");
        }
        if self.stopped {
            return Err("content after the stop reason");
        }
        match self.blocks.get(&index) {
            Some(Some(open)) => Ok(*open),
            Some(None) => Err("delta for a closed block"),
            None => Err("delta for a block that was never opened"),
        }
    }

    fn block_stop(&mut self, index: Option<u32>, sink: &mut impl FnMut(Event<'_>)) {
        let Some(index) = index else {
            return sink(garbage("content_block_stop without an index"));
        };
        match self.blocks.get_mut(&index) {
            Some(open @ Some(_)) => {
                *open = None;
                sink(Event::BlockStop { index });
            }
            Some(None) => sink(garbage("stop of a closed block")),
            None => sink(garbage("stop of a block that was never opened")),
        }
    }

    fn message_delta(&mut self, frame: shape::Frame<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if !self.started {
            return sink(garbage("message_delta before message_start"));
        }
        // Usage first: whoever acts on the stop has the counts by then.
        let usage = frame.usage;
        if let Some(usage) = usage {
            sink(Event::Usage(usage.into()));
        }
        match frame.delta {
            Some(shape::Delta {
                stop_reason: Some(said),
                stop_sequence,
                stop_details,
                ..
            }) => self.stop(said, stop_sequence, stop_details, sink),
            // A message_delta without news is no progress.
            _ if usage.is_none() => sink(Event::Ping),
            _ => {}
        }
    }

    fn stop<'a>(
        &mut self,
        said: Text<'a>,
        sequence: Option<Text<'a>>,
        details: Option<&'a RawValue>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        self.stopped = true;
        sink(Event::Stop {
            choice: 0,
            stop: Stop {
                kind: stop_kind(&said.0),
                said: said.0,
                sequence: sequence.map(|text| text.0),
                details: details.map(|raw| Cow::Borrowed(raw.get())),
            },
        });
    }

    fn message_stop(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        if !self.started {
            return sink(garbage("message_stop before message_start"));
        }
        self.ended = true;
        sink(Event::End);
    }

    /// Data that is no [`shape::Frame`]: an event of an unknown type may use our names in its own
    /// way, so may a delta; the rest is garbage.
    fn unreadable(&self, text: &str, sink: &mut impl FnMut(Event<'_>)) {
        let Ok(frame) = serde_json::from_str::<shape::RawFrame<'_>>(text) else {
            return sink(garbage(why_not(text)));
        };
        match or_empty(frame.kind).as_ref() {
            "content_block_delta" => {
                let index = frame.index.0.and_then(|index| u32::try_from(index).ok());
                match index.map(|index| (index, self.open_block(index))) {
                    Some((index, Ok(_))) => opaque_delta(index, text, sink),
                    Some((_, Err(why))) => sink(garbage(why)),
                    None => sink(garbage(WRONG_SHAPE)),
                }
            }
            ""
            | "ping"
            | "error"
            | "message_start"
            | "content_block_start"
            | "content_block_stop"
            | "message_delta"
            | "message_stop" => {
                sink(garbage(why_not(text)));
            }
            kind => sink(Event::Unknown { kind: kind.into() }),
        }
    }
}

/// Passes a delta of an unknown type on as it is; one of a known type that came here is malformed.
fn opaque_delta(index: u32, text: &str, sink: &mut impl FnMut(Event<'_>)) {
    let raw = serde_json::from_str::<shape::RawFrame<'_>>(text)
        .ok()
        .and_then(|frame| frame.delta);
    let kind = raw.and_then(|raw| {
        let delta: shape::Kind<'_> = serde_json::from_str(raw.get()).ok()?;
        Some(delta.kind?.0)
    });
    let (Some(raw), Some(kind)) = (raw, kind) else {
        return sink(garbage("delta without a type"));
    };
    match kind.as_ref() {
        "text_delta" | "input_json_delta" | "thinking_delta" | "signature_delta" => {
            sink(garbage(WRONG_SHAPE));
        }
        _ => sink(Event::Delta {
            index,
            delta: Delta::Opaque {
                kind,
                raw: Cow::Borrowed(raw.get()),
            },
        }),
    }
}

/// Reads a content block: what may follow, and the neutral block; or why it is none.
fn read_block(raw: &RawValue) -> Result<(Open, Block<'_>), &'static str> {
    let Ok(block) = serde_json::from_str::<shape::Block<'_>>(raw.get()) else {
        // A block of an unknown type may use our names in its own way.
        return match serde_json::from_str::<shape::Kind<'_>>(raw.get()) {
            Ok(shape::Kind { kind: Some(kind) }) if !is_ours(&kind.0) => Ok(opaque(kind.0, raw)),
            _ => Err("malformed content block"),
        };
    };
    let Some(Text(kind)) = block.kind else {
        return Err("content block without a type");
    };
    Ok(match kind.as_ref() {
        "text" => (
            Open::Text,
            Block::Text {
                text: or_empty(block.text),
            },
        ),
        "thinking" => (
            Open::Thinking,
            Block::Thinking {
                thinking: or_empty(block.thinking),
                signature: or_empty(block.signature),
            },
        ),
        "redacted_thinking" => (
            Open::Other,
            Block::RedactedThinking {
                data: or_empty(block.data),
            },
        ),
        "tool_use" => (
            Open::Tool,
            Block::Tool {
                id: or_empty(block.id),
                name: or_empty(block.name),
                input: block.input.map(|raw| Cow::Borrowed(raw.get())),
            },
        ),
        _ => opaque(kind, raw),
    })
}

fn is_ours(kind: &str) -> bool {
    matches!(kind, "text" | "thinking" | "redacted_thinking" | "tool_use")
}

fn opaque<'a>(kind: Cow<'a, str>, raw: &'a RawValue) -> (Open, Block<'a>) {
    let partial_input = matches!(kind.as_ref(), "server_tool_use" | "mcp_tool_use");
    let raw = Cow::Borrowed(raw.get());
    (
        Open::Other,
        Block::Opaque {
            kind,
            raw,
            partial_input,
        },
    )
}

fn garbage(why: &'static str) -> Event<'static> {
    Event::Garbage { why }
}
