//! What no stream, however broken, may make a reader do: panic, stay silent about a frame, or give
//! events that do not nest. And what a whole answer says is the same streamed, folded and whole.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use holdfast_wire::fold::Fold;
use holdfast_wire::turn::{Block, Delta, Dialect, Event};
use holdfast_wire::{anthropic, openai, sse};
use proptest::prelude::*;
use proptest::sample::Index;

/// The frames of every recorded stream of a dialect.
fn recorded(dialect: Dialect) -> Vec<Vec<sse::Frame>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> = fs::read_dir(root.join(dialect.name()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|known| known == "sse"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| frames(&fs::read(path).unwrap()))
        .collect()
}

fn frames(stream: &[u8]) -> Vec<sse::Frame> {
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(Bytes::copy_from_slice(stream));
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

/// What each choice said, by kind, and its stop.
type Gist = (
    BTreeMap<(u32, &'static str), Vec<String>>,
    BTreeMap<u32, String>,
);

/// Follows the events of one answer: asserts that they nest, and keeps what they said.
#[derive(Debug, Default, PartialEq)]
struct Account {
    started: bool,
    /// Per choice, what was said in each block: its kind and its joined content.
    said: BTreeMap<u32, Vec<(&'static str, String)>>,
    stops: BTreeMap<u32, String>,
    ended: bool,
    open: BTreeMap<u32, (u32, usize)>,
    closed: Vec<u32>,
}

impl Account {
    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Start { .. } => {
                assert!(!self.started, "a second start");
                self.started = true;
            }
            Event::BlockStart {
                index,
                choice,
                block,
            } => {
                assert!(self.started && !self.ended);
                assert!(!self.open.contains_key(index) && !self.closed.contains(index));
                let said = self.said.entry(*choice).or_default();
                self.open.insert(*index, (*choice, said.len()));
                said.push(opening(block));
            }
            Event::Delta { index, delta } => {
                assert!(!self.ended);
                let (choice, at) = self.open.get(index).expect("a delta of an open block");
                grow(&mut self.said.get_mut(choice).unwrap()[*at], delta);
            }
            Event::BlockStop { index } => {
                assert!(self.open.remove(index).is_some(), "a stop of an open block");
                self.closed.push(*index);
            }
            Event::Stop { choice, stop } => {
                assert!(!self.ended);
                self.stops.insert(*choice, format!("{stop:?}"));
            }
            Event::End => {
                assert!(!self.ended, "a second end");
                self.ended = true;
            }
            Event::Usage(_)
            | Event::Ping
            | Event::Error(_)
            | Event::Unknown { .. }
            | Event::Garbage { .. } => {}
        }
    }

    /// What a reader of the answer can know: calls as they came, prose joined by kind. How it was cut
    /// into blocks, and that text came after a call, a Chat body cannot tell.
    fn gist(mut self) -> Gist {
        let mut gist = BTreeMap::<_, Vec<String>>::new();
        for (choice, said) in std::mem::take(&mut self.said) {
            for (kind, mut text) in said {
                if kind == "tool" && text.ends_with(':') {
                    text.push_str("{}");
                }
                let told = gist.entry((choice, kind)).or_default();
                match told.last_mut() {
                    Some(last) if kind != "tool" => last.push_str(&text),
                    _ => told.push(text),
                }
            }
        }
        (gist, self.stops)
    }
}

fn opening(block: &Block<'_>) -> (&'static str, String) {
    match block {
        Block::Text { text } => ("text", text.to_string()),
        Block::Thinking {
            thinking,
            signature,
        } => ("thinking", format!("{thinking}{signature}")),
        Block::RedactedThinking { data } => ("redacted", data.to_string()),
        Block::Tool { id, name, input } => {
            let input = input.as_deref().unwrap_or("{}");
            let input = input.strip_prefix("{}").unwrap_or(input);
            ("tool", format!("{id}:{name}:{}", compact(input)))
        }
        Block::Refusal { text } => ("refusal", text.to_string()),
        Block::Opaque { kind, .. } => ("opaque", format!("{kind}:")),
    }
}

fn compact(json: &str) -> String {
    json.chars().filter(|c| !c.is_whitespace()).collect()
}

fn grow((kind, said): &mut (&'static str, String), delta: &Delta<'_>) {
    match delta {
        Delta::Text(text)
        | Delta::Thinking(text)
        | Delta::Refusal(text)
        | Delta::Signature(text) => said.push_str(text),
        Delta::Arguments(json) if *kind == "tool" => said.push_str(&compact(json)),
        Delta::Arguments(_) | Delta::Opaque { .. } => {}
    }
}

/// Reads frames and asserts what holds for any: an event for each, nesting, no panic.
fn read<'a>(dialect: Dialect, frames: impl IntoIterator<Item = &'a sse::Frame>) -> Account {
    let mut account = Account::default();
    let mut anthropic = anthropic::reader::Reader::default();
    let mut openai = openai::reader::Reader::default();
    for frame in frames {
        let mut count = 0;
        let mut sink = |event: Event<'_>| {
            account.hear(&event);
            count += 1;
        };
        match dialect {
            Dialect::Anthropic => anthropic.frame(frame, &mut sink),
            Dialect::OpenAi => openai.frame(frame, &mut sink),
        }
        assert!(count > 0, "a frame without an event: {frame:?}");
    }
    account
}

