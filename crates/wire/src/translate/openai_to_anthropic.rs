//! An OpenAI Chat Completions request as an Anthropic Messages request.
//!
//! Sources: wire facts 1.1, 1.2 and 6. Sampling that Anthropic lacks is lost and said; several
//! choices, log probabilities, audio and JSON without a schema refuse the target.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::read::{Node, Object, loss, refuse};
use super::{Loss, Refusal, Target, Translated};

mod messages;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Value>,
    messages: Vec<messages::Message>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Output<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    input_schema: Schema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// The caller's own schema, byte for byte, or ours where there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Schema<'a> {
    Given(&'a RawValue),
    Made(Value),
}

#[derive(Default, Serialize)]
struct Output<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    schema: &'a RawValue,
}

pub(super) fn translate(body: &[u8], target: &Target<'_>) -> Result<Translated, Refusal> {
    let mut from = Object::body(body)?;
    let losses = &mut Vec::new();
    from.take("model");
    let wants_stream = from.flag("stream")?;
    from.take("stream_options");
    refuse_unknowable(&mut from)?;
    let (system, messages) = messages::messages(&mut from, losses)?;
    let (stop_sequences, stops) = stops(&mut from)?;
    let stream = target.stream || wants_stream == Some(true);
    let request = Request {
        model: target.model,
        max_tokens: max_tokens(&mut from, target)?,
        system,
        messages,
        stop_sequences,
        temperature: temperature(&mut from, losses)?,
        top_p: from.number("top_p")?,
        tools: tools(&mut from, losses)?,
        tool_choice: choice(&mut from)?,
        output_config: output(&mut from, losses)?,
        metadata: user(&mut from)?,
        stream: stream.then_some(true),
    };
    for name in ["frequency_penalty", "presence_penalty"] {
        if from.number(name)?.is_some_and(|penalty| penalty != 0.0) {
            losses.push(loss(name, "the target's dialect samples without it"));
        }
    }
    for name in ["seed", "prediction", "verbosity", "store", "metadata"] {
        from.lose(name, "the target's dialect has nothing like it", losses);
    }
    from.lose_rest(losses);
    Ok(Translated {
        body: serde_json::to_vec(&request).expect("invariant: the request is made of JSON"),
        losses: std::mem::take(losses),
        names: std::collections::BTreeMap::new(),
        stops,
    })
}

/// What the caller would miss in the answer.
fn refuse_unknowable(from: &mut Object<'_>) -> Result<(), Refusal> {
    if from.count("n")?.is_some_and(|n| n > 1) {
        return Err(refuse("n", "the target gives one choice"));
    }
    if from.flag("logprobs")? == Some(true) || from.count("top_logprobs")?.is_some_and(|n| n > 0) {
        return Err(refuse("logprobs", "the target tells no probabilities"));
    }
    if let Some(node) = from.take("modalities") {
        let modalities: Vec<String> = node.read("a list of strings")?;
        if modalities.iter().any(|modality| modality != "text") {
            return Err(node.refuse("the target answers in text alone"));
        }
    }
    from.take("audio");
    for (name, why) in [
        ("logit_bias", "the target has other tokens"),
        ("web_search_options", "only its vendor searches"),
    ] {
        if let Some(node) = from.take(name).filter(|node| node.raw().get() != "{}") {
            return Err(node.refuse(why));
        }
    }
    Ok(())
}

/// Anthropic demands a limit, and a small one would cut answers (trap 13): where neither the caller
/// nor the configuration knows better, it is what every model since the 4.5 family can answer
/// (Anthropic's overview of models).
const MAX_TOKENS: u64 = 64_000;

fn max_tokens(from: &mut Object<'_>, target: &Target<'_>) -> Result<u64, Refusal> {
    let old = from.count("max_tokens")?;
    let new = from.count("max_completion_tokens")?;
    let wish = new.or(old).map(|wish| target.clamp(wish));
    Ok(wish.or(target.max_output).unwrap_or(MAX_TOKENS))
}

/// Sequences of white space alone are refused by Anthropic (trap 12). All or none of them go over:
/// which of two is met first must not depend on who looks.
fn stops(from: &mut Object<'_>) -> Result<(Vec<String>, Vec<String>), Refusal> {
    let stops = match from.take("stop") {
        None => Vec::new(),
        Some(node) if node.is_string() => vec![node.string()?],
        Some(node) => node.read("a string or a list of strings")?,
    };
    if stops.iter().all(|stop| !stop.trim().is_empty()) {
        Ok((stops, Vec::new()))
    } else {
        Ok((Vec::new(), stops))
    }
}

