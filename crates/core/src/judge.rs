//! The judge: what an answer is worth, told from its events and from how its body ended.
//!
//! One judge for every dialect, streamed or not. It is fed the neutral events of one answer and
//! never guesses: what was not seen did not happen, a word that it does not know is not a finish,
//! and the end of the body is not the end of the answer.

mod flaw;

use holdfast_wire::turn::{Block, Delta, Dialect, Event, StopKind, Usage};
use serde_json::value::RawValue;

pub use flaw::Flaw;

/// What the judge says of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Use it.
    Whole,
    /// Whole; the caller must run tools.
    Tools,
    /// Cut by a token limit of the caller or the model: legitimate, and told truthfully.
    Limit,
    /// Goes on when it is sent back.
    Paused,
    /// The vendor or the model declined.
    Refused,
    /// Not an answer.
    Broken(Flaw),
}

impl Verdict {
    /// Whether the caller may have it as a finished answer.
    pub fn is_deliverable(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }

    /// The name used in the ledger, in headers and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Tools => "tools",
            Self::Limit => "limit",
            Self::Paused => "paused",
            Self::Refused => "refused",
            Self::Broken(Flaw::UnknownStop(_)) => "unknown",
            Self::Broken(_) => "broken",
        }
    }
}

/// How far the answer has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// More must come.
    Open,
    /// Every choice has its finish reason; what may still come is usage and the terminal marker.
    Stopped,
    /// The terminal marker was seen.
    Ended,
}

/// What the judge must know of the request.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub dialect: Dialect,
    /// How many choices were asked for. Fewer are an answer only under the terminal marker: some
    /// servers know of one alone.
    pub choices: u32,
    /// An answer without content is whole: after tool results the vendors give such answers (a
    /// second ask would give the same), or the route says so.
    pub empty_is_whole: bool,
    /// The most bytes of tool arguments held for the check.
    pub arguments_limit: usize,
}

#[derive(Debug)]
struct OpenBlock {
    index: u32,
    choice: u32,
    /// `Some` for a call whose arguments are JSON: what came of them so far.
    arguments: Option<String>,
}

/// One choice of the answer, once anything was heard of it.
#[derive(Debug)]
struct Choice {
    choice: u32,
    /// The block that was opened last.
    last_block: Option<u32>,
}

/// Why one choice stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChoiceStop {
    pub choice: u32,
    pub kind: StopKind,
    /// The vendor's word.
    pub said: String,
}

/// Whether the block is a call that the caller would run: of a tool with JSON arguments, or (Chat's
/// `custom`) of one whose input is free text.
pub fn is_call(block: &Block<'_>) -> bool {
    matches!(block, Block::Tool { .. }) || is_free_text_call(block)
}

/// Whether the block calls a tool whose input is free text. Only Chat has it.
pub fn is_free_text_call(block: &Block<'_>) -> bool {
    matches!(block, Block::Opaque { kind, .. } if kind == "custom")
}

/// Judges one answer.
#[derive(Debug)]
pub struct Judge {
    terms: Terms,
    open: Vec<OpenBlock>,
    choices: Vec<Choice>,
    stops: Vec<ChoiceStop>,
    flaw: Option<Flaw>,
    /// Blocks whose tool arguments do not parse; fatal unless a limit cut them.
    cut_tools: Vec<u32>,
    /// A call was cut where no limit can have cut it: another block of its choice came after it.
    cut_inside: bool,
    /// The choices of the cut calls.
    cut_choices: Vec<u32>,
    started: bool,
    ended: bool,
    has_content: bool,
    has_tool: bool,
    has_free_text_call: bool,
    /// It was declined in words, whatever the stop reason says.
    has_refusal: bool,
    usage: Usage,
}

