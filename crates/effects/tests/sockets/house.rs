//! A Holdfast as far as effects are concerned: a real SQLite store, the API, and the sender.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use holdfast_api::{Caller, Request, Service as _};
use holdfast_core::backoff::Backoff;
use holdfast_core::fault::Fault;
use holdfast_core::time::Wall;
use holdfast_effects::{
    Effects, EffectsApi, Failpoint, Http, Kind, Limits, Parts, Resolve, Target, Targets,
    system_resolver,
};
use holdfast_store::{Error, Options, Place, Store};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::site::Site;

pub(crate) struct House {
    pub(crate) store: Store,
    pub(crate) effects: Arc<Effects>,
    pub(crate) api: EffectsApi,
    pub(crate) drain: watch::Sender<bool>,
    pub(crate) task: Option<JoinHandle<()>>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Reply {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }
}

pub(crate) fn dir() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holdfast.db");
    (dir, path)
}

pub(crate) fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Wall(i64::try_from(since.as_millis()).unwrap())
}

/// A target at `site`.
pub(crate) fn target(name: &str, site: &Site, honours_keys: bool) -> Target {
    at(name, "127.0.0.1", site.address.port(), honours_keys)
}

pub(crate) fn at(name: &str, host: &str, port: u16, honours_keys: bool) -> Target {
    Target {
        name: name.to_owned(),
        kind: Kind::Http(Http {
            host: host.to_owned(),
            port,
            authority: format!("target.example:{port}"),
            tls: None,
            base: "/base".to_owned(),
            methods: vec![Method::POST, Method::PUT],
            paths: vec!["/v1/*".to_owned()],
            key_header: HeaderName::from_static("idempotency-key"),
            headers: vec![(
                HeaderName::from_static("authorization"),
                HeaderValue::from_static("Bearer of-the-target"),
            )],
            allow_headers: vec![
                HeaderName::from_static("x-tenant"),
                HeaderName::from_static("content-type"),
            ],
            sign: None,
        }),
        honours_keys,
        allow_private: true,
        timeout: Duration::from_secs(20),
        attempts: 3,
        backoff: Backoff {
            base: Duration::from_millis(1),
            cap: Duration::from_millis(4),
        },
        payload_bytes: 1000,
        parallel: 8,
    }
}

/// Opens the store. One that has just died may hold the file a moment longer.
pub(crate) async fn open(path: &Path) -> Store {
    for _ in 0..1000 {
        let place = Place::Sqlite(path.to_owned());
        match Store::open(Options::new(place), Handle::current()).await {
            Err(Error::Locked(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the store stays locked");
}

impl House {
    pub(crate) async fn open(path: &Path, targets: impl IntoIterator<Item = Target>) -> Self {
        let mut house = Self::with(path, targets, Failpoint::default(), system_resolver()).await;
        house.begin();
        house
    }

    /// The sender does not run yet.
    pub(crate) async fn with(
        path: &Path,
        targets: impl IntoIterator<Item = Target>,
        failpoint: Failpoint,
        resolve: Resolve,
    ) -> Self {
        Self::on(open(path).await, targets, failpoint, resolve)
    }

    pub(crate) fn on(
        store: Store,
        targets: impl IntoIterator<Item = Target>,
        failpoint: Failpoint,
        resolve: Resolve,
    ) -> Self {
        let effects = Effects::new(Parts {
            store: store.clone(),
            targets: Targets::new(targets),
            clock: Arc::new(now),
            limits: Limits {
                poll: Duration::from_millis(50),
                ..Limits::default()
            },
            verdicts: Arc::new(store.clone()),
            failpoint,
            resolve,
        });
        Self {
            store,
            api: EffectsApi(effects.clone()),
            effects,
            drain: watch::Sender::new(false),
            task: None,
        }
    }

    pub(crate) fn begin(&mut self) {
        let run = self.effects.clone().run(self.drain.subscribe());
        self.task = Some(tokio::spawn(run));
    }

    /// As if the process died: nothing is told to anybody.
    pub(crate) async fn die(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Reply, Fault> {
        self.ask_as("", method, path, headers, body).await
    }

    pub(crate) async fn ask_as(
        &self,
        scope: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Reply, Fault> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let request = Request {
            method,
            path: path.to_owned(),
            query: Some(query.to_owned()),
            headers: map,
            body: Bytes::from(body.to_owned()),
            caller: Caller {
                scope: scope.to_owned(),
                reviewer: scope.is_empty(),
            },
        };
        let response = self.api.handle(&request).expect("one of its paths").await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            json: serde_json::from_slice(&body).unwrap(),
        })
    }

    pub(crate) async fn post(&self, body: &str) -> Result<Reply, Fault> {
        self.ask(Method::POST, "/v1/effects", &[], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Reply, Fault> {
        self.ask(Method::GET, path, &[], "").await
    }
}
