//! What an effect sends, as it is kept: everything that is the caller's, nothing that is the target's.

use holdfast_store::Effect;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The caller's part of a request; kept as the payload of an effect. Credentials are added when it is
/// sent, so that they are never stored and always current.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Empty for mail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Path and query behind the target's base; empty = the base itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    pub body: String,
}

impl Outgoing {
    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: strings always become JSON")
    }

    /// From an effect's payload; `None` where it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// SHA-256 of the body in hex, for people who compare.
    pub fn body_digest(&self) -> String {
        hex(&Sha256::digest(self.body.as_bytes()))
    }
}

/// What makes two effects under one key the same: everything that reaches the target, and what was
/// required. Parts are led by their length, so that no two lists of parts run together.
pub(crate) fn fingerprint(
    target: &str,
    outgoing: &Outgoing,
    headers: &[(String, String)],
    requires: &[String],
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update(text.len().to_be_bytes());
        hash.update(text.as_bytes());
    };
    part(target);
    part(&outgoing.method);
    part(&outgoing.path);
    part(outgoing.content_type.as_deref().unwrap_or_default());
    part(&outgoing.body);
    part(&headers.len().to_string());
    for (name, value) in headers {
        part(name);
        part(value);
    }
    part(&requires.len().to_string());
    for exchange in requires {
        part(exchange);
    }
    hash.finalize().into()
}

/// The key as the target gets it: the caller's own, led by its scope, because two callers may use the
/// same key and a target that honours keys would perform only one of the two. What a header can't carry
/// as it stands goes as its SHA-256.
pub fn target_key(effect: &Effect) -> String {
    let key = if effect.scope.is_empty() {
        effect.key.clone()
    } else {
        format!("{}:{}", effect.scope, effect.key)
    };
    let plain = key.len() <= holdfast_core::idempotency::LONGEST_KEY
        && key.bytes().all(|byte| byte.is_ascii_graphic())
        && !key.starts_with('"');
    if plain {
        key
    } else {
        hex(&Sha256::digest(key.as_bytes()))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing() -> Outgoing {
        Outgoing {
            method: "POST".into(),
            path: "/v1".into(),
            content_type: Some("application/json".into()),
            body: "{}".into(),
        }
    }

    #[test]
    fn it_comes_back() {
        assert_eq!(
            Outgoing::from_bytes(&outgoing().to_bytes()),
            Some(outgoing())
        );
        assert_eq!(Outgoing::from_bytes(b"[]"), None);
    }

    #[test]
    fn every_part_counts_in_the_fingerprint() {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let whole =
            |change: fn(&mut Outgoing), headers: &[(String, String)], requires: &[String]| {
                let mut outgoing = outgoing();
                change(&mut outgoing);
                fingerprint("a", &outgoing, headers, requires)
            };
        let mut found = vec![
            whole(|_| {}, &[], &[]),
            whole(|o| o.method = "PUT".into(), &[], &[]),
            whole(|o| o.path = "/v2".into(), &[], &[]),
            whole(|o| o.content_type = None, &[], &[]),
            whole(|o| o.body = "{ }".into(), &[], &[]),
            whole(|_| {}, &pair("a", "bc"), &[]),
            whole(|_| {}, &pair("ab", "c"), &[]),
            whole(|_| {}, &[], &["a".into(), "bc".into()]),
            whole(|_| {}, &[], &["abc".into()]),
            fingerprint("b", &outgoing(), &[], &[]),
        ];
        assert_eq!(whole(|_| {}, &[], &[]), found[0]);
        let all = found.len();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), all);
    }
}
