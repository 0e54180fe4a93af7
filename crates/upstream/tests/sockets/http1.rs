//! HTTP/1.1: when a connection is used again, when it is not, and what is never sent twice.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_upstream::{Error, Pieces, Pool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinSet, spawn_local};

use crate::rig::{
    answer, ask, call, closed, echo, endpoint, listen, pass, piece, read, request, run,
    run_unwatched,
};

#[test]
fn an_idle_connection_is_used_again() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move { echo(listener.accept().await.unwrap().0).await });
        let pool = Pool::new(endpoint(address));
        for text in ["one", "two", "three"] {
            assert_eq!(ask(&pool, text).await, text);
        }
        drop(pool);
        assert_eq!(server.await.unwrap(), 3);
    });
}

#[test]
fn a_whole_address_becomes_a_path_and_a_host() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = request(&mut stream).await.unwrap();
            answer(&mut stream, "ok").await;
            seen
        });
        let whole = http::Request::post("https://vendor.test/v1/messages?beta=true")
            .body(Pieces::new([Bytes::from_static(b"x")]))
            .unwrap();
        let connection = Pool::new(endpoint(address)).connect().await.unwrap();
        connection.send(whole).await.unwrap();
        let head = server.await.unwrap().head;
        assert!(
            head.starts_with("POST /v1/messages?beta=true HTTP/1.1\r\n"),
            "{head}"
        );
        assert_eq!(head.matches("host: vendor.test\r\n").count(), 1, "{head}");
    });
}

#[test]
fn no_more_than_max_idle_connections_are_kept() {
    run(async {
        let (listener, address) = listen().await;
        let open = Rc::new(Cell::new(0));
        let accepted = Rc::new(Cell::new(0));
        let (still_open, all) = (open.clone(), accepted.clone());
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (open, ended) = (still_open.clone(), ended.clone());
                open.set(open.get() + 1);
                all.set(all.get() + 1);
                spawn_local(async move {
                    echo(stream).await;
                    open.set(open.get() - 1);
                    ended.send(()).unwrap();
                });
            }
        });
        let mut endpoint = endpoint(address);
        endpoint.max_idle = 2;
        let pool = Pool::new(endpoint);
        let mut answers = Vec::new();
        for text in ["a", "b", "c", "d", "e"] {
            answers.push(call(&pool, text).await.unwrap().answer);
        }
        assert_eq!(open.get(), 5, "answers that are not read hold theirs");
        for answer in answers {
            read(answer).await.unwrap();
        }
        for _ in 0..3 {
            ends.recv().await.unwrap();
        }
        assert_eq!(open.get(), 2);
        for text in ["f", "g", "h"] {
            assert_eq!(ask(&pool, text).await, text);
        }
        assert_eq!((open.get(), accepted.get()), (2, 5));
    });
}

#[test]
fn a_connection_that_the_server_closed_while_idle_is_no_error() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            request(&mut first).await.unwrap();
            answer(&mut first, "first").await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            request(&mut second).await.unwrap();
            answer(&mut second, "second").await;
            // Nothing else of the call came on another connection.
            closed(&mut second).await
        });
        let pool = Pool::new(endpoint(address));
        assert_eq!(ask(&pool, "x").await, "first");
        assert_eq!(ask(&pool, "x").await, "second");
        drop(pool);
        assert_eq!(server.await.unwrap(), b"");
    });
}

/// A connection that was silent for long may be dead without anybody's having heard of it, and a call
/// on it would wait for nothing.
#[test]
fn a_connection_that_was_idle_for_long_is_not_used_again() {
    run_unwatched(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                request(&mut first).await.unwrap();
                answer(&mut first, "first").await;
            }
            let (mut second, _) = listener.accept().await.unwrap();
            request(&mut second).await.unwrap();
            answer(&mut second, "second").await;
            closed(&mut first).await
        });
        let pool = Pool::new(endpoint(address));
        assert_eq!(ask(&pool, "x").await, "first");
        pass(Duration::from_secs(30)).await;
        assert_eq!(ask(&pool, "x").await, "first");
        pass(Duration::from_secs(61)).await;
        assert_eq!(ask(&pool, "x").await, "second");
        assert_eq!(server.await.unwrap(), b"");
    });
}

/// The server took the request on a kept connection and closed it without a word: it may have done
/// the work, so the pool tells it and leaves the decision to the exchange.
#[test]
fn a_request_that_was_taken_is_never_sent_again() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await.unwrap();
            answer(&mut stream, "first").await;
            let second = request(&mut stream).await.unwrap();
            drop(stream);
            (second, listener)
        });
        let pool = Pool::new(endpoint(address));
        assert_eq!(ask(&pool, "one").await, "first");
        let error = call(&pool, "two").await.unwrap_err();
        assert!(matches!(error, Error::Broken(_)), "{error}");
        let (second, listener) = server.await.unwrap();
        assert_eq!(second.body, b"two");
        let again = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx)));
        assert!(again.await.is_pending(), "no other connection was opened");
    });
}

#[test]
fn an_answer_that_ends_the_connection_is_read_and_the_next_call_opens_another() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            for text in ["one", "two"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                request(&mut stream).await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{text}");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        });
        let pool = Pool::new(endpoint(address));
        assert_eq!(ask(&pool, "x").await, "one");
        assert_eq!(ask(&pool, "x").await, "two");
        server.await.unwrap();
    });
}

