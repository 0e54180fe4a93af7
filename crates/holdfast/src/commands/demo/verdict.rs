//! What became of a call, from where the program stands that made it.
//!
//! The measure is not what the wire did but what the program holds and whether it was told: a cut
//! transport raises an error in every SDK and is `told`; a stream that ends neatly in the middle
//! raises none and is `half`.

use serde_json::Value;

use super::held::{Call, Held};
use super::plan::{Ask, TOOL, Wish};

/// How the reading ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum End {
    /// As if all were well.
    Ended,
    /// With an error that the program cannot overlook.
    Told(Told),
    /// Nothing new came for longer than the program waits.
    Stalled,
}

/// The ways in which a program is told.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Told {
    /// No response: the connection was refused or cut before it.
    NoResponse,
    /// An HTTP status from 400 on.
    Status(u16),
    /// An error event in the stream.
    ErrorEvent,
    /// The transport was cut in the middle of the body.
    Aborted,
    /// The SDK cannot read the answer and raises that.
    Unreadable,
}

/// What a program got for its call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The one right answer, and the word that it is complete.
    Whole,
    /// An explicit error.
    Told,
    /// A text or a tool call that is cut or wrong, without any error.
    Half,
    /// Success with nothing in it, or with something that is no answer to the question.
    Silent,
    /// Nothing, for too long.
    Hung,
}

impl Outcome {
    /// In the order of the table.
    pub(super) const ALL: [Self; 5] = [
        Self::Whole,
        Self::Told,
        Self::Half,
        Self::Silent,
        Self::Hung,
    ];

    /// As it is written in the table.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Told => "told",
            Self::Half => "half",
            Self::Silent => "silent",
            Self::Hung => "hung",
        }
    }

    /// What Holdfast promises never to do.
    pub(super) const fn is_broken_promise(self) -> bool {
        matches!(self, Self::Half | Self::Silent | Self::Hung)
    }
}

/// Judges one answer.
pub(super) fn judge(ask: &Ask, held: &Held, end: End) -> Outcome {
    match end {
        End::Told(_) => Outcome::Told,
        End::Stalled => Outcome::Hung,
        End::Ended if held.is_empty() => Outcome::Silent,
        End::Ended if !held.is_closed(ask.dialect) => Outcome::Half,
        End::Ended => match ask.wish {
            Wish::Text => judge_text(ask, held),
            Wish::Tools(count) => judge_calls(held, count),
        },
    }
}

fn judge_text(ask: &Ask, held: &Held) -> Outcome {
    let right = ask.right_text();
    let finished = matches!(held.finish.as_deref(), Some("stop" | "end_turn"));
    if held.text == right && held.calls.is_empty() && finished {
        Outcome::Whole
    } else if right.starts_with(&held.text) {
        Outcome::Half
    } else {
        Outcome::Silent
    }
}

fn judge_calls(held: &Held, count: usize) -> Outcome {
    let finished = matches!(held.finish.as_deref(), Some("tool_calls" | "tool_use"));
    let whole = |call: &Call| call.name == TOOL && arguments_are_whole(&call.arguments);
    if held.calls.len() == count && held.calls.iter().all(whole) && finished {
        Outcome::Whole
    } else if held.calls.is_empty() {
        Outcome::Silent
    } else {
        Outcome::Half
    }
}

/// Both arguments are there, each with its checksum.
fn arguments_are_whole(arguments: &str) -> bool {
    let Ok(arguments) = serde_json::from_str::<Value>(arguments) else {
        return false;
    };
    ["city", "guest"].iter().all(|name| {
        arguments[name]
            .as_str()
            .is_some_and(holdfast_sim::check_text)
    })
}

#[cfg(test)]
mod tests;
