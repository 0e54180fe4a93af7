//! One HTTP request on a connection of its own, and exactly what is known afterwards.
//!
//! No pool: a reused connection can be closed by the target just as the request is written, and then
//! nobody can say whether it was read. Redirects are not followed, no proxy is asked, nothing is sent
//! twice.

mod watched;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_core::effect::Sent;
use holdfast_core::time::Wall;
use holdfast_store::EffectResult;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::connect::{self, Place, Resolve};
use crate::failpoint::Failpoint;
use crate::outgoing::Outgoing;
use crate::send::{Attempt, Outcome};
use crate::target::{Http, Target};
use watched::{Watch, Watched};

/// The most of an answer's body that is kept, in bytes. What is longer is cut there and marked: its
/// status is known, and an effect that took place is not in doubt because its answer is long.
pub const ANSWER_BYTES: usize = 256 * 1024;
/// The most of an answer's headers that is kept, in bytes.
pub const ANSWER_HEADER_BYTES: usize = 16 * 1024;
/// Marks an answer that was cut at [`ANSWER_BYTES`].
pub const CUT_HEADER: &str = "holdfast-body-cut";

/// What a caller or a target's own headers can never set: they describe the message or the connection.
pub(crate) const RESERVED: [&str; 16] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "forwarded",
    "x-forwarded-for",
];

/// Headers of an answer that are not kept: they are about the connection, or let who reads them act
/// as Holdfast.
const NOT_KEPT: [&str; 6] = [
    "connection",
    "keep-alive",
    "set-cookie",
    "transfer-encoding",
    "upgrade",
    "trailer",
];

/// Performs one attempt. Ends within the target's timeout.
pub(crate) async fn send(
    target: &Target,
    http: &Http,
    attempt: &Attempt<'_>,
    resolve: &Resolve,
    failpoint: &Failpoint,
) -> Outcome {
    let request = match request(http, attempt) {
        Ok(request) => request,
        Err(reason) => return Outcome::bare(Sent::Refused(reason)),
    };
    let watch = Watch::new(failpoint.clone());
    let exchange = exchange(target, http, request, attempt, resolve, &watch);
    match tokio::time::timeout(target.timeout, exchange).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(reason)) => Outcome::bare(unanswered(&watch, reason)),
        Err(_) => {
            let reason = format!("no answer within {:?}", target.timeout);
            Outcome::bare(unanswered(&watch, reason))
        }
    }
}

/// Whether a byte had left decides what silence means.
fn unanswered(watch: &Watch, reason: String) -> Sent {
    if watch.is_written() {
        Sent::Lost(reason)
    } else {
        Sent::NotSent(reason)
    }
}

async fn exchange(
    target: &Target,
    http: &Http,
    request: Request<Full<Bytes>>,
    attempt: &Attempt<'_>,
    resolve: &Resolve,
    watch: &Watch,
) -> Result<Outcome, String> {
    let place = Place {
        host: &http.host,
        port: http.port,
        allow_private: target.allow_private,
    };
    let tcp = connect::tcp(place, resolve).await;
    let tcp = tcp.map_err(|error| error.to_string())?;
    let stream: Box<dyn connect::Stream> = match &http.tls {
        Some(config) => connect::tls(tcp, &http.host, config)
            .await
            .map_err(|error| error.to_string())?,
        None => Box::new(tcp),
    };
    let io = TokioIo::new(Watched::new(stream, watch.clone()));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|error| words(&error))?;
    (attempt.confirm)().await?;
    let now = attempt.now;
    let answer = async move {
        let response = sender.send_request(request).await;
        read(response.map_err(|error| words(&error))?, now).await
    };
    // The connection is driven here and not in a task of its own: it ends with this attempt.
    tokio::pin!(answer, connection);
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            outcome = &mut answer => return outcome,
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

/// Reads the answer whole, up to its limit.
async fn read(response: Response<Incoming>, now: Wall) -> Result<Outcome, String> {
    let (head, mut body) = response.into_parts();
    let status = head.status.as_u16();
    let mut kept = BytesMut::new();
    let mut is_cut = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            format!(
                "status {status}, then the answer broke off: {}",
                words(&error)
            )
        })?;
        if let Ok(data) = frame.into_data() {
            let room = ANSWER_BYTES - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                is_cut = true;
                break;
            }
        }
    }
    let mut headers = kept_headers(&head.headers);
    if is_cut {
        headers.push((CUT_HEADER.to_owned(), ANSWER_BYTES.to_string()));
    }
    Ok(Outcome {
        sent: Sent::Answered {
            status,
            retry_after: retry_after(&head.headers, now),
        },
        result: Some(EffectResult {
            status,
            headers,
            body: kept.to_vec(),
        }),
    })
}

/// The caller's request with everything that is the target's. The error is in words: the configuration
/// changed since it was recorded.
fn request(http: &Http, attempt: &Attempt<'_>) -> Result<Request<Full<Bytes>>, String> {
    let outgoing = attempt.outgoing;
    let method = Method::from_bytes(outgoing.method.as_bytes())
        .map_err(|_| format!("`{}` is no method", outgoing.method))?;
    let mut path = format!("{}{}", http.base, outgoing.path);
    if path.is_empty() {
        path.push('/');
    }
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::from(outgoing.body.clone())))
        .map_err(|error| format!("the request can't be written: {error}"))?;
    *request.headers_mut() = headers(http, attempt)?;
    Ok(request)
}

fn headers(http: &Http, attempt: &Attempt<'_>) -> Result<HeaderMap, String> {
    let Outgoing {
        content_type, body, ..
    } = attempt.outgoing;
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| match HeaderValue::from_str(value) {
        Ok(value) => {
            headers.insert(name, value);
            Ok(())
        }
        Err(_) => Err(format!("the header `{name}` can't carry its value")),
    };
    if let Some(content_type) = content_type {
        set(header::CONTENT_TYPE, content_type)?;
    }
    for (name, value) in attempt.headers {
        let name = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header"))?;
        set(name, value)?;
    }
    set(header::HOST, &http.authority)?;
    set(
        header::USER_AGENT,
        concat!("Holdfast/", env!("CARGO_PKG_VERSION")),
    )?;
    set(header::ACCEPT_ENCODING, "identity")?;
    set(header::CONNECTION, "close")?;
    set(http.key_header.clone(), attempt.key)?;
    if let Some(signer) = &http.sign {
        for (name, value) in signer.headers(attempt.id, attempt.now, body.as_bytes()) {
            set(HeaderName::from_static(name), &value)?;
        }
    }
    for (name, value) in &http.headers {
        headers.insert(name.clone(), value.clone());
    }
    Ok(headers)
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = ANSWER_HEADER_BYTES;
    headers
        .iter()
        .filter(|(name, _)| !NOT_KEPT.contains(&name.as_str()))
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .take_while(|(name, value)| {
            let size = name.len() + value.len();
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        })
        .collect()
}

/// In seconds, or as a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Wall) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_1970 = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    let millis = i64::try_from(since_1970.as_millis()).ok()?;
    Some(Wall(millis).since(now))
}

/// An error with its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let now = Wall(1_445_412_480_000);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        let date = "Wed, 21 Oct 2015 07:28:30 GMT";
        assert_eq!(read(date), Some(Duration::from_secs(30)));
        let past = "Wed, 21 Oct 2015 07:27:00 GMT";
        assert_eq!(read(past), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }
}
