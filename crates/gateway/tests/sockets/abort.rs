//! An answer that can't be completed: the dialect's error, then a transport that no client can take
//! for a finished one.

use bytes::Bytes;
use h2::Reason;
use http::Request;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::rig::{Running, chat, messages, raw, raw_post, two_vendors, until, vendor};

/// The vendors cut every stream, so that a shown text can't be completed.
async fn broken() -> (Running, [holdfast_sim::Sim; 2]) {
    let (one, two) = (vendor("one").await, vendor("two").await);
    for sim in [&one, &two] {
        sim.set_fault(&"cut-rst:half".parse().unwrap());
    }
    let config = two_vendors(
        &one,
        &two,
        "defaults: {join: false, attempts_per_target: 1}",
    );
    (Running::start(&config), [one, two])
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_ends_without_the_last_chunk_behind_the_error() {
    let (gateway, _vendors) = broken().await;
    for (path, body, error) in [
        (
            "/v1/messages",
            messages("claude", true, "tell me"),
            "event: error\ndata: ",
        ),
        (
            "/v1/chat/completions",
            chat("gpt", true, "tell me"),
            "data: {\"error\":",
        ),
    ] {
        let mut stream = raw(gateway.address, &raw_post(path, &body.to_string())).await;
        let mut bytes = Vec::new();
        // A reset is as good an end as a close.
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("transfer-encoding: chunked\r\n"), "{text}");
        assert!(text.contains(error), "{text}");
        assert!(text.contains("upstream_incomplete"), "{text}");
        assert!(
            !text.ends_with("0\r\n\r\n"),
            "the last chunk was sent: {text}"
        );
        for forged in [
            "message_stop",
            "[DONE]",
            "\"finish_reason\":\"stop\"",
            "end_turn",
        ] {
            assert!(!text.contains(forged), "{forged} in {text}");
        }
    }
    gateway.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_ends_by_reset_behind_the_error_and_other_streams_go_on() {
    let (gateway, _vendors) = broken().await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let (text, reset) = ask(
        &client,
        "/v1/messages",
        &messages("claude", true, "tell me"),
    )
    .await;
    assert!(text.contains("event: error\ndata: "), "{text}");
    assert!(text.contains("upstream_incomplete"), "{text}");
    assert!(!text.contains("message_stop"), "{text}");
    assert_eq!(reset, Some(Reason::INTERNAL_ERROR));
    // The connection lives, and a plain call on it has an ordinary error with an ordinary end.
    let (text, reset) = ask(
        &client,
        "/v1/messages",
        &messages("claude", false, "tell me"),
    )
    .await;
    assert!(text.contains("upstream_incomplete"), "{text}");
    assert_eq!(reset, None);
    drop(client);
    connection.await.unwrap().unwrap();
    gateway.at_rest().await;
}

/// The body of an answer, and the reason of a reset.
async fn ask(
    client: &h2::client::SendRequest<Bytes>,
    path: &str,
    body: &serde_json::Value,
) -> (String, Option<Reason>) {
    let mut client = client.clone().ready().await.unwrap();
    let request = Request::post(format!("http://gateway{path}"))
        .body(())
        .unwrap();
    let (response, mut sending) = client.send_request(request, false).unwrap();
    sending.send_data(body.to_string().into(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut bytes = Vec::new();
    let mut reset = None;
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(error) => {
                reset = error.reason();
                break;
            }
        }
    }
    (String::from_utf8(bytes).unwrap(), reset)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_stops_the_vendor_at_once() {
    for fault in ["hang-before-headers", "stall:0", "stall:4"] {
        let (one, two) = (vendor("one").await, vendor("two").await);
        one.set_fault(&fault.parse().unwrap());
        let gateway = Running::start(&two_vendors(&one, &two, ""));
        let body = messages("claude", true, "tell me").to_string();
        let stream = raw(gateway.address, &raw_post("/v1/messages", &body)).await;
        until("the vendor works", || one.stats().open_streams == 1).await;
        drop(stream);
        until("the vendor was stopped", || one.stats().open_streams == 0).await;
        until("it is settled", || {
            gateway.handle.ledger().last(1).len() == 1
        })
        .await;
        let entry = &gateway.handle.ledger().last(1)[0];
        assert_eq!(
            (&*entry.outcome, entry.attempts.len()),
            ("caller_gone", 1),
            "{entry:?}"
        );
        assert_eq!(two.stats().calls, 0);
        gateway.at_rest().await;
    }
}

/// The same over HTTP/2, where the connection lives on.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_resets_a_stream_stops_its_vendor_only() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    one.set_fault(&"stall:4".parse().unwrap());
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut begun = Vec::new();
    for _ in 0..2 {
        let mut client = client.clone().ready().await.unwrap();
        let request = Request::post("http://gateway/v1/messages")
            .body(())
            .unwrap();
        let (response, mut sending) = client.send_request(request, false).unwrap();
        let body = messages("claude", true, "tell me").to_string();
        sending.send_data(body.into(), true).unwrap();
        begun.push((response.await.unwrap(), sending));
    }
    until("both are at the vendor", || one.stats().open_streams == 2).await;
    let (_, mut sending) = begun.pop().unwrap();
    sending.send_reset(Reason::CANCEL);
    until("one was stopped", || one.stats().open_streams == 1).await;
    assert_eq!(gateway.handle.in_flight(), 1);
    drop(begun);
    until("both were stopped", || one.stats().open_streams == 0).await;
}
