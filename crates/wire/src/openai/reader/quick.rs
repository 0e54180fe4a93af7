//! The usual chunk and the usual body, read in one pass over the bytes.
//!
//! Most answers are a text with its counts, written by the book. What is unusual in any way (a member
//! twice, an escape in a key, a value of another type) is left to serde, which knows what to make of
//! it: the scan gives what serde would, or nothing. It was measured to take a third of serde's time.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::shape::{Choice, Chunk, CompletionDetails, Content, Delta, PromptDetails, Usage};
use crate::borrowed::{Count, Few, Json, Text};
use crate::envelope::{Kind, Scanner};

/// Less than serde allows, so that nothing is read here that is refused there.
const DEPTH: usize = 100;

/// Reads a whole chunk or body.
pub(super) fn chunk(text: &str) -> Option<Chunk<'_>> {
    let mut scan = Scanner::new(text, DEPTH);
    let mut chunk = Chunk::default();
    let mut seen = Seen::default();
    scan.space();
    object(&mut scan, |scan, key| {
        match key {
            "id" => chunk.id = seen.once(0)?.text(scan)?,
            "model" => chunk.model = seen.once(1)?.text(scan)?,
            "object" => chunk.object = seen.once(2)?.text(scan)?,
            "choices" => chunk.choices = seen.once(3)?.unless_null(scan, choices)?,
            "usage" => chunk.usage = seen.once(4)?.unless_null(scan, json)?,
            "error" => chunk.error = seen.once(5)?.unless_null(scan, raw)?,
            _ => scan.value().ok()?,
        }
        Some(())
    })?;
    scan.space();
    scan.is_at_end().then_some(chunk)
}

/// Reads the counts of a chunk.
pub(super) fn usage(text: &str) -> Option<Usage> {
    let mut scan = Scanner::new(text, DEPTH);
    let mut usage = Usage::default();
    let mut seen = Seen::default();
    object(&mut scan, |scan, key| {
        match key {
            "prompt_tokens" => usage.prompt_tokens = seen.once(0)?.count(scan)?,
            "completion_tokens" => usage.completion_tokens = seen.once(1)?.count(scan)?,
            "prompt_cache_hit_tokens" => {
                usage.prompt_cache_hit_tokens = seen.once(2)?.count(scan)?;
            }
            "prompt_tokens_details" => {
                usage.prompt_tokens_details = seen.once(3)?.unless_null(scan, prompt_details)?;
            }
            "completion_tokens_details" => {
                usage.completion_tokens_details =
                    seen.once(4)?.unless_null(scan, completion_details)?;
            }
            _ => scan.value().ok()?,
        }
        Some(())
    })?;
    Some(usage)
}

fn prompt_details(scan: &mut Scanner<'_>) -> Option<PromptDetails> {
    let mut details = PromptDetails::default();
    let mut seen = Seen::default();
    object(scan, |scan, key| {
        match key {
            "cached_tokens" => details.cached_tokens = seen.once(0)?.count(scan)?,
            "cache_write_tokens" => details.cache_write_tokens = seen.once(1)?.count(scan)?,
            _ => scan.value().ok()?,
        }
        Some(())
    })?;
    Some(details)
}

fn completion_details(scan: &mut Scanner<'_>) -> Option<CompletionDetails> {
    let mut details = CompletionDetails::default();
    let mut seen = Seen::default();
    object(scan, |scan, key| {
        match key {
            "reasoning_tokens" => details.reasoning_tokens = seen.once(0)?.count(scan)?,
            _ => scan.value().ok()?,
        }
        Some(())
    })?;
    Some(details)
}

fn choices<'a>(scan: &mut Scanner<'a>) -> Option<Few<Choice<'a>>> {
    let mut choices = Few::default();
    if scan.peek() != Some(b'[') {
        return None;
    }
    let mut more = scan.open(Kind::Array).ok()?;
    while more {
        choices.push(choice(scan)?);
        more = scan.next(Kind::Array).ok()?;
    }
    Some(choices)
}

