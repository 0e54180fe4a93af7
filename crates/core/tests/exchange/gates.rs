//! Gates: answers that are whole and not good enough.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::breaker::Report;
use holdfast_core::exchange::{Action, Ask, Outcome, Record, Setup};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::gate::{Answered, Gate, Gated, LONGEST_HELD_BACK, LONGEST_REASON, Refusal};
use holdfast_core::judge::Verdict;
use holdfast_core::plan::{Health, Leave};
use holdfast_core::policy::Delivery;
use holdfast_core::time::Time;
use holdfast_wire::turn::Dialect::{self, Anthropic, OpenAi};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::drive::{
    DELIVERIES, DIALECTS, End, Free, Reply, converse, conversed, once, talk, target,
};

/// Lets only answers with this word in it pass.
#[derive(Debug)]
struct Must(&'static str);

impl Gate for Must {
    fn check(&self, answer: &Answered<'_>) -> Result<(), Refusal> {
        if answer.text.contains(self.0) && !answer.refused {
            return Ok(());
        }
        Err(Refusal::new(
            "must_contain",
            format!("`{}` is missing", self.0),
        ))
    }
}

fn gated(
    caller: Dialect,
    stream: bool,
    vendors: &[Dialect],
    delivery: Delivery,
    asks: u32,
) -> Setup {
    let mut setup = once(caller, stream, caller, delivery);
    setup.policy.max_attempts = 6;
    setup.policy.attempts_per_target = 1;
    setup.targets = vendors.iter().map(|vendor| target(*vendor)).collect();
    setup.gate = Some(Gated {
        gate: Arc::new(Must("good")),
        asks,
    });
    setup
}

fn says(dialect: Dialect, text: &str) -> Reply {
    Reply::Stream(match dialect {
        OpenAi => {
            let chunk = |choice: Value| {
                format!(
                    "data: {}\n\n",
                    json!({"id": "c", "model": "m", "choices": [choice]})
                )
            };
            let delta = json!({"role": "assistant", "content": text});
            let first = json!({"index": 0, "delta": delta, "finish_reason": null});
            let last = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
            chunk(first) + &chunk(last) + "data: [DONE]\n\n"
        }
        Anthropic => {
            let text = json!({"type": "text_delta", "text": text});
            let block = json!({"type": "text", "text": ""});
            let usage = json!({"output_tokens": 3});
            let message = json!({"id": "m", "type": "message", "role": "assistant", "content": []});
            [
                json!({"type": "message_start", "message": message}),
                json!({"type": "content_block_start", "index": 0, "content_block": block}),
                json!({"type": "content_block_delta", "index": 0, "delta": text}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
                json!({"type": "message_stop"}),
            ]
            .iter()
            .map(|event| {
                let name = event["type"].as_str().unwrap();
                format!("event: {name}\ndata: {event}\n\n")
            })
            .collect::<Vec<String>>()
            .concat()
        }
    })
}

/// Who was asked what.
fn asks(actions: &[Action]) -> Vec<(usize, Ask)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(send) => Some((send.target, send.ask.clone())),
            _ => None,
        })
        .collect()
}

