//! The writers by example: exact bytes, what is held back, what is refused, and what is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use holdfast_wire::answer::{
    Answer, CallerError, NotWhole, OpenBlock, OpenKind, Shown, WriterOptions,
};
use holdfast_wire::turn::{Block, Delta, Dialect, Event, Stop, StopKind, Usage};
use holdfast_wire::{anthropic, openai, sse};
use serde_json::{Value, json};

type Messages = anthropic::writer::Writer;
type Chat = openai::writer::Writer;

fn options() -> WriterOptions {
    WriterOptions {
        id: "id_1".to_owned(),
        model: "m".to_owned(),
        created: 7,
        ..WriterOptions::default()
    }
}

fn start() -> Event<'static> {
    Event::Start {
        id: "foreign".into(),
        model: "theirs".into(),
    }
}

fn open(index: u32, block: Block<'static>) -> Event<'static> {
    Event::BlockStart {
        index,
        choice: 0,
        block,
    }
}

fn text(index: u32) -> Event<'static> {
    open(index, Block::Text { text: "".into() })
}

fn thinking(index: u32, signature: &'static str) -> Event<'static> {
    let (thinking, signature) = ("hm".into(), signature.into());
    open(
        index,
        Block::Thinking {
            thinking,
            signature,
        },
    )
}

fn tool(index: u32, id: &'static str, input: Option<&'static str>) -> Event<'static> {
    let (id, name, input) = (id.into(), "f".into(), input.map(Into::into));
    open(index, Block::Tool { id, name, input })
}

fn opaque(index: u32, kind: &'static str, raw: &'static str) -> Event<'static> {
    open(
        index,
        Block::Opaque {
            kind: kind.into(),
            raw: raw.into(),
            partial_input: kind == "server_tool_use",
        },
    )
}

fn say(index: u32, text: &'static str) -> Event<'static> {
    let delta = Delta::Text(text.into());
    Event::Delta { index, delta }
}

fn argue(index: u32, json: &'static str) -> Event<'static> {
    let delta = Delta::Arguments(json.into());
    Event::Delta { index, delta }
}

fn raw_delta(index: u32, kind: &'static str, raw: &'static str) -> Event<'static> {
    let delta = Delta::Opaque {
        kind: kind.into(),
        raw: raw.into(),
    };
    Event::Delta { index, delta }
}

fn close(index: u32) -> Event<'static> {
    Event::BlockStop { index }
}

fn stop_as(kind: StopKind, said: &'static str) -> Event<'static> {
    Event::Stop {
        choice: 0,
        stop: Stop {
            kind,
            said: said.into(),
            sequence: None,
            details: None,
        },
    }
}

fn stop() -> Event<'static> {
    stop_as(StopKind::EndTurn, "end_turn")
}

fn counts(input: u64, output: u64) -> Event<'static> {
    Event::Usage(Usage {
        input: Some(input),
        output: Some(output),
        ..Usage::default()
    })
}

