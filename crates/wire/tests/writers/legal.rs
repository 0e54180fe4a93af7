//! Judges a written stream by the books of wire facts 2.1 and 2.2, over the bytes alone: nothing of
//! the crate is used here, so that a writer and its reader cannot agree on the same mistake.

use std::collections::BTreeMap;

use serde_json::Value;

/// The `event` and `data` of each frame; comments are left out.
pub(crate) fn frames(bytes: &[u8]) -> Vec<(Option<String>, String)> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    assert!(
        text.is_empty() || text.ends_with("\n\n"),
        "cut frame: {text:?}"
    );
    // What Python's `str.splitlines` takes for line ends beside LF.
    let line_ends = [
        '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{85}', '\u{2028}', '\u{2029}',
    ];
    assert!(!text.contains(line_ends), "a line end inside a line");
    let mut frames = Vec::new();
    for frame in text.split_terminator("\n\n") {
        let (mut event, mut data) = (None, None);
        for line in frame.split('\n') {
            if let Some(name) = line.strip_prefix("event: ") {
                assert!(event.replace(name.to_owned()).is_none(), "two names");
            } else if let Some(json) = line.strip_prefix("data: ") {
                assert!(data.replace(json.to_owned()).is_none(), "two data lines");
            } else {
                assert!(line.starts_with(':'), "not a field: {line:?}");
            }
        }
        match data {
            Some(data) => frames.push((event, data)),
            None => assert_eq!(event, None, "a name without data"),
        }
    }
    frames
}

/// A whole stream of the Messages dialect.
pub(crate) fn anthropic(bytes: &[u8]) {
    let mut state = Messages::default();
    for (event, data) in frames(bytes) {
        let json: Value = serde_json::from_str(&data).unwrap_or_else(|why| panic!("{why}: {data}"));
        let kind = json["type"].as_str().expect("a type");
        assert_eq!(event.as_deref(), Some(kind));
        assert!(
            !state.stopped || kind == "ping",
            "{kind} after message_stop"
        );
        state.frame(kind, &json);
    }
    assert!(state.stopped, "no message_stop");
}

#[derive(Default)]
struct Messages {
    started: bool,
    open: Option<(u64, String)>,
    next: u64,
    reason: bool,
    stopped: bool,
    /// The open block has its signature.
    signed: Option<u64>,
}

impl Messages {
    fn frame(&mut self, kind: &str, json: &Value) {
        match kind {
            "message_start" => self.start(&json["message"]),
            "content_block_start" => self.block_start(json),
            "content_block_delta" => self.delta(json),
            "content_block_stop" => {
                let (index, _) = self.open.take().expect("an open block");
                assert_eq!(json["index"], index);
            }
            "message_delta" => {
                assert!(self.started && self.open.is_none());
                assert!(json["delta"]["stop_reason"].is_string());
                assert!(json["usage"]["output_tokens"].is_u64());
                self.reason = true;
            }
            "message_stop" => {
                assert!(self.reason);
                self.stopped = true;
            }
            "ping" => {}
            other => panic!("unexpected {other}"),
        }
    }

    fn start(&mut self, message: &Value) {
        assert!(!self.started, "second message_start");
        self.started = true;
        assert_eq!(message["type"], "message");
        assert_eq!(message["role"], "assistant");
        assert_eq!(message["content"], Value::Array(vec![]));
        assert!(message["stop_reason"].is_null() && message["stop_sequence"].is_null());
        assert!(message["id"].is_string() && message["model"].is_string());
        for count in [
            "input_tokens",
            "output_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
        ] {
            assert!(message["usage"][count].is_u64(), "{count}");
        }
    }

    fn block_start(&mut self, json: &Value) {
        assert!(self.started && !self.reason);
        assert_eq!(self.open, None, "a block inside a block");
        assert_eq!(json["index"], self.next);
        let block = &json["content_block"];
        let kind = block["type"].as_str().expect("a block's type");
        match kind {
            "text" => assert_eq!(block["text"], ""),
            "thinking" => assert_eq!(
                (&block["thinking"], &block["signature"]),
                (&"".into(), &"".into())
            ),
            "tool_use" => {
                assert_eq!(block["input"], serde_json::json!({}));
                assert!(block["id"].is_string() && block["name"].is_string());
            }
            _ => {}
        }
        self.open = Some((self.next, kind.to_owned()));
        self.next += 1;
    }

