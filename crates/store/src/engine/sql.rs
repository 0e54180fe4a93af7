//! One way to talk to both databases: values, rows, and a transaction that runs statements.
//!
//! Columns are `TEXT`, `BIGINT` and `BLOB` (`BYTEA`) only, and placeholders are `$1`, so that one text
//! serves both. Locks of rows are asked for at the end of a statement and left away on `SQLite`, where
//! there is one writer.

use std::borrow::Cow;
use std::sync::Arc;

use holdfast_core::time::Wall;
use rusqlite::types::Value as Cell;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Executor as _, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite, Transaction};

use super::health::{Remedy, Trouble, judge, judge_link};
use super::link::Link;
use crate::error::{Error, Result};

/// A value to be bound. The kind of a null matters to PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Blob(Option<Vec<u8>>),
}

/// A value that is lent to a statement of the writer.
#[derive(Clone, Debug)]
pub(crate) enum ValueRef<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Blob(&'a [u8]),
    Null,
}

/// The values of a statement, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::engine::sql::Value::from($value)),*] };
}
pub(crate) use args;

/// The values that are lent to a statement, in order.
macro_rules! lent {
    ($($value:expr),* $(,)?) => { vec![$($crate::engine::sql::ValueRef::from($value)),*] };
}
pub(crate) use lent;

/// A row, read column after column.
pub(crate) struct Row {
    raw: Raw,
    at: usize,
}

enum Raw {
    Link(Vec<Cell>),
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A connection, and what an operation on it left to be done at its end.
pub(crate) struct Tx {
    conn: Conn,
    /// This process.
    pub(crate) owner: Arc<str>,
    events: Vec<NewEvent>,
    /// Events were written: somebody must be told after the commit.
    pub(crate) rang: bool,
    /// What may be done about the last error.
    pub(crate) remedy: Remedy,
}

pub(crate) enum Conn {
    Writer(Link),
    Reader(PoolConnection<Sqlite>),
    /// For checks and copies.
    Patient(Box<SqliteConnection>),
    Postgres(Transaction<'static, Postgres>),
}

/// An event to be written with the operation that caused it.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) at: Wall,
    pub(crate) scope: String,
    pub(crate) kind: &'static str,
    pub(crate) subject: String,
    pub(crate) json: serde_json::Value,
}

/// The channel on which PostgreSQL wakes the other processes.
pub(crate) const EVENT_CHANNEL: &str = "holdfast_events";

/// Held from the writing of an event to its commit, so that numbers become visible in their order.
const EVENT_LOCK: i64 = 0x0068_6f6c_6466_6576;

// === impl Value ===

/// Neither database takes NUL in texts.
fn clean(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(clean(text)))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(clean))
    }
}

impl From<&Option<String>> for Value {
    fn from(text: &Option<String>) -> Self {
        text.clone().into()
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        text.map(str::to_owned).into()
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<Wall> for Value {
    fn from(at: Wall) -> Self {
        Self::Int(Some(at.0))
    }
}

impl From<Option<Wall>> for Value {
    fn from(at: Option<Wall>) -> Self {
        Self::Int(at.map(|at| at.0))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Blob(Some(bytes.to_vec()))
    }
}

impl From<&Vec<u8>> for Value {
    fn from(bytes: &Vec<u8>) -> Self {
        Self::Blob(Some(bytes.clone()))
    }
}

impl From<&Option<Vec<u8>>> for Value {
    fn from(bytes: &Option<Vec<u8>>) -> Self {
        Self::Blob(bytes.clone())
    }
}

// === impl ValueRef ===

impl<'a> From<&'a str> for ValueRef<'a> {
    fn from(text: &'a str) -> Self {
        if text.contains('\0') {
            Self::Text(Cow::Owned(clean(text.to_owned())))
        } else {
            Self::Text(Cow::Borrowed(text))
        }
    }
}

impl<'a> From<&'a String> for ValueRef<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}

impl<'a> From<&'a [u8]> for ValueRef<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Blob(bytes)
    }
}

impl From<i64> for ValueRef<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<Wall> for ValueRef<'_> {
    fn from(at: Wall) -> Self {
        Self::Int(at.0)
    }
}

impl<T: Into<Self>> From<Option<T>> for ValueRef<'_> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

// === impl FromCell ===

/// What a cell of the writer's connection holds, if it is of that kind.
trait FromCell: Sized {
    fn from_cell(cell: Cell) -> Option<Self>;
}

