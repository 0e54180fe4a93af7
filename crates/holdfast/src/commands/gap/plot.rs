//! Reliability against the length of the chain, drawn with plain characters.

use super::report::Report;

/// Rows of the drawing.
const ROWS: usize = 14;
/// Columns of the drawing.
const COLUMNS: usize = 62;

/// What the characters mean.
const LEGEND: &str = "         * independent steps  | interval    o measured runs  : interval";

/// The drawing's cells, from the top left.
struct Canvas {
    cells: Vec<Vec<char>>,
    floor: f64,
}

/// How the drawing is laid out sideways.
struct Sideways {
    /// Steps of the longest chain.
    longest: usize,
    /// Columns from one length to the next; below 1, several lengths share one.
    width: f64,
}

pub(super) fn plot(report: &Report) -> String {
    let longest = report
        .points
        .iter()
        .map(|(length, _, _)| *length)
        .fold(report.prefixes.len(), usize::max);
    let sideways = Sideways::new(longest);
    let mut canvas = Canvas::new(floor(report));
    for (index, estimate) in report.prefixes.iter().enumerate() {
        let column = sideways.column(index + 1);
        if let Some(interval) = estimate.interval {
            canvas.line(column, interval.low, interval.high, '|');
        }
    }
    for (length, _, estimate) in &report.points {
        let column = sideways.column(*length) + 1;
        if let Some(interval) = estimate.interval {
            canvas.line(column, interval.low, interval.high, ':');
        }
    }
    for (index, estimate) in report.prefixes.iter().enumerate() {
        canvas.dot(sideways.column(index + 1), estimate.value, '*');
    }
    for (length, _, estimate) in &report.points {
        canvas.dot(sideways.column(*length) + 1, estimate.value, 'o');
    }
    let mut text = canvas.draw();
    text.push_str(&sideways.axis());
    text.push_str(LEGEND.trim_end());
    text.push('\n');
    text
}

/// The lowest value that is shown, on a round number below everything that is drawn.
fn floor(report: &Report) -> f64 {
    let points = report.points.iter().map(|(_, _, estimate)| estimate);
    let lowest = report
        .prefixes
        .iter()
        .chain(points)
        .map(|estimate| estimate.interval.map_or(estimate.value, |found| found.low))
        .fold(1.0, f64::min);
    let steps = [
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75,
    ];
    let span = steps.into_iter().find(|span| 1.0 - span <= lowest);
    span.map_or(0.0, |span| 1.0 - span)
}

impl Canvas {
    fn new(floor: f64) -> Self {
        Self {
            cells: vec![vec![' '; COLUMNS]; ROWS],
            floor,
        }
    }

    /// The row of a value; the first row is 100 %.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a row within the drawing"
    )]
    fn row(&self, value: f64) -> usize {
        let share = ((1.0 - value) / (1.0 - self.floor)).clamp(0.0, 1.0);
        (share * (ROWS - 1) as f64).round() as usize
    }

    fn dot(&mut self, column: usize, value: f64, mark: char) {
        let row = self.row(value);
        if let Some(cell) = self.cells[row].get_mut(column) {
            *cell = mark;
        }
    }

    fn line(&mut self, column: usize, low: f64, high: f64, mark: char) {
        let (top, bottom) = (self.row(high), self.row(low));
        for row in top..=bottom {
            if let Some(cell) = self.cells[row].get_mut(column) {
                *cell = mark;
            }
        }
    }

    /// The rows with their scale on the left: every third one is named.
    #[expect(clippy::cast_precision_loss, reason = "a row within the drawing")]
    fn draw(&self) -> String {
        let mut text = String::new();
        for (row, cells) in self.cells.iter().enumerate() {
            let value = 1.0 - (1.0 - self.floor) * row as f64 / (ROWS - 1) as f64;
            let digits = if self.floor >= 0.98 { 2 } else { 1 };
            let label = if row % 3 == 0 || row == ROWS - 1 {
                format!("{:.digits$}%", value * 100.0)
            } else {
                String::new()
            };
            let cells: String = cells.iter().collect();
            text.push_str(format!("{label:>7} |{cells}").trim_end());
            text.push('\n');
        }
        text
    }
}

impl Sideways {
    #[expect(clippy::cast_precision_loss, reason = "a length within thousands")]
    fn new(longest: usize) -> Self {
        // The last length needs a column more for what was measured.
        let width = (COLUMNS - 3) as f64 / longest.max(1) as f64;
        Self {
            longest,
            width: width.min(6.0),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a column within the drawing"
    )]
    fn column(&self, length: usize) -> usize {
        (length as f64 * self.width).floor() as usize
    }

    /// The line below the drawing, and the lengths below it, as many as have room.
    fn axis(&self) -> String {
        let mut marks = vec![' '; COLUMNS + 8];
        let mut free = 0;
        for length in 1..=self.longest {
            let label = length.to_string();
            let column = self.column(length);
            let is_round = self.longest <= 12 || length == 1 || length.is_multiple_of(5);
            if column < free || !is_round || column + label.len() > marks.len() {
                continue;
            }
            for (place, letter) in label.chars().enumerate() {
                marks[column + place] = letter;
            }
            free = column + label.len() + 1;
        }
        let marks: String = marks.into_iter().collect();
        let below = format!("        {}  steps", marks.trim_end());
        format!("        +{}\n {below}\n", "-".repeat(COLUMNS))
    }
}
