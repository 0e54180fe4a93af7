//! One attempt's answer while it comes in: cut into frames, read, judged, timed.
//!
//! A leg knows nothing of the caller; what its events mean for the caller is for the listener that
//! is handed in. It ends with a verdict or with the cause of its failure.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_wire::sse;
use holdfast_wire::translate::back::Back;
use holdfast_wire::turn::{Block, Dialect, Event, VendorError};

use super::speech::Reader;
use crate::classify::{self, Class};
use crate::fault::{Code, VendorReply};
use crate::judge::{self, Flaw, Judge, Progress, Verdict};
use crate::policy::{Target, Timeouts};
use crate::time::Time;

/// The most of an error body that is read.
const ERROR_BODY: usize = 64 << 10;

/// What a vendor's response head says, as far as decisions need it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    pub status: u16,
    pub content_type: Option<String>,
    /// `Content-Encoding`, where it is not `identity`.
    pub encoding: Option<String>,
    /// The parsed `retry-after-ms` / `retry-after`.
    pub retry_after: Option<Duration>,
}

/// Why a leg failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cause {
    pub(super) class: Class,
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) flaw: Option<Flaw>,
    pub(super) vendor: Option<VendorReply>,
}

/// How a leg ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ended {
    Judged(Verdict),
    Failed(Cause),
}

/// The listener to a leg's events.
pub(super) trait Listener {
    fn event(&mut self, event: &Event<'_>);
    /// All events of this frame were told; `None` = of a plain body.
    fn frame_end(&mut self, frame: Option<&sse::Frame>);
    /// How many bytes are held back.
    fn held(&self) -> usize;
    /// Whether frames are passed on unchanged.
    fn is_raw(&self) -> bool;
    /// The next frame can't be passed on unchanged: it is written anew, and so is all that follows.
    fn write_from_here(&mut self);
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Connecting,
    /// Connected; the response head is awaited.
    Head,
    /// The head of a stream came; its first token is awaited.
    First,
    /// Tokens come, or the pieces of a plain body.
    Flowing,
    /// Every choice has finished; usage and the terminal marker are awaited.
    Stopped,
}

#[derive(Debug)]
enum Body {
    /// Not known before its first byte.
    Unsniffed,
    Stream(sse::Decoder),
    Plain(Pile),
    /// An error status's body.
    Error(BytesMut),
}

/// A body as it gathers. One that came in one piece is not copied.
#[derive(Debug, Default)]
struct Pile {
    first: Bytes,
    all: BytesMut,
}

/// What was kept of an answer, to be read again.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) dialect: Dialect,
    pub(super) back: Option<Back>,
    pub(super) said: Said,
}

#[derive(Debug)]
pub(super) enum Said {
    Frames(Vec<sse::Frame>),
    Body(Bytes),
}

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) attempt: u32,
    pub(super) target: usize,
    pub(super) probe: bool,
    pub(super) facts: Target,
    pub(super) judge: Judge,
    pub(super) began: Time,
    pub(super) head: Head,
    pub(super) ended: Option<Ended>,
    pub(super) first_token: Option<Time>,
    asked_stream: bool,
    has_head: bool,
    /// A first chunk of the body came.
    flows: bool,
    phase: Phase,
    phase_began: Time,
    reader: Reader,
    /// What the answer of a translated request needs, unused: kept frames are read again.
    back: Option<Back>,
    body: Body,
    kept: Option<Vec<sse::Frame>>,
    kept_bytes: usize,
    limit: usize,
    event_limit: usize,
}

/// What a leg is begun with.
pub(super) struct Begin {
    pub(super) attempt: u32,
    pub(super) target: usize,
    pub(super) probe: bool,
    pub(super) facts: Target,
    pub(super) asked_stream: bool,
    pub(super) keep: bool,
    pub(super) choices: u32,
    pub(super) empty_is_whole: bool,
    pub(super) answer_limit: usize,
    pub(super) event_limit: usize,
}

impl Leg {
    pub(super) fn new(begin: &Begin, now: Time) -> Self {
        let terms = judge::Terms {
            dialect: begin.facts.dialect,
            choices: begin.choices,
            empty_is_whole: begin.empty_is_whole,
            arguments_limit: begin.answer_limit,
        };
        Self {
            attempt: begin.attempt,
            target: begin.target,
            probe: begin.probe,
            facts: begin.facts,
            judge: Judge::new(terms),
            began: now,
            head: Head::default(),
            ended: None,
            first_token: None,
            asked_stream: begin.asked_stream,
            has_head: false,
            flows: false,
            phase: Phase::Connecting,
            phase_began: now,
            reader: Reader::new(begin.facts.dialect, None),
            back: None,
            body: Body::Unsniffed,
            kept: begin.keep.then(Vec::new),
            kept_bytes: 0,
            limit: begin.answer_limit,
            event_limit: begin.event_limit,
        }
    }

