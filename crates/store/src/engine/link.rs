//! The writer's own connection to `SQLite`: a statement is run where it is asked for.
//!
//! The pool's connections have a thread each, and every statement goes there and back. A group of
//! operations has several; on one thread they cost what `SQLite` makes of them.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{Null, Value as Cell};
use rusqlite::{Connection, OpenFlags, Statement};

use super::sql::{Value, ValueRef};

/// Prepared statements that are kept.
pub(crate) const STATEMENTS: usize = 256;

/// A connection.
pub(crate) struct Link(Connection);

impl Link {
    /// Opens the file, and makes it where there is none.
    pub(crate) fn open(
        path: &Path,
        timeout: Duration,
        pragmas: &[(&str, &str)],
    ) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(timeout)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        for (name, value) in pragmas {
            conn.pragma_update(None, name, value)?;
        }
        Ok(Self(conn))
    }

    /// Runs a statement and gives the number of rows that it changed.
    pub(crate) fn execute(&self, sql: &str, args: &[Value]) -> rusqlite::Result<u64> {
        let mut statement = self.0.prepare_cached(sql)?;
        bind(&mut statement, args)?;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        Ok(self.0.changes())
    }

    /// Runs a statement for each of these rows of values, and tells of each whether it changed something.
    pub(crate) fn each<'v>(
        &self,
        sql: &str,
        rows: impl Iterator<Item = Vec<ValueRef<'v>>>,
    ) -> rusqlite::Result<Vec<bool>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut run = |values: Vec<ValueRef<'_>>| {
            for (place, value) in (1..).zip(&values) {
                match value {
                    ValueRef::Text(text) => statement.raw_bind_parameter(place, text.as_ref())?,
                    ValueRef::Int(number) => statement.raw_bind_parameter(place, number)?,
                    ValueRef::Blob(bytes) => statement.raw_bind_parameter(place, bytes)?,
                    ValueRef::Null => statement.raw_bind_parameter(place, Null)?,
                }
            }
            statement.raw_execute().map(|changed| changed > 0)
        };
        rows.map(&mut run).collect()
    }

    /// The rows of a statement.
    pub(crate) fn rows(&self, sql: &str, args: &[Value]) -> rusqlite::Result<Vec<Vec<Cell>>> {
        let mut statement = self.0.prepare_cached(sql)?;
        bind(&mut statement, args)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(
                (0..columns)
                    .map(|at| row.get(at))
                    .collect::<Result<_, _>>()?,
            );
        }
        Ok(all)
    }
}

/// Places are numbered where one text serves both databases, and `SQLite` counts them in the order in
/// which they first appear.
fn bind(statement: &mut Statement<'_>, args: &[Value]) -> rusqlite::Result<()> {
    for place in 1..=statement.parameter_count() {
        let number = match statement.parameter_name(place) {
            None => place,
            Some(name) => name[1..].parse().unwrap_or(place),
        };
        let Some(value) = number.checked_sub(1).and_then(|at| args.get(at)) else {
            return Err(rusqlite::Error::InvalidParameterCount(args.len(), place));
        };
        match value {
            Value::Text(text) => statement.raw_bind_parameter(place, text.as_deref())?,
            Value::Int(number) => statement.raw_bind_parameter(place, number)?,
            Value::Blob(bytes) => statement.raw_bind_parameter(place, bytes.as_deref())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(number: i64) -> Value {
        number.into()
    }

    #[test]
    fn a_value_goes_where_its_number_stands() {
        let link = Link::open(Path::new(":memory:"), Duration::ZERO, &[]).unwrap();
        let rows = link
            .rows("SELECT $2, $1, $2", &[int(7), "two".into()])
            .unwrap();
        let (one, two) = (Cell::Integer(7), Cell::Text("two".to_owned()));
        assert_eq!(rows, [[two.clone(), one, two]]);
        assert!(link.rows("SELECT ?, ?", &[int(1)]).is_err());
    }

    /// What the operations of one statement rely on.
    #[test]
    fn each_row_tells_whether_it_fit() {
        let link = Link::open(Path::new(":memory:"), Duration::ZERO, &[]).unwrap();
        link.execute("CREATE TABLE a (n BIGINT PRIMARY KEY, t TEXT, b BLOB)", &[])
            .unwrap();
        let row = |n: i64| {
            let text = (n > 1).then_some("t\0");
            vec![n.into(), text.into(), ValueRef::from(&b"\0"[..])]
        };
        let insert = "INSERT INTO a VALUES (?1, ?2, ?3) ON CONFLICT (n) DO NOTHING";
        let fit = link.each(insert, [1, 2, 1, 3].into_iter().map(row));
        assert_eq!(fit, Ok(vec![true, true, false, true]));
        let update = "UPDATE a SET b = NULL WHERE n = ?1 AND t = ?2 AND b = ?3";
        let fit = link.each(update, [1, 2, 2].into_iter().map(row));
        assert_eq!(fit, Ok(vec![false, true, false]));
        assert_eq!(link.each(update, std::iter::empty()), Ok(vec![]));
        let too_many = std::iter::once(vec![ValueRef::Null; 4]);
        assert!(link.each(update, too_many).is_err());
    }

    /// What the statements for many rows rely on.
    #[test]
    fn a_row_that_breaks_a_constraint_undoes_the_whole_transaction() {
        let link = Link::open(Path::new(":memory:"), Duration::ZERO, &[]).unwrap();
        let run = |sql| link.execute(sql, &[]);
        run("CREATE TABLE a (n BIGINT NOT NULL)").unwrap();
        run("BEGIN IMMEDIATE").unwrap();
        run("INSERT INTO a VALUES (1)").unwrap();
        assert!(run("INSERT OR ROLLBACK INTO a VALUES (2), (NULL)").is_err());
        assert!(run("COMMIT").is_err(), "it is over already");
        let rows = link.rows("SELECT n FROM a", &[]).unwrap();
        assert!(rows.is_empty(), "{rows:?}");
    }

    #[test]
    fn changed_rows_are_counted() {
        let link = Link::open(Path::new(":memory:"), Duration::ZERO, &[]).unwrap();
        link.execute("CREATE TABLE a (n BIGINT)", &[]).unwrap();
        let insert = "INSERT INTO a VALUES (?), (?) RETURNING n";
        assert_eq!(link.execute(insert, &[int(1), int(2)]), Ok(2));
        assert_eq!(link.execute("DELETE FROM a WHERE n = $1", &[int(3)]), Ok(0));
    }
}
