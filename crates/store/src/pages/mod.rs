//! The ledger's pages: many finished exchanges in one row, for a row of its own costs more than the
//! exchange is worth.
//!
//! A page has exchanges of one *slot*, those that began in the same four seconds, whenever they ended. So
//! whoever looks for one reads the pages of its slot and no others, and slots are in the order of ids.
//! Where an exchange is in two pages, the newer page counts.

mod bytes;
mod entry;
mod found;

use holdfast_core::time::Wall;

use bytes::{Rest, damaged};
pub(crate) use entry::Kept;
pub(crate) use found::Found;

use crate::error::{Error, Result};
use crate::model::entry::LedgerEntry;
use crate::model::ledger::BookedExchange;
use crate::store::{names, new_id, texts};
use crate::{MAX_NAME_BYTES, MAX_TEXT_BYTES};

/// How a page is written; its first byte.
const VERSION: u8 = 1;

/// The most exchanges of a page.
const PAGE_ENTRIES: usize = 128;

/// A page of so many bytes takes no more. One exchange has at most [`MAX_TEXT_BYTES`] and its names.
const PAGE_BYTES: usize = 16 << 10;

/// Before each exchange: its length.
const LENGTH_BYTES: usize = size_of::<u32>();

/// How much of an id the exchanges of a page have in common: it begins with its time in milliseconds, in
/// twelve digits (RFC 9562, 5.7).
const SLOT_BYTES: usize = 9;

/// Finished exchanges, written as they are kept.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pages: Vec<Page>,
    count: usize,
}

/// One page on its way into the store.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) slot: String,
    /// Newer pages have higher ones.
    pub(crate) id: String,
    /// The ids of its oldest and its newest exchange.
    pub(crate) oldest: String,
    pub(crate) newest: String,
    /// The runs that its exchanges belong to, each once.
    pub(crate) runs: Vec<String>,
    pub(crate) body: Vec<u8>,
    count: usize,
}

/// The slot of an id, or of the beginning of one.
pub(crate) fn slot(id: &str) -> &str {
    &id[..id.floor_char_boundary(SLOT_BYTES)]
}

/// The exchanges of a page, in the order in which they were added.
pub(crate) fn exchanges(body: &[u8]) -> Result<Vec<Kept<'_>>> {
    let mut rest = Rest(body);
    let version = rest.byte()?;
    if version != VERSION {
        return Err(damaged(&format!(
            "is of version {version}; this Holdfast knows {VERSION}"
        )));
    }
    let mut all = Vec::new();
    while !rest.is_empty() {
        let mut length = [0; LENGTH_BYTES];
        length.copy_from_slice(rest.bytes(LENGTH_BYTES)?);
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        all.push(Kept::read(Rest(rest.bytes(length)?))?);
    }
    Ok(all)
}

// === impl Pages ===

impl Pages {
    /// Adds an exchange that ended at `at` and belongs to `scope`. One that is too large is left out.
    pub fn add(&mut self, at: Wall, scope: &str, entry: &LedgerEntry) -> Result<()> {
        let run = entry.run.as_deref();
        self.put(&entry.id, run, MAX_TEXT_BYTES, |body| {
            entry::write(body, at, scope, entry);
        })
    }

    /// Adds an exchange that somebody else tells.
    pub(crate) fn add_told(&mut self, told: &BookedExchange) -> Result<()> {
        names(&[&told.scope, &told.route, &told.outcome])?;
        texts(&[&told.json])?;
        let limit = MAX_TEXT_BYTES + 8 * MAX_NAME_BYTES;
        self.put(&told.id, told.run.as_deref(), limit, |body| {
            entry::write_told(body, told);
        })
    }

    /// How many exchanges there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn into_pages(self) -> Vec<Page> {
        // The only exchange of one may have been too large.
        let mut pages = self.pages;
        pages.retain(|page| page.count > 0);
        pages
    }

    fn put(
        &mut self,
        id: &str,
        run: Option<&str>,
        limit: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        names(&[id, run.unwrap_or_default()])?;
        let page = self.open(id);
        let start = page.body.len();
        page.body.extend_from_slice(&[0; LENGTH_BYTES]);
        write(&mut page.body);
        let bytes = page.body.len() - start - LENGTH_BYTES;
        if bytes > limit {
            page.body.truncate(start);
            return Err(Error::TooLarge { bytes, limit });
        }
        let length = u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
        page.body[start..start + LENGTH_BYTES].copy_from_slice(&length);
        page.note(id, run);
        self.count += 1;
        Ok(())
    }

    /// The page that takes an exchange of this id.
    fn open(&mut self, id: &str) -> &mut Page {
        let slot = slot(id);
        let is_open = |page: &Page| page.slot == slot && page.has_room();
        let at = self.pages.iter().rposition(is_open);
        let at = at.unwrap_or_else(|| {
            self.pages.push(Page::new(slot));
            self.pages.len() - 1
        });
        &mut self.pages[at]
    }
}

