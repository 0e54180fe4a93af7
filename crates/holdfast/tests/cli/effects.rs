//! `holdfast effects`.

use serde_json::{Value, json};

use crate::script::{self, Script};
use crate::{against, command, run_with};

fn effect(state: &str) -> Value {
    json!({
        "id": "019a", "state": state, "target": "crm", "key": "note-1", "attempts": 1,
        "due": "2026-11-24T02:20:38.123Z", "created": "2026-11-24T02:20:38.123Z",
        "updated": "2026-11-24T02:20:39.000Z", "requires": [], "error": null, "ticket": "t1",
        "result": {"status": 200, "headers": {}, "body": {"ok": true}},
    })
}

#[test]
fn an_effect_is_sent_with_everything_that_was_said() {
    let script = Script::new(vec![script::json(&effect("done"))]);
    let told = against(
        &script,
        &[
            "effects",
            "send",
            "crm",
            "--payload",
            r#"{"a": 1}"#,
            "--key",
            "note-1",
            "--path",
            "/v1/n",
            "--header",
            "X-A: b",
            "--requires",
            "e1",
            "--run",
            "r",
            "--step",
            "s",
            "--wait",
            "5s",
        ],
    )
    .told();
    insta::assert_snapshot!(told);
    let asked = script.asked();
    assert_eq!(asked[0].line, "POST /v1/effects?wait=5s");
    assert_eq!(
        asked[0].body,
        json!({
            "target": "crm", "payload": {"a": 1}, "key": "note-1", "path": "/v1/n",
            "headers": {"X-A": "b"}, "requires": ["e1"],
        })
    );
    assert_eq!(asked[0].header("holdfast-run"), Some("r"));
    assert_eq!(asked[0].header("holdfast-step"), Some("s"));
}

#[test]
fn a_payload_that_is_no_json_is_text() {
    let script = Script::new(vec![script::json(&effect("recorded"))]);
    let mut command = command(&["effects", "send", "crm", "--payload", "-", "--no-wait"]);
    command.env("HOLDFAST_URL", script.url());
    run_with(command, "hello there").told();
    let asked = script.asked();
    assert_eq!(asked[0].body["payload"], "hello there");
    assert_eq!(asked[0].header("prefer"), Some("respond-async"));
}

#[test]
fn what_did_not_come_about_is_no_success() {
    for (state, words) in [("failed", "is failed"), ("doubt", "nobody knows")] {
        let script = Script::new(vec![script::json(&effect(state))]);
        let outcome = against(&script, &["effects", "send", "crm"]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.err.contains(words), "{}", outcome.err);
        assert!(outcome.out.contains("019a"), "{}", outcome.out);
    }
}

#[test]
fn effects_are_listed_shown_and_cancelled() {
    let list = json!({"effects": [effect("doubt")], "next": null});
    let script = Script::new(vec![script::json(&list)]);
    let told = against(&script, &["effects", "list", "--state", "doubt"]).told();
    assert!(told.contains("019a  doubt"), "{told}");
    let script = Script::new(vec![script::json(&effect("done"))]);
    against(&script, &["effects", "show", "019a", "--wait", "1s"]).told();
    assert_eq!(script.asked()[0].line, "GET /v1/effects/019a?wait=1s");
    let script = Script::new(vec![script::json(&effect("cancelled"))]);
    let told = against(&script, &["effects", "cancel", "019a"]).told();
    assert_eq!(told, "019a is cancelled\n");
}
