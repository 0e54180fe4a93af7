//! A vendor that is cheap: fixed bytes, no parsing.
//!
//! `POST` to any path is answered in the OpenAI Chat dialect, under `/v1/messages` in Anthropic's. A
//! body with `"stream":true` gets a stream, and the words `tokens=N` and `pace=MS` in it say how long
//! and how fast. Every event is one write, as vendors do it. HTTP/1.1 and HTTP/2 by prior knowledge.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use memchr::memmem;
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{Error, listen};

/// What every non-streamed answer holds, so that the client can check it.
pub(crate) const MARK: &str = "the whole answer of the mock vendor";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// What is announced to HTTP/2 clients.
    #[arg(long, default_value_t = 100)]
    max_concurrent_streams: u32,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    let listener = listen::bind(args.port, false)?;
    let max_streams = args.max_concurrent_streams;
    listen::multi(args.threads)?.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut server = auto::Builder::new(TokioExecutor::new());
                server.http1().timer(TokioTimer::new());
                server
                    .http2()
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(max_streams);
                // A client that leaves ends its connection with an error; that is no news here.
                let _ = server
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    })
}

type Answer = Response<Either<Full<Bytes>, Stream>>;

async fn answer(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let anthropic = request.uri().path().starts_with("/v1/messages");
    let body = request.into_body().collect().await?.to_bytes();
    let streamed = memmem::find(&body, b"\"stream\":true").is_some();
    let (kind, body) = if streamed {
        let tokens = number(&body, b"tokens=").unwrap_or(100);
        let pace = Duration::from_millis(number(&body, b"pace=").unwrap_or(0));
        let script = if anthropic { ANTHROPIC } else { OPENAI };
        let stream = Stream::new(script, tokens, pace);
        ("text/event-stream", Either::Right(stream))
    } else {
        let whole = if anthropic { message() } else { completion() };
        ("application/json", Either::Left(Full::new(whole)))
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    Ok(response)
}

/// The number that follows `name` in `body`.
fn number(body: &[u8], name: &[u8]) -> Option<u64> {
    let start = memmem::find(body, name)? + name.len();
    let digits = body[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    std::str::from_utf8(&digits.copied().collect::<Vec<_>>())
        .ok()?
        .parse()
        .ok()
}

/// About a kilobyte, most of it text.
fn text() -> String {
    format!("{MARK}. {}", "Nothing of it is missing. ".repeat(24))
}

fn completion() -> Bytes {
    Bytes::from(format!(
        r#"{{"id":"chatcmpl-Bench0000000000000000000000001","object":"chat.completion","created":1700000000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":150,"total_tokens":170}},"system_fingerprint":"fp_bench"}}"#,
        text()
    ))
}

fn message() -> Bytes {
    Bytes::from(format!(
        r#"{{"id":"msg_Bench0000000000000001","type":"message","role":"assistant","model":"bench","content":[{{"type":"text","text":"{}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":20,"output_tokens":150}}}}"#,
        text()
    ))
}

/// The events of a stream: those before the tokens, one token, those after.
#[derive(Clone, Copy)]
struct Script {
    before: &'static str,
    token: &'static str,
    after: &'static str,
}

const OPENAI: Script = Script {
    before: concat!(
        r#"data: {"id":"chatcmpl-Bench0000000000000000000000001","object":"chat.completion.chunk","created":1700000000,"model":"bench","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
        "\n\n"
    ),
    token: concat!(
        r#"data: {"id":"chatcmpl-Bench0000000000000000000000001","object":"chat.completion.chunk","created":1700000000,"model":"bench","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}"#,
        "\n\n"
    ),
    after: concat!(
        r#"data: {"id":"chatcmpl-Bench0000000000000000000000001","object":"chat.completion.chunk","created":1700000000,"model":"bench","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}"#,
        "\n\ndata: [DONE]\n\n"
    ),
};

const ANTHROPIC: Script = Script {
    before: concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"id":"msg_Bench0000000000000001","type":"message","role":"assistant","model":"bench","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":20,"output_tokens":1}}}"#,
        "\n\nevent: content_block_start\n",
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        "\n\n"
    ),
    token: concat!(
        "event: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}"#,
        "\n\n"
    ),
    after: concat!(
        "event: content_block_stop\n",
        r#"data: {"type":"content_block_stop","index":0}"#,
        "\n\nevent: message_delta\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":150}}"#,
        "\n\nevent: message_stop\n",
        r#"data: {"type":"message_stop"}"#,
        "\n\n"
    ),
};

/// A body that gives one event at a time.
struct Stream {
    script: Script,
    /// Events given so far.
    given: u64,
    /// Events in all.
    events: u64,
    pace: Duration,
    next: Pin<Box<Sleep>>,
    /// Without a pace: whether the last event was left to be written alone.
    rested: bool,
}

impl Stream {
    fn new(script: Script, tokens: u64, pace: Duration) -> Self {
        // The first token is late by a random part of the pace, so that streams don't march in step.
        let phase = pace.mul_f64(fastrand::f64());
        Self {
            script,
            given: 0,
            events: tokens + 2,
            pace,
            next: Box::pin(sleep_until(Instant::now() + phase)),
            rested: true,
        }
    }

    /// Ready when the next event is due.
    fn due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.pace.is_zero() {
            if std::mem::replace(&mut self.rested, true) {
                return Poll::Ready(());
            }
            // The server writes what it has when the body has nothing.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.next.as_mut().poll(context)
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.given == self.events {
            return Poll::Ready(None);
        }
        if self.due(context).is_pending() {
            return Poll::Pending;
        }
        let event = match self.given {
            0 => self.script.before,
            given if given + 1 == self.events => self.script.after,
            _ => self.script.token,
        };
        self.given += 1;
        self.rested = false;
        // Counted from the last due time, not from now: the pace holds under load.
        let due = self.next.deadline() + self.pace;
        self.next.as_mut().reset(due);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(event.as_bytes())))))
    }
}