fn choice<'a>(scan: &mut Scanner<'a>) -> Option<Choice<'a>> {
    let mut choice = Choice::default();
    let mut seen = Seen::default();
    object(scan, |scan, key| {
        match key {
            "index" => choice.index = seen.once(0)?.unless_null(scan, index)?,
            "delta" => choice.delta = seen.once(1)?.unless_null(scan, delta)?,
            "message" => {
                choice.message = seen.once(2)?.unless_null(scan, delta)?.map(Box::new);
            }
            "finish_reason" => choice.finish_reason = seen.once(3)?.text(scan)?,
            "stop_reason" => choice.stop_reason = seen.once(4)?.unless_null(scan, raw)?,
            "error" => choice.error = seen.once(5)?.unless_null(scan, raw)?,
            _ => scan.value().ok()?,
        }
        Some(())
    })?;
    Some(choice)
}

fn delta<'a>(scan: &mut Scanner<'a>) -> Option<Delta<'a>> {
    let mut delta = Delta::default();
    let mut seen = Seen::default();
    object(scan, |scan, key| {
        match key {
            "content" => delta.content = seen.once(0)?.unless_null(scan, content)?,
            "reasoning_content" => {
                delta.reasoning_content = seen.once(1)?.unless_null(scan, raw)?;
            }
            "reasoning" => delta.reasoning = seen.once(2)?.unless_null(scan, raw)?,
            "refusal" => delta.refusal = seen.once(3)?.unless_null(scan, raw)?,
            "tool_calls" => delta.tool_calls = seen.once(4)?.unless_null(scan, raw)?,
            "function_call" => delta.function_call = seen.once(5)?.unless_null(scan, raw)?,
            _ => scan.value().ok()?,
        }
        Some(())
    })?;
    Some(delta)
}

fn content<'a>(scan: &mut Scanner<'a>) -> Option<Content<'a>> {
    string(scan).map(Content::Text)
}

/// Hands the members of an object to `take`, which steps over their values.
fn object<'a>(
    scan: &mut Scanner<'a>,
    mut take: impl FnMut(&mut Scanner<'a>, &'a str) -> Option<()>,
) -> Option<()> {
    scan.each_member(|scan, key, is_escaped| {
        if is_escaped {
            return None;
        }
        take(scan, &key[1..key.len() - 1])
    })
}

/// A string, borrowed if it has no escape.
fn string<'a>(scan: &mut Scanner<'a>) -> Option<Cow<'a, str>> {
    if scan.peek() != Some(b'"') {
        return None;
    }
    let start = scan.at();
    let is_escaped = scan.string().ok()?;
    let quoted = &scan.text()[start..scan.at()];
    if is_escaped {
        return serde_json::from_str::<Text<'_>>(quoted)
            .ok()
            .map(|text| text.0);
    }
    Some(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
}

fn index(scan: &mut Scanner<'_>) -> Option<u32> {
    number(scan)?.parse().ok()
}

fn number<'a>(scan: &mut Scanner<'a>) -> Option<&'a str> {
    scan.peek().filter(u8::is_ascii_digit)?;
    scan.taken()
}

fn json<'a>(scan: &mut Scanner<'a>) -> Option<Json<'a>> {
    scan.taken().map(Json)
}

/// A value that is seldom there is asked of serde, whose own it is.
fn raw<'a>(scan: &mut Scanner<'a>) -> Option<&'a RawValue> {
    serde_json::from_str(json(scan)?.0).ok()
}

/// The known members of one object that were seen: two of a name are for serde to refuse.
#[derive(Default)]
struct Seen(u8);

/// Reads the value of a member that was not seen before.
struct First;

impl Seen {
    fn once(&mut self, member: u8) -> Option<First> {
        let bit = 1 << member;
        let is_first = self.0 & bit == 0;
        self.0 |= bit;
        is_first.then_some(First)
    }
}

#[expect(
    clippy::unused_self,
    clippy::option_option,
    reason = "so that no member is read without a look at whether it was seen; null is a value"
)]
impl First {
    fn unless_null<'a, T>(
        self,
        scan: &mut Scanner<'a>,
        read: impl FnOnce(&mut Scanner<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        if scan.peek() == Some(b'n') {
            scan.value().ok()?;
            return Some(None);
        }
        read(scan).map(Some)
    }

