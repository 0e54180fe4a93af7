//! One HTTP/1.1 connection, driven by the call that uses it: no task of its own, and no memory but for
//! what has not come wholly yet. What the socket brings goes through one buffer of the thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use holdfast_http1::{Decoder, Framing};
use http::Request;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::body::{Cause, Pieces, Why};
use crate::head::{self, Head};

/// The most that is read at once, in bytes.
const READ: usize = 64 << 10;
/// Room for a head.
const HEAD: usize = 1 << 10;
/// A body of at most this size is copied behind its head: one write of one piece.
const SMALL: u64 = 4 << 10;
/// The most pieces that are written at once.
const PIECES: usize = 8;

thread_local! {
    /// What was just read; taken out of it before the thread does anything else.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// The bytes of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    /// Large, and its keys and buffers are elsewhere anyway.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that carries one call after the other.
#[derive(Debug)]
pub(crate) struct Line {
    stream: Stream,
    /// What of the request is not written yet.
    outgoing: Option<Box<Outgoing>>,
    /// Why the rest of the request can't be written. What the vendor says to that counts first.
    broken: Option<io::Error>,
    /// A response head that has not come wholly.
    partial: Vec<u8>,
    /// Content that came and was not taken.
    content: Option<Bytes>,
    decoder: Decoder,
    /// Whether the vendor lets another call follow.
    keep: bool,
}

#[derive(Debug)]
struct Outgoing {
    /// The head, then the body.
    pieces: VecDeque<Bytes>,
}

/// Why a request got no response head.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// Not a byte was written.
    Whole(Box<Request<Pieces>>, Cause),
    /// The vendor may have it.
    Perhaps(Cause),
}

// === impl Line ===

