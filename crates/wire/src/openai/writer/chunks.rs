//! The chunks of the Chat dialect. What all chunks of an answer begin with is made once.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::answer::Shown;
use crate::json;
use crate::turn::{StopKind, Usage};

/// Writes the chunks of one answer.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// Up to and with `"choices":[`.
    head: Bytes,
    /// After a choice: `usage` is null in all chunks but its own when it was asked for.
    tail: &'static [u8],
}

// === impl Chunks ===

impl Chunks {
    pub(super) fn new(shown: &Shown, include_usage: bool) -> Self {
        let mut head = BytesMut::from(&b"data: {\"id\":"[..]);
        json::string(&shown.id, &mut head);
        head.put_slice(br#","object":"chat.completion.chunk","created":"#);
        json::number(shown.created, &mut head);
        head.put_slice(br#","model":"#);
        json::string(&shown.model, &mut head);
        head.put_slice(br#","choices":["#);
        Self {
            head: head.freeze(),
            tail: if include_usage {
                b"}],\"usage\":null}\n\n"
            } else {
                b"}]}\n\n"
            },
        }
    }

    /// The first chunk of a choice.
    pub(super) fn role(&self, choice: u32, out: &mut BytesMut) {
        self.open(choice, out);
        out.put_slice(br#""role":"assistant","content":"""#);
        self.close(out);
    }

    pub(super) fn text(&self, choice: u32, text: &str, out: &mut BytesMut) {
        self.string(choice, br#""content":""#, text, out);
    }

    /// Thinking under the name that DeepSeek and vLLM gave it.
    pub(super) fn thinking(&self, choice: u32, text: &str, out: &mut BytesMut) {
        self.string(choice, br#""reasoning_content":""#, text, out);
    }

    pub(super) fn refusal(&self, choice: u32, text: &str, out: &mut BytesMut) {
        self.string(choice, br#""refusal":""#, text, out);
    }

    /// The opening of a tool call.
    pub(super) fn tool(&self, choice: u32, number: u32, id: &str, name: &str, out: &mut BytesMut) {
        self.open(choice, out);
        out.put_slice(br#""tool_calls":[{"index":"#);
        json::number(number, out);
        out.put_slice(br#","id":"#);
        json::string(id, out);
        out.put_slice(br#","type":"function","function":{"name":"#);
        json::string(name, out);
        out.put_slice(br#","arguments":""}}]"#);
        self.close(out);
    }

    /// A piece of a tool call's arguments; an empty one says nothing and is not written.
    pub(super) fn arguments(&self, choice: u32, number: u32, json: &str, out: &mut BytesMut) {
        if json.is_empty() {
            return;
        }
        self.open(choice, out);
        out.put_slice(br#""tool_calls":[{"index":"#);
        json::number(number, out);
        out.put_slice(br#","function":{"arguments":"#);
        json::string(json, out);
        out.put_slice(b"}}]");
        self.close(out);
    }

    /// The last chunk of a choice.
    pub(super) fn finish(&self, choice: u32, word: &str, out: &mut BytesMut) {
        out.put_slice(&self.head);
        out.put_slice(br#"{"index":"#);
        json::number(choice, out);
        out.put_slice(br#","delta":{},"finish_reason":"#);
        json::string(word, out);
        out.put_slice(self.tail);
    }

    /// The chunk without choices.
    pub(super) fn usage(&self, usage: Usage, out: &mut BytesMut) {
        out.put_slice(&self.head);
        out.put_slice(br#"],"usage":"#);
        put_usage(usage, out);
        out.put_slice(b"}\n\n");
    }

    fn string(&self, choice: u32, opening: &[u8], text: &str, out: &mut BytesMut) {
        if text.is_empty() {
            return;
        }
        self.open(choice, out);
        out.put_slice(opening);
        json::inside(text, out);
        out.put_u8(b'"');
        self.close(out);
    }

    fn open(&self, choice: u32, out: &mut BytesMut) {
        out.put_slice(&self.head);
        out.put_slice(br#"{"index":"#);
        json::number(choice, out);
        out.put_slice(br#","delta":{"#);
    }

    fn close(&self, out: &mut BytesMut) {
        out.put_slice(br#"},"finish_reason":null"#);
        out.put_slice(self.tail);
    }
}

/// The counts, with what a cache gave or took among the prompt's, as the dialect has it.
pub(in crate::openai) fn put_usage(usage: Usage, out: &mut BytesMut) {
    let or_zero = |count: Option<u64>| count.unwrap_or(0);
    let prompt = or_zero(usage.input)
        .saturating_add(or_zero(usage.cache_read))
        .saturating_add(or_zero(usage.cache_write));
    let completion = or_zero(usage.output);
    out.put_slice(br#"{"prompt_tokens":"#);
    json::number(prompt, out);
    out.put_slice(br#","completion_tokens":"#);
    json::number(completion, out);
    out.put_slice(br#","total_tokens":"#);
    json::number(prompt.saturating_add(completion), out);
    if usage.cache_read.is_some() || usage.cache_write.is_some() {
        out.put_slice(br#","prompt_tokens_details":{"cached_tokens":"#);
        json::number(or_zero(usage.cache_read), out);
        if let Some(written) = usage.cache_write {
            // OpenRouter's name; the vendor has none.
            out.put_slice(br#","cache_write_tokens":"#);
            json::number(written, out);
        }
        out.put_u8(b'}');
    }
    if let Some(reasoning) = usage.reasoning {
        out.put_slice(br#","completion_tokens_details":{"reasoning_tokens":"#);
        json::number(reasoning, out);
        out.put_u8(b'}');
    }
    out.put_u8(b'}');
}

/// The finish reason that means the same (wire facts, 3.6); a refusal in words is a whole answer.
pub(in crate::openai) fn word(kind: StopKind, refused: bool) -> &'static str {
    match kind {
        StopKind::EndTurn | StopKind::StopSequence => "stop",
        StopKind::ToolUse => "tool_calls",
        StopKind::MaxTokens | StopKind::ContextWindow | StopKind::Pause => "length",
        StopKind::Refusal if refused => "stop",
        StopKind::Refusal => "content_filter",
        StopKind::VendorFault | StopKind::Unknown => {
            unreachable!("invariant: check_stop refuses these")
        }
    }
}
