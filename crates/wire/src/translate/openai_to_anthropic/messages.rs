//! Messages of a Chat conversation as messages of an Anthropic conversation.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::json::is_no_argument;
use crate::translate::read::{Node, Object, loss, refuse};
use crate::translate::tools::Ids;
use crate::translate::{Loss, Refusal};

#[derive(Serialize)]
pub(super) struct Message {
    role: &'static str,
    content: Vec<Block>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Block {
    Made(Value),
    Call(Call),
}

/// A call of a tool; its arguments go over as they are.
#[derive(Serialize)]
struct Call {
    r#type: &'static str,
    id: String,
    name: String,
    input: Box<RawValue>,
}

/// Where the conversation stands while it is read.
#[derive(Default)]
struct Way {
    system: Vec<Value>,
    messages: Vec<Message>,
    /// Tool results at the start of the last user message: those of one turn stand together, first.
    results: usize,
    ids: Ids,
    /// Calls of the last assistant turn that have no result yet.
    open: Vec<String>,
    /// Calls in the old way, which has no ids.
    nameless: usize,
}

/// The system prompt and the conversation.
pub(super) fn messages(
    from: &mut Object<'_>,
    losses: &mut Vec<Loss>,
) -> Result<(Vec<Value>, Vec<Message>), Refusal> {
    let mut way = Way {
        ids: Ids::words(),
        ..Way::default()
    };
    for node in from.need("messages")?.list()? {
        let mut message = node.object()?;
        let role = message.need("role")?;
        match role.string()?.as_str() {
            "system" | "developer" => system(&mut message, &node, &mut way, losses)?,
            "user" => {
                way.all_answered(&node)?;
                let content = message.need("content")?;
                for part in parts(&content)? {
                    let block = user_part(&part, losses)?;
                    // Anthropic refuses empty text blocks.
                    if block["text"] != "" {
                        way.add("user", Block::Made(block));
                    }
                }
            }
            "assistant" => {
                way.all_answered(&node)?;
                assistant(&mut message, &mut way, losses)?;
            }
            "tool" => {
                let id = message.need("tool_call_id")?;
                let there = way.ids.of(&id.string()?);
                let place = way.open.iter().position(|open| *open == there);
                let place = place.ok_or_else(|| id.wrong("the id of an open call"))?;
                result(place, &mut message, &mut way, losses)?;
            }
            // The old way has no ids: there was one call at a time.
            "function" => {
                message.need("name")?;
                if way.open.is_empty() {
                    return Err(node.wrong("behind a call"));
                }
                result(0, &mut message, &mut way, losses)?;
            }
            _ => return Err(role.wrong("a role of this dialect")),
        }
        // A speaker's name has no place; what is left besides is a loss of its own.
        message.lose_rest(losses);
    }
    if !way.open.is_empty() {
        return Err(way.unanswered("messages"));
    }
    if way.messages.is_empty() {
        return Err(refuse(
            "messages",
            "the target needs a message of the user, and there is none",
        ));
    }
    if way
        .messages
        .last()
        .is_some_and(|last| last.role == "assistant")
    {
        return Err(refuse(
            "messages",
            "an assistant message at the end is a begun answer for the target",
        ));
    }
    Ok((way.system, way.messages))
}

impl Way {
    /// Turns of the same role that follow each other are one (trap 18).
    fn add(&mut self, role: &'static str, block: Block) {
        match self.messages.last_mut() {
            Some(last) if last.role == role => last.content.push(block),
            _ => {
                self.results = 0;
                self.messages.push(Message {
                    role,
                    content: vec![block],
                });
            }
        }
    }

    /// A turn may begin when every call has its result: the vendors refuse it otherwise.
    fn all_answered(&self, turn: &Node<'_>) -> Result<(), Refusal> {
        if self.open.is_empty() {
            Ok(())
        } else {
            Err(self.unanswered(&turn.path))
        }
    }

    fn unanswered(&self, path: &str) -> Refusal {
        Refusal::Shape {
            path: path.to_owned(),
            why: format!("{} calls before it have no result", self.open.len()),
        }
    }

    fn add_result(&mut self, block: Block) {
        match self.messages.last_mut() {
            Some(last) if last.role == "user" => last.content.insert(self.results, block),
            _ => {
                self.results = 0;
                self.messages.push(Message {
                    role: "user",
                    content: vec![block],
                });
            }
        }
        self.results += 1;
    }
}

/// The parts of a content; a string is one text part.
fn parts<'a>(content: &Node<'a>) -> Result<Vec<Node<'a>>, Refusal> {
    if content.is_string() {
        return Ok(vec![content.clone()]);
    }
    content.list()
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// The text of a part that can't be anything else.
fn text_part(part: &Node<'_>) -> Result<String, Refusal> {
    if part.is_string() {
        return part.string();
    }
    let mut object = part.object()?;
    match object.need("type")?.string()?.as_str() {
        "text" => object.need("text")?.string(),
        "refusal" => object.need("refusal")?.string(),
        _ => Err(part.refuse("the target takes text alone here")),
    }
}

/// Each message keeps a block of its own. One inside the conversation moves to the top, which
/// every version of the target takes.
fn system(
    message: &mut Object<'_>,
    node: &Node<'_>,
    way: &mut Way,
    losses: &mut Vec<Loss>,
) -> Result<(), Refusal> {
    for part in parts(&message.need("content")?)? {
        let text = text_part(&part)?;
        if !text.is_empty() {
            way.system.push(text_block(&text));
        }
    }
    if !way.messages.is_empty() {
        losses.push(loss(
            &node.path,
            "its place in the conversation: it stands at the top",
        ));
    }
    Ok(())
}