    /// The request was translated.
    pub(super) fn translated(&mut self, back: Back) {
        self.reader = Reader::new(self.facts.dialect, Some(back.clone()));
        self.back = Some(back);
    }

    /// The answer was ended here, and not by the vendor.
    pub(super) fn is_cut(&self) -> bool {
        self.reader.is_cut()
    }

    pub(super) fn connected(&mut self, now: Time) {
        if self.phase == Phase::Connecting {
            self.enter(Phase::Head, now);
        }
    }

    /// Whether the response head came; there is no body before it.
    pub(super) fn has_head(&self) -> bool {
        self.has_head
    }

    pub(super) fn head(&mut self, head: Head, now: Time) {
        if std::mem::replace(&mut self.has_head, true) {
            return;
        }
        self.enter(Phase::First, now);
        if !(200..300).contains(&head.status) {
            self.body = Body::Error(BytesMut::new());
        } else if let Some(encoding) = &head.encoding {
            let flaw = Flaw::Encoding(encoding.clone());
            self.head = head;
            self.break_with(flaw);
            return;
        } else if let Some(kind) = head.content_type.as_deref() {
            let kind = kind.trim_start().to_ascii_lowercase();
            if kind.starts_with("text/event-stream") {
                self.body = Body::Stream(sse::Decoder::new(self.event_limit));
            } else {
                self.body = Body::Plain(Pile::default());
            }
        }
        self.head = head;
    }

