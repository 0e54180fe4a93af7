use std::borrow::Cow;

use holdfast_wire::turn::{Stop, VendorError};

use super::*;

fn judge(dialect: Dialect) -> Judge {
    Judge::new(Terms {
        dialect,
        choices: 1,
        empty_is_whole: false,
        arguments_limit: 1 << 20,
    })
}

fn start() -> Event<'static> {
    Event::Start {
        id: "id".into(),
        model: "m".into(),
    }
}

fn text(index: u32) -> Event<'static> {
    Event::BlockStart {
        index,
        choice: 0,
        block: Block::Text { text: "".into() },
    }
}

fn tool(index: u32) -> Event<'static> {
    let block = Block::Tool {
        id: "t".into(),
        name: "f".into(),
        input: None,
    };
    Event::BlockStart {
        index,
        choice: 0,
        block,
    }
}

fn say(index: u32, words: &'static str) -> Event<'static> {
    Event::Delta {
        index,
        delta: Delta::Text(words.into()),
    }
}

fn args(index: u32, json: &'static str) -> Event<'static> {
    Event::Delta {
        index,
        delta: Delta::Arguments(json.into()),
    }
}

fn close(index: u32) -> Event<'static> {
    Event::BlockStop { index }
}

fn stop(kind: StopKind) -> Event<'static> {
    Event::Stop {
        choice: 0,
        stop: Stop {
            kind,
            said: Cow::Borrowed("said"),
            sequence: None,
            details: None,
        },
    }
}

fn verdict(dialect: Dialect, events: &[Event<'_>]) -> Verdict {
    let mut judge = judge(dialect);
    for event in events {
        judge.event(event);
    }
    judge.verdict()
}

fn both(events: &[Event<'_>], expected: &Verdict) {
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        assert_eq!(
            verdict(dialect, events),
            *expected,
            "{dialect:?} {events:?}"
        );
    }
}

fn spoken(kind: StopKind) -> [Event<'static>; 6] {
    [
        start(),
        text(0),
        say(0, "hi"),
        close(0),
        stop(kind),
        Event::End,
    ]
}

#[test]
fn every_stop_reason_has_its_verdict() {
    for (kind, expected) in [
        (StopKind::EndTurn, Verdict::Whole),
        (StopKind::StopSequence, Verdict::Whole),
        (StopKind::MaxTokens, Verdict::Limit),
        (StopKind::ContextWindow, Verdict::Limit),
        (StopKind::Pause, Verdict::Paused),
        (StopKind::Refusal, Verdict::Refused),
        (StopKind::ToolUse, Verdict::Broken(Flaw::NoTool)),
        (
            StopKind::VendorFault,
            Verdict::Broken(Flaw::VendorStop("said".into())),
        ),
        (
            StopKind::Unknown,
            Verdict::Broken(Flaw::UnknownStop("said".into())),
        ),
    ] {
        both(&spoken(kind), &expected);
    }
}

#[test]
fn every_prefix_of_a_whole_answer_is_broken() {
    let events = [
        start(),
        text(0),
        say(0, "hi"),
        close(0),
        tool(1),
        args(1, "{\"a\":"),
        args(1, "1}"),
        close(1),
        stop(StopKind::ToolUse),
        Event::End,
    ];
    both(&events, &Verdict::Tools);
    for cut in 0..events.len() {
        let expected_whole = |dialect| dialect == Dialect::OpenAi && cut == events.len() - 1;
        for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
            let whole = verdict(dialect, &events[..cut]).is_deliverable();
            assert_eq!(
                whole,
                expected_whole(dialect),
                "{dialect:?} cut after {cut}"
            );
        }
    }
}

#[test]
fn done_without_a_finish_reason_is_not_whole() {
    both(
        &[start(), text(0), say(0, "hi"), close(0), Event::End],
        &Verdict::Broken(Flaw::NoStopReason),
    );
}

#[test]
fn an_anthropic_answer_needs_its_message_stop() {
    let events = &spoken(StopKind::EndTurn)[..5];
    assert_eq!(
        verdict(Dialect::Anthropic, events),
        Verdict::Broken(Flaw::NoTerminal)
    );
    assert_eq!(verdict(Dialect::OpenAi, events), Verdict::Whole);
}

