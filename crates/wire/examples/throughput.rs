//! How fast the two scanners are on this machine: `cargo run --release --example throughput`.
//!
//! Prints milliseconds per megabyte, the best of several rounds, beside `serde_json` on the same
//! bytes. A number to look at, not a test: other work on the machine changes it.
#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use holdfast_wire::envelope::{Envelope, Limits};
use holdfast_wire::sse::Decoder;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const ROUNDS: usize = 40;

fn main() {
    let prose = "The quick brown fox jumps over the lazy dog, and says so at length. ";
    let code = "fn main() {\n    println!(\"{}\", \"a\\tb\");\n}\n";
    let japanese = "壊れた答えは答えではない。全部か、はっきりした誤りか。";
    for (name, text) in [("prose", prose), ("code", code), ("japanese", japanese)] {
        request(name, &body(text));
    }
    stream("one token a frame", 100);
    stream("64 KiB chunks", 65_536);
}

/// A request of about 1 MB in the shape of a coding agent's.
fn body(text: &str) -> Vec<u8> {
    let block = |at: usize| json!({"type": "text", "text": text.repeat(10 + at % 40)});
    let message = |at: usize| {
        let role = if at.is_multiple_of(2) {
            "user"
        } else {
            "assistant"
        };
        json!({"role": role, "content": [block(at), block(at + 7)]})
    };
    let mut messages: Vec<Value> = Vec::new();
    let mut size = 0;
    while size < 1_000_000 {
        let message = message(messages.len());
        size += message.to_string().len();
        messages.push(message);
    }
    let body = json!({"model": "m", "max_tokens": 64000, "stream": true, "messages": messages});
    serde_json::to_vec(&body).expect("a tree can be written")
}

fn request(name: &str, body: &[u8]) {
    let limits = Limits::default();
    let ours = best(body.len(), || {
        black_box(Envelope::read(black_box(body), &limits).is_ok());
    });
    let raw = best(body.len(), || {
        let members: Result<HashMap<&str, &RawValue>, _> = serde_json::from_slice(black_box(body));
        black_box(members.is_ok());
    });
    let tree = best(body.len(), || {
        black_box(serde_json::from_slice::<Value>(black_box(body)).is_ok());
    });
    let kib = body.len() / 1024;
    println!(
        "request, {name}, {kib} KiB: envelope {ours:.2} ms/MB, raw values {raw:.2}, tree {tree:.2}"
    );
}

fn stream(name: &str, chunk: usize) {
    let frame = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
        \"delta\":{\"type\":\"text_delta\",\"text\":\" hold\"}}\n\n";
    let count = 10_000;
    let chunk = if chunk < frame.len() {
        frame.len()
    } else {
        chunk
    };
    let all = Bytes::from(frame.repeat(count));
    let cost = best(all.len(), || {
        let mut decoder = Decoder::new(1 << 20);
        let mut rest = all.clone();
        while !rest.is_empty() {
            decoder.push(rest.split_to(chunk.min(rest.len())));
            while let Ok(Some(frame)) = decoder.next_frame() {
                black_box(frame.data());
            }
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let frame_ns = cost * 1e6 * frame.len() as f64 / 1e6;
    println!("stream, {name}: {cost:.2} ms/MB, {frame_ns:.0} ns a frame");
}

/// Milliseconds per 1,000,000 bytes.
fn best(bytes: usize, mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let least = (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let megabytes = bytes as f64 / 1e6;
    least * 1e3 / megabytes
}
