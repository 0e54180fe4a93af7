//! A whole answer, and what writing one needs.
//!
//! [`Answer`] gathers neutral events so that a body can be made of them, or the events of a body can
//! be given again as a stream. [`WriterOptions`] say how an answer is to look, [`Shown`] keeps what the
//! caller has already seen of it. Bytes are made by the dialects' `writer` and `body`; whether an
//! answer is good is judged elsewhere, yet nothing here makes a finished answer of an unfinished one:
//! that is [`NotWhole`].

use std::borrow::Cow;

use crate::turn::{Block, Event, Stop, StopKind, Usage};

mod piece;
mod shown;

pub use crate::error::CallerError;
pub use shown::{OpenBlock, OpenKind, Shown};

pub(crate) use piece::{Content, Piece, arguments, opening_input};

/// How a written answer looks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WriterOptions {
    /// The answer's id, with the prefix of the caller's dialect (`msg_`, `chatcmpl-`).
    pub id: String,
    /// The model name to show.
    pub model: String,
    /// Unix time in seconds. Only Chat shows it.
    pub created: u64,
    /// The caller asked for a usage chunk (Chat, `stream_options.include_usage`).
    pub include_usage: bool,
    /// Thinking keeps its signatures: the answer comes from the vendor whose dialect is written. A
    /// foreign signature would be refused when the caller sends it back.
    pub signatures: bool,
    /// Thinking is left out: the caller has already seen text that came after other thinking.
    pub drop_thinking: bool,
}

/// Why an answer can't be written as a finished one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotWhole {
    #[error("no stop reason came")]
    NoStop,
    #[error("the stop reason {said:?} does not mean a finished answer")]
    Stop {
        /// The vendor's word.
        said: String,
    },
    #[error("block {index} was never closed")]
    OpenBlock { index: u32 },
    #[error("the arguments of the tool call in block {index} are not JSON")]
    Arguments { index: u32 },
}

/// An answer gathered from its events.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    start: Option<(String, String)>,
    pieces: Vec<Piece>,
    stops: Vec<(u32, Stop<'static>)>,
    usage: Usage,
    ended: bool,
}

// === impl Answer ===

impl Answer {
    /// Takes in the next event. What is no part of an answer (keep-alives, errors, unknown events) is
    /// passed over, as is a delta of a block that was never opened.
    pub fn push(&mut self, event: &Event<'_>) {
        match event {
            Event::Start { id, model } => {
                self.start
                    .get_or_insert_with(|| (id.clone().into_owned(), model.clone().into_owned()));
            }
            Event::BlockStart {
                index,
                choice,
                block,
            } => self.pieces.push(Piece::new(*index, *choice, block)),
            Event::Delta { index, delta } => {
                if let Some(piece) = self.open_piece(*index) {
                    piece.grow(delta);
                }
            }
            Event::BlockStop { index } => {
                if let Some(piece) = self.open_piece(*index) {
                    piece.closed = true;
                }
            }
            Event::Stop { choice, stop } => {
                self.stops.retain(|(known, _)| known != choice);
                self.stops.push((*choice, owned(stop)));
            }
            Event::Usage(newer) => self.usage.overwrite(*newer),
            Event::End => self.ended = true,
            Event::Ping | Event::Error(_) | Event::Unknown { .. } | Event::Garbage { .. } => {}
        }
    }

    /// Gives the events of this answer again, each block whole in its opening.
    pub fn replay(&self, sink: &mut impl FnMut(Event<'_>)) {
        if let Some((id, model)) = &self.start {
            sink(Event::Start {
                id: Cow::Borrowed(id),
                model: Cow::Borrowed(model),
            });
        }
        for piece in &self.pieces {
            piece.replay(sink);
        }
        if self.usage != Usage::default() {
            sink(Event::Usage(self.usage));
        }
        for (choice, stop) in &self.stops {
            sink(Event::Stop {
                choice: *choice,
                stop: borrowed(stop),
            });
        }
        if self.ended {
            sink(Event::End);
        }
    }

    /// Withholds a block: a tool call that a token limit cut.
    pub fn drop_block(&mut self, index: u32) {
        self.pieces.retain(|piece| piece.index != index);
    }

    /// The token counts told so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Whether it asks its caller to run a tool.
    pub fn has_call(&self) -> bool {
        let mut pieces = self.pieces.iter();
        pieces.any(|piece| matches!(piece.content, Content::Tool { .. }))
    }

    /// All text of the first choice, without thinking and refusals.
    pub fn text(&self) -> String {
        self.text_of(0)
    }

    /// All text of one choice, without thinking and refusals.
    pub fn text_of(&self, choice: u32) -> String {
        let pieces = self.pieces.iter().filter(|piece| piece.choice == choice);
        pieces
            .filter_map(|piece| match &piece.content {
                Content::Text { text } => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The stop of this choice, if the answer may be shown as finished with it and all its blocks
    /// are whole.
    pub(crate) fn whole(&self, choice: u32) -> Result<&Stop<'static>, NotWhole> {
        let stop = self.stops.iter().find(|(known, _)| *known == choice);
        let (_, stop) = stop.ok_or(NotWhole::NoStop)?;
        check_stop(stop)?;
        for piece in self.pieces.iter().filter(|piece| piece.choice == choice) {
            piece.check()?;
        }
        Ok(stop)
    }

    /// Every choice that said anything, in order.
    pub fn choices(&self) -> Vec<u32> {
        let said = self.pieces.iter().map(|piece| piece.choice);
        let mut choices: Vec<u32> = said.chain(self.stops.iter().map(|(at, _)| *at)).collect();
        choices.sort_unstable();
        choices.dedup();
        choices
    }

    fn open_piece(&mut self, index: u32) -> Option<&mut Piece> {
        let mut latest = self.pieces.iter_mut().rev();
        latest.find(|piece| piece.index == index && !piece.closed)
    }
}

/// Refuses the stops that no finished answer has.
pub(crate) fn check_stop(stop: &Stop<'_>) -> Result<(), NotWhole> {
    match stop.kind {
        StopKind::VendorFault | StopKind::Unknown => Err(NotWhole::Stop {
            said: stop.said.clone().into_owned(),
        }),
        StopKind::EndTurn
        | StopKind::StopSequence
        | StopKind::ToolUse
        | StopKind::MaxTokens
        | StopKind::ContextWindow
        | StopKind::Pause
        | StopKind::Refusal => Ok(()),
    }
}

/// A stop that outlives its frame.
pub(crate) fn owned(stop: &Stop<'_>) -> Stop<'static> {
    let keep = |text: &Option<Cow<'_, str>>| text.clone().map(|text| Cow::Owned(text.into_owned()));
    Stop {
        kind: stop.kind,
        said: Cow::Owned(stop.said.clone().into_owned()),
        sequence: keep(&stop.sequence),
        details: keep(&stop.details),
    }
}

fn borrowed<'a>(stop: &'a Stop<'static>) -> Stop<'a> {
    Stop {
        kind: stop.kind,
        said: Cow::Borrowed(&stop.said),
        sequence: stop.sequence.as_deref().map(Cow::Borrowed),
        details: stop.details.as_deref().map(Cow::Borrowed),
    }
}

/// Whether the block is thinking, in words or not.
pub(crate) fn is_thinking(block: &Block<'_>) -> bool {
    matches!(
        block,
        Block::Thinking { .. } | Block::RedactedThinking { .. }
    )
}
