//! The fold of a stream is the body that the vendor would have sent for the same answer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use holdfast_wire::fold::{Error, Fold};
use holdfast_wire::sse;
use holdfast_wire::turn::Dialect;
use proptest::prelude::*;
use serde_json::{Value, json};

fn fold(dialect: Dialect, stream: &[u8]) -> Result<Vec<u8>, Error> {
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(Bytes::copy_from_slice(stream));
    let mut fold = Fold::new(dialect);
    while let Some(frame) = decoder.next_frame().unwrap() {
        if let Some(data) = frame.data() {
            fold.push(&data);
        }
    }
    fold.finish()
}

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

fn fixture(dialect: Dialect, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(dialect.name())
        .join(file)
}

#[test]
fn recorded_streams_fold_into_their_recorded_bodies() {
    let mut seen = 0;
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        for entry in fs::read_dir(fixture(dialect, "")).unwrap() {
            let body = entry.unwrap().path();
            if body.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let stream = fs::read(body.with_extension("sse")).unwrap();
            let folded =
                fold(dialect, &stream).unwrap_or_else(|e| panic!("{}: {e}", body.display()));
            let recorded = fs::read(&body).unwrap();
            assert_eq!(value(&folded), value(&recorded), "{}", body.display());
            seen += 1;
        }
    }
    assert!(seen >= 25, "{seen}");
}

#[test]
fn what_is_no_whole_answer_folds_into_nothing() {
    for (dialect, name, said) in [
        (
            Dialect::Anthropic,
            "cut_mid_text",
            "the stream ended before the answer: no message_stop",
        ),
        (
            Dialect::Anthropic,
            "unclosed_block",
            "the stream ended before the answer: a content block was not closed",
        ),
        (
            Dialect::Anthropic,
            "no_stop_reason",
            "the stream ended before the answer: no stop reason",
        ),
        (
            Dialect::Anthropic,
            "error_mid_stream",
            "the vendor reported an error: Overloaded",
        ),
        (
            Dialect::Anthropic,
            "max_tokens_cut_tool",
            "the input of a tool call is not JSON",
        ),
        (
            Dialect::Anthropic,
            "garbage",
            "the stream holds what is no event of its dialect: not JSON",
        ),
        (
            Dialect::OpenAi,
            "cut_mid_tool",
            "the stream ended before the answer: a choice without a finish reason",
        ),
        (
            Dialect::OpenAi,
            "done_without_finish",
            "the stream ended before the answer: a choice without a finish reason",
        ),
        (
            Dialect::OpenAi,
            "error_mid_stream",
            "the vendor reported an error: The server had an error",
        ),
        (
            Dialect::OpenAi,
            "openrouter_error",
            "the vendor reported an error: Provider returned error",
        ),
        (
            Dialect::OpenAi,
            "choice_error",
            "the vendor reported an error: gone",
        ),
        (
            Dialect::OpenAi,
            "after_the_finish",
            "the stream holds what is no event of its dialect: content after the finish reason",
        ),
        (
            Dialect::OpenAi,
            "garbage",
            "the stream holds what is no event of its dialect: not JSON",
        ),
    ] {
        let stream = fs::read(fixture(dialect, &format!("{name}.sse"))).unwrap();
        let error = fold(dialect, &stream).unwrap_err();
        assert_eq!(error.to_string(), said, "{dialect:?} {name}");
    }
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        assert!(matches!(fold(dialect, b""), Err(Error::Incomplete { .. })));
    }
}

#[test]
fn no_prefix_of_a_recorded_stream_folds_into_another_body() {
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        for name in ["text", "parallel_tools", "refusal"] {
            let stream = fs::read(fixture(dialect, &format!("{name}.sse"))).unwrap();
            let whole = value(&fold(dialect, &stream).unwrap());
            for end in 0..stream.len() {
                if let Ok(body) = fold(dialect, &stream[..end]) {
                    let mut body = value(&body);
                    // A Chat answer is whole at its finish reason; its usage comes after that.
                    assert_eq!(dialect, Dialect::OpenAi);
                    if let Some(usage) = whole.get("usage") {
                        body["usage"] = usage.clone();
                    }
                    assert_eq!(body, whole, "{name} cut at {end}");
                }
            }
        }
    }
}

