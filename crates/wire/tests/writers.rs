//! What the writers write is legal by an independent judge, and reads back as what was given.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use holdfast_wire::answer::{Answer, Shown, WriterOptions};
use holdfast_wire::turn::{Block, Delta, Dialect, Event, StopKind, Usage};
use holdfast_wire::{anthropic, openai, sse};
use proptest::prelude::*;

#[path = "writers/legal.rs"]
mod legal;
#[path = "writers/plan.rs"]
mod plan;

use plan::{Kind, Plan};

fn options() -> WriterOptions {
    WriterOptions {
        id: "msg_\"1\"".to_owned(),
        model: "mine".to_owned(),
        created: 1_795_000_000,
        include_usage: true,
        signatures: true,
        drop_thinking: false,
    }
}

/// A block as it was read back: kind, content, signature.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    blocks: Vec<(&'static str, String, String)>,
    start: Option<(String, String)>,
    stop: Option<(StopKind, Option<String>, Option<String>)>,
    usage: Usage,
    ended: bool,
}

impl Heard {
    fn take(&mut self, index: &mut Vec<u32>, event: Event<'_>) {
        match event {
            Event::Start { id, model } => {
                self.start = Some((id.into_owned(), model.into_owned()));
            }
            Event::BlockStart {
                index: at, block, ..
            } => {
                index.push(at);
                self.blocks.push(opened(block));
            }
            Event::Delta { index: at, delta } => {
                let at = index.iter().position(|known| *known == at).unwrap();
                let (_, content, signature) = &mut self.blocks[at];
                match delta {
                    Delta::Text(text)
                    | Delta::Thinking(text)
                    | Delta::Refusal(text)
                    | Delta::Arguments(text) => {
                        content.push_str(&text);
                    }
                    Delta::Signature(new) => *signature = new.into_owned(),
                    Delta::Opaque { .. } => {}
                }
            }
            Event::Stop { stop, .. } => {
                let own = |text: Option<std::borrow::Cow<'_, str>>| {
                    text.map(std::borrow::Cow::into_owned)
                };
                self.stop = Some((stop.kind, own(stop.sequence), own(stop.details)));
            }
            Event::Usage(newer) => self.usage.overwrite(newer),
            Event::End => self.ended = true,
            Event::BlockStop { .. } | Event::Ping => {}
            other => panic!("{other:?}"),
        }
    }

    fn of(events: &[Event<'_>]) -> Self {
        let (mut heard, mut index) = (Self::default(), Vec::new());
        for event in events {
            heard.take(&mut index, event.clone());
        }
        heard
    }

    /// All content of a kind, joined.
    fn joined(&self, kind: &str) -> String {
        let blocks = self.blocks.iter().filter(|block| block.0 == kind);
        blocks.map(|block| block.1.as_str()).collect()
    }

    fn tools(&self) -> Vec<String> {
        let blocks = self.blocks.iter().filter(|block| block.0 == "tool");
        blocks.map(|block| block.1.clone()).collect()
    }
}

fn opened(block: Block<'_>) -> (&'static str, String, String) {
    match block {
        Block::Text { text } => ("text", text.into_owned(), String::new()),
        Block::Thinking {
            thinking,
            signature,
        } => ("thinking", thinking.into_owned(), signature.into_owned()),
        Block::RedactedThinking { data } => ("redacted", data.into_owned(), String::new()),
        Block::Tool { name, input, .. } => {
            assert_eq!(name, "look \"up\"");
            ("tool", said(&input.unwrap_or_default()), String::new())
        }
        Block::Refusal { text } => ("refusal", text.into_owned(), String::new()),
        Block::Opaque { .. } => ("server", String::new(), String::new()),
    }
}

/// What a tool call's opening says: `{}`, `null` and blanks say nothing.
fn said(input: &str) -> String {
    match input.trim() {
        "" | "{}" | "{ }" | "null" => String::new(),
        _ => input.to_owned(),
    }
}

