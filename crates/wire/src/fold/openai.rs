//! The fold of a Chat stream: the completion whose choices are grown chunk by chunk.
//!
//! Members of the chunks themselves (`id`, `created`, `service_tier`, ...) are taken from the first
//! chunk that tells them. Tool calls are told apart as the reader tells them apart.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Error;
use super::members::{Members, is_null, raw, string, vendor};
use crate::openai::reader::Tools;
use crate::vendor_error::is_truthy;

/// How deep objects are grown member by member; what lies deeper is replaced. The dialect's own go
/// one deep (`audio`, `logprobs`).
const DEPTH: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct Folder {
    completion: Members,
    usage: Option<Box<RawValue>>,
    choices: BTreeMap<u32, Choice>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Choice {
    /// Members of the choice beside its message (`finish_reason`, `logprobs`, ...).
    members: Members,
    message: Vec<(String, Grown)>,
    logprobs: Grown,
    tools: Tools,
    calls: Vec<Call>,
    finished: bool,
}

/// A tool call, or the legacy function call.
#[derive(Debug, Default)]
struct Call {
    members: Members,
    /// The members of `function` or `custom` but for the text that grows.
    inner: Members,
    /// `arguments` of a function, `input` of a free-text tool.
    text: String,
    custom: bool,
}

/// A value that grows by pieces: texts are joined, lists continued, objects grown member by member,
/// anything else is replaced. A null changes nothing but nothing.
#[derive(Debug, Default)]
enum Grown {
    #[default]
    Nothing,
    Text(String),
    List(Vec<Box<RawValue>>),
    Object(Vec<(String, Self)>),
    Other(Box<RawValue>),
}

// === impl Folder ===

impl Folder {
    pub(super) fn push(&mut self, text: &str) -> Result<(), Error> {
        if self.ended {
            return Err(garbage("event after [DONE]"));
        }
        if text.starts_with("[DONE]") {
            self.ended = true;
            return Ok(());
        }
        let chunk = Members::parse(text)?;
        if let Some(error) = chunk.get("error").filter(|error| is_truthy(error)) {
            return Err(vendor(Some(error)));
        }
        for choice in chunk.list("choices") {
            self.choice(Members::parse(choice.get())?)?;
        }
        for (name, value) in chunk.into_iter() {
            match name.as_str() {
                "choices" | "obfuscation" | "error" | "object" => {}
                "usage" if is_null(&value) => {}
                "usage" => self.usage = Some(value),
                _ => self.head(&name, value),
            }
        }
        Ok(())
    }

    /// The members in the order of a vendor's body. No `usage` is made up if none came.
    pub(super) fn finish(self) -> Result<Vec<u8>, Error> {
        if self.choices.is_empty() {
            return Err(incomplete("no choice"));
        }
        let mut choices = Vec::with_capacity(self.choices.len());
        for (index, choice) in self.choices {
            choices.push(choice.finish(index)?);
        }
        let mut body = Members::default();
        if let Some(id) = self.completion.get("id") {
            body.set("id", id.to_owned());
        }
        body.set("object", raw("chat.completion"));
        for name in ["created", "model"] {
            if let Some(value) = self.completion.get(name) {
                body.set(name, value.to_owned());
            }
        }
        body.set("choices", raw(&choices));
        if let Some(usage) = self.usage {
            body.set("usage", usage);
        }
        body.merge(self.completion);
        Ok(raw(&body).get().as_bytes().to_vec())
    }

    /// Takes over a member of the chunk, unless one with a content is known: Azure's first chunk
    /// has empty ones.
    fn head(&mut self, name: &str, value: Box<RawValue>) {
        let is_known = |known: &RawValue| is_truthy(known) && known.get() != "[]";
        if !self.completion.get(name).is_some_and(is_known) {
            self.completion.set(name, value);
        }
    }

    fn choice(&mut self, choice: Members) -> Result<(), Error> {
        let index = choice.index("index").unwrap_or(0);
        let state = self.choices.entry(index).or_default();
        if let Some(error) = choice.get("error").filter(|error| is_truthy(error)) {
            return Err(vendor(Some(error)));
        }
        if let Some(delta) = choice.object("delta") {
            state.delta(delta)?;
        }
        for (name, value) in choice.into_iter() {
            match name.as_str() {
                "index" | "delta" | "error" => {}
                "message" => return Err(garbage("a whole message in a stream")),
                "logprobs" => state.logprobs.grow(&value, DEPTH),
                "finish_reason" => state.finish_reason(value),
                _ if is_null(&value) && state.members.get(&name).is_some() => {}
                _ => state.members.set(&name, value),
            }
        }
        Ok(())
    }
}

// === impl Choice ===

impl Choice {
    fn finish_reason(&mut self, said: Box<RawValue>) {
        if is_truthy(&said) {
            self.finished = true;
            self.members.set("finish_reason", said);
        }
    }

    fn delta(&mut self, delta: Members) -> Result<(), Error> {
        for (name, value) in delta.into_iter() {
            if self.finished && matches!(name.as_str(), "content" | "tool_calls") {
                let empty = !is_truthy(&value) || value.get() == "[]";
                if !empty {
                    return Err(garbage("content after the finish reason"));
                }
            }
            match name.as_str() {
                "tool_calls" => {
                    let calls: Option<Vec<Members>> = serde_json::from_str(value.get())
                        .map_err(|_| garbage("malformed tool calls"))?;
                    for call in calls.into_iter().flatten() {
                        self.tool(call)?;
                    }
                }
                "role" => *self.member(&name) = Grown::Other(value),
                _ => self.member(&name).grow(&value, DEPTH),
            }
        }
        Ok(())
    }

    fn tool(&mut self, piece: Members) -> Result<(), Error> {
        let custom = piece.get("custom").is_some_and(is_truthy);
        let inner = piece.object(if custom { "custom" } else { "function" });
        let inner = inner.unwrap_or_default();
        let index = piece.index("index");
        let id = piece.string("id").unwrap_or_default();
        let name = inner.string("name").unwrap_or_default();
        let text = inner.get(if custom { "input" } else { "arguments" });
        let text = text.map(json_text).unwrap_or_default();
        let known = self.tools.find(index, &id, &name).map(|tool| tool.block);
        let at = match known {
            Some(at) => at,
            None if name.is_empty() => return Err(garbage("tool call without a name")),
            None if self.tools.is_full() => return Err(garbage("too many tool calls")),
            None => {
                let at = u32::try_from(self.calls.len()).map_err(|_| garbage("too many calls"))?;
                self.calls.push(Call {
                    custom,
                    ..Call::default()
                });
                self.tools.open(index, &id, &name, at).block
            }
        };
        if let Some(tool) = self.tools.find(index, &id, &name) {
            tool.grow(&text);
        }
        if let Some(call) = self.calls.get_mut(at as usize) {
            call.grow(piece, inner, &text);
        }
        Ok(())
    }

    /// The message's member with this name, made if there is none.
    fn member(&mut self, name: &str) -> &mut Grown {
        member(&mut self.message, name)
    }

    fn finish(self, index: u32) -> Result<Members, Error> {
        if !self.finished {
            return Err(incomplete("a choice without a finish reason"));
        }
        let mut message = Members::default();
        message.set("role", raw("assistant"));
        message.set("content", raw(&()));
        for (name, value) in self.message {
            message.set(&name, value.finish());
        }
        if !self.calls.is_empty() {
            let calls: Vec<Members> = self.calls.into_iter().map(Call::finish).collect();
            message.set("tool_calls", raw(&calls));
        }
        let mut choice = Members::default();
        choice.set("index", raw(&index));
        choice.set("message", raw(&message));
        choice.set("logprobs", self.logprobs.finish());
        choice.merge(self.members);
        Ok(choice)
    }
}

// === impl Call ===

impl Call {
    fn grow(&mut self, piece: Members, inner: Members, text: &str) {
        self.text.push_str(text);
        for (name, value) in piece.into_iter() {
            if !matches!(name.as_str(), "index" | "function" | "custom") && is_truthy(&value) {
                self.members.set(&name, value);
            }
        }
        for (name, value) in inner.into_iter() {
            if !matches!(name.as_str(), "arguments" | "input") && is_truthy(&value) {
                self.inner.set(&name, value);
            }
        }
    }

    fn finish(mut self) -> Members {
        let (kind, text) = if self.custom {
            ("custom", "input")
        } else {
            ("function", "arguments")
        };
        self.inner.set(text, raw(&self.text));
        let mut call = Members::default();
        call.set("id", raw(""));
        call.set("type", raw(kind));
        call.set(kind, raw(&self.inner));
        call.merge(self.members);
        call
    }
}

// === impl Grown ===

impl Grown {
    fn grow(&mut self, value: &RawValue, depth: u8) {
        if let Some(text) = string(value) {
            return self.text(text);
        }
        if let Ok(list) = serde_json::from_str::<Vec<Box<RawValue>>>(value.get()) {
            return self.list(list);
        }
        match serde_json::from_str::<Members>(value.get()) {
            Ok(members) if depth > 0 => self.object(members, depth - 1),
            _ if is_null(value) => {}
            _ => *self = Self::Other(value.to_owned()),
        }
    }

    fn text(&mut self, piece: String) {
        match self {
            Self::Text(text) => text.push_str(&piece),
            // Mistral: thinking comes as parts, the text after it as strings.
            Self::List(_) if piece.is_empty() => {}
            Self::List(list) => {
                let mut part = Members::default();
                part.set("type", raw("text"));
                part.set("text", raw(&piece));
                list.push(raw(&part));
            }
            _ => *self = Self::Text(piece),
        }
    }

    fn list(&mut self, more: Vec<Box<RawValue>>) {
        let text = match self {
            Self::List(list) => return list.extend(more),
            Self::Text(text) => std::mem::take(text),
            _ => String::new(),
        };
        *self = Self::List(Vec::new());
        self.text(text);
        self.list(more);
    }

    fn object(&mut self, members: Members, depth: u8) {
        if !matches!(self, Self::Object(_)) {
            *self = Self::Object(Vec::new());
        }
        if let Self::Object(grown) = self {
            for (name, value) in members.into_iter() {
                match (member(grown, &name), name.as_str()) {
                    // An id or a name is told, not grown.
                    (known, "id" | "name") if is_truthy(&value) => *known = Self::Other(value),
                    (known, _) => known.grow(&value, depth),
                }
            }
        }
    }

    fn finish(self) -> Box<RawValue> {
        match self {
            Self::Nothing => raw(&()),
            Self::Text(text) => raw(&text),
            Self::List(list) => raw(&list),
            Self::Object(grown) => {
                let mut members = Members::default();
                for (name, value) in grown {
                    members.set(&name, value.finish());
                }
                raw(&members)
            }
            Self::Other(value) => value,
        }
    }
}

/// The member with this name, made if there is none.
fn member<'a>(members: &'a mut Vec<(String, Grown)>, name: &str) -> &'a mut Grown {
    let at = members.iter().position(|(known, _)| known == name);
    let at = at.unwrap_or_else(|| {
        members.push((name.to_owned(), Grown::Nothing));
        members.len() - 1
    });
    &mut members[at].1
}

/// A piece of JSON text: a string's own text, nothing for null, any other value as written.
fn json_text(value: &RawValue) -> String {
    match string(value) {
        Some(text) => text,
        None if is_null(value) => String::new(),
        None => value.get().to_owned(),
    }
}

fn garbage(why: &'static str) -> Error {
    Error::Garbage { why }
}

fn incomplete(missing: &'static str) -> Error {
    Error::Incomplete { missing }
}
