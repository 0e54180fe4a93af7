//! The accept loop of one worker, and one request's way to its handler.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_core::fault::{Code, Fault};
use holdfast_wire::turn::Dialect;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admit::admit;
use crate::asked::Asked;
use crate::caller;
use crate::clock::exchange_id;
use crate::count;
use crate::emit::{self, Reply};
use crate::keyed;
use crate::meta;
use crate::names;
use crate::patience::Patient;
use crate::room::{Noted, Streams, Turn};
use crate::services;
use crate::worker::{Shared, Worker};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// What the kernel keeps for a caller who does not read it, beyond what is on its way to it. Its own
/// limit is megabytes, and of the memory for all sockets there is little more than a gigabyte: slow
/// callers would take it from the fast ones.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;
/// How often a half-sent beginning is looked at again.
const PREFACE_POLL: Duration = Duration::from_millis(10);
/// How long the accept loop rests when the process has no descriptor left.
const BREATHER: Duration = Duration::from_millis(50);

/// How many connections over the limit are told so at once; the rest is closed.
const REFUSED: usize = 512;
/// How long it is waited for what those want who are over the limit.
const GREETING: Duration = Duration::from_millis(100);
/// What they are answered as long as the process lives: whoever watches it must not end it for having
/// much to do.
const HEALTH: [&[u8]; 2] = [b"GET /healthz ", b"HEAD /healthz "];
/// How long those wait who are told that they came in vain.
pub(crate) const FAREWELL: Duration = Duration::from_millis(250);

