//! What comes from a caller: heads and bodies. Read through one buffer of the thread.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use holdfast_config::checked::Limits;
use holdfast_http1::request::{self, Flaw, Read};
use holdfast_http1::{Decoder, Framing, response};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::patience::Patient;

/// The most that is read at once, in bytes.
const READ: usize = 64 << 10;

thread_local! {
    /// What was just read; taken out of it before the thread does anything else.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// The caller's end of a connection.
pub(super) struct Line {
    pub(super) stream: Patient<TcpStream>,
    limits: request::Limits,
    /// Part of a head, or what follows a request.
    input: Vec<u8>,
    /// Bytes at the front of `input` in which a head was looked for.
    searched: usize,
    /// A head that was read and not taken.
    head: Option<Read>,
    /// Content that came and was not taken.
    content: Option<Bytes>,
    decoder: Decoder,
    /// What is left to write of `100 Continue`.
    interim: &'static [u8],
}

/// The body of a request. Read as it is asked for.
pub(crate) struct Body {
    line: Rc<RefCell<Line>>,
    told: Option<u64>,
}

// === impl Line ===

impl Line {
    pub(super) fn new(stream: TcpStream, limits: &Limits) -> Self {
        Self {
            stream: Patient::new(stream, limits.write_timeout),
            limits: request::Limits {
                bytes: limits.header_bytes,
                fields: limits.headers,
            },
            input: Vec::new(),
            searched: 0,
            head: None,
            content: None,
            decoder: Decoder::new(Framing::Length(0)),
            interim: &[],
        }
    }

    /// Whether nothing has come since the last request.
    pub(super) fn is_idle(&self) -> bool {
        self.input.is_empty()
    }

    /// Whether the last request was read to its end.
    pub(super) fn is_read(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether what came and is no request begins so.
    pub(super) fn begins_with(&self, beginning: &[u8]) -> bool {
        self.input.starts_with(beginning)
    }

    /// Waits for the next head, which [`Self::take_head`] gives; `false` = the caller has closed.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Result<bool, Flaw>>> {
        // Nobody asked for the rest of the last body: it all came with its head.
        self.content = None;
        loop {
            // What is behind a head is its body, or the next one.
            if self.head.is_none()
                && let Err(flaw) = self.search()
            {
                return Poll::Ready(Ok(Err(flaw)));
            }
            if self.head.is_some() {
                return Poll::Ready(Ok(Ok(true)));
            }
            let came = ready!(self.with_read(cx, |line, input| {
                if line.input.is_empty() {
                    line.read_head(input)?;
                } else {
                    line.input.extend_from_slice(input);
                }
                Ok(!input.is_empty())
            }))?;
            if came != Ok(true) {
                return Poll::Ready(Ok(came));
            }
        }
    }

    /// The head that was read.
    pub(super) fn take_head(&mut self) -> Option<Read> {
        self.head.take()
    }

    /// Looks for a head in what came in pieces. As long as no line is empty there is none, and a head
    /// that comes byte by byte is not read anew for each of them.
    fn search(&mut self) -> Result<(), Flaw> {
        if self.searched == self.input.len() {
            return Ok(());
        }
        let from = self.searched.saturating_sub(2);
        self.searched = self.input.len();
        let is_whole = memmem::find(&self.input[from..], b"\n\r\n").is_some()
            || memmem::find(&self.input[from..], b"\n\n").is_some();
        if !is_whole && self.input.len() <= self.limits.bytes {
            return Ok(());
        }
        self.searched = 0;
        let mut input = std::mem::take(&mut self.input);
        self.read_head(&mut input)
    }

    /// Reads a head from all that has come of it.
    fn read_head(&mut self, input: &mut [u8]) -> Result<(), Flaw> {
        let read = request::read(input, self.limits);
        let Ok(Some(read)) = read else {
            // The rest of it follows, or it is told what is wrong with it.
            self.put_by(input);
            self.searched = self.input.len();
            return read.map(|_| ());
        };
        self.decoder = Decoder::new(read.framing);
        self.content = self.take_content(&mut input[read.length..], Bytes::copy_from_slice);
        let waits = read.expects_continue && self.content.is_none() && !self.decoder.is_done();
        self.interim = if waits { response::CONTINUE } else { &[] };
        self.head = Some(read);
        Ok(())
    }

    /// Hands the content of what was read to `take`, if there is some; what follows the request is kept.
    fn take_content<R>(&mut self, input: &mut [u8], take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (kept, own) = self.decoder.decode(input);
        if self.decoder.is_done() && own < input.len() {
            self.put_by(&input[own..]);
        }
        (kept > 0).then(|| take(&input[..kept]))
    }

    /// Keeps what came and is not read yet, but for empty lines before a head: some clients end a body
    /// with one (RFC 9112, 2.2).
    fn put_by(&mut self, input: &[u8]) {
        let is_part = |byte: &u8| !b"\r\n".contains(byte);
        if let Some(from) = input.iter().position(is_part) {
            self.input.extend_from_slice(&input[from..]);
            self.searched = 0;
        }
    }

    /// The whole body, if it came with its head.
    fn take_whole(&mut self) -> Option<Bytes> {
        self.decoder
            .is_done()
            .then(|| self.content.take().unwrap_or_default())
    }

    /// Appends what comes next of the body; `false` = it has ended.
    fn poll_more(&mut self, cx: &mut Context<'_>, all: &mut BytesMut) -> Poll<io::Result<bool>> {
        loop {
            if let Some(content) = self.content.take() {
                all.extend_from_slice(&content);
                return Poll::Ready(Ok(true));
            }
            if let Some(flaw) = self.decoder.flaw() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, flaw)));
            }
            if self.decoder.is_done() {
                return Poll::Ready(Ok(false));
            }
            ready!(self.poll_interim(cx))?;
            if let Some(left) = self.long_run() {
                return self.poll_run(cx, left, all);
            }
            let came = ready!(self.with_read(cx, |line, input| {
                if input.is_empty() {
                    line.decoder.close();
                }
                line.take_content(input, |content| all.extend_from_slice(content))
            }))?;
            if came.is_some() {
                return Poll::Ready(Ok(true));
            }
        }
    }

    /// How many bytes of content come next, where they are worth a way of their own.
    fn long_run(&self) -> Option<usize> {
        let left = usize::try_from(self.decoder.content_to_come()?).ok()?;
        (left >= READ).then_some(left)
    }

    /// Reads content to where it is to lie: a long body is copied by the kernel alone.
    fn poll_run(
        &mut self,
        cx: &mut Context<'_>,
        left: usize,
        all: &mut BytesMut,
    ) -> Poll<io::Result<bool>> {
        let before = all.len();
        all.reserve(READ);
        let mut room = (&mut *all).limit(left);
        let read = ready!(pin!(self.stream.read_buf(&mut room)).poll(cx))?;
        if read == 0 {
            self.decoder.close();
            return self.poll_more(cx, all);
        }
        self.decoder.decode(&mut all[before..]);
        Poll::Ready(Ok(true))
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim = &self.interim[written..];
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the caller has closed, or is lost. Of a caller that has sent more already, that is seen
    /// later.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Until the socket has nothing: only then does it tell what comes next.
        while self.is_read() && self.is_idle() {
            let more = ready!(self.with_read(cx, |line, input| {
                line.put_by(input);
                !input.is_empty()
            }));
            if !more.is_ok_and(|more| more) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Says that nothing more comes, and waits until the caller closes.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        while ready!(self.with_read(cx, |_, input| !input.is_empty()))? {}
        Poll::Ready(Ok(()))
    }

    /// Hands what the socket brings to `take`; nothing = the peer has closed.
    fn with_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Self, &mut [u8]) -> R,
    ) -> Poll<io::Result<R>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(take(self, buffer.filled_mut())))
        })
    }
}

