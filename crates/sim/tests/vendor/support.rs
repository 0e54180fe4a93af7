//! A raw-socket client that reports what was on the wire: the head, the body, how it was framed and how it ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use holdfast_sim::Dialect;
use serde_json::{Value, json};

/// How the bytes ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The framing says that the body is complete.
    Framed,
    /// FIN before the framing was satisfied, or a body without framing.
    Fin,
    Reset,
    /// Nothing more came.
    Silent,
    /// The bytes are no HTTP, or a chunk header is no number.
    Malformed,
}

#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Heard {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// How long nothing must come before that is called silence.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Call {
    pub(crate) dialect: Dialect,
    pub(crate) body: Value,
}

impl Call {
    pub(crate) fn new(dialect: Dialect, model: &str, stream: bool) -> Self {
        let body = json!({"model": model, "max_tokens": 1000, "stream": stream,
            "messages": [{"role": "user", "content": "[[seed:11 words:30]]"}]});
        Self { dialect, body }
    }

    pub(crate) fn tools(mut self) -> Self {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]});
        self.body["tools"] = match self.dialect {
            Dialect::Anthropic => json!([{"name": "weather", "input_schema": schema}]),
            Dialect::OpenAi => {
                json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}])
            }
        };
        self
    }

    pub(crate) fn ask(mut self, text: &str) -> Self {
        self.body["messages"][0]["content"] = json!(text);
        self
    }

    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.body[name] = value;
        self
    }

    pub(crate) fn send(&self, address: SocketAddr) -> Heard {
        let path = match self.dialect {
            Dialect::Anthropic => "/v1/messages",
            Dialect::OpenAi => "/v1/chat/completions",
        };
        request(address, "POST", path, &self.body.to_string(), PATIENCE)
    }
}

/// One request on a connection of its own. `patience` is how long silence lasts before it is called so.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> Heard {
    let mut stream = TcpStream::connect(address).unwrap();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: sim\r\nanthropic-version: 2023-06-01\r\nauthorization: Bearer key\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A vendor that refuses may be gone already; then reading tells how.
    let _ = stream.write_all(text.as_bytes());
    let heard = listen(&mut stream, patience);
    let _ = stream.shutdown(Shutdown::Both);
    heard
}

/// Reads one response.
pub(crate) fn listen(stream: &mut TcpStream, patience: Duration) -> Heard {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65536];
    let mut pings = 0;
    let end = loop {
        if let Some(complete) = framed(&bytes) {
            break complete;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break End::Fin,
            Ok(count) => {
                pings = if is_ping(&buffer[..count]) {
                    pings + 1
                } else {
                    0
                };
                if pings == PINGS_ARE_SILENCE {
                    break End::Silent;
                }
                bytes.extend_from_slice(&buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break End::Reset,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break End::Silent;
            }
            Err(error) => panic!("{error}"),
        }
    };
    let split = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|place| place + 4);
    let head = String::from_utf8_lossy(&bytes[..split.unwrap_or(bytes.len())]).to_lowercase();
    let status = head
        .strip_prefix("http/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let rest = split.map_or(&[][..], |split| &bytes[split..]);
    let body = if head.contains("transfer-encoding: chunked") {
        dechunk(rest).0
    } else {
        rest.to_vec()
    };
    Heard {
        status,
        head,
        body,
        end,
    }
}

/// So many reads in a row that brought nothing but a ping are silence.
const PINGS_ARE_SILENCE: usize = 5;

fn is_ping(bytes: &[u8]) -> bool {
    [
        "event: ping\ndata: {\"type\":\"ping\"}\n\n\r\n",
        ": keep-alive\n\n\r\n",
        "1\r\n\n\r\n",
    ]
    .iter()
    .any(|ping| bytes.ends_with(ping.as_bytes()))
}

/// Whether the bytes are a complete response, or can never become one.
fn framed(bytes: &[u8]) -> Option<End> {
    if bytes.len() >= 5 && !bytes.starts_with(b"HTTP/") {
        return Some(End::Malformed);
    }
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..split]).to_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return dechunk(&bytes[split..]).1;
    }
    let length: usize = head
        .split("content-length: ")
        .nth(1)?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()?;
    (bytes.len() - split >= length).then_some(End::Framed)
}

/// The bytes inside the chunks, and whether the last chunk came.
fn dechunk(mut rest: &[u8]) -> (Vec<u8>, Option<End>) {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else {
            return (body, None);
        };
        let Ok(size) = usize::from_str_radix(&String::from_utf8_lossy(&rest[..line]), 16) else {
            return (body, Some(End::Malformed));
        };
        rest = &rest[line + 2..];
        if size == 0 {
            return (body, (rest.len() >= 2).then_some(End::Framed));
        }
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        if rest.len() < size + 2 {
            return (body, None);
        }
        rest = &rest[size + 2..];
    }
}