fn text_of(end: &End) -> String {
    let bytes = end.body.as_deref().unwrap_or(&end.shown);
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_target_is_asked_again_with_the_reason() {
    for caller in DIALECTS {
        for vendor in DIALECTS {
            for stream in [false, true] {
                let setup = gated(caller, stream, &[vendor], Delivery::Whole, 1);
                let replies = vec![says(vendor, "poor"), says(vendor, "good")];
                let (end, actions) = talk(setup, replies);
                assert_eq!(end.outcome, Outcome::Delivered(Verdict::Whole));
                let text = text_of(&end);
                assert!(text.contains("good") && !text.contains("poor"), "{text}");
                let asked = asks(&actions);
                assert_eq!(asked[0], (0, Ask::Original));
                let (0, Ask::Resume { messages }) = &asked[1] else {
                    panic!("{asked:?}");
                };
                let messages: Vec<Value> = messages
                    .iter()
                    .map(|message| serde_json::from_slice(message).unwrap())
                    .collect();
                assert_eq!(messages[0], json!({"role": "assistant", "content": "poor"}));
                assert_eq!(messages[1]["role"], "user");
                let reason = messages[1]["content"].as_str().unwrap();
                assert!(reason.contains("`good` is missing"), "{reason}");
            }
        }
    }
}

#[test]
fn then_the_next_target_gets_the_question_as_it_was() {
    for stream in [false, true] {
        let setup = gated(Anthropic, stream, &[Anthropic, OpenAi], Delivery::Whole, 1);
        let replies = vec![
            says(Anthropic, "poor"),
            says(Anthropic, "worse"),
            says(OpenAi, "good"),
        ];
        let (end, actions) = talk(setup, replies);
        assert_eq!(end.outcome, Outcome::Delivered(Verdict::Whole));
        let asked = asks(&actions);
        assert!(matches!(asked[1], (0, Ask::Resume { .. })));
        assert_eq!(asked[2], (1, Ask::Original));
    }
}

#[test]
fn at_the_end_the_caller_is_told_which_check_it_was() {
    for (asks, replies) in [(0, 1), (1, 2), (3, 4)] {
        let setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, asks);
        let replies = (0..replies).map(|_| says(OpenAi, "poor")).collect();
        let (end, _) = talk(setup, replies);
        let Outcome::Told(fault) = &end.outcome else {
            panic!("{end:?}");
        };
        assert_eq!(fault.code, Code::GateFailed);
        assert!(
            fault.message.contains("must_contain: `good` is missing"),
            "{fault:?}"
        );
        assert_eq!((&end.body, end.shown.len()), (&None, 0));
    }
}

#[test]
fn asking_again_counts_as_an_attempt() {
    let mut setup = gated(OpenAi, false, &[OpenAi, OpenAi], Delivery::Guarded, 9);
    setup.policy.max_attempts = 3;
    let replies = (0..3).map(|_| says(OpenAi, "poor")).collect();
    let (end, actions) = talk(setup, replies);
    assert!(matches!(end.outcome, Outcome::Told(_)));
    assert_eq!(asks(&actions).len(), 3);
}

#[test]
fn a_stream_that_is_not_held_is_shown_as_it_is() {
    for delivery in [Delivery::Live, Delivery::Guarded] {
        let setup = gated(OpenAi, true, &[OpenAi], delivery, 1);
        let (end, actions) = talk(setup, vec![says(OpenAi, "poor")]);
        assert_eq!(end.outcome, Outcome::Delivered(Verdict::Whole));
        assert!(text_of(&end).contains("poor"));
        assert_eq!(asks(&actions).len(), 1);
    }
}

/// Says yes to everyone, until the budget for repeated asks is gone, and keeps what is reported.
#[derive(Default)]
struct Watch {
    /// Target, and whether it was asked before.
    admitted: Vec<(usize, bool)>,
    reported: Vec<(usize, Report)>,
    no_budget: bool,
}

impl Health for Watch {
    fn admit(&mut self, target: usize, _: Time, again: bool) -> Leave {
        if again && self.no_budget {
            return Leave::NoBudget;
        }
        self.admitted.push((target, again));
        Leave::Go { probe: false }
    }

    fn report(&mut self, target: usize, _: Time, report: Report, _: bool) {
        self.reported.push((target, report));
    }
}

/// Runs `setup` and gives the end, who was asked what, and the record.
fn told(setup: Setup, health: &mut Watch, replies: Vec<Reply>) -> (End, Vec<(usize, Ask)>, Record) {
    let mut replies = replies.into_iter();
    let (end, actions, record) = converse(setup, health, |_| replies.next().unwrap());
    assert!(replies.next().is_none(), "fewer calls than meant");
    (end, asks(&actions), record)
}

