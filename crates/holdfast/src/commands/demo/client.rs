//! An honest client: one call over a real socket, read as the vendors' SDKs read it (`retries` off).
//!
//! What it does with each way of ending is what the SDKs were seen to do: errors of status, stream
//! and transport are raised, a neat end is believed. It never looks at what Holdfast adds, but for
//! the exchange's id, by which a wrong answer can be looked up.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::held::{Event, Held, Raised};
use super::plan::Ask;
use super::sse::Events;
use super::verdict::{End, Told};

/// What came of a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) held: Held,
    pub(super) end: End,
    /// From the call to its end.
    pub(super) took: Duration,
    /// What Holdfast calls it.
    pub(super) exchange: Option<String>,
}

/// Makes a call; gives up when nothing new has come for `patience`.
pub(super) async fn call(address: SocketAddr, ask: &Ask, patience: Duration) -> Answer {
    let began = Instant::now();
    let mut answer = Answer {
        held: Held::default(),
        end: End::Ended,
        took: Duration::ZERO,
        exchange: None,
    };
    answer.end = match converse(address, ask, patience, &mut answer).await {
        Ok(()) => End::Ended,
        Err(end) => end,
    };
    answer.took = began.elapsed();
    answer
}

async fn converse(
    address: SocketAddr,
    ask: &Ask,
    patience: Duration,
    answer: &mut Answer,
) -> Result<(), End> {
    let response = within(Instant::now() + patience, send(address, ask)).await?;
    let response = response.map_err(|_| End::Told(Told::NoResponse))?;
    let exchange = response.headers().get("holdfast-exchange");
    answer.exchange = exchange.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    if status >= 400 {
        return Err(End::Told(Told::Status(status)));
    }
    if ask.stream {
        read_stream(response, ask, patience, &mut answer.held).await
    } else {
        read_body(response, ask, patience, &mut answer.held).await
    }
}

async fn send(
    address: SocketAddr,
    ask: &Ask,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response; what went wrong in it is seen there.
    tokio::spawn(connection);
    let mut request = Request::post(ask.path()).header("host", address.to_string());
    for (name, value) in ask.headers() {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::from(ask.body(ask.model()).to_string()));
    Ok(sender.send_request(request.body(body)?).await?)
}

async fn read_stream(
    response: Response<Incoming>,
    ask: &Ask,
    patience: Duration,
    held: &mut Held,
) -> Result<(), End> {
    let mut body = response.into_body();
    let mut events = Events::default();
    let mut deadline = Instant::now() + patience;
    while let Some(frame) = within(deadline, body.frame()).await? {
        let frame = frame.map_err(|_| End::Told(Told::Aborted))?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        let complete = events
            .push(&bytes)
            .map_err(|_| End::Told(Told::Unreadable))?;
        for data in complete {
            match held.event(ask.dialect, &data).map_err(raised)? {
                Event::Content => deadline = Instant::now() + patience,
                // A sign of life is no progress: a program would wait on it for ever.
                Event::Ping => {}
                Event::Terminal => return Ok(()),
            }
        }
    }
    Ok(())
}

async fn read_body(
    response: Response<Incoming>,
    ask: &Ask,
    patience: Duration,
    held: &mut Held,
) -> Result<(), End> {
    let is_json = response
        .headers()
        .get("content-type")
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.contains("json"));
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(frame) = within(Instant::now() + patience, body.frame()).await? {
        let frame = frame.map_err(|_| End::Told(Told::Aborted))?;
        if let Some(bytes) = frame.data_ref() {
            all.extend_from_slice(bytes);
        }
    }
    match held.body(ask.dialect, &all) {
        // The SDKs hand over what does not even claim to be JSON as it is.
        Err(_) if !is_json => Ok(()),
        read => read.map_err(raised),
    }
}

fn raised(raised: Raised) -> End {
    End::Told(match raised {
        Raised::ErrorEvent => Told::ErrorEvent,
        Raised::Unreadable => Told::Unreadable,
    })
}

async fn within<T>(deadline: Instant, future: impl Future<Output = T>) -> Result<T, End> {
    timeout_at(deadline, future).await.map_err(|_| End::Stalled)
}

#[cfg(test)]
mod tests;
