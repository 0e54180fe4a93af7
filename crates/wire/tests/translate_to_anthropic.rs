//! OpenAI requests as Anthropic requests: the traps of wire facts section 6, one rich request whole,
//! what is lost and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use holdfast_wire::translate::{Refusal, Target, Translated, request};
use holdfast_wire::turn::Dialect;
use proptest::prelude::*;
use serde_json::{Value, json};

const TARGET: Target<'_> = Target {
    model: "claude-next",
    stream: false,
    max_output: Some(64_000),
    stop_limit: None,
    tool_id_alnum9: false,
    max_completion_tokens: false,
    stream_options: true,
};

fn translated(body: &Value) -> Translated {
    request(Dialect::OpenAi, body.to_string().as_bytes(), &TARGET)
        .unwrap_or_else(|refusal| panic!("{body}: {refusal}"))
}

fn messages_request(body: &Value) -> Value {
    serde_json::from_slice(&translated(body).body).unwrap()
}

fn losses(body: &Value) -> Vec<String> {
    let losses = translated(body).losses;
    losses.into_iter().map(|loss| loss.path).collect()
}

fn refused_for(body: &Value, target: &Target<'_>) -> Refusal {
    match request(Dialect::OpenAi, body.to_string().as_bytes(), target) {
        Ok(done) => panic!("{body} became {}", String::from_utf8_lossy(&done.body)),
        Err(refusal) => refusal,
    }
}

/// Where the request would change its meaning.
fn changes_meaning(body: &Value) -> String {
    match refused_for(body, &TARGET) {
        Refusal::Meaning { path, .. } => path,
        refusal @ Refusal::Shape { .. } => panic!("{body}: {refusal}"),
    }
}

/// Where the request is not one of its dialect.
fn is_no_request(body: &Value) -> String {
    match refused_for(body, &TARGET) {
        Refusal::Shape { path, .. } => path,
        refusal @ Refusal::Meaning { .. } => panic!("{body}: {refusal}"),
    }
}

/// A request of these messages.
fn asks(messages: &Value) -> Value {
    json!({"model": "gpt", "messages": messages})
}

/// A request with one more member.
fn with(name: &str, value: &Value) -> Value {
    let mut body = asks(&json!([{"role": "user", "content": "hi"}]));
    body[name] = value.clone();
    body
}

fn call(id: &str, arguments: &Value) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
}

/// A conversation in which `calls` were made and answered by `results`.
fn called(calls: &[Value], results: &[Value]) -> Value {
    let mut messages = vec![
        json!({"role": "user", "content": "go"}),
        json!({"role": "assistant", "content": null, "tool_calls": calls}),
    ];
    messages.extend_from_slice(results);
    asks(&Value::Array(messages))
}

fn result(id: &str, content: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": content})
}

#[test]
fn trap_01_no_arguments_are_an_empty_object() {
    for arguments in [
        json!(""),
        json!(" "),
        json!("null"),
        json!("{}"),
        Value::Null,
    ] {
        let body = called(&[call("a", &arguments)], &[result("a", "1")]);
        let input = &messages_request(&body)["messages"][1]["content"][0]["input"];
        assert_eq!(*input, json!({}), "{arguments}");
    }
}

#[test]
fn trap_02_arguments_that_are_no_object_are_told() {
    for arguments in ["{\"a\":", "[1]", "1"] {
        let body = called(&[call("a", &json!(arguments))], &[result("a", "1")]);
        let path = is_no_request(&body);
        assert_eq!(path, "messages[1].tool_calls[0].function.arguments");
    }
}

#[test]
fn trap_03_the_number_of_a_call_is_not_needed() {
    let mut first = call("a", &json!("{}"));
    first["index"] = json!(0);
    let mut second = call("b", &json!("{}"));
    second["index"] = json!(0);
    let body = called(&[first, second], &[result("a", "1"), result("b", "2")]);
    assert_eq!(losses(&body), [""; 0]);
    let content = &messages_request(&body)["messages"][1]["content"];
    assert_eq!(
        (&content[0]["id"], &content[1]["id"]),
        (&json!("a"), &json!("b"))
    );
}

