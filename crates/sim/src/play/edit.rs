//! What each fault does to the events of a stream.
//!
//! Works on the rendered events, so a fault is exactly what it says on the wire and nothing else changes.

use std::io::Write;

use serde_json::json;

use super::body::Tail;
use crate::answer::Answer;
use crate::ask::{Ask, Dialect};
use crate::fault::{At, Fault, How, Then, Which};
use crate::render::{self, Frame, Kind, anthropic, openai};

/// Edits the events; how the body then ends.
pub(super) fn edit(frames: &mut Vec<Frame>, fault: &Fault, ask: &Ask, answer: &Answer) -> Tail {
    let finish = finish(frames);
    match fault {
        Fault::Cut { how, at } => {
            cut(frames, *at);
            return tail_of(*how);
        }
        Fault::Stall(after) => {
            frames.truncate((*after).min(finish));
            return Tail::Hang;
        }
        Fault::StallPings { after, every } => {
            frames.truncate((*after).min(finish));
            return Tail::HangPinging(*every);
        }
        Fault::BadChunk(after) => {
            frames.truncate((*after).min(finish));
            return Tail::BadChunk;
        }
        Fault::SilentAfterFinish => {
            frames.truncate(finish + 1);
            return Tail::Hang;
        }
        Fault::SilentAfterTerminal => return Tail::Hang,
        Fault::ErrorInBand { after, then } => {
            return in_band(frames, (*after).min(finish), *then, ask.dialect);
        }
        Fault::ErrorChunk(after) => {
            return error_chunk(frames, (*after).min(finish), ask.dialect, answer);
        }
        Fault::NoTerminal | Fault::NoDone => frames.retain(|frame| frame.kind != Kind::Terminal),
        Fault::NoStop => frames.retain(|frame| frame.kind != Kind::Finish),
        Fault::DoneOnly => frames.retain(|frame| frame.kind == Kind::Terminal),
        Fault::NoStart => frames.retain(|frame| frame.kind != Kind::Start),
        Fault::BlockOpen => remove(
            frames,
            frames.iter().rposition(|frame| frame.kind == Kind::Close),
        ),
        Fault::NoOpen => remove(
            frames,
            frames.iter().position(|frame| frame.kind == Kind::Open),
        ),
        Fault::Duplicate(which) => duplicate(frames, *which),
        Fault::Reorder(which) => reorder(frames, *which),
        Fault::TextAfterFinish => frames.insert(finish + 1, stray(ask.dialect, answer)),
        other => rewrite(frames, other, ask.dialect, answer),
    }
    Tail::Neat
}

/// The faults that change the bytes of events in their places.
fn rewrite(frames: &mut Vec<Frame>, fault: &Fault, dialect: Dialect, answer: &Answer) {
    let finish = finish(frames);
    let token = |from: &usize| {
        let from = (*from).min(finish);
        let later = frames
            .iter()
            .skip(from)
            .position(|frame| frame.kind.is_token())
            .map(|place| place + from);
        later.or_else(|| frames.iter().rposition(|frame| frame.kind.is_token()))
    };
    match fault {
        Fault::Garbage(after) => {
            let place = token(after);
            replace(frames, place, dialect, b"{\"oops\": tru");
        }
        Fault::Nul(after) => {
            let place = token(after);
            replace(frames, place, dialect, &[0; 16]);
        }
        Fault::InvalidUtf8(after) => {
            if let Some(place) = token(after) {
                spoil_utf8(&mut frames[place].data);
            }
        }
        Fault::Oversized(size) => {
            if let Some(place) = token(&0) {
                let end = frames[place].data.len() - 2;
                frames[place].data.truncate(end);
                pad(&mut frames[place].data, *size);
                frames[place].data.extend_from_slice(b"\n\n");
            }
        }
        Fault::UnknownEvent => frames.insert(1, novelty(dialect, answer)),
        Fault::Comments => {
            for frame in frames.iter_mut() {
                frame
                    .data
                    .splice(0..0, b": SIM PROCESSING\n\n".iter().copied());
            }
        }
        Fault::Crlf => {
            for frame in frames.iter_mut() {
                frame.data = swap(&frame.data, "\n", "\r\n");
            }
        }
        Fault::NoSpace => {
            for frame in frames.iter_mut() {
                // Only at the start of a line: the words of an answer may hold the same letters.
                let once = swap(&frame.data, "\ndata: ", "\ndata:");
                frame.data = match once.strip_prefix(b"data: ") {
                    Some(rest) => [b"data:", rest].concat(),
                    None => swap(&once, "event: ", "event:"),
                };
            }
        }
        _ => {}
    }
}

