//! What Holdfast shall cost at most, and whether it does.

use super::cost::Results;
use super::rows::{BARE, HAPROXY, HOLDFAST, LITELLM, NGINX, Row};
use super::table::{Samples, markdown};

/// One line of the summary.
pub(crate) struct Goal {
    pub(crate) title: &'static str,
    what: What,
    unit: &'static str,
    /// The most: times as much as nginx, or so many of the unit.
    most: f64,
}

enum What {
    /// CPU time of a phase, to nginx.
    Cost(&'static str),
    /// KiB of an open stream of a phase.
    Memory(&'static str),
    /// Milliseconds added to a call of a phase, 99th percentile.
    Added(&'static str),
    Idle,
    Start,
    Size,
}

const fn cost(title: &'static str, phase: &'static str, most: f64) -> Goal {
    let (what, unit) = (What::Cost(phase), "µs");
    Goal {
        title,
        what,
        unit,
        most,
    }
}

const fn held(title: &'static str, what: What, unit: &'static str, most: f64) -> Goal {
    Goal {
        title,
        what,
        unit,
        most,
    }
}

pub(crate) const GOALS: &[Goal] = &[
    cost("CPU per plain call, 1 KB, 64 connections", "call", 1.5),
    cost(
        "CPU per streamed token, 1,000 streams at 20 ms",
        "streams-1000",
        1.3,
    ),
    cost("CPU per MiB of request body, 1 MiB", "body-1", 1.5),
    cost("CPU per MiB of request body, 4 MiB", "body-4", 1.5),
    cost("CPU per keyed call, SQLite FULL", "keyed", 4.0),
    cost("CPU per cross-dialect call", "cross", 3.0),
    held(
        "memory per open stream, 5,000 streams",
        What::Memory("streams-5000"),
        "KiB",
        35.0,
    ),
    held(
        "added latency p99, 200 calls/s, 60 ms vendor",
        What::Added("rate-60"),
        "ms",
        0.3,
    ),
    held("idle memory", What::Idle, "MiB", 15.0),
    held("start to first answer", What::Start, "ms", 20.0),
    held("binary", What::Size, "MiB", 20.0),
];

/// The columns, in their order.
pub(crate) const COLUMNS: [Row; 5] = [NGINX, HAPROXY, BARE, LITELLM, HOLDFAST];

impl Goal {
    fn relative(&self) -> bool {
        matches!(self.what, What::Cost(_))
    }

    /// What a row has of it, each round for itself.
    fn samples(&self, results: &Results, row: Row) -> Option<Samples> {
        match self.what {
            What::Cost(phase) => results.ratio(phase, row),
            What::Memory(phase) => Some(results.cell(phase, row)?.memory.clone()),
            What::Added(phase) => results.added(phase, row, true),
            What::Idle => Some(results.start(row)?.idle_mib.clone()),
            What::Start => Some(results.start(row)?.answer_ms.clone()),
            What::Size => Some(results.start(row)?.size_mib.clone()),
        }
    }

    /// A row's share of what is allowed.
    pub(crate) fn share(&self, results: &Results, row: Row) -> Option<f64> {
        Some(self.samples(results, row)?.median()? / self.most)
    }

    /// Two digits that say something.
    fn digits(&self) -> usize {
        if self.relative() || self.most < 1.0 {
            2
        } else {
            1
        }
    }

    fn line(&self, results: &Results) -> Vec<String> {
        let mut line = vec![self.title.to_owned()];
        for row in COLUMNS {
            let samples = self.samples(results, row);
            line.push(match (samples, self.what.phase(), row) {
                (None, _, _) => "-".to_owned(),
                (Some(_), Some(phase), NGINX) if self.relative() => {
                    let cell = results.cell(phase, NGINX);
                    let micros = cell.map_or_else(String::new, |cell| cell.cost.middle(1));
                    format!("1 ({micros} {})", self.unit)
                }
                (Some(samples), _, HOLDFAST) => samples.shown(self.digits()),
                (Some(samples), _, _) => samples.middle(self.digits()),
            });
        }
        let most = self.most;
        line.push(if self.relative() {
            format!("{most} x nginx")
        } else {
            format!("{most} {}", self.unit)
        });
        line.push(met(self.share(results, HOLDFAST)));
        line
    }
}

impl What {
    fn phase(&self) -> Option<&'static str> {
        match self {
            Self::Cost(phase) | Self::Memory(phase) | Self::Added(phase) => Some(phase),
            Self::Idle | Self::Start | Self::Size => None,
        }
    }
}

/// Whether a share of what is allowed is all right.
fn met(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share <= 1.0 => "yes".to_owned(),
        Some(share) => format!("no, {:.0} % over", (share - 1.0) * 100.0),
    }
}

pub(crate) fn table(results: &Results) -> String {
    let names = COLUMNS.map(|row| row.name);
    let head = [&[""], &names[..], &["at most", "met"]].concat();
    let known = GOALS
        .iter()
        .filter(|goal| goal.share(results, HOLDFAST).is_some());
    markdown(
        &head,
        &known.map(|goal| goal.line(results)).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::phases::PHASES;

    #[test]
    fn says_by_how_much_a_goal_is_missed() {
        assert_eq!(met(Some(1.0)), "yes");
        assert_eq!(met(Some(1.254)), "no, 25 % over");
        assert_eq!(met(None), "-");
    }

    #[test]
    fn every_goal_has_its_phase() {
        for goal in GOALS {
            if let Some(name) = goal.what.phase() {
                assert!(PHASES.iter().any(|phase| phase.name == name), "{name}");
            }
        }
    }
}
