//! What a request asks for, in words of neither dialect, and what a vendor refuses about it.
//!
//! Reads only what an answer depends on; every other field is accepted and ignored. Markers such as
//! `[[seed:7 words:20]]` in the last user text steer the answer. The readers of the two dialects are in
//! `ask/anthropic.rs` and `ask/openai.rs`; they were written from the vendors' documents, not from Holdfast.

mod anthropic;
mod openai;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::text;

/// The wire protocol of a request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `POST /v1/messages`.
    Anthropic,
    /// `POST /v1/chat/completions`.
    OpenAi,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
        })
    }
}

/// A tool that the caller offers.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

/// Whether the model may, must or must not call a tool.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Choice {
    #[default]
    Auto,
    Forbidden,
    Any,
    Named(String),
}

/// Where the conversation stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Turn {
    /// The last turn is the user's question.
    #[default]
    Question,
    /// The last turn brings tool results.
    ToolResult,
    /// An assistant text (a prefix of the deterministic text) is to be continued.
    Continue(String),
    /// A paused turn was sent back; its text so far.
    Paused(String),
}

/// The shape that the caller wants the text to have.
#[derive(Clone, Debug, Default)]
pub(crate) enum Shape {
    #[default]
    Free,
    AnyJson,
    Schema(Value),
}

/// What an answer depends on.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) dialect: Dialect,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) limit: Option<usize>,
    pub(crate) stops: Vec<String>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: Choice,
    pub(crate) shape: Shape,
    pub(crate) turn: Turn,
    pub(crate) thinking: bool,
    pub(crate) markers: Markers,
    pub(crate) input_tokens: usize,
}

impl Ask {
    /// The deterministic text that this conversation leads to.
    pub(crate) fn full_text(&self) -> String {
        text::make_text(self.markers.seed, self.markers.words)
    }
}

/// A request that the vendor would refuse.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error",
            code: None,
            message: message.into(),
        }
    }
}

/// Reads and checks a request body.
pub(crate) fn read(
    dialect: Dialect,
    version: Option<&str>,
    body: &[u8],
    rules: Rules,
) -> Result<Ask, Refusal> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Refusal::bad(format!("could not parse the request body as JSON: {error}"))
    })?;
    if !value.is_object() {
        return Err(Refusal::bad("the request body is not an object"));
    }
    let mut ask = match dialect {
        Dialect::Anthropic => anthropic::read(&value, version, rules)?,
        Dialect::OpenAi => openai::read(&value)?,
    };
    // About four bytes a token, as everywhere.
    ask.input_tokens = body.len().div_ceil(4);
    Ok(ask)
}

/// How strict the vendor is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// `max_tokens` may be absent: the `count_tokens` endpoint.
    pub(crate) counting: bool,
    /// A trailing assistant turn is refused, as current Anthropic models do.
    pub(crate) refuse_prefill: bool,
}

/// The `[[...]]` markers of a question.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one marker that is there or not"
)]
pub(crate) struct Markers {
    pub(crate) seed: u64,
    pub(crate) words: usize,
    /// How many parallel calls to make.
    pub(crate) tools: usize,
    pub(crate) tool: Option<String>,
    /// Answer in text although tools are offered.
    pub(crate) text: bool,
    /// Say something before the tool call.
    pub(crate) say: bool,
    pub(crate) pause: bool,
    pub(crate) thinking: bool,
    pub(crate) overlap: usize,
    /// `(surface name or all, fault)`.
    pub(crate) faults: Vec<(Option<String>, String)>,
}

/// Words of an answer when no marker says otherwise.
const DEFAULT_WORDS: usize = 40;
const MAX_WORDS: usize = 200_000;

impl Markers {
    pub(crate) fn read(question: &str) -> Self {
        let mut markers = Self {
            seed: u64::from(crc32fast::hash(question.as_bytes())),
            words: DEFAULT_WORDS,
            tools: 1,
            tool: None,
            text: false,
            say: false,
            pause: false,
            thinking: false,
            overlap: 0,
            faults: Vec::new(),
        };
        let mut rest = question;
        while let Some((_, after)) = rest.split_once("[[") {
            let Some((inside, next)) = after.split_once("]]") else {
                break;
            };
            markers.take(inside.trim());
            rest = next;
        }
        markers
    }

