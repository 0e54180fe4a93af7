//! Content blocks: what a turn of each role says, in the words of Chat.
//!
//! What only the vendor that made it can read (thinking, citations) is lost; what its own tools did
//! refuses the target, since the conversation would have a hole there (wire facts, 5.4).

use serde::Serialize;

use super::messages::{Call, Called, Pending};
use super::{CACHE, Way, media};
use crate::translate::Refusal;
use crate::translate::read::{Node, Object, loss};

/// A part of a user message.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
    File { file: File },
}

#[derive(Serialize)]
pub(super) struct ImageUrl {
    pub(super) url: String,
}

#[derive(Serialize)]
pub(super) struct File {
    pub(super) filename: String,
    pub(super) file_data: String,
}

/// A turn of the user.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) results: Vec<Outcome>,
    pub(super) parts: Vec<Part>,
}

/// The result of a tool call.
pub(super) struct Outcome {
    /// The caller's id of the call.
    pub(super) id: String,
    pub(super) path: String,
    pub(super) text: String,
}

/// A turn of the assistant.
#[derive(Default)]
pub(super) struct Said {
    pub(super) text: Option<String>,
    pub(super) calls: Vec<Call>,
    pub(super) pending: Vec<Pending>,
}

/// A block with its `type` taken out; no members where the content is a plain string.
pub(super) struct Block<'a> {
    pub(super) kind: String,
    pub(super) members: Option<Object<'a>>,
    pub(super) node: Node<'a>,
}

/// Claude Code's first system line. It is for Anthropic's billing and says nothing to a model.
const BILLING: &str = "x-anthropic-billing-header:";

/// The blocks of a content; a string is one text block.
pub(super) fn blocks<'a>(content: &Node<'a>) -> Result<Vec<Block<'a>>, Refusal> {
    if content.is_string() {
        return Ok(vec![Block {
            kind: "text".to_owned(),
            members: None,
            node: content.clone(),
        }]);
    }
    let block = |node: Node<'a>| {
        let mut members = node.object()?;
        Ok(Block {
            kind: members.need("type")?.string()?,
            members: Some(members),
            node,
        })
    };
    content.list()?.into_iter().map(block).collect()
}

/// A system prompt: its text blocks, with a blank line between them.
pub(super) fn system(content: &Node<'_>, way: &mut Way) -> Result<String, Refusal> {
    let mut texts = Vec::new();
    for block in blocks(content)? {
        if block.kind != "text" {
            return Err(block
                .node
                .refuse("a system prompt of the target is text alone"));
        }
        let path = block.node.path.clone();
        let text = block.text(way)?;
        if text.starts_with(BILLING) {
            way.losses
                .push(loss(&path, "its billing line is for Anthropic alone"));
            let (_, rest) = text.split_once('\n').unwrap_or_default();
            texts.push(rest.trim_start().to_owned());
        } else {
            texts.push(text);
        }
    }
    texts.retain(|text| !text.is_empty());
    Ok(texts.join("\n\n"))
}

/// What the user said, the results of tools apart. What results showed stands before all else.
pub(super) fn user(content: &Node<'_>, way: &mut Way) -> Result<Asked, Refusal> {
    let mut asked = Asked::default();
    let mut shown = Vec::new();
    for block in blocks(content)? {
        match block.kind.as_str() {
            "text" => {
                let text = block.text(way)?;
                if !text.is_empty() {
                    asked.parts.push(Part::Text { text });
                }
            }
            "tool_result" => asked.results.push(outcome(block, way, &mut shown)?),
            _ => asked.parts.extend(media::parts(block, way)?),
        }
    }
    shown.append(&mut asked.parts);
    asked.parts = shown;
    Ok(asked)
}

