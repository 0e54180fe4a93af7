//! The borrowed head of a JSON request body: what Holdfast decides by, without a tree.
//!
//! [`Envelope::read`] passes once over the body, proves that it is exactly one JSON object, and notes
//! where its top-level members stand; a big `messages` is stepped over, not built. A member that
//! Holdfast decides by may stand only once, since two parsers could otherwise read two different
//! requests. [`Edit`]s change one member and keep every other byte as the caller sent it.
//!
//! Nothing here knows what a member's value means beyond the few getters; that is the dialects' work.
//! The scanner is written by hand (RFC 8259): it says where and why a body is wrong, bounds the
//! nesting without a stack, finds the last messages in the same pass, and was measured no slower than
//! `serde_json` with borrowed raw values (`examples/throughput.rs`).

use std::borrow::Cow;
use std::ops::Range;

mod facts;
mod scan;
mod splice;

pub(crate) use scan::{Kind, Scanner, plain};
pub use splice::{Edit, Part};

/// How large a body may be in the ways that its length does not bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How many arrays and objects may be open at once, the body's own object included. At most
    /// [`Limits::MAX_DEPTH`]; more counts as that.
    pub depth: usize,
    /// How many top-level members there may be.
    pub members: usize,
}

/// Why a body is refused. Every variant tells where, in bytes from the body's start.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("the body is not UTF-8: byte {offset} begins no valid character")]
    NotUtf8 { offset: usize },
    /// The syntax is broken; `why` is a clause that says how.
    #[error("the body is not valid JSON: at byte {offset}, {why}")]
    NotJson { offset: usize, why: &'static str },
    #[error("the body nests arrays and objects more than {limit} deep, at byte {offset}")]
    TooDeep { offset: usize, limit: usize },
    #[error("the body has more than {limit} top-level members, at byte {offset}")]
    TooManyMembers { offset: usize, limit: usize },
    /// `offset` is where the key stands for the second time.
    #[error(
        "the body has `{key}` twice, the second time at byte {offset}: which one counts is unclear"
    )]
    DuplicateKey { offset: usize, key: &'static str },
    #[error("the body is JSON but not an object, at byte {offset}")]
    NotAnObject { offset: usize },
    #[error("the body goes on after its JSON object, at byte {offset}")]
    Trailing { offset: usize },
    /// A member that Holdfast decides by has a value of another type.
    #[error("`{key}` must be {expected}, at byte {offset}")]
    WrongType {
        offset: usize,
        key: &'static str,
        expected: &'static str,
    },
}

/// The members that Holdfast decides by: none may stand twice.
const DECIDING: [&str; 10] = [
    "model",
    "stream",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "tools",
    "stream_options",
    "response_format",
    "output_config",
];

/// A request body that is known to be one JSON object, and where its top-level members are.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    text: &'a str,
    /// Where the object's `{` is.
    open: usize,
    members: Vec<Member>,
    /// The lengths of the keys, one bit each: most that are asked for are not there.
    lengths: u64,
    /// The last elements of `messages`, the last one last; empty if it is no array.
    last_messages: Vec<Range<usize>>,
}

/// Where a member is.
#[derive(Clone, Debug)]
struct Member {
    /// The key, with its quotes.
    key: Range<usize>,
    /// The key is written with a backslash.
    escaped: bool,
    value: Range<usize>,
}

// === impl Limits ===

impl Limits {
    /// The deepest nesting that can be allowed.
    pub const MAX_DEPTH: usize = scan::MAX_DEPTH;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 128,
            members: 1024,
        }
    }
}

// === impl Error ===

impl Error {
    /// Where the body is wrong, in bytes from its start.
    pub fn offset(&self) -> usize {
        match self {
            Self::NotUtf8 { offset }
            | Self::NotJson { offset, .. }
            | Self::TooDeep { offset, .. }
            | Self::TooManyMembers { offset, .. }
            | Self::DuplicateKey { offset, .. }
            | Self::NotAnObject { offset }
            | Self::Trailing { offset }
            | Self::WrongType { offset, .. } => *offset,
        }
    }
}

// === impl Envelope ===

