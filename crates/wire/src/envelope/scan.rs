//! One pass over a body: the whole syntax of JSON, no recursion, nothing built but a list of spans.

use std::ops::Range;

use super::{DECIDING, Envelope, Error, Limits, Member, string};

/// What can be open at once; bounds [`Nest`].
pub(super) const MAX_DEPTH: usize = 1024;

/// How many of the last messages are noted: the last one, and some notes of the system after it.
const LAST_MESSAGES: usize = 4;

/// Where the scan is.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    nest: Nest,
}

/// The open arrays and objects, one bit each, so that depth costs neither stack nor heap.
struct Nest {
    objects: [u64; MAX_DEPTH / 64],
    depth: usize,
    limit: usize,
}

/// What an array or an object is.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Kind {
    Array,
    Object,
}

/// Reads the body's object and what follows it.
pub(super) fn read<'a>(text: &'a str, limits: &Limits) -> Result<Envelope<'a>, Error> {
    let mut scanner = Scanner::new(text, limits.depth);
    scanner.start()?;
    let mut envelope = Envelope {
        text,
        open: scanner.at,
        members: Vec::with_capacity(16),
        lengths: 0,
        last_messages: Vec::new(),
    };
    scanner.members(limits, &mut envelope)?;
    scanner.space();
    if scanner.at < text.len() {
        return Err(Error::Trailing { offset: scanner.at });
    }
    Ok(envelope)
}

// === impl Scanner ===

