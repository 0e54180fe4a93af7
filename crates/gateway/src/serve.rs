//! The gateway as a component: from a configuration to running workers, and down again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use holdfast_api::Service;
use holdfast_config::{Change, Config};
use holdfast_core::fault::{Code, Fault};
use holdfast_store::{KeptRequest, Store, StoredAnswer};
use holdfast_telemetry::Metrics;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::books::{self, Books};
use crate::clock::Clock;
use crate::durable::Durable;
use crate::health::{Healths, Standing};
use crate::jobs::{self, Job};
use crate::keyed::Registry;
use crate::ledger::Ledger;
use crate::listen;
use crate::services::Services;
use crate::signs::{self, Signs};
use crate::snapshot::{self, Snapshot};
use crate::worker::{Shared, Worker};

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
}

/// Builds all that a configuration asks for (gates, TLS, headers) and throws it away: what fails here
/// would fail at the start.
pub fn verify(config: Arc<Config>) -> Result<(), Error> {
    Snapshot::new(config, &Healths::default(), Clock::start(), 1, false)?;
    Ok(())
}

/// A running gateway. Dropped without [`Gateway::drain`], it ends with the process.
#[derive(Debug)]
pub struct Gateway {
    handle: Handle,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

/// What others may ask of a running gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    generation: Arc<AtomicU64>,
    /// One way into each worker.
    jobs: Arc<[mpsc::UnboundedSender<Job>]>,
    next_job: Arc<AtomicUsize>,
}

impl Gateway {
    /// Binds every address and starts the workers. Port 0 takes a free one; see [`Self::addresses`].
    pub fn start(config: Arc<Config>) -> Result<Self, Error> {
        Self::start_prepared(config, |_| ())
    }

    /// [`Self::start`] that runs `prepare` before the first connection is taken: what it mounts is there
    /// for every request.
    pub fn start_prepared(
        config: Arc<Config>,
        prepare: impl FnOnce(&Handle),
    ) -> Result<Self, Error> {
        let clock = Clock::start();
        let healths = Healths::default();
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = config.workers.unwrap_or_else(cores).max(1);
        let (addresses, sockets) = bind_all(&config.listen, count)?;
        let ledger = Ledger::new(config.limits.ledger_records);
        let open = addresses.iter().any(|address| !address.ip().is_loopback());
        let snapshot = Snapshot::new(config, &healths, clock, 1, open)?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            healths,
            metrics: Metrics::default(),
            ledger,
            clock,
            draining: AtomicBool::new(false),
            busy: watch::Sender::new(0),
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            buffered: Arc::default(),
            durable: Durable::none(),
            registry: Registry::default(),
            services: ArcSwapOption::empty(),
            books: Books::default(),
            signs: Signs::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let (jobs, inboxes): (Vec<_>, Vec<_>) =
            sockets.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let handle = Handle {
            shared: shared.clone(),
            generation: Arc::new(AtomicU64::new(1)),
            jobs: jobs.into(),
            next_job: Arc::default(),
        };
        prepare(&handle);
        let mut workers = Vec::with_capacity(count);
        for (place, (listeners, inbox)) in sockets.into_iter().zip(inboxes).enumerate() {
            let (shared, stopped) = (shared.clone(), stopped.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{place}"));
            workers.push(thread.spawn(move || run_worker(shared, listeners, &stopped, inbox))?);
        }
        Ok(Self {
            handle,
            stop,
            workers,
            addresses,
        })
    }

    /// Where it listens, in the configuration's order, with the real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Takes no new calls and waits for the running ones, at most `limit`. `true` = all ended.
    pub fn drain(self, limit: Duration) -> bool {
        self.handle.shared.draining.store(true, Ordering::Relaxed);
        // No receiver means that every worker has ended already.
        let _ = self.stop.send(true);
        let (done, waits) = std::sync::mpsc::channel();
        let books = self.handle.shared.clone();
        let workers = self.workers;
        std::thread::spawn(move || {
            let all = workers.into_iter().all(|worker| worker.join().is_ok());
            books.books.close();
            books.signs.close();
            // Nobody waits any longer once the limit has passed.
            let _ = done.send(all);
        });
        waits.recv_timeout(limit).is_ok()
    }
}

impl Handle {
    /// Takes a checked configuration into use for all calls from now on; what was changed.
    ///
    /// Listeners and workers stay as they are: those changes say that they need a restart.
    pub fn reload(&self, config: Arc<Config>) -> Result<Vec<Change>, Error> {
        let old = self.shared.snapshot.load_full();
        let changes = holdfast_config::diff(&old.config, &config);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        for provider in &config.providers {
            let mut known = old.config.providers.iter();
            if known.any(|old| old.name == provider.name && old != provider) {
                self.shared.healths.forget(&provider.name);
            }
        }
        let (healths, clock) = (&self.shared.healths, self.shared.clock);
        let snapshot = Snapshot::new(config, healths, clock, generation, old.open)?;
        self.shared.snapshot.store(Arc::new(snapshot));
        Ok(changes)
    }

