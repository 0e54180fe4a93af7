//! What a caller has already seen of an answer, so that another leg can go on where it stands.

use crate::answer::is_thinking;
use crate::turn::{Block, Dialect, Event, Usage};

/// What the caller has seen.
///
/// While a vendor's frames pass unchanged, [`observe`](Self::observe) keeps it; a writer keeps its own
/// (`Writer::shown`), because it may leave blocks out or hold them back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shown {
    /// The answer's start was shown.
    pub started: bool,
    /// The block that the caller sees open.
    pub open: Option<OpenBlock>,
    /// The number of the next block (Anthropic `index`).
    pub next_index: u32,
    /// Tool calls of the first choice so far (OpenAI numbers them on their own).
    pub tool_calls: u32,
    /// Counts of this leg, cumulative as the vendor tells them.
    pub usage: Usage,
    /// Counts of the legs before this one.
    pub spent: Usage,
    pub id: String,
    pub model: String,
    /// Unix time in seconds; 0 if it is not known.
    pub created: u64,
}

/// A block that the caller sees open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenBlock {
    /// The number that the caller knows it by.
    pub index: u32,
    pub kind: OpenKind,
    /// The number by which the current leg's events mean it; `None` when the leg that opened it is
    /// over.
    pub source: Option<u32>,
}

/// What kind of block is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenKind {
    Text,
    Thinking,
    Tool,
    Other,
}

// === impl Shown ===

impl Shown {
    /// Takes note of an event whose frame the caller of `dialect` sees as it came. Allocates nothing
    /// but for the start.
    pub fn observe(&mut self, dialect: Dialect, event: &Event<'_>) {
        match event {
            Event::Start { id, model } if !self.started => {
                self.started = true;
                id.as_ref().clone_into(&mut self.id);
                model.as_ref().clone_into(&mut self.model);
            }
            Event::Start { .. } => self.next_leg(),
            Event::BlockStart {
                index,
                choice,
                block,
            } if *choice == 0 || dialect == Dialect::OpenAi => self.opened(*index, *choice, block),
            Event::BlockStop { index }
                if self.open.is_some_and(|open| open.source == Some(*index)) =>
            {
                self.open = None;
            }
            Event::Usage(newer) => self.usage.overwrite(*newer),
            _ => {}
        }
    }

    /// The counts of all legs.
    pub fn total(&self) -> Usage {
        self.spent.plus(self.usage)
    }

    /// Another leg began: its counts start from nothing, and its numbers mean other blocks.
    pub(crate) fn next_leg(&mut self) {
        self.spent = self.total();
        self.usage = Usage::default();
        self.forget_sources();
    }

    /// The events that follow number their blocks anew.
    pub(crate) fn forget_sources(&mut self) {
        if let Some(open) = &mut self.open {
            open.source = None;
        }
    }

    fn opened(&mut self, index: u32, choice: u32, block: &Block<'_>) {
        let carried_on = self.open.filter(|open| open.source.is_none());
        match (carried_on, block) {
            // The same two rules as in the writers: text goes on, and thinking has no place in it.
            (Some(open), Block::Text { .. }) if open.kind == OpenKind::Text => {
                self.open = Some(OpenBlock {
                    source: Some(index),
                    ..open
                });
                return;
            }
            (Some(open), block) if open.kind == OpenKind::Text && is_thinking(block) => return,
            _ => {}
        }
        if matches!(block, Block::Tool { .. }) && choice == 0 {
            self.tool_calls += 1;
        }
        let place = self.next_index.max(index);
        self.next_index = place.saturating_add(1);
        self.open = Some(OpenBlock {
            index: place,
            kind: OpenKind::of(block),
            source: Some(index),
        });
    }
}

// === impl OpenKind ===

impl OpenKind {
    pub(crate) fn of(block: &Block<'_>) -> Self {
        match block {
            Block::Text { .. } | Block::Refusal { .. } => Self::Text,
            Block::Thinking { .. } => Self::Thinking,
            Block::Tool { .. } => Self::Tool,
            Block::RedactedThinking { .. } | Block::Opaque { .. } => Self::Other,
        }
    }
}
