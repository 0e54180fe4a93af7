//! The listener of one simulated vendor, and the handle by which tests and the demo steer it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::ask::Ask;
use crate::fault::Fault;
use crate::play::Timing;
use crate::scenario::ScenarioHandle;
use crate::script::{Ruleset, Script, ScriptError};
use crate::serve;
use crate::stats::{Recorder, Stats};

/// The listener could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// How a vendor is made. See `Sim::builder`.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    keys: Vec<String>,
    timing: Timing,
    keep_requests: usize,
    refuse_prefill: bool,
    auto_tools: bool,
    control: Option<SocketAddr>,
}

impl Builder {
    /// What `[[fault@NAME:...]]` markers and the `sim-name` response header call it; `sim` unless told.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Accept only this key (and others given so); without any, every caller is let in.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// How fast it answers when healthy; at once unless told.
    #[must_use]
    pub const fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// How many requests `/_sim/requests` remembers; 100 unless told, 0 for benchmarks.
    #[must_use]
    pub const fn keep_requests(mut self, count: usize) -> Self {
        self.keep_requests = count;
        self
    }

    /// Whether Anthropic requests that end with an assistant turn are refused, as current models do; true unless told.
    #[must_use]
    pub const fn refuse_prefill(mut self, refuse: bool) -> Self {
        self.refuse_prefill = refuse;
        self
    }

    /// Whether a request with tools is answered by a tool call though nothing forces it; true unless told.
    #[must_use]
    pub const fn auto_tools(mut self, auto: bool) -> Self {
        self.auto_tools = auto;
        self
    }

    /// A second listener that serves only `/_sim/*` and is never refused or closed.
    #[must_use]
    pub const fn control(mut self, address: SocketAddr) -> Self {
        self.control = Some(address);
        self
    }

