//! Small serde shapes that borrow from the JSON text and forgive what vendors do to it.
//!
//! `Cow<str>` inside `Option` is always copied by serde; [`Text`] borrows whenever the string has no
//! escape. [`Count`] reads a number and takes anything else for "not told". [`Few`] is a list that
//! does not allocate for one element. [`why_not`] says what is wrong with a text that did not parse.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON string, borrowed if it has no escape.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

/// A token count. Null, negative numbers and everything that is no number are `None`: a strange
/// count must not turn a good frame into garbage.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count(pub(crate) Option<u64>);

/// A JSON value as it is written: valid, and not read yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Json<'a>(pub(crate) &'a str);

/// A JSON array whose first element is held in place. Null is an empty one.
#[derive(Debug)]
pub(crate) struct Few<T> {
    first: Option<T>,
    rest: Vec<T>,
}

/// What [`why_not`] says of a JSON object whose members are not as they should be.
pub(crate) const WRONG_SHAPE: &str = "a member twice or of the wrong type";

/// Why `text` is not a JSON object of the expected shape, given that it did not parse as one.
pub(crate) fn why_not(text: &str) -> &'static str {
    if text.trim_ascii().is_empty() {
        return "empty data";
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) if error.is_eof() => "truncated JSON",
        Err(_) => "not JSON",
        Ok(_) if text.trim_ascii_start().starts_with('{') => WRONG_SHAPE,
        Ok(_) => "not a JSON object",
    }
}

/// The text of an optional string; empty if there is none.
pub(crate) fn or_empty(text: Option<Text<'_>>) -> Cow<'_, str> {
    text.unwrap_or_default().0
}

// === impl Text ===

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

// === impl Json ===

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(raw.get()))
    }
}

// === impl Count ===

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count")
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Count, E> {
        Ok(Count(Some(count)))
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Count, E> {
        Ok(Count(u64::try_from(count).ok()))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a count that a f64 holds exactly"
    )]
    fn visit_f64<E: Error>(self, count: f64) -> Result<Count, E> {
        Ok(Count((0.0..9e15).contains(&count).then_some(count as u64)))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_unit<E: Error>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
}

// === impl Few ===

impl<T> Few<T> {
    pub(crate) fn push(&mut self, element: T) {
        if self.first.is_none() {
            self.first = Some(element);
        } else {
            self.rest.push(element);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self {
            first: None,
            rest: Vec::new(),
        }
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_unit<E: Error>(self) -> Result<Few<T>, E> {
        Ok(Few::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut few = Few::default();
        while let Some(element) = list.next_element()? {
            few.push(element);
        }
        Ok(few)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Probe<'a> {
        #[serde(borrow)]
        text: Option<Text<'a>>,
        #[serde(default)]
        count: Count,
        #[serde(default)]
        list: Few<u8>,
    }

    #[test]
    fn a_string_without_escapes_is_borrowed() {
        let plain: Probe<'_> = serde_json::from_str(r#"{"text":"héllo"}"#).unwrap();
        assert!(matches!(plain.text, Some(Text(Cow::Borrowed("héllo")))));
        let escaped: Probe<'_> = serde_json::from_str(r#"{"text":"a\n"}"#).unwrap();
        assert!(matches!(escaped.text, Some(Text(Cow::Owned(text))) if text == "a\n"));
        let null: Probe<'_> = serde_json::from_str(r#"{"text":null}"#).unwrap();
        assert!(null.text.is_none());
    }

    #[test]
    fn a_strange_count_is_not_told() {
        for (json, count) in [
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("-1", None),
            ("null", None),
            ("\"7\"", None),
            ("[1]", None),
            ("{\"a\":1}", None),
            ("true", None),
            ("1e300", None),
        ] {
            let text = format!(r#"{{"count":{json}}}"#);
            let probe: Probe<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(probe.count.0, count, "{json}");
        }
    }

    #[test]
    fn a_list_of_any_length_comes_in_order() {
        for (json, list) in [
            ("null", vec![]),
            ("[]", vec![]),
            ("[1]", vec![1]),
            ("[1,2,3]", vec![1, 2, 3]),
        ] {
            let text = format!(r#"{{"list":{json}}}"#);
            let probe: Probe<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(probe.list.len(), list.len());
            assert_eq!(probe.list.is_empty(), list.is_empty());
            assert_eq!(probe.list.into_iter().collect::<Vec<_>>(), list);
        }
    }

    #[test]
    fn the_reason_is_named() {
        for (text, why) in [
            (" ", "empty data"),
            ("{\"a\":", "truncated JSON"),
            ("<html>", "not JSON"),
            ("[1]", "not a JSON object"),
            (" {\"a\":1}", WRONG_SHAPE),
        ] {
            assert_eq!(why_not(text), why, "{text}");
        }
    }
}
