//! Vendors over HTTP/2: many calls on few connections, and one call's end is no other's.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::rig::{Running, messages, send, until, vendor};

const BEGIN: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"over HTTP/2"}}

"#;
const END: &str = r#"event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}}

event: message_stop
data: {"type":"message_stop"}

"#;

/// What became of the calls to a vendor.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    calls: AtomicUsize,
    /// Streams that the gateway reset.
    cancelled: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Whole,
    /// Resets the stream in the middle.
    Reset,
    /// Says nothing more in the middle.
    Stall,
}

/// A vendor that speaks HTTP/2 without being asked and has one answer, given in this way.
async fn multiplexed(way: Way) -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let counts = seen.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let counts = counts.clone();
            counts.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut served = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = served.accept().await {
                    assert_eq!(
                        request.uri().authority().unwrap().port_u16(),
                        Some(address.port())
                    );
                    counts.calls.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(play(respond, way, counts.clone()));
                }
            });
        }
    });
    (address, seen)
}

async fn play(mut respond: h2::server::SendResponse<Bytes>, way: Way, counts: Arc<Seen>) {
    let head = Response::builder()
        .header("content-type", "text/event-stream")
        .body(())
        .unwrap();
    let mut body = respond.send_response(head, false).unwrap();
    body.send_data(Bytes::from_static(BEGIN.as_bytes()), false)
        .unwrap();
    match way {
        Way::Whole => body
            .send_data(Bytes::from_static(END.as_bytes()), true)
            .unwrap(),
        Way::Reset => {
            // The first half has left before.
            tokio::task::yield_now().await;
            body.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        Way::Stall => {
            let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
            if reset.is_ok_and(|reason| reason == h2::Reason::CANCEL) {
                counts.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn config(one: SocketAddr, two: &str, more: &str) -> String {
    format!(
        "listen: 127.0.0.1:0
workers: 1
providers:
  - {{name: one, kind: anthropic, base_url: 'http://{one}', key: k, http2: prior-knowledge, connections: {{h2_streams_per_connection: 20, h2_max_connections: 3}}}}
  - {{name: two, kind: anthropic, base_url: '{two}', key: k}}
routes: [{{model: claude, targets: [one, two], delivery: whole, attempts_per_target: 1}}]
{more}
"
    )
}

async fn ask_many(gateway: &Running, count: usize) -> Vec<crate::rig::Answer> {
    let mut asked = JoinSet::new();
    for number in 0..count {
        let address = gateway.address;
        let body = messages("claude", true, &format!("question {number}")).to_string();
        asked.spawn(
            async move { send(address, http::Method::POST, "/v1/messages", &[], body).await },
        );
    }
    asked.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_share_connections_up_to_their_caps() {
    let (one, seen) = multiplexed(Way::Whole).await;
    let two = vendor("two").await;
    let gateway = Running::start(&config(one, &two.url(), ""));
    for answer in ask_many(&gateway, 100).await {
        assert!(answer.cut.is_none(), "{answer:?}");
        assert_eq!(answer.said(), "over HTTP/2");
    }
    assert_eq!(
        (seen.calls.load(Ordering::Relaxed), two.stats().calls),
        (100, 0)
    );
    let connections = seen.connections.load(Ordering::Relaxed);
    assert!((1..=3).contains(&connections), "{connections}");
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_stream_is_a_cut_answer_and_the_next_vendor_is_asked() {
    let (one, seen) = multiplexed(Way::Reset).await;
    let two = vendor("two").await;
    let more = "defaults: {breaker: {consecutive: 1000, share: 100%}}";
    let gateway = Running::start(&config(one, &two.url(), more));
    for answer in ask_many(&gateway, 20).await {
        answer.assert_whole();
    }
    assert_eq!(
        (seen.calls.load(Ordering::Relaxed), two.stats().calls),
        (20, 20)
    );
    let entry = &gateway.handle.ledger().last(1)[0];
    // Whether the head had left before the reset or not: the ledger tells what it was.
    let message = entry.attempts[0].message.as_deref().unwrap();
    assert!(
        message.contains("INTERNAL_ERROR") || message.contains("internal error"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_stream_is_reset_when_the_next_vendor_is_asked() {
    let (one, seen) = multiplexed(Way::Stall).await;
    let two = vendor("two").await;
    let more = "defaults: {timeouts: {idle: 100ms}, breaker: {consecutive: 1000, share: 100%}}";
    let gateway = Running::start(&config(one, &two.url(), more));
    for answer in ask_many(&gateway, 10).await {
        answer.assert_whole();
    }
    until("all were reset", || {
        seen.cancelled.load(Ordering::Relaxed) == 10
    })
    .await;
    assert_eq!(
        seen.connections.load(Ordering::Relaxed),
        1,
        "the connection is not to blame"
    );
    gateway.at_rest().await;
}
