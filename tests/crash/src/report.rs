//! Counts, and which of them must be zero; printed as a table or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value, json};

/// One counted thing.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    pub(crate) name: &'static str,
    pub(crate) number: u64,
    pub(crate) must_be_zero: bool,
}

/// What one command found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) title: String,
    pub(crate) counts: Vec<Count>,
    /// What was wrong, in words; the first ones only.
    pub(crate) faults: Vec<String>,
}

/// More of the same says nothing new.
const MOST_FAULTS: usize = 20;

// === impl Report ===

impl Report {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    /// A count that tells how much was done.
    pub(crate) fn tell(&mut self, name: &'static str, count: u64) {
        self.counts.push(Count {
            name,
            number: count,
            must_be_zero: false,
        });
    }

    /// A count that breaks a promise where it is not zero.
    pub(crate) fn zero(&mut self, name: &'static str, count: u64) {
        self.counts.push(Count {
            name,
            number: count,
            must_be_zero: true,
        });
    }

    pub(crate) fn fault(&mut self, fault: impl Into<String>) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault.into());
        }
    }

    /// Something was done, and nothing that must be zero is not.
    pub(crate) fn is_good(&self) -> bool {
        let is_kept = self
            .counts
            .iter()
            .all(|count| !count.must_be_zero || count.number == 0);
        let is_busy = self
            .counts
            .iter()
            .any(|count| !count.must_be_zero && count.number > 0);
        is_kept && is_busy && self.faults.is_empty()
    }

    pub(crate) fn print(&self, as_json: bool) {
        let text = if as_json {
            format!("{}\n", self.json())
        } else {
            self.table()
        };
        let mut out = std::io::stdout().lock();
        // Nobody is left to be told.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn table(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for Count {
            name,
            number,
            must_be_zero,
        } in &self.counts
        {
            let verdict = match (must_be_zero, number) {
                (false, _) => "",
                (true, 0) => "ok",
                (true, _) => "BROKEN",
            };
            let line = format!("  {name:<58} {number:>9}  {verdict}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for fault in &self.faults {
            let _ = writeln!(text, "  - {}", fault.replace('\n', "\n    "));
        }
        let promises = self.counts.iter().filter(|count| count.must_be_zero);
        let broken = promises.clone().filter(|count| count.number > 0).count();
        let passed = promises.count() - broken;
        let failed = broken.max(usize::from(!self.is_good()));
        let _ = writeln!(text, "{passed} passed, {failed} failed");
        text
    }

    fn json(&self) -> Value {
        let counts: Map<String, Value> = self
            .counts
            .iter()
            .map(|count| (count.name.to_owned(), json!(count.number)))
            .collect();
        json!({"title": self.title, "good": self.is_good(), "counts": counts, "faults": self.faults})
    }
}

/// Says something to the person at the terminal.
pub(crate) fn say(text: &str) {
    // Nobody is left to be told.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_good_when_something_was_done_and_nothing_broke() {
        let mut report = Report::new("t");
        report.zero("lost", 0);
        assert!(!report.is_good(), "nothing was done");
        report.tell("done", 3);
        assert!(report.is_good());
        let mut broken = report.clone();
        broken.zero("twice", 1);
        assert!(!broken.is_good());
        assert!(broken.table().contains("BROKEN"));
        assert!(broken.table().ends_with("1 passed, 1 failed\n"));
        report.fault("it burns");
        assert!(!report.is_good());
    }
}
