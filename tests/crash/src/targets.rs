//! Two effect targets that count: one performs each `Idempotency-Key` once, the other every request.
//!
//! What is performed stays performed even if whoever asked has gone: that is what makes an effect
//! one. The payload's `mode` scripts what a target answers first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use crate::server::{self, Asked, Body, Server};

/// What a target does with an effect.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Performs it and says so.
    Fine,
    /// 429 at first, and nothing is performed; then as `Fine`.
    Busy,
    /// 400: nothing is performed, ever.
    Refuses,
    /// 500 at first, after performing it: the honest reason for doubt.
    Ill,
}

/// The payload of an effect.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) marker: String,
    pub(crate) mode: Mode,
    /// How long performing takes, in milliseconds.
    pub(crate) slow: u64,
}

/// What reached a target for one marker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Requests, all of them.
    pub(crate) requests: u32,
    /// Of those, refused for the moment.
    pub(crate) put_off: u32,
    pub(crate) refused: u32,
    /// Times that it took effect.
    pub(crate) performed: u32,
    /// Keys that it came under.
    pub(crate) keys: Vec<String>,
    /// The number that the last performance gave as its result.
    pub(crate) result: Option<u64>,
}

#[derive(Debug, Default)]
struct Known {
    tallies: HashMap<String, Tally>,
    /// What the honouring target performed under a key; `None` while it is at it.
    by_key: HashMap<String, watch::Receiver<Option<u64>>>,
    performances: u64,
}

/// Both targets' memory.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<Known>);

/// Both targets, on one port.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) book: Arc<Book>,
    pub(crate) server: Server,
}

// === impl Book ===

impl Book {
    pub(crate) fn tally(&self, marker: &str) -> Tally {
        self.0
            .lock()
            .tallies
            .get(marker)
            .cloned()
            .unwrap_or_default()
    }

    fn change<T>(&self, marker: &str, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(self.0.lock().tallies.entry(marker.to_owned()).or_default())
    }

    /// It takes effect.
    fn perform(&self, marker: &str) -> u64 {
        let mut known = self.0.lock();
        known.performances += 1;
        let result = known.performances;
        let tally = known.tallies.entry(marker.to_owned()).or_default();
        tally.performed += 1;
        tally.result = Some(result);
        result
    }
}

// === impl Targets ===

impl Targets {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let book = Arc::new(Book::default());
        let shared = book.clone();
        let server = Server::start(move |asked| {
            let book = shared.clone();
            // What was heard is carried out even if the one who asked leaves.
            let carried_out = tokio::spawn(async move { take(&book, &asked).await });
            async move {
                carried_out
                    .await
                    .unwrap_or_else(|_| server::text(StatusCode::INTERNAL_SERVER_ERROR, "panicked"))
            }
        })
        .await?;
        Ok(Self { book, server })
    }
}

async fn take(book: &Arc<Book>, asked: &Asked) -> Response<Body> {
    let Ok(order) = serde_json::from_slice::<Order>(&asked.body) else {
        return server::text(StatusCode::BAD_REQUEST, "not an order of the harness");
    };
    let key = asked.head.headers.get("idempotency-key");
    let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
    let nth = book.change(&order.marker, |tally| {
        tally.requests += 1;
        if !tally.keys.iter().any(|known| known == key) {
            tally.keys.push(key.to_owned());
        }
        tally.requests
    });
    match order.mode {
        Mode::Busy if nth == 1 => {
            book.change(&order.marker, |tally| tally.put_off += 1);
            let mut response = server::text(StatusCode::TOO_MANY_REQUESTS, "later");
            let none = http::HeaderValue::from_static("0");
            response.headers_mut().insert("retry-after", none);
            return response;
        }
        Mode::Refuses => {
            book.change(&order.marker, |tally| tally.refused += 1);
            return server::text(StatusCode::BAD_REQUEST, "no");
        }
        Mode::Fine | Mode::Busy | Mode::Ill => {}
    }
    let result = if asked.head.uri.path() == "/honours" {
        once(book, &order, key).await
    } else {
        let result = book.perform(&order.marker);
        tokio::time::sleep(Duration::from_millis(order.slow)).await;
        Some(result)
    };
    match result {
        None => server::text(StatusCode::CONFLICT, "in progress under this key"),
        Some(_) if order.mode == Mode::Ill && nth == 1 => {
            server::text(StatusCode::INTERNAL_SERVER_ERROR, "ill, after the deed")
        }
        Some(result) => server::json(
            StatusCode::CREATED,
            &json!({"performance": result, "marker": order.marker}),
        ),
    }
}

/// Performs under a key once; `None` = it is at it already.
async fn once(book: &Arc<Book>, order: &Order, key: &str) -> Option<u64> {
    let sender = {
        let mut known = book.0.lock();
        if let Some(known) = known.by_key.get(key) {
            return *known.borrow();
        }
        let (sender, receiver) = watch::channel(None);
        known.by_key.insert(key.to_owned(), receiver);
        sender
    };
    let result = book.perform(&order.marker);
    tokio::time::sleep(Duration::from_millis(order.slow)).await;
    sender.send_replace(Some(result));
    Some(result)
}
