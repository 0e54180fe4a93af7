//! What was wrong once, each as the smallest exchange that shows it.

use holdfast_core::exchange::{Action, Exchange, Outcome, Setup};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::judge::Verdict;
use holdfast_core::policy::Delivery;
use holdfast_core::time::Time;
use holdfast_wire::turn::Dialect::{self, Anthropic, OpenAi};

use crate::drive::{DELIVERIES, End, Free, Recorded, Reply, once, play, recorded, talk, target};
use crate::sight::Sight;

fn fixture(name: &str) -> &'static Recorded {
    let mut all = recorded().iter();
    all.find(|stream| stream.name.ends_with(name))
        .expect("a recorded stream")
}

/// A Chat stream of these choices, each a chunk of its own, and `[DONE]`.
fn chat(choices: &[&str]) -> String {
    let chunk = |choice: &&str| {
        format!("data: {{\"id\":\"c\",\"model\":\"m\",\"choices\":[{choice}]}}\n\n")
    };
    choices.iter().map(chunk).collect::<String>() + "data: [DONE]\n\n"
}

fn delta(delta: &str) -> String {
    format!("{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}")
}

/// A Messages stream of these events.
fn messages(events: &[&str]) -> String {
    let start = r#"{"type":"message_start","message":{"id":"m","type":"message","content":[]}}"#;
    let frame = |data: &&str| {
        let name = data.split('"').nth(3).unwrap();
        format!("event: {name}\ndata: {data}\n\n")
    };
    [&start].into_iter().chain(events).map(frame).collect()
}

/// `count` targets of this dialect, in domains of their own, for a caller of `caller`.
fn several(caller: Dialect, vendor: Dialect, count: usize, delivery: Delivery) -> Setup {
    let mut setup = once(caller, true, vendor, delivery);
    setup.policy.max_attempts = 6;
    setup.policy.attempts_per_target = 1;
    setup.targets = vec![target(vendor); count];
    setup
}

fn whole(text: &str) -> String {
    chat(&[
        &delta(&format!(
            "{{\"role\":\"assistant\",\"content\":\"{text}\"}}"
        )),
        r#"{"index":0,"delta":{},"finish_reason":"stop"}"#,
    ])
}

#[test]
fn a_custom_tool_call_is_a_tool_call() {
    let stream = &fixture("custom_tool.sse").bytes;
    for delivery in DELIVERIES {
        let setup = once(OpenAi, true, OpenAi, delivery);
        let end = play(setup.clone(), [&stream[..]], Ok(()));
        assert_eq!(
            end.outcome,
            Outcome::Delivered(Verdict::Tools),
            "{delivery:?}"
        );
        assert_eq!(end.shown, *stream, "{delivery:?}");
        // Cut in the middle, it is held back like any other call.
        let cut = play(setup, [&stream[..stream.len() * 2 / 3]], Ok(()));
        assert!(matches!(cut.outcome, Outcome::Told(_)));
        assert_eq!(
            cut.shown.is_empty(),
            delivery != Delivery::Live,
            "{delivery:?}"
        );
    }
    let plain = play(
        once(OpenAi, false, OpenAi, Delivery::Whole),
        [&stream[..]],
        Ok(()),
    );
    assert_eq!(plain.outcome, Outcome::Delivered(Verdict::Tools));
    // The other dialect has no such call: nothing may look as if there were none.
    for stream_wanted in [true, false] {
        let setup = once(Anthropic, stream_wanted, OpenAi, Delivery::Guarded);
        let crossed = play(setup, [&stream[..]], Ok(()));
        assert!(matches!(crossed.outcome, Outcome::Told(_)), "{crossed:?}");
    }
}

