//! The connections of one worker to one vendor.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use http::Request;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::address;
use crate::body::{Answer, Cause, Pieces, Response, Why};
use crate::connect::{Endpoint, Http2};
use crate::head::Head;
use crate::line::{Line, Stream, Unsent};

/// Why a call did not get a response head.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect to {host}:{port}: {source}")]
    Connect {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error("tls with {host}: {source}")]
    Tls { host: String, source: io::Error },
    #[error("http handshake: {0}")]
    Handshake(Cause),
    #[error("the connection broke before a response: {0}")]
    Broken(Cause),
}

/// A connection that was idle for longer is not used again: vendors close theirs after a minute or
/// more, and one whose way was lost meanwhile would take a call with it.
const LONGEST_IDLE: Duration = Duration::from_mins(1);
/// What a vendor may send ahead on a stream that is not read: its share of the memory of a slow caller.
const STREAM_WINDOW: u32 = 128 << 10;
/// What it may send ahead on all streams of a connection: more than they can fill, since those that are
/// not read would hold up the others. The most that the protocol knows (RFC 9113, 6.9.1).
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// An HTTP/2 connection with open streams that hears nothing for so long is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(15);
/// One that does not answer that in time is given up with all its streams. Both together are less than
/// the usual time limit of a response head, so that the next attempt finds another connection.
const PING_WAIT: Duration = Duration::from_secs(10);

/// The connections of one worker to one endpoint. Cheap to clone; not for other threads.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    idle: RefCell<Vec<Idle>>,
    multiplexed: RefCell<Vec<Multiplexed>>,
    protocol: Cell<Protocol>,
    /// Connections that are being opened, and the calls that wait for them or open them.
    opening: Cell<usize>,
    awaiting: Cell<usize>,
    /// Connections that could not be opened so far, or whose opener was dropped.
    failures: Cell<usize>,
    /// A connection that was being opened is there, or failed.
    opened: Notify,
}

/// What the endpoint spoke last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    /// Nothing yet: the first TLS handshake will tell.
    Unknown,
    Http1,
    Http2,
}

/// A count that goes down again on drop.
#[derive(Debug)]
struct Counted<'a>(&'a Cell<usize>);

/// A connection that is being opened. Its end, also by drop, wakes those who wait for it.
#[derive(Debug)]
struct Opening<'a> {
    shared: &'a Shared,
    succeeded: bool,
}

/// An HTTP/1.1 connection that waits for its next call.
#[derive(Debug)]
struct Idle {
    line: Line,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Multiplexed {
    sender: http2::SendRequest<Pieces>,
    streams: Rc<Cell<usize>>,
}

/// A connection that one request may be sent on.
#[derive(Debug)]
pub struct Connection {
    pool: Pool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Http1 {
        line: Line,
        reused: bool,
    },
    Http2 {
        sender: http2::SendRequest<Pieces>,
        /// Taken before the request is sent, so that calls at once don't all see the same room.
        count: StreamCount,
        reused: bool,
    },
}

/// One open stream of an HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct StreamCount(Rc<Cell<usize>>);

impl Pool {
    /// A pool without connections.
    pub fn new(endpoint: Endpoint) -> Self {
        let protocol = match endpoint.http2 {
            Http2::PriorKnowledge => Protocol::Http2,
            Http2::Auto if endpoint.tls.is_some() => Protocol::Unknown,
            Http2::Auto | Http2::Never => Protocol::Http1,
        };
        let shared = Shared {
            endpoint,
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            protocol: Cell::new(protocol),
            opening: Cell::new(0),
            awaiting: Cell::new(0),
            failures: Cell::new(0),
            opened: Notify::new(),
        };
        Self {
            shared: Rc::new(shared),
        }
    }

    /// A kept connection that is ready.
    pub fn kept(&self) -> Option<Connection> {
        if let Some(connection) = self.multiplexed() {
            return Some(connection);
        }
        while let Some(mut line) = self.take_idle() {
            if line.is_ready() {
                return Some(self.connection(Kind::Http1 { line, reused: true }));
            }
        }
        None
    }

