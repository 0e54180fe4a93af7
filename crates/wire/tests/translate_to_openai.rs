//! Anthropic requests as OpenAI requests: the traps of wire facts section 6, one rich request whole,
//! what is lost and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use holdfast_wire::answer::WriterOptions;
use holdfast_wire::translate::{Refusal, Target, Translated, request};
use holdfast_wire::turn::Dialect;
use holdfast_wire::{anthropic, openai, sse};
use proptest::prelude::*;
use serde_json::{Value, json};

const TARGET: Target<'_> = Target {
    model: "gpt-next",
    stream: false,
    max_output: None,
    stop_limit: Some(4),
    tool_id_alnum9: false,
    max_completion_tokens: true,
    stream_options: true,
};

fn translated(body: &Value, target: &Target<'_>) -> Translated {
    request(Dialect::Anthropic, body.to_string().as_bytes(), target)
        .unwrap_or_else(|refusal| panic!("{body}: {refusal}"))
}

/// The request's body, for the usual target.
fn chat(body: &Value) -> Value {
    chat_for(body, &TARGET)
}

fn chat_for(body: &Value, target: &Target<'_>) -> Value {
    serde_json::from_slice(&translated(body, target).body).unwrap()
}

fn losses(body: &Value) -> Vec<String> {
    let losses = translated(body, &TARGET).losses;
    losses.into_iter().map(|loss| loss.path).collect()
}

fn refused(body: &Value) -> Refusal {
    match request(Dialect::Anthropic, body.to_string().as_bytes(), &TARGET) {
        Ok(done) => panic!("{body} became {}", String::from_utf8_lossy(&done.body)),
        Err(refusal) => refusal,
    }
}

/// Where the request would change its meaning.
fn changes_meaning(body: &Value) -> String {
    match refused(body) {
        Refusal::Meaning { path, .. } => path,
        refusal @ Refusal::Shape { .. } => panic!("{body}: {refusal}"),
    }
}

/// Where the request is not one of its dialect.
fn is_no_request(body: &Value) -> String {
    match refused(body) {
        Refusal::Shape { path, .. } => path,
        refusal @ Refusal::Meaning { .. } => panic!("{body}: {refusal}"),
    }
}

/// A request of these messages.
fn asks(messages: &Value) -> Value {
    json!({"model": "claude", "max_tokens": 100, "messages": messages})
}

/// A request with one more member.
fn with(name: &str, value: &Value) -> Value {
    let mut body = asks(&json!([{"role": "user", "content": "hi"}]));
    body[name] = value.clone();
    body
}

/// A request whose user says this.
fn says(content: &Value) -> Value {
    asks(&json!([{"role": "user", "content": content}]))
}

/// A conversation in which these tools were called, with these blocks in the turn after.
fn calls(ids: &[&str], blocks: &Value) -> Value {
    let made: Vec<Value> = ids.iter().map(|id| call(id)).collect();
    asks(&json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": made},
        {"role": "user", "content": blocks},
    ]))
}

fn call(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "look", "input": {"at": id}})
}

fn answer(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": format!("of {id}")})
}

fn tool(name: &str) -> Value {
    json!({"name": name, "input_schema": {"type": "object", "properties": {}}})
}

fn image() -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}})
}

fn image_part() -> Value {
    json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}})
}

/// The roles of the messages, tool messages with the id they answer.
fn order(chat: &Value) -> Vec<String> {
    let messages = chat["messages"].as_array().unwrap();
    let name = |message: &Value| {
        let role = message["role"].as_str().unwrap();
        match message["tool_call_id"].as_str() {
            Some(id) => format!("{role} {id}"),
            None => role.to_owned(),
        }
    };
    messages.iter().map(name).collect()
}

/// A Chat stream read and written as an Anthropic stream: the data of its frames.
fn answered(chunks: &[Value]) -> Vec<Value> {
    let chunks: Vec<String> = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    let mut writer = anthropic::writer::Writer::new(WriterOptions::default());
    let mut out = BytesMut::new();
    let mut reader = openai::reader::Reader::default();
    for frame in frames((chunks.concat() + "data: [DONE]\n\n").into()) {
        reader.frame(&frame, &mut |event| writer.event(&event, &mut out));
    }
    writer.end(&mut out).unwrap();
    let data = |frame: &sse::Frame| serde_json::from_slice(&frame.data().unwrap()).unwrap();
    frames(out.freeze()).iter().map(data).collect()
}

fn frames(stream: Bytes) -> Vec<sse::Frame> {
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(stream);
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

/// A chunk with one delta of tool calls.
fn tools_chunk(calls: &Value, finish: &Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": finish}],
    })
}

/// A whole call in one delta.
fn whole_call(id: &str, arguments: &Value) -> Value {
    let function = json!({"name": "f", "arguments": arguments});
    json!([{"index": 0, "id": id, "type": "function", "function": function}])
}

