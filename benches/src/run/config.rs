//! The configuration of each proxy: as cheap as it gets for the others, by default for Holdfast.

use std::fmt::Write as _;
use std::path::Path;

use super::rows::{Mode, Place, Setup, WORKERS};

/// Set up as a proxy of streams: nothing buffered, vendor connections kept, no access log. A large
/// request is passed on as it comes, in the pieces that cost least (with 16 KiB it is twice as dear).
pub(crate) fn nginx(place: &Place, port: u16, setup: &Setup, directory: &Path) -> String {
    let directory = directory.display();
    let vendor = place.vendor;
    let servers = if setup.dead {
        let dead = place.dead;
        format!("server 127.0.0.1:{dead};\n        server 127.0.0.1:{vendor} backup;")
    } else {
        format!("server 127.0.0.1:{vendor};")
    };
    format!(
        "user root;
worker_processes {WORKERS};
worker_rlimit_nofile 16384;
daemon off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 64m;
    keepalive_requests 1000000000;
    upstream vendor {{
        {servers}
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
            proxy_request_buffering off;
            client_body_buffer_size 512k;
            proxy_read_timeout 10m;
        }}
    }}
}}
"
    )
}

/// Vendor connections are kept and shared; no log.
pub(crate) fn haproxy(place: &Place, port: u16, setup: &Setup) -> String {
    let vendor = place.vendor;
    let servers = if setup.dead {
        let dead = place.dead;
        format!(
            "    option redispatch 1
    server dead 127.0.0.1:{dead} check inter 1s
    server mock 127.0.0.1:{vendor} backup"
        )
    } else {
        format!("    server mock 127.0.0.1:{vendor}")
    };
    format!(
        "global
    nbthread {WORKERS}
    maxconn 7000
defaults
    mode http
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    retries 3
frontend callers
    bind 127.0.0.1:{port} backlog 4096
    default_backend vendor
backend vendor
    http-reuse always
{servers}
"
    )
}

pub(crate) fn litellm(place: &Place) -> String {
    let vendor = place.vendor;
    format!(
        "model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{vendor}/v1
      api_key: bench
litellm_settings:
  # Messages become Chat Completions, as in the other rows, and not Responses.
  use_chat_completions_url_for_anthropic_messages: true
general_settings:
  # No caller has a key in any row; without this it does not start.
  dangerously_permit_weak_or_unset_master_key: true
"
    )
}

/// The defaults, but for what the phase or the row is about.
pub(crate) fn holdfast(place: &Place, port: u16, mode: Mode, setup: &Setup) -> String {
    let Mode {
        delivery,
        upstream_stream,
        http2,
    } = mode;
    let vendor = if http2 == "never" {
        place.vendor
    } else {
        place.vendor_h2
    };
    let workers = setup.workers;
    let mut text = format!(
        "listen: 127.0.0.1:{port}
workers: {workers}
providers:
  - name: mock
    kind: openai-compatible
    base_url: http://127.0.0.1:{vendor}/v1
    key: bench
    http2: {http2}
"
    );
    if setup.dead {
        let dead = place.dead;
        let _ = write!(
            text,
            "  - name: dead
    kind: openai-compatible
    base_url: http://127.0.0.1:{dead}/v1
    key: bench
"
        );
    }
    text += "routes:\n";
    for number in 1..setup.routes {
        // Every other one stands for many names.
        let star = if number % 2 == 0 { "*" } else { "" };
        let _ = writeln!(
            text,
            "  - model: other-{number}{star}\n    targets: mock/bench"
        );
    }
    let _ = writeln!(
        text,
        "  - model: bench\n    delivery: {delivery}\n    targets:"
    );
    if setup.dead {
        text += "      - provider: dead\n";
    }
    for number in 0..setup.targets {
        let _ = writeln!(
            text,
            "      - provider: mock\n        upstream_stream: {upstream_stream}"
        );
        if number > 0 {
            let _ = writeln!(text, "        model: bench-{number}");
        }
    }
    if let Some(most) = setup.in_flight {
        let _ = writeln!(text, "limits: {{ in_flight: {most} }}");
    }
    text
}
