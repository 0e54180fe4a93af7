//! Finds where a frame ends and which fields it has, in one pass that can stop at any byte.
//!
//! The scanner sees the frame from its first byte in one buffer that only grows, and remembers how
//! far it got: no byte is looked at twice, however small the chunks are. It holds offsets, not bytes.

use std::ops::Range;

use memchr::memchr2;

use super::field;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A range within a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

/// Where a frame's `data` is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Data {
    None,
    One(Span),
    /// The first of several; the others are found again when they are asked for.
    Many(Span),
}

/// What a frame says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fields {
    /// The value of the last `event` field.
    pub(super) event: Option<Span>,
    pub(super) data: Data,
    /// There is a line that is no comment.
    pub(super) any: bool,
}

/// What a scan came to.
pub(super) enum Step {
    /// The frame ends before this offset.
    FrameEnd(usize),
    /// The buffer is scanned and the frame goes on.
    More,
}

/// The state of one frame's scan, and what of it outlives the frame.
#[derive(Debug)]
pub(super) struct Scanner {
    fields: Fields,
    /// Where the current line starts.
    line: usize,
    /// Everything before this was scanned.
    at: usize,
    /// A CR stands right before `at`, and whether an LF follows is not known yet.
    pending_cr: bool,
    /// No line of the stream has ended yet: the current one may begin with a byte order mark.
    first_line: bool,
    /// The latest line end was a CR without LF. Such a stream's blank line is taken at its CR, since
    /// waiting for an LF would hold every frame back until the next one; should an LF come first in
    /// the next frame after all, it belongs to that CR.
    bare_cr: bool,
}

impl Span {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a longer frame is refused before its spans are read: the limit is at most u32::MAX"
    )]
    fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    pub(super) fn of(self, raw: &[u8]) -> &[u8] {
        &raw[self.start as usize..self.end as usize]
    }
}

impl Scanner {
    pub(super) fn start_of_stream() -> Self {
        Self {
            fields: Fields {
                event: None,
                data: Data::None,
                any: false,
            },
            line: 0,
            at: 0,
            pending_cr: false,
            first_line: true,
            bare_cr: false,
        }
    }

    /// Gives the finished frame's fields and gets ready for the frame after it.
    pub(super) fn take(&mut self) -> Fields {
        let next = Self {
            first_line: false,
            bare_cr: self.bare_cr,
            ..Self::start_of_stream()
        };
        std::mem::replace(self, next).fields
    }

    /// Goes on with a buffer that starts at the frame's first byte.
    pub(super) fn scan(&mut self, buffer: &[u8]) -> Step {
        if self.at == 0 && self.bare_cr && buffer.first() == Some(&b'\n') {
            self.bare_cr = false;
            self.at = 1;
            self.line = 1;
        }
        while self.at < buffer.len() {
            if self.pending_cr {
                if self.after_cr(buffer) {
                    return Step::FrameEnd(self.at);
                }
                continue;
            }
            let Some(found) = memchr2(b'\n', b'\r', &buffer[self.at..]) else {
                self.at = buffer.len();
                break;
            };
            if self.line_end(buffer, self.at + found) {
                return Step::FrameEnd(self.at);
            }
        }
        Step::More
    }

    /// At the end of all bytes: the frame's end, if a CR that nothing follows ended it.
    pub(super) fn end_at_pending_cr(&self) -> Option<usize> {
        (self.pending_cr && self.line + 1 == self.at).then_some(self.at)
    }

    /// Handles the line end at `end`; true if it ends the frame.
    fn line_end(&mut self, buffer: &[u8], end: usize) -> bool {
        if std::mem::take(&mut self.first_line)
            && buffer[self.line..end].starts_with(BYTE_ORDER_MARK)
        {
            self.line += BYTE_ORDER_MARK.len();
        }
        let blank = self.line == end;
        self.at = end + 1;
        if !blank {
            self.read_line(buffer, end);
        }
        if buffer[end] == b'\n' {
            self.bare_cr = false;
            self.line = self.at;
            return blank;
        }
        if blank && self.bare_cr {
            return true;
        }
        // Left at the blank line's start so that `after_cr` can tell it from a line with content.
        self.line = if blank { end } else { self.at };
        self.pending_cr = true;
        false
    }

    /// Handles the byte after a CR; true if that CR ended the frame.
    fn after_cr(&mut self, buffer: &[u8]) -> bool {
        let blank = self.line + 1 == self.at;
        self.pending_cr = false;
        self.bare_cr = buffer[self.at] != b'\n';
        if !self.bare_cr {
            self.at += 1;
        }
        self.line = self.at;
        blank
    }

    /// Notes the fields that Holdfast reads.
    fn read_line(&mut self, buffer: &[u8], end: usize) {
        let (name, value) = field(&buffer[self.line..end]);
        let span = Span::new(end - value.len(), end);
        match name {
            b"" if buffer[self.line] == b':' => return,
            b"data" => {
                self.fields.data = match self.fields.data {
                    Data::None => Data::One(span),
                    Data::One(first) | Data::Many(first) => Data::Many(first),
                };
            }
            b"event" => self.fields.event = Some(span),
            _ => {}
        }
        self.fields.any = true;
    }
}

/// The line that starts at (or holds) `start`, without its end, and where the next one starts.
pub(super) fn line_at(buffer: &[u8], start: usize) -> (Range<usize>, usize) {
    let Some(found) = memchr2(b'\n', b'\r', &buffer[start..]) else {
        return (start..buffer.len(), buffer.len());
    };
    let end = start + found;
    let crlf = buffer[end] == b'\r' && buffer.get(end + 1) == Some(&b'\n');
    (start..end, end + 1 + usize::from(crlf))
}
