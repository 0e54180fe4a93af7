//! Turns a request and a fault into the exact bytes, pauses and ending of a response.
//!
//! Pure: the connection (`serve`) only performs the plan. An answer is rendered whole, the fault edits its events
//! (`play/edit.rs`), and what is left is framed for HTTP/1.1 here.

mod edit;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;

use crate::answer::{self, Answer, Block, Stop};
use crate::ask::{Ask, Dialect};
use crate::fault::{At, Fault, How, Junk, Quirk};
use crate::render::{self, Frame, Kind};
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

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Chunked,
    /// This Content-Length, whatever is sent.
    Length(usize),
    Eof,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tail {
    Neat,
    Fin,
    Reset,
    Hang,
    HangPinging(Duration),
    BadChunk,
}

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";
/// Bytes of one piece of a plain body, where a fault needs pieces.
const PLAIN_PIECE: usize = 32;

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
        plain(ask, &answer, fault, quirk)
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

fn plain(ask: &Ask, answer: &Answer, fault: &Fault, quirk: Option<Quirk>) -> Body {
    let mut bytes = match fault {
        Fault::ErrorInBand { .. } | Fault::ErrorChunk(_) => {
            render::error(ask.dialect, "overloaded_error", None, "Overloaded")
        }
        Fault::DoneOnly => Vec::new(),
        _ => render::body(ask, answer, quirk),
    };
    let whole = bytes.len();
    let mut tail = Tail::Neat;
    match fault {
        Fault::Garbage(_) => bytes = b"{\"id\": oops".to_vec(),
        Fault::InvalidUtf8(_) => edit::spoil_utf8(&mut bytes),
        Fault::Nul(_) => bytes = vec![0; 64],
        Fault::Oversized(size) => edit::pad(&mut bytes, *size),
        Fault::Cut { how, at } => {
            let place = match at {
                At::After(count) => count * PLAIN_PIECE,
                other => edit::place(*other, &bytes, whole / 2),
            };
            bytes.truncate(place.min(whole.saturating_sub(1)));
            tail = edit::tail_of(*how);
        }
        Fault::Stall(after) => {
            bytes.truncate((after * PLAIN_PIECE).min(whole.saturating_sub(1)));
            tail = Tail::Hang;
        }
        Fault::StallPings { after, every } => {
            bytes.truncate((after * PLAIN_PIECE).min(whole.saturating_sub(1)));
            tail = Tail::HangPinging(*every);
        }
        Fault::BadChunk(after) => {
            bytes.truncate((after * PLAIN_PIECE).min(whole.saturating_sub(1)));
            tail = Tail::BadChunk;
        }
        Fault::SilentAfterFinish | Fault::SilentAfterTerminal => tail = Tail::Hang,
        _ => {}
    }
    let chunked = tail != Tail::Neat
        || matches!(
            fault,
            Fault::Cut { .. } | Fault::Trickle(_) | Fault::Split(_)
        );
    let framing = if chunked {
        Framing::Chunked
    } else {
        Framing::Length(bytes.len())
    };
    let size = if chunked {
        PLAIN_PIECE
    } else {
        bytes.len().max(1)
    };
    let frames = bytes
        .chunks(size)
        .map(|piece| Frame {
            kind: Kind::Foreign,
            data: piece.to_vec(),
        })
        .collect();
    Body {
        frames,
        tail,
        framing,
        kind: JSON,
        encoding: "",
    }
}

struct Body {
    frames: Vec<Frame>,
    tail: Tail,
    framing: Framing,
    kind: &'static str,
    encoding: &'static str,
}

impl Body {
    fn bytes(&self) -> Vec<u8> {
        self.frames
            .iter()
            .flat_map(|frame| frame.data.iter().copied())
            .collect()
    }

    fn replace(&mut self, bytes: &[u8], size: usize) {
        self.frames = bytes
            .chunks(size.max(1))
            .map(|piece| Frame {
                kind: Kind::Foreign,
                data: piece.to_vec(),
            })
            .collect();
    }

