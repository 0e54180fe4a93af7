//! What is open in one choice of an answer.
//!
//! The dialect has no blocks, so they are made here: text, thinking and refusal follow each other,
//! one open at a time; tool calls stay open side by side until the finish reason.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::tools::Tools;
use super::{garbage, shape};
use crate::borrowed::or_empty;
use crate::turn::{Block, Delta, Event};

/// One choice of the answer.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) index: u32,
    /// The finish reason came.
    pub(super) finished: bool,
    /// A tool call was opened.
    pub(super) called: bool,
    /// The model declined in words.
    pub(super) refused: bool,
    prose: Option<(Prose, u32)>,
    tools: Tools,
}

/// The kinds of block of which one is open at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Prose {
    Text,
    Thinking,
    Refusal,
}

/// Hands out the neutral index of the next block.
#[derive(Debug, Default)]
pub(super) struct Counter(u32);

// === impl Counter ===

impl Counter {
    pub(super) fn next(&mut self) -> u32 {
        let index = self.0;
        self.0 = self.0.saturating_add(1);
        index
    }
}

// === impl Prose ===

impl Prose {
    pub(super) fn opening(self, text: Cow<'_, str>) -> Block<'_> {
        match self {
            Self::Text => Block::Text { text },
            Self::Thinking => Block::Thinking {
                thinking: text,
                signature: Cow::Borrowed(""),
            },
            Self::Refusal => Block::Refusal { text },
        }
    }

    fn delta(self, text: Cow<'_, str>) -> Delta<'_> {
        match self {
            Self::Text => Delta::Text(text),
            Self::Thinking => Delta::Thinking(text),
            Self::Refusal => Delta::Refusal(text),
        }
    }
}

// === impl Choice ===

impl Choice {
    pub(super) fn new(index: u32) -> Self {
        Self {
            index,
            ..Self::default()
        }
    }

    /// Reads all that a delta brings: what is said, then the tool calls.
    pub(super) fn delta(
        &mut self,
        delta: shape::Delta<'_>,
        counter: &mut Counter,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let calls = delta.calls();
        delta.each(&mut |kind, text| self.prose(kind, text, counter, sink));
        match calls {
            Ok(calls) => calls.for_each(|call| self.tool(call, counter, sink)),
            Err(why) => sink(garbage(why)),
        }
    }

    /// Whether every client gathers the tool calls of this delta as we do.
    pub(super) fn is_by_the_book(&mut self, delta: &shape::Delta<'_>) -> bool {
        let Ok(calls) = delta.tool_calls() else {
            return true;
        };
        let mut coming = 0;
        for call in calls {
            let function = call.function.as_ref();
            if !function.is_none_or(shape::Function::has_text_arguments) {
                return false;
            }
            let id = or_empty(call.id);
            let name = or_empty(call.function.and_then(|function| function.name));
            if !self.tools.is_by_the_book(call.index, &id, &name, coming) {
                return false;
            }
            coming += usize::from(self.tools.find(call.index, &id, &name).is_none());
        }
        true
    }

    /// Grows the open block of this kind, or opens one. An empty piece opens nothing.
    fn prose(
        &mut self,
        kind: Prose,
        text: Cow<'_, str>,
        counter: &mut Counter,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        if text.is_empty() {
            return;
        }
        if self.finished {
            return sink(garbage("text after the finish reason"));
        }
        let index = match self.prose {
            Some((open, index)) if open == kind => index,
            _ => self.open_prose(kind, counter, sink),
        };
        sink(Event::Delta {
            index,
            delta: kind.delta(text),
        });
    }

    fn open_prose(
        &mut self,
        kind: Prose,
        counter: &mut Counter,
        sink: &mut impl FnMut(Event<'_>),
    ) -> u32 {
        self.close_prose(sink);
        let index = counter.next();
        self.prose = Some((kind, index));
        self.refused |= kind == Prose::Refusal;
        sink(Event::BlockStart {
            index,
            choice: self.index,
            block: kind.opening(Cow::Borrowed("")),
        });
        index
    }

    /// Grows the tool call that this delta means, or opens one.
    fn tool(
        &mut self,
        call: shape::ToolCall<'_>,
        counter: &mut Counter,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let arguments = call.function.as_ref().and_then(shape::Function::arguments);
        let id = or_empty(call.id);
        let name = or_empty(call.function.and_then(|function| function.name));
        if self.finished {
            return sink(garbage("tool call after the finish reason"));
        }
        if self.tools.find(call.index, &id, &name).is_none() {
            let block = match call.custom {
                Some(custom) => free_text_call(custom),
                None if name.is_empty() => return sink(garbage("tool call without a name")),
                None if self.tools.is_full() => return sink(garbage("too many tool calls")),
                None => Block::Tool {
                    id: Cow::Borrowed(&id),
                    name: Cow::Borrowed(&name),
                    input: None,
                },
            };
            self.close_prose(sink);
            self.called = true;
            let index = counter.next();
            self.tools.open(call.index, &id, &name, index);
            sink(Event::BlockStart {
                index,
                choice: self.index,
                block,
            });
        } else if let (Some(custom), Some(tool)) =
            (call.custom, self.tools.find(call.index, &id, &name))
        {
            sink(Event::Delta {
                index: tool.block,
                delta: Delta::Opaque {
                    kind: Cow::Borrowed("custom"),
                    raw: Cow::Borrowed(custom.get()),
                },
            });
        }
        self.arguments(call.index, (&id, &name), arguments, sink);
    }

    fn arguments(
        &mut self,
        wire_index: Option<u32>,
        (id, name): (&str, &str),
        arguments: Option<Cow<'_, str>>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let arguments = arguments.filter(|json| !json.is_empty());
        let (Some(json), Some(tool)) = (arguments, self.tools.find(wire_index, id, name)) else {
            return;
        };
        tool.grow(&json);
        sink(Event::Delta {
            index: tool.block,
            delta: Delta::Arguments(json),
        });
    }

    /// Closes whatever is open.
    pub(super) fn close(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        self.close_prose(sink);
        for index in self.tools.close() {
            sink(Event::BlockStop { index });
        }
    }

    fn close_prose(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        if let Some((_, index)) = self.prose.take() {
            sink(Event::BlockStop { index });
        }
    }
}

/// A call of a free-text tool: its input is no JSON, so it is none of our tool calls.
pub(super) fn free_text_call(custom: &RawValue) -> Block<'_> {
    Block::Opaque {
        kind: Cow::Borrowed("custom"),
        raw: Cow::Borrowed(custom.get()),
        partial_input: false,
    }
}