    /// Whether the answer comes as a stream of events (known after the head or the first byte).
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.body, Body::Stream(_))
    }

    /// Settles the answer's form by its first byte where the head did not name it. `true` = this is
    /// the answer's first chunk.
    pub(super) fn sniff(&mut self, chunk: &[u8]) -> bool {
        if matches!(self.body, Body::Unsniffed) {
            let first = chunk.iter().find(|byte| !byte.is_ascii_whitespace());
            self.body = if matches!(first, Some(b'{' | b'<' | b'[')) {
                Body::Plain(Pile::default())
            } else {
                Body::Stream(sse::Decoder::new(self.event_limit))
            };
        }
        !std::mem::replace(&mut self.flows, true)
    }

    pub(super) fn chunk(&mut self, chunk: Bytes, now: Time, listener: &mut impl Listener) {
        if self.ended.is_some() {
            return;
        }
        match &mut self.body {
            Body::Error(body) => {
                let room = ERROR_BODY.saturating_sub(body.len());
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Body::Plain(body) if body.len() + chunk.len() > self.limit => {
                let limit = self.limit;
                self.break_with(Flaw::TooLarge { limit });
            }
            Body::Plain(body) => {
                body.push(chunk);
                self.enter(Phase::Flowing, now);
            }
            Body::Stream(decoder) => {
                decoder.push(chunk);
                self.frames(now, listener);
            }
            Body::Unsniffed => {}
        }
    }

    /// Reads every whole frame that is there.
    fn frames(&mut self, now: Time, listener: &mut impl Listener) {
        loop {
            let Body::Stream(decoder) = &mut self.body else {
                return;
            };
            match decoder.next_frame() {
                Ok(Some(frame)) => self.frame(frame, now, listener),
                Ok(None) => return,
                Err(_) => {
                    let limit = self.event_limit;
                    return self.break_with(Flaw::TooLarge { limit });
                }
            }
            if self.ended.is_some() {
                return;
            }
        }
    }

    fn frame(&mut self, frame: sse::Frame, now: Time, listener: &mut impl Listener) {
        let mut progress = false;
        if listener.is_raw() && !self.reader.is_by_the_book(&frame) {
            listener.write_from_here();
        }
        let judge = &mut self.judge;
        self.reader.frame(&frame, &mut |event| {
            progress |= is_progress(&event);
            judge.event(&event);
            listener.event(&event);
        });
        if let Some(flaw) = self.judge.fatal() {
            let flaw = flaw.clone();
            return self.break_with(flaw);
        }
        listener.frame_end(Some(&frame));
        self.keep(frame);
        if listener.held() > self.limit {
            let limit = self.limit;
            self.break_with(Flaw::TooLarge { limit });
        }
        if self.ended.is_some() {
            return;
        }
        match self.judge.progress() {
            Progress::Ended => self.ended = Some(self.judged()),
            Progress::Stopped => {
                if self.phase != Phase::Stopped {
                    self.enter(Phase::Stopped, now);
                }
            }
            Progress::Open if progress => {
                self.first_token.get_or_insert(now);
                self.enter(Phase::Flowing, now);
            }
            Progress::Open => {}
        }
    }

    fn keep(&mut self, frame: sse::Frame) {
        let Some(kept) = &mut self.kept else { return };
        self.kept_bytes += frame.raw().len();
        kept.push(frame);
        if self.kept_bytes > self.limit {
            let limit = self.limit;
            self.break_with(Flaw::TooLarge { limit });
        }
    }

    /// The body ended: cleanly, or (`Err`) by a broken transport.
    pub(super) fn end(&mut self, end: Result<(), String>, now: Time, listener: &mut impl Listener) {
        if self.ended.is_some() {
            return;
        }
        match &mut self.body {
            Body::Error(body) => {
                let body = body.split().freeze();
                self.error_status(&body);
            }
            Body::Plain(body) => match end {
                Ok(()) => {
                    let body = body.whole();
                    self.plain(&body, now, listener);
                }
                Err(why) => self.break_with(Flaw::Transport(why)),
            },
            Body::Unsniffed | Body::Stream(_) => self.stream_end(end),
        }
    }

    fn stream_end(&mut self, end: Result<(), String>) {
        // What was finished before the transport broke is finished: the judge decides.
        if let (Err(why), Progress::Open) = (end, self.judge.progress()) {
            return self.break_with(Flaw::Transport(why));
        }
        self.ended = Some(self.judged());
    }

    fn plain(&mut self, body: &Bytes, now: Time, listener: &mut impl Listener) {
        let judge = &mut self.judge;
        self.reader.body(body, &mut |event| {
            judge.event(&event);
            listener.event(&event);
        });
        self.first_token.get_or_insert(now);
        listener.frame_end(None);
        self.ended = Some(self.judged());
    }

    fn judged(&self) -> Ended {
        match self.judge.verdict() {
            Verdict::Broken(flaw) => Ended::Failed(broken(flaw)),
            verdict => Ended::Judged(verdict),
        }
    }

    /// When a timeout of this leg is due.
    pub(super) fn due(&self) -> Time {
        let Timeouts {
            connect,
            head,
            first_token,
            idle,
            attempt,
            after_finish,
        } = self.facts.timeouts;
        let whole = self.began + attempt;
        let phase = match self.phase {
            Phase::Connecting => connect,
            Phase::Head if self.asked_stream => head,
            Phase::First if self.is_stream() => first_token,
            Phase::First | Phase::Flowing => idle,
            Phase::Stopped => after_finish,
            Phase::Head => return whole,
        };
        whole.min(self.phase_began + phase)
    }

    pub(super) fn timeout(&mut self, now: Time) {
        if self.ended.is_some() || now < self.due() {
            return;
        }
        if self.phase == Phase::Stopped {
            // Some servers go silent after the finish reason: the answer is there.
            self.ended = Some(self.judged());
            return;
        }
        if let Body::Error(body) = &mut self.body {
            // The status says enough.
            let body = body.split().freeze();
            return self.error_status(&body);
        }
        let phase = match self.phase {
            _ if now >= self.began + self.facts.timeouts.attempt => "the whole attempt",
            Phase::Connecting => "connecting",
            Phase::Head => "before the response head",
            Phase::First => "before the first token",
            Phase::Flowing | Phase::Stopped => "between tokens",
        };
        self.break_with(Flaw::Stalled { phase });
    }

    /// The request could not be sent, or the connection broke before a response head.
    pub(super) fn failed_to_send(&mut self, why: &str) {
        if self.ended.is_none() {
            self.ended = Some(Ended::Failed(Cause {
                class: Class::Retry { after: None },
                code: Code::UpstreamUnavailable,
                message: why.to_owned(),
                flaw: None,
                vendor: None,
            }));
        }
    }

    /// This target can't carry the request.
    pub(super) fn untranslatable(&mut self, why: &str) {
        self.ended = Some(Ended::Failed(Cause {
            class: Class::Unfit,
            code: Code::NotTranslatable,
            message: why.to_owned(),
            flaw: None,
            vendor: None,
        }));
    }

    /// What was kept of the answer.
    pub(super) fn take_kept(&mut self) -> Kept {
        let said = match &mut self.body {
            Body::Plain(body) => Said::Body(body.whole()),
            _ => Said::Frames(self.kept.take().unwrap_or_default()),
        };
        Kept {
            dialect: self.facts.dialect,
            back: self.back.take(),
            said,
        }
    }

    /// What was taken by [`Self::take_kept`] is still needed.
    pub(super) fn put_back(&mut self, kept: Kept) {
        self.back = kept.back;
        match kept.said {
            Said::Body(body) => self.body = Body::Plain(Pile::from(body)),
            Said::Frames(frames) => self.kept = Some(frames),
        }
    }

    fn enter(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.phase_began = now;
    }

    fn break_with(&mut self, flaw: Flaw) {
        self.ended = Some(Ended::Failed(broken(flaw)));
    }

    fn error_status(&mut self, body: &Bytes) {
        let error = holdfast_wire::anthropic::error_body(body).unwrap_or_default();
        let mut class = classify::status(self.head.status, &error, self.head.retry_after);
        class = match class {
            Class::Auth if self.facts.caller_auth => Class::Caller,
            Class::NoModel if !self.facts.names_model => Class::Caller,
            other => other,
        };
        let message = if error.message.is_empty() {
            format!("status {}", self.head.status)
        } else {
            format!("status {}: {}", self.head.status, error.message)
        };
        let vendor = VendorReply {
            status: self.head.status,
            content_type: self.head.content_type.clone(),
            body: body.clone(),
        };
        let code = code_of(class, Code::UpstreamUnavailable);
        self.ended = Some(Ended::Failed(Cause {
            class,
            code,
            message,
            flaw: None,
            vendor: Some(vendor),
        }));
    }
}

