//! What the exchange is told before it begins: the route's policy, its targets, the caller's wishes.
//!
//! Plain data, checked elsewhere (`config`); every number has its meaning and unit here.

use std::time::Duration;

use holdfast_wire::turn::Dialect;

use crate::backoff::Backoff;

/// How bytes reach the caller (design 4).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Delivery {
    /// Everything as it comes; only the end is checked.
    Live,
    /// Text and thinking as they come; tool calls and the end once the answer is proven whole.
    #[default]
    Guarded,
    /// Nothing but keep-alives until the answer is proven whole.
    Whole,
}

impl Delivery {
    /// The name used in configuration and in the `Holdfast-Delivery` header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Guarded => "guarded",
            Self::Whole => "whole",
        }
    }

    /// The delivery called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Live, Self::Guarded, Self::Whole]
            .into_iter()
            .find(|delivery| delivery.name() == name)
    }
}

/// What to do with an answer that the vendor or the model refused to give.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnRefusal {
    #[default]
    Deliver,
    /// Ask the next target, where nothing was shown and one is left.
    Next,
}

/// How long one attempt may take in each of its phases. Pings and comments are not progress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the connection to the response head (streams only: a plain answer's head comes when the
    /// answer is done).
    pub head: Duration,
    /// From the head to the first token.
    pub first_token: Duration,
    /// Between tokens.
    pub idle: Duration,
    /// The whole attempt.
    pub attempt: Duration,
    /// How long to wait for usage and the terminal marker after the last finish reason.
    pub after_finish: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(30),
            first_token: Duration::from_secs(30),
            idle: Duration::from_secs(20),
            attempt: Duration::from_mins(10),
            after_finish: Duration::from_secs(2),
        }
    }
}

/// A route's policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    pub delivery: Delivery,
    /// Whether a cut text may be continued on another target.
    pub join: bool,
    pub attempts_per_target: u32,
    /// Over all targets.
    pub max_attempts: u32,
    /// The whole exchange.
    pub deadline: Duration,
    pub backoff: Backoff,
    pub on_refusal: OnRefusal,
    /// An answer without content counts as whole.
    pub empty_is_whole: bool,
    /// A keep-alive is sent to a streaming caller that saw nothing for so long.
    pub heartbeat: Duration,
    /// How often a paused turn is sent back within one exchange.
    pub max_continuations: u32,
    /// The most bytes of an answer that are held.
    pub answer_limit: usize,
    /// The most bytes of one event.
    pub event_limit: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            delivery: Delivery::Guarded,
            join: true,
            attempts_per_target: 2,
            max_attempts: 6,
            deadline: Duration::from_mins(10),
            backoff: Backoff::default(),
            on_refusal: OnRefusal::Deliver,
            empty_is_whole: false,
            heartbeat: Duration::from_secs(10),
            max_continuations: 8,
            answer_limit: 64 << 20,
            event_limit: 16 << 20,
        }
    }
}

/// One target, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    pub dialect: Dialect,
    /// Targets with the same number fall together.
    pub domain: u32,
    /// Tokens that fit; `None` = not known.
    pub context_window: Option<u64>,
    /// The model's name is ours, not the caller's: a "no such model" is then not the caller's fault.
    pub names_model: bool,
    /// The caller's own credential is used: a "not authorised" is then the caller's fault.
    pub caller_auth: bool,
    /// A call without `stream` is made as a stream to this target.
    pub streams_plain_calls: bool,
    pub timeouts: Timeouts,
}

/// What the caller asked for, as far as decisions need it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wishes {
    pub dialect: Dialect,
    pub stream: bool,
    /// How many choices the caller wants (OpenAI `n`).
    pub choices: u32,
    /// The answer may be continued on another target: one choice, free text.
    pub joinable: bool,
    /// The last turn brought tool results, after which an empty answer is legitimate.
    pub after_tools: bool,
    /// Server tools are in play, so the vendor may pause the turn.
    pub pausable: bool,
}
