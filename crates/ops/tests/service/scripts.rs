//! The script of `docs/runs.md`, run as it stands there: it goes on where it was.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use holdfast_api::{Caller, Request, Service as _};
use holdfast_ops::Ops;
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{get, open};

/// Answers one request on each connection: model calls by itself, the rest by the service.
async fn serve(listener: TcpListener, ops: Arc<Ops>, calls: Arc<AtomicU32>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, &ops, &calls).await;
    }
}

async fn answer(stream: TcpStream, ops: &Ops, calls: &AtomicU32) {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await.unwrap();
    let mut words = first.split(' ');
    let method = Method::from_bytes(words.next().unwrap().as_bytes()).unwrap();
    let path = words.next().unwrap().to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let (status, body) = if path == "/v1/messages" {
        // The vendor fails at first.
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            (502, Bytes::from_static(b"{}"))
        } else {
            let text = json!({"content": [{"type": "text", "text": "A \"quiet\" week."}]});
            (200, text.to_string().into())
        }
    } else {
        let request = Request {
            method,
            path,
            query: None,
            headers: HeaderMap::new(),
            body: body.into(),
            caller: Caller {
                scope: "alice".to_owned(),
                reviewer: false,
            },
        };
        let response = ops.handle(&request).unwrap().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn run(script: &str, address: SocketAddr) -> Output {
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .env("HOLDFAST", format!("http://{address}"));
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    running.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_of_the_docs_skips_what_is_done() {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !has("jq") || !has("curl") {
        eprintln!("not run: it needs curl and jq");
        return;
    }
    let docs = include_str!("../../../../docs/runs.md");
    let script = docs
        .split("```bash\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let bench = open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let server = tokio::spawn(serve(listener, bench.ops.clone(), calls.clone()));

    let failed = run(script, address).await;
    assert!(!failed.status.success(), "{failed:?}");
    let runs = bench.ok(get("/v1/runs")).await;
    assert_eq!(runs["runs"][0]["state"], "open");
    let path = format!("/v1/runs/{}", runs["runs"][0]["id"].as_str().unwrap());
    assert_eq!(
        bench.ok(get(&path)).await["missing"],
        json!(["draft", "publish"])
    );
    assert_eq!(
        bench.ok(get(&format!("{path}/steps/draft"))).await["error"],
        "exit 22"
    );

    for _ in 0..2 {
        let done = run(script, address).await;
        assert!(done.status.success(), "{done:?}");
        let told = String::from_utf8(done.stdout).unwrap();
        assert_eq!(told, "\"A \\\"quiet\\\" week.\"\n");
    }
    assert_eq!(
        calls.load(Ordering::SeqCst),
        2,
        "one that failed, and one that did not"
    );
    let whole = bench.ok(get(&path)).await;
    assert_eq!(
        (&whole["state"], &whole["missing"]),
        (&"done".into(), &json!([]))
    );
    server.abort();
    bench.down().await;
}
