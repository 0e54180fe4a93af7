//! The classifier on the bytes of answers, as a table: what a vendor sends, what a program holds.

use serde_json::json;

use super::*;
use crate::commands::demo::held::Event;
use crate::commands::demo::plan::Dialect::{self, Anthropic, OpenAi};

fn streamed(ask: &Ask, events: &[Value]) -> Outcome {
    let mut held = Held::default();
    for event in events {
        let data = event
            .as_str()
            .map_or_else(|| event.to_string(), str::to_owned);
        match held.event(ask.dialect, &data) {
            Ok(Event::Terminal) => break,
            Ok(_) => {}
            Err(_) => return judge(ask, &held, End::Told(Told::ErrorEvent)),
        }
    }
    judge(ask, &held, End::Ended)
}

fn chat(content: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": content}}]})
}

fn chat_tool(name: Option<&str>, arguments: &str) -> Value {
    json!({"choices": [{"delta": {"tool_calls": [
        {"index": 0, "function": {"name": name, "arguments": arguments}}
    ]}}]})
}

fn chat_finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn block(index: usize, kind: &str) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": {"type": kind, "name": "book_room"}})
}

fn delta(index: usize, name: &str, value: &str) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": {name: value}})
}

fn stop(reason: &str) -> Value {
    json!({"type": "message_delta", "delta": {"stop_reason": reason}})
}

fn end() -> Value {
    json!({"type": "message_stop"})
}

fn good_arguments() -> String {
    let word = holdfast_sim::make_text(3, 4);
    json!({"city": word, "guest": word}).to_string()
}

fn text(dialect: Dialect) -> (Ask, String, String) {
    let ask = Ask::text(dialect, true);
    let right = ask.right_text();
    let half = right[..right.len() / 4].to_owned();
    (ask, right, half)
}

#[test]
fn chat_texts() {
    let (ask, right, half) = text(OpenAi);
    let done = json!("[DONE]");
    let table = [
        (
            "all of it",
            vec![chat(&right), chat_finish("stop"), done.clone()],
            Outcome::Whole,
        ),
        ("cut cleanly", vec![chat(&half)], Outcome::Half),
        (
            "half, called complete",
            vec![chat(&half), chat_finish("stop"), done.clone()],
            Outcome::Half,
        ),
        (
            "no finish reason",
            vec![chat(&right), done.clone()],
            Outcome::Half,
        ),
        (
            "a limit nobody set",
            vec![chat(&half), chat_finish("length"), done.clone()],
            Outcome::Half,
        ),
        (
            "another text",
            vec![chat("Sure!"), chat_finish("stop"), done.clone()],
            Outcome::Silent,
        ),
        ("nothing", vec![], Outcome::Silent),
        (
            "an empty success",
            vec![chat_finish("stop"), done],
            Outcome::Silent,
        ),
        (
            "an error event",
            vec![chat(&half), json!({"error": {"message": "x"}})],
            Outcome::Told,
        ),
        ("garbage", vec![chat(&half), json!("{\"cho")], Outcome::Told),
    ];
    for (case, events, expected) in table {
        assert_eq!(streamed(&ask, &events), expected, "{case}");
    }
}

#[test]
fn anthropic_texts() {
    let (ask, right, half) = text(Anthropic);
    let open = || block(0, "text");
    let said = |text: &str| delta(0, "text", text);
    let error = json!({"type": "error", "error": {"type": "overloaded_error"}});
    let table = [
        (
            "all of it",
            vec![open(), said(&right), stop("end_turn"), end()],
            Outcome::Whole,
        ),
        (
            "in pieces",
            vec![
                open(),
                said(&half),
                said(&right[half.len()..]),
                stop("end_turn"),
                end(),
            ],
            Outcome::Whole,
        ),
        (
            "a piece said twice",
            vec![open(), said(&half), said(&half), stop("end_turn"), end()],
            Outcome::Silent,
        ),
        ("cut cleanly", vec![open(), said(&half)], Outcome::Half),
        (
            "no message_stop",
            vec![open(), said(&right), stop("end_turn")],
            Outcome::Half,
        ),
        (
            "no stop reason",
            vec![open(), said(&right), end()],
            Outcome::Half,
        ),
        (
            "an error event",
            vec![open(), said(&half), error],
            Outcome::Told,
        ),
        ("a delta of no block", vec![said(&half)], Outcome::Told),
        ("only pings", vec![json!({"type": "ping"})], Outcome::Silent),
    ];
    for (case, events, expected) in table {
        assert_eq!(streamed(&ask, &events), expected, "{case}");
    }
}