macro_rules! from_cell {
    ($($kind:ty, $variant:ident;)+) => {$(
        impl FromCell for $kind {
            fn from_cell(cell: Cell) -> Option<Self> {
                match cell {
                    Cell::$variant(value) => Some(value),
                    _ => None,
                }
            }
        }
    )+};
}
from_cell! {
    i64, Integer;
    String, Text;
    Vec<u8>, Blob;
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

// === impl Row ===

macro_rules! column {
    ($($name:ident: $kind:ty;)+) => {$(
        pub(crate) fn $name(&mut self) -> Result<$kind> {
            let at = self.at;
            self.at += 1;
            match &mut self.raw {
                Raw::Link(cells) => {
                    let cell = cells.get_mut(at).map(|cell| std::mem::replace(cell, Cell::Null));
                    return cell
                        .and_then(FromCell::from_cell)
                        .ok_or_else(|| Error::Corrupt(format!("column {at} is of another kind")));
                }
                Raw::Sqlite(row) => row.try_get(at),
                Raw::Postgres(row) => row.try_get(at),
            }
            .map_err(|error| Error::Corrupt(format!("column {at}: {error}")))
        }
    )+};
}

impl Row {
    column! {
        text: String;
        opt_text: Option<String>;
        int: i64;
        opt_int: Option<i64>;
        blob: Vec<u8>;
        opt_blob: Option<Vec<u8>>;
    }

    pub(crate) fn wall(&mut self) -> Result<Wall> {
        self.int().map(Wall)
    }

    pub(crate) fn opt_wall(&mut self) -> Result<Option<Wall>> {
        Ok(self.opt_int()?.map(Wall))
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        Ok(self.int()? != 0)
    }

    /// A word of a closed set.
    pub(crate) fn word<T>(&mut self, find: fn(&str) -> Option<T>) -> Result<T> {
        let word = self.text()?;
        find(&word).ok_or_else(|| Error::Corrupt(format!("the unknown word `{word}`")))
    }

    /// Something that is kept as JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|error| Error::Corrupt(format!("bad JSON: {error}")))
    }

    pub(crate) fn fingerprint(&mut self) -> Result<[u8; 32]> {
        let bytes = self.blob()?;
        bytes
            .try_into()
            .map_err(|_| Error::Corrupt("a fingerprint that has not 32 bytes".to_owned()))
    }
}

// === impl Tx ===

macro_rules! bound {
    ($sql:expr, $args:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $args {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
                Value::Blob(bytes) => query.bind(bytes),
            };
        }
        query
    }};
}

fn for_sqlite(sql: SqlStr, args: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    bound!(sql, args)
}

fn for_postgres(sql: SqlStr, args: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    bound!(sql, args)
}

