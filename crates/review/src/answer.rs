//! Answers that a person gives, in the form in which the call's caller can read them.
//!
//! A text is written with the same writers as every other answer; a body is judged like a vendor's.
//! What is asked for as a stream becomes a stream with everything that clients wait for. Nothing
//! here is sent or stored.

use std::borrow::Cow;

use bytes::BytesMut;
use holdfast_core::fault::{Code, Fault};
use holdfast_core::judge::{Judge, Terms, Verdict};
use holdfast_core::time::Wall;
use holdfast_store::{KeptRequest, StoredAnswer};
use holdfast_wire::answer::{Answer, NotWhole, WriterOptions};
use holdfast_wire::envelope::{Edit, Envelope, Limits};
use holdfast_wire::error::CallerError;
use holdfast_wire::turn::{Block, Dialect, Event, Stop, StopKind, Usage};
use holdfast_wire::{anthropic, openai};
use serde::de::IgnoredAny;

/// What `Holdfast-Target` says of an answer that a person gave.
pub const TARGET: &str = "review";

/// The most bytes of a tool call's arguments.
const ARGUMENTS_LIMIT: usize = 16 << 20;

/// A whole answer, given by hand.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// As a body without streaming: what a gate checks.
    pub(crate) body: Vec<u8>,
    /// As the caller had asked for it.
    pub(crate) answer: StoredAnswer,
    /// The verdict's name.
    pub(crate) verdict: &'static str,
}

/// How an answer to this call is written.
struct Form {
    dialect: Dialect,
    stream: bool,
    choices: u32,
    wants_json: bool,
    options: WriterOptions,
}

/// The dialect with this name.
pub(crate) fn dialect_of(kept: &KeptRequest) -> Option<Dialect> {
    [Dialect::Anthropic, Dialect::OpenAi]
        .into_iter()
        .find(|dialect| dialect.name() == kept.dialect)
}

/// A whole answer that says `text`. `exchange` = its id. The error is for who wrote it.
pub(crate) fn from_text(
    kept: &KeptRequest,
    text: &str,
    exchange: &str,
    now: Wall,
) -> Result<Made, String> {
    let form = Form::of(kept, exchange, now)?;
    if text.trim().is_empty() {
        return Err("`text` is empty".to_owned());
    }
    if form.wants_json && serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Err("the call asks for JSON, and `text` is not JSON".to_owned());
    }
    let mut answer = Answer::default();
    for event in events_of(text, &form) {
        answer.push(&event);
    }
    let broken = |error: NotWhole| error.to_string();
    let body = encode(&answer, &form).map_err(broken)?;
    let bytes = if form.stream {
        stream(&answer, &form).map_err(broken)?
    } else {
        body.clone()
    };
    Ok(form.made(body, bytes, exchange, &Verdict::Whole))
}

/// A whole answer from a body of the call's dialect. What clients demand beside the answer itself (an
/// id, a model, counts) is put in where it is missing; every other byte stays as it is.
pub(crate) fn from_body(
    kept: &KeptRequest,
    body: &[u8],
    exchange: &str,
    now: Wall,
) -> Result<Made, String> {
    let mut form = Form::of(kept, exchange, now)?;
    let body = completed(body, &form)?;
    let mut answer = Answer::default();
    let verdict = judged(&body, &form, &mut answer);
    let (Verdict::Whole | Verdict::Tools) = verdict else {
        return Err(complaint(&verdict));
    };
    if form.wants_json
        && verdict == Verdict::Whole
        && serde_json::from_str::<IgnoredAny>(&answer.text()).is_err()
    {
        return Err("the call asks for JSON, and the answer's text is not JSON".to_owned());
    }
    let bytes = if form.stream {
        form.name_after(&body);
        stream(&answer, &form).map_err(|error| error.to_string())?
    } else {
        body.clone()
    };
    Ok(form.made(body, bytes, exchange, &verdict))
}

