//! Writes JSON text straight into a buffer: strings, numbers, and raw JSON that is passed on.
//!
//! An answer is written one small delta at a time, so there is no tree and nothing is allocated. What
//! is written never holds a line end: an event stream's `data:` line ends at the first one.

use std::fmt;

use bytes::{BufMut as _, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::borrowed::Text;

/// What a byte of a string needs.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Care {
    None,
    Escape,
    /// May begin U+0085, U+2028 or U+2029.
    LineEnd,
}

const CARE: [Care; 256] = {
    let mut care = [Care::None; 256];
    let mut byte = 0;
    while byte < 0x20 {
        care[byte] = Care::Escape;
        byte += 1;
    }
    care[b'"' as usize] = Care::Escape;
    care[b'\\' as usize] = Care::Escape;
    care[0xC2] = Care::LineEnd;
    care[0xE2] = Care::LineEnd;
    care
};

/// Writes `text` as a JSON string with its quotes.
pub(crate) fn string(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    inside(text, out);
    out.put_u8(b'"');
}

/// Writes `text` as the inside of a JSON string.
///
/// Beside what JSON demands, U+0085, U+2028 and U+2029 are escaped: line readers built on Python's
/// `str.splitlines` (httpx `iter_lines`) would cut the frame there.
pub(crate) fn inside(text: &str, out: &mut BytesMut) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match CARE[usize::from(byte)] {
            Care::None => {}
            Care::Escape => {
                out.put_slice(&bytes[done..at]);
                escape(byte, out);
                done = at + 1;
            }
            Care::LineEnd => {
                let (escaped, length) = match bytes[at..] {
                    [0xC2, 0x85, ..] => (b"\\u0085", 2),
                    [0xE2, 0x80, 0xA8, ..] => (b"\\u2028", 3),
                    [0xE2, 0x80, 0xA9, ..] => (b"\\u2029", 3),
                    _ => continue,
                };
                out.put_slice(&bytes[done..at]);
                out.put_slice(escaped);
                done = at + length;
            }
        }
    }
    out.put_slice(&bytes[done..]);
}

fn escape(byte: u8, out: &mut BytesMut) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.put_slice(b"\\\""),
        b'\\' => out.put_slice(b"\\\\"),
        b'\n' => out.put_slice(b"\\n"),
        b'\r' => out.put_slice(b"\\r"),
        b'\t' => out.put_slice(b"\\t"),
        0x08 => out.put_slice(b"\\b"),
        0x0C => out.put_slice(b"\\f"),
        _ => {
            out.put_slice(b"\\u00");
            out.put_u8(HEX[usize::from(byte >> 4)]);
            out.put_u8(HEX[usize::from(byte & 15)]);
        }
    }
}

/// Writes JSON text that is passed on. A line end in it can only stand between tokens, where a space
/// means the same.
pub(crate) fn raw(json: &str, out: &mut BytesMut) {
    let mut rest = json.as_bytes();
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        out.put_slice(&rest[..at]);
        out.put_u8(b' ');
        rest = &rest[at + 1..];
    }
    out.put_slice(rest);
}

/// Writes a number.
pub(crate) fn number(number: impl Into<u64>, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest: u64 = number.into();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("invariant: a digit is below 10");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// Whether `text` is one JSON value.
pub(crate) fn is_value(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Whether `text` is a JSON object whose `type` is `kind`: what the Messages dialect can carry.
pub(crate) fn is_object_of(text: &str, kind: &str) -> bool {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type")]
        kind: Text<'a>,
    }
    serde_json::from_str::<Typed<'_>>(text).is_ok_and(|typed| typed.kind.0 == kind)
}

/// The members of a JSON object in their order, the values as they are written; `None` if `text` is
/// no object.
pub(crate) fn members(text: &str) -> Option<Vec<(Text<'_>, &RawValue)>> {
    struct Members<'a>(Vec<(Text<'a>, &'a RawValue)>);
    struct MembersVisitor;

    impl<'de> Visitor<'de> for MembersVisitor {
        type Value = Members<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(Members(members))
        }
    }

    impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(MembersVisitor)
        }
    }

    let members: Members<'_> = serde_json::from_str(text).ok()?;
    Some(members.0)
}

/// Whether the arguments of a tool call say nothing: missing, blank, or `null` (wire facts, section
/// 6, trap 1).
pub(crate) fn is_no_argument(text: &str) -> bool {
    matches!(text.trim_ascii(), "" | "null")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = BytesMut::new();
        string(text, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn every_character_comes_back() {
        let all: String = (0..=0x2FFF)
            .chain(0xFFF0..=0x1_0010)
            .filter_map(char::from_u32)
            .collect();
        let json = written(&all);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), all);
        assert_eq!(json.lines().count(), 1);
        for line_end in [
            '\n', '\r', '\u{85}', '\u{2028}', '\u{2029}', '\u{b}', '\u{1c}',
        ] {
            assert!(!json.contains(line_end), "{line_end:?}");
        }
    }

    #[test]
    fn neighbours_of_line_separators_stay() {
        let text = "“é”\u{2027}\u{2028}\u{202A}\u{85}\u{84}";
        assert_eq!(written(text), "\"“é”\u{2027}\\u2028\u{202A}\\u0085\u{84}\"");
    }

    #[test]
    fn escapes_written_as_text_stay_text() {
        assert_eq!(written(r#"{"a":"\ud83d"}"#), r#""{\"a\":\"\\ud83d\"}""#);
    }

    #[test]
    fn numbers_are_written_whole() {
        for count in [0, 7, 10, 4096, u64::MAX] {
            let mut out = BytesMut::new();
            number(count, &mut out);
            assert_eq!(out, count.to_string());
        }
    }

    #[test]
    fn raw_json_keeps_to_its_line() {
        let mut out = BytesMut::new();
        raw("{\r\n \"a\": [1,\n2] }", &mut out);
        assert_eq!(out, "{   \"a\": [1, 2] }");
    }

    #[test]
    fn only_an_object_of_its_kind_is_one() {
        assert!(is_object_of(r#"{"x":1,"type":"fallback"}"#, "fallback"));
        for text in [
            r#"{"name":"f","input":"x"}"#,
            "[]",
            "",
            r#"{"type":"other"}"#,
        ] {
            assert!(!is_object_of(text, "fallback"), "{text}");
        }
    }
}
