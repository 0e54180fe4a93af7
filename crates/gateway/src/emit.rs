//! What the caller is sent: heads, streams, bodies, errors in the dialect of the request.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_core::exchange::{Finish, Outcome};
use holdfast_core::fault::Fault;
use holdfast_wire::error::CallerError;
use holdfast_wire::turn::Dialect;
use holdfast_wire::{anthropic, openai};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use crate::drive::{Drive, Step};
use crate::keyed::Reader;
use crate::names;

/// The body of every response.
pub(crate) enum Reply {
    Full(Option<Bytes>),
    Stream(Box<Stream>),
    /// A keyed answer, followed as it is recorded.
    Recorded(Box<Reader>),
    /// What a service beside the model calls answers.
    Served(holdfast_api::Body),
}

/// A running answer: the rest of an exchange.
pub(crate) struct Stream {
    drive: Box<Drive>,
    first: Option<Step>,
    ended: bool,
    /// The error was given out; when it has had time to leave, the transport is cut.
    aborting: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// Between the error and the cut: an aborted connection drops what it has not written yet.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(30);

/// The transport is cut on purpose: HTTP/1.1 ends without its last chunk, HTTP/2 by `RST_STREAM`, so
/// that no client can take what it has for the whole.
#[derive(Debug)]
pub(crate) struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer could not be completed")
    }
}

impl std::error::Error for Aborted {}

impl From<Infallible> for Aborted {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream
                .poll(cx)
                .map(|end| end.map(|bytes| bytes.map(Frame::data))),
            Self::Recorded(reader) => reader
                .poll(cx)
                .map(|end| end.map(|bytes| bytes.map(Frame::data))),
            Self::Served(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Aborted::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.ended,
            Self::Recorded(reader) => reader.is_ended(),
            Self::Served(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) | Self::Recorded(_) => SizeHint::default(),
            Self::Served(body) => body.size_hint(),
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(pause) = &mut self.aborting {
            ready!(pause.as_mut().poll(cx));
            self.ended = true;
            return Poll::Ready(Some(Err(Aborted)));
        }
        let step = match self.first.take() {
            Some(step) => step,
            None => ready!(self.drive.poll_step(cx)),
        };
        match step {
            Step::Release(bytes) => Poll::Ready(Some(Ok(bytes))),
            Step::Finish(Finish {
                outcome: Outcome::Told(fault),
                ..
            }) => {
                self.aborting = Some(Box::pin(tokio::time::sleep(LAST_WORDS)));
                let call = &self.drive.call;
                let frame = error_frame(call.wishes.dialect, &fault, &call.id);
                Poll::Ready(Some(Ok(frame)))
            }
            Step::Finish(_) => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

/// Drives a call up to where its response head can be written.
pub(crate) async fn respond(mut drive: Box<Drive>) -> Response<Reply> {
    let first = std::future::poll_fn(|cx| drive.poll_step(cx)).await;
    match first {
        Step::Release(_) => {
            let headers = stream_headers(&drive);
            drive.call.detach();
            let stream = Stream {
                drive,
                first: Some(first),
                ended: false,
                aborting: None,
            };
            let mut response = Response::new(Reply::Stream(Box::new(stream)));
            *response.headers_mut() = headers;
            response
        }
        Step::Finish(finish) => {
            let mut response = match finish.outcome {
                Outcome::Told(fault) => {
                    error_response(drive.call.wishes.dialect, &fault, &drive.call.id)
                }
                Outcome::Delivered(_) | Outcome::CallerGone => {
                    json(StatusCode::OK, finish.body.unwrap_or_default())
                }
            };
            mark_all(response.headers_mut(), &drive);
            response
        }
    }
}

/// The head of a streamed answer.
pub(crate) fn stream_headers(drive: &Drive) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    mark_all(&mut headers, drive);
    headers
}

/// The exchange, who answers it after how many attempts, and (asked for) what was lost.
pub(crate) fn mark_all(headers: &mut HeaderMap, drive: &Drive) {
    let losses = drive.call.debug.then(|| drive.losses().join("; "));
    mark(headers, &drive.call.id, losses.as_deref());
    let (target, attempts) = drive.progress();
    if let Some(target) = target.and_then(|target| HeaderValue::from_str(&target).ok()) {
        headers.insert(names::TARGET.clone(), target);
    }
    headers.insert(names::ATTEMPTS.clone(), HeaderValue::from(attempts));
}

pub(crate) fn mark(headers: &mut HeaderMap, id: &str, losses: Option<&str>) {
    headers.insert(
        names::EXCHANGE.clone(),
        HeaderValue::from_str(id).expect("invariant: an id is hexadecimal"),
    );
    let losses = losses.filter(|losses| !losses.is_empty());
    if let Some(losses) = losses.and_then(|losses| HeaderValue::from_bytes(losses.as_bytes()).ok())
    {
        headers.insert("holdfast-losses", losses);
    }
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::Full(Some(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// The longest `Retry-After` that a caller is told: some client libraries would sleep for whatever
/// they are told.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// An error of the dialect with its stable code.
pub(crate) fn error_response(dialect: Dialect, fault: &Fault, id: &str) -> Response<Reply> {
    let mut response = if let Some(vendor) = &fault.vendor {
        let mut response = json(
            StatusCode::from_u16(vendor.status).unwrap_or(StatusCode::BAD_GATEWAY),
            vendor.body.clone(),
        );
        let kind = vendor
            .content_type
            .as_deref()
            .and_then(|kind| HeaderValue::from_str(kind).ok());
        if let Some(kind) = kind {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    } else {
        let error = caller_error(dialect, fault, id);
        let body = match dialect {
            Dialect::Anthropic => anthropic::error::error_body(&error),
            Dialect::OpenAi => openai::error::error_body(&error),
        };
        json(
            StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY),
            body,
        )
    };
    let headers = response.headers_mut();
    headers.insert(
        "holdfast-code",
        HeaderValue::from_static(fault.code.number()),
    );
    let passing = fault.code.is_passing();
    // The gateway has retried all that may be retried: a client that does it again multiplies load.
    headers.insert(
        "x-should-retry",
        HeaderValue::from_static(if passing { "true" } else { "false" }),
    );
    let wait = fault
        .retry_after
        .or_else(|| passing.then_some(Duration::from_secs(1)));
    if let Some(wait) = wait {
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(wait.min(LONGEST_WAIT).as_secs().max(1)),
        );
    }
    response
}

/// An error in the loud form that a stream of the dialect has for it.
pub(crate) fn error_frame(dialect: Dialect, fault: &Fault, id: &str) -> Bytes {
    let error = caller_error(dialect, fault, id);
    let mut frame = BytesMut::new();
    match dialect {
        Dialect::Anthropic => anthropic::error::error_frame(&error, &mut frame),
        Dialect::OpenAi => openai::error::error_frame(&error, &mut frame),
    }
    frame.freeze()
}

fn caller_error(dialect: Dialect, fault: &Fault, id: &str) -> CallerError {
    let kind = match dialect {
        Dialect::Anthropic => anthropic::error::error_kind(fault.status),
        Dialect::OpenAi => openai::error::error_kind(fault.status),
    };
    CallerError {
        status: fault.status,
        kind: kind.to_owned(),
        code: fault.code.slug().to_owned(),
        message: format!("{} ({})", fault.message, fault.code.number()),
        request_id: id.to_owned(),
    }
}
