//! Recorded-like streams of both dialects through decoder and reader: their event lists are
//! snapshots, the same however the bytes are chunked, and agree with the same answer's body.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use holdfast_wire::turn::{Dialect, Event};
use holdfast_wire::{anthropic, openai, sse};
use proptest::prelude::*;
use proptest::sample::Index;

const LIMIT: usize = 1 << 20;

/// Both readers behind one face.
enum Reader {
    Anthropic(anthropic::reader::Reader),
    OpenAi(openai::reader::Reader),
}

impl Reader {
    fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Anthropic => Self::Anthropic(anthropic::reader::Reader::default()),
            Dialect::OpenAi => Self::OpenAi(openai::reader::Reader::default()),
        }
    }

    fn frame(&mut self, frame: &sse::Frame, sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Anthropic(reader) => reader.frame(frame, sink),
            Self::OpenAi(reader) => reader.frame(frame, sink),
        }
    }

    fn body(&mut self, body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        match self {
            Self::Anthropic(reader) => reader.body(body, sink),
            Self::OpenAi(reader) => reader.body(body, sink),
        }
    }
}

/// The event list of a stream that arrives in `chunks`, one line per event. An event that begins a
/// frame is marked, so that a snapshot shows which frames said nothing new.
fn events<'a>(dialect: Dialect, chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut decoder = sse::Decoder::new(LIMIT);
    let mut reader = Reader::new(dialect);
    let mut list = String::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = decoder.next_frame().unwrap() {
            let mut mark = '>';
            reader.frame(&frame, &mut |event| {
                writeln!(list, "{mark} {event:?}").unwrap();
                mark = ' ';
            });
            assert_eq!(mark, ' ', "a frame without an event: {frame:?}");
        }
    }
    if let Some(tail) = decoder.finish() {
        writeln!(list, "tail of {} bytes", tail.len()).unwrap();
    }
    list
}

fn body_events(dialect: Dialect, body: &[u8]) -> String {
    let mut list = String::new();
    Reader::new(dialect).body(body, &mut |event| writeln!(list, "{event:?}").unwrap());
    list
}

fn fixtures(extension: &str) -> Vec<(Dialect, String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        for entry in fs::read_dir(root.join(dialect.name())).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|known| known == extension) {
                let stem = path.file_stem().unwrap().to_str().unwrap();
                found.push((dialect, format!("{}_{stem}", dialect.name()), path));
            }
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    assert!(!found.is_empty());
    found
}

#[test]
fn recorded_streams_read_as_their_snapshots() {
    for (dialect, name, path) in fixtures("sse") {
        let stream = fs::read(path).unwrap();
        insta::assert_snapshot!(name, events(dialect, [&stream[..]]));
    }
}

#[test]
fn recorded_bodies_read_as_their_snapshots() {
    for (dialect, name, path) in fixtures("json") {
        let body = fs::read(path).unwrap();
        insta::assert_snapshot!(format!("{name}_body"), body_events(dialect, &body));
    }
}

#[test]
fn every_single_cut_into_two_chunks_gives_the_same_events() {
    for (dialect, name, path) in fixtures("sse") {
        let stream = fs::read(path).unwrap();
        let whole = events(dialect, [&stream[..]]);
        for at in 0..=stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(events(dialect, [head, tail]), whole, "{name} cut at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_chunking_gives_the_same_events(which: Index, cuts in prop::collection::vec(any::<Index>(), 0..40)) {
        let all = streams();
        let (dialect, stream, whole) = which.get(all);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
        prop_assert_eq!(&events(*dialect, chunks), whole);
    }
}

/// Every recorded stream and its event list, read once.
fn streams() -> &'static [(Dialect, Vec<u8>, String)] {
    static STREAMS: std::sync::LazyLock<Vec<(Dialect, Vec<u8>, String)>> =
        std::sync::LazyLock::new(|| {
            let mut all = Vec::new();
            for (dialect, _, path) in fixtures("sse") {
                let stream = fs::read(path).unwrap();
                let whole = events(dialect, [&stream[..]]);
                all.push((dialect, stream, whole));
            }
            all
        });
    &STREAMS
}

