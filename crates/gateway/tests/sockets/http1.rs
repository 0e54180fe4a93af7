//! HTTP/1.1 as callers speak it, byte by byte: what may differ between clients and what must not.

use holdfast_sim::Sim;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Running, messages, raw, raw_post, read_raw, two_vendors, until, vendor};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";

async fn gateway(more: &str) -> (Running, [Sim; 2]) {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let running = Running::start(&two_vendors(&one, &two, more));
    (running, [one, two])
}

/// Reads until what came ends so.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await;
        let text = String::from_utf8_lossy(&bytes);
        bytes.push(byte.unwrap_or_else(|error| panic!("{error} behind {text}")));
    }
    String::from_utf8(bytes).unwrap()
}

fn status_of(text: &str) -> &str {
    text.split(' ').nth(1).unwrap_or_default()
}

/// A call after which another may follow.
fn call(body: &str) -> String {
    raw_post("/v1/messages", body).replacen("Connection: close\r\n", "", 1)
}

/// A call whose body is sent in chunks, as it stands on the wire.
fn chunked(body: &str, connection: &str) -> String {
    let half = body.len() / 2;
    format!(
        "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\nConnection: {connection}\r\n\r\n\
         {half:X};note\r\n{}\r\n{:x}\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n",
        &body[..half],
        body.len() - half,
        &body[half..]
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_one_call_after_the_other() {
    let (gateway, [one, _]) = gateway("").await;
    let body = messages("claude", false, "tell me").to_string();
    let mut stream = raw(gateway.address, "").await;
    for _ in 0..3 {
        stream.write_all(call(&body).as_bytes()).await.unwrap();
        let head = read_to(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\ndate: "), "{head}");
        assert!(!head.contains("connection:"), "{head}");
        let length = head.split_once("content-length: ").unwrap().1;
        let length = length.split_once("\r\n").unwrap().0.parse().unwrap();
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["stop_reason"], "end_turn");
    }
    assert_eq!(one.stats().calls, 3);
    drop(stream);
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_at_once_are_answered_in_turn() {
    let (gateway, [one, _]) = gateway("").await;
    let body = messages("claude", true, "tell me").to_string();
    let all = [
        call(&body).as_str(),
        HEALTH,
        &chunked(&body, "keep-alive"),
        "\r\nGET /nowhere HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    let text = read_raw(raw(gateway.address, &all).await).await;
    let statuses: Vec<_> = text
        .split("HTTP/1.1 ")
        .map(|part| &part[..part.len().min(3)])
        .collect();
    assert_eq!(statuses, ["", "200", "200", "200", "404"], "{text}");
    assert_eq!(text.matches("event: message_stop").count(), 2, "{text}");
    assert_eq!(one.stats().calls, 2);
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_the_same_in_any_pieces() {
    let (gateway, [one, _]) = gateway("").await;
    let body = messages("claude", false, "tell me").to_string();
    for step in [1, 7, 100] {
        let mut stream = raw(gateway.address, "").await;
        stream.set_nodelay(true).unwrap();
        for piece in chunked(&body, "close").as_bytes().chunks(step) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let text = read_raw(stream).await;
        assert_eq!(status_of(&text), "200", "{text}");
        assert!(text.contains("connection: close\r\n"), "{text}");
    }
    for (_, body) in one.requests() {
        let sent: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(sent["messages"][0]["content"], "tell me");
    }
    gateway.at_rest().await;
}

/// Some are read where they are to lie, some through the thread's buffer.
#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_arrive_as_they_were_sent() {
    let (gateway, [one, _]) = gateway("").await;
    let long = (0..60_000)
        .map(|number: u32| number.to_string())
        .collect::<Vec<_>>()
        .join(" ");
    let body = messages("claude", false, &long).to_string();
    let as_chunks = body
        .as_bytes()
        .chunks(100_000)
        .map(|chunk| {
            format!(
                "{:x}\r\n{}\r\n",
                chunk.len(),
                str::from_utf8(chunk).unwrap()
            )
        })
        .collect::<Vec<_>>()
        .concat();
    let head = "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    for request in [
        raw_post("/v1/messages", &body),
        format!("{head}{as_chunks}0\r\n\r\n"),
    ] {
        let text = read_raw(raw(gateway.address, &request).await).await;
        assert_eq!(status_of(&text), "200", "{text}");
    }
    let requests = one.requests();
    assert_eq!(requests.len(), 2);
    for (_, sent) in requests {
        let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
        assert!(sent["messages"][0]["content"] == long);
    }
    // One that breaks off in the middle asks nobody.
    let request = raw_post("/v1/messages", &body);
    let mut stream = raw(gateway.address, &request[..request.len() / 2]).await;
    stream.shutdown().await.unwrap();
    assert_eq!(status_of(&read_raw(stream).await), "400");
    assert_eq!(one.requests().len(), 2);
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_to_be_told_to_go_on_is_told_so_once() {
    let (gateway, _vendors) = gateway("").await;
    let body = messages("claude", false, "tell me").to_string();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = raw(gateway.address, &head).await;
    let interim = read_to(&mut stream, "\r\n\r\n").await;
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let text = read_raw(stream).await;
    assert_eq!(status_of(&text), "200", "{text}");
    // Who did not wait is not told.
    let text = read_raw(raw(gateway.address, &(head + &body)).await).await;
    assert_eq!(status_of(&text), "200", "{text}");
    // Who is refused is not asked for the body first.
    let refused = "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n";
    let text = read_raw(raw(gateway.address, refused).await).await;
    assert_eq!(status_of(&text), "413", "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    gateway.at_rest().await;
}

/// A body that nobody reads is no next request.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_not_read_ends_the_connection_behind_the_answer() {
    let (gateway, _vendors) = gateway("").await;
    let inner = HEALTH.repeat(4);
    let head = format!(
        "POST /nowhere HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n",
        inner.len() + 1
    );
    let text = read_raw(raw(gateway.address, &(head + &inner)).await).await;
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    assert_eq!(status_of(&text), "404", "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    // One that came whole is passed over.
    let head = format!(
        "POST /nowhere HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n",
        inner.len()
    );
    let last = "GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
    let text = read_raw(raw(gateway.address, &(head + &inner + last)).await).await;
    assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{text}");
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_no_body_and_old_clients_have_their_end() {
    let (gateway, _vendors) = gateway("").await;
    let head = "HEAD /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";
    let get = "GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
    let text = read_raw(raw(gateway.address, &[head, get].concat()).await).await;
    let (first, rest) = text.split_once("\r\n\r\n").unwrap();
    let (second, body) = rest.split_once("\r\n\r\n").unwrap();
    assert!(second.starts_with("HTTP/1.1 200"), "{text}");
    let length = format!("content-length: {}", body.len());
    assert!(
        first.contains(&length) && second.contains(&length),
        "{text}"
    );
    // HTTP/1.0 knows no chunks.
    let body = messages("claude", true, "tell me").to_string();
    let old = raw_post("/v1/messages", &body).replacen("HTTP/1.1", "HTTP/1.0", 1);
    let text = read_raw(raw(gateway.address, &old).await).await;
    assert_eq!(status_of(&text), "200", "{text}");
    assert!(!text.contains("transfer-encoding"), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    assert!(
        text.trim_end().ends_with("{\"type\":\"message_stop\"}"),
        "{text}"
    );
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_told_so_in_the_dialect_and_ends_the_connection() {
    let (gateway, [one, two]) = gateway("limits: {header_bytes: 2KiB, headers: 10}").await;
    let chunks = "0\r\n\r\n";
    for (lines, status) in [
        (
            "Content-Length: 2\r\nContent-Length: 3\r\n".to_owned(),
            "400",
        ),
        (
            format!(
                "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
                chunks.len()
            ),
            "400",
        ),
        ("Transfer-Encoding: gzip\r\n".to_owned(), "501"),
        ("A : b\r\n".to_owned(), "400"),
        ("A: b\r\n".repeat(11), "431"),
        (format!("A: {}\r\n", "b".repeat(3000)), "431"),
    ] {
        let request =
            format!("POST /v1/messages HTTP/1.1\r\nHost: gateway\r\n{lines}\r\n{chunks}{HEALTH}");
        let text = read_raw(raw(gateway.address, &request).await).await;
        assert_eq!(text.matches("\r\ndate: ").count(), 1, "{text}");
        assert_eq!(status_of(&text), status, "{lines}: {text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("connection: close"), "{text}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["type"], "error", "{body}");
    }
    let text =
        read_raw(raw(gateway.address, "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03").await).await;
    assert_eq!(status_of(&text), "400", "{text}");
    assert_eq!(one.stats().calls + two.stats().calls, 0);
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_kept_for_its_own_time_and_closed() {
    // Between two requests nobody is slow.
    let (gateway, _vendors) = gateway("limits: {header_timeout: 10ms, idle_timeout: 1h}").await;
    let mut stream = raw(gateway.address, HEALTH).await;
    for _ in 0..3 {
        read_to(&mut stream, "}").await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        stream.write_all(HEALTH.as_bytes()).await.unwrap();
    }
    read_to(&mut stream, "}").await;
    // One that has begun is.
    stream.write_all(b"GET /heal").await.unwrap();
    let text = read_raw(stream).await;
    assert_eq!(status_of(&text), "408", "{text}");
    let (gateway, _vendors) = self::gateway("limits: {idle_timeout: 50ms}").await;
    let text = read_raw(raw(gateway.address, HEALTH).await).await;
    assert_eq!(status_of(&text), "200", "{text}");
    gateway.at_rest().await;
}

/// Half a request behind a whole one is as late as one that comes alone; an empty line is none.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_request_has_its_time_too() {
    let (gateway, _vendors) = gateway("limits: {header_timeout: 50ms, idle_timeout: 1h}").await;
    let text = read_raw(raw(gateway.address, &[HEALTH, "GET /heal"].concat()).await).await;
    let (_, second) = text.rsplit_once("HTTP/1.1 ").unwrap();
    assert!(second.starts_with("408 "), "{text}");
    let mut stream = raw(gateway.address, &[HEALTH, "\r\n"].concat()).await;
    read_to(&mut stream, "}").await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    stream.write_all(HEALTH.as_bytes()).await.unwrap();
    assert_eq!(status_of(&read_to(&mut stream, "}").await), "200");
}

/// A caller that closes while its body is on its way costs nobody anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_asks_no_vendor() {
    let (gateway, [one, two]) = gateway("").await;
    for head in [
        "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nContent-Length: 50\r\n\r\n{\"model\"",
        "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n{\"model\"",
        "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut stream = raw(gateway.address, head).await;
        stream.shutdown().await.unwrap();
        let text = read_raw(stream).await;
        assert_eq!(status_of(&text), "400", "{text}");
        assert!(text.contains("the body broke off"), "{text}");
    }
    assert_eq!(one.stats().calls + two.stats().calls, 0);
    until("it is told", || gateway.handle.in_flight() == 0).await;
    gateway.at_rest().await;
}
