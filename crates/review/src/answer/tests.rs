//! Answers by hand, read back as a client reads them: by the dialect's reader, judged by the judge.

use bytes::Bytes;
use holdfast_wire::sse::Decoder;
use serde_json::Value;

use super::*;

const NOW: Wall = Wall(1_700_000_000_123);
const TEXT: &str = "Yes.\nA line \"quoted\" \u{1f600} \\ data: [DONE]\n\nevent: x";

fn kept(dialect: Dialect, stream: bool) -> KeptRequest {
    let body = match dialect {
        Dialect::Anthropic => format!(
            r#"{{"model":"claude","max_tokens":9,"stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
        ),
        Dialect::OpenAi => format!(
            r#"{{"model":"gpt","stream":{stream},"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"hi"}}]}}"#
        ),
    };
    KeptRequest {
        path: "/v1/x".to_owned(),
        dialect: dialect.name().to_owned(),
        route: "r".to_owned(),
        stream,
        delivery: "whole".to_owned(),
        query: None,
        headers: Vec::new(),
        body: body.into_bytes(),
        ..KeptRequest::default()
    }
}

/// Reads an answer as it was stored; with the text it says.
fn read(dialect: Dialect, stream: bool, bytes: &[u8]) -> (Verdict, Answer) {
    let mut judge = Judge::new(Terms {
        dialect,
        choices: 1,
        empty_is_whole: false,
        arguments_limit: 1 << 20,
    });
    let mut answer = Answer::default();
    let mut sink = |event: Event<'_>| {
        judge.event(&event);
        answer.push(&event);
    };
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(Bytes::copy_from_slice(bytes));
    match (dialect, stream) {
        (Dialect::Anthropic, false) => anthropic::reader::Reader::default().body(bytes, &mut sink),
        (Dialect::OpenAi, false) => openai::reader::Reader::default().body(bytes, &mut sink),
        (Dialect::Anthropic, true) => {
            let mut reader = anthropic::reader::Reader::default();
            while let Some(frame) = decoder.next_frame().unwrap() {
                reader.frame(&frame, &mut sink);
            }
        }
        (Dialect::OpenAi, true) => {
            let mut reader = openai::reader::Reader::default();
            while let Some(frame) = decoder.next_frame().unwrap() {
                reader.frame(&frame, &mut sink);
            }
        }
    }
    assert!(
        !stream || decoder.finish().is_none(),
        "the stream ends with a whole frame"
    );
    (judge.verdict(), answer)
}

const FORMS: [(Dialect, bool); 4] = [
    (Dialect::Anthropic, false),
    (Dialect::Anthropic, true),
    (Dialect::OpenAi, false),
    (Dialect::OpenAi, true),
];

#[test]
fn a_text_becomes_a_whole_answer_in_every_form() {
    for (dialect, stream) in FORMS {
        let made = from_text(&kept(dialect, stream), TEXT, "0190", NOW).unwrap();
        for (stream, bytes) in [(false, &made.body), (stream, &made.answer.body)] {
            let (verdict, answer) = read(dialect, stream, bytes);
            assert_eq!(verdict, Verdict::Whole, "{dialect:?} {stream}");
            assert_eq!(answer.text(), TEXT, "{dialect:?} {stream}");
            assert_eq!(answer.usage().input, Some(0), "{dialect:?} {stream}");
            assert_eq!(answer.usage().output, Some(0), "{dialect:?} {stream}");
        }
        assert_eq!(made.answer.status, 200);
        assert_eq!(made.verdict, "whole");
        let kind = made
            .answer
            .headers
            .iter()
            .find(|(name, _)| name == "content-type");
        let expected = if stream {
            "text/event-stream; charset=utf-8"
        } else {
            "application/json"
        };
        assert_eq!(kind.unwrap().1, expected);
    }
}