/// The JSON of each frame written, without the last `[DONE]`.
fn frames(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let json = data.filter(|data| *data != "[DONE]");
    json.map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn messages(writer: &mut Messages, events: &[Event<'_>]) -> String {
    let mut out = BytesMut::new();
    for event in events {
        writer.event(event, &mut out);
    }
    String::from_utf8(out.to_vec()).unwrap()
}

fn chat(writer: &mut Chat, events: &[Event<'_>]) -> String {
    let mut out = BytesMut::new();
    for event in events {
        writer.event(event, &mut out);
    }
    String::from_utf8(out.to_vec()).unwrap()
}

/// A short name of each frame of the Messages dialect: `+0 text`, `0 Hi`, `-0`, or its type.
fn outline(out: &str) -> Vec<String> {
    let name = |json: &Value| match json["type"].as_str().unwrap() {
        "content_block_start" => {
            format!(
                "+{} {}",
                json["index"],
                json["content_block"]["type"].as_str().unwrap()
            )
        }
        "content_block_delta" => {
            let delta = json["delta"].as_object().unwrap();
            let said = delta.iter().find(|(name, _)| *name != "type").unwrap().1;
            format!("{} {}", json["index"], said.as_str().unwrap_or("?"))
        }
        "content_block_stop" => format!("-{}", json["index"]),
        other => other.to_owned(),
    };
    frames(out.as_bytes()).iter().map(name).collect()
}

#[test]
fn a_short_answer_in_messages() {
    let mut writer = Messages::new(options());
    let mut out = messages(
        &mut writer,
        &[
            start(),
            counts(5, 1),
            text(3),
            say(3, "a\n\u{2028}"),
            close(3),
            counts(5, 2),
            stop(),
        ],
    );
    let mut end = BytesMut::new();
    writer.end(&mut end).unwrap();
    out.push_str(std::str::from_utf8(&end).unwrap());
    let expected = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"id_1\",\"type\":\"message\",",
        "\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,",
        "\"usage\":{\"input_tokens\":5,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":1}}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\\n\\u2028\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},",
        "\"usage\":{\"input_tokens\":5,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":2}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    assert_eq!(out, expected);
    writer.end(&mut end).unwrap();
    assert!(
        out.ends_with(std::str::from_utf8(&end).unwrap()),
        "the end is written once"
    );
}

#[test]
fn a_short_answer_in_chat() {
    let mut writer = Chat::new(WriterOptions {
        include_usage: true,
        ..options()
    });
    let mut out = chat(
        &mut writer,
        &[
            start(),
            text(0),
            say(0, "Hi"),
            close(0),
            counts(5, 2),
            stop(),
        ],
    );
    let mut end = BytesMut::new();
    writer.end(&mut end).unwrap();
    out.push_str(std::str::from_utf8(&end).unwrap());
    let head = "data: {\"id\":\"id_1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\",\"choices\":[";
    let chunks = [
        "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}",
        "{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":null}",
        "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}",
        "],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}",
    ]
    .map(|rest| format!("{head}{rest}\n\n"))
    .concat();
    assert_eq!(out, chunks + "data: [DONE]\n\n");
}

#[test]
fn calls_side_by_side_are_put_one_after_the_other() {
    let mut writer = Messages::new(options());
    let events = [
        start(),
        text(0),
        say(0, "so"),
        tool(1, "a", None),
        tool(2, "b", None),
        tool(3, "c", None),
        argue(1, "{\"x\":"),
        argue(2, "{}"),
        argue(1, "1}"),
        close(2),
    ];
    let out = messages(&mut writer, &events);
    let shown = [
        "message_start",
        "+0 text",
        "0 so",
        "-0",
        "+1 tool_use",
        "1 {\"x\":",
        "1 1}",
    ];
    assert_eq!(outline(&out), shown);
    let out = messages(&mut writer, &[close(1)]);
    assert_eq!(
        outline(&out),
        ["-1", "+2 tool_use", "2 {}", "-2", "+3 tool_use"]
    );
    let out = messages(&mut writer, &[argue(3, "{\"y\":2}"), close(3)]);
    assert_eq!(outline(&out), ["3 {\"y\":2}", "-3"]);
    assert_eq!(writer.shown().next_index, 4);
    assert_eq!(writer.shown().open, None);
}

#[test]
fn text_behind_open_calls_waits_for_them() {
    let mut writer = Messages::new(options());
    let events = [
        start(),
        tool(0, "a", None),
        text(1),
        say(1, "after"),
        close(0),
        say(1, "!"),
    ];
    let out = messages(&mut writer, &events);
    let shown = [
        "message_start",
        "+0 tool_use",
        "-0",
        "+1 text",
        "1 after",
        "1 !",
    ];
    assert_eq!(outline(&out), shown);
}

