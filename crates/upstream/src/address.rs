//! How a request names what it asks for: each protocol wants it written in its own way.
//!
//! HTTP/1.1 takes a path and a `Host` header (RFC 9112, 3.2), HTTP/2 scheme and authority beside the
//! path and no `Host` (RFC 9113, 8.3.1). Who writes a request does not know which it will be, and a
//! request may be moved from a closed connection to one of the other protocol.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, header};

/// Writes it for HTTP/1.1.
pub(crate) fn for_http1<B>(request: &mut Request<B>) {
    let Some(host) = request.uri().authority().map(Authority::as_str) else {
        return;
    };
    if let Ok(host) = HeaderValue::from_str(host) {
        request.headers_mut().insert(header::HOST, host);
    }
    let path = path(request.uri());
    *request.uri_mut() = Uri::from(path);
}

/// Writes it for HTTP/2. One without a usable host stays as it is; the server will refuse it.
pub(crate) fn for_http2<B>(request: &mut Request<B>, secure: bool) {
    if request.uri().authority().is_none() {
        let host = request.headers().get(header::HOST);
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let Some(authority) = authority else {
            return;
        };
        let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
        let whole = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(path(request.uri()))
            .build();
        let Ok(whole) = whole else { return };
        *request.uri_mut() = whole;
    }
    request.headers_mut().remove(header::HOST);
}

fn path(uri: &Uri) -> PathAndQuery {
    let root = || PathAndQuery::from_static("/");
    uri.path_and_query().cloned().unwrap_or_else(root)
}
