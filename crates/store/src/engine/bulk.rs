//! Statements over many rows.

use std::fmt::Write as _;
use std::sync::OnceLock;

/// The most rows of one statement.
pub(crate) const LARGEST: usize = 32;

/// A statement over rows of values.
#[derive(Debug)]
pub(crate) struct Bulk {
    before: &'static str,
    columns: usize,
    /// What was put together so far, by the number of rows; for `SQLite`, and for PostgreSQL.
    texts: [[OnceLock<String>; LARGEST + 1]; 2],
}

impl Bulk {
    pub(crate) const fn new(before: &'static str, columns: usize) -> Self {
        Self {
            before,
            columns,
            texts: [const { [const { OnceLock::new() }; LARGEST + 1] }; 2],
        }
    }

    /// The statement for so many rows, at most [`LARGEST`].
    pub(crate) fn text(&'static self, rows: usize, is_postgres: bool) -> &'static str {
        self.texts[usize::from(is_postgres)][rows].get_or_init(|| self.assemble(rows, is_postgres))
    }

    /// Numbered places have names to `SQLite`, which looks for each one in a list of all: with
    /// hundreds of them that costs more than the rows. The order is the same without numbers.
    ///
    /// And `SQLite` keeps a copy of every page that a statement touches, to undo the statement alone if
    /// a row breaks a constraint. Here nobody wants that: a group that fails is undone whole.
    fn assemble(&self, rows: usize, is_postgres: bool) -> String {
        let mut text = self.before.to_owned();
        if !is_postgres && let Some(verb) = text.find(' ') {
            text.insert_str(verb, " OR ROLLBACK");
        }
        let mut at = 0;
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..self.columns {
                at += 1;
                text.push_str(if column == 0 { "" } else { ", " });
                if is_postgres {
                    write!(text, "${at}").expect("invariant: writing to a string works");
                } else {
                    text.push('?');
                }
            }
            text.push(')');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_a_place_for_every_value() {
        static BULK: Bulk = Bulk::new("INSERT INTO a VALUES ", 2);
        assert_eq!(
            BULK.text(2, true),
            "INSERT INTO a VALUES ($1, $2), ($3, $4)"
        );
        assert_eq!(
            BULK.text(2, false),
            "INSERT OR ROLLBACK INTO a VALUES (?, ?), (?, ?)"
        );
    }
}
