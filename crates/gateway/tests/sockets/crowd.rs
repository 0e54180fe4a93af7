//! Many callers at once, each with a whole answer, and nothing left behind.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::rig::{Running, chat, messages, read, send, two_vendors, until, vendor};

/// A thousand, or what the descriptors of this process allow: each call holds four at the most.
fn crowd() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = open.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    soft.map_or(200, |soft| soft.saturating_sub(200) / 5)
        .min(1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_at_once_are_whole_and_leave_nothing() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    // Every fifth call meets a broken first vendor.
    let script = "{\"faults\": [{\"fault\": \"cut-rst:half\", \"share\": 0.2}]}";
    one.set_script(holdfast_sim::Script::parse(script).unwrap())
        .unwrap();
    let more = "defaults: {delivery: whole, breaker: {consecutive: 1000, share: 100%}}";
    let gateway = Arc::new(Running::start(&two_vendors(&one, &two, more)));
    let count = crowd();
    let together = Arc::new(Barrier::new(count));
    let mut callers = JoinSet::new();
    for number in 0..count {
        let (address, together) = (gateway.address, together.clone());
        callers.spawn(async move {
            let question = format!("question {number} [[words:60]]");
            let (path, body) = if number % 2 == 0 {
                ("/v1/messages", messages("claude", true, &question))
            } else {
                ("/v1/chat/completions", chat("gpt", true, &question))
            };
            together.wait().await;
            send(address, http::Method::POST, path, &[], body.to_string()).await
        });
    }
    let mut answers = 0;
    while let Some(answer) = callers.join_next().await {
        answer.unwrap().assert_whole();
        answers += 1;
    }
    assert_eq!(answers, count);
    gateway.at_rest().await;
    for sim in [&one, &two] {
        until("no stream is open", || sim.stats().open_streams == 0).await;
        // Two workers with two providers each keep 64 idle ones at the most.
        until("only idle connections are kept", || {
            sim.stats().open_connections <= 256
        })
        .await;
    }
    assert!(one.stats().faults.contains_key("cut-rst:half"));
    let (outcomes, all) = (gateway.handle.ledger().last(count), ["whole"]);
    assert_eq!(outcomes.len(), count);
    assert!(outcomes.iter().all(|entry| all.contains(&&*entry.outcome)));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_http2_caller_are_whole() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&two_vendors(&one, &two, ""));
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(driver);
    let mut asked = JoinSet::new();
    for number in 0..300 {
        let mut sender = sender.clone();
        asked.spawn(async move {
            let body = messages("claude", true, &format!("question {number}")).to_string();
            let request = Request::post("http://gateway/v1/messages")
                .body(Full::new(Bytes::from(body)))
                .unwrap();
            read(sender.send_request(request).await.unwrap()).await
        });
    }
    while let Some(answer) = asked.join_next().await {
        answer.unwrap().assert_whole();
    }
    drop(sender);
    driver.await.unwrap().unwrap();
    gateway.at_rest().await;
}
