//! What goes to a caller: the head and the body of an answer. Nothing is asked of the body before all
//! that it gave has left.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use holdfast_http1::response::{self, Ends};
use http::{Response, Version};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::line::Line;
use crate::emit::Reply;

/// What is copied rather than written from where it lies, in bytes.
const SMALL: usize = 4 << 10;
/// What is collected before it is written, as long as there is more at once.
const ROOM: usize = 16 << 10;
/// Room for a head.
const HEAD: usize = 512;

/// An answer on its way.
pub(super) struct Answer {
    body: Option<Reply>,
    ends: Ends,
    out: Out,
    is_broken: bool,
}

/// What is to be written.
#[derive(Default)]
struct Out {
    small: Vec<u8>,
    /// Bytes of `small` that have left.
    written: usize,
    /// Behind `small`.
    large: Bytes,
    /// Behind `large`.
    behind: &'static [u8],
}

// === impl Answer ===

impl Answer {
    pub(super) fn new(
        response: Response<Reply>,
        is_head: bool,
        version: Version,
        keep: bool,
    ) -> Self {
        let (parts, body) = response.into_parts();
        let ends = match body.size_hint().exact() {
            Some(length) => Ends::Length(length),
            None if version == Version::HTTP_11 => Ends::Chunked,
            None => Ends::Close,
        };
        let mut out = Out::default();
        out.small.reserve(HEAD + small_part(ends));
        with_date(|date| {
            response::write(
                parts.status,
                &parts.headers,
                date,
                ends,
                keep,
                &mut out.small,
            );
        });
        let is_bodiless = is_head || response::is_bodiless(parts.status);
        Self {
            body: (!is_bodiless).then_some(body),
            ends,
            out,
            is_broken: false,
        }
    }

    /// Writes all of it. An error cuts the connection: for the caller that is no end of an answer.
    pub(super) fn poll(&mut self, line: &mut Line, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waits = false;
        loop {
            while !waits && self.body.is_some() && self.out.has_room() {
                waits = self.collect(cx).is_pending();
            }
            if !self.out.is_empty() {
                ready!(self.out.poll_write(line, cx))?;
            } else if self.is_broken {
                let why = "the answer could not be completed";
                return Poll::Ready(Err(io::Error::other(why)));
            } else if self.body.is_none() {
                return Poll::Ready(Ok(()));
            } else if waits {
                ready!(line.poll_gone(cx));
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
    }

    /// Takes one piece of the body, or its end.
    fn collect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(());
        };
        let is_chunked = self.ends == Ends::Chunked;
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                // Trailers were not announced and are not sent.
                let data = frame.into_data().unwrap_or_default();
                let is_last = body.is_end_stream();
                self.out.push(data, is_chunked);
                if !is_last {
                    return Poll::Ready(());
                }
            }
            Some(Err(_)) => self.is_broken = true,
            None => {}
        }
        self.body = None;
        if is_chunked && !self.is_broken {
            self.out.end_chunks();
        }
        Poll::Ready(())
    }
}

// === impl Out ===

impl Out {
    fn is_empty(&self) -> bool {
        // Without chunks a large piece may come with nothing before and behind it.
        self.small.is_empty() && self.large.is_empty() && self.behind.is_empty()
    }

    fn has_room(&self) -> bool {
        self.large.is_empty() && self.small.len() < ROOM
    }

    fn push(&mut self, data: Bytes, is_chunked: bool) {
        if data.is_empty() {
            return;
        }
        if is_chunked {
            response::begin_chunk(data.len(), &mut self.small);
        }
        let behind = if is_chunked { response::CHUNK_END } else { &[] };
        if data.len() <= SMALL {
            self.small.extend_from_slice(&data);
            self.small.extend_from_slice(behind);
        } else {
            self.large = data;
            self.behind = behind;
        }
    }

    fn end_chunks(&mut self) {
        if self.large.is_empty() {
            self.small.extend_from_slice(response::LAST_CHUNK);
        } else {
            self.behind = response::CHUNK_END_AND_LAST;
        }
    }

