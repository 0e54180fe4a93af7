//! Every way in which a simulated vendor can go wrong, as one enum, and the words that name each.
//!
//! A fault is written `name[:argument...]`, for example `cut-rst:after:3` or `status:429:2`. The same words serve
//! in scripts, over the control endpoint, in model names and in `[[fault:...]]` markers. What a fault does to an
//! answer is in `play`; the list for people and tests is in `catalogue`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a cut ends the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// The body ends neatly: chunk terminator sent, connection kept.
    Clean,
    /// TCP FIN without the last chunk.
    Fin,
    /// TCP RST.
    Reset,
    /// The body has neither length nor chunks and ends with the connection: nothing on the transport shows the cut.
    Eof,
}

/// Where an answer is cut. A cut never falls behind the event that carries the stop reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    /// After this many events (of a plain body: pieces of 32 bytes).
    After(usize),
    /// After this many bytes of the body.
    Bytes(usize),
    /// Inside the first multi-byte character.
    Utf8,
    /// Inside the arguments of the first tool call (in the middle of the answer when there is none).
    Tool,
    /// In the middle.
    Half,
}

/// What follows an error inside a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// The body ends neatly.
    Close,
    /// `[DONE]` or `message_stop`, then the neat end.
    Terminal,
    /// The whole rest of the answer, as if nothing had been.
    Rest,
    /// RST.
    Reset,
}

/// A body that is no answer, under status 200.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Junk {
    Empty,
    Html,
    JsonError,
    EmptyObject,
    Null,
}

/// Which event is doubled or moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    Start,
    Open,
    Close,
    Finish,
    Terminal,
    /// The event of this number, from 0. A doubled or moved delta cannot be told from a true one.
    Nth(usize),
}

/// Lawful oddities of servers that are compatible with OpenAI Chat: the answer is whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quirk {
    /// Every call says `index: 0`, and comes whole in one delta.
    ToolIndexZero,
    /// No call has an index, and each comes whole in one delta.
    ToolNoIndex,
    /// Id and name are said again in every delta.
    ToolRepeatId,
    /// Each call comes whole in one delta.
    ToolWholeDelta,
    /// `stop` although the answer holds tool calls.
    ToolStopMismatch,
    /// The finish reason comes on a chunk that still carries a delta.
    FinishWithDelta,
    /// No usage, though asked for.
    NoUsage,
    /// A first chunk without choices, as Azure sends it.
    Azure,
    /// The text comes as `refusal`: the model declined.
    RefusalField,
}

/// One fault with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// No fault.
    Healthy,
    /// Set for a whole server: the connection is reset on accept. For one call: as `ResetBeforeHeaders`.
    Refuse,
    ResetBeforeHeaders,
    CloseBeforeHeaders,
    HangBeforeHeaders,
    /// Half a response head, then RST.
    ResetInHeaders,
    /// Bytes that are no HTTP.
    NotHttp,
    SlowHeaders(Duration),
    /// A status with the body that the dialect has for it.
    Status {
        code: u16,
        retry_after: Option<String>,
    },
    /// A named error of the dialect, such as `insufficient_quota`.
    Error {
        name: String,
        retry_after: Option<String>,
    },
    /// A status with an HTML body, as an edge sends it.
    StatusHtml(u16),
    Junk(Junk),
    /// Half a body whose Content-Length is that of the half.
    ShortMatching,
    /// Half a body under the Content-Length of the whole, then FIN.
    ShortMismatch,
    /// As `ShortMismatch`, then RST.
    ShortReset,
    /// Another stop reason (`None`: null).
    Stop(Option<String>),
    Cut {
        how: How,
        at: At,
    },
    /// After n events nothing more comes, for ever.
    Stall(usize),
    /// After n events only pings (or comments) come.
    StallPings {
        after: usize,
        every: Duration,
    },
    /// A pause before every event.
    Trickle(Duration),
    /// A pause before the first token.
    SlowFirst(Duration),
    /// The body is written n bytes at a time.
    Split(usize),
    ErrorInBand {
        after: usize,
        then: Then,
    },
    /// `OpenRouter`'s form: an error object and `finish_reason:"error"` in one chunk.
    ErrorChunk(usize),
    /// The terminal event is missing (`message_stop`).
    NoTerminal,
    /// `[DONE]` is missing after the finish reason: whole.
    NoDone,
    /// The event with the stop reason is missing, the terminal event is there.
    NoStop,
    /// Only the terminal event.
    DoneOnly,
    SilentAfterFinish,
    SilentAfterTerminal,
    /// A block never closes.
    BlockOpen,
    /// A block never opens.
    NoOpen,
    /// The first event is missing.
    NoStart,
    /// Tool arguments are cut, and everything after them is as it should be.
    ToolArgsCut,
    Duplicate(Which),
    /// The event changes places with the one after it (the last with the one before).
    Reorder(Which),
    /// One event is padded to this many bytes.
    Oversized(usize),
    /// The nth event is replaced by bytes that are no JSON.
    Garbage(usize),
    /// A byte that is no UTF-8 inside the nth event.
    InvalidUtf8(usize),
    /// NUL bytes instead of the nth event.
    Nul(usize),
    /// A chunk header that is no number after n events.
    BadChunk(usize),
    /// Compressed and labelled so, though not asked for.
    Gzip,
    /// Compressed and not labelled.
    GzipUnlabelled,
    TextAfterFinish,
    EmptyAnswer,
    UnknownEvent,
    Comments,
    Crlf,
    NoSpace,
    /// Whole, but ended by closing the connection: no length, no chunks.
    EofBody,
    Quirk(Quirk),
}