#[test]
fn members_keep_the_vendors_order_and_numbers_their_digits() {
    let stream = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"zeta\":1.10,\"alpha\":[],\"content\":[],\"stop_reason\":null,\"usage\":{\"z\":1,\"a\":2}}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"z\\\":12345678901234567890123,\\\"a\\\":1.0}\"}}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"a\":null,\"b\":3},\"context_management\":{\"applied_edits\":[]}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
    );
    let body = String::from_utf8(fold(Dialect::Anthropic, stream.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        body,
        concat!(
            r#"{"id":"m","zeta":1.10,"alpha":[],"content":[{"type":"tool_use","id":"t","name":"f","input":{"z":12345678901234567890123,"a":1.0}}],"#,
            r#""stop_reason":"tool_use","usage":{"z":1,"a":2,"b":3},"context_management":{"applied_edits":[]}}"#
        )
    );
}

/// Cuts a text into pieces at the given places.
fn pieces<'a>(text: &'a str, cuts: &[prop::sample::Index]) -> Vec<&'a str> {
    let mut at: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(text.len() + 1))
        .filter(|&at| text.is_char_boundary(at))
        .chain([0, text.len()])
        .collect();
    at.sort_unstable();
    at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

fn frames(events: &[Value]) -> Vec<u8> {
    let mut stream = Vec::new();
    for event in events {
        stream.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }
    stream
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Tool(Value),
}

fn part() -> impl Strategy<Value = Part> {
    let input = prop::collection::btree_map("[a-z\"\\\\é]{0,6}", "\\PC{0,12}", 0..4);
    prop_oneof![
        "\\PC{1,40}".prop_map(Part::Text),
        input.prop_map(|input| Part::Tool(json!(input))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_generated_messages_stream_folds_into_its_body(
        parts in prop::collection::vec(part(), 0..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        output in 0_u32..9_999,
    ) {
        let head = json!({"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":7,"output_tokens":1}});
        let mut events = vec![json!({"type":"message_start","message":head})];
        let mut content = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let (opened, grown, deltas) = match part {
                Part::Text(text) => (
                    json!({"type":"text","text":""}),
                    json!({"type":"text","text":text}),
                    pieces(text, &cuts).iter().map(|piece| json!({"type":"text_delta","text":piece})).collect::<Vec<_>>(),
                ),
                Part::Tool(input) => (
                    json!({"type":"tool_use","id":format!("toolu_{index}"),"name":"f","input":{}}),
                    json!({"type":"tool_use","id":format!("toolu_{index}"),"name":"f","input":input}),
                    pieces(&input.to_string(), &cuts).iter().map(|piece| json!({"type":"input_json_delta","partial_json":piece})).collect(),
                ),
            };
            events.push(json!({"type":"content_block_start","index":index,"content_block":opened}));
            events.extend(deltas.into_iter().map(|delta| json!({"type":"content_block_delta","index":index,"delta":delta})));
            events.push(json!({"type":"content_block_stop","index":index}));
            content.push(grown);
        }
        events.push(json!({"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":output}}));
        events.push(json!({"type":"message_stop"}));
        let mut body = head;
        body["content"] = json!(content);
        body["stop_reason"] = json!("end_turn");
        body["usage"]["output_tokens"] = json!(output);
        prop_assert_eq!(value(&fold(Dialect::Anthropic, &frames(&events)).unwrap()), body);
    }

    #[test]
    fn a_generated_chat_stream_folds_into_its_body(
        text in prop::option::of("\\PC{1,40}"),
        tools in prop::collection::vec(prop::collection::btree_map("[a-z\"\\\\é]{0,6}", "\\PC{0,12}", 0..4), 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let chunk = |delta: Value, finish: Value| json!({"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":delta,"logprobs":null,"finish_reason":finish}]});
        let mut events = vec![chunk(json!({"role":"assistant","content":null}), Value::Null)];
        for piece in pieces(text.as_deref().unwrap_or(""), &cuts) {
            if text.is_some() {
                events.push(chunk(json!({"content":piece}), Value::Null));
            }
        }
        let mut calls = Vec::new();
        for (index, input) in tools.iter().enumerate() {
            let arguments = json!(input).to_string();
            let id = format!("call_{index}");
            events.push(chunk(json!({"tool_calls":[{"index":index,"id":id,"type":"function","function":{"name":"f","arguments":""}}]}), Value::Null));
            for piece in pieces(&arguments, &cuts) {
                events.push(chunk(json!({"tool_calls":[{"index":index,"function":{"arguments":piece}}]}), Value::Null));
            }
            calls.push(json!({"id":id,"type":"function","function":{"name":"f","arguments":arguments}}));
        }
        events.push(chunk(json!({}), json!("stop")));
        let mut message = json!({"role":"assistant","content":text});
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        let body = json!({"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":message,"logprobs":null,"finish_reason":"stop"}]});
        prop_assert_eq!(value(&fold(Dialect::OpenAi, &frames(&events)).unwrap()), body);
    }
}
