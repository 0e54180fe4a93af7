//! An Anthropic Messages request as an OpenAI Chat Completions request.
//!
//! Sources: wire facts 1.1, 1.2, 5.4 and 6; `docs/translation.md` lists every field. Schemas and the
//! arguments of tool calls keep their bytes. Thinking, cache markers and citations are lost and said;
//! the vendor's own tools, files by id and a begun answer can't move and refuse the target.

use serde::Serialize;
use serde_json::{Value, json};

use super::read::{Object, refuse};
use super::tools::{Ids, Names};
use super::{Loss, Refusal, Target, Translated};

mod blocks;
mod media;
mod messages;
mod schema;
mod settings;
mod tools;

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
    #[serde(flatten)]
    limit: settings::Limit,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<tools::Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<schema::Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<Value>,
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
    let tools = tools::tools(&mut from, &mut way)?;
    let (tool_choice, parallel_tool_calls) = tools::choice(&mut from, &tools, &mut way)?;
    let messages = messages::messages(&mut from, &mut way)?;
    let limit = settings::limit(&mut from, target, &mut way)?;
    let (stop, stops) = settings::stops(&mut from, target, &mut way)?;
    let (reasoning_effort, response_format) = settings::output(&mut from, target, &mut way)?;
    let stream = target.stream || wants_stream == Some(true);
    let request = Request {
        model: target.model,
        messages,
        limit,
        stop,
        temperature: from.number("temperature")?,
        top_p: from.number("top_p")?,
        tools,
        tool_choice,
        parallel_tool_calls,
        response_format,
        reasoning_effort,
        user: settings::user(&mut from, target, &mut way)?,
        stream: stream.then_some(true),
        stream_options: (stream && target.stream_options).then(|| json!({"include_usage": true})),
    };
    refuse_vendor_bound(&mut from)?;
    settings::lose_others(from, &mut way)?;
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
    ] {
        if let Some(node) = from.take(name)
            && node.raw().get() != "[]"
        {
            return Err(node.refuse(why));
        }
    }
    if let Some(place) = from.string("inference_geo")?
        && place != "global"
    {
        let why = "nothing is known of the place where the target answers";
        return Err(refuse("inference_geo", why));
    }
    Ok(())
}
