//! An answer as the bytes of a dialect: the events of a stream, or one JSON body.
//!
//! Always writes a correct answer (apart from the lawful oddities of compatible servers, `Quirk`). Faults are
//! laid over the events afterwards by `fault`, which is why each event says what it is.

pub(crate) mod anthropic;
pub(crate) mod openai;

use crate::answer::Answer;
use crate::ask::{Ask, Dialect};
use crate::fault::Quirk;

/// What an event of a stream is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// `message_start`, or the first chunk with the role.
    Start,
    /// A content block, or a tool call, opens.
    Open,
    Text,
    Thinking,
    Arguments,
    /// A content block closes.
    Close,
    /// The event that carries the stop reason.
    Finish,
    Usage,
    /// `message_stop` or `[DONE]`.
    Terminal,
    /// Put in by a fault.
    Foreign,
}

impl Kind {
    /// Whether the event is paid for by time: one token of the answer.
    pub(crate) const fn is_token(self) -> bool {
        matches!(self, Self::Text | Self::Thinking | Self::Arguments)
    }
}

/// One event, with its separating blank line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) data: Vec<u8>,
}

/// The events of the whole stream.
pub(crate) fn stream(ask: &Ask, answer: &Answer, quirk: Option<Quirk>) -> Vec<Frame> {
    match ask.dialect {
        Dialect::Anthropic => anthropic::stream(answer),
        Dialect::OpenAi => openai::stream(ask, answer, quirk),
    }
}

/// The body of a call that is not streamed.
pub(crate) fn body(ask: &Ask, answer: &Answer, quirk: Option<Quirk>) -> Vec<u8> {
    let value = match ask.dialect {
        Dialect::Anthropic => anthropic::body(answer),
        Dialect::OpenAi => openai::body(answer, quirk),
    };
    value.to_string().into_bytes()
}

/// An error body.
pub(crate) fn error(dialect: Dialect, kind: &str, code: Option<&str>, message: &str) -> Vec<u8> {
    let value = match dialect {
        Dialect::Anthropic => anthropic::error(kind, code, message),
        Dialect::OpenAi => openai::error(kind, code, message),
    };
    value.to_string().into_bytes()
}

/// An error inside a stream.
pub(crate) fn error_frame(dialect: Dialect, kind: &str, message: &str) -> Frame {
    let data = match dialect {
        Dialect::Anthropic => anthropic::frame("error", &anthropic::error(kind, None, message)),
        Dialect::OpenAi => openai::frame(&openai::error(kind, None, message)),
    };
    Frame {
        kind: Kind::Foreign,
        data,
    }
}

/// What the dialect sends to keep a connection alive.
pub(crate) fn ping(dialect: Dialect) -> Frame {
    let data = match dialect {
        Dialect::Anthropic => b"event: ping\ndata: {\"type\":\"ping\"}\n\n".to_vec(),
        Dialect::OpenAi => b": keep-alive\n\n".to_vec(),
    };
    Frame {
        kind: Kind::Foreign,
        data,
    }
}

/// A piece of text as a JSON string.
pub(crate) fn quote(piece: &str) -> String {
    serde_json::Value::from(piece).to_string()
}
