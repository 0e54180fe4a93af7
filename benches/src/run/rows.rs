//! The proxies that are compared, each started the same way in front of the same vendor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::config;
use super::process::{Server, free_port};
use crate::Error;

/// Threads or worker processes of each proxy.
pub(crate) const WORKERS: usize = 2;

/// One proxy of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The client calls the vendor.
    Direct,
    Nginx,
    Haproxy,
    /// Arguments of this program's own proxy.
    Bare(&'static str),
    Litellm,
    Holdfast(Mode),
}

/// How Holdfast is set up in a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) delivery: &'static str,
    pub(crate) upstream_stream: &'static str,
    pub(crate) http2: &'static str,
}

const GUARDED_MODE: Mode = Mode {
    delivery: "guarded",
    upstream_stream: "never",
    http2: "never",
};

pub(crate) const DIRECT: Row = row("no proxy", Kind::Direct);
pub(crate) const NGINX: Row = row("nginx", Kind::Nginx);
pub(crate) const HAPROXY: Row = row("haproxy", Kind::Haproxy);
pub(crate) const BARE: Row = row("bare hyper", Kind::Bare("--shape percore"));
pub(crate) const LITELLM: Row = row("LiteLLM", Kind::Litellm);
pub(crate) const HOLDFAST: Row = row("Holdfast", Kind::Holdfast(GUARDED_MODE));
pub(crate) const AUTO: Row = row(
    "Holdfast, `upstream_stream: auto`",
    Kind::Holdfast(Mode {
        upstream_stream: "auto",
        ..GUARDED_MODE
    }),
);
pub(crate) const LIVE: Row = row("Holdfast, `live`", delivered("live"));
pub(crate) const WHOLE: Row = row("Holdfast, `whole`", delivered("whole"));

/// The two shapes that Holdfast could have.
pub(crate) const SHAPES: &[Row] = &[
    bare("bare hyper, one work-stealing runtime", "--shape multi"),
    bare("bare hyper, a runtime per core", "--shape percore"),
];

/// Many long streams over few connections.
pub(crate) const STREAMS: &[Row] = &[
    bare("work-stealing, HTTP/1.1", "--shape multi"),
    bare("work-stealing, one HTTP/2 connection", "--shape multi --h2"),
    bare(
        "work-stealing, 16 HTTP/2 connections",
        "--shape multi --h2 --h2-connections 16",
    ),
    bare("per core, HTTP/1.1", "--shape percore"),
    bare(
        "per core, one HTTP/2 connection each",
        "--shape percore --h2",
    ),
    bare(
        "per core, 8 HTTP/2 connections each",
        "--shape percore --h2 --h2-connections 8",
    ),
    row(
        "Holdfast, at most 50 streams a connection",
        Kind::Holdfast(Mode {
            http2: "prior-knowledge",
            ..GUARDED_MODE
        }),
    ),
];

const fn row(name: &'static str, kind: Kind) -> Row {
    Row { name, kind }
}

const fn bare(name: &'static str, args: &'static str) -> Row {
    row(name, Kind::Bare(args))
}

const fn delivered(delivery: &'static str) -> Kind {
    Kind::Holdfast(Mode {
        delivery,
        ..GUARDED_MODE
    })
}

/// What a phase asks of the proxies beyond the usual.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Holdfast's threads.
    pub(crate) workers: usize,
    /// A target that refuses connections stands before the vendor.
    pub(crate) dead: bool,
    /// More calls at once than Holdfast lets in by itself.
    pub(crate) in_flight: Option<usize>,
    /// Targets of Holdfast's route.
    pub(crate) targets: usize,
    /// Holdfast's routes.
    pub(crate) routes: usize,
}

pub(crate) const USUAL: Setup = Setup {
    workers: WORKERS,
    dead: false,
    in_flight: None,
    targets: 1,
    routes: 1,
};

/// Where things are, and who answers.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) holdfast: PathBuf,
    pub(crate) nginx: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// `LiteLLM`'s virtual environment, where there is one.
    pub(crate) litellm: Option<PathBuf>,
    pub(crate) vendor: u16,
    /// The vendor over HTTP/2.
    pub(crate) vendor_h2: u16,
    /// A port that refuses connections.
    pub(crate) dead: u16,
}

impl Row {
    /// By this name it is chosen.
    pub(crate) fn short(self) -> &'static str {
        match self.kind {
            Kind::Direct => "direct",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Bare(_) => "bare",
            Kind::Litellm => "litellm",
            Kind::Holdfast(_) => "holdfast",
        }
    }

    /// Starts it with an empty directory of its own, and waits until it accepts.
    pub(crate) fn start(self, place: &Place, setup: &Setup) -> Result<Server, Error> {
        if self.kind == Kind::Direct {
            return Ok(Server::nothing(place.vendor));
        }
        let directory = self.directory(place)?;
        let (mut command, port) = self.command(place, setup, &directory)?;
        Server::start(&mut command, port, &directory.join("log"))
    }

    /// Empty, with nothing of a run before.
    pub(crate) fn directory(self, place: &Place) -> Result<PathBuf, Error> {
        let directory = place.directory.join(self.short());
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// The command of a proxy, and the port on which it will be.
    pub(crate) fn command(
        self,
        place: &Place,
        setup: &Setup,
        directory: &Path,
    ) -> Result<(Command, u16), Error> {
        let port = free_port()?;
        let command = match self.kind {
            Kind::Direct => return Err("no proxy has no command".into()),
            Kind::Nginx => {
                let text = config::nginx(place, port, setup, directory);
                let path = written(directory, "nginx.conf", &text)?;
                let mut command = Command::new(&place.nginx);
                command.arg("-p").arg(directory).arg("-c").arg(path);
                command.args(["-e", "stderr"]);
                command
            }
            Kind::Haproxy => {
                let text = config::haproxy(place, port, setup);
                let path = written(directory, "haproxy.cfg", &text)?;
                let mut command = Command::new(&place.haproxy);
                command.arg("-db").arg("-f").arg(path);
                command
            }
            Kind::Bare(args) => {
                let h2 = args.contains("--h2");
                let vendor = if h2 { place.vendor_h2 } else { place.vendor };
                let mut command = Command::new(std::env::current_exe()?);
                command
                    .args(["proxy", "--port", &port.to_string()])
                    .args(["--vendor", &vendor.to_string()])
                    .args(["--workers", &WORKERS.to_string()])
                    .args(args.split(' '));
                command
            }
            Kind::Litellm => {
                let path = written(directory, "litellm.yaml", &config::litellm(place))?;
                litellm(place, port, &path, directory)?
            }
            Kind::Holdfast(mode) => {
                let text = config::holdfast(place, port, mode, setup);
                let path = written(directory, "holdfast.yaml", &text)?;
                let mut command = Command::new(&place.holdfast);
                command.arg("serve").arg("--config").arg(path);
                command
            }
        };
        Ok((command, port))
    }
}

fn litellm(place: &Place, port: u16, path: &Path, directory: &Path) -> Result<Command, Error> {
    let venv = place.litellm.as_ref().ok_or("LiteLLM is not installed")?;
    let mut command = Command::new(venv.join("bin/litellm"));
    command
        .arg("--config")
        .arg(path)
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .args(["--num_workers", &WORKERS.to_string()])
        .args(["--telemetry", "False"])
        // Prices come with the package; nothing is fetched.
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("LITELLM_LOG", "ERROR")
        .env("HOME", directory)
        .current_dir(directory);
    Ok(command)
}

fn written(directory: &Path, name: &str, text: &str) -> Result<PathBuf, Error> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    Ok(path)
}