    /// The faults that change how the body is framed, and not what it says.
    fn reframe(&mut self, fault: &Fault) {
        match fault {
            Fault::Split(size) => self.replace(&self.bytes(), *size),
            Fault::ShortMatching | Fault::ShortMismatch | Fault::ShortReset => {
                let mut half = self.bytes();
                let whole = half.len();
                half.truncate(whole / 2);
                self.replace(&half, whole);
                (self.framing, self.tail) = match fault {
                    Fault::ShortMatching => (Framing::Length(half.len()), Tail::Neat),
                    Fault::ShortMismatch => (Framing::Length(whole), Tail::Fin),
                    _ => (Framing::Length(whole), Tail::Reset),
                };
            }
            Fault::Gzip | Fault::GzipUnlabelled => {
                let packed = edit::gzip(&self.bytes());
                self.framing = Framing::Length(packed.len());
                self.replace(&packed, packed.len());
                self.encoding = if *fault == Fault::Gzip {
                    "content-encoding: gzip\r\n"
                } else {
                    ""
                };
            }
            Fault::EofBody | Fault::Cut { how: How::Eof, .. } => {
                self.framing = Framing::Eof;
                self.tail = Tail::Fin;
            }
            _ => {}
        }
    }

    fn plan(self, dialect: Dialect, pace: &Pace, serial: u64) -> Plan {
        let mut head = head(dialect, 200, self.kind, serial) + self.encoding;
        match self.framing {
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n\r\n"),
            Framing::Length(length) => {
                let _ = write!(head, "content-length: {length}\r\n\r\n");
            }
            Framing::Eof => head.push_str("connection: close\r\n\r\n"),
        }
        let mut track = Track {
            steps: Vec::with_capacity(self.frames.len() + 3),
            pending: Vec::new(),
            count: 0,
            batch: pace.batch,
        };
        track.pause(pace.head);
        track.send(head.as_bytes());
        track.flush();
        let mut first = true;
        for frame in &self.frames {
            let token = frame.kind.is_token() || pace.plain;
            let pause = match (token, first) {
                (true, true) => pace.first,
                (true, false) => pace.token,
                _ => Duration::ZERO,
            };
            first &= !token;
            track.pause(pause + pace.every);
            track.frame(self.framing, &frame.data);
        }
        let chunked = self.framing == Framing::Chunked;
        let ending = match self.tail {
            Tail::Neat if self.framing == Framing::Eof => Ending::Close,
            Tail::Neat => {
                if chunked {
                    track.send(b"0\r\n\r\n");
                }
                Ending::Keep
            }
            Tail::Fin => Ending::Close,
            Tail::Reset => Ending::Reset,
            Tail::BadChunk => {
                track.send(b"zz\r\nnot a chunk\r\n");
                Ending::Close
            }
            Tail::Hang => {
                track.flush();
                track.steps.push(Step::Hang);
                Ending::Close
            }
            Tail::HangPinging(every) => {
                track.flush();
                let ping = if pace.plain {
                    b"\n".to_vec()
                } else {
                    render::ping(dialect).data
                };
                track
                    .steps
                    .push(Step::HangPinging(every, chunk(&ping).into()));
                Ending::Close
            }
        };
        track.flush();
        Plan {
            status: 200,
            steps: track.steps,
            ending,
        }
    }
}

/// The pauses of one response.
struct Pace {
    plain: bool,
    head: Duration,
    first: Duration,
    token: Duration,
    every: Duration,
    batch: usize,
}

impl Pace {
    fn new(ask: &Ask, answer: &Answer, fault: &Fault, timing: Timing) -> Self {
        let mut pace = Self {
            plain: !ask.stream,
            head: Duration::ZERO,
            first: timing.first_token,
            token: timing.token,
            every: Duration::ZERO,
            batch: timing.batch.max(1),
        };
        if pace.plain {
            let tokens = u32::try_from(answer.output_tokens.saturating_sub(1)).unwrap_or(u32::MAX);
            pace.head = timing.first_token + timing.token.saturating_mul(tokens);
            (pace.first, pace.token) = (Duration::ZERO, Duration::ZERO);
        }
        match fault {
            Fault::SlowHeaders(pause) => pace.head += *pause,
            Fault::SlowFirst(pause) => pace.first += *pause,
            Fault::Trickle(pause) => pace.every = *pause,
            _ => {}
        }
        pace
    }
}

/// Collects the steps, with several events to one write where that is asked for.
struct Track {
    steps: Vec<Step>,
    pending: Vec<u8>,
    count: usize,
    batch: usize,
}

impl Track {
    fn pause(&mut self, pause: Duration) {
        if !pause.is_zero() {
            self.flush();
            self.steps.push(Step::Pause(pause));
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    fn frame(&mut self, framing: Framing, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if framing == Framing::Chunked {
            self.pending.extend_from_slice(&chunk(data));
        } else {
            self.send(data);
        }
        self.count += 1;
        if self.count >= self.batch {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.count = 0;
        if !self.pending.is_empty() {
            self.steps
                .push(Step::Send(std::mem::take(&mut self.pending).into()));
        }
    }
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
