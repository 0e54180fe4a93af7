//! Many operations in one statement, where they are of one kind and come together.
//!
//! What most calls do (a claim that finds nothing, a completion of one's own) can be said for many in
//! one breath; whoever it did not fit runs by itself afterwards, as if nothing had been tried.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::OnceLock;

use sqlx::SqlStr;

use super::job::Job;
use super::sql::{Tx, Value};
use crate::error::Result;

/// The sizes of the groups that are said in one statement; each is prepared once.
const SIZES: [usize; 3] = [LARGEST, 8, 2];

/// The most rows of one statement.
pub(crate) const LARGEST: usize = 32;

/// A statement over rows of values, that gives the tags of those that it fit.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) before: &'static str,
    pub(crate) columns: usize,
    pub(crate) after: &'static str,
    /// What was put together so far, by the number of rows; for `SQLite`, and for PostgreSQL.
    texts: [[OnceLock<String>; LARGEST + 1]; 2],
}

/// One operation's row.
#[derive(Debug)]
pub(crate) struct BulkRow {
    /// What tells it from the others.
    pub(crate) tag: i64,
    pub(crate) values: Vec<Value>,
}

/// Runs what can be said together. Gives the operations that are left.
pub(crate) async fn together<'a>(
    tx: &mut Tx,
    jobs: &'a mut [Box<dyn Job>],
) -> Result<Vec<&'a mut Box<dyn Job>>> {
    let mut left = Vec::new();
    let mut groups: Vec<(&'static Bulk, Vec<&'a mut Box<dyn Job>>)> = Vec::new();
    for job in jobs {
        let Some(bulk) = job.bulk() else {
            left.push(job);
            continue;
        };
        match groups
            .iter_mut()
            .find(|(known, _)| std::ptr::eq(*known, bulk))
        {
            Some((_, group)) => group.push(job),
            None => groups.push((bulk, vec![job])),
        }
    }
    for (bulk, mut group) in groups {
        for size in SIZES {
            while group.len() >= size {
                let some = group.split_off(group.len() - size);
                left.extend(say(tx, bulk, some).await?);
            }
        }
        left.append(&mut group);
    }
    Ok(left)
}

/// One statement. Gives those that it did not fit.
async fn say<'a>(
    tx: &mut Tx,
    bulk: &'static Bulk,
    mut jobs: Vec<&'a mut Box<dyn Job>>,
) -> Result<Vec<&'a mut Box<dyn Job>>> {
    let owner = tx.owner.clone();
    let mut values = Vec::with_capacity(jobs.len() * bulk.columns);
    let mut tags = Vec::with_capacity(jobs.len());
    for job in &jobs {
        let row = job.bulk_row(&owner);
        tags.push(row.as_ref().map(|row| row.tag));
        values.extend(row.map(|row| row.values).unwrap_or_default());
    }
    let rows = tx
        .rows_text(
            SqlStr::from_static(bulk.text(jobs.len(), tx.is_postgres())),
            values,
        )
        .await?;
    let mut fit = BTreeSet::new();
    for mut row in rows {
        fit.insert(row.int()?);
    }
    let mut at = 0;
    jobs.retain_mut(|job| {
        let is_done = tags[at].is_some_and(|tag| fit.contains(&tag));
        at += 1;
        if is_done {
            job.bulk_done();
        }
        !is_done
    });
    Ok(jobs)
}

impl Bulk {
    pub(crate) const fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self {
            before,
            columns,
            after,
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
        text.push_str(self.after);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_a_place_for_every_value() {
        static BULK: Bulk = Bulk::new("INSERT INTO a VALUES ", 2, " RETURNING b");
        assert_eq!(
            BULK.text(2, true),
            "INSERT INTO a VALUES ($1, $2), ($3, $4) RETURNING b"
        );
        assert_eq!(
            BULK.text(2, false),
            "INSERT OR ROLLBACK INTO a VALUES (?, ?), (?, ?) RETURNING b"
        );
    }
}
