//! Reads what a caller was shown, as strictly as the vendors' SDKs read it, and without anything of
//! the judge or the writers: plain JSON, frame by frame.

use holdfast_wire::turn::Dialect;
use serde_json::Value;

/// What a caller understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sight {
    pub(crate) text: String,
    pub(crate) thinking: String,
    /// Id, name and arguments of each call, in order.
    pub(crate) calls: Vec<(String, String, String)>,
    /// The finish reason, by the caller's dialect.
    pub(crate) stop: Option<String>,
    /// The terminal marker came.
    pub(crate) ended: bool,
    /// Blocks that are open at the end (Anthropic).
    open: Option<u64>,
    next: u64,
    started: bool,
    /// What no legal stream has.
    pub(crate) wrongs: Vec<String>,
}

impl Sight {
    /// Reads the bytes of a stream.
    pub(crate) fn of(dialect: Dialect, bytes: &[u8]) -> Self {
        let mut sight = Self::default();
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        let mut frames: Vec<&str> = text.split("\n\n").collect();
        if frames.pop() != Some("") {
            sight.wrong("a frame without its blank line");
        }
        for frame in frames {
            let mut event = None;
            let mut data = String::new();
            for line in frame.split('\n') {
                if let Some(name) = line.strip_prefix("event: ") {
                    event = Some(name);
                } else if let Some(piece) = line.strip_prefix("data: ") {
                    data.push_str(piece);
                }
                // Comments and fields of other names say nothing.
            }
            match dialect {
                _ if data.is_empty() => {}
                Dialect::Anthropic => sight.anthropic(event, &data),
                Dialect::OpenAi => sight.openai(&data),
            }
        }
        sight
    }

    /// Reads a body.
    pub(crate) fn of_body(dialect: Dialect, body: &[u8]) -> Self {
        let mut sight = Self::default();
        let json: Value = serde_json::from_slice(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match dialect {
            Dialect::Anthropic => {
                for block in json["content"].as_array().unwrap() {
                    sight.text += &text(&block["text"]);
                    sight.thinking += &text(&block["thinking"]);
                    if block["type"] == "tool_use" {
                        let input = block["input"].to_string();
                        sight
                            .calls
                            .push((text(&block["id"]), text(&block["name"]), input));
                    }
                }
                sight.stop = json["stop_reason"].as_str().map(str::to_owned);
            }
            Dialect::OpenAi => {
                let choice = &json["choices"][0];
                let message = &choice["message"];
                sight.text = text(&message["content"]);
                sight.thinking = text(&message["reasoning_content"]);
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let function = &call["function"];
                    let arguments = text(&function["arguments"]);
                    sight
                        .calls
                        .push((text(&call["id"]), text(&function["name"]), arguments));
                }
                sight.stop = choice["finish_reason"].as_str().map(str::to_owned);
            }
        }
        sight.ended = true;
        sight
    }

    /// Whether an SDK would take this for a finished answer, with nothing wrong in it.
    pub(crate) fn is_whole(&self, dialect: Dialect) -> bool {
        let ended = dialect == Dialect::OpenAi || self.ended;
        self.wrongs.is_empty()
            && ended
            && self.stop.is_some()
            && self.open.is_none()
            && self.calls.iter().all(|(_, _, json)| parses(json))
    }

    fn wrong(&mut self, what: &str) {
        self.wrongs.push(what.to_owned());
    }

    fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong(what);
        }
    }

    fn anthropic(&mut self, event: Option<&str>, data: &str) {
        let Ok(json) = serde_json::from_str::<Value>(data) else {
            return self.wrong("not JSON");
        };
        let kind = json["type"].as_str().unwrap_or_default().to_owned();
        // The Python SDK drops such frames.
        self.check(
            event == Some(kind.as_str()),
            "a frame without its event's name",
        );
        if kind == "ping" {
            return;
        }
        self.check(!self.ended, "something after the end");
        self.check(
            self.started || kind == "message_start",
            "something before the start",
        );
        let index = json["index"].as_u64();
        match kind.as_str() {
            "message_start" => {
                self.check(!self.started, "a second start");
                self.started = true;
            }
            "content_block_start" => {
                self.check(self.open.is_none(), "a block within a block");
                self.check(index == Some(self.next), "a block out of its turn");
                self.check(self.stop.is_none(), "a block after the stop reason");
                self.open = index;
                self.next += 1;
                let block = &json["content_block"];
                self.text += block["text"].as_str().unwrap_or_default();
                self.thinking += block["thinking"].as_str().unwrap_or_default();
                if block["type"] == "tool_use" {
                    let text = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
                    self.calls.push((text("id"), text("name"), String::new()));
                }
            }
            "content_block_delta" => {
                self.check(
                    index.is_some() && self.open == index,
                    "a delta outside of its block",
                );
                let delta = &json["delta"];
                self.text += delta["text"].as_str().unwrap_or_default();
                self.thinking += delta["thinking"].as_str().unwrap_or_default();
                if let Some(piece) = delta["partial_json"].as_str() {
                    match self.calls.last_mut() {
                        Some((_, _, arguments)) => arguments.push_str(piece),
                        None => self.wrong("arguments of no call"),
                    }
                }
            }
            "content_block_stop" => {
                self.check(
                    index.is_some() && self.open == index,
                    "the stop of another block",
                );
                self.open = None;
            }
            "message_delta" => {
                if let Some(reason) = json["delta"]["stop_reason"].as_str() {
                    self.check(self.stop.is_none(), "a second stop reason");
                    self.stop = Some(reason.to_owned());
                }
            }
            "message_stop" => self.ended = true,
            other => self.wrong(other),
        }
    }

    fn openai(&mut self, data: &str) {
        self.check(!self.ended, "something after [DONE]");
        if data == "[DONE]" {
            self.ended = true;
            return;
        }
        let Ok(json) = serde_json::from_str::<Value>(data) else {
            return self.wrong("not JSON");
        };
        self.check(json.get("error").is_none(), "an error");
        for choice in json["choices"].as_array().into_iter().flatten() {
            let delta = &choice["delta"];
            let says = delta.as_object().is_some_and(|delta| {
                let mut said = delta.iter().filter(|(name, _)| *name != "role");
                said.any(|(_, value)| !value.is_null() && value != "")
            });
            self.check(
                !says || self.stop.is_none(),
                "words after the finish reason",
            );
            self.text += delta["content"].as_str().unwrap_or_default();
            self.thinking += delta["reasoning_content"].as_str().unwrap_or_default();
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                self.call(call);
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.check(self.stop.is_none(), "a second finish reason");
                self.stop = Some(reason.to_owned());
            }
        }
    }

    /// As openai-python gathers them: by index, and texts are appended to each other.
    fn call(&mut self, call: &Value) {
        let Some(index) = call["index"]
            .as_u64()
            .and_then(|at| usize::try_from(at).ok())
        else {
            return self.wrong("a call without an index");
        };
        if index > self.calls.len() {
            return self.wrong("a call out of its turn");
        }
        if index == self.calls.len() {
            self.calls.push(Default::default());
        }
        let function = &call["function"];
        let names = call["id"].is_string() || function["name"].is_string();
        self.check(!names || self.calls[index].1.is_empty(), "marks again");
        let known = &mut self.calls[index];
        known.0 += call["id"].as_str().unwrap_or_default();
        known.1 += function["name"].as_str().unwrap_or_default();
        match &function["arguments"] {
            Value::String(piece) => known.2 += piece,
            Value::Null => {}
            _ => self.wrong("arguments that are no text"),
        }
    }
}

/// No arguments at all mean `{}`.
pub(crate) fn parses(json: &str) -> bool {
    json.trim().is_empty() || serde_json::from_str::<Value>(json).is_ok()
}
