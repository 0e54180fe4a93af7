//! What must hold for any bytes: one function for each target, which panics where it does not.
//!
//! `cargo test -p holdfast-fuzz` plays the seeds and mutations of them; `fuzz/run` looks for new ones
//! under coverage guidance.

mod mutate;
mod seeds;

use bytes::Bytes;
use holdfast_http1::{Decoder as Body, request};
use holdfast_wire::answer::{Answer, WriterOptions};
use holdfast_wire::envelope::{Edit, Envelope, Limits};
use holdfast_wire::sse::{Decoder, Frame};
use holdfast_wire::translate::{self, Refusal, Target};
use holdfast_wire::turn::{Block, Delta, Dialect, Event};
use holdfast_wire::{anthropic, openai};
use serde::de::IgnoredAny;
use serde_json::Value;

pub use mutate::mutate;
pub use seeds::seeds;

/// The largest frame in these tests; the real limit is larger, and the same code.
const FRAME: usize = 4096;

/// Any chunking gives the same frames, and the frames are the input.
///
/// # Panics
/// When that does not hold.
pub fn sse(data: &[u8]) {
    let whole = frames(data, data.len().max(1));
    let parted = frames(
        data,
        1 + data.first().map_or(0, |byte| usize::from(*byte) % 7),
    );
    assert_eq!(whole, parted, "the chunking shows");
    let (raws, complete) = whole;
    let raw: Vec<u8> = raws.concat();
    if complete {
        assert_eq!(raw, data, "bytes were lost or made");
    } else {
        assert!(data.starts_with(&raw), "bytes were made");
    }
}

/// The raw frames with the tail, and whether no frame was too long.
fn frames(data: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = Decoder::new(FRAME);
    let mut raws = Vec::new();
    for chunk in data.chunks(size) {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    read(&frame);
                    raws.push(frame.raw().to_vec());
                }
                Ok(None) => break,
                Err(_) => return (raws, false),
            }
        }
    }
    raws.extend(decoder.finish().map(|tail| tail.to_vec()));
    (raws, true)
}

fn read(frame: &Frame) {
    let _ = (frame.event(), frame.data(), frame.is_comment_only());
}

/// A connection's requests are the same in any pieces, and where they can't be read they end for good.
///
/// # Panics
/// When that does not hold.
pub fn http1(data: &[u8]) {
    let whole = requests(data, data.len().max(1));
    for step in [1, 2, 7, 64] {
        assert_eq!(whole, requests(data, step), "the pieces show, by {step}");
    }
}

/// Each request's head as text with the content of its body, and why they ended.
fn requests(data: &[u8], step: usize) -> (Vec<(String, Vec<u8>)>, String) {
    let limits = request::Limits {
        bytes: FRAME,
        fields: 64,
    };
    let (mut found, mut buffer) = (Vec::new(), Vec::new());
    let mut body: Option<Body> = None;
    for piece in data.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            if let Some(decoder) = &mut body {
                let (kept, own) = decoder.decode(&mut buffer);
                let (_, content): &mut (String, Vec<u8>) =
                    found.last_mut().expect("a body has a head");
                content.extend_from_slice(&buffer[..kept]);
                buffer.drain(..own);
                if let Some(flaw) = decoder.flaw() {
                    return (found, flaw.to_string());
                }
                if !decoder.is_done() {
                    break;
                }
                body = None;
            }
            match request::read(&buffer, limits) {
                Ok(Some(read)) => {
                    assert!(read.length <= buffer.len() && read.length <= FRAME);
                    let head = format!(
                        "{} {} {:?} {:?} {:?} {}",
                        read.method, read.uri, read.version, read.headers, read.framing, read.keep
                    );
                    found.push((head, Vec::new()));
                    buffer.drain(..read.length);
                    body = Some(Body::new(read.framing));
                }
                Ok(None) => break,
                Err(flaw) => return (found, flaw.to_string()),
            }
        }
    }
    (found, String::new())
}

/// What the envelope takes is JSON, its head is what a tree says, and a splice changes one member.
///
/// # Panics
/// When that does not hold.
pub fn envelope(data: &[u8]) {
    let Ok(envelope) = Envelope::read(data, &Limits::default()) else {
        return;
    };
    let facts = (
        envelope.max_tokens(),
        envelope.n(),
        envelope.include_usage(),
        envelope.wants_json(),
        envelope.last_message_has_tool_result(),
    );
    // Half a surrogate pair is JSON and no text; a number may be out of a tree's range.
    let Ok(tree) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    assert_eq!(envelope.model().as_deref(), tree["model"].as_str());
    assert_eq!(envelope.stream(), tree["stream"].as_bool());
    let changed = envelope.splice(&[Edit::SetMember {
        key: "model",
        json: b"\"other\"",
    }]);
    let again = Envelope::read(&changed, &Limits::default()).expect("a spliced body reads back");
    assert_eq!(again.model().as_deref(), Some("other"));
    let same = (
        again.max_tokens(),
        again.n(),
        again.include_usage(),
        again.wants_json(),
        again.last_message_has_tool_result(),
    );
    assert_eq!(facts, same, "the splice changed something else");
    let mut other: Value = serde_json::from_slice(&changed).expect("a spliced body is JSON");
    let mut tree = tree;
    tree["model"] = Value::Null;
    other["model"] = Value::Null;
    assert_eq!(tree, other, "the splice changed something else");
}

