//! What can be wrong with an answer.

use std::fmt;

use holdfast_wire::turn::VendorError;

/// Why an answer is not whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// The body ended before the terminal event.
    NoTerminal,
    /// The body ended and no reason to stop was given for some choice.
    NoStopReason,
    /// A content block was never closed.
    OpenBlock,
    /// A tool call's arguments are not JSON.
    BadArguments,
    /// The vendor said that tools must be run and named none.
    NoTool,
    /// Finished, and nothing was said.
    NoContent,
    /// A success status and no answer at all.
    Empty,
    /// The vendor's own word for "cut".
    VendorStop(String),
    /// A stop reason that this version does not know; never taken for a finish.
    UnknownStop(String),
    /// An error inside the answer.
    VendorError {
        kind: String,
        code: String,
        message: String,
    },
    /// Events in an order that the dialect does not have.
    Order(&'static str),
    /// Bytes that are not this dialect (HTML, other JSON, garbage).
    NotTheDialect(&'static str),
    /// The transport broke inside the answer.
    Transport(String),
    /// The body is in a coding that was not asked for.
    Encoding(String),
    /// No token in time.
    Stalled { phase: &'static str },
    /// The turn paused and could not be gone on with.
    NeverFinished,
    /// A single event or the held answer is over its limit.
    TooLarge { limit: usize },
}

impl Flaw {
    /// The flaw that an in-band error is.
    pub fn vendor_error(error: &VendorError<'_>) -> Self {
        Self::VendorError {
            kind: error.kind.to_string(),
            code: error.code.to_string(),
            message: error.message.to_string(),
        }
    }

    /// The label used in metrics: few values, no vendor text.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoTerminal => "no_terminal",
            Self::NoStopReason => "no_stop_reason",
            Self::OpenBlock => "open_block",
            Self::BadArguments => "bad_arguments",
            Self::NoTool => "no_tool",
            Self::NoContent => "no_content",
            Self::Empty => "empty",
            Self::VendorStop(_) => "vendor_stop",
            Self::UnknownStop(_) => "unknown_stop",
            Self::VendorError { .. } => "vendor_error",
            Self::Order(_) => "order",
            Self::NotTheDialect(_) => "not_the_dialect",
            Self::Transport(_) => "transport",
            Self::Encoding(_) => "encoding",
            Self::Stalled { .. } => "stalled",
            Self::NeverFinished => "never_finished",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTerminal => f.write_str("the stream ended before its terminal event"),
            Self::NoStopReason => f.write_str("the answer ended without a reason to stop"),
            Self::OpenBlock => f.write_str("a content block was never closed"),
            Self::BadArguments => f.write_str("a tool call's arguments are not valid JSON"),
            Self::NoTool => f.write_str("the answer asks to run tools and names none"),
            Self::NoContent => f.write_str("the answer is finished and empty"),
            Self::Empty => f.write_str("a success status without an answer"),
            Self::VendorStop(said) => write!(f, "the vendor cut the answer (`{said}`)"),
            Self::UnknownStop(said) => write!(f, "unknown stop reason `{said}`"),
            Self::VendorError { kind, message, .. } => {
                write!(f, "error inside the answer: {kind}: {message}")
            }
            Self::Order(what) => write!(f, "illegal order of events: {what}"),
            Self::NotTheDialect(why) => write!(f, "not an answer of this dialect: {why}"),
            Self::Transport(why) => write!(f, "the connection broke inside the answer: {why}"),
            Self::Encoding(coding) => write!(
                f,
                "the answer came in the coding `{coding}`, which was not asked for"
            ),
            Self::Stalled { phase } => write!(f, "the vendor went silent ({phase})"),
            Self::NeverFinished => f.write_str("the turn paused and was not finished"),
            Self::TooLarge { limit } => write!(f, "the answer is over the limit of {limit} bytes"),
        }
    }
}
