//! `holdfast review`.

use serde_json::{Value, json};

use crate::script::{self, Script};
use crate::{against, command, run_with};

const ID: &str = "019ab3c0f1e27d7c8a4b5c6d7e8f9a0b";

fn ticket() -> Value {
    json!({
        "id": ID,
        "kind": "call",
        "state": "open",
        "title": "every target of `fast` failed\u{1b}[2J",
        "scope": "invoices",
        "subject": "019ab3c0000000000000000000000000",
        "route": "fast",
        "run": "invoice-4711",
        "step": null,
        "key": "k",
        "retry": "on_repeat",
        "created": 1_795_486_838_123_i64,
        "expires": 1_796_091_638_123_i64,
        "attempts": 3,
        "facts": {"code": "HF-013"},
        "fits": ["answer", "retry", "reject", "close"],
        "content": {"path": "/v1/messages", "body": {"model": "fast"}},
    })
}

#[test]
fn a_list_fits_the_terminal() {
    let script = Script::new(vec![script::json(
        &json!({"tickets": [ticket()], "next": ID}),
    )]);
    let outcome = against(
        &script,
        &["review", "list", "--state", "open", "--limit", "1"],
    );
    assert!(
        outcome.err.contains(&format!("--after {ID}")),
        "{}",
        outcome.err
    );
    let told = outcome.told();
    assert!(
        told.lines().all(|line| line.chars().count() <= 80),
        "{told}"
    );
    assert!(
        told.starts_with("ID  ") && told.contains("every target"),
        "{told}"
    );
    assert!(!told.contains('\u{1b}'), "{told}");
    assert_eq!(script.asked()[0].line, "GET /v1/tickets?state=open&limit=1");
}

#[test]
fn an_empty_list_says_so_aside() {
    let script = Script::new(vec![script::json(&json!({"tickets": [], "next": null}))]);
    let outcome = against(&script, &["review", "list"]);
    assert!(outcome.err.contains("no tickets"), "{}", outcome.err);
    assert_eq!(outcome.told(), "");
}

#[test]
fn a_ticket_is_shown_whole() {
    let script = Script::new(vec![script::json(&ticket())]);
    insta::assert_snapshot!(against(&script, &["review", "show", ID]).told());
}

#[test]
fn json_is_what_the_gateway_said() {
    let script = Script::new(vec![script::json(&ticket())]);
    let told = against(&script, &["review", "show", ID, "--json"]).told();
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), ticket());
}

#[test]
fn a_claim_prints_its_fence() {
    let claim = json!({"id": ID, "by": "ana", "fence": 3, "until": 1_795_486_838_123_i64});
    let script = Script::new(vec![script::json(&claim)]);
    let told = against(
        &script,
        &["review", "claim", ID, "--for", "5m", "--by", "ana"],
    )
    .told();
    assert!(
        told.starts_with("claimed by ana until 2026-11-24 02:20:38Z\nfence 3:"),
        "{told}"
    );
    let asked = script.asked();
    assert_eq!(asked[0].line, format!("POST /v1/tickets/{ID}/claim"));
    assert_eq!(asked[0].body, json!({"by": "ana", "for": "5m"}));
}

#[test]
fn an_answer_is_read_from_standard_input() {
    let decided = json!({"consequence": "answered", "ticket": {"state": "resolved"}});
    let script = Script::new(vec![script::json(&decided)]);
    let mut command = command(&["review", "answer", ID, "--text", "-", "--fence", "3"]);
    command.env("HOLDFAST_URL", script.url());
    let told = run_with(command, "It is paid.\n").told();
    assert_eq!(told, format!("{ID} is resolved: answered\n"));
    assert_eq!(
        script.asked()[0].body,
        json!({"text": "It is paid.\n", "fence": 3})
    );
}

