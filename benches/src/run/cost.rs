//! The rounds of all phases, and the tables of what they said.

use std::fmt::Write as _;

use super::measure::{Cell, measure};
use super::phases::{Load, PHASES, Phase, Unit, Work};
use super::process::Server;
use super::rows::{BARE, DIRECT, HAPROXY, HOLDFAST, Kind, LITELLM, NGINX, Place, Row, USUAL};
use super::start::{self, Start};
use super::table::{Samples, markdown};
use crate::Error;

/// What is measured of all that could be.
pub(crate) struct Choice {
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    /// Names of phases; all where there are none.
    pub(crate) phases: Vec<String>,
    /// Short names of rows; all where there are none.
    pub(crate) rows: Vec<String>,
}

impl Choice {
    fn phase(&self, name: &str) -> bool {
        self.phases.is_empty() || self.phases.iter().any(|wanted| wanted == name)
    }

    pub(crate) fn row(&self, row: Row) -> bool {
        let wanted = |name: &String| *name == row.short();
        // Nothing can be said of a latency without the one that has no proxy in it.
        row.kind == Kind::Direct || self.rows.is_empty() || self.rows.iter().any(wanted)
    }

    fn work(&self, work: Work) -> Work {
        if self.quick { work.quick() } else { work }
    }
}

/// What the rounds said.
pub(crate) struct Results {
    cells: Vec<(&'static str, Row, Cell)>,
    starts: Vec<(Row, Start)>,
}

/// The rows that are started over and over.
const STARTED: &[Row] = &[NGINX, HAPROXY, BARE, HOLDFAST];

pub(crate) fn run(place: &Place, choice: &Choice) -> Results {
    let mut results = Results {
        cells: Vec::new(),
        starts: Vec::new(),
    };
    for round in 0..choice.rounds {
        eprintln!("round {} of {}", round + 1, choice.rounds);
        if choice.phase("start") {
            starts(place, choice, round, &mut results);
        }
        for phase in PHASES.iter().filter(|phase| choice.phase(phase.name)) {
            for row in turned(phase.rows, round).filter(|row| choice.row(*row)) {
                eprintln!("  {}: {}", phase.name, row.name);
                let point = row
                    .start(place, &phase.setup)
                    .and_then(|server| measure(&server, &choice.work(phase.work)));
                results.note(phase, row, point);
            }
        }
        if choice.row(LITELLM) && place.litellm.is_some() {
            litellm(place, choice, &mut results);
        }
    }
    results
}

/// The rows, beginning with another one in each round.
fn turned(rows: &'static [Row], round: usize) -> impl Iterator<Item = Row> {
    (0..rows.len()).map(move |turn| rows[(round + turn) % rows.len()])
}

fn starts(place: &Place, choice: &Choice, round: usize, results: &mut Results) {
    let times = if choice.quick { 3 } else { 7 };
    for row in turned(STARTED, round).filter(|row| choice.row(*row)) {
        eprintln!("  start: {}", row.name);
        results.started(row, |start| start.measure(row, place, times));
    }
}

/// All that `LiteLLM` does in a round, with one start of it.
fn litellm(place: &Place, choice: &Choice, results: &mut Results) {
    let works = PHASES
        .iter()
        .filter(|phase| choice.phase(phase.name))
        .filter_map(|phase| Some((phase, phase.litellm?)));
    let works: Vec<(&Phase, Work)> = works.collect();
    if works.is_empty() && !choice.phase("start") {
        return;
    }
    eprintln!("  start: LiteLLM");
    let server = if choice.phase("start") {
        results.started(LITELLM, |start| start.measure(LITELLM, place, 1))
    } else {
        LITELLM
            .start(place, &USUAL)
            .inspect_err(|error| eprintln!("    left out: {error}"))
            .ok()
    };
    for (phase, work) in works {
        let point = match &server {
            Some(server) => {
                eprintln!("  {}: LiteLLM", phase.name);
                measure(server, &choice.work(work))
            }
            None => Err("it did not start".into()),
        };
        results.note(phase, LITELLM, point);
    }
}

impl Results {
    fn note(&mut self, phase: &Phase, row: Row, point: Result<super::measure::Point, Error>) {
        let found = self
            .cells
            .iter()
            .position(|(name, other, _)| *name == phase.name && *other == row);
        let index = found.unwrap_or_else(|| {
            self.cells.push((phase.name, row, Cell::default()));
            self.cells.len() - 1
        });
        let cell = &mut self.cells[index].2;
        match point {
            Ok(point) => cell.push(&point),
            Err(error) => {
                eprintln!("    left out: {error}");
                cell.miss();
            }
        }
    }

    fn started(
        &mut self,
        row: Row,
        measure: impl FnOnce(&mut Start) -> Result<Server, Error>,
    ) -> Option<Server> {
        let found = self.starts.iter().position(|(other, _)| *other == row);
        let index = found.unwrap_or_else(|| {
            self.starts.push((row, Start::default()));
            self.starts.len() - 1
        });
        let start = &mut self.starts[index].1;
        measure(start)
            .inspect_err(|error| {
                eprintln!("    left out: {error}");
                start.miss();
            })
            .ok()
    }

    pub(crate) fn cell(&self, phase: &str, row: Row) -> Option<&Cell> {
        let found = |(name, other, _): &&(&str, Row, Cell)| *name == phase && *other == row;
        self.cells.iter().find(found).map(|(_, _, cell)| cell)
    }

