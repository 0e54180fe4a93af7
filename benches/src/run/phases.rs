//! What is asked of the proxies, phase by phase.

use super::rows::{AUTO, BARE, DIRECT, HAPROXY, HOLDFAST, LIVE, NGINX, Row, Setup, USUAL, WHOLE};
use crate::script::Dialect;

/// One phase: the same work for each of its rows.
#[derive(Clone, Copy)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    /// In the table.
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) setup: Setup,
    /// The first one but `DIRECT` is the measure of the others.
    pub(crate) rows: &'static [Row],
    /// What `LiteLLM` is asked instead, since it takes hundreds of times as much.
    pub(crate) litellm: Option<Work>,
}

/// What a client does.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) load: Load,
    pub(crate) dialect: Dialect,
    pub(crate) connections: usize,
    pub(crate) keyed: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// One call after the other.
    Closed { seconds: f64, fill: usize },
    /// Calls when they are due.
    Open { rate: f64, delay: u64, seconds: f64 },
    /// A stream on each connection.
    Streams { tokens: u64, pace: u64, each: u64 },
}

/// What a cost is divided by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Call,
    Token,
    Mib,
}

const fn closed(connections: usize, seconds: f64) -> Work {
    work(connections, Load::Closed { seconds, fill: 0 })
}

pub(crate) const fn work(connections: usize, load: Load) -> Work {
    Work {
        load,
        dialect: Dialect::Openai,
        connections,
        keyed: false,
    }
}

const fn bodies(connections: usize, seconds: f64, mib: usize) -> Work {
    let fill = mib << 20;
    work(connections, Load::Closed { seconds, fill })
}

const fn open(rate: f64, delay: u64, seconds: f64) -> Work {
    work(
        1,
        Load::Open {
            rate,
            delay,
            seconds,
        },
    )
}

pub(crate) const fn streams(count: usize, tokens: u64, pace: u64) -> Work {
    streams_again(count, tokens, pace, 1)
}

/// So many streams on each connection, one after the other.
pub(crate) const fn streams_again(count: usize, tokens: u64, pace: u64, each: u64) -> Work {
    work(count, Load::Streams { tokens, pace, each })
}

const fn anthropic(work: Work) -> Work {
    Work {
        dialect: Dialect::Anthropic,
        ..work
    }
}

const fn phase(name: &'static str, title: &'static str, work: Work, rows: &'static [Row]) -> Phase {
    Phase {
        name,
        title,
        work,
        setup: USUAL,
        rows,
        litellm: None,
    }
}

const fn with_litellm(phase: Phase, work: Work) -> Phase {
    Phase {
        litellm: Some(work),
        ..phase
    }
}

const PROXIES: &[Row] = &[NGINX, HAPROXY, BARE, HOLDFAST];
const TIMED: &[Row] = &[DIRECT, NGINX, HAPROXY, BARE, HOLDFAST];