/// Id and arguments of each tool call of an Anthropic stream.
fn arguments(frames: &[Value]) -> Vec<(String, String)> {
    let mut calls: Vec<(u64, String, String)> = Vec::new();
    for frame in frames {
        let index = frame["index"].as_u64().unwrap_or_default();
        if frame["content_block"]["type"] == "tool_use" {
            let id = frame["content_block"]["id"].as_str().unwrap().to_owned();
            calls.push((index, id, String::new()));
        }
        if let Some(piece) = frame["delta"]["partial_json"].as_str() {
            let mut known = calls.iter_mut();
            known.find(|call| call.0 == index).unwrap().2 += piece;
        }
    }
    calls.into_iter().map(|(_, id, args)| (id, args)).collect()
}

// === the traps ===

#[test]
fn trap_01_empty_arguments_are_an_empty_object() {
    for input in [json!({}), Value::Null] {
        let block = json!({"type": "tool_use", "id": "a", "name": "f", "input": input});
        let body = asks(&json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [block]},
            {"role": "user", "content": [answer("a")]},
        ]));
        let call = &chat(&body)["messages"][1]["tool_calls"][0];
        assert_eq!(call["function"]["arguments"], "{}");
    }
    for empty in [json!(""), Value::Null, json!("{}")] {
        let frames = answered(&[
            tools_chunk(&whole_call("c", &empty), &Value::Null),
            tools_chunk(&json!([]), &json!("tool_calls")),
        ]);
        let [(_, arguments)] = arguments(&frames).try_into().unwrap();
        // No delta at all means `{}` in this dialect.
        assert!(matches!(arguments.as_str(), "" | "{}"), "{arguments}");
    }
}

#[test]
fn trap_02_arguments_stay_as_the_model_wrote_them() {
    // A tree would rewrite the numbers, the order and the spaces.
    let input = r#"{ "z": 1.0, "a": 12345678901234567890123, "e": 1e2 }"#;
    let body = calls(&["a"], &json!([answer("a")])).to_string();
    let body = body.replace(r#"{"at":"a"}"#, input);
    let done = request(Dialect::Anthropic, body.as_bytes(), &TARGET).unwrap();
    let chat: Value = serde_json::from_slice(&done.body).unwrap();
    let call = &chat["messages"][1]["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], input);
}

#[test]
fn trap_03_calls_of_one_index_stay_apart() {
    let of = |id: &str| format!("{{\"of\":\"{id}\"}}");
    let frames = answered(&[
        tools_chunk(&whole_call("one", &json!(of("one"))), &Value::Null),
        tools_chunk(&whole_call("two", &json!(of("two"))), &Value::Null),
        tools_chunk(&json!([]), &json!("tool_calls")),
    ]);
    let expected = ["one", "two"].map(|id| (id.to_owned(), of(id)));
    assert_eq!(arguments(&frames), expected);
}

#[test]
fn trap_04_results_stand_behind_their_calls_in_order() {
    let said = json!({"type": "text", "text": "Both."});
    let body = asks(&json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [said, call("a"), call("b"), call("c")]},
        {"role": "user", "content": [answer("b"), answer("a"), {"type": "text", "text": "go on"}]},
        {"role": "user", "content": [answer("c")]},
        {"role": "assistant", "content": [call("d")]},
        {"role": "user", "content": [answer("d")]},
    ]));
    let chat = chat(&body);
    let expected = [
        "user",
        "assistant",
        "tool a",
        "tool b",
        "tool c",
        "user",
        "assistant",
        "tool d",
    ];
    assert_eq!(order(&chat), expected);
    assert_eq!(chat["messages"][1]["content"], "Both.");
    assert_eq!(chat["messages"][3]["content"], "of b");
    assert_eq!(chat["messages"][5]["content"], "go on");
    assert_eq!(chat["messages"][6]["content"], Value::Null);
}

#[test]
fn trap_04_nothing_comes_between_calls_and_results() {
    let body = asks(&json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [call("a")]},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "well"}, answer("a")]},
    ]));
    let expected = ["user", "assistant", "tool a", "system", "user"];
    assert_eq!(order(&chat(&body)), expected);
}

#[test]
fn trap_04_a_call_has_exactly_one_result() {
    let of = |results: Value| calls(&["a", "b"], &results);
    let missing = of(json!([answer("a")]));
    assert_eq!(is_no_request(&missing), "messages[1].content[1]");
    let twice = of(json!([answer("a"), answer("b"), answer("a")]));
    assert_eq!(is_no_request(&twice), "messages[2].content[2]");
    let unknown = of(json!([answer("a"), answer("b"), answer("x")]));
    assert_eq!(is_no_request(&unknown), "messages[2].content[2]");
    let late = asks(&json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [call("a")]},
        {"role": "user", "content": "what?"},
        {"role": "assistant", "content": "Hm."},
        {"role": "user", "content": [answer("a")]},
    ]));
    assert_eq!(is_no_request(&late), "messages[1].content[0]");
}

