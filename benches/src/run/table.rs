//! Medians, their spread, and tables of them in Markdown.

use std::fmt::Write as _;

/// What several rounds said of one number, in their order; a round that said nothing is no number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Of each round by itself, how many times as much as `measure` had in that round: what slows
    /// a whole round falls out.
    pub(crate) fn to(&self, measure: &Self) -> Self {
        let pairs = self.0.iter().zip(&measure.0);
        Self(pairs.map(|(value, measure)| value / measure).collect())
    }

    /// Of each round by itself, how much more than `measure` had.
    pub(crate) fn over(&self, measure: &Self) -> Self {
        let pairs = self.0.iter().zip(&measure.0);
        Self(pairs.map(|(value, measure)| value - measure).collect())
    }

    /// In another unit.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|value| value * factor).collect())
    }

    /// The rounds that said something, from the least to the most.
    fn sorted(&self) -> Vec<f64> {
        let finite = self.0.iter().copied().filter(|value| value.is_finite());
        let mut sorted: Vec<f64> = finite.collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// Of an even number of rounds the lower one of the two in the middle.
    pub(crate) fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }

    /// The median, and in brackets the least and the most.
    pub(crate) fn shown(&self, digits: usize) -> String {
        let sorted = self.sorted();
        match (self.median(), sorted.as_slice()) {
            (None, _) => "-".to_owned(),
            (Some(median), [least, .., most]) => {
                format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
            }
            (Some(median), _) => format!("{median:.digits$}"),
        }
    }

    /// The median alone.
    pub(crate) fn middle(&self, digits: usize) -> String {
        self.median()
            .map_or_else(|| "-".to_owned(), |median| format!("{median:.digits$}"))
    }
}

/// A Markdown table.
pub(crate) fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let rules = head.iter().enumerate().map(|(column, _)| {
        let first = column == 0;
        if first { "---" } else { "---:" }
    });
    let rules = rules.collect::<Vec<_>>().join(" | ");
    let mut text = format!("| {} |\n| {rules} |\n", head.join(" | "));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    #[test]
    fn shows_the_median_between_least_and_most() {
        assert_eq!(samples(&[9.0, 1.0, 2.0]).shown(1), "2.0 (1.0-9.0)");
        assert_eq!(samples(&[4.0]).shown(2), "4.00");
        assert_eq!(samples(&[]).shown(1), "-");
    }

    #[test]
    fn a_round_that_said_nothing_is_left_out() {
        let some = samples(&[3.0, f64::NAN, 5.0]);
        assert_eq!(some.middle(0), "3");
        assert_eq!(samples(&[f64::NAN]).shown(1), "-");
        assert_eq!(some.to(&samples(&[1.0, 1.0, f64::NAN])).shown(0), "3");
    }

    #[test]
    fn compares_each_round_with_itself() {
        let (some, measure) = (samples(&[2.0, 40.0, 6.0]), samples(&[1.0, 10.0, 2.0]));
        assert_eq!(some.to(&measure).shown(0), "3 (2-4)");
        assert_eq!(some.over(&measure).shown(0), "4 (1-30)");
    }

    #[test]
    fn writes_markdown() {
        let text = markdown(&["a", "b"], &[vec!["1".to_owned(), "2".to_owned()]]);
        assert_eq!(text, "| a | b |\n| --- | ---: |\n| 1 | 2 |\n");
    }
}