// === impl Body ===

impl Body {
    pub(super) fn new(line: Rc<RefCell<Line>>, framing: Framing) -> Self {
        let told = match framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::Close => None,
        };
        Self { line, told }
    }

    /// Its length, if the head tells it.
    pub(crate) fn told(&self) -> Option<u64> {
        self.told
    }

    /// All of it, if it has come already.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        self.line.borrow_mut().take_whole()
    }

    /// Appends what comes next; `false` = it has ended.
    pub(crate) async fn more(&mut self, all: &mut BytesMut) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.line.borrow_mut().poll_more(cx, all)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Woken(Notify);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }

    /// Nothing else wakes whoever waits for it here.
    #[tokio::test]
    async fn a_caller_is_seen_to_hang_up_behind_an_empty_line() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).await.expect("open");
        let (stream, _) = listener.accept().await.expect("open");
        client.write_all(b"\r\n").await.expect("it is read");
        stream.readable().await.expect("the empty line is there");
        let mut line = Line::new(stream, &Limits::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(line.poll_gone(&mut cx).is_pending());
        drop(client);
        let seen = tokio::time::timeout(Duration::from_secs(30), woken.0.notified());
        assert!(seen.await.is_ok(), "it was never seen");
        assert!(line.poll_gone(&mut cx).is_ready());
    }
}