#[test]
fn trap_05_one_call_at_a_time() {
    let choosing = |choice: Value| {
        let mut body = with("tools", &json!([tool("f")]));
        body["tool_choice"] = choice;
        chat(&body)
    };
    let alone = choosing(json!({"type": "auto", "disable_parallel_tool_use": true}));
    assert_eq!(alone["parallel_tool_calls"], false);
    let several = choosing(json!({"type": "any", "disable_parallel_tool_use": false}));
    assert_eq!(several["parallel_tool_calls"], true);
    let untold = choosing(json!({"type": "auto"}));
    assert!(untold.get("parallel_tool_calls").is_none());
}

#[test]
fn trap_06_tool_choices() {
    let table = [
        (json!({"type": "auto"}), json!("auto")),
        (json!({"type": "any"}), json!("required")),
        (json!({"type": "none"}), json!("none")),
        (
            json!({"type": "tool", "name": "f"}),
            json!({"type": "function", "function": {"name": "f"}}),
        ),
    ];
    for (choice, expected) in table {
        let mut body = with("tools", &json!([tool("f")]));
        body["tool_choice"] = choice;
        assert_eq!(chat(&body)["tool_choice"], expected);
    }
    // Chat refuses a choice where there is nothing to choose from.
    for choice in ["auto", "none"] {
        let body = with("tool_choice", &json!({"type": choice}));
        assert!(chat(&body).get("tool_choice").is_none());
    }
    let forced = with("tool_choice", &json!({"type": "any"}));
    assert_eq!(is_no_request(&forced), "tool_choice");
}

#[test]
fn trap_07_images_of_results_move_to_the_user() {
    let body = calls(
        &["a", "b"],
        &json!([
            {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "seen"}, image()]},
            {"type": "tool_result", "tool_use_id": "a", "content": [image()]},
            {"type": "text", "text": "And now?"},
        ]),
    );
    let done = chat(&body);
    let expected = ["user", "assistant", "tool a", "tool b", "user"];
    assert_eq!(order(&done), expected);
    for tool in [2, 3] {
        let said = done["messages"][tool]["content"].as_str().unwrap();
        assert!(!said.is_empty());
    }
    let parts = done["messages"][4]["content"].as_array().unwrap();
    let images = parts.iter().filter(|part| **part == image_part());
    assert_eq!(images.count(), 2);
    assert_eq!(parts.last().unwrap()["text"], "And now?");
    assert!(!losses(&body).is_empty());
}

