//! As much of HTTP/1.1 as the vendor and the client need: where a head ends, how long its body is,
//! and the way out of chunks.
//!
//! Written by hand, because the two share two cores with what is measured: a general library would
//! take more of them than the proxies do. It trusts its peers in nothing but the size of a head.

use std::str;

use memchr::{memchr, memmem};

use crate::Error;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes(usize),
    Chunked,
    /// With the connection; a request without a length has no body.
    Unsaid,
}

/// What is known of a message when its head is whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes up to the body.
    pub(crate) size: usize,
    pub(crate) length: Length,
    /// The sender closes after this message.
    pub(crate) close: bool,
}

/// The head at the beginning of `bytes`, if all of it is there.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Error> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let mut head = Head {
        size: end + 4,
        length: Length::Unsaid,
        close: false,
    };
    let mut rest = &bytes[..end + 2];
    while let Some(newline) = memchr(b'\n', rest) {
        let line = &rest[..newline];
        rest = &rest[newline + 1..];
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(length) = value(line, "content-length") {
                    head.length = Length::Bytes(length.parse()?);
                } else if let Some(connection) = value(line, "connection") {
                    head.close = connection.eq_ignore_ascii_case("close");
                }
            }
            Some(b't' | b'T') if value(line, "transfer-encoding").is_some() => {
                head.length = Length::Chunked;
            }
            _ => {}
        }
    }
    Ok(Some(head))
}

/// The value of a header line, if it has this name.
fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a str> {
    let (said, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    if !said.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    str::from_utf8(value).ok().map(str::trim)
}

/// The status of an answer's head.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// A body on its way in: takes what arrives and gives what is content.
pub(crate) struct Body(State);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// This many bytes are to come.
    Left(usize),
    /// Within the line of a chunk's size; whether its digits are over.
    Size(usize, bool),
    Chunk(usize),
    /// The line end behind a chunk.
    ChunkEnd,
    /// The lines behind the last chunk; whether this one has anything in it.
    Trailer(bool),
    ToEnd,
    Done,
}

impl Body {
    pub(crate) fn new(length: Length) -> Self {
        Self(match length {
            Length::Bytes(0) => State::Done,
            Length::Bytes(bytes) => State::Left(bytes),
            Length::Chunked => State::Size(0, false),
            Length::Unsaid => State::ToEnd,
        })
    }

    pub(crate) fn done(&self) -> bool {
        self.0 == State::Done
    }

    /// Whether the body may end with the connection here.
    pub(crate) fn may_close(&self) -> bool {
        matches!(self.0, State::Done | State::ToEnd)
    }

    /// Takes bytes, hands their content on piece by piece, and says how many belong to this body.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        mut content: impl FnMut(&[u8]),
    ) -> Result<usize, Error> {
        let mut at = 0;
        while at < bytes.len() && self.0 != State::Done {
            let rest = &bytes[at..];
            at += match self.0 {
                State::Left(left) | State::Chunk(left) => {
                    let piece = &rest[..left.min(rest.len())];
                    content(piece);
                    self.passed(left - piece.len());
                    piece.len()
                }
                State::ToEnd => {
                    content(rest);
                    rest.len()
                }
                _ => {
                    self.0 = self.0.framed(rest[0])?;
                    1
                }
            };
        }
        Ok(at)
    }

    /// After a piece of content, with so many bytes left of it.
    fn passed(&mut self, left: usize) {
        self.0 = match (self.0, left) {
            (State::Left(_), 0) => State::Done,
            (State::Left(_), left) => State::Left(left),
            (_, 0) => State::ChunkEnd,
            (_, left) => State::Chunk(left),
        };
    }
}

impl State {
    /// What follows a byte of the frame around the chunks.
    fn framed(self, byte: u8) -> Result<Self, Error> {
        Ok(match (self, byte) {
            (Self::Size(0, _) | Self::Trailer(true), b'\n') => Self::Trailer(false),
            (Self::Size(size, _), b'\n') => Self::Chunk(size),
            (Self::Size(size, _), b';' | b'\r' | b' ') | (Self::Size(size, true), _) => {
                Self::Size(size, true)
            }
            (Self::Size(size, false), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or("an odd chunk size")?;
                let size = size.checked_mul(16).ok_or("a chunk without end")?;
                Self::Size(size + digit as usize, false)
            }
            (Self::ChunkEnd, b'\n') => Self::Size(0, false),
            (Self::ChunkEnd, byte) if byte != b'\r' => {
                return Err("a chunk longer than it said".into());
            }
            (Self::Trailer(false), b'\n') => Self::Done,
            (Self::Trailer(_), byte) if byte != b'\r' => Self::Trailer(true),
            (state, _) => state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(length: Length, pieces: &[&[u8]]) -> (String, Body) {
        let (mut body, mut text) = (Body::new(length), Vec::new());
        for piece in pieces {
            body.take(piece, |part| text.extend_from_slice(part))
                .unwrap();
        }
        (String::from_utf8(text).unwrap(), body)
    }

    #[test]
    fn reads_heads() {
        let head = head(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nx");
        let head = head.unwrap().unwrap();
        assert_eq!((head.size, head.length), (58, Length::Bytes(12)));
        assert!(head.close);
        assert_eq!(status(b"HTTP/1.1 503 No\r\n"), Some(503));
    }

    #[test]
    fn a_head_that_is_not_whole_is_none() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
    }

    #[test]
    fn knows_chunks_by_their_header() {
        let head = head(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(head.unwrap().length, Length::Chunked);
    }

    #[test]
    fn takes_chunks_in_any_pieces() {
        let sent = b"5;a=b\r\nhello\r\n10\r\n 0123456789abcde\r\n0\r\nx: y\r\n\r\n";
        for size in 1..sent.len() {
            let pieces: Vec<&[u8]> = sent.chunks(size).collect();
            let (text, body) = content(Length::Chunked, &pieces);
            assert_eq!(text, "hello 0123456789abcde", "in pieces of {size}");
            assert!(body.done());
        }
    }

    #[test]
    fn leaves_what_follows_a_body() {
        let mut body = Body::new(Length::Bytes(3));
        assert_eq!(body.take(b"abcdef", |_| ()).unwrap(), 3);
        assert!(body.done());
    }

    #[test]
    fn a_cut_body_may_not_close() {
        assert!(!content(Length::Bytes(3), &[b"ab"]).1.may_close());
        assert!(!content(Length::Chunked, &[b"2\r\nab\r\n"]).1.may_close());
        assert!(content(Length::Unsaid, &[b"ab"]).1.may_close());
    }

    #[test]
    fn a_chunk_must_be_as_long_as_it_said() {
        assert!(Body::new(Length::Chunked).take(b"1\r\nab", |_| ()).is_err());
    }
}