/// A `tool_result`. Chat's results are text alone: images and files move to `shown` (trap 7).
fn outcome(block: Block<'_>, way: &mut Way, shown: &mut Vec<Part>) -> Result<Outcome, Refusal> {
    let (mut members, path) = block.split()?;
    let id = members.need("tool_use_id")?.string()?;
    let is_error = members.flag("is_error")?.unwrap_or(false);
    let mut texts = Vec::new();
    let mut moved = Vec::new();
    if let Some(content) = members.take("content") {
        for block in blocks(&content)? {
            if block.kind == "text" {
                texts.push(block.text(way)?);
                continue;
            }
            let path = block.node.path.clone();
            for part in media::parts(block, way)? {
                match part {
                    Part::Text { text } => texts.push(text),
                    part => moved.push(part),
                }
            }
            if !moved.is_empty() {
                way.losses.push(loss(
                    &path,
                    "it moved to the user message behind the results",
                ));
            }
        }
    }
    members.lose("cache_control", CACHE, &mut way.losses);
    members.lose_rest(&mut way.losses);
    texts.retain(|text| !text.is_empty());
    let mut text = texts.join("\n\n");
    if !moved.is_empty() {
        if text.is_empty() {
            "(shown in the user message below)".clone_into(&mut text);
        }
        let wire = way.ids.of(&id);
        shown.push(Part::Text {
            text: format!("Shown by the result of tool call {wire}:"),
        });
        shown.append(&mut moved);
    }
    if is_error {
        // Chat has no field for it (trap 8).
        text.insert_str(0, "Error: ");
    }
    Ok(Outcome { id, path, text })
}

/// What the assistant said and called. Text blocks in a row are one text (citations cut them); what
/// stood between others leaves a blank line.
pub(super) fn assistant(content: &Node<'_>, way: &mut Way) -> Result<Said, Refusal> {
    let mut said = Said::default();
    let mut apart = false;
    for block in blocks(content)? {
        match block.kind.as_str() {
            "text" => {
                let text = block.text(way)?;
                if !text.is_empty() {
                    let so_far = said.text.get_or_insert_default();
                    if apart && !so_far.is_empty() {
                        so_far.push_str("\n\n");
                    }
                    so_far.push_str(&text);
                    apart = false;
                }
                continue;
            }
            "thinking" | "redacted_thinking" => way.losses.push(loss(
                &block.node.path,
                "thinking is of use only to the vendor that made it",
            )),
            "fallback" => way
                .losses
                .push(loss(&block.node.path, "it marks a change of model only")),
            "tool_use" => {
                let (call, pending) = call(block, way)?;
                said.calls.push(call);
                said.pending.push(pending);
            }
            _ => {
                let why =
                    "an assistant turn of the target holds text and calls of the caller's tools";
                return Err(block.node.refuse(why));
            }
        }
        apart = true;
    }
    Ok(said)
}

fn call(block: Block<'_>, way: &mut Way) -> Result<(Call, Pending), Refusal> {
    let (mut members, path) = block.split()?;
    let id = members.need("id")?.string()?;
    let name = way.names.of(&members.need("name")?.string()?);
    let arguments = match members.take("input") {
        None => "{}",
        Some(input) if input.raw().get().starts_with('{') => input.raw().get(),
        Some(input) => return Err(input.wrong("an object")),
    };
    if let Some(caller) = members.take("caller")
        && caller.object()?.string("type")?.as_deref() != Some("direct")
    {
        return Err(caller.refuse("code in its vendor's container made this call"));
    }
    members.lose("cache_control", CACHE, &mut way.losses);
    members.lose_rest(&mut way.losses);
    let call = Call {
        id: way.ids.of(&id),
        r#type: "function",
        function: Called {
            name,
            arguments: arguments.to_owned(),
        },
    };
    Ok((call, Pending { id, path }))
}

// === impl Part ===

impl Part {
    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            Self::ImageUrl { .. } | Self::File { .. } => None,
        }
    }
}

// === impl Block ===

impl<'a> Block<'a> {
    /// The text of a text block.
    pub(super) fn text(self, way: &mut Way) -> Result<String, Refusal> {
        let Some(mut members) = self.members else {
            return self.node.string();
        };
        let text = members.need("text")?.string()?;
        members.lose("cache_control", CACHE, &mut way.losses);
        if let Some(citations) = members.take("citations")
            && !citations.list()?.is_empty()
        {
            let why = "citations are of use only to the vendor that made them";
            way.losses.push(loss(&citations.path, why));
        }
        members.lose_rest(&mut way.losses);
        Ok(text)
    }

    /// The members and the path of a block that is no plain string.
    pub(super) fn split(self) -> Result<(Object<'a>, String), Refusal> {
        match self.members {
            Some(members) => Ok((members, self.node.path)),
            None => Err(self.node.wrong("a block")),
        }
    }
}