#[test]
fn trap_08_errors_are_told_in_words() {
    let told = |content: Value, is_error: bool| {
        let result = json!({"type": "tool_result", "tool_use_id": "a", "content": content, "is_error": is_error});
        let chat = chat(&calls(&["a"], &json!([result])));
        chat["messages"][2]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(told(json!("no such file"), true), "Error: no such file");
    let blocks = json!([{"type": "text", "text": "no"}]);
    assert_eq!(told(blocks, true), "Error: no");
    assert_eq!(told(json!("fine"), false), "fine");
    assert_eq!(told(Value::Null, false), "");
    assert!(told(Value::Null, true).starts_with("Error"));
}

#[test]
fn trap_09_schemas_go_over_as_chat_takes_them() {
    let named = |schema: Value, strict: bool| {
        let body = with(
            "tools",
            &json!([{"name": "f", "description": "d", "input_schema": schema, "strict": strict}]),
        );
        (chat(&body)["tools"][0].clone(), losses(&body))
    };
    let closed = json!({
        "type": "object", "properties": {"a": {"type": "string"}},
        "required": ["a"], "additionalProperties": false,
    });
    let (tool, lost) = named(closed.clone(), true);
    let function = json!({"name": "f", "description": "d", "parameters": closed, "strict": true});
    assert_eq!(tool, json!({"type": "function", "function": function}));
    assert!(lost.is_empty());
    // Strict mode would refuse these.
    for (key, value) in [
        ("required", json!([])),
        ("additionalProperties", json!(true)),
        ("anyOf", json!([])),
        ("properties", json!({"a": {"type": "object"}})),
        ("properties", json!({"a": {"oneOf": [{"type": "string"}]}})),
    ] {
        let mut open = closed.clone();
        open[key] = value;
        let (tool, lost) = named(open.clone(), true);
        assert_eq!(tool["function"]["parameters"], open);
        assert!(tool["function"].get("strict").is_none(), "{open}");
        assert_eq!(lost, ["tools[0].strict"]);
    }
    assert!(
        named(json!({"type": "object", "properties": {}}), false)
            .1
            .is_empty()
    );
    for bare in [json!({"type": "object"}), json!({})] {
        let (tool, _) = named(bare, false);
        assert_eq!(tool["function"]["parameters"]["properties"], json!({}));
    }
}

#[test]
fn trap_09_a_schema_keeps_its_bytes() {
    let schema = r#"{"type":"object", "properties":{"z":{"maximum":1.0},"a":{}}}"#;
    let body = with("tools", &json!([{"name": "f", "input_schema": "HERE"}]));
    let body = body.to_string().replace("\"HERE\"", schema);
    let done = request(Dialect::Anthropic, body.as_bytes(), &TARGET).unwrap();
    assert!(String::from_utf8(done.body).unwrap().contains(schema));
}

#[test]
fn trap_09_names_that_chat_refuses_lead_back() {
    let long = "x".repeat(100);
    let mut body = calls(&["a"], &json!([answer("a")]));
    body["tools"] = json!([tool("get.weather"), tool(&long), tool("get_weather")]);
    body["tool_choice"] = json!({"type": "tool", "name": "get.weather"});
    body["messages"][1]["content"][0]["name"] = json!("get.weather");
    let done = translated(&body, &TARGET);
    let chat: Value = serde_json::from_slice(&done.body).unwrap();
    let name = |at: usize| chat["tools"][at]["function"]["name"].as_str().unwrap();
    let takes = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    for (at, own) in [(0, "get.weather"), (1, long.as_str())] {
        assert!(name(at).len() <= 64 && name(at).chars().all(takes));
        assert_eq!(done.names[name(at)], own);
    }
    assert_eq!(name(2), "get_weather");
    assert!(!done.names.contains_key("get_weather"));
    assert_eq!(chat["tool_choice"]["function"]["name"], name(0));
    let called = &chat["messages"][1]["tool_calls"][0]["function"]["name"];
    assert_eq!(called, name(0));
}

#[test]
fn trap_10_ids_of_nine_where_the_target_wants_them() {
    let results = json!([answer("toolu_2"), answer("toolu_1")]);
    let body = calls(&["toolu_1", "toolu_2"], &results);
    let nine = Target {
        tool_id_alnum9: true,
        ..TARGET
    };
    let chat = chat_for(&body, &nine);
    let made = &chat["messages"][1]["tool_calls"];
    for at in [0, 1] {
        let id = made[at]["id"].as_str().unwrap();
        assert!(id.len() == 9 && id.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_eq!(chat["messages"][2 + at]["tool_call_id"], id);
    }
    assert_ne!(made[0]["id"], made[1]["id"]);
    assert_eq!(chat_for(&body, &nine), chat);
}

#[test]
fn trap_11_system_prompts() {
    let mut body = with(
        "system",
        &json!([
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=1;"},
            {"type": "text", "text": "You are kind.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Speak French."},
        ]),
    );
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "system", "content": [{"type": "text", "text": "Now briefly."}]}));
    let done = chat(&body);
    assert_eq!(
        done["messages"],
        json!([
            {"role": "system", "content": "You are kind.\n\nSpeak French."},
            {"role": "user", "content": "hi"},
            {"role": "system", "content": "Now briefly."},
        ])
    );
    assert_eq!(losses(&body), ["system[0]", "system[1].cache_control"]);
    let plain = chat(&with("system", &json!("Be.")));
    assert_eq!(
        plain["messages"][0],
        json!({"role": "system", "content": "Be."})
    );
    assert_eq!(order(&chat(&with("system", &json!("")))), ["user"]);
}

#[test]
fn trap_12_stops_that_do_not_fit_are_cut_here() {
    let body = with("stop_sequences", &json!(["a", "b", "a"]));
    let done = translated(&body, &TARGET);
    assert!(done.stops.is_empty());
    let sent: Value = serde_json::from_slice(&done.body).unwrap();
    assert_eq!(sent["stop"], json!(["a", "b"]));
    for limit in [0, 1] {
        let few = Target {
            stop_limit: Some(limit),
            ..TARGET
        };
        let done = translated(&body, &few);
        let sent: Value = serde_json::from_slice(&done.body).unwrap();
        assert!(sent.get("stop").is_none());
        assert_eq!(done.stops, ["a", "b"]);
    }
    let any = Target {
        stop_limit: None,
        ..TARGET
    };
    let body = with("stop_sequences", &json!(["1", "2", "3", "4", "5"]));
    assert_eq!(chat_for(&body, &any)["stop"].as_array().unwrap().len(), 5);
    let empty = with("stop_sequences", &json!(["a", ""]));
    assert_eq!(is_no_request(&empty), "stop_sequences[1]");
}