impl Line {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            outgoing: None,
            broken: None,
            partial: Vec::new(),
            content: None,
            decoder: Decoder::new(Framing::Length(0)),
            keep: true,
        }
    }

    /// Whether nothing speaks against another call: the last one ended, on both ways.
    pub(crate) fn is_open(&self) -> bool {
        self.keep
            && self.decoder.is_done()
            && self.content.is_none()
            && self.outgoing.is_none()
            && self.broken.is_none()
    }

    /// Whether another call can be sent now. Sees what the vendor did since the last one: a close, or
    /// an answer that nobody asked for.
    pub(crate) fn is_ready(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.is_open() && self.with_read(&mut cx, |_, _| ()).is_pending()
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn send(&mut self, request: Request<Pieces>) -> Result<Head, Unsent> {
        if let Err(error) = self.begin(&request).await {
            return Err(Unsent::Whole(Box::new(request), Cause(Why::Io(error))));
        }
        drop(request);
        std::future::poll_fn(|cx| self.poll_head(cx))
            .await
            .map_err(Unsent::Perhaps)
    }

    /// Writes what fits at once. An error means that nothing was written.
    async fn begin(&mut self, request: &Request<Pieces>) -> io::Result<()> {
        let body = request.body();
        let is_small = body.len() <= SMALL;
        let room = if is_small { body.len() } else { 0 };
        let mut head = Vec::with_capacity(HEAD + usize::try_from(room).unwrap_or(0));
        head::write(request, body.len(), &mut head);
        let mut outgoing = Outgoing::new();
        if is_small {
            body.iter().for_each(|piece| head.extend_from_slice(piece));
            outgoing.pieces.push_back(head.into());
        } else {
            outgoing.pieces.reserve(1 + body.count());
            outgoing.pieces.push_back(head.into());
            outgoing.pieces.extend(body.iter().cloned());
        }
        std::future::poll_fn(|cx| outgoing.poll_write(&mut self.stream, cx)).await?;
        if !outgoing.pieces.is_empty() || self.stream.holds_back() {
            self.outgoing = Some(Box::new(outgoing));
        }
        Ok(())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Cause>> {
        loop {
            self.write_on(cx);
            let read = ready!(self.with_read(cx, Self::take_head));
            match read {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(head))) => return Poll::Ready(Ok(head)),
                Ok(Err(flaw)) => return Poll::Ready(Err(flaw)),
                Err(error) => {
                    let error = self.broken.take().unwrap_or(error);
                    return Poll::Ready(Err(Cause(Why::Io(error))));
                }
            }
        }
    }

    /// The response head, when its last byte has come. Interim ones are passed over.
    fn take_head(&mut self, input: &mut [u8]) -> Result<Option<Head>, Cause> {
        if input.is_empty() {
            return Err(Cause(self.broken.take().map_or(Why::Closed, Why::Io)));
        }
        if self.partial.is_empty() {
            return self.read_head(input);
        }
        // What may be the last bytes of it, looked at once: a head may come byte by byte.
        let from = self.partial.len().saturating_sub(3);
        self.partial.extend_from_slice(input);
        let is_whole = memmem::find(&self.partial[from..], b"\n\r\n").is_some()
            || memmem::find(&self.partial[from..], b"\n\n").is_some();
        if !is_whole && self.partial.len() <= head::MAX_HEAD {
            return Ok(None);
        }
        let mut partial = std::mem::take(&mut self.partial);
        self.read_head(&mut partial)
    }

    fn read_head(&mut self, mut input: &mut [u8]) -> Result<Option<Head>, Cause> {
        loop {
            let Some(read) = head::read(input).map_err(|flaw| Cause(Why::Head(flaw)))? else {
                self.partial.extend_from_slice(input);
                return Ok(None);
            };
            input = &mut input[read.length..];
            if read.head.status.is_informational() {
                continue;
            }
            self.decoder = Decoder::new(read.framing);
            self.keep = read.keep;
            self.content = self.take_content(input);
            return Ok(Some(read.head));
        }
    }

    /// The next piece of the response's body; `None` = its end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cause>>> {
        loop {
            if let Some(content) = self.content.take() {
                return Poll::Ready(Some(Ok(content)));
            }
            if let Some(flaw) = self.decoder.flaw() {
                return Poll::Ready(Some(Err(Cause(Why::Body(flaw)))));
            }
            self.write_on(cx);
            if self.decoder.is_done() {
                return Poll::Ready(None);
            }
            let read = ready!(self.with_read(cx, |line, input| {
                if input.is_empty() {
                    line.decoder.close();
                }
                line.content = line.take_content(input);
            }));
            if let Err(error) = read {
                return Poll::Ready(Some(Err(Cause(Why::Io(error)))));
            }
        }
    }

    /// The content of what was read. Bytes behind the end are nobody's: the connection is done with.
    fn take_content(&mut self, input: &mut [u8]) -> Option<Bytes> {
        let (kept, own) = self.decoder.decode(input);
        self.keep &= own == input.len();
        (kept > 0).then(|| Bytes::copy_from_slice(&input[..kept]))
    }

    /// Goes on writing the request. An error shows when the vendor has nothing to say either.
    fn write_on(&mut self, cx: &mut Context<'_>) {
        let Some(outgoing) = &mut self.outgoing else {
            return;
        };
        match outgoing.poll_finish(&mut self.stream, cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.outgoing = None,
            Poll::Ready(Err(error)) => {
                self.outgoing = None;
                self.broken = Some(error);
            }
        }
    }

    /// Hands what the socket brings to `take`; nothing = the peer has closed.
    fn with_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Self, &mut [u8]) -> R,
    ) -> Poll<io::Result<R>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(self.stream.poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(take(self, buffer.filled_mut())))
        })
    }
}

// === impl Outgoing ===

impl Outgoing {
    fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
        }
    }

    /// Writes everything, down to the network.
    fn poll_finish(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pieces.is_empty() {
            ready!(self.poll_write(stream, cx))?;
        }
        stream.poll_flush(cx)
    }

    /// Writes what fits at once.
    fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = ready!(match self.pieces.as_slices() {
            ([piece], []) => stream.poll_write(cx, piece),
            _ => self.poll_write_many(stream, cx),
        })?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn poll_write_many(
        &self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        stream.poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
    }
}

// === impl Stream ===

impl Stream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }

    /// Whether encryption may hold back what was written to it.
    fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    /// Writes on what encryption holds back.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }
}
