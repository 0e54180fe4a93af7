//! Writes neutral events as the event stream of the Messages dialect.
//!
//! Blocks are strictly one after the other here, and an answer of another dialect may have several
//! tool calls open at once: what belongs to a later block is held back until the open one closes.
//! `message_start` waits for the first content, because the vendor's counts come right after its
//! start. The stop reason and the counts are collected; only [`Writer::end`] writes them, and never
//! for an answer that is not finished.

use bytes::{BufMut as _, BytesMut};

use crate::answer::{
    Content, NotWhole, OpenBlock, OpenKind, Piece, Shown, WriterOptions, check_stop, is_thinking,
    opening_input, owned,
};
use crate::json;
use crate::turn::{Block, Delta, Event, Stop};

pub(super) mod frames;

pub use super::error::{error_body, error_frame};

/// Writes one answer. Give it the events in order by [`event`](Self::event), then call
/// [`end`](Self::end) once the answer is known to be good.
#[derive(Debug)]
pub struct Writer {
    options: WriterOptions,
    shown: Shown,
    /// Blocks that wait for the open one to close, in order of opening.
    held: Vec<Piece>,
    /// Blocks of other choices, which this dialect can't carry.
    foreign: Vec<u32>,
    stop: Option<Stop<'static>>,
    losses: Vec<&'static str>,
    ended: bool,
}

// === impl Writer ===

impl Writer {
    /// A writer for an answer of which the caller has seen nothing.
    pub fn new(options: WriterOptions) -> Self {
        Self::resume(options, Shown::default())
    }

    /// A writer that goes on after what the caller has seen. The leg's start is not shown again, its
    /// first text goes on in the text block that is open, and its counts are added to those shown.
    pub fn resume(options: WriterOptions, mut shown: Shown) -> Self {
        shown.forget_sources();
        Self {
            options,
            shown,
            held: Vec::new(),
            foreign: Vec::new(),
            stop: None,
            losses: Vec::new(),
            ended: false,
        }
    }

    /// What the caller will have seen after the bytes written so far.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// What this dialect could not carry of the answer; each kind of loss is named once.
    pub fn losses(&self) -> &[&'static str] {
        &self.losses
    }

    /// Appends what shows this event. A text delta of a block that never opened goes on in the open
    /// text block, so that text found at a seam can be put in.
    pub fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match event {
            Event::Start { .. } if self.shown.started => self.shown.next_leg(),
            Event::BlockStart {
                index,
                choice,
                block,
            } => self.block_start(*index, *choice, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::BlockStop { index } => self.block_stop(*index, out),
            Event::Stop { choice: 0, stop } => self.stop = Some(owned(stop)),
            Event::Usage(newer) => self.shown.usage.overwrite(*newer),
            Event::Ping => ping(out),
            Event::Start { .. }
            | Event::Stop { .. }
            | Event::End
            | Event::Error(_)
            | Event::Unknown { .. }
            | Event::Garbage { .. } => {}
        }
    }

    /// Appends the end of the answer: the open block's, the stop reason with the counts, and
    /// `message_stop`. Writes nothing if the answer is not whole, or its end was written.
    pub fn end(&mut self, out: &mut BytesMut) -> Result<(), NotWhole> {
        if self.ended {
            return Ok(());
        }
        let stop = self.stop.as_ref().ok_or(NotWhole::NoStop)?;
        check_stop(stop)?;
        self.check_blocks()?;
        let stop = stop.clone();
        self.start(out);
        self.close_open(out);
        while !self.held.is_empty() {
            self.release(out);
            self.close_open(out);
        }
        frames::message_end(&stop, self.shown.total(), out);
        self.ended = true;
        Ok(())
    }

    /// Appends the close of the block that the caller sees open, if there is one.
    pub fn close_open(&mut self, out: &mut BytesMut) {
        if let Some(open) = self.shown.open.take() {
            frames::block_stop(open.index, out);
        }
    }

