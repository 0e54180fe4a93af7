//! What a streaming caller sees: the delivery gate.
//!
//! Frames of a leg come in with their events; they leave as they came (same dialect, first leg) or
//! written anew (other dialect, or going on after what was already shown). The delivery says which of
//! them wait. Whatever leaves is a prefix of one coherent answer, and what waits can be dropped as if
//! it had never come.

mod passed;
mod said;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use holdfast_wire::answer::{OpenBlock, Shown, WriterOptions};
use holdfast_wire::sse::Frame;
use holdfast_wire::turn::{Block, Delta, Dialect, Event, Usage};

use super::leg::Listener;
use super::speech::{self, Writer};
use crate::join::Seam;
use crate::judge;
use crate::policy::Delivery;
use passed::Passed;
use said::Said;

/// Bytes that wait for the gate.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// The tool call that it belongs to.
    tool: Option<u32>,
    /// It also says something that does not belong to that call.
    other: bool,
    /// It shows something that no other vendor can go on from.
    foreign: bool,
    terminal: bool,
}

impl Piece {
    /// Whether this piece is shown or withheld as one when the calls `cut` are withheld and the end
    /// is written anew.
    fn is_separable(&self, cut: &[u32]) -> bool {
        match self.tool {
            Some(_) if self.other => false,
            Some(tool) => !self.terminal || cut.contains(&tool),
            None => !(self.terminal && self.other),
        }
    }

    fn is_withheld(&self, cut: &[u32]) -> bool {
        self.terminal || self.tool.is_some_and(|tool| cut.contains(&tool))
    }
}

/// The part of [`Shown`] that moves with every event; copied, never allocated.
#[derive(Clone, Copy, Debug)]
struct Position {
    started: bool,
    open: Option<OpenBlock>,
    next_index: u32,
    tool_calls: u32,
    usage: Usage,
    spent: Usage,
}

impl Position {
    fn of(shown: &Shown) -> Self {
        Self {
            started: shown.started,
            open: shown.open,
            next_index: shown.next_index,
            tool_calls: shown.tool_calls,
            usage: shown.usage,
            spent: shown.spent,
        }
    }

    fn restore(self, shown: &mut Shown) {
        shown.started = self.started;
        shown.open = self.open;
        shown.next_index = self.next_index;
        shown.tool_calls = self.tool_calls;
        shown.usage = self.usage;
        shown.spent = self.spent;
    }
}

/// What is undone when the waiting pieces are dropped.
#[derive(Clone, Copy, Debug)]
struct Mark {
    shown: Position,
    text: usize,
}

/// What the frame at hand is made of.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    substance: bool,
    tool: Option<u32>,
    other: bool,
    foreign: bool,
    terminal: bool,
    only_alive: bool,
}

impl Note {
    fn prose(&mut self, said: bool) {
        self.substance |= said;
        self.other |= said;
    }

    fn call(&mut self, index: u32) {
        self.other |= self.tool.is_some_and(|tool| tool != index);
        self.tool.get_or_insert(index);
    }
}

#[derive(Debug)]
enum Mode {
    Raw,
    Written { writer: Writer, seam: Option<Seam> },
}

#[derive(Debug)]
pub(super) struct Show {
    dialect: Dialect,
    delivery: Delivery,
    mode: Mode,
    waiting: VecDeque<Piece>,
    /// Bytes that wait.
    held: usize,
    mark: Option<Mark>,
    note: Note,
    scratch: BytesMut,
    shown: Shown,
    /// All text shown, where a join or a gate may need it.
    said: Said,
    /// Tool blocks of this leg that are open or waiting.
    tools: Vec<u32>,
    /// What passed unchanged in this leg, for when the rest of it can't.
    passed: Passed,
    /// Substance waits or was shown in this leg.
    has_substance: bool,
    finishing: bool,
    /// Substance left the gate: from here on a failure can be seen.
    content_shown: bool,
    tool_shown: bool,
    foreign_shown: bool,
    out: VecDeque<Bytes>,
    losses: Vec<&'static str>,
    /// The block in which the seam lies.
    seam_block: Option<u32>,
    /// A text block of the continuation that is opened with its first text: an empty one would be
    /// taken for the answer by clients that look at the last block.
    unopened: Option<(u32, u32)>,
}

