//! The framing of a body: lengths, chunks, pauses, and how it ends.
//!
//! Takes events (or pieces of a plain body) that are already edited, and lays out the steps that the connection
//! performs. Knows nothing of what the bytes say.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Ending, Plan, Step, Timing, edit};
use crate::answer::Answer;
use crate::ask::{Ask, Dialect};
use crate::fault::{At, Fault, How, Quirk};
use crate::render::{self, Frame, Kind};

const JSON: &str = "application/json";
/// Bytes of one piece of a plain body, where a fault needs pieces.
const PLAIN_PIECE: usize = 32;

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    Chunked,
    /// This Content-Length, whatever is sent.
    Length(usize),
    Eof,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tail {
    Neat,
    Fin,
    Reset,
    Hang,
    HangPinging(Duration),
    BadChunk,
}

/// The body of a call that is not streamed.
pub(super) fn plain(ask: &Ask, answer: &Answer, fault: &Fault, quirk: Option<Quirk>) -> Body {
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
            tail = cut(&mut bytes, place, edit::tail_of(*how));
        }
        Fault::Stall(after) => tail = cut(&mut bytes, after * PLAIN_PIECE, Tail::Hang),
        Fault::StallPings { after, every } => {
            tail = cut(&mut bytes, after * PLAIN_PIECE, Tail::HangPinging(*every));
        }
        Fault::BadChunk(after) => tail = cut(&mut bytes, after * PLAIN_PIECE, Tail::BadChunk),
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

/// Cuts a body, never so late that it is whole.
fn cut(bytes: &mut Vec<u8>, place: usize, tail: Tail) -> Tail {
    bytes.truncate(place.min(bytes.len().saturating_sub(1)));
    tail
}

/// A body of either kind, before it is framed.
pub(super) struct Body {
    pub(super) frames: Vec<Frame>,
    pub(super) tail: Tail,
    pub(super) framing: Framing,
    pub(super) kind: &'static str,
    pub(super) encoding: &'static str,
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
    pub(super) fn reframe(&mut self, fault: &Fault) {
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

    /// What comes after the last event.
    fn end(&self, track: &mut Track, dialect: Dialect, plain: bool) -> Ending {
        match self.tail {
            Tail::Neat if self.framing == Framing::Eof => return Ending::Close,
            Tail::Neat => {
                if self.framing == Framing::Chunked {
                    track.send(b"0\r\n\r\n");
                }
                return Ending::Keep;
            }
            Tail::Fin => {}
            Tail::Reset => return Ending::Reset,
            Tail::BadChunk => track.send(b"zz\r\nnot a chunk\r\n"),
            Tail::Hang => {
                track.flush();
                track.steps.push(Step::Hang);
            }
            Tail::HangPinging(every) => {
                track.flush();
                let ping = if plain {
                    b"\n".to_vec()
                } else {
                    render::ping(dialect).data
                };
                track
                    .steps
                    .push(Step::HangPinging(every, chunk(&ping).into()));
            }
        }
        Ending::Close
    }

    pub(super) fn plan(self, dialect: Dialect, pace: &Pace, serial: u64) -> Plan {
        let mut head = super::head(dialect, 200, self.kind, serial) + self.encoding;
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
        let ending = self.end(&mut track, dialect, pace.plain);
        track.flush();
        Plan {
            status: 200,
            steps: track.steps,
            ending,
        }
    }
}

/// The pauses of one response.
pub(super) struct Pace {
    plain: bool,
    head: Duration,
    first: Duration,
    token: Duration,
    every: Duration,
    batch: usize,
}

impl Pace {
    pub(super) fn new(ask: &Ask, answer: &Answer, fault: &Fault, timing: Timing) -> Self {
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
