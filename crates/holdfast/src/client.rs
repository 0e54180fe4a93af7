//! A small client of the gateway's API, for the commands that look into it: one request at a time, each
//! on a connection of its own, over TCP or TLS.
//!
//! What the gateway refuses is told in its own words. Nothing is retried here: the API's decisions are
//! made once, and a person at a terminal sees what happened.

mod ask;
mod base;
mod connect;
pub(crate) mod table;
pub(crate) mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::timeout;

pub(crate) use ask::Ask;
use base::Base;

use crate::commands::USAGE;
use crate::printer;

/// The longest answer that is read.
const LONGEST: usize = 256 << 20;

/// Where the gateway is, and as whom it is spoken to.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Gateway")]
pub(crate) struct Connection {
    /// Where the gateway listens
    #[arg(
        long,
        value_name = "URL",
        env = "HOLDFAST_URL",
        default_value = "http://127.0.0.1:4000",
        global = true
    )]
    url: String,
    /// A caller's key, where the gateway has callers; better in the environment than on the command line
    #[arg(
        long,
        value_name = "KEY",
        env = "HOLDFAST_KEY",
        hide_env_values = true,
        global = true
    )]
    key: Option<String>,
    /// A PEM file of certificates to trust besides the system's
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CA_FILE", global = true)]
    ca_file: Option<PathBuf>,
}

/// Speaks to one gateway.
pub(crate) struct Client {
    base: Base,
    key: Option<HeaderValue>,
    ca_file: Option<PathBuf>,
    runtime: Runtime,
}

/// Why there is no answer to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line is at fault.
    #[error("{0}")]
    Usage(String),
    #[error(
        "{why}\nhelp: is it running? `holdfast serve` starts it; `--url` or HOLDFAST_URL says where it listens (now {url})"
    )]
    Unreachable { url: String, why: String },
    #[error(
        "the connection to {url} broke: {why}\nhelp: whether the gateway did what it was asked is not known; look before you ask again"
    )]
    Broken { url: String, why: String },
    /// The gateway's own words.
    #[error("{message}{}", help(*status, code.as_deref()))]
    Refused {
        status: u16,
        code: Option<String>,
        message: String,
    },
    /// Something else listens there.
    #[error(
        "{url} does not answer like a Holdfast gateway: {why}\nhelp: `--url` or HOLDFAST_URL says where the gateway listens"
    )]
    Foreign { url: String, why: String },
    /// What the command asked for did not come about.
    #[error("{0}")]
    Failed(String),
}

/// What a command ends with: what it prints, or why there is nothing.
pub(crate) type Told = Result<String, Error>;

// === impl Error ===

impl Error {
    fn exit(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(USAGE),
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Refused { .. }
            | Self::Foreign { .. }
            | Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

/// What can be done about a refusal.
fn help(status: u16, code: Option<&str>) -> String {
    let first = match status {
        401 => Some("`--key` or HOLDFAST_KEY is the caller's key"),
        409 => Some(
            "look again with `show`; what is claimed takes `--fence`, the number that the claim printed",
        ),
        _ => None,
    };
    match (first, code) {
        (Some(first), _) => format!("\nhelp: {first}"),
        (None, Some(code)) => format!("\nhelp: `holdfast explain {code}`"),
        (None, None) => String::new(),
    }
}

/// Prints what a command ended with, and gives its exit status: 0, 1 = refused or not found, 2 = the
/// command line is wrong.
pub(crate) fn finish(told: Told) -> ExitCode {
    match told {
        Ok(text) => {
            printer::data(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            printer::error(&table::plain(&error.to_string()));
            error.exit()
        }
    }
}

/// JSON for programs.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

// === impl Connection ===

impl Connection {
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let base = Base::parse(&self.url).map_err(Error::Usage)?;
        let key = self.key.as_deref().map(str::trim);
        let key = key.filter(|key| !key.is_empty()).map(|key| {
            HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| Error::Usage("the key has characters that no key can have".to_owned()))
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Failed(format!("cannot start: {error}")))?;
        Ok(Client {
            base,
            key: key.transpose()?,
            ca_file: self.ca_file.clone(),
            runtime,
        })
    }
}

// === impl Client ===

impl Client {
    /// Asks, and gives the JSON of the answer.
    pub(crate) fn ask(&self, ask: &Ask) -> Result<Value, Error> {
        self.runtime.block_on(async {
            let response = self.send(ask).await?;
            let (_, body) = self.read(response, ask.patience).await?;
            serde_json::from_slice(&body).map_err(|error| self.foreign(&error.to_string()))
        })
    }

    /// Opens a stream and hands on what arrives; ends with the stream, or when `take` has enough.
    pub(crate) fn follow(
        &self,
        ask: &Ask,
        mut take: impl FnMut(Bytes) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        self.runtime.block_on(async {
            let mut body = self.send(ask).await?.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                if let Ok(bytes) = frame.into_data()
                    && take(bytes)?
                {
                    return Ok(());
                }
            }
            Ok(())
        })
    }

    /// Lets time pass.
    pub(crate) fn rest(&self, time: Duration) {
        // The timer has to be made on the runtime.
        self.runtime
            .block_on(async { tokio::time::sleep(time).await });
    }

    /// A response that is none of a refusal.
    async fn send(&self, ask: &Ask) -> Result<Response<Incoming>, Error> {
        let mut sender = connect::open(&self.base, self.ca_file.as_deref()).await?;
        let request = ask.request(&self.base, self.key.as_ref())?;
        let sent = timeout(ask.patience, sender.send_request(request));
        let response = sent
            .await
            .map_err(|_| self.broken(&"no answer in time"))?
            .map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.headers().get("holdfast-code");
        let code = code.and_then(|code| code.to_str().ok()).map(str::to_owned);
        let (status, body) = self.read(response, ask.patience).await?;
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        match told["error"]["message"].as_str() {
            Some(message) => Err(Error::Refused {
                status: status.as_u16(),
                code,
                message: message.to_owned(),
            }),
            None => Err(self.foreign(&format!("status {status}"))),
        }
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), Error> {
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect();
        let body = timeout(patience, body)
            .await
            .map_err(|_| self.broken(&"the answer did not end in time"))?
            .map_err(|error| self.broken(&error))?;
        Ok((status, body.to_bytes()))
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> Error {
        Error::Broken {
            url: self.base.to_string(),
            why: why.to_string(),
        }
    }

    fn foreign(&self, why: &str) -> Error {
        Error::Foreign {
            url: self.base.to_string(),
            why: why.to_owned(),
        }
    }
}
