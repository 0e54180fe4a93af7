//! What is asked: a mixed load, the same for both sides and for every run with the same seed.
//!
//! Each question carries its own seed, so that the one right answer to it is known beforehand
//! (`docs/sim.md`, markers) and an answer to another question would not pass for it.

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

/// Words of each text answer.
const WORDS: usize = 30;
/// The tool that is offered.
pub(super) const TOOL: &str = "book_room";

/// The protocol of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    Anthropic,
    OpenAi,
}

/// What a call is after.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Text,
    /// So many tool calls at once.
    Tools(usize),
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// Its place in the load, from 0.
    pub(super) number: u32,
    pub(super) dialect: Dialect,
    pub(super) wish: Wish,
    pub(super) stream: bool,
    seed: u64,
}

/// The load: which calls, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Calls per second on each side.
    pub(super) rate: u32,
    pub(super) length: Duration,
}

impl Plan {
    /// How many calls each side gets.
    pub(super) fn count(&self) -> u32 {
        let calls = u128::from(self.rate) * self.length.as_millis() / 1000;
        u32::try_from(calls).unwrap_or(u32::MAX)
    }

    /// The pause between two calls.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_secs(1) / self.rate
    }

    /// A call by its number. Of ten calls five stream a text, two stream tool calls, two are plain
    /// texts and one is a plain tool call; the dialects take turns at random.
    pub(super) fn ask(&self, number: u32) -> Ask {
        let mut dice = fastrand::Rng::with_seed(self.seed ^ (u64::from(number) << 32));
        let (stream, wish) = match dice.u8(0..10) {
            0..5 => (true, Wish::Text),
            5..7 => (true, Wish::Tools(dice.usize(1..=2))),
            7..9 => (false, Wish::Text),
            _ => (false, Wish::Tools(1)),
        };
        Ask {
            number,
            dialect: if dice.bool() {
                Dialect::Anthropic
            } else {
                Dialect::OpenAi
            },
            wish,
            stream,
            // Small enough for every JSON reader to keep exact.
            seed: dice.u64(1..1 << 40),
        }
    }
}

impl Ask {
    /// A text question, as a curl line or a test asks it.
    pub(super) fn text(dialect: Dialect, stream: bool) -> Self {
        Self {
            number: 0,
            dialect,
            wish: Wish::Text,
            stream,
            seed: 7,
        }
    }

    /// The same question after tool calls.
    pub(super) fn tools(dialect: Dialect, stream: bool) -> Self {
        Self {
            wish: Wish::Tools(1),
            ..Self::text(dialect, stream)
        }
    }

    /// The one right text, when the wish is a text.
    pub(super) fn right_text(&self) -> String {
        holdfast_sim::make_text(self.seed, WORDS)
    }

    /// The model that both sides are asked for.
    pub(super) const fn model(&self) -> &'static str {
        match self.dialect {
            Dialect::Anthropic => "claude",
            Dialect::OpenAi => "gpt",
        }
    }

    pub(super) const fn path(&self) -> &'static str {
        match self.dialect {
            Dialect::Anthropic => "/v1/messages",
            Dialect::OpenAi => "/v1/chat/completions",
        }
    }

    /// The headers that the vendors' SDKs send and the protocols ask for.
    pub(super) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let header = |name, value| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut headers = vec![header("content-type", "application/json")];
        match self.dialect {
            Dialect::Anthropic => {
                headers.push(header("x-api-key", "demo"));
                headers.push(header("anthropic-version", "2023-06-01"));
            }
            Dialect::OpenAi => headers.push(header("authorization", "Bearer demo")),
        }
        headers
    }

    /// The request body, for the model of this name.
    pub(super) fn body(&self, model: &str) -> Value {
        let (seed, number) = (self.seed, self.number);
        let marks = match self.wish {
            Wish::Text => format!("seed:{seed} words:{WORDS}"),
            Wish::Tools(calls) => format!("seed:{seed} tools:{calls}"),
        };
        let question = format!("Question {number} [[{marks}]]");
        let mut body = json!({
            "model": model,
            "stream": self.stream,
            "messages": [{"role": "user", "content": question}],
        });
        if self.dialect == Dialect::Anthropic {
            body["max_tokens"] = json!(1024);
        }
        if self.wish != Wish::Text {
            body["tools"] = json!([self.tool_offer()]);
        }
        body
    }

    fn tool_offer(&self) -> Value {
        let schema = json!({
            "type": "object",
            "properties": {"city": {"type": "string"}, "guest": {"type": "string"}},
            "required": ["city", "guest"],
        });
        let (name, about) = (TOOL, "Book a hotel room");
        match self.dialect {
            Dialect::Anthropic => {
                json!({"name": name, "description": about, "input_schema": schema})
            }
            Dialect::OpenAi => json!({
                "type": "function",
                "function": {"name": name, "description": about, "parameters": schema},
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        seed: 5,
        rate: 40,
        length: Duration::from_secs(36),
    };

    #[test]
    fn a_load_is_mixed_and_repeatable() {
        assert_eq!(PLAN.count(), 1440);
        let all: Vec<_> = (0..PLAN.count()).map(|number| PLAN.ask(number)).collect();
        let share = |fits: &dyn Fn(&Ask) -> bool| all.iter().filter(|ask| fits(ask)).count();
        assert!((900..1100).contains(&share(&|ask| ask.stream)));
        assert!((350..520).contains(&share(&|ask| ask.wish != Wish::Text)));
        assert!((600..840).contains(&share(&|ask| ask.dialect == Dialect::OpenAi)));
        let again: Vec<_> = (0..PLAN.count()).map(|number| PLAN.ask(number)).collect();
        assert_eq!(format!("{all:?}"), format!("{again:?}"));
    }

    #[test]
    fn every_question_has_an_answer_of_its_own() {
        assert_ne!(PLAN.ask(1).right_text(), PLAN.ask(2).right_text());
        assert!(holdfast_sim::check_text(&PLAN.ask(1).right_text()));
    }

    #[test]
    fn bodies_name_the_model_and_offer_tools_in_their_dialect() {
        let body = Ask::tools(Dialect::OpenAi, true).body("gpt");
        assert_eq!(body["tools"][0]["function"]["name"], "book_room");
        assert!(body.get("max_tokens").is_none());
        let body = Ask::text(Dialect::Anthropic, false).body("claude");
        assert_eq!(body["max_tokens"], 1024);
        assert!(body.get("tools").is_none());
    }
}
