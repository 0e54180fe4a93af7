//! The bodies of a call: what goes out in pieces of known size, what comes in with its connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::head::{self, Head};
use crate::line::Line;
use crate::pool::{Pool, StreamCount};

/// A request body made of shared pieces: a spliced request is sent without being copied together,
/// and cloned for another attempt without being copied at all.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    length: u64,
}

impl Pieces {
    /// A body of these pieces, in this order.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: VecDeque<Bytes> = pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect();
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, length }
    }

    /// Bytes in all pieces.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// How many pieces there are.
    pub(crate) fn count(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        if let Some(piece) = &piece {
            self.length -= piece.remaining() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// What went wrong on a connection.
#[derive(Debug)]
pub struct Cause(pub(crate) Why);

#[derive(Debug)]
pub(crate) enum Why {
    Http2(hyper::Error),
    Io(io::Error),
    /// Before the response.
    Closed,
    Head(head::Flaw),
    Body(holdfast_http1::Flaw),
}

impl fmt::Display for Cause {
    /// Down to the root: "connection error" alone helps nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error: &dyn Error = match &self.0 {
            Why::Closed => return f.write_str("connection closed before message completed"),
            Why::Http2(error) => error,
            Why::Io(error) => error,
            Why::Head(flaw) => flaw,
            Why::Body(flaw) => flaw,
        };
        write!(f, "{error}")?;
        let mut cause = error.source();
        while let Some(deeper) = cause {
            write!(f, ": {deeper}")?;
            cause = deeper.source();
        }
        Ok(())
    }
}

// Its text holds the whole chain, so it gives no source that would be told once more.
impl Error for Cause {}

/// A vendor's response: its head, and its body as it comes.
#[derive(Debug)]
pub struct Response {
    pub head: Head,
    pub answer: Answer,
}

/// A vendor's response body. Read to its end it gives its connection back; dropped before, it closes
/// it (HTTP/1.1) or resets its stream (HTTP/2), which stops the vendor's work.
#[derive(Debug)]
pub struct Answer(Option<Flow>);

#[derive(Debug)]
enum Flow {
    Http1 {
        line: Line,
        pool: Pool,
    },
    Http2 {
        incoming: Incoming,
        _count: StreamCount,
    },
}

impl Answer {
    pub(crate) fn http1(line: Line, pool: Pool) -> Self {
        Self(Some(Flow::Http1 { line, pool }))
    }

    pub(crate) fn http2(incoming: Incoming, count: StreamCount) -> Self {
        Self(Some(Flow::Http2 {
            incoming,
            _count: count,
        }))
    }

    /// The next piece of data; `None` = the clean end. Trailers are passed over.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cause>>> {
        let data = match &mut self.0 {
            None => None,
            Some(Flow::Http1 { line, .. }) => ready!(line.poll_data(cx)),
            Some(Flow::Http2 { incoming, .. }) => ready!(poll_incoming(incoming, cx)),
        };
        if data.is_none()
            && let Some(Flow::Http1 { line, pool }) = self.0.take()
        {
            pool.keep(line);
        }
        Poll::Ready(data)
    }

    /// Whether the end was reached and the connection given back.
    pub fn is_done(&self) -> bool {
        self.0.is_none()
    }
}

fn poll_incoming(
    incoming: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, Cause>>> {
    loop {
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        return Poll::Ready(match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => Some(Ok(data)),
            Some(Ok(Err(_))) => continue,
            Some(Err(error)) => Some(Err(Cause(Why::Http2(error)))),
            None => None,
        });
    }
}
