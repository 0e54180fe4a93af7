//! Timelines of faults that several vendors can share: an outage that hits two surfaces of one vendor together.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::ask::Ask;
use crate::fault::Fault;
use crate::script::{Rule, Ruleset, ScriptError};

/// No scenario has this name.
#[derive(Debug, thiserror::Error)]
#[error("no scenario is called `{0}` (there is `outage-2026-06-21`)")]
pub struct UnknownScenario(pub String);

/// A timeline. After its last phase the vendor is healthy, unless it repeats.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called in reports.
    pub name: String,
    /// Seeds the dice of every phase.
    #[serde(default)]
    pub seed: u64,
    /// Whether it begins again after the last phase.
    #[serde(default)]
    pub repeat: bool,
    pub phases: Vec<Phase>,
}

/// One stretch of time and the rules that hold in it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// What it is called in reports.
    pub name: String,
    /// How long it lasts, before the time scale.
    pub seconds: f64,
    #[serde(default)]
    pub faults: Vec<Rule>,
}

impl Scenario {
    /// The scenarios that are built in.
    pub const NAMES: [&'static str; 1] = ["outage-2026-06-21"];

    /// A built-in scenario.
    pub fn named(name: &str) -> Result<Self, UnknownScenario> {
        if name == "outage-2026-06-21" {
            Ok(Self::outage())
        } else {
            Err(UnknownScenario(name.to_owned()))
        }
    }

    /// The outage of 2026-06-21: healthy for a minute, then for four minutes two thirds of the streams are cut in
    /// the middle (neatly, by FIN and by RST) and some calls meet a 529, then recovery.
    fn outage() -> Self {
        let streams = |fault: &str, share: f64| Rule {
            stream: Some(true),
            ..Rule::share(fault, share)
        };
        let plain = |fault: &str, share: f64| Rule {
            stream: Some(false),
            ..Rule::share(fault, share)
        };
        let phase = |name: &str, seconds: f64, faults: Vec<Rule>| Phase {
            name: name.to_owned(),
            seconds,
            faults,
        };
        let outage = vec![
            Rule::share("status:529", 0.1),
            streams("cut-clean:half", 0.26),
            streams("cut-fin:half", 0.14),
            streams("cut-rst:half", 0.14),
            streams("error-in-band:6", 0.06),
            streams("stall:8", 0.06),
            plain("status:500", 0.2),
            plain("short-mismatch", 0.15),
            plain("short-matching", 0.15),
            plain("hang-before-headers", 0.05),
        ];
        Self {
            name: "outage-2026-06-21".to_owned(),
            seed: 20_260_621,
            repeat: false,
            phases: vec![
                phase("healthy", 60.0, Vec::new()),
                phase("outage", 240.0, outage),
                phase("recovery", 60.0, Vec::new()),
            ],
        }
    }

    pub(crate) fn check(&self) -> Result<(), ScriptError> {
        for phase in &self.phases {
            Ruleset::new(&phase.faults, self.seed)?;
        }
        Ok(())
    }

    /// How long the timeline is, before the time scale.
    pub fn length(&self) -> Duration {
        self.phases.iter().map(|phase| seconds(phase.seconds)).sum()
    }

    /// The phase at a point of the unscaled timeline; `None` after its end.
    pub fn phase_at(&self, elapsed: Duration) -> Option<usize> {
        let length = self.length();
        let mut left = elapsed;
        if self.repeat && !length.is_zero() {
            left = seconds(elapsed.as_secs_f64() % length.as_secs_f64());
        }
        for (index, phase) in self.phases.iter().enumerate() {
            let lasts = seconds(phase.seconds);
            if left < lasts {
                return Some(index);
            }
            left -= lasts;
        }
        None
    }
}

/// Seconds as a duration; what is no sane length is none.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

/// A running scenario. Clones share one clock and one set of dice.
#[derive(Clone, Debug)]
pub struct ScenarioHandle(Arc<Running>);

#[derive(Debug)]
struct Running {
    scenario: Scenario,
    scale: f64,
    began: Mutex<Instant>,
    phases: Mutex<Vec<Ruleset>>,
}

impl ScenarioHandle {
    /// Starts a scenario now. `scale` multiplies its times: 0.1 plays ten times as fast.
    pub fn start(scenario: Scenario, scale: f64) -> Result<Self, ScriptError> {
        let mut phases = Vec::new();
        for (index, phase) in scenario.phases.iter().enumerate() {
            phases.push(Ruleset::new(
                &phase.faults,
                scenario.seed.wrapping_add(index as u64),
            )?);
        }
        let scale = if scale.is_finite() && scale > 0.0 {
            scale
        } else {
            1.0
        };
        Ok(Self(Arc::new(Running {
            scenario,
            scale,
            began: Mutex::new(Instant::now()),
            phases: Mutex::new(phases),
        })))
    }

    /// Starts the timeline again from its beginning.
    pub fn restart(&self) {
        *self.0.began.lock() = Instant::now();
    }

    /// The name of the phase that holds now; `None` after the end.
    pub fn phase(&self) -> Option<String> {
        self.index()
            .map(|index| self.0.scenario.phases[index].name.clone())
    }

    /// How long the whole timeline takes, with the time scale.
    pub fn length(&self) -> Duration {
        self.0.scenario.length().mul_f64(self.0.scale)
    }

    /// The lengths of the phases with the time scale, and their names.
    pub fn phases(&self) -> Vec<(String, Duration)> {
        self.0
            .scenario
            .phases
            .iter()
            .map(|phase| {
                (
                    phase.name.clone(),
                    seconds(phase.seconds).mul_f64(self.0.scale),
                )
            })
            .collect()
    }

    fn index(&self) -> Option<usize> {
        let real = self.0.began.lock().elapsed();
        self.0
            .scenario
            .phase_at(seconds(real.as_secs_f64() / self.0.scale))
    }

    pub(crate) fn draw(&self, ask: &Ask) -> Option<Fault> {
        self.index()
            .and_then(|index| self.0.phases.lock()[index].draw(ask))
    }

    pub(crate) fn refuse(&self) -> bool {
        self.index()
            .is_some_and(|index| self.0.phases.lock()[index].refuse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outage_has_three_phases_and_ends() {
        let outage = Scenario::named("outage-2026-06-21").unwrap();
        let at = |seconds: u64| {
            outage
                .phase_at(Duration::from_secs(seconds))
                .map(|index| outage.phases[index].name.as_str())
        };
        assert_eq!(at(0), Some("healthy"));
        assert_eq!(at(60), Some("outage"));
        assert_eq!(at(299), Some("outage"));
        assert_eq!(at(300), Some("recovery"));
        assert_eq!(at(360), None);
        assert!(outage.check().is_ok());
    }

    #[test]
    fn two_thirds_of_the_streams_break_in_the_outage() {
        let outage = Scenario::named("outage-2026-06-21").unwrap();
        let broken: f64 = outage.phases[1]
            .faults
            .iter()
            .filter(|rule| rule.stream == Some(true))
            .map(|rule| rule.share)
            .sum();
        assert!((0.64..0.68).contains(&broken), "{broken}");
    }

    #[test]
    fn a_repeating_scenario_begins_again() {
        let mut outage = Scenario::named("outage-2026-06-21").unwrap();
        outage.repeat = true;
        assert_eq!(outage.phase_at(Duration::from_secs(360 + 61)), Some(1));
    }
}
