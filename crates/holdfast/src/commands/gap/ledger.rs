//! Figures from the ledger of a running gateway: its runs, and each run's timeline.
//!
//! A step counts once for each run, by how it ended there. A chain is what most of the runs have done:
//! its steps in the order in which they first appear. What failed within one window of time is counted
//! as one event; vendors and steps are looked at apart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_core::reliability::shared::{Unit, estimate};
use holdfast_core::reliability::{Known, Tally};
use serde_json::Value;

use super::figures::{Figures, Step, Terms, supervise, wrong};
use crate::client::words::text;
use crate::client::{Ask, Client, Error};

/// Runs of one page.
const PAGE: u32 = 500;

/// What is read.
pub(super) struct Reading<'a> {
    pub(super) runs: u32,
    pub(super) labels: &'a [String],
    pub(super) window: Duration,
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) notes: Vec<String>,
    steps: Vec<CountedStep>,
    runs: (u64, u64),
    by_length: BTreeMap<usize, (u64, u64)>,
    step_windows: Windows,
    vendor_windows: Windows,
    again: (u64, u64),
}

#[derive(Debug)]
struct CountedStep {
    name: String,
    ok: u64,
    total: u64,
    supervised: bool,
}

/// What was used, and what failed, in each window.
#[derive(Debug, Default)]
struct Windows {
    names: Vec<String>,
    units: BTreeMap<i64, (BTreeSet<usize>, BTreeSet<usize>)>,
}

/// How a thing ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Well,
    Badly,
    /// Not yet, or it says nothing of the step.
    Open,
}

pub(super) fn read(client: &Client, reading: &Reading<'_>) -> Result<Read, Error> {
    let mut read = Read::default();
    let mut open = 0_u64;
    for run in runs(client, reading)? {
        let id = text(&run["id"]).unwrap_or_default();
        let scope = text(&run["scope"]);
        let ask = Ask::get(&["runs", &id]).param("scope", scope);
        let shown = client.ask(&ask)?;
        if shown["state"] == "open" {
            open += 1;
        }
        read.count(&shown, reading.window);
    }
    if open > 0 {
        let note =
            format!("{open} runs are still open: their steps are counted, they themselves not yet");
        read.notes.push(note);
    }
    Ok(read)
}

/// The runs, newest first.
fn runs(client: &Client, reading: &Reading<'_>) -> Result<Vec<Value>, Error> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let ask = Ask::get(&["runs"])
            .param("limit", Some(PAGE.min(reading.runs)))
            .param("after", after.as_deref());
        let mut page = client.ask(&ask)?;
        if let Value::Array(all) = page["runs"].take() {
            found.extend(
                all.into_iter()
                    .filter(|run| is_labelled(run, reading.labels)),
            );
        }
        after = text(&page["next"]);
        let limit = usize::try_from(reading.runs).unwrap_or(usize::MAX);
        if found.len() >= limit || after.is_none() {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

fn is_labelled(run: &Value, labels: &[String]) -> bool {
    labels.iter().all(|label| {
        let (name, wanted) = label.split_once('=').unwrap_or((label, ""));
        run["labels"][name].as_str() == Some(wanted)
    })
}

/// The figures of what was counted.
pub(super) fn figures(read: &Read, terms: &Terms, supervised: &[String]) -> Result<Figures, Error> {
    let mut steps = Vec::new();
    for step in read.steps.iter().filter(|step| step.total > 0) {
        steps.push(Step {
            name: step.name.clone(),
            known: Known::Counted(Tally::new(step.ok, step.total).map_err(wrong)?),
            supervised: step.supervised,
        });
    }
    if steps.is_empty() {
        return Err(Error::Failed(
            "the ledger has no run with a step that has ended\n\
             help: name runs and steps with the headers `Holdfast-Run` and `Holdfast-Step`, or give figures: `holdfast gap --steps 6 --reliability 99%`"
                .to_owned(),
        ));
    }
    supervise(&mut steps, supervised)?;
    let tally = |(ok, total): (u64, u64)| Tally::new(ok, total).ok();
    let confidence = terms.confidence;
    Ok(Figures {
        steps,
        runs: tally(read.runs),
        by_length: read
            .by_length
            .iter()
            .filter_map(|(length, counts)| Some((*length, tally(*counts)?)))
            .collect(),
        of_steps: estimate(&read.step_windows.units(), confidence).map_err(wrong)?,
        of_vendors: estimate(&read.vendor_windows.units(), confidence).map_err(wrong)?,
        again: tally(read.again),
    })
}

impl Read {
    /// Counts one run.
    pub(super) fn count(&mut self, run: &Value, window: Duration) {
        let names = step_names(run);
        for name in &names {
            let (end, at) = step_end(run, name);
            let is_supervised = is_supervised(run, name);
            let step = self.step(name);
            step.supervised |= is_supervised;
            if end != End::Open {
                step.total += 1;
                step.ok += u64::from(end == End::Well);
                self.step_windows.put(name, at, window, end == End::Badly);
            }
        }
        for exchange in all(run, "exchanges") {
            self.attempts(exchange, window);
        }
        let is_well = match run["state"].as_str() {
            Some("done") => true,
            Some("failed" | "orphaned") => false,
            _ => return,
        };
        let expected = run["expect"].as_array().map_or(0, Vec::len);
        let length = expected.max(names.len());
        if length > 0 {
            let add = |counts: &mut (u64, u64)| {
                counts.0 += u64::from(is_well);
                counts.1 += 1;
            };
            add(&mut self.runs);
            add(self.by_length.entry(length).or_default());
        }
    }

    /// The step of this name; new ones stand at the end.
    fn step(&mut self, name: &str) -> &mut CountedStep {
        let place = self.steps.iter().position(|step| step.name == name);
        let place = place.unwrap_or_else(|| {
            self.steps.push(CountedStep {
                name: name.to_owned(),
                ok: 0,
                total: 0,
                supervised: false,
            });
            self.steps.len() - 1
        });
        &mut self.steps[place]
    }

    /// Counts what an exchange says of the vendors.
    fn attempts(&mut self, exchange: &Value, window: Duration) {
        let at = exchange["created"].as_i64().unwrap_or(0);
        let attempts = &exchange["facts"]["attempts"];
        let mut last: Option<(&str, bool)> = None;
        for attempt in attempts.as_array().into_iter().flatten() {
            let Some(target) = attempt["target"].as_str() else {
                continue;
            };
            let Some(failed) = vendor_failed(attempt) else {
                last = None;
                continue;
            };
            let vendor = target.split_once('/').map_or(target, |(vendor, _)| vendor);
            self.vendor_windows.put(vendor, at, window, failed);
            if let Some((before, true)) = last
                && before == target
            {
                self.again.0 += u64::from(failed);
                self.again.1 += 1;
            }
            last = Some((target, failed));
        }
    }
}

impl Windows {
    fn put(&mut self, name: &str, at: i64, window: Duration, failed: bool) {
        let place = self.names.iter().position(|known| known == name);
        let place = place.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        let millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
        let (seen, failures) = self.units.entry(at.div_euclid(millis)).or_default();
        seen.insert(place);
        if failed {
            failures.insert(place);
        }
    }

    fn units(&self) -> Vec<Unit> {
        let unit = |(seen, failed): &(BTreeSet<usize>, BTreeSet<usize>)| Unit {
            seen: seen.iter().copied().collect(),
            failed: failed.iter().copied().collect(),
        };
        self.units.values().map(unit).collect()
    }
}

fn all<'a>(run: &'a Value, what: &str) -> impl Iterator<Item = &'a Value> {
    run[what].as_array().into_iter().flatten()
}

