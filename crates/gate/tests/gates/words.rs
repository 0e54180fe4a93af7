//! Answers that pass and answers that do not, each with what the model is told.

use holdfast_core::gate::{Answered, Gate, LONGEST_REASON};
use holdfast_gate::{LONGEST_ANSWER, On, Terms, compile};

use crate::{cel, said, schema, whole};

const ORDER: &str = r#"{
    "type": "object",
    "required": ["items", "total"],
    "properties": {
        "items": {"type": "array", "minItems": 1, "items": {
            "type": "object",
            "required": ["price"],
            "properties": {"price": {"type": "number", "minimum": 0}, "sku": {"pattern": "^[A-Z]+$"}}
        }},
        "total": {"type": "number"},
        "mail": {"type": "string", "format": "email"}
    },
    "additionalProperties": false
}"#;

#[test]
fn a_schema_is_told_by_place() {
    let gate = schema(ORDER);
    for text in [
        r#"{"items":[{"price":1}],"total":1}"#,
        "```json\n{\"items\":[{\"price\":0.5,\"sku\":\"AB\"}],\"total\":0.5,\"mail\":\"a@b.example\"}\n```",
    ] {
        assert_eq!(gate.check(&whole(text)), Ok(()), "{text}");
    }
    for (text, told) in [
        (
            r#"{"items":[{"price":1},{"price":2},{"price":-1}],"total":2}"#,
            "json_schema: $.items[2].price: -1 is less than the minimum of 0",
        ),
        (
            r#"{"items":[],"total":1}"#,
            "json_schema: $.items: the array has less than 1 item",
        ),
        (
            r#"{"items":[{"price":1}]}"#,
            r#"json_schema: $: "total" is a required property"#,
        ),
        (
            r#"{"items":[{"price":"1"}],"total":1}"#,
            r#"json_schema: $.items[0].price: "1" is not of type "number""#,
        ),
        (
            r#"{"items":[{"price":1,"sku":"ab"}],"total":1}"#,
            r#"json_schema: $.items[0].sku: "ab" does not match "^[A-Z]+$""#,
        ),
        (
            r#"{"items":[{"price":1}],"total":1,"mail":"nobody"}"#,
            r#"json_schema: $.mail: "nobody" is not a "email""#,
        ),
        (
            r#"{"items":[{"price":1}],"total":1,"more":1}"#,
            "json_schema: $: Additional properties are not allowed ('more' was unexpected)",
        ),
        (
            "[1]",
            r#"json_schema: $: the array is not of type "object""#,
        ),
        (
            "Sure! Here it is.",
            "json: it is not JSON: expected value at line 1 column 1",
        ),
    ] {
        assert_eq!(said(&gate, text), told, "{text}");
    }
}

