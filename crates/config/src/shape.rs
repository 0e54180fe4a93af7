//! Declared shapes: one declaration of a section gives its type, its reader, its part of the JSON
//! Schema and its part of the reference in `docs/configuration.md`.
//!
//! A reader never gives up: it reports a mistake and goes on with the next field, so that a person
//! sees all of them in one run. What could not be read is [`Field::Bad`], which later checks keep
//! silent about.

use serde_json::{Map, Value as Json, json};

use crate::diagnostic::{Problem, suggest};
use crate::interpolate::{self, Text};
use crate::mask::looks_secret;
use crate::words::Words;
use crate::yaml::{Key, Node, Span, Value};

/// Something that can be read from a node.
pub(crate) trait Read: Sized {
    /// Reads it, or reports why it can't and gives `None`.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    /// Its JSON Schema; sections are put into `sections` and referred to.
    fn schema(sections: &mut Sections) -> Json;

    /// A word for the reference: `time`, `list of targets`.
    fn word() -> String;
}

/// Something that knows where it begins.
pub(crate) trait Placed {
    fn at(&self) -> Span;
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// A field of a section.
#[derive(Clone, Debug, Default)]
pub(crate) enum Field<T> {
    #[default]
    Absent,
    /// There, but already reported.
    Bad,
    Given(Spanned<T>),
}

/// The sections that a schema refers to, in order of their first use.
#[derive(Default)]
pub(crate) struct Sections {
    pub(crate) list: Vec<Section>,
}

/// What is known of one section.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) about: String,
    pub(crate) fields: Vec<FieldFacts>,
}

/// What is known of one field.
pub(crate) struct FieldFacts {
    pub(crate) name: &'static str,
    pub(crate) about: String,
    pub(crate) default: Option<&'static str>,
    pub(crate) word: String,
    pub(crate) schema: Json,
}

/// Reads nodes and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) problems: Vec<Problem>,
    /// Places that must not be shown.
    pub(crate) secrets: Vec<Span>,
    /// What came from the environment.
    pub(crate) filled: Vec<String>,
}