impl<'a> Scanner<'a> {
    /// A scan from the beginning of a text in which at most `depth` arrays and objects may be open.
    pub(crate) fn new(text: &'a str, depth: usize) -> Self {
        Self {
            text,
            at: 0,
            nest: Nest {
                objects: [0; MAX_DEPTH / 64],
                depth: 0,
                limit: depth.min(MAX_DEPTH),
            },
        }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Where it is, in bytes from the beginning.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong<T>(&self, why: &'static str) -> Result<T, Error> {
        Err(Error::NotJson {
            offset: self.at,
            why,
        })
    }

    /// Steps over whitespace.
    pub(crate) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes to the body's `{`.
    fn start(&mut self) -> Result<(), Error> {
        if self.text.starts_with('\u{feff}') {
            return self.wrong("there is a byte order mark, which JSON does not allow");
        }
        self.space();
        match self.peek() {
            Some(b'{') => Ok(()),
            Some(b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => {
                Err(Error::NotAnObject { offset: self.at })
            }
            Some(_) => self.wrong("a value was expected"),
            None => self.wrong("there is nothing"),
        }
    }

    /// Reads the top-level object, noting its members.
    fn members(&mut self, limits: &Limits, envelope: &mut Envelope<'_>) -> Result<(), Error> {
        let mut seen = 0_u32;
        if !self.open(Kind::Object)? {
            return Ok(());
        }
        loop {
            let start = self.at;
            if envelope.members.len() == limits.members {
                return Err(Error::TooManyMembers {
                    offset: start,
                    limit: limits.members,
                });
            }
            let (key, escaped) = self.key()?;
            let name = deciding(&self.text[key.clone()], escaped);
            if let Some(name) = name {
                if seen & (1 << name) != 0 {
                    return Err(Error::DuplicateKey {
                        offset: start,
                        key: DECIDING[name],
                    });
                }
                seen |= 1 << name;
            }
            let begin = self.at;
            if name.is_some_and(|name| DECIDING[name] == "messages") && self.peek() == Some(b'[') {
                envelope.last_messages = self.elements()?;
            } else {
                self.value()?;
            }
            envelope.lengths |= length_bit(escaped, key.len());
            envelope.members.push(Member {
                key,
                escaped,
                value: begin..self.at,
            });
            if !self.next(Kind::Object)? {
                return Ok(());
            }
        }
    }

    /// Reads an array, noting where its last elements are.
    fn elements(&mut self) -> Result<Vec<Range<usize>>, Error> {
        let mut last = Vec::new();
        let mut more = self.open(Kind::Array)?;
        while more {
            let start = self.at;
            self.value()?;
            if last.len() == LAST_MESSAGES {
                last.remove(0);
            }
            last.push(start..self.at);
            more = self.next(Kind::Array)?;
        }
        Ok(last)
    }

    /// Hands each member of an object to `take`: its key with the quotes, and whether that has escapes.
    /// `take` steps over the value. `None` = it is no object, its syntax is broken, or `take` has enough.
    pub(crate) fn each_member(
        &mut self,
        mut take: impl FnMut(&mut Self, &'a str, bool) -> Option<()>,
    ) -> Option<()> {
        if self.peek() != Some(b'{') {
            return None;
        }
        let mut more = self.open(Kind::Object).ok()?;
        while more {
            let (key, escaped) = self.key().ok()?;
            take(self, &self.text[key], escaped)?;
            more = self.next(Kind::Object).ok()?;
        }
        Some(())
    }

    /// Steps over one value and gives it as it is written; `None` = its syntax is broken.
    pub(crate) fn taken(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.value().ok()?;
        Some(&self.text[start..self.at])
    }

    /// Steps over one value of any kind, from its first byte to behind its last.
    pub(crate) fn value(&mut self) -> Result<(), Error> {
        let floor = self.nest.depth;
        loop {
            let inside = match self.peek() {
                Some(b'"') => self.string().map(|_| false)?,
                Some(b'{') => {
                    let inside = self.open(Kind::Object)?;
                    if inside {
                        self.key()?;
                    }
                    inside
                }
                Some(b'[') => self.open(Kind::Array)?,
                Some(b'-' | b'0'..=b'9') => self.number().map(|()| false)?,
                Some(b't') => self.word("true").map(|()| false)?,
                Some(b'f') => self.word("false").map(|()| false)?,
                Some(b'n') => self.word("null").map(|()| false)?,
                Some(_) => return self.wrong("a value was expected"),
                None => return self.wrong("the body ends where a value was expected"),
            };
            if !inside && self.closes_to(floor)? {
                return Ok(());
            }
        }
    }

    /// After a value within `value`: true if nothing above `floor` is open any more, else the scan
    /// stands at the next value.
    fn closes_to(&mut self, floor: usize) -> Result<bool, Error> {
        while self.nest.depth > floor {
            let kind = self.nest.top();
            if self.next(kind)? {
                if kind == Kind::Object {
                    self.key()?;
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Enters an array or an object; false if it was empty and is closed again, else the scan stands
    /// at its first element or key.
    pub(crate) fn open(&mut self, kind: Kind) -> Result<bool, Error> {
        self.nest.push(kind, self.at)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(kind.close()) {
            self.at += 1;
            self.nest.depth -= 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After a value in an array or an object: true if another one follows, which the scan then
    /// stands at; false if it was closed.
    pub(crate) fn next(&mut self, kind: Kind) -> Result<bool, Error> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == kind.close() => {
                self.at += 1;
                self.nest.depth -= 1;
                Ok(false)
            }
            Some(_) => self.wrong(match kind {
                Kind::Array => "a comma or the array's end was expected",
                Kind::Object => "a comma or the object's end was expected",
            }),
            None => self.wrong(match kind {
                Kind::Array => "the body ends inside an array",
                Kind::Object => "the body ends inside an object",
            }),
        }
    }

    /// Reads a key and goes on to its value. Gives the key with its quotes, and whether it has escapes.
    pub(crate) fn key(&mut self) -> Result<(Range<usize>, bool), Error> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {}
            Some(_) => return self.wrong("a key in double quotes was expected"),
            None => return self.wrong("the body ends where a key was expected"),
        }
        let escaped = self.string()?;
        let key = start..self.at;
        self.space();
        match self.peek() {
            Some(b':') => self.at += 1,
            Some(_) => return self.wrong("a colon was expected"),
            None => return self.wrong("the body ends inside an object"),
        }
        self.space();
        Ok((key, escaped))
    }

    /// Steps over a string; true if it has escapes.
    pub(crate) fn string(&mut self) -> Result<bool, Error> {
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    self.escape()?;
                    escaped = true;
                }
                Some(_) => return self.wrong("a control character stands unescaped in a string"),
                None => return self.wrong("the body ends inside a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        let bytes = &self.text.as_bytes()[self.at..];
        let length = match bytes.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = bytes.get(2..6).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return self.wrong("\\u is not followed by four hex digits");
                }
                6
            }
            Some(_) => return self.wrong("there is an unknown escape in a string"),
            None => return self.wrong("the body ends inside a string"),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Error> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Steps over one digit or more.
    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return self.wrong("a digit was expected");
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Error> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.wrong("true, false or null was expected");
        }
        self.at += word.len();
        Ok(())
    }
}

// === impl Nest ===

impl Nest {
    fn push(&mut self, kind: Kind, offset: usize) -> Result<(), Error> {
        if self.depth >= self.limit {
            return Err(Error::TooDeep {
                offset,
                limit: self.limit,
            });
        }
        let bit = 1_u64 << (self.depth % 64);
        let word = &mut self.objects[self.depth / 64];
        match kind {
            Kind::Array => *word &= !bit,
            Kind::Object => *word |= bit,
        }
        self.depth += 1;
        Ok(())
    }

    /// The innermost open one; there must be one.
    fn top(&self) -> Kind {
        let at = self.depth - 1;
        if self.objects[at / 64] >> (at % 64) & 1 == 1 {
            Kind::Object
        } else {
            Kind::Array
        }
    }
}

// === impl Kind ===

impl Kind {
    fn close(self) -> u8 {
        match self {
            Self::Array => b']',
            Self::Object => b'}',
        }
    }
}

/// The bit that stands for keys of this length, quotes included. What a key with escapes is long
/// without them is not known: it stands for all lengths.
pub(super) fn length_bit(escaped: bool, length: usize) -> u64 {
    if escaped {
        u64::MAX
    } else {
        1 << length.min(63)
    }
}

/// Which of [`DECIDING`] a key (with its quotes) is.
fn deciding(key: &str, escaped: bool) -> Option<usize> {
    if escaped {
        let name = string(key)?;
        return DECIDING.iter().position(|known| *known == name);
    }
    let name = &key[1..key.len() - 1];
    DECIDING.iter().position(|known| *known == name)
}

/// How many bytes stand before the first quote, backslash or control character. Strings are most of a
/// body: a short one is looked at a word at a time, a long one in blocks that the compiler compares as
/// vectors.
pub(crate) fn plain(bytes: &[u8]) -> usize {
    const SHORT: usize = 16;
    const BLOCK: usize = 64;
    let short = bytes.len().min(SHORT);
    let at = plain_by_words(&bytes[..short]);
    if at < short {
        return at;
    }
    let (blocks, _) = bytes[short..].as_chunks::<BLOCK>();
    let clear = blocks.iter().take_while(|block| is_plain(block)).count();
    let begin = short + clear * BLOCK;
    begin + plain_by_words(&bytes[begin..])
}

#[inline]
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Without a branch for each byte, so that it becomes a few vector instructions.
#[inline]
fn is_plain<const N: usize>(block: &[u8; N]) -> bool {
    let hits = block.iter().map(|byte| u8::from(is_special(*byte)));
    hits.fold(0, |any, hit| any | hit) == 0
}

fn plain_by_words(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        // A byte's high bit is set where the byte is 0 (the first two) or below 0x20 (the last). A
        // borrow can only spoil bytes above a true hit, and the lowest one is taken.
        let hits = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        if hits & HIGH != 0 {
            return at * 8 + (hits & HIGH).trailing_zeros() as usize / 8;
        }
    }
    let rest_begins = words.len() * 8;
    rest_begins
        + rest
            .iter()
            .position(|byte| is_special(*byte))
            .unwrap_or(rest.len())
}