/// Why a text names no fault.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no fault is written `{0}` (see `holdfast sim --list`)")]
pub struct UnknownFault(pub String);

/// The prefix of model names that carry a fault.
const MODEL_PREFIX: &str = "fault:";
const SIM_PREFIX: &str = "sim-";

impl Fault {
    /// The fault that a model name asks for: `fault:<name>[:<arg>...]`, `sim-ok`, or `sim-` with a fault whose
    /// arguments may be joined by `-` (`sim-cut-rst-after-3`). `None` for any other model.
    pub fn from_model(model: &str) -> Option<Self> {
        if let Some(spec) = model.strip_prefix(MODEL_PREFIX) {
            return spec.parse().ok();
        }
        let spec = model.strip_prefix(SIM_PREFIX)?;
        if spec == "ok" {
            return Some(Self::Healthy);
        }
        if let Ok(fault) = spec.parse() {
            return Some(fault);
        }
        // The longest name wins, so that `cut-clean-3` is not `cut` with the argument `clean`.
        let places: Vec<usize> = spec.match_indices('-').map(|(place, _)| place).collect();
        places.into_iter().rev().find_map(|place| {
            let arguments = spec[place + 1..].replace('-', ":");
            format!("{}:{arguments}", &spec[..place]).parse().ok()
        })
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(spec: &str) -> Result<Self, UnknownFault> {
        let (name, rest) = match spec.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (spec, None),
        };
        let found = match rest {
            None => simple(name).or_else(|| with_arguments(name, "")),
            Some(rest) => with_arguments(name, rest),
        };
        found.ok_or_else(|| UnknownFault(spec.to_owned()))
    }
}

/// The faults without arguments, and their names.
const SIMPLE: &[(&str, Fault)] = &[
    ("ok", Fault::Healthy),
    ("refuse", Fault::Refuse),
    ("reset-before-headers", Fault::ResetBeforeHeaders),
    ("close-before-headers", Fault::CloseBeforeHeaders),
    ("hang-before-headers", Fault::HangBeforeHeaders),
    ("reset-in-headers", Fault::ResetInHeaders),
    ("not-http", Fault::NotHttp),
    ("empty-200", Fault::Junk(Junk::Empty)),
    ("html-200", Fault::Junk(Junk::Html)),
    ("json-error-200", Fault::Junk(Junk::JsonError)),
    ("empty-object-200", Fault::Junk(Junk::EmptyObject)),
    ("null-200", Fault::Junk(Junk::Null)),
    ("short-matching", Fault::ShortMatching),
    ("short-mismatch", Fault::ShortMismatch),
    ("short-reset", Fault::ShortReset),
    ("no-terminal", Fault::NoTerminal),
    ("no-done", Fault::NoDone),
    ("no-stop", Fault::NoStop),
    ("done-only", Fault::DoneOnly),
    ("silent-after-finish", Fault::SilentAfterFinish),
    ("silent-after-terminal", Fault::SilentAfterTerminal),
    ("block-open", Fault::BlockOpen),
    ("no-open", Fault::NoOpen),
    ("no-start", Fault::NoStart),
    ("tool-args-cut", Fault::ToolArgsCut),
    ("gzip", Fault::Gzip),
    ("gzip-unlabelled", Fault::GzipUnlabelled),
    ("text-after-finish", Fault::TextAfterFinish),
    ("empty-answer", Fault::EmptyAnswer),
    ("unknown-event", Fault::UnknownEvent),
    ("comments", Fault::Comments),
    ("crlf", Fault::Crlf),
    ("no-space", Fault::NoSpace),
    ("eof-body", Fault::EofBody),
    ("tool-index-zero", Fault::Quirk(Quirk::ToolIndexZero)),
    ("tool-no-index", Fault::Quirk(Quirk::ToolNoIndex)),
    ("tool-repeat-id", Fault::Quirk(Quirk::ToolRepeatId)),
    ("tool-whole-delta", Fault::Quirk(Quirk::ToolWholeDelta)),
    ("tool-stop-mismatch", Fault::Quirk(Quirk::ToolStopMismatch)),
    ("finish-with-delta", Fault::Quirk(Quirk::FinishWithDelta)),
    ("no-usage", Fault::Quirk(Quirk::NoUsage)),
    ("azure", Fault::Quirk(Quirk::Azure)),
    ("refusal-field", Fault::Quirk(Quirk::RefusalField)),
];

