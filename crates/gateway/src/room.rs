//! A caller over HTTP/2 that makes no room for its answer: the stream waits for a while, and is reset.
//!
//! Such a caller may read its connection well, so that [`crate::patience`] has nothing to see; only the
//! window of the stream is shut. hyper drives each stream by a task of its own, which asks the body for
//! more once the last piece has found room. So a task that ends its turn with a piece in hand waits for
//! the caller, and one whose body had nothing to give waits for the vendor, however long.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::Sleep;

use crate::emit::{Aborted, Reply};

/// What finds room at once, or not at all. A whole answer in one piece would lie in the connection's
/// own buffer, where nobody asks how long.
const PIECE: usize = 16 << 10;

/// What the body did in this turn of its stream's task. One for a connection: its streams are on one
/// thread, and have their turns one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn(Rc<Cell<Did>>);

#[derive(Clone, Copy, Debug, Default)]
enum Did {
    /// It was not asked.
    #[default]
    Nothing,
    Waited,
    Gave,
}

/// Runs the streams of one connection, each for as long as its caller takes what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    pub(crate) turn: Turn,
    pub(crate) limit: Duration,
}

/// A response body that notes what it did.
pub(crate) struct Noted {
    reply: Reply,
    rest: Bytes,
    turn: Turn,
}

// === impl Streams ===

impl<F> Executor<F> for Streams
where
    F: Future + 'static,
{
    fn execute(&self, stream: F) {
        let Self { turn, limit } = self.clone();
        tokio::task::spawn_local(async move {
            let mut stream = pin!(stream);
            let mut waiting: Option<Pin<Box<Sleep>>> = None;
            // Dropped before its end, a stream is reset.
            std::future::poll_fn(|cx| {
                turn.0.set(Did::Nothing);
                if stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                match turn.0.get() {
                    Did::Nothing => {}
                    Did::Waited => waiting = None,
                    Did::Gave => waiting = Some(Box::pin(tokio::time::sleep(limit))),
                }
                match &mut waiting {
                    Some(waiting) => waiting.as_mut().poll(cx),
                    None => Poll::Pending,
                }
            })
            .await;
        });
    }
}

// === impl Noted ===

impl Noted {
    pub(crate) fn new(reply: Reply, turn: Turn) -> Self {
        Self {
            reply,
            rest: Bytes::new(),
            turn,
        }
    }
}

impl Body for Noted {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            this.turn.0.set(Did::Waited);
            let frame = ready!(Pin::new(&mut this.reply).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(aborted)) => return Poll::Ready(Some(Err(aborted))),
                None => return Poll::Ready(None),
            }
        }
        this.turn.0.set(Did::Gave);
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, reply) = (self.rest.len() as u64, self.reply.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest + reply.lower());
        if let Some(upper) = reply.upper() {
            hint.set_upper(rest + upper);
        }
        hint
    }
}
