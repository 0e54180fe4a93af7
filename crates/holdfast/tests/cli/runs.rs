//! `holdfast runs`.

use serde_json::json;

use crate::against;
use crate::script::{self, Script};

#[test]
fn a_run_is_shown_with_its_timeline() {
    let at = 1_795_486_838_123_i64;
    let run = json!({
        "id": "invoice 4711", "scope": "invoices", "state": "open", "labels": {"flow": "a"},
        "created": at, "seen": at, "expect": ["plan", "send"], "missing": ["send"],
        "timeline": [
            {"at": at, "kind": "run.declared", "id": null, "step": null, "text": "invoice 4711"},
            {"at": at + 1500, "kind": "step.done", "id": null, "step": "plan", "text": ""},
            {"at": at + 2500, "kind": "exchange", "id": "019a", "step": "plan", "text": "fast: whole"},
        ],
        "cut": false,
    });
    let script = Script::new(vec![script::json(&run)]);
    let told = against(
        &script,
        &["runs", "show", "invoice 4711", "--scope", "invoices"],
    )
    .told();
    insta::assert_snapshot!(told);
    let asked = script.asked();
    assert_eq!(asked[0].line, "GET /v1/runs/invoice%204711?scope=invoices");
}

#[test]
fn runs_are_listed_and_ended() {
    let run = json!({"id": "a", "scope": "", "state": "open", "created": 1, "seen": 2});
    let script = Script::new(vec![script::json(&json!({"runs": [run], "next": null}))]);
    let told = against(&script, &["runs", "list"]).told();
    assert!(told.starts_with("STATE"), "{told}");
    let ended = json!({"id": "a", "state": "failed"});
    let script = Script::new(vec![script::json(&ended)]);
    let told = against(&script, &["runs", "end", "a", "failed"]).told();
    assert_eq!(told, "a is failed\n");
    assert_eq!(script.asked()[0].body, json!({"state": "failed"}));
}
