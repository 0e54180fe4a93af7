//! One HTTP/1.1 connection, driven by whoever uses it.
//!
//! hyper gives a connection in two halves: a sender, and a future that does the reading and writing,
//! usually a task of its own. Here the call itself drives it: what the socket brings is read where it
//! is wanted, without a second task that would be woken first and wake the call in turn. An idle
//! connection is not driven at all: whether the vendor closed it is seen when it is taken again.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::rt::{Read, Write};
use parking_lot::Mutex;

use crate::body::Pieces;

/// How often the halves may answer each other in one turn of the task.
const ROUNDS: usize = 8;

type Driver = Pin<Box<dyn Future<Output = Result<(), hyper::Error>>>>;

/// Both halves of a connection.
pub(crate) struct Line {
    sender: SendRequest<Pieces>,
    /// `None` = the connection has ended.
    driver: Option<Driver>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Wakes the task that uses the line, except for what the line does to itself while that task has it
/// in hand: the halves talk to each other, and would have the task polled once more for each word.
#[derive(Debug, Default)]
struct Bell {
    in_hand: AtomicBool,
    rang: AtomicBool,
    task: Mutex<Option<Waker>>,
}

// === impl Line ===

impl Line {
    pub(crate) fn new<T>(sender: SendRequest<Pieces>, connection: Connection<T, Pieces>) -> Self
    where
        T: Read + Write + Unpin + 'static,
    {
        let bell = Arc::new(Bell::default());
        Self {
            sender,
            driver: Some(Box::pin(connection)),
            waker: Waker::from(bell.clone()),
            bell,
        }
    }

    /// Whether nothing is known that speaks against another call.
    pub(crate) fn is_open(&self) -> bool {
        self.driver.is_some() && !self.sender.is_closed()
    }

    /// Whether another call can be sent now. Sees what the vendor did since the last one.
    pub(crate) fn is_ready(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut was_driven = false;
        let ready = self.drive(&mut cx, |sender, _| {
            if std::mem::replace(&mut was_driven, true) && sender.is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        ready.is_ready() && self.is_open()
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn send(
        &mut self,
        request: Request<Pieces>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Pieces>>> {
        let mut response = pin!(self.sender.try_send_request(request));
        std::future::poll_fn(|cx| self.drive(cx, |_, quiet| response.as_mut().poll(quiet))).await
    }

    /// The next frame of a response that came over this line.
    pub(crate) fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, hyper::Error>>> {
        self.drive(cx, |_, quiet| Pin::new(&mut *incoming).poll_frame(quiet))
    }

    /// Drives the connection until `ask` has what it wants, or until only the socket can help.
    ///
    /// `ask` is given a context that wakes nobody: what it waits for comes from the driver.
    fn drive<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut ask: impl FnMut(&SendRequest<Pieces>, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        self.bell.take_in_hand(cx);
        let answer = self.drive_in_hand(&mut ask);
        if self.bell.put_down() && answer.is_pending() {
            // It wants to go on, and has had its share of this turn.
            cx.waker().wake_by_ref();
        }
        answer
    }

    fn drive_in_hand<R>(
        &mut self,
        ask: &mut impl FnMut(&SendRequest<Pieces>, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let mut quiet = Context::from_waker(Waker::noop());
        let mut cx = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS {
            if let Poll::Ready(answer) = ask(&self.sender, &mut quiet) {
                return Poll::Ready(answer);
            }
            let Some(driver) = &mut self.driver else {
                return Poll::Pending;
            };
            self.bell.rang.store(false, Ordering::Relaxed);
            if driver.as_mut().poll(&mut cx).is_ready() {
                // Its drop tells the other half, and gives back what was not sent.
                self.driver = None;
                self.bell.rang.store(true, Ordering::Relaxed);
            }
            let answer = ask(&self.sender, &mut quiet);
            if answer.is_ready() || !self.bell.rang.load(Ordering::Relaxed) {
                return answer;
            }
        }
        Poll::Pending
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

// === impl Bell ===

impl Bell {
    fn take_in_hand(&self, cx: &Context<'_>) {
        let mut task = self.task.lock();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        self.in_hand.store(true, Ordering::Relaxed);
    }

    /// Whether it rang and was not listened to.
    fn put_down(&self) -> bool {
        self.in_hand.store(false, Ordering::Relaxed);
        self.rang.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.in_hand.load(Ordering::Relaxed) {
            self.rang.store(true, Ordering::Relaxed);
            return;
        }
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}
