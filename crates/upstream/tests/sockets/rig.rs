//! What the tests stand on: a runtime, endpoints, and a server that speaks HTTP/1.1 byte by byte.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use holdfast_upstream::{Answer, Cause, Endpoint, Error, Http2, Pieces, Pool, Response};
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Longer than anything takes: it ends a test that hangs, and is no measure of anything else.
const WATCHDOG: Duration = Duration::from_secs(20);

/// Runs a test as a worker runs its calls: on one thread.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new()
        .block_on(&runtime, async {
            tokio::time::timeout(WATCHDOG, test).await
        })
        .expect("the test hangs")
}

/// The same for a test that turns the clock, and would set the watchdog off by it.
pub(crate) fn run_unwatched<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// Lets this much time pass at once.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// In the clear, HTTP/1.1.
pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
        tls: None,
        http2: Http2::Auto,
        max_idle: 8,
        streams_per_connection: 50,
        max_connections: 16,
    }
}

pub(crate) fn post(body: &'static str) -> Request<Pieces> {
    Request::post("/v1/messages")
        .header("host", "vendor.test")
        .body(Pieces::new([Bytes::from_static(body.as_bytes())]))
        .unwrap()
}

/// One call up to its head.
pub(crate) async fn call(pool: &Pool, body: &'static str) -> Result<Response, Error> {
    pool.connect().await?.send(post(body)).await
}

/// One call to the end of its answer.
pub(crate) async fn ask(pool: &Pool, body: &'static str) -> String {
    let response = call(pool, body).await.unwrap();
    read(response.answer).await.unwrap()
}

pub(crate) async fn piece(answer: &mut Answer) -> Option<Result<Bytes, Cause>> {
    std::future::poll_fn(|cx| answer.poll_data(cx)).await
}

pub(crate) async fn read(mut answer: Answer) -> Result<String, Cause> {
    let mut all = Vec::new();
    while let Some(data) = piece(&mut answer).await {
        all.extend_from_slice(&data?);
    }
    Ok(String::from_utf8(all).unwrap())
}

/// A request as the server saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Reads one request with a `Content-Length`; `None` = the client closed without sending one.
pub(crate) async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .expect("a request body has a length");
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { head, body })
}

/// A whole answer with a length.
pub(crate) async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, text: &str) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// Answers every request on a connection with its own body, until the client closes it; how many
/// there were.
pub(crate) async fn echo(mut stream: TcpStream) -> usize {
    let mut count = 0;
    while let Some(seen) = request(&mut stream).await {
        count += 1;
        answer(&mut stream, std::str::from_utf8(&seen.body).unwrap()).await;
    }
    count
}

/// Waits until the peer has closed or reset the connection; what it sent before that.
pub(crate) async fn closed<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is as good an end as a close.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}
