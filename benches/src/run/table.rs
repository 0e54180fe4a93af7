//! Medians, their spread, and tables of them in Markdown.

/// What several rounds said of one number, in their order.
#[derive(Clone, Default)]
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

    /// The median, and in brackets the least and the most. Of an even number of rounds the lower
    /// one of the two in the middle.
    pub(crate) fn shown(&self, digits: usize) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(median) = sorted.get(sorted.len().saturating_sub(1) / 2) else {
            return "-".to_owned();
        };
        match sorted.as_slice() {
            [least, .., most] => format!("{median:.digits$} ({least:.digits$}-{most:.digits$})"),
            _ => format!("{median:.digits$}"),
        }
    }
}

/// Prints a Markdown table.
pub(crate) fn print(head: &[&str], rows: &[Vec<String>]) {
    println!("| {} |", head.join(" | "));
    let rules = head.iter().enumerate().map(|(column, _)| {
        let first = column == 0;
        if first { "---" } else { "---:" }
    });
    println!("| {} |", rules.collect::<Vec<_>>().join(" | "));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// The value that this share of the sorted values does not exceed.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        for value in values {
            samples.push(*value);
        }
        samples
    }

    #[test]
    fn shows_the_median_between_least_and_most() {
        assert_eq!(samples(&[9.0, 1.0, 2.0]).shown(1), "2.0 (1.0-9.0)");
        assert_eq!(samples(&[4.0]).shown(2), "4.00");
        assert_eq!(samples(&[]).shown(1), "-");
    }

    #[test]
    fn compares_each_round_with_itself() {
        let ratios = samples(&[2.0, 40.0, 6.0]).to(&samples(&[1.0, 10.0, 2.0]));
        assert_eq!(ratios.shown(0), "3 (2-4)");
    }

    #[test]
    fn takes_a_percentile_of_what_is_there() {
        assert_eq!(percentile(&[1, 2, 3, 4, 5], 50), 3);
        assert_eq!(percentile(&[1, 2, 3, 4, 5], 100), 5);
        assert_eq!(percentile(&[], 50), 0);
    }
}
