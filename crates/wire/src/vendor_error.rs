//! Reads the error that a vendor tells, whichever dialect's shape it took.
//!
//! One reader for both dialects, because compatible servers and the edges in front of vendors answer
//! with each other's shapes: `{"error":{..}}`, `{"type":"error","error":{..}}`, `{"error":"text"}`,
//! `{"detail":..}`, `{"message":..}`. Also says what a body is that is no answer at all. It does not
//! decide what the error means.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::borrowed::{Text, WRONG_SHAPE, or_empty, why_not};
use crate::turn::{Event, VendorError};

/// The error object, or the top level of a body that has none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shape<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    error_code: Option<Text<'a>>,
}

/// The error that the JSON `body` of an error status tells; `None` if it is no JSON object or has
/// nothing that looks like an error.
pub fn error_body(body: &[u8]) -> Option<VendorError<'_>> {
    let shape: Shape<'_> = serde_json::from_slice(body).ok()?;
    if let Some(error) = shape.error.filter(|error| is_truthy(error)) {
        let mut error = read(error);
        // `{"error":"Not Found","message":".."}` and the like keep their words beside the error.
        if let Some(message) = shape.message.filter(|_| error.kind.is_empty()) {
            if error.code.is_empty() {
                error.code = error.message;
            }
            error.message = words(message);
        }
        return Some(error);
    }
    let message = shape
        .message
        .or(shape.detail)
        .filter(|said| is_truthy(said))?;
    Some(VendorError {
        // vLLM's older shape has `"object":"error"` and the rest at the top.
        kind: shape.kind.or(shape.object).map(words).unwrap_or_default(),
        code: shape.code.map(words).unwrap_or_default(),
        message: words(message),
    })
}

/// The error of an event that is named one: whatever it holds is its error, at least as a message.
pub(crate) fn named(text: &str) -> VendorError<'_> {
    error_body(text.as_bytes()).unwrap_or_else(|| VendorError {
        message: Cow::Borrowed(text),
        ..VendorError::default()
    })
}

/// The text of a 200 body that may be an answer, or what it is instead.
pub(crate) fn readable(body: &[u8]) -> Result<&str, &'static str> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Err("not UTF-8");
    };
    match text.trim_ascii_start().bytes().next() {
        None => Err("empty body"),
        Some(b'<') => Err("HTML"),
        Some(_) => Ok(text),
    }
}

/// What a 200 body is that did not read as an answer: an error in another shape, or garbage.
pub(crate) fn no_answer(text: &str) -> Event<'_> {
    if let Some(error) = error_body(text.as_bytes()) {
        return Event::Error(error);
    }
    let why = match why_not(text) {
        WRONG_SHAPE => "not a message",
        why => why,
    };
    Event::Garbage { why }
}

/// Reads the value of an `error` member: an object, or a text that is the message.
pub(crate) fn read(error: &RawValue) -> VendorError<'_> {
    let Ok(shape) = serde_json::from_str::<Shape<'_>>(error.get()) else {
        return VendorError {
            message: words(error),
            ..VendorError::default()
        };
    };
    let code = shape.code.map(words).filter(|code| !code.is_empty());
    VendorError {
        kind: shape.kind.map(words).unwrap_or_default(),
        code: code
            .or_else(|| error_code(shape.details?))
            .unwrap_or_default(),
        message: shape
            .message
            .or(shape.detail)
            .map(words)
            .unwrap_or_default(),
    }
}

/// False for null, false, 0 and "": what the vendors' SDKs do not take for an error.
pub(crate) fn is_truthy(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "false" | "0" | "\"\"")
}

/// A string's text, nothing for null, and any other JSON as it is written.
fn words(value: &RawValue) -> Cow<'_, str> {
    match value.get() {
        "null" => Cow::Borrowed(""),
        text => match serde_json::from_str::<Text<'_>>(text) {
            Ok(Text(text)) => text,
            Err(_) => Cow::Borrowed(text),
        },
    }
}

fn error_code(details: &RawValue) -> Option<Cow<'_, str>> {
    let details: Details<'_> = serde_json::from_str(details.get()).ok()?;
    Some(or_empty(details.error_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_in_use_is_read() {
        for (body, kind, code, message) in [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#,
                "overloaded_error",
                "",
                "Overloaded",
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow","details":{"error_code":"ramp_limit_exceeded"}}}"#,
                "rate_limit_error",
                "ramp_limit_exceeded",
                "slow",
            ),
            (
                r#"{"error":{"message":"quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                "insufficient_quota",
                "insufficient_quota",
                "quota",
            ),
            (
                r#"{"error":{"code":502,"message":"bad gateway"}}"#,
                "",
                "502",
                "bad gateway",
            ),
            (
                r#"{"error":{"type":null,"code":null,"message":"m"}}"#,
                "",
                "",
                "m",
            ),
            (
                r#"{"error":"model \"x\" not found"}"#,
                "",
                "",
                "model \"x\" not found",
            ),
            (
                r#"{"error":"Not Found","message":"no such route"}"#,
                "",
                "Not Found",
                "no such route",
            ),
            (r#"{"detail":"Not Found"}"#, "", "", "Not Found"),
            (
                r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#,
                "",
                "",
                r#"[{"loc":["body"],"msg":"field required"}]"#,
            ),
            (
                r#"{"message":"no Route matched"}"#,
                "",
                "",
                "no Route matched",
            ),
            (
                r#"{"object":"error","message":"too long","type":"BadRequestError","code":400}"#,
                "BadRequestError",
                "400",
                "too long",
            ),
            (r#"{"error":{}}"#, "", "", ""),
        ] {
            let error = error_body(body.as_bytes()).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(
                (&*error.kind, &*error.code, &*error.message),
                (kind, code, message),
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_no_error_is_none() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"error":null}"#,
            r#"{"error":""}"#,
            r#"{"id":"x"}"#,
            "\"text\"",
        ] {
            assert_eq!(error_body(body.as_bytes()), None, "{body}");
        }
    }
}