#[test]
fn trap_04_all_results_stand_first_in_the_next_user_message() {
    let calls = [call("a", &json!("{}")), call("b", &json!("{}"))];
    let body = called(
        &calls,
        &[
            result("b", "two"),
            result("a", "one"),
            json!({"role": "user", "content": "and now?"}),
        ],
    );
    let made = messages_request(&body);
    assert_eq!(made["messages"].as_array().unwrap().len(), 3);
    let said: Vec<&Value> = made["messages"][2]["content"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    let kinds: Vec<&Value> = said.iter().map(|block| &block["type"]).collect();
    assert_eq!(kinds, ["tool_result", "tool_result", "text"]);
    assert_eq!(
        (&said[0]["tool_use_id"], &said[1]["tool_use_id"]),
        (&json!("b"), &json!("a"))
    );
    assert_eq!(
        is_no_request(&called(
            &calls,
            &[result("a", "one"), json!({"role": "user", "content": "?"})]
        )),
        "messages[3]"
    );
    assert_eq!(
        is_no_request(&called(&calls, &[result("c", "?")])),
        "messages[2].tool_call_id"
    );
}

#[test]
fn trap_05_one_call_at_a_time() {
    let body = with("parallel_tool_calls", &json!(false));
    let choice = &messages_request(&body)["tool_choice"];
    assert_eq!(
        *choice,
        json!({"type": "auto", "disable_parallel_tool_use": true})
    );
    let none = json!({"parallel_tool_calls": false, "tool_choice": "none", "model": "m",
        "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(
        messages_request(&none)["tool_choice"],
        json!({"type": "none"})
    );
}

#[test]
fn trap_06_ways_to_choose_a_tool() {
    let cases = [
        (json!("auto"), json!({"type": "auto"})),
        (json!("required"), json!({"type": "any"})),
        (json!("none"), json!({"type": "none"})),
        (
            json!({"type": "function", "function": {"name": "f"}}),
            json!({"type": "tool", "name": "f"}),
        ),
    ];
    for (said, meant) in cases {
        assert_eq!(
            messages_request(&with("tool_choice", &said))["tool_choice"],
            meant
        );
    }
    let odd = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}});
    assert_eq!(changes_meaning(&with("tool_choice", &odd)), "tool_choice");
    let old = with("function_call", &json!({"name": "f"}));
    assert_eq!(
        messages_request(&old)["tool_choice"],
        json!({"type": "tool", "name": "f"})
    );
}

#[test]
fn trap_07_a_result_is_text() {
    let picture = json!({"type": "image_url", "image_url": {"url": "https://a/b.png"}});
    let result = json!({"role": "tool", "tool_call_id": "a", "content": [picture]});
    let body = called(&[call("a", &json!("{}"))], &[result]);
    assert_eq!(changes_meaning(&body), "messages[2].content[0]");
}

#[test]
fn trap_08_an_empty_result_has_no_empty_block() {
    let body = called(&[call("a", &json!("{}"))], &[result("a", "")]);
    let block = &messages_request(&body)["messages"][2]["content"][0];
    assert_eq!(
        *block,
        json!({"type": "tool_result", "tool_use_id": "a", "content": []})
    );
}

#[test]
fn trap_09_a_schema_is_of_an_object() {
    let tool = |parameters: &Value| {
        let function = json!({"name": "f", "parameters": parameters});
        with(
            "tools",
            &json!([{"type": "function", "function": function}]),
        )
    };
    let schema = |body: &Value| messages_request(body)["tools"][0]["input_schema"].clone();
    let empty = json!({"type": "object", "properties": {}});
    assert_eq!(schema(&tool(&Value::Null)), empty);
    assert_eq!(
        schema(&tool(&json!({"properties": {"a": {}}}))),
        json!({"type": "object", "properties": {"a": {}}})
    );
    assert_eq!(
        changes_meaning(&tool(&json!({"type": "string"}))),
        "tools[0].function.parameters.type"
    );
    // The order of members is the order in which a model fills them in.
    let raw =
        br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function",
        "function":{"name":"f","parameters":{"type":"object","properties":{"z":{},"a":{}}}}}]}"#;
    let made = request(Dialect::OpenAi, raw, &TARGET).unwrap().body;
    let text = String::from_utf8(made).unwrap();
    assert!(
        text.contains(r#"{"type":"object","properties":{"z":{},"a":{}}}"#),
        "{text}"
    );
}

#[test]
fn trap_10_ids_are_words_and_calls_meet_their_results() {
    let odd = "functions.f:0";
    let made = messages_request(&called(&[call(odd, &json!("{}"))], &[result(odd, "1")]));
    let id = made["messages"][1]["content"][0]["id"].as_str().unwrap();
    assert!(id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
    assert_eq!(made["messages"][2]["content"][0]["tool_use_id"], id);
    let plain = messages_request(&called(
        &[call("call_1-a", &json!("{}"))],
        &[result("call_1-a", "1")],
    ));
    assert_eq!(plain["messages"][1]["content"][0]["id"], "call_1-a");
}

#[test]
fn trap_11_system_messages_stand_at_the_top_each_in_its_block() {
    let body = asks(&json!([
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "three"},
        {"role": "user", "content": "ho"},
    ]));
    let made = messages_request(&body);
    let texts: Vec<&Value> = made["system"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| &block["text"])
        .collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert_eq!(losses(&body), ["messages[3]"]);
}

