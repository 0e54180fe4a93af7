//! A vendor that counts: every call that reaches it, for which key, when, and how it ended.
//!
//! It speaks both dialects, plain and streamed, in slow pieces, so that kills land in the middle. What
//! it fails, it fails by the marker's script. Judging the calls is `verdict`'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use parking_lot::Mutex;
use serde_json::json;

use crate::server::{self, Asked, Body, Cut, Server};
use crate::words::{self, Dialect, Marker};

/// How one call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// It runs, or its end was never noticed.
    Open,
    /// Everything was handed over.
    Whole,
    /// The caller left.
    Left,
    /// The script wanted it so.
    Failed,
}

/// One call that reached the vendor.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) start: Instant,
    pub(crate) ended: Ended,
}

/// All calls, by key.
#[derive(Debug, Default)]
pub(crate) struct Book {
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    last: u64,
    by_key: HashMap<String, Vec<Call>>,
}

/// A running vendor.
#[derive(Debug)]
pub(crate) struct Vendor {
    pub(crate) book: Arc<Book>,
    pub(crate) server: Server,
}

// === impl Book ===

impl Book {
    fn begin(self: &Arc<Self>, key: &str) -> (Note, usize) {
        let mut calls = self.calls.lock();
        calls.last += 1;
        let number = calls.last;
        let of_key = calls.by_key.entry(key.to_owned()).or_default();
        of_key.push(Call {
            number,
            start: Instant::now(),
            ended: Ended::Open,
        });
        let nth = of_key.len();
        let note = Note {
            book: self.clone(),
            key: key.to_owned(),
            number,
            ended: Ended::Left,
        };
        (note, nth)
    }

    fn end(&self, key: &str, number: u64, ended: Ended) {
        let mut calls = self.calls.lock();
        let of_key = calls.by_key.get_mut(key);
        let call = of_key.and_then(|calls| calls.iter_mut().find(|call| call.number == number));
        if let Some(call) = call {
            call.ended = ended;
        }
    }

    pub(crate) fn calls(&self, key: &str) -> Vec<Call> {
        self.calls
            .lock()
            .by_key
            .get(key)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn total(&self) -> u64 {
        self.calls.lock().last
    }
}

/// Writes the call's end when it is dropped, wherever that is.
struct Note {
    book: Arc<Book>,
    key: String,
    number: u64,
    ended: Ended,
}

impl Drop for Note {
    fn drop(&mut self) {
        self.book.end(&self.key, self.number, self.ended);
    }
}

// === impl Vendor ===

impl Vendor {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let book = Arc::new(Book::default());
        let shared = book.clone();
        let server = Server::start(move |asked| answer(shared.clone(), asked)).await?;
        Ok(Self { book, server })
    }
}

async fn answer(book: Arc<Book>, asked: Asked) -> Response<Body> {
    let dialect = Dialect::of_path(asked.head.uri.path());
    let text = String::from_utf8_lossy(&asked.body);
    let (Some(dialect), Some(marker)) = (dialect, Marker::find(&text)) else {
        return server::text(StatusCode::NOT_FOUND, "not a call of the harness");
    };
    let is_stream = serde_json::from_slice::<serde_json::Value>(&asked.body)
        .is_ok_and(|body| body["stream"] == true);
    let (mut note, nth) = book.begin(&marker.key);
    let is_sick = nth <= marker.sick as usize;
    // The call's number spreads the waits; a seed would, too, but not over restarts.
    let slow = Duration::from_millis(marker.slow + note.number % 7);
    if is_sick && (!is_stream || note.number.is_multiple_of(2)) {
        tokio::time::sleep(slow / 2).await;
        note.ended = Ended::Failed;
        return server::json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({"type": "error", "error": {"type": "api_error", "message": "sick by script"}}),
        );
    }
    if !is_stream {
        tokio::time::sleep(slow).await;
        note.ended = Ended::Whole;
        return server::json(
            StatusCode::OK,
            &words::plain(dialect, &marker.key, note.number),
        );
    }
    let events = words::events(dialect, &marker.key, note.number);
    let (sender, body) = Channel::<Bytes, Cut>::new(1);
    tokio::spawn(say(sender, events, slow, note, is_sick));
    let mut response = Response::new(body.boxed());
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert("content-type", kind);
    response
}

async fn say(
    mut sender: Sender<Bytes, Cut>,
    events: Vec<String>,
    slow: Duration,
    mut note: Note,
    is_sick: bool,
) {
    let pause = slow / u32::try_from(events.len()).unwrap_or(1);
    let cut_at = events.len() / 2;
    for (at, event) in events.into_iter().enumerate() {
        if is_sick && at == cut_at {
            note.ended = Ended::Failed;
            return sender.abort(Cut);
        }
        tokio::time::sleep(pause).await;
        if sender.send_data(event.into()).await.is_err() {
            return;
        }
    }
    note.ended = Ended::Whole;
}
