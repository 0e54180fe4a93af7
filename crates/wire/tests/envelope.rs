//! Reading a request's head: tables of good and bad bodies, the getters, and the agreement with
//! `serde_json` on what JSON is.

use holdfast_wire::envelope::{Envelope, Error, Limits};
use proptest::prelude::*;
use serde_json::Value;

fn read(body: &str) -> Result<Envelope<'_>, Error> {
    Envelope::read(body.as_bytes(), &Limits::default())
}

fn good(body: &str) -> Envelope<'_> {
    read(body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn members(body: &str) -> Vec<(String, String)> {
    good(body)
        .members()
        .map(|(key, value)| {
            let value = String::from_utf8(value.to_vec()).expect("the body is text");
            (key.into_owned(), value)
        })
        .collect()
}

#[test]
fn members_are_found_whatever_they_hold() {
    assert_eq!(members("{}"), []);
    assert_eq!(members(" \t\r\n{ \n } \r\n"), []);
    let table = [
        r#""""#,
        r#""a\"b\\\/\b\f\n\r\t\u00e9\ud83e\udd8a""#,
        r#""é🦊 ]}[{,:""#,
        "\"\u{7f}\u{80}\"",
        "0",
        "-0",
        "-0.0",
        "12.50e-10",
        "1E+2",
        "1e5",
        "99999999999999999999999999",
        "true",
        "false",
        "null",
        "[]",
        "[ ]",
        "{}",
        "{\n}",
        r#"[1,[2,{"a":[]}],"]"]"#,
        r#"{"a":{"b":{"c":[{},[],""]}},"a":1}"#,
    ];
    for value in table {
        let body = format!(" {{ \"x\"\t:\n{value} ,\r\"y\":{value}}}\n");
        assert_eq!(
            members(&body),
            [("x".into(), value.into()), ("y".into(), value.into())],
        );
    }
}

#[test]
fn bad_syntax_is_refused_where_it_is() {
    let table = [
        ("", 0, "there is nothing"),
        (" \n", 2, "there is nothing"),
        (
            "\u{feff}{}",
            0,
            "there is a byte order mark, which JSON does not allow",
        ),
        ("<html>", 0, "a value was expected"),
        ("{", 1, "the body ends where a key was expected"),
        ("{,}", 1, "a key in double quotes was expected"),
        ("{a:1}", 1, "a key in double quotes was expected"),
        ("{'a':1}", 1, "a key in double quotes was expected"),
        (r#"{"a"}"#, 4, "a colon was expected"),
        (r#"{"a" 1}"#, 5, "a colon was expected"),
        (r#"{"a":}"#, 5, "a value was expected"),
        (r#"{"a":1,}"#, 7, "a key in double quotes was expected"),
        (
            r#"{"a":1 "b":2}"#,
            7,
            "a comma or the object's end was expected",
        ),
        (r#"{"a":1]"#, 6, "a comma or the object's end was expected"),
        (r#"{"a":[1}"#, 7, "a comma or the array's end was expected"),
        (r#"{"a":[1,]}"#, 8, "a value was expected"),
        (r#"{"a":[,1]}"#, 6, "a value was expected"),
        (
            r#"{"a":[{"b":1]}"#,
            12,
            "a comma or the object's end was expected",
        ),
        (r#"{"a":01}"#, 6, "a comma or the object's end was expected"),
        (r#"{"a":+1}"#, 5, "a value was expected"),
        (r#"{"a":.5}"#, 5, "a value was expected"),
        (r#"{"a":-}"#, 6, "a digit was expected"),
        (r#"{"a":1.}"#, 7, "a digit was expected"),
        (r#"{"a":1e}"#, 7, "a digit was expected"),
        (r#"{"a":1e+}"#, 8, "a digit was expected"),
        (r#"{"a":NaN}"#, 5, "a value was expected"),
        (r#"{"a":nul}"#, 5, "true, false or null was expected"),
        (r#"{"a":True}"#, 5, "a value was expected"),
        (r#"{"a":"\x"}"#, 6, "there is an unknown escape in a string"),
        (
            r#"{"a":"\u12g4"}"#,
            6,
            "\\u is not followed by four hex digits",
        ),
        (r#"{"a":"\u12"#, 6, "\\u is not followed by four hex digits"),
        (
            "{\"a\":\"x\ny\"}",
            7,
            "a control character stands unescaped in a string",
        ),
        (
            "{\"a\":\"\u{0}\"}",
            6,
            "a control character stands unescaped in a string",
        ),
        (r#"{"a":"x"#, 7, "the body ends inside a string"),
        (r#"{"a":"x\"#, 7, "the body ends inside a string"),
        ("{\u{a0}}", 1, "a key in double quotes was expected"),
        ("{\u{c}}", 1, "a key in double quotes was expected"),
        ("{/*c*/}", 1, "a key in double quotes was expected"),
    ];
    for (body, offset, why) in table {
        assert_eq!(
            read(body).unwrap_err(),
            Error::NotJson { offset, why },
            "{body:?}"
        );
    }
}

#[test]
fn other_refusals_say_what_and_where() {
    let other = ["[]", " [1]", "\"a\"", "1", "-1", "true", "false", "null"];
    for body in other {
        let offset = body.len() - body.trim_start().len();
        assert_eq!(read(body).unwrap_err(), Error::NotAnObject { offset });
    }
    for body in ["{}x", "{} {}", "{}\n,", "{}\u{0}"] {
        let offset = body[2..].trim_start().as_ptr().addr() - body.as_ptr().addr();
        assert_eq!(read(body).unwrap_err(), Error::Trailing { offset });
    }
    let not_utf8 = Envelope::read(b"{\"a\":\"\xff\"}", &Limits::default());
    assert_eq!(not_utf8.unwrap_err(), Error::NotUtf8 { offset: 6 });
    let cut_character = Envelope::read(
        "{\"a\":\"é".as_bytes().split_last().unwrap().1,
        &Limits::default(),
    );
    assert_eq!(cut_character.unwrap_err(), Error::NotUtf8 { offset: 6 });
}

#[test]
fn a_refusal_is_a_sentence() {
    let said = |body| read(body).unwrap_err().to_string();
    assert_eq!(
        said(r#"{"a":1,}"#),
        "the body is not valid JSON: at byte 7, a key in double quotes was expected",
    );
    assert_eq!(
        said(r#"{"n":1,"n":2}"#),
        "the body has `n` twice, the second time at byte 7: which one counts is unclear",
    );
    assert_eq!(
        said(r#"{"model":3}"#),
        "`model` must be a string, at byte 9",
    );
}

#[test]
fn a_member_that_decides_stands_once() {
    let deciding = [
        "model",
        "stream",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "tools",
        "stream_options",
        "response_format",
        "output_config",
    ];
    for key in deciding {
        let value = match key {
            "model" => "\"m\"",
            "stream" => "true",
            _ => "[]",
        };
        let body = format!(r#"{{"{key}":{value}, "{key}":{value}}}"#);
        let offset = body.rfind(&format!("\"{key}\"")).unwrap();
        assert_eq!(
            read(&body).unwrap_err(),
            Error::DuplicateKey { offset, key }
        );

        let first = key.as_bytes()[0];
        let escaped = format!(
            r#"{{"\u{first:04x}{}":{value}, "{key}":{value}}}"#,
            &key[1..]
        );
        assert!(matches!(
            read(&escaped).unwrap_err(),
            Error::DuplicateKey { key: found, .. } if found == key
        ));
    }
    // Inside, and for members that are only passed on, the vendor's own reading counts.
    let body = r#"{"metadata":{"model":1,"model":2},"x":1,"x":2}"#;
    assert_eq!(good(body).member("x"), Some(&b"2"[..]));
}

#[test]
fn an_escaped_key_is_that_key() {
    let envelope = good(r#"{"mod\u0065l":"a\u002fb","\ud800":1,"a\/b":2}"#);
    assert_eq!(envelope.model().unwrap(), "a/b");
    assert_eq!(envelope.member("a/b"), Some(&b"2"[..]));
    let keys: Vec<_> = envelope
        .members()
        .map(|(key, _)| key.into_owned())
        .collect();
    assert_eq!(keys, ["model", "\\ud800", "a/b"]);
}

#[test]
fn nesting_has_a_limit_and_needs_no_stack() {
    let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(127)).is_ok());
    assert_eq!(
        read(&nested(128)).unwrap_err(),
        Error::TooDeep {
            offset: 5 + 127,
            limit: 128
        },
    );
    let limits = |depth| Limits {
        depth,
        ..Limits::default()
    };
    for body in [
        nested(100_000),
        "{\"a\":".repeat(100_000),
        "[".repeat(100_000),
    ] {
        for depth in [0, 128, usize::MAX] {
            let error = Envelope::read(body.as_bytes(), &limits(depth)).unwrap_err();
            assert!(matches!(
                error,
                Error::TooDeep { .. } | Error::NotAnObject { .. }
            ));
        }
    }
    assert!(Envelope::read(nested(1023).as_bytes(), &limits(usize::MAX)).is_ok());
    // Kinds are told apart over more than one word of bits.
    let mixed = format!("{}{}", "{\"a\":[".repeat(64), "]}".repeat(64));
    assert!(read(&mixed).is_ok());
    let crossed = format!("{}{}", "{\"a\":[".repeat(64), "}]".repeat(64));
    assert!(matches!(read(&crossed), Err(Error::NotJson { .. })));
}

#[test]
fn members_have_a_limit() {
    let body = |count: usize| {
        let members: Vec<_> = (0..count).map(|at| format!("\"k{at}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!(good(&body(1024)).members().count(), 1024);
    assert!(matches!(
        read(&body(1025)).unwrap_err(),
        Error::TooManyMembers { limit: 1024, .. }
    ));
}

#[test]
fn getters_read_what_is_there() {
    let envelope = good(
        r#"{"model":"claude","stream":true,"max_tokens":64000,"n":2,"tools":[{}],
            "stream_options":{"include_usage":true},"x":null}"#,
    );
    assert_eq!(envelope.model().as_deref(), Some("claude"));
    assert!(matches!(
        envelope.model(),
        Some(std::borrow::Cow::Borrowed(_))
    ));
    assert_eq!(envelope.stream(), Some(true));
    assert_eq!(envelope.max_tokens(), Some(64_000));
    assert_eq!(envelope.n(), Some(2));
    assert!(envelope.has_tools());
    assert!(envelope.include_usage());
    assert!(envelope.has_member("x"));
    assert_eq!(envelope.member("x"), Some(&b"null"[..]));
    assert!(!envelope.has_member("y"));

    let empty = good("{}");
    assert_eq!(empty.model(), None);
    assert_eq!(empty.stream(), None);
    assert_eq!(empty.max_tokens(), None);
    assert_eq!(empty.n(), None);
    assert!(!empty.has_tools());
    assert!(!empty.include_usage());
    assert!(!empty.wants_json());
    assert!(!empty.last_message_has_tool_result());
}

#[test]
fn getters_hold_against_odd_values() {
    assert_eq!(good(r#"{"stream":null}"#).stream(), None);
    assert_eq!(good(r#"{"stream": false }"#).stream(), Some(false));
    for tokens in ["-1", "1.5", "null", "\"9\"", "99999999999999999999"] {
        let body = format!("{{\"max_tokens\":{tokens}}}");
        assert_eq!(good(&body).max_tokens(), None);
    }
    assert_eq!(
        good(r#"{"max_tokens":1,"max_completion_tokens":2}"#).max_tokens(),
        Some(2),
    );
    for tools in ["null", "[]", "[ \n]"] {
        assert!(!good(&format!("{{\"tools\":{tools}}}")).has_tools());
    }
    for options in [
        "null",
        "{}",
        "{\"include_usage\":null}",
        "[]",
        "{\"include_usage\":1}",
    ] {
        let body = format!("{{\"stream_options\":{options}}}");
        assert!(!good(&body).include_usage(), "{body}");
    }
    for body in [
        r#"{"model":1}"#,
        r#"{"model":null}"#,
        r#"{"model":["a"]}"#,
        r#"{"model":"\ud800"}"#,
    ] {
        assert!(matches!(
            read(body),
            Err(Error::WrongType {
                key: "model",
                offset: 9,
                ..
            })
        ));
    }
    for stream in ["1", "\"true\"", "{}", "[]"] {
        let body = format!("{{\"stream\":{stream}}}");
        assert!(matches!(
            read(&body),
            Err(Error::WrongType { key: "stream", .. })
        ));
    }
}

#[test]
fn a_tool_result_in_the_last_message_is_seen() {
    let yes = [
        r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"x"}]}]"#,
        r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"tool_result"}]}]"#,
        r#"[{"role":"assistant","content":"a"},{"content":"4","role":"tool","tool_call_id":"c"}]"#,
        r#"[{"role":"function","name":"f","content":"4"}]"#,
        r#"[{"role":"tool","content":"4"},{"role":"system","content":"s"}]"#,
        r#"[{"role":"user","content":[{"type":"tool_\u0072esult"}]},{"role":"system","content":[]}]"#,
        r#"[1,2,3,4,5,6,{"role":"tool"} ]"#,
    ];
    let no = [
        "[]",
        "null",
        "{}",
        r#""tool""#,
        "[1]",
        "[{}]",
        r#"[{"role":1}]"#,
        r#"[{"role":"user","content":"tool_result"}]"#,
        r#"[{"role":"user","content":null}]"#,
        r#"[{"role":"user","content":[{"type":"text","text":"tool_result"}]}]"#,
        r#"[{"role":"user","content":[{"x":{"type":"tool_result"}}]}]"#,
        r#"[{"role":"tool","content":"4"},{"role":"user","content":"go on"}]"#,
        r#"[{"role":"tool","content":"4"},{"role":"assistant","content":"done"}]"#,
        r#"[{"role":"system","content":"s"}]"#,
    ];
    for (messages, expected) in yes
        .map(|it| (it, true))
        .into_iter()
        .chain(no.map(|it| (it, false)))
    {
        let body = format!("{{\"messages\":{messages},\"model\":\"m\"}}");
        assert_eq!(
            good(&body).last_message_has_tool_result(),
            expected,
            "{messages}"
        );
    }
}

#[test]
fn a_wish_for_json_is_seen() {
    let table = [
        (r#"{"response_format":{"type":"json_object"}}"#, true),
        (
            r#"{"response_format":{"type":"json_schema","json_schema":{}}}"#,
            true,
        ),
        (r#"{"response_format":{"type":"text"}}"#, false),
        (r#"{"response_format":null}"#, false),
        (r#"{"response_format":{"type":"grammar"}}"#, true),
        (
            r#"{"output_config":{"format":{"type":"json_schema","schema":{}}}}"#,
            true,
        ),
        (
            r#"{"output_config":{"format":null,"effort":"high"}}"#,
            false,
        ),
        (r#"{"output_config":{"effort":"high"}}"#, false),
        (r#"{"output_config":null}"#, false),
        (
            r#"{"output_config":{"format":{}},"response_format":{"type":"text"}}"#,
            true,
        ),
    ];
    for (body, expected) in table {
        assert_eq!(good(body).wants_json(), expected, "{body}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let body = concat!(
        r#" {"model":"cl\u0061ude","stream":true,"n":-1.5e+3,"x":[1,{"a":null},[]],"#,
        r#""messages":[{"role":"user","content":"é🦊\n"}],"f":false} "#
    );
    assert!(read(body).is_ok());
    for end in 0..body.len() - 1 {
        let cut = Envelope::read(&body.as_bytes()[..end], &Limits::default());
        assert!(cut.is_err(), "{end}");
    }
}

/// Text that is JSON or nearly so.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        6 => prop::sample::select(vec!["{", "}", "[", "]", ":", ",", "\"", "\\", " ", "\n"]),
        3 => prop::sample::select(vec!["\"a\":", "\"model\":", "\"messages\":", "\"stream\":", "\"b\""]),
        3 => prop::sample::select(vec!["0", "1", "-", ".", "e", "+", "true", "false", "null", "tru"]),
        2 => prop::sample::select(vec!["{\"a\":1}", "[1]", "[[{}]]", "\"x\\n\"", "\\u00e9", "\\ud800"]),
        1 => prop::sample::select(vec!["é", "\u{feff}", "\u{1}", "🦊", "longer than eight bytes"]),
    ];
    prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat().into_bytes())
}

/// `serde_json`'s opinion, without its own readings of numbers and escapes.
fn is_object(body: &[u8]) -> bool {
    let raw: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(body);
    raw.is_ok_and(|raw| raw.get().starts_with('{'))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let read = Envelope::read(&body, &Limits::default());
        prop_assert_eq!(read.is_ok(), is_object(&body));
    }

    #[test]
    fn json_is_what_serde_json_says(inner in nearly_json(), wrap in any::<bool>()) {
        let body = if wrap { [b"{\"x\":", &inner[..], b"}"].concat() } else { inner };
        match Envelope::read(&body, &Limits::default()) {
            Ok(envelope) => {
                prop_assert!(is_object(&body));
                // Every getter can be asked of every body.
                let _ = (envelope.model(), envelope.max_tokens(), envelope.n());
                let _ = (envelope.has_tools(), envelope.include_usage(), envelope.wants_json());
                let _ = envelope.last_message_has_tool_result();
                if let Ok(Value::Object(tree)) = serde_json::from_slice(&body) {
                    for (key, value) in &tree {
                        let member: Value =
                            serde_json::from_slice(envelope.member(key).unwrap()).unwrap();
                        prop_assert_eq!(&member, value);
                    }
                }
            }
            Err(Error::DuplicateKey { .. } | Error::WrongType { .. }) => {
                prop_assert!(is_object(&body));
            }
            Err(error) => {
                prop_assert!(!is_object(&body), "{}", error);
                prop_assert!(error.offset() <= body.len());
            }
        }
    }
}
