//! Tables that fit a terminal of 80 columns.
//!
//! Much of what is shown was written by models and by strangers: control characters, with which a
//! terminal can be made to do things, are replaced everywhere.

use std::fmt::Write as _;

use serde_json::Value;

/// The width that everything fits into.
pub(crate) const WIDTH: usize = 80;

/// Rows of cells under a head. Every column is as wide as it needs to be but the last, which takes what
/// is left, and is cut where it has to be.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| line(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .fold(head[column].chars().count(), usize::max)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head = head.iter().map(|&name| name.to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        push_row(&mut text, row, &widths);
    }
    text
}

fn push_row(text: &mut String, row: &[String], widths: &[usize]) {
    let mut out = String::new();
    let mut taken = 0;
    for (place, (cell, width)) in row.iter().zip(widths).enumerate() {
        if place + 1 == widths.len() {
            out.push_str(&cut(cell, WIDTH.saturating_sub(taken).max(8)));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "{cell:<width$}  ");
            taken += width + 2;
        }
    }
    text.push_str(out.trim_end());
    text.push('\n');
}

/// Names and values, one under the other; those without a value are left out, long ones are broken
/// between words.
pub(crate) fn facts(pairs: &[(&str, Option<String>)]) -> String {
    let mut text = String::new();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        let mut label = *name;
        for part in wrap(&line(value), WIDTH - width) {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{label:<width$}{part}");
            label = "";
        }
    }
    text
}

/// A value under its name: text as it is, everything else as JSON.
pub(crate) fn section(name: &str, value: &Value) -> String {
    let value = match value {
        Value::String(text) => text.clone(),
        value => format!("{value:#}"),
    };
    format!("\n{name}:\n{}\n", plain(&value))
}

/// Broken between words, where there are any; a longer word stays whole, so that it can be copied.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("invariant: there is a line");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// At most `width` characters; what is cut says so.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{}...", kept.trim_end())
}

/// One line without control characters.
pub(crate) fn line(text: &str) -> String {
    text.trim()
        .chars()
        .map(|letter| match letter {
            '\n' | '\r' | '\t' => ' ',
            letter if is_unseen(letter) => char::REPLACEMENT_CHARACTER,
            letter => letter,
        })
        .collect()
}

/// Lines without control characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\n' => '\n',
            '\t' => ' ',
            letter if is_unseen(letter) => char::REPLACEMENT_CHARACTER,
            letter => letter,
        })
        .collect()
}

/// Control characters, and those that turn the direction of what follows.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_and_its_last_column_is_cut() {
        let rows = vec![
            vec!["0190".to_owned(), "open".to_owned(), "word ".repeat(40)],
            vec!["2".to_owned(), String::new(), "short".to_owned()],
        ];
        let text = table(&["id", "state", "title"], &rows);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert!(text.starts_with("id    state  title\n0190  open   word word"));
        assert!(text.lines().nth(1).unwrap().ends_with("..."));
        assert_eq!(text.lines().nth(2).unwrap(), "2            short");
    }

    #[test]
    fn what_a_model_wrote_does_not_reach_the_terminal_as_a_command() {
        let hostile = "a\x1b[2Jb\u{202e}c\r\nd\u{9b}";
        assert_eq!(line(hostile), "a\u{fffd}[2Jb\u{fffd}c  d\u{fffd}");
        assert_eq!(plain("a\x07\nb"), "a\u{fffd}\nb");
        let rows = vec![vec!["\x1b]0;x\x07".to_owned()]];
        assert!(!table(&["x"], &rows).contains('\x1b'));
    }

    #[test]
    fn facts_are_broken_between_words() {
        let long = "word ".repeat(30);
        let text = facts(&[
            ("a", Some(long)),
            ("empty", None),
            ("b", Some("c".to_owned())),
        ]);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert!(text.ends_with("b      c\n"), "{text}");
        assert!(!text.contains("empty"));
    }
}
