//! The keyed calls that this process has in hand, over all workers.
//!
//! It saves repeats that arrive meanwhile a question to the store, and lets them follow the answer
//! live. It decides nothing: the store does. So calls with one key and different requests have an
//! entry each.

use std::collections::HashMap;
use std::sync::Arc;

use holdfast_store::KeyId;
use parking_lot::Mutex;

use super::recording::Recording;

/// A key with the fingerprint of one request.
pub(crate) type Asked = (KeyId, [u8; 32]);

/// The running ones.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    running: Mutex<HashMap<Asked, Arc<Recording>>>,
}

/// Who one is for a recording.
pub(crate) enum Entered {
    /// It is new: pursue it, and [`Registry::leave`] at its end.
    First(Arc<Recording>),
    /// Somebody pursues it already.
    Joined(Arc<Recording>),
}

impl Registry {
    pub(crate) fn enter(&self, asked: &Asked, fresh: impl FnOnce() -> Arc<Recording>) -> Entered {
        let mut running = self.running.lock();
        if let Some(recording) = running.get(asked) {
            return Entered::Joined(recording.clone());
        }
        let recording = fresh();
        running.insert(asked.clone(), recording.clone());
        Entered::First(recording)
    }

    /// Whoever comes from now on asks the store again. Gives the recording that was followed.
    pub(crate) fn leave(&self, asked: &Asked) -> Option<Arc<Recording>> {
        self.running.lock().remove(asked)
    }

    /// Those who come from now on follow another recording of the same call.
    pub(crate) fn replace(&self, asked: &Asked, recording: Arc<Recording>) {
        self.running.lock().insert(asked.clone(), recording);
    }
}
