//! The frames of the Messages dialect, each with equal `event:` and `type`: the Python SDK drops
//! frames without the one, all clients want the other.

use bytes::{BufMut as _, BytesMut};

use crate::answer::WriterOptions;
use crate::anthropic::stop::stop_kind;
use crate::json;
use crate::turn::{Block, Stop, StopKind, Usage};

pub(super) fn message_start(options: &WriterOptions, usage: Usage, out: &mut BytesMut) {
    out.put_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    head(options, out);
    out.put_slice(br#""content":[],"stop_reason":null,"stop_sequence":null,"usage":"#);
    put_usage(usage, out);
    out.put_slice(b"}}\n\n");
}

/// The members of a message before its content.
pub(in crate::anthropic) fn head(options: &WriterOptions, out: &mut BytesMut) {
    out.put_slice(br#"{"id":"#);
    json::string(&options.id, out);
    out.put_slice(br#","type":"message","role":"assistant","model":"#);
    json::string(&options.model, out);
    out.put_u8(b',');
}

/// All counts; those that were not told are 0, because the clients' types demand them.
pub(in crate::anthropic) fn put_usage(usage: Usage, out: &mut BytesMut) {
    let mut count = |name: &[u8], count: Option<u64>| {
        out.put_slice(name);
        json::number(count.unwrap_or(0), out);
    };
    count(br#"{"input_tokens":"#, usage.input);
    count(br#","cache_creation_input_tokens":"#, usage.cache_write);
    count(br#","cache_read_input_tokens":"#, usage.cache_read);
    count(br#","output_tokens":"#, usage.output);
    if let Some(reasoning) = usage.reasoning {
        out.put_slice(br#","output_tokens_details":{"thinking_tokens":"#);
        json::number(reasoning, out);
        out.put_u8(b'}');
    }
    out.put_u8(b'}');
}

/// The block as it opens: empty, but for what never comes as deltas.
pub(super) fn block_start(index: u32, block: &Block<'_>, out: &mut BytesMut) {
    out.put_slice(
        b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
    );
    json::number(index, out);
    out.put_slice(br#","content_block":"#);
    match block {
        Block::Text { .. } | Block::Refusal { .. } => {
            out.put_slice(br#"{"type":"text","text":""}"#);
        }
        Block::Thinking { .. } => {
            out.put_slice(br#"{"type":"thinking","thinking":"","signature":""}"#);
        }
        Block::RedactedThinking { data } => {
            out.put_slice(br#"{"type":"redacted_thinking","data":"#);
            json::string(data, out);
            out.put_u8(b'}');
        }
        Block::Tool { id, name, .. } => {
            out.put_slice(br#"{"type":"tool_use","id":"#);
            json::string(id, out);
            out.put_slice(br#","name":"#);
            json::string(name, out);
            out.put_slice(br#","input":{}}"#);
        }
        Block::Opaque { raw, .. } => json::raw(raw, out),
    }
    out.put_slice(b"}\n\n");
}

pub(super) fn text_delta(index: u32, text: &str, out: &mut BytesMut) {
    string_delta(index, br#"{"type":"text_delta","text":""#, text, out);
}

pub(super) fn thinking_delta(index: u32, text: &str, out: &mut BytesMut) {
    string_delta(
        index,
        br#"{"type":"thinking_delta","thinking":""#,
        text,
        out,
    );
}

pub(super) fn signature_delta(index: u32, signature: &str, out: &mut BytesMut) {
    string_delta(
        index,
        br#"{"type":"signature_delta","signature":""#,
        signature,
        out,
    );
}

pub(super) fn arguments_delta(index: u32, json: &str, out: &mut BytesMut) {
    string_delta(
        index,
        br#"{"type":"input_json_delta","partial_json":""#,
        json,
        out,
    );
}

/// A delta whose only content is a string; an empty one says nothing and is not written.
fn string_delta(index: u32, opening: &[u8], text: &str, out: &mut BytesMut) {
    if text.is_empty() {
        return;
    }
    delta_head(index, out);
    out.put_slice(opening);
    json::inside(text, out);
    out.put_slice(b"\"}}\n\n");
}

pub(super) fn opaque_delta(index: u32, raw: &str, out: &mut BytesMut) {
    delta_head(index, out);
    json::raw(raw, out);
    out.put_slice(b"}\n\n");
}

fn delta_head(index: u32, out: &mut BytesMut) {
    out.put_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    json::number(index, out);
    out.put_slice(br#","delta":"#);
}

pub(super) fn block_stop(index: u32, out: &mut BytesMut) {
    out.put_slice(b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
    json::number(index, out);
    out.put_slice(b"}\n\n");
}

/// `message_delta` and `message_stop`.
pub(super) fn message_end(stop: &Stop<'_>, usage: Usage, out: &mut BytesMut) {
    out.put_slice(b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    put_stop(stop, out);
    out.put_slice(br#"},"usage":"#);
    put_usage(usage, out);
    out.put_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

/// The members that tell why an answer stopped.
pub(in crate::anthropic) fn put_stop(stop: &Stop<'_>, out: &mut BytesMut) {
    out.put_slice(br#""stop_reason":"#);
    json::string(word(stop), out);
    out.put_slice(br#","stop_sequence":"#);
    match &stop.sequence {
        Some(sequence) if stop.kind == StopKind::StopSequence => json::string(sequence, out),
        _ => out.put_slice(b"null"),
    }
    if let Some(details) = &stop.details {
        out.put_slice(br#","stop_details":"#);
        json::raw(details, out);
    }
}

/// The dialect's word: the vendor's own where it is one of the dialect (`compaction`), else the one
/// that means the same (wire facts, 3.6).
fn word<'a>(stop: &'a Stop<'_>) -> &'a str {
    if stop_kind(&stop.said) == stop.kind {
        return &stop.said;
    }
    match stop.kind {
        StopKind::EndTurn => "end_turn",
        StopKind::StopSequence => "stop_sequence",
        StopKind::ToolUse => "tool_use",
        StopKind::MaxTokens => "max_tokens",
        StopKind::ContextWindow => "model_context_window_exceeded",
        StopKind::Pause => "pause_turn",
        StopKind::Refusal => "refusal",
        StopKind::VendorFault | StopKind::Unknown => {
            unreachable!("invariant: check_stop refuses these")
        }
    }
}
