//! JSON Schema: compiled once, offline, and its errors in words: for the model with what it wrote, so
//! that it can act on them, for everybody else in the schema's own words alone.

use std::collections::HashSet;
use std::fmt::Write as _;

use holdfast_core::gate::Refusal;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::{Error, LONGEST_SCHEMA};

/// How many things that are wrong are told at once: a model corrects what it is told.
const MOST_TOLD: usize = 3;
/// The longest value that is quoted, in bytes of JSON.
const LONGEST_QUOTE: usize = 60;
/// Steps of a pattern with look-around before it is given up.
const BACKTRACKS: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    /// Every member's name that stands in the schema: no other one of an answer is told.
    names: HashSet<String>,
}

impl Schema {
    pub(crate) fn compile(source: &str) -> Result<Self, Error> {
        if source.len() > LONGEST_SCHEMA {
            return Err(Error::TooLong {
                what: "the JSON Schema".to_owned(),
                limit: LONGEST_SCHEMA,
            });
        }
        let schema: Value =
            serde_json::from_str(source).map_err(|error| Error::SchemaIsNotJson {
                why: error.to_string(),
            })?;
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS))
            .build(&schema)
            .map_err(|error| wrong(&schema, &error))?;
        let mut names = HashSet::new();
        gather(&schema, &mut names);
        Ok(Self { validator, names })
    }

    pub(crate) fn check(&self, json: &Value) -> Result<(), Refusal> {
        if self.validator.is_valid(json) {
            return Ok(());
        }
        let (mut reasons, mut told) = (Vec::new(), Vec::new());
        for error in self.validator.iter_errors(json).take(MOST_TOLD) {
            let pointer = error.instance_path().as_str();
            let known = |name: &str| self.names.contains(name);
            reasons.push(format!(
                "{}: {}",
                place(json, pointer, |_| true),
                words(&error)
            ));
            told.push(format!(
                "{}: {}",
                place(json, pointer, known),
                unquoted(&error)
            ));
        }
        Err(Refusal::quoting(
            "json_schema",
            reasons.join("; "),
            told.join("; "),
        ))
    }
}

fn gather(schema: &Value, names: &mut HashSet<String>) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                names.insert(name.clone());
                gather(value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn wrong(schema: &Value, error: &ValidationError<'_>) -> Error {
    if let ValidationErrorKind::Referencing(jsonschema::ReferencingError::Unretrievable {
        uri,
        ..
    }) = error.kind()
    {
        return Error::RemoteSchema { uri: uri.clone() };
    }
    Error::Schema {
        place: place(schema, error.instance_path().as_str(), |_| true),
        why: words(error),
    }
}

/// What is wrong, with the value quoted where that is short.
fn words(error: &ValidationError<'_>) -> String {
    let quote = match error.instance().as_ref() {
        Value::Object(_) => "the object".to_owned(),
        Value::Array(_) => "the array".to_owned(),
        Value::String(text) if text.len() > LONGEST_QUOTE => "the text".to_owned(),
        short => short.to_string(),
    };
    error.masked_with(quote).to_string()
}

/// What is wrong, in the words of the schema alone.
fn unquoted(error: &ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    match error.kind() {
        Kind::AdditionalItems { .. }
        | Kind::AnyOf { .. }
        | Kind::Constant { .. }
        | Kind::Contains
        | Kind::Enum { .. }
        | Kind::ExclusiveMaximum { .. }
        | Kind::ExclusiveMinimum { .. }
        | Kind::FalseSchema
        | Kind::Format { .. }
        | Kind::MaxItems { .. }
        | Kind::Maximum { .. }
        | Kind::MaxLength { .. }
        | Kind::MaxProperties { .. }
        | Kind::MinItems { .. }
        | Kind::Minimum { .. }
        | Kind::MinLength { .. }
        | Kind::MinProperties { .. }
        | Kind::MultipleOf { .. }
        | Kind::OneOfMultipleValid { .. }
        | Kind::OneOfNotValid { .. }
        | Kind::Pattern { .. }
        | Kind::Required { .. }
        | Kind::Type { .. }
        | Kind::UniqueItems => error.masked_with("the value").to_string(),
        // These name members or values of the answer, or may do so in a version to come.
        other => format!("the value does not fit `{}`", other.keyword()),
    }
}

/// A JSON pointer into `json` as people write it: `$.items[2].price`. A member's name that is not
/// `known` is written as `*`.
fn place(json: &Value, pointer: &str, known: impl Fn(&str) -> bool) -> String {
    let mut place = "$".to_owned();
    let mut here = Some(json);
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let is_name = !step.is_empty()
            && step.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !step.starts_with(|c: char| c.is_ascii_digit());
        let written = match here {
            Some(Value::Array(_)) => write!(place, "[{step}]"),
            _ if !known(&step) => write!(place, ".*"),
            _ if is_name => write!(place, ".{step}"),
            _ => write!(place, "[{}]", Value::from(step.as_str())),
        };
        written.expect("invariant: a string takes all");
        here = match here {
            Some(Value::Array(items)) => step.parse::<usize>().ok().and_then(|at| items.get(at)),
            Some(Value::Object(members)) => members.get(&step),
            _ => None,
        };
    }
    place
}