#[test]
fn a_call_without_arguments_is_an_empty_object() {
    for input in [None, Some("{}"), Some("null"), Some("")] {
        let events = [start(), tool(0, "a", input), argue(0, ""), close(0)];
        let out = messages(&mut Messages::new(options()), &events);
        assert_eq!(
            outline(&out),
            ["message_start", "+0 tool_use", "-0"],
            "{input:?}"
        );
        let out = chat(&mut Chat::new(options()), &events);
        let chunks = frames(out.as_bytes());
        let arguments: Vec<&Value> = chunks
            .iter()
            .filter_map(|chunk| chunk.pointer("/choices/0/delta/tool_calls/0/function/arguments"))
            .collect();
        assert_eq!(arguments, ["", "{}"], "{input:?}");
    }
}

#[test]
fn a_call_whole_in_its_opening_is_one_delta() {
    let events = [start(), tool(0, "a", Some("{\"x\":1}")), close(0)];
    let out = messages(&mut Messages::new(options()), &events);
    assert_eq!(
        outline(&out),
        ["message_start", "+0 tool_use", "0 {\"x\":1}", "-0"]
    );
}

#[test]
fn every_stop_has_its_word_in_both_dialects() {
    for (kind, said, in_messages, in_chat) in [
        (StopKind::EndTurn, "stop", "end_turn", "stop"),
        (StopKind::StopSequence, "stop", "stop_sequence", "stop"),
        (StopKind::ToolUse, "tool_calls", "tool_use", "tool_calls"),
        (StopKind::MaxTokens, "length", "max_tokens", "length"),
        (
            StopKind::ContextWindow,
            "model_context_window_exceeded",
            "model_context_window_exceeded",
            "length",
        ),
        (StopKind::Pause, "pause_turn", "pause_turn", "length"),
        (StopKind::Pause, "compaction", "compaction", "length"),
        (StopKind::Pause, "elsewhere", "pause_turn", "length"),
        (
            StopKind::Refusal,
            "content_filter",
            "refusal",
            "content_filter",
        ),
    ] {
        let events = [start(), stop_as(kind, said)];
        let (mut writer, mut out) = (Messages::new(options()), BytesMut::new());
        messages(&mut writer, &events);
        writer.end(&mut out).unwrap();
        assert_eq!(
            frames(&out)[1]["delta"]["stop_reason"],
            in_messages,
            "{said}"
        );
        let (mut writer, mut out) = (Chat::new(options()), BytesMut::new());
        chat(&mut writer, &events);
        writer.end(&mut out).unwrap();
        assert_eq!(
            frames(&out)[0]["choices"][0]["finish_reason"],
            in_chat,
            "{said}"
        );
    }
}