#[test]
fn trap_13_the_limit_has_the_targets_name_and_measure() {
    let body = with("max_tokens", &json!(4096));
    let new = chat(&body);
    assert_eq!(new["max_completion_tokens"], 4096);
    assert!(new.get("max_tokens").is_none());
    let old = Target {
        max_completion_tokens: false,
        max_output: Some(1000),
        ..TARGET
    };
    let old = chat_for(&body, &old);
    assert_eq!(old["max_tokens"], 1000);
    assert!(old.get("max_completion_tokens").is_none());
    let warming = with("max_tokens", &json!(0));
    assert_eq!(changes_meaning(&warming), "max_tokens");
}

#[test]
fn trap_14_one_answer_is_asked_for() {
    // Messages has no `n`; somebody's own is no reason to ask for several answers.
    let body = with("n", &json!(3));
    assert!(chat(&body).get("n").is_none());
    assert_eq!(losses(&body), ["n"]);
}

#[test]
fn trap_15_sampling() {
    let mut body = with("temperature", &json!(0.7));
    body["top_p"] = json!(0.9);
    body["top_k"] = json!(40);
    let done = chat(&body);
    assert_eq!(
        (&done["temperature"], &done["top_p"]),
        (&json!(0.7), &json!(0.9))
    );
    assert!(done.get("top_k").is_none());
    assert_eq!(losses(&body), ["top_k"]);
}

#[test]
fn trap_16_cache_markers_are_lost_wherever_they_stand() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let mut body = calls(&["a"], &json!([answer("a"), {"type": "text", "text": "t"}]));
    body["tools"] = json!([tool("look")]);
    body["cache_control"] = mark.clone();
    body["tools"][0]["cache_control"] = mark.clone();
    body["messages"][1]["content"][0]["cache_control"] = mark.clone();
    body["messages"][2]["content"][0]["cache_control"] = mark.clone();
    body["messages"][2]["content"][1]["cache_control"] = mark;
    assert!(!chat(&body).to_string().contains("cache_control"));
    let mut lost = losses(&body);
    lost.sort();
    let expected = [
        "cache_control",
        "messages[1].content[0].cache_control",
        "messages[2].content[0].cache_control",
        "messages[2].content[1].cache_control",
        "tools[0].cache_control",
    ];
    assert_eq!(lost, expected);
}

#[test]
fn trap_17_usage_is_asked_for_and_counted_apart_from_the_cache() {
    let streaming = Target {
        stream: true,
        ..TARGET
    };
    let sent = chat_for(&says(&json!("hi")), &streaming);
    assert_eq!(sent["stream"], true);
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    let plain = Target {
        stream_options: false,
        ..streaming
    };
    assert!(
        chat_for(&says(&json!("hi")), &plain)
            .get("stream_options")
            .is_none()
    );
    assert!(chat(&says(&json!("hi"))).get("stream").is_none());

    let text = json!({"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"});
    let usage = json!({
        "prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 5},
    });
    let frames = answered(&[
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [text]}),
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage}),
    ]);
    let told = frames
        .iter()
        .rfind(|frame| frame["type"] == "message_delta");
    let told = &told.unwrap()["usage"];
    assert_eq!(told["input_tokens"], 40);
    assert_eq!(told["cache_read_input_tokens"], 60);
    assert_eq!(told["output_tokens"], 7);
}

#[test]
fn trap_18_turns_of_one_role_become_one() {
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    let body = asks(&json!([
        {"role": "user", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
        {"role": "assistant", "content": [thought]},
        {"role": "user", "content": [image()]},
        {"role": "assistant", "content": [{"type": "text", "text": "The sky "}, {"type": "text", "text": "is blue."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "So."}, call("a")]},
        {"role": "user", "content": [answer("a")]},
    ]));
    let done = chat(&body);
    assert_eq!(order(&done), ["user", "assistant", "tool a"]);
    let parts = json!([
        {"type": "text", "text": "one"},
        {"type": "text", "text": "two"},
        {"type": "text", "text": "three"},
        image_part(),
    ]);
    assert_eq!(done["messages"][0]["content"], parts);
    assert_eq!(done["messages"][1]["content"], "The sky is blue.\n\nSo.");
    assert_eq!(losses(&body), ["messages[2].content[0]"]);
    // Not every server takes a list where a string would do.
    let texts = says(&json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]));
    assert_eq!(chat(&texts)["messages"][0]["content"], "a\n\nb");
}

#[test]
fn trap_19_structured_output() {
    let form = |schema: Value| {
        with(
            "output_config",
            &json!({"format": {"type": "json_schema", "schema": schema}}),
        )
    };
    let closed = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let sent = &chat(&form(closed.clone()))["response_format"];
    let named = json!({"name": "answer", "schema": closed, "strict": true});
    assert_eq!(*sent, json!({"type": "json_schema", "json_schema": named}));
    let open = form(json!({"type": "object", "properties": {"a": {}}}));
    let sent = &chat(&open)["response_format"];
    assert_eq!(sent["json_schema"]["strict"], false);
    assert_eq!(losses(&open), ["output_config.format.schema"]);
    let other = with("output_config", &json!({"format": {"type": "grammar"}}));
    assert_eq!(changes_meaning(&other), "output_config.format");
}