#[test]
fn tool_calls() {
    let good = good_arguments();
    let (front, back) = good.split_at(good.len() / 2);
    let wrong = good.replace("#sum:", "#sum:0");
    let chat_ask = Ask::tools(OpenAi, true);
    let table = [
        (
            "no [DONE]",
            vec![
                chat_tool(Some("book_room"), front),
                chat_tool(None, back),
                chat_finish("tool_calls"),
            ],
            Outcome::Whole,
        ),
        (
            "whole and done",
            vec![
                chat_tool(Some("book_room"), front),
                chat_tool(None, back),
                chat_finish("tool_calls"),
                json!("[DONE]"),
            ],
            Outcome::Whole,
        ),
        (
            "cut cleanly",
            vec![chat_tool(Some("book_room"), front)],
            Outcome::Half,
        ),
        (
            "cut, called complete",
            vec![
                chat_tool(Some("book_room"), front),
                chat_finish("tool_calls"),
                json!("[DONE]"),
            ],
            Outcome::Half,
        ),
        (
            "a wrong value",
            vec![
                chat_tool(Some("book_room"), &wrong),
                chat_finish("tool_calls"),
                json!("[DONE]"),
            ],
            Outcome::Half,
        ),
        (
            "a text instead",
            vec![chat("Booked!"), chat_finish("stop"), json!("[DONE]")],
            Outcome::Silent,
        ),
    ];
    for (case, events, expected) in table {
        assert_eq!(streamed(&chat_ask, &events), expected, "chat: {case}");
    }
    let ask = Ask::tools(Anthropic, true);
    let input = |json: &str| delta(0, "partial_json", json);
    let table = [
        (
            "whole",
            vec![
                block(0, "tool_use"),
                input(front),
                input(back),
                stop("tool_use"),
                end(),
            ],
            Outcome::Whole,
        ),
        (
            "cut cleanly",
            vec![block(0, "tool_use"), input(front)],
            Outcome::Half,
        ),
        (
            "no arguments",
            vec![block(0, "tool_use"), stop("tool_use"), end()],
            Outcome::Half,
        ),
    ];
    for (case, events, expected) in table {
        assert_eq!(streamed(&ask, &events), expected, "anthropic: {case}");
    }
}

#[test]
fn plain_bodies() {
    let (ask, right, half) = text(OpenAi);
    let message = |content: &str| json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]});
    let (other, theirs, _) = text(Anthropic);
    let said = json!({"content": [{"type": "text", "text": theirs}], "stop_reason": "end_turn"});
    let tool = json!({
        "content": [{"type": "tool_use", "name": "book_room", "input": serde_json::from_str::<Value>(&good_arguments()).unwrap()}],
        "stop_reason": "tool_use",
    });
    let table = [
        (ask, message(&right), Outcome::Whole),
        (ask, message(&half), Outcome::Half),
        (ask, message(""), Outcome::Silent),
        (ask, json!({}), Outcome::Silent),
        (ask, json!({"error": {"message": "x"}}), Outcome::Silent),
        (other, said, Outcome::Whole),
        (Ask::tools(Anthropic, false), tool, Outcome::Whole),
    ];
    for (ask, body, expected) in table {
        let mut held = Held::default();
        held.body(ask.dialect, body.to_string().as_bytes()).unwrap();
        assert_eq!(judge(&ask, &held, End::Ended), expected, "{body}");
    }
    assert!(Held::default().body(OpenAi, b"{\"choices\": [").is_err());
}

#[test]
fn what_was_told_or_never_came_is_not_judged_by_its_content() {
    let (ask, right, _) = text(OpenAi);
    let mut held = Held::default();
    held.event(OpenAi, &chat(&right).to_string()).unwrap();
    assert_eq!(judge(&ask, &held, End::Told(Told::Aborted)), Outcome::Told);
    assert_eq!(
        judge(&ask, &held, End::Told(Told::Status(529))),
        Outcome::Told
    );
    assert_eq!(judge(&ask, &held, End::Stalled), Outcome::Hung);
}
