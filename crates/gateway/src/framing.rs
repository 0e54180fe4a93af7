//! Sees whether a request's head told a length besides a transfer coding.
//!
//! Both together are how requests are smuggled past a proxy (RFC 9112, 6.1). The HTTP library takes
//! the length out before a handler sees the head, so it is noticed here, on the bytes as they pass.
//! A request that was sent before the last answer began is not looked at; the library reads it by
//! its coding alone and closes the connection, which is safe too.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const NAME: &[u8] = b"content-length";

/// What is known of the head that came last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Length(Rc<Cell<bool>>);

impl Length {
    pub(crate) fn was_told(&self) -> bool {
        self.0.get()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    /// At the start of a line, of which so many bytes are as in [`NAME`].
    LineStart(usize),
    Line,
    Body,
}

/// A connection whose heads are watched.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    io: S,
    at: At,
    length: Length,
}

impl<S> Watched<S> {
    pub(crate) fn new(io: S) -> (Self, Length) {
        let length = Length::default();
        let watched = Self {
            io,
            at: At::LineStart(0),
            length: length.clone(),
        };
        (watched, length)
    }

    fn see(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.at = match self.at {
                At::Body => return,
                At::Line => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        return;
                    };
                    bytes = &bytes[end + 1..];
                    self.at = At::LineStart(0);
                    continue;
                }
                At::LineStart(0) if byte == b'\r' => At::LineStart(0),
                At::LineStart(0) if byte == b'\n' => At::Body,
                At::LineStart(matched) if byte.eq_ignore_ascii_case(&NAME[matched]) => {
                    if matched + 1 == NAME.len() {
                        self.length.0.set(true);
                        At::Line
                    } else {
                        At::LineStart(matched + 1)
                    }
                }
                At::LineStart(_) if byte == b'\n' => At::LineStart(0),
                At::LineStart(_) => At::Line,
            };
            bytes = rest;
        }
    }

    /// An answer is being written: what is read from now on is another request's head.
    fn begin(&mut self) {
        self.at = At::LineStart(0);
        self.length.0.set(false);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.at != At::Body {
            self.see(&buf.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(head: &[u8], piece: usize) -> bool {
        let (mut watched, length) = Watched::new(());
        for piece in head.chunks(piece) {
            watched.see(piece);
        }
        length.was_told()
    }

    #[test]
    fn a_length_is_seen_in_any_pieces_and_only_in_the_head() {
        for piece in 1..40 {
            assert!(told(
                b"POST / HTTP/1.1\r\nHost: h\r\ncoNtent-Length: 4\r\n\r\n",
                piece
            ));
            assert!(told(b"POST / HTTP/1.1\nContent-Length: 4\n\n", piece));
            assert!(!told(
                b"POST / HTTP/1.1\r\nX: Content-Length\r\nContent-Lengt: 1\r\n\r\nContent-Length: 4\r\n",
                piece
            ));
        }
    }
}