fn read_body(dialect: Dialect, body: &[u8]) -> (Account, Vec<String>) {
    let mut account = Account::default();
    let mut list = Vec::new();
    let mut sink = |event: Event<'_>| {
        account.hear(&event);
        list.push(format!("{event:?}"));
    };
    match dialect {
        Dialect::Anthropic => anthropic::reader::Reader::default().body(body, &mut sink),
        Dialect::OpenAi => openai::reader::Reader::default().body(body, &mut sink),
    }
    (account, list)
}

#[test]
fn a_whole_answer_says_the_same_streamed_and_folded() {
    let mut folded = 0;
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        for frames in recorded(dialect) {
            let mut fold = Fold::new(dialect);
            for data in frames.iter().filter_map(sse::Frame::data) {
                fold.push(&data);
            }
            let Ok(body) = fold.finish() else { continue };
            let (whole, _) = read_body(dialect, &body);
            assert_eq!(
                read(dialect, &frames).gist(),
                whole.gist(),
                "{}",
                String::from_utf8_lossy(&body)
            );
            folded += 1;
        }
    }
    assert!(folded >= 30, "{folded}");
}

#[test]
fn every_prefix_of_a_body_is_garbage() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        for entry in fs::read_dir(root.join(dialect.name())).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|known| known != "json") {
                continue;
            }
            let body = fs::read(&path).unwrap();
            for end in 0..body.len() {
                let (_, list) = read_body(dialect, &body[..end]);
                let [event] = &list[..] else {
                    panic!("{} cut at {end}: {list:?}", path.display());
                };
                assert!(event.starts_with("Garbage"), "cut at {end}: {event}");
            }
        }
    }
}

#[test]
fn too_many_choices_and_calls_are_refused() {
    let mut reader = openai::reader::Reader::default();
    let mut refused = Vec::new();
    let mut feed = |data: String| {
        reader.data(None, data.as_bytes(), &mut |event| {
            if let Event::Garbage { why } = event {
                refused.push(why);
            }
        });
    };
    for call in 0..1025 {
        feed(format!(
            r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":{call},"id":"c{call}","function":{{"name":"f"}}}}]}}}}]}}"#
        ));
    }
    for index in 0..129 {
        feed(format!(
            r#"{{"choices":[{{"index":{index},"delta":{{}}}}]}}"#
        ));
    }
    assert_eq!(refused, ["too many tool calls", "too many choices"]);
}

/// What is done to a list of frames.
#[derive(Clone, Debug)]
enum Harm {
    Drop(Index),
    Double(Index),
    Swap(Index, Index),
    Cut(Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        any::<Index>().prop_map(Harm::Drop),
        any::<Index>().prop_map(Harm::Double),
        any::<(Index, Index)>().prop_map(|(a, b)| Harm::Swap(a, b)),
        any::<Index>().prop_map(Harm::Cut),
    ]
}

