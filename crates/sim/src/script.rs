//! Which fault a call meets: rules with shares, from a file or the control endpoint.
//!
//! A script is YAML or JSON. The dice are seeded: the same script and the same order of calls give the same faults.

use serde::{Deserialize, Serialize};

use crate::ask::{Ask, Dialect};
use crate::fault::{Fault, UnknownFault};
use crate::play::Timing;
use crate::scenario::{Scenario, UnknownScenario};
use crate::text::Dice;

/// Why a script can't be played.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error("the script is not valid: {0}")]
    Yaml(#[from] Box<serde_saphyr::Error>),
    #[error("the script is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Fault(#[from] UnknownFault),
    #[error(transparent)]
    Scenario(#[from] UnknownScenario),
    #[error("a share must lie between 0 and 1, not {0}")]
    Share(f64),
}

/// A script as it is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Seeds the dice; 0 unless told.
    pub seed: u64,
    /// Milliseconds before the first token.
    pub first_token_ms: Option<u64>,
    /// Milliseconds between tokens.
    pub token_ms: Option<u64>,
    /// Tried in order for each call.
    pub faults: Vec<Rule>,
    /// A timeline instead of (and after) the rules.
    pub scenario: Option<ScenarioChoice>,
    /// Times of the scenario are multiplied by this.
    pub time_scale: Option<f64>,
}

/// A scenario by name, or written out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ScenarioChoice {
    Named(String),
    Written(Scenario),
}

/// One rule: which calls it is for, the fault, and how often.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The fault, as it is written everywhere (`cut-rst:after:3`).
    pub fault: String,
    /// The share of the calls that it is for, 0 to 1. The shares of one call's rules add up: one throw decides.
    #[serde(default = "whole")]
    pub share: f64,
    /// Spent after this many calls.
    #[serde(default)]
    pub times: Option<u64>,
    /// Only for models whose name begins so.
    #[serde(default)]
    pub model: Option<String>,
    /// Only for streams, or only for plain calls.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Only for `anthropic`, or only for `openai`.
    #[serde(default)]
    pub dialect: Option<String>,
    /// Only for calls with tools, or only for calls without.
    #[serde(default)]
    pub tools: Option<bool>,
}

const fn whole() -> f64 {
    1.0
}

impl Script {
    /// Reads YAML or JSON and checks every fault's name.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let script: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text)?
        } else {
            serde_saphyr::from_str(text).map_err(Box::new)?
        };
        Ruleset::new(&script.faults, script.seed)?;
        if let Some(scenario) = script.scenario()? {
            scenario.check()?;
        }
        Ok(script)
    }

    /// A script of one rule for every call.
    pub fn always(fault: &Fault) -> Self {
        Self {
            faults: vec![Rule::always(fault)],
            ..Self::default()
        }
    }

    pub(crate) fn scenario(&self) -> Result<Option<Scenario>, ScriptError> {
        Ok(match &self.scenario {
            None => None,
            Some(ScenarioChoice::Named(name)) => Some(Scenario::named(name)?),
            Some(ScenarioChoice::Written(scenario)) => Some(scenario.clone()),
        })
    }

    pub(crate) fn timing(&self, timing: Timing) -> Timing {
        let or =
            |millis: Option<u64>, default| millis.map_or(default, std::time::Duration::from_millis);
        Timing {
            first_token: or(self.first_token_ms, timing.first_token),
            token: or(self.token_ms, timing.token),
            ..timing
        }
    }
}

impl Rule {
    /// A rule for every call.
    pub fn always(fault: &Fault) -> Self {
        Self {
            fault: fault.to_string(),
            share: 1.0,
            times: None,
            model: None,
            stream: None,
            dialect: None,
            tools: None,
        }
    }

    /// A rule for this share of the calls.
    pub fn share(fault: &str, share: f64) -> Self {
        Self {
            fault: fault.to_owned(),
            share,
            ..Self::always(&Fault::Healthy)
        }
    }

    fn fits(&self, ask: &Ask) -> bool {
        let dialect = match ask.dialect {
            Dialect::Anthropic => "anthropic",
            Dialect::OpenAi => "openai",
        };
        self.model
            .as_ref()
            .is_none_or(|prefix| ask.model.starts_with(prefix.trim_end_matches('*')))
            && self.stream.is_none_or(|stream| stream == ask.stream)
            && self.dialect.as_ref().is_none_or(|wanted| wanted == dialect)
            && self.tools.is_none_or(|tools| tools != ask.tools.is_empty())
    }
}

