//! Reads an answer of the Chat dialect, or of a server that imitates it, into neutral events.
//!
//! A [`Reader`] is fed the frames of one stream in order, or one whole body. It makes the blocks that
//! the dialect does not have and undoes the deviations of compatible servers (wire facts, 1.7 and
//! 6); whether the answer is whole is the judge's business. Every frame gives at least one event,
//! [`Event::Ping`] if it brought nothing new. A text delta without escapes is read without allocating.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::borrowed::{Text, WRONG_SHAPE, or_empty, why_not};
use crate::openai::stop::{judged_with, stop_kind};
use crate::sse;
use crate::stencil::{Stencil, Trace};
use crate::turn::{Event, Stop, StopKind};
use crate::vendor_error;

mod body;
mod choice;
mod quick;
mod shape;
mod tools;

use choice::{Choice, Counter};

pub(crate) use tools::Tools;

pub use crate::vendor_error::error_body;

/// The most choices of one answer: the dialect's own limit on `n`.
const MAX_CHOICES: usize = 128;

/// Reads one answer. Feed it the answer's frames in order by [`frame`](Self::frame), or its whole
/// body once by [`body`](Self::body).
#[derive(Debug, Default)]
pub struct Reader {
    choices: Vec<Choice>,
    blocks: Counter,
    started: bool,
    ended: bool,
    stencil: Stencil,
}

// === impl Reader ===

impl Reader {
    /// Reads the next frame of the stream; gives `sink` one event or more.
    pub fn frame(&mut self, frame: &sse::Frame, sink: &mut impl FnMut(Event<'_>)) {
        match (frame.data(), frame.event()) {
            (Some(data), event) => self.data(event, &data, sink),
            (None, Some(b"error")) => sink(garbage("event without data")),
            (None, _) => sink(Event::Ping),
        }
    }

    /// Whether every client will gather the tool calls of this frame, passed on unchanged, as this
    /// reader does. Servers number them in ways of their own (wire facts, section 6, trap 3), and
    /// SDKs go by the index alone. Ask before [`frame`](Self::frame) is given it.
    pub fn is_by_the_book(&mut self, frame: &sse::Frame) -> bool {
        let Some(data) = frame.data() else {
            return true;
        };
        if self.stencil.read(&data).is_some()
            || memchr::memmem::find(&data, b"tool_calls").is_none()
        {
            return true;
        }
        // What can't be read is an error or garbage, and never passed on.
        let Ok(chunk) = serde_json::from_slice::<shape::Chunk<'_>>(&data) else {
            return true;
        };
        let choices = chunk.choices.unwrap_or_default();
        choices.into_iter().all(|choice| {
            let Some(delta) = &choice.delta else {
                return true;
            };
            match self.find(choice.index.unwrap_or(0)) {
                Some(at) => self.choices[at].is_by_the_book(delta),
                None => true,
            }
        })
    }

    /// Reads the joined `data` of a frame and the frame's `event` name, if it had one: only `error`
    /// means something.
    pub fn data(
        &mut self,
        event_name: Option<&[u8]>,
        data: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) {
        if event_name.is_none()
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
        if self.ended {
            return sink(garbage("event after [DONE]"));
        }
        if event_name == Some(b"error") {
            return sink(Event::Error(vendor_error::named(text)));
        }
        // The Python SDK stops at anything that begins so, the Node SDK at exactly this.
        if text.starts_with("[DONE]") {
            self.ended = true;
            return sink(Event::End);
        }
        match shape::Chunk::read(text) {
            Ok(chunk) => self.chunk(chunk, text, sink),
            Err(_) => sink(unreadable(text)),
        }
    }

    fn chunk(&mut self, chunk: shape::Chunk<'_>, text: &str, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(error) = chunk.error.filter(|error| vendor_error::is_truthy(error)) {
            return sink(Event::Error(vendor_error::read(error)));
        }
        let id = or_empty(chunk.id);
        if chunk.choices.is_none() && chunk.usage.is_none() && id.is_empty() {
            return sink(stranger(chunk.object, text));
        }
        let mut silent = true;
        let mut heard = |event: Event<'_>| {
            silent = false;
            sink(event);
        };
        let choices = chunk.choices.unwrap_or_default();
        // Azure's first chunk has neither; the name comes with the next one.
        let named = !id.is_empty() || !choices.is_empty();
        if named && !self.started {
            self.started = true;
            heard(Event::Start {
                id,
                model: or_empty(chunk.model),
            });
        }
        for choice in choices {
            self.choice(choice, &mut heard);
        }
        if let Some(usage) = shape::Usage::read(chunk.usage) {
            heard(Event::Usage(usage));
        }
        if silent {
            sink(Event::Ping);
        }
    }

    fn choice(&mut self, choice: shape::Choice<'_>, sink: &mut impl FnMut(Event<'_>)) {
        if choice.message.is_some() {
            return sink(garbage("a whole message in a stream"));
        }
        let Some(at) = self.find(choice.index.unwrap_or(0)) else {
            return sink(garbage("too many choices"));
        };
        let state = &mut self.choices[at];
        if let Some(delta) = choice.delta {
            state.delta(delta, &mut self.blocks, sink);
        }
        if let Some(error) = choice.error.filter(|error| vendor_error::is_truthy(error)) {
            return sink(Event::Error(vendor_error::read(error)));
        }
        // Some servers send "" where the book has null.
        let Some(Text(said)) = choice.finish_reason.filter(|said| !said.0.is_empty()) else {
            return;
        };
        if state.finished {
            return sink(garbage("second finish reason"));
        }
        state.finished = true;
        state.close(sink);
        sink(state.stop(said, choice.stop_reason));
    }

    /// The place of the choice with this index; `None` if it would be one too many.
    fn find(&mut self, index: u32) -> Option<usize> {
        let known = self.choices.iter().position(|choice| choice.index == index);
        if known.is_none() && self.choices.len() < MAX_CHOICES {
            self.choices.push(Choice::new(index));
            return Some(self.choices.len() - 1);
        }
        known
    }
}

// === impl Choice ===

impl Choice {
    /// The stop of this choice, judged by its word and by what the choice held.
    fn stop<'a>(&self, said: Cow<'a, str>, stop_reason: Option<&'a RawValue>) -> Event<'a> {
        let sequence = stop_reason
            .and_then(|raw| serde_json::from_str::<Text<'_>>(raw.get()).ok())
            .map(|text| text.0);
        let kind = match judged_with(stop_kind(&said), self.called, self.refused) {
            StopKind::EndTurn if sequence.is_some() => StopKind::StopSequence,
            kind => kind,
        };
        Event::Stop {
            choice: self.index,
            stop: Stop {
                kind,
                said,
                sequence,
                details: None,
            },
        }
    }
}

/// A JSON object that is no chunk: an error in another shape (vLLM once sent its error flat, as an
/// object named `error`), something new that names itself, or garbage.
fn stranger<'a>(object: Option<Text<'a>>, text: &'a str) -> Event<'a> {
    match or_empty(object) {
        kind if !kind.is_empty() && kind != "error" => Event::Unknown { kind },
        _ => match error_body(text.as_bytes()) {
            Some(error) => Event::Error(error),
            None => garbage("not a chunk"),
        },
    }
}

/// Data that is no chunk: an error in another shape, or garbage.
fn unreadable(text: &str) -> Event<'_> {
    match why_not(text) {
        why @ WRONG_SHAPE => match error_body(text.as_bytes()) {
            Some(error) => Event::Error(error),
            None => garbage(why),
        },
        why => garbage(why),
    }
}

fn garbage(why: &'static str) -> Event<'static> {
    Event::Garbage { why }
}
