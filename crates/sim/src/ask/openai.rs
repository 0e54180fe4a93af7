//! Reads an OpenAI Chat Completions request, and refuses what the vendor refuses.
//!
//! Checked: required fields, roles, one tool message for each call directly after it, the cap of four stop strings.

use serde_json::Value;

use super::{Ask, Choice, Dialect, Refusal, Role, Said, Shape, Tool, situate, string, text_of};

const MAX_STOPS: usize = 4;

pub(super) fn read(value: &Value) -> Result<Ask, Refusal> {
    let model =
        string(value, "model").ok_or_else(|| Refusal::bad("you must provide a model parameter"))?;
    let messages = value
        .get("messages")
        .and_then(Value::as_array)
        .filter(|messages| !messages.is_empty())
        .ok_or_else(|| Refusal::bad("Missing required parameter: 'messages'."))?;
    let (mut markers, turn) = situate(&turns(messages)?);
    if value.get("parallel_tool_calls").and_then(Value::as_bool) == Some(false) {
        markers.tools = 1;
    }
    let usage = value
        .get("stream_options")
        .and_then(|options| options.get("include_usage"));
    Ok(Ask {
        dialect: Dialect::OpenAi,
        model: model.to_owned(),
        stream: value
            .get("stream")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        include_usage: usage.and_then(Value::as_bool).unwrap_or(false),
        limit: limit(value)?,
        stops: stops(value)?,
        tools: tools(value)?,
        choice: choice(value),
        shape: shape(value),
        turn,
        thinking: markers.thinking,
        markers,
        input_tokens: 0,
    })
}

fn limit(value: &Value) -> Result<Option<usize>, Refusal> {
    for name in ["max_completion_tokens", "max_tokens"] {
        match value.get(name) {
            None | Some(Value::Null) => {}
            Some(number) => {
                let limit = number.as_u64().filter(|limit| *limit > 0);
                let limit = limit.ok_or_else(|| {
                    Refusal::bad(format!(
                        "Invalid type for '{name}': expected a positive integer."
                    ))
                })?;
                return Ok(Some(usize::try_from(limit).unwrap_or(usize::MAX)));
            }
        }
    }
    Ok(None)
}

fn stops(value: &Value) -> Result<Vec<String>, Refusal> {
    match value.get("stop") {
        Some(Value::String(stop)) => Ok(vec![stop.clone()]),
        Some(Value::Array(list)) if list.len() > MAX_STOPS => Err(Refusal::bad(
            "Invalid 'stop': array too long. Expected an array with maximum length 4.",
        )),
        Some(Value::Array(list)) => Ok(list
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()),
        _ => Ok(Vec::new()),
    }
}

fn tools(value: &Value) -> Result<Vec<Tool>, Refusal> {
    let Some(list) = value.get("tools").and_then(Value::as_array) else {
        return Ok(Vec::new());
    };
    let mut tools = Vec::new();
    for (index, tool) in list.iter().enumerate() {
        let Some(function) = tool.get("function") else {
            return Err(Refusal::bad(format!(
                "Missing required parameter: 'tools[{index}].function'."
            )));
        };
        let name = string(function, "name").ok_or_else(|| {
            Refusal::bad(format!(
                "Missing required parameter: 'tools[{index}].function.name'."
            ))
        })?;
        let schema = function
            .get("parameters")
            .cloned()
            .unwrap_or_else(|| serde_json::json!({"type": "object"}));
        tools.push(Tool {
            name: name.to_owned(),
            schema,
        });
    }
    Ok(tools)
}

fn choice(value: &Value) -> Choice {
    match value.get("tool_choice") {
        Some(Value::String(word)) if word == "none" => Choice::Forbidden,
        Some(Value::String(word)) if word == "required" => Choice::Any,
        Some(choice @ Value::Object(_)) => choice
            .get("function")
            .and_then(|function| string(function, "name"))
            .map_or(Choice::Auto, |name| Choice::Named(name.to_owned())),
        _ => Choice::Auto,
    }
}

fn shape(value: &Value) -> Shape {
    let Some(format) = value.get("response_format") else {
        return Shape::Free;
    };
    match string(format, "type") {
        Some("json_object") => Shape::AnyJson,
        Some("json_schema") => format
            .get("json_schema")
            .and_then(|named| named.get("schema"))
            .map_or(Shape::AnyJson, |schema| Shape::Schema(schema.clone())),
        _ => Shape::Free,
    }
}

fn turns(messages: &[Value]) -> Result<Vec<Said>, Refusal> {
    let mut turns: Vec<Said> = Vec::new();
    let mut owed: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let role = string(message, "role").unwrap_or_default();
        if role == "tool" {
            settle(index, message, &mut owed)?;
            turns.push(Said {
                results: true,
                ..Said::default()
            });
            continue;
        }
        if !owed.is_empty() {
            return Err(unanswered(&owed));
        }
        let text = message.get("content").map(text_of).unwrap_or_default();
        let role = match role {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" | "developer" => Role::System,
            other => {
                return Err(Refusal::bad(format!(
                    "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'. (messages[{index}].role)"
                )));
            }
        };
        if role == Role::Assistant {
            let calls = message.get("tool_calls").and_then(Value::as_array);
            owed = calls
                .into_iter()
                .flatten()
                .filter_map(|call| string(call, "id"))
                .map(str::to_owned)
                .collect();
        }
        turns.push(Said {
            role,
            text,
            ..Said::default()
        });
    }
    if owed.is_empty() {
        Ok(turns)
    } else {
        Err(unanswered(&owed))
    }
}

fn settle(index: usize, message: &Value, owed: &mut Vec<String>) -> Result<(), Refusal> {
    let id = string(message, "tool_call_id").unwrap_or_default();
    let Some(place) = owed.iter().position(|open| open == id) else {
        return Err(Refusal::bad(format!(
            "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'. (messages[{index}], tool_call_id {id:?})"
        )));
    };
    owed.remove(place);
    Ok(())
}

fn unanswered(owed: &[String]) -> Refusal {
    Refusal::bad(format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
        owed.join(", ")
    ))
}