#[test]
fn a_whole_answer_is_sent_as_json() {
    let script = Script::new(vec![script::json(
        &json!({"ticket": {"state": "resolved"}}),
    )]);
    let mut command = command(&["review", "answer", ID, "--body", "-"]);
    command.env("HOLDFAST_URL", script.url());
    run_with(command, r#"{"role": "assistant"}"#).told();
    assert_eq!(
        script.asked()[0].body,
        json!({"body": {"role": "assistant"}})
    );
}

#[test]
fn every_decision_goes_its_way() {
    for (args, path, body) in [
        (
            &["release", ID, "--fence", "3"][..],
            "release",
            json!({"fence": 3}),
        ),
        (
            &["reject", ID, "--reason", "no"],
            "reject",
            json!({"reason": "no"}),
        ),
        (
            &["choose", ID, "approve", "--note", "n"],
            "choose",
            json!({"choice": "approve", "note": "n"}),
        ),
        (
            &["effect", ID, "not-done"],
            "effect",
            json!({"outcome": "not_done"}),
        ),
        (
            &["effect", ID, "send-again", "--fence", "9"],
            "effect",
            json!({"outcome": "send_again", "fence": 9}),
        ),
        (&["close", ID, "--by", "ben"], "close", json!({"by": "ben"})),
    ] {
        let script = Script::new(vec![script::json(
            &json!({"ticket": {"state": "resolved"}}),
        )]);
        let args: Vec<&str> = std::iter::once("review")
            .chain(args.iter().copied())
            .collect();
        against(&script, &args).told();
        let asked = script.asked();
        assert_eq!(asked[0].line, format!("POST /v1/tickets/{ID}/{path}"));
        assert_eq!(asked[0].body, body, "{args:?}");
    }
}

#[test]
fn a_retry_that_failed_is_no_success() {
    let failed = json!({"answered": false, "reason": "both vendors are down", "ticket": ticket()});
    let script = Script::new(vec![script::json(&failed)]);
    let outcome = against(&script, &["review", "retry", ID, "--target", "a/b"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.contains("both vendors are down"),
        "{}",
        outcome.err
    );
    assert_eq!(script.asked()[0].body, json!({"target": "a/b"}));
    let answered =
        json!({"answered": true, "consequence": "answered", "ticket": {"state": "resolved"}});
    let script = Script::new(vec![script::json(&answered)]);
    against(&script, &["review", "retry", ID]).told();
}

#[test]
fn somebody_faster_is_told_with_help() {
    let words = "ticket `x` is claimed by ben for another 40 s (HF-032)";
    let script = Script::new(vec![script::refusal(409, "HF-032", words)]);
    let outcome = against(&script, &["review", "claim", "x"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.contains(words) && outcome.err.contains("--fence"),
        "{}",
        outcome.err
    );
}

fn event(seq: u64, kind: &str) -> Value {
    json!({
        "seq": seq, "at": 1_795_486_838_123_i64, "scope": "", "kind": kind, "subject": ID,
        "data": {"title": "a title"},
    })
}

#[test]
fn a_watch_goes_on_where_it_was_cut_off() {
    let first = [event(6, "ticket.opened"), event(7, "effect.done")];
    let second = [event(8, "ticket.decided")];
    let script = Script::new(vec![script::events(&first), script::events(&second)]);
    let args = [
        "review", "watch", "--after", "5", "--kind", "ticket", "--count", "2",
    ];
    let told = against(&script, &args).told();
    assert_eq!(
        told,
        format!(
            "2026-11-24 02:20:38Z  ticket.opened       {ID}\n    a title\n\
             2026-11-24 02:20:38Z  ticket.decided      {ID}\n    a title\n"
        )
    );
    let lines: Vec<String> = script.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /v1/events?after=5", "GET /v1/events?after=7"]);
}

#[test]
fn a_watch_for_programs_has_a_line_for_each_event() {
    let script = Script::new(vec![script::events(&[event(1, "run.orphaned")])]);
    let told = against(&script, &["review", "watch", "--count", "1", "--json"]).told();
    let read: Value = serde_json::from_str(told.trim_end()).unwrap();
    assert_eq!(read["kind"], "run.orphaned");
    assert_eq!(told.lines().count(), 1);
}
