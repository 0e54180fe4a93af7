//! YAML text -> a tree of nodes that know where they stand in the text.
//!
//! A tree of our own, not serde: serde ends at the first mistake and drops tags, and a person who
//! edits a configuration wants every mistake at once, underlined. The parser is the one beneath
//! `serde-saphyr`. Anchors and aliases work; `<<` merge keys do not; the tree is bounded in depth
//! and in nodes, so that no text can blow it up.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

/// The deepest nesting of a configuration file. Ours is 5 deep.
const MAX_DEPTH: usize = 32;
/// The most nodes, aliases expanded.
const MAX_NODES: usize = 100_000;

/// Where something stands: byte offsets into the text.
pub(crate) type Span = Range<usize>;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    /// A local tag without its `!`: `file` for `!file secrets/key`.
    pub(crate) tag: Option<String>,
    /// Written in quotes or as a block: a text, whatever it looks like.
    pub(crate) quoted: bool,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// A text that is not YAML, or not the YAML that a configuration is written in.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    pub(crate) message: String,
    pub(crate) span: Span,
}

/// Reads one document.
pub(crate) fn parse(text: &str) -> Result<Node, Error> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = floor_boundary(text, error.marker().byte_offset().unwrap_or(text.len()));
            Error {
                message: error.info(),
                span: at..at,
            }
        })?;
        let span = span.byte_range().unwrap_or(0..0);
        builder.handle(event, span, text)?;
    }
    Ok(builder.root.unwrap_or(Node {
        span: 0..0,
        tag: None,
        quoted: false,
        value: Value::Null,
    }))
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

struct Open {
    node: Node,
    anchor: usize,
    key: Option<Key>,
}

// === impl Node ===

impl Node {
    /// How many nodes this is, itself included.
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => {
                let depths = entries.iter().map(|(_, node)| node.depth());
                depths.max().unwrap_or(0)
            }
        }
    }
}

// === impl Builder ===

impl Builder {
    fn handle(&mut self, event: Event<'_>, span: Span, text: &str) -> Result<(), Error> {
        match event {
            Event::Scalar(content, style, anchor, tag) => {
                let value = scalar(&content, style, tag.is_some());
                let tag = tag.as_deref().map(local_name);
                let quoted = style != ScalarStyle::Plain;
                let node = Node {
                    span,
                    tag,
                    quoted,
                    value,
                };
                self.add(node, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Value::List(Vec::new()), span, anchor, tag.as_deref(), text)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.open(Value::Map(Vec::new()), span, anchor, tag.as_deref(), text)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.add(open.node, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) if node.depth() + self.open.len() <= MAX_DEPTH => {
                    let mut node = node.clone();
                    node.span = span;
                    self.nodes += node.size();
                    self.add(node, 0)
                }
                Some(_) => Err(too_deep(span)),
                None => Err(error("an alias cannot stand inside its own anchor", span)),
            },
            // Document and stream marks, comments.
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        value: Value,
        span: Span,
        anchor: usize,
        tag: Option<&Tag>,
        text: &str,
    ) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        let node = Node {
            span: first_line(text, span.start),
            tag: tag.map(local_name),
            quoted: false,
            value,
        };
        self.open.push(Open {
            node,
            anchor,
            key: None,
        });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(error("the file holds too many values", node.span));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
            self.nodes += node.size();
        }
        let Some(open) = self.open.last_mut() else {
            if self.root.is_some() {
                return Err(error("the file holds a second document", node.span));
            }
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => open.key = Some(key_of(node)?),
            },
            Value::Null | Value::Scalar(_) => {}
        }
        Ok(())
    }
}

fn key_of(node: Node) -> Result<Key, Error> {
    match node.value {
        Value::Scalar(text) => Ok(Key {
            text,
            span: node.span,
        }),
        Value::Null | Value::List(_) | Value::Map(_) => {
            Err(error("a field's name must be a plain word", node.span))
        }
    }
}

fn scalar(content: &str, style: ScalarStyle, tagged: bool) -> Value {
    let plain = style == ScalarStyle::Plain && !tagged;
    if plain && matches!(content, "" | "~" | "null" | "Null" | "NULL") {
        Value::Null
    } else {
        Value::Scalar(content.to_owned())
    }
}

fn local_name(tag: &Tag) -> String {
    let original = tag.original();
    original.trim_start_matches('!').to_owned()
}

/// The rest of the line on which a list or a mapping begins: enough to point at.
fn first_line(text: &str, start: usize) -> Span {
    let start = floor_boundary(text, start);
    let line = text[start..].lines().next().unwrap_or("");
    start..start + line.trim_end().len()
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn too_deep(span: Span) -> Error {
    error("the file is nested too deeply", span)
}

fn error(message: &str, span: Span) -> Error {
    Error {
        message: message.to_owned(),
        span,
    }
}