/// Declares a section: `field: Type = "default as written in the file",`.
macro_rules! shape {
    (
        $(#[doc = $about:literal])*
        $name:ident as $title:literal {
            $( $(#[doc = $doc:literal])* $field:ident : $type:ty $(= $default:literal)?, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            /// Where the section begins.
            pub(crate) at: $crate::yaml::Span,
            $( $(#[doc = $doc])* pub(crate) $field: $crate::shape::Field<$type>, )*
        }

        impl $name {
            pub(crate) const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];
        }

        impl $crate::shape::Placed for $name {
            fn at(&self) -> $crate::yaml::Span {
                self.at.clone()
            }
        }

        impl $crate::shape::Read for $name {
            fn read(
                node: &$crate::yaml::Node,
                reader: &mut $crate::shape::Reader<'_>,
            ) -> Option<Self> {
                let mut shape = Self { at: node.span.clone(), ..Self::default() };
                for (key, value) in reader.entries(node, $title)? {
                    match key.text.as_str() {
                        $( stringify!($field) => reader.field(&mut shape.$field, key, value), )*
                        _ => reader.unknown_field(key, value, Self::FIELDS),
                    }
                }
                Some(shape)
            }

            fn schema(sections: &mut $crate::shape::Sections) -> serde_json::Value {
                sections.refer($title, concat!($($about, "\n",)*), |sections| vec![
                    $( $crate::shape::FieldFacts {
                        name: stringify!($field),
                        about: $crate::shape::paragraph(concat!($($doc, "\n",)*)),
                        default: $crate::shape::first(&[$($default)?]),
                        word: <$type as $crate::shape::Read>::word(),
                        schema: <$type as $crate::shape::Read>::schema(sections),
                    }, )*
                ])
            }

            fn word() -> String {
                format!("[{}](#{})", $title, $title.replace(' ', "-"))
            }
        }
    };
}

pub(crate) use shape;

/// The lines of a doc comment as one paragraph.
pub(crate) fn paragraph(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn first(defaults: &[&'static str]) -> Option<&'static str> {
    defaults.first().copied()
}

// === impl Field ===

impl<T> Field<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.given().map(|given| &given.value)
    }

    pub(crate) fn given(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Given(given) => Some(given),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(crate) fn span(&self) -> Option<Span> {
        self.given().map(|given| given.span.clone())
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Overwrites `slot` with what the file says, if it says something.
    pub(crate) fn put<U: From<T>>(&self, slot: &mut U)
    where
        T: Clone,
    {
        if let Some(value) = self.get() {
            *slot = value.clone().into();
        }
    }
}

impl<T> Field<Vec<T>> {
    pub(crate) fn items(&self) -> &[T] {
        self.get().map_or(&[], Vec::as_slice)
    }
}

// === impl Sections ===

impl Sections {
    /// A reference to a section, which is described once.
    pub(crate) fn refer(
        &mut self,
        name: &'static str,
        about: &str,
        fields: impl FnOnce(&mut Self) -> Vec<FieldFacts>,
    ) -> Json {
        if !self.list.iter().any(|section| section.name == name) {
            let place = self.list.len();
            self.list.push(Section {
                name,
                about: paragraph(about),
                fields: Vec::new(),
            });
            self.list[place].fields = fields(self);
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }
}

impl Section {
    pub(crate) fn schema(&self) -> Json {
        let mut properties = Map::new();
        for field in &self.fields {
            let mut schema = field.schema.clone();
            schema["description"] = Json::from(field.about.as_str());
            if let Some(default) = field.default {
                let value = serde_json::from_str(default);
                schema["default"] = value.unwrap_or_else(|_| Json::from(default));
            }
            properties.insert(field.name.to_owned(), schema);
        }
        json!({
            "type": "object",
            "description": self.about,
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

// === impl Reader ===

impl Reader<'_> {
    pub(crate) fn report(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The fields of a section.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, title: &str) -> Option<&'n [(Key, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Null | Value::Scalar(_) | Value::List(_) => {
                self.wrong_kind(node, &format!("the fields of `{title}`"));
                None
            }
        }
    }

    /// Reads one field of a section. A field without a value is as good as absent.
    pub(crate) fn field<T: Read>(&mut self, field: &mut Field<T>, key: &Key, node: &Node) {
        if !field.is_absent() {
            self.hide(node);
            let message = format!("`{}` is given twice", key.text);
            self.report(Problem::error(key.span.clone(), message));
            return;
        }
        if matches!(node.value, Value::Null) {
            return;
        }
        *field = match T::read(node, self) {
            Some(value) => Field::Given(Spanned {
                value,
                span: node.span.clone(),
            }),
            None => Field::Bad,
        };
    }

    pub(crate) fn unknown_field(&mut self, key: &Key, node: &Node, fields: &[&str]) {
        self.hide(node);
        let message = format!("unknown field `{}`", key.text);
        let help = suggest(&key.text, fields);
        self.report(Problem::error(key.span.clone(), message).help(help));
    }

    /// The text of a scalar, with its `${NAME}`s filled in.
    pub(crate) fn text(&mut self, node: &Node, expected: &str) -> Option<Text> {
        if let Some(tag) = &node.tag {
            self.hide(node);
            let message = format!("the tag `!{tag}` cannot stand here");
            let help = "`!file` stands before the value of `key` and of headers only";
            self.report(Problem::error(node.span.clone(), message).help(help));
            return None;
        }
        let Value::Scalar(raw) = &node.value else {
            self.wrong_kind(node, expected);
            return None;
        };
        match interpolate::fill(raw, self.env) {
            Ok(text) => {
                if text.filled {
                    self.filled.push(text.value.clone());
                }
                Some(text)
            }
            Err(error) => {
                let problem = Problem::error(node.span.clone(), error.to_string());
                self.report(problem.help(error.help()));
                None
            }
        }
    }

    /// Reads a scalar by a function that says what it expected.
    pub(crate) fn parsed<T>(
        &mut self,
        node: &Node,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(node, expected)?;
        let value = parse(&text.value);
        if value.is_none() {
            let message = match quote(&text) {
                Some(quoted) => format!("{quoted} is not {expected}"),
                None => format!("this is not {expected}"),
            };
            self.report(Problem::error(node.span.clone(), message));
        }
        value
    }

    /// Reads one of a set of words.
    pub(crate) fn one_of<W: Words>(&mut self, node: &Node) -> Option<W> {
        let words: Vec<&str> = W::WORDS.iter().map(|(word, _)| *word).collect();
        let text = self.text(node, "a word")?;
        let found = W::WORDS.iter().find(|(word, _)| *word == text.value);
        if let Some((_, value)) = found {
            return Some(*value);
        }
        let (message, help) = match quote(&text) {
            Some(quoted) => (
                format!("{quoted} is not a valid value"),
                suggest(&text.value, &words),
            ),
            None => ("this is not a valid value".to_owned(), suggest("", &words)),
        };
        self.report(Problem::error(node.span.clone(), message).help(help));
        None
    }

    pub(crate) fn wrong_kind(&mut self, node: &Node, expected: &str) {
        let found = match &node.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        };
        self.hide(node);
        let message = format!("expected {expected}, found {found}");
        self.report(Problem::error(node.span.clone(), message));
    }

    /// Whatever stands in this node may be a secret: it was not understood.
    pub(crate) fn hide(&mut self, node: &Node) {
        match &node.value {
            Value::Null => {}
            Value::Scalar(_) => self.secrets.push(node.span.clone()),
            Value::List(items) => items.iter().for_each(|item| self.hide(item)),
            Value::Map(entries) => entries.iter().for_each(|(_, value)| self.hide(value)),
        }
    }
}

/// A value as it may stand in a message: not if it came from the environment, where secrets are.
fn quote(text: &Text) -> Option<String> {
    (!text.filled && !looks_secret(&text.value)).then(|| format!("`{}`", text.value))
}

// === impl Read for containers ===

impl<T: Read> Read for Spanned<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let value = T::read(node, reader)?;
        Some(Self {
            value,
            span: node.span.clone(),
        })
    }

    fn schema(sections: &mut Sections) -> Json {
        T::schema(sections)
    }

    fn word() -> String {
        T::word()
    }
}

/// A list; one single value stands for a list of it. Items that could not be read are left out.
impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::List(items) => {
                let read = items.iter().map(|item| T::read(item, reader));
                let read: Vec<Option<T>> = read.collect();
                let whole = read.iter().all(Option::is_some);
                let list: Self = read.into_iter().flatten().collect();
                (whole || !list.is_empty()).then_some(list)
            }
            Value::Null | Value::Scalar(_) | Value::Map(_) => {
                T::read(node, reader).map(|item| vec![item])
            }
        }
    }

    fn schema(sections: &mut Sections) -> Json {
        let item = T::schema(sections);
        json!({ "anyOf": [item, { "type": "array", "items": item }] })
    }

    fn word() -> String {
        format!("list of {}", T::word())
    }
}

impl<W: Words> Read for W {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.one_of(node)
    }

    fn schema(_: &mut Sections) -> Json {
        let words: Vec<&str> = W::WORDS.iter().map(|(word, _)| *word).collect();
        json!({ "type": "string", "enum": words })
    }

    fn word() -> String {
        let words: Vec<String> = W::WORDS
            .iter()
            .map(|(word, _)| format!("`{word}`"))
            .collect();
        words.join(", ")
    }
}
