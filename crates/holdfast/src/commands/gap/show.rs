//! The report as a table for people and as JSON for programs.

use std::fmt::Write as _;

use holdfast_core::reliability::shared::Shared;
use holdfast_core::reliability::{Estimate, Interval, Known, Reading, Tally};
use serde_json::{Value, json};

use super::report::{Change, Kind, Report, Source};
use crate::client::table::{cut, line};

/// The longest name of a step that is shown whole.
const NAME: usize = 26;

pub(super) fn table(report: &Report) -> String {
    let mut text = String::new();
    head(&mut text, report);
    chain(&mut text, report);
    gap(&mut text, report);
    shared(&mut text, report);
    changes(&mut text, report);
    work(&mut text, report);
    warning(&mut text, report);
    text
}

/// Adds a line.
fn put(text: &mut String, words: &str) {
    text.push_str(words.trim_end());
    text.push('\n');
}

/// `94.15 %`; more digits where it is nearly all.
pub(super) fn percent(value: f64) -> String {
    let percent = value * 100.0;
    if percent > 99.9 && percent < 100.0 {
        // Not rounded up to all.
        format!("{:.4} %", (percent * 1e4).floor() / 1e4)
    } else {
        format!("{percent:.2} %")
    }
}

fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(String::new, |found| {
        format!("{:>10} .. {:>9}", percent(found.low), percent(found.high))
    })
}

fn row(text: &mut String, name: &str, counts: &str, estimate: &Estimate) {
    let words = format!(
        "{:<26}  {counts:>15}  {:>10}  {}",
        cut(&line(name), NAME),
        percent(estimate.value),
        interval(estimate.interval),
    );
    put(text, &words);
}

fn counts(tally: Tally) -> String {
    let (ok, total) = (tally.ok(), tally.total());
    if total > 999_999 {
        format!("{ok:.1e} / {total:.1e}")
    } else {
        format!("{ok} / {total}")
    }
}

fn head(text: &mut String, report: &Report) {
    let sure = format!("{} % interval", report.confidence * 100.0);
    let words = format!(
        "{:<26}  {:>15}  {:>10}  {sure:>23}",
        "STEP", "OK / TOTAL", "RELIABLE"
    );
    put(text, &words);
}

/// The steps; equal ones that were given in one line.
fn chain(text: &mut String, report: &Report) {
    let is_given = |known: Known| matches!(known, Known::Given(_));
    let steps = report.steps.len();
    if let Some((first, estimate)) = report.steps.first()
        && steps > 1
        && report.steps.iter().all(|(step, _)| is_given(step.known))
    {
        debug_assert!(is_given(first.known), "all are given");
        row(text, &format!("each of {steps} steps"), "given", estimate);
    } else {
        for (step, estimate) in &report.steps {
            let mark = if step.supervised { " +" } else { "" };
            let counted = match step.known {
                Known::Counted(tally) => counts(tally),
                Known::Given(_) => "given".to_owned(),
            };
            let name = format!("{}{mark}", cut(&line(&step.name), NAME - 2));
            row(text, &name, &counted, estimate);
        }
        if report.steps.iter().any(|(step, _)| step.supervised) {
            put(
                text,
                "(+ a gate, a checkpoint or an approval stands behind it)",
            );
        }
    }
    if let Some(whole) = report.prefixes.last() {
        row(text, &format!("chain of {steps}, independent"), "", whole);
    }
}

fn gap(text: &mut String, report: &Report) {
    let (Some(gap), Some(runs)) = (&report.gap, report.runs) else {
        return;
    };
    row(text, "whole runs, measured", &counts(runs), &gap.measured);
    // No difference is written without a minus.
    let points = |value: f64| format!("{:+.2}", 0.0 - value * 100.0);
    let reading = match gap.reading {
        Reading::Worse => "worse than independent steps: runs fail between the steps, too",
        Reading::Within => "no more than chance may explain",
        Reading::Better => "better than independent steps: failures fall into the same runs",
    };
    put(
        text,
        &format!(
            "coordination gap: {} points ({} .. {})\n  {reading}",
            points(gap.gap),
            points(gap.interval.high),
            points(gap.interval.low),
        ),
    );
}

fn shared(text: &mut String, report: &Report) {
    for (what, shared) in [("vendors", &report.of_vendors), ("steps", &report.of_steps)] {
        if let Some(found) = shared {
            put(
                text,
                &format!(
                    "shared causes of {what}: beta {} ({} .. {})\n  {} of {} failures fell together, in {} events; chance alone: {}",
                    percent(found.beta.get()),
                    percent(found.interval.low),
                    percent(found.interval.high),
                    found.together,
                    found.failures,
                    found.events,
                    percent(found.by_chance.get()),
                ),
            );
        }
    }
}

fn changes(text: &mut String, report: &Report) {
    let now = report.prefixes.last().map_or(0.0, |whole| whole.value);
    put(text, "");
    put(
        text,
        &format!(
            "{:<46}  {:>10}  {:>9}",
            "ONE CHANGE TO EVERY STEP", "CHAIN", "GAINED"
        ),
    );
    for change in &report.changes {
        let gained = (change.chain - now) * 100.0;
        let words = format!(
            "{:<46}  {:>10}  {gained:>+9.2}",
            name(change, report),
            percent(change.chain),
        );
        put(text, &words);
    }
}

fn name(change: &Change, report: &Report) -> String {
    match change.kind {
        Kind::Retry => {
            let (sticky, source) = report.sticky;
            format!("one retry, sticky {} ({})", percent(sticky), word(source))
        }
        Kind::Independent => "a second vendor that shares no cause".to_owned(),
        Kind::Vendor => {
            let (beta, source) = report.beta;
            format!("a second vendor, beta {} ({})", percent(beta), word(source))
        }
        Kind::Better(step) => format!("each step {} (now {})", percent(step), percent(report.mean)),
    }
}