impl Judge {
    /// A judge of an answer that has not begun.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            open: Vec::new(),
            choices: Vec::new(),
            stops: Vec::new(),
            flaw: None,
            cut_tools: Vec::new(),
            cut_inside: false,
            cut_choices: Vec::new(),
            started: false,
            ended: false,
            has_content: false,
            has_tool: false,
            has_free_text_call: false,
            has_refusal: false,
            usage: Usage::default(),
        }
    }

    /// Takes the next event of the answer.
    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Start { .. } => self.start(),
            Event::BlockStart {
                index,
                choice,
                block,
            } => self.block_start(*index, *choice, block),
            Event::Delta { index, delta } => self.delta(*index, delta),
            Event::BlockStop { index } => self.block_stop(*index),
            Event::Stop { choice, stop } => {
                self.choice(*choice);
                if self.stops.iter().any(|seen| seen.choice == *choice) {
                    self.flaw(Flaw::Order("a second finish reason"));
                }
                self.stops.push(ChoiceStop {
                    choice: *choice,
                    kind: stop.kind,
                    said: stop.said.clone().into_owned(),
                });
            }
            Event::Usage(usage) => self.usage.overwrite(*usage),
            Event::End => self.ended = true,
            Event::Ping | Event::Unknown { .. } => {}
            Event::Error(error) => self.flaw(Flaw::vendor_error(error)),
            Event::Garbage { why } => self.flaw(Flaw::NotTheDialect(why)),
        }
    }

    /// A flaw that was seen outside of the events (a timeout, a reset, a frame too long).
    pub fn flaw(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }

    /// How far the answer has come.
    pub fn progress(&self) -> Progress {
        if self.ended {
            Progress::Ended
        } else if !self.stops.is_empty()
            && self.stops.len() >= self.choices.len().max(self.wanted())
            && self.open.is_empty()
        {
            Progress::Stopped
        } else {
            Progress::Open
        }
    }

    /// The first flaw that no later event can heal.
    pub fn fatal(&self) -> Option<&Flaw> {
        self.flaw.as_ref()
    }

    /// Whether a tool with free-text input is called: only unchanged bytes can carry that.
    pub fn has_free_text_call(&self) -> bool {
        self.has_free_text_call
    }

    /// Whether anything is called that the caller would run.
    pub fn has_call(&self) -> bool {
        self.has_tool
    }

    /// Whether the model declined in words of a block of their own (Chat's `refusal`). Their stop
    /// reason may be that of any answer.
    pub fn has_refusal(&self) -> bool {
        self.has_refusal
    }

    /// Why each choice stopped, as far as it was told.
    pub fn stops(&self) -> &[ChoiceStop] {
        &self.stops
    }

    /// Tool calls whose arguments do not parse. Under [`Verdict::Limit`] the caller must not get them.
    pub fn cut_tools(&self) -> &[u32] {
        &self.cut_tools
    }

    /// The token counts told so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Whether anything of substance was said.
    pub fn has_content(&self) -> bool {
        self.has_content
    }

    /// The verdict, once nothing more will come.
    pub fn verdict(&self) -> Verdict {
        match self.find_flaw() {
            Some(flaw) => Verdict::Broken(flaw),
            None => self.reading(),
        }
    }

    fn find_flaw(&self) -> Option<Flaw> {
        if let Some(flaw) = &self.flaw {
            return Some(flaw.clone());
        }
        if !self.started && self.stops.is_empty() {
            return Some(Flaw::Empty);
        }
        for stop in &self.stops {
            match stop.kind {
                StopKind::Unknown => return Some(Flaw::UnknownStop(stop.said.clone())),
                StopKind::VendorFault => return Some(Flaw::VendorStop(stop.said.clone())),
                _ => {}
            }
        }
        let wanted = if self.ended { 1 } else { self.wanted() };
        if self.stops.len() < self.choices.len().max(wanted) {
            return Some(Flaw::NoStopReason);
        }
        if self.terms.dialect == Dialect::Anthropic && !self.ended {
            return Some(Flaw::NoTerminal);
        }
        if !self.open.is_empty() {
            return Some(Flaw::OpenBlock);
        }
        // A limit cuts the last thing that its own choice said.
        let limited = |choice: &u32| self.is_limited_in(*choice);
        if self.cut_inside || !self.cut_choices.iter().all(limited) {
            return Some(Flaw::BadArguments);
        }
        self.find_emptiness()
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.terms.choices).unwrap_or(usize::MAX)
    }

    fn find_emptiness(&self) -> Option<Flaw> {
        let said_done = self
            .stops
            .iter()
            .all(|stop| matches!(stop.kind, StopKind::EndTurn | StopKind::StopSequence));
        let asks_for_tools = self.stops.iter().any(|stop| stop.kind == StopKind::ToolUse);
        if asks_for_tools && !self.has_tool {
            return Some(Flaw::NoTool);
        }
        // A stop string may end an answer before its first word.
        let may_be_empty = self.terms.empty_is_whole
            || self
                .stops
                .iter()
                .any(|stop| stop.kind == StopKind::StopSequence);
        (said_done && !self.has_content && !may_be_empty).then_some(Flaw::NoContent)
    }

    fn is_limited(&self) -> bool {
        self.stops.iter().any(ChoiceStop::is_limit)
    }

    fn is_limited_in(&self, choice: u32) -> bool {
        let mut stops = self.stops.iter();
        stops.any(|stop| stop.choice == choice && stop.is_limit())
    }

    fn reading(&self) -> Verdict {
        let has = |kind| self.stops.iter().any(|stop| stop.kind == kind);
        if has(StopKind::Refusal) {
            Verdict::Refused
        } else if self.is_limited() {
            Verdict::Limit
        } else if has(StopKind::Pause) {
            Verdict::Paused
        } else if has(StopKind::ToolUse) {
            Verdict::Tools
        } else {
            Verdict::Whole
        }
    }

    fn start(&mut self) {
        if self.started {
            self.flaw(Flaw::Order("a second start"));
        }
        self.started = true;
    }

    fn choice(&mut self, choice: u32) -> &mut Choice {
        let known = self.choices.iter().position(|known| known.choice == choice);
        let place = known.unwrap_or_else(|| {
            self.choices.push(Choice {
                choice,
                last_block: None,
            });
            self.choices.len() - 1
        });
        &mut self.choices[place]
    }

    fn block_start(&mut self, index: u32, choice: u32, block: &Block<'_>) {
        if !self.started {
            self.flaw(Flaw::Order("a block before the start"));
        }
        if self.ended || self.stops.iter().any(|stop| stop.choice == choice) {
            self.flaw(Flaw::Order("a block after the finish"));
        }
        if self.terms.dialect == Dialect::Anthropic && !self.open.is_empty() {
            // Clients see one open block; what was begun inside of another can't be gone on with.
            self.flaw(Flaw::Order("a block within a block"));
        }
        self.choice(choice).last_block = Some(index);
        self.cut_inside |= self.cut_choices.contains(&choice);
        self.has_tool |= is_call(block);
        self.has_free_text_call |= is_free_text_call(block);
        self.has_refusal |= matches!(block, Block::Refusal { .. });
        let arguments = match block {
            Block::Text { text } | Block::Refusal { text } => {
                self.has_content |= !text.is_empty();
                None
            }
            Block::Tool { input, .. } => {
                self.has_content = true;
                // `{}` in an opening is a place-holder: the arguments follow as deltas.
                Some(
                    input
                        .as_deref()
                        .filter(|input| *input != "{}")
                        .unwrap_or_default()
                        .to_owned(),
                )
            }
            Block::Opaque { .. } => {
                self.has_content = true;
                None
            }
            Block::Thinking { .. } | Block::RedactedThinking { .. } => None,
        };
        self.open.push(OpenBlock {
            index,
            choice,
            arguments,
        });
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>) {
        let limit = self.terms.arguments_limit;
        let Some(block) = self
            .open
            .iter_mut()
            .rev()
            .find(|block| block.index == index)
        else {
            self.flaw(Flaw::Order("a delta outside of a block"));
            return;
        };
        match delta {
            Delta::Text(text) | Delta::Refusal(text) => self.has_content |= !text.is_empty(),
            Delta::Arguments(piece) => {
                if let Some(arguments) = &mut block.arguments {
                    arguments.push_str(piece);
                    if arguments.len() > limit {
                        self.flaw(Flaw::TooLarge { limit });
                    }
                }
            }
            Delta::Thinking(_) | Delta::Signature(_) | Delta::Opaque { .. } => {}
        }
    }

    fn block_stop(&mut self, index: u32) {
        let Some(place) = self.open.iter().rposition(|block| block.index == index) else {
            self.flaw(Flaw::Order("the end of a block that was not open"));
            return;
        };
        let block = self.open.swap_remove(place);
        if block
            .arguments
            .is_some_and(|arguments| !is_whole_json(&arguments))
        {
            self.cut_tools.push(index);
            self.cut_choices.push(block.choice);
            self.cut_inside |= self.choice(block.choice).last_block != Some(index);
        }
    }
}

impl ChoiceStop {
    /// Whether a token limit cut this choice.
    pub fn is_limit(&self) -> bool {
        matches!(self.kind, StopKind::MaxTokens | StopKind::ContextWindow)
    }
}

/// No arguments at all mean `{}` in both dialects.
fn is_whole_json(arguments: &str) -> bool {
    arguments.trim().is_empty() || serde_json::from_str::<&RawValue>(arguments).is_ok()
}

#[cfg(test)]
mod tests;
