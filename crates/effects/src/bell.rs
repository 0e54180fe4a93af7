//! Wakes those who wait for one effect. A ring says "look again"; it carries nothing.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<HashMap<String, watch::Sender<()>>>);

/// Somebody who waits. Dropped, nothing of it stays behind.
#[derive(Debug)]
pub(crate) struct Listener {
    bell: Arc<Bell>,
    id: String,
    heard: watch::Receiver<()>,
}

impl Bell {
    /// Begins to listen: rings from here on are heard, also before [`Listener::rung`] is called.
    pub(crate) fn listen(self: &Arc<Self>, id: &str) -> Listener {
        let mut waiting = self.0.lock();
        let sender = waiting.entry(id.to_owned()).or_default();
        Listener {
            bell: self.clone(),
            id: id.to_owned(),
            heard: sender.subscribe(),
        }
    }

    pub(crate) fn ring(&self, id: &str) {
        if let Some(sender) = self.0.lock().get(id) {
            sender.send_replace(());
        }
    }
}

impl Listener {
    /// Ends at the next ring, or at once if there was one since the last call.
    pub(crate) async fn rung(&mut self) {
        // The sender lives as long as its listeners: `Drop` below takes it out with the last one.
        let _ = self.heard.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut waiting = self.bell.0.lock();
        // One receiver is this one.
        let is_last = waiting
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() <= 1);
        if is_last {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_between_listening_and_waiting_is_heard() {
        let bell = Arc::new(Bell::default());
        let (mut one, mut two) = (bell.listen("a"), bell.listen("a"));
        bell.ring("b");
        bell.ring("a");
        one.rung().await;
        two.rung().await;
        drop(one);
        bell.ring("a");
        two.rung().await;
        drop(two);
        assert!(bell.0.lock().is_empty());
    }
}
