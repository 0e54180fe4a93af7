//! Which tool call a delta belongs to.
//!
//! By the book a call's first delta has `index`, `id` and `name` and the later ones `index` alone.
//! Compatible servers send every call with index 0, or none, or repeat id and name in each delta, or
//! a whole call in one delta (wire facts, section 6, trap 3). So a call is known by index and id
//! together, and the nesting of its arguments tells whether it can still grow.

/// The most tool calls of one choice. Each delta is compared with all of them at worst.
const MAX_CALLS: usize = 1024;

/// The open tool calls of one choice, in order of opening.
#[derive(Debug, Default)]
pub(crate) struct Tools(Vec<Tool>);

/// A tool call that is open.
#[derive(Debug)]
pub(crate) struct Tool {
    /// The server's index, if it gave one.
    wire_index: Option<u32>,
    id: String,
    name: String,
    /// The neutral index of its block.
    pub(crate) block: u32,
    arguments: Nesting,
}

/// Follows the nesting of JSON text, to know when the object in it has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
    ended: bool,
}

// === impl Tools ===

impl Tools {
    /// The call that a delta with these marks grows; `None` if it begins a call, or means none.
    /// Empty marks are missing ones.
    pub(crate) fn find(
        &mut self,
        wire_index: Option<u32>,
        id: &str,
        name: &str,
    ) -> Option<&mut Tool> {
        if id.is_empty() {
            return self
                .latest(wire_index)
                .filter(|tool| tool.is_meant_by(name));
        }
        let known = self
            .0
            .iter()
            .rposition(|tool| tool.id == id && tool.may_be_at(wire_index));
        match known {
            Some(at) => self.0.get_mut(at),
            // A call whose id comes late, or whose server makes up an id for every delta.
            None => self
                .latest(wire_index)
                .filter(|tool| name.is_empty() || tool.id.is_empty() && tool.is_meant_by(name)),
        }
    }

    pub(crate) fn open(
        &mut self,
        wire_index: Option<u32>,
        id: &str,
        name: &str,
        block: u32,
    ) -> &mut Tool {
        self.0.push(Tool {
            wire_index,
            id: id.to_owned(),
            name: name.to_owned(),
            block,
            arguments: Nesting::default(),
        });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Whether a delta with these marks is one that every client gathers as we do: a new call has the
    /// next index, a later delta has its call's index and no other mark. `coming` = calls that the
    /// same chunk opens before it.
    pub(crate) fn is_by_the_book(
        &mut self,
        wire_index: Option<u32>,
        id: &str,
        name: &str,
        coming: usize,
    ) -> bool {
        let opened = self.0.len() + coming;
        match self.find(wire_index, id, name) {
            None => wire_index.is_some_and(|index| usize::try_from(index) == Ok(opened)),
            Some(call) => {
                id.is_empty()
                    && name.is_empty()
                    && wire_index.is_some()
                    && call.wire_index == wire_index
            }
        }
    }

    /// True if no further call may be opened: whoever sends so many is not answering.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX_CALLS
    }

    /// The blocks of all open calls, which are closed by this.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = u32> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|tool| tool.block)
    }

    /// The latest call at this index; the latest of all for a delta without one.
    fn latest(&mut self, wire_index: Option<u32>) -> Option<&mut Tool> {
        self.0.iter_mut().rfind(|tool| tool.may_be_at(wire_index))
    }
}

// === impl Tool ===

impl Tool {
    /// Takes note of a piece of the arguments.
    pub(crate) fn grow(&mut self, arguments: &str) {
        self.arguments.scan(arguments);
    }

    fn may_be_at(&self, wire_index: Option<u32>) -> bool {
        wire_index.is_none() || self.wire_index.is_none() || self.wire_index == wire_index
    }

    /// Whether a delta without an id of its own and with this name means this call: it has no name,
    /// or repeats this call's while the arguments are not yet whole.
    fn is_meant_by(&self, name: &str) -> bool {
        name.is_empty() || name == self.name && !self.arguments.ended
    }
}

// === impl Nesting ===

impl Nesting {
    fn scan(&mut self, json: &str) {
        for byte in json.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.ended |= self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A delta: index, id, name, arguments.
    type Piece<'a> = (Option<u32>, &'a str, &'a str, &'a str);