    fn take(&mut self, inside: &str) {
        if let Some(named) = inside.strip_prefix("fault") {
            if let Some(fault) = named.strip_prefix(':') {
                self.faults.push((None, fault.to_owned()));
            } else if let Some((name, fault)) = named
                .strip_prefix('@')
                .and_then(|rest| rest.split_once(':'))
            {
                self.faults.push((Some(name.to_owned()), fault.to_owned()));
            }
            return;
        }
        for item in inside.split_whitespace() {
            let (key, value) = item.split_once(':').unwrap_or((item, ""));
            match key {
                "seed" => self.seed = value.parse().unwrap_or(self.seed),
                "words" => self.words = value.parse().unwrap_or(self.words).min(MAX_WORDS),
                "tools" => self.tools = value.parse().unwrap_or(1).clamp(1, 64),
                "tool" => self.tool = Some(value.to_owned()),
                "text" => self.text = true,
                "say" => self.say = true,
                "pause" => self.pause = true,
                "thinking" => self.thinking = true,
                "overlap" => self.overlap = value.parse().unwrap_or(3),
                _ => {}
            }
        }
    }
}

/// One turn of the conversation, as far as the answer depends on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) role: Role,
    pub(crate) text: String,
    pub(crate) results: bool,
    pub(crate) paused: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Role {
    #[default]
    User,
    Assistant,
    System,
}

/// Finds the question, its markers and where the conversation stands.
pub(crate) fn situate(turns: &[Said]) -> (Markers, Turn) {
    let turns: Vec<&Said> = turns
        .iter()
        .filter(|turn| turn.role != Role::System)
        .collect();
    let Some(last) = turns.last() else {
        return (Markers::read(""), Turn::Question);
    };
    if last.role == Role::User {
        if let Some(found) = continuation(&turns) {
            return found;
        }
        let markers = Markers::read(question(&turns));
        return (
            markers,
            if last.results {
                Turn::ToolResult
            } else {
                Turn::Question
            },
        );
    }
    let markers = Markers::read(question(&turns));
    let turn = if last.paused {
        Turn::Paused(last.text.clone())
    } else {
        Turn::Continue(last.text.clone())
    };
    (markers, turn)
}

/// The last user text that is not empty.
fn question<'a>(turns: &[&'a Said]) -> &'a str {
    turns
        .iter()
        .rev()
        .find(|turn| turn.role == Role::User && !turn.text.trim().is_empty())
        .map_or("", |turn| turn.text.as_str())
}

/// `user Q, assistant P, user "go on"`, where P begins the text that Q leads to. Only such a P makes it a continuation.
fn continuation(turns: &[&Said]) -> Option<(Markers, Turn)> {
    let [before @ .., partial, ask] = turns else {
        return None;
    };
    if partial.role != Role::Assistant
        || partial.text.is_empty()
        || ask.results
        || ask.text.contains("[[")
    {
        return None;
    }
    let markers = Markers::read(question(before));
    let full = text::make_text(markers.seed, markers.words);
    full.starts_with(&partial.text)
        .then(|| (markers, Turn::Continue(partial.text.clone())))
}

/// A non-empty string member.
pub(crate) fn string<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// The text of a `content` that is a string or a list of parts.
pub(crate) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter(|part| string(part, "type").is_none_or(|kind| kind == "text"))
            .filter_map(|part| string(part, "text"))
            .collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_steer() {
        let markers = Markers::read(
            "hi [[seed:7 words:20]] and [[tools:2 say]] [[fault:status:429:2]] [[fault@b:cut-rst:3]]",
        );
        assert_eq!(
            (markers.seed, markers.words, markers.tools, markers.say),
            (7, 20, 2, true)
        );
        assert_eq!(markers.faults[0], (None, "status:429:2".to_owned()));
        assert_eq!(
            markers.faults[1],
            (Some("b".to_owned()), "cut-rst:3".to_owned())
        );
    }

    #[test]
    fn an_open_marker_is_plain_text() {
        assert_eq!(Markers::read("[[seed:7").words, DEFAULT_WORDS);
    }

    #[test]
    fn a_true_prefix_is_continued_and_other_text_is_a_question() {
        let user = |text: &str| Said {
            text: text.to_owned(),
            ..Said::default()
        };
        let assistant = |text: &str| Said {
            role: Role::Assistant,
            ..user(text)
        };
        let full = text::make_text(5, 10);
        let half: String = full.chars().take(20).collect();
        let (markers, turn) =
            situate(&[user("[[seed:5 words:10]]"), assistant(&half), user("go on")]);
        assert_eq!((markers.seed, turn), (5, Turn::Continue(half)));
        let (_, turn) = situate(&[
            user("[[seed:5 words:10]]"),
            assistant("other"),
            user("go on"),
        ]);
        assert_eq!(turn, Turn::Question);
    }
}