#[test]
fn trap_12_stops_of_white_space_are_met_here() {
    let words = with("stop", &json!(["END", "STOP"]));
    assert_eq!(
        messages_request(&words)["stop_sequences"],
        json!(["END", "STOP"])
    );
    assert!(translated(&words).stops.is_empty());
    let one = with("stop", &json!("END"));
    assert_eq!(messages_request(&one)["stop_sequences"], json!(["END"]));
    let space = with("stop", &json!(["\n\n", "END"]));
    assert_eq!(translated(&space).stops, ["\n\n", "END"]);
    assert_eq!(messages_request(&space)["stop_sequences"], Value::Null);
}

#[test]
fn trap_13_the_limit_is_the_callers_or_the_models_and_never_small() {
    let limit = |body: &Value| messages_request(body)["max_tokens"].clone();
    assert_eq!(limit(&with("max_tokens", &json!(7))), 7);
    assert_eq!(limit(&with("max_completion_tokens", &json!(8))), 8);
    assert_eq!(limit(&with("max_tokens", &json!(99_000))), 64_000);
    assert_eq!(limit(&with("seed", &json!(1))), 64_000);
    let unknown = Target {
        max_output: None,
        ..TARGET
    };
    let body = with("seed", &json!(1)).to_string();
    let done = request(Dialect::OpenAi, body.as_bytes(), &unknown).unwrap();
    let made: Value = serde_json::from_slice(&done.body).unwrap();
    assert_eq!(made["max_tokens"], 64_000);
}

#[test]
fn trap_14_several_choices_are_refused() {
    assert_eq!(changes_meaning(&with("n", &json!(2))), "n");
    assert_eq!(losses(&with("n", &json!(1))), [""; 0]);
}

#[test]
fn trap_15_a_temperature_over_one_is_lowered_and_said() {
    let hot = with("temperature", &json!(1.7));
    assert_eq!(messages_request(&hot)["temperature"], 1.0);
    assert_eq!(losses(&hot), ["temperature"]);
    assert_eq!(losses(&with("temperature", &json!(0.3))), [""; 0]);
}

#[test]
fn trap_16_cache_keys_are_lost() {
    assert_eq!(
        losses(&with("prompt_cache_key", &json!("k"))),
        ["prompt_cache_key"]
    );
}

#[test]
fn trap_17_usage_is_told_by_our_writer() {
    let body = with("stream_options", &json!({"include_usage": true}));
    assert_eq!(losses(&body), [""; 0]);
    assert_eq!(messages_request(&body)["stream_options"], Value::Null);
}

#[test]
fn trap_18_turns_of_one_role_are_one_message() {
    let body = asks(&json!([
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": ""}]},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "d"}]},
        {"role": "user", "content": "e"},
    ]));
    let made = messages_request(&body);
    let roles: Vec<&Value> = made["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["role"])
        .collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    assert_eq!(made["messages"][0]["content"].as_array().unwrap().len(), 2);
    assert_eq!(made["messages"][1]["content"][1]["text"], "d");
}

#[test]
fn trap_19_structured_output_needs_a_schema() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    let made = messages_request(&with("response_format", &format));
    assert_eq!(
        made["output_config"]["format"],
        json!({"type": "json_schema", "schema": schema})
    );
    let any = with("response_format", &json!({"type": "json_object"}));
    assert_eq!(changes_meaning(&any), "response_format");
    assert_eq!(
        losses(&with("response_format", &json!({"type": "text"}))),
        [""; 0]
    );
}

#[test]
fn trap_20_efforts_have_a_least_one() {
    let effort = |said: &str| {
        let body = with("reasoning_effort", &json!(said));
        (
            messages_request(&body)["output_config"]["effort"].clone(),
            losses(&body).len(),
        )
    };
    assert_eq!(effort("high"), (json!("high"), 0));
    assert_eq!(effort("max"), (json!("max"), 0));
    assert_eq!(effort("minimal"), (json!("low"), 1));
    assert_eq!(effort("none"), (json!("low"), 1));
}