// === impl Page ===

impl Page {
    fn new(slot: &str) -> Self {
        Self {
            slot: slot.to_owned(),
            id: new_id(),
            oldest: String::new(),
            newest: String::new(),
            runs: Vec::new(),
            body: vec![VERSION],
            count: 0,
        }
    }

    const fn has_room(&self) -> bool {
        self.count < PAGE_ENTRIES && self.body.len() < PAGE_BYTES
    }

    fn note(&mut self, id: &str, run: Option<&str>) {
        if self.count == 0 || *id < *self.oldest {
            id.clone_into(&mut self.oldest);
        }
        if *id > *self.newest {
            id.clone_into(&mut self.newest);
        }
        if let Some(run) = run
            && !self.runs.iter().any(|known| known == run)
        {
            self.runs.push(run.to_owned());
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(id: &str) -> BookedExchange {
        BookedExchange {
            id: id.to_owned(),
            at: Wall(-1),
            scope: "ann".to_owned(),
            route: "good".to_owned(),
            run: Some("r".to_owned()),
            step: None,
            outcome: "whole".to_owned(),
            json: "{}".to_owned(),
        }
    }

    /// One exchange that somebody told and one call.
    fn page() -> Page {
        let mut pages = Pages::default();
        pages.add_told(&told("018bcfe56800aa")).unwrap();
        let call = LedgerEntry {
            id: "018bcfe56800bb".to_owned(),
            at: 300,
            caller: Some("ben".to_owned()),
            run: None,
            step: None,
            route: "good".into(),
            dialect: "openai".into(),
            stream: false,
            delivery: "live".into(),
            outcome: "whole".into(),
            code: None,
            joins: 1,
            millis: 2,
            flagged: None,
            losses: vec!["one".to_owned()],
            input_tokens: Some(1),
            output_tokens: Some(2),
            attempts: Vec::new(),
        };
        pages.add(Wall(7), "ann", &call).unwrap();
        pages.into_pages().remove(0)
    }

    /// Reads all of it.
    fn told_by(body: &[u8]) -> Result<Vec<BookedExchange>> {
        exchanges(body)?.iter().map(Kept::booked).collect()
    }

    #[test]
    fn a_page_has_exchanges_of_one_slot() {
        let mut pages = Pages::default();
        let ids = [
            "018bcfe56fff",
            "018bcfe57000",
            "018bcfe56800",
            "x",
            "xé",
            "",
        ];
        for id in ids {
            pages.add_told(&told(id)).unwrap();
        }
        let pages = pages.into_pages();
        let slots: Vec<_> = pages.iter().map(|page| &*page.slot).collect();
        assert_eq!(slots, ["018bcfe56", "018bcfe57", "x", "xé", ""]);
        let (oldest, newest) = (&*pages[0].oldest, &*pages[0].newest);
        assert_eq!((oldest, newest), ("018bcfe56800", "018bcfe56fff"));
        assert_eq!(pages[0].runs, ["r"]);
        assert_eq!(slot("12345678é"), "12345678");
    }

    /// The first version as it was first written: what is kept must be read for ever.
    #[test]
    fn the_first_version_is_read() {
        let mut body = vec![1, 32, 0, 0, 0, 0, 2];
        body.extend(b"id");
        body.push(7);
        body.extend(b"\x03ann\x04good\x01\x01r\x00\x05whole\x07[1,2,3]");
        let found = told_by(&body).unwrap();
        let expected = BookedExchange {
            at: Wall(7),
            json: "[1,2,3]".to_owned(),
            ..told("id")
        };
        assert_eq!(found, [expected]);
    }

    proptest! {
        #[test]
        fn whatever_lies_there_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = told_by(&bytes);
        }

        #[test]
        fn damage_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut body = page().body;
            let at = at.index(body.len());
            body[at] = byte;
            let _ = told_by(&body);
            body.truncate(cut.index(body.len()));
            let _ = told_by(&body);
        }
    }
}
