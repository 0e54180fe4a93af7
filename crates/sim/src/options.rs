//! `holdfast sim` as a function: what the command line asks for, and running it until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::play::Timing;
use crate::scenario::{Scenario, ScenarioHandle, UnknownScenario};
use crate::script::{Script, ScriptError};
use crate::server::{BindError, Sim};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// One vendor each; they share a scenario. The first is named `a`, the second `b`, and so on.
    pub listen: Vec<SocketAddr>,
    /// A listener for `/_sim/*` alone, of the first vendor.
    pub control: Option<SocketAddr>,
    /// A script file (YAML or JSON), for every vendor.
    pub script: Option<PathBuf>,
    /// A built-in scenario by name; wins over the script's.
    pub scenario: Option<String>,
    /// The scenario's times are multiplied by this.
    pub time_scale: f64,
    /// Keys to accept; none accepts all.
    pub keys: Vec<String>,
    /// The pause before the first token.
    pub first_token: Duration,
    /// The pause between tokens.
    pub token: Duration,
    /// How many requests each vendor remembers.
    pub keep_requests: usize,
    /// Whether offered tools are called without being forced.
    pub auto_tools: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 4010))],
            control: None,
            script: None,
            scenario: None,
            time_scale: 1.0,
            keys: Vec::new(),
            first_token: Duration::ZERO,
            token: Duration::ZERO,
            keep_requests: 100,
            auto_tools: true,
        }
    }
}

/// Why the vendors do not run.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("cannot read the script {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error(transparent)]
    Scenario(#[from] UnknownScenario),
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Options {
    /// Starts the vendors.
    pub async fn start(&self) -> Result<Vec<Sim>, OptionsError> {
        let script = self.read_script()?;
        let scenario = match &self.scenario {
            Some(name) => Some(ScenarioHandle::start(
                Scenario::named(name)?,
                self.time_scale,
            )?),
            None => None,
        };
        let mut sims = Vec::new();
        for (index, address) in self.listen.iter().enumerate() {
            let timing = Timing {
                first_token: self.first_token,
                token: self.token,
                batch: 1,
            };
            let mut builder = Sim::builder()
                .name(name(index))
                .timing(timing)
                .keep_requests(self.keep_requests)
                .auto_tools(self.auto_tools);
            for key in &self.keys {
                builder = builder.key(key.clone());
            }
            if let (0, Some(control)) = (index, self.control) {
                builder = builder.control(control);
            }
            let sim = builder.bind(*address).await?;
            if let Some(script) = &script {
                sim.set_script(script.clone())?;
            }
            if let Some(scenario) = &scenario {
                sim.set_scenario(Some(scenario.clone()));
            }
            sims.push(sim);
        }
        Ok(sims)
    }

    /// Runs the vendors until `shutdown` completes; `ready` is told where they listen.
    pub async fn run(
        &self,
        shutdown: impl Future<Output = ()>,
        ready: impl FnOnce(&[Sim]),
    ) -> Result<(), OptionsError> {
        let sims = self.start().await?;
        ready(&sims);
        shutdown.await;
        for sim in sims {
            sim.shutdown().await;
        }
        Ok(())
    }

    fn read_script(&self) -> Result<Option<Script>, OptionsError> {
        let Some(path) = &self.script else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path).map_err(|source| OptionsError::Read {
            path: path.clone(),
            source,
        })?;
        let mut script = Script::parse(&text)?;
        script.time_scale = script.time_scale.or(Some(self.time_scale));
        Ok(Some(script))
    }
}

/// `a`, `b`, ... `z`, `26`, ...
fn name(index: usize) -> String {
    u8::try_from(index)
        .ok()
        .filter(|index| *index < 26)
        .map_or_else(
            || index.to_string(),
            |index| char::from(b'a' + index).to_string(),
        )
}