#[test]
fn what_would_be_missing_in_the_answer_refuses() {
    let part = |part: Value| asks(&json!([{"role": "user", "content": [part]}]));
    let cases = [
        (asks(&json!([])), "messages"),
        (
            asks(&json!([{"role": "system", "content": "a"}])),
            "messages",
        ),
        (with("logprobs", &json!(true)), "logprobs"),
        (with("top_logprobs", &json!(3)), "logprobs"),
        (with("logit_bias", &json!({"1": 2})), "logit_bias"),
        (with("modalities", &json!(["text", "audio"])), "modalities"),
        (
            with("web_search_options", &json!({"a": 1})),
            "web_search_options",
        ),
        (
            with(
                "tools",
                &json!([{"type": "custom", "custom": {"name": "x"}}]),
            ),
            "tools[0]",
        ),
        (
            part(json!({"type": "input_audio", "input_audio": {}})),
            "messages[0].content[0]",
        ),
        (
            part(json!({"type": "file", "file": {"file_id": "f"}})),
            "messages[0].content[0]",
        ),
        (
            asks(&json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])),
            "messages",
        ),
    ];
    for (body, path) in cases {
        assert_eq!(changes_meaning(&body), path, "{body}");
    }
}

#[test]
fn what_has_no_place_is_said() {
    for (name, value) in [
        ("seed", json!(1)),
        ("presence_penalty", json!(0.5)),
        ("frequency_penalty", json!(0.5)),
        ("store", json!(true)),
        ("metadata", json!({"a": "b"})),
        ("service_tier", json!("flex")),
        ("verbosity", json!("low")),
        ("something_new", json!(1)),
    ] {
        assert_eq!(losses(&with(name, &value)), [name]);
    }
    for (name, value) in [
        ("presence_penalty", json!(0)),
        ("user", json!("u")),
        ("n", Value::Null),
    ] {
        assert_eq!(losses(&with(name, &value)), [""; 0], "{name}");
    }
}

#[test]
fn a_rich_request() {
    let body = json!({
        "model": "gpt", "stream": true, "temperature": 0.2, "top_p": 0.9, "stop": ["END"], "user": "u-1",
        "max_completion_tokens": 500, "reasoning_effort": "low", "parallel_tool_calls": false, "tool_choice": "auto",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}}]},
            {"role": "assistant", "content": "Let me look.", "reasoning_content": "hm",
                "tool_calls": [call("call_1", &json!("{\"b\":1, \"a\":2.50}")), call("call_2", &json!(""))]},
            result("call_1", "one"), result("call_2", "two"),
            {"role": "user", "content": "And?"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "does f", "strict": true,
            "parameters": {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "number"}}}}}],
    });
    let done = translated(&body);
    let made: Value = serde_json::from_slice(&done.body).unwrap();
    let losses: Vec<String> = done.losses.iter().map(ToString::to_string).collect();
    let shown = format!(
        "{}\n\nlost:\n{}\n",
        serde_json::to_string_pretty(&made).unwrap(),
        losses.join("\n")
    );
    insta::assert_snapshot!(shown);
    // Arguments keep their bytes.
    assert!(
        String::from_utf8(done.body)
            .unwrap()
            .contains("{\"b\":1, \"a\":2.50}")
    );
}

#[test]
fn the_old_way_to_call_functions() {
    let body = json!({"model": "m", "functions": [{"name": "f"}], "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "2"},
    ]});
    let made = messages_request(&body);
    let ids = |turn: usize, name: &str| made["messages"][turn]["content"][0][name].clone();
    assert_eq!(ids(1, "id"), ids(2, "tool_use_id"));
    assert_eq!(ids(3, "id"), ids(4, "tool_use_id"));
    assert_ne!(ids(1, "id"), ids(3, "id"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        prop::sample::select(vec![
            "user",
            "assistant",
            "tool",
            "text",
            "function",
            "a",
            ""
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let names = prop::sample::select(vec![
            "role",
            "content",
            "type",
            "text",
            "tool_calls",
            "function",
            "name",
            "arguments",
            "id",
            "tool_call_id",
            "x",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..5).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whatever is asked, the end is a request of the other dialect or a refusal that names a place.
    #[test]
    fn nothing_upsets_it(messages in prop::collection::vec(any_json(), 0..4), tools in any_json()) {
        let body = json!({"model": "m", "messages": messages, "tools": tools});
        match request(Dialect::OpenAi, body.to_string().as_bytes(), &TARGET) {
            Ok(done) => {
                let made: Value = serde_json::from_slice(&done.body).unwrap();
                prop_assert!(made["messages"].is_array() && made["max_tokens"].is_u64());
            }
            Err(Refusal::Meaning { path, why } | Refusal::Shape { path, why }) => {
                prop_assert!(!path.is_empty() && !why.is_empty());
            }
        }
    }
}
