//! Terms that are no gate, each with what is wrong and where.

use holdfast_gate::{Error, LONGEST_EXPRESSION, LONGEST_SCHEMA, MOST_EXPRESSIONS, Terms, compile};

fn schema_error(schema: &str) -> Error {
    let terms = Terms {
        json_schema: Some(schema.to_owned()),
        ..Terms::default()
    };
    compile(terms).unwrap_err()
}

fn cel_error(expression: &str) -> String {
    let terms = Terms {
        cel: vec!["true".to_owned(), expression.to_owned()],
        ..Terms::default()
    };
    compile(terms).unwrap_err().to_string()
}

#[test]
fn a_schema_that_is_none() {
    for (schema, said) in [
        (
            "{",
            "the JSON Schema is not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            r#"{"properties":{"a":{"type":"strnig"}}}"#,
            "the JSON Schema is wrong at $.properties.a.type: ",
        ),
        (
            r#"{"properties":{"a":{"minimum":"0"}}}"#,
            "the JSON Schema is wrong at $.properties.a.minimum: \"0\" is not of type \"number\"",
        ),
        (
            r#"{"pattern":"("}"#,
            "the JSON Schema is wrong at $.pattern: \"(\" is not a \"regex\"",
        ),
        (
            r##"{"$ref":"#/$defs/missing"}"##,
            "the JSON Schema is wrong at ",
        ),
        ("3", "the JSON Schema is wrong at $: "),
        (
            r#"{"$schema":"https://example.com/own"}"#,
            "the JSON Schema ",
        ),
    ] {
        let error = schema_error(schema).to_string();
        assert!(error.starts_with(said), "{schema}: {error}");
    }
}

#[test]
fn nothing_is_fetched() {
    for schema in [
        r#"{"$ref":"https://example.com/a.json"}"#,
        r#"{"properties":{"a":{"items":{"$ref":"http://127.0.0.1:1/a.json#/b"}}}}"#,
        r#"{"$ref":"file:///etc/hostname"}"#,
        r#"{"$id":"https://example.com/root/","properties":{"a":{"$ref":"other.json"}}}"#,
        r#"{"$ref":"a.json"}"#,
    ] {
        let error = schema_error(schema);
        assert!(
            matches!(error, Error::RemoteSchema { .. }),
            "{schema}: {error}"
        );
    }
}

#[test]
fn an_expression_that_is_none() {
    for (expression, said) in [
        ("length >", "CEL expression 2 is wrong at line 1, column "),
        (
            "true &&\n length > )",
            "CEL expression 2 is wrong at line 2, column ",
        ),
        ("", "CEL expression 2 "),
        (
            "answer.ok",
            "CEL expression 2 can't be used: there is no variable `answer`; there are text, json, length, finish",
        ),
        (
            "json.all(x, y > 0)",
            "CEL expression 2 can't be used: there is no variable `y`; there are text, json, length, finish",
        ),
        (
            "sentiment(text) > 0.5",
            "CEL expression 2 can't be used: there is no function `sentiment`",
        ),
        (
            "length",
            "CEL expression 2 can't be used: it is a int, not true or false",
        ),
        (
            "'yes'",
            "CEL expression 2 can't be used: it is a string, not true or false",
        ),
        (
            "json.all(a, json.all(b, json.all(c, json.all(d, true))))",
            "CEL expression 2 can't be used: its loops nest deeper than 3",
        ),
    ] {
        let error = cel_error(expression);
        assert!(error.starts_with(said), "{expression}: {error}");
    }
}

#[test]
fn what_is_over_its_limit() {
    let long = format!("\"{}\"", "x".repeat(LONGEST_SCHEMA));
    assert_eq!(
        schema_error(&long).to_string(),
        "the JSON Schema is longer than 262144 bytes"
    );
    let long = format!("text == '{}'", "x".repeat(LONGEST_EXPRESSION));
    assert_eq!(
        cel_error(&long),
        "CEL expression 2 is longer than 4096 bytes"
    );
    let terms = Terms {
        cel: vec!["true".into(); MOST_EXPRESSIONS + 1],
        ..Terms::default()
    };
    assert!(matches!(compile(terms), Err(Error::TooMany { .. })));
}

/// Each of these could keep a careless reader busy until its stack is used up.
#[test]
fn endless_references_and_deep_nesting_end() {
    for schema in [
        r##"{"$ref":"#"}"##,
        r##"{"allOf":[{"$ref":"#"}]}"##,
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
        r##"{"anyOf":[{"not":{"$ref":"#"}}]}"##,
        r##"{"$dynamicRef":"#a","$dynamicAnchor":"a"}"##,
        r##"{"if":{"$ref":"#"}}"##,
    ] {
        let terms = Terms {
            json_schema: Some(schema.to_owned()),
            ..Terms::default()
        };
        if let Ok(gate) = compile(terms) {
            let _ = gate.check_text("{\"a\":[1]}");
        }
    }
    let deep = format!("{}{}", r#"{"items":"#.repeat(5000), "true");
    assert!(schema_error(&deep).to_string().contains("recursion limit"));
    for unit in [
        "(", "[", "!", "-", "a.", "{1:", "true?", "f(", "a+", "a&&", "a[", "'", "'(' + (",
    ] {
        for count in [20, 31, LONGEST_EXPRESSION / unit.len()] {
            assert!(!cel_error(&unit.repeat(count)).is_empty());
        }
    }
    for (open, close) in [
        ("(", ")"),
        ("!(", ")"),
        ("[", "][0]"),
        ("f(", ")"),
        ("true ? true : ", ""),
        ("text == '' || ", ""),
        ("text.size() + ", " > 0"),
    ] {
        for count in [20, 31, LONGEST_EXPRESSION / (open.len() + close.len()) - 4] {
            let nested = format!("{}true{}", open.repeat(count), close.repeat(count));
            let terms = Terms {
                cel: vec![nested],
                ..Terms::default()
            };
            if let Ok(gate) = compile(terms) {
                let _ = gate.check_text("x");
            }
        }
    }
}
