//! A request as it is kept: to be asked again by somebody else than its caller.
//!
//! Whoever asks it again sends what the caller would have sent, without the caller's credentials: they
//! are never kept.

use std::rc::Rc;

use holdfast_core::fault::{Code, Fault};
use holdfast_store::KeptRequest;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::admit::{Call, Told, Who, understand};
use crate::prepare::pass_headers;
use crate::worker::{Held, Permit, Worker};

/// The gateway's own headers that go with a kept request. The delivery has a place of its own.
const OWN_HEADERS: [&str; 2] = ["holdfast-run", "holdfast-step"];

/// Words in the names of what may be a credential. `idempotency-key` is none, but belongs to the call
/// that was made, not to the next one.
const SECRET_WORDS: [&str; 9] = [
    "auth",
    "cookie",
    "credential",
    "key",
    "password",
    "secret",
    "session",
    "signature",
    "token",
];

/// What is kept of a call.
pub(super) fn request(call: &Call) -> KeptRequest {
    KeptRequest {
        path: call.path().to_owned(),
        dialect: call.wishes.dialect.name().to_owned(),
        route: call.model.clone(),
        stream: call.wishes.stream,
        delivery: call.delivery.name().to_owned(),
        query: call.query.as_deref().and_then(kept_query),
        headers: kept_headers(&call.headers),
        body: call.body.to_vec(),
        refused: None,
    }
}

/// Every value of every header that a vendor would be sent, in their order.
fn kept_headers(from: &HeaderMap) -> Vec<(String, String)> {
    let mut passed = HeaderMap::new();
    pass_headers(from, &mut passed);
    let own = OWN_HEADERS.iter().flat_map(|name| {
        let values = from.get_all(*name).iter();
        values.map(|value| (HeaderName::from_static(name), value.clone()))
    });
    passed.extend(own);
    passed
        .iter()
        .filter(|(name, _)| !may_be_secret(name.as_str()))
        .filter_map(|(name, value)| {
            let value = std::str::from_utf8(value.as_bytes()).ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        })
        .collect()
}

/// The query without the parameters that may be credentials.
fn kept_query(query: &str) -> Option<String> {
    let pairs = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !may_be_secret(&holdfast_api::decode(name))
    });
    let kept = pairs.collect::<Vec<_>>().join("&");
    Some(kept).filter(|kept| !kept.is_empty())
}

fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A kept request as a call of today's configuration.
pub(crate) fn recall(
    worker: &Rc<Worker>,
    kept: KeptRequest,
    scope: &str,
) -> Result<Box<Call>, Fault> {
    let shared = &worker.shared;
    let snapshot = shared.snapshot.load_full();
    let limit = snapshot.config.limits.in_flight;
    let permit = Permit::take(shared, limit)
        .ok_or_else(|| Fault::new(Code::Overloaded, "too many calls are under way"))?;
    let dialect = crate::listen::dialect_of_path(&kept.path)
        .ok_or_else(|| Fault::new(Code::Internal, "a kept request has no known path"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &kept.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    if let Ok(delivery) = HeaderValue::from_str(&kept.delivery) {
        headers.insert("holdfast-delivery", delivery);
    }
    let told = Told {
        dialect,
        query: kept.query,
        headers,
        body: kept.body.into(),
    };
    let held = Held::new(shared);
    let who = Who::again(&snapshot, scope)?;
    let mut call = understand(&snapshot, who, told, held, permit).map_err(for_others)?;
    call.kept_elsewhere = true;
    Ok(call)
}

/// It is not whoever asks again that lacks a key.
fn for_others(fault: Fault) -> Fault {
    match fault.code {
        Code::Unauthenticated => Fault::new(
            Code::Forbidden,
            "every target of its route takes the caller's own credential, which was not kept",
        ),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_vendor_would_be_sent_is_kept_and_no_credential() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("anthropic-beta", "one"),
            ("authorization", "Bearer canary"),
            ("anthropic-beta", "two"),
            ("x-api-key", "canary"),
            ("x-goog-api-key", "canary"),
            ("x-amz-security-token", "canary"),
            ("cookie", "canary"),
            ("connection", "x-hop"),
            ("x-hop", "to this gateway"),
            ("content-length", "7"),
            ("openai-organization", "müller"),
            ("holdfast-run", "r"),
            ("holdfast-delivery", "whole"),
            ("idempotency-key", "k"),
        ] {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let mut kept = kept_headers(&headers);
        // The order of a header's own values counts, not the one of the names.
        kept.sort_by(|one, other| one.0.cmp(&other.0));
        let kept: Vec<(&str, &str)> = kept.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(
            kept,
            [
                ("anthropic-beta", "one"),
                ("anthropic-beta", "two"),
                ("holdfast-run", "r"),
                ("openai-organization", "müller"),
            ]
        );
    }

    #[test]
    fn a_query_is_kept_without_its_credentials() {
        for (query, kept) in [
            ("beta=true", Some("beta=true")),
            ("a=1&key=canary&b=%26&b", Some("a=1&b=%26&b")),
            ("api%5Fkey=canary", None),
            ("Access_Token=canary", None),
            ("", None),
        ] {
            assert_eq!(kept_query(query).as_deref(), kept, "{query}");
        }
    }
}
