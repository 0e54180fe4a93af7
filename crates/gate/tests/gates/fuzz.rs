//! Any schema, any expression, any answer: no panic, no endless work, reasons within their limit.

use holdfast_core::gate::{Answered, Gate, LONGEST_REASON};
use holdfast_gate::{On, Terms, compile};
use proptest::prelude::*;
use serde_json::{Value, json};

/// JSON as models write it, and as they don't.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(i64::MIN)),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), "\\PC{0,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Schemas of known keywords with values that may be right.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![
            json!({"type": "object"}),
            json!({"type": ["array", "null"]}),
            json!({"minimum": -1, "maximum": 1e300}),
            json!({"multipleOf": 0.01}),
            json!({"pattern": "^(a+)+$"}),
            json!({"pattern": "(?=a)\\w"}),
            json!({"format": "date-time"}),
            json!({"format": "uri"}),
            json!({"const": 1.0}),
            json!({"enum": [1, "a", null]}),
            json!({"$ref": "#"}),
            json!({"$ref": "#/$defs/x"}),
            json!({"uniqueItems": true, "minItems": 2}),
            json!({"required": ["a"], "maxProperties": 2}),
        ]),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            inner.clone().prop_map(|schema| json!({"items": schema})),
            inner.clone().prop_map(|schema| json!({"not": schema})),
            inner.clone().prop_map(|schema| json!({"contains": schema})),
            inner
                .clone()
                .prop_map(|schema| json!({"unevaluatedProperties": schema})),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| json!({"properties": {"a": a, "b": b}})),
            (inner.clone(), inner)
                .prop_map(|(a, b)| json!({"if": a, "then": b, "$defs": {"x": true}})),
            several.clone().prop_map(|all| json!({"anyOf": all})),
            several.clone().prop_map(|all| json!({"oneOf": all})),
            several.prop_map(|all| json!({"prefixItems": all})),
        ]
    })
}

/// Expressions by the grammar, with types that need not fit.
fn any_expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "text",
        "json",
        "length",
        "finish",
        "json.a",
        "json[0]",
        "json['b']",
        "1",
        "-1",
        "0",
        "1u",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615u",
        "1.5",
        "1e308",
        "'a'",
        "''",
        "b'\\xff'",
        "true",
        "false",
        "null",
        "[]",
        "[1, 2]",
        "{}",
        "{'a': 1}",
        "int",
        "x",
        "has(json.a)",
        "json.?a",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in",
        ]);
        let function = prop::sample::select(vec![
            "size", "int", "uint", "double", "string", "bytes", "bool", "dyn", "type", "-", "!",
        ]);
        let method = prop::sample::select(vec![
            "startsWith",
            "endsWith",
            "contains",
            "matches",
            "size",
            "max",
            "min",
        ]);
        let macros = prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            (function, inner.clone()).prop_map(|(function, a)| format!("{function}({a})")),
            (inner.clone(), method, inner.clone())
                .prop_map(|(a, method, b)| format!("({a}).{method}({b})")),
            (inner.clone(), macros, inner.clone())
                .prop_map(|(a, name, b)| format!("({a}).{name}(x, {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("[{a}, {b}]")),
        ]
    })
}

/// Fails by whatever is wrong with the gate of `terms`, if it is one.
fn check(terms: Terms, text: &str) -> bool {
    let gate = match compile(terms) {
        Ok(gate) => gate,
        Err(error) => {
            // What is caught is not meant to happen.
            assert!(!error.to_string().contains("can't be read"), "{error}");
            return false;
        }
    };
    for (refused, limited) in [(false, false), (false, true), (true, false)] {
        let answer = Answered {
            text,
            refused,
            limited,
        };
        let first = gate.check(&answer);
        assert_eq!(first, gate.check(&answer), "a gate is of one mind");
        if let Err(refusal) = first {
            assert!(!refusal.reason.is_empty());
            assert!(refusal.reason.chars().count() <= LONGEST_REASON + 1);
            assert!(!refusal.reason.contains("broke off"), "{refusal}");
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_expression_over_any_answer(source in any_expression(), json in any_json()) {
        let terms = Terms { cel: vec![source], ..Terms::default() };
        check(terms, &json.to_string());
    }

    #[test]
    fn any_text_as_an_expression(source in "\\PC{0,40}", words in prop::collection::vec(
        prop::sample::select(vec!["text", "json", ".", "(", ")", "[", "]", "'", "\"", "&&", "?", ":", "1", "{", "}", ",", "\\", "`", "r'", "0x", "1e", "all(", "\n"]), 0..12))
    {
        for source in [source, words.concat()] {
            check(Terms { cel: vec![source], ..Terms::default() }, "{\"a\":1}");
        }
    }

    #[test]
    fn any_schema_over_any_answer(schema in any_schema(), json in any_json()) {
        let terms = Terms { json_schema: Some(schema.to_string()), ..Terms::default() };
        check(terms, &json.to_string());
    }

    #[test]
    fn any_text_as_an_answer(text in "\\PC{0,60}", fenced: bool, on_json: bool) {
        let text = if fenced { format!("```json\n{text}\n```") } else { text };
        let terms = Terms {
            json_schema: Some(r#"{"type":"object"}"#.into()),
            cel: vec!["json == null || size(text) >= 0".into()],
            min_length: 3,
            on: if on_json { On::Json } else { On::Text },
            ..Terms::default()
        };
        prop_assert!(check(terms, &text));
    }
}
