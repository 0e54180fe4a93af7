//! A vendor, two effect targets, a directory, and the configuration of gateways that use them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{self, Recipe};
use crate::targets::Targets;
use crate::vendor::Vendor;

/// The usual lease of the gateways under test: short, so that take-overs are seen.
const LEASE: Duration = Duration::from_secs(2);

/// Everything that stays while gateways come and go.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) vendor: Vendor,
    pub(crate) targets: Targets,
    directory: TempDir,
    binary: PathBuf,
}

/// What a configuration can differ in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// `None`: `SQLite` in the stand's directory.
    pub(crate) postgres: Option<String>,
    /// Members laid over `defaults`.
    pub(crate) defaults: Value,
    pub(crate) lease: Option<Duration>,
    /// How long one operation of the store may take.
    pub(crate) store_timeout: Option<&'static str>,
}

// === impl Stand ===

impl Stand {
    pub(crate) async fn new(binary: PathBuf) -> std::io::Result<Self> {
        Ok(Self {
            vendor: Vendor::start().await?,
            targets: Targets::start().await?,
            directory: tempfile::Builder::new()
                .prefix("holdfast-crash-")
                .tempdir()?,
            binary,
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the configuration of one gateway. `name` tells its files from another's.
    pub(crate) fn recipe(&self, name: &str, terms: &Terms) -> std::io::Result<Recipe> {
        let address = process::free_address()?;
        let config = self.directory().join(format!("{name}.yaml"));
        let text = serde_json::to_string_pretty(&self.config(address, terms))?;
        std::fs::write(&config, text)?;
        Ok(Recipe {
            binary: self.binary.clone(),
            config,
            log: self.directory().join(format!("{name}.log")),
            address,
            failpoint: None,
        })
    }

    fn config(&self, address: SocketAddr, terms: &Terms) -> Value {
        let vendor = self.vendor.server.address;
        let target = |name: &str, honours: bool| {
            json!({
                "name": name,
                "url": format!("http://{}/{name}", self.targets.server.address),
                "honours_keys": honours, "allow_private": true,
                "timeout": "10s",
                // A process that was killed has used up an attempt, too.
                "attempts": 10_000, "backoff": {"base": "20ms", "cap": "200ms"},
            })
        };
        let store = terms.postgres.clone().unwrap_or_else(|| {
            let file = self.directory().join("holdfast.db");
            format!("sqlite:{}", file.display())
        });
        let mut defaults = json!({
            "attempts_per_target": 2, "max_attempts": 2, "join": false,
            "backoff": {"base": "5ms", "cap": "20ms"},
            "budget": {"share": "100%", "floor_per_second": 1000},
            "breaker": {"consecutive": 1_000_000, "min_calls": 1_000_000},
            "retry_after": "50ms",
        });
        if let (Some(defaults), Some(more)) = (defaults.as_object_mut(), terms.defaults.as_object())
        {
            defaults.extend(more.clone());
        }
        json!({
            "listen": address.to_string(),
            "providers": [
                {"name": "anthropic", "kind": "anthropic", "base_url": format!("http://{vendor}"), "key": "sk-dummy"},
                {"name": "openai", "kind": "openai", "base_url": format!("http://{vendor}/v1"), "key": "sk-dummy"},
            ],
            "routes": [
                {"model": "claude", "targets": ["anthropic/sim"]},
                {"model": "chat", "targets": ["openai/sim"]},
            ],
            "defaults": defaults,
            "store": {
                "url": store, "lease": format!("{}ms", terms.lease.unwrap_or(LEASE).as_millis()),
                "timeout": terms.store_timeout.unwrap_or("5s"),
            },
            "effects": {"targets": [target("honours", true), target("plain", false)]},
            "drain": "2s",
        })
    }

    /// Leaves the directory for whoever looks into it.
    pub(crate) fn keep(self) -> PathBuf {
        self.directory.keep()
    }
}