fn simple(name: &str) -> Option<Fault> {
    SIMPLE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, fault)| fault.clone())
}

fn with_arguments(name: &str, rest: &str) -> Option<Fault> {
    Some(match name {
        "slow-headers" => Fault::SlowHeaders(millis(rest, 2000)?),
        "status" => {
            let (code, retry_after) = split(rest);
            Fault::Status {
                code: status(code)?,
                retry_after,
            }
        }
        "error" => {
            let (name, retry_after) = split(rest);
            crate::vendor::known(name).then(|| Fault::Error {
                name: name.to_owned(),
                retry_after,
            })?
        }
        "context-overflow" if rest.is_empty() => Fault::Error {
            name: "context_length_exceeded".to_owned(),
            retry_after: None,
        },
        "status-html" => Fault::StatusHtml(status(rest)?),
        "stop" if rest.is_empty() => return None,
        "stop" => Fault::Stop((rest != "null").then(|| rest.to_owned())),
        "cut" | "cut-clean" => Fault::Cut {
            how: How::Clean,
            at: at(rest)?,
        },
        "cut-fin" => Fault::Cut {
            how: How::Fin,
            at: at(rest)?,
        },
        "cut-rst" => Fault::Cut {
            how: How::Reset,
            at: at(rest)?,
        },
        "cut-eof" => Fault::Cut {
            how: How::Eof,
            at: at(rest)?,
        },
        _ => return counted(name, rest),
    })
}

/// The faults whose argument counts events, bytes or milliseconds.
fn counted(name: &str, rest: &str) -> Option<Fault> {
    Some(match name {
        "stall" => Fault::Stall(number(rest, 3)?),
        "stall-pings" => {
            let (after, every) = rest.split_once(':').unwrap_or((rest, ""));
            Fault::StallPings {
                after: number(after, 3)?,
                every: millis(every, 200)?,
            }
        }
        "trickle" => Fault::Trickle(millis(rest, 20)?),
        "slow-first" => Fault::SlowFirst(millis(rest, 1000)?),
        "split" => Fault::Split(number(rest, 7)?.max(1)),
        "error-in-band" => Fault::ErrorInBand {
            after: number(rest, 3)?,
            then: Then::Close,
        },
        "error-then-terminal" => Fault::ErrorInBand {
            after: number(rest, 3)?,
            then: Then::Terminal,
        },
        "error-then-rest" => Fault::ErrorInBand {
            after: number(rest, 3)?,
            then: Then::Rest,
        },
        "error-then-rst" => Fault::ErrorInBand {
            after: number(rest, 3)?,
            then: Then::Reset,
        },
        "error-chunk" => Fault::ErrorChunk(number(rest, 3)?),
        "duplicate" => Fault::Duplicate(which(rest)?),
        "reorder" => Fault::Reorder(which(rest)?),
        "oversized" => Fault::Oversized(number(rest, 32 << 20)?.min(256 << 20)),
        "garbage" => Fault::Garbage(number(rest, 3)?),
        "invalid-utf8" => Fault::InvalidUtf8(number(rest, 3)?),
        "nul" => Fault::Nul(number(rest, 3)?),
        "bad-chunk" => Fault::BadChunk(number(rest, 3)?),
        _ => return None,
    })
}

fn number(text: &str, default: usize) -> Option<usize> {
    if text.is_empty() {
        Some(default)
    } else {
        text.parse().ok()
    }
}

fn millis(text: &str, default: u64) -> Option<Duration> {
    if text.is_empty() {
        Some(Duration::from_millis(default))
    } else {
        text.parse().ok().map(Duration::from_millis)
    }
}

fn status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|code| (200..=599).contains(code))
}

fn split(text: &str) -> (&str, Option<String>) {
    text.split_once(':')
        .map_or((text, None), |(first, rest)| (first, Some(rest.to_owned())))
}

fn at(text: &str) -> Option<At> {
    let (word, count) = text.split_once(':').unwrap_or((text, ""));
    Some(match word {
        "" | "half" => At::Half,
        "utf8" => At::Utf8,
        "tool" => At::Tool,
        "after" => At::After(count.parse().ok()?),
        "bytes" => At::Bytes(count.parse().ok()?),
        number => At::After(number.parse().ok()?),
    })
}