/// What belongs to a step, of one list.
fn of_step<'a>(run: &'a Value, what: &str, step: &str) -> impl Iterator<Item = &'a Value> {
    all(run, what).filter(move |one| one["step"].as_str() == Some(step))
}

/// The run's steps, in the order in which they first appear.
fn step_names(run: &Value) -> Vec<String> {
    let mut first: Vec<(i64, String)> = Vec::new();
    for what in ["steps", "exchanges", "effects"] {
        for one in all(run, what) {
            let Some(name) = text(&one["step"]) else {
                continue;
            };
            let at = one["created"].as_i64().unwrap_or(i64::MAX);
            match first.iter_mut().find(|(_, known)| *known == name) {
                Some((earliest, _)) => *earliest = at.min(*earliest),
                None => first.push((at, name)),
            }
        }
    }
    first.sort_by_key(|(at, _)| *at);
    first.into_iter().map(|(_, name)| name).collect()
}

/// How a step ended in a run, and when. Its checkpoint says so, where it has one; else its last exchange
/// and all of its effects.
fn step_end(run: &Value, name: &str) -> (End, i64) {
    let moment = |one: &Value| {
        one["updated"]
            .as_i64()
            .or_else(|| one["created"].as_i64())
            .unwrap_or(0)
    };
    if let Some(step) = of_step(run, "steps", name).next() {
        let end = match step["state"].as_str() {
            Some("done") => End::Well,
            Some("failed") => End::Badly,
            _ => End::Open,
        };
        return (end, moment(step));
    }
    let exchange = of_step(run, "exchanges", name)
        .filter_map(|one| Some((exchange_end(one)?, moment(one))))
        .last();
    let effects = of_step(run, "effects", name).map(|one| (effect_end(one), moment(one)));
    let ends: Vec<(End, i64)> = exchange.into_iter().chain(effects).collect();
    let at = ends.iter().map(|(_, at)| *at).max().unwrap_or(0);
    let has = |wanted: End| ends.iter().any(|(end, _)| *end == wanted);
    let end = if has(End::Badly) {
        End::Badly
    } else if has(End::Open) || ends.is_empty() {
        End::Open
    } else {
        End::Well
    };
    (end, at)
}

/// `None` = it says nothing of the step: its caller went away.
fn exchange_end(exchange: &Value) -> Option<End> {
    match exchange["outcome"].as_str() {
        Some("whole" | "tools" | "limit" | "paused") => Some(End::Well),
        Some("caller_gone") | None => None,
        Some(_) => Some(End::Badly),
    }
}

fn effect_end(effect: &Value) -> End {
    match effect["state"].as_str() {
        Some("done") => End::Well,
        Some("failed" | "doubt") => End::Badly,
        _ => End::Open,
    }
}

/// A checkpoint, an approval, or a gate that was seen to hold something back.
fn is_supervised(run: &Value, name: &str) -> bool {
    let gated = || of_step(run, "tickets", name).any(|ticket| ticket["kind"] == "gate");
    of_step(run, "steps", name).next().is_some()
        || of_step(run, "approvals", name).next().is_some()
        || gated()
}

/// Whether the vendor failed in an attempt; `None` = the attempt says nothing of the vendor, because
/// the request was at fault or nobody waited for the answer.
fn vendor_failed(attempt: &Value) -> Option<bool> {
    let status = attempt["status"].as_u64().unwrap_or(0);
    match attempt["verdict"].as_str()? {
        "whole" | "tools" | "limit" | "paused" | "refused" => Some(false),
        _ => {
            let is_callers =
                (400..500).contains(&status) && ![401, 402, 403, 408, 429].contains(&status);
            (!is_callers).then_some(true)
        }
    }
}