#[test]
fn trap_20_efforts() {
    let old = Target {
        max_completion_tokens: false,
        ..TARGET
    };
    for effort in ["low", "medium", "high", "xhigh", "max"] {
        let body = with("output_config", &json!({"effort": effort}));
        assert_eq!(chat(&body)["reasoning_effort"], effort);
        assert!(losses(&body).is_empty());
        // A server of the old kind may refuse a field that it does not know.
        assert!(chat_for(&body, &old).get("reasoning_effort").is_none());
        assert_eq!(
            translated(&body, &old).losses[0].path,
            "output_config.effort"
        );
    }
    let unknown = with("output_config", &json!({"effort": "heroic"}));
    assert!(chat(&unknown).get("reasoning_effort").is_none());
    assert_eq!(losses(&unknown), ["output_config.effort"]);
    for (budget, effort) in [(1024, "low"), (10_000, "medium"), (60_000, "high")] {
        let thinking = json!({"type": "enabled", "budget_tokens": budget});
        let body = with("thinking", &thinking);
        assert_eq!(chat(&body)["reasoning_effort"], effort);
        assert_eq!(losses(&body), ["thinking"]);
    }
    for kind in ["adaptive", "disabled", "between_tools"] {
        let body = with("thinking", &json!({"type": kind}));
        assert!(chat(&body).get("reasoning_effort").is_none());
        assert_eq!(losses(&body), ["thinking"]);
    }
}

// === content ===

#[test]
fn blocks_of_the_user() {
    let source = |kind: &str, name: &str, value: &str| json!({"type": kind, name: value});
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBE"});
    let plain = json!({"type": "text", "media_type": "text/plain", "data": "Once."});
    let url = "https://example.com/a.png";
    let inner = json!([{"type": "text", "text": "inner"}, image()]);
    let file = |name: &str| {
        let data = "data:application/pdf;base64,JVBE";
        json!({"type": "file", "file": {"filename": name, "file_data": data}})
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    let table = [
        (image(), vec![image_part()]),
        (
            json!({"type": "image", "source": source("url", "url", url)}),
            vec![json!({"type": "image_url", "image_url": {"url": url}})],
        ),
        (
            json!({"type": "document", "source": pdf}),
            vec![file("document.pdf")],
        ),
        (
            json!({"type": "document", "source": pdf, "title": "a.pdf", "context": "Old."}),
            vec![text("Old."), file("a.pdf")],
        ),
        (
            json!({"type": "document", "source": plain, "title": "Tale"}),
            vec![text("Tale\n\nOnce.")],
        ),
        (
            json!({"type": "document", "title": "T", "source": {"type": "content", "content": inner}}),
            vec![text("T"), text("inner"), image_part()],
        ),
        (
            json!({"type": "search_result", "title": "T", "source": "u", "content": [text("found")]}),
            vec![text("T\nu\n\nfound")],
        ),
    ];
    for (block, expected) in table {
        // An image beside it keeps the content a list.
        let body = says(&json!([block, image()]));
        let mut expected = expected;
        expected.push(image_part());
        assert_eq!(chat(&body)["messages"][0]["content"], json!(expected));
        assert!(losses(&body).is_empty(), "{block}");
    }
}

#[test]
fn results_hold_more_than_text() {
    let plain = json!({"type": "text", "media_type": "text/plain", "data": "Once."});
    let content = json!([
        {"type": "text", "text": "see"},
        {"type": "document", "source": plain},
        {"type": "search_result", "title": "T", "source": "u", "content": [{"type": "text", "text": "x"}]},
    ]);
    let result = json!({"type": "tool_result", "tool_use_id": "a", "content": content});
    let done = chat(&calls(&["a"], &json!([result])));
    assert_eq!(done["messages"][2]["content"], "see\n\nOnce.\n\nT\nu\n\nx");
    assert_eq!(order(&done), ["user", "assistant", "tool a"]);
}

#[test]
fn a_billing_line_takes_nothing_else_along() {
    let body = with(
        "system",
        &json!("x-anthropic-billing-header: a=1\n\nBe kind."),
    );
    let system = json!({"role": "system", "content": "Be kind."});
    assert_eq!(chat(&body)["messages"][0], system);
    assert_eq!(losses(&body), ["system"]);
}

// === what can't be carried ===

#[test]
fn what_would_change_the_meaning_is_refused() {
    let file = json!({"type": "file", "file_id": "file_1"});
    let last = |blocks: Value| json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": blocks}, {"role": "user", "content": "on"}]);
    let made_by_code = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}, "caller": {"type": "code_execution_20250825"}});
    let table = [
        (
            with(
                "tools",
                &json!([{"type": "web_search_20250305", "name": "web_search"}]),
            ),
            "tools[0]",
        ),
        (
            with("tools", &json!([{"type": "bash_20250124", "name": "bash"}])),
            "tools[0]",
        ),
        (
            with(
                "tools",
                &json!([{"name": "f", "input_schema": {}, "allowed_callers": ["code_execution_20250825"]}]),
            ),
            "tools[0].allowed_callers",
        ),
        (with("container", &json!("c_1")), "container"),
        (
            with(
                "mcp_servers",
                &json!([{"type": "url", "url": "https://m", "name": "m"}]),
            ),
            "mcp_servers",
        ),
        (
            with("thread", &json!({"previous_message_id": "msg_1"})),
            "thread",
        ),
        (with("inference_geo", &json!("us")), "inference_geo"),
        (
            says(&json!([{"type": "image", "source": file}])),
            "messages[0].content[0].source",
        ),
        (
            says(&json!([{"type": "document", "source": file}])),
            "messages[0].content[0].source",
        ),
        (
            says(
                &json!([{"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}]),
            ),
            "messages[0].content[0].source",
        ),
        (
            says(
                &json!([{"type": "document", "source": {"type": "base64", "media_type": "text/rtf", "data": ""}}]),
            ),
            "messages[0].content[0].source.media_type",
        ),
        (
            says(&json!([{"type": "container_upload", "file_id": "f"}])),
            "messages[0].content[0]",
        ),
        (
            says(&json!([{"type": "hologram"}])),
            "messages[0].content[0]",
        ),
        (
            asks(&last(
                json!([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]),
            )),
            "messages[1].content[0]",
        ),
        (
            asks(&last(json!([{"type": "compaction", "content": "sum"}]))),
            "messages[1].content[0]",
        ),
        (asks(&last(json!([image()]))), "messages[1].content[0]"),
        (
            asks(&last(json!([made_by_code]))),
            "messages[1].content[0].caller",
        ),
        (
            calls(
                &["a"],
                &json!([{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "tool_reference", "tool_name": "f"}]}]),
            ),
            "messages[2].content[0].content[0]",
        ),
    ];
    for (body, path) in table {
        assert_eq!(changes_meaning(&body), path, "{body}");
    }
}