fn write(dialect: Dialect, options: &WriterOptions, events: &[Event<'_>]) -> BytesMut {
    let mut out = BytesMut::new();
    match dialect {
        Dialect::Anthropic => {
            let mut writer = anthropic::writer::Writer::new(options.clone());
            for event in events {
                writer.event(event, &mut out);
            }
            writer.end(&mut out).unwrap();
        }
        Dialect::OpenAi => {
            let mut writer = openai::writer::Writer::new(options.clone());
            for event in events {
                writer.event(event, &mut out);
            }
            writer.end(&mut out).unwrap();
        }
    }
    out
}

fn read(dialect: Dialect, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
    let mut decoder = sse::Decoder::new(1 << 24);
    decoder.push(Bytes::copy_from_slice(bytes));
    let (mut theirs, mut ours) = (
        anthropic::reader::Reader::default(),
        openai::reader::Reader::default(),
    );
    while let Some(frame) = decoder.next_frame().unwrap() {
        match dialect {
            Dialect::Anthropic => theirs.frame(&frame, sink),
            Dialect::OpenAi => ours.frame(&frame, sink),
        }
    }
    assert_eq!(decoder.finish(), None);
}

fn heard(dialect: Dialect, bytes: &[u8]) -> Heard {
    let (mut heard, mut index) = (Heard::default(), Vec::new());
    read(dialect, bytes, &mut |event| heard.take(&mut index, event));
    heard
}

/// What a client of Chat finds for these arguments.
fn chat_arguments(arguments: &str) -> String {
    if arguments.trim().is_empty() {
        format!("{arguments}{{}}")
    } else {
        arguments.to_owned()
    }
}

fn check_anthropic(plan: &Plan) {
    let events = plan.events();
    let bytes = write(Dialect::Anthropic, &options(), &events);
    legal::anthropic(&bytes);
    let heard = heard(Dialect::Anthropic, &bytes);
    let mut given = Heard::of(&events);
    for block in &mut given.blocks {
        if block.0 == "refusal" {
            block.0 = "text";
        }
    }
    assert_eq!(heard.blocks, given.blocks);
    assert_eq!(
        heard.start,
        Some(("msg_\"1\"".to_owned(), "mine".to_owned()))
    );
    let (kind, sequence, details) = heard.stop.unwrap();
    let (given_kind, given_sequence, given_details) = given.stop.unwrap();
    assert_eq!((kind, sequence), (given_kind, given_sequence));
    assert_eq!(
        details,
        given_details.map(|json| json.replace(['\r', '\n'], " "))
    );
    let told = |count: Option<u64>| count.unwrap_or(0);
    assert_eq!(told(heard.usage.input), told(given.usage.input));
    assert_eq!(told(heard.usage.cache_read), told(given.usage.cache_read));
    assert_eq!(told(heard.usage.cache_write), told(given.usage.cache_write));
    assert_eq!(told(heard.usage.output), told(given.usage.output));
    assert_eq!(heard.usage.reasoning, given.usage.reasoning);
    assert!(heard.ended);
}

fn check_openai(plan: &Plan) {
    let events = plan.events();
    let bytes = write(Dialect::OpenAi, &options(), &events);
    legal::openai(&bytes, true);
    let (heard, given) = (heard(Dialect::OpenAi, &bytes), Heard::of(&events));
    for kind in ["text", "thinking", "refusal"] {
        assert_eq!(heard.joined(kind), given.joined(kind), "{kind}");
    }
    let arguments: Vec<String> = given
        .tools()
        .iter()
        .map(|json| chat_arguments(json))
        .collect();
    assert_eq!(heard.tools(), arguments);
    let usage = given.usage;
    assert_eq!(heard.usage.output.unwrap_or(0), usage.output.unwrap_or(0));
    assert_eq!(heard.usage.input.unwrap_or(0), usage.input.unwrap_or(0));
    assert!(heard.ended);
    let refusal_block = plan.blocks.iter().any(|block| block.kind == Kind::Refusal);
    let refused = plan
        .blocks
        .iter()
        .any(|block| block.kind == Kind::Refusal && !block.content().is_empty());
    let expected = match plan.stop {
        StopKind::EndTurn | StopKind::StopSequence if !arguments.is_empty() => StopKind::ToolUse,
        StopKind::EndTurn | StopKind::StopSequence if refused => StopKind::Refusal,
        StopKind::EndTurn | StopKind::StopSequence => StopKind::EndTurn,
        StopKind::Refusal if refusal_block && !arguments.is_empty() => StopKind::ToolUse,
        StopKind::Refusal if refusal_block && !refused => StopKind::EndTurn,
        StopKind::ContextWindow | StopKind::Pause => StopKind::MaxTokens,
        kind => kind,
    };
    assert_eq!(heard.stop.unwrap().0, expected);
}

/// Messages -> Chat -> Messages keeps text and tool calls.
fn check_there_and_back(plan: &Plan) {
    let events = plan.events();
    let first = write(Dialect::Anthropic, &options(), &events);
    let chat = translate(Dialect::Anthropic, &first, Dialect::OpenAi);
    legal::openai(&chat, true);
    let back = translate(Dialect::OpenAi, &chat, Dialect::Anthropic);
    legal::anthropic(&back);
    let (back, given) = (heard(Dialect::Anthropic, &back), Heard::of(&events));
    // Messages has no refusal: it is text there.
    let mut given_text = given;
    for block in &mut given_text.blocks {
        if block.0 == "refusal" {
            block.0 = "text";
        }
    }
    assert_eq!(back.joined("text"), given_text.joined("text"));
    let tools: Vec<String> = given_text
        .tools()
        .iter()
        .map(|json| chat_arguments(json))
        .collect();
    let read: Vec<String> = back
        .tools()
        .iter()
        .map(|json| chat_arguments(json))
        .collect();
    assert_eq!(read, tools);
}

fn translate(from: Dialect, bytes: &[u8], to: Dialect) -> BytesMut {
    let mut out = BytesMut::new();
    match to {
        Dialect::Anthropic => {
            let mut writer = anthropic::writer::Writer::new(options());
            read(from, bytes, &mut |event| writer.event(&event, &mut out));
            writer.end(&mut out).unwrap();
        }
        Dialect::OpenAi => {
            let mut writer = openai::writer::Writer::new(options());
            read(from, bytes, &mut |event| writer.event(&event, &mut out));
            writer.end(&mut out).unwrap();
        }
    }
    out
}

fn check_bodies(plan: &Plan) {
    let mut answer = Answer::default();
    for event in plan.events() {
        answer.push(&event);
    }
    let given = Heard::of(&plan.events());
    let whole = |json: &String| match said(json).replace(['\r', '\n'], " ") {
        json if json.is_empty() => "{}".to_owned(),
        json => json,
    };

    let body = anthropic::body::encode(&answer, &options()).unwrap();
    let (mut read, mut index) = (Heard::default(), Vec::new());
    anthropic::reader::Reader::default().body(&body, &mut |event| read.take(&mut index, event));
    assert!(read.ended);
    assert_eq!(read.joined("text"), {
        let text = given
            .blocks
            .iter()
            .filter(|block| matches!(block.0, "text" | "refusal"));
        text.map(|block| block.1.as_str()).collect::<String>()
    });
    assert_eq!(read.joined("thinking"), given.joined("thinking"));
    assert_eq!(read.joined("redacted"), given.joined("redacted"));
    let tools = |heard: &Heard| heard.tools().iter().map(whole).collect::<Vec<_>>();
    assert_eq!(tools(&read), tools(&given));
    assert_eq!(read.stop.unwrap().0, plan.stop);

    let body = openai::body::encode(&answer, &options()).unwrap();
    let (mut read, mut index) = (Heard::default(), Vec::new());
    openai::reader::Reader::default().body(&body, &mut |event| read.take(&mut index, event));
    assert!(read.ended);
    for kind in ["text", "thinking", "refusal"] {
        assert_eq!(read.joined(kind), given.joined(kind), "{kind}");
    }
    assert_eq!(tools(&read), tools(&given));

    // A body as a stream: the same answer.
    let mut replayed = None;
    let mut writer = anthropic::writer::Writer::new(options());
    let mut out = BytesMut::new();
    answer.replay(&mut |event| {
        writer.event(&event, &mut out);
        replayed = Some(matches!(event, Event::End));
    });
    writer.end(&mut out).unwrap();
    legal::anthropic(&out);
    let streamed = heard(Dialect::Anthropic, &out);
    assert_eq!(tools(&streamed), tools(&given));
    assert_eq!(streamed.joined("thinking"), given.joined("thinking"));
    assert_eq!(replayed, Some(true));
}

/// Whether the frame belongs to the end of an answer.
fn is_ending(frame: &sse::Frame) -> bool {
    let text = std::str::from_utf8(frame.raw()).unwrap();
    let ends = [
        "event: message_",
        "\"finish_reason\":\"",
        "\"choices\":[]",
        "data: [DONE]",
    ];
    ends.iter().any(|end| text.contains(end)) && !text.starts_with("event: message_start")
}

/// The caller saw some frames of a first leg; the second leg goes on.
fn check_join(dialect: Dialect, first: &Plan, second: &Plan, mut seen: usize) {
    let mut out = BytesMut::new();
    let mut decoder = sse::Decoder::new(1 << 24);
    decoder.push(write(dialect, &options(), &first.events()).freeze());
    while let Some(frame) = decoder
        .next_frame()
        .unwrap()
        .filter(|frame| !is_ending(frame))
    {
        if seen == 0 {
            break;
        }
        seen -= 1;
        out.extend_from_slice(frame.raw());
    }
    let mut shown = Shown::default();
    read(dialect, &out, &mut |event| shown.observe(dialect, &event));
    let before = heard(dialect, &out);
    let spent = shown.usage;

    let mut options = options();
    options.drop_thinking = true;
    let events = second.events();
    match dialect {
        Dialect::Anthropic => {
            let mut writer = anthropic::writer::Writer::resume(options, shown);
            for event in &events {
                writer.event(event, &mut out);
            }
            writer.end(&mut out).unwrap();
            legal::anthropic(&out);
        }
        Dialect::OpenAi => {
            let mut writer = openai::writer::Writer::resume(options, shown);
            for event in &events {
                writer.event(event, &mut out);
            }
            writer.end(&mut out).unwrap();
            legal::openai(&out, true);
        }
    }
    let (joined, second) = (heard(dialect, &out), Heard::of(&events));
    let text = |heard: &Heard| {
        let blocks = heard
            .blocks
            .iter()
            .filter(|block| matches!(block.0, "text" | "refusal"));
        blocks.map(|block| block.1.as_str()).collect::<String>()
    };
    assert_eq!(text(&joined), text(&before) + &text(&second));
    assert_eq!(joined.joined("thinking"), before.joined("thinking"));
    let sum = spent.plus(second.usage);
    assert_eq!(joined.usage.output.unwrap_or(0), sum.output.unwrap_or(0));
    assert_eq!(joined.usage.input.unwrap_or(0), sum.input.unwrap_or(0));
}

/// A first leg of text alone, as only such a leg is joined.
fn text_plan() -> impl Strategy<Value = Plan> {
    (
        prop::collection::vec(plan::text_block(), 1..3),
        plan::usage(),
    )
        .prop_map(|(blocks, usage)| Plan {
            blocks,
            usage,
            stop: StopKind::EndTurn,
            interleaved: false,
            pings: false,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn messages_are_legal_and_keep_every_byte(plan in plan::plan()) {
        check_anthropic(&plan);
    }

    #[test]
    fn chunks_are_legal_and_keep_every_byte(plan in plan::plan()) {
        check_openai(&plan);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn another_dialect_and_back_keeps_text_and_tools(plan in plan::plan()) {
        check_there_and_back(&plan);
    }

    #[test]
    fn bodies_keep_what_streams_keep(plan in plan::plan()) {
        check_bodies(&plan);
    }

    #[test]
    fn a_join_is_one_legal_answer(first in text_plan(), second in plan::plan(), seen in 1..8_usize) {
        check_join(Dialect::Anthropic, &first, &second, seen);
        check_join(Dialect::OpenAi, &first, &second, seen);
    }
}