#[test]
fn a_body_that_is_no_answer_says_what_it_is() {
    use Dialect::{Anthropic, OpenAi};
    for (body, why) in [
        ("", "empty body"),
        (" \n\r\n", "empty body"),
        ("<!DOCTYPE html><html></html>", "HTML"),
        ("upstream connect error", "not JSON"),
        ("data: {\"type\":\"ping\"}\n\n", "not JSON"),
        (
            "{\"id\":\"msg_1\",\"type\":\"message\",\"content\":[{\"ty",
            "truncated JSON",
        ),
        (
            "{\"id\":\"c\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"half",
            "truncated JSON",
        ),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("\"text\"", "not a JSON object"),
        ("{}", "not a message"),
        ("{\"id\":\"x\"}", "not a message"),
        (
            "{\"type\":\"completion\",\"content\":\"x\",\"choices\":\"y\"}",
            "not a message",
        ),
    ] {
        for dialect in [Anthropic, OpenAi] {
            let said = format!("Garbage {{ why: {why:?} }}\n");
            assert_eq!(
                body_events(dialect, body.as_bytes()),
                said,
                "{dialect:?} {body}"
            );
        }
    }
    for dialect in [Anthropic, OpenAi] {
        let said = "Garbage { why: \"not UTF-8\" }\n";
        assert_eq!(body_events(dialect, b"{\"id\":\"\xff\"}"), said);
    }
}

#[test]
fn an_error_under_200_is_an_error() {
    for body in [
        r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
        r#"{"error":{"type":"overloaded_error","message":"m","code":null}}"#,
    ] {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
            assert_eq!(
                body_events(dialect, body.as_bytes()),
                "Error(VendorError { kind: \"overloaded_error\", code: \"\", message: \"m\" })\n",
                "{dialect:?} {body}"
            );
        }
    }
    for (body, message) in [
        (r#"{"error":"down"}"#, "down"),
        (r#"{"detail":"no"}"#, "no"),
        (r#"{"message":"later"}"#, "later"),
    ] {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
            let list = body_events(dialect, body.as_bytes());
            assert!(list.starts_with("Error("), "{dialect:?} {list}");
            assert!(list.contains(&format!("message: {message:?}")), "{list}");
        }
    }
}

#[test]
fn a_missing_stop_reason_gives_no_stop() {
    for (dialect, body) in [
        (
            Dialect::Anthropic,
            r#"{"type":"message","id":"m","content":[],"stop_reason":null}"#,
        ),
        (
            Dialect::OpenAi,
            r#"{"id":"c","choices":[{"message":{"content":"x"},"finish_reason":null}]}"#,
        ),
        (Dialect::OpenAi, r#"{"id":"c","choices":[]}"#),
    ] {
        let list = body_events(dialect, body.as_bytes());
        assert!(!list.contains("\nStop {"), "{list}");
        assert!(list.ends_with("End\n"), "{list}");
    }
}

#[test]
fn a_whole_tool_call_always_has_its_input() {
    for arguments in [
        r#","arguments":"""#,
        r#","arguments":null"#,
        "",
        r#","arguments":" ""#,
        r#","arguments":{}"#,
    ] {
        let body = format!(
            r#"{{"id":"c","choices":[{{"message":{{"tool_calls":[{{"id":"a","function":{{"name":"f"{arguments}}}}}]}},"finish_reason":"stop"}}]}}"#
        );
        let list = body_events(Dialect::OpenAi, body.as_bytes());
        assert!(list.contains(r#"input: Some("{}")"#), "{list}");
        assert!(list.contains("kind: ToolUse, said: \"stop\""), "{list}");
    }
}

#[test]
fn a_delta_without_escapes_is_borrowed_from_its_frame() {
    use std::borrow::Cow;

    use holdfast_wire::turn::Delta;

    let opening = concat!(
        r#"data: {"type":"message_start","message":{"id":"m","content":[]}}"#,
        "\n\n",
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        "\n\n",
    );
    let anthropic =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"plän"}}"#;
    let openai =
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":"plän"},"finish_reason":null}]}"#;
    for (dialect, opening, delta) in [
        (Dialect::Anthropic, opening, anthropic),
        (Dialect::OpenAi, "", openai),
    ] {
        let mut decoder = sse::Decoder::new(LIMIT);
        decoder.push(format!("{opening}data: {delta}\n\n").into());
        let mut reader = Reader::new(dialect);
        let mut borrowed = 0;
        while let Some(frame) = decoder.next_frame().unwrap() {
            reader.frame(&frame, &mut |event| {
                if let Event::Delta { delta, .. } = event {
                    assert!(matches!(delta, Delta::Text(Cow::Borrowed("plän"))));
                    borrowed += 1;
                }
            });
        }
        assert_eq!(borrowed, 1, "{dialect:?}");
    }
}