#[test]
fn a_begun_answer_is_refused() {
    // Chat would begin a new answer behind it.
    let body = asks(&json!([
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": "One, two,"},
    ]));
    assert_eq!(changes_meaning(&body), "messages[1]");
}

#[test]
fn what_is_no_request_of_this_dialect_is_refused() {
    let table = [
        (json!({"model": "c", "max_tokens": 9}), "messages"),
        (asks(&json!([])), "messages"),
        (asks(&json!("hi")), "messages"),
        (
            asks(&json!([{"role": "robot", "content": "hi"}])),
            "messages[0].role",
        ),
        (asks(&json!([{"role": "user"}])), "messages[0].content"),
        (
            says(&json!([{"text": "no type"}])),
            "messages[0].content[0].type",
        ),
        (
            says(&json!([{"type": "text"}])),
            "messages[0].content[0].text",
        ),
        (says(&json!(["bare"])), "messages[0].content[0]"),
        (with("max_tokens", &json!("many")), "max_tokens"),
        (with("max_tokens", &json!(-1)), "max_tokens"),
        (with("temperature", &json!("hot")), "temperature"),
        (with("stop_sequences", &json!("END")), "stop_sequences"),
        (
            with("tools", &json!([{"name": "f"}])),
            "tools[0].input_schema",
        ),
        (
            with("tools", &json!([{"input_schema": {}}])),
            "tools[0].name",
        ),
        (
            with("tool_choice", &json!({"type": "tool", "name": "g"})),
            "tool_choice",
        ),
    ];
    for (body, path) in table {
        assert_eq!(is_no_request(&body), path, "{body}");
    }
    for body in ["", "[]", "null", "{\"messages\":[", "\"hi\""] {
        let done = request(Dialect::Anthropic, body.as_bytes(), &TARGET);
        assert!(matches!(done, Err(Refusal::Shape { .. })), "{body}");
    }
}

#[test]
fn a_member_that_stands_twice_is_refused() {
    // Two readers could read two different requests.
    let body = r#"{"model":"c","max_tokens":9,"messages":[{"role":"user","role":"assistant","content":"hi"}]}"#;
    let done = request(Dialect::Anthropic, body.as_bytes(), &TARGET);
    let Err(Refusal::Shape { path, .. }) = done else {
        panic!("{done:?}");
    };
    assert_eq!(path, "messages[0].role");
}