#[test]
fn a_refusal_in_words_is_a_whole_answer_in_chat() {
    let refusal = open(0, Block::Refusal { text: "no".into() });
    let events = [
        start(),
        refusal,
        close(0),
        stop_as(StopKind::Refusal, "refusal"),
    ];
    let (mut writer, mut out) = (Chat::new(options()), BytesMut::new());
    assert!(chat(&mut writer, &events).contains("\"refusal\":\"no\""));
    writer.end(&mut out).unwrap();
    assert_eq!(frames(&out)[0]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn what_is_not_whole_gets_no_end() {
    let not_closed = NotWhole::OpenBlock { index: 4 };
    let said = |said: &str| NotWhole::Stop {
        said: said.to_owned(),
    };
    for (events, why) in [
        (vec![start(), text(0), close(0)], NotWhole::NoStop),
        (
            vec![start(), stop_as(StopKind::VendorFault, "error")],
            said("error"),
        ),
        (
            vec![start(), stop_as(StopKind::Unknown, "done")],
            said("done"),
        ),
        (
            vec![start(), tool(4, "a", None), argue(4, "{\"x"), stop()],
            not_closed.clone(),
        ),
        (
            vec![
                start(),
                tool(2, "a", None),
                tool(4, "b", None),
                close(2),
                stop(),
            ],
            not_closed,
        ),
    ] {
        let mut out = BytesMut::new();
        let mut writer = Messages::new(options());
        messages(&mut writer, &events);
        assert_eq!(writer.end(&mut out), Err(why.clone()));
        let mut writer = Chat::new(options());
        chat(&mut writer, &events);
        assert_eq!(writer.end(&mut out), Err(why));
        assert_eq!(out, "");
        let mut answer = Answer::default();
        for event in &events {
            answer.push(event);
        }
        assert!(anthropic::body::encode(&answer, &options()).is_err());
        assert!(openai::body::encode(&answer, &options()).is_err());
    }
}

#[test]
fn one_choice_without_a_finish_leaves_the_answer_open() {
    let mut writer = Chat::new(options());
    let other = Event::BlockStart {
        index: 0,
        choice: 1,
        block: Block::Text { text: "b".into() },
    };
    let out = chat(&mut writer, &[start(), other.clone(), close(0), stop()]);
    assert_eq!(out.matches("\"role\"").count(), 2);
    assert_eq!(writer.end(&mut BytesMut::new()), Err(NotWhole::NoStop));

    let mut writer = Messages::new(options());
    let out = messages(
        &mut writer,
        &[start(), other, say(0, "lost"), close(0), stop()],
    );
    assert_eq!(out, "");
    assert_eq!(writer.losses(), ["further choices"]);
    writer.end(&mut BytesMut::new()).unwrap();
}

#[test]
fn what_a_dialect_cannot_carry_is_named_once() {
    let citation = r#"{"type":"citations_delta","citation":{"a":1}}"#;
    let events = [
        start(),
        thinking(0, "sig"),
        close(0),
        open(1, Block::RedactedThinking { data: "x".into() }),
        close(1),
        opaque(
            2,
            "server_tool_use",
            r#"{"type":"server_tool_use","id":"s","input":{}}"#,
        ),
        argue(2, "{}"),
        close(2),
        text(3),
        raw_delta(3, "citations_delta", citation),
        raw_delta(3, "citations_delta", citation),
        close(3),
        opaque(4, "custom", r#"{"name":"f","input":"x"}"#),
        close(4),
    ];
    let mut writer = Chat::new(options());
    let out = chat(&mut writer, &events);
    assert_eq!(
        frames(out.as_bytes()).len(),
        2,
        "the role and the thinking: {out}"
    );
    let losses = [
        "thinking signature",
        "redacted thinking",
        "server tool block",
        "citations",
        "custom tool call",
    ];
    assert_eq!(writer.losses(), losses);

    let mut writer = Messages::new(options());
    let out = messages(&mut writer, &events);
    assert_eq!(
        writer.losses(),
        [
            "thinking signature",
            "redacted thinking",
            "custom tool call"
        ]
    );
    let shown = [
        "message_start",
        "+0 thinking",
        "0 hm",
        "-0",
        "+1 server_tool_use",
        "1 {}",
        "-1",
        "+2 text",
        "2 ?",
        "2 ?",
        "-2",
    ];
    assert_eq!(outline(&out), shown);

    let mut writer = Messages::new(WriterOptions {
        signatures: true,
        ..options()
    });
    let out = messages(&mut writer, &events);
    assert_eq!(writer.losses(), ["custom tool call"]);
    assert!(out.contains("\"signature_delta\",\"signature\":\"sig\""));
    assert!(out.contains("{\"type\":\"redacted_thinking\",\"data\":\"x\"}"));
}

fn half_shown() -> Shown {
    Shown {
        started: true,
        open: Some(OpenBlock {
            index: 1,
            kind: OpenKind::Text,
            source: Some(1),
        }),
        next_index: 2,
        usage: Usage {
            input: Some(10),
            output: Some(3),
            ..Usage::default()
        },
        id: "msg_theirs".to_owned(),
        model: "shown".to_owned(),
        ..Shown::default()
    }
}

#[test]
fn a_join_goes_on_in_the_open_text() {
    let joined = WriterOptions {
        drop_thinking: true,
        ..options()
    };
    let events = [
        start(),
        thinking(0, "sig"),
        close(0),
        text(1),
        say(0, "put in at the seam"),
        say(1, "more"),
        close(1),
        tool(2, "a", None),
        close(2),
        counts(4, 2),
        stop(),
    ];
    let (mut writer, mut end) = (
        Messages::resume(joined.clone(), half_shown()),
        BytesMut::new(),
    );
    let out = messages(&mut writer, &events);
    assert_eq!(
        outline(&out),
        ["1 put in at the seam", "1 more", "-1", "+2 tool_use", "-2"]
    );
    writer.end(&mut end).unwrap();
    let usage = &frames(&end)[0]["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"]),
        (&json!(14), &json!(5))
    );
    assert_eq!(writer.losses(), ["thinking after a join"]);

    let mut writer = Chat::resume(
        joined,
        Shown {
            tool_calls: 1,
            ..half_shown()
        },
    );
    let chunks = frames(chat(&mut writer, &events).as_bytes());
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["id"] == "msg_theirs" && chunk["model"] == "shown")
    );
    assert_eq!(
        chunks[0]["choices"][0]["delta"],
        json!({"content": "put in at the seam"})
    );
    assert_eq!(
        chunks[2]["choices"][0]["delta"]["tool_calls"][0]["index"],
        1
    );
}