    /// A file was refused and the last good configuration stays.
    pub fn note_failed_reload(&self) {
        self.shared.metrics.reloads_failed.inc();
    }

    /// The configuration in use.
    pub fn config(&self) -> Arc<Config> {
        self.shared.snapshot.load().config.clone()
    }

    /// Whether it is going down and takes no new calls.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Calls under way.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// From now on what has to be kept is kept in `store`. Finished exchanges and the signs of life of
    /// runs are written into it by the returned task, which ends once the gateway has drained and everything is written; calls that
    /// dead processes had accepted are taken over every `lease`.
    pub fn mount_store(
        &self,
        store: Store,
        lease: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let limits = &self.shared.snapshot.load().config.limits;
        self.shared.books.open(limits.queued_writes);
        self.shared.signs.open(limits.queued_writes);
        self.shared.durable.mount(store);
        let (handle, shared) = (self.clone(), self.shared.clone());
        async move {
            let written =
                async { tokio::join!(books::write(shared.clone()), signs::write(shared.clone())) };
            tokio::select! {
                ((), ()) = written => {}
                () = handle.adopt(lease) => {}
            }
        }
    }

    /// The store can't be used; `why` is told to those who need it.
    pub fn refuse_store(&self, why: String) {
        self.shared.durable.refuse(why);
    }

    /// Answers the paths beside the model calls with `service`, on `runtime`.
    pub fn mount_services(&self, service: Arc<dyn Service>, runtime: tokio::runtime::Handle) {
        let services = Services { service, runtime };
        self.shared.services.store(Some(Arc::new(services)));
    }

    /// Asks a kept request again; `target` = only this one (`provider/model` or `provider`).
    pub async fn ask(
        &self,
        kept: KeptRequest,
        scope: &str,
        target: Option<&str>,
    ) -> Result<StoredAnswer, Fault> {
        let (reply, answer) = oneshot::channel();
        self.give(Job::Ask {
            kept,
            scope: scope.to_owned(),
            target: target.map(str::to_owned),
            reply,
        })?;
        let ended = || Fault::new(Code::Draining, "the gateway is going down");
        answer.await.map_err(|_| ended())?
    }

    /// Whether an answer that a person wrote (a whole body in the call's dialect) passes the gates of
    /// its route and its step; the error says why not.
    pub fn check_answer(&self, kept: &KeptRequest, body: &[u8]) -> Result<(), String> {
        let snapshot = self.shared.snapshot.load();
        let Some(place) = snapshot.route(&kept.route) else {
            return Err(format!(
                "no route serves the model `{}` any more",
                kept.route
            ));
        };
        let dialect = listen::dialect_of_path(&kept.path).ok_or("the call has no known path")?;
        let gates = snapshot.gates(place, kept.header("holdfast-step"));
        gates.check_body(dialect, body)
    }

    /// Whether the result of a step, as a text, passes the step's gate; the error says why not.
    pub fn check_step(&self, step: &str, result: &str) -> Result<(), String> {
        let snapshot = self.shared.snapshot.load();
        let gate = snapshot.step_gate(step);
        gate.map_or(Ok(()), |gate| gate.check_text(result))
    }

