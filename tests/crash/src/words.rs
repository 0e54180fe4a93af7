//! What a vendor of the harness says, and how a client knows that it holds a whole answer.
//!
//! The request carries a marker (`<<key sick=1>>`); the answer's text repeats it with the number of the
//! vendor's call and a sum over everything before, so half a text, two joined ones or another key's are
//! told from a whole one. No two calls are ever answered alike.

use serde_json::{Value, json};

/// The vendors' two protocols.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    Anthropic,
    OpenAi,
}

/// The route's name in the gateway's configuration, by dialect.
impl Dialect {
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::Anthropic => "claude",
            Self::OpenAi => "chat",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Anthropic => "/v1/messages",
            Self::OpenAi => "/v1/chat/completions",
        }
    }

    pub(crate) fn of_path(path: &str) -> Option<Self> {
        [Self::Anthropic, Self::OpenAi]
            .into_iter()
            .find(|dialect| dialect.path() == path)
    }
}

/// What a prompt tells the vendor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Marker {
    pub(crate) key: String,
    /// So many first calls fail.
    pub(crate) sick: u32,
    /// How long the vendor takes, in milliseconds, at least.
    pub(crate) slow: u64,
}

impl Marker {
    pub(crate) fn prompt(&self) -> String {
        format!("<<{} {} {}>>", self.key, self.sick, self.slow)
    }

    /// The first marker in a text.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let inner = text.split_once("<<")?.1.split_once(">>")?.0;
        let mut parts = inner.split(' ');
        Some(Self {
            key: parts.next()?.to_owned(),
            sick: parts.next()?.parse().ok()?,
            slow: parts.next()?.parse().ok()?,
        })
    }
}

/// A model call's body.
pub(crate) fn call_body(dialect: Dialect, stream: bool, marker: &Marker) -> Value {
    json!({
        "model": dialect.model(),
        "max_tokens": 5000,
        "stream": stream,
        "messages": [{"role": "user", "content": marker.prompt()}],
    })
}

/// The text of call number `call`, in pieces.
pub(crate) fn pieces(key: &str, call: u64) -> Vec<String> {
    let mut pieces = vec![format!("call {call} of {key}:")];
    let words = 3 + call % 9;
    pieces.extend((0..words).map(|word| format!(" word{}", call * 31 + word * 7)));
    let so_far: String = pieces.concat();
    pieces.push(format!(" sum {}", sum(&so_far)));
    pieces
}

/// The number of the call, if `text` is the whole answer to `key`.
pub(crate) fn whole_text(key: &str, text: &str) -> Option<u64> {
    let call = text
        .strip_prefix("call ")?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    (pieces(key, call).concat() == text).then_some(call)
}

fn sum(text: &str) -> u64 {
    // FNV-1a: enough to tell a cut text, and the same on every machine.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A whole answer without streaming.
pub(crate) fn plain(dialect: Dialect, key: &str, call: u64) -> Value {
    let text = pieces(key, call).concat();
    match dialect {
        Dialect::Anthropic => json!({
            "id": format!("msg_{call}"), "type": "message", "role": "assistant", "model": "sim",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 5, "output_tokens": 9},
        }),
        Dialect::OpenAi => json!({
            "id": format!("chatcmpl-{call}"), "object": "chat.completion", "created": 1_781_999_999, "model": "sim",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null},
                         "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14},
        }),
    }
}

/// The events of a stream, one for each piece and those around them.
pub(crate) fn events(dialect: Dialect, key: &str, call: u64) -> Vec<String> {
    match dialect {
        Dialect::Anthropic => anthropic_events(key, call),
        Dialect::OpenAi => openai_events(key, call),
    }
}

fn anthropic_events(key: &str, call: u64) -> Vec<String> {
    let event = |value: Value| {
        let name = value["type"].as_str().unwrap_or_default().to_owned();
        format!("event: {name}\ndata: {value}\n\n")
    };
    let mut events = vec![
        event(json!({"type": "message_start", "message": {
            "id": format!("msg_{call}"), "type": "message", "role": "assistant", "model": "sim", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 1}}})),
        event(
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
    ];
    events.extend(pieces(key, call).into_iter().map(|piece| {
        event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}))
    }));
    events.extend([
        event(json!({"type": "content_block_stop", "index": 0})),
        event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": 9}})),
        event(json!({"type": "message_stop"})),
    ]);
    events
}

fn openai_events(key: &str, call: u64) -> Vec<String> {
    let chunk = |delta: &Value, finish: Option<&str>| {
        let value = json!({
            "id": format!("chatcmpl-{call}"), "object": "chat.completion.chunk", "created": 1_781_999_999,
            "model": "sim",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]});
        format!("data: {value}\n\n")
    };
    let mut events = vec![chunk(&json!({"role": "assistant", "content": ""}), None)];
    let texts = pieces(key, call);
    events.extend(
        texts
            .into_iter()
            .map(|piece| chunk(&json!({"content": piece}), None)),
    );
    events.push(chunk(&json!({}), Some("stop")));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// What a client made of the bytes of a 200.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    /// The dialect's own end was seen, and the text is this call's, whole.
    Whole { call: u64 },
    /// The dialect's own end was not seen.
    Unfinished,
    /// The dialect's end was seen, and what is before it is not a whole answer to this key.
    Wrong,
}