fn fault(end: &End) -> &Fault {
    match &end.outcome {
        Outcome::Told(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// A plain Chat answer of these choices.
fn body(choices: &[Value]) -> Reply {
    let answer = json!({"id": "c", "object": "chat.completion", "model": "m", "choices": choices});
    Reply::Body(answer.to_string())
}

fn choice(index: usize, message: &Value, finish: &str) -> Value {
    json!({"index": index, "message": message, "finish_reason": finish})
}

fn text(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

#[test]
fn the_record_says_which_gate_and_the_breaker_hears_of_a_success() {
    let setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, 1);
    let mut health = Watch::default();
    let replies = vec![says(OpenAi, "poor"), says(OpenAi, "good")];
    let (_, _, record) = told(setup, &mut health, replies);
    assert_eq!(health.admitted, [(0, false), (0, true)]);
    assert_eq!(
        health.reported,
        [(0, Report::Success), (0, Report::Success)]
    );
    let first = &record.attempts[0];
    assert_eq!((first.verdict, first.flaw), ("whole", Some("gate")));
    let reason = "must_contain: `good` is missing";
    assert_eq!(first.message.as_deref(), Some(reason));
    let second = &record.attempts[1];
    assert_eq!((second.flaw, &second.message), (None, &None));
    assert_eq!(record.gate.unwrap().to_string(), reason);
    assert_eq!((record.outcome, record.code), ("whole", None));
}

#[test]
fn without_budget_the_next_target_is_asked_instead() {
    let setup = gated(OpenAi, false, &[OpenAi, Anthropic], Delivery::Guarded, 3);
    let mut health = Watch {
        no_budget: true,
        ..Watch::default()
    };
    let replies = vec![says(OpenAi, "poor"), says(Anthropic, "good")];
    let (end, asked, _) = told(setup, &mut health, replies);
    assert!(end.is_delivered());
    assert_eq!(asked, [(0, Ask::Original), (1, Ask::Original)]);
}

#[test]
fn reasons_add_up() {
    let mut setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, 2);
    let replies = vec![says(OpenAi, "poor"), says(OpenAi, ""), says(OpenAi, "good")];
    setup.policy.empty_is_whole = true;
    let (end, asked, _) = told(setup, &mut Watch::default(), replies);
    assert!(end.is_delivered());
    let (0, Ask::Resume { messages }) = &asked[2] else {
        panic!("{asked:?}");
    };
    let roles: Vec<Value> = messages
        .iter()
        .map(|message| serde_json::from_slice::<Value>(message).unwrap()["role"].take())
        .collect();
    // Vendors refuse an empty turn: of the second answer only the reason is said.
    assert_eq!(roles, ["assistant", "user", "user"]);
}

#[test]
fn a_call_of_tools_is_no_final_answer() {
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c1",
        "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    // Servers say `stop` of a call that was demanded by `tool_choice`.
    for finish in ["tool_calls", "stop"] {
        let setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, 1);
        let replies = vec![body(&[choice(0, &call, finish)])];
        let (end, _, record) = told(setup, &mut Watch::default(), replies);
        assert!(end.is_delivered(), "{finish}: {end:?}");
        assert_eq!(record.gate, None);
    }
}

#[test]
fn a_refusal_in_its_own_field_is_a_refusal() {
    let refusal = json!({"role": "assistant", "content": null, "refusal": "good try, but no"});
    let setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, 0);
    let replies = vec![body(&[choice(0, &refusal, "stop")])];
    let (end, _, _) = told(setup, &mut Watch::default(), replies);
    assert_eq!(fault(&end).code, Code::GateFailed);
}

#[test]
fn every_choice_must_pass() {
    let both = |second: &str| {
        body(&[
            choice(0, &text("good"), "stop"),
            choice(1, &text(second), "stop"),
        ])
    };
    let mut setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, 1);
    setup.wishes.choices = 2;
    setup.wishes.joinable = false;
    setup.targets[0].streams_plain_calls = false;
    let replies = vec![both("poor"), both("good too")];
    let (end, asked, _) = told(setup.clone(), &mut Watch::default(), replies);
    assert!(end.is_delivered());
    let (_, Ask::Resume { messages }) = &asked[1] else {
        panic!("{asked:?}");
    };
    assert!(messages[0].windows(4).any(|at| at == b"poor"));

    // On a live stream each is looked at as well.
    for (second, flagged) in [("poor", true), ("good too", false)] {
        let mut setup = setup.clone();
        setup.wishes.stream = true;
        setup.policy.delivery = Delivery::Live;
        let (end, _, record) = told(setup, &mut Watch::default(), vec![both(second)]);
        assert!(end.is_delivered());
        assert_eq!(record.flagged.is_some(), flagged, "{second}");
    }
}

#[test]
fn a_stream_that_is_not_held_is_flagged() {
    for delivery in [Delivery::Live, Delivery::Guarded] {
        for vendor in DIALECTS {
            for (said, flagged) in [
                ("poor", Some("must_contain: `good` is missing".to_owned())),
                ("good", None),
            ] {
                let mut setup = gated(OpenAi, true, &[vendor], delivery, 1);
                setup.policy.join = false;
                let replies = vec![says(vendor, said)];
                let (end, _, record) = told(setup, &mut Watch::default(), replies);
                assert!(end.is_delivered());
                assert_eq!((record.flagged, record.gate), (flagged, None));
            }
        }
    }
}