/// Checked rules with their dice.
#[derive(Clone, Debug)]
pub(crate) struct Ruleset {
    rules: Vec<(Rule, Fault, Option<u64>)>,
    dice: Dice,
}

impl Ruleset {
    pub(crate) fn new(rules: &[Rule], seed: u64) -> Result<Self, ScriptError> {
        let mut checked = Vec::new();
        for rule in rules {
            if !(0.0..=1.0).contains(&rule.share) {
                return Err(ScriptError::Share(rule.share));
            }
            checked.push((rule.clone(), rule.fault.parse()?, rule.times));
        }
        Ok(Self {
            rules: checked,
            dice: Dice::new(seed),
        })
    }

    /// The fault that this call meets, if any.
    pub(crate) fn draw(&mut self, ask: &Ask) -> Option<Fault> {
        // A share of refusals is drawn when a connection is made, not once more for each of its calls.
        self.throw(|rule, fault| rule.fits(ask) && (*fault != Fault::Refuse || rule.share >= 1.0))
    }

    /// Whether a new connection is to be refused.
    pub(crate) fn refuse(&mut self) -> bool {
        self.rules
            .iter()
            .any(|(_, fault, _)| *fault == Fault::Refuse)
            && self.throw(|_, fault| *fault == Fault::Refuse).is_some()
    }

    /// Whether every connection is refused for ever: nobody could reach the control endpoint to change it.
    pub(crate) fn locks_out(&self) -> bool {
        self.rules
            .iter()
            .any(|(_, fault, times)| *fault == Fault::Refuse && times.is_none())
    }

    fn throw(&mut self, fits: impl Fn(&Rule, &Fault) -> bool) -> Option<Fault> {
        let thrown = self.dice.unit();
        let mut sum = 0.0;
        for (rule, fault, times) in &mut self.rules {
            if *times == Some(0) || !fits(rule, fault) {
                continue;
            }
            sum += rule.share;
            if thrown < sum {
                if let Some(times) = times {
                    *times -= 1;
                }
                return Some(fault.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Rules, read};

    fn ask(model: &str, stream: bool) -> Ask {
        let body = serde_json::json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "x"}]});
        read(
            Dialect::OpenAi,
            None,
            body.to_string().as_bytes(),
            Rules {
                counting: false,
                refuse_prefill: false,
            },
        )
        .unwrap()
    }

    fn rules(text: &str) -> Ruleset {
        let script = Script::parse(text).unwrap();
        Ruleset::new(&script.faults, script.seed).unwrap()
    }

    #[test]
    fn rules_are_spent_and_fall_through() {
        let mut rules = rules(
            "faults:\n  - {fault: 'status:529', times: 2}\n  - {fault: 'cut-rst:3', stream: true, model: 'gpt-*'}\n",
        );
        assert_eq!(
            rules.draw(&ask("x", false)).unwrap().to_string(),
            "status:529"
        );
        assert_eq!(
            rules.draw(&ask("x", false)).unwrap().to_string(),
            "status:529"
        );
        assert_eq!(rules.draw(&ask("x", true)), None);
        assert_eq!(rules.draw(&ask("gpt-5", false)), None);
        assert_eq!(
            rules.draw(&ask("gpt-5", true)).unwrap().to_string(),
            "cut-rst:after:3"
        );
    }

    #[test]
    fn shares_are_kept_and_repeatable() {
        let text = r#"{"seed": 4, "faults": [{"fault": "cut-fin", "share": 0.66}, {"fault": "status:529", "share": 0.1}]}"#;
        let draw = || {
            let mut rules = rules(text);
            (0..3000)
                .map(|_| rules.draw(&ask("x", true)).map(|fault| fault.to_string()))
                .collect::<Vec<_>>()
        };
        let drawn = draw();
        let count = |name: Option<&str>| {
            drawn
                .iter()
                .filter(|fault| fault.as_deref() == name)
                .count()
        };
        assert!(
            (1900..2060).contains(&count(Some("cut-fin:half"))),
            "{}",
            count(Some("cut-fin:half"))
        );
        assert!((240..360).contains(&count(Some("status:529"))));
        assert_eq!(drawn, draw());
    }

    #[test]
    fn mistakes_are_told() {
        assert!(matches!(
            Script::parse("faults: [{fault: nope}]"),
            Err(ScriptError::Fault(_))
        ));
        assert!(matches!(
            Script::parse("faults: [{fault: ok, share: 2}]"),
            Err(ScriptError::Share(_))
        ));
        assert!(matches!(
            Script::parse("scenario: nope"),
            Err(ScriptError::Scenario(_))
        ));
        assert!(Script::parse("typo: 1").is_err());
    }
}