#[test]
fn what_is_lost_is_said() {
    let table = [
        (
            with("service_tier", &json!("standard_only")),
            "service_tier",
        ),
        (with("speed", &json!("fast")), "speed"),
        (
            with("context_management", &json!({"edits": []})),
            "context_management",
        ),
        (with("fallbacks", &json!("default")), "fallbacks"),
        (
            with("fallback_credit_token", &json!("t")),
            "fallback_credit_token",
        ),
        (with("diagnostics", &json!({"x": 1})), "diagnostics"),
        (with("brand_new", &json!(1)), "brand_new"),
        (
            with("metadata", &json!({"user_id": "u", "x": 1})),
            "metadata.x",
        ),
        (
            with("metadata", &json!({"user_id": "u".repeat(65)})),
            "metadata.user_id",
        ),
        (
            with("output_config", &json!({"new": 1})),
            "output_config.new",
        ),
        (
            with(
                "tools",
                &json!([{"name": "f", "input_schema": {}, "defer_loading": true}]),
            ),
            "tools[0].defer_loading",
        ),
        (
            with(
                "tools",
                &json!([{"name": "f", "input_schema": {}, "input_examples": [{}]}]),
            ),
            "tools[0].input_examples",
        ),
        (
            asks(&json!([{"role": "user", "content": "hi", "id": "msg_1"}])),
            "messages[0].id",
        ),
        (
            says(&json!([{"type": "text", "text": "x", "citations": [{"type": "char_location"}]}])),
            "messages[0].content[0].citations",
        ),
        (
            says(
                &json!([{"type": "search_result", "title": "t", "source": "s", "content": [], "citations": {"enabled": true}}]),
            ),
            "messages[0].content[0].citations",
        ),
        (
            says(&json!([{"type": "text", "text": "x", "new": 1}])),
            "messages[0].content[0].new",
        ),
    ];
    for (body, path) in table {
        assert_eq!(losses(&body), [path], "{body}");
    }
}

#[test]
fn what_says_nothing_is_no_loss() {
    let mut body = with("service_tier", &json!("auto"));
    body["speed"] = json!("standard");
    body["inference_geo"] = json!("global");
    body["mcp_servers"] = json!([]);
    body["container"] = Value::Null;
    body["stream"] = json!(false);
    body["metadata"] = json!({"user_id": "u"});
    body["tools"] = json!([{"type": "custom", "name": "f", "input_schema": {}, "strict": false, "defer_loading": false, "allowed_callers": ["direct"]}]);
    body["messages"][0]["content"] =
        json!([{"type": "text", "text": "x", "citations": [], "cache_control": null}]);
    assert_eq!(losses(&body), [""; 0]);
    assert_eq!(chat(&body)["user"], "u");
}

// === the whole ===

#[test]
fn a_rich_request() {
    let body = include_str!("fixtures/requests/anthropic_rich.json");
    let done = request(Dialect::Anthropic, body.as_bytes(), &TARGET).unwrap();
    let chat: Value = serde_json::from_slice(&done.body).unwrap();
    let losses: Vec<String> = done.losses.iter().map(ToString::to_string).collect();
    let shown = format!(
        "{}\n\nlosses\n  {}\n\nnames {:?}\nstops {:?}\n",
        serde_json::to_string_pretty(&chat).unwrap(),
        losses.join("\n  "),
        done.names,
        done.stops,
    );
    insta::assert_snapshot!(shown);
}

/// Any JSON, with the words of the dialect strewn in so that it gets past the first look.
fn any_json() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(vec![
        "",
        "a",
        "user",
        "assistant",
        "system",
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "base64",
        "content",
        "json_schema",
        "tool",
        "any",
    ]);
    let key = proptest::sample::select(vec![
        "role",
        "content",
        "type",
        "text",
        "id",
        "name",
        "input",
        "source",
        "tool_use_id",
        "data",
        "media_type",
        "is_error",
        "input_schema",
        "strict",
        "effort",
        "format",
        "schema",
        "properties",
        "required",
        "additionalProperties",
        "citations",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let pairs = proptest::collection::btree_map(key.clone(), inner.clone(), 0..5);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            pairs.prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(10_000)
    })]

    #[test]
    fn nothing_panics(value in any_json(), place in 0..8_usize, nine in any::<bool>()) {
        let target = Target { tool_id_alnum9: nine, ..TARGET };
        let body = match place {
            0 => value,
            1 => asks(&value),
            2 => asks(&json!([{"role": "user", "content": "a"}, value, {"role": "user", "content": "b"}])),
            3 => says(&value),
            4 => with("tools", &json!([value])),
            5 => with("output_config", &value),
            6 => calls(&["a"], &json!([answer("a"), value])),
            _ => with("tool_choice", &value),
        };
        if let Ok(done) = request(Dialect::Anthropic, body.to_string().as_bytes(), &target) {
            let sent: Value = serde_json::from_slice(&done.body).unwrap();
            prop_assert_eq!(&sent["model"], TARGET.model);
        }
    }
}
