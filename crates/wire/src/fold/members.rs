//! A JSON object of which one level is parsed: members in the vendor's order, values as written.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::Error;
use crate::borrowed::why_not;
use crate::vendor_error;

/// The members of an object. Of two with one name the later counts.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

/// `value` as JSON text.
pub(super) fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("invariant: strings, lists and members with string keys serialize")
}

/// The error that a vendor told as `value`.
pub(super) fn vendor(value: Option<&RawValue>) -> Error {
    let message = value.map(|value| vendor_error::read(value).message.into_owned());
    Error::Vendor {
        message: message.unwrap_or_default(),
    }
}

pub(super) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// The text of a JSON string; `None` for any other value.
pub(super) fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

// === impl Members ===

impl Members {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|_| Error::Garbage { why: why_not(text) })
    }

    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The text of a string member.
    pub(super) fn string(&self, name: &str) -> Option<String> {
        string(self.get(name)?)
    }

    /// The members of an object member.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The elements of an array member; none if it is missing or something else.
    pub(super) fn list(&self, name: &str) -> Vec<Box<RawValue>> {
        self.get(name)
            .and_then(|value| serde_json::from_str(value.get()).ok())
            .unwrap_or_default()
    }

    /// The member if it is a number that may be an index.
    pub(super) fn index(&self, name: &str) -> Option<u32> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Sets a member, at its old place or at the end.
    pub(super) fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Takes over every member of `newer`; a null does not undo what was told.
    pub(super) fn merge(&mut self, newer: Self) {
        for (name, value) in newer.0 {
            if !is_null(&value) || self.get(&name).is_none() {
                self.set(&name, value);
            }
        }
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (String, Box<RawValue>)> {
        self.0.into_iter()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            members.set(&name, value);
        }
        Ok(members)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
