//! Runs one exchange by hand: one target, one answer, cut or chunked as a test wishes.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::breaker::Report;
use holdfast_core::exchange::{Action, Exchange, Finish, Head, Outcome, Record, Send, Setup};
use holdfast_core::plan::{Health, Leave};
use holdfast_core::policy::{Delivery, Policy, Target, Timeouts, Wishes};
use holdfast_core::time::Time;
use holdfast_wire::turn::Dialect;

pub(crate) const DIALECTS: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAi];
pub(crate) const DELIVERIES: [Delivery; 3] = [Delivery::Live, Delivery::Guarded, Delivery::Whole];

/// Lets every call through.
pub(crate) struct Free;

impl Health for Free {
    fn admit(&mut self, _: usize, _: Time, _: bool) -> Leave {
        Leave::Go { probe: false }
    }

    fn report(&mut self, _: usize, _: Time, _: Report, _: bool) {}
}

pub(crate) fn target(dialect: Dialect) -> Target {
    Target {
        dialect,
        domain: 1,
        context_window: None,
        names_model: true,
        caller_auth: false,
        streams_plain_calls: true,
        timeouts: Timeouts::default(),
    }
}

pub(crate) fn wishes(dialect: Dialect, stream: bool) -> Wishes {
    Wishes {
        dialect,
        stream,
        choices: 1,
        joinable: true,
        after_tools: false,
        pausable: false,
    }
}

/// An exchange that has one attempt at one target.
pub(crate) fn once(caller: Dialect, stream: bool, vendor: Dialect, delivery: Delivery) -> Setup {
    Setup {
        policy: Policy {
            delivery,
            max_attempts: 1,
            max_continuations: 0,
            heartbeat: Duration::from_hours(1),
            ..Policy::default()
        },
        targets: vec![target(vendor)],
        wishes: wishes(caller, stream),
        answer_id: "id-of-ours".into(),
        model: "model-of-ours".into(),
        created: 1,
        include_usage: true,
        gate: None,
    }
}

/// What came of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    pub(crate) shown: Vec<u8>,
    pub(crate) body: Option<Bytes>,
}

impl End {
    pub(crate) fn is_delivered(&self) -> bool {
        matches!(self.outcome, Outcome::Delivered(_))
    }
}

pub(crate) fn stream_head() -> Head {
    Head {
        status: 200,
        content_type: Some("text/event-stream; charset=utf-8".into()),
        ..Head::default()
    }
}

/// Gives `setup`'s first attempt a stream in `chunks` that ends as `end`, and no other attempt.
pub(crate) fn play<'a>(
    setup: Setup,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    end: Result<(), String>,
) -> End {
    let now = Time::default();
    let mut exchange = Exchange::new(setup, now);
    let mut shown = Vec::new();
    let mut finish = None;
    poll(&mut exchange, &mut shown, &mut finish);
    exchange.handle_connected(0, now);
    exchange.handle_head(0, stream_head(), now);
    for chunk in chunks {
        exchange.handle_chunk(0, Bytes::copy_from_slice(chunk), now);
        poll(&mut exchange, &mut shown, &mut finish);
    }
    exchange.handle_end(0, end, now);
    poll(&mut exchange, &mut shown, &mut finish);
    let finish = finish.expect("a finish");
    End {
        outcome: finish.outcome,
        shown,
        body: finish.body,
    }
}

fn poll(exchange: &mut Exchange, shown: &mut Vec<u8>, finish: &mut Option<Finish>) {
    while let Some(action) = exchange.poll_action(Time::default(), &mut Free, &mut || 0) {
        assert!(finish.is_none(), "{action:?} after the finish");
        match action {
            Action::Release(bytes) => shown.extend_from_slice(&bytes),
            Action::Finish(end) => *finish = Some(end),
            Action::Send(_) | Action::Abort { .. } => {}
        }
    }
}

/// A recorded stream.
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) dialect: Dialect,
    pub(crate) bytes: Vec<u8>,
}

