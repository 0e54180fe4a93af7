//! Turns a request and a fault into the exact bytes, pauses and ending of a response.
//!
//! Pure: the connection (`serve`) only performs the plan. An answer is rendered whole, the fault edits its events
//! (`play/edit.rs`), and what is left is framed for HTTP/1.1 here.

mod body;
mod edit;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;

use self::body::{Body, Framing, Pace};
use crate::answer::{self, Answer, Block, Stop};
use crate::ask::{Ask, Dialect};
use crate::fault::{Fault, Junk};
use crate::render;
use crate::vendor;

/// One thing that the connection does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Send(Bytes),
    Pause(Duration),
    /// Nothing more, until the client goes away.
    Hang,
    /// These bytes at this interval, until the client goes away.
    HangPinging(Duration, Bytes),
}

/// What becomes of the connection after the steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    Keep,
    Close,
    Reset,
    /// The connection ends, and then the vendor's listener is closed for this long.
    CloseListener(Duration),
}

/// A whole response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) status: u16,
    pub(crate) steps: Vec<Step>,
    pub(crate) ending: Ending,
}

/// How fast a healthy vendor answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// Before the first token (of a plain call: before the body).
    pub first_token: Duration,
    /// Before each further token; a plain call waits for all of them at once.
    pub token: Duration,
    /// Events of one write when nothing pauses between them; 0 counts as 1.
    pub batch: usize,
}

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";

/// The response to `ask` under `fault`. `serial` numbers the calls of the server.
pub(crate) fn play(ask: &Ask, fault: &Fault, timing: Timing, serial: u64) -> Plan {
    if let Some(plan) = without_answer(ask.dialect, fault, serial) {
        return plan;
    }
    let answer = spoil(answer::make(ask, serial), fault);
    let quirk = if let Fault::Quirk(quirk) = fault {
        Some(*quirk)
    } else {
        None
    };
    let mut body = if ask.stream {
        let mut frames = render::stream(ask, &answer, quirk);
        let tail = edit::edit(&mut frames, fault, ask, &answer);
        Body {
            frames,
            tail,
            framing: Framing::Chunked,
            kind: EVENT_STREAM,
            encoding: "",
        }
    } else {
        body::plain(ask, &answer, fault, quirk)
    };
    body.reframe(fault);
    let pace = Pace::new(ask, &answer, fault, timing);
    body.plan(ask.dialect, &pace, serial)
}

/// The faults that need no answer.
pub(crate) fn without_answer(dialect: Dialect, fault: &Fault, serial: u64) -> Option<Plan> {
    let bare = |steps, ending| Plan {
        status: 0,
        steps,
        ending,
    };
    Some(match fault {
        Fault::Refuse | Fault::ResetBeforeHeaders => bare(Vec::new(), Ending::Reset),
        Fault::CloseBeforeHeaders => bare(Vec::new(), Ending::Close),
        Fault::HangBeforeHeaders => bare(vec![Step::Hang], Ending::Close),
        Fault::ResetInHeaders => bare(
            vec![Step::Send(Bytes::from_static(
                b"HTTP/1.1 200 OK\r\ncontent-ty",
            ))],
            Ending::Reset,
        ),
        Fault::NotHttp => bare(
            vec![Step::Send(Bytes::from_static(
                b"\x15\x03\x01 this is no HTTP\r\n\r\n",
            ))],
            Ending::Close,
        ),
        other => return no_answer(dialect, other, serial),
    })
}