    /// Listens on `address` (port 0: any free one) and serves until `Sim::shutdown` or drop.
    pub async fn bind(self, address: SocketAddr) -> Result<Sim, BindError> {
        let listener = listen(address).await?;
        let address = listener
            .local_addr()
            .map_err(|source| BindError { address, source })?;
        let control = match self.control {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let control_address = control
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        let (commands, orders) = mpsc::channel(8);
        let shared = Arc::new(Shared {
            name: self.name,
            keys: self.keys,
            refuse_prefill: self.refuse_prefill,
            auto_tools: self.auto_tools,
            has_control: control.is_some(),
            recorder: Recorder::new(self.keep_requests),
            serial: AtomicU64::new(0),
            timing: self.timing,
            state: Mutex::new(State::default()),
            commands,
        });
        let task = tokio::spawn(accept(listener, control, Arc::clone(&shared), orders));
        Ok(Sim {
            address,
            control_address,
            shared,
            task: Some(task),
        })
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError { address, source })
}

/// One running vendor. Dropping it stops it; `shutdown` also waits.
#[derive(Debug)]
pub struct Sim {
    address: SocketAddr,
    control_address: Option<SocketAddr>,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl Sim {
    /// Begins a vendor with the defaults of each `Builder` method.
    pub fn builder() -> Builder {
        Builder {
            name: "sim".to_owned(),
            keys: Vec::new(),
            timing: Timing::default(),
            keep_requests: 100,
            refuse_prefill: true,
            auto_tools: true,
            control: None,
        }
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Where the control listener is, if one was asked for.
    pub const fn control_addr(&self) -> Option<SocketAddr> {
        self.control_address
    }

    /// `http://host:port`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every call meets this fault from now on (`Fault::Healthy` for none). A model name or marker still wins.
    pub fn set_fault(&self, fault: &Fault) {
        let script = if *fault == Fault::Healthy {
            Script::default()
        } else {
            Script::always(fault)
        };
        self.set_script(script)
            .expect("invariant: a fault writes itself as it is read");
    }

    /// Plays this script from now on; a scenario in it starts now.
    pub fn set_script(&self, script: Script) -> Result<(), ScriptError> {
        self.shared.set_script(script)
    }

    /// Plays a scenario, also one that another vendor shares. `None` stops it.
    pub fn set_scenario(&self, scenario: Option<ScenarioHandle>) {
        self.shared.state.lock().scenario = scenario;
    }

    /// What it was asked and did so far.
    pub fn stats(&self) -> Stats {
        self.shared.recorder.stats()
    }

    /// Forgets the counts and the remembered requests.
    pub fn reset_stats(&self) {
        self.shared.recorder.reset();
    }

    /// The bodies of the last requests, oldest first, as `(path, body)`.
    pub fn requests(&self) -> Vec<(String, String)> {
        self.shared
            .recorder
            .seen()
            .into_iter()
            .map(|seen| (seen.path, seen.body))
            .collect()
    }

    /// Really closes the listener and every connection (`false`), or opens it again on the same port (`true`).
    /// When this returns it is done; false when the port could not be had again.
    pub async fn set_listening(&self, open: bool) -> bool {
        self.shared.set_listening(open).await
    }

    /// Closes the listener and every connection, and waits until they are gone.
    pub async fn shutdown(mut self) {
        let _ = self.shared.command(Order::Stop).await;
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Open,
    Close,
    /// Close now, and open again after this long.
    CloseFor(Duration),
    Stop,
}

/// What every connection of a vendor shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) keys: Vec<String>,
    pub(crate) refuse_prefill: bool,
    pub(crate) auto_tools: bool,
    pub(crate) has_control: bool,
    pub(crate) recorder: Recorder,
    serial: AtomicU64,
    timing: Timing,
    state: Mutex<State>,
    commands: mpsc::Sender<(Order, oneshot::Sender<bool>)>,
}

#[derive(Debug, Default)]
struct State {
    script: Script,
    rules: Option<Ruleset>,
    scenario: Option<ScenarioHandle>,
}

impl Shared {
    pub(crate) fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn timing(&self) -> Timing {
        self.state.lock().script.timing(self.timing)
    }

    pub(crate) fn script(&self) -> Script {
        self.state.lock().script.clone()
    }

    pub(crate) fn phase(&self) -> Option<String> {
        self.state
            .lock()
            .scenario
            .as_ref()
            .and_then(ScenarioHandle::phase)
    }

    pub(crate) fn set_script(&self, script: Script) -> Result<(), ScriptError> {
        let rules = Ruleset::new(&script.faults, script.seed)?;
        let scenario = match script.scenario()? {
            Some(scenario) => Some(ScenarioHandle::start(
                scenario,
                script.time_scale.unwrap_or(1.0),
            )?),
            None => None,
        };
        let mut state = self.state.lock();
        state.rules = (!script.faults.is_empty()).then_some(rules);
        state.scenario = scenario;
        state.script = script;
        Ok(())
    }

    /// The fault of a call, from the script or else the scenario.
    pub(crate) fn draw(&self, ask: &Ask) -> Option<Fault> {
        let mut state = self.state.lock();
        let ruled = state.rules.as_mut().and_then(|rules| rules.draw(ask));
        ruled.or_else(|| {
            state
                .scenario
                .as_ref()
                .and_then(|scenario| scenario.draw(ask))
        })
    }

    fn refuses(&self) -> bool {
        let mut state = self.state.lock();
        state.rules.as_mut().is_some_and(Ruleset::refuse)
            || state.scenario.as_ref().is_some_and(ScenarioHandle::refuse)
    }

    pub(crate) async fn set_listening(&self, open: bool) -> bool {
        self.command(if open { Order::Open } else { Order::Close })
            .await
    }

    /// Closes the listener for this long. That ends the caller's own connection too, so nothing is awaited.
    pub(crate) async fn close_for(&self, pause: Duration) {
        let (done, _) = oneshot::channel();
        let _ = self.commands.send((Order::CloseFor(pause), done)).await;
    }

    async fn command(&self, order: Order) -> bool {
        let (done, answer) = oneshot::channel();
        if self.commands.send((order, done)).await.is_err() {
            return false;
        }
        answer.await.unwrap_or(false)
    }
}

/// Between two tries to get a closed port back.
const REBIND: Duration = Duration::from_millis(50);

/// The one owner of the listener and of every connection.
async fn accept(
    listener: TcpListener,
    control: Option<TcpListener>,
    shared: Arc<Shared>,
    mut orders: mpsc::Receiver<(Order, oneshot::Sender<bool>)>,
) {
    let mut gate = Gate {
        address: listener.local_addr(),
        listener: Some(listener),
        connections: JoinSet::new(),
        reopen: None,
    };
    let mut controls = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept_one(gate.listener.as_ref()) => match accepted {
                Ok(stream) => welcome(stream, &shared, &mut gate.connections),
                // Out of file handles: let others end before the next try.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            accepted = accept_one(control.as_ref()) => {
                if let Ok(stream) = accepted {
                    controls.spawn(serve::serve_control(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = gate.connections.join_next() => {}
            Some(_) = controls.join_next() => {}
            () = due(gate.reopen) => {
                if !gate.obey(Order::Open).await {
                    // Somebody has the port at this moment.
                    gate.reopen = Some(Instant::now() + REBIND);
                }
            }
            Some((order, done)) = orders.recv() => {
                let result = gate.obey(order).await;
                let _ = done.send(result);
                if matches!(order, Order::Stop) {
                    controls.shutdown().await;
                    return;
                }
            }
        }
    }
}

/// The listener, which may be closed for a while, and what came through it.
struct Gate {
    address: io::Result<SocketAddr>,
    listener: Option<TcpListener>,
    connections: JoinSet<()>,
    reopen: Option<Instant>,
}

impl Gate {
    async fn obey(&mut self, order: Order) -> bool {
        self.reopen = None;
        match order {
            Order::Close | Order::CloseFor(_) | Order::Stop => {
                self.listener = None;
                self.connections.shutdown().await;
                if let Order::CloseFor(pause) = order {
                    self.reopen = Some(Instant::now() + pause);
                }
                true
            }
            Order::Open => {
                if let (None, Ok(address)) = (&self.listener, &self.address) {
                    self.listener = TcpListener::bind(*address).await.ok();
                }
                self.listener.is_some()
            }
        }
    }
}

/// Completes at that time; never, without one.
async fn due(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The next connection; never, without a listener.
async fn accept_one(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn welcome(stream: TcpStream, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    shared.recorder.connected();
    if shared.refuses() {
        shared.recorder.refused();
        let _ = stream.set_zero_linger();
        return;
    }
    let _ = stream.set_nodelay(true);
    connections.spawn(serve::serve(stream, Arc::clone(shared)));
}