/// A request becomes a request of the other dialect or is refused with a place; where nothing was
/// lost, the way there and back keeps what was said.
///
/// # Panics
/// When that does not hold.
pub fn translate(data: &[u8]) {
    for from in [Dialect::Anthropic, Dialect::OpenAi] {
        let target = target(data);
        let done = match translate::request(from, data, &target) {
            Ok(done) => done,
            Err(Refusal::Meaning { path, why } | Refusal::Shape { path, why }) => {
                assert!(
                    !path.is_empty() && !why.is_empty(),
                    "a refusal without a place"
                );
                continue;
            }
        };
        assert!(done.losses.iter().all(|loss| !loss.path.is_empty()));
        serde_json::from_slice::<IgnoredAny>(&done.body).expect("a request is JSON");
        // A schema goes over with its bytes; half a surrogate pair in it is JSON and no text.
        let Ok(made) = serde_json::from_slice::<Value>(&done.body) else {
            continue;
        };
        assert_eq!(made["model"], "target");
        assert!(made["messages"].is_array());
        if done.losses.is_empty() && done.stops.is_empty() && done.names.is_empty() {
            back(from, &done.body, &target);
        }
    }
}

fn target(data: &[u8]) -> Target<'static> {
    let flags = data.last().copied().unwrap_or(0);
    Target {
        model: "target",
        stream: flags & 1 != 0,
        max_output: (flags & 2 != 0).then_some(1000),
        stop_limit: (flags & 4 != 0).then_some(4),
        tool_id_alnum9: flags & 8 != 0,
        max_completion_tokens: flags & 16 != 0,
        stream_options: flags & 32 != 0,
    }
}

/// What was translated is a good request of its new dialect, and comes to rest on the way back.
fn back(from: Dialect, body: &[u8], target: &Target<'_>) {
    let to = match from {
        Dialect::Anthropic => Dialect::OpenAi,
        Dialect::OpenAi => Dialect::Anthropic,
    };
    if let Err(Refusal::Shape { path, why }) = translate::request(to, body, target) {
        panic!("{path}: {why}, in {}", String::from_utf8_lossy(body));
    }
}

/// What is read from any stream or body, and is whole enough to be written, reads back the same.
///
/// # Panics
/// When that does not hold.
pub fn answer(data: &[u8]) {
    for from in [Dialect::Anthropic, Dialect::OpenAi] {
        let streamed = stream_answer(from, data);
        let plain = body_answer(from, data);
        for answer in [streamed, plain] {
            for to in [Dialect::Anthropic, Dialect::OpenAi] {
                let options = options();
                let written = match to {
                    Dialect::Anthropic => anthropic::body::encode(&answer, &options),
                    Dialect::OpenAi => openai::body::encode(&answer, &options),
                };
                let Ok(written) = written else { continue };
                let again = body_answer(to, &written).text();
                // Anthropic has no block for a refusal: there it is text.
                let expected = match to {
                    Dialect::Anthropic => said(&answer),
                    Dialect::OpenAi => answer.text(),
                };
                assert_eq!(expected, again, "the text changed");
            }
        }
    }
}

/// Texts and refusals of the first choice, in order: what Anthropic's dialect has a place for.
fn said(answer: &Answer) -> String {
    let mut said = String::new();
    let mut others = Vec::new();
    answer.replay(&mut |event| match event {
        Event::BlockStart { index, choice, .. } if choice != 0 => others.push(index),
        Event::Delta { index, .. } if others.contains(&index) => {}
        Event::BlockStart {
            block: Block::Text { text } | Block::Refusal { text },
            ..
        }
        | Event::Delta {
            delta: Delta::Text(text) | Delta::Refusal(text),
            ..
        } => said.push_str(&text),
        _ => {}
    });
    said
}

fn options() -> WriterOptions {
    WriterOptions {
        id: "id".to_owned(),
        model: "model".to_owned(),
        created: 1,
        include_usage: true,
        signatures: true,
        drop_thinking: false,
    }
}

fn stream_answer(dialect: Dialect, data: &[u8]) -> Answer {
    let mut answer = Answer::default();
    let mut sink = |event: Event<'_>| answer.push(&event);
    let mut decoder = Decoder::new(FRAME);
    decoder.push(Bytes::copy_from_slice(data));
    let mut anthropic = anthropic::reader::Reader::default();
    let mut openai = openai::reader::Reader::default();
    while let Ok(Some(frame)) = decoder.next_frame() {
        match dialect {
            Dialect::Anthropic => anthropic.frame(&frame, &mut sink),
            Dialect::OpenAi => openai.frame(&frame, &mut sink),
        }
    }
    answer
}

fn body_answer(dialect: Dialect, data: &[u8]) -> Answer {
    let mut answer = Answer::default();
    let mut sink = |event: Event<'_>| answer.push(&event);
    match dialect {
        Dialect::Anthropic => anthropic::reader::Reader::default().body(data, &mut sink),
        Dialect::OpenAi => openai::reader::Reader::default().body(data, &mut sink),
    }
    answer
}
