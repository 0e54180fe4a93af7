//! `holdfast approvals`.

use serde_json::{Value, json};

use crate::against;
use crate::script::{self, Script};

fn approval(state: &str, choice: Option<&str>) -> Value {
    json!({
        "id": "019a", "state": state, "question": "Send?", "choices": ["approve", "reject"],
        "choice": choice, "decided_by": choice.map(|_| "ana"), "decided_at": 1_795_486_838_123_i64,
        "created": 1_795_486_838_000_i64, "ticket": "t1", "context": {"count": 40},
    })
}

#[test]
fn a_script_asks_waits_and_reads_the_choice() {
    let script = Script::new(vec![
        script::json(&approval("open", None)),
        script::json(&approval("open", None)),
        script::json(&approval("decided", Some("approve"))),
    ]);
    let told = against(
        &script,
        &[
            "approvals",
            "ask",
            "Send?",
            "--key",
            "batch-17",
            "--context",
            "forty",
            "--wait",
            "1h",
        ],
    )
    .told();
    assert_eq!(told, "approve\n");
    let asked = script.asked();
    assert_eq!(asked[0].line, "POST /v1/approvals");
    assert_eq!(
        asked[0].body,
        json!({"question": "Send?", "key": "batch-17", "context": "forty"})
    );
    assert!(
        asked[1].line.starts_with("GET /v1/approvals/019a?wait="),
        "{}",
        asked[1].line
    );
}

#[test]
fn nobody_who_decides_is_no_success() {
    let script = Script::new(vec![
        script::json(&approval("open", None)),
        script::json(&approval("expired", None)),
    ]);
    let outcome = against(&script, &["approvals", "ask", "Send?", "--wait", "1h"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""));
    assert!(
        outcome.err.contains("nobody has decided"),
        "{}",
        outcome.err
    );
}

#[test]
fn questions_are_listed_shown_and_decided() {
    let list = json!({"approvals": [approval("decided", Some("approve"))], "next": null});
    let script = Script::new(vec![script::json(&list)]);
    let told = against(&script, &["approvals", "list"]).told();
    assert!(told.contains("approve: Send?"), "{told}");
    let script = Script::new(vec![script::json(&approval("decided", Some("approve")))]);
    insta::assert_snapshot!(against(&script, &["approvals", "show", "019a"]).told());
    let script = Script::new(vec![script::json(&approval("decided", Some("reject")))]);
    let args = [
        "approvals",
        "decide",
        "019a",
        "reject",
        "--note",
        "n",
        "--by",
        "ana",
        "--fence",
        "2",
    ];
    assert_eq!(against(&script, &args).told(), "reject, by ana\n");
    let asked = script.asked();
    assert_eq!(
        asked[0].body,
        json!({"choice": "reject", "note": "n", "by": "ana", "fence": 2})
    );
}
