//! Values that fit a JSON Schema: the arguments of simulated tool calls and structured answers.
//!
//! Covers what callers' tools use: objects, arrays, enums, `const`, numbers with bounds, string formats and
//! lengths, `$ref` into the same document, `anyOf`/`oneOf`/`allOf`. A free string is a text that `check_text`
//! accepts, so that a client can prove that no argument was cut. It is no validator.

use serde_json::{Map, Number, Value, json};

use crate::text::{Dice, make_text};

/// Deeper than any tool's schema; a recursive schema ends here in `null`.
const MAX_DEPTH: usize = 16;

/// A value that fits `schema`; the same seed gives the same value.
pub(crate) fn fit(schema: &Value, seed: u64) -> Value {
    let mut dice = Dice::new(seed);
    Fitter {
        root: schema,
        dice: &mut dice,
    }
    .value(schema, 0)
}

struct Fitter<'a> {
    root: &'a Value,
    dice: &'a mut Dice,
}

impl Fitter<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let found = target
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(pointer))
                .cloned();
            return found.map_or(Value::Null, |inner| self.value(&inner, depth + 1));
        }
        if let Some(fixed) = schema.get("const") {
            return fixed.clone();
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            return self.dice.pick(choices).cloned().unwrap_or(Value::Null);
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            if let Some(choice) = schema
                .get(word)
                .and_then(Value::as_array)
                .and_then(|all| first_real(all))
            {
                return self.value(choice, depth + 1);
            }
        }
        self.typed(schema, depth)
    }

    fn typed(&mut self, schema: &Value, depth: usize) -> Value {
        match type_of(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "integer" => self.integer(schema),
            "number" => self.number(schema),
            "boolean" => json!(self.dice.below(2) == 1),
            "null" => Value::Null,
            _ => Value::String(self.string(schema)),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut members = Map::new();
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, inner) in properties {
                members.insert(name.clone(), self.value(inner, depth + 1));
            }
        }
        Value::Object(members)
    }

    fn array(&mut self, schema: &Value, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let most = schema
            .get("maxItems")
            .and_then(Value::as_u64)
            .unwrap_or(u64::MAX);
        let count = 2.max(least).min(most);
        let any = json!({"type": "string"});
        let items = schema
            .get("items")
            .filter(|items| items.is_object())
            .unwrap_or(&any);
        Value::Array((0..count).map(|_| self.value(items, depth + 1)).collect())
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let low = bound(schema, "minimum")
            .or_else(|| bound(schema, "exclusiveMinimum").map(|low| low + 1.0));
        let high = bound(schema, "maximum")
            .or_else(|| bound(schema, "exclusiveMaximum").map(|high| high - 1.0));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "bounds of tool schemas are small, and a cast saturates"
        )]
        let (low, high) = (
            low.map(|low| low.ceil() as i64),
            high.map(|high| high.floor() as i64),
        );
        let low = low.unwrap_or_else(|| high.map_or(1, |high| high.saturating_sub(9).min(1)));
        let high = high.unwrap_or_else(|| low.saturating_add(99));
        let span = u64::try_from(high.saturating_sub(low))
            .unwrap_or(0)
            .saturating_add(1);
        let step = i64::try_from(self.dice.below(span)).unwrap_or(0);
        json!(low.saturating_add(step))
    }

    fn number(&mut self, schema: &Value) -> Value {
        let low = bound(schema, "minimum").or_else(|| bound(schema, "exclusiveMinimum"));
        let high = bound(schema, "maximum").or_else(|| bound(schema, "exclusiveMaximum"));
        let low = low.unwrap_or_else(|| high.map_or(0.0, |high| high - 100.0));
        let high = high.unwrap_or(low + 100.0);
        // Strictly between the bounds, so that exclusive ones hold too; three decimals read well.
        let raw = low + (high - low) * (0.25 + self.dice.unit() / 2.0);
        let tidy = (raw * 1000.0).round() / 1000.0;
        let value = if tidy > low && tidy < high { tidy } else { raw };
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }

    fn string(&mut self, schema: &Value) -> String {
        match schema.get("format").and_then(Value::as_str) {
            Some("date") => return "2026-06-21".to_owned(),
            Some("date-time") => return "2026-06-21T12:34:56Z".to_owned(),
            Some("time") => return "12:34:56Z".to_owned(),
            Some("email") => return "ada@example.com".to_owned(),
            Some("uuid") => {
                return format!("00000000-0000-4000-8000-{:012x}", self.dice.next() >> 16);
            }
            Some("uri" | "url") => return "https://example.com/a".to_owned(),
            Some("ipv4") => return "192.0.2.1".to_owned(),
            _ => {}
        }
        let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0);
        let most = schema
            .get("maxLength")
            .and_then(Value::as_u64)
            .unwrap_or(u64::MAX);
        let mut words = 3;
        let mut text = make_text(self.dice.next(), words);
        while (text.chars().count() as u64) < least && words < 100_000 {
            words *= 2;
            text = make_text(self.dice.next(), words);
        }
        if text.chars().count() as u64 > most {
            text = "abcdefgh"
                .chars()
                .cycle()
                .take(usize::try_from(most).unwrap_or(0))
                .collect();
        }
        text
    }
}

fn bound(schema: &Value, word: &str) -> Option<f64> {
    schema.get(word).and_then(Value::as_f64)
}

fn first_real(choices: &[Value]) -> Option<&Value> {
    choices
        .iter()
        .find(|choice| choice.get("type").and_then(Value::as_str) != Some("null"))
        .or_else(|| choices.first())
}

fn type_of(schema: &Value) -> &str {
    let named = match schema.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null"),
        _ => None,
    };
    let guess = if schema.get("properties").is_some() {
        "object"
    } else {
        "string"
    };
    named.unwrap_or(guess)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::check_text;

    #[test]
    fn a_value_has_every_property_and_stays_in_bounds() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["c", "f"]},
                "days": {"type": "integer", "minimum": 3, "maximum": 5},
                "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "minItems": 3},
                "at": {"$ref": "#/$defs/place"},
                "maybe": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
            },
            "$defs": {"place": {"type": "object", "properties": {"lat": {"type": ["null", "number"]}}}},
        });
        for seed in 0..200 {
            let value = fit(&schema, seed);
            assert!(check_text(value["city"].as_str().unwrap()));
            assert!(["c", "f"].contains(&value["unit"].as_str().unwrap()));
            assert!((3..=5).contains(&value["days"].as_i64().unwrap()));
            let share = value["share"].as_f64().unwrap();
            assert!(share > 0.0 && share < 1.0);
            let tags = value["tags"].as_array().unwrap();
            assert_eq!(tags.len(), 3);
            assert!(tags.iter().all(|tag| tag.as_str().unwrap().len() <= 4));
            assert!(value["at"]["lat"].is_number());
            assert!(value["maybe"].is_boolean());
            assert_eq!(value, fit(&schema, seed));
        }
    }

    #[test]
    fn a_recursive_schema_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(fit(&schema, 1).is_object());
    }
}
