//! What stands beside the conversation: limits, stops, effort, the form of the answer.

use serde::Serialize;

use super::{CACHE, Way, schema};
use crate::translate::read::{Node, Object, loss, refuse};
use crate::translate::{Refusal, Target};

/// The most tokens to answer with, under the name that the target knows.
#[derive(Serialize)]
pub(super) struct Limit {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
}

/// OpenAI takes no longer name of a user.
const USER: usize = 64;

/// The efforts of Messages; Chat has the same and more (trap 20).
const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

/// Up to how many tokens of thinking an effort is low or medium.
const LOW: u64 = 4_096;
const MEDIUM: u64 = 16_384;

/// `max_tokens`. More than the model can answer with would be refused, and comes to the same.
pub(super) fn limit(
    from: &mut Object<'_>,
    target: &Target<'_>,
    way: &mut Way,
) -> Result<Limit, Refusal> {
    let mut limit = from.count("max_tokens")?;
    if limit == Some(0) {
        let why = "it only warms a cache, which the target can't";
        return Err(refuse("max_tokens", why));
    }
    if let (Some(asked), Some(most)) = (limit, target.max_output)
        && asked > most
    {
        let why = "the target's model answers with no more than its own limit";
        way.losses.push(loss("max_tokens", why));
        limit = Some(most);
    }
    Ok(Limit {
        max_tokens: limit.filter(|_| !target.max_completion_tokens),
        max_completion_tokens: limit.filter(|_| target.max_completion_tokens),
    })
}

/// The stop sequences for the target and those that it can't take. All or none of them go: which of
/// two is met first must not depend on who looks.
pub(super) fn stops(
    from: &mut Object<'_>,
    target: &Target<'_>,
    way: &mut Way,
) -> Result<(Vec<String>, Vec<String>), Refusal> {
    let mut stops: Vec<String> = Vec::new();
    for node in from.list("stop_sequences")? {
        let stop = node.string()?;
        if stop.is_empty() {
            return Err(node.wrong("a text that is not empty"));
        }
        if !stops.contains(&stop) {
            stops.push(stop);
        }
    }
    if target.stop_limit.is_some_and(|limit| stops.len() > limit) {
        return Ok((Vec::new(), stops));
    }
    if !stops.is_empty() {
        let why = "the target does not tell which of them ended its answer";
        way.losses.push(loss("stop_sequences", why));
    }
    Ok((stops, Vec::new()))
}

/// `reasoning_effort` and `response_format`, out of `thinking` and `output_config`.
pub(super) fn output<'a>(
    from: &mut Object<'a>,
    target: &Target<'_>,
    way: &mut Way,
) -> Result<(Option<String>, Option<schema::Format<'a>>), Refusal> {
    let mut asked = None;
    // The beta's name for `output_config.format`.
    let mut form = from.take("output_format");
    if let Some(node) = from.take("output_config") {
        let mut config = node.object()?;
        asked = config.take("effort");
        form = config.take("format").or(form);
        config.lose_rest(&mut way.losses);
    }
    let format = form.map(|node| format(&node, way)).transpose()?;
    let thinking = from.take("thinking");
    let effort = effort(asked.as_ref(), thinking.as_ref(), target, way)?;
    Ok((effort, format))
}

/// How hard the model shall think: the effort that was named, or the one nearest to a budget.
///
/// A server that knows the new name of the limit knows this field, which is of the same age; others
/// may refuse a request for it.
fn effort(
    asked: Option<&Node<'_>>,
    thinking: Option<&Node<'_>>,
    target: &Target<'_>,
    way: &mut Way,
) -> Result<Option<String>, Refusal> {
    let mut effort = None;
    if let Some(node) = asked {
        let word = node.string()?;
        if target.max_completion_tokens && EFFORTS.contains(&word.as_str()) {
            effort = Some(word);
        } else {
            let why = "the target is not known to take this effort";
            way.losses.push(loss(&node.path, why));
        }
    }
    let Some(node) = thinking else {
        return Ok(effort);
    };
    let mut members = node.object()?;
    members.need("type")?.string()?;
    let why = match members.count("budget_tokens")? {
        Some(budget) if effort.is_none() && target.max_completion_tokens => {
            effort = Some(near(budget).to_owned());
            "a budget of thinking becomes the effort that is nearest"
        }
        _ => "the target thinks by its own rules",
    };
    way.losses.push(loss(&node.path, why));
    Ok(effort)
}

fn near(budget: u64) -> &'static str {
    if budget <= LOW {
        "low"
    } else if budget <= MEDIUM {
        "medium"
    } else {
        "high"
    }
}

fn format<'a>(node: &Node<'a>, way: &mut Way) -> Result<schema::Format<'a>, Refusal> {
    let mut format = node.object()?;
    if format.need("type")?.string()? != "json_schema" {
        return Err(node.refuse("this form of an answer is not known"));
    }
    let wanted = format.need("schema")?;
    let (made, strict) = schema::format(wanted.raw());
    if !strict {
        way.losses.push(loss(&wanted.path, schema::NOT_STRICT));
    }
    format.lose_rest(&mut way.losses);
    Ok(made)
}

/// `metadata.user_id` as `user`, which servers of the old kind may not know.
pub(super) fn user(
    from: &mut Object<'_>,
    target: &Target<'_>,
    way: &mut Way,
) -> Result<Option<String>, Refusal> {
    let Some(node) = from.take("metadata") else {
        return Ok(None);
    };
    let mut metadata = node.object()?;
    let mut user = None;
    if let Some(node) = metadata.take("user_id") {
        let id = node.string()?;
        if target.max_completion_tokens && id.len() <= USER {
            user = Some(id);
        } else {
            let why = "the target may not take it, or not at this length";
            way.losses.push(loss(&node.path, why));
        }
    }
    metadata.lose_rest(&mut way.losses);
    Ok(user)
}

/// All that is left: what says no more than the target does anyway goes quietly.
pub(super) fn lose_others(mut from: Object<'_>, way: &mut Way) -> Result<(), Refusal> {
    for (name, usual, why) in [
        ("service_tier", "auto", "tiers differ from vendor to vendor"),
        ("speed", "standard", "the target has one speed"),
    ] {
        if let Some(node) = from.take(name)
            && node.string()? != usual
        {
            way.losses.push(loss(&node.path, why));
        }
    }
    for (name, why) in [
        ("cache_control", CACHE),
        ("top_k", "the target's dialect samples without it"),
        (
            "context_management",
            "the target does not shorten a conversation by itself",
        ),
        ("fallbacks", "the way out of a refusal is at its vendor"),
        (
            "fallback_credit_token",
            "the token is good at its vendor only",
        ),
    ] {
        from.lose(name, why, &mut way.losses);
    }
    from.lose_rest(&mut way.losses);
    Ok(())
}
