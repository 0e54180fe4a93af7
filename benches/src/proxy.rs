//! A bare pass-through on hyper: what a gateway can't be cheaper than.
//!
//! Nothing is parsed, checked or counted. The two shapes differ only in the runtime and in who shares
//! the vendor connections.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::ValueEnum;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{Error, listen};

#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    vendor: u16,
    #[arg(long, value_enum)]
    shape: Shape,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Speak HTTP/2 to the vendor.
    #[arg(long)]
    h2: bool,
    /// HTTP/2 connections of each vendor pool; the emptiest one is taken.
    #[arg(long, default_value_t = 1)]
    h2_connections: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// One work-stealing runtime, one vendor pool.
    Multi,
    /// A single-threaded runtime per core, each with a listener and a vendor pool of its own.
    Percore,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    match args.shape {
        Shape::Multi => {
            let listener = listen::bind(args.port, false)?;
            let vendor = Vendor::new(args)?;
            listen::multi(args.workers)?.block_on(serve(listener, vendor))
        }
        Shape::Percore => {
            let args = args.clone();
            listen::per_core(args.workers, move |_, runtime| {
                let listener = listen::bind(args.port, true)?;
                runtime.block_on(serve(listener, Vendor::new(&args)?))
            })?;
            Ok(())
        }
    }
}

async fn serve(listener: std::net::TcpListener, vendor: Vendor) -> Result<(), Error> {
    let listener = TcpListener::from_std(listener)?;
    let vendor = Arc::new(vendor);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let vendor = vendor.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| forward(vendor.clone(), request));
            // A caller that leaves ends its connection with an error; that is no news here.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The connections to the vendor: one client of HTTP/1.1, or some with one HTTP/2 connection each.
struct Vendor {
    clients: Vec<Slot>,
    authority: Authority,
}

struct Slot {
    client: Client<HttpConnector, Incoming>,
    open: Arc<AtomicUsize>,
}

impl Vendor {
    fn new(args: &Args) -> Result<Self, Error> {
        let clients = if args.h2 { args.h2_connections } else { 1 };
        let slot = || {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            Slot {
                client: Client::builder(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .pool_timer(TokioTimer::new())
                    .http2_only(args.h2)
                    .build(connector),
                open: Arc::default(),
            }
        };
        Ok(Self {
            clients: (0..clients).map(|_| slot()).collect(),
            authority: format!("127.0.0.1:{}", args.vendor).parse()?,
        })
    }

    fn emptiest(&self) -> &Slot {
        let by_load = |slot: &&Slot| slot.open.load(Ordering::Relaxed);
        let slot = self.clients.iter().min_by_key(by_load);
        slot.expect("invariant: a vendor has at least one client")
    }
}

async fn forward(
    vendor: Arc<Vendor>,
    mut request: Request<Incoming>,
) -> Result<Response<Counted>, Error> {
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(vendor.authority.clone());
    *request.uri_mut() = Uri::from_parts(target)?;
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().remove(header::HOST);
    let slot = vendor.emptiest();
    let open = Open::new(&slot.open);
    let mut response = slot.client.request(request).await?;
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|body| Counted { body, _open: open }))
}

/// One call on a client.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The vendor's body as it comes, counted as open until it is dropped.
struct Counted {
    body: Incoming,
    _open: Open,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