impl<'a> Envelope<'a> {
    /// Reads a whole body.
    ///
    /// Beyond syntax and [`Limits`], `model` must be a string and `stream` a boolean or null where
    /// they are present: a lenient server would read them its own way, and Holdfast another. Half a
    /// surrogate pair in an escape (`"\ud800"`) is valid JSON and passes.
    pub fn read(body: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        let text = std::str::from_utf8(body).map_err(|error| Error::NotUtf8 {
            offset: error.valid_up_to(),
        })?;
        let envelope = scan::read(text, limits)?;
        envelope.check_types()?;
        Ok(envelope)
    }

    /// The body as it came.
    pub fn body(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// `model`; `None` if absent.
    pub fn model(&self) -> Option<Cow<'a, str>> {
        self.find("model").and_then(|at| self.string(&at.value))
    }

    /// `stream`; `None` if absent or null.
    pub fn stream(&self) -> Option<bool> {
        match self.member("stream")? {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// `max_completion_tokens`, or else `max_tokens`, in tokens; `None` if neither is a whole number
    /// (some servers take -1 for "no limit").
    pub fn max_tokens(&self) -> Option<u64> {
        self.whole_number("max_completion_tokens")
            .or_else(|| self.whole_number("max_tokens"))
    }

    /// `n`, the number of choices asked for; `None` if it is no whole number.
    pub fn n(&self) -> Option<u64> {
        self.whole_number("n")
    }

    /// True if `tools` is present and neither null nor an empty array.
    pub fn has_tools(&self) -> bool {
        self.member("tools")
            .is_some_and(|tools| tools != b"null" && !is_empty_array(tools))
    }

    /// True if there is such a top-level member, even a null one.
    pub fn has_member(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value of a top-level member as it is written; of several with this name the last one.
    pub fn member(&self, name: &str) -> Option<&'a [u8]> {
        self.find(name)
            .map(|member| &self.body()[member.value.clone()])
    }

    /// All top-level members in order: the key without escapes, the value as it is written. A key
    /// that is no text (half a surrogate pair) is given as it is written.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'a, str>, &'a [u8])> {
        self.members.iter().map(|member| {
            let key = self
                .string(&member.key)
                .unwrap_or_else(|| Cow::Borrowed(inner(&self.text[member.key.clone()])));
            (key, &self.body()[member.value.clone()])
        })
    }

    fn find(&self, name: &str) -> Option<&Member> {
        if self.lengths & scan::length_bit(false, name.len() + 2) == 0 {
            return None;
        }
        self.members
            .iter()
            .rev()
            .find(|member| self.is_named(member, name))
    }

    fn is_named(&self, member: &Member, name: &str) -> bool {
        if member.escaped {
            return self.string(&member.key).is_some_and(|key| key == name);
        }
        // On the bytes: a text would be asked for its character boundaries each time.
        let quoted = &self.text.as_bytes()[member.key.clone()];
        quoted.len() == name.len() + 2 && &quoted[1..=name.len()] == name.as_bytes()
    }

    /// The string that stands at `span`; `None` if it is no string, or no text.
    fn string(&self, span: &Range<usize>) -> Option<Cow<'a, str>> {
        string(&self.text[span.clone()])
    }

    fn whole_number(&self, name: &str) -> Option<u64> {
        std::str::from_utf8(self.member(name)?).ok()?.parse().ok()
    }

    fn check_types(&self) -> Result<(), Error> {
        if let Some(model) = self.find("model")
            && self.string(&model.value).is_none()
        {
            return Err(Error::WrongType {
                offset: model.value.start,
                key: "model",
                expected: "a string",
            });
        }
        if let Some(stream) = self.find("stream")
            && !matches!(&self.text[stream.value.clone()], "true" | "false" | "null")
        {
            return Err(Error::WrongType {
                offset: stream.value.start,
                key: "stream",
                expected: "true or false",
            });
        }
        Ok(())
    }
}

/// Reads a JSON string, borrowed if it has no escape; `None` if it is no string, or no text.
fn string(json: &str) -> Option<Cow<'_, str>> {
    if !json.starts_with('"') {
        return None;
    }
    let plain = inner(json);
    if memchr::memchr(b'\\', plain.as_bytes()).is_none() {
        return Some(Cow::Borrowed(plain));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// A JSON string without its quotes.
fn inner(quoted: &str) -> &str {
    &quoted[1..quoted.len() - 1]
}

/// True for `[]`, with any whitespace in it.
fn is_empty_array(json: &[u8]) -> bool {
    json.strip_prefix(b"[")
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"]"))
}