fn which(text: &str) -> Option<Which> {
    Some(match text {
        "start" => Which::Start,
        "open" => Which::Open,
        "close" => Which::Close,
        "finish" | "" => Which::Finish,
        "terminal" => Which::Terminal,
        number => Which::Nth(number.parse().ok()?),
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = SIMPLE.iter().find(|(_, fault)| fault == self) {
            return f.write_str(name);
        }
        match self {
            Self::SlowHeaders(pause) => write!(f, "slow-headers:{}", pause.as_millis()),
            Self::Status { code, retry_after } => {
                write!(f, "status:{code}{}", tail(retry_after.as_deref()))
            }
            Self::Error { name, retry_after } => {
                write!(f, "error:{name}{}", tail(retry_after.as_deref()))
            }
            Self::StatusHtml(code) => write!(f, "status-html:{code}"),
            Self::Stop(reason) => write!(f, "stop:{}", reason.as_deref().unwrap_or("null")),
            Self::Cut { how, at } => write!(f, "{how}:{at}"),
            Self::Stall(after) => write!(f, "stall:{after}"),
            Self::StallPings { after, every } => {
                write!(f, "stall-pings:{after}:{}", every.as_millis())
            }
            Self::Trickle(pause) => write!(f, "trickle:{}", pause.as_millis()),
            Self::SlowFirst(pause) => write!(f, "slow-first:{}", pause.as_millis()),
            Self::Split(size) => write!(f, "split:{size}"),
            Self::ErrorInBand { after, then } => write!(f, "{then}:{after}"),
            Self::ErrorChunk(after) => write!(f, "error-chunk:{after}"),
            Self::Duplicate(which) => write!(f, "duplicate:{which}"),
            Self::Reorder(which) => write!(f, "reorder:{which}"),
            Self::Oversized(size) => write!(f, "oversized:{size}"),
            Self::Garbage(after) => write!(f, "garbage:{after}"),
            Self::InvalidUtf8(after) => write!(f, "invalid-utf8:{after}"),
            Self::Nul(after) => write!(f, "nul:{after}"),
            Self::BadChunk(after) => write!(f, "bad-chunk:{after}"),
            other => write!(f, "{other:?}"),
        }
    }
}

fn tail(retry_after: Option<&str>) -> String {
    retry_after.map_or_else(String::new, |after| format!(":{after}"))
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "cut-clean",
            Self::Fin => "cut-fin",
            Self::Reset => "cut-rst",
            Self::Eof => "cut-eof",
        })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(count) => write!(f, "after:{count}"),
            Self::Bytes(count) => write!(f, "bytes:{count}"),
            Self::Utf8 => f.write_str("utf8"),
            Self::Tool => f.write_str("tool"),
            Self::Half => f.write_str("half"),
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Close => "error-in-band",
            Self::Terminal => "error-then-terminal",
            Self::Rest => "error-then-rest",
            Self::Reset => "error-then-rst",
        })
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Open => f.write_str("open"),
            Self::Close => f.write_str("close"),
            Self::Finish => f.write_str("finish"),
            Self::Terminal => f.write_str("terminal"),
            Self::Nth(number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_carry_faults() {
        let cut = |how, at| Some(Fault::Cut { how, at });
        assert_eq!(
            Fault::from_model("fault:cut-rst:after:3"),
            cut(How::Reset, At::After(3))
        );
        assert_eq!(
            Fault::from_model("sim-cut-after-3"),
            cut(How::Clean, At::After(3))
        );
        assert_eq!(
            Fault::from_model("sim-cut-fin-bytes-120"),
            cut(How::Fin, At::Bytes(120))
        );
        assert_eq!(
            Fault::from_model("sim-cut-clean:utf8"),
            cut(How::Clean, At::Utf8)
        );
        assert_eq!(Fault::from_model("sim-ok"), Some(Fault::Healthy));
        assert_eq!(
            Fault::from_model("sim-status-429-2"),
            "status:429:2".parse().ok()
        );
        assert_eq!(
            Fault::from_model("sim-stop-max_tokens"),
            Some(Fault::Stop(Some("max_tokens".to_owned())))
        );
        assert_eq!(Fault::from_model("claude-opus-5-5"), None);
        assert_eq!(Fault::from_model("sim-nothing-of-the-kind"), None);
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for spec in [
            "slow-headers:5",
            "status:529",
            "status:429:7",
            "error:insufficient_quota",
            "status-html:502",
            "stop:null",
            "stop:weird",
            "cut-eof:tool",
            "stall:0",
            "stall-pings:1:50",
            "trickle:2",
            "error-then-rest:4",
            "duplicate:close",
            "reorder:2",
            "azure",
        ] {
            let fault: Fault = spec.parse().unwrap();
            assert_eq!(fault.to_string(), spec);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for spec in [
            "",
            "status",
            "status:99",
            "cut-clean:x",
            "stop",
            "error:nope",
            "refuse:1",
        ] {
            assert!(spec.parse::<Fault>().is_err(), "{spec}");
        }
    }
}
