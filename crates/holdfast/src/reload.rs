//! Hot reload: a changed file is checked whole, then swapped in; a bad one changes nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_config::load;
use holdfast_gateway::Handle;
use notify::{PollWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::commands::env;
use crate::printer;

/// Editors write in several steps: a file is read when it was quiet for so long.
const QUIET: Duration = Duration::from_millis(200);

/// How often the files are looked at. Told by the kernel, every write to a store beside them would be
/// told as well: a tenth of what a call costs.
const LOOK: Duration = Duration::from_secs(1);

/// The configuration file and the files that it names.
pub(crate) struct Watch {
    path: PathBuf,
    files: Vec<PathBuf>,
    events: mpsc::Receiver<()>,
    /// Held: it ends with its drop. `None` where it can't be had.
    watcher: Option<PollWatcher>,
}

impl Watch {
    pub(crate) fn new(path: PathBuf, files: Vec<PathBuf>) -> Self {
        let (told, events) = mpsc::channel(1);
        // Times of changes may be as coarse as seconds; the files are small.
        let config = notify::Config::default()
            .with_poll_interval(LOOK)
            .with_compare_contents(true);
        let told = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // A full channel already says that something changed.
                let _ = told.try_send(());
            }
        };
        let watcher = match PollWatcher::new(told, config) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "files are not watched; reload with SIGHUP");
                None
            }
        };
        let mut watch = Self {
            path,
            files: Vec::new(),
            events,
            watcher,
        };
        watch.follow(files);
        watch
    }

    /// Something changed, and then was quiet.
    pub(crate) async fn changed(&mut self) {
        if self.events.recv().await.is_none() {
            return std::future::pending().await;
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {}
    }

    /// Reads the file again and takes it into use if it is good.
    pub(crate) fn reload(&mut self, handle: &Handle, listen: &[SocketAddr]) {
        let loaded = match load(&self.path, &env) {
            Ok(loaded) => loaded,
            Err(rejected) => {
                handle.note_failed_reload();
                printer::say(&rejected.render(printer::color()));
                tracing::error!(
                    file = %self.path.display(),
                    "the configuration was refused; the last good one stays in use"
                );
                return;
            }
        };
        self.follow(loaded.files);
        let mut config = loaded.config;
        if !listen.is_empty() {
            config.listen = listen.to_vec();
        }
        match handle.reload(Arc::new(config)) {
            Ok(changes) if changes.is_empty() => {
                tracing::info!("the configuration was read again: no change");
            }
            Ok(changes) => {
                for change in changes {
                    let needs_restart = change.needs_restart;
                    tracing::info!(%change, needs_restart, "configuration changed");
                }
            }
            Err(error) => {
                handle.note_failed_reload();
                tracing::error!(%error, "the configuration can't be used; the last good one stays in use");
            }
        }
    }

    /// Watches the configuration and these files beside it, by name: an editor replaces a file, and
    /// Kubernetes swaps a link on the way to it.
    fn follow(&mut self, files: Vec<PathBuf>) {
        let before = std::mem::replace(&mut self.files, files);
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for file in before {
            // What is no longer there is no longer watched either.
            let _ = watcher.unwatch(&file);
        }
        for file in std::iter::once(&self.path).chain(&self.files) {
            if let Err(error) = watcher.watch(file, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, file = %file.display(), "not watched; reload with SIGHUP");
            }
        }
    }
}
