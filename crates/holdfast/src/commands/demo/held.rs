//! What a program holds of an answer: text and tool calls, gathered as the vendors' SDKs gather them.
//!
//! It believes whatever it is sent, as the SDKs do; whether it holds the right thing is judged in
//! `verdict`.

use serde_json::Value;

use super::plan::Dialect;

/// A tool call as it would be run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    /// JSON, if it is whole.
    pub(super) arguments: String,
}

/// An answer as far as it has come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Held {
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
    /// Why the vendor stopped, in its own word.
    pub(super) finish: Option<String>,
    /// The protocol's own end was seen: `message_stop`, `[DONE]`, or a whole body.
    pub(super) terminal: bool,
    /// Anthropic: for each block, its place among the calls, or none for a text.
    blocks: Vec<Option<usize>>,
}

/// What one event of a stream meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// The answer went on.
    Content,
    /// Nothing but a sign of life.
    Ping,
    /// The last event: an SDK reads no further.
    Terminal,
}

/// Why an SDK raises an error in the middle of reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Raised {
    /// The vendor or the gateway said so in the stream.
    ErrorEvent,
    /// The bytes are not what the protocol has.
    Unreadable,
}

impl Held {
    /// Nothing at all that a program could use.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty()
    }

    /// The protocol's promise that this is all: in Chat the finish reason is enough, and `[DONE]` may
    /// be missing.
    pub(super) fn is_closed(&self, dialect: Dialect) -> bool {
        self.terminal || (dialect == Dialect::OpenAi && self.finish.is_some())
    }

    /// Takes in the data of one event.
    pub(super) fn event(&mut self, dialect: Dialect, data: &str) -> Result<Event, Raised> {
        if dialect == Dialect::OpenAi && data == "[DONE]" {
            self.terminal = true;
            return Ok(Event::Terminal);
        }
        let event: Value = serde_json::from_str(data).map_err(|_| Raised::Unreadable)?;
        match dialect {
            Dialect::Anthropic => self.anthropic(&event),
            Dialect::OpenAi => self.openai(&event),
        }
    }

    /// Takes in a whole body of a call without `stream`.
    pub(super) fn body(&mut self, dialect: Dialect, body: &[u8]) -> Result<(), Raised> {
        let body: Value = serde_json::from_slice(body).map_err(|_| Raised::Unreadable)?;
        self.terminal = true;
        match dialect {
            Dialect::Anthropic => {
                self.finish = word(&body["stop_reason"]);
                for block in list(&body["content"]) {
                    self.text.push_str(text(&block["text"]));
                    if block["type"] == "tool_use" {
                        self.calls.push(Call {
                            name: text(&block["name"]).to_owned(),
                            arguments: block["input"].to_string(),
                        });
                    }
                }
            }
            Dialect::OpenAi => {
                let choice = &body["choices"][0];
                self.finish = word(&choice["finish_reason"]);
                self.text.push_str(text(&choice["message"]["content"]));
                for call in list(&choice["message"]["tool_calls"]) {
                    self.chat_call(call);
                }
            }
        }
        Ok(())
    }

    fn anthropic(&mut self, event: &Value) -> Result<Event, Raised> {
        match text(&event["type"]) {
            "error" => return Err(Raised::ErrorEvent),
            "ping" => return Ok(Event::Ping),
            "message_stop" => {
                self.terminal = true;
                return Ok(Event::Terminal);
            }
            "content_block_start" => {
                let block = &event["content_block"];
                let is_tool = block["type"] == "tool_use";
                self.blocks.push(is_tool.then_some(self.calls.len()));
                if is_tool {
                    let name = text(&block["name"]).to_owned();
                    self.calls.push(Call {
                        name,
                        ..Call::default()
                    });
                }
            }
            "content_block_delta" => {
                let block = event["index"]
                    .as_u64()
                    .and_then(|index| self.blocks.get(usize::try_from(index).ok()?));
                match block {
                    None => return Err(Raised::Unreadable),
                    Some(None) => self.text.push_str(text(&event["delta"]["text"])),
                    Some(Some(call)) => self.calls[*call]
                        .arguments
                        .push_str(text(&event["delta"]["partial_json"])),
                }
            }
            "message_delta" => self.finish = word(&event["delta"]["stop_reason"]),
            _ => {}
        }
        Ok(Event::Content)
    }

    fn openai(&mut self, event: &Value) -> Result<Event, Raised> {
        if !event["error"].is_null() {
            return Err(Raised::ErrorEvent);
        }
        let choice = &event["choices"][0];
        self.text.push_str(text(&choice["delta"]["content"]));
        for call in list(&choice["delta"]["tool_calls"]) {
            self.chat_call(call);
        }
        if let Some(finish) = word(&choice["finish_reason"]) {
            self.finish = Some(finish);
        }
        Ok(Event::Content)
    }

    /// A tool call of Chat, or a piece of one.
    fn chat_call(&mut self, call: &Value) {
        let place = call["index"]
            .as_u64()
            .and_then(|index| usize::try_from(index).ok())
            .unwrap_or(self.calls.len());
        if place >= self.calls.len() {
            self.calls.push(Call::default());
        }
        let place = place.min(self.calls.len() - 1);
        let held = &mut self.calls[place];
        held.name.push_str(text(&call["function"]["name"]));
        held.arguments
            .push_str(text(&call["function"]["arguments"]));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn word(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
