//! A store, a clock that is turned by hand, and a caller's view of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_api::{Body, Caller, Clock, Request, Service as _};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::time::Wall;
use holdfast_ops::{Gates, Ops, Terms};
use holdfast_store::{Options, Place, Store};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// 2026-11-24T02:20:38Z.
pub(crate) const BEGIN: i64 = 1_795_486_838_000;

pub(crate) struct Bench {
    pub(crate) ops: Arc<Ops>,
    pub(crate) store: Store,
    now: Arc<AtomicI64>,
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
    _place: Option<TempDir>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
    pub(crate) text: String,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    request: Request,
}

pub(crate) async fn open() -> Bench {
    open_with(Terms::default()).await
}

/// The watch and the forgetting do nothing by themselves here: tests call them.
pub(crate) async fn open_with(terms: Terms) -> Bench {
    let never = Duration::from_hours(1);
    let terms = Terms {
        check_every: never,
        expire_every: never,
        ..terms
    };
    open_working(terms).await
}

/// Everything works by itself.
pub(crate) async fn open_working(terms: Terms) -> Bench {
    open_gated(Arc::new(()), terms).await
}

/// Steps have gates.
pub(crate) async fn open_gated(gates: Arc<dyn Gates>, terms: Terms) -> Bench {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new(Place::Sqlite(place.path().join("holdfast.db")));
    let store = Store::open(options, Handle::current()).await.unwrap();
    let now = Arc::new(AtomicI64::new(BEGIN));
    let clock: Clock = {
        let now = now.clone();
        Arc::new(move || Wall(now.load(Ordering::SeqCst)))
    };
    let ops = Ops::new(store.clone(), Vec::new(), gates, terms, clock);
    Bench {
        now,
        _place: Some(place),
        ..working(ops, store)
    }
}

/// The service at work, with a clock that the bench does not turn.
pub(crate) fn working(ops: Arc<Ops>, store: Store) -> Bench {
    let (drain, drained) = watch::channel(false);
    let task = tokio::spawn(ops.clone().run(drained));
    Bench {
        ops,
        store,
        now: Arc::new(AtomicI64::new(BEGIN)),
        drain,
        task,
        _place: None,
    }
}

pub(crate) fn ask(method: Method, path: &str, body: &str) -> Asked {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
    Asked {
        request: Request {
            method,
            path: path.to_owned(),
            query,
            headers: HeaderMap::new(),
            body: Bytes::from(body.to_owned()),
            caller: Caller {
                scope: "alice".to_owned(),
                reviewer: false,
            },
        },
    }
}

pub(crate) fn get(path: &str) -> Asked {
    ask(Method::GET, path, "")
}

pub(crate) fn post(path: &str, body: &str) -> Asked {
    ask(Method::POST, path, body)
}

pub(crate) fn put(path: &str, body: &str) -> Asked {
    ask(Method::PUT, path, body)
}

impl Asked {
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    pub(crate) fn by(mut self, scope: &str) -> Self {
        scope.clone_into(&mut self.request.caller.scope);
        self
    }

    pub(crate) fn reviewer(mut self) -> Self {
        self.request.caller.reviewer = true;
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.request
            .headers
            .insert(HeaderName::from_static(name), value);
        self
    }
}

impl Bench {
    pub(crate) fn now(&self) -> Wall {
        Wall(self.now.load(Ordering::SeqCst))
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// `None` = nobody's path.
    pub(crate) async fn try_send(&self, asked: Asked) -> Option<Result<Reply, Fault>> {
        let answer = match self.ops.handle(&asked.request)?.await {
            Ok(answer) => answer,
            Err(fault) => return Some(Err(fault)),
        };
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Some(Ok(Reply {
            status: head.status,
            headers: head.headers,
            json: serde_json::from_slice(&bytes).unwrap_or_default(),
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }))
    }

    pub(crate) async fn send(&self, asked: Asked) -> Reply {
        let shown = format!("{asked:?}");
        let sent = self.try_send(asked).await.expect("the path is served");
        sent.unwrap_or_else(|fault| panic!("{shown}: {fault:?}"))
    }

    pub(crate) async fn ok(&self, asked: Asked) -> Value {
        let reply = self.send(asked).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json
    }

    pub(crate) async fn refused(&self, asked: Asked) -> (Code, String) {
        let shown = format!("{asked:?}");
        match self.try_send(asked).await.expect("the path is served") {
            Ok(reply) => panic!("{shown} was answered: {}", reply.text),
            Err(fault) => (fault.code, fault.message),
        }
    }

    /// The response without reading its body.
    pub(crate) async fn ops_head(&self, asked: Asked) -> http::Response<Body> {
        self.ops.handle(&asked.request).unwrap().await.unwrap()
    }

    /// Waits until no stream of events is being written.
    pub(crate) async fn settled(&self) {
        while self.ops.streams() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// A stream of events.
    pub(crate) async fn stream(&self, asked: Asked) -> Stream {
        let answering = self.ops.handle(&asked.request).unwrap();
        Stream {
            body: answering.await.unwrap().into_body(),
            buffer: String::new(),
        }
    }

    /// The same bench with another service on its store; the first one's tasks go on.
    pub(crate) fn with(self, ops: Arc<Ops>) -> Self {
        Self { ops, ..self }
    }

    /// Says that the gateway goes down, and waits until all tasks have ended.
    pub(crate) async fn down(self) {
        self.drain.send_replace(true);
        self.task.await.unwrap();
        self.store.close().await;
    }

    pub(crate) fn go_down(&self) {
        self.drain.send_replace(true);
    }

    /// How many events there are: whether anything was stored that people care about.
    pub(crate) async fn events(&self) -> Vec<String> {
        let events = self.store.events(0, None, 1000).await.unwrap();
        events.into_iter().map(|event| event.kind).collect()
    }
}

pub(crate) struct Stream {
    body: Body,
    buffer: String,
}

impl Stream {
    /// The next block of lines; `None` = the stream has ended.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                return Some(block);
            }
            let frame = self.body.frame().await?.unwrap();
            let bytes = frame.into_data().unwrap();
            self.buffer.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The next event: its number and its data.
    pub(crate) async fn event(&mut self) -> Option<(i64, Value)> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let lines = block.lines();
                lines.filter_map(|line| line.strip_prefix(name)).next_back()
            };
            if let Some(data) = field("data: ") {
                let id = field("id: ").unwrap().parse().unwrap();
                return Some((id, serde_json::from_str(data).unwrap()));
            }
        }
    }
}