/// The error that a rejected call's caller gets from now on.
pub(crate) fn rejection(kept: Option<&KeptRequest>, reason: &str, exchange: &str) -> StoredAnswer {
    let fault = Fault::new(Code::Rejected, reason);
    let dialect = kept.and_then(dialect_of).unwrap_or(Dialect::OpenAi);
    let kind = match dialect {
        Dialect::Anthropic => anthropic::error::error_kind(fault.status),
        Dialect::OpenAi => openai::error::error_kind(fault.status),
    };
    let error = CallerError {
        status: fault.status,
        kind: kind.to_owned(),
        code: fault.code.slug().to_owned(),
        message: format!("{} ({})", fault.message, fault.code.number()),
        request_id: exchange.to_owned(),
    };
    StoredAnswer {
        exchange: exchange.to_owned(),
        outcome: "told".to_owned(),
        status: fault.status,
        headers: headers(&[
            ("content-type", "application/json"),
            ("holdfast-code", fault.code.number()),
            ("holdfast-exchange", exchange),
            // The same request will be told the same.
            ("x-should-retry", "false"),
        ]),
        body: match dialect {
            Dialect::Anthropic => anthropic::error::error_body(&error),
            Dialect::OpenAi => openai::error::error_body(&error),
        },
    }
}

// === impl Form ===

impl Form {
    fn of(kept: &KeptRequest, exchange: &str, now: Wall) -> Result<Self, String> {
        let dialect = dialect_of(kept)
            .ok_or_else(|| format!("the call's dialect `{}` is not known", kept.dialect))?;
        let request = Envelope::read(&kept.body, &Limits::default())
            .map_err(|error| format!("the kept request can't be read: {error}"))?;
        let id = match dialect {
            Dialect::Anthropic => format!("msg_{exchange}"),
            Dialect::OpenAi => format!("chatcmpl-{exchange}"),
        };
        let model = request.model();
        Ok(Self {
            dialect,
            stream: kept.stream,
            choices: request
                .n()
                .and_then(|choices| u32::try_from(choices).ok())
                .unwrap_or(1),
            wants_json: request.wants_json(),
            options: WriterOptions {
                id,
                model: model.map_or_else(|| kept.route.clone(), Cow::into_owned),
                created: u64::try_from(now.0 / 1000).unwrap_or(0),
                include_usage: request.include_usage(),
                // What the person gives is of this dialect already.
                signatures: true,
                drop_thinking: false,
            },
        })
    }

    /// Takes the names that the body itself has.
    fn name_after(&mut self, body: &[u8]) {
        let Ok(body) = Envelope::read(body, &Limits::default()) else {
            return;
        };
        if let Some(id) = body
            .member("id")
            .and_then(|id| serde_json::from_slice(id).ok())
        {
            self.options.id = id;
        }
        if let Some(model) = body.model() {
            self.options.model = model.into_owned();
        }
    }

    fn made(self, body: Vec<u8>, bytes: Vec<u8>, exchange: &str, verdict: &Verdict) -> Made {
        let mut fields = if self.stream {
            vec![
                ("content-type", "text/event-stream; charset=utf-8"),
                ("cache-control", "no-cache"),
                ("x-accel-buffering", "no"),
            ]
        } else {
            vec![("content-type", "application/json")]
        };
        fields.extend([("holdfast-exchange", exchange), ("holdfast-target", TARGET)]);
        Made {
            body,
            answer: StoredAnswer {
                exchange: exchange.to_owned(),
                outcome: verdict.name().to_owned(),
                status: 200,
                headers: headers(&fields),
                body: bytes,
            },
            verdict: verdict.name(),
        }
    }
}