/// The place of the event with the stop reason, or the end.
fn finish(frames: &[Frame]) -> usize {
    frames
        .iter()
        .position(|frame| frame.kind == Kind::Finish)
        .unwrap_or(frames.len())
}

pub(super) const fn tail_of(how: How) -> Tail {
    match how {
        How::Clean => Tail::Neat,
        How::Fin | How::Eof => Tail::Fin,
        How::Reset => Tail::Reset,
    }
}

fn cut(frames: &mut Vec<Frame>, at: At) {
    let finish = finish(frames);
    let before: usize = frames[..finish].iter().map(|frame| frame.data.len()).sum();
    let events = |count: usize| {
        frames[..count.min(finish)]
            .iter()
            .map(|frame| frame.data.len())
            .sum()
    };
    let place: usize = match at {
        At::After(count) => events(count),
        At::Half => events(finish.div_ceil(2)),
        At::Tool => {
            let arguments: Vec<usize> = (0..finish)
                .filter(|place| frames[*place].kind == Kind::Arguments)
                .collect();
            let middle = arguments.get(arguments.len() / 2);
            // A call that comes whole in one event is cut inside of it.
            middle.map_or_else(
                || events(finish.div_ceil(2)),
                |place| {
                    events(*place)
                        + if arguments.len() == 1 {
                            frames[*place].data.len() / 2
                        } else {
                            0
                        }
                },
            )
        }
        At::Utf8 | At::Bytes(_) => {
            let all: Vec<u8> = frames
                .iter()
                .flat_map(|frame| frame.data.iter().copied())
                .collect();
            place(at, &all, events(finish.div_ceil(2)))
        }
    };
    let mut left = place.min(before);
    frames.truncate(finish);
    for index in 0..frames.len() {
        let length = frames[index].data.len();
        if left < length {
            frames[index].data.truncate(left);
            frames.truncate(index + 1);
            return;
        }
        left -= length;
    }
}

