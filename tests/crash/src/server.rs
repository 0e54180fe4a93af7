//! A small HTTP/1.1 server for counting vendors and targets. Ends with its handle.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// The body of a response; an error cuts the transport.
pub(crate) type Body = BoxBody<Bytes, Cut>;

/// The transport is cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(crate) struct Cut;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepts: AbortHandle,
}

/// A request that was read whole.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) head: http::request::Parts,
    pub(crate) body: Bytes,
}

// === impl Server ===

impl Server {
    /// Serves on a free port of loopback. The handler's future is dropped when the peer leaves.
    pub(crate) async fn start<H, F>(handler: H) -> std::io::Result<Self>
    where
        H: Fn(Asked) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let handler = Arc::new(handler);
        let accepts = tokio::spawn(async move {
            loop {
                // A connection that failed before it was taken is nobody's.
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let handler = handler.clone();
                let service = service_fn(move |request| serve(handler.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self {
            address,
            accepts: accepts.abort_handle(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn serve<H, F>(
    handler: Arc<H>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible>
where
    H: Fn(Asked) -> F,
    F: Future<Output = Response<Body>>,
{
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        // The peer left in the middle of its request: nobody reads this.
        return Ok(text(StatusCode::BAD_REQUEST, "half a request"));
    };
    let body = body.to_bytes();
    Ok(handler(Asked { head, body }).await)
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}

pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = text(status, value.to_string());
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}
