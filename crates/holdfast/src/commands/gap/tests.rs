//! What is shown, as snapshots; and what is counted in a ledger.

use clap::Parser as _;
use serde_json::json;

use super::*;

fn args(line: &[&str]) -> Args {
    let line = std::iter::once("gap").chain(line.iter().copied());
    Args::try_parse_from(line).unwrap()
}

fn reckoned(line: &[&str]) -> report::Report {
    let args = args(line);
    let figures = figures::given(&args).unwrap();
    report::report(&figures, &figures::terms(&args).unwrap()).unwrap()
}

fn shown(report: &report::Report) -> String {
    let text = format!("{}\n{}", show::table(report), plot::plot(report));
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{widest:?} columns:\n{text}");
    text
}

#[test]
fn six_given_steps() {
    insta::assert_snapshot!(shown(&reckoned(&["--steps", "6", "--reliability", "99%"])));
}

#[test]
fn a_counted_chain_with_runs() {
    let report = reckoned(&[
        "--step",
        "plan=198/200",
        "--step",
        "write=191/198",
        "--step",
        "a step with a rather long name=188/191",
        "--runs-ok",
        "160",
        "--runs-total",
        "200",
        "--beta",
        "0.1",
        "--supervised",
        "write",
    ]);
    insta::assert_snapshot!(shown(&report));
    insta::assert_snapshot!("a_counted_chain_as_json", pretty(&show::json(&report)));
}

#[test]
fn a_chain_too_long_for_the_columns() {
    let report = reckoned(&[
        "--steps",
        "200",
        "--reliability",
        "0.9999",
        "--supervised",
        "100",
    ]);
    insta::assert_snapshot!(plot::plot(&report));
    shown(&report);
}

#[test]
fn extremes_are_drawn_too() {
    for line in [
        ["--steps", "1", "--reliability", "0"],
        ["--steps", "1000", "--reliability", "1"],
        ["--steps", "2", "--reliability", "0.000001"],
    ] {
        shown(&reckoned(&line));
    }
    shown(&reckoned(&[
        "--step",
        "a=0/1",
        "--step",
        "b=99999999999/99999999999",
    ]));
}

#[test]
fn wrong_figures_are_told() {
    for (line, why) in [
        (&["--steps", "6"][..], "--reliability"),
        (&["--steps", "6", "--reliability", "99"], "from 0 to 1"),
        (&["--steps", "6", "--reliability", "NaN"], "from 0 to 1"),
        (&["--step", "a=3/2"], "more than all"),
        (&["--step", "a=0/0"], "total is 0"),
        (&["--step", "a"], "NAME=OK/TOTAL"),
        (&["--steps", "0", "--reliability", "0.9"], "1..=1000"),
        (&["--step", "a=1/1", "--runs-ok", "1"], "--runs-total"),
    ] {
        let line = std::iter::once("gap").chain(line.iter().copied());
        let told = Args::try_parse_from(line).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    }
    let wrong = args(&["--step", "a=1/1", "--runs-ok", "2", "--runs-total", "1"]);
    assert!(figures::given(&wrong).is_err());
    let nobody = args(&["--step", "a=1/1", "--supervised", "b"]);
    assert!(
        figures::given(&nobody)
            .unwrap_err()
            .to_string()
            .contains("the steps are a")
    );
    let sure = args(&["--steps", "1", "--reliability", "1", "--confidence", "100"]);
    assert!(figures::terms(&sure).is_err());
}

/// Runs of two steps; the second is a checkpoint, and a vendor fails in two of them.
fn ledger() -> ledger::Read {
    let mut read = ledger::Read::default();
    for number in 0..10_i64 {
        let at = 1_795_486_838_000 + number * 600_000;
        let is_broken = number < 2;
        let attempts = if is_broken {
            json!([
                {"target": "one/m", "status": 200, "verdict": "broken"},
                {"target": "one/m", "status": 529, "verdict": "error"},
                {"target": "two/m", "status": 529, "verdict": "error"},
            ])
        } else {
            json!([
                {"target": "one/m", "status": 200, "verdict": "whole"},
                {"target": "two/m", "status": 400, "verdict": "error"},
                {"target": "two/m", "status": 200, "verdict": "whole"},
            ])
        };
        let run = json!({
            "state": if is_broken { "failed" } else { "done" },
            "expect": ["plan", "send"],
            "steps": if is_broken { json!([]) } else {
                json!([{"step": "send", "state": "done", "created": at + 5, "updated": at + 9}])
            },
            "exchanges": [
                {"step": "plan", "outcome": "told", "created": at, "facts": {"attempts": []}},
                {
                    "step": "plan",
                    "outcome": if is_broken { "told" } else { "whole" },
                    "created": at + 1,
                    "facts": {"attempts": attempts},
                },
            ],
            "effects": [{"step": "send", "state": "cancelled", "created": at + 7}],
            "approvals": [],
            "tickets": [],
        });
        read.count(&run, Duration::from_mins(1));
    }
    read
}

#[test]
fn a_ledger_is_counted_run_by_run() {
    let terms = figures::terms(&args(&[])).unwrap();
    let figures = ledger::figures(&ledger(), &terms, &[]).unwrap();
    let steps: Vec<_> = figures
        .steps
        .iter()
        .map(|step| (step.name.as_str(), step.known, step.supervised))
        .collect();
    let counted = |ok, total| {
        let tally = holdfast_core::reliability::Tally::new(ok, total).unwrap();
        holdfast_core::reliability::Known::Counted(tally)
    };
    // The last exchange of a step counts; a step without an end does not.
    assert_eq!(
        steps,
        [
            ("plan", counted(8, 10), false),
            ("send", counted(8, 8), true)
        ]
    );
    let runs = figures.runs.unwrap();
    assert_eq!((runs.ok(), runs.total()), (8, 10));
    assert_eq!(figures.by_length.len(), 1);
    let vendors = figures.of_vendors.unwrap();
    assert_eq!(
        (vendors.events, vendors.failures, vendors.together),
        (2, 4, 4)
    );
    // A request's own fault is no failure of a vendor, and breaks the row of attempts.
    let again = figures.again.unwrap();
    assert_eq!((again.ok(), again.total()), (2, 2));
}

#[test]
fn an_empty_ledger_says_what_to_do() {
    let terms = figures::terms(&args(&[])).unwrap();
    let told = ledger::figures(&ledger::Read::default(), &terms, &[]).unwrap_err();
    assert!(told.to_string().contains("Holdfast-Run"), "{told}");
}
