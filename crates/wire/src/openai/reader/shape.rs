//! The JSON shapes of the Chat dialect, as far as they are read, with room for what compatible
//! servers do to it. Everything borrows from the chunk; a chunk with one choice allocates nothing.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::choice::Prose;
use super::quick;
use crate::borrowed::{Count, Few, Json, Text, or_empty};
use crate::turn;
use crate::vendor_error::is_truthy;

/// A chunk of a stream, or a whole body: they differ in `delta` and `message` only.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) object: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) choices: Option<Few<Choice<'a>>>,
    /// A [`Usage`]; raw, because most chunks have none and a chunk is moved about.
    #[serde(borrow)]
    pub(super) usage: Option<Json<'a>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Choice<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(borrow)]
    pub(super) message: Option<Box<Delta<'a>>>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<Text<'a>>,
    /// vLLM: the stop string that was met, or a token's number.
    #[serde(borrow)]
    pub(super) stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// What a choice gained, or all of its message. All but `content` is raw until it is wanted: moving
/// the parsed shapes about would cost more than a text delta costs to parse.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) function_call: Option<&'a RawValue>,
}

/// A text, or Mistral's list of parts. Anything else holds nothing that we read.
#[derive(Debug)]
pub(super) enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct Part<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) refusal: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ToolCall<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) function: Option<Function<'a>>,
    /// A call of a free-text tool.
    #[serde(borrow)]
    pub(super) custom: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    /// A piece of JSON text by the book; an object by some servers.
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    pub(super) prompt_tokens: Count,
    pub(super) completion_tokens: Count,
    /// DeepSeek's older word for `prompt_tokens_details.cached_tokens`.
    pub(super) prompt_cache_hit_tokens: Count,
    pub(super) prompt_tokens_details: Option<PromptDetails>,
    pub(super) completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: Count,
    /// OpenRouter: what was written to a cache, part of `prompt_tokens` too.
    pub(super) cache_write_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CompletionDetails {
    pub(super) reasoning_tokens: Count,
}

// === impl Chunk ===

impl<'a> Chunk<'a> {
    /// Reads a chunk or a body.
    pub(super) fn read(text: &'a str) -> serde_json::Result<Self> {
        quick::chunk(text).map_or_else(|| serde_json::from_str(text), Ok)
    }
}

// === impl Delta ===

impl<'a> Delta<'a> {
    /// The tool calls, then the call of the legacy form, which has neither index nor id; or why they
    /// cannot be read.
    pub(super) fn calls(
        &self,
    ) -> Result<impl Iterator<Item = ToolCall<'a>> + use<'a>, &'static str> {
        let calls = self.tool_calls()?;
        let legacy: Option<Function<'a>> = match self.function_call {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| "malformed function call")?,
            None => None,
        };
        let legacy = legacy.map(|function| ToolCall {
            index: None,
            id: None,
            function: Some(function),
            custom: None,
        });
        Ok(calls.into_iter().chain(legacy))
    }

    /// The tool calls alone; or why they cannot be read.
    pub(super) fn tool_calls(&self) -> Result<Few<ToolCall<'a>>, &'static str> {
        match self.tool_calls {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| "malformed tool calls"),
            None => Ok(Few::default()),
        }
    }

    /// Gives `take` every text in the order in which a model says them: thinking, text, refusal.
    pub(super) fn each(self, take: &mut dyn FnMut(Prose, Cow<'a, str>)) {
        // Servers use one of two names, some send the same text under both.
        let thinking = self
            .reasoning_content
            .filter(|raw| is_truthy(raw))
            .or(self.reasoning);
        if let Some(thinking) = thinking.and_then(Content::read) {
            thinking.each(Prose::Thinking, take);
        }
        if let Some(content) = self.content {
            content.each(Prose::Text, take);
        }
        if let Some(refusal) = self.refusal.and_then(Content::read) {
            refusal.each(Prose::Refusal, take);
        }
    }
}

// === impl Function ===

impl<'a> Function<'a> {
    /// Whether the arguments come as the dialect has them: as text, or not at all.
    pub(super) fn has_text_arguments(&self) -> bool {
        self.arguments
            .is_none_or(|raw| raw.get().starts_with('"') || raw.get() == "null")
    }

    /// The arguments, as JSON text or a piece of it; `None` if there are none or they are null.
    pub(super) fn arguments(&self) -> Option<Cow<'a, str>> {
        let json = self.arguments?.get();
        Some(match serde_json::from_str::<Text<'a>>(json) {
            Ok(Text(text)) => text,
            Err(_) => Cow::Borrowed(json),
        })
    }
}

// === impl Usage ===

impl Usage {
    /// The counts of a chunk's `usage`; `None` if none is told.
    pub(super) fn read(json: Option<Json<'_>>) -> Option<turn::Usage> {
        let Json(text) = json?;
        let usage = quick::usage(text).or_else(|| serde_json::from_str(text).ok())?;
        usage.neutral()
    }

    fn neutral(self) -> Option<turn::Usage> {
        let prompt = self.prompt_tokens_details.unwrap_or_default();
        let cache_read = prompt.cached_tokens.0.or(self.prompt_cache_hit_tokens.0);
        let cache_write = prompt.cache_write_tokens.0;
        let cached = cache_read
            .unwrap_or(0)
            .saturating_add(cache_write.unwrap_or(0));
        let usage = turn::Usage {
            input: self
                .prompt_tokens
                .0
                .map(|prompt| prompt.saturating_sub(cached)),
            cache_read,
            cache_write,
            output: self.completion_tokens.0,
            reasoning: self
                .completion_tokens_details
                .and_then(|details| details.reasoning_tokens.0),
        };
        (usage != turn::Usage::default()).then_some(usage)
    }
}

// === impl Content ===

impl<'a> Content<'a> {
    fn read(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// Gives `take` every text in here with its kind, which is `kind` unless a part says otherwise.
    fn each(self, kind: Prose, take: &mut dyn FnMut(Prose, Cow<'a, str>)) {
        match self {
            Self::Text(text) => take(kind, text),
            Self::Parts(parts) => parts.into_iter().for_each(|part| part.each(kind, take)),
            Self::Other => {}
        }
    }
}

impl<'a> Part<'a> {
    fn each(self, kind: Prose, take: &mut dyn FnMut(Prose, Cow<'a, str>)) {
        match self.kind.as_ref().map(|kind| kind.0.as_ref()) {
            Some("thinking") => {
                if let Some(thinking) = self.thinking {
                    thinking.each(Prose::Thinking, take);
                }
            }
            Some("refusal") => take(Prose::Refusal, or_empty(self.refusal)),
            _ => take(kind, or_empty(self.text)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of parts")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Content::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element()? {
            parts.push(part);
        }
        Ok(Content::Parts(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Content::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }
}