/// The statement without the locks of rows.
fn without_locks(sql: &'static str) -> &'static str {
    let sql = sql.strip_suffix(" SKIP LOCKED").unwrap_or(sql);
    sql.strip_suffix(" FOR UPDATE").unwrap_or(sql)
}

impl Tx {
    pub(crate) fn new(conn: Conn, owner: Arc<str>) -> Self {
        Self {
            conn,
            owner,
            events: Vec::new(),
            rang: false,
            remedy: Remedy::None,
        }
    }

    pub(crate) fn into_conn(self) -> Conn {
        self.conn
    }

    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self.conn, Conn::Postgres(_))
    }

    /// Runs a statement and gives the number of rows that it changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64> {
        self.execute_text(SqlStr::from_static(sql), args).await
    }

    pub(crate) async fn execute_text(&mut self, sql: SqlStr, args: Vec<Value>) -> Result<u64> {
        let done = match &mut self.conn {
            Conn::Writer(link) => {
                let done = link.execute(sql.as_str(), &args);
                return done.map_err(|error| self.troubled(judge_link(&error)));
            }
            Conn::Patient(conn) => (&mut **conn)
                .execute(for_sqlite(sql, args))
                .await
                .map(|done| done.rows_affected()),
            Conn::Reader(conn) => (&mut **conn)
                .execute(for_sqlite(sql, args))
                .await
                .map(|done| done.rows_affected()),
            Conn::Postgres(conn) => (&mut **conn)
                .execute(for_postgres(sql, args))
                .await
                .map(|done| done.rows_affected()),
        };
        done.map_err(|error| self.troubled(judge(&error)))
    }

    /// Runs the writer's statement for each of these rows, and tells of each whether it changed something.
    pub(crate) fn each<'v>(
        &mut self,
        sql: &'static str,
        rows: impl Iterator<Item = Vec<ValueRef<'v>>>,
    ) -> Result<Vec<bool>> {
        let Conn::Writer(link) = &self.conn else {
            return Err(Error::Internal("there is no writer".to_owned()));
        };
        let done = link.each(sql, rows);
        done.map_err(|error| self.troubled(judge_link(&error)))
    }

    fn troubled(&mut self, trouble: Trouble) -> Error {
        self.remedy = trouble.remedy;
        trouble.error
    }

    /// Whether a statement changed a row.
    pub(crate) async fn changed(&mut self, sql: &'static str, args: Vec<Value>) -> Result<bool> {
        Ok(self.execute(sql, args).await? > 0)
    }

    /// The rows of a statement.
    pub(crate) async fn rows(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>> {
        let sql = if self.is_postgres() {
            sql
        } else {
            without_locks(sql)
        };
        self.rows_text(SqlStr::from_static(sql), args).await
    }

    pub(crate) async fn rows_text(&mut self, sql: SqlStr, args: Vec<Value>) -> Result<Vec<Row>> {
        let rows: std::result::Result<Vec<Row>, sqlx::Error> = match &mut self.conn {
            Conn::Writer(link) => {
                let rows = link.rows(sql.as_str(), &args);
                return rows
                    .map(|rows| rows.into_iter().map(Row::from).collect())
                    .map_err(|error| self.troubled(judge_link(&error)));
            }
            Conn::Patient(conn) => (&mut **conn)
                .fetch_all(for_sqlite(sql, args))
                .await
                .map(|rows| rows.into_iter().map(Row::from).collect()),
            Conn::Reader(conn) => (&mut **conn)
                .fetch_all(for_sqlite(sql, args))
                .await
                .map(|rows| rows.into_iter().map(Row::from).collect()),
            Conn::Postgres(conn) => (&mut **conn)
                .fetch_all(for_postgres(sql, args))
                .await
                .map(|rows| rows.into_iter().map(Row::from).collect()),
        };
        rows.map_err(|error| self.troubled(judge(&error)))
    }

    /// The first row of a statement.
    pub(crate) async fn row(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Adds an event; it is written at the end of the operation.
    pub(crate) fn event(&mut self, event: NewEvent) {
        self.events.push(event);
    }

    /// Forgets what an operation that failed or is run again has left.
    pub(crate) fn forget(&mut self) {
        self.events.clear();
    }

    /// Writes the operation's events. Last, because the lock on PostgreSQL is held until the commit.
    pub(crate) async fn write_events(&mut self) -> Result<()> {
        if self.events.is_empty() {
            return Ok(());
        }
        if self.is_postgres() {
            self.execute("SELECT pg_advisory_xact_lock($1)", args![EVENT_LOCK])
                .await?;
            self.execute("SELECT pg_notify($1, '')", args![EVENT_CHANNEL])
                .await?;
        }
        for event in std::mem::take(&mut self.events) {
            self.execute(
                "INSERT INTO events (at, scope, kind, subject, json) VALUES ($1, $2, $3, $4, $5)",
                args![
                    event.at,
                    event.scope,
                    event.kind,
                    event.subject,
                    event.json.to_string()
                ],
            )
            .await?;
        }
        self.rang = true;
        Ok(())
    }
}

impl From<Vec<Cell>> for Row {
    fn from(cells: Vec<Cell>) -> Self {
        Self {
            raw: Raw::Link(cells),
            at: 0,
        }
    }
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self {
            raw: Raw::Sqlite(row),
            at: 0,
        }
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self {
            raw: Raw::Postgres(row),
            at: 0,
        }
    }
}

/// A statement that was put together from constants.
pub(crate) fn assembled(sql: String) -> SqlStr {
    sqlx::AssertSqlSafe(sql).into_sql_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_left_away_where_there_is_one_writer() {
        assert_eq!(without_locks("SELECT 1 FOR UPDATE"), "SELECT 1");
        assert_eq!(without_locks("SELECT 1 FOR UPDATE SKIP LOCKED"), "SELECT 1");
        assert_eq!(without_locks("SELECT 1"), "SELECT 1");
    }

    #[test]
    fn a_text_has_no_nul() {
        let Value::Text(Some(text)) = Value::from("a\0b") else {
            panic!("a text");
        };
        assert_eq!(text, "a\u{fffd}b");
    }
}
