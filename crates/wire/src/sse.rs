//! Cuts a byte stream into server-sent-event frames without copying or changing a byte.
//!
//! Rules of <https://html.spec.whatwg.org/multipage/server-sent-events.html> (9.2.5 and 9.2.6): lines
//! end in LF, CRLF or CR, a byte order mark may stand at the start, a blank line ends a frame. A
//! [`Frame`] keeps the bytes as they came, so that a gateway can pass them on unchanged, beside the
//! two fields that the vendors use, `event` and `data`. Frames within one chunk are slices of it;
//! only a frame that spans chunks is copied, once. How the stream is chunked never changes what
//! comes out. Nothing here knows a vendor, decides that an answer is whole, or reads `id`/`retry`.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::{memchr, memchr2};

mod scan;

use scan::{Data, Fields, Scanner, Span, Step, line_at};

/// Why no further frame can be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// A frame, finished or not, is longer than the decoder's limit.
    #[error("a frame of the event stream is longer than {limit} bytes")]
    FrameTooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

/// Cuts chunks into frames: [`push`](Self::push) what arrives, take frames by
/// [`next_frame`](Self::next_frame) until it has none, and [`finish`](Self::finish) at the end of
/// the body.
///
/// The bytes of all frames, then of `finish`, are exactly the bytes pushed, unless an error came.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// The start of an unfinished frame; the scanner has seen all of it.
    carry: BytesMut,
    /// What follows `carry`; none of it scanned.
    chunk: Bytes,
    /// What follows `chunk`: filled only by a caller who pushes without draining.
    queue: VecDeque<Bytes>,
    scanner: Scanner,
    failed: Option<Error>,
}

/// One frame: everything up to and including a blank line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    raw: Bytes,
    fields: Fields,
}

// === impl Decoder ===

impl Decoder {
    /// A decoder that refuses frames of more than `limit_bytes` (at most 4 GiB - 1), so that a vendor
    /// who never sends a blank line cannot fill the memory.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit: limit_bytes.min(u32::MAX as usize),
            carry: BytesMut::new(),
            chunk: Bytes::new(),
            queue: VecDeque::new(),
            scanner: Scanner::start_of_stream(),
            failed: None,
        }
    }

    /// Takes over what arrived. Nothing is copied or scanned yet; after an error it is dropped.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_some() || chunk.is_empty() {
            return;
        }
        if self.chunk.is_empty() && self.queue.is_empty() {
            self.chunk = chunk;
        } else {
            self.queue.push_back(chunk);
        }
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// A frame whose blank line is a CR that may be half of a CRLF comes out with the next byte.
    /// After an error every further call gives the same error and the bytes held are freed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while self.has_unscanned() {
            let raw = if self.carry.is_empty() {
                self.cut_from_chunk()
            } else {
                self.cut_from_carry()
            };
            let length = raw.as_ref().map_or(self.carry.len(), Bytes::len);
            if length > self.limit {
                return Err(self.fail());
            }
            if let Some(raw) = raw {
                let fields = self.scanner.take();
                return Ok(Some(Frame { raw, fields }));
            }
        }
        Ok(None)
    }

    /// The bytes of the unterminated tail at the end of the body, if any. By the standard they are
    /// no event; a vendor who was not cut off leaves none. The decoder is empty afterwards.
    ///
    /// Call it when `next_frame` has no more: frames not taken by then are part of the tail.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.scanner = Scanner::start_of_stream();
        if self.carry.is_empty() && self.queue.is_empty() {
            let tail = std::mem::take(&mut self.chunk);
            return (!tail.is_empty()).then_some(tail);
        }
        let mut tail = std::mem::take(&mut self.carry);
        tail.extend_from_slice(&std::mem::take(&mut self.chunk));
        for chunk in self.queue.drain(..) {
            tail.extend_from_slice(&chunk);
        }
        Some(tail.freeze())
    }

    /// Refills the chunk from the queue; false if nothing is left.
    fn has_unscanned(&mut self) -> bool {
        if self.chunk.is_empty() {
            self.chunk = self.queue.pop_front().unwrap_or_default();
        }
        !self.chunk.is_empty()
    }

    /// Cuts a frame off the chunk, or moves the whole chunk to `carry`.
    fn cut_from_chunk(&mut self) -> Option<Bytes> {
        if let Step::FrameEnd(end) = self.scanner.scan(&self.chunk) {
            return Some(self.chunk.split_to(end));
        }
        self.carry.extend_from_slice(&self.chunk);
        self.chunk = Bytes::new();
        None
    }

    /// Moves one line of the chunk to `carry`, so that no more than the unfinished frame (and at most
    /// one line beyond it) is ever copied.
    fn cut_from_carry(&mut self) -> Option<Bytes> {
        let line = memchr2(b'\n', b'\r', &self.chunk).map_or(self.chunk.len(), |at| at + 1);
        self.carry.extend_from_slice(&self.chunk[..line]);
        let Step::FrameEnd(end) = self.scanner.scan(&self.carry) else {
            self.chunk.advance(line);
            return None;
        };
        // A CR turned out to have ended the frame: the line just copied belongs to the next one.
        let beyond = self.carry.len() - end;
        self.chunk.advance(line - beyond);
        self.carry.truncate(end);
        Some(self.carry.split().freeze())
    }

    fn fail(&mut self) -> Error {
        let error = Error::FrameTooLong { limit: self.limit };
        self.failed = Some(error);
        self.carry = BytesMut::new();
        self.chunk = Bytes::new();
        self.queue = VecDeque::new();
        error
    }
}

// === impl Frame ===

impl Frame {
    /// Reads `raw` as a stream of exactly one frame, with its blank line; `None` if it is not one.
    pub fn new(raw: Bytes) -> Option<Self> {
        let mut scanner = Scanner::start_of_stream();
        let end = match scanner.scan(&raw) {
            Step::FrameEnd(end) => end,
            Step::More => scanner.end_at_pending_cr()?,
        };
        let fields = scanner.take();
        (end == raw.len()).then_some(Self { raw, fields })
    }

    /// The bytes as received, with the blank line that ended the frame.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The value of the last `event` field; `None` if there is no such field.
    pub fn event(&self) -> Option<&[u8]> {
        self.fields.event.map(|span| span.of(&self.raw))
    }

    /// The values of the `data` fields joined by LF: borrowed when there is one. `None` if there is
    /// no such field (a comment, an empty frame).
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        match self.fields.data {
            Data::None => None,
            Data::One(span) => Some(Cow::Borrowed(span.of(&self.raw))),
            Data::Many(first) => Some(Cow::Owned(self.joined(first))),
        }
    }

    /// True if the frame has no field at all: comments or nothing. Such a frame keeps a connection
    /// alive and says nothing.
    pub fn is_comment_only(&self) -> bool {
        !self.fields.any
    }

    /// Joins the data lines, given the first one's value.
    fn joined(&self, first: Span) -> Vec<u8> {
        let mut joined = first.of(&self.raw).to_vec();
        let (_, mut at) = line_at(&self.raw, first.start());
        while at < self.raw.len() {
            let (line, next) = line_at(&self.raw, at);
            if let Some(value) = data_value(&self.raw[line]) {
                joined.push(b'\n');
                joined.extend_from_slice(value);
            }
            at = next;
        }
        joined
    }
}

/// The value of a line if it is a `data` field.
fn data_value(line: &[u8]) -> Option<&[u8]> {
    let (name, value) = field(line);
    (name == b"data").then_some(value)
}

/// Splits a line into a field's name and value; a comment has an empty name.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr(b':', line) else {
        return (line, b"");
    };
    let value = &line[colon + 1..];
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}