#[test]
fn many_at_once_have_a_connection_each() {
    run(async {
        let (listener, address) = listen().await;
        spawn_local(async move {
            // Nobody is answered before all have asked: they can't be sharing.
            let mut asked = Vec::new();
            for _ in 0..20 {
                let (mut stream, _) = listener.accept().await.unwrap();
                request(&mut stream).await.unwrap();
                asked.push(stream);
            }
            for stream in &mut asked {
                answer(stream, "done").await;
            }
            std::future::pending::<()>().await;
        });
        let pool = Pool::new(endpoint(address));
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let pool = pool.clone();
            calls.spawn_local(async move { ask(&pool, "x").await });
        }
        while let Some(text) = calls.join_next().await {
            assert_eq!(text.unwrap(), "done");
        }
    });
}

#[test]
fn an_answer_dropped_in_the_middle_closes_its_connection() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
                .await
                .unwrap();
            closed(&mut stream).await
        });
        let pool = Pool::new(endpoint(address));
        let mut answer = call(&pool, "x").await.unwrap().answer;
        assert_eq!(piece(&mut answer).await.unwrap().unwrap(), "hello");
        assert!(!answer.is_done());
        drop(answer);
        assert_eq!(server.await.unwrap(), b"", "the server sees the end of it");
    });
}

#[test]
fn a_call_dropped_before_its_head_closes_its_connection() {
    run(async {
        let (listener, address) = listen().await;
        let (taken, was_taken) = tokio::sync::oneshot::channel();
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await.unwrap();
            taken.send(()).unwrap();
            closed(&mut stream).await
        });
        let pool = Pool::new(endpoint(address));
        let calling = spawn_local(async move { call(&pool, "x").await.map(drop) });
        was_taken.await.unwrap();
        calling.abort();
        assert!(calling.await.unwrap_err().is_cancelled());
        assert_eq!(server.await.unwrap(), b"");
    });
}

/// A server that takes one request and says this, then waits for the client's close.
async fn say(words: &'static [&'static [u8]]) -> (Pool, tokio::task::JoinHandle<usize>) {
    let (listener, address) = listen().await;
    let server = spawn_local(async move {
        let mut calls = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            while request(&mut stream).await.is_some() {
                calls += 1;
                for word in words {
                    stream.write_all(word).await.unwrap();
                    tokio::task::yield_now().await;
                }
                if calls == 2 {
                    return calls;
                }
            }
        }
    });
    (Pool::new(endpoint(address)), server)
}

#[test]
fn interim_heads_are_passed_over() {
    run(async {
        let (pool, server) = say(&[
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTT",
            b"P/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ])
        .await;
        assert_eq!(ask(&pool, "x").await, "ok");
        assert_eq!(ask(&pool, "x").await, "ok");
        assert_eq!(server.await.unwrap(), 2);
    });
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read() {
    run(async {
        let (pool, _server) = say(&[
            b"H",
            b"TTP/1.1 200 OK",
            b"\r",
            b"\n",
            b"Content-Type: a/b\r\n",
            b"Transfer-Encoding: ",
            b"chunked\r\n\r",
            b"\n",
            b"2",
            b"\r\nok\r\n0\r\n",
            b"\r\n",
        ])
        .await;
        let response = call(&pool, "x").await.unwrap();
        assert_eq!(response.head.content_type.as_deref(), Some("a/b"));
        assert_eq!(read(response.answer).await.unwrap(), "ok");
        assert_eq!(ask(&pool, "x").await, "ok");
    });
}

#[test]
fn a_connection_with_bytes_that_nobody_asked_for_is_not_used_again() {
    run(async {
        // The second answer must never be taken for that to the next call.
        let (pool, server) = say(&[
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
        ])
        .await;
        assert_eq!(ask(&pool, "x").await, "ok");
        assert_eq!(ask(&pool, "x").await, "ok");
        assert_eq!(server.await.unwrap(), 2);
    });
}

fn large(bytes: usize) -> http::Request<Pieces> {
    http::Request::post("/v1/messages")
        .header("host", "vendor.test")
        .body(Pieces::new([Bytes::from(vec![b'a'; bytes])]))
        .unwrap()
}

#[test]
fn an_answer_before_the_whole_request_was_read_is_given() {
    run(async {
        let (listener, address) = listen().await;
        let pool = Pool::new(endpoint(address));
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 1024];
            stream.read_exact(&mut some).await.unwrap();
            let told = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig";
            stream.write_all(told).await.unwrap();
            // The rest of the request is not read until the client is done with it.
            gone.await.unwrap();
            closed(&mut stream).await.len()
        });
        let sent = pool.connect().await.unwrap().send(large(64 << 20)).await;
        let response = sent.unwrap();
        assert_eq!(response.head.status, 413);
        assert_eq!(read(response.answer).await.unwrap(), "big");
        go.send(()).unwrap();
        assert!(server.await.unwrap() < 64 << 20, "it is not sent any more");
    });
}

#[test]
fn a_request_is_written_on_while_its_answer_is_read() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
            stream.write_all(head).await.unwrap();
            let seen = request(&mut stream).await.unwrap();
            stream.write_all(b"k").await.unwrap();
            (seen.body.len(), request(&mut stream).await.is_some())
        });
        let pool = Pool::new(endpoint(address));
        let response = pool
            .connect()
            .await
            .unwrap()
            .send(large(16 << 20))
            .await
            .unwrap();
        assert_eq!(read(response.answer).await.unwrap(), "ok");
        drop(pool);
        assert_eq!(server.await.unwrap(), (16 << 20, false));
    });
}
