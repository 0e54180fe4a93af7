//! The words between the gateway's listener and whatever serves the paths beside the model calls.
//!
//! The listener knows the caller, has read the body within its limits and turns faults into
//! responses; a [`Service`] answers one family of paths (effects, runs, approvals, tickets). It does no
//! I/O of its own.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_core::fault::{Code, Fault};
use holdfast_core::time::Wall;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A response's body: whole, or events as they come.
pub type Body = BoxBody<Bytes, Infallible>;

/// A response, or a fault that the listener tells in its one way.
pub type Answer = Result<Response<Body>, Fault>;

/// An answer on its way.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Reads the wall clock. Given to whoever needs it, so that tests can turn it.
pub type Clock = Arc<dyn Fn() -> Wall + Send + Sync>;

/// Who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// What is kept belongs to a scope: the caller's name, or `""` where no callers are configured.
    pub scope: String,
    /// May see and decide what belongs to others: a caller with `reviewer: true`, or everybody where
    /// no callers are configured.
    pub reviewer: bool,
}

impl Caller {
    /// The scope that lists are limited to; `None` = all.
    pub fn limit(&self) -> Option<&str> {
        (!self.reviewer).then_some(self.scope.as_str())
    }

    /// Whether it may see what belongs to `scope`.
    pub fn may_see(&self, scope: &str) -> bool {
        self.reviewer || self.scope == scope
    }
}

/// A request that was read whole.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// As sent, without the query: `/v1/effects/0190...`.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub caller: Caller,
}

/// Answers a family of paths. `None` = not one of its paths.
pub trait Service: Send + Sync {
    fn handle(&self, request: &Request) -> Option<Answering>;
}

// === impl Request ===

impl Request {
    /// The parts of the path behind `/v1/`, percent-decoded: `["effects", "0190..."]`. Empty for other
    /// paths.
    pub fn segments(&self) -> Vec<String> {
        match self.path.strip_prefix("/v1/") {
            Some(rest) => rest.split('/').map(decode).collect(),
            None => Vec::new(),
        }
    }

    /// One parameter of the query, percent-decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        let pairs = self.query.as_deref()?.split('&');
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| decode(key) == name)
            .map(|(_, value)| decode(&value.replace('+', " ")))
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; an empty body is read as `{}`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let body: &[u8] = if self.body.is_empty() {
            b"{}"
        } else {
            &self.body
        };
        serde_json::from_slice(body).map_err(|error| {
            Fault::new(
                Code::InvalidRequest,
                format!(
                    "the body is not what `{} {}` takes: {error}",
                    self.method, self.path
                ),
            )
        })
    }

    /// The path exists and does not take this method.
    pub fn wrong_method(&self) -> Fault {
        Fault::new(
            Code::MethodNotAllowed,
            format!("`{}` does not take {}", self.path, self.method),
        )
    }
}

/// Undoes percent-encoding; what is not UTF-8 afterwards is replaced.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        if let Some(byte) = hex {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A JSON response.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body =
        serde_json::to_vec(value).map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// No such thing, or another caller's: told in the same words.
pub fn not_found(what: &str, id: &str) -> Fault {
    let shown: String = id.chars().take(100).collect();
    Fault::new(Code::NotFound, format!("there is no {what} `{shown}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, query: &str) -> Request {
        Request {
            method: Method::GET,
            path: path.to_owned(),
            query: Some(query.to_owned()),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            caller: Caller {
                scope: "a".to_owned(),
                reviewer: false,
            },
        }
    }

    #[test]
    fn a_path_is_split_and_decoded() {
        let asked = request("/v1/runs/a%20b%2Fc/steps/%zz", "");
        assert_eq!(asked.segments(), ["runs", "a b/c", "steps", "%zz"]);
        assert!(request("/healthz", "").segments().is_empty());
    }

    #[test]
    fn a_parameter_is_found_and_decoded() {
        let asked = request("/v1/runs", "state=open&label=a+b%3D1&flag");
        assert_eq!(asked.param("label").as_deref(), Some("a b=1"));
        assert_eq!(asked.param("flag").as_deref(), Some(""));
        assert_eq!(asked.param("none"), None);
    }

    #[test]
    fn only_a_reviewer_sees_what_is_another_callers() {
        let caller = request("/", "").caller;
        assert!(caller.may_see("a") && !caller.may_see("b"));
        assert_eq!(caller.limit(), Some("a"));
    }
}