    fn text<'a>(self, scan: &mut Scanner<'a>) -> Option<Option<Text<'a>>> {
        self.unless_null(scan, |scan| string(scan).map(Text))
    }

    fn count(self, scan: &mut Scanner<'_>) -> Option<Count> {
        let count = self.unless_null(scan, |scan| number(scan)?.parse().ok())?;
        Some(Count(count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODIES: [&str; 4] = [
        r#" {"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m\"x","choices":[{"index":0,"message":{"role":"assistant","content":"héllo\n","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":2,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":3}},"service_tier":"default"} "#,
        r#"{"id":"c","choices":[{"index":1,"delta":{"content":"a","reasoning_content":"b"},"finish_reason":null,"stop_reason":"x"},{"index":2,"delta":{}}],"usage":null}"#,
        r#"{"id":"c","choices":[{"index":0,"message":{"content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"finish_reason":"tool_calls"}]}"#,
        r#"{"error":{"message":"no","type":"server_error"},"choices":null}"#,
    ];

    fn same(text: &str) -> Result<bool, TestCaseError> {
        let Some(quick) = chunk(text) else {
            return Ok(false);
        };
        let serde: Chunk<'_> = serde_json::from_str(text)
            .map_err(|error| TestCaseError::fail(format!("serde refuses {text}: {error}")))?;
        prop_assert_eq!(format!("{quick:?}"), format!("{serde:?}"));
        if let Some(Json(text)) = quick.usage
            && let Some(quick) = usage(text)
        {
            let serde: Usage = serde_json::from_str(text)
                .map_err(|error| TestCaseError::fail(format!("serde refuses {text}: {error}")))?;
            prop_assert_eq!(format!("{quick:?}"), format!("{serde:?}"));
        }
        Ok(true)
    }

    #[test]
    fn the_usual_is_read() {
        for body in BODIES {
            assert!(same(body).expect("the same as serde's"), "{body}");
        }
        let full = chunk(BODIES[0]).expect("usual").usage.expect("told");
        assert!(usage(full.0).is_some());
    }

    #[test]
    fn what_is_unusual_is_left_to_serde() {
        for body in [
            r#"{"id":"a","id":"a"}"#,
            r#"{"id":"a","id":null}"#,
            r#"{"i\u0064":"a"}"#,
            r#"{"id":1}"#,
            r#"{"id":"\ud800"}"#,
            r#"{"choices":{}}"#,
            r#"{"choices":[[0]]}"#,
            r#"{"choices":[{"index":-1}]}"#,
            r#"{"choices":[{"index":4294967296}]}"#,
            r#"{"choices":[{"message":{"content":["a"]}}]}"#,
            r#"{"id":"a"}x"#,
            r#"{"id":"a"#,
            "[]",
            "",
        ] {
            assert!(chunk(body).is_none(), "{body}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(120), "]".repeat(120));
        assert!(chunk(&deep).is_none());
        assert!(usage(r#"{"prompt_tokens":1.0}"#).is_none());
        assert!(usage(r#"{"prompt_tokens":-1}"#).is_none());
    }

    proptest! {
        /// A body with some of it cut out, put in or changed is read as serde reads it, or not at all.
        #[test]
        fn it_reads_what_serde_reads(
            body in prop::sample::select(BODIES.to_vec()),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(vec![
                "", "\"", "{", "}", "[", "]", ",", ":", "null", "0", "1e5", "-1", "\\", "\\u00e9", "\\ud83d", " ", "\n",
                "\"id\":\"x\",", "\"content\":\"y\",", "\"usage\":{},", "\"index\":7,", "\"message\":{},", "\u{1}", "é",
            ])), 0..4),
        ) {
            let mut text = body.to_owned();
            for (at, length, put) in edits {
                let bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
                let from = at.index(bounds.len());
                let to = (from + length).min(bounds.len() - 1);
                text.replace_range(bounds[from]..bounds[to], put);
            }
            same(&text)?;
        }
    }
}
