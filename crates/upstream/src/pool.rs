//! The connections of one worker to one vendor.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;

use http::{Request, Response};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::{Answer, Pieces};
use crate::connect::{Endpoint, Http2};

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
    Handshake(hyper::Error),
    #[error("the connection broke before a response: {0}")]
    Broken(hyper::Error),
}

/// The largest response head that is read, in bytes.
const MAX_HEAD: usize = 256 << 10;

/// The connections of one worker to one endpoint. Cheap to clone; not for other threads.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    idle: RefCell<Vec<http1::SendRequest<Pieces>>>,
    multiplexed: RefCell<Vec<Multiplexed>>,
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
        sender: http1::SendRequest<Pieces>,
        reused: bool,
    },
    Http2(Multiplexed),
}

/// What an answer holds of its connection until it was read to its end.
#[derive(Debug)]
pub(crate) enum Lease {
    Http1 {
        pool: Pool,
        sender: http1::SendRequest<Pieces>,
    },
    Http2(#[expect(dead_code, reason = "held for its drop")] StreamCount),
}

/// One open stream of an HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct StreamCount(Rc<Cell<usize>>);

impl Pool {
    /// A pool without connections.
    pub fn new(endpoint: Endpoint) -> Self {
        let shared = Shared {
            endpoint,
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
        };
        Self {
            shared: Rc::new(shared),
        }
    }

    /// A connection that is ready, kept or new. Must be called within the pool's own `LocalSet` or
    /// single-threaded runtime.
    pub async fn connect(&self) -> Result<Connection, Error> {
        if let Some(connection) = self.multiplexed() {
            return Ok(self.connection(Kind::Http2(connection)));
        }
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_ok() {
                return Ok(self.connection(Kind::Http1 {
                    sender,
                    reused: true,
                }));
            }
        }
        self.open().await
    }

    fn connection(&self, kind: Kind) -> Connection {
        Connection {
            pool: self.clone(),
            kind,
        }
    }

    fn take_idle(&self) -> Option<http1::SendRequest<Pieces>> {
        let mut idle = self.shared.idle.borrow_mut();
        loop {
            let sender = idle.pop()?;
            if !sender.is_closed() {
                return Some(sender);
            }
        }
    }

    fn keep(&self, sender: http1::SendRequest<Pieces>) {
        let mut idle = self.shared.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < self.shared.endpoint.max_idle {
            idle.push(sender);
        }
    }

    /// An open HTTP/2 connection with room, or, at the cap on connections, the emptiest one.
    fn multiplexed(&self) -> Option<Multiplexed> {
        let endpoint = &self.shared.endpoint;
        let mut open = self.shared.multiplexed.borrow_mut();
        open.retain(|connection| !connection.sender.is_closed());
        let emptiest = open
            .iter()
            .min_by_key(|connection| connection.streams.get())?;
        let has_room = emptiest.streams.get() < endpoint.streams_per_connection;
        (has_room || open.len() >= endpoint.max_connections).then(|| emptiest.clone())
    }

    async fn open(&self) -> Result<Connection, Error> {
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
            return self
                .handshake(tcp, endpoint.http2 == Http2::PriorKnowledge)
                .await;
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
        self.handshake(tls, chose_http2 || endpoint.http2 == Http2::PriorKnowledge)
            .await
    }

    async fn handshake<S>(&self, stream: S, http2: bool) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let io = TokioIo::new(stream);
        if http2 {
            let (sender, driver) = http2::Builder::new(Local)
                .handshake(io)
                .await
                .map_err(Error::Handshake)?;
            tokio::task::spawn_local(driver);
            let connection = Multiplexed {
                sender,
                streams: Rc::default(),
            };
            self.shared
                .multiplexed
                .borrow_mut()
                .push(connection.clone());
            return Ok(self.connection(Kind::Http2(connection)));
        }
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(io)
            .await
            .map_err(Error::Handshake)?;
        tokio::task::spawn_local(driver);
        Ok(self.connection(Kind::Http1 {
            sender,
            reused: false,
        }))
    }
}

impl Connection {
    /// Sends the request and waits for the response head. Dropped before its end, it stops the call.
    ///
    /// A kept connection that turns out to be closed before a byte of the request was written is
    /// replaced by a new one: that is no second attempt, since nothing was sent.
    pub async fn send(self, request: Request<Pieces>) -> Result<Response<Answer>, Error> {
        match self.kind {
            Kind::Http1 { mut sender, reused } => match sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease::Http1 {
                        pool: self.pool,
                        sender,
                    };
                    Ok(response.map(|incoming| Answer::new(incoming, lease)))
                }
                Err(mut error) => match error.take_message() {
                    Some(request) if reused => {
                        Box::pin(self.pool.open().await?.send(request)).await
                    }
                    _ => Err(Error::Broken(error.into_error())),
                },
            },
            Kind::Http2(mut connection) => {
                let lease = Lease::Http2(StreamCount::new(connection.streams.clone()));
                let response = connection
                    .sender
                    .send_request(request)
                    .await
                    .map_err(Error::Broken)?;
                Ok(response.map(|incoming| Answer::new(incoming, lease)))
            }
        }
    }
}

impl Lease {
    /// The answer was read to its end: the connection may serve another call.
    pub(crate) fn give_back(self) {
        match self {
            Self::Http1 { pool, sender } => pool.keep(sender),
            Self::Http2(_) => {}
        }
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
