//! One request of the API: a path made of parts, parameters, headers, JSON.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use serde_json::Value;

use super::Error;
use super::base::Base;

/// How long an answer may take, where a request does not wait for something else.
const USUAL: Duration = Duration::from_mins(1);

/// What is asked of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: Method,
    /// Encoded, with its parameters.
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
    pub(super) patience: Duration,
}

impl Ask {
    /// `GET /v1/` and the parts, which may hold anything.
    pub(crate) fn get(parts: &[&str]) -> Self {
        Self::new(Method::GET, parts)
    }

    pub(crate) fn post(parts: &[&str], body: Value) -> Self {
        let mut ask = Self::new(Method::POST, parts);
        ask.body = Some(body);
        ask
    }

    fn new(method: Method, parts: &[&str]) -> Self {
        let parts: Vec<String> = parts.iter().map(|part| encode(part)).collect();
        Self {
            method,
            path: format!("/v1/{}", parts.join("/")),
            headers: Vec::new(),
            body: None,
            patience: USUAL,
        }
    }

    /// A parameter, if there is one.
    pub(crate) fn param(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            let mark = if self.path.contains('?') { '&' } else { '?' };
            let value = encode(&value.to_string());
            // Writing into a string cannot fail.
            let _ = write!(self.path, "{mark}{name}={value}");
        }
        self
    }

    /// A header, if there is one.
    pub(crate) fn header(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.headers
            .extend(value.map(|value| (name, value.to_owned())));
        self
    }

    /// The answer may take this much longer.
    pub(crate) fn waiting(mut self, longer: Duration) -> Self {
        self.patience = self.patience.saturating_add(longer);
        self
    }

    pub(super) fn request(
        &self,
        base: &Base,
        key: Option<&HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{}{}", base.prefix, self.path))
            .header(header::HOST, &base.authority)
            .header(
                header::USER_AGENT,
                concat!("holdfast/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, key);
        }
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                Error::Usage(format!("`{name}` has characters that no header can have"))
            })?;
            request = request.header(*name, value);
        }
        let mut bytes = Bytes::new();
        if let Some(body) = &self.body {
            request = request.header(header::CONTENT_TYPE, "application/json");
            bytes = body.to_string().into();
        }
        request
            .body(Full::new(bytes))
            .map_err(|error| Error::Usage(error.to_string()))
    }
}

/// Percent-encodes all but what RFC 3986 calls unreserved.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_name_holds_stays_one_part() {
        let ask = Ask::get(&["runs", "a/b ?é"])
            .param("scope", Some("x&y"))
            .param("state", None::<&str>)
            .param("limit", Some(5));
        assert_eq!(ask.path, "/v1/runs/a%2Fb%20%3F%C3%A9?scope=x%26y&limit=5");
    }
}