#[test]
fn text_at_a_seam_without_open_text_opens_some() {
    let shown = Shown {
        open: None,
        ..half_shown()
    };
    let mut writer = Messages::resume(options(), shown);
    let out = messages(
        &mut writer,
        &[start(), say(0, "a"), text(1), say(1, "b"), close(1)],
    );
    assert_eq!(outline(&out), ["+2 text", "2 a", "2 b", "-2"]);
}

#[test]
fn an_ending_without_a_leg_of_its_own_replaces_the_counts() {
    // As when a cut tool call is withheld: the same leg's end is written by another writer.
    let mut writer = Messages::resume(options(), half_shown());
    let mut out = BytesMut::new();
    messages(
        &mut writer,
        &[stop_as(StopKind::MaxTokens, "max_tokens"), counts(10, 9)],
    );
    writer.end(&mut out).unwrap();
    assert_eq!(
        outline(std::str::from_utf8(&out).unwrap()),
        ["-1", "message_delta", "message_stop"]
    );
    assert_eq!(frames(&out)[1]["usage"]["output_tokens"], 9);
}

#[test]
fn a_block_that_an_earlier_leg_left_open_is_closed_before_the_next() {
    for kind in [OpenKind::Thinking, OpenKind::Tool, OpenKind::Other] {
        let open = half_shown().open.map(|open| OpenBlock { kind, ..open });
        let mut writer = Messages::resume(
            options(),
            Shown {
                open,
                ..half_shown()
            },
        );
        let out = messages(&mut writer, &[start(), text(0), say(0, "x")]);
        assert_eq!(outline(&out), ["-1", "+2 text", "2 x"], "{kind:?}");
        let mut out = BytesMut::new();
        writer.close_open(&mut out);
        writer.close_open(&mut out);
        assert_eq!(outline(std::str::from_utf8(&out).unwrap()), ["-2"]);
    }
}

#[test]
fn what_is_observed_is_what_the_writer_showed() {
    let events = [
        start(),
        counts(3, 1),
        text(0),
        say(0, "x"),
        close(0),
        tool(1, "a", None),
        argue(1, "{"),
    ];
    let mut writer = Messages::new(options());
    let out = messages(&mut writer, &events);
    let mut decoder = sse::Decoder::new(1 << 16);
    decoder.push(Bytes::from(out));
    let (mut reader, mut seen) = (anthropic::reader::Reader::default(), Shown::default());
    while let Some(frame) = decoder.next_frame().unwrap() {
        reader.frame(&frame, &mut |event| {
            seen.observe(Dialect::Anthropic, &event);
        });
    }
    let usage = seen.usage;
    seen.created = 7;
    seen.usage = writer.shown().usage;
    assert_eq!(&seen, writer.shown());
    assert_eq!((usage.input, usage.output), (Some(3), Some(1)));
}

