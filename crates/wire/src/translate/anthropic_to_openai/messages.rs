//! The turns of an Anthropic conversation as messages of a Chat conversation.
//!
//! The order changes in one place: Chat wants the results of tool calls right behind the turn that
//! made them, in the order of the calls and one message each, wherever they stood in the user's
//! turns (trap 4). Turns of one role in a row become one message, as the Messages API reads them:
//! some chat templates take none else (trap 18).

use serde::{Serialize, Serializer};

use super::Way;
use super::blocks::{self, Part, Said};
use crate::translate::Refusal;
use crate::translate::read::{Node, Object};

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Message {
    System {
        content: String,
    },
    User {
        #[serde(serialize_with = "text_or_parts")]
        content: Vec<Part>,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call>,
    },
    Tool {
        tool_call_id: String,
        content: String,
    },
}

#[derive(Serialize)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) r#type: &'static str,
    pub(super) function: Called,
}

#[derive(Serialize)]
pub(super) struct Called {
    pub(super) name: String,
    /// JSON text, as the model wrote it.
    pub(super) arguments: String,
}

/// A tool call that waits for its result.
pub(super) struct Pending {
    /// The caller's id.
    pub(super) id: String,
    pub(super) path: String,
}

/// The messages so far.
#[derive(Default)]
struct Talk {
    messages: Vec<Message>,
    /// The calls of the last assistant turn, and whether each one's result has come.
    calls: Vec<(Pending, bool)>,
    /// Where the first of their results belongs.
    results: usize,
}

/// The system prompt and all turns.
pub(super) fn messages(from: &mut Object<'_>, way: &mut Way) -> Result<Vec<Message>, Refusal> {
    let mut talk = Talk::default();
    if let Some(node) = from.take("system") {
        talk.system(blocks::system(&node, way)?);
    }
    let all = from.need("messages")?;
    let turns = all.list()?;
    if turns.is_empty() {
        return Err(all.wrong("a list with a message in it"));
    }
    let last = turns.len() - 1;
    for (place, turn) in turns.iter().enumerate() {
        let mut message = turn.object()?;
        let role = message.need("role")?;
        let content = message.need("content")?;
        match role.string()?.as_str() {
            "user" => talk.user(&content, way)?,
            "assistant" if place == last => {
                return Err(turn.refuse("the target does not go on with a begun answer"));
            }
            "assistant" => talk.assistant(&content, way)?,
            "system" => talk.system(blocks::system(&content, way)?),
            _ => return Err(role.wrong("`user`, `assistant` or `system`")),
        }
        message.lose_rest(&mut way.losses);
    }
    talk.settle()?;
    Ok(talk.messages)
}

// === impl Talk ===

impl Talk {
    fn system(&mut self, content: String) {
        if !content.is_empty() {
            self.messages.push(Message::System { content });
        }
    }

    fn user(&mut self, content: &Node<'_>, way: &mut Way) -> Result<(), Refusal> {
        let said = blocks::user(content, way)?;
        for result in said.results {
            let place = self.place(&result.id, &result.path)?;
            let message = Message::Tool {
                tool_call_id: way.ids.of(&result.id),
                content: result.text,
            };
            self.messages.insert(place, message);
        }
        if said.parts.is_empty() {
            return Ok(());
        }
        if let Some(Message::User { content }) = self.messages.last_mut() {
            content.extend(said.parts);
        } else {
            let content = said.parts;
            self.messages.push(Message::User { content });
        }
        Ok(())
    }

    fn assistant(&mut self, content: &Node<'_>, way: &mut Way) -> Result<(), Refusal> {
        let Said {
            text,
            calls,
            pending,
        } = blocks::assistant(content, way)?;
        if text.is_none() && calls.is_empty() {
            return Ok(());
        }
        if let Some(Message::Assistant {
            content,
            tool_calls,
        }) = self.messages.last_mut()
        {
            tool_calls.extend(calls);
            *content = match (content.take(), text) {
                (Some(before), Some(text)) => Some(before + "\n\n" + &text),
                (before, text) => before.or(text),
            };
        } else {
            self.settle()?;
            self.calls.clear();
            self.results = self.messages.len() + 1;
            self.messages.push(Message::Assistant {
                content: text,
                tool_calls: calls,
            });
        }
        let pending = pending.into_iter().map(|call| (call, false));
        self.calls.extend(pending);
        Ok(())
    }

    /// Where the result of this call belongs.
    fn place(&mut self, id: &str, path: &str) -> Result<usize, Refusal> {
        let wrong = |why: &str| Refusal::Shape {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        let found = self.calls.iter().position(|(call, _)| call.id == id);
        let found = found.ok_or_else(|| wrong("it answers no call of the turn before"))?;
        if std::mem::replace(&mut self.calls[found].1, true) {
            return Err(wrong("it is the second result of one call"));
        }
        let before = self.calls[..found].iter().filter(|(_, come)| *come);
        Ok(self.results + before.count())
    }

    /// Every call has its result: a history with a gap is refused by both dialects.
    fn settle(&self) -> Result<(), Refusal> {
        match self.calls.iter().find(|(_, come)| !come) {
            None => Ok(()),
            Some((call, _)) => Err(Refusal::Shape {
                path: call.path.clone(),
                why: "this call has no result in the turn behind it".to_owned(),
            }),
        }
    }
}

/// Text alone is written as a string: every compatible server takes one, not every one a list.
fn text_or_parts<S: Serializer>(parts: &[Part], serializer: S) -> Result<S::Ok, S::Error> {
    let texts: Option<Vec<&str>> = parts.iter().map(Part::text).collect();
    match texts {
        Some(texts) => serializer.serialize_str(&texts.join("\n\n")),
        None => parts.serialize(serializer),
    }
}
