//! Tool definitions and the choice between them.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{CACHE, Way, schema};
use crate::translate::Refusal;
use crate::translate::read::{Object, loss};

#[derive(Serialize)]
pub(super) struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    parameters: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// The caller's own tools. One that the vendor defines or runs refuses the target: the model there
/// has never seen it, and nobody would answer its calls.
pub(super) fn tools<'a>(from: &mut Object<'a>, way: &mut Way) -> Result<Vec<Tool<'a>>, Refusal> {
    let mut declared = Vec::new();
    for node in from.list("tools")? {
        let mut tool = node.object()?;
        let kind = tool.string("type")?;
        if kind.is_some_and(|kind| kind != "custom") {
            return Err(node.refuse("its vendor defines this tool"));
        }
        let name = tool.need("name")?.string()?;
        way.names.reserve(&name);
        declared.push((name, tool));
    }
    declared
        .into_iter()
        .map(|(name, tool)| self::tool(&name, tool, way))
        .collect()
}

fn tool<'a>(name: &str, mut tool: Object<'a>, way: &mut Way) -> Result<Tool<'a>, Refusal> {
    let description = tool.string("description")?;
    let parameters = tool.need("input_schema")?;
    let wants_strict = tool.take("strict");
    let strict = match &wants_strict {
        Some(node) => node.read::<bool>("true or false")?,
        None => false,
    };
    let strict = strict && schema::fits_strict(parameters.raw());
    if let Some(node) = &wants_strict
        && !strict
        && node.raw().get() == "true"
    {
        way.losses.push(loss(&node.path, schema::NOT_STRICT));
    }
    callers(&mut tool, way)?;
    for flag in ["defer_loading", "eager_input_streaming"] {
        if let Some(node) = tool.take(flag)
            && node.read("true or false")?
        {
            let why = "the target has its own way of handing over tools";
            way.losses.push(loss(&node.path, why));
        }
    }
    tool.lose("cache_control", CACHE, &mut way.losses);
    tool.lose_rest(&mut way.losses);
    Ok(Tool {
        r#type: "function",
        function: Function {
            name: way.names.of(name),
            description,
            parameters: schema::parameters(&parameters)?,
            strict: strict.then_some(true),
        },
    })
}

/// Who may call a tool: the target knows the model alone.
fn callers(tool: &mut Object<'_>, way: &mut Way) -> Result<(), Refusal> {
    let Some(node) = tool.take("allowed_callers") else {
        return Ok(());
    };
    let callers: Vec<String> = node.read("a list of strings")?;
    if !callers.iter().any(|caller| caller == "direct") {
        return Err(node.refuse("only code in its vendor's container may call this tool"));
    }
    if callers.len() > 1 {
        let why = "at the target the model alone calls tools";
        way.losses.push(loss(&node.path, why));
    }
    Ok(())
}

/// `tool_choice` and `parallel_tool_calls`. Chat refuses both where there are no tools.
pub(super) fn choice(
    from: &mut Object<'_>,
    tools: &[Tool<'_>],
    way: &mut Way,
) -> Result<(Option<Value>, Option<bool>), Refusal> {
    let Some(node) = from.take("tool_choice") else {
        return Ok((None, None));
    };
    let mut choice = node.object()?;
    let kind = choice.need("type")?;
    let chosen = match kind.string()?.as_str() {
        "auto" => json!("auto"),
        "any" => json!("required"),
        "none" => json!("none"),
        "tool" => {
            let name = way.names.of(&choice.need("name")?.string()?);
            if !tools.iter().any(|tool| tool.function.name == name) {
                return Err(node.wrong("a choice of one of the tools"));
            }
            json!({"type": "function", "function": {"name": name}})
        }
        _ => return Err(kind.refuse("this way to choose a tool is not known")),
    };
    let alone = choice.flag("disable_parallel_tool_use")?;
    choice.lose_rest(&mut way.losses);
    if tools.is_empty() {
        return match chosen.as_str() {
            Some("auto" | "none") => Ok((None, None)),
            _ => Err(node.wrong("absent where there are no tools")),
        };
    }
    Ok((Some(chosen), alone.map(|alone| !alone)))
}
