//! HTTP/2 in the clear: how calls are spread over connections, and how these end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use holdfast_upstream::{Endpoint, Error, Http2, Pool, Response};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet, spawn_local};

use crate::rig::{endpoint, listen, piece, read, run, run_unwatched};

/// A call as the server has it.
pub(crate) struct Call {
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
    pub(crate) request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

impl Call {
    pub(crate) fn answer(mut self, text: &'static str) {
        let mut body = self
            .respond
            .send_response(http::Response::new(()), false)
            .unwrap();
        body.send_data(Bytes::from_static(text.as_bytes()), true)
            .unwrap();
    }

    /// The head and a first piece; the rest is up to the test.
    fn begin(&mut self, text: &'static str) -> h2::SendStream<Bytes> {
        let mut body = self
            .respond
            .send_response(http::Response::new(()), false)
            .unwrap();
        body.send_data(Bytes::from_static(text.as_bytes()), false)
            .unwrap();
        body
    }
}

pub(crate) enum Order {
    /// Takes no new streams; the running ones go on.
    GoAway,
    /// Closes the socket under everything.
    Drop,
}

/// A server whose calls are answered by the test.
pub(crate) struct Server {
    calls: mpsc::UnboundedReceiver<Call>,
    connections: Rc<RefCell<Vec<Driver>>>,
}

struct Driver {
    orders: mpsc::UnboundedSender<Order>,
    ended: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self::with_limit(listener, 1000)
    }

    /// A server that allows so many streams at once on each connection.
    fn with_limit(listener: TcpListener, streams: u32) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let connections: Rc<RefCell<Vec<Driver>>> = Rc::default();
        let all = connections.clone();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (orders, taken) = mpsc::unbounded_channel();
                let number = all.borrow().len();
                let driver = drive(number, stream, streams, sender.clone(), taken);
                let ended = Some(spawn_local(driver));
                all.borrow_mut().push(Driver { orders, ended });
            }
        });
        Self { calls, connections }
    }

    pub(crate) async fn next(&mut self) -> Call {
        self.calls.recv().await.unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    fn order(&self, connection: usize, order: Order) {
        // One that has ended already needs no order.
        let _ = self.connections.borrow()[connection].orders.send(order);
    }

    async fn ended(&self, connection: usize) {
        let ended = self.connections.borrow_mut()[connection].ended.take();
        ended.unwrap().await.unwrap();
    }
}

/// Serves one connection until the client or an order ends it.
pub(crate) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    connection: usize,
    stream: S,
    streams: u32,
    calls: mpsc::UnboundedSender<Call>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut served = h2::server::Builder::new()
        .max_concurrent_streams(streams)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    loop {
        tokio::select! {
            call = served.accept() => {
                let Some(Ok((request, respond))) = call else { return };
                // A test that has seen enough takes no more calls.
                let _ = calls.send(Call { connection, request, respond });
            }
            Some(order) = orders.recv() => match order {
                Order::GoAway => served.graceful_shutdown(),
                Order::Drop => return,
            },
        }
    }
}

fn h2c(address: std::net::SocketAddr, streams: usize, connections: usize) -> Endpoint {
    Endpoint {
        http2: Http2::PriorKnowledge,
        streams_per_connection: streams,
        max_connections: connections,
        ..endpoint(address)
    }
}

async fn call(pool: &Pool) -> Result<Response, Error> {
    let request = Request::post("http://vendor.test/v1/messages")
        .body(holdfast_upstream::Pieces::new([Bytes::from_static(b"{}")]))
        .unwrap();
    pool.connect().await?.send(request).await
}

async fn ask(pool: Pool) -> String {
    read(call(&pool).await.unwrap().answer).await.unwrap()
}

fn ask_many(pool: &Pool, count: usize) -> JoinSet<String> {
    let mut asked = JoinSet::new();
    for _ in 0..count {
        asked.spawn_local(ask(pool.clone()));
    }
    asked
}

/// How many of these calls came on each connection.
fn spread(calls: &[Call]) -> Vec<usize> {
    let mut counts = Vec::new();
    for call in calls {
        counts.resize(counts.len().max(call.connection + 1), 0);
        counts[call.connection] += 1;
    }
    counts
}

#[test]
fn calls_one_after_another_share_one_connection() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 2, 3));
        for _ in 0..10 {
            let asking = spawn_local(ask(pool.clone()));
            let call = server.next().await;
            assert_eq!(call.connection, 0);
            call.answer("ok");
            assert_eq!(asking.await.unwrap(), "ok");
        }
        assert_eq!(server.connections(), 1);
    });
}

/// Whoever writes the request does not know which protocol it will be; each wants it written otherwise
/// (RFC 9113, 8.3.1).
#[test]
fn a_path_and_a_host_become_the_pseudo_headers() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 2, 3));
        let asking = spawn_local(async move { crate::rig::ask(&pool, "x").await });
        let call = server.next().await;
        let uri = call.request.uri();
        assert_eq!(uri, "http://vendor.test/v1/messages");
        assert!(!call.request.headers().contains_key("host"));
        call.answer("ok");
        assert_eq!(asking.await.unwrap(), "ok");
    });
}

