//! The neutral words that every dialect's answer is read into.
//!
//! An answer is a sequence of [`Event`]s: a start, blocks that open, grow and close, a reason to
//! stop, usage, an end. The judge, the delivery gate and the writers of every dialect speak only
//! these, so that one answer is judged by one code path. Events borrow from the frame they were read
//! from; nothing is allocated for a text delta without escapes.

use std::borrow::Cow;

/// The wire protocol of a request or an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Dialect {
    /// Anthropic Messages (`POST /v1/messages`).
    Anthropic,
    /// OpenAI Chat Completions (`POST /v1/chat/completions`) and its compatible servers.
    OpenAi,
}

impl Dialect {
    /// The name used in configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
        }
    }
}

/// One thing that an answer says.
///
/// `index` numbers blocks within the whole answer, over all choices, in order of opening; `choice`
/// is always 0 but for OpenAI answers with `n > 1`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The answer began (`message_start`; the first chunk).
    Start {
        id: Cow<'a, str>,
        model: Cow<'a, str>,
    },
    /// A content block opened. OpenAI has no such event; its reader makes one before the first delta.
    BlockStart {
        index: u32,
        choice: u32,
        block: Block<'a>,
    },
    /// A block grew.
    Delta { index: u32, delta: Delta<'a> },
    /// A block closed. OpenAI's reader makes one when the next block opens (text) or at the finish
    /// reason (tools).
    BlockStop { index: u32 },
    /// Why this choice stopped.
    Stop { choice: u32, stop: Stop<'a> },
    /// Token counts so far: cumulative, later ones overwrite the fields they carry.
    Usage(Usage),
    /// The dialect's terminal marker: `message_stop`, `[DONE]`, or the end of a non-streaming body.
    End,
    /// A keep-alive, which is not progress: `ping`, a comment, an empty frame.
    Ping,
    /// An error that the vendor reported inside an answer.
    Error(VendorError<'a>),
    /// A well-formed event of a type that this version does not know (the vendors promise to add
    /// some). Passed on to the same dialect; never progress, never an end.
    Unknown { kind: Cow<'a, str> },
    /// Bytes that are not an event of this dialect at all.
    Garbage { why: &'static str },
}

/// What kind of block opened.
#[derive(Clone, Debug, PartialEq)]
pub enum Block<'a> {
    /// Text for the reader. `text` is what the opening itself already carried (usually empty).
    Text { text: Cow<'a, str> },
    /// Thinking (Anthropic `thinking`; `reasoning_content`/`reasoning` of compatible servers).
    Thinking {
        thinking: Cow<'a, str>,
        signature: Cow<'a, str>,
    },
    /// Thinking that only its vendor can read.
    RedactedThinking { data: Cow<'a, str> },
    /// A call of one of the caller's own tools. `input` is what the opening itself already carried,
    /// as JSON text (`None` or `{}` when the arguments come as deltas; a non-streaming body carries
    /// all of it here).
    Tool {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: Option<Cow<'a, str>>,
    },
    /// The model declined in words (OpenAI `refusal`). Not text, not a tool.
    Refusal { text: Cow<'a, str> },
    /// Any other block of the dialect (server tools and their results, `fallback`, ...): its raw
    /// JSON, to be passed on unchanged to the same dialect. `partial_input` is true for the kinds
    /// whose input comes in `Delta::Arguments` (`server_tool_use`, `mcp_tool_use`).
    Opaque {
        kind: Cow<'a, str>,
        raw: Cow<'a, str>,
        partial_input: bool,
    },
}

/// How a block grew.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta<'a> {
    Text(Cow<'a, str>),
    Thinking(Cow<'a, str>),
    /// Replaces the block's signature.
    Signature(Cow<'a, str>),
    /// A piece of the arguments' JSON text.
    Arguments(Cow<'a, str>),
    Refusal(Cow<'a, str>),
    /// Any other delta (citations, compaction, logprobs-only chunks): its raw JSON.
    Opaque {
        kind: Cow<'a, str>,
        raw: Cow<'a, str>,
    },
}

/// Why an answer stopped: the vendor's own word and our reading of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop<'a> {
    pub kind: StopKind,
    /// The vendor's word, as it came (`end_turn`, `stop`, ...).
    pub said: Cow<'a, str>,
    /// The stop string that ended the text, where the vendor told it.
    pub sequence: Option<Cow<'a, str>>,
    /// Anthropic `stop_details`, raw JSON.
    pub details: Option<Cow<'a, str>>,
}

/// Our reading of a stop reason. An unknown word is never `EndTurn`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StopKind {
    /// The model was done.
    EndTurn,
    /// A stop string of the caller was met.
    StopSequence,
    /// The caller must run tools.
    ToolUse,
    /// A token limit: the caller's or the model's.
    MaxTokens,
    /// The context window is full.
    ContextWindow,
    /// The turn goes on when it is sent back (`pause_turn`, `compaction`).
    Pause,
    /// Filter, policy or refusal.
    Refusal,
    /// The vendor says that the answer was cut (`error`, `abort`, `insufficient_system_resource`).
    VendorFault,
    /// A word that this version does not know.
    Unknown,
}

/// Token counts in one meaning for all dialects: `input` excludes what was read from or written to
/// a cache, `output` includes `reasoning`. `None` = not told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    pub input: Option<u64>,
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Takes over every field that `newer` tells.
    pub fn overwrite(&mut self, newer: Self) {
        self.input = newer.input.or(self.input);
        self.cache_read = newer.cache_read.or(self.cache_read);
        self.cache_write = newer.cache_write.or(self.cache_write);
        self.output = newer.output.or(self.output);
        self.reasoning = newer.reasoning.or(self.reasoning);
    }

    /// The sum of two calls, field by field; a field that neither told stays untold.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Self {
            input: add(self.input, other.input),
            cache_read: add(self.cache_read, other.cache_read),
            cache_write: add(self.cache_write, other.cache_write),
            output: add(self.output, other.output),
            reasoning: add(self.reasoning, other.reasoning),
        }
    }
}

/// An error as the vendor told it, in a body or inside a stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VendorError<'a> {
    /// `error.type` (Anthropic, OpenAI).
    pub kind: Cow<'a, str>,
    /// `error.code` (OpenAI; may be a number as text) or `error.details.error_code` (Anthropic).
    pub code: Cow<'a, str>,
    pub message: Cow<'a, str>,
}
