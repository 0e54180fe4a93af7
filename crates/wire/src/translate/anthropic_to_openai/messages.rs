//! Messages of an Anthropic conversation as messages of a Chat conversation.

use serde::Serialize;
use serde_json::{Value, json};

use super::{CACHE, Way};
use crate::translate::Refusal;
use crate::translate::read::{Node, Object, loss, refuse};

#[derive(Default, Serialize)]
pub(super) struct Message {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Value>),
}

/// Behind the billing line of Claude Code's system prompt stands nothing for a model.
const BILLING: &str = "x-anthropic-billing-header:";
/// What stands before the images that tool results brought along.
const IMAGES_OF: &str = "Images of the tool results above:";

pub(super) fn messages(from: &mut Object<'_>, way: &mut Way) -> Result<Vec<Message>, Refusal> {
    let mut messages = Vec::new();
    if let Some(node) = from.take("system") {
        let system = system(&node, way)?;
        if !system.is_empty() {
            messages.push(text_message("system", system));
        }
    }
    let turns = from.need("messages")?.list()?;
    let last = turns.len();
    for (place, turn) in turns.into_iter().enumerate() {
        let mut message = turn.object()?;
        let role = message.need("role")?;
        let content = message.need("content")?;
        match role.string()?.as_str() {
            "user" => user(&content, way, &mut messages)?,
            "assistant" if place + 1 == last => {
                return Err(turn.refuse("a begun answer is not gone on with by the target"));
            }
            "assistant" => assistant(&content, way, &mut messages)?,
            "system" => messages.push(text_message("system", system(&content, way)?)),
            _ => return Err(role.wrong("`user`, `assistant` or `system`")),
        }
        message.lose_rest(&mut way.losses);
    }
    Ok(messages)
}

fn text_message(role: &'static str, text: String) -> Message {
    Message {
        role,
        content: Some(Content::Text(text)),
        ..Message::default()
    }
}

/// The blocks of a content; a string is one text block.
fn blocks<'a>(content: &Node<'a>) -> Result<Vec<(String, Option<Object<'a>>, Node<'a>)>, Refusal> {
    if content.is_string() {
        return Ok(vec![("text".to_owned(), None, content.clone())]);
    }
    content
        .list()?
        .into_iter()
        .map(|node| {
            let mut block = node.object()?;
            Ok((block.need("type")?.string()?, Some(block), node))
        })
        .collect()
}

/// The text of a text block.
fn text(node: &Node<'_>, block: Option<Object<'_>>, way: &mut Way) -> Result<String, Refusal> {
    let Some(mut block) = block else {
        return node.string();
    };
    let text = block.need("text")?.string()?;
    block.lose("cache_control", CACHE, &mut way.losses);
    block.lose(
        "citations",
        "citations stay at their vendor",
        &mut way.losses,
    );
    block.lose_rest(&mut way.losses);
    Ok(text)
}

fn system(content: &Node<'_>, way: &mut Way) -> Result<String, Refusal> {
    let mut texts = Vec::new();
    for (kind, block, node) in blocks(content)? {
        if kind != "text" {
            return Err(node.refuse("a system prompt of the target is text alone"));
        }
        let text = text(&node, block, way)?;
        if text.starts_with(BILLING) {
            way.losses
                .push(loss(&node.path, "it is meant for Anthropic's billing"));
        } else {
            texts.push(text);
        }
    }
    Ok(texts.join("\n\n"))
}

/// Tool results first, each a message of its own right behind the calls; then what was said.
fn user(content: &Node<'_>, way: &mut Way, out: &mut Vec<Message>) -> Result<(), Refusal> {
    let mut parts = Vec::new();
    let mut shown = Vec::new();
    for (kind, block, node) in blocks(content)? {
        match (kind.as_str(), block) {
            ("text", block) => {
                parts.push(json!({"type": "text", "text": text(&node, block, way)?}));
            }
            ("tool_result", Some(block)) => out.push(result(block, way, &mut shown)?),
            (kind, Some(block)) => parts.push(media(kind, block, &node, way)?),
            (_, None) => return Err(node.wrong("a block")),
        }
    }
    if !shown.is_empty() {
        way.losses.push(loss(
            &content.path,
            "images of tool results stand in a user message behind them",
        ));
        shown.insert(0, json!({"type": "text", "text": IMAGES_OF}));
        shown.append(&mut parts);
        parts = shown;
    }
    if !parts.is_empty() {
        out.push(Message {
            role: "user",
            content: Some(plain(parts)),
            ..Message::default()
        });
    }
    Ok(())
}

/// One text part alone is a string, which every compatible server takes.
fn plain(mut parts: Vec<Value>) -> Content {
    match parts.as_mut_slice() {
        [part] if part["type"] == "text" => match part["text"].take() {
            Value::String(text) => Content::Text(text),
            _ => Content::Text(String::new()),
        },
        _ => Content::Parts(parts),
    }
}