/// The events of an answer that is one text.
fn events_of<'a>(text: &'a str, form: &'a Form) -> [Event<'a>; 6] {
    let said = match form.dialect {
        Dialect::Anthropic => "end_turn",
        Dialect::OpenAi => "stop",
    };
    [
        Event::Start {
            id: Cow::Borrowed(&form.options.id),
            model: Cow::Borrowed(&form.options.model),
        },
        Event::BlockStart {
            index: 0,
            choice: 0,
            block: Block::Text {
                text: Cow::Borrowed(text),
            },
        },
        Event::BlockStop { index: 0 },
        Event::Usage(nothing()),
        Event::Stop {
            choice: 0,
            stop: Stop {
                kind: StopKind::EndTurn,
                said: Cow::Borrowed(said),
                sequence: None,
                details: None,
            },
        },
        Event::End,
    ]
}

/// The tokens that a person costs.
fn nothing() -> Usage {
    Usage {
        input: Some(0),
        output: Some(0),
        ..Usage::default()
    }
}

fn encode(answer: &Answer, form: &Form) -> Result<Vec<u8>, NotWhole> {
    match form.dialect {
        Dialect::Anthropic => anthropic::body::encode(answer, &form.options),
        Dialect::OpenAi => openai::body::encode(answer, &form.options),
    }
}

fn stream(answer: &Answer, form: &Form) -> Result<Vec<u8>, NotWhole> {
    let mut out = BytesMut::new();
    let options = form.options.clone();
    match form.dialect {
        Dialect::Anthropic => {
            let mut writer = anthropic::writer::Writer::new(options);
            answer.replay(&mut |event| writer.event(&event, &mut out));
            writer.end(&mut out)?;
        }
        Dialect::OpenAi => {
            let mut writer = openai::writer::Writer::new(options);
            answer.replay(&mut |event| writer.event(&event, &mut out));
            writer.end(&mut out)?;
        }
    }
    Ok(out.into())
}

fn judged(body: &[u8], form: &Form, answer: &mut Answer) -> Verdict {
    let mut judge = Judge::new(Terms {
        dialect: form.dialect,
        choices: form.choices,
        empty_is_whole: false,
        arguments_limit: ARGUMENTS_LIMIT,
    });
    let mut sink = |event: Event<'_>| {
        judge.event(&event);
        answer.push(&event);
    };
    match form.dialect {
        Dialect::Anthropic => anthropic::reader::Reader::default().body(body, &mut sink),
        Dialect::OpenAi => openai::reader::Reader::default().body(body, &mut sink),
    }
    judge.verdict()
}

fn complaint(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Broken(flaw) => format!("the answer is not whole: {flaw}"),
        Verdict::Limit => "the answer says of itself that a token limit cut it".to_owned(),
        Verdict::Paused => "the answer says of itself that it goes on".to_owned(),
        Verdict::Refused => {
            "the answer is a refusal; to refuse the call, reject the ticket".to_owned()
        }
        Verdict::Whole | Verdict::Tools => "the answer is whole".to_owned(),
    }
}

/// The body with the members that every client of the dialect reads.
fn completed(body: &[u8], form: &Form) -> Result<Vec<u8>, String> {
    let envelope = Envelope::read(body, &Limits::default())
        .map_err(|error| format!("`body` is no answer: {error}"))?;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let options = &form.options;
    let mut members = vec![
        ("id", quoted(&options.id)),
        ("model", quoted(&options.model)),
    ];
    match form.dialect {
        Dialect::Anthropic => members.extend([
            ("type", quoted("message")),
            ("role", quoted("assistant")),
            ("stop_sequence", "null".to_owned()),
            (
                "usage",
                r#"{"input_tokens":0,"output_tokens":0}"#.to_owned(),
            ),
        ]),
        Dialect::OpenAi => members.extend([
            ("object", quoted("chat.completion")),
            ("created", options.created.to_string()),
            (
                "usage",
                r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#.to_owned(),
            ),
        ]),
    }
    let missing = members.iter().filter(|(key, _)| !envelope.has_member(key));
    let edits: Vec<Edit<'_>> = missing
        .map(|(key, json)| Edit::SetMember {
            key,
            json: json.as_bytes(),
        })
        .collect();
    Ok(envelope.splice(&edits))
}

fn headers(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    fields.iter().map(owned).collect()
}

#[cfg(test)]
mod tests;