fn word(source: Source) -> &'static str {
    match source {
        Source::Given => "given",
        Source::Vendors | Source::Steps | Source::Retries => "measured",
        Source::Beta => "as beta",
        Source::Assumed => "assumed",
    }
}

fn work(text: &mut String, report: &Report) {
    let work = &report.work;
    let spent = |steps: f64| {
        if steps >= 1e7 && steps.is_finite() {
            format!("{steps:>10.1e}  {:>9}", "")
        } else if steps.is_finite() {
            let share = (steps / work.least - 1.0) * 100.0;
            format!("{steps:>10.2}  {share:>+7.1} %")
        } else {
            format!("{:>10}  {:>9}", "no end", "")
        }
    };
    put(text, "");
    put(
        text,
        &format!(
            "{:<46}  {:>10}  {:>9}",
            "WORK OF A FINISHED RUN", "STEPS", "REPEATED"
        ),
    );
    let mut line = |name: &str, steps: f64| put(text, &format!("{name:<46}  {}", spent(steps)));
    line("from the first step again after a failure", work.without);
    if let Some(one) = work.with_one {
        let name = report
            .steps
            .get(one.after)
            .map_or("", |(step, _)| &step.name);
        let name = cut(&crate::client::table::line(name), 12);
        line(
            &format!("with one checkpoint, best behind step {name}"),
            one.work,
        );
    }
    line("with a checkpoint behind every step", work.with_all);
}

fn warning(text: &mut String, report: &Report) {
    if let Some(row) = report.warning {
        let name = |place: usize| {
            let step = report.steps.get(place).map_or("", |(step, _)| &step.name);
            cut(&line(step), 20)
        };
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "\nWARNING: {} steps in a row without supervision ({} to {}).\n\
             Put a gate, a checkpoint or an approval in between: an error in the first of\n\
             them is otherwise noticed by nobody before the last.",
            row.length,
            name(row.from),
            name(row.from + row.length - 1),
        );
    }
}

// === JSON ===

pub(super) fn json(report: &Report) -> Value {
    let steps: Vec<Value> = report
        .steps
        .iter()
        .map(|(step, estimate)| {
            let mut shown = of_estimate(estimate);
            shown["name"] = step.name.as_str().into();
            shown["supervised"] = step.supervised.into();
            if let Known::Counted(tally) = step.known {
                shown["ok"] = tally.ok().into();
                shown["total"] = tally.total().into();
            }
            shown
        })
        .collect();
    let points: Vec<Value> = report
        .points
        .iter()
        .map(|(length, tally, estimate)| {
            let mut shown = of_estimate(estimate);
            shown["steps"] = (*length).into();
            shown["ok"] = tally.ok().into();
            shown["total"] = tally.total().into();
            shown
        })
        .collect();
    json!({
        "confidence": report.confidence,
        "steps": steps,
        "mean_step": report.mean,
        "chain": report.prefixes.last().map(of_estimate),
        "chain_by_length": report.prefixes.iter().map(of_estimate).collect::<Vec<_>>(),
        "runs": points,
        "gap": report.gap.as_ref().map(|gap| json!({
            "predicted": of_estimate(&gap.predicted),
            "measured": of_estimate(&gap.measured),
            "gap": gap.gap,
            "low": gap.interval.low,
            "high": gap.interval.high,
            "reading": match gap.reading {
                Reading::Worse => "worse",
                Reading::Within => "within_chance",
                Reading::Better => "better",
            },
        })),
        "shared_causes": {
            "vendors": report.of_vendors.as_ref().map(of_shared),
            "steps": report.of_steps.as_ref().map(of_shared),
        },
        "beta": {"value": report.beta.0, "source": source(report.beta.1)},
        "sticky": {"value": report.sticky.0, "source": source(report.sticky.1)},
        "changes": report.changes.iter().map(of_change).collect::<Vec<_>>(),
        "wanted": report.wanted,
        "work": {
            "least": report.work.least,
            "without": finite(report.work.without),
            "with_one": report.work.with_one.map(|one| json!({
                "after": report.steps.get(one.after).map(|(step, _)| &step.name),
                "steps": finite(one.work),
            })),
            "with_all": finite(report.work.with_all),
        },
        "warning": report.warning.map(|row| json!({
            "unsupervised": row.length,
            "from": report.steps.get(row.from).map(|(step, _)| &step.name),
        })),
    })
}

fn of_estimate(estimate: &Estimate) -> Value {
    let low = estimate.interval.map(|found| found.low);
    let high = estimate.interval.map(|found| found.high);
    json!({"value": estimate.value, "low": low, "high": high})
}

fn of_shared(shared: &Shared) -> Value {
    json!({
        "beta": shared.beta.get(),
        "low": shared.interval.low,
        "high": shared.interval.high,
        "observed": shared.observed.get(),
        "by_chance": shared.by_chance.get(),
        "events": shared.events,
        "failures": shared.failures,
        "together": shared.together,
    })
}

fn of_change(change: &Change) -> Value {
    match change.kind {
        Kind::Retry => json!({"change": "retry", "chain": change.chain}),
        Kind::Independent => json!({"change": "second_vendor_independent", "chain": change.chain}),
        Kind::Vendor => json!({"change": "second_vendor", "chain": change.chain}),
        Kind::Better(step) => {
            json!({"change": "better_steps", "step": step, "chain": change.chain})
        }
    }
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Given => "given",
        Source::Vendors => "vendors",
        Source::Steps => "steps",
        Source::Retries => "retries",
        Source::Beta => "beta",
        Source::Assumed => "assumed",
    }
}

/// `null` = no end.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
