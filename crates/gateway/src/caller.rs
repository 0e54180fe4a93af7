//! One HTTP/1.1 connection of a caller: a request, its answer, the next one.
//!
//! All of it is one task, and no part of the path holds more than has come and was not taken, or was
//! given and did not leave yet.

mod alarm;
mod answer;
mod line;

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_core::fault::{Code, Fault};
use holdfast_http1::request::{self, Read};
use holdfast_wire::turn::Dialect;
use http::{Method, Request, Response, StatusCode, Version};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use self::alarm::Alarm;
use self::line::Line;
use crate::asked::Asked;
use crate::emit::Reply;
use crate::listen::{FAREWELL, handle, refused, stopped};
use crate::worker::Worker;

pub(crate) use self::line::Body;

/// What a client says first that speaks the Anthropic dialect.
const ANTHROPIC: &[u8] = b"POST /v1/messages";

/// A connection, and how long it is waited for.
struct Connection {
    worker: Rc<Worker>,
    line: Rc<RefCell<Line>>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

/// What came of the wait for a request.
enum Next {
    /// The head of one has come.
    Request,
    /// No more of them, and nobody who waits for an answer.
    Nothing,
    Wrong(request::Flaw),
    /// It began and did not come in time.
    Late,
}

/// Serves a connection until either side has enough. One without `stop` may say one thing.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    mut stop: Option<watch::Receiver<bool>>,
) -> io::Result<()> {
    let connection = Connection::new(worker, stream);
    let may_stay = stop.is_some();
    let mut stopping = pin!(stopped(&mut stop));
    let mut is_stopping = false;
    let mut alarm = Alarm::new(connection.header_timeout);
    loop {
        let mut poll_stopping = |cx: &mut Context<'_>| {
            is_stopping = is_stopping || stopping.as_mut().poll(cx).is_ready();
            is_stopping
        };
        let next =
            std::future::poll_fn(|cx| connection.poll_next(cx, &mut alarm, &mut poll_stopping));
        match next.await? {
            Next::Request => {}
            Next::Nothing => return Ok(()),
            Next::Wrong(flaw) => return connection.refuse(flaw.status(), flaw.to_string()).await,
            Next::Late => {
                let limit = connection.header_timeout.as_secs_f64();
                let message = format!("the head did not come within {limit} s");
                return connection
                    .refuse(StatusCode::REQUEST_TIMEOUT, message)
                    .await;
            }
        }
        if !connection.exchange(may_stay).await? {
            return connection.part().await;
        }
        alarm.set(Instant::now() + connection.patience());
    }
}

impl Connection {
    fn new(worker: Rc<Worker>, stream: TcpStream) -> Self {
        // A connection outlives many configurations, and keeps what it began with.
        let snapshot = worker.shared.snapshot.load_full();
        let limits = &snapshot.config.limits;
        Self {
            line: Rc::new(RefCell::new(Line::new(stream, limits))),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            worker,
        }
    }

    /// How long it is waited for what comes next.
    fn patience(&self) -> Duration {
        if self.line.borrow().is_idle() {
            self.idle_timeout
        } else {
            self.header_timeout
        }
    }

    /// The next request's head. As long as nothing of it has come, the connection may end at any time.
    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        is_stopping: &mut impl FnMut(&mut Context<'_>) -> bool,
    ) -> Poll<io::Result<Next>> {
        let mut line = self.line.borrow_mut();
        let was_idle = line.is_idle();
        match line.poll_head(cx) {
            Poll::Ready(Ok(Ok(true))) => return Poll::Ready(Ok(Next::Request)),
            Poll::Ready(Ok(Ok(false))) => return Poll::Ready(Ok(Next::Nothing)),
            Poll::Ready(Ok(Err(flaw))) => return Poll::Ready(Ok(Next::Wrong(flaw))),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        let is_idle = line.is_idle();
        if was_idle && !is_idle {
            alarm.set(Instant::now() + self.header_timeout);
        }
        if is_idle && is_stopping(cx) {
            return Poll::Ready(Ok(Next::Nothing));
        }
        let late = if is_idle { Next::Nothing } else { Next::Late };
        alarm.poll(cx).map(|()| Ok(late))
    }

    /// One request and its answer. `true` = another may follow.
    async fn exchange(&self, may_stay: bool) -> io::Result<bool> {
        let Some(read) = self.line.borrow_mut().take_head() else {
            return Ok(false);
        };
        let (is_head, version) = (read.method == Method::HEAD, read.version);
        let may_stay = may_stay && read.keep;
        let request = self.request(read);
        let response = {
            let mut answering = pin!(handle(self.worker.clone(), request));
            std::future::poll_fn(|cx| {
                if let Poll::Ready(response) = answering.as_mut().poll(cx) {
                    return Poll::Ready(Some(response));
                }
                self.line.borrow_mut().poll_gone(cx).map(|()| None)
            })
            .await
        };
        // Dropped with the call, should the caller be gone: nobody waits for its answer.
        let Some(response) = response else {
            return Ok(false);
        };
        let keep = may_stay && self.line.borrow().is_read() && !self.worker.shared.is_draining();
        self.answer(response, is_head, version, keep).await?;
        Ok(keep)
    }

    fn request(&self, read: Read) -> Request<Asked> {
        let body = Body::new(self.line.clone(), read.framing);
        let mut request = Request::new(Asked::Http1(body));
        *request.method_mut() = read.method;
        *request.uri_mut() = read.uri;
        *request.version_mut() = read.version;
        *request.headers_mut() = read.headers;
        request
    }

    async fn answer(
        &self,
        response: Response<Reply>,
        is_head: bool,
        version: Version,
        keep: bool,
    ) -> io::Result<()> {
        let mut answer = answer::Answer::new(response, is_head, version, keep);
        std::future::poll_fn(|cx| answer.poll(&mut self.line.borrow_mut(), cx)).await
    }

    /// Tells what is wrong with bytes that are no request.
    async fn refuse(&self, status: StatusCode, message: String) -> io::Result<()> {
        let code = if status == StatusCode::REQUEST_TIMEOUT {
            Code::RequestTimeout
        } else {
            Code::InvalidRequest
        };
        let mut fault = Fault::new(code, message);
        fault.status = status.as_u16();
        let dialect = if self.line.borrow().begins_with(ANTHROPIC) {
            Dialect::Anthropic
        } else {
            Dialect::OpenAi
        };
        let response = refused(dialect, &fault);
        self.answer(response, false, Version::HTTP_11, false)
            .await?;
        self.part().await
    }

    /// Closes the connection so that the last answer arrives: closed with bytes unread, it would be
    /// lost on its way.
    async fn part(&self) -> io::Result<()> {
        let parting = std::future::poll_fn(|cx| self.line.borrow_mut().poll_part(cx));
        // Who does not read it in time has it no better than a reset.
        tokio::time::timeout(FAREWELL, parting)
            .await
            .unwrap_or(Ok(()))
    }
}