    /// Writes everything.
    fn poll_write(&mut self, line: &mut Line, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let small = &self.small[self.written..];
            let left = small.len() + self.large.len() + self.behind.len();
            if left == 0 {
                self.small.clear();
                self.written = 0;
                return Poll::Ready(Ok(()));
            }
            let stream = Pin::new(&mut line.stream);
            let written = ready!(if left == small.len() {
                stream.poll_write(cx, small)
            } else {
                let slices = [small, &self.large, self.behind].map(IoSlice::new);
                stream.poll_write_vectored(cx, &slices)
            })?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    fn advance(&mut self, written: usize) {
        let small = written.min(self.small.len() - self.written);
        self.written += small;
        let large = (written - small).min(self.large.len());
        self.large.advance(large);
        self.behind = &self.behind[written - small - large..];
    }
}

/// What of the body will be copied behind the head.
fn small_part(ends: Ends) -> usize {
    match ends {
        Ends::Length(length) => usize::try_from(length).map_or(0, |length| length.min(SMALL)),
        Ends::Chunked | Ends::Close => 0,
    }
}

/// Gives the moment as a header's value (RFC 9110, 6.6.1), written anew once a second.
fn with_date<R>(take: impl FnOnce(&[u8]) -> R) -> R {
    thread_local! {
        static DATE: RefCell<(Duration, String)> = RefCell::default();
    }
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    DATE.with_borrow_mut(|(written, text)| {
        if text.is_empty() || written.as_secs() != since.as_secs() {
            *written = since;
            *text = httpdate::fmt_http_date(now);
        }
        take(text.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body::{Body, Frame};
    use http_body_util::BodyExt as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A body of unknown length whose pieces come one in each turn.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        waits: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.waits = !self.waits;
            if self.waits {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    /// What arrives of pieces of these sizes, and what should.
    async fn arrives(sizes: &[usize], version: Version) -> (Vec<u8>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).await.expect("open");
        let (stream, _) = listener.accept().await.expect("open");
        let pieces: VecDeque<Bytes> = sizes
            .iter()
            .zip(b'a'..)
            .map(|(size, byte)| vec![byte; *size].into())
            .collect();
        let whole = pieces.iter().flatten().copied().collect();
        let body = Pieces {
            pieces,
            waits: false,
        };
        let response = Response::new(Reply::Served(body.boxed()));
        let mut line = Line::new(stream, &holdfast_config::checked::Limits::default());
        let mut answer = Answer::new(response, false, version, false);
        let writing = async move {
            let written = std::future::poll_fn(|cx| answer.poll(&mut line, cx)).await;
            written.expect("the caller reads");
        };
        let mut arrived = Vec::new();
        let (read, ()) = tokio::join!(client.read_to_end(&mut arrived), writing);
        read.expect("an end");
        let head = memchr::memmem::find(&arrived, b"\r\n\r\n").expect("a head");
        (arrived.split_off(head + 4), whole)
    }

    const SIZES: [&[usize]; 5] = [
        &[],
        &[10, SMALL, 20],
        &[SMALL + 1],
        &[SMALL + 1, 10, 3 * SMALL, 3 * SMALL],
        &[2, ROOM + 1, 0, 300_000],
    ];

    #[tokio::test]
    async fn pieces_of_any_size_arrive_whole_without_chunks() {
        for sizes in SIZES {
            let (arrived, whole) = arrives(sizes, Version::HTTP_10).await;
            assert!(arrived == whole, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn pieces_of_any_size_arrive_whole_in_chunks() {
        for sizes in SIZES {
            let (mut arrived, whole) = arrives(sizes, Version::HTTP_11).await;
            let mut decoder = holdfast_http1::Decoder::new(holdfast_http1::Framing::Chunked);
            let (kept, own) = decoder.decode(&mut arrived);
            assert!(decoder.is_done() && own == arrived.len(), "{sizes:?}");
            assert!(arrived[..kept] == *whole, "{sizes:?}");
        }
    }
}
