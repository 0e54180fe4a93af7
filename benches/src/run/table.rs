//! Medians, their spread, and tables of them in Markdown.

/// What several rounds said of one number.
#[derive(Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; of an even number the lower of the two.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len().saturating_sub(1) / 2;
        self.0.get(middle).copied().unwrap_or(f64::NAN)
    }

    /// The median, and in brackets the least and the most.
    pub(crate) fn shown(&self) -> String {
        let median = self.median();
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(most)) if self.0.len() > 1 => {
                format!("{median:.1} ({least:.1}-{most:.1})")
            }
            _ => format!("{median:.1}"),
        }
    }
}

/// A number of the kind that is shown beside its measure: `1.9x`.
pub(crate) fn ratio(value: &Samples, measure: &Samples) -> String {
    format!("{:.2}x", value.median() / measure.median())
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
        assert_eq!(samples(&[9.0, 1.0, 2.0]).shown(), "2.0 (1.0-9.0)");
        assert_eq!(samples(&[4.0]).shown(), "4.0");
        assert_eq!(ratio(&samples(&[3.0]), &samples(&[2.0])), "1.50x");
    }

    #[test]
    fn takes_a_percentile_of_what_is_there() {
        assert_eq!(percentile(&[1, 2, 3, 4, 5], 50), 3);
        assert_eq!(percentile(&[1, 2, 3, 4, 5], 100), 5);
        assert_eq!(percentile(&[], 50), 0);
    }
}