#[test]
fn a_full_connection_makes_the_next_call_open_another() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 2, 3));
        let mut asked = JoinSet::new();
        let mut calls = Vec::new();
        for _ in 0..6 {
            asked.spawn_local(ask(pool.clone()));
            calls.push(server.next().await);
        }
        assert_eq!(spread(&calls), [2, 2, 2]);
        for call in calls {
            call.answer("ok");
        }
        while let Some(text) = asked.join_next().await {
            assert_eq!(text.unwrap(), "ok");
        }
    });
}

/// A burst on a cold pool: nobody may open a connection of their own.
#[test]
fn calls_at_once_open_as_many_connections_as_they_need() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 10, 16));
        let mut asked = ask_many(&pool, 40);
        let mut calls = Vec::new();
        for _ in 0..40 {
            calls.push(server.next().await);
        }
        assert_eq!(spread(&calls), [10, 10, 10, 10]);
        for call in calls {
            call.answer("ok");
        }
        while let Some(text) = asked.join_next().await {
            assert_eq!(text.unwrap(), "ok");
        }
    });
}

/// More calls than all connections take: the rest waits for the server's leave, and all are answered.
#[test]
fn over_the_cap_on_connections_calls_wait_and_proceed() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::with_limit(listener, 2);
        let pool = Pool::new(h2c(address, 2, 2));
        let mut asked = ask_many(&pool, 12);
        let mut calls = Vec::new();
        for _ in 0..4 {
            calls.push(server.next().await);
        }
        assert_eq!(spread(&calls), [2, 2]);
        let mut answered = 0;
        // The oldest first, which are on both connections: each answer makes room on its own.
        let mut calls = VecDeque::from(calls);
        while let Some(call) = calls.pop_front() {
            call.answer("ok");
            answered += 1;
            if answered + calls.len() < 12 {
                calls.push_back(server.next().await);
            }
        }
        assert_eq!((answered, server.connections()), (12, 2));
        while let Some(text) = asked.join_next().await {
            assert_eq!(text.unwrap(), "ok");
        }
    });
}

#[test]
fn the_caps_room_is_given_back_by_every_end() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 1, 8));
        // Read to the end.
        let asking = spawn_local(ask(pool.clone()));
        server.next().await.answer("ok");
        asking.await.unwrap();
        // Dropped in the middle of the body.
        let caller = pool.clone();
        let calling = spawn_local(async move { call(&caller).await.unwrap().answer });
        let mut taken = server.next().await;
        let _body = taken.begin("hel");
        drop(calling.await.unwrap());
        // Dropped before the head.
        let caller = pool.clone();
        let calling = spawn_local(async move { call(&caller).await.map(drop) });
        let _silent = server.next().await;
        calling.abort();
        assert!(calling.await.unwrap_err().is_cancelled());
        // Reset by the server.
        let caller = pool.clone();
        let calling = spawn_local(async move { call(&caller).await.map(drop) });
        let mut taken = server.next().await;
        taken.respond.send_reset(Reason::INTERNAL_ERROR);
        assert!(matches!(calling.await.unwrap(), Err(Error::Broken(_))));
        // Never sent.
        drop(pool.connect().await.unwrap());
        let asking = spawn_local(ask(pool.clone()));
        server.next().await.answer("ok");
        asking.await.unwrap();
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn a_dropped_answer_resets_its_own_stream_only() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 10, 1));
        let caller = pool.clone();
        let calling = spawn_local(async move { call(&caller).await.unwrap().answer });
        let mut dropped = server.next().await;
        let mut body = dropped.begin("dropped");
        let mut answer = calling.await.unwrap();
        let caller = pool.clone();
        let calling = spawn_local(async move { call(&caller).await.unwrap().answer });
        let mut kept = server.next().await;
        let mut kept_body = kept.begin("kept ");
        let kept_answer = calling.await.unwrap();
        assert_eq!(piece(&mut answer).await.unwrap().unwrap(), "dropped");
        drop(answer);
        let reason = std::future::poll_fn(|cx| body.poll_reset(cx))
            .await
            .unwrap();
        assert_eq!(reason, Reason::CANCEL);
        kept_body
            .send_data(Bytes::from_static(b"whole"), true)
            .unwrap();
        assert_eq!(read(kept_answer).await.unwrap(), "kept whole");
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn a_connection_that_went_away_is_replaced_and_its_streams_end_whole() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 10, 1));
        let caller = pool.clone();
        let calling = spawn_local(async move { call(&caller).await.unwrap().answer });
        let mut running = server.next().await;
        let mut body = running.begin("run");
        let answer = calling.await.unwrap();
        server.order(0, Order::GoAway);
        // Not before the notice has come can the pool know; until then a call may still go there.
        let second = loop {
            let asking = spawn_local(ask(pool.clone()));
            let call = server.next().await;
            let connection = call.connection;
            call.answer("ok");
            assert_eq!(asking.await.unwrap(), "ok");
            if connection > 0 {
                break connection;
            }
        };
        assert_eq!(second, 1);
        body.send_data(Bytes::from_static(b"ning"), true).unwrap();
        assert_eq!(read(answer).await.unwrap(), "running");
        server.ended(0).await;
    });
}

