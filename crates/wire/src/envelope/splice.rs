//! Edits of a body that keep every byte they do not name: the vendor gets the caller's own request.
//!
//! The edited body is given as [`Part`]s, so that a body of megabytes need not be copied to change a
//! model's name, or as one vector.

use std::borrow::Cow;
use std::ops::Range;

use super::Envelope;

/// One change of a body. The JSON given must be valid; it is put in as it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Edit<'e> {
    /// Replaces the member's value, or puts the member in as the first one. Where a member that
    /// Holdfast does not decide by stands several times, all get the value.
    SetMember { key: &'e str, json: &'e [u8] },
    /// Removes the member, with its comma, wherever it stands.
    RemoveMember { key: &'e str },
    /// Appends elements (`a` or `a,b`, without brackets) to the `messages` array, which is put in if
    /// there is none. Nothing happens if `messages` is something else than an array.
    AppendMessages { json_elements: &'e [u8] },
}

/// A piece of an edited body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part<'p> {
    /// A slice of the body that was read: `Bytes::slice_ref` makes it owned without a copy.
    Kept(&'p [u8]),
    /// Bytes that were not there.
    New(Cow<'p, [u8]>),
}

/// What becomes of one key.
struct Change<'e> {
    key: &'e str,
    /// The new value; `None` if the member is to stay (`kept`) or to go.
    json: Option<&'e [u8]>,
    kept: bool,
    /// Elements to append to the array that the value is then.
    append: Vec<&'e [u8]>,
}

/// Collects the parts from the front to the back of the body.
struct Parts<'p> {
    body: &'p [u8],
    /// The body is dealt with up to here.
    at: usize,
    pieces: Vec<Part<'p>>,
}

// === impl Part ===

impl Part<'_> {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Part::Kept(bytes) => bytes,
            Part::New(bytes) => bytes,
        }
    }
}

// === impl Envelope ===

impl<'a> Envelope<'a> {
    /// The body with all `edits` applied in order (a later one of the same key wins), in one
    /// allocation.
    pub fn splice(&self, edits: &[Edit<'_>]) -> Vec<u8> {
        let parts = self.splice_parts(edits);
        let mut body = Vec::with_capacity(parts.iter().map(|part| part.as_bytes().len()).sum());
        for part in &parts {
            body.extend_from_slice(part.as_bytes());
        }
        body
    }

    /// The body with another model's name.
    pub fn set_model(&self, name: &str) -> Vec<u8> {
        let json = quoted(name);
        self.splice(&[Edit::SetMember {
            key: "model",
            json: &json,
        }])
    }

    /// [`splice`](Self::splice) as pieces, in order; their concatenation is the edited body.
    pub fn splice_parts<'p>(&self, edits: &[Edit<'p>]) -> Vec<Part<'p>>
    where
        'a: 'p,
    {
        let changes = changes(edits);
        let change_of: Vec<Option<&Change<'p>>> = self
            .members
            .iter()
            .map(|member| changes.iter().find(|it| self.is_named(member, it.key)))
            .collect();
        let goes = |at: usize| change_of[at].is_some_and(Change::removes);
        let last_kept = (0..self.members.len()).rfind(|at| !goes(*at));

        let mut parts = Parts {
            body: self.body(),
            at: 0,
            pieces: Vec::with_capacity(2 * edits.len() + 1),
        };
        let new = changes.iter().filter(|it| !self.has_member(it.key));
        parts.insert(self.open + 1, new, last_kept.is_some());
        for (at, member) in self.members.iter().enumerate() {
            match change_of[at] {
                Some(change) if change.removes() => {
                    let (from, to) = self.with_comma(at, last_kept);
                    parts.keep_to(from);
                    parts.at = to;
                }
                Some(change) => change.apply(&mut parts, &member.value),
                None => {}
            }
        }
        parts.keep_to(parts.body.len());
        parts.pieces
    }

    /// The bytes of the member `at` with the comma that goes with it: the one behind it, but the one
    /// before it if no member that stays comes after.
    fn with_comma(&self, at: usize, last_kept: Option<usize>) -> (usize, usize) {
        let member = &self.members[at];
        if last_kept.is_some_and(|last| last < at) {
            return (self.members[at - 1].value.end, member.value.end);
        }
        let next = self.members.get(at + 1).map(|next| next.key.start);
        (member.key.start, next.unwrap_or(member.value.end))
    }
}