#[test]
fn several_faults_are_told_at_once_and_not_all_of_them() {
    let told = said(&schema(r#"{"items":{"type":"string"}}"#), "[1,2,3,4,5]");
    assert_eq!(told.matches("is not of type").count(), 3, "{told}");
    let long = format!("[{}]", vec!["1"; 50_000].join(","));
    let told = said(&schema(r#"{"items":{"type":"string"}}"#), &long);
    assert!(told.chars().count() < LONGEST_REASON + 20, "{told}");
    let long = format!(r#""{}""#, "x".repeat(100_000));
    let told = said(&schema(r#"{"type":"number"}"#), &long);
    assert_eq!(told, r#"json_schema: $: the text is not of type "number""#);
}

#[test]
fn odd_names_are_quoted() {
    let gate = schema(r#"{"additionalProperties":{"type":"integer"}}"#);
    for (text, place) in [
        (r#"{"a b":""}"#, r#"$["a b"]"#),
        (r#"{"a/b~c":""}"#, r#"$["a/b~c"]"#),
        (r#"{"0":""}"#, r#"$["0"]"#),
        (r#"{"":""}"#, r#"$[""]"#),
        (r#"{"größe_2":""}"#, "$.größe_2"),
    ] {
        let told = said(&gate, text);
        assert!(
            told.starts_with(&format!("json_schema: {place}: ")),
            "{told}"
        );
    }
}

#[test]
fn the_draft_is_the_one_that_the_schema_names() {
    // Draft 4 says `exclusiveMinimum: true`, later ones give a number.
    let fourth = r#"{"$schema":"http://json-schema.org/draft-04/schema#","minimum":0,"exclusiveMinimum":true}"#;
    assert!(said(&schema(fourth), "0").contains("less than or equal"));
    let seventh = r#"{"$schema":"http://json-schema.org/draft-07/schema#","exclusiveMinimum":0}"#;
    assert!(said(&schema(seventh), "0").contains("less than or equal"));
    assert_eq!(schema(seventh).check_text("1"), Ok(()));
}

#[test]
fn references_within_the_schema_are_followed() {
    let gate = schema(
        r##"{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{
            "left":{"$ref":"#/$defs/tree"}},"required":["name"]}}}"##,
    );
    assert_eq!(gate.check_text(r#"{"name":1,"left":{"name":2}}"#), Ok(()));
    let told = said(&gate, r#"{"name":1,"left":{"name":2,"left":{}}}"#);
    assert_eq!(
        told,
        r#"json_schema: $.left.left: "name" is a required property"#
    );
}

#[test]
fn expressions_see_the_answer() {
    for (expression, text) in [
        ("text.startsWith('Dear')", "Dear all"),
        ("!text.contains('TODO') && length < 20", "done"),
        ("length == 3", "äöü"),
        ("text.matches('^[0-9]{4}$')", "2026"),
        ("finish == 'stop'", ""),
        ("json == null", "no JSON"),
        ("json.ok", r#"{"ok":true}"#),
        ("json.total == 3", r#"{"total":3}"#),
        ("json.total == 3", r#"{"total":3.0}"#),
        ("json.total > 1", r#"{"total":1.5}"#),
        (
            "json.items.all(i, i.price >= 0)",
            r#"{"items":[{"price":0.5},{"price":3}]}"#,
        ),
        (
            "json.items.map(i, i.id).all(a, json.items.exists_one(i, i.id == a))",
            r#"{"items":[{"id":1},{"id":2}]}"#,
        ),
        ("has(json.name) && json.name != ''", r#"{"name":"x"}"#),
        ("size(json) == 2 && json[0] in ['a', 'b']", r#"["a",1]"#),
        (
            "double(json.net) + double(json.tax) == double(json.total)",
            r#"{"net":100,"tax":19.5,"total":119.5}"#,
        ),
        ("type(json.n) == int", r#"{"n":1}"#),
        (
            "json.n == 18446744073709551615u",
            r#"{"n":18446744073709551615}"#,
        ),
        ("json.all(name, json[name] > 0)", r#"{"a":1,"b":2}"#),
    ] {
        assert_eq!(cel(expression).check_text(text), Ok(()), "{expression}");
    }
    let limited = Answered {
        limited: true,
        ..whole("cut")
    };
    assert_eq!(cel("finish == 'limit'").check(&limited), Ok(()));
}

#[test]
fn an_expression_that_is_not_true_is_told_as_it_stands() {
    for (expression, text, told) in [
        ("length > 3", "abc", "`length > 3` is not true"),
        (
            "json.total == 3",
            "{}",
            "`json.total == 3` can't be checked: there is no member \"total\"",
        ),
        (
            "json.total == 3",
            "no JSON",
            "`json.total == 3` can't be checked: the answer is not JSON",
        ),
        (
            "json.ok",
            r#"{"ok":"yes"}"#,
            "`json.ok` is a string, not true or false",
        ),
        (
            "json.a.b == 3",
            r#"{"a":1}"#,
            "`json.a.b == 3` can't be checked: found no matching overload for '_._' applied to '(int, string)'",
        ),
        (
            "json.a / json.b > 1",
            r#"{"a":1,"b":0}"#,
            "`json.a / json.b > 1` can't be checked: a division by zero",
        ),
        (
            "json[3] == 1",
            "[1]",
            "`json[3] == 1` can't be checked: an index is out of bounds",
        ),
        (
            "json.a * json.a > 0",
            r#"{"a":9223372036854775807}"#,
            "`json.a * json.a > 0` can't be checked: a number is too large",
        ),
    ] {
        assert_eq!(said(&cel(expression), text), format!("cel: {told}"));
    }
}

#[test]
fn loops_that_would_multiply_are_not_begun() {
    let gate = cel("json.all(a, json.all(b, json.all(c, a + b + c > 0)))");
    let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(gate.check_text(&list(10)), Ok(()));
    let told = said(&gate, &list(1000));
    assert!(
        told.ends_with("can't be checked: the answer is too large for its loops"),
        "{told}"
    );
    // A loop over a long list alone is no harm, but one that goes over a long text each time is.
    assert_eq!(cel("json.all(a, a == 1)").check_text(&list(50_000)), Ok(()));
    let told = said(&cel("json.all(a, text.contains('1'))"), &list(50_000));
    assert!(told.ends_with("too large for its loops"), "{told}");
}

#[test]
fn words_and_lengths() {
    let gate = compile(Terms {
        min_length: 4,
        must_contain: vec!["ok".into(), "Grüße".into()],
        ..Terms::default()
    })
    .unwrap();
    assert_eq!(gate.check_text("ok, Grüße"), Ok(()));
    assert_eq!(
        said(&gate, "äöü"),
        "min_length: it has 3 characters and needs at least 4"
    );
    assert_eq!(
        said(&gate, "ok, grüße"),
        "must_contain: it must contain the text \"Grüße\""
    );
}

#[test]
fn a_refusal_is_held_against_no_refusal_alone() {
    let refused = Answered {
        refused: true,
        ..whole("I can't help with that.")
    };
    let strict = |no_refusal| {
        compile(Terms {
            json_schema: Some("false".into()),
            min_length: 1000,
            no_refusal,
            ..Terms::default()
        })
        .unwrap()
    };
    assert_eq!(strict(false).check(&refused), Ok(()));
    let refusal = strict(true).check(&refused).unwrap_err();
    assert_eq!(refusal.to_string(), "no_refusal: it is a refusal");
}

#[test]
fn json_is_demanded_where_it_is_said() {
    let gate = compile(Terms {
        on: On::Json,
        ..Terms::default()
    })
    .unwrap();
    assert_eq!(gate.check_text("[1]"), Ok(()));
    assert_eq!(gate.check_text("```json\n[1]\n```"), Ok(()));
    let cut = Answered {
        limited: true,
        ..whole("[1,")
    };
    assert_eq!(
        gate.check(&cut).unwrap_err().to_string(),
        "json: it is not JSON: EOF while parsing a value at line 1 column 3; the token limit cut it"
    );
    // Without any demand the gate lets all pass, and reads nothing.
    assert_eq!(compile(Terms::default()).unwrap().check_text("[1,"), Ok(()));
}

#[test]
fn an_answer_over_the_limit_is_not_read() {
    let long = format!("\"{}\"", "x".repeat(LONGEST_ANSWER));
    let gate = schema("true");
    assert!(said(&gate, &long).starts_with("length: "));
    let words = compile(Terms {
        must_contain: vec!["x".into()],
        ..Terms::default()
    });
    assert_eq!(words.unwrap().check_text(&long), Ok(()));
}
