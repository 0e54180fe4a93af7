//! Edits of a body: what they name changes, every other byte stays.

use holdfast_wire::envelope::{Edit, Envelope, Limits, Part};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn read(body: &str) -> Envelope<'_> {
    Envelope::read(body.as_bytes(), &Limits::default())
        .unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn splice(body: &str, edits: &[Edit<'_>]) -> String {
    String::from_utf8(read(body).splice(edits)).expect("edits are text")
}

fn set<'e>(key: &'e str, json: &'e str) -> Edit<'e> {
    let json = json.as_bytes();
    Edit::SetMember { key, json }
}

fn remove(key: &str) -> Edit<'_> {
    Edit::RemoveMember { key }
}

fn append(elements: &str) -> Edit<'_> {
    let json_elements = elements.as_bytes();
    Edit::AppendMessages { json_elements }
}

#[test]
fn a_member_is_set() {
    let table = [
        (r#"{ "model" : "a" , "x":1}"#, r#"{ "model" : 9 , "x":1}"#),
        (r#" {"x":[ 1 ]} "#, r#" {"model":9,"x":[ 1 ]} "#),
        ("{}", r#"{"model":9}"#),
        ("{ \n}", "{\"model\":9 \n}"),
        (r#"{"mod\u0065l":"a"}"#, r#"{"mod\u0065l":9}"#),
    ];
    for (body, expected) in table {
        assert_eq!(splice(body, &[set("model", "9")]), expected);
    }
    assert_eq!(
        splice(r#"{"x":1,"y":2,"x":3}"#, &[set("x", "0")]),
        r#"{"x":0,"y":2,"x":0}"#
    );
    assert_eq!(splice("{}", &[set("a\"\n", "0")]), r#"{"a\"\n":0}"#);
}

#[test]
fn a_member_is_removed_with_one_comma() {
    let table = [
        (r#"{"x":1}"#, "{}"),
        (r#"{ "x" : 1 }"#, "{  }"),
        (r#"{ "x":1 , "y":2 }"#, r#"{ "y":2 }"#),
        (r#"{ "y":2 , "x":1 }"#, r#"{ "y":2 }"#),
        (r#"{"y":2, "x":1, "z":3}"#, r#"{"y":2, "z":3}"#),
        (r#"{"x":1,"x":2,"y":2,"x":3,"x":4}"#, r#"{"y":2}"#),
        (r#"{"x":1, "x":2}"#, "{}"),
        (r#"{"\u0078":1,"y":2}"#, r#"{"y":2}"#),
        (r#"{"y":2}"#, r#"{"y":2}"#),
    ];
    for (body, expected) in table {
        assert_eq!(splice(body, &[remove("x")]), expected);
    }
}

#[test]
fn messages_are_appended() {
    let table = [
        (r#"{"messages":[]}"#, r#"{"messages":[7]}"#),
        (r#"{"messages":[ ]}"#, r#"{"messages":[ 7]}"#),
        (
            r#"{"messages":[{} ],"x":1}"#,
            r#"{"messages":[{} ,7],"x":1}"#,
        ),
        (r#"{"x":1}"#, r#"{"messages":[7],"x":1}"#),
        ("{}", r#"{"messages":[7]}"#),
        (r#"{"messages":"?"}"#, r#"{"messages":"?"}"#),
    ];
    for (body, expected) in table {
        assert_eq!(splice(body, &[append("7")]), expected);
    }
    let body = r#"{"messages":[]}"#;
    assert_eq!(
        splice(body, &[append("7,8"), append("9")]),
        r#"{"messages":[7,8,9]}"#
    );
    assert_eq!(splice(body, &[append(" ")]), body);
    assert_eq!(splice("{}", &[append("")]), "{}");
}

#[test]
fn several_edits_go_together() {
    let body = r#"{"a":1, "model":"m", "messages":[1], "stream":false}"#;
    let edits = [
        remove("a"),
        set("new", "{}"),
        set("stream", "true"),
        append("2"),
        set("model", "\"n\""),
        set("newer", "[]"),
    ];
    assert_eq!(
        splice(body, &edits),
        r#"{"new":{},"newer":[],"model":"n", "messages":[1,2], "stream":true}"#,
    );
    assert_eq!(
        splice(r#"{"a":1}"#, &[remove("a"), set("b", "2")]),
        r#"{"b":2}"#
    );
    assert_eq!(
        splice(r#"{"messages":[1] ,"z":1}"#, &[remove("z"), append("2")]),
        r#"{"messages":[1,2]}"#,
    );
}

#[test]
fn the_later_edit_of_a_key_wins() {
    let body = r#"{"x":1,"messages":[1]}"#;
    assert_eq!(
        splice(body, &[set("x", "2"), set("x", "3")]),
        r#"{"x":3,"messages":[1]}"#
    );
    assert_eq!(
        splice(body, &[set("x", "2"), remove("x")]),
        r#"{"messages":[1]}"#
    );
    assert_eq!(
        splice(body, &[remove("x"), set("x", "2")]),
        r#"{"x":2,"messages":[1]}"#
    );
    assert_eq!(splice("{}", &[set("x", "2"), remove("x")]), "{}");
    assert_eq!(
        splice(body, &[set("messages", "[ 5 ]"), append("6")]),
        r#"{"x":1,"messages":[ 5 ,6]}"#,
    );
    assert_eq!(
        splice(body, &[append("6"), set("messages", "[]"), append("7")]),
        r#"{"x":1,"messages":[7]}"#,
    );
    assert_eq!(
        splice(body, &[remove("messages"), append("6")]),
        r#"{"x":1,"messages":[6]}"#
    );
    assert_eq!(
        splice(body, &[append("6"), remove("messages")]),
        r#"{"x":1}"#
    );
}

#[test]
fn no_edit_is_the_body_itself() {
    let body = " { \"a\" : 1 }\n";
    assert_eq!(splice(body, &[]), body);
    assert_eq!(
        read(body)
            .splice_parts(&[])
            .iter()
            .map(Part::as_bytes)
            .collect::<Vec<_>>()
            .concat(),
        body.as_bytes()
    );
}

#[test]
fn another_model_is_named() {
    let envelope = read(r#"{"model":"a","messages":[]}"#);
    assert_eq!(
        envelope.set_model("b\"\u{e9}"),
        "{\"model\":\"b\\\"\u{e9}\",\"messages\":[]}".as_bytes()
    );
}

#[test]
fn parts_are_slices_of_the_body() {
    let body = bytes::Bytes::from(r#"{"model":"a","messages":[1,2,3]}"#);
    let envelope = Envelope::read(&body, &Limits::default()).unwrap();
    let parts = envelope.splice_parts(&[set("model", "\"b\"")]);
    let kept: Vec<_> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Kept(slice) => Some(body.slice_ref(slice)),
            Part::New(_) => None,
        })
        .collect();
    assert_eq!(kept, [r#"{"model":"#, r#","messages":[1,2,3]}"#]);
}

const KEYS: [&str; 8] = [
    "model",
    "messages",
    "stream",
    "n",
    "x",
    "y",
    "é\"",
    "x-long-key",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A value that fits its key well enough to be read.
fn fitting(key: &str, value: Value) -> Value {
    match key {
        "model" => json!(value.to_string()),
        "stream" => json!(value.is_null()),
        "messages" => json!([value]),
        _ => value,
    }
}

/// A member as written: odd spaces, and keys that are sometimes spelt in escapes.
#[derive(Clone, Debug)]
struct Written {
    key: &'static str,
    spelt: String,
    value: Value,
    text: String,
    spaces: [&'static str; 4],
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", " ", "\n\t", "\r\n  "])
}

fn object() -> impl Strategy<Value = Vec<Written>> {
    let member = (
        any::<bool>(),
        any::<bool>(),
        value(),
        [space(), space(), space(), space()],
    );
    let keys = prop::sample::subsequence(KEYS.to_vec(), 0..=KEYS.len()).prop_shuffle();
    (keys, prop::collection::vec(member, KEYS.len())).prop_map(|(keys, members)| {
        let write =
            |(key, (escaped, pretty, value, spaces)): (&'static str, (bool, bool, _, _))| {
                let value = fitting(key, value);
                let spelt = if escaped {
                    in_escapes(key)
                } else {
                    key.replace('"', "\\\"")
                };
                let text = if pretty {
                    serde_json::to_string_pretty(&value)
                } else {
                    serde_json::to_string(&value)
                };
                let text = text.expect("a tree can be written");
                Written {
                    key,
                    spelt,
                    value,
                    text,
                    spaces,
                }
            };
        keys.into_iter().zip(members).map(write).collect()
    })
}

/// Every character as `\uXXXX`.
fn in_escapes(key: &str) -> String {
    let units: Vec<String> = key
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04X}"))
        .collect();
    units.concat()
}

fn body_of(members: &[Written]) -> String {
    let written: Vec<String> = members
        .iter()
        .map(|it| {
            let [a, b, c, d] = it.spaces;
            format!("{a}\"{}\"{b}:{c}{}{d}", it.spelt, it.text)
        })
        .collect();
    format!(" {{{}}}\n", written.join(","))
}

/// An edit: set to a value, remove, or append one message.
#[derive(Clone, Debug)]
enum Wish {
    Set(&'static str, String),
    Remove(&'static str),
    Append(String),
}

fn wish() -> impl Strategy<Value = Wish> {
    let keys = prop::sample::select(KEYS.to_vec());
    prop_oneof![
        3 => (keys.clone(), value())
            .prop_map(|(key, value)| Wish::Set(key, fitting(key, value).to_string())),
        3 => keys.prop_map(Wish::Remove),
        2 => value().prop_map(|value| Wish::Append(value.to_string())),
    ]
}

fn edits(wishes: &[Wish]) -> Vec<Edit<'_>> {
    let edit = |wish| match wish {
        &Wish::Set(key, ref json) => set(key, json),
        &Wish::Remove(key) => remove(key),
        Wish::Append(element) => append(element),
    };
    wishes.iter().map(edit).collect()
}

/// The same edits on a tree.
fn apply(tree: &mut Map<String, Value>, wish: &Wish) {
    let parse = |json: &str| serde_json::from_str::<Value>(json).expect("written from a tree");
    match wish {
        Wish::Set(key, json) => {
            tree.insert((*key).into(), parse(json));
        }
        Wish::Remove(key) => {
            tree.remove(*key);
        }
        Wish::Append(element) => {
            let messages = tree.entry("messages").or_insert_with(|| json!([]));
            let messages = messages.as_array_mut().expect("always written as an array");
            messages.push(parse(element));
        }
    }
}

fn touches(wish: &Wish, key: &str) -> bool {
    match wish {
        Wish::Set(it, _) | Wish::Remove(it) => *it == key,
        Wish::Append(_) => key == "messages",
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn edits_do_what_they_do_to_a_tree(
        members in object(),
        wishes in prop::collection::vec(wish(), 0..6),
    ) {
        let body = body_of(&members);
        let spliced = splice(&body, &edits(&wishes));

        let mut tree: Map<String, Value> =
            members.iter().map(|it| (it.key.to_owned(), it.value.clone())).collect();
        for wish in &wishes {
            apply(&mut tree, wish);
        }
        let got: Value = serde_json::from_str(&spliced).unwrap();
        prop_assert_eq!(got, Value::Object(tree), "{}", spliced);

        // What no edit names stays as it was written, in its order.
        let after = read(&spliced);
        let mut rest = after.members().filter(|(key, _)| !wishes.iter().any(|it| touches(it, key)));
        for member in &members {
            if !wishes.iter().any(|it| touches(it, member.key)) {
                let (key, value) = rest.next().unwrap();
                prop_assert_eq!(key, member.key);
                prop_assert_eq!(value, member.text.as_bytes());
                let written = format!("\"{}\"{}:{}{}", member.spelt, member.spaces[1], member.spaces[2], member.text);
                prop_assert!(spliced.contains(&written));
            }
        }
        prop_assert_eq!(rest.next(), None);

        prop_assert_eq!(splice(&body, &[]), body);
    }
}
