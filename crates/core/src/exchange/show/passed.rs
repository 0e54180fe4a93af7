//! What passed unchanged of a leg, so that a writer can go on in the middle of it.
//!
//! A server may number its tool calls in a way that SDKs gather wrongly, and that is seen only when
//! the second call comes. From then on the leg is written anew, and the writer must know the blocks
//! that the caller has seen: it is told of them here, and what it writes of that is thrown away.

use bytes::BytesMut;
use holdfast_wire::answer::{Shown, WriterOptions};
use holdfast_wire::turn::{Block, Delta, Dialect, Event};

use crate::exchange::speech::Writer;

/// What passed unchanged.
#[derive(Debug, Default)]
pub(super) struct Passed {
    options: WriterOptions,
    blocks: Vec<Passing>,
}

#[derive(Debug)]
struct Passing {
    source: u32,
    choice: u32,
    kind: Kind,
    /// Something of the arguments came.
    begun: bool,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Text,
    Thinking,
    Refusal,
    Tool,
    Other,
}

impl Passed {
    pub(super) fn new(options: WriterOptions) -> Self {
        Self {
            options,
            blocks: Vec::new(),
        }
    }

    /// Takes note of an event that passes unchanged. Only an opening allocates.
    pub(super) fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::BlockStart {
                index,
                choice,
                block,
            } => self.blocks.push(Passing {
                source: *index,
                choice: *choice,
                kind: Kind::of(block),
                begun: false,
                closed: false,
            }),
            Event::Delta {
                index,
                delta: Delta::Arguments(json),
            } => {
                if let Some(block) = self.block(*index) {
                    block.begun |= !json.trim_ascii().is_empty();
                }
            }
            Event::BlockStop { index } => {
                if let Some(block) = self.block(*index) {
                    block.closed = true;
                }
            }
            _ => {}
        }
    }

    /// A writer for a caller who has seen all that passed.
    pub(super) fn writer(&mut self, dialect: Dialect, shown: &Shown) -> Writer {
        let mut options = std::mem::take(&mut self.options);
        if shown.started && !shown.id.is_empty() {
            options.id.clone_from(&shown.id);
        }
        if shown.started && !shown.model.is_empty() {
            options.model.clone_from(&shown.model);
        }
        let mut writer = Writer::resume(dialect, options, Shown::default());
        let mut known = BytesMut::new();
        if shown.started {
            writer.event(
                &Event::Start {
                    id: shown.id.as_str().into(),
                    model: shown.model.as_str().into(),
                },
                &mut known,
            );
        }
        for block in &self.blocks {
            block.tell(&mut writer, &mut known);
        }
        writer.event(&Event::Usage(shown.usage), &mut known);
        writer
    }

    fn block(&mut self, source: u32) -> Option<&mut Passing> {
        self.blocks
            .iter_mut()
            .rev()
            .find(|block| block.source == source)
    }
}

impl Passing {
    fn tell(&self, writer: &mut Writer, known: &mut BytesMut) {
        let index = self.source;
        writer.event(
            &Event::BlockStart {
                index,
                choice: self.choice,
                block: self.kind.opening(),
            },
            known,
        );
        if self.begun {
            let delta = Delta::Arguments("{".into());
            writer.event(&Event::Delta { index, delta }, known);
        }
        if self.closed {
            writer.event(&Event::BlockStop { index }, known);
        }
    }
}

impl Kind {
    fn of(block: &Block<'_>) -> Self {
        match block {
            Block::Text { .. } => Self::Text,
            Block::Thinking { .. } => Self::Thinking,
            Block::Refusal { .. } => Self::Refusal,
            Block::Tool { .. } => Self::Tool,
            Block::RedactedThinking { .. } | Block::Opaque { .. } => Self::Other,
        }
    }

    /// A block of this kind without content.
    fn opening(self) -> Block<'static> {
        match self {
            Self::Text => Block::Text { text: "".into() },
            Self::Thinking => Block::Thinking {
                thinking: "".into(),
                signature: "".into(),
            },
            Self::Refusal => Block::Refusal { text: "".into() },
            Self::Tool => Block::Tool {
                id: "".into(),
                name: "".into(),
                input: None,
            },
            Self::Other => Block::RedactedThinking { data: "".into() },
        }
    }
}
