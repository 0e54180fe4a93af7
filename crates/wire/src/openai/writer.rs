//! Writes neutral events as the chunk stream of the Chat dialect.
//!
//! The dialect has no blocks: text, thinking and refusals are deltas of a choice, tool calls are
//! numbered on their own and may grow side by side. Finish reasons and counts are collected; only
//! [`Writer::end`] writes them, and never for an answer that is not finished.

use bytes::{BufMut as _, BytesMut};

use crate::answer::{
    NotWhole, OpenBlock, OpenKind, Shown, WriterOptions, check_stop, is_thinking, opening_input,
    owned,
};
use crate::json;
use crate::turn::{Block, Delta, Event, Stop, Usage};

pub(super) mod chunks;

use chunks::Chunks;

pub use super::error::{error_body, error_frame};

/// Writes one answer. Give it the events in order by [`event`](Self::event), then call
/// [`end`](Self::end) once the answer is known to be good.
#[derive(Debug)]
pub struct Writer {
    options: WriterOptions,
    shown: Shown,
    chunks: Chunks,
    choices: Vec<Choice>,
    blocks: Vec<Growing>,
    losses: Vec<&'static str>,
    ended: bool,
}

/// One choice of the answer.
#[derive(Debug)]
struct Choice {
    index: u32,
    tool_calls: u32,
    refused: bool,
    stop: Option<Stop<'static>>,
}

/// A block that may still grow.
#[derive(Debug)]
struct Growing {
    source: u32,
    choice: u32,
    /// The tool call's number and whether its arguments hold anything yet.
    tool: Option<(u32, bool)>,
}

// === impl Writer ===

impl Writer {
    /// A writer for an answer of which the caller has seen nothing.
    pub fn new(options: WriterOptions) -> Self {
        Self::resume(options, Shown::default())
    }

    /// A writer that goes on after what the caller has seen. The leg's start is not shown again, its
    /// text goes on where the text stands, and its counts are added to those shown.
    pub fn resume(options: WriterOptions, mut shown: Shown) -> Self {
        shown.forget_sources();
        let mut writer = Self {
            chunks: Chunks::default(),
            choices: Vec::new(),
            blocks: Vec::new(),
            losses: Vec::new(),
            ended: false,
            options,
            shown,
        };
        if writer.shown.started {
            writer.begin_chunks();
            writer.choices.push(Choice {
                tool_calls: writer.shown.tool_calls,
                ..Choice::new(0)
            });
        }
        writer
    }

    /// What the caller will have seen after the bytes written so far.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// What this dialect could not carry of the answer; each kind of loss is named once.
    pub fn losses(&self) -> &[&'static str] {
        &self.losses
    }

    /// Appends what shows this event. A text delta of a block that never opened is text of the first
    /// choice, so that text found at a seam can be put in.
    pub fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match event {
            Event::Start { .. } if self.shown.started => self.shown.next_leg(),
            Event::Start { .. } => {
                self.choice(0, out);
            }
            Event::BlockStart {
                index,
                choice,
                block,
            } => self.block_start(*index, *choice, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::BlockStop { index } => self.block_stop(*index, out),
            Event::Stop { choice, stop } => {
                let stop = owned(stop);
                self.choice(*choice, out).stop = Some(stop);
            }
            Event::Usage(newer) => self.shown.usage.overwrite(*newer),
            Event::Ping => ping(out),
            Event::End | Event::Error(_) | Event::Unknown { .. } | Event::Garbage { .. } => {}
        }
    }

    /// Appends the end of the answer: a finish reason for each choice, the usage chunk if it was
    /// asked for and told, and `[DONE]`. Writes nothing if the answer is not whole, or its end was
    /// written.
    pub fn end(&mut self, out: &mut BytesMut) -> Result<(), NotWhole> {
        if self.ended {
            return Ok(());
        }
        if self.choices.is_empty() {
            return Err(NotWhole::NoStop);
        }
        for choice in &self.choices {
            check_stop(choice.stop.as_ref().ok_or(NotWhole::NoStop)?)?;
        }
        if let Some(open) = self.blocks.iter().find(|block| block.tool.is_some()) {
            return Err(NotWhole::OpenBlock { index: open.source });
        }
        for choice in &self.choices {
            let stop = choice.stop.as_ref().ok_or(NotWhole::NoStop)?;
            self.chunks
                .finish(choice.index, chunks::word(stop.kind, choice.refused), out);
        }
        let total = self.shown.total();
        if self.options.include_usage && total != Usage::default() {
            self.chunks.usage(total, out);
        }
        out.put_slice(b"data: [DONE]\n\n");
        self.ended = true;
        Ok(())
    }

    /// Forgets the block that the caller sees open. The dialect shows no close, so this writes nothing.
    pub fn close_open(&mut self, _out: &mut BytesMut) {
        self.shown.open = None;
    }

    /// Fixes what every chunk begins with: as the caller knows it already, else as wished.
    fn begin_chunks(&mut self) {
        let (shown, options) = (&mut self.shown, &self.options);
        if !shown.started || shown.id.is_empty() {
            shown.id.clone_from(&options.id);
        }
        if !shown.started || shown.model.is_empty() {
            shown.model.clone_from(&options.model);
        }
        if !shown.started || shown.created == 0 {
            shown.created = options.created;
        }
        self.chunks = Chunks::new(shown, options.include_usage);
        shown.started = true;
    }

