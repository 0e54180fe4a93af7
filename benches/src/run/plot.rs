//! The summary as a picture: what each proxy has of each goal, as a share of what is allowed.

use std::fmt::Write as _;

use super::cost::Results;
use super::goals::{COLUMNS, GOALS};

const LEFT: f64 = 330.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 70.0;
const LINE: f64 = 30.0;
/// The ends of the axis, as powers of ten of the share.
const LEAST: f64 = -2.0;
const MOST: f64 = 3.0;
/// Of the columns of the summary.
const COLOURS: [&str; 5] = ["#3f8f4f", "#3b76b8", "#8a8a8a", "#b4662a", "#b3261e"];

pub(crate) fn svg(results: &Results) -> String {
    let goals: Vec<(&str, [Option<f64>; 5])> = GOALS
        .iter()
        .map(|goal| (goal.title, COLUMNS.map(|row| goal.share(results, row))))
        .filter(|(_, shares)| shares[4].is_some())
        .collect();
    draw(&goals)
}

fn draw(goals: &[(&str, [Option<f64>; 5])]) -> String {
    let mut bottom = TOP;
    let mut lines = String::new();
    for (title, shares) in goals {
        let middle = bottom + LINE / 2.0;
        let _ = writeln!(
            lines,
            r##"<text x="{:.0}" y="{:.0}" text-anchor="end">{title}</text><path d="M{LEFT} {middle}H{RIGHT}" stroke="#ddd"/>"##,
            LEFT - 12.0,
            middle + 4.0
        );
        for (share, colour) in shares.iter().zip(COLOURS) {
            if let Some(share) = share {
                let at = position(*share);
                let _ = writeln!(
                    lines,
                    r#"<circle cx="{at:.1}" cy="{middle}" r="6" fill="{colour}" fill-opacity=".85"/>"#
                );
            }
        }
        bottom += LINE;
    }
    let height = bottom + 40.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" width="960" height="{height}" font-family="system-ui, sans-serif" font-size="13" fill="#222">
<title>What each proxy costs, as a share of what Holdfast may cost</title>
<rect width="960" height="{height}" fill="#fff"/>
{}{}{lines}</svg>
"##,
        legend(),
        axis(bottom)
    )
}

/// Where a share stands on the axis, which ends where it ends.
fn position(share: f64) -> f64 {
    let power = share.max(1e-9).log10().clamp(LEAST, MOST);
    LEFT + (power - LEAST) / (MOST - LEAST) * (RIGHT - LEFT)
}

fn legend() -> String {
    let mut text = String::new();
    let mut at = LEFT;
    for (row, colour) in COLUMNS.iter().zip(COLOURS) {
        let _ = writeln!(
            text,
            r#"<circle cx="{:.0}" cy="24" r="6" fill="{colour}"/><text x="{:.0}" y="28">{}</text>"#,
            at + 6.0,
            at + 18.0,
            row.name
        );
        at += 110.0;
    }
    text
}

fn axis(bottom: f64) -> String {
    let mut text = String::new();
    for (share, label) in [
        (0.01, "1 %"),
        (0.1, "10 %"),
        (1.0, "the most allowed"),
        (10.0, "10 x"),
        (100.0, "100 x"),
        (1000.0, "1000 x"),
    ] {
        let at = position(share);
        let (colour, width) = if label.contains("most") {
            ("#222", 2)
        } else {
            ("#ccc", 1)
        };
        let _ = writeln!(
            text,
            r#"<path d="M{at:.1} {:.0}V{bottom}" stroke="{colour}" stroke-width="{width}"/><text x="{at:.1}" y="{:.0}" text-anchor="middle">{label}</text>"#,
            TOP - 10.0,
            bottom + 20.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_where_its_share_is() {
        assert!((position(0.01) - LEFT).abs() < 1e-6);
        assert!((position(1000.0) - RIGHT).abs() < 1e-6);
        assert!((position(0.0) - LEFT).abs() < 1e-6);
        assert!(position(1.5) > position(1.0));
    }

    #[test]
    fn what_was_not_measured_has_no_dot() {
        let svg = draw(&[("a goal", [Some(1.0), None, None, None, Some(2.0)])]);
        assert_eq!(svg.matches("r=\"6\" fill=").count(), 2 + COLUMNS.len());
        assert!(svg.contains("a goal"));
    }
}
