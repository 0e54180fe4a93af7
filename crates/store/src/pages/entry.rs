//! An exchange in a page: first what is looked for, then everything else.

use holdfast_core::time::Wall;

use super::bytes::{Put, Rest, damaged};
use crate::error::{Error, Result};
use crate::model::entry::{LedgerAttempt, LedgerEntry, Word};
use crate::model::ledger::{BookedExchange, ExchangeFilter};

/// How everything else is kept: as JSON that somebody else wrote.
const TOLD: u8 = 0;
/// As the members of a [`LedgerEntry`].
const MEMBERS: u8 = 1;

/// The caller is nobody, whom the scope names, or somebody else.
const NOBODY: u8 = 0;
const SAME: u8 = 1;
const OTHER: u8 = 2;

/// An exchange as it lies in a page.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) id: &'a str,
    at: Wall,
    scope: &'a str,
    route: &'a str,
    run: Option<&'a str>,
    step: Option<&'a str>,
    outcome: &'a str,
    kind: u8,
    more: Rest<'a>,
}

/// What every exchange has.
struct Head<'a> {
    id: &'a str,
    at: Wall,
    scope: &'a str,
    route: &'a str,
    run: Option<&'a str>,
    step: Option<&'a str>,
    outcome: &'a str,
}

pub(super) fn write(body: &mut Vec<u8>, at: Wall, scope: &str, entry: &LedgerEntry) {
    let head = Head {
        id: &entry.id,
        at,
        scope,
        route: &entry.route,
        run: entry.run.as_deref(),
        step: entry.step.as_deref(),
        outcome: &entry.outcome,
    };
    head.write(body, MEMBERS);
    body.number(entry.at);
    match entry.caller.as_deref() {
        None => body.push(NOBODY),
        Some(caller) if caller == scope => body.push(SAME),
        Some(caller) => {
            body.push(OTHER);
            body.text(caller);
        }
    }
    body.text(&entry.dialect);
    body.push(entry.stream.into());
    body.text(&entry.delivery);
    body.opt_text(entry.code.as_deref());
    body.number(entry.joins.into());
    body.number(entry.millis);
    body.opt_text(entry.flagged.as_deref());
    body.number(entry.losses.len() as u64);
    for loss in &entry.losses {
        body.text(loss);
    }
    body.opt_number(entry.input_tokens);
    body.opt_number(entry.output_tokens);
    body.number(entry.attempts.len() as u64);
    for attempt in &entry.attempts {
        write_attempt(body, attempt);
    }
}

fn write_attempt(body: &mut Vec<u8>, attempt: &LedgerAttempt) {
    body.text(&attempt.target);
    body.number(attempt.status.into());
    body.text(&attempt.verdict);
    body.opt_text(attempt.flaw.as_deref());
    body.opt_text(attempt.message.as_deref());
    body.number(attempt.began_millis);
    body.number(attempt.millis);
    body.opt_number(attempt.first_token_millis);
}

pub(super) fn write_told(body: &mut Vec<u8>, told: &BookedExchange) {
    let head = Head {
        id: &told.id,
        at: told.at,
        scope: &told.scope,
        route: &told.route,
        run: told.run.as_deref(),
        step: told.step.as_deref(),
        outcome: &told.outcome,
    };
    head.write(body, TOLD);
    body.text(&told.json);
}

// === impl Head ===

impl Head<'_> {
    fn write(&self, body: &mut Vec<u8>, kind: u8) {
        body.push(kind);
        body.text(self.id);
        body.number(self.at.0.cast_unsigned());
        body.text(self.scope);
        body.text(self.route);
        body.opt_text(self.run);
        body.opt_text(self.step);
        body.text(self.outcome);
    }
}

// === impl Kept ===