impl Show {
    /// `text_limit` = the longest text that a join or a gate may have to know; 0 = neither will ask.
    pub(super) fn new(dialect: Dialect, delivery: Delivery, text_limit: usize) -> Self {
        Self {
            dialect,
            delivery,
            mode: Mode::Raw,
            waiting: VecDeque::new(),
            held: 0,
            mark: None,
            note: Note::default(),
            scratch: BytesMut::new(),
            shown: Shown::default(),
            said: Said::new(text_limit),
            tools: Vec::new(),
            passed: Passed::default(),
            has_substance: false,
            finishing: false,
            content_shown: false,
            tool_shown: false,
            foreign_shown: false,
            out: VecDeque::new(),
            losses: Vec::new(),
            seam_block: None,
            unopened: None,
        }
    }

    /// The next leg's frames pass unchanged; `options` are for when they no longer can.
    pub(super) fn begin_raw(&mut self, options: WriterOptions) {
        self.begin(Mode::Raw);
        self.passed = Passed::new(options);
    }

    /// The next leg is written anew, after what was shown; `seam` where it continues a cut text.
    pub(super) fn begin_written(&mut self, options: WriterOptions, seam: bool) {
        if !self.shown.started {
            self.shown.id.clone_from(&options.id);
            self.shown.model.clone_from(&options.model);
            self.shown.created = options.created;
        }
        let writer = Writer::resume(self.dialect, options, self.shown.clone());
        let seam = seam.then(|| Seam::new(self.said.text()));
        self.begin(Mode::Written { writer, seam });
    }

    fn begin(&mut self, mode: Mode) {
        self.mode = mode;
        self.tools.clear();
        self.seam_block = None;
        self.unopened = None;
        self.has_substance = self.content_shown;
        self.finishing = false;
    }

    pub(super) fn is_content_shown(&self) -> bool {
        self.content_shown
    }

    pub(super) fn is_tool_shown(&self) -> bool {
        self.tool_shown
    }

    /// Whether something was shown that another vendor can't go on from: a refusal, a server's tool.
    pub(super) fn is_foreign_shown(&self) -> bool {
        self.foreign_shown
    }

    pub(super) fn text(&self) -> &str {
        self.said.text()
    }

    /// Whether more text was said than is kept, and none of it is.
    pub(super) fn is_text_lost(&self) -> bool {
        self.said.is_lost()
    }

    pub(super) fn losses(&self) -> &[&'static str] {
        &self.losses
    }

    /// The next bytes for the caller.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// Something for the caller outside of the answer: a keep-alive.
    pub(super) fn ping(&mut self) {
        let mut out = BytesMut::new();
        speech::ping(self.dialect, &mut out);
        self.out.push_back(out.freeze());
    }

    /// A remark that no client shows.
    pub(super) fn comment(&mut self, text: &str) {
        let mut out = BytesMut::new();
        speech::comment(text, &mut out);
        self.out.push_back(out.freeze());
    }