#[test]
fn an_open_block_or_half_arguments_are_broken() {
    both(
        &[
            start(),
            text(0),
            say(0, "hi"),
            stop(StopKind::EndTurn),
            Event::End,
        ],
        &Verdict::Broken(Flaw::OpenBlock),
    );
    both(
        &[
            start(),
            tool(0),
            args(0, "{\"city\": \"Par"),
            close(0),
            stop(StopKind::ToolUse),
            Event::End,
        ],
        &Verdict::Broken(Flaw::BadArguments),
    );
}

#[test]
fn no_arguments_are_an_empty_object() {
    both(
        &[
            start(),
            tool(0),
            close(0),
            stop(StopKind::ToolUse),
            Event::End,
        ],
        &Verdict::Tools,
    );
}

#[test]
fn a_limit_tells_which_tool_call_it_cut() {
    let mut judge = judge(Dialect::Anthropic);
    for event in [
        start(),
        tool(0),
        args(0, "{\"a\": [1"),
        close(0),
        stop(StopKind::MaxTokens),
        Event::End,
    ] {
        judge.event(&event);
    }
    assert_eq!(judge.verdict(), Verdict::Limit);
    assert_eq!(judge.cut_tools(), [0]);
}

#[test]
fn nothing_said_is_not_an_answer_unless_it_may_be() {
    let silent = [start(), stop(StopKind::EndTurn), Event::End];
    both(&silent, &Verdict::Broken(Flaw::NoContent));
    both(&[], &Verdict::Broken(Flaw::Empty));
    both(
        &[start(), stop(StopKind::MaxTokens), Event::End],
        &Verdict::Limit,
    );
    let mut lenient = Judge::new(Terms {
        dialect: Dialect::Anthropic,
        choices: 1,
        empty_is_whole: true,
        arguments_limit: 1,
    });
    for event in &silent {
        lenient.event(event);
    }
    assert_eq!(lenient.verdict(), Verdict::Whole);
}

#[test]
fn what_follows_the_finish_breaks_it() {
    let mut events = spoken(StopKind::EndTurn).to_vec();
    events.insert(5, text(1));
    both(
        &events,
        &Verdict::Broken(Flaw::Order("a block after the finish")),
    );
}

#[test]
fn an_error_inside_the_answer_outweighs_a_finish() {
    let error = VendorError {
        kind: "overloaded_error".into(),
        code: "".into(),
        message: "busy".into(),
    };
    let mut events = spoken(StopKind::EndTurn).to_vec();
    events.insert(3, Event::Error(error.clone()));
    both(&events, &Verdict::Broken(Flaw::vendor_error(&error)));
}

#[test]
fn every_choice_must_finish() {
    let other = Event::BlockStart {
        index: 1,
        choice: 1,
        block: Block::Text { text: "b".into() },
    };
    let events = [
        start(),
        text(0),
        say(0, "a"),
        other,
        close(0),
        stop(StopKind::EndTurn),
        close(1),
        Event::End,
    ];
    assert_eq!(
        verdict(Dialect::OpenAi, &events),
        Verdict::Broken(Flaw::NoStopReason)
    );
}

#[test]
fn a_choice_that_was_not_begun_is_missing() {
    let stop = || Event::Stop {
        choice: 0,
        stop: Stop {
            kind: StopKind::EndTurn,
            said: "stop".into(),
            sequence: None,
            details: None,
        },
    };
    let judged = |events: Vec<Event<'static>>| {
        let mut judge = Judge::new(Terms {
            dialect: Dialect::OpenAi,
            choices: 2,
            empty_is_whole: false,
            arguments_limit: 1 << 20,
        });
        for event in &events {
            judge.event(event);
        }
        (judge.verdict(), judge.progress())
    };
    let said = Event::Delta {
        index: 0,
        delta: Delta::Text("a".into()),
    };
    let first = vec![
        start(),
        text(0),
        said,
        Event::BlockStop { index: 0 },
        stop(),
    ];
    let cut = judged(first.clone());
    assert_eq!(cut.0, Verdict::Broken(Flaw::NoStopReason));
    assert!(matches!(cut.1, Progress::Open));
    let whole = judged([first, vec![Event::End]].concat());
    assert_eq!(whole.0, Verdict::Whole);
}
