//! A request's JSON, read member by member, with the path of each value for what is to be said of it.
//!
//! Values stay raw text until somebody asks for them, so that a schema or a tool's input goes over
//! with its bytes and the order of its members. What nobody asked for is left and becomes a loss.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Loss, Refusal};
use crate::borrowed::{Text, why_not};
use crate::json;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    raw: &'a RawValue,
    pub(super) path: String,
}

/// An object whose members are taken one by one.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    members: BTreeMap<String, &'a RawValue>,
    pub(super) path: String,
}

impl<'a> Object<'a> {
    /// Reads a whole body.
    pub(super) fn body(body: &'a [u8]) -> Result<Self, Refusal> {
        let wrong = |why: &str| Refusal::Shape {
            path: "the body".to_owned(),
            why: why.to_owned(),
        };
        let text = std::str::from_utf8(body).map_err(|_| wrong("it is not UTF-8"))?;
        let members = json::members(text).ok_or_else(|| wrong(why_not(text)))?;
        Self::of(members, String::new())
    }

    /// A member that stands twice is refused: two readers could read two different requests.
    fn of(members: Vec<(Text<'a>, &'a RawValue)>, path: String) -> Result<Self, Refusal> {
        let mut object = Self {
            members: BTreeMap::new(),
            path,
        };
        for (name, raw) in members {
            let name = name.0.into_owned();
            if object.members.contains_key(&name) {
                return Err(Refusal::Shape {
                    path: object.at(&name),
                    why: "it stands twice".to_owned(),
                });
            }
            object.members.insert(name, raw);
        }
        Ok(object)
    }

    /// Takes a member out; null counts as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Node<'a>> {
        let raw = self.members.remove(name)?;
        (raw.get() != "null").then(|| Node {
            raw,
            path: self.at(name),
        })
    }

    /// As [`Self::take`], for a member without which this is not what it says it is.
    pub(super) fn need(&mut self, name: &str) -> Result<Node<'a>, Refusal> {
        self.take(name).ok_or_else(|| Refusal::Shape {
            path: self.at(name),
            why: "it is missing".to_owned(),
        })
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        self.take(name).map(|node| node.string()).transpose()
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, Refusal> {
        self.take(name)
            .map(|node| node.read("a number"))
            .transpose()
    }

    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        self.take(name)
            .map(|node| node.read("a whole number"))
            .transpose()
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        self.take(name)
            .map(|node| node.read("true or false"))
            .transpose()
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Node<'a>>, Refusal> {
        self.take(name).map_or(Ok(Vec::new()), |node| node.list())
    }

    /// Takes a member that goes nowhere, and says so.
    pub(super) fn lose(&mut self, name: &str, why: &'static str, losses: &mut Vec<Loss>) {
        if let Some(node) = self.take(name) {
            losses.push(Loss {
                path: node.path,
                why,
            });
        }
    }

    /// Every member that is left is a loss.
    pub(super) fn lose_rest(self, losses: &mut Vec<Loss>) {
        for (name, raw) in &self.members {
            if raw.get() != "null" {
                losses.push(Loss {
                    path: self.at(name),
                    why: "the target's dialect has no such field",
                });
            }
        }
    }

    fn at(&self, name: &str) -> String {
        if self.path.is_empty() && name.is_empty() {
            "\"\"".to_owned()
        } else if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

impl<'a> Node<'a> {
    pub(super) fn raw(&self) -> &'a RawValue {
        self.raw
    }

    pub(super) fn is_string(&self) -> bool {
        self.raw.get().starts_with('"')
    }

    pub(super) fn string(&self) -> Result<String, Refusal> {
        self.read("a string")
    }

    pub(super) fn object(&self) -> Result<Object<'a>, Refusal> {
        let members = json::members(self.raw.get()).ok_or_else(|| self.wrong("an object"))?;
        Object::of(members, self.path.clone())
    }

    pub(super) fn list(&self) -> Result<Vec<Self>, Refusal> {
        let items: Vec<&'a RawValue> =
            serde_json::from_str(self.raw.get()).map_err(|_| self.wrong("a list"))?;
        let item = |(place, raw)| Self {
            raw,
            path: format!("{}[{place}]", self.path),
        };
        Ok(items.into_iter().enumerate().map(item).collect())
    }

    pub(super) fn read<T: serde::Deserialize<'a>>(&self, what: &str) -> Result<T, Refusal> {
        serde_json::from_str(self.raw.get()).map_err(|_| self.wrong(what))
    }

    /// This is not what it should be.
    pub(super) fn wrong(&self, what: &str) -> Refusal {
        Refusal::Shape {
            path: self.path.clone(),
            why: format!("it should be {what}"),
        }
    }

    /// Without this the answer would mean something else.
    pub(super) fn refuse(&self, why: &str) -> Refusal {
        refuse(&self.path, why)
    }
}

/// Without what stands at `path` the answer would mean something else.
pub(super) fn refuse(path: &str, why: &str) -> Refusal {
    Refusal::Meaning {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

pub(super) fn loss(path: &str, why: &'static str) -> Loss {
    Loss {
        path: path.to_owned(),
        why,
    }
}
