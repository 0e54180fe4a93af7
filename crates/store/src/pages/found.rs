//! What a list finds in pages that come from the newest slot to the oldest.

use std::collections::{BTreeMap, HashSet};

use super::{exchanges, slot};
use crate::error::Result;
use crate::model::ledger::{BookedExchange, ExchangeFilter};
use crate::ops::ledger::KeptPage;

/// The newest exchanges that fit.
#[derive(Debug)]
pub(crate) struct Found<'f> {
    filter: &'f ExchangeFilter,
    limit: usize,
    newest: BTreeMap<String, BookedExchange>,
    /// The slot that is being read, and which of its exchanges were seen in a newer page.
    slot: String,
    seen: HashSet<String>,
}

impl<'f> Found<'f> {
    pub(crate) fn new(filter: &'f ExchangeFilter, limit: usize) -> Self {
        Self {
            filter,
            limit,
            newest: BTreeMap::new(),
            slot: String::new(),
            seen: HashSet::new(),
        }
    }

    /// Whether pages of this slot and of older ones can't change it any more.
    pub(crate) fn is_settled(&self, at: &str) -> bool {
        self.oldest().is_some_and(|oldest| slot(oldest) > at)
    }

    /// The next page: of the same slot and older, or of an older slot.
    pub(crate) fn page(&mut self, page: &KeptPage) -> Result<()> {
        if self.slot != page.slot {
            page.slot.clone_into(&mut self.slot);
            self.seen.clear();
        }
        if self.oldest().is_some_and(|oldest| *oldest > *page.newest) {
            return Ok(());
        }
        // The last one counts, of those in one page too.
        for kept in exchanges(&page.body)?.iter().rev() {
            if self.seen.insert(kept.id.to_owned()) && kept.fits(self.filter) {
                self.add(kept.booked()?);
            }
        }
        Ok(())
    }

    /// One that lies in no page; what was found in one counts more.
    pub(crate) fn row(&mut self, booked: BookedExchange) {
        if !self.newest.contains_key(&booked.id) {
            self.add(booked);
        }
    }

    /// Newest first.
    pub(crate) fn into_list(self) -> Vec<BookedExchange> {
        self.newest.into_values().rev().collect()
    }

    /// The oldest one, where there are so many that older ones do not count.
    fn oldest(&self) -> Option<&str> {
        let oldest = self.newest.first_key_value();
        let is_full = self.newest.len() >= self.limit;
        oldest.filter(|_| is_full).map(|(id, _)| &**id)
    }

    fn add(&mut self, booked: BookedExchange) {
        self.newest.insert(booked.id.clone(), booked);
        if self.newest.len() > self.limit {
            self.newest.pop_first();
        }
    }
}
