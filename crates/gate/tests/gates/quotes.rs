//! What is told beside the model says where and what, and quotes nothing of the answer.

use proptest::prelude::*;

use crate::{cel, refusal, said, schema, told};

/// A word that stands in answers only.
const CANARY: &str = "canary7f3a";

#[test]
fn a_schema_is_told_by_place_and_keyword() {
    let order = r#"{
        "properties": {
            "items": {"items": {"properties": {"price": {"minimum": 0}}}},
            "iban": {"type": "number"},
            "sku": {"pattern": "^[A-Z]+$"},
            "kind": {"enum": ["a", "b"]},
            "mail": {"format": "email"},
            "names": {"propertyNames": {"maxLength": 3}},
            "notes": {"additionalProperties": {"type": "integer"}},
            "none": {"properties": {"a": true}, "additionalProperties": false},
            "rest": {"properties": {"a": true}, "unevaluatedProperties": false}
        },
        "required": ["iban"]
    }"#;
    let gate = schema(order);
    for (member, expected) in [
        (
            r#""items":[{},{"price":-4711}],"iban":1"#,
            "$.items[1].price: the value is less than the minimum of 0",
        ),
        (
            r#""iban":"canary7f3a""#,
            r#"$.iban: the value is not of type "number""#,
        ),
        (
            r#""iban":1,"sku":"canary7f3a""#,
            r#"$.sku: the value does not match "^[A-Z]+$""#,
        ),
        (
            r#""iban":1,"kind":"canary7f3a""#,
            r#"$.kind: the value is not one of "a" or "b""#,
        ),
        (
            r#""iban":1,"mail":"canary7f3a""#,
            r#"$.mail: the value is not a "email""#,
        ),
        (
            r#""iban":1,"names":{"canary7f3a":1}"#,
            "$.names: the value does not fit `propertyNames`",
        ),
        (
            r#""iban":1,"notes":{"canary7f3a":"x"}"#,
            r#"$.notes.*: the value is not of type "integer""#,
        ),
        (
            r#""iban":1,"none":{"canary7f3a":1}"#,
            "$.none: the value does not fit `additionalProperties`",
        ),
        (
            r#""iban":1,"rest":{"canary7f3a":1}"#,
            "$.rest: the value does not fit `unevaluatedProperties`",
        ),
        (r#""a":"canary7f3a""#, r#"$: "iban" is a required property"#),
    ] {
        let text = format!("{{{member}}}");
        assert_eq!(told(&gate, &text), format!("json_schema: {expected}"));
    }
}

#[test]
fn an_expression_is_told_by_its_source() {
    for (source, text, expected) in [
        (
            "json[json.of] == 1",
            r#"{"of":"canary7f3a"}"#,
            "`json[json.of] == 1` can't be checked: there is no such member",
        ),
        (
            "json.total == 1",
            r#"{"a":"canary7f3a"}"#,
            r#"`json.total == 1` can't be checked: there is no member "total""#,
        ),
        (
            "int(json.of) == 1",
            r#"{"of":"canary7f3a"}"#,
            "`int(json.of) == 1` can't be checked: it can't be evaluated",
        ),
        (
            "json.of",
            r#"{"of":"canary7f3a"}"#,
            "`json.of` is a string, not true or false",
        ),
        (
            "text.matches(text + '(')",
            CANARY,
            "`text.matches(text + '(')` can't be checked: it can't be evaluated",
        ),
    ] {
        assert_eq!(told(&cel(source), text), format!("cel: {expected}"));
    }
}

#[test]
fn the_model_hears_what_it_wrote() {
    let gate = schema(r#"{"properties":{"iban":{"type":"number"}}}"#);
    let text = r#"{"iban":"canary7f3a"}"#;
    assert!(said(&gate, text).contains(CANARY));
    assert!(!told(&gate, text).contains(CANARY));
    assert!(!refusal(&gate, text).told.is_empty());
}

/// A value with the canary somewhere in it, as a text or as a name.
fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::json!(CANARY)),
        Just(serde_json::json!(null)),
        (-9_i64..9).prop_map(|number| serde_json::json!(number)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = prop_oneof![Just("a"), Just("b"), Just(CANARY)];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            prop::collection::btree_map(name, inner, 0..3).prop_map(|members| {
                let members = members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value));
                serde_json::Value::Object(members.collect())
            }),
        ]
    })
}

const SCHEMAS: [&str; 12] = [
    r#"{"type":"integer"}"#,
    r#"{"properties":{"a":{"type":"object"}},"additionalProperties":false}"#,
    r#"{"additionalProperties":{"items":{"const":1}}}"#,
    r#"{"propertyNames":{"pattern":"^[ab]$"}}"#,
    r#"{"patternProperties":{"^c":{"minimum":3}},"required":["b"]}"#,
    r#"{"unevaluatedProperties":{"enum":[1,2]}}"#,
    r#"{"prefixItems":[{"type":"array"}],"unevaluatedItems":false}"#,
    r#"{"items":{"anyOf":[{"type":"null"},{"required":["a"]}]}}"#,
    r#"{"oneOf":[{"type":"string"},{"maxProperties":0}]}"#,
    r#"{"not":{"type":["string","array"]}}"#,
    r#"{"uniqueItems":true,"maxItems":1,"contains":{"type":"integer"}}"#,
    r#"{"dependentRequired":{"a":["b"]},"if":{"required":["a"]},"then":{"minProperties":3}}"#,
];

proptest! {
    #[test]
    fn nothing_of_an_answer_is_told(value in any_value(), at in 0..SCHEMAS.len()) {
        let gate = schema(SCHEMAS[at]);
        if let Err(refusal) = gate.check_text(&value.to_string()) {
            let told = refusal.to_string();
            prop_assert!(!told.contains("canary"), "{} {value}: {told}", SCHEMAS[at]);
        }
    }
}