    fn delta(&mut self, json: &Value) {
        let (index, block) = self.open.as_ref().expect("an open block");
        assert_eq!(json["index"], *index);
        let delta = &json["delta"];
        let (fits, member) = match delta["type"].as_str().expect("a delta's type") {
            "text_delta" => ("text", "text"),
            "thinking_delta" => ("thinking", "thinking"),
            "signature_delta" => ("thinking", "signature"),
            "input_json_delta" => ("tool_use", "partial_json"),
            _ => return,
        };
        assert!(block == fits || fits == "tool_use" && block == "server_tool_use");
        assert!(delta[member].is_string());
        assert!(
            member != "thinking" || self.signed != Some(*index),
            "thinking after its signature"
        );
        if member == "signature" {
            self.signed = Some(*index);
        }
    }
}

/// A whole stream of the Chat dialect.
pub(crate) fn openai(bytes: &[u8], include_usage: bool) {
    let mut all = frames(bytes);
    assert_eq!(all.pop(), Some((None, "[DONE]".to_owned())));
    let mut choices: BTreeMap<u64, Choice> = BTreeMap::new();
    let mut head = None;
    let end = all.len().saturating_sub(1);
    for (at, (event, data)) in all.into_iter().enumerate() {
        assert_eq!(event, None, "a named event");
        let json: Value = serde_json::from_str(&data).unwrap_or_else(|why| panic!("{why}: {data}"));
        assert_eq!(json["object"], "chat.completion.chunk");
        let this = (
            json["id"].clone(),
            json["model"].clone(),
            json["created"].clone(),
        );
        assert!(this.0.is_string() && this.1.is_string() && this.2.is_u64());
        assert_eq!(*head.get_or_insert_with(|| this.clone()), this);
        let list = json["choices"].as_array().expect("choices");
        if list.is_empty() {
            assert!(include_usage && at == end, "a usage chunk in the middle");
            usage(&json["usage"]);
        } else if include_usage {
            assert_eq!(json.get("usage"), Some(&Value::Null));
        } else {
            assert_eq!(json.get("usage"), None);
        }
        for choice in list {
            let index = choice["index"].as_u64().expect("an index");
            choices.entry(index).or_default().chunk(choice);
        }
    }
    assert!(!choices.is_empty());
    assert!(
        choices.values().all(|choice| choice.finished),
        "no finish reason"
    );
}

fn usage(usage: &Value) {
    let count = |name: &str| usage[name].as_u64().expect("a count");
    assert_eq!(
        count("prompt_tokens") + count("completion_tokens"),
        count("total_tokens")
    );
}

#[derive(Default)]
struct Choice {
    begun: bool,
    finished: bool,
    tools: u64,
}

impl Choice {
    fn chunk(&mut self, choice: &Value) {
        assert!(!self.finished, "a chunk after the finish reason");
        let delta = choice["delta"].as_object().expect("a delta");
        assert_eq!(
            delta.contains_key("role"),
            !self.begun,
            "the role comes once and first"
        );
        self.begun = true;
        if let Some(tools) = delta.get("tool_calls") {
            for tool in tools.as_array().expect("a list") {
                let index = tool["index"].as_u64().expect("an index");
                assert!(tool["function"]["arguments"].is_string());
                assert!(index <= self.tools);
                let opens = index == self.tools;
                assert_eq!(opens, tool["id"].is_string());
                assert_eq!(opens, tool["type"] == "function");
                assert_eq!(opens, tool["function"]["name"].is_string());
                self.tools += u64::from(opens);
            }
        }
        let reason = choice
            .get("finish_reason")
            .expect("a finish reason, or null");
        if !reason.is_null() {
            assert!(delta.is_empty());
            let words = ["stop", "length", "tool_calls", "content_filter"];
            assert!(words.contains(&reason.as_str().expect("a word")));
            self.finished = true;
        }
    }
}
