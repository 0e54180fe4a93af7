//! An Anthropic Messages request as an OpenAI Chat Completions request.
//!
//! Sources: wire facts 1.1, 1.2, 5.4 and 6. Thinking, cache markers and titles are lost and said;
//! the vendor's own tools, files by id and a begun answer can't move and refuse the target.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::read::{Node, Object, loss, refuse};
use super::tools::{Ids, Names};
use super::{Loss, Refusal, Target, Translated};

mod messages;

/// What is written while the request is read.
struct Way {
    losses: Vec<Loss>,
    names: Names,
    ids: Ids,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<messages::Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<Value>,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    parameters: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    json_schema: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'static str,
    schema: &'a RawValue,
    strict: bool,
}

pub(super) fn translate(body: &[u8], target: &Target<'_>) -> Result<Translated, Refusal> {
    let mut from = Object::body(body)?;
    from.take("model");
    let wants_stream = from.flag("stream")?;
    let mut way = Way {
        losses: Vec::new(),
        names: Names::default(),
        ids: Ids::new(target.tool_id_alnum9),
    };
    let tools = tools(&mut from, &mut way)?;
    let (tool_choice, parallel_tool_calls) = choice(&mut from, &mut way)?;
    let messages = messages::messages(&mut from, &mut way)?;
    let limit = from.count("max_tokens")?;
    if limit == Some(0) {
        return Err(refuse(
            "max_tokens",
            "a cache can't be warmed at this vendor",
        ));
    }
    let (stop, stops) = stops(&mut from, target)?;
    let (reasoning_effort, response_format) = output(&mut from, &mut way)?;
    let stream = target.stream || wants_stream == Some(true);
    let request = Request {
        model: target.model,
        messages,
        max_tokens: limit.filter(|_| !target.max_completion_tokens),
        max_completion_tokens: limit.filter(|_| target.max_completion_tokens),
        stop,
        temperature: from.number("temperature")?,
        top_p: from.number("top_p")?,
        tools,
        tool_choice,
        parallel_tool_calls,
        response_format,
        reasoning_effort,
        user: user(&mut from, &mut way)?,
        stream: stream.then_some(true),
        stream_options: (stream && target.stream_options).then(|| json!({"include_usage": true})),
    };
    refuse_vendor_bound(&mut from)?;
    from.lose(
        "top_k",
        "the target's dialect samples without it",
        &mut way.losses,
    );
    from.lose("cache_control", CACHE, &mut way.losses);
    from.lose_rest(&mut way.losses);
    Ok(Translated {
        body: serde_json::to_vec(&request).expect("invariant: the request is made of JSON"),
        losses: way.losses,
        names: way.names.back,
        stops,
    })
}

const CACHE: &str = "a cache marker has no meaning at the target, which caches by itself";

/// What lives at the vendor and would be missing in the answer.
fn refuse_vendor_bound(from: &mut Object<'_>) -> Result<(), Refusal> {
    for (name, why) in [
        ("container", "a container lives at its vendor"),
        ("mcp_servers", "only its vendor calls these servers"),
        ("thread", "the thread lives at its vendor"),
        (
            "fallback_credit_token",
            "the token is good at its vendor only",
        ),
    ] {
        if let Some(node) = from.take(name) {
            return Err(node.refuse(why));
        }
    }
    Ok(())
}

fn tools<'a>(from: &mut Object<'a>, way: &mut Way) -> Result<Vec<Tool<'a>>, Refusal> {
    let mut objects = Vec::new();
    for node in from.list("tools")? {
        let mut tool = node.object()?;
        let kind = tool.string("type")?;
        if kind.as_deref().is_some_and(|kind| kind != "custom") {
            return Err(node.refuse("it is a tool that its vendor runs"));
        }
        let name = tool.need("name")?.string()?;
        way.names.reserve(&name);
        objects.push((name, tool));
    }
    let mut tools = Vec::with_capacity(objects.len());
    for (name, mut tool) in objects {
        tool.lose("cache_control", CACHE, &mut way.losses);
        let function = Function {
            name: way.names.of(&name),
            description: tool.string("description")?,
            parameters: tool.need("input_schema")?.raw(),
            strict: tool.flag("strict")?,
        };
        tool.lose_rest(&mut way.losses);
        tools.push(Tool {
            r#type: "function",
            function,
        });
    }
    Ok(tools)
}

/// `tool_choice` and `parallel_tool_calls`.
fn choice(from: &mut Object<'_>, way: &mut Way) -> Result<(Option<Value>, Option<bool>), Refusal> {
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
            json!({"type": "function", "function": {"name": name}})
        }
        _ => return Err(kind.refuse("this way to choose a tool is not known")),
    };
    let alone = choice.flag("disable_parallel_tool_use")?;
    choice.lose_rest(&mut way.losses);
    Ok((Some(chosen), alone.map(|alone| !alone)))
}

/// The stop sequences for the target and those that it can't take. All or none of them go: which of
/// two is met first must not depend on who looks.
fn stops(
    from: &mut Object<'_>,
    target: &Target<'_>,
) -> Result<(Vec<String>, Vec<String>), Refusal> {
    let stops: Vec<String> = from
        .list("stop_sequences")?
        .iter()
        .map(Node::string)
        .collect::<Result<_, _>>()?;
    let fits = target.stop_limit.is_none_or(|limit| stops.len() <= limit);
    Ok(if fits {
        (stops, Vec::new())
    } else {
        (Vec::new(), stops)
    })
}

/// `reasoning_effort` and `response_format`, out of `thinking` and `output_config`.
fn output<'a>(
    from: &mut Object<'a>,
    way: &mut Way,
) -> Result<(Option<String>, Option<Format<'a>>), Refusal> {
    let mut effort = None;
    let mut format = None;
    if let Some(node) = from.take("output_config") {
        let mut config = node.object()?;
        effort = config.string("effort")?;
        format = config
            .take("format")
            .map(|node| schema(&node))
            .transpose()?;
        config.lose_rest(&mut way.losses);
    }
    if let Some(node) = from.take("thinking") {
        let kind = node.object()?.string("type")?;
        if kind.as_deref() != Some("disabled") {
            way.losses.push(loss(
                &node.path,
                "the target thinks by its own rules; only `output_config.effort` goes over",
            ));
        }
    }
    Ok((effort, format))
}

fn schema<'a>(node: &Node<'a>) -> Result<Format<'a>, Refusal> {
    let mut format = node.object()?;
    if format.string("type")?.as_deref() != Some("json_schema") {
        return Err(node.refuse("this output format is not known"));
    }
    Ok(Format {
        r#type: "json_schema",
        json_schema: Named {
            name: "answer",
            schema: format.need("schema")?.raw(),
            strict: true,
        },
    })
}

fn user(from: &mut Object<'_>, way: &mut Way) -> Result<Option<String>, Refusal> {
    let Some(node) = from.take("metadata") else {
        return Ok(None);
    };
    let mut metadata = node.object()?;
    let user = metadata.string("user_id")?;
    metadata.lose_rest(&mut way.losses);
    Ok(user)
}