    /// A connection that is ready, kept or new. Must be called within the pool's own `LocalSet` or
    /// single-threaded runtime. Dropped before its end, it leaves nothing behind.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let awaiting = Counted::new(&self.shared.awaiting);
        let failures = self.shared.failures.get();
        loop {
            if let Some(connection) = self.kept() {
                return Ok(connection);
            }
            if self.may_open(failures != self.shared.failures.get()) {
                let opened = self.open().await;
                drop(awaiting);
                return opened;
            }
            self.shared.opened.notified().await;
        }
    }

    /// Whether a call that found no room opens a connection, or waits for one that is being opened: a
    /// burst of calls must not open one each. Where opening `failed` meanwhile, the call finds out for
    /// itself instead of waiting for one failure after the other.
    fn may_open(&self, failed: bool) -> bool {
        let shared = &self.shared;
        let (opening, endpoint) = (shared.opening.get(), &shared.endpoint);
        if opening == 0 {
            return true;
        }
        match shared.protocol.get() {
            Protocol::Http1 => true,
            Protocol::Unknown => failed,
            Protocol::Http2 => {
                let open = shared.multiplexed.borrow().len() + opening;
                let room_to_come = opening * endpoint.streams_per_connection;
                open < endpoint.max_connections && (failed || shared.awaiting.get() > room_to_come)
            }
        }
    }

    fn connection(&self, kind: Kind) -> Connection {
        Connection {
            pool: self.clone(),
            kind,
        }
    }

    /// The connection that was used last: the others grow old and are let go.
    fn take_idle(&self) -> Option<Line> {
        let mut idle = self.shared.idle.borrow_mut();
        drop_stale(&mut idle, Instant::now());
        Some(idle.pop()?.line)
    }

    /// A connection whose call has ended.
    pub(crate) fn keep(&self, line: Line) {
        let mut idle = self.shared.idle.borrow_mut();
        let since = Instant::now();
        drop_stale(&mut idle, since);
        if line.is_open() && idle.len() < self.shared.endpoint.max_idle {
            idle.push(Idle { line, since });
        }
    }

    /// An open HTTP/2 connection with room, or, at the cap on connections, the emptiest one.
    fn multiplexed(&self) -> Option<Connection> {
        let endpoint = &self.shared.endpoint;
        let mut open = self.shared.multiplexed.borrow_mut();
        open.retain(|connection| !connection.sender.is_closed());
        let emptiest = open
            .iter()
            .min_by_key(|connection| connection.streams.get())?;
        let has_room = emptiest.streams.get() < endpoint.streams_per_connection;
        (has_room || open.len() >= endpoint.max_connections)
            .then(|| self.connection(emptiest.stream(true)))
    }

    async fn open(&self) -> Result<Connection, Error> {
        let mut opening = Opening::new(&self.shared);
        let opened = self.reach().await;
        opening.succeeded = opened.is_ok();
        opened
    }