/// The byte at which a body is cut; `middle` where the body has no such place.
pub(super) fn place(at: At, bytes: &[u8], middle: usize) -> usize {
    match at {
        At::Bytes(count) => count,
        At::Utf8 => bytes
            .iter()
            .position(|byte| !byte.is_ascii())
            .map_or(middle, |place| place + 1),
        At::Tool => ["\"partial_json\":\"", "\"input\":{", "\"arguments\":\""]
            .iter()
            .find_map(|mark| find(bytes, mark.as_bytes()).map(|place| place + mark.len() + 4))
            .unwrap_or(middle),
        At::After(_) | At::Half => middle,
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn in_band(frames: &mut Vec<Frame>, after: usize, then: Then, dialect: Dialect) -> Tail {
    let kind = match dialect {
        Dialect::Anthropic => "overloaded_error",
        Dialect::OpenAi => "server_error",
    };
    let error = render::error_frame(dialect, kind, "Overloaded");
    match then {
        Then::Rest => frames.insert(after, error),
        Then::Close | Then::Reset => {
            frames.truncate(after);
            frames.push(error);
        }
        Then::Terminal => {
            let last = frames.pop().filter(|last| last.kind == Kind::Terminal);
            frames.truncate(after);
            frames.push(error);
            frames.extend(last);
        }
    }
    if then == Then::Reset {
        Tail::Reset
    } else {
        Tail::Neat
    }
}

fn error_chunk(frames: &mut Vec<Frame>, after: usize, dialect: Dialect, answer: &Answer) -> Tail {
    if dialect == Dialect::Anthropic {
        return in_band(frames, after, Then::Close, dialect);
    }
    let chunk = json!({"id": format!("chatcmpl-{}", answer.id), "object": "chat.completion.chunk", "created": 0, "model": answer.model,
        "error": {"code": 502, "message": "Provider disconnected"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]});
    frames.truncate(after);
    frames.push(Frame {
        kind: Kind::Foreign,
        data: openai::frame(&chunk),
    });
    frames.push(Frame {
        kind: Kind::Terminal,
        data: b"data: [DONE]\n\n".to_vec(),
    });
    Tail::Neat
}

fn remove(frames: &mut Vec<Frame>, place: Option<usize>) {
    if let Some(place) = place {
        frames.remove(place);
    }
}

fn locate(frames: &[Frame], which: Which) -> Option<usize> {
    let first = |kind| frames.iter().position(|frame| frame.kind == kind);
    match which {
        Which::Start => first(Kind::Start),
        Which::Open => first(Kind::Open),
        Which::Close => first(Kind::Close),
        Which::Finish => first(Kind::Finish),
        Which::Terminal => first(Kind::Terminal),
        Which::Nth(number) => (number < frames.len()).then_some(number),
    }
}

fn duplicate(frames: &mut Vec<Frame>, which: Which) {
    if let Some(place) = locate(frames, which) {
        frames.insert(place, frames[place].clone());
    }
}

fn reorder(frames: &mut [Frame], which: Which) {
    let Some(place) = locate(frames, which) else {
        return;
    };
    let other = match which {
        // A block that closes, or an answer that finishes, before its last words.
        Which::Close | Which::Finish | Which::Terminal => place.checked_sub(1),
        Which::Start | Which::Open | Which::Nth(_) => {
            Some(place + 1).filter(|next| *next < frames.len())
        }
    };
    if let Some(other) = other {
        frames.swap(place, other);
    }
}

fn stray(dialect: Dialect, answer: &Answer) -> Frame {
    let mut frame = match dialect {
        Dialect::Anthropic => anthropic::text_delta(0, " stray words"),
        Dialect::OpenAi => openai::text_delta(answer, " stray words"),
    };
    frame.kind = Kind::Foreign;
    frame
}

fn novelty(dialect: Dialect, answer: &Answer) -> Frame {
    let data = match dialect {
        Dialect::Anthropic => anthropic::frame(
            "vendor_novelty",
            &json!({"type": "vendor_novelty", "shine": 1}),
        ),
        Dialect::OpenAi => openai::frame(
            &json!({"id": format!("chatcmpl-{}", answer.id), "object": "chat.completion.chunk", "created": 0,
            "model": answer.model, "choices": [], "vendor_novelty": {"shine": 1}}),
        ),
    };
    Frame {
        kind: Kind::Foreign,
        data,
    }
}

fn replace(frames: &mut [Frame], place: Option<usize>, dialect: Dialect, data: &[u8]) {
    let Some(frame) = place.and_then(|place| frames.get_mut(place)) else {
        return;
    };
    let head: &[u8] = match dialect {
        Dialect::Anthropic => b"event: content_block_delta\ndata: ",
        Dialect::OpenAi => b"data: ",
    };
    frame.data = [head, data, b"\n\n"].concat();
}

/// Puts bytes that are no UTF-8 into the first string of the answer.
pub(super) fn spoil_utf8(bytes: &mut Vec<u8>) {
    for mark in [
        "\"text\":\"",
        "\"content\":\"",
        "\"partial_json\":\"",
        "\"arguments\":\"",
        "\"thinking\":\"",
    ] {
        if let Some(place) = find(bytes, mark.as_bytes()) {
            let at = place + mark.len();
            bytes.splice(at..at, [0xff, 0xc0]);
            return;
        }
    }
}

/// Pads a JSON object to `size` bytes with a member that means nothing.
pub(super) fn pad(bytes: &mut Vec<u8>, size: usize) {
    if bytes.pop() != Some(b'}') {
        return;
    }
    bytes.extend_from_slice(b",\"padding\":\"");
    let missing = size.saturating_sub(bytes.len());
    bytes.resize(bytes.len() + missing, b'x');
    bytes.extend_from_slice(b"\"}");
}

fn swap(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    String::from_utf8_lossy(bytes)
        .replace(from, to)
        .into_bytes()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(bytes)
        .expect("invariant: writing to a vector does not fail");
    encoder
        .finish()
        .expect("invariant: writing to a vector does not fail")
}