/// One `tool_result` as a message; its images go to `shown`.
fn result(
    mut block: Object<'_>,
    way: &mut Way,
    shown: &mut Vec<Value>,
) -> Result<Message, Refusal> {
    let id = way.ids.of(&block.need("tool_use_id")?.string()?);
    let is_error = block.flag("is_error")?.unwrap_or(false);
    let mut texts = Vec::new();
    if let Some(content) = block.take("content") {
        for (kind, block, node) in blocks(&content)? {
            match (kind.as_str(), block) {
                ("text", block) => texts.push(text(&node, block, way)?),
                (kind, Some(block)) => shown.push(media(kind, block, &node, way)?),
                (_, None) => return Err(node.wrong("a block")),
            }
        }
    }
    block.lose("cache_control", CACHE, &mut way.losses);
    block.lose_rest(&mut way.losses);
    let mut text = texts.join("\n\n");
    if is_error {
        // Chat has no field for it (trap 8).
        text.insert_str(0, "Error: ");
    }
    Ok(Message {
        tool_call_id: Some(id),
        ..text_message("tool", text)
    })
}

fn media(
    kind: &str,
    mut block: Object<'_>,
    node: &Node<'_>,
    way: &mut Way,
) -> Result<Value, Refusal> {
    let part = match kind {
        "image" => {
            let url = image_url(&block.need("source")?)?;
            json!({"type": "image_url", "image_url": {"url": url}})
        }
        "document" => {
            let title = block.string("title")?;
            block.lose("citations", "the target cites nothing", &mut way.losses);
            let context = block.string("context")?;
            document(&block.need("source")?, title, context)?
        }
        "search_result" => {
            let title = block.string("title")?.unwrap_or_default();
            let source = block.string("source")?.unwrap_or_default();
            block.lose("citations", "the target cites nothing", &mut way.losses);
            let texts = system(&block.need("content")?, way)?;
            json!({"type": "text", "text": format!("{title}\n{source}\n\n{texts}")})
        }
        _ => return Err(node.refuse("the target has no block of this kind")),
    };
    block.lose("cache_control", CACHE, &mut way.losses);
    block.lose_rest(&mut way.losses);
    Ok(part)
}

fn image_url(source: &Node<'_>) -> Result<String, Refusal> {
    let mut from = source.object()?;
    match from.need("type")?.string()?.as_str() {
        "base64" => {
            let media = from.need("media_type")?.string()?;
            let data = from.need("data")?.string()?;
            Ok(format!("data:{media};base64,{data}"))
        }
        "url" => from.need("url")?.string(),
        _ => Err(source.refuse("a file by id lives at its vendor")),
    }
}

fn document(
    source: &Node<'_>,
    title: Option<String>,
    context: Option<String>,
) -> Result<Value, Refusal> {
    let mut from = source.object()?;
    let text = match from.need("type")?.string()?.as_str() {
        "base64" => {
            let media = from.need("media_type")?.string()?;
            let data = from.need("data")?.string()?;
            if let Some(context) = context {
                return Err(refuse(
                    &source.path,
                    &format!("a file of the target has no context (`{context}`)"),
                ));
            }
            let name = title.unwrap_or_else(|| "document.pdf".to_owned());
            let data = format!("data:{media};base64,{data}");
            return Ok(json!({"type": "file", "file": {"filename": name, "file_data": data}}));
        }
        "text" => from.need("data")?.string()?,
        "content" => {
            let parts = from.need("content")?;
            let mut texts = Vec::new();
            for (kind, block, node) in blocks(&parts)? {
                match (kind.as_str(), block) {
                    ("text", None) => texts.push(node.string()?),
                    ("text", Some(mut block)) => texts.push(block.need("text")?.string()?),
                    _ => return Err(node.refuse("a document of the target is text or a file")),
                }
            }
            texts.join("\n\n")
        }
        "url" => return Err(source.refuse("the target fetches no documents")),
        _ => return Err(source.refuse("a file by id lives at its vendor")),
    };
    let head = [title, context];
    let whole: Vec<&str> = head
        .iter()
        .flatten()
        .map(String::as_str)
        .chain([text.as_str()])
        .collect();
    Ok(json!({"type": "text", "text": whole.join("\n\n")}))
}

fn assistant(content: &Node<'_>, way: &mut Way, out: &mut Vec<Message>) -> Result<(), Refusal> {
    let mut texts = String::new();
    let mut calls = Vec::new();
    for (kind, block, node) in blocks(content)? {
        match (kind.as_str(), block) {
            ("text", block) => texts.push_str(&text(&node, block, way)?),
            ("thinking" | "redacted_thinking", _) => way
                .losses
                .push(loss(&node.path, "thinking is good at its own vendor only")),
            ("tool_use", Some(mut block)) => {
                calls.push(call(&mut block, way)?);
                block.lose("cache_control", CACHE, &mut way.losses);
                block.lose_rest(&mut way.losses);
            }
            _ => return Err(node.refuse("what its vendor's own tools did can't move")),
        }
    }
    if texts.is_empty() && calls.is_empty() {
        return Ok(());
    }
    out.push(Message {
        role: "assistant",
        content: (!texts.is_empty()).then_some(Content::Text(texts)),
        tool_calls: calls,
        ..Message::default()
    });
    Ok(())
}

fn call(block: &mut Object<'_>, way: &mut Way) -> Result<Value, Refusal> {
    let id = way.ids.of(&block.need("id")?.string()?);
    let name = way.names.of(&block.need("name")?.string()?);
    let arguments = block.take("input").map_or("{}", |input| input.raw().get());
    Ok(json!({
        "id": id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }))
}
