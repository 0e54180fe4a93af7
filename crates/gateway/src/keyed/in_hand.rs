//! What a task of a keyed call leaves behind, however it ends.
//!
//! A task that panics, or is dropped, would leave its key to a process that lives and does nothing with
//! it: no death would ever free it, and whoever follows the answer would wait for ever.

use std::rc::Rc;
use std::sync::Arc;

use holdfast_core::fault::{Code, Fault};

use super::recording::Recording;
use super::registry::Asked;
use crate::worker::Worker;

/// A keyed call that a task has in hand. Dropped before [`Self::settled`], its key is given back.
pub(super) struct InHand {
    worker: Rc<Worker>,
    asked: Asked,
    /// The exchange under which the key is claimed.
    exchange: String,
    recording: Option<Arc<Recording>>,
    is_settled: bool,
}

impl InHand {
    pub(super) fn new(worker: &Rc<Worker>, asked: &Asked, exchange: &str) -> Self {
        Self {
            worker: worker.clone(),
            asked: asked.clone(),
            exchange: exchange.to_owned(),
            recording: None,
            is_settled: false,
        }
    }

    /// Others follow it here.
    pub(super) fn followed(mut self, recording: &Arc<Recording>) -> Self {
        self.recording = Some(recording.clone());
        self
    }

    /// What is to become of the key is in the store, or never will be.
    pub(super) fn settled(mut self) {
        self.is_settled = true;
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let shared = &self.worker.shared;
        let followed = self.recording.take();
        let last = followed
            .is_some()
            .then(|| shared.registry.leave(&self.asked));
        if self.is_settled {
            return;
        }
        // A recording may have been replaced by another for those who came later.
        for recording in followed.into_iter().chain(last.flatten()) {
            let message = "the call was given up; repeat it with the same key";
            recording.fail(Fault::new(Code::Internal, message));
        }
        if let Some(store) = shared.durable.mounted() {
            store.give_back_key(&self.asked.0, &self.exchange);
        }
    }
}
