//! Orders on their way to the writer: handed in by anybody, taken in groups by one thread.
//!
//! The writer says for how many it waits, and only whoever makes that number full wakes it: a group
//! costs one wake-up, not one for each of its members.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::job::Job;
use crate::error::{Error, Result};

/// The longest that a group waits for its members.
const GATHER: Duration = Duration::from_millis(2);

/// The shortest commit that makes it wait.
const DEAR: Duration = Duration::from_millis(1);

/// Something for the writer to do.
pub(crate) enum Order {
    Do(Box<dyn Job>),
    /// Caps the database's pages.
    Cap(i64, oneshot::Sender<Result<()>>),
}

/// The orders that wait.
pub(crate) struct Queue {
    state: Mutex<State>,
    rang: Condvar,
    limit: usize,
}

struct State {
    orders: Vec<Order>,
    /// How many the writer waits for; 0 = it does not wait.
    wanted: usize,
    /// Since when the writer has a group in hand.
    busy: Option<Instant>,
    is_open: bool,
}

impl Queue {
    /// A queue for at most `limit` orders.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                orders: Vec::new(),
                wanted: 0,
                busy: None,
                is_open: true,
            }),
            rang: Condvar::new(),
            limit: limit.max(1),
        }
    }

    /// Hands in. `Busy` where too many wait, `Unavailable` behind [`Self::close`].
    pub(crate) fn put(&self, order: Order) -> Result<()> {
        let mut state = self.state.lock();
        if !state.is_open {
            return Err(Error::Unavailable("it is closed".to_owned()));
        }
        if state.orders.len() >= self.limit {
            return Err(Error::Busy);
        }
        state.orders.push(order);
        let is_full = state.wanted > 0 && state.orders.len() >= state.wanted;
        if is_full {
            state.wanted = 0;
        }
        drop(state);
        if is_full {
            self.rang.notify_one();
        }
        Ok(())
    }

    /// Takes no more; what is there is still done.
    pub(crate) fn close(&self) {
        self.state.lock().is_open = false;
        self.rang.notify_one();
    }

    /// The writer is gone: what is there is never done.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.is_open = false;
        state.busy = None;
        state.orders.clear();
    }

    /// Whether the writer has had one group in hand for longer than this.
    pub(crate) fn is_stuck(&self, longer_than: Duration) -> bool {
        let busy = self.state.lock().busy;
        busy.is_some_and(|since| since.elapsed() > longer_than)
    }

    /// Waits for the next group, at most `most` orders. `false` = closed, and nothing is left.
    ///
    /// Who was answered just now comes back soon: where a sync costs something, the group waits a
    /// moment for as many as were `present` then. Without it, callers fall into two groups, each of
    /// which waits for the other's sync.
    pub(crate) fn take(&self, group: &mut Vec<Order>, most: usize, present: usize) -> bool {
        let mut state = self.state.lock();
        let took = state.busy.take().map(|since| since.elapsed());
        while state.orders.is_empty() {
            if !state.is_open {
                return false;
            }
            state.wanted = 1;
            self.rang.wait(&mut state);
        }
        let expected = present.min(most);
        if state.orders.len() < expected && took.is_some_and(|took| took >= DEAR) {
            let until = Instant::now() + GATHER;
            while state.is_open && state.orders.len() < expected {
                state.wanted = expected;
                if self.rang.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
        }
        state.wanted = 0;
        let count = state.orders.len().min(most);
        group.extend(state.orders.drain(..count));
        state.busy = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order::Cap(0, oneshot::channel().0)
    }

    #[test]
    fn what_is_there_is_taken_in_groups_and_then_it_ends() {
        let queue = Queue::new(3);
        for _ in 0..3 {
            queue.put(order()).unwrap();
        }
        assert_eq!(queue.put(order()), Err(Error::Busy));
        queue.close();
        assert!(matches!(queue.put(order()), Err(Error::Unavailable(_))));
        let mut group = Vec::new();
        assert!(queue.take(&mut group, 2, 0) && group.len() == 2);
        assert!(queue.take(&mut group, 2, 0) && group.len() == 3);
        assert!(!queue.take(&mut group, 2, 0));
    }

    #[test]
    fn a_group_in_hand_for_long_is_told() {
        let queue = Queue::new(1);
        assert!(!queue.is_stuck(Duration::ZERO));
        queue.put(order()).unwrap();
        queue.take(&mut Vec::new(), 1, 0);
        assert!(queue.is_stuck(Duration::ZERO) && !queue.is_stuck(Duration::from_hours(1)));
        queue.close();
        queue.take(&mut Vec::new(), 1, 0);
        assert!(!queue.is_stuck(Duration::ZERO));
    }
}