    async fn reach(&self) -> Result<Connection, Error> {
        let endpoint = &self.shared.endpoint;
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|source| Error::Connect {
                host: endpoint.host.clone(),
                port: endpoint.port,
                source,
            })?;
        // Small writes must not wait for each other; a socket that can't be told still works.
        let _ = tcp.set_nodelay(true);
        let Some(config) = &endpoint.tls else {
            if endpoint.http2 == Http2::PriorKnowledge {
                return self.multiplex(tcp).await;
            }
            return Ok(self.first_call(Stream::Plain(tcp)));
        };
        let tls_error = |source| Error::Tls {
            host: endpoint.host.clone(),
            source,
        };
        let name = endpoint.server_name().map_err(tls_error)?;
        let tls = TlsConnector::from(config.clone())
            .connect(name, tcp)
            .await
            .map_err(tls_error)?;
        let chose_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        if chose_http2 || endpoint.http2 == Http2::PriorKnowledge {
            return self.multiplex(tls).await;
        }
        Ok(self.first_call(Stream::Tls(Box::new(tls))))
    }

    fn first_call(&self, stream: Stream) -> Connection {
        self.shared.protocol.set(Protocol::Http1);
        let line = Line::new(stream);
        let reused = false;
        self.connection(Kind::Http1 { line, reused })
    }

    async fn multiplex<S>(&self, stream: S) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let streams = self.shared.endpoint.streams_per_connection;
        let (sender, driver) = http2::Builder::new(Local)
            // Until the server has told its own limit; more would be refused by many.
            .initial_max_send_streams(streams.max(1))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_WAIT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Error::Handshake(Cause(Why::Http2(error))))?;
        tokio::task::spawn_local(driver);
        let connection = Multiplexed {
            sender,
            streams: Rc::default(),
        };
        let first = connection.stream(false);
        self.shared.protocol.set(Protocol::Http2);
        self.shared.multiplexed.borrow_mut().push(connection);
        Ok(self.connection(first))
    }
}

impl Connection {
    /// Sends the request and waits for the response head. Dropped before its end, it stops the call.
    ///
    /// A kept connection that turns out to be closed before a byte of the request was written is
    /// replaced by a new one: that is no second attempt, since nothing was sent. Once a byte was
    /// written the vendor may have done the work: [`Error::Broken`], and the exchange decides.
    pub async fn send(self, mut request: Request<Pieces>) -> Result<Response, Error> {
        let Self { pool, kind } = self;
        match kind {
            Kind::Http1 { mut line, reused } => {
                address::for_http1(&mut request);
                match line.send(request).await {
                    Ok(head) => {
                        let answer = Answer::http1(line, pool);
                        Ok(Response { head, answer })
                    }
                    Err(Unsent::Whole(request, _)) if reused => {
                        // Boxed from its first byte: opening takes a large future.
                        Box::pin(async move { pool.open().await?.send(*request).await }).await
                    }
                    Err(Unsent::Whole(_, cause) | Unsent::Perhaps(cause)) => {
                        Err(Error::Broken(cause))
                    }
                }
            }
            Kind::Http2 {
                mut sender,
                count,
                reused,
            } => {
                address::for_http2(&mut request, pool.shared.endpoint.tls.is_some());
                match sender.try_send_request(request).await {
                    Ok(response) => {
                        let (parts, incoming) = response.into_parts();
                        let head = Head::of(parts.status, &parts.headers);
                        let answer = Answer::http2(incoming, count);
                        Ok(Response { head, answer })
                    }
                    Err(mut error) => match error.take_message() {
                        Some(request) if reused => {
                            drop(count);
                            Box::pin(async move { pool.connect().await?.send(request).await }).await
                        }
                        _ => Err(Error::Broken(Cause(Why::Http2(error.into_error())))),
                    },
                }
            }
        }
    }
}

/// Lets go what was idle for too long; what was kept first stands first.
fn drop_stale(idle: &mut Vec<Idle>, now: Instant) {
    let stale = idle
        .iter()
        .take_while(|idle| now.duration_since(idle.since) >= LONGEST_IDLE)
        .count();
    idle.drain(..stale);
}

impl Multiplexed {
    /// One more stream on it.
    fn stream(&self, reused: bool) -> Kind {
        Kind::Http2 {
            sender: self.sender.clone(),
            count: StreamCount::new(self.streams.clone()),
            reused,
        }
    }
}

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl<'a> Opening<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.opening.set(shared.opening.get() + 1);
        Self {
            shared,
            succeeded: false,
        }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        shared.opening.set(shared.opening.get().saturating_sub(1));
        if !self.succeeded {
            shared.failures.set(shared.failures.get().wrapping_add(1));
        }
        shared.opened.notify_waiters();
    }
}

impl StreamCount {
    fn new(streams: Rc<Cell<usize>>) -> Self {
        streams.set(streams.get() + 1);
        Self(streams)
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F> Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