/// A listening socket that shares its address with those of the other workers.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it; a system that has no such thing still works.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until `stop` says so, then waits for the open connections to end.
///
/// As long as calls run on any worker, those who come are told that the gateway is going down: a
/// refused connection would tell them nothing.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    listener: std::net::TcpListener,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut running = Running::new(worker.shared.clone());
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    let mut refused = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            Some(_) = refused.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        if let Some(stream) = welcome(accepted).await {
            match Open::new(&worker) {
                Some(open) => {
                    connections.spawn_local(connection(open, stream, Some(stop.clone())));
                }
                None if refused.len() < REFUSED => {
                    refused.spawn_local(refuse(stream));
                }
                None => {}
            }
        }
    }
    let mut late = JoinSet::new();
    let mut busy = worker.shared.busy.subscribe();
    loop {
        if connections.is_empty() {
            running.end();
        }
        let accepted = tokio::select! {
            biased;
            _ = busy.wait_for(|busy| *busy == 0) => break,
            Some(_) = connections.join_next() => continue,
            Some(_) = late.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        if let (Some(stream), Some(open)) = (welcome(accepted).await, Open::new(&worker)) {
            late.spawn_local(connection(open, stream, None));
        }
    }
    drop(listener);
    // Whoever is still silent then is left.
    let _ = tokio::time::timeout(FAREWELL, async {
        while late.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}

async fn welcome(accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<TcpStream> {
    match accepted {
        Ok((stream, _)) => Some(stream),
        // Out of descriptors, or the peer is gone already: the loop must live.
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(BREATHER).await;
            None
        }
    }
}

/// Over the limit on connections: an answer in the shape of both dialects. Of what is asked no more is
/// looked at than whether it is about our health.
async fn refuse(mut stream: TcpStream) {
    let greeting = tokio::time::timeout(GREETING, begins_with(&stream, &HEALTH)).await;
    let answer = match greeting {
        // An empty body is right for both methods.
        Ok(Ok(true)) => {
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
        }
        Ok(Ok(false) | Err(_)) | Err(_) => refusal(),
    };
    let telling = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with a request unread, the answer would be lost on its way.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // Who does not read it in time has it no better than a reset.
    let _ = tokio::time::timeout(FAREWELL, telling).await;
}

fn refusal() -> String {
    let message = "the limit `connections` is reached (HF-010)";
    let body = serde_json::json!({
        "type": "error",
        "error": {"type": "overloaded_error", "code": "overloaded", "message": message},
    })
    .to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         holdfast-code: HF-010\r\nx-should-retry: true\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// One accept loop among those whose calls still run. Ended at the latest by its drop.
struct Running(Option<Arc<Shared>>);

impl Running {
    fn new(shared: Arc<Shared>) -> Self {
        shared.busy.send_modify(|busy| *busy += 1);
        Self(Some(shared))
    }

    fn end(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.busy.send_modify(|busy| *busy -= 1);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Counts an open connection.
struct Open(Rc<Worker>);

impl Open {
    /// `None` = the limit is reached.
    fn new(worker: &Rc<Worker>) -> Option<Self> {
        let shared = &worker.shared;
        let limit = shared.snapshot.load().config.limits.connections;
        let before = shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.metrics.connections.inc();
        // Dropped where the limit is reached, which gives the place back.
        let open = Self(worker.clone());
        if before >= limit {
            shared.metrics.shed.inc();
            return None;
        }
        Some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.shared.metrics.connections.dec();
    }
}

/// Serves a connection. One without `stop` came when the gateway was going down already: it may say
/// what it wants, and is refused.
async fn connection(open: Open, stream: TcpStream, mut stop: Option<watch::Receiver<bool>>) {
    let worker = open.0.clone();
    // Events must not wait for each other; a socket that can't be told still works.
    let _ = stream.set_nodelay(true);
    let header_timeout = worker.shared.snapshot.load().config.limits.header_timeout;
    let begun = tokio::select! {
        biased;
        begun = tokio::time::timeout(header_timeout, speaks_http2(&stream)) => begun,
        // It has said nothing yet and need not be waited for.
        () = stopped(&mut stop) => return,
    };
    let ended = match begun {
        Ok(Ok(true)) => serve_http2(worker, stream, stop)
            .await
            .map_err(|error| error.to_string()),
        Ok(Ok(false)) => caller::serve(worker, stream, stop)
            .await
            .map_err(|error| error.to_string()),
        Ok(Err(_)) | Err(_) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(error, "connection ended");
    }
}

/// Completes when the gateway begins to go down; never, where it has begun already.
pub(crate) async fn stopped(stop: &mut Option<watch::Receiver<bool>>) {
    match stop {
        // Nobody left to say it is the same.
        Some(stop) => drop(stop.wait_for(|stop| *stop).await),
        None => std::future::pending().await,
    }
}

/// Whether the connection begins with the preface of HTTP/2 (RFC 9113, 3.4); its first bytes tell.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    begins_with(stream, &[b"PRI "]).await
}

/// Whether the first bytes are one of these, at most 16 each. Takes nothing of them.
async fn begins_with(stream: &TcpStream, wanted: &[&[u8]]) -> io::Result<bool> {
    let mut start = [0; 16];
    loop {
        stream.readable().await?;
        let seen = stream.peek(&mut start).await?;
        let seen = &start[..seen];
        if wanted.iter().any(|wanted| seen.starts_with(wanted)) {
            return Ok(true);
        }
        if seen.is_empty() || !wanted.iter().any(|wanted| wanted.starts_with(seen)) {
            return Ok(false);
        }
        // The socket stays readable while the rest is on its way.
        tokio::time::sleep(PREFACE_POLL).await;
    }
}

async fn serve_http2(
    worker: Rc<Worker>,
    stream: TcpStream,
    mut stop: Option<watch::Receiver<bool>>,
) -> Result<(), hyper::Error> {
    let (header_bytes, write_timeout) = {
        let snapshot = worker.shared.snapshot.load();
        let limits = &snapshot.config.limits;
        (limits.header_bytes, limits.write_timeout)
    };
    let stream = Patient::new(stream, write_timeout);
    let turn = Turn::default();
    let streams = Streams {
        turn: turn.clone(),
        limit: write_timeout,
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let request = request.map(Asked::Http2);
        let (answered, turn) = (handle(worker.clone(), request), turn.clone());
        async move {
            let response = answered.await;
            Ok::<_, Infallible>(response.map(|reply| Noted::new(reply, turn)))
        }
    });
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stopped(&mut stop) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

pub(crate) async fn handle(worker: Rc<Worker>, request: Request<Asked>) -> Response<Reply> {
    let dialect = dialect_of(&request);
    match route(&worker, dialect, request).await {
        Ok(response) => response,
        Err(fault) => refused(dialect, &fault),
    }
}

/// The answer to what is no call.
pub(crate) fn refused(dialect: Dialect, fault: &Fault) -> Response<Reply> {
    let id = exchange_id();
    tracing::info!(
        exchange = id,
        code = fault.code.number(),
        message = fault.message,
        "refused"
    );
    emit::error_response(dialect, fault, &id)
}

/// The dialect of a request that may turn out to be wrong in every other way.
fn dialect_of(request: &Request<Asked>) -> Dialect {
    let is_anthropic = |headers: &HeaderMap| {
        headers.contains_key(&names::ANTHROPIC_VERSION) || headers.contains_key(&names::X_API_KEY)
    };
    match dialect_of_path(request.uri().path()) {
        Some(dialect) => dialect,
        None if is_anthropic(request.headers()) => Dialect::Anthropic,
        None => Dialect::OpenAi,
    }
}

/// The dialect of a model call's path.
pub(crate) fn dialect_of_path(path: &str) -> Option<Dialect> {
    match path {
        "/v1/messages" | "/v1/messages/count_tokens" => Some(Dialect::Anthropic),
        "/v1/chat/completions" => Some(Dialect::OpenAi),
        _ => None,
    }
}

/// Every connection has room for this future, so what is not the usual call is boxed.
async fn route(
    worker: &Rc<Worker>,
    dialect: Dialect,
    request: Request<Asked>,
) -> Result<Response<Reply>, Fault> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    match (path.as_str(), method) {
        ("/v1/messages" | "/v1/chat/completions", Method::POST) => {
            let call = admit(worker, dialect, request).await?;
            keyed::answer(worker, call).await
        }
        ("/v1/messages/count_tokens", Method::POST) => {
            Box::pin(count::tokens(worker, request)).await
        }
        ("/v1/models", Method::GET) => meta::models(worker, request.headers(), None),
        ("/" | "/api/hello", Method::HEAD | Method::GET) => Ok(meta::hello()),
        ("/healthz", Method::GET | Method::HEAD) => Ok(meta::alive()),
        ("/readyz", Method::GET | Method::HEAD) => Ok(meta::ready(worker)),
        ("/metrics", Method::GET) => Ok(meta::metrics(worker)),
        ("/holdfast/exchanges", Method::GET) => meta::exchanges(worker, request.headers(), None),
        (
            "/v1/messages"
            | "/v1/chat/completions"
            | "/v1/messages/count_tokens"
            | "/v1/models"
            | "/metrics"
            | "/healthz"
            | "/readyz"
            | "/",
            method,
        ) => Err(Fault::new(
            Code::MethodNotAllowed,
            format!("`{path}` does not take {method}"),
        )),
        (path, Method::GET) if path.starts_with("/v1/models/") => {
            meta::models(worker, request.headers(), path.strip_prefix("/v1/models/"))
        }
        (path, Method::GET) if path.starts_with("/holdfast/exchanges/") => meta::exchanges(
            worker,
            request.headers(),
            path.strip_prefix("/holdfast/exchanges/"),
        ),
        (path, Method::GET) if path.starts_with("/v1/calls/") => {
            Box::pin(keyed::fetch(worker, request.headers(), path)).await
        }
        _ => Box::pin(services::answer(worker, request)).await,
    }
}
