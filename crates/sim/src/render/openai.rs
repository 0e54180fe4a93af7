//! The OpenAI Chat Completions dialect, and the lawful oddities of servers that are compatible with it.

use serde_json::{Value, json};

use super::{Frame, Kind, quote};
use crate::answer::{Answer, Block, Stop};
use crate::ask::Ask;
use crate::fault::Quirk;

/// A date that never moves, so that answers are the same on every run: 2026-06-21.
const CREATED: u64 = 1_781_999_999;

pub(crate) fn stream(ask: &Ask, answer: &Answer, quirk: Option<Quirk>) -> Vec<Frame> {
    let mut writer = Writer {
        answer,
        usage: ask.include_usage,
        quirk,
        frames: Vec::new(),
    };
    if quirk == Some(Quirk::Azure) {
        let data = json!({"id": "", "object": "chat.completion.chunk", "created": 0, "model": "", "choices": [],
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]});
        writer.frames.push(Frame {
            kind: Kind::Foreign,
            data: frame(&data),
        });
    }
    writer.chunk(
        Kind::Start,
        &json!({"role": "assistant", "content": "", "refusal": null}).to_string(),
        None,
    );
    let mut calls = 0;
    for block in &answer.blocks {
        match block {
            Block::Thinking { pieces, .. } => {
                writer.texts(Kind::Thinking, "reasoning_content", pieces);
            }
            Block::Text { pieces } if quirk == Some(Quirk::RefusalField) => {
                writer.texts(Kind::Text, "refusal", pieces);
            }
            Block::Text { pieces } => writer.texts(Kind::Text, "content", pieces),
            Block::Tool { id, name, pieces } => {
                writer.call(calls, id, name, pieces);
                calls += 1;
            }
            Block::ServerTool { .. } => {}
        }
    }
    writer.finish();
    writer.frames
}

struct Writer<'a> {
    answer: &'a Answer,
    usage: bool,
    quirk: Option<Quirk>,
    frames: Vec<Frame>,
}

impl Writer<'_> {
    fn chunk(&mut self, kind: Kind, delta: &str, reason: Option<&str>) {
        let answer = self.answer;
        let reason = reason.map_or_else(|| "null".to_owned(), quote);
        let usage = if self.usage { ",\"usage\":null" } else { "" };
        let data = format!(
            "data: {{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion.chunk\",\"created\":{CREATED},\"model\":{},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{reason}}}]{usage}}}\n\n",
            answer.id,
            quote(&answer.model),
        );
        self.frames.push(Frame {
            kind,
            data: data.into_bytes(),
        });
    }

    fn texts(&mut self, kind: Kind, member: &str, pieces: &[String]) {
        for piece in pieces {
            self.chunk(kind, &format!("{{\"{member}\":{}}}", quote(piece)), None);
        }
    }

    fn call(&mut self, number: usize, id: &str, name: &str, pieces: &[String]) {
        let index = match self.quirk {
            Some(Quirk::ToolIndexZero) => Some(0),
            Some(Quirk::ToolNoIndex) => None,
            _ => Some(number),
        };
        let whole = matches!(
            self.quirk,
            Some(Quirk::ToolWholeDelta | Quirk::ToolIndexZero | Quirk::ToolNoIndex)
        );
        let first = if whole {
            pieces.concat()
        } else {
            String::new()
        };
        let kind = if whole { Kind::Arguments } else { Kind::Open };
        self.call_delta(kind, index, Some((id, name)), &first);
        if whole {
            return;
        }
        let again = (self.quirk == Some(Quirk::ToolRepeatId)).then_some((id, name));
        for piece in pieces {
            self.call_delta(Kind::Arguments, index, again, piece);
        }
    }

    fn call_delta(
        &mut self,
        kind: Kind,
        index: Option<usize>,
        named: Option<(&str, &str)>,
        arguments: &str,
    ) {
        let mut call = json!({"function": {"arguments": arguments}});
        if let Some(index) = index {
            call["index"] = json!(index);
        }
        if let Some((id, name)) = named {
            call["id"] = json!(format!("call_{id}"));
            call["type"] = json!("function");
            call["function"]["name"] = json!(name);
        }
        self.chunk(kind, &json!({"tool_calls": [call]}).to_string(), None);
    }

    fn finish(&mut self) {
        let reason = stop(self.answer, self.quirk);
        if self.quirk == Some(Quirk::FinishWithDelta)
            && let Some(last) = self.frames.last_mut().filter(|last| last.kind.is_token())
        {
            let text = String::from_utf8_lossy(&last.data).into_owned();
            let with = format!(
                "\"finish_reason\":{}",
                quote(reason.as_deref().unwrap_or_default())
            );
            last.data = text
                .replacen("\"finish_reason\":null", &with, 1)
                .into_bytes();
            last.kind = Kind::Finish;
        } else {
            self.chunk(Kind::Finish, "{}", reason.as_deref());
        }
        if self.usage && self.quirk != Some(Quirk::NoUsage) {
            let data = json!({"id": format!("chatcmpl-{}", self.answer.id), "object": "chat.completion.chunk",
                "created": CREATED, "model": self.answer.model, "choices": [], "usage": usage(self.answer)});
            self.frames.push(Frame {
                kind: Kind::Usage,
                data: frame(&data),
            });
        }
        self.frames.push(Frame {
            kind: Kind::Terminal,
            data: b"data: [DONE]\n\n".to_vec(),
        });
    }
}

/// A content delta, also where none belongs.
pub(crate) fn text_delta(answer: &Answer, text: &str) -> Frame {
    let mut writer = Writer {
        answer,
        usage: false,
        quirk: None,
        frames: Vec::new(),
    };
    writer.chunk(
        Kind::Text,
        &format!("{{\"content\":{}}}", quote(text)),
        None,
    );
    writer.frames.remove(0)
}

pub(crate) fn frame(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

fn stop(answer: &Answer, quirk: Option<Quirk>) -> Option<String> {
    let word = match &answer.stop {
        Stop::Tools if quirk == Some(Quirk::ToolStopMismatch) => "stop",
        Stop::Tools => "tool_calls",
        Stop::End | Stop::Sequence(_) | Stop::Pause => "stop",
        Stop::Limit => "length",
        Stop::Raw(word) => return word.clone(),
    };
    Some(word.to_owned())
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    })
}

pub(crate) fn body(answer: &Answer, quirk: Option<Quirk>) -> Value {
    let mut text = None;
    let mut reasoning = None;
    let mut calls = Vec::new();
    for block in &answer.blocks {
        match block {
            Block::Thinking { pieces, .. } => reasoning = Some(pieces.concat()),
            Block::Text { pieces } => text.get_or_insert_with(String::new).push_str(&pieces.concat()),
            Block::Tool { id, name, pieces } => calls.push(json!({
                "id": format!("call_{id}"), "type": "function", "function": {"name": name, "arguments": pieces.concat()}})),
            Block::ServerTool { .. } => {}
        }
    }
    let refusal = if quirk == Some(Quirk::RefusalField) {
        text.take()
    } else {
        None
    };
    let mut message =
        json!({"role": "assistant", "content": text, "refusal": refusal, "annotations": []});
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    if let Some(reasoning) = reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    let mut body = json!({
        "id": format!("chatcmpl-{}", answer.id),
        "object": "chat.completion",
        "created": CREATED,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": stop(answer, quirk)}],
        "usage": usage(answer),
        "service_tier": "default",
    });
    if quirk == Some(Quirk::NoUsage)
        && let Some(members) = body.as_object_mut()
    {
        members.remove("usage");
    }
    body
}

pub(crate) fn error(kind: &str, code: Option<&str>, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}