/// What a strict client makes of an answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Made {
    pub(crate) text: String,
    /// `(name, arguments)` of each call.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) stop: Option<String>,
    pub(crate) terminal: bool,
    pub(crate) error: bool,
    /// Something broke the dialect's rules.
    pub(crate) broken: bool,
}

/// Reads an answer by the dialect's rules.
pub(crate) fn make(dialect: Dialect, stream: bool, heard: &Heard) -> Made {
    match (dialect, stream) {
        (Dialect::Anthropic, true) => anthropic_stream(&heard.text()),
        (Dialect::OpenAi, true) => openai_stream(&heard.text()),
        (Dialect::Anthropic, false) => anthropic_body(&heard.json()),
        (Dialect::OpenAi, false) => openai_body(&heard.json()),
    }
}

/// The `data` of each event that was closed by a blank line.
fn events(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let mut parts: Vec<&str> = text.split("\n\n").collect();
    parts.pop();
    parts
        .iter()
        .map(|part| {
            part.lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect::<Vec<_>>()
                .join("\n")
        })
        .filter(|data| !data.is_empty())
        .collect()
}

fn anthropic_stream(text: &str) -> Made {
    let mut made = Made::default();
    let mut open: Vec<u64> = Vec::new();
    let mut started = false;
    for data in events(text) {
        let Ok(event) = serde_json::from_str::<Value>(&data) else {
            made.broken = true;
            continue;
        };
        let index = event["index"].as_u64().unwrap_or(u64::MAX);
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                made.broken |= started;
                started = true;
            }
            "content_block_start" => {
                made.broken |= open.contains(&index) || !started;
                open.push(index);
                if event["content_block"]["type"] == "tool_use" {
                    made.calls.push((
                        event["content_block"]["name"].as_str().unwrap().to_owned(),
                        String::new(),
                    ));
                }
            }
            "content_block_delta" => {
                made.broken |= !open.contains(&index) || made.stop.is_some();
                made.text
                    .push_str(event["delta"]["text"].as_str().unwrap_or_default());
                if let (Some(call), Some(piece)) = (
                    made.calls.last_mut(),
                    event["delta"]["partial_json"].as_str(),
                ) {
                    call.1.push_str(piece);
                }
            }
            "content_block_stop" => {
                made.broken |= !open.contains(&index);
                open.retain(|other| *other != index);
            }
            "message_delta" => {
                made.stop = event["delta"]["stop_reason"].as_str().map(str::to_owned);
            }
            "message_stop" => made.terminal = true,
            "error" => made.error = true,
            _ => {}
        }
    }
    made.broken |= !open.is_empty() || !started;
    made
}

fn openai_stream(text: &str) -> Made {
    let mut made = Made::default();
    for data in events(text) {
        if data == "[DONE]" {
            made.terminal = true;
            continue;
        }
        let Ok(event) = serde_json::from_str::<Value>(&data) else {
            made.broken = true;
            continue;
        };
        made.error |= event["error"].is_object();
        let Some(choice) = event["choices"].get(0) else {
            continue;
        };
        let delta = &choice["delta"];
        made.broken |=
            made.stop.is_some() && delta.as_object().is_some_and(|members| !members.is_empty());
        made.text
            .push_str(delta["content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let named = call["id"].is_string() && call["function"]["name"].is_string();
            let known = made
                .calls
                .iter()
                .any(|(name, _)| call["function"]["name"] == name.as_str());
            if named && !known {
                made.calls.push((
                    call["function"]["name"].as_str().unwrap().to_owned(),
                    String::new(),
                ));
            }
            if let Some(last) = made.calls.last_mut() {
                last.1
                    .push_str(call["function"]["arguments"].as_str().unwrap_or_default());
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            made.stop = Some(reason.to_owned());
        }
    }
    // `[DONE]` is no part of the answer.
    made.terminal |= made.stop.is_some();
    made
}

fn anthropic_body(body: &Value) -> Made {
    let mut made = Made {
        error: body["type"] == "error",
        broken: body["type"] != "message",
        terminal: true,
        ..Made::default()
    };
    for block in body["content"].as_array().into_iter().flatten() {
        made.text
            .push_str(block["text"].as_str().unwrap_or_default());
        if block["type"] == "tool_use" {
            made.calls.push((
                block["name"].as_str().unwrap().to_owned(),
                block["input"].to_string(),
            ));
        }
    }
    made.stop = body["stop_reason"].as_str().map(str::to_owned);
    made
}

fn openai_body(body: &Value) -> Made {
    let choice = &body["choices"][0];
    let mut made = Made {
        error: body["error"].is_object(),
        broken: !choice.is_object(),
        terminal: true,
        ..Made::default()
    };
    made.text
        .push_str(choice["message"]["content"].as_str().unwrap_or_default());
    for call in choice["message"]["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
    {
        made.calls.push((
            call["function"]["name"].as_str().unwrap().to_owned(),
            call["function"]["arguments"].as_str().unwrap().to_owned(),
        ));
    }
    made.stop = choice["finish_reason"].as_str().map(str::to_owned);
    made
}
