//! The fold of a Messages stream: the message that `message_start` began, with its blocks grown by
//! their deltas and what `message_delta` told in the end.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Error;
use super::members::{Members, raw, vendor};

#[derive(Debug, Default)]
pub(super) struct Folder {
    message: Option<Members>,
    blocks: BTreeMap<u32, Block>,
    ended: bool,
}

/// A block: as it was opened, and what came since.
#[derive(Debug, Default)]
struct Block {
    opened: Members,
    text: Option<String>,
    thinking: Option<String>,
    input: String,
    citations: Vec<Box<RawValue>>,
    closed: bool,
}

// === impl Folder ===

impl Folder {
    pub(super) fn push(&mut self, text: &str) -> Result<(), Error> {
        let event = Members::parse(text)?;
        let kind = event.string("type").unwrap_or_default();
        match kind.as_str() {
            "error" => Err(vendor(event.get("error"))),
            "message_start"
            | "content_block_start"
            | "content_block_delta"
            | "content_block_stop"
            | "message_delta"
            | "message_stop"
                if self.ended =>
            {
                Err(garbage("event after message_stop"))
            }
            "message_start" if self.message.is_some() => Err(garbage("second message_start")),
            "message_start" => {
                let message = event.object("message");
                self.message =
                    Some(message.ok_or_else(|| garbage("message_start without a message"))?);
                Ok(())
            }
            "content_block_start" => self.block_start(&event),
            "content_block_delta" => self.block_delta(&event),
            "content_block_stop" => {
                self.open_block(&event)?.closed = true;
                Ok(())
            }
            "message_delta" => self.message_delta(event),
            "message_stop" => {
                self.ended = true;
                Ok(())
            }
            "" => Err(garbage("event without a type")),
            // A ping, or an event type added within a version: neither has a place in a body.
            _ => Ok(()),
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, Error> {
        let Some(mut message) = self.message else {
            return Err(incomplete("no message_start"));
        };
        if !self.ended {
            return Err(incomplete("no message_stop"));
        }
        if message.string("stop_reason").is_none() {
            return Err(incomplete("no stop reason"));
        }
        let mut content = message.list("content");
        for block in self.blocks.into_values() {
            content.push(raw(&block.finish()?));
        }
        message.set("content", raw(&content));
        Ok(raw(&message).get().as_bytes().to_vec())
    }

    fn block_start(&mut self, event: &Members) -> Result<(), Error> {
        let (Some(index), Some(opened)) = (event.index("index"), event.object("content_block"))
        else {
            return Err(garbage("content_block_start without an index or a block"));
        };
        let block = Block {
            text: opened.string("text"),
            thinking: opened.string("thinking"),
            citations: opened.list("citations"),
            opened,
            ..Block::default()
        };
        match self.blocks.insert(index, block) {
            None => Ok(()),
            Some(_) => Err(garbage("second start of a block")),
        }
    }

    fn block_delta(&mut self, event: &Members) -> Result<(), Error> {
        let delta = event.object("delta").ok_or_else(|| garbage("no delta"))?;
        self.open_block(event)?.grow(delta)
    }

    fn open_block(&mut self, event: &Members) -> Result<&mut Block, Error> {
        let index = event.index("index").ok_or_else(|| garbage("no index"))?;
        match self.blocks.get_mut(&index) {
            Some(block) if !block.closed => Ok(block),
            Some(_) => Err(garbage("event for a closed block")),
            None => Err(garbage("event for a block that was never opened")),
        }
    }

    /// The stop and its company go to the message, counts over the counts of the start, and what
    /// else the event carries (`context_management`) to the message too.
    fn message_delta(&mut self, event: Members) -> Result<(), Error> {
        let Some(message) = &mut self.message else {
            return Err(garbage("message_delta before message_start"));
        };
        if let Some(delta) = event.object("delta") {
            message.merge(delta);
        }
        if let Some(newer) = event.object("usage") {
            let mut usage = message.object("usage").unwrap_or_default();
            usage.merge(newer);
            message.set("usage", raw(&usage));
        }
        for (name, value) in event.into_iter() {
            if !matches!(name.as_str(), "type" | "delta" | "usage") {
                message.set(&name, value);
            }
        }
        Ok(())
    }
}

// === impl Block ===

impl Block {
    fn grow(&mut self, delta: Members) -> Result<(), Error> {
        let piece = |name| {
            delta
                .string(name)
                .ok_or_else(|| garbage("delta without its content"))
        };
        match delta.string("type").unwrap_or_default().as_str() {
            "text_delta" => join(&mut self.text, &piece("text")?),
            "thinking_delta" => join(&mut self.thinking, &piece("thinking")?),
            "input_json_delta" => self.input.push_str(&piece("partial_json")?),
            "signature_delta" => self.opened.set("signature", raw(&piece("signature")?)),
            "citations_delta" => {
                let citation = delta
                    .get("citation")
                    .ok_or_else(|| garbage("no citation"))?;
                self.citations.push(citation.to_owned());
            }
            // Beta: the content comes whole.
            "compaction_delta" => {
                for (name, value) in delta.into_iter().filter(|(name, _)| name != "type") {
                    self.opened.set(&name, value);
                }
            }
            // Leaving out what is not understood would not be the vendor's answer.
            _ => return Err(garbage("a delta that cannot be folded")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Members, Error> {
        if !self.closed {
            return Err(incomplete("a content block was not closed"));
        }
        let mut block = self.opened;
        if let Some(text) = self.text {
            block.set("text", raw(&text));
        }
        if let Some(thinking) = self.thinking {
            block.set("thinking", raw(&thinking));
        }
        if !self.citations.is_empty() {
            block.set("citations", raw(&self.citations));
        }
        if !self.input.is_empty() {
            block.set(
                "input",
                serde_json::from_str(&self.input).map_err(Error::ToolInput)?,
            );
        }
        Ok(block)
    }
}

fn join(text: &mut Option<String>, piece: &str) {
    text.get_or_insert_default().push_str(piece);
}

fn garbage(why: &'static str) -> Error {
    Error::Garbage { why }
}

fn incomplete(missing: &'static str) -> Error {
    Error::Incomplete { missing }
}
