//! Counts of what a simulated vendor was asked and did, and the last requests it was sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use crate::http::Request;

/// What a vendor was asked and did since it started or was reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Model calls, whatever became of them (refused connections are not calls).
    pub calls: u64,
    /// Calls by the fault that was played; `ok` is none, `invalid` was refused by the vendor's own rules.
    pub faults: BTreeMap<String, u64>,
    /// Requests by path, control endpoints apart.
    pub paths: BTreeMap<String, u64>,
    /// Calls by model name.
    pub models: BTreeMap<String, u64>,
    /// Answers by status; 0 stands for no answer at all.
    pub statuses: BTreeMap<u16, u64>,
    /// Responses that are being written now.
    pub open_streams: u64,
    /// Connections that are open now.
    pub open_connections: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections reset on accept by `refuse`.
    pub refused: u64,
    /// Responses that the client left before their end.
    pub aborted_by_client: u64,
}

/// One request as it arrived.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) fault: String,
}

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    counts: Mutex<Stats>,
    seen: Mutex<VecDeque<(Request, String)>>,
    keep: usize,
    pub(crate) open_streams: AtomicU64,
    pub(crate) open_connections: AtomicU64,
}

impl Recorder {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    pub(crate) fn path(&self, path: &str) {
        *self.counts.lock().paths.entry(path.to_owned()).or_default() += 1;
    }

    /// A call was decided: its model, the fault to be played and the status of the answer.
    pub(crate) fn call(&self, model: &str, fault: &str, status: u16) {
        let mut counts = self.counts.lock();
        counts.calls += 1;
        *counts.faults.entry(fault.to_owned()).or_default() += 1;
        *counts.models.entry(model.to_owned()).or_default() += 1;
        *counts.statuses.entry(status).or_default() += 1;
    }

    pub(crate) fn note(&self, request: &Request, fault: &str) {
        if self.keep == 0 {
            return;
        }
        let mut seen = self.seen.lock();
        if seen.len() >= self.keep {
            seen.pop_front();
        }
        seen.push_back((request.clone(), fault.to_owned()));
    }

    pub(crate) fn connected(&self) {
        self.counts.lock().connections += 1;
    }

    pub(crate) fn refused(&self) {
        self.counts.lock().refused += 1;
    }

    pub(crate) fn aborted(&self) {
        self.counts.lock().aborted_by_client += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.counts.lock().clone();
        stats.open_streams = self.open_streams.load(Ordering::Relaxed);
        stats.open_connections = self.open_connections.load(Ordering::Relaxed);
        stats
    }

    /// The last requests, oldest first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock();
        seen.iter()
            .map(|(request, fault)| Seen {
                method: request.method.clone(),
                path: request.target.clone(),
                headers: request.headers.clone(),
                body: String::from_utf8_lossy(&request.body).into_owned(),
                fault: fault.clone(),
            })
            .collect()
    }

    pub(crate) fn reset(&self) {
        *self.counts.lock() = Stats::default();
        self.seen.lock().clear();
    }
}

/// Counts one thing as open until it is dropped.
pub(crate) struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    pub(crate) fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