// === impl Pile ===

impl Pile {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        let first = std::mem::take(&mut self.first);
        self.all.extend_from_slice(&first);
        self.all.extend_from_slice(&piece);
    }

    /// All of it; it stays.
    fn whole(&mut self) -> Bytes {
        if !self.all.is_empty() {
            self.first = self.all.split().freeze();
        }
        self.first.clone()
    }
}

impl From<Bytes> for Pile {
    fn from(first: Bytes) -> Self {
        let all = BytesMut::new();
        Self { first, all }
    }
}

/// Whether a token came: something of the answer itself, not a sign of life.
fn is_progress(event: &Event<'_>) -> bool {
    match event {
        Event::Delta { .. } | Event::BlockStop { .. } | Event::Stop { .. } => true,
        // Anthropic opens a block before it has anything to put into it.
        Event::BlockStart { block, .. } => match block {
            Block::Text { text } | Block::Refusal { text } => !text.is_empty(),
            Block::Thinking { thinking, .. } => !thinking.is_empty(),
            _ => true,
        },
        _ => false,
    }
}

fn code_of(class: Class, otherwise: Code) -> Code {
    match class {
        Class::Retry { .. } => otherwise,
        Class::Slow { .. } => Code::UpstreamRateLimited,
        Class::Money => Code::UpstreamMoney,
        Class::Auth => Code::UpstreamAuth,
        Class::NoModel | Class::Caller => Code::VendorRejected,
        Class::Overflow => Code::ContextOverflow,
        Class::Unfit => Code::NotTranslatable,
    }
}

/// What an answer with this flaw is to the plan.
pub(super) fn broken(flaw: Flaw) -> Cause {
    let (class, code) = match &flaw {
        Flaw::VendorError {
            kind,
            code,
            message,
        } => {
            let error = VendorError {
                kind: kind.as_str().into(),
                code: code.as_str().into(),
                message: message.as_str().into(),
            };
            // Inside a begun answer a "your fault" is not credible: the request was accepted.
            match classify::in_band(&error) {
                Class::Caller => (Class::Retry { after: None }, Code::UpstreamIncomplete),
                class => (class, code_of(class, Code::UpstreamIncomplete)),
            }
        }
        Flaw::Stalled { .. } => (Class::Retry { after: None }, Code::UpstreamTimeout),
        _ => (Class::Retry { after: None }, Code::UpstreamIncomplete),
    };
    Cause {
        class,
        code,
        message: flaw.to_string(),
        flaw: Some(flaw),
        vendor: None,
    }
}
