//! An effect as callers see it. Moments are milliseconds since 1970.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::idempotency::shown_key;
use holdfast_store::{Effect, EffectResult};
use serde::Serialize;
use serde_json::value::RawValue;

/// The resource `effect`.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    id: &'a str,
    state: &'static str,
    target: &'a str,
    key: String,
    scope: &'a str,
    attempts: i64,
    run: Option<&'a str>,
    step: Option<&'a str>,
    requires: &'a [String],
    due: i64,
    result: Option<ShownResult<'a>>,
    error: Option<&'a str>,
    ticket: Option<&'a str>,
    created: i64,
    updated: i64,
}

#[derive(Serialize)]
struct ShownResult<'a> {
    status: u16,
    headers: std::collections::BTreeMap<&'a str, &'a str>,
    body: Body<'a>,
}

/// JSON as the target wrote it, else text, else base64.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Bytes { base64: String },
}

pub(crate) fn shown(effect: &Effect) -> Shown<'_> {
    Shown {
        id: &effect.id,
        state: effect.state.as_str(),
        target: &effect.target,
        key: shown_key(&effect.key),
        scope: &effect.scope,
        attempts: effect.attempts,
        run: effect.run.as_deref(),
        step: effect.step.as_deref(),
        requires: &effect.requires,
        due: effect.due.0,
        result: effect.result.as_ref().map(shown_result),
        error: effect.error.as_deref(),
        ticket: effect.ticket.as_deref(),
        created: effect.created.0,
        updated: effect.updated.0,
    }
}

fn shown_result(result: &EffectResult) -> ShownResult<'_> {
    ShownResult {
        status: result.status,
        headers: result
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        body: body(result),
    }
}

fn body(result: &EffectResult) -> Body<'_> {
    let Ok(text) = std::str::from_utf8(&result.body) else {
        return Body::Bytes {
            base64: STANDARD.encode(&result.body),
        };
    };
    let is_json = result.headers.iter().any(|(name, value)| {
        let kind = value.split(';').next().unwrap_or("").trim();
        name == "content-type" && (kind == "application/json" || kind.ends_with("+json"))
    });
    let json = is_json.then(|| serde_json::from_str(text).ok()).flatten();
    json.map_or(Body::Text(text), Body::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_what_it_is() {
        let show = |kind: &str, body: &[u8]| {
            let result = EffectResult {
                status: 200,
                headers: vec![("content-type".into(), kind.into())],
                body: body.to_vec(),
            };
            serde_json::to_string(&super::body(&result)).unwrap()
        };
        let json = "application/json; charset=utf-8";
        assert_eq!(show(json, br#"{"b":1.0,"a":2}"#), r#"{"b":1.0,"a":2}"#);
        assert_eq!(show("application/problem+json", b"[]"), "[]");
        assert_eq!(show(json, b"{cut"), r#""{cut""#);
        assert_eq!(show("text/plain", b"[]"), r#""[]""#);
        assert_eq!(show("image/png", b"\xff"), r#"{"base64":"/w=="}"#);
    }
}
