//! The Anthropic Messages dialect, written from its documents.

use serde_json::{Value, json};

use super::{Frame, Kind, quote};
use crate::answer::{Answer, Block, Stop};

pub(crate) fn stream(answer: &Answer) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut head = body(answer);
    head["content"] = json!([]);
    head["stop_reason"] = Value::Null;
    head["stop_sequence"] = Value::Null;
    head["usage"]["output_tokens"] = json!(1);
    push(
        &mut frames,
        Kind::Start,
        "message_start",
        &json!({"type": "message_start", "message": head}),
    );
    for (index, block) in answer.blocks.iter().enumerate() {
        self::block(&mut frames, index, block);
        if index == 0 {
            frames.push(Frame {
                kind: Kind::Foreign,
                data: frame("ping", &json!({"type": "ping"})),
            });
        }
    }
    let (reason, sequence) = stop(answer);
    let finish = json!({
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": sequence},
        "usage": {"output_tokens": answer.output_tokens},
    });
    push(&mut frames, Kind::Finish, "message_delta", &finish);
    push(
        &mut frames,
        Kind::Terminal,
        "message_stop",
        &json!({"type": "message_stop"}),
    );
    frames
}

/// What a block opens with, and how its pieces are sent.
struct Shape<'a> {
    start: Value,
    kind: Kind,
    pieces: &'a [String],
    delta: &'static str,
    member: &'static str,
}

fn shape(block: &Block) -> Shape<'_> {
    match block {
        Block::Thinking { pieces, .. } => Shape {
            start: json!({"type": "thinking", "thinking": "", "signature": ""}),
            kind: Kind::Thinking,
            pieces,
            delta: "thinking_delta",
            member: "thinking",
        },
        Block::Text { pieces } => Shape {
            start: json!({"type": "text", "text": ""}),
            kind: Kind::Text,
            pieces,
            delta: "text_delta",
            member: "text",
        },
        Block::Tool { id, name, pieces } => Shape {
            start: json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": {}}),
            kind: Kind::Arguments,
            pieces,
            delta: "input_json_delta",
            member: "partial_json",
        },
        Block::ServerTool { id, name, .. } => Shape {
            start: json!({"type": "server_tool_use", "id": id, "name": name, "input": {}}),
            kind: Kind::Arguments,
            pieces: &[],
            delta: "input_json_delta",
            member: "partial_json",
        },
    }
}

fn block(frames: &mut Vec<Frame>, index: usize, block: &Block) {
    let Shape {
        start,
        kind,
        pieces,
        delta,
        member,
    } = shape(block);
    let open = json!({"type": "content_block_start", "index": index, "content_block": start});
    push(frames, Kind::Open, "content_block_start", &open);
    if kind == Kind::Arguments {
        // The vendor opens every call with an empty piece.
        delta_frame(frames, kind, index, delta, member, "");
    }
    for piece in pieces {
        delta_frame(frames, kind, index, delta, member, piece);
    }
    match block {
        Block::Thinking { signature, .. } => delta_frame(
            frames,
            kind,
            index,
            "signature_delta",
            "signature",
            signature,
        ),
        Block::ServerTool { input, .. } => {
            delta_frame(frames, kind, index, delta, member, &input.to_string());
        }
        Block::Text { .. } | Block::Tool { .. } => {}
    }
    let close = json!({"type": "content_block_stop", "index": index});
    push(frames, Kind::Close, "content_block_stop", &close);
}

fn delta_frame(
    frames: &mut Vec<Frame>,
    kind: Kind,
    index: usize,
    delta: &str,
    member: &str,
    piece: &str,
) {
    let piece = quote(piece);
    let data = format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"{delta}\",\"{member}\":{piece}}}}}\n\n"
    );
    frames.push(Frame {
        kind,
        data: data.into_bytes(),
    });
}

/// A text delta for `index`, also where none belongs.
pub(crate) fn text_delta(index: usize, text: &str) -> Frame {
    let mut frames = Vec::new();
    delta_frame(&mut frames, Kind::Text, index, "text_delta", "text", text);
    frames.remove(0)
}

pub(crate) fn frame(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

fn push(frames: &mut Vec<Frame>, kind: Kind, name: &str, data: &Value) {
    frames.push(Frame {
        kind,
        data: frame(name, data),
    });
}

fn stop(answer: &Answer) -> (Option<String>, Option<String>) {
    let word = match &answer.stop {
        Stop::End => "end_turn",
        Stop::Sequence(word) => return (Some("stop_sequence".to_owned()), Some(word.clone())),
        Stop::Tools => "tool_use",
        Stop::Limit => "max_tokens",
        Stop::Pause => "pause_turn",
        Stop::Raw(word) => return (word.clone(), None),
    };
    (Some(word.to_owned()), None)
}

pub(crate) fn body(answer: &Answer) -> Value {
    let content: Vec<Value> = answer.blocks.iter().map(content).collect();
    let (reason, sequence) = stop(answer);
    json!({
        "id": format!("msg_{}", answer.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": {
            "input_tokens": answer.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": answer.output_tokens,
            "service_tier": "standard",
        },
    })
}

fn content(block: &Block) -> Value {
    match block {
        Block::Thinking { pieces, signature } => {
            json!({"type": "thinking", "thinking": pieces.concat(), "signature": signature})
        }
        Block::Text { pieces } => json!({"type": "text", "text": pieces.concat()}),
        Block::Tool { id, name, pieces } => {
            // Arguments cut by the token limit come as the empty object: JSON has no half object.
            let input = serde_json::from_str(&pieces.concat()).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": input})
        }
        Block::ServerTool { id, name, input } => {
            json!({"type": "server_tool_use", "id": id, "name": name, "input": input})
        }
    }
}

pub(crate) fn error(kind: &str, code: Option<&str>, message: &str) -> Value {
    let mut error = json!({"type": kind, "message": message});
    if let Some(code) = code {
        error["details"] = json!({"error_code": code});
    }
    json!({"type": "error", "error": error, "request_id": "req_sim"})
}
