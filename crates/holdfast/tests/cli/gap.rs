//! `holdfast gap`, as a program sees it.

use serde_json::{Value, json};

use crate::script::{self, Script};
use crate::{against, holdfast};

#[test]
fn figures_need_no_gateway() {
    let told = holdfast(&["gap", "--steps", "6", "--reliability", "0.99", "--json"]).told();
    let read: Value = serde_json::from_str(&told).unwrap();
    let chain = read["chain"]["value"].as_f64().unwrap();
    assert!((chain - 0.941_480_149_401).abs() < 1e-9, "{chain}");
    assert_eq!(read["warning"]["unsupervised"], 6);
}

fn run(id: &str, state: &str, outcome: &str) -> Value {
    json!({
        "id": id, "scope": "flow", "state": state, "labels": {"flow": "a"}, "expect": [],
        "steps": [], "effects": [], "tickets": [], "approvals": [],
        "exchanges": [
            {"step": "plan", "outcome": "whole", "created": 1, "facts": {"attempts": []}},
            {"step": "send", "outcome": outcome, "created": 2, "facts": {"attempts": []}},
        ],
    })
}

#[test]
fn a_ledger_is_read_page_by_page() {
    let other = json!({"id": "c", "scope": "flow", "labels": {"flow": "b"}});
    let script = Script::new(vec![
        script::json(&json!({"runs": [run("a", "done", "whole"), other], "next": "1/c"})),
        script::json(&json!({"runs": [run("b", "failed", "told")], "next": null})),
        script::json(&run("a", "done", "whole")),
        script::json(&run("b", "failed", "told")),
    ]);
    let told = against(&script, &["gap", "--label", "flow=a", "--json"]).told();
    let read: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(read["steps"][0]["name"], "plan");
    assert_eq!(
        (&read["steps"][1]["ok"], &read["steps"][1]["total"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        (&read["runs"][0]["ok"], &read["runs"][0]["total"]),
        (&json!(1), &json!(2))
    );
    let lines: Vec<String> = script.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/runs?limit=500",
            "GET /v1/runs?limit=500&after=1%2Fc",
            "GET /v1/runs/a?scope=flow",
            "GET /v1/runs/b?scope=flow",
        ]
    );
}

#[test]
fn an_empty_ledger_is_no_success() {
    let script = Script::new(vec![script::json(&json!({"runs": [], "next": null}))]);
    let outcome = against(&script, &["gap"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("Holdfast-Run"), "{}", outcome.err);
}