    /// A tool call of this leg that never closed must not look like a whole one.
    fn check_blocks(&self) -> Result<(), NotWhole> {
        let open = self.shown.open.filter(|open| open.kind == OpenKind::Tool);
        if let Some(index) = open.and_then(|open| open.source) {
            return Err(NotWhole::OpenBlock { index });
        }
        let mut held = self.held.iter();
        match held.find(|piece| matches!(piece.content, Content::Tool { .. }) && !piece.closed) {
            Some(piece) => Err(NotWhole::OpenBlock { index: piece.index }),
            None => Ok(()),
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if !self.shown.started {
            self.shown.started = true;
            self.shown.id.clone_from(&self.options.id);
            self.shown.model.clone_from(&self.options.model);
            self.shown.created = self.options.created;
            frames::message_start(&self.options, self.shown.total(), out);
        }
    }

    fn block_start(&mut self, index: u32, choice: u32, block: &Block<'_>, out: &mut BytesMut) {
        if choice != 0 {
            self.foreign.push(index);
            return self.lose("further choices");
        }
        if self.is_left_out(block) {
            return;
        }
        self.start(out);
        match (self.shown.open, block) {
            (Some(open), Block::Text { text })
                if open.kind == OpenKind::Text && open.source.is_none() =>
            {
                self.shown.open = Some(OpenBlock {
                    source: Some(index),
                    ..open
                });
                frames::text_delta(open.index, text, out);
            }
            (Some(open), _) if self.must_wait_for(open) => {
                self.held.push(Piece::new(index, choice, block));
            }
            _ => {
                self.close_open(out);
                self.open(index, block, out);
            }
        }
    }

    /// Whether a further block waits until this one is closed by its own leg; text and thinking are
    /// closed at once, and what an earlier leg left open has nobody to close it.
    fn must_wait_for(&self, open: OpenBlock) -> bool {
        let closes_itself = matches!(open.kind, OpenKind::Tool | OpenKind::Other);
        !self.held.is_empty() || closes_itself && open.source.is_some()
    }

    /// Whether the block is not shown, with the loss noted.
    fn is_left_out(&mut self, block: &Block<'_>) -> bool {
        match block {
            block if is_thinking(block) && self.options.drop_thinking => {
                self.lose("thinking after a join");
            }
            Block::RedactedThinking { .. } if !self.options.signatures => {
                self.lose("redacted thinking");
            }
            Block::Opaque { kind, raw, .. } if !json::is_object_of(raw, kind) => {
                self.lose("custom tool call");
            }
            _ => return false,
        }
        true
    }

    fn open(&mut self, index: u32, block: &Block<'_>, out: &mut BytesMut) {
        let place = self.shown.next_index;
        self.shown.next_index = place.saturating_add(1);
        self.shown.open = Some(OpenBlock {
            index: place,
            kind: OpenKind::of(block),
            source: Some(index),
        });
        self.shown.tool_calls += u32::from(matches!(block, Block::Tool { .. }));
        frames::block_start(place, block, out);
        match block {
            Block::Text { text } | Block::Refusal { text } => {
                frames::text_delta(place, text, out);
            }
            Block::Thinking {
                thinking,
                signature,
            } => {
                self.write_delta(place, &Delta::Thinking(thinking.as_ref().into()), out);
                self.write_delta(place, &Delta::Signature(signature.as_ref().into()), out);
            }
            Block::Tool { input, .. } => {
                let input = opening_input(input.as_deref());
                frames::arguments_delta(place, input.unwrap_or_default(), out);
            }
            Block::RedactedThinking { .. } | Block::Opaque { .. } => {}
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>, out: &mut BytesMut) {
        if let Some(open) = self.shown.open
            && open.source == Some(index)
        {
            return self.write_delta(open.index, delta, out);
        }
        let mut held = self.held.iter_mut();
        if let Some(piece) = held.find(|piece| piece.index == index && !piece.closed) {
            return piece.grow(delta);
        }
        let Delta::Text(text) = delta else { return };
        if self.foreign.contains(&index) {
            return;
        }
        match self.shown.open {
            Some(open) if open.kind == OpenKind::Text => frames::text_delta(open.index, text, out),
            _ => {
                let text = text.as_ref().into();
                self.block_start(index, 0, &Block::Text { text }, out);
                // Nobody will close it by that number.
                if let Some(open) = &mut self.shown.open
                    && open.source == Some(index)
                {
                    open.source = None;
                }
            }
        }
    }

    fn write_delta(&mut self, place: u32, delta: &Delta<'_>, out: &mut BytesMut) {
        match delta {
            Delta::Text(text) | Delta::Refusal(text) => frames::text_delta(place, text, out),
            Delta::Thinking(thinking) => frames::thinking_delta(place, thinking, out),
            Delta::Signature(signature) if signature.is_empty() => {}
            Delta::Signature(signature) if self.options.signatures => {
                frames::signature_delta(place, signature, out);
            }
            Delta::Signature(_) => self.lose("thinking signature"),
            Delta::Arguments(json) => frames::arguments_delta(place, json, out),
            Delta::Opaque { kind, raw } if json::is_object_of(raw, kind) => {
                frames::opaque_delta(place, raw, out);
            }
            Delta::Opaque { .. } => self.lose("custom delta"),
        }
    }

    fn block_stop(&mut self, index: u32, out: &mut BytesMut) {
        if self
            .shown
            .open
            .is_some_and(|open| open.source == Some(index))
        {
            self.close_open(out);
            while self.shown.open.is_none() && !self.held.is_empty() {
                self.release(out);
            }
            return;
        }
        let mut held = self.held.iter_mut();
        if let Some(piece) = held.find(|piece| piece.index == index && !piece.closed) {
            piece.closed = true;
        }
    }

    /// Writes the first block that waited; it stays open if it is not closed yet.
    fn release(&mut self, out: &mut BytesMut) {
        let piece = self.held.remove(0);
        let closed = piece.closed;
        let place = self.shown.next_index;
        piece.replay(&mut |event| match event {
            Event::BlockStart {
                block: Block::Tool { id, name, .. },
                ..
            } => {
                let input = None;
                self.open(piece.index, &Block::Tool { id, name, input }, out);
            }
            Event::BlockStart { block, .. } => self.open(piece.index, &block, out),
            Event::Delta { delta, .. } => self.write_delta(place, &delta, out),
            _ => {}
        });
        if let Content::Tool { input, .. } = &piece.content {
            // More may follow, so they are written as they came and not as a whole object.
            frames::arguments_delta(place, input, out);
        }
        if closed {
            self.close_open(out);
        }
    }

    fn lose(&mut self, what: &'static str) {
        if !self.losses.contains(&what) {
            self.losses.push(what);
        }
    }
}

/// Appends a keep-alive: the dialect's own event, which feeds the clients' idle timers.
pub fn ping(out: &mut BytesMut) {
    out.put_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
}

/// Appends a remark that no client shows. Line ends in it become spaces.
pub fn comment(text: &str, out: &mut BytesMut) {
    out.put_slice(b": ");
    json::raw(text, out);
    out.put_slice(b"\n\n");
}