    /// The leg failed: what waits is as if it had never come.
    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.held = 0;
        // A frame that broke the leg was told in part.
        self.note = Note::default();
        self.scratch.clear();
        if let Some(mark) = self.mark.take() {
            mark.shown.restore(&mut self.shown);
            self.said.truncate(mark.text);
        }
        self.collect_losses();
    }

    /// The leg paused: what waits is shown, but for its end, which the next leg gives.
    pub(super) fn release_for_next_leg(&mut self) {
        self.waiting.retain(|piece| !piece.terminal);
        if self.delivery != Delivery::Whole {
            self.release();
        }
        self.collect_losses();
    }

    /// The answer is good: everything leaves, and the end is written where it is ours to write.
    pub(super) fn finish(&mut self) {
        if let Mode::Written { writer, .. } = &mut self.mode {
            let mut tail = BytesMut::new();
            writer
                .end(&mut tail)
                .expect("invariant: only judged answers are finished");
            self.waiting.push_back(Piece {
                bytes: tail.freeze(),
                tool: None,
                other: false,
                foreign: false,
                terminal: true,
            });
        }
        self.release();
        self.collect_losses();
    }

    /// As [`Self::finish`], for an answer that a limit cut inside the tool calls `cut`: those are
    /// withheld, and the end is written anew without them. `false` = they can't be told apart from
    /// what came in one frame with them; nothing is shown.
    pub(super) fn finish_without(
        &mut self,
        cut: &[u32],
        ending: &[Event<'_>],
        options: WriterOptions,
    ) -> bool {
        if self.delivery == Delivery::Live {
            // The caller has it already, under a stop reason that tells the truth.
            self.finish();
            return true;
        }
        if !self.waiting.iter().all(|piece| piece.is_separable(cut)) {
            return false;
        }
        self.waiting.retain(|piece| !piece.is_withheld(cut));
        self.release();
        self.shown.open = None;
        let mut writer = Writer::resume(self.dialect, options, self.shown.clone());
        let mut tail = BytesMut::new();
        for event in ending {
            writer.event(event, &mut tail);
        }
        writer
            .end(&mut tail)
            .expect("invariant: only judged answers are finished");
        self.comment("holdfast: a tool call that the token limit cut was withheld");
        self.out.push_back(tail.freeze());
        true
    }

    fn release(&mut self) {
        self.mark = None;
        self.content_shown |= self.has_substance;
        self.held = 0;
        for piece in self.waiting.drain(..) {
            self.tool_shown |= piece.tool.is_some();
            self.foreign_shown |= piece.foreign;
            if !piece.bytes.is_empty() {
                self.out.push_back(piece.bytes);
            }
        }
    }

    fn collect_losses(&mut self) {
        if let Mode::Written { writer, .. } = &self.mode {
            for loss in writer.losses() {
                if !self.losses.contains(loss) {
                    self.losses.push(loss);
                }
            }
        }
    }

    /// Notes what the frame at hand is made of.
    fn take_note(&mut self, event: &Event<'_>) {
        let note = &mut self.note;
        match event {
            Event::BlockStart { index, block, .. } if judge::is_call(block) => {
                note.call(*index);
                note.substance = true;
                self.tools.push(*index);
            }
            Event::BlockStart { block, .. } => {
                note.prose(match block {
                    Block::Text { text } | Block::Refusal { text } => !text.is_empty(),
                    Block::Thinking { thinking, .. } => !thinking.is_empty(),
                    _ => true,
                });
                note.foreign |= matches!(block, Block::Opaque { .. } | Block::Refusal { .. });
            }
            Event::Delta { index, .. } if self.tools.contains(index) => note.call(*index),
            Event::Delta { .. } => note.prose(true),
            Event::BlockStop { index } if self.tools.contains(index) => note.call(*index),
            Event::Stop { .. } | Event::End => note.terminal = true,
            Event::Ping => note.only_alive = true,
            _ => {}
        }
        if let (
            Mode::Raw,
            Event::Delta {
                delta: Delta::Text(text),
                ..
            }
            | Event::BlockStart {
                block: Block::Text { text },
                ..
            },
        ) = (&self.mode, event)
        {
            self.said.push(text);
        }
    }

    fn must_wait(&self) -> bool {
        match self.delivery {
            Delivery::Whole => true,
            _ if self.finishing || !self.has_substance => true,
            Delivery::Live => false,
            // A call is good only with the calls beside it, so all of them wait for the verdict: until
            // then they can be dropped, and the text before them continued.
            Delivery::Guarded => !self.tools.is_empty(),
        }
    }

    fn write(&mut self, event: &Event<'_>) {
        // Text in an opening is text like any other: it may repeat what was shown.
        if let Event::BlockStart {
            index,
            choice,
            block: Block::Text { text },
        } = event
            && !text.is_empty()
        {
            let (index, choice) = (*index, *choice);
            let block = Block::Text { text: "".into() };
            self.write_event(&Event::BlockStart {
                index,
                choice,
                block,
            });
            let delta = Delta::Text(text.as_ref().into());
            return self.write_event(&Event::Delta { index, delta });
        }
        self.write_event(event);
    }

    /// Keeps an empty text block of a continuation back; `true` = this event is dealt with.
    fn delays(&mut self, event: &Event<'_>) -> bool {
        let Mode::Written {
            writer,
            seam: Some(_),
        } = &self.mode
        else {
            return false;
        };
        match event {
            Event::BlockStart {
                index,
                choice,
                block: Block::Text { text },
            } if text.is_empty() && writer.shown().open.is_none() => {
                self.unopened = Some((*index, *choice));
                true
            }
            Event::Delta {
                delta: Delta::Text(text),
                ..
            } => text.is_empty(),
            // What the seam still holds of this block is not shown yet.
            Event::BlockStop { index } if self.seam_block == Some(*index) => false,
            Event::BlockStop { index } => self.is_unopened(*index),
            _ => false,
        }
    }

    /// The block ended before it was opened: nothing of it is shown.
    fn is_unopened(&mut self, index: u32) -> bool {
        self.unopened
            .take_if(|(unopened, _)| *unopened == index)
            .is_some()
    }

    fn write_event(&mut self, event: &Event<'_>) {
        if self.delays(event) {
            return;
        }
        let Mode::Written { writer, seam } = &mut self.mode else {
            return;
        };
        let mut keep = |text: &str| self.said.push(text);
        let Some(seam) = seam.as_mut().filter(|seam| !seam.is_done()) else {
            if let Event::Delta {
                delta: Delta::Text(text),
                ..
            } = event
            {
                keep(text);
                open_text(writer, &mut self.unopened, &mut self.scratch);
            }
            return writer.event(event, &mut self.scratch);
        };
        match event {
            Event::Delta {
                index,
                delta: Delta::Text(text),
            } => {
                self.seam_block = Some(*index);
                if let Some(text) = seam.push(text).filter(|text| !text.is_empty()) {
                    keep(&text);
                    open_text(writer, &mut self.unopened, &mut self.scratch);
                    write_text(writer, *index, &text, &mut self.scratch);
                }
            }
            // The continued block ends before the overlap was decided: what is left of it is shown.
            Event::BlockStop { index } if self.seam_block == Some(*index) => {
                let rest = seam.finish();
                keep(&rest);
                if rest.is_empty() && self.unopened.take().is_some() {
                    return;
                }
                open_text(writer, &mut self.unopened, &mut self.scratch);
                write_text(writer, *index, &rest, &mut self.scratch);
                writer.event(event, &mut self.scratch);
            }
            _ => writer.event(event, &mut self.scratch),
        }
    }
}

