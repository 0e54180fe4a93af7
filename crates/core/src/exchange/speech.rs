//! The caller's dialect as something to write in: one type over the writers of all dialects.

use bytes::{Bytes, BytesMut};
use holdfast_wire::answer::{Answer, NotWhole, Shown, WriterOptions};
use holdfast_wire::translate::back::Back;
use holdfast_wire::turn::{Dialect, Event};
use holdfast_wire::{anthropic, openai, sse};

/// Reads one answer of either dialect, as its caller is to see it.
#[derive(Debug)]
pub(super) struct Reader {
    tongue: Tongue,
    back: Option<Box<Back>>,
}

#[derive(Debug)]
enum Tongue {
    Anthropic(anthropic::reader::Reader),
    OpenAi(openai::reader::Reader),
}

impl Reader {
    /// `back` = what a translated request's answer needs on its way.
    pub(super) fn new(dialect: Dialect, back: Option<Back>) -> Self {
        let tongue = match dialect {
            Dialect::Anthropic => Tongue::Anthropic(anthropic::reader::Reader::default()),
            Dialect::OpenAi => Tongue::OpenAi(openai::reader::Reader::default()),
        };
        let back = back.map(Box::new);
        Self { tongue, back }
    }

    pub(super) fn frame(&mut self, frame: &sse::Frame, sink: &mut impl FnMut(Event<'_>)) {
        match &mut self.back {
            None => self.tongue.frame(frame, sink),
            Some(back) => self
                .tongue
                .frame(frame, &mut |event| back.event(event, sink)),
        }
    }

    /// Whether every client reads this frame, passed on unchanged, as we do. Ask before it is read.
    pub(super) fn is_by_the_book(&mut self, frame: &sse::Frame) -> bool {
        match &mut self.tongue {
            Tongue::Anthropic(_) => true,
            Tongue::OpenAi(reader) => reader.is_by_the_book(frame),
        }
    }

    pub(super) fn body(&mut self, body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        match &mut self.back {
            None => self.tongue.body(body, sink),
            Some(back) => self.tongue.body(body, &mut |event| back.event(event, sink)),
        }
    }

    /// The answer was ended at a stop string: what the vendor still says is not read.
    pub(super) fn is_cut(&self) -> bool {
        self.back.as_ref().is_some_and(|back| back.is_cut())
    }
}

impl Tongue {
    fn frame(&mut self, frame: &sse::Frame, sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Anthropic(reader) => reader.frame(frame, sink),
            Self::OpenAi(reader) => reader.frame(frame, sink),
        }
    }

    fn body(&mut self, body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Anthropic(reader) => reader.body(body, sink),
            Self::OpenAi(reader) => reader.body(body, sink),
        }
    }
}

/// Writes one answer in either dialect.
#[derive(Debug)]
pub(super) enum Writer {
    Anthropic(Box<anthropic::writer::Writer>),
    OpenAi(Box<openai::writer::Writer>),
}

impl Writer {
    /// A writer that goes on after what the caller has already `shown`.
    pub(super) fn resume(dialect: Dialect, options: WriterOptions, shown: Shown) -> Self {
        match dialect {
            Dialect::Anthropic => {
                Self::Anthropic(Box::new(anthropic::writer::Writer::resume(options, shown)))
            }
            Dialect::OpenAi => {
                Self::OpenAi(Box::new(openai::writer::Writer::resume(options, shown)))
            }
        }
    }

    pub(super) fn event(&mut self, event: &Event<'_>, out: &mut BytesMut) {
        match self {
            Self::Anthropic(writer) => writer.event(event, out),
            Self::OpenAi(writer) => writer.event(event, out),
        }
    }

    pub(super) fn end(&mut self, out: &mut BytesMut) -> Result<(), NotWhole> {
        match self {
            Self::Anthropic(writer) => writer.end(out),
            Self::OpenAi(writer) => writer.end(out),
        }
    }

    /// What the caller will have seen once all that was written is shown.
    pub(super) fn shown(&self) -> &Shown {
        match self {
            Self::Anthropic(writer) => writer.shown(),
            Self::OpenAi(writer) => writer.shown(),
        }
    }

    pub(super) fn losses(&self) -> &[&'static str] {
        match self {
            Self::Anthropic(writer) => writer.losses(),
            Self::OpenAi(writer) => writer.losses(),
        }
    }
}

/// The frame as it came, but with its event's name where the dialect's clients need one.
pub(super) fn unchanged(dialect: Dialect, frame: &sse::Frame) -> Bytes {
    match dialect {
        Dialect::Anthropic => anthropic::reader::with_event_name(frame),
        Dialect::OpenAi => frame.raw().clone(),
    }
}

/// A keep-alive that every client of the dialect ignores.
pub(super) fn ping(dialect: Dialect, out: &mut BytesMut) {
    match dialect {
        Dialect::Anthropic => anthropic::writer::ping(out),
        Dialect::OpenAi => openai::writer::ping(out),
    }
}

/// A remark that no client shows.
pub(super) fn comment(text: &str, out: &mut BytesMut) {
    anthropic::writer::comment(text, out);
}

/// The answer as a body of `dialect`.
pub(super) fn encode_body(
    dialect: Dialect,
    answer: &Answer,
    options: &WriterOptions,
) -> Result<Vec<u8>, NotWhole> {
    match dialect {
        Dialect::Anthropic => anthropic::body::encode(answer, options),
        Dialect::OpenAi => openai::body::encode(answer, options),
    }
}
