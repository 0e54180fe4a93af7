//! What runs beside the workers: the store and the services that need it, on a runtime of their own.
//!
//! The gateway serves without it: a store that can't be reached yet is tried again, and until then what
//! has to be kept is refused in clear words. A store that must not be used (a newer schema, a damaged
//! file, another process's) ends the start, unless nobody asked for it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_config::Config;
use holdfast_config::checked::{StorePlace, StoreTerms};
use holdfast_gateway::Handle;
use holdfast_store::{Error, Options, Place, Seal, Store};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::env;
use crate::services::{self, Services};

/// How often a store that can't be reached is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long what runs here may take to end after the last call has.
const END: Duration = Duration::from_secs(10);

/// The runtime for what runs beside the workers.
pub(crate) fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime for the store: {error}"))
}

/// What is told, before the store is open, to those who need it. For the time before the first
/// connection: a path that is not mounted yet would be answered as one that does not exist.
pub(crate) fn prepare(config: &Config, gateway: &Handle, runtime: &Runtime) {
    let why = match config.store {
        None => "the configuration says that there is no store",
        Some(_) => "the store is not open yet",
    };
    services::refuse(gateway, runtime.handle(), why);
}

/// The runtime with everything on it.
pub(crate) struct Background {
    runtime: Runtime,
    drain: watch::Sender<bool>,
    configs: watch::Sender<Arc<Config>>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Background {
    /// Opens the store and begins. `Err` = the store must not be used; in words.
    pub(crate) fn start(
        runtime: Runtime,
        config: &Arc<Config>,
        gateway: &Handle,
    ) -> Result<Self, String> {
        let (drain, drained) = watch::channel(false);
        let (configs, changed) = watch::channel(config.clone());
        let handle = runtime.handle();
        let keeper = match &config.store {
            None => runtime.spawn(std::future::ready(())),
            Some(terms) => {
                let first = runtime.block_on(open(terms, handle));
                let first = judge(first, terms, gateway, handle)?;
                let keeper = Keeper {
                    terms: terms.clone(),
                    gateway: gateway.clone(),
                    runtime: handle.clone(),
                    drained,
                    changed,
                };
                runtime.spawn(keeper.run(first))
            }
        };
        Ok(Self {
            runtime,
            drain,
            configs,
            keeper,
        })
    }

    /// Takes a reloaded configuration into use.
    pub(crate) fn reload(&self, config: Arc<Config>) {
        self.configs.send_replace(config);
    }

    /// Begins to end: streams of events and long polls, which would hold up the drain.
    pub(crate) fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// After the gateway has drained: writes what is left, gives the store back. `true` = in time.
    pub(crate) fn finish(self) -> bool {
        self.drain();
        let ended = self
            .runtime
            .block_on(async { tokio::time::timeout(END, self.keeper).await });
        self.runtime.shutdown_timeout(Duration::from_millis(100));
        matches!(ended, Ok(Ok(())))
    }
}

/// What the first try to open the store means for the start.
enum First {
    Opened(Box<Store>),
    /// Worth trying again.
    NotYet,
    /// Somebody else's: go on without.
    Never,
}

fn judge(
    opened: Result<Store, Error>,
    terms: &StoreTerms,
    gateway: &Handle,
    runtime: &tokio::runtime::Handle,
) -> Result<First, String> {
    match opened {
        Ok(store) => Ok(First::Opened(Box::new(store))),
        Err(error @ Error::Locked(_)) if terms.implied => {
            tracing::warn!(%error, "no `store` is configured and the usual one is in use: nothing is kept");
            services::refuse(gateway, runtime, &error.to_string());
            Ok(First::Never)
        }
        Err(error @ (Error::Locked(_) | Error::NewerSchema { .. } | Error::Corrupt(_))) => {
            Err(format!("{error}\nhelp: {}", help(&error)))
        }
        Err(error) => {
            tracing::error!(%error, "the store can't be opened yet; calls with a key are refused until it can");
            services::refuse(gateway, runtime, &error.to_string());
            Ok(First::NotYet)
        }
    }
}

fn help(error: &Error) -> &'static str {
    match error {
        Error::Locked(_) => {
            "end the other process, or give this one a `store.url` of its own; many processes share PostgreSQL only"
        }
        Error::NewerSchema { .. } => "start the newer Holdfast, or restore a backup",
        _ => {
            "restore a backup (`holdfast store backup` makes them), or move the file away and begin anew"
        }
    }
}