fn open_text(writer: &mut Writer, unopened: &mut Option<(u32, u32)>, out: &mut BytesMut) {
    if let Some((index, choice)) = unopened.take() {
        let block = Block::Text { text: "".into() };
        let start = Event::BlockStart {
            index,
            choice,
            block,
        };
        writer.event(&start, out);
    }
}

fn write_text(writer: &mut Writer, index: u32, text: &str, out: &mut BytesMut) {
    if !text.is_empty() {
        writer.event(
            &Event::Delta {
                index,
                delta: Delta::Text(text.into()),
            },
            out,
        );
    }
}

impl Listener for Show {
    fn event(&mut self, event: &Event<'_>) {
        if self.mark.is_none() {
            self.mark = Some(Mark {
                shown: Position::of(&self.shown),
                text: self.said.text().len(),
            });
        }
        self.take_note(event);
        match self.mode {
            Mode::Raw => {
                self.passed.note(event);
                self.shown.observe(self.dialect, event);
            }
            Mode::Written { .. } => self.write(event),
        }
    }

    fn frame_end(&mut self, frame: Option<&Frame>) {
        let note = std::mem::take(&mut self.note);
        let bytes = match &self.mode {
            Mode::Raw => {
                frame.map_or_else(Bytes::new, |frame| speech::unchanged(self.dialect, frame))
            }
            Mode::Written { writer, .. } => {
                Position::of(writer.shown()).restore(&mut self.shown);
                self.scratch.split().freeze()
            }
        };
        self.has_substance |= note.substance;
        self.finishing |= note.terminal;
        let waits = self.must_wait();
        let is_part = self.is_raw() && frame.is_some_and(|frame| is_part(frame, &bytes));
        let is_sign_of_life = note.only_alive && !is_part;
        if is_sign_of_life && waits {
            return;
        }
        self.held += bytes.len();
        self.waiting.push_back(Piece {
            bytes,
            tool: note.tool,
            other: note.other,
            foreign: note.foreign,
            terminal: self.finishing,
        });
        if !waits {
            self.release();
        }
    }

    fn held(&self) -> usize {
        self.held
    }

    fn is_raw(&self) -> bool {
        matches!(self.mode, Mode::Raw)
    }

    fn write_from_here(&mut self) {
        let writer = self.passed.writer(self.dialect, &self.shown);
        self.mode = Mode::Written { writer, seam: None };
    }
}

/// Whether a frame that brought nothing new is nevertheless part of the answer (a first chunk with
/// filter results or the role alone), and no keep-alive.
fn is_part(frame: &Frame, bytes: &Bytes) -> bool {
    frame.data().is_some() && !bytes.starts_with(b"event: ping\n") && frame.event() != Some(b"ping")
}