#[test]
fn a_connection_that_broke_is_replaced() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 10, 1));
        let caller = pool.clone();
        let calling = spawn_local(async move { call(&caller).await.unwrap().answer });
        let mut running = server.next().await;
        let _body = running.begin("half");
        let mut answer = calling.await.unwrap();
        assert_eq!(piece(&mut answer).await.unwrap().unwrap(), "half");
        server.order(0, Order::Drop);
        server.ended(0).await;
        assert!(read(answer).await.is_err(), "the cut is seen");
        let asking = spawn_local(ask(pool.clone()));
        let call = server.next().await;
        assert_eq!(call.connection, 1);
        call.answer("ok");
        assert_eq!(asking.await.unwrap(), "ok");
    });
}

/// The way to the server is gone and nobody says so: without a question of its own the pool would send
/// every call into it until the system gives up, a quarter of an hour later.
#[test]
fn a_connection_that_fell_silent_is_given_up() {
    run_unwatched(async {
        let (listener, address) = listen().await;
        let (stopped, mut silent) = mpsc::unbounded_channel();
        spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut served = h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = served.accept().await.unwrap().unwrap();
            let body = Bytes::from_static(b"ok");
            respond
                .send_response(http::Response::new(()), false)
                .unwrap()
                .send_data(body, true)
                .unwrap();
            // It reads another request, and then never anything again.
            let _request = served.accept().await.unwrap().unwrap();
            stopped.send(None).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            stopped.send(Some(stream)).unwrap();
            std::future::pending::<()>().await;
        });
        let pool = Pool::new(h2c(address, 10, 1));
        assert_eq!(ask(pool.clone()).await, "ok");
        let caller = pool.clone();
        let lost = spawn_local(async move { call(&caller).await.map(drop) });
        assert!(silent.recv().await.unwrap().is_none());
        // On the paused clock the next timer is the pool's own.
        tokio::time::pause();
        let error = lost.await.unwrap().unwrap_err();
        tokio::time::resume();
        assert!(
            error.to_string().contains("keep-alive timed out"),
            "{error}"
        );
        let _other = pool.connect().await.unwrap();
        assert!(silent.recv().await.unwrap().is_some(), "another connection");
    });
}

#[test]
fn a_stream_that_the_server_resets_is_an_error() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let pool = Pool::new(h2c(address, 10, 1));
        for reason in [
            Reason::INTERNAL_ERROR,
            Reason::CANCEL,
            Reason::REFUSED_STREAM,
        ] {
            let caller = pool.clone();
            let calling = spawn_local(async move { call(&caller).await.unwrap().answer });
            let mut taken = server.next().await;
            let mut body = taken.begin("half");
            let mut answer = calling.await.unwrap();
            assert_eq!(piece(&mut answer).await.unwrap().unwrap(), "half");
            body.send_reset(reason);
            assert!(read(answer).await.is_err(), "{reason}");
        }
        // Servers that answer early end the request's half by NO_ERROR; the answer itself is whole.
        assert_eq!(server.connections(), 1);
    });
}

/// While the first connection is being opened, callers wait for it; when it fails, none of them hangs.
#[test]
fn calls_that_wait_for_a_connection_do_not_hang_when_it_fails() {
    run(async {
        let (listener, address) = listen().await;
        drop(listener);
        let pool = Pool::new(h2c(address, 2, 2));
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let pool = pool.clone();
            calls.spawn_local(async move { call(&pool).await.map(drop) });
        }
        while let Some(ended) = calls.join_next().await {
            assert!(matches!(ended.unwrap(), Err(Error::Connect { .. })));
        }
    });
}

/// Whoever opens the connection may be dropped while others wait for it.
#[test]
fn calls_that_wait_for_a_connection_go_on_when_its_opener_is_dropped() {
    run(async {
        let (listener, address) = listen().await;
        let pool = Pool::new(h2c(address, 10, 1));
        // Nobody accepts yet as an HTTP/2 server, so the opener's future is polled and dropped.
        let mut opener = Box::pin(pool.connect());
        let mut waiter = Box::pin(pool.connect());
        std::future::poll_fn(|cx| {
            assert!(opener.as_mut().poll(cx).is_pending());
            assert!(waiter.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(opener);
        let _server = Server::new(listener);
        waiter.await.unwrap();
    });
}