    /// The choice with this index; its first chunk, with the role, is written if need be.
    fn choice(&mut self, index: u32, out: &mut BytesMut) -> &mut Choice {
        if !self.shown.started {
            self.begin_chunks();
        }
        let known = self.choices.iter().position(|choice| choice.index == index);
        let at = known.unwrap_or_else(|| {
            self.chunks.role(index, out);
            self.choices.push(Choice::new(index));
            self.choices.len() - 1
        });
        &mut self.choices[at]
    }

    fn block_start(&mut self, source: u32, at: u32, block: &Block<'_>, out: &mut BytesMut) {
        if let Some(loss) = self.left_out(block) {
            return self.lose(loss);
        }
        let choice = self.choice(at, out);
        let mut tool = None;
        match block {
            Block::Tool { .. } => {
                tool = Some((choice.tool_calls, false));
                choice.tool_calls += 1;
            }
            Block::Refusal { .. } => choice.refused = true,
            _ => {}
        }
        self.note(source, at, block);
        self.blocks.push(Growing {
            source,
            choice: at,
            tool,
        });
        match block {
            Block::Text { text } => self.chunks.text(at, text, out),
            Block::Refusal { text } => self.chunks.refusal(at, text, out),
            Block::Thinking {
                thinking,
                signature,
            } => {
                self.chunks.thinking(at, thinking, out);
                if !signature.is_empty() {
                    self.lose("thinking signature");
                }
            }
            Block::Tool { id, name, input } => {
                let number = tool.map_or(0, |(number, _)| number);
                self.chunks.tool(at, number, id, name, out);
                let input = opening_input(input.as_deref()).unwrap_or_default();
                self.arguments(source, input, out);
            }
            Block::RedactedThinking { .. } | Block::Opaque { .. } => {}
        }
    }

    /// What is lost with a block that can't be shown; `None` for one that can.
    fn left_out(&self, block: &Block<'_>) -> Option<&'static str> {
        match block {
            block if is_thinking(block) && self.options.drop_thinking => {
                Some("thinking after a join")
            }
            Block::RedactedThinking { .. } => Some("redacted thinking"),
            Block::Opaque { kind, .. } if kind == "custom" => Some("custom tool call"),
            Block::Opaque { .. } => Some("server tool block"),
            _ => None,
        }
    }

    /// Keeps what is shown in step.
    fn note(&mut self, source: u32, at: u32, block: &Block<'_>) {
        let place = self.shown.next_index;
        self.shown.next_index = place.saturating_add(1);
        self.shown.open = Some(OpenBlock {
            index: place,
            kind: OpenKind::of(block),
            source: Some(source),
        });
        self.shown.tool_calls += u32::from(matches!(block, Block::Tool { .. }) && at == 0);
    }

    fn delta(&mut self, source: u32, delta: &Delta<'_>, out: &mut BytesMut) {
        let known = self.blocks.iter().rfind(|block| block.source == source);
        let choice = known.map(|block| block.choice);
        match (delta, choice) {
            (Delta::Text(text), choice) => {
                let index = choice.unwrap_or(0);
                self.choice(index, out);
                self.chunks.text(index, text, out);
            }
            (Delta::Thinking(text), Some(index)) => self.chunks.thinking(index, text, out),
            (Delta::Refusal(text), Some(index)) => self.chunks.refusal(index, text, out),
            (Delta::Arguments(json), Some(_)) => self.arguments(source, json, out),
            (Delta::Signature(signature), Some(_)) if !signature.is_empty() => {
                self.lose("thinking signature");
            }
            (Delta::Opaque { kind, .. }, Some(_)) if kind == "citations_delta" => {
                self.lose("citations");
            }
            (Delta::Opaque { .. }, Some(_)) => self.lose("unknown delta"),
            // The block was left out, and the loss noted.
            (_, None) | (Delta::Signature(_), _) => {}
        }
    }

    fn arguments(&mut self, source: u32, json: &str, out: &mut BytesMut) {
        let mut blocks = self.blocks.iter_mut();
        let Some(block) = blocks.rfind(|block| block.source == source) else {
            return;
        };
        if let Some((number, begun)) = &mut block.tool {
            *begun |= !json.trim_ascii().is_empty();
            self.chunks.arguments(block.choice, *number, json, out);
        }
    }

    fn block_stop(&mut self, source: u32, out: &mut BytesMut) {
        let known = self.blocks.iter().rposition(|block| block.source == source);
        let Some(at) = known else { return };
        let block = self.blocks.remove(at);
        if let Some((number, false)) = block.tool {
            // Clients parse the arguments: none must still be an object (wire facts, section 6, 1).
            self.chunks.arguments(block.choice, number, "{}", out);
        }
        if self
            .shown
            .open
            .is_some_and(|open| open.source == Some(source))
        {
            self.shown.open = None;
        }
    }

    fn lose(&mut self, what: &'static str) {
        if !self.losses.contains(&what) {
            self.losses.push(what);
        }
    }
}

// === impl Choice ===

impl Choice {
    fn new(index: u32) -> Self {
        Self {
            index,
            tool_calls: 0,
            refused: false,
            stop: None,
        }
    }
}

/// Appends a keep-alive. The dialect has none; every client passes over a comment.
pub fn ping(out: &mut BytesMut) {
    comment("ping", out);
}

/// Appends a remark that no client shows. Line ends in it become spaces.
pub fn comment(text: &str, out: &mut BytesMut) {
    out.put_slice(b": ");
    json::raw(text, out);
    out.put_slice(b"\n\n");
}
