//! Reads an Anthropic Messages request, and refuses what the vendor refuses.
//!
//! Checked: required fields, roles, the order of tool results, signatures of thinking blocks, prefill, and the
//! parameters that API version 2026-10-21 removed.

use serde_json::Value;

use super::{
    Ask, Choice, Dialect, Markers, Refusal, Role, Rules, Said, Shape, Tool, Turn, situate, string,
    text_of,
};
use crate::answer;

const VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];

pub(super) fn read(value: &Value, version: Option<&str>, rules: Rules) -> Result<Ask, Refusal> {
    check_version(value, version)?;
    let model = string(value, "model").ok_or_else(|| Refusal::bad("model: Field required"))?;
    let limit = limit(value, rules.counting)?;
    let messages = value
        .get("messages")
        .and_then(Value::as_array)
        .ok_or_else(|| Refusal::bad("messages: Field required"))?;
    if messages.is_empty() {
        return Err(Refusal::bad("messages: at least one message is required"));
    }
    let turns = turns(messages)?;
    let (markers, turn) = situate(&turns);
    if rules.refuse_prefill
        && matches!(turn, Turn::Continue(_))
        && turns
            .last()
            .is_some_and(|last| last.role == Role::Assistant)
    {
        return Err(Refusal::bad(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    let asked_to_think = value
        .get("thinking")
        .and_then(|thinking| string(thinking, "type"))
        == Some("enabled");
    Ok(Ask {
        dialect: Dialect::Anthropic,
        model: model.to_owned(),
        stream: value
            .get("stream")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        include_usage: true,
        limit,
        stops: stops(value),
        tools: tools(value)?,
        choice: choice(value),
        shape: shape(value),
        turn,
        thinking: asked_to_think || markers.thinking,
        markers: limit_parallel(markers, value),
        input_tokens: 0,
    })
}

fn check_version(value: &Value, version: Option<&str>) -> Result<(), Refusal> {
    let version = version.ok_or_else(|| Refusal::bad("anthropic-version: header is required"))?;
    if !VERSIONS.contains(&version) {
        return Err(Refusal::bad(format!(
            "anthropic-version: {version:?} is not a valid version"
        )));
    }
    if version == "2026-10-21" {
        for removed in ["temperature", "top_p", "top_k"] {
            if value.get(removed).is_some() {
                return Err(Refusal::bad(format!(
                    "{removed}: Extra inputs are not permitted"
                )));
            }
        }
    }
    Ok(())
}

fn limit(value: &Value, counting: bool) -> Result<Option<usize>, Refusal> {
    match value.get("max_tokens") {
        None if counting => Ok(None),
        None => Err(Refusal::bad("max_tokens: Field required")),
        Some(number) => number
            .as_u64()
            .map(|limit| Some(usize::try_from(limit).unwrap_or(usize::MAX)))
            .ok_or_else(|| Refusal::bad("max_tokens: Input should be a valid integer")),
    }
}

fn stops(value: &Value) -> Vec<String> {
    let list = value.get("stop_sequences").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn tools(value: &Value) -> Result<Vec<Tool>, Refusal> {
    let Some(list) = value.get("tools").and_then(Value::as_array) else {
        return Ok(Vec::new());
    };
    let mut tools = Vec::new();
    for (index, tool) in list.iter().enumerate() {
        let name = string(tool, "name")
            .ok_or_else(|| Refusal::bad(format!("tools.{index}.name: Field required")))?;
        // Server tools have a dated type and no schema; only the vendor itself calls them.
        if string(tool, "type").is_some_and(|kind| kind != "custom") {
            continue;
        }
        let schema = tool
            .get("input_schema")
            .ok_or_else(|| Refusal::bad(format!("tools.{index}.input_schema: Field required")))?;
        if string(schema, "type") != Some("object") {
            return Err(Refusal::bad(format!(
                "tools.{index}.input_schema.type: Input should be 'object'"
            )));
        }
        tools.push(Tool {
            name: name.to_owned(),
            schema: schema.clone(),
        });
    }
    Ok(tools)
}

fn choice(value: &Value) -> Choice {
    let Some(choice) = value.get("tool_choice") else {
        return Choice::Auto;
    };
    match string(choice, "type") {
        Some("none") => Choice::Forbidden,
        Some("any") => Choice::Any,
        Some("tool") => Choice::Named(string(choice, "name").unwrap_or_default().to_owned()),
        _ => Choice::Auto,
    }
}

fn limit_parallel(mut markers: Markers, value: &Value) -> Markers {
    let alone = value
        .get("tool_choice")
        .and_then(|choice| choice.get("disable_parallel_tool_use"));
    if alone.and_then(Value::as_bool) == Some(true) {
        markers.tools = 1;
    }
    markers
}

fn shape(value: &Value) -> Shape {
    let format = value
        .get("output_config")
        .and_then(|config| config.get("format"));
    let schema = format.and_then(|format| format.get("schema"));
    schema.map_or(Shape::Free, |schema| Shape::Schema(schema.clone()))
}

/// Reads the turns and merges neighbours of one role, as the API does.
fn turns(messages: &[Value]) -> Result<Vec<Said>, Refusal> {
    let mut turns: Vec<Said> = Vec::new();
    let mut owed: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let role = match string(message, "role") {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            other => {
                return Err(Refusal::bad(format!(
                    "messages.{index}.role: Input should be 'user', 'assistant' or 'system', not {other:?}"
                )));
            }
        };
        let content = message
            .get("content")
            .ok_or_else(|| Refusal::bad(format!("messages.{index}.content: Field required")))?;
        let blocks = content.as_array().map_or(&[][..], Vec::as_slice);
        match role {
            Role::User => settle_results(index, blocks, &mut owed)?,
            Role::Assistant => {
                refuse_owed(index, &owed)?;
                owed = calls(index, blocks)?;
            }
            Role::System => {}
        }
        let said = Said {
            role,
            text: text_of(content),
            results: blocks
                .iter()
                .any(|block| string(block, "type") == Some("tool_result")),
            paused: blocks
                .iter()
                .any(|block| string(block, "type") == Some("server_tool_use")),
        };
        match turns.last_mut().filter(|last| last.role == role) {
            Some(last) => {
                last.text.push_str(&said.text);
                last.results |= said.results;
                last.paused |= said.paused;
            }
            None => turns.push(said),
        }
    }
    refuse_owed(messages.len(), &owed)?;
    Ok(turns)
}

/// The ids of the client tool calls of an assistant turn; its thinking blocks must carry our signature.
fn calls(index: usize, blocks: &[Value]) -> Result<Vec<String>, Refusal> {
    let mut ids = Vec::new();
    for block in blocks {
        match string(block, "type") {
            Some("tool_use") => ids.push(string(block, "id").unwrap_or_default().to_owned()),
            Some("thinking") => {
                let thought = string(block, "thinking").unwrap_or_default();
                if string(block, "signature") != Some(answer::signature(thought).as_str()) {
                    return Err(Refusal::bad(format!(
                        "messages.{index}: Invalid `signature` in `thinking` block"
                    )));
                }
            }
            _ => {}
        }
    }
    Ok(ids)
}

/// Every call of the turn before must have its result here, before any text; no other result may be here.
fn settle_results(index: usize, blocks: &[Value], owed: &mut Vec<String>) -> Result<(), Refusal> {
    let mut spoken = false;
    for block in blocks {
        if string(block, "type") != Some("tool_result") {
            spoken = true;
            continue;
        }
        let id = string(block, "tool_use_id").unwrap_or_default();
        let Some(place) = owed.iter().position(|open| open == id) else {
            return Err(Refusal::bad(format!(
                "messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )));
        };
        if spoken {
            return Err(Refusal::bad(format!(
                "messages.{index}: `tool_result` blocks must come first in the content"
            )));
        }
        owed.remove(place);
    }
    refuse_owed(index, owed)
}

fn refuse_owed(index: usize, owed: &[String]) -> Result<(), Refusal> {
    if owed.is_empty() {
        return Ok(());
    }
    Err(Refusal::bad(format!(
        "messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
        owed.join(", ")
    )))
}