/// Every recorded stream that the wire crate is tested with.
pub(crate) fn recorded() -> &'static [Recorded] {
    static ALL: LazyLock<Vec<Recorded>> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/fixtures");
        let mut all = Vec::new();
        for dialect in DIALECTS {
            for entry in std::fs::read_dir(root.join(dialect.name())).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|kind| kind == "sse") {
                    all.push(Recorded {
                        name: format!("{}/{}", dialect.name(), path.display()),
                        dialect,
                        bytes: std::fs::read(path).unwrap(),
                    });
                }
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(all.len() > 40);
        all
    });
    &ALL
}

/// What a vendor sends to one attempt.
pub(crate) enum Reply {
    /// A stream that ends cleanly, or not at all.
    Stream(String),
    Open(String),
    Body(String),
    Status(u16, &'static str),
}

/// Answers the attempts of `setup` in turn, and tells what was asked beside what came of it. Time
/// runs from timeout to timeout.
pub(crate) fn talk(setup: Setup, replies: Vec<Reply>) -> (End, Vec<Action>) {
    let mut replies = replies.into_iter();
    talk_with(setup, |_| {
        replies.next().expect("a reply for every attempt")
    })
}

/// As [`talk`], with a reply made for each attempt.
pub(crate) fn talk_with(setup: Setup, reply: impl FnMut(&Send) -> Reply) -> (End, Vec<Action>) {
    let (end, actions, _) = converse(setup, &mut Free, reply);
    (end, actions)
}

/// As [`talk_with`], under the given breakers and budgets, and with the record of it.
pub(crate) fn converse(
    setup: Setup,
    health: &mut impl Health,
    reply: impl FnMut(&Send) -> Reply,
) -> (End, Vec<Action>, Record) {
    let (end, asked, exchange) = conversed(setup, health, reply);
    (end, asked, exchange.record().clone())
}

/// As [`converse`], with the exchange as it stands at its end.
pub(crate) fn conversed(
    setup: Setup,
    health: &mut impl Health,
    mut reply: impl FnMut(&Send) -> Reply,
) -> (End, Vec<Action>, Exchange) {
    let mut now = Time::default();
    let mut exchange = Exchange::new(setup, now);
    let (mut shown, mut asked, mut finish) = (Vec::new(), Vec::new(), None);
    loop {
        while let Some(action) = exchange.poll_action(now, health, &mut || 0) {
            match &action {
                Action::Release(bytes) => shown.extend_from_slice(bytes),
                Action::Finish(end) => finish = Some(end.clone()),
                Action::Send(send) => {
                    let reply = reply(send);
                    answer(&mut exchange, send.attempt, reply, now);
                }
                Action::Abort { .. } => {}
            }
            asked.push(action);
        }
        match exchange.poll_timeout() {
            Some(due) => now = due,
            None => break,
        }
        exchange.handle_timeout(now);
    }
    let finish = finish.expect("a finish");
    let end = End {
        outcome: finish.outcome,
        shown,
        body: finish.body,
    };
    (end, asked, exchange)
}

fn answer(exchange: &mut Exchange, attempt: u32, reply: Reply, now: Time) {
    exchange.handle_connected(attempt, now);
    let (head, bytes, ends) = match reply {
        Reply::Stream(bytes) => (stream_head(), bytes, true),
        Reply::Open(bytes) => (stream_head(), bytes, false),
        Reply::Body(bytes) => (plain_head(200), bytes, true),
        Reply::Status(status, bytes) => (plain_head(status), bytes.to_owned(), false),
    };
    exchange.handle_head(attempt, head, now);
    exchange.handle_chunk(attempt, bytes.into(), now);
    if ends {
        exchange.handle_end(attempt, Ok(()), now);
    }
}

fn plain_head(status: u16) -> Head {
    Head {
        status,
        content_type: Some("application/json".into()),
        ..Head::default()
    }
}