fn user_part(part: &Node<'_>, losses: &mut Vec<Loss>) -> Result<Value, Refusal> {
    if part.is_string() {
        return Ok(text_block(&part.string()?));
    }
    let mut object = part.object()?;
    let kind = object.need("type")?.string()?;
    let block = match kind.as_str() {
        "text" => text_block(&object.need("text")?.string()?),
        "image_url" => {
            let mut image = object.need("image_url")?.object()?;
            image.lose("detail", "the target chooses the detail itself", losses);
            let url = image.need("url")?;
            image.lose_rest(losses);
            json!({"type": "image", "source": image_source(&url)?})
        }
        "file" => {
            let mut file = object.need("file")?.object()?;
            let title = file.string("filename")?;
            let Some(data) = file.take("file_data") else {
                return Err(part.refuse("a file by id lives at its vendor"));
            };
            file.lose_rest(losses);
            document(&data, title)?
        }
        _ => return Err(part.refuse("the target takes no part of this type")),
    };
    object.lose_rest(losses);
    Ok(block)
}

/// `data:<media type>;base64,<data>`, or an address.
fn image_source(url: &Node<'_>) -> Result<Value, Refusal> {
    let address = url.string()?;
    if let Some((media, data)) = data_uri(&address) {
        return Ok(json!({"type": "base64", "media_type": media, "data": data}));
    }
    if address.starts_with("data:") {
        return Err(url.refuse("the target takes images as base64"));
    }
    Ok(json!({"type": "url", "url": address}))
}

fn document(data: &Node<'_>, title: Option<String>) -> Result<Value, Refusal> {
    let uri = data.string()?;
    let Some(("application/pdf", data)) = data_uri(&uri) else {
        return Err(data.refuse("the target takes PDF alone, as base64"));
    };
    let source = json!({"type": "base64", "media_type": "application/pdf", "data": data});
    Ok(match title {
        Some(title) => json!({"type": "document", "source": source, "title": title}),
        None => json!({"type": "document", "source": source}),
    })
}

fn data_uri(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix("data:")?.split_once(";base64,")
}

fn assistant(
    message: &mut Object<'_>,
    way: &mut Way,
    losses: &mut Vec<Loss>,
) -> Result<(), Refusal> {
    if let Some(content) = message.take("content") {
        for part in parts(&content)? {
            let text = text_part(&part)?;
            if !text.is_empty() {
                way.add("assistant", Block::Made(text_block(&text)));
            }
        }
    }
    if let Some(refusal) = message.string("refusal")?.filter(|text| !text.is_empty()) {
        way.add("assistant", Block::Made(text_block(&refusal)));
    }
    for name in ["reasoning_content", "reasoning", "reasoning_details"] {
        message.lose(name, "thinking is good at its own vendor only", losses);
    }
    message.lose("annotations", "annotations stay at their vendor", losses);
    if let Some(audio) = message.take("audio") {
        return Err(audio.refuse("the target takes no audio"));
    }
    for node in message.list("tool_calls")? {
        let mut call = node.object()?;
        let id = call.need("id")?.string()?;
        let Some(function) = call.take("function") else {
            return Err(node.refuse("the target has no tools of this type"));
        };
        call.take("type");
        // Some servers number the calls of a turn; the order says it.
        call.take("index");
        call.lose_rest(losses);
        let id = way.ids.of(&id);
        let block = called(id.clone(), &function, losses)?;
        way.add("assistant", block);
        way.open.push(id);
    }
    if let Some(function) = message.take("function_call") {
        way.nameless += 1;
        let id = way.ids.of(&format!("call_{}", way.nameless));
        let block = called(id.clone(), &function, losses)?;
        way.add("assistant", block);
        way.open.push(id);
    }
    Ok(())
}

fn called(id: String, node: &Node<'_>, losses: &mut Vec<Loss>) -> Result<Block, Refusal> {
    let mut function = node.object()?;
    let name = function.need("name")?.string()?;
    let arguments = function.take("arguments");
    let text = match &arguments {
        Some(arguments) => arguments.string()?,
        None => String::new(),
    };
    function.lose_rest(losses);
    // Nothing said is no argument (trap 1).
    let text = if is_no_argument(&text) { "{}" } else { &text };
    let input = RawValue::from_string(text.to_owned())
        .ok()
        .filter(|input| input.get().trim_start().starts_with('{'));
    let Some(input) = input else {
        return Err(arguments
            .unwrap_or_else(|| node.clone())
            .wrong("an object as JSON text"));
    };
    Ok(Block::Call(Call {
        r#type: "tool_use",
        id,
        name,
        input,
    }))
}

/// The result of the open call at `place`.
fn result(
    place: usize,
    message: &mut Object<'_>,
    way: &mut Way,
    losses: &mut Vec<Loss>,
) -> Result<(), Refusal> {
    let mut content = Vec::new();
    if let Some(node) = message.take("content") {
        for part in parts(&node)? {
            let text = text_part(&part)?;
            if !text.is_empty() {
                content.push(text_block(&text));
            }
        }
    }
    message.lose("name", "the call has the tool's name already", losses);
    let id = way.open.remove(place);
    way.add_result(Block::Made(json!({
        "type": "tool_result",
        "tool_use_id": id,
        "content": content,
    })));
    Ok(())
}