/// Reads a plain body, of which the transport said that it is all.
pub(crate) fn read_plain(dialect: Dialect, key: &str, body: &[u8]) -> Reading {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Reading::Wrong;
    };
    let (text, stop) = match dialect {
        Dialect::Anthropic => (&value["content"][0]["text"], &value["stop_reason"]),
        Dialect::OpenAi => (
            &value["choices"][0]["message"]["content"],
            &value["choices"][0]["finish_reason"],
        ),
    };
    judge(key, text.as_str().unwrap_or_default(), stop.as_str())
}

/// Reads what came of a stream; whether the transport ended is not asked.
pub(crate) fn read_stream(dialect: Dialect, key: &str, body: &[u8]) -> Reading {
    let text = String::from_utf8_lossy(body);
    let (mut said, mut stop, mut ended) = (String::new(), None, false);
    // The last part is no event: its blank line has not come.
    let mut events: Vec<&str> = text.split("\n\n").collect();
    events.pop();
    let data = events.iter().filter_map(|event| {
        let line = event.lines().find(|line| line.starts_with("data:"))?;
        Some(line["data:".len()..].trim())
    });
    for data in data {
        if dialect == Dialect::OpenAi && data == "[DONE]" {
            ended = true;
            continue;
        }
        let Ok(value) = serde_json::from_str::<Value>(data) else {
            return Reading::Wrong;
        };
        if value["error"].is_object() {
            return Reading::Unfinished;
        }
        let delta = match dialect {
            Dialect::Anthropic => &value["delta"]["text"],
            Dialect::OpenAi => &value["choices"][0]["delta"]["content"],
        };
        said.push_str(delta.as_str().unwrap_or_default());
        let reason = match dialect {
            Dialect::Anthropic => &value["delta"]["stop_reason"],
            Dialect::OpenAi => &value["choices"][0]["finish_reason"],
        };
        stop = reason.as_str().map(str::to_owned).or(stop);
        ended |= value["type"] == "message_stop";
    }
    if ended {
        judge(key, &said, stop.as_deref())
    } else {
        Reading::Unfinished
    }
}

fn judge(key: &str, text: &str, stop: Option<&str>) -> Reading {
    match (whole_text(key, text), stop) {
        (Some(call), Some("end_turn" | "stop")) => Reading::Whole { call },
        _ => Reading::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAi];

    #[test]
    fn markers_come_back() {
        let marker = Marker {
            key: "k-7".to_owned(),
            sick: 2,
            slow: 15,
        };
        for dialect in BOTH {
            let body = call_body(dialect, true, &marker).to_string();
            assert_eq!(Marker::find(&body), Some(marker.clone()));
        }
        assert_eq!(Marker::find("no marker"), None);
    }

    #[test]
    fn every_strict_prefix_of_a_stream_is_unfinished() {
        for dialect in BOTH {
            let whole = events(dialect, "k", 12).concat();
            assert_eq!(
                read_stream(dialect, "k", whole.as_bytes()),
                Reading::Whole { call: 12 }
            );
            for end in 0..whole.len() {
                let reading = read_stream(dialect, "k", &whole.as_bytes()[..end]);
                assert_eq!(reading, Reading::Unfinished, "{end} bytes");
            }
        }
    }

    #[test]
    fn an_end_without_its_text_is_wrong() {
        for dialect in BOTH {
            let mut events = events(dialect, "k", 12);
            events.remove(4);
            let cut = events.concat();
            assert_eq!(read_stream(dialect, "k", cut.as_bytes()), Reading::Wrong);
            let other = plain(dialect, "other", 3).to_string();
            assert_eq!(read_plain(dialect, "k", other.as_bytes()), Reading::Wrong);
            let own = plain(dialect, "k", 3).to_string();
            assert_eq!(
                read_plain(dialect, "k", own.as_bytes()),
                Reading::Whole { call: 3 }
            );
            assert_eq!(
                read_plain(dialect, "k", &own.as_bytes()[..own.len() - 1]),
                Reading::Wrong
            );
        }
    }

    #[test]
    fn an_error_in_a_stream_is_no_end() {
        let events = events(Dialect::OpenAi, "k", 12);
        let told = format!(
            "{}data: {{\"error\":{{\"message\":\"HF-012\"}}}}\n\n",
            events[..3].concat()
        );
        assert_eq!(
            read_stream(Dialect::OpenAi, "k", told.as_bytes()),
            Reading::Unfinished
        );
    }
}