pub(crate) const PHASES: &[Phase] = &[
    with_litellm(
        phase(
            "call",
            "plain call, 64 connections",
            closed(64, 4.0),
            &[NGINX, HAPROXY, BARE, HOLDFAST, AUTO],
        ),
        closed(8, 6.0),
    ),
    with_litellm(
        phase(
            "rate-0",
            "plain call, 200 a second, vendor 0 ms",
            open(200.0, 0, 5.0),
            TIMED,
        ),
        open(10.0, 0, 6.0),
    ),
    with_litellm(
        phase(
            "rate-60",
            "plain call, 200 a second, vendor 60 ms",
            open(200.0, 60, 6.0),
            TIMED,
        ),
        open(10.0, 60, 6.0),
    ),
    with_litellm(
        phase(
            "streams-100",
            "token, 100 streams, one in 20 ms",
            streams(100, 200, 20),
            PROXIES,
        ),
        streams(100, 10, 1000),
    ),
    phase(
        "streams-1000",
        "token, 1,000 streams, one in 20 ms",
        streams(1000, 200, 20),
        &[NGINX, HAPROXY, BARE, HOLDFAST, LIVE, WHOLE],
    ),
    Phase {
        // The default lets in 4,096 calls.
        setup: Setup {
            in_flight: Some(8192),
            ..USUAL
        },
        ..phase(
            "streams-5000",
            "token, 5,000 streams, one in 200 ms",
            streams(5000, 40, 200),
            PROXIES,
        )
    },
    with_litellm(
        phase(
            "body-1",
            "MiB of request, bodies of 1 MiB",
            bodies(8, 3.0, 1),
            PROXIES,
        ),
        bodies(2, 4.0, 1),
    ),
    phase(
        "body-4",
        "MiB of request, bodies of 4 MiB",
        bodies(8, 3.0, 4),
        PROXIES,
    ),
    phase(
        "keyed",
        "call with a new `Idempotency-Key`, 64 connections",
        Work {
            keyed: true,
            ..closed(64, 4.0)
        },
        &[NGINX, HOLDFAST],
    ),
    with_litellm(
        phase(
            "cross",
            "plain call, Anthropic's dialect to OpenAI's",
            anthropic(closed(64, 3.0)),
            PROXIES,
        ),
        anthropic(closed(8, 6.0)),
    ),
    phase(
        "cross-streams",
        "token, Anthropic's dialect from OpenAI's, 100 streams",
        anthropic(streams(100, 200, 20)),
        &[NGINX, HOLDFAST],
    ),
    Phase {
        setup: Setup {
            dead: true,
            ..USUAL
        },
        ..phase(
            "dead",
            "plain call, the first target refuses connections",
            closed(64, 3.0),
            &[NGINX, HAPROXY, HOLDFAST],
        )
    },
];

impl Work {
    pub(crate) fn unit(&self) -> Unit {
        match self.load {
            Load::Streams { .. } => Unit::Token,
            Load::Closed { fill, .. } if fill >= 1 << 20 => Unit::Mib,
            Load::Closed { .. } | Load::Open { .. } => Unit::Call,
        }
    }

    /// The same, shorter.
    pub(crate) fn quick(self) -> Self {
        let load = match self.load {
            Load::Closed { seconds, fill } => Load::Closed {
                seconds: seconds / 3.0,
                fill,
            },
            Load::Open {
                rate,
                delay,
                seconds,
            } => Load::Open {
                rate,
                delay,
                seconds: seconds / 2.0,
            },
            Load::Streams {
                tokens,
                pace,
                each: 1,
            } => Load::Streams {
                tokens: (tokens / 2).max(10),
                pace,
                each: 1,
            },
            Load::Streams { tokens, pace, each } => Load::Streams {
                tokens,
                pace,
                each: each / 2,
            },
        };
        Self { load, ..self }
    }

    /// As arguments of the load client.
    pub(crate) fn args(&self) -> String {
        let dialect = match self.dialect {
            Dialect::Openai => "openai",
            Dialect::Anthropic => "anthropic",
        };
        let mut args = format!("--dialect {dialect} --connections {}", self.connections);
        let more = match self.load {
            Load::Closed { seconds, fill: 0 } => format!(" --seconds {seconds}"),
            Load::Closed { seconds, fill } => format!(" --seconds {seconds} --fill {fill}"),
            Load::Open {
                rate,
                delay,
                seconds,
            } => format!(" --rate {rate} --delay {delay} --seconds {seconds}"),
            Load::Streams { tokens, pace, each } => {
                format!(" --mode stream --tokens {tokens} --pace {pace} --calls {each}")
            }
        };
        args += &more;
        if self.keyed {
            args += " --keyed";
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_client_shall_do() {
        let keyed = Work {
            keyed: true,
            ..closed(64, 4.0)
        };
        assert_eq!(
            keyed.args(),
            "--dialect openai --connections 64 --seconds 4 --keyed"
        );
        assert_eq!(
            streams(5, 40, 200).args(),
            "--dialect openai --connections 5 --mode stream --tokens 40 --pace 200 --calls 1"
        );
    }

    #[test]
    fn a_large_body_is_counted_by_its_size() {
        assert!(bodies(8, 3.0, 4).unit() == Unit::Mib);
        assert!(closed(8, 3.0).unit() == Unit::Call);
    }

    #[test]
    fn names_of_phases_are_unique() {
        for (index, phase) in PHASES.iter().enumerate() {
            assert!(PHASES[..index].iter().all(|other| other.name != phase.name));
        }
    }
}
