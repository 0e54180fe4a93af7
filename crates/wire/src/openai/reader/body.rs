//! Reads a whole completion: a non-streaming body.
//!
//! It gives the events of the stream that would have carried it, each block whole in its opening. A
//! body that is no completion says what it is instead.

use std::borrow::Cow;

use super::choice::{Choice, Prose, free_text_call};
use super::{Reader, shape};
use crate::borrowed::{Few, Json, Text, or_empty};
use crate::turn::{Block, Event};
use crate::vendor_error;

impl Reader {
    /// Reads a non-streaming 200 body: the events of the same answer as a stream, ending with
    /// [`Event::End`]; one [`Event::Error`] for an error under 200; else one [`Event::Garbage`].
    pub fn body(&mut self, body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let text = match vendor_error::readable(body) {
            Ok(text) => text,
            Err(why) => return sink(super::garbage(why)),
        };
        let Ok(chunk) = shape::Chunk::read(text) else {
            return sink(vendor_error::no_answer(text));
        };
        if let Some(error) = chunk.error.filter(|error| vendor_error::is_truthy(error)) {
            return sink(Event::Error(vendor_error::read(error)));
        }
        match chunk.choices {
            Some(choices) => self.completion(chunk.id, chunk.model, choices, chunk.usage, sink),
            None => sink(vendor_error::no_answer(text)),
        }
    }

    /// Start, the blocks of all choices, usage, the stops, the end.
    fn completion(
        &mut self,
        id: Option<Text<'_>>,
        model: Option<Text<'_>>,
        choices: Few<shape::Choice<'_>>,
        usage: Option<Json<'_>>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        self.started = true;
        sink(Event::Start {
            id: or_empty(id),
            model: or_empty(model),
        });
        let mut stops = Vec::with_capacity(choices.len());
        for choice in choices {
            let mut state = Choice::new(choice.index.unwrap_or(0));
            if let Some(error) = choice.error.filter(|error| vendor_error::is_truthy(error)) {
                sink(Event::Error(vendor_error::read(error)));
            }
            if let Some(message) = choice.message {
                self.message(&mut state, *message, sink);
            }
            if let Some(Text(said)) = choice.finish_reason.filter(|said| !said.0.is_empty()) {
                stops.push(state.stop(said, choice.stop_reason));
            }
        }
        if let Some(usage) = shape::Usage::read(usage) {
            sink(Event::Usage(usage));
        }
        stops.into_iter().for_each(&mut *sink);
        self.ended = true;
        sink(Event::End);
    }

    fn message(
        &mut self,
        state: &mut Choice,
        message: shape::Delta<'_>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let calls = message.calls();
        // Parts of one kind in a row are one block, as they would be in a stream.
        let mut prose: Vec<(Prose, Cow<'_, str>)> = Vec::new();
        message.each(&mut |kind, text| match prose.last_mut() {
            Some((last, known)) if *last == kind => *known += text,
            _ if text.is_empty() => {}
            _ => prose.push((kind, text)),
        });
        for (kind, text) in prose {
            state.refused |= kind == Prose::Refusal;
            self.whole_block(state, kind.opening(text), sink);
        }
        let calls = match calls {
            Ok(calls) => calls,
            Err(why) => return sink(super::garbage(why)),
        };
        for call in calls {
            state.called = true;
            let block = match (call.custom, call.function) {
                (Some(custom), _) => free_text_call(custom),
                (None, function) => whole_call(or_empty(call.id), function),
            };
            self.whole_block(state, block, sink);
        }
    }

    fn whole_block(&mut self, state: &Choice, block: Block<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let index = self.blocks.next();
        sink(Event::BlockStart {
            index,
            choice: state.index,
            block,
        });
        sink(Event::BlockStop { index });
    }
}

/// A whole tool call always has its input: none is written `{}`.
fn whole_call<'a>(id: Cow<'a, str>, function: Option<shape::Function<'a>>) -> Block<'a> {
    let arguments = function.as_ref().and_then(shape::Function::arguments);
    Block::Tool {
        id,
        name: or_empty(function.and_then(|function| function.name)),
        input: arguments
            .filter(|json| !json.trim_ascii().is_empty())
            .or(Some(Cow::Borrowed("{}"))),
    }
}