#[test]
fn an_observed_join_stays_in_its_text() {
    let mut shown = half_shown();
    shown.observe(Dialect::Anthropic, &text(1));
    let before = shown.next_index;
    for event in [start(), thinking(0, ""), close(0), text(1), say(1, "x")] {
        shown.observe(Dialect::Anthropic, &event);
    }
    assert_eq!(before, 3, "its own leg opened another block");
    let shown_open = |shown: &Shown| shown.open.map(|open| (open.index, open.kind, open.source));
    assert_eq!(shown_open(&shown), Some((2, OpenKind::Text, Some(1))));
    assert_eq!(shown.next_index, 3);
    assert_eq!((shown.spent.input, shown.usage.input), (Some(10), None));
    for event in [close(1), tool(2, "a", None)] {
        shown.observe(Dialect::Anthropic, &event);
    }
    assert_eq!(shown_open(&shown), Some((3, OpenKind::Tool, Some(2))));
    assert_eq!(shown.tool_calls, 1);
}

#[test]
fn keep_alives_are_one_frame_each() {
    let mut out = BytesMut::new();
    anthropic::writer::ping(&mut out);
    assert_eq!(out, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
    out.clear();
    openai::writer::ping(&mut out);
    assert_eq!(out, ": ping\n\n");
    for comment in [anthropic::writer::comment, openai::writer::comment] {
        out.clear();
        comment("joined\r\n\ndata: {}", &mut out);
        assert_eq!(out, ": joined   data: {}\n\n");
    }
}

#[test]
fn errors_read_back_as_they_were_told() {
    let error = CallerError {
        status: 529,
        kind: "overloaded_error".to_owned(),
        code: "upstream_incomplete".to_owned(),
        message: "cut \"here\"\n\n".to_owned(),
        request_id: "ex_1".to_owned(),
    };
    let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
    anthropic::error::error_frame(&error, &mut ours);
    openai::error::error_frame(&error, &mut theirs);
    let body: Value = serde_json::from_slice(&anthropic::error::error_body(&error)).unwrap();
    assert_eq!(
        body,
        json!({"type": "error", "request_id": "ex_1", "error": {"type": "overloaded_error",
            "message": "cut \"here\"\n\n", "details": {"error_code": "upstream_incomplete"}}})
    );
    assert_eq!(frames(&ours), [body]);
    assert!(ours.starts_with(b"event: error\ndata: "));
    let body: Value = serde_json::from_slice(&openai::error::error_body(&error)).unwrap();
    assert_eq!(
        body,
        json!({"error": {"message": "cut \"here\"\n\n", "type": "overloaded_error",
            "param": null, "code": "upstream_incomplete"}})
    );
    assert_eq!(frames(&theirs), [body]);
    let mut said = Vec::new();
    let mut keep = |event: Event<'_>| match event {
        Event::Error(error) => said.push((
            error.kind.into_owned(),
            error.code.into_owned(),
            error.message.into_owned(),
        )),
        other => panic!("{other:?}"),
    };
    let frame = |bytes: BytesMut| sse::Frame::new(bytes.freeze()).unwrap();
    anthropic::reader::Reader::default().frame(&frame(ours), &mut keep);
    openai::reader::Reader::default().frame(&frame(theirs), &mut keep);
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0], (error.kind, error.code, error.message));
}

