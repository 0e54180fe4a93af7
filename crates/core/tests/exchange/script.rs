//! What a vendor says, and how it looks on the wire: written here by hand, without the writers that
//! are under test.

use std::fmt::Write as _;

use holdfast_wire::turn::{Dialect, StopKind};
use serde_json::{Value, json};

use crate::dice::Dice;

/// An answer as it is meant.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) thinking: String,
    pub(crate) text: String,
    /// Name and arguments of each call.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) stop: StopKind,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    pub(crate) crlf: bool,
    /// Keep-alives between the frames.
    pub(crate) pings: bool,
    /// Chat: no `[DONE]`, no usage.
    pub(crate) bare: bool,
    /// Pieces get no longer than this many characters.
    pub(crate) piece: usize,
}

impl Look {
    pub(crate) fn any(dice: &mut Dice) -> Self {
        Self {
            crlf: dice.percent(15),
            pings: dice.percent(30),
            bare: dice.percent(30),
            piece: 1 + dice.below(24),
        }
    }
}

impl Script {
    /// A script of at most `words` words; no two words of it are equal.
    pub(crate) fn any(dice: &mut Dice, words: usize) -> Self {
        let mut text = String::new();
        for n in 0..dice.below(words + 1) {
            let word = dice.of(&[
                "alpha",
                "bé",
                "\"q\"",
                "c\\d",
                "😀x",
                "long-winded",
                "\nline",
            ]);
            write!(text, "{word}{n:03} ").unwrap();
        }
        let mut calls = Vec::new();
        for n in 0..dice.of(&[0, 0, 0, 1, 1, 2, 3]) {
            let arguments = dice.of(&[
                "{}",
                r#"{"a":1}"#,
                r#"{"city":"Pariß \"x\"","n":[1,{"b":null}]}"#,
                r#"{"deep":{"er":["}","{"]}}"#,
            ]);
            calls.push((format!("tool_{n}"), arguments.to_owned()));
        }
        if text.is_empty() && calls.is_empty() {
            text.push_str("one000 ");
        }
        let stop = if calls.is_empty() {
            dice.of(&[
                StopKind::EndTurn,
                StopKind::EndTurn,
                StopKind::MaxTokens,
                StopKind::Refusal,
            ])
        } else {
            StopKind::ToolUse
        };
        let thinking = dice.of(&["", "", "let me see", "ünder \"consideration\""]);
        Self {
            thinking: thinking.to_owned(),
            text,
            calls,
            stop,
        }
    }

    /// The frames of this answer; its text begins at byte `from`.
    pub(crate) fn frames(&self, dialect: Dialect, look: Look, from: usize) -> Vec<String> {
        let bodies = match dialect {
            Dialect::Anthropic => self.anthropic(look, from),
            Dialect::OpenAi => self.openai(look, from),
        };
        let line = if look.crlf { "\r\n" } else { "\n" };
        let mut frames = Vec::new();
        for (at, body) in bodies.iter().enumerate() {
            if look.pings && at % 2 == 1 {
                frames.push(match dialect {
                    Dialect::Anthropic => {
                        format!("event: ping{line}data: {{\"type\":\"ping\"}}{line}{line}")
                    }
                    Dialect::OpenAi => format!(": keep-alive{line}{line}"),
                });
            }
            let name = body.get("type").and_then(Value::as_str);
            let event = match (dialect, name) {
                (Dialect::Anthropic, Some(name)) => format!("event: {name}{line}"),
                _ => String::new(),
            };
            frames.push(format!("{event}data: {body}{line}{line}"));
        }
        if dialect == Dialect::OpenAi && !look.bare {
            frames.push(format!("data: [DONE]{line}{line}"));
        }
        frames
    }

