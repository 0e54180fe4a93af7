//! JSON Schemas: as they were written, but for what Chat would refuse (trap 9).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::translate::Refusal;
use crate::translate::read::Node;

/// `response_format`.
#[derive(Serialize)]
pub(super) struct Format<'a> {
    r#type: &'static str,
    json_schema: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'static str,
    schema: &'a RawValue,
    strict: bool,
}

/// What is lost where the target can't enforce a schema.
pub(super) const NOT_STRICT: &str = "the target enforces only schemas whose objects are closed and need all of their members; \
     this one guides it";

/// Keywords that Chat's strict mode does not know.
const LOOSE: [&str; 12] = [
    "allOf",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedProperties",
];

/// The format for a schema, and whether the target enforces it.
pub(super) fn format(schema: &RawValue) -> (Format<'_>, bool) {
    let strict = fits_strict(schema);
    let json_schema = Named {
        name: "answer",
        schema,
        strict,
    };
    let format = Format {
        r#type: "json_schema",
        json_schema,
    };
    (format, strict)
}

/// Whether Chat takes the schema with `strict: true`.
pub(super) fn fits_strict(schema: &RawValue) -> bool {
    // What nests too deep to be read as a tree is beyond strict mode's own bound too.
    let Ok(Value::Object(root)) = serde_json::from_str(schema.get()) else {
        return false;
    };
    root.get("type").is_some_and(|kind| kind == "object")
        && !root.contains_key("anyOf")
        && is_closed(&root)
}

/// Whether all objects below list their members, need all of them and take no others.
fn is_closed(schema: &Map<String, Value>) -> bool {
    if LOOSE.iter().any(|keyword| schema.contains_key(*keyword)) {
        return false;
    }
    let is_object = match schema.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => schema.contains_key("properties"),
    };
    if is_object && !needs_all(schema) {
        return false;
    }
    let below = |keyword: &str| schema.get(keyword);
    let named = ["properties", "$defs", "definitions"].into_iter();
    let named = named.filter_map(below).filter_map(Value::as_object);
    let listed = below("anyOf").and_then(Value::as_array);
    let parts = named
        .flat_map(Map::values)
        .chain(listed.into_iter().flatten())
        .chain(below("items"));
    parts.into_iter().all(|part| match part {
        Value::Object(part) => is_closed(part),
        _ => false,
    })
}

fn needs_all(schema: &Map<String, Value>) -> bool {
    let needed = schema.get("required").and_then(Value::as_array);
    let is_needed = |name: &String| {
        needed.is_some_and(|needed| needed.iter().any(|needed| needed == name.as_str()))
    };
    let mut names = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::keys);
    schema.get("additionalProperties") == Some(&Value::Bool(false)) && names.all(is_needed)
}

/// The schema of a tool's input as `parameters`: Chat refuses an object that lists no members, even
/// an empty list of them.
pub(super) fn parameters<'a>(schema: &Node<'a>) -> Result<Cow<'a, RawValue>, Refusal> {
    let mut members = schema.object()?;
    if members.take("properties").is_some() {
        return Ok(Cow::Borrowed(schema.raw()));
    }
    let inside = schema.raw().get().trim_start_matches('{').trim_start();
    let comma = if inside == "}" { "" } else { "," };
    let whole = format!("{{\"properties\":{{}}{comma}{inside}");
    let whole = RawValue::from_string(whole).expect("invariant: an object with one member more");
    Ok(Cow::Owned(whole))
}