#[test]
fn every_status_has_its_kind() {
    for (status, in_messages, in_chat) in [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "invalid_request_error"),
        (402, "billing_error", "insufficient_quota"),
        (403, "permission_error", "invalid_request_error"),
        (404, "not_found_error", "invalid_request_error"),
        (408, "timeout_error", "invalid_request_error"),
        (409, "conflict_error", "invalid_request_error"),
        (413, "request_too_large", "invalid_request_error"),
        (422, "invalid_request_error", "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "api_error", "server_error"),
        (502, "api_error", "server_error"),
        (503, "api_error", "service_unavailable_error"),
        (504, "timeout_error", "server_error"),
        (529, "overloaded_error", "service_unavailable_error"),
    ] {
        assert_eq!(
            anthropic::error::error_kind(status),
            in_messages,
            "{status}"
        );
        assert_eq!(openai::error::error_kind(status), in_chat, "{status}");
    }
}

#[test]
fn a_paused_turn_is_sent_back_unchanged() {
    let mut answer = Answer::default();
    for event in [
        start(),
        thinking(0, "sig"),
        close(0),
        text(1),
        close(1),
        opaque(
            2,
            "server_tool_use",
            r#"{"type":"server_tool_use","id":"s","input":{},"name":"web"}"#,
        ),
        argue(2, "{\"q\":"),
        argue(2, "\"x\"}"),
        close(2),
        opaque(
            3,
            "web_search_tool_result",
            r#"{"type":"web_search_tool_result","content":[{"encrypted":"e"}]}"#,
        ),
        close(3),
        text(4),
        say(4, "cited"),
        raw_delta(
            4,
            "citations_delta",
            r#"{"type":"citations_delta","citation":{"n":1}}"#,
        ),
        raw_delta(
            4,
            "citations_delta",
            r#"{"type":"citations_delta","citation":{"n":2}}"#,
        ),
        close(4),
        opaque(5, "compaction", r#"{"type":"compaction","content":null}"#),
        raw_delta(
            5,
            "compaction_delta",
            r#"{"type":"compaction_delta","content":"so far"}"#,
        ),
        close(5),
        opaque(6, "compaction", r#"{"type":"compaction"}"#),
        raw_delta(
            6,
            "compaction_delta",
            r#"{"type":"compaction_delta","content":"new"}"#,
        ),
        close(6),
        text(7),
        say(7, "never closed"),
    ] {
        answer.push(&event);
    }
    let message: Value =
        serde_json::from_slice(&anthropic::body::assistant_message(&answer)).unwrap();
    let content = json!([
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "server_tool_use", "id": "s", "input": {"q": "x"}, "name": "web"},
        {"type": "web_search_tool_result", "content": [{"encrypted": "e"}]},
        {"type": "text", "text": "cited", "citations": [{"n": 1}, {"n": 2}]},
        {"type": "compaction", "content": "so far"},
        {"type": "compaction", "content": "new"},
    ]);
    assert_eq!(message, json!({"role": "assistant", "content": content}));
}

#[test]
fn a_withheld_call_is_gone_and_a_broken_one_is_refused() {
    let mut answer = Answer::default();
    for event in [
        start(),
        text(0),
        say(0, "hi"),
        close(0),
        tool(1, "a", None),
        argue(1, "{\"city\": \"Par"),
        close(1),
        stop_as(StopKind::MaxTokens, "max_tokens"),
    ] {
        answer.push(&event);
    }
    let broken = NotWhole::Arguments { index: 1 };
    assert_eq!(
        anthropic::body::encode(&answer, &options()),
        Err(broken.clone())
    );
    assert_eq!(openai::body::encode(&answer, &options()), Err(broken));
    answer.drop_block(1);
    let body: Value =
        serde_json::from_slice(&openai::body::encode(&answer, &options()).unwrap()).unwrap();
    assert_eq!(
        body["choices"],
        json!([{"index": 0, "message": {"role": "assistant", "content": "hi", "refusal": null},
            "logprobs": null, "finish_reason": "length"}])
    );
    let body: Value =
        serde_json::from_slice(&anthropic::body::encode(&answer, &options()).unwrap()).unwrap();
    assert_eq!(body["content"], json!([{"type": "text", "text": "hi"}]));
    assert_eq!(body["stop_reason"], "max_tokens");
    assert_eq!(answer.text(), "hi");
}