    fn anthropic(&self, look: Look, from: usize) -> Vec<Value> {
        let mut all = vec![json!({"type": "message_start", "message": {
            "id": "msg_v", "type": "message", "role": "assistant", "model": "vendor", "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 3, "output_tokens": 1}}})];
        let mut index = 0;
        let mut block = |opening: Value, deltas: Vec<Value>| {
            all.push(
                json!({"type": "content_block_start", "index": index, "content_block": opening}),
            );
            for delta in deltas {
                all.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            all.push(json!({"type": "content_block_stop", "index": index}));
            index += 1;
        };
        if !self.thinking.is_empty() {
            let mut deltas: Vec<Value> = pieces(&self.thinking, look)
                .map(|piece| json!({"type": "thinking_delta", "thinking": piece}))
                .collect();
            deltas.push(json!({"type": "signature_delta", "signature": "sig"}));
            block(
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                deltas,
            );
        }
        if !self.text[from..].is_empty() {
            let deltas = pieces(&self.text[from..], look)
                .map(|piece| json!({"type": "text_delta", "text": piece}))
                .collect();
            block(json!({"type": "text", "text": ""}), deltas);
        }
        for (n, (name, arguments)) in self.calls.iter().enumerate() {
            let deltas = pieces(arguments, look)
                .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                .collect();
            let id = format!("toolu_{n}");
            block(
                json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                deltas,
            );
        }
        all.push(json!({"type": "message_delta",
            "delta": {"stop_reason": self.word(Dialect::Anthropic), "stop_sequence": null},
            "usage": {"output_tokens": 9}}));
        all.push(json!({"type": "message_stop"}));
        all
    }

    fn openai(&self, look: Look, from: usize) -> Vec<Value> {
        let mut all = Vec::new();
        let mut chunk = |delta: Value, finish: Value| {
            all.push(
                json!({"id": "chatcmpl-v", "object": "chat.completion.chunk", "created": 17,
                "model": "vendor",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}),
            );
        };
        chunk(json!({"role": "assistant", "content": ""}), Value::Null);
        for piece in pieces(&self.thinking, look) {
            chunk(json!({"reasoning_content": piece}), Value::Null);
        }
        for piece in pieces(&self.text[from..], look) {
            chunk(json!({"content": piece}), Value::Null);
        }
        for (n, (name, arguments)) in self.calls.iter().enumerate() {
            let id = format!("call_{n}");
            chunk(
                json!({"tool_calls": [{"index": n, "id": id, "type": "function",
                    "function": {"name": name, "arguments": ""}}]}),
                Value::Null,
            );
            for piece in pieces(arguments, look) {
                chunk(
                    json!({"tool_calls": [{"index": n, "function": {"arguments": piece}}]}),
                    Value::Null,
                );
            }
        }
        chunk(json!({}), self.word(Dialect::OpenAi).into());
        if !look.bare {
            all.push(
                json!({"id": "chatcmpl-v", "object": "chat.completion.chunk", "created": 17,
                "model": "vendor", "choices": [],
                "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}}),
            );
        }
        all
    }

    fn word(&self, dialect: Dialect) -> &'static str {
        let (anthropic, openai) = match self.stop {
            StopKind::EndTurn => ("end_turn", "stop"),
            StopKind::ToolUse => ("tool_use", "tool_calls"),
            StopKind::MaxTokens => ("max_tokens", "length"),
            StopKind::Refusal => ("refusal", "content_filter"),
            other => panic!("no script stops by {other:?}"),
        };
        match dialect {
            Dialect::Anthropic => anthropic,
            Dialect::OpenAi => openai,
        }
    }

    /// This answer as a body.
    pub(crate) fn body(&self, dialect: Dialect, from: usize) -> String {
        let text = &self.text[from..];
        let calls = self.calls.iter().enumerate();
        match dialect {
            Dialect::Anthropic => {
                let mut content = Vec::new();
                if !self.thinking.is_empty() {
                    content.push(json!({"type": "thinking", "thinking": self.thinking,
                        "signature": "sig"}));
                }
                if !text.is_empty() {
                    content.push(json!({"type": "text", "text": text}));
                }
                content.extend(calls.map(|(n, (name, arguments))| {
                    let input: Value = serde_json::from_str(arguments).unwrap();
                    json!({"type": "tool_use", "id": format!("toolu_{n}"), "name": name,
                        "input": input})
                }));
                json!({"id": "msg_v", "type": "message", "role": "assistant", "model": "vendor",
                    "content": content, "stop_reason": self.word(dialect), "stop_sequence": null,
                    "usage": {"input_tokens": 3, "output_tokens": 9}})
                .to_string()
            }
            Dialect::OpenAi => {
                let calls: Vec<Value> = calls
                    .map(|(n, (name, arguments))| {
                        json!({"id": format!("call_{n}"), "type": "function",
                            "function": {"name": name, "arguments": arguments}})
                    })
                    .collect();
                let mut message = json!({"role": "assistant", "content": text});
                if !calls.is_empty() {
                    message["tool_calls"] = calls.into();
                }
                if !self.thinking.is_empty() {
                    message["reasoning_content"] = self.thinking.clone().into();
                }
                json!({"id": "chatcmpl-v", "object": "chat.completion", "created": 17,
                    "model": "vendor",
                    "choices": [{"index": 0, "message": message,
                        "finish_reason": self.word(dialect)}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}})
                .to_string()
            }
        }
    }
}

fn pieces(text: &str, look: Look) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars
        .chunks(look.piece.max(1))
        .map(|piece| piece.iter().collect())
        .collect();
    pieces.into_iter()
}
