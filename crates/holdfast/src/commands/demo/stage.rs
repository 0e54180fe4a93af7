//! What the demo is played on: simulated vendors and the real gateway, all in this process.
//!
//! The failing vendor stands there twice, once for each side: the calls of one side neither take from
//! the other's dice nor load its vendor. Both play the same scenario from the same moment and seed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast_config::{Config, Disk};
use holdfast_gateway::Gateway;
use holdfast_sim::{
    BindError, Phase, Scenario, ScenarioHandle, ScriptError, Sim, Timing, UnknownScenario,
};
use tokio::sync::oneshot;

/// The scenario that is played.
pub(super) const SCENARIO: &str = "outage-2026-06-21";
/// The gateway's configuration; `NORTH` and `SOUTH` are the vendors' addresses.
const CONFIG: &str = include_str!("gateway.yaml");
/// How fast the vendors are when they are well.
const TIMING: Timing = Timing {
    first_token: Duration::from_millis(80),
    token: Duration::from_millis(6),
    batch: 1,
};

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("a simulated vendor does not start: {0}")]
    Bind(#[from] BindError),
    #[error(transparent)]
    Scenario(#[from] UnknownScenario),
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error("the gateway's configuration is refused:\n{0}")]
    Config(String),
    #[error("the gateway does not start: {0}")]
    Gateway(#[from] holdfast_gateway::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the vendors' thread ended before they listened")]
    Lost,
}

/// The simulated vendors, on a thread and a runtime of their own.
struct Vendors {
    /// The failing vendor as it is called without Holdfast.
    straight: Sim,
    /// Its twin, which Holdfast asks first.
    north: Sim,
    /// The healthy one, which Holdfast asks second.
    south: Sim,
}

/// Everything that runs. Dropped, it ends with the process.
pub(super) struct Stage {
    vendors: Vendors,
    gateway: Gateway,
    scenario: Scenario,
    scale: f64,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Stage {
    /// Starts the vendors and the gateway. Everything is healthy until [`Self::begin`].
    pub(super) fn start(seed: u64, length: Duration) -> Result<Self, Error> {
        let scenario = Scenario {
            seed,
            ..Scenario::named(SCENARIO)?
        };
        let scale = length.as_secs_f64() / scenario.length().as_secs_f64();
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("vendors".to_owned())
            .spawn(move || serve_vendors(&ready, stopped))?;
        let vendors = started.recv().map_err(|_| Error::Lost)??;
        let gateway = Gateway::start(Arc::new(config(&vendors)?))?;
        Ok(Self {
            vendors,
            gateway,
            scenario,
            scale,
            stop,
            thread,
        })
    }

    /// Starts the scenario on both sides at once.
    pub(super) fn begin(&self) -> Result<(), Error> {
        for sim in [&self.vendors.straight, &self.vendors.north] {
            let handle = ScenarioHandle::start(self.scenario.clone(), self.scale)?;
            sim.set_scenario(Some(handle));
        }
        Ok(())
    }

    /// Where the failing vendor is called without Holdfast.
    pub(super) const fn straight(&self) -> SocketAddr {
        self.vendors.straight.addr()
    }

    /// Where Holdfast listens.
    pub(super) fn holdfast(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    /// The vendors that Holdfast asks, in its order.
    pub(super) const fn behind(&self) -> [SocketAddr; 2] {
        [self.vendors.north.addr(), self.vendors.south.addr()]
    }

    /// The calls that reached vendors so far: straight, and through Holdfast.
    pub(super) fn vendor_calls(&self) -> [u64; 2] {
        let calls = |sim: &Sim| sim.stats().calls;
        let vendors = &self.vendors;
        [
            calls(&vendors.straight),
            calls(&vendors.north) + calls(&vendors.south),
        ]
    }

    /// The phases with the lengths that they have here.
    pub(super) fn phases(&self) -> Vec<(String, Duration)> {
        let scaled = |phase: &Phase| Duration::from_secs_f64(phase.seconds * self.scale);
        let phases = self.scenario.phases.iter();
        phases
            .map(|phase| (phase.name.clone(), scaled(phase)))
            .collect()
    }

    /// What Holdfast's ledger says of an exchange, as JSON.
    pub(super) fn ledger(&self, exchange: &str) -> Option<serde_json::Value> {
        let entry = self.gateway.handle().ledger().find(exchange)?;
        serde_json::to_value(&*entry).ok()
    }

    /// Ends everything that runs.
    pub(super) fn end(self) {
        // All calls have ended; a worker that does not notice is ended by the process.
        let _ = self.gateway.drain(Duration::from_secs(1));
        // The thread may be gone already.
        let _ = self.stop.send(());
        drop(self.vendors);
        // What it could still tell has been told.
        let _ = self.thread.join();
    }
}

fn config(vendors: &Vendors) -> Result<Config, Error> {
    let env = |name: &str| match name {
        "NORTH" => Some(vendors.north.url()),
        "SOUTH" => Some(vendors.south.url()),
        _ => None,
    };
    let nowhere = Disk {
        directory: PathBuf::new(),
    };
    match holdfast_config::parse("gateway.yaml", CONFIG, &env, &nowhere) {
        Ok(loaded) => Ok(loaded.config),
        Err(rejected) => Err(Error::Config(rejected.render(false))),
    }
}

fn serve_vendors(ready: &mpsc::Sender<Result<Vendors, Error>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody waits for it any longer if this fails.
            let _ = ready.send(Err(error.into()));
            return;
        }
    };
    runtime.block_on(async {
        let _ = ready.send(bind_vendors().await);
        // Told to stop, or the stage is gone: both are the end.
        let _ = stopped.await;
    });
}

async fn bind_vendors() -> Result<Vendors, Error> {
    let bind = async |name: &str| {
        let sim = Sim::builder().name(name).timing(TIMING).keep_requests(0);
        sim.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    };
    Ok(Vendors {
        straight: bind("north").await?,
        north: bind("north").await?,
        south: bind("south").await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::client::call;
    use crate::commands::demo::plan::{Ask, Dialect};
    use crate::commands::demo::verdict::{Outcome, judge};

    #[tokio::test]
    async fn everything_is_whole_on_both_sides_before_the_outage() {
        let stage = Stage::start(1, Duration::from_secs(36)).unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for side in [stage.straight(), stage.holdfast()] {
            for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
                for stream in [true, false] {
                    for ask in [Ask::text(dialect, stream), Ask::tools(dialect, stream)] {
                        let patience = Duration::from_mins(1);
                        calls.spawn(async move { (ask, call(side, &ask, patience).await) });
                    }
                }
            }
        }
        while let Some(ended) = calls.join_next().await {
            let (ask, answer) = ended.unwrap();
            let outcome = judge(&ask, &answer.held, answer.end);
            assert_eq!(outcome, Outcome::Whole, "{ask:?}: {answer:?}");
        }
        assert_eq!(stage.vendor_calls(), [8, 8]);
        stage.end();
    }

    #[test]
    fn the_phases_fill_the_length_that_was_asked_for() {
        let stage = Stage::start(1, Duration::from_secs(36)).unwrap();
        let phases = stage.phases();
        let names: Vec<_> = phases.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["healthy", "outage", "recovery"]);
        let length: Duration = phases.iter().map(|(_, lasts)| *lasts).sum();
        assert_eq!(length.as_millis(), 36_000);
        stage.end();
    }
}