impl<'a> Kept<'a> {
    pub(super) fn read(mut entry: Rest<'a>) -> Result<Self> {
        let kind = entry.byte()?;
        Ok(Self {
            kind,
            id: entry.text()?,
            at: Wall(entry.number::<u64>()?.cast_signed()),
            scope: entry.text()?,
            route: entry.text()?,
            run: entry.opt_text()?,
            step: entry.opt_text()?,
            outcome: entry.text()?,
            more: entry,
        })
    }

    /// Whether all conditions hold.
    pub(crate) fn fits(&self, filter: &ExchangeFilter) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        same(&filter.scope, Some(self.scope))
            && same(&filter.route, Some(self.route))
            && same(&filter.run, self.run)
            && same(&filter.outcome, Some(self.outcome))
            && filter.since.is_none_or(|since| self.at >= since)
            && filter.after.as_deref().is_none_or(|after| self.id < after)
    }

    pub(crate) fn booked(&self) -> Result<BookedExchange> {
        Ok(BookedExchange {
            id: self.id.to_owned(),
            at: self.at,
            scope: self.scope.to_owned(),
            route: self.route.to_owned(),
            run: self.run.map(str::to_owned),
            step: self.step.map(str::to_owned),
            outcome: self.outcome.to_owned(),
            json: self.json()?,
        })
    }

    fn json(&self) -> Result<String> {
        match self.kind {
            TOLD => {
                let mut more = self.more;
                let json = more.text()?.to_owned();
                end(more)?;
                Ok(json)
            }
            MEMBERS => serde_json::to_string(&self.entry()?)
                .map_err(|error| Error::Internal(error.to_string())),
            _ => Err(damaged("has an exchange of an unknown kind")),
        }
    }

    fn entry(&self) -> Result<LedgerEntry> {
        let mut more = self.more;
        let entry = LedgerEntry {
            id: self.id.to_owned(),
            at: more.number()?,
            caller: self.caller(&mut more)?,
            run: self.run.map(str::to_owned),
            step: self.step.map(str::to_owned),
            route: self.route.into(),
            dialect: word(more.text()?),
            stream: more.flag()?,
            delivery: word(more.text()?),
            outcome: word(self.outcome),
            code: more.opt_text()?.map(word),
            joins: more.number()?,
            millis: more.number()?,
            flagged: more.opt_text()?.map(str::to_owned),
            losses: list(&mut more, |more| more.text().map(str::to_owned))?,
            input_tokens: more.opt_number()?,
            output_tokens: more.opt_number()?,
            attempts: list(&mut more, read_attempt)?,
        };
        end(more)?;
        Ok(entry)
    }

    fn caller(&self, more: &mut Rest<'_>) -> Result<Option<String>> {
        match more.byte()? {
            NOBODY => Ok(None),
            SAME => Ok(Some(self.scope.to_owned())),
            OTHER => more.text().map(|caller| Some(caller.to_owned())),
            _ => Err(damaged("has a caller of an unknown kind")),
        }
    }
}

fn read_attempt(more: &mut Rest<'_>) -> Result<LedgerAttempt> {
    Ok(LedgerAttempt {
        target: more.text()?.into(),
        status: more.number()?,
        verdict: word(more.text()?),
        flaw: more.opt_text()?.map(word),
        message: more.opt_text()?.map(str::to_owned),
        began_millis: more.number()?,
        millis: more.number()?,
        first_token_millis: more.opt_number()?,
    })
}

fn word(text: &str) -> Word {
    text.to_owned().into()
}

/// As many as a number before them says. Room is made as they come: the number may be damaged.
fn list<'a, T>(more: &mut Rest<'a>, read: impl Fn(&mut Rest<'a>) -> Result<T>) -> Result<Vec<T>> {
    let count: u64 = more.number()?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(read(more)?);
    }
    Ok(all)
}

fn end(more: Rest<'_>) -> Result<()> {
    if more.is_empty() {
        Ok(())
    } else {
        Err(damaged("has an exchange that is longer than it says"))
    }
}