    pub(crate) fn start(&self, row: Row) -> Option<&Start> {
        let found = self.starts.iter().find(|(other, _)| *other == row);
        found.map(|(_, start)| start)
    }

    /// How much a row took in a phase beside nginx in the same rounds.
    pub(crate) fn ratio(&self, phase: &str, row: Row) -> Option<Samples> {
        let measure = &self.cell(phase, NGINX)?.cost;
        Some(self.cell(phase, row)?.cost.to(measure))
    }

    /// Milliseconds that a row adds at the 99th percentile, or the median, to a call.
    pub(crate) fn added(&self, phase: &str, row: Row, slow: bool) -> Option<Samples> {
        let pick = |cell: &Cell| {
            if slow {
                cell.p99.clone()
            } else {
                cell.p50.clone()
            }
        };
        let direct = pick(self.cell(phase, DIRECT)?);
        Some(pick(self.cell(phase, row)?).over(&direct).scaled(1e-3))
    }

    fn phases(&self) -> impl Iterator<Item = &'static Phase> {
        PHASES
            .iter()
            .filter(|phase| self.cells.iter().any(|(name, _, _)| *name == phase.name))
    }

    /// CPU time of all phases, one line for each and for each other mode of Holdfast.
    pub(crate) fn cpu_table(&self) -> String {
        let head = [
            "CPU time of a",
            "nginx, µs",
            "haproxy",
            "bare hyper",
            "LiteLLM",
            "Holdfast, µs",
            "Holdfast to nginx",
        ];
        let mut lines = Vec::new();
        for phase in self.phases() {
            lines.push(self.cpu_line(phase, HOLDFAST, phase.title.to_owned()));
            for row in phase.rows {
                if matches!(row.kind, Kind::Holdfast(_)) && *row != HOLDFAST {
                    let mode = row.name.trim_start_matches("Holdfast, ");
                    lines.push(self.cpu_line(phase, *row, format!("the same, {mode}")));
                }
            }
        }
        markdown(&head, &lines)
    }

    fn cpu_line(&self, phase: &Phase, holdfast: Row, title: String) -> Vec<String> {
        let shown = |row: Row| {
            let cell = self.cell(phase.name, row);
            cell.map_or_else(|| "-".to_owned(), |cell| cell.cost.middle(1))
        };
        let ratio = |row: Row| {
            let ratio = self.ratio(phase.name, row);
            ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.middle(2))
        };
        let spread = self.ratio(phase.name, holdfast);
        vec![
            title,
            shown(NGINX),
            ratio(HAPROXY),
            ratio(BARE),
            ratio(LITELLM),
            shown(holdfast),
            spread.map_or_else(|| "-".to_owned(), |ratio| ratio.shown(2)),
        ]
    }

    /// What callers wait for longer than without a proxy.
    pub(crate) fn latency_table(&self) -> String {
        let mut lines = Vec::new();
        for phase in self.phases().filter(|phase| is_open(phase)) {
            for row in [NGINX, HAPROXY, BARE, LITELLM, HOLDFAST] {
                let shown = |slow| {
                    let added = self.added(phase.name, row, slow);
                    added.map_or_else(|| "-".to_owned(), |added| added.shown(2))
                };
                lines.push(vec![
                    format!("{}: {}", phase.title, row.name),
                    shown(false),
                    shown(true),
                ]);
            }
        }
        markdown(
            &["added to a call, ms", "median", "99th percentile"],
            &lines,
        )
    }

    pub(crate) fn memory_table(&self) -> String {
        let head = [
            "KiB per open stream",
            "nginx",
            "haproxy",
            "bare hyper",
            "LiteLLM",
            "Holdfast",
        ];
        let streams = self
            .phases()
            .filter(|phase| phase.work.unit() == Unit::Token);
        let lines: Vec<Vec<String>> = streams
            .map(|phase| {
                let rows = [NGINX, HAPROXY, BARE, LITELLM, HOLDFAST];
                let shown = rows.map(|row| {
                    let cell = self.cell(phase.name, row);
                    cell.map_or_else(|| "-".to_owned(), |cell| cell.memory.shown(1))
                });
                let title = phase.title.trim_start_matches("token, ").to_owned();
                [vec![title], shown.to_vec()].concat()
            })
            .collect();
        markdown(&head, &lines)
    }

    pub(crate) fn start_table(&self) -> String {
        let rows = [NGINX, HAPROXY, BARE, LITELLM, HOLDFAST];
        let known = rows
            .iter()
            .filter_map(|row| Some((*row, self.start(*row)?)));
        start::table(&known.collect::<Vec<_>>())
    }

    /// What stands below the tables: how many answers were read, what was wrong, which pace was not
    /// kept.
    pub(crate) fn remarks(&self) -> String {
        let right: u64 = self.cells.iter().map(|(_, _, cell)| cell.right).sum();
        let wrong: u64 = self.cells.iter().map(|(_, _, cell)| cell.wrong).sum();
        let mut text = format!("{right} answers and streams were whole, {wrong} were not.\n");
        for (phase, row, cell) in &self.cells {
            if cell.wrong > 0 {
                let _ = writeln!(
                    text,
                    "- {phase}, {}: {} wrong answers.",
                    row.name, cell.wrong
                );
            }
            if cell.unkept > 0 {
                let (name, unkept) = (row.name, cell.unkept);
                let _ = writeln!(text, "- {phase}, {name}: pace not kept in {unkept} rounds.");
            }
        }
        text
    }
}

fn is_open(phase: &Phase) -> bool {
    matches!(phase.work.load, Load::Open { .. })
}