    /// Feeds deltas and gives the block that each one went to.
    fn blocks(deltas: &[Piece<'_>]) -> Vec<u32> {
        let mut tools = Tools::default();
        let mut next = 0;
        deltas
            .iter()
            .map(|&(index, id, name, arguments)| {
                if tools.find(index, id, name).is_none() {
                    tools.open(index, id, name, next);
                    next += 1;
                    let tool = tools.latest(None).unwrap();
                    tool.grow(arguments);
                    return tool.block;
                }
                let tool = tools.find(index, id, name).unwrap();
                tool.grow(arguments);
                tool.block
            })
            .collect()
    }

    #[test]
    fn every_way_to_number_calls_is_understood() {
        let table: [(&str, &[Piece<'_>], &[u32]); 10] = [
            (
                "by the book",
                &[
                    (Some(0), "a", "f", ""),
                    (Some(0), "", "", "{}"),
                    (Some(1), "b", "f", ""),
                    (Some(1), "", "", "{}"),
                ],
                &[0, 0, 1, 1],
            ),
            (
                "interleaved",
                &[
                    (Some(0), "a", "f", ""),
                    (Some(1), "b", "f", ""),
                    (Some(0), "", "", "{}"),
                    (Some(1), "", "", "{}"),
                ],
                &[0, 1, 0, 1],
            ),
            (
                "index always 0, new ids",
                &[
                    (Some(0), "a", "f", "{\"x\":"),
                    (Some(0), "", "", "1}"),
                    (Some(0), "b", "f", "{"),
                    (Some(0), "", "", "}"),
                ],
                &[0, 0, 1, 1],
            ),
            (
                "no index, ids",
                &[
                    (None, "a", "f", "{}"),
                    (None, "b", "g", "{"),
                    (None, "", "", "}"),
                ],
                &[0, 1, 1],
            ),
            (
                "id and name in each delta",
                &[
                    (Some(0), "a", "f", "{"),
                    (Some(0), "a", "f", "}"),
                    (Some(1), "b", "f", "{}"),
                ],
                &[0, 0, 1],
            ),
            (
                "whole calls, no index, no id",
                &[(None, "", "f", "{\"x\":\"}\"}"), (None, "", "f", "{}")],
                &[0, 1],
            ),
            (
                "whole calls, index 0, no id",
                &[
                    (Some(0), "", "f", "{\"x\":{}}"),
                    (Some(0), "", "f", "{}"),
                    (Some(0), "", "g", "{}"),
                ],
                &[0, 1, 2],
            ),
            (
                "name in each delta, no id",
                &[(Some(0), "", "f", "{\"x\":{}"), (Some(0), "", "f", "}")],
                &[0, 0],
            ),
            (
                "a new id in each delta, name once",
                &[
                    (Some(0), "a", "f", "{"),
                    (Some(0), "b", "", "}"),
                    (Some(1), "c", "f", "{}"),
                ],
                &[0, 0, 1],
            ),
            (
                "one id at two indexes",
                &[(Some(0), "a", "f", "{}"), (Some(1), "a", "f", "{}")],
                &[0, 1],
            ),
        ];
        for (case, deltas, expected) in table {
            assert_eq!(blocks(deltas), expected, "{case}");
        }
    }

    #[test]
    fn only_calls_by_the_book_are_gathered_by_every_client() {
        let mut tools = Tools::default();
        assert!(!tools.is_by_the_book(None, "a", "f", 0));
        assert!(!tools.is_by_the_book(Some(1), "a", "f", 0));
        assert!(tools.is_by_the_book(Some(0), "a", "f", 0));
        tools.open(Some(0), "a", "f", 0).grow("{}");
        assert!(tools.is_by_the_book(Some(0), "", "", 0));
        assert!(!tools.is_by_the_book(None, "", "", 0));
        assert!(!tools.is_by_the_book(Some(0), "a", "f", 0), "resent marks");
        assert!(!tools.is_by_the_book(Some(0), "b", "f", 0), "index 0 again");
        assert!(tools.is_by_the_book(Some(1), "b", "f", 0));
        assert!(tools.is_by_the_book(Some(2), "c", "f", 1));
        assert!(!tools.is_by_the_book(Some(1), "c", "f", 1));
    }

    #[test]
    fn a_repeated_whole_call_never_becomes_a_second_one() {
        let call = (Some(0), "a", "f", "{}");
        assert_eq!(blocks(&[call, call]), [0, 0]);
    }

    #[test]
    fn braces_in_strings_do_not_nest() {
        let mut nesting = Nesting::default();
        for piece in ["{\"a", "}\\", "\"}", "\":[{}]"] {
            nesting.scan(piece);
            assert!(!nesting.ended, "{piece}");
        }
        nesting.scan("}");
        assert!(nesting.ended);
    }
}
