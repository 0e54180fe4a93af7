//! The bodies of a call: what goes out in pieces of known size, what comes in with its connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::pool::Lease;

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

/// What went wrong on a connection, told down to its root: "connection error" alone helps nobody.
#[derive(Debug)]
pub struct Cause(pub(crate) hyper::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut cause = self.0.source();
        while let Some(deeper) = cause {
            write!(f, ": {deeper}")?;
            cause = deeper.source();
        }
        Ok(())
    }
}

// Its text holds the whole chain, so it gives no source that would be told once more.
impl Error for Cause {}

/// A vendor's response body. Read to its end it gives its connection back; dropped before, it closes
/// it (HTTP/1.1) or resets its stream (HTTP/2), which stops the vendor's work.
#[derive(Debug)]
pub struct Answer {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl Answer {
    pub(crate) fn new(incoming: Incoming, lease: Lease) -> Self {
        Self {
            incoming,
            lease: Some(lease),
        }
    }

    /// The next piece of data; `None` = the clean end. Trailers are passed over.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cause>>> {
        loop {
            let frame = match &mut self.lease {
                Some(Lease::Http1 { line, .. }) => line.poll_frame(&mut self.incoming, cx),
                Some(Lease::Http2(_)) | None => Pin::new(&mut self.incoming).poll_frame(cx),
            };
            return match frame {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Poll::Ready(Some(Ok(data))),
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Cause(error)))),
                Poll::Ready(None) => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                    Poll::Ready(None)
                }
            };
        }
    }

    /// Whether the end was reached and the connection given back.
    pub fn is_done(&self) -> bool {
        self.lease.is_none()
    }
}