fn temperature(from: &mut Object<'_>, losses: &mut Vec<Loss>) -> Result<Option<f64>, Refusal> {
    let Some(temperature) = from.number("temperature")? else {
        return Ok(None);
    };
    if temperature > 1.0 {
        losses.push(loss("temperature", "the target takes 1 at most"));
    }
    Ok(Some(temperature.min(1.0)))
}

fn tools<'a>(from: &mut Object<'a>, losses: &mut Vec<Loss>) -> Result<Vec<Tool<'a>>, Refusal> {
    let mut tools = Vec::new();
    for node in from.list("tools")? {
        let mut tool = node.object()?;
        if tool.string("type")?.is_some_and(|kind| kind != "function") {
            return Err(node.refuse("the target has no tools of this type"));
        }
        tools.push(function(&tool.need("function")?, losses)?);
        tool.lose_rest(losses);
    }
    // The old way to name them.
    for node in from.list("functions")? {
        tools.push(function(&node, losses)?);
    }
    Ok(tools)
}

fn function<'a>(node: &Node<'a>, losses: &mut Vec<Loss>) -> Result<Tool<'a>, Refusal> {
    let mut function = node.object()?;
    let tool = Tool {
        name: function.need("name")?.string()?,
        description: function.string("description")?,
        input_schema: function
            .take("parameters")
            .map_or_else(|| Ok(no_parameters()), |schema| parameters(&schema))?,
        strict: function.flag("strict")?,
    };
    function.lose_rest(losses);
    Ok(tool)
}

fn no_parameters<'a>() -> Schema<'a> {
    Schema::Made(json!({"type": "object", "properties": {}}))
}

/// `input_schema.type` must be `object` (trap 9).
fn parameters<'a>(schema: &Node<'a>) -> Result<Schema<'a>, Refusal> {
    let mut members = schema.object()?;
    match members.take("type") {
        Some(kind) if kind.raw().get() == "\"object\"" => Ok(Schema::Given(schema.raw())),
        Some(kind) => Err(kind.refuse("the target's tools take objects alone")),
        None => {
            let mut made: Value = schema.read("an object")?;
            made["type"] = json!("object");
            Ok(Schema::Made(made))
        }
    }
}

/// `tool_choice` with what `parallel_tool_calls` (and the old `function_call`) say.
fn choice(from: &mut Object<'_>) -> Result<Option<Value>, Refusal> {
    let alone = from.flag("parallel_tool_calls")? == Some(false);
    let chosen = from
        .take("tool_choice")
        .or_else(|| from.take("function_call"));
    let mut choice = match chosen {
        None if alone => json!({"type": "auto"}),
        None => return Ok(None),
        Some(node) if node.is_string() => match node.string()?.as_str() {
            "auto" => json!({"type": "auto"}),
            "required" => json!({"type": "any"}),
            "none" => json!({"type": "none"}),
            _ => return Err(node.wrong("`auto`, `required`, `none` or one tool")),
        },
        Some(node) => {
            let mut choice = node.object()?;
            let mut named = match choice.take("function") {
                Some(function) => function.object()?,
                None if choice.string("type")?.is_none() => choice,
                None => return Err(node.refuse("the target can't choose tools in this way")),
            };
            json!({"type": "tool", "name": named.need("name")?.string()?})
        }
    };
    if alone && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    Ok(Some(choice))
}

/// `output_config`, out of `reasoning_effort` and `response_format`.
fn output<'a>(
    from: &mut Object<'a>,
    losses: &mut Vec<Loss>,
) -> Result<Option<Output<'a>>, Refusal> {
    let mut output = Output::default();
    if let Some(effort) = from.string("reasoning_effort")? {
        // Anthropic knows low to max (trap 20).
        if matches!(effort.as_str(), "none" | "minimal") {
            losses.push(loss(
                "reasoning_effort",
                "the target's least effort is `low`",
            ));
            output.effort = Some("low".to_owned());
        } else {
            output.effort = Some(effort);
        }
    }
    if let Some(node) = from.take("response_format") {
        let mut format = node.object()?;
        match format.need("type")?.string()?.as_str() {
            "text" => {}
            "json_schema" => {
                let mut named = format.need("json_schema")?.object()?;
                output.format = Some(Format {
                    r#type: "json_schema",
                    schema: named.need("schema")?.raw(),
                });
                // The target's are always strict, and nameless.
                named.take("name");
                named.take("strict");
                named.lose_rest(losses);
            }
            _ => {
                return Err(node.refuse("the target gives JSON by a schema alone"));
            }
        }
    }
    let is_empty = output.effort.is_none() && output.format.is_none();
    Ok((!is_empty).then_some(output))
}

fn user(from: &mut Object<'_>) -> Result<Option<Value>, Refusal> {
    let user = from.string("safety_identifier")?;
    let old = from.string("user")?;
    Ok(user.or(old).map(|user| json!({"user_id": user})))
}
