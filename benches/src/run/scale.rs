//! How cost grows with one thing at a time, and where it bends.
//!
//! One round: what is looked for is a shape, not a digit.

use super::cost::Choice;
use super::measure::measure;
use super::phases::{Load, Unit, Work, streams, streams_again, work};
use super::rows::{HOLDFAST, NGINX, Place, Row, Setup, USUAL};
use super::table::markdown;

/// One thing that grows while all else stays.
struct Axis {
    title: &'static str,
    unit: &'static str,
    /// Whether nginx knows of such a thing.
    nginx: bool,
    /// Whether all of its streams are open at one moment.
    open: bool,
    points: &'static [u32],
    work: fn(u32) -> Work,
    setup: fn(u32) -> Setup,
}

/// A unit's cost that is so many times the least one before it has bent.
const BENT: f64 = 1.5;

const AXES: &[Axis] = &[
    Axis {
        title: "connections",
        unit: "µs per call",
        nginx: true,
        open: false,
        points: &[1, 8, 64, 512, 2048],
        work: |connections| calls(connections as usize, 0),
        setup: |_| USUAL,
    },
    Axis {
        title: "streams, a token in 200 ms",
        unit: "µs per token",
        nginx: true,
        open: true,
        points: &[10, 100, 1000, 2500, 5000],
        work: |count| streams(count as usize, 20, 200),
        setup: |_| Setup {
            in_flight: Some(8192),
            ..USUAL
        },
    },
    Axis {
        title: "tokens of a stream, 100 streams, a token in 5 ms",
        unit: "µs per token",
        nginx: true,
        open: false,
        points: &[1, 10, 100, 1000],
        work: |tokens| {
            let tokens = u64::from(tokens);
            // About as many tokens in all.
            streams_again(100, tokens, 5, (400 / tokens).clamp(1, 100))
        },
        setup: |_| USUAL,
    },
    Axis {
        title: "KiB of request",
        unit: "µs per call",
        nginx: true,
        open: false,
        points: &[1, 16, 64, 256, 1024, 4096, 16384],
        work: |kib| calls(8, (kib as usize) << 10),
        setup: |_| USUAL,
    },
    Axis {
        title: "targets of a route",
        unit: "µs per call",
        nginx: false,
        open: false,
        points: &[1, 4, 16, 64],
        work: |_| calls(64, 0),
        setup: |targets| Setup {
            targets: targets as usize,
            ..USUAL
        },
    },
    Axis {
        title: "routes",
        unit: "µs per call",
        nginx: false,
        open: false,
        points: &[1, 10, 100, 1000],
        work: |_| calls(64, 0),
        setup: |routes| Setup {
            routes: routes as usize,
            ..USUAL
        },
    },
];

const fn calls(connections: usize, fill: usize) -> Work {
    let seconds = 1.5;
    work(connections, Load::Closed { seconds, fill })
}

pub(crate) fn table(place: &Place, choice: &Choice) -> String {
    let head = [
        "",
        "unit",
        "nginx",
        "Holdfast",
        "to nginx",
        "KiB per stream",
    ];
    let (mut lines, mut bends) = (Vec::new(), String::new());
    for axis in AXES {
        let mut costs = Vec::new();
        for point in axis.points {
            let nginx = if axis.nginx {
                cost(axis, NGINX, *point, place, choice)
            } else {
                (f64::NAN, f64::NAN)
            };
            let (holdfast, memory) = cost(axis, HOLDFAST, *point, place, choice);
            costs.push(holdfast);
            lines.push(vec![
                format!("{point} {}", axis.title),
                axis.unit.to_owned(),
                shown(nginx.0, 1),
                shown(holdfast, 1),
                shown(holdfast / nginx.0, 2),
                shown(if axis.open { memory } else { f64::NAN }, 1),
            ]);
        }
        bends += &said(axis, &costs);
    }
    markdown(&head, &lines) + "\n" + &bends
}

/// Microseconds for a unit, and KiB for an open stream.
fn cost(axis: &Axis, row: Row, point: u32, place: &Place, choice: &Choice) -> (f64, f64) {
    if !choice.row(row) {
        return (f64::NAN, f64::NAN);
    }
    eprintln!("  scale: {point} {}: {}", axis.title, row.name);
    let mut work = (axis.work)(point);
    if choice.quick {
        work = work.quick();
    }
    let measured = row
        .start(place, &(axis.setup)(point))
        .and_then(|server| measure(&server, &work));
    match measured {
        Ok(point) => (per_call(&work, point.cost), point.memory),
        Err(error) => {
            eprintln!("    left out: {error}");
            (f64::NAN, f64::NAN)
        }
    }
}

/// Of a large body the whole call, not its MiB: the axis is what grows.
#[expect(clippy::cast_precision_loss, reason = "a body is far below 2^52 bytes")]
fn per_call(work: &Work, cost: f64) -> f64 {
    match work.load {
        Load::Closed { fill, .. } if work.unit() == Unit::Mib => {
            cost * fill as f64 / f64::from(1 << 20)
        }
        _ => cost,
    }
}

fn shown(value: f64, digits: usize) -> String {
    if value.is_finite() {
        format!("{value:.digits$}")
    } else {
        "-".to_owned()
    }
}

fn said(axis: &Axis, costs: &[f64]) -> String {
    let title = axis.title;
    // A body's cost is in its bytes: it bends where a byte becomes dearer.
    let bytes = title.starts_with("KiB");
    let units: Vec<f64> = costs
        .iter()
        .zip(axis.points)
        .map(|(cost, point)| {
            if bytes {
                cost / f64::from(*point)
            } else {
                *cost
            }
        })
        .collect();
    match bend(&units) {
        Some(at) => {
            let (from, to) = (
                units[..at].iter().copied().fold(f64::MAX, f64::min),
                units[at],
            );
            format!(
                "- {title}: bends at {} ({:.1} times the least before it).\n",
                axis.points[at],
                to / from
            )
        }
        None => format!(
            "- {title}: no bend up to {}.\n",
            axis.points[axis.points.len() - 1]
        ),
    }
}

/// The first cost that is much more than the least before it.
fn bend(costs: &[f64]) -> Option<usize> {
    let mut least = f64::MAX;
    for (at, cost) in costs.iter().enumerate() {
        if least < f64::MAX && *cost > least * BENT {
            return Some(at);
        }
        least = least.min(*cost);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_a_cost_bends() {
        assert_eq!(bend(&[30.0, 14.0, 15.0, 22.0, 40.0]), Some(3));
        assert_eq!(bend(&[30.0, 14.0, 15.0, 20.0]), None);
        assert_eq!(bend(&[f64::NAN, 14.0, 15.0]), None);
        assert_eq!(bend(&[]), None);
    }
}
