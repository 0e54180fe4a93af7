//! Idempotency keys: what is a key, and which outcomes are kept under one.
//!
//! Follows the IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header):
//! a structured-field string, taken without its quotes as well, since most clients send it bare. Where
//! keys are kept, and who runs a call, is not decided here.

use crate::fault::Code;

/// The longest key, in characters.
pub const LONGEST_KEY: usize = 255;
/// The longest name of a run or a step, in characters.
pub const LONGEST_NAME: usize = 128;
/// Stands between run and step in a derived key; no key that a caller sends can contain it.
const BETWEEN: char = '\u{1f}';

/// Reads the value of an `Idempotency-Key` header. The error says what is wrong with it.
pub fn parse_key(value: &str) -> Result<String, String> {
    let value = value.trim_matches([' ', '\t']);
    let key = match value.strip_prefix('"') {
        Some(rest) => unquote(rest).ok_or("the quotes of `Idempotency-Key` do not match")?,
        None => value.to_owned(),
    };
    check("Idempotency-Key", &key, LONGEST_KEY)?;
    Ok(key)
}

/// Reads the value of a `Holdfast-Run` or `Holdfast-Step` header, or the same in a path.
pub fn parse_name(what: &str, value: &str) -> Result<String, String> {
    let name = value.trim_matches([' ', '\t']);
    check(what, name, LONGEST_NAME)?;
    Ok(name.to_owned())
}

/// The key of a call that names its run and step and no key. It equals no key that can be sent.
pub fn derived_key(run: &str, step: &str) -> String {
    format!("{run}{BETWEEN}{step}")
}

/// The key that Holdfast makes for a call that is to be answered later and has none.
pub fn own_key(exchange: &str) -> String {
    format!("{BETWEEN}{exchange}")
}

/// A key as it may be shown: a derived one as `run/step`.
pub fn shown_key(key: &str) -> String {
    key.trim_start_matches(BETWEEN).replace(BETWEEN, "/")
}

fn unquote(rest: &str) -> Option<String> {
    let inner = rest.strip_suffix('"')?;
    let mut key = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => key.push(letters.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            letter => key.push(letter),
        }
    }
    Some(key)
}

fn check(what: &str, text: &str, longest: usize) -> Result<(), String> {
    let length = text.chars().count();
    if length == 0 {
        return Err(format!("`{what}` is empty"));
    }
    if length > longest {
        return Err(format!(
            "`{what}` has {length} characters; the most is {longest}"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("`{what}` contains a control character"));
    }
    Ok(())
}

/// What becomes of a key whose call ended with an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Afterwards {
    /// The caller's own fault, or the gateway's state: nothing is kept, the next call runs anew.
    Forget,
    /// Everything was tried: the request is kept in the review queue.
    Ticket,
}

/// Whether a call that was told `code` is kept for later.
pub fn afterwards(code: Code) -> Afterwards {
    match code {
        Code::UpstreamIncomplete
        | Code::UpstreamUnavailable
        | Code::UpstreamTimeout
        | Code::UpstreamRateLimited
        | Code::UpstreamMoney
        | Code::UpstreamAuth
        | Code::BreakerOpen
        | Code::Deadline
        | Code::GateFailed => Afterwards::Ticket,
        Code::InvalidRequest
        | Code::UnknownPath
        | Code::UnknownModel
        | Code::BodyTooLarge
        | Code::Unauthenticated
        | Code::Forbidden
        | Code::MethodNotAllowed
        | Code::UnsupportedEncoding
        | Code::RequestTimeout
        | Code::Overloaded
        | Code::Draining
        | Code::NotTranslatable
        | Code::VendorRejected
        | Code::ContextOverflow
        | Code::Internal
        | Code::OutOfBuffers
        | Code::HeadTooLarge
        | Code::KeyInvalid
        | Code::KeyReused
        | Code::KeyInUse
        | Code::StoreUnavailable
        | Code::InReview
        | Code::NotFound
        | Code::Conflict
        | Code::RequirementUnmet
        | Code::TakenOver
        | Code::Rejected => Afterwards::Forget,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_quoted_or_bare() {
        for (value, key) in [
            ("abc", "abc"),
            ("  abc\t", "abc"),
            ("\"abc\"", "abc"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
            ),
            ("a\"b", "a\"b"),
            ("müller", "müller"),
        ] {
            assert_eq!(parse_key(value).as_deref(), Ok(key), "{value}");
        }
    }

    #[test]
    fn what_is_no_key_is_named() {
        for (value, complaint) in [
            ("", "empty"),
            ("\"\"", "empty"),
            ("\"abc", "quotes"),
            ("\"a\"b\"", "quotes"),
            (r#""a\b""#, "quotes"),
            ("a\u{1f}b", "control"),
            ("a\nb", "control"),
            (&"x".repeat(256), "256"),
        ] {
            let error = parse_key(value).unwrap_err();
            assert!(error.contains(complaint), "{value:?}: {error}");
        }
        assert!(parse_key(&"ü".repeat(255)).is_ok());
        assert!(parse_name("Holdfast-Run", &"r".repeat(129)).is_err());
    }

    #[test]
    fn a_derived_key_is_nobodys_key() {
        let derived = derived_key("run/1", "step");
        assert!(parse_key(&derived).is_err());
        assert_eq!(shown_key(&derived), "run/1/step");
        assert_ne!(derived, derived_key("run", "1/step"));
        assert!(parse_key(&own_key("0190")).is_err());
        assert_eq!(shown_key(&own_key("0190")), "0190");
    }
}