/// What was added to the request is not what the caller asked for: that it is refused, or does not fit,
/// says nothing of the question.
#[test]
fn a_second_ask_that_is_refused_leads_on() {
    for (status, error) in [
        (400, r#"{"error":{"message":"roles must alternate"}}"#),
        (413, r#"{"error":{"message":"too large"}}"#),
        (
            400,
            r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#,
        ),
    ] {
        let mut setup = gated(OpenAi, false, &[OpenAi, OpenAi], Delivery::Guarded, 1);
        setup.targets[0].context_window = Some(1000);
        setup.targets[1].context_window = Some(10);
        let replies = vec![
            says(OpenAi, "poor"),
            Reply::Status(status, error),
            says(OpenAi, "good"),
        ];
        let (end, asked, _) = told(setup, &mut Watch::default(), replies);
        assert!(end.is_delivered(), "{error}: {end:?}");
        assert_eq!(asked[2], (1, Ask::Original));
    }
}

#[test]
fn a_held_back_answer_weighs_more_than_what_failed_after_it() {
    let setup = gated(OpenAi, false, &[OpenAi, OpenAi], Delivery::Guarded, 0);
    let replies = vec![says(OpenAi, "poor"), Reply::Status(500, "{}")];
    let (end, _, _) = told(setup, &mut Watch::default(), replies);
    let fault = fault(&end);
    assert_eq!(fault.code, Code::GateFailed);
    assert_eq!(
        fault.message,
        "no answer passed the gate in 2 attempts; must_contain: `good` is missing; last: status 500"
    );
}

#[test]
fn the_deadline_names_the_gate() {
    let mut setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, 1);
    setup.policy.deadline = Duration::from_secs(7);
    let replies = vec![says(OpenAi, "poor"), Reply::Open(String::new())];
    let (end, _, record) = told(setup, &mut Watch::default(), replies);
    assert_eq!(fault(&end).code, Code::Deadline);
    assert!(
        fault(&end).message.ends_with("`good` is missing"),
        "{end:?}"
    );
    assert_eq!(record.attempts[1].verdict, "cancelled");
}

/// A turn that pauses is put together before it is looked at, and what is asked again may pause too.
#[test]
fn paused_turns_are_checked_whole() {
    let paused = |text: &str| {
        let content = json!([{"type": "text", "text": text}]);
        let answer = json!({"id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": content, "stop_reason": "pause_turn", "usage": {"output_tokens": 1}});
        Reply::Body(answer.to_string())
    };
    let mut setup = gated(Anthropic, false, &[Anthropic], Delivery::Guarded, 1);
    setup.policy.max_continuations = 2;
    setup.wishes.pausable = true;
    let replies = vec![
        paused("po"),
        says(Anthropic, "or"),
        paused("go"),
        says(Anthropic, "od"),
    ];
    let (end, asked, _) = told(setup, &mut Watch::default(), replies);
    assert!(end.is_delivered(), "{end:?}");
    let texts = |ask: &Ask| match ask {
        Ask::Resume { messages } => messages
            .iter()
            .map(|message| serde_json::from_slice::<Value>(message).unwrap()["content"].take())
            .collect(),
        _ => Vec::new(),
    };
    assert_eq!(texts(&asked[1].1).len(), 1);
    assert_eq!(texts(&asked[2].1)[0], "poor");
    let last = texts(&asked[3].1);
    assert_eq!((last.len(), &last[0]), (3, &json!("poor")));
    assert_eq!(last[2][0]["text"], "go");
}

#[test]
fn a_reason_has_a_limit() {
    let refusal = Refusal::new("cel", "ü".repeat(LONGEST_REASON + 1));
    assert_eq!(refusal.reason.chars().count(), LONGEST_REASON + 1);
    assert!(refusal.reason.ends_with('…'));
}

/// Refuses everything, and quotes it to the model.
#[derive(Debug)]
struct Quotes;

impl Gate for Quotes {
    fn check(&self, answer: &Answered<'_>) -> Result<(), Refusal> {
        let reason = format!("{:?} is wrong", answer.text);
        let told = "a value is wrong".to_owned();
        Err(Refusal::quoting("cel", reason, told))
    }
}

#[test]
fn only_the_model_hears_what_it_wrote() {
    let mut setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, 1);
    setup.gate.as_mut().unwrap().gate = Arc::new(Quotes);
    let mut replies = vec![says(OpenAi, "poor"), says(OpenAi, "worse")].into_iter();
    let (end, actions, exchange) = conversed(setup, &mut Free, |_| replies.next().unwrap());
    let (_, Ask::Resume { messages }) = &asks(&actions)[1] else {
        panic!("{actions:?}");
    };
    let reason: Value = serde_json::from_slice(&messages[1]).unwrap();
    let reason = reason["content"].as_str().unwrap();
    assert!(reason.contains(r#""poor" is wrong"#), "{reason}");
    let message = &fault(&end).message;
    assert!(message.ends_with("; cel: a value is wrong"), "{message}");
    for attempt in &exchange.record().attempts {
        assert_eq!(attempt.message.as_deref(), Some("cel: a value is wrong"));
    }
    // Who is to decide sees it.
    assert_eq!(exchange.held_back(), Some("worse"));
}

#[test]
fn what_was_streamed_is_flagged_without_being_quoted() {
    let mut setup = gated(OpenAi, true, &[OpenAi], Delivery::Live, 1);
    setup.gate.as_mut().unwrap().gate = Arc::new(Quotes);
    let replies = vec![says(OpenAi, "poor")];
    let (_, _, record) = told(setup, &mut Watch::default(), replies);
    assert_eq!(record.flagged.as_deref(), Some("cel: a value is wrong"));
}

#[test]
fn what_is_kept_of_an_answer_that_was_held_back_has_a_limit() {
    let long = "ü".repeat(LONGEST_HELD_BACK);
    for (said, kept) in [
        ("poor", "poor".to_owned()),
        (&long, "ü".repeat(LONGEST_HELD_BACK / 2) + "…"),
    ] {
        let setup = gated(OpenAi, false, &[OpenAi], Delivery::Guarded, 0);
        let (_, _, exchange) = conversed(setup, &mut Free, |_| says(OpenAi, said));
        assert!(exchange.held_back() == Some(&kept), "{} bytes", said.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the vendors say: what is delivered from behind a holding gate has passed it, nothing of
    /// what was refused is shown, and the number of calls is bounded.
    #[test]
    fn only_what_passed_is_delivered(
        caller in 0..2usize,
        vendors in prop::collection::vec(0..2usize, 1..4),
        stream: bool,
        delivery in 0..3usize,
        asks_again in 0..3u32,
        says_what in prop::collection::vec(0..4u8, 6),
    ) {
        let vendors: Vec<Dialect> = vendors.into_iter().map(|place| DIALECTS[place]).collect();
        let setup = gated(DIALECTS[caller], stream, &vendors, DELIVERIES[delivery], asks_again);
        let holds = !stream || DELIVERIES[delivery] == Delivery::Whole;
        // Every reply is made for both dialects: which one is asked shows only then.
        let replies: Vec<u8> = says_what;
        let (end, asked) = talk_by(setup, &vendors, &replies);
        prop_assert!(asked <= 6);
        match end.outcome {
            Outcome::Delivered(_) if holds => {
                let text = text_of(&end);
                prop_assert!(text.contains("good"), "{text}");
                prop_assert!(!text.contains("poor"), "{text}");
            }
            Outcome::Delivered(_) => {}
            Outcome::Told(_) if holds => {
                prop_assert_eq!(end.body, None);
                prop_assert!(!String::from_utf8_lossy(&end.shown).contains("poor"));
            }
            Outcome::Told(_) | Outcome::CallerGone => {}
        }
    }
}

/// As [`talk`], with replies in the dialect of whoever is asked.
fn talk_by(setup: Setup, vendors: &[Dialect], says_what: &[u8]) -> (End, usize) {
    use crate::drive::talk_with;
    let mut turns = says_what.iter();
    let (end, actions) = talk_with(setup, |send| {
        let vendor = vendors[send.target];
        match turns.next() {
            Some(0) => says(vendor, "good"),
            Some(1) => Reply::Status(500, "{}"),
            _ => says(vendor, "poor"),
        }
    });
    (end, asks(&actions).len())
}