#[test]
fn a_stream_has_the_frames_that_clients_wait_for() {
    let made = from_text(&kept(Dialect::Anthropic, true), "Hi", "0190", NOW).unwrap();
    let text = String::from_utf8(made.answer.body).unwrap();
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(
        text.contains(r#""id":"msg_0190""#) && text.contains(r#""model":"claude""#),
        "{text}"
    );
    let made = from_text(&kept(Dialect::OpenAi, true), "Hi", "0190", NOW).unwrap();
    let text = String::from_utf8(made.answer.body).unwrap();
    let chunks: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(chunks.last(), Some(&"[DONE]"));
    for chunk in &chunks[..chunks.len() - 1] {
        let chunk: Value = serde_json::from_str(chunk).unwrap();
        assert_eq!(chunk["id"], "chatcmpl-0190");
        assert_eq!(chunk["created"], 1_700_000_000);
        assert_eq!(chunk["model"], "gpt");
    }
    let usage: Value = serde_json::from_str(chunks[chunks.len() - 2]).unwrap();
    assert_eq!(usage["usage"]["total_tokens"], 0);
}

#[test]
fn a_body_is_completed_and_kept_as_it_was_written() {
    let raw = r#"{ "content": [{"type":"text","text":"a","odd":1.50}], "stop_reason":"end_turn" }"#;
    let made = from_body(
        &kept(Dialect::Anthropic, false),
        raw.as_bytes(),
        "0190",
        NOW,
    )
    .unwrap();
    let text = String::from_utf8(made.answer.body.clone()).unwrap();
    assert!(
        text.contains(r#"[{"type":"text","text":"a","odd":1.50}], "stop_reason""#),
        "{text}"
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["id"], "msg_0190");
    assert_eq!(value["role"], "assistant");
    assert_eq!(value["usage"]["output_tokens"], 0);
    assert_eq!(
        read(Dialect::Anthropic, false, &made.answer.body).0,
        Verdict::Whole
    );
    let whole = text.as_bytes();
    let again = from_body(&kept(Dialect::Anthropic, false), whole, "x", NOW).unwrap();
    assert_eq!(
        again.answer.body, whole,
        "nothing is missing, nothing changes"
    );
}

#[test]
fn a_body_with_tools_becomes_a_stream_under_its_own_name() {
    let anthropic = r#"{"id":"msg_own","type":"message","role":"assistant","model":"m-own","content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t","name":"look","input":{"at":[1]}}],"stop_reason":"tool_use","usage":{"input_tokens":3,"output_tokens":4}}"#;
    let openai = r#"{"id":"own","model":"m-own","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"look","arguments":"{\"at\":[1]}"}}]},"finish_reason":"tool_calls"}]}"#;
    for (dialect, body) in [(Dialect::Anthropic, anthropic), (Dialect::OpenAi, openai)] {
        let made = from_body(&kept(dialect, true), body.as_bytes(), "0190", NOW).unwrap();
        assert_eq!(read(dialect, true, &made.answer.body).0, Verdict::Tools);
        assert_eq!(made.verdict, "tools");
        let text = String::from_utf8(made.answer.body).unwrap();
        assert!(text.contains("m-own") && text.contains("own\""), "{text}");
    }
}

#[test]
fn what_is_not_whole_is_refused_with_the_reason() {
    let anthropic = [
        ("{", "not valid JSON"),
        ("[]", "not an object"),
        ("{}", "not whole"),
        (
            r#"{"error":{"type":"overloaded_error","message":"x"}}"#,
            "not whole",
        ),
        (r#"{"content":[{"type":"text","text":"a"}]}"#, "not whole"),
        (
            r#"{"content":[{"type":"text","text":"a"}],"stop_reason":"done"}"#,
            "not whole",
        ),
        (r#"{"content":[],"stop_reason":"end_turn"}"#, "not whole"),
        (
            r#"{"content":[{"type":"text","text":"a"}],"stop_reason":"max_tokens"}"#,
            "token limit",
        ),
        (
            r#"{"content":[{"type":"text","text":"a"}],"stop_reason":"pause_turn"}"#,
            "goes on",
        ),
        (
            r#"{"content":[{"type":"text","text":"a"}],"stop_reason":"refusal"}"#,
            "reject",
        ),
    ];
    for (body, complaint) in anthropic {
        let made = from_body(
            &kept(Dialect::Anthropic, true),
            body.as_bytes(),
            "0190",
            NOW,
        );
        let error = made.unwrap_err();
        assert!(error.contains(complaint), "{body}: {error}");
    }
    let other = r#"{"content":[{"type":"text","text":"a"}],"stop_reason":"end_turn"}"#;
    assert!(from_body(&kept(Dialect::OpenAi, false), other.as_bytes(), "0190", NOW).is_err());
    assert!(from_text(&kept(Dialect::OpenAi, false), " \n", "0190", NOW).is_err());
}

#[test]
fn who_asked_for_json_gets_json() {
    let mut kept = kept(Dialect::OpenAi, false);
    kept.body =
        br#"{"model":"gpt","response_format":{"type":"json_object"},"messages":[]}"#.to_vec();
    assert!(from_text(&kept, "words", "0190", NOW).is_err());
    assert!(from_text(&kept, r#"{"a":1}"#, "0190", NOW).is_ok());
    let body = |text: &str| {
        let text = Value::from(text);
        format!(
            r#"{{"choices":[{{"message":{{"role":"assistant","content":{text}}},"finish_reason":"stop"}}]}}"#
        )
    };
    assert!(from_body(&kept, body("words").as_bytes(), "0190", NOW).is_err());
    assert!(from_body(&kept, body("[1]").as_bytes(), "0190", NOW).is_ok());
}

#[test]
fn a_rejection_is_an_error_of_the_dialect() {
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        let answer = rejection(Some(&kept(dialect, true)), "not \"this\" one", "0190");
        assert_eq!(answer.status, 403);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["message"], "not \"this\" one (HF-036)");
        let code = answer
            .headers
            .iter()
            .find(|(name, _)| name == "holdfast-code");
        assert_eq!(code.unwrap().1, "HF-036");
    }
}

#[test]
fn a_call_that_nobody_can_read_is_told() {
    let mut kept = kept(Dialect::OpenAi, false);
    kept.dialect = "klingon".to_owned();
    assert!(
        from_text(&kept, "x", "0190", NOW)
            .unwrap_err()
            .contains("klingon")
    );
}