    /// Whether some target of the route for this model name may be asked now.
    pub fn is_route_healthy(&self, model: &str) -> bool {
        let now = self.shared.clock.now();
        let snapshot = self.shared.snapshot.load();
        let route = snapshot.route(model).map(|place| &snapshot.routes[place]);
        route.is_some_and(|route| {
            let mut healths = route.healths.iter();
            healths.any(|health| health.standing(now) != Standing::Open)
        })
    }

    /// How an exchange ended (`whole`, `tools`, ...), if it did and belongs to this scope.
    pub async fn verdict(&self, scope: &str, exchange: &str) -> Option<String> {
        if let Some(entry) = self.shared.ledger.find(exchange) {
            let is_own = scope.is_empty() || entry.caller.as_deref() == Some(scope);
            return is_own.then(|| entry.outcome.to_string());
        }
        let store = self.shared.durable.store().ok()?;
        store.outcome(scope, exchange).await.ok()?
    }

    /// The wall clock of the gateway: steady while the process runs.
    pub fn clock(&self) -> holdfast_api::Clock {
        let clock = self.shared.clock;
        Arc::new(move || clock.wall())
    }

    fn give(&self, job: Job) -> Result<(), Fault> {
        let place = self.next_job.fetch_add(1, Ordering::Relaxed) % self.jobs.len();
        let ended = |_| Fault::new(Code::Draining, "the gateway is going down");
        self.jobs[place].send(job).map_err(ended)
    }

    /// Takes over what dead processes had promised to answer later.
    async fn adopt(&self, lease: Duration) {
        loop {
            if let Some(store) = self.shared.durable.mounted() {
                match store.abandoned_calls(ADOPTED).await {
                    Ok(calls) => {
                        for call in calls {
                            // Where no worker takes it, the next process does.
                            let _ = self.give(Job::Resume(call));
                        }
                    }
                    Err(error) => tracing::debug!(%error, "abandoned calls can't be looked for"),
                }
            }
            tokio::time::sleep(lease).await;
        }
    }

    /// The last exchanges.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// The metrics as `OpenMetrics` text.
    pub fn metrics(&self) -> String {
        self.shared.metrics.encode()
    }
}

/// How many abandoned calls are taken over at once.
const ADOPTED: usize = 64;

type Sockets = Vec<Vec<std::net::TcpListener>>;

/// One socket for each worker and address; the kernel spreads the connections.
fn bind_all(addresses: &[SocketAddr], workers: usize) -> Result<(Vec<SocketAddr>, Sockets), Error> {
    let mut sockets: Sockets = (0..workers).map(|_| Vec::new()).collect();
    let mut bound = Vec::with_capacity(addresses.len());
    for address in addresses {
        ensure_free(*address)?;
        let mut real = *address;
        for worker in &mut sockets {
            let listen_error = |source| Error::Listen {
                address: real,
                source,
            };
            let socket = listen::bind(real).map_err(listen_error)?;
            real = socket.local_addr().map_err(listen_error)?;
            worker.push(socket);
        }
        bound.push(real);
    }
    Ok((bound, sockets))
}

/// `SO_REUSEPORT` would let a second gateway of the same user share the port without a word.
fn ensure_free(address: SocketAddr) -> Result<(), Error> {
    if address.port() == 0 {
        return Ok(());
    }
    std::net::TcpListener::bind(address)
        .map(drop)
        .map_err(|source| Error::Listen { address, source })
}

fn run_worker(
    shared: Arc<Shared>,
    listeners: Vec<std::net::TcpListener>,
    stop: &watch::Receiver<bool>,
    inbox: mpsc::UnboundedReceiver<Job>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a worker has no runtime");
            return;
        }
    };
    let worker = Worker::new(shared);
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let mut loops = tokio::task::JoinSet::new();
        for listener in listeners {
            loops.spawn_local(listen::accept(worker.clone(), listener, stop.clone()));
        }
        let jobs = tokio::task::spawn_local(jobs::serve(worker.clone(), inbox));
        while let Some(ended) = loops.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::error!(%error, "an accept loop ended");
            }
        }
        jobs.abort();
        worker.finish().await;
    });
}
