//! Gates: answers that are whole and not good enough.

use std::sync::Arc;

use holdfast_core::exchange::{Action, Ask, Outcome, Setup};
use holdfast_core::fault::Code;
use holdfast_core::gate::{Answered, Gate, Gated, LONGEST_REASON, Refusal};
use holdfast_core::judge::Verdict;
use holdfast_core::policy::Delivery;
use holdfast_wire::turn::Dialect::{self, Anthropic, OpenAi};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::drive::{DELIVERIES, DIALECTS, End, Reply, once, talk, target};

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
            .collect()
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

#[test]
fn a_reason_has_a_limit() {
    let refusal = Refusal::new("cel", "ü".repeat(LONGEST_REASON + 1));
    assert_eq!(refusal.reason.chars().count(), LONGEST_REASON + 1);
    assert!(refusal.reason.ends_with('…'));
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
