//! Hot reload: a changed file is checked whole, then swapped in; a bad one changes nothing.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_config::load;
use holdfast_gateway::Handle;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::commands::env;
use crate::printer;

/// Editors write in several steps: a file is read when it was quiet for so long.
const QUIET: Duration = Duration::from_millis(200);

/// The configuration file and the files that it names.
pub(crate) struct Watch {
    path: PathBuf,
    files: Vec<PathBuf>,
    /// The file names among a directory's changes that matter.
    names: Arc<Mutex<Vec<OsString>>>,
    events: mpsc::Receiver<()>,
    /// Held: it ends with its drop. `None` where the system has no watches left.
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    pub(crate) fn new(path: PathBuf, files: Vec<PathBuf>) -> Self {
        let (told, events) = mpsc::channel(1);
        let names: Arc<Mutex<Vec<OsString>>> = Arc::default();
        let wanted = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_ours = |path: &PathBuf| {
                let names = wanted.lock().unwrap_or_else(PoisonError::into_inner);
                path.file_name()
                    .is_some_and(|name| names.iter().any(|wanted| wanted == name))
            };
            if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(is_ours)) {
                // A full channel already says that something changed.
                let _ = told.try_send(());
            }
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "files are not watched; reload with SIGHUP");
                None
            }
        };
        let mut watch = Self {
            path,
            files,
            names,
            events,
            watcher,
        };
        watch.follow();
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
        self.files = loaded.files;
        self.follow();
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

    /// Watches the directories: an editor replaces the file, and a watch on it would go with it.
    fn follow(&mut self) {
        let files = std::iter::once(&self.path).chain(&self.files);
        let names = files.clone().filter_map(|file| file.file_name());
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names
            .map(OsString::from)
            // Kubernetes swaps this link when a mounted configuration changes.
            .chain([OsString::from("..data")])
            .collect();
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for file in files {
            let directory = match file.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            };
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, directory = %directory.display(), "not watched; reload with SIGHUP");
            }
        }
    }
}