async fn open(terms: &StoreTerms, runtime: &tokio::runtime::Handle) -> Result<Store, Error> {
    let place = match &terms.place {
        StorePlace::Sqlite(path) => {
            if let Some(directory) = path.parent().filter(|path| *path != Path::new("")) {
                std::fs::create_dir_all(directory).map_err(|error| {
                    Error::Unavailable(format!("the store's directory can't be made: {error}"))
                })?;
            }
            Place::Sqlite(path.clone())
        }
        StorePlace::Postgres(url) => Place::Postgres(url.expose().to_owned()),
    };
    let options = Options {
        readers: terms.readers,
        connections: terms.connections,
        queue: terms.queue,
        timeout: terms.timeout,
        lease: terms.lease,
        seal: seal(terms),
        ..Options::new(place)
    };
    Store::open(options, runtime.clone()).await
}

/// The keys are checked by the configuration: 64 hexadecimal digits.
fn seal(terms: &StoreTerms) -> Option<Seal> {
    let bytes = |hex: &str| {
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(key)
    };
    let current = bytes(terms.encryption_key.as_ref()?.expose())?;
    let old: Vec<[u8; 32]> = terms
        .old_keys
        .iter()
        .filter_map(|key| bytes(key.expose()))
        .collect();
    Some(Seal::new(current, &old))
}

/// Keeps the store open and its services running until the drain.
struct Keeper {
    terms: StoreTerms,
    gateway: Handle,
    runtime: tokio::runtime::Handle,
    drained: watch::Receiver<bool>,
    changed: watch::Receiver<Arc<Config>>,
}

impl Keeper {
    async fn run(mut self, first: First) {
        let store = match first {
            First::Opened(store) => *store,
            First::Never => return,
            First::NotYet => match self.retry().await {
                Some(store) => store,
                None => return,
            },
        };
        let mut tasks = JoinSet::new();
        let config = self.changed.borrow_and_update().clone();
        let services = Services::start(&store, &config, &self.gateway, &self.drained, &mut tasks);
        // Last: what readiness tells of the store then holds for all that needs it.
        tasks.spawn(self.gateway.mount_store(store.clone(), self.terms.lease));
        match services {
            Ok(services) => self.follow(&services).await,
            Err(error) => {
                tracing::error!(error, "effects, runs and the review queue can't be served");
            }
        }
        while tasks.join_next().await.is_some() {}
        store.close().await;
    }

    /// Hands changed configurations on until the drain.
    async fn follow(&mut self, services: &Services) {
        loop {
            tokio::select! {
                // Nobody left to say it is the same.
                _ = self.drained.wait_for(|drained| *drained) => return,
                changed = self.changed.changed() => if changed.is_err() { return },
            }
            let config = self.changed.borrow_and_update().clone();
            if let Err(error) = services.reload(&config) {
                tracing::error!(
                    error,
                    "the effect targets can't be used; the last good ones stay"
                );
            }
        }
    }

    async fn retry(&mut self) -> Option<Store> {
        loop {
            let drained = async {
                // Nobody left to say it is the same.
                let _ = self.drained.wait_for(|drained| *drained).await;
            };
            if first_of(drained, tokio::time::sleep(AGAIN)).await {
                return None;
            }
            match open(&self.terms, &self.runtime).await {
                Ok(store) => {
                    tracing::info!("the store is open");
                    return Some(store);
                }
                Err(error) => services::refuse(&self.gateway, &self.runtime, &error.to_string()),
            }
        }
    }
}

/// Whether the first future was the first to end.
async fn first_of(one: impl Future<Output = ()>, other: impl Future<Output = ()>) -> bool {
    tokio::select! {
        () = one => true,
        () = other => false,
    }
}

/// Where a gateway without a configuration file keeps what it must: the user's state directory.
pub(crate) fn state_file() -> PathBuf {
    let state = env("XDG_STATE_HOME").map(PathBuf::from).or_else(|| {
        let home = PathBuf::from(env("HOME")?);
        Some(home.join(".local/state"))
    });
    state
        .unwrap_or_default()
        .join("holdfast")
        .join("holdfast.db")
}
