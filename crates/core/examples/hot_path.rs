//! What every call and every token goes through, without sockets: `hot_path call|token N`.
//!
//! Reads the head of a request, makes one exchange of it and feeds it a vendor's answer: a plain body
//! N times, or one stream of N tokens, in both dialects. Prints what the caller was given, in bytes.
//! `tests/cost/instructions.py` counts the instructions that this takes.
#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use std::cell::Cell;

use bytes::Bytes;
use holdfast_core::breaker::Report;
use holdfast_core::exchange::{Action, Exchange, Head, Outcome, Setup};
use holdfast_core::plan::{Health, Leave};
use holdfast_core::policy::{Policy, Target, Timeouts, Wishes};
use holdfast_core::time::Time;
use holdfast_wire::envelope::{Envelope, Limits};
use holdfast_wire::turn::Dialect;

const ANTHROPIC: [&str; 3] = [
    concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":20,"output_tokens":1}}}"#,
        "\n\nevent: content_block_start\n",
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        "\n\n"
    ),
    concat!(
        "event: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}"#,
        "\n\n"
    ),
    concat!(
        "event: content_block_stop\n",
        r#"data: {"type":"content_block_stop","index":0}"#,
        "\n\nevent: message_delta\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":150}}"#,
        "\n\nevent: message_stop\n",
        r#"data: {"type":"message_stop"}"#,
        "\n\n"
    ),
];

const CHAT: [&str; 3] = [
    concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
        "\n\n"
    ),
    concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}"#,
        "\n\n"
    ),
    concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}"#,
        "\n\ndata: [DONE]\n\n"
    ),
];

fn main() {
    let mut words = std::env::args().skip(1);
    let (what, count) = (
        words.next(),
        words.next().and_then(|word| word.parse().ok()),
    );
    let (Some("call" | "token"), Some(count)) = (what.as_deref(), count) else {
        println!("usage: hot_path call|token N");
        std::process::exit(2);
    };
    let mut given = 0;
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        given += match what.as_deref() {
            Some("call") => calls(dialect, count),
            _ => stream(dialect, count),
        };
    }
    println!("{given}");
}

/// So many plain calls; gives the bytes of their answers.
fn calls(dialect: Dialect, count: usize) -> usize {
    let text = "Nothing of it is missing. ".repeat(40);
    let body = match dialect {
        Dialect::Anthropic => format!(
            r#"{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":20,"output_tokens":150}}}}"#
        ),
        Dialect::OpenAi => format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":150,"total_tokens":170}}}}"#
        ),
    };
    let (request, body) = (request(false), Bytes::from(body));
    let call = |_| drive(dialect, false, &request, [body.clone()].into_iter());
    (0..count).map(call).sum()
}

/// A stream of so many tokens, one in each piece; gives the bytes that were released.
fn stream(dialect: Dialect, tokens: usize) -> usize {
    let [before, token, after] = match dialect {
        Dialect::Anthropic => ANTHROPIC,
        Dialect::OpenAi => CHAT,
    };
    let tokens = std::iter::repeat_n(token, tokens);
    let pieces = std::iter::once(before).chain(tokens).chain([after]);
    drive(
        dialect,
        true,
        &request(true),
        pieces.map(|piece| Bytes::from_static(piece.as_bytes())),
    )
}

/// One exchange, from the request's bytes to its one end.
fn drive(
    dialect: Dialect,
    stream: bool,
    request: &str,
    pieces: impl Iterator<Item = Bytes>,
) -> usize {
    let now = Time::default();
    let wishes = wishes(dialect, request);
    let target = Target {
        dialect,
        domain: 0,
        context_window: None,
        names_model: false,
        caller_auth: false,
        streams_plain_calls: false,
        timeouts: Timeouts::default(),
    };
    let setup = Setup {
        policy: Policy::default(),
        targets: vec![target],
        wishes,
        answer_id: "a".to_owned(),
        model: "m".to_owned(),
        created: 0,
        include_usage: false,
        gate: None,
    };
    let mut exchange = Exchange::new(setup, now);
    let mut given = 0;
    let attempt = Cell::new(0);
    let mut act = |exchange: &mut Exchange| {
        while let Some(action) = exchange.poll_action(now, &mut Well, &mut || 0) {
            match action {
                Action::Release(bytes) => given += bytes.len(),
                Action::Finish(finish) => {
                    assert!(matches!(finish.outcome, Outcome::Delivered(_)));
                    given += finish.body.map_or(0, |body| body.len());
                }
                Action::Send(send) => attempt.set(send.attempt),
                Action::Abort { .. } => {}
            }
        }
    };
    act(&mut exchange);
    exchange.handle_connected(attempt.get(), now);
    let kind = if stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let head = Head {
        status: 200,
        content_type: Some(kind.to_owned()),
        encoding: None,
        retry_after: None,
    };
    exchange.handle_head(attempt.get(), head, now);
    for piece in pieces {
        exchange.handle_chunk(attempt.get(), piece, now);
        act(&mut exchange);
    }
    exchange.handle_end(attempt.get(), Ok(()), now);
    act(&mut exchange);
    assert!(exchange.is_finished(), "an answer without an end");
    given
}

fn request(stream: bool) -> String {
    let words = "Say something that is long enough to be a question. ".repeat(8);
    format!(
        r#"{{"model":"m","max_tokens":1024,"stream":{stream},"messages":[{{"role":"user","content":"{words}"}}]}}"#
    )
}

/// Reads a request's head as the gateway does.
fn wishes(dialect: Dialect, request: &str) -> Wishes {
    let envelope =
        Envelope::read(request.as_bytes(), &Limits::default()).expect("invariant: it is a request");
    Wishes {
        dialect,
        stream: envelope.stream().unwrap_or(false),
        choices: 1,
        joinable: !envelope.wants_json(),
        after_tools: envelope.last_message_has_tool_result(),
        pausable: false,
    }
}

/// Every target is well.
struct Well;

impl Health for Well {
    fn admit(&mut self, _: usize, _: Time, _: bool) -> Leave {
        Leave::Go { probe: false }
    }

    fn report(&mut self, _: usize, _: Time, _: Report, _: bool) {}
}
