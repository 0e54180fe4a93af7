//! What the gateway asks about single members. Each answer looks only at that member's bytes, when
//! it is asked; a member of an unknown shape says no, and its vendor says what is wrong with it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Envelope, Limits, Scanner, string};

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// An object with a `type`.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct OutputConfig<'a> {
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

impl Envelope<'_> {
    /// `stream_options.include_usage`; false if absent.
    pub fn include_usage(&self) -> bool {
        self.member("stream_options")
            .and_then(|json| serde_json::from_slice::<StreamOptions>(json).ok())
            .and_then(|options| options.include_usage)
            .unwrap_or_default()
    }

    /// True if the caller hands over a tool's result: the last of `messages` has a `tool_result`
    /// block (Anthropic) or is of the role `tool` or `function` (`OpenAI`). Messages of the system
    /// that follow it (at most three) are looked past: agents append them to such a turn.
    pub fn last_message_has_tool_result(&self) -> bool {
        for span in self.last_messages.iter().rev() {
            let Some((role, content)) = role_and_content(&self.text[span.clone()]) else {
                return false;
            };
            match role.as_deref() {
                Some("system" | "developer") => {}
                Some("tool" | "function") => return true,
                _ => return content.is_some_and(|content| has_tool_result(content.as_bytes())),
            }
        }
        false
    }

    /// True if the answer must be JSON: a `response_format` that is not of type `text` (`OpenAI`), or
    /// an `output_config.format` (Anthropic).
    pub fn wants_json(&self) -> bool {
        let response_format = self.member("response_format").is_some_and(|json| {
            let text = serde_json::from_slice::<Typed<'_>>(json).is_ok_and(|it| it.kind == "text");
            json != b"null" && !text
        });
        response_format
            || self
                .member("output_config")
                .and_then(|json| serde_json::from_slice::<OutputConfig<'_>>(json).ok())
                .is_some_and(|config| config.format.is_some())
    }
}

/// Who says what in a message, which is known to be valid: the last of two members counts. `None` if it
/// is no object.
fn role_and_content(message: &str) -> Option<(Option<Cow<'_, str>>, Option<&str>)> {
    let (mut role, mut content) = (None, None);
    let mut scan = Scanner::new(message, Limits::MAX_DEPTH);
    scan.each_member(|scan, key, _| {
        let value = scan.taken()?;
        match string(key).as_deref() {
            Some("role") => role = string(value),
            Some("content") => content = Some(value),
            _ => {}
        }
        Some(())
    })?;
    Some((role, content))
}

fn has_tool_result(content: &[u8]) -> bool {
    // Most contents have none, and reading a long one costs more than all else here.
    let says = |word: &[u8]| memchr::memmem::find(content, word).is_some();
    if !content.starts_with(b"[") || !(says(b"tool_result") || says(br"\u")) {
        return false;
    }
    serde_json::from_slice::<Vec<Typed<'_>>>(content)
        .is_ok_and(|blocks| blocks.iter().any(|block| block.kind == "tool_result"))
}
