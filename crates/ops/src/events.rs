//! `GET /v1/events`: what changes, as server-sent events, in order and without gaps.
//!
//! Each event carries its number as `id`, so that a client that was cut off goes on behind the last
//! one it has (`Last-Event-ID`). Events are read from the store when its bell rings, page by page, and
//! only as fast as the reader takes them: what waits in memory is bounded, and a reader that takes
//! nothing is cut off, to come back later. Nothing is remembered of a reader.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use holdfast_api::{Answer, Body, Request};
use holdfast_core::fault::{Code, Fault};
use holdfast_store::Event;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::input::{Whose, invalid, whose};
use crate::shared::Shared;
use crate::wait::{Waiting, Woken, end_of};

/// Events of one reading.
const PAGE: usize = 100;
/// Pages that wait for the reader.
const AHEAD: usize = 2;
/// How soon a client that was cut off comes back, in milliseconds.
const COME_BACK: u32 = 1000;

/// The frames of one stream, as they come.
struct Frames(mpsc::Receiver<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Opens a stream.
pub(crate) async fn open(shared: &Arc<Shared>, request: &Request) -> Answer {
    let scope = match whose(request) {
        Whose::Nobody => {
            let message = "events of another caller are for reviewers";
            return Err(Fault::new(Code::Forbidden, message));
        }
        Whose::All => None,
        Whose::Of(scope) => Some(scope),
    };
    let after = match begin(request)? {
        Some(after) => after,
        None => shared.store.counts().await?.events,
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let writer = Writer {
        shared: shared.clone(),
        waiting: Waiting::for_events(shared),
        scope,
        after,
        sender,
    };
    writer.spawn()?;
    let body: Body = Frames(receiver).boxed();
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Some proxies hold a stream back until it is whole.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Behind which event the stream begins; `None` = behind the last one there is. What the client has
/// seen counts more than what its address says: it is the same address after a cut.
fn begin(request: &Request) -> Result<Option<i64>, Fault> {
    let seen = request.header("last-event-id").map(str::to_owned);
    let text = seen
        .filter(|text| !text.is_empty())
        .or_else(|| request.param("after"));
    match text.as_deref() {
        None | Some("latest") => Ok(None),
        Some(text) => text
            .parse()
            .ok()
            .filter(|after| *after >= 0)
            .map(Some)
            .ok_or_else(|| {
                invalid("`after` and `Last-Event-ID` are an event's number, or `latest`")
            }),
    }
}

/// Writes one stream.
struct Writer {
    shared: Arc<Shared>,
    waiting: Waiting,
    /// `None` = all.
    scope: Option<String>,
    /// The last event that was written.
    after: i64,
    sender: mpsc::Sender<Bytes>,
}

/// A stream ends: its reader is gone or too slow, or the gateway goes down.
struct Over;

impl Writer {
    /// Begins to write, within the limit of streams.
    fn spawn(self) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let mut streams = shared.streams.lock();
        while streams.try_join_next().is_some() {}
        // Under the lock: whoever joins the streams takes it after having said so.
        if *shared.drain.borrow() {
            return Err(Shared::going_down());
        }
        let limit = shared.terms().streams;
        if streams.len() >= limit {
            let message = format!("{limit} streams of events are open, which is the limit");
            return Err(Fault::new(Code::Overloaded, message));
        }
        streams.spawn(async move {
            let mut writer = self;
            let Over = writer.write().await;
        });
        Ok(())
    }

    async fn write(&mut self) -> Over {
        // A number without an event: a client that is cut off before the first one goes on from here.
        let first = format!("retry: {COME_BACK}\nid: {}\n\n", self.after);
        if let Err(over) = self.send(first.into()).await {
            return over;
        }
        loop {
            if let Err(over) = self.step().await {
                return over;
            }
        }
    }

    /// Writes what there is, then waits for more.
    async fn step(&mut self) -> Result<(), Over> {
        self.waiting.listen();
        let read = self
            .shared
            .store
            .events(self.after, self.scope.as_deref(), PAGE);
        let Ok(events) = read.await else {
            // The client comes back by itself, and is then told by status what is wrong.
            let _ = self
                .sender
                .try_send(Bytes::from_static(b": the store is unavailable\n\n"));
            return Err(Over);
        };
        if let Some(last) = events.last() {
            self.after = last.seq;
            self.send(page(&events)).await?;
        }
        if events.len() == PAGE {
            return Ok(());
        }
        let end = end_of(self.shared.terms().keep_alive);
        let woken = tokio::select! {
            () = self.sender.closed() => return Err(Over),
            woken = self.waiting.until(end) => woken,
        };
        match woken {
            Woken::News => Ok(()),
            Woken::TimeUp => self.send(Bytes::from_static(b": still here\n\n")).await,
            Woken::Drain => {
                let _ = self
                    .sender
                    .try_send(Bytes::from_static(b": going down\n\n"));
                Err(Over)
            }
        }
    }

    /// Hands a frame to the reader, who has a limited time to take what was there before it.
    async fn send(&mut self, frame: Bytes) -> Result<(), Over> {
        let stall = self.shared.terms().stall;
        tokio::select! {
            biased;
            sent = timeout(stall, self.sender.send(frame)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Over),
            },
            () = self.waiting.drained() => Err(Over),
        }
    }
}

fn page(events: &[Event]) -> Bytes {
    let mut out = BytesMut::new();
    for event in events {
        let data = json!({
            "seq": event.seq,
            "at": event.at.0,
            "scope": event.scope,
            "kind": event.kind,
            "subject": event.subject,
            "data": event.json,
        });
        // JSON has no line ends of its own, so that one `data` line takes it all.
        let frame = format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.kind);
        out.put_slice(frame.as_bytes());
    }
    out.freeze()
}
