//! The vendor over HTTP/2 by prior knowledge, for the table of streams over few connections.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use memchr::memmem;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::script::{self, Asked, DIGITS, Dialect, WORD};
use crate::{Error, listen};

pub(super) fn serve(listener: TcpListener, threads: usize, most: u32) -> Result<(), Error> {
    listen::in_turn(listener, threads, move |stream| async move {
        // A client that leaves ends its connection with an error; that is no news here.
        let _ = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(most)
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .await;
    })
}

type Answer = Response<Either<Full<Bytes>, Stream>>;

async fn answer(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let dialect = Dialect::of(request.uri().path().as_bytes());
    let asked = Asked::read(&request.into_body().collect().await?.to_bytes());
    let (kind, body) = if asked.stream {
        (
            "text/event-stream",
            Either::Right(Stream::new(dialect, asked)),
        )
    } else {
        let whole = Full::new(Bytes::from(script::whole(dialect)));
        ("application/json", Either::Left(whole))
    };
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// A body that gives one event at a time, each when it is due.
struct Stream {
    dialect: Dialect,
    asked: Asked,
    token: Vec<u8>,
    /// Events given so far: the opening, the tokens, the ending.
    given: u64,
    next: Pin<Box<Sleep>>,
}

impl Stream {
    fn new(dialect: Dialect, asked: Asked) -> Self {
        let phase = Duration::from_millis(asked.pace).mul_f64(fastrand::f64());
        Self {
            dialect,
            asked,
            token: script::token(dialect).into_bytes(),
            given: 0,
            next: Box::pin(sleep_until(Instant::now() + phase)),
        }
    }

    fn event(&mut self, tokens: u64) -> Bytes {
        match self.given {
            0 => script::opening(self.dialect).into(),
            given if given > tokens => script::ending(self.dialect, self.asked.usage).into(),
            given => {
                let number = memmem::find(&self.token, WORD.as_bytes())
                    .expect("invariant: a token has a number")
                    + WORD.len();
                script::put(&mut self.token[number..number + DIGITS], given - 1);
                Bytes::copy_from_slice(&self.token)
            }
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let tokens = self.asked.tokens.unwrap_or(100);
        if self.given == tokens + 2 {
            return Poll::Ready(None);
        }
        if self.next.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let event = self.event(tokens);
        self.given += 1;
        // From the last due time, not from now: the pace holds under load.
        let due = self.next.deadline() + Duration::from_millis(self.asked.pace);
        self.next.as_mut().reset(due);
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}
