//! Reads a whole message: a non-streaming body, or what `message_start` begins with.
//!
//! A body gives the events of the stream that would have carried it, each block whole in its
//! opening. A body that is no message says what it is instead, because a 200 with an HTML page or an
//! error inside is one of the ways in which vendors fail.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Reader, garbage, read_block, shape};
use crate::borrowed::{Text, or_empty};
use crate::turn::{Block, Delta, Event};
use crate::vendor_error;

impl Reader {
    /// Reads a non-streaming 200 body: the events of the same answer as a stream, ending with
    /// [`Event::End`]; one [`Event::Error`] for an error under 200; else one [`Event::Garbage`].
    pub fn body(&mut self, body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let text = match vendor_error::readable(body) {
            Ok(text) => text,
            Err(why) => return sink(garbage(why)),
        };
        let Ok(message) = serde_json::from_str::<shape::Message<'_>>(text) else {
            return sink(vendor_error::no_answer(text));
        };
        if message.error.is_some_and(vendor_error::is_truthy) || is_kind(&message, "error") {
            return sink(Event::Error(
                vendor_error::error_body(text.as_bytes()).unwrap_or_default(),
            ));
        }
        if message.content.is_none() && message.kind.is_none() {
            return sink(vendor_error::no_answer(text));
        }
        let another_kind = message.kind.is_some() && !is_kind(&message, "message");
        if message.content.is_none() || another_kind {
            return sink(garbage("not a message"));
        }
        self.message(message, sink);
        self.ended = true;
        sink(Event::End);
    }

    /// Start, the blocks whole, usage, the stop if there is one.
    pub(super) fn message(
        &mut self,
        message: shape::Message<'_>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        self.started = true;
        sink(Event::Start {
            id: or_empty(message.id),
            model: or_empty(message.model),
        });
        for (index, raw) in (0..).zip(message.content.unwrap_or_default()) {
            self.whole_block(index, raw, sink);
        }
        if let Some(usage) = message.usage {
            sink(Event::Usage(usage.into()));
        }
        if let Some(said) = message.stop_reason {
            self.stop(said, message.stop_sequence, message.stop_details, sink);
        }
    }

    fn whole_block(&mut self, index: u32, raw: &RawValue, sink: &mut impl FnMut(Event<'_>)) {
        let block = match read_block(raw) {
            Ok((_, block)) => block,
            Err(why) => return sink(garbage(why)),
        };
        self.blocks.insert(index, None);
        let is_text = matches!(block, Block::Text { .. });
        sink(Event::BlockStart {
            index,
            choice: 0,
            block: with_input(block),
        });
        if is_text {
            citations(index, raw, sink);
        }
        sink(Event::BlockStop { index });
    }
}

/// A whole tool call always has its input.
fn with_input(block: Block<'_>) -> Block<'_> {
    match block {
        Block::Tool { id, name, input } => Block::Tool {
            id,
            name,
            input: Some(
                input
                    .filter(|json| json != "null")
                    .unwrap_or(Cow::Borrowed("{}")),
            ),
        },
        block => block,
    }
}

/// The citations of a whole text block, as the deltas that a stream would have carried.
fn citations(index: u32, raw: &RawValue, sink: &mut impl FnMut(Event<'_>)) {
    let Ok(block) = serde_json::from_str::<shape::Citations<'_>>(raw.get()) else {
        return;
    };
    for citation in block.citations.unwrap_or_default() {
        let raw = format!(r#"{{"type":"citations_delta","citation":{citation}}}"#);
        sink(Event::Delta {
            index,
            delta: Delta::Opaque {
                kind: Cow::Borrowed("citations_delta"),
                raw: Cow::Owned(raw),
            },
        });
    }
}

fn is_kind(message: &shape::Message<'_>, kind: &str) -> bool {
    matches!(&message.kind, Some(Text(said)) if said == kind)
}
