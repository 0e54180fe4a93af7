//! JSON Schema: compiled once, offline, and its errors in words that a model can act on.

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
        Ok(Self { validator })
    }

    pub(crate) fn check(&self, json: &Value) -> Result<(), Refusal> {
        if self.validator.is_valid(json) {
            return Ok(());
        }
        let mut reason = String::new();
        for error in self.validator.iter_errors(json).take(MOST_TOLD) {
            if !reason.is_empty() {
                reason.push_str("; ");
            }
            let place = place(json, error.instance_path().as_str());
            write!(reason, "{place}: {}", words(&error)).expect("invariant: a string takes all");
        }
        Err(Refusal::new("json_schema", reason))
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
        place: place(schema, error.instance_path().as_str()),
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

/// A JSON pointer into `json` as people write it: `$.items[2].price`.
fn place(json: &Value, pointer: &str) -> String {
    let mut place = "$".to_owned();
    let mut here = Some(json);
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let is_name = !step.is_empty()
            && step.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !step.starts_with(|c: char| c.is_ascii_digit());
        let written = match here {
            Some(Value::Array(_)) => write!(place, "[{step}]"),
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