/// The faults that are one whole response, and no answer.
fn no_answer(dialect: Dialect, fault: &Fault, serial: u64) -> Option<Plan> {
    Some(match fault {
        Fault::Status { code, retry_after } => {
            let row = vendor::by_status(dialect, *code);
            let (kind, name, message) = row.map_or(("api_error", None, "simulated error"), |row| {
                (row.kind, row.code, row.message)
            });
            error(
                dialect,
                *code,
                kind,
                name,
                message,
                retry_after.as_deref(),
                serial,
            )
        }
        Fault::Error { name, retry_after } => {
            let row = vendor::named(dialect, name)?;
            error(
                dialect,
                row.status,
                row.kind,
                row.code,
                row.message,
                retry_after.as_deref(),
                serial,
            )
        }
        Fault::StatusHtml(code) => simple(
            dialect,
            *code,
            "text/html",
            html(*code).as_bytes(),
            &[],
            serial,
        ),
        Fault::Junk(junk) => {
            let (kind, body) = match junk {
                Junk::Empty => (EVENT_STREAM, Vec::new()),
                Junk::Html => ("text/html", html(200).into_bytes()),
                Junk::JsonError => (
                    JSON,
                    render::error(
                        dialect,
                        "api_error",
                        None,
                        "An internal error has occurred.",
                    ),
                ),
                Junk::EmptyObject => (JSON, b"{}".to_vec()),
                Junk::Null => (JSON, b"null".to_vec()),
            };
            simple(dialect, 200, kind, &body, &[], serial)
        }
        _ => return None,
    })
}

/// An error response in the dialect.
pub(crate) fn error(
    dialect: Dialect,
    status: u16,
    kind: &str,
    code: Option<&str>,
    message: &str,
    retry_after: Option<&str>,
    serial: u64,
) -> Plan {
    let body = render::error(dialect, kind, code, message);
    let extra: Vec<(&str, &str)> = retry_after
        .map(|after| ("retry-after", after))
        .into_iter()
        .collect();
    simple(dialect, status, JSON, &body, &extra, serial)
}

/// A whole response with a body of known length.
pub(crate) fn simple(
    dialect: Dialect,
    status: u16,
    kind: &str,
    body: &[u8],
    extra: &[(&str, &str)],
    serial: u64,
) -> Plan {
    let mut head = head(dialect, status, kind, serial);
    for (name, value) in extra {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    Plan {
        status,
        steps: vec![Step::Send(bytes.into())],
        ending: Ending::Keep,
    }
}

fn html(status: u16) -> String {
    format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status} {}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
        reason(status)
    )
}

fn head(dialect: Dialect, status: u16, kind: &str, serial: u64) -> String {
    let own = match dialect {
        Dialect::Anthropic => format!(
            "request-id: req_{serial:08x}\r\nanthropic-organization-id: sim\r\nanthropic-ratelimit-requests-limit: 4000\r\nanthropic-ratelimit-requests-remaining: 3999\r\nanthropic-ratelimit-requests-reset: 2026-06-21T00:00:00Z\r\n"
        ),
        Dialect::OpenAi => format!(
            "x-request-id: req_{serial:08x}\r\nopenai-version: 2020-10-01\r\nopenai-processing-ms: 1\r\nx-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\nx-ratelimit-reset-requests: 6ms\r\n"
        ),
    };
    format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: {kind}\r\ncache-control: no-cache\r\n{own}",
        reason(status)
    )
}

pub(crate) const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Site is overloaded",
        _ => "Simulated",
    }
}

/// What a fault does to the answer itself, before it is rendered.
fn spoil(mut answer: Answer, fault: &Fault) -> Answer {
    match fault {
        Fault::Stop(reason) => {
            // A limit or a filter cuts the text; a lost or new reason stands under a text that is complete.
            const CUTTING: [&str; 7] = [
                "max_tokens",
                "length",
                "model_length",
                "model_context_window_exceeded",
                "refusal",
                "content_filter",
                "sensitive",
            ];
            if reason
                .as_deref()
                .is_some_and(|word| CUTTING.contains(&word))
            {
                halve(&mut answer.blocks, |block| {
                    matches!(block, Block::Text { .. })
                });
            }
            answer.stop = Stop::Raw(reason.clone());
        }
        Fault::EmptyAnswer => {
            answer.blocks.clear();
            answer.stop = Stop::End;
            answer.output_tokens = 0;
        }
        Fault::ToolArgsCut => halve(&mut answer.blocks, |block| {
            matches!(block, Block::Tool { .. })
        }),
        _ => {}
    }
    answer
}

fn halve(blocks: &mut [Block], fits: impl Fn(&Block) -> bool) {
    if let Some(Block::Text { pieces } | Block::Tool { pieces, .. }) =
        blocks.iter_mut().rev().find(|block| fits(block))
    {
        pieces.truncate(pieces.len() / 2);
    }
}
