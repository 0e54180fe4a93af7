//! One block of an answer, gathered from its opening and its deltas.

use std::borrow::Cow;

use super::NotWhole;
use crate::json;
use crate::turn::{Block, Delta, Event};

/// A block and how far it got.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) index: u32,
    pub(crate) choice: u32,
    pub(crate) content: Content,
    /// Deltas that are passed on as they are (citations, ...): kind and raw JSON.
    pub(crate) opaque: Vec<(String, String)>,
    pub(crate) closed: bool,
}

/// What a block holds so far.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    Redacted {
        data: String,
    },
    Tool {
        id: String,
        name: String,
        input: String,
    },
    Refusal {
        text: String,
    },
    Opaque {
        kind: String,
        raw: String,
        partial_input: bool,
        /// What came as deltas; replaces the `input` of `raw`.
        input: String,
    },
}

// === impl Piece ===

impl Piece {
    pub(crate) fn new(index: u32, choice: u32, block: &Block<'_>) -> Self {
        Self {
            index,
            choice,
            content: Content::new(block),
            opaque: Vec::new(),
            closed: false,
        }
    }

    /// Adds a delta. One that does not fit the block is passed over; the reader has told of it.
    pub(crate) fn grow(&mut self, delta: &Delta<'_>) {
        match (&mut self.content, delta) {
            (Content::Text { text }, Delta::Text(more))
            | (Content::Refusal { text }, Delta::Refusal(more)) => text.push_str(more),
            (Content::Thinking { thinking, .. }, Delta::Thinking(more)) => thinking.push_str(more),
            (Content::Thinking { signature, .. }, Delta::Signature(new)) => {
                signature.clear();
                signature.push_str(new);
            }
            (
                Content::Tool { input, .. } | Content::Opaque { input, .. },
                Delta::Arguments(more),
            ) => input.push_str(more),
            (_, Delta::Opaque { kind, raw }) => {
                self.opaque
                    .push((kind.clone().into_owned(), raw.clone().into_owned()));
            }
            _ => {}
        }
    }

    /// Refuses a block that must not be shown as a whole one.
    pub(crate) fn check(&self) -> Result<(), NotWhole> {
        let index = self.index;
        match &self.content {
            _ if !self.closed => Err(NotWhole::OpenBlock { index }),
            Content::Tool { input, .. } | Content::Opaque { input, .. }
                if !json::is_no_argument(input) && !json::is_value(input) =>
            {
                Err(NotWhole::Arguments { index })
            }
            _ => Ok(()),
        }
    }

    /// The block's events, whole in its opening.
    pub(crate) fn replay(&self, sink: &mut impl FnMut(Event<'_>)) {
        let index = self.index;
        sink(Event::BlockStart {
            index,
            choice: self.choice,
            block: self.content.block(),
        });
        if let Content::Opaque { input, .. } = &self.content
            && !input.is_empty()
        {
            sink(Event::Delta {
                index,
                delta: Delta::Arguments(Cow::Borrowed(input)),
            });
        }
        for (kind, raw) in &self.opaque {
            let (kind, raw) = (Cow::Borrowed(kind.as_str()), Cow::Borrowed(raw.as_str()));
            sink(Event::Delta {
                index,
                delta: Delta::Opaque { kind, raw },
            });
        }
        if self.closed {
            sink(Event::BlockStop { index });
        }
    }
}

// === impl Content ===

impl Content {
    fn new(block: &Block<'_>) -> Self {
        match block {
            Block::Text { text } => Self::Text {
                text: text.to_string(),
            },
            Block::Thinking {
                thinking,
                signature,
            } => Self::Thinking {
                thinking: thinking.to_string(),
                signature: signature.to_string(),
            },
            Block::RedactedThinking { data } => Self::Redacted {
                data: data.to_string(),
            },
            Block::Tool { id, name, input } => Self::Tool {
                id: id.to_string(),
                name: name.to_string(),
                input: opening_input(input.as_deref())
                    .unwrap_or_default()
                    .to_owned(),
            },
            Block::Refusal { text } => Self::Refusal {
                text: text.to_string(),
            },
            Block::Opaque {
                kind,
                raw,
                partial_input,
            } => Self::Opaque {
                kind: kind.to_string(),
                raw: raw.to_string(),
                partial_input: *partial_input,
                input: String::new(),
            },
        }
    }

    /// The block as an opening that carries all of it.
    fn block(&self) -> Block<'_> {
        match self {
            Self::Text { text } => Block::Text {
                text: Cow::Borrowed(text),
            },
            Self::Thinking {
                thinking,
                signature,
            } => Block::Thinking {
                thinking: Cow::Borrowed(thinking),
                signature: Cow::Borrowed(signature),
            },
            Self::Redacted { data } => Block::RedactedThinking {
                data: Cow::Borrowed(data),
            },
            Self::Tool { id, name, input } => Block::Tool {
                id: Cow::Borrowed(id),
                name: Cow::Borrowed(name),
                input: Some(Cow::Borrowed(arguments(input))),
            },
            Self::Refusal { text } => Block::Refusal {
                text: Cow::Borrowed(text),
            },
            Self::Opaque {
                kind,
                raw,
                partial_input,
                ..
            } => Block::Opaque {
                kind: Cow::Borrowed(kind),
                raw: Cow::Borrowed(raw),
                partial_input: *partial_input,
            },
        }
    }
}

/// What a tool call's opening itself carries of the arguments: nothing for `{}`, after which they may
/// come as deltas.
pub(crate) fn opening_input(input: Option<&str>) -> Option<&str> {
    input.filter(|json| !json::is_no_argument(json) && !is_empty_object(json))
}

/// The arguments as JSON: none are an empty object.
pub(crate) fn arguments(input: &str) -> &str {
    if json::is_no_argument(input) {
        "{}"
    } else {
        input
    }
}

fn is_empty_object(json: &str) -> bool {
    let inside = json.trim_ascii().strip_prefix('{');
    inside
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|inside| inside.trim_ascii().is_empty())
}