#[test]
fn frames_without_news_are_passed_on_and_keep_alives_are_not_held() {
    for stream in recorded() {
        let text = std::str::from_utf8(&stream.bytes).unwrap();
        let by_the_book = Sight::of(stream.dialect, &stream.bytes).is_whole(stream.dialect);
        let setup = once(stream.dialect, true, stream.dialect, Delivery::Whole);
        let end = play(setup, [&stream.bytes[..]], Ok(()));
        if !by_the_book || !end.is_delivered() || text.contains("\r\n") {
            continue;
        }
        let alive = |frame: &&str| !frame.starts_with(':') && !frame.starts_with("event: ping");
        let expected: String = text.split_inclusive("\n\n").filter(alive).collect();
        let shown = String::from_utf8(end.shown).unwrap();
        let cut_tool = shown.contains(": holdfast");
        assert!(cut_tool || shown == expected, "{}:\n{shown}", stream.name);
    }
    let azure = fixture("azure.sse");
    let end = play(
        once(OpenAi, true, OpenAi, Delivery::Guarded),
        [&azure.bytes[..]],
        Ok(()),
    );
    assert_eq!(end.shown, azure.bytes);
}

/// Two calls as servers number them that do not go by the book.
fn odd_numberings() -> Vec<(&'static str, String)> {
    let finish = r#"{"index":0,"delta":{},"finish_reason":"tool_calls"}"#;
    let call = |marks: &str, function: &str| {
        delta(&format!(
            "{{\"tool_calls\":[{{{marks}\"function\":{{{function}}}}}]}}"
        ))
    };
    let (f, g) = (
        r#""name":"f","arguments":"{\"a\":""#,
        r#""name":"g","arguments":"{\"b\":""#,
    );
    let (one, two) = (r#""arguments":"1}""#, r#""arguments":"2}""#);
    let streams = [
        (
            "index 0 for every call",
            vec![
                delta(r#"{"role":"assistant","content":"so "}"#),
                call(r#""index":0,"id":"a","#, f),
                call(r#""index":0,"#, one),
                call(r#""index":0,"id":"b","#, g),
                call(r#""index":0,"#, two),
            ],
        ),
        (
            "index 0 for every call, each named by its id",
            vec![
                call(r#""index":0,"id":"a","#, f),
                call(r#""index":0,"id":"b","#, g),
                call(r#""index":0,"id":"a","#, one),
                call(r#""index":0,"id":"b","#, two),
            ],
        ),
        (
            "no index",
            vec![
                call(r#""id":"a","#, f),
                call("", one),
                call(r#""id":"b","#, g),
                call("", two),
            ],
        ),
        (
            "indexes from 1",
            vec![
                call(r#""index":1,"id":"a","#, f),
                call(r#""index":1,"#, one),
                call(r#""index":2,"id":"b","#, g),
                call(r#""index":2,"#, two),
            ],
        ),
        (
            "id and name in each delta",
            vec![
                call(r#""index":0,"id":"a","#, f),
                call(r#""index":0,"id":"a","#, &format!("\"name\":\"f\",{one}")),
                call(r#""index":1,"id":"b","#, g),
                call(r#""index":1,"id":"b","#, &format!("\"name\":\"g\",{two}")),
            ],
        ),
        (
            "both calls whole in one chunk, after text",
            vec![
                delta(
                    r#"{"content":"so ","tool_calls":[
                {"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\":1}"}},
                {"index":0,"id":"b","function":{"name":"g","arguments":"{\"b\":2}"}}]}"#,
                )
                .replace('\n', " "),
            ],
        ),
        (
            "arguments as an object",
            vec![
                call(
                    r#""index":0,"id":"a","#,
                    r#""name":"f","arguments":{"a":1}"#,
                ),
                call(
                    r#""index":1,"id":"b","#,
                    r#""name":"g","arguments":{"b":2}"#,
                ),
            ],
        ),
    ];
    let stream = |(name, chunks): (&'static str, Vec<String>)| {
        let mut chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        chunks.push(finish);
        (name, chat(&chunks))
    };
    streams.into_iter().map(stream).collect()
}

#[test]
fn calls_that_sdks_would_merge_are_numbered_anew() {
    for (name, stream) in odd_numberings() {
        for delivery in DELIVERIES {
            let end = play(
                once(OpenAi, true, OpenAi, delivery),
                [stream.as_bytes()],
                Ok(()),
            );
            assert_eq!(
                end.outcome,
                Outcome::Delivered(Verdict::Tools),
                "{name}, {delivery:?}"
            );
            let sight = Sight::of(OpenAi, &end.shown);
            let shown = String::from_utf8_lossy(&end.shown);
            assert!(
                sight.is_whole(OpenAi),
                "{name}, {delivery:?}: {:?}\n{shown}",
                sight.wrongs
            );
            let expected = [("a", "f", "{\"a\":1}"), ("b", "g", "{\"b\":2}")]
                .map(|(id, name, json)| (id.to_owned(), name.to_owned(), json.to_owned()));
            assert_eq!(sight.calls, expected, "{name}, {delivery:?}\n{shown}");
            assert_eq!(sight.text, if stream.contains("so ") { "so " } else { "" });
            assert!(sight.ended);
        }
    }
}

#[test]
fn calls_by_the_book_pass_unchanged() {
    for name in [
        "openai/parallel_tools.sse",
        "openai/mistral_tools.sse",
        "openai/text.sse",
    ] {
        let stream = fixture(name);
        for delivery in DELIVERIES {
            let setup = once(stream.dialect, true, stream.dialect, delivery);
            let end = play(setup, [&stream.bytes[..]], Ok(()));
            assert_eq!(
                String::from_utf8(end.shown).unwrap(),
                String::from_utf8(stream.bytes.clone()).unwrap()
            );
        }
    }
}

#[test]
fn frames_without_their_events_name_get_it() {
    for name in ["anthropic/thinking.sse", "anthropic/parallel_tools.sse"] {
        let stream = std::str::from_utf8(&fixture(name).bytes).unwrap();
        let is_name = |line: &&str| !line.starts_with("event:");
        let nameless: String = stream.split_inclusive('\n').filter(is_name).collect();
        for delivery in DELIVERIES {
            let named = play(
                once(Anthropic, true, Anthropic, delivery),
                [stream.as_bytes()],
                Ok(()),
            );
            let end = play(
                once(Anthropic, true, Anthropic, delivery),
                [nameless.as_bytes()],
                Ok(()),
            );
            assert!(end.is_delivered());
            assert!(Sight::of(Anthropic, &end.shown).is_whole(Anthropic));
            assert_eq!(end, named);
        }
    }
}

#[test]
fn nothing_of_a_frame_that_broke_a_leg_is_in_the_next() {
    let broken = chat(&[
        r#"{"index":0,"delta":{"content":"Never "},"finish_reason":null,"error":{"message":"x"}}"#,
    ]);
    for delivery in DELIVERIES {
        let setup = several(Anthropic, OpenAi, 2, delivery);
        let replies = vec![
            Reply::Stream(broken.clone()),
            Reply::Stream(whole("Hello.")),
        ];
        let (end, _) = talk(setup, replies);
        assert!(end.is_delivered());
        assert_eq!(
            Sight::of(Anthropic, &end.shown).text,
            "Hello.",
            "{delivery:?}"
        );
    }
}

#[test]
fn a_call_that_never_closed_is_broken_under_a_limit_too() {
    let stream = messages(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    for caller in [Anthropic, OpenAi] {
        for delivery in DELIVERIES {
            let end = play(
                once(caller, true, Anthropic, delivery),
                [stream.as_bytes()],
                Ok(()),
            );
            assert!(
                matches!(end.outcome, Outcome::Told(_)),
                "{caller:?} {delivery:?}"
            );
        }
    }
}

#[test]
fn the_limit_of_one_choice_does_not_excuse_another() {
    let stream = chat(&[
        r#"{"index":0,"delta":{"content":"a"},"finish_reason":null}"#,
        r#"{"index":1,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{\"a"}}]},"finish_reason":null}"#,
        r#"{"index":0,"delta":{},"finish_reason":"length"}"#,
        r#"{"index":1,"delta":{},"finish_reason":"tool_calls"}"#,
    ]);
    let end = play(
        once(OpenAi, true, OpenAi, Delivery::Guarded),
        [stream.as_bytes()],
        Ok(()),
    );
    assert!(matches!(end.outcome, Outcome::Told(_)), "{end:?}");
}

#[test]
fn a_call_that_a_limit_cut_is_withheld_and_nothing_else() {
    let cut = r#"{"index":0,"id":"t","function":{"name":"f","arguments":"{\"a"}}"#;
    let apart = chat(&[
        &delta(r#"{"content":"Words. "}"#),
        &delta(&format!("{{\"tool_calls\":[{cut}]}}")),
        r#"{"index":0,"delta":{},"finish_reason":"length"}"#,
    ]);
    let together = chat(&[&format!(
        "{{\"index\":0,\"delta\":{{\"content\":\"Words. \",\"tool_calls\":[{cut}]}},\"finish_reason\":\"length\"}}"
    )]);
    for delivery in [Delivery::Guarded, Delivery::Whole] {
        let end = play(
            once(OpenAi, true, OpenAi, delivery),
            [apart.as_bytes()],
            Ok(()),
        );
        assert_eq!(end.outcome, Outcome::Delivered(Verdict::Limit));
        let sight = Sight::of(OpenAi, &end.shown);
        assert!(sight.is_whole(OpenAi) && sight.calls.is_empty());
        assert_eq!(
            (sight.text.as_str(), sight.stop.as_deref()),
            ("Words. ", Some("length"))
        );
        // What can't be told apart is not shown at all, and never silently left out.
        let end = play(
            once(OpenAi, true, OpenAi, delivery),
            [together.as_bytes()],
            Ok(()),
        );
        assert!(
            matches!(end.outcome, Outcome::Told(_)),
            "{delivery:?} {end:?}"
        );
    }
}

#[test]
fn a_cut_call_after_a_pause_is_found_under_its_own_number() {
    let paused = r#"{"type":"message","id":"m","content":[
        {"type":"server_tool_use","id":"s","name":"web_search","input":{}}],"stop_reason":"pause_turn"}"#;
    let cut = messages(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    let mut setup = once(Anthropic, false, Anthropic, Delivery::Whole);
    setup.policy.max_continuations = 3;
    let (end, _) = talk(setup, vec![Reply::Body(paused.into()), Reply::Stream(cut)]);
    assert_eq!(end.outcome, Outcome::Delivered(Verdict::Limit));
    let body = String::from_utf8(end.body.unwrap().to_vec()).unwrap();
    assert!(
        body.contains("web_search") && !body.contains("tool_use\",\"id\":\"t\""),
        "{body}"
    );
}

#[test]
fn a_caller_that_leaves_aborts_its_vendor() {
    let mut exchange = Exchange::new(once(OpenAi, true, OpenAi, Delivery::Live), Time::default());
    let poll =
        |exchange: &mut Exchange| exchange.poll_action(Time::default(), &mut Free, &mut || 0);
    assert!(matches!(poll(&mut exchange), Some(Action::Send(_))));
    exchange.handle_caller_gone(Time::default());
    assert_eq!(poll(&mut exchange), Some(Action::Abort { attempt: 0 }));
    assert!(matches!(poll(&mut exchange), Some(Action::Finish(_))));
    assert_eq!(poll(&mut exchange), None);
}

#[test]
fn what_is_held_back_has_a_limit() {
    let mut setup = once(OpenAi, true, OpenAi, Delivery::Whole);
    setup.policy.answer_limit = 1000;
    let end = play(setup.clone(), [whole(&"x".repeat(2000)).as_bytes()], Ok(()));
    assert!(matches!(end.outcome, Outcome::Told(_)));
    setup.policy.delivery = Delivery::Live;
    assert!(play(setup, [whole(&"x".repeat(2000)).as_bytes()], Ok(())).is_delivered());
}

#[test]
fn a_refusal_that_was_cut_is_not_joined() {
    let cut = chat(&[&delta(r#"{"refusal":"I'm sorry, but "}"#)]).replace("data: [DONE]\n\n", "");
    let setup = several(OpenAi, OpenAi, 2, Delivery::Guarded);
    let (end, asked) = talk(setup, vec![Reply::Stream(cut)]);
    assert!(matches!(end.outcome, Outcome::Told(_)), "{end:?}");
    assert_eq!(sends(&asked), 1);
}

#[test]
fn a_continuation_that_comes_as_a_body_repeats_nothing() {
    let cut = chat(&[&delta(r#"{"content":"The quick brown fox jumps"}"#)])
        .replace("data: [DONE]\n\n", "");
    let body = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant",
        "content":"brown fox jumps over the lazy dog."},"finish_reason":"stop"}]}"#;
    let setup = several(OpenAi, OpenAi, 2, Delivery::Guarded);
    let (end, _) = talk(setup, vec![Reply::Stream(cut), Reply::Body(body.into())]);
    assert!(end.is_delivered());
    let text = Sight::of(OpenAi, &end.shown).text;
    assert_eq!(text, "The quick brown fox jumps over the lazy dog.");
}

#[test]
fn an_error_body_that_stalls_keeps_its_status() {
    let setup = several(OpenAi, OpenAi, 1, Delivery::Guarded);
    let (end, _) = talk(setup, vec![Reply::Status(429, "{\"error\":")]);
    let Outcome::Told(fault) = end.outcome else {
        panic!("{end:?}")
    };
    assert_eq!(fault.code, Code::UpstreamRateLimited);
}

#[test]
fn a_stall_after_text_goes_on_elsewhere() {
    let open =
        chat(&[&delta(r#"{"content":"The quick brown fox "}"#)]).replace("data: [DONE]\n\n", "");
    let setup = several(OpenAi, OpenAi, 2, Delivery::Live);
    let (end, asked) = talk(
        setup,
        vec![Reply::Open(open), Reply::Stream(whole("jumps."))],
    );
    assert!(end.is_delivered(), "{end:?}");
    assert_eq!(
        Sight::of(OpenAi, &end.shown).text,
        "The quick brown fox jumps."
    );
    assert_eq!(sends(&asked), 2);
    let joined: End = end;
    assert!(String::from_utf8_lossy(&joined.shown).contains(": holdfast: joined"));
}

fn sends(asked: &[Action]) -> usize {
    asked
        .iter()
        .filter(|action| matches!(action, Action::Send(_)))
        .count()
}

/// Whoever drives it can't keep more: no other target is asked, and nothing follows the error.
#[test]
fn what_finds_no_place_is_told_and_nothing_follows() {
    let text = whole("hello");
    for delivery in DELIVERIES {
        let setup = several(OpenAi, OpenAi, 2, delivery);
        let mut exchange = Exchange::new(setup, Time::default());
        let now = Time::default();
        let mut dice = || 0;
        let sent = exchange.poll_action(now, &mut Free, &mut dice);
        assert!(matches!(sent, Some(Action::Send(_))));
        exchange.handle_connected(1, now);
        let head = holdfast_core::exchange::Head {
            status: 200,
            content_type: Some("text/event-stream".to_owned()),
            ..holdfast_core::exchange::Head::default()
        };
        exchange.handle_head(1, head, now);
        exchange.handle_chunk(1, text.clone().into(), now);
        exchange.handle_end(1, Ok(()), now);
        let fault = Fault::new(Code::OutOfBuffers, "full");
        exchange.handle_no_place(fault.clone(), now);
        let mut rest = Vec::new();
        while let Some(action) = exchange.poll_action(now, &mut Free, &mut dice) {
            rest.push(action);
        }
        let last = rest.pop();
        let told = Outcome::Told(fault);
        assert!(
            matches!(&last, Some(Action::Finish(finish)) if finish.outcome == told),
            "{last:?}"
        );
        assert!(
            rest.iter()
                .all(|action| matches!(action, Action::Abort { .. }))
        );
        assert_eq!(exchange.record().code, Some("HF-024"));
        assert!(exchange.is_finished() && exchange.poll_timeout().is_none());
    }
}
