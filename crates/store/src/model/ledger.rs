//! The ledger, the events, and what is known of the store itself.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::time::Wall;

use super::effect::EffectState;
use super::ticket::TicketKind;

/// One exchange, as the ledger has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BookedExchange {
    /// A UUID of version 7 in hexadecimal digits. It is the ledger's only order: an index for each
    /// way of looking would cost every call more than what is kept of it.
    pub id: String,
    pub at: Wall,
    pub scope: String,
    pub route: String,
    pub run: Option<String>,
    pub step: Option<String>,
    /// `whole`, or why not.
    pub outcome: String,
    /// Everything else. Never content.
    pub json: String,
}

/// Which exchanges. All conditions hold; empty ones do not count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExchangeFilter {
    pub scope: Option<String>,
    pub route: Option<String>,
    pub run: Option<String>,
    pub outcome: Option<String>,
    /// Not before this moment.
    pub since: Option<Wall>,
    /// Only older ones than this id.
    pub after: Option<String>,
    /// At most this many; 0 and all above [`crate::MAX_LIST`] mean that.
    pub limit: usize,
}

/// Something changed. Told in the order of `seq`, without gaps that fill later.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub seq: i64,
    pub at: Wall,
    pub scope: String,
    /// `ticket.opened`, `ticket.decided`, `ticket.expired`, `effect.recorded`, `effect.done`,
    /// `effect.failed`, `effect.in_doubt`, `effect.cancelled`, `run.orphaned`, `run.ended`,
    /// `approval.asked`, `approval.decided`, `approval.expired`.
    pub kind: String,
    /// The id of the ticket, effect, run or approval.
    pub subject: String,
    pub json: serde_json::Value,
}

/// How long what is over is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    pub exchanges: Duration,
    /// Decided tickets and approvals.
    pub tickets: Duration,
    /// Ended effects; never forgotten before their own expiry.
    pub effects: Duration,
    pub runs: Duration,
    pub events: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Self {
            exchanges: days(30),
            tickets: days(90),
            effects: days(90),
            runs: days(90),
            events: days(7),
        }
    }
}

/// How much there is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub keys: i64,
    /// Undecided ones.
    pub tickets: BTreeMap<TicketKind, i64>,
    /// When the oldest undecided ticket was opened.
    pub oldest_ticket: Option<Wall>,
    /// Those that are recorded, sending or in doubt.
    pub effects: BTreeMap<EffectState, i64>,
    pub open_runs: i64,
    pub orphaned_runs: i64,
    pub open_approvals: i64,
    /// Living processes on this store.
    pub owners: i64,
    /// The last event's number.
    pub events: i64,
}

/// How the store is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// `sqlite` or `postgresql`.
    pub kind: &'static str,
    pub owner: String,
    pub healthy: bool,
    /// What it last failed with, while it is not healthy.
    pub trouble: Option<String>,
    /// Operations that wait or run.
    pub waiting: usize,
    /// Operations that ended since the start.
    pub operations: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Operations that failed since the start.
    pub failures: u64,
    /// The schema's version.
    pub schema: i64,
}
