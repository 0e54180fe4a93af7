//! Keyed answers that are more than can be kept: each ends, is told, and leaves no key behind.

use bytes::Bytes;
use holdfast_store::TicketFilter;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::keyed::{LEASE, call, kept, replayed};
use crate::rig::{Running, chat, until, vendor};

/// A vendor that says texts of `piece` bytes and never ends.
async fn endless(piece: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let delta = json!({"content": "x".repeat(piece)});
    let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
    let chunk =
        json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]});
    let event = Bytes::from(format!("data: {chunk}\n\n"));
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let event = event.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                assert_ne!(tcp.read(&mut request).await.unwrap(), 0);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
                tcp.write_all(head.as_bytes()).await.unwrap();
                // Until whoever reads has had enough.
                while tcp.write_all(&event).await.is_ok() {}
            });
        }
    });
    format!("http://{address}")
}

fn config(vendor: &str, more: &str) -> String {
    format!(
        "listen: 127.0.0.1:0
workers: 2
providers: [{{name: v, kind: openai, base_url: '{vendor}', key: key-of-v}}]
defaults: {{attempts_per_target: 1, delivery: live, retry_after: 1ms}}
routes: [{{model: gpt*, targets: [v]}}]
{more}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_what_the_store_takes_is_broken_and_told() {
    let kept = kept(&config(&endless(8 << 20).await, "")).await;
    let at = kept.gateway.address;
    let body = chat("gpt", true, "tell me");
    for round in 1..=2 {
        let answer = call(at, "/v1/chat/completions", "k", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.cut.is_some() && !replayed(&answer));
        let (_, last) = answer.text.rsplit_once("\n\ndata: ").unwrap();
        assert!(last.contains("HF-012"), "{last}");
        assert!(last.contains("over the limit of 67108864 bytes"), "{last}");
        assert!(answer.text.len() < (64 << 20) + 4096);
        // The key is not stuck: a repeat is a new round of the ticket.
        let tickets = kept.store.tickets(&TicketFilter::default()).await.unwrap();
        assert_eq!(tickets.len(), 1, "round {round}");
    }
    kept.gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_buffered_bytes_is_broken_and_told() {
    let limits = "limits: {buffered_bytes: 100KiB, body_bytes: 100KiB, event_bytes: 50KiB, answer_bytes: 50KiB}";
    let kept = kept(&config(&endless(10 << 10).await, limits)).await;
    let at = kept.gateway.address;
    let body = chat("gpt", true, "tell me");
    for _ in 0..2 {
        let answer = call(at, "/v1/chat/completions", "k", &body).await;
        assert!(answer.status == 200 && answer.cut.is_some(), "{answer:?}");
        let (_, last) = answer.text.rsplit_once("\n\ndata: ").unwrap();
        assert!(last.contains("HF-024"), "{last}");
        // What is read together may go over it, but no more than that.
        assert!(answer.text.len() < 400 << 10, "{}", answer.text.len());
    }
    assert_eq!(
        kept.store.tickets(&TicketFilter::default()).await,
        Ok(vec![])
    );
    kept.gateway.at_rest().await;
}

/// A stored answer is held as well, as long as somebody reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_answer_without_room_is_told_and_comes_later() {
    let one = vendor("one").await;
    let kept = kept(&config(&one.url(), "")).await;
    let body = chat("gpt", true, "[[seed:7 words:400]] tell me");
    let first = call(kept.gateway.address, "/v1/chat/completions", "k", &body).await;
    first.assert_whole();
    let small =
        "limits: {buffered_bytes: 2KiB, body_bytes: 2KiB, event_bytes: 1KiB, answer_bytes: 1KiB}";
    let narrow = Running::start(&config(&one.url(), small));
    let books = narrow.handle.mount_store(kept.store.clone(), LEASE);
    tokio::spawn(books);
    let full = call(narrow.address, "/v1/chat/completions", "k", &body).await;
    full.assert_fault(503, "HF-024");
    let again = call(kept.gateway.address, "/v1/chat/completions", "k", &body).await;
    assert!(replayed(&again) && again.text == first.text);
    assert_eq!(one.requests().len(), 1);
}

/// The title of its ticket names the model, and is over what the store takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_can_never_be_stored_leaves_its_key_free() {
    let one = vendor("one").await;
    one.set_fault(&"status:500".parse().unwrap());
    let kept = kept(&config(&one.url(), "")).await;
    let at = kept.gateway.address;
    let body = chat(&format!("gpt-{}", "x".repeat(1 << 20)), false, "tell me");
    for round in 1..=2 {
        let failed = call(at, "/v1/chat/completions", "k", &body).await;
        failed.assert_fault(502, "HF-013");
        assert!(failed.text.contains("no ticket is kept"));
        assert_eq!(one.requests().len(), round);
    }
    until("nothing is under way", || {
        kept.gateway.handle.in_flight() == 0
    })
    .await;
}