// === impl Change ===

impl<'e> Change<'e> {
    fn removes(&self) -> bool {
        !self.kept && self.json.is_none() && self.append.is_empty()
    }

    /// Changes the value that stands at `span`.
    fn apply(&self, parts: &mut Parts<'e>, span: &Range<usize>) {
        match self.json {
            Some(json) => {
                parts.keep_to(span.start);
                self.put(parts, json);
                parts.at = span.end;
            }
            None if self.kept => {
                if let Some(close) = array_end(&parts.body[span.clone()]) {
                    let empty = is_empty(&parts.body[span.clone()]);
                    parts.keep_to(span.start + close);
                    self.put_elements(parts, empty);
                }
            }
            None => {
                parts.keep_to(span.start);
                self.put(parts, b"[]");
                parts.at = span.end;
            }
        }
    }

    /// Puts in the value `json` with what is to be appended to it.
    fn put(&self, parts: &mut Parts<'e>, json: &'e [u8]) {
        match array_end(json) {
            Some(close) if !self.append.is_empty() => {
                parts.put(&json[..close]);
                self.put_elements(parts, is_empty(json));
                parts.put(&json[close..]);
            }
            _ => parts.put(json),
        }
    }

    fn put_elements(&self, parts: &mut Parts<'e>, mut empty: bool) {
        for elements in &self.append {
            if !std::mem::take(&mut empty) {
                parts.put(b",");
            }
            parts.put(elements);
        }
    }
}

// === impl Parts ===

impl<'p> Parts<'p> {
    /// Keeps the body up to `end`.
    fn keep_to(&mut self, end: usize) {
        if self.at < end {
            self.pieces.push(Part::Kept(&self.body[self.at..end]));
            self.at = end;
        }
    }

    fn put(&mut self, bytes: &'p [u8]) {
        if !bytes.is_empty() {
            self.pieces.push(Part::New(Cow::Borrowed(bytes)));
        }
    }

    /// Puts in the members that are not there yet, before all others.
    fn insert<'c>(
        &mut self,
        at: usize,
        new: impl Iterator<Item = &'c Change<'p>>,
        others_follow: bool,
    ) where
        'p: 'c,
    {
        let mut any = false;
        for change in new {
            let json = match change.json {
                Some(json) => json,
                None if change.append.is_empty() => continue,
                None => b"[]",
            };
            self.keep_to(at);
            if std::mem::replace(&mut any, true) {
                self.put(b",");
            }
            self.pieces.push(Part::New(Cow::Owned(quoted(change.key))));
            self.put(b":");
            change.put(self, json);
        }
        if any && others_follow {
            self.put(b",");
        }
    }
}

/// Boils the edits down to one change per key.
fn changes<'e>(edits: &[Edit<'e>]) -> Vec<Change<'e>> {
    let mut changes: Vec<Change<'e>> = Vec::with_capacity(edits.len());
    for edit in edits {
        let key = match edit {
            Edit::SetMember { key, .. } | Edit::RemoveMember { key } => key,
            Edit::AppendMessages { .. } => "messages",
        };
        let at = changes.iter().position(|it| it.key == key);
        let at = at.unwrap_or_else(|| {
            changes.push(Change {
                key,
                json: None,
                kept: true,
                append: Vec::new(),
            });
            changes.len() - 1
        });
        let change = &mut changes[at];
        match edit {
            Edit::SetMember { json, .. } => {
                change.json = Some(json);
                change.kept = false;
                change.append.clear();
            }
            Edit::RemoveMember { .. } => {
                change.json = None;
                change.kept = false;
                change.append.clear();
            }
            Edit::AppendMessages { json_elements } => {
                if !json_elements.trim_ascii().is_empty() {
                    change.append.push(json_elements);
                }
            }
        }
    }
    changes
}

/// `text` as a JSON string.
fn quoted(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("invariant: a string is always valid JSON")
}

/// Where the closing bracket of an array is; `None` if `json` is no array.
fn array_end(json: &[u8]) -> Option<usize> {
    let end = json.trim_ascii_end();
    (json.trim_ascii_start().starts_with(b"[") && end.ends_with(b"]")).then(|| end.len() - 1)
}

/// True for an array without elements.
fn is_empty(array: &[u8]) -> bool {
    super::is_empty_array(array.trim_ascii_start())
}