impl Harm {
    fn inflict(&self, frames: &mut Vec<sse::Frame>) {
        if frames.is_empty() {
            return;
        }
        let length = frames.len();
        match self {
            Self::Drop(at) => drop(frames.remove(at.index(length))),
            Self::Double(at) => {
                let at = at.index(length);
                frames.insert(at, frames[at].clone());
            }
            Self::Swap(a, b) => frames.swap(a.index(length), b.index(length)),
            Self::Cut(at) => frames.truncate(at.index(length)),
        }
    }
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Anthropic), Just(Dialect::OpenAi)]
}

static ANTHROPIC: std::sync::LazyLock<Vec<Vec<sse::Frame>>> =
    std::sync::LazyLock::new(|| recorded(Dialect::Anthropic));
static OPENAI: std::sync::LazyLock<Vec<Vec<sse::Frame>>> =
    std::sync::LazyLock::new(|| recorded(Dialect::OpenAi));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_harmed_stream_still_nests(
        dialect in dialect(),
        which in any::<Index>(),
        other in any::<Index>(),
        harms in prop::collection::vec(harm(), 0..6),
    ) {
        let all = match dialect {
            Dialect::Anthropic => &ANTHROPIC,
            Dialect::OpenAi => &OPENAI,
        };
        let mut frames = which.get::<Vec<_>>(all).clone();
        if harms.len() > 3 {
            frames.extend_from_slice(other.get::<Vec<_>>(all));
        }
        for harm in &harms {
            harm.inflict(&mut frames);
        }
        read(dialect, &frames);
        let mut fold = Fold::new(dialect);
        for data in frames.iter().filter_map(sse::Frame::data) {
            fold.push(&data);
        }
        // Never a panic; whatever folds must be readable as a whole answer.
        if let Ok(body) = fold.finish() {
            let (account, _) = read_body(dialect, &body);
            prop_assert!(account.ended);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(
        dialect in dialect(),
        which in any::<Index>(),
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let all = match dialect {
            Dialect::Anthropic => &ANTHROPIC,
            Dialect::OpenAi => &OPENAI,
        };
        let mut stream: Vec<u8> = which.get::<Vec<_>>(all).iter().flat_map(|frame| frame.raw().to_vec()).collect();
        let length = stream.len();
        for (at, byte) in flips {
            stream[at.index(length)] = byte;
        }
        let frames = frames(&stream);
        read(dialect, &frames);
        let mut fold = Fold::new(dialect);
        for data in frames.iter().filter_map(sse::Frame::data) {
            fold.push(&data);
        }
        drop(fold.finish());
    }

    #[test]
    fn arbitrary_bytes_never_panic(dialect in dialect(), data in prop::collection::vec(any::<u8>(), 0..80)) {
        read_body(dialect, &data);
        let mut frame = b"data: ".to_vec();
        frame.extend_from_slice(&data);
        frame.extend_from_slice(b"\n\n");
        read(dialect, &frames(&frame));
    }
}

#[test]
fn deep_nesting_and_repeated_members_end_in_an_event() {
    let deep = |open: &str, close: &str| open.repeat(20_000) + &close.repeat(20_000);
    for value in [
        deep("[", "]"),
        deep("{\"a\":", "}").replacen(":}", ":1}", 1),
    ] {
        for data in [
            value.clone(),
            format!(r#"{{"type":"content_block_delta","index":0,"delta":{value}}}"#),
            format!(r#"{{"type":"message_start","message":{{"content":{value}}}}}"#),
            format!(r#"{{"error":{value}}}"#),
            format!(r#"{{"id":"c","choices":[{{"delta":{{"content":{value}}}}}]}}"#),
            format!(
                r#"{{"id":"c","choices":[{{"delta":{{"audio":{value}}},"finish_reason":"stop"}}]}}"#
            ),
            format!(
                r#"{{"id":"c","choices":[{{"delta":{{"tool_calls":[{{"function":{{"name":"f","arguments":{value}}}}}]}}}}]}}"#
            ),
            r#"{"id":"a","id":"b","type":"ping","type":"ping","choices":[],"choices":[]}"#
                .to_owned(),
        ] {
            for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
                read(dialect, &frames(format!("data: {data}\n\n").as_bytes()));
                read_body(dialect, data.as_bytes());
                let mut fold = Fold::new(dialect);
                fold.push(data.as_bytes());
                drop(fold.finish());
            }
        }
    }
}
