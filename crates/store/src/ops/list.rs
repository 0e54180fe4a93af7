//! Lists: conditions that may be absent, newest first, a cursor and a limit.

use std::fmt::Write as _;

use crate::engine::sql::{Row, Tx, Value, assembled};
use crate::error::Result;
use crate::store::list_limit;

/// A list that is being put together. All texts are constants of this crate; what callers say goes
/// in as values.
pub(crate) struct List {
    sql: String,
    args: Vec<Value>,
}

impl List {
    /// `from`: `SELECT .. FROM ..`.
    pub(crate) fn new(from: &'static str) -> Self {
        Self {
            sql: from.to_owned(),
            args: Vec::new(),
        }
    }

    /// `condition` ends where its value goes: `scope =`.
    pub(crate) fn only(mut self, condition: &'static str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            let word = if self.args.is_empty() { "WHERE" } else { "AND" };
            self.args.push(value.into());
            self.push(&format!(" {word} {condition} ${}", self.args.len()));
        }
        self
    }

    /// Only rows before this one, in the descending order of two columns.
    pub(crate) fn before(
        self,
        first: &'static str,
        value: impl Into<Value>,
        second: &'static str,
        then: impl Into<Value>,
    ) -> Self {
        let mut list = self;
        let word = if list.args.is_empty() { "WHERE" } else { "AND" };
        let at = list.args.len() + 1;
        list.args.push(value.into());
        list.args.push(then.into());
        list.push(&format!(
            " {word} ({first}, {second}) < (${at}, ${})",
            at + 1
        ));
        list
    }

    /// The rows, in this order.
    pub(crate) async fn rows(
        mut self,
        tx: &mut Tx,
        order: &'static str,
        limit: usize,
    ) -> Result<Vec<Row>> {
        self.args.push(list_limit(limit).into());
        let last = self.args.len();
        self.push(&format!(" ORDER BY {order} LIMIT ${last}"));
        tx.rows_text(assembled(self.sql), self.args).await
    }

    fn push(&mut self, text: &str) {
        write!(self.sql, "{text}").expect("invariant: writing to a string works");
    }
}
