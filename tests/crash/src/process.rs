//! The real binary as a child process: started, killed, frozen, woken.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::client::{Ask, Heard};

/// How long a process may take to serve or to end. A bound against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a process could not be worked with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{}` can't be started: {source}", path.display())]
    Start {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the gateway ended by itself ({status}); the end of its log:\n{log}")]
    Ended { status: String, log: String },
    #[error("waited in vain for {what}; the end of the gateway's log:\n{log}")]
    InVain { what: &'static str, log: String },
    #[error("the gateway can't be signalled: {0}")]
    Signal(std::io::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// How a gateway is started.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) binary: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) address: SocketAddr,
    /// `HOLDFAST_FAILPOINT`.
    pub(crate) failpoint: Option<String>,
}

/// A running gateway. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    recipe: Recipe,
    child: Child,
}

// === impl Recipe ===

impl Recipe {
    /// Starts it; does not wait until it serves.
    pub(crate) fn spawn(&self) -> Result<Gateway, Error> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command
            .args(["serve", "--config"])
            .arg(&self.config)
            // Nothing of the developer's own environment: a vendor key there must not reach a test.
            .env_clear()
            .env("HOME", self.log.parent().unwrap_or_else(|| Path::new("/")))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        if let Some(name) = &self.failpoint {
            command.env("HOLDFAST_FAILPOINT", name);
        }
        let child = command.spawn().map_err(|source| Error::Start {
            path: self.binary.clone(),
            source,
        })?;
        Ok(Gateway {
            recipe: self.clone(),
            child,
        })
    }

    /// Starts it and waits until it serves.
    pub(crate) async fn start(&self) -> Result<Gateway, Error> {
        let mut gateway = self.spawn()?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// The end of the log.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(3000);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }
}

// === impl Gateway ===

impl Gateway {
    pub(crate) fn address(&self) -> SocketAddr {
        self.recipe.address
    }

    pub(crate) fn log_tail(&self) -> String {
        self.recipe.log_tail()
    }

    /// Waits until it serves, and can keep things. A process that ends instead is an error.
    pub(crate) async fn ready(&mut self) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Err(Error::Ended {
                    status: status.to_string(),
                    log: self.log_tail(),
                });
            }
            if self.is_up().await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(Error::InVain {
            what: "the gateway to serve and its store to be up",
            log: self.log_tail(),
        })
    }

    /// `/readyz` speaks of the store, and the services over it come up after it.
    async fn is_up(&self) -> bool {
        for (path, member) in [("/readyz", "store"), ("/v1/effects?limit=1", "effects")] {
            let ask = Ask::get(path);
            let heard = ask
                .send_within(self.address(), Duration::from_secs(2))
                .await;
            let shown = match heard {
                Heard::Reply(reply) if reply.status == 200 => reply.json(),
                Heard::Reply(_) | Heard::Refused | Heard::Lost => return false,
            };
            if shown[member] != "up" && !shown[member].is_array() {
                return false;
            }
        }
        true
    }

    /// Whether it ended without being asked to.
    pub(crate) fn has_ended(&mut self) -> Result<bool, Error> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<(), Error> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// Waits for it to end by itself, as at a failpoint.
    pub(crate) async fn wait(&mut self) -> Result<(), Error> {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(ended) => {
                ended?;
                Ok(())
            }
            Err(_) => Err(Error::InVain {
                what: "the process to end",
                log: self.log_tail(),
            }),
        }
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(crate) fn wake(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let gone = || Error::Signal(std::io::Error::from(std::io::ErrorKind::NotFound));
        let number = self.child.id().ok_or_else(gone)?;
        let number = i32::try_from(number).map_err(|_| gone())?;
        let pid = Pid::from_raw(number).ok_or_else(gone)?;
        kill_process(pid, signal).map_err(|error| Error::Signal(error.into()))
    }
}

/// An address of loopback that is free now.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
