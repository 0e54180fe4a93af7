//! The proxies that are compared, each started the same way in front of the same vendor.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::process::{Server, free_port};
use crate::Error;

/// Threads or worker processes of each proxy.
const WORKERS: usize = 2;

/// One proxy of a table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Nginx,
    /// Arguments of this program's own proxy.
    Bare(&'static str),
    Holdfast {
        delivery: &'static str,
        http2: &'static str,
    },
}

const fn bare(name: &'static str, args: &'static str) -> Row {
    let kind = Kind::Bare(args);
    Row { name, kind }
}

const fn holdfast(name: &'static str, delivery: &'static str, http2: &'static str) -> Row {
    let kind = Kind::Holdfast { delivery, http2 };
    Row { name, kind }
}

/// The two shapes that Holdfast could have.
pub(crate) const SHAPES: &[Row] = &[STEALING, PER_CORE];

const STEALING: Row = bare("bare hyper, one work-stealing runtime", "--shape multi");
const PER_CORE: Row = bare("bare hyper, a runtime per core", "--shape percore");

/// What a call, a token and an open stream cost; the first row is the measure of the others.
pub(crate) const COST: &[Row] = &[
    Row {
        name: "nginx",
        kind: Kind::Nginx,
    },
    STEALING,
    PER_CORE,
    holdfast("Holdfast, `guarded`", "guarded", "never"),
    holdfast("Holdfast, `live`", "live", "never"),
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
    holdfast(
        "Holdfast, at most 50 streams a connection",
        "guarded",
        "prior-knowledge",
    ),
];

/// Where things are, and who answers.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) holdfast: PathBuf,
    pub(crate) nginx: PathBuf,
    pub(crate) vendor: u16,
}

impl Row {
    pub(crate) fn start(self, place: &Place) -> Result<Server, Error> {
        let port = free_port()?;
        let mut command = match self.kind {
            Kind::Nginx => nginx(place, port)?,
            Kind::Bare(args) => {
                let mut command = Command::new(std::env::current_exe()?);
                command
                    .args(["proxy", "--port", &port.to_string()])
                    .args(["--vendor", &place.vendor.to_string()])
                    .args(["--workers", &WORKERS.to_string()])
                    .args(args.split(' '));
                command
            }
            Kind::Holdfast { delivery, http2 } => {
                let path = place.directory.join("holdfast.yaml");
                fs::write(&path, config(place.vendor, port, delivery, http2))?;
                let mut command = Command::new(&place.holdfast);
                command.arg("serve").arg("--config").arg(path);
                command
            }
        };
        Server::start(&mut command, port, &place.directory.join("proxy.log"))
    }
}

/// Set up as a proxy of streams: nothing buffered, vendor connections kept, no access log.
fn nginx(place: &Place, port: u16) -> Result<Command, Error> {
    let path = place.directory.join("nginx.conf");
    let directory = place.directory.display();
    let vendor = place.vendor;
    let text = format!(
        "user root;
worker_processes {WORKERS};
worker_rlimit_nofile 16384;
daemon off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000000;
    upstream vendor {{
        server 127.0.0.1:{vendor};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        location / {{
            proxy_pass http://vendor;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
            proxy_read_timeout 10m;
        }}
    }}
}}
"
    );
    fs::write(&path, text)?;
    let mut command = Command::new(&place.nginx);
    command
        .arg("-p")
        .arg(&place.directory)
        .arg("-c")
        .arg(path)
        .args(["-e", "stderr"]);
    Ok(command)
}

/// A plain call stays a plain call to the vendor, as in the other rows.
fn config(vendor: u16, port: u16, delivery: &str, http2: &str) -> String {
    format!(
        "listen: 127.0.0.1:{port}
workers: {WORKERS}
providers:
  - name: mock
    kind: openai-compatible
    base_url: http://127.0.0.1:{vendor}/v1
    key: bench
    http2: {http2}
routes:
  - model: bench
    delivery: {delivery}
    targets:
      - provider: mock
        upstream_stream: never
log: {{ level: warn }}
"
    )
}
