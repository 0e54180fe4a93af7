//! A real store in a directory of its own, a clock that the test turns, and vendors that say what they
//! are told to.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_api::{Caller, Request, Service as _};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::time::Wall;
use holdfast_review::{Ask, Asking, Review, Terms};
use holdfast_store::{
    Claimed, KeptRequest, KeyId, NewClaim, NewTicket, Options, Place, RetryPolicy, Seal, Store,
    StoredAnswer, TicketKind,
};
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) const START: i64 = 1_700_000_000_000;
pub(crate) const WEEK: Duration = Duration::from_hours(168);

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) body: String,
    pub(crate) scope: String,
    pub(crate) target: Option<String>,
    pub(crate) at: Instant,
}

/// Vendors by script.
#[derive(Debug)]
pub(crate) struct Vendors {
    pub(crate) asked: Mutex<Vec<Asked>>,
    /// What comes next; when it is used up, every call is answered.
    pub(crate) script: Mutex<VecDeque<Result<StoredAnswer, Fault>>>,
    pub(crate) down: Mutex<BTreeSet<String>>,
    /// What the gate says of answers by hand.
    pub(crate) complaint: Mutex<Option<String>>,
    pub(crate) checked: Mutex<Vec<Vec<u8>>>,
    /// Calls end when there is a permit for them.
    pub(crate) permits: Semaphore,
    pub(crate) begun: Semaphore,
}

impl Vendors {
    fn new() -> Self {
        Self {
            asked: Mutex::default(),
            script: Mutex::default(),
            down: Mutex::default(),
            complaint: Mutex::default(),
            checked: Mutex::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            begun: Semaphore::new(0),
        }
    }

    pub(crate) fn say(&self, answer: Result<StoredAnswer, Fault>) {
        self.script.lock().push_back(answer);
    }

    pub(crate) fn fail(&self) {
        self.say(Err(Fault::new(Code::UpstreamUnavailable, "all are down")));
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// From now on calls end one by one, as permits are added.
    pub(crate) fn hold(&self) {
        self.permits.forget_permits(Semaphore::MAX_PERMITS);
    }
}

/// The vendors behind the trait.
struct Gateway(Arc<Vendors>);

impl Ask for Gateway {
    fn ask(&self, request: KeptRequest, scope: &str, target: Option<&str>) -> Asking {
        let vendors = self.0.clone();
        vendors.asked.lock().push(Asked {
            body: String::from_utf8(request.body).unwrap(),
            scope: scope.to_owned(),
            target: target.map(str::to_owned),
            at: Instant::now(),
        });
        vendors.begun.add_permits(1);
        Box::pin(async move {
            vendors.permits.acquire().await.unwrap().forget();
            let next = vendors.script.lock().pop_front();
            next.unwrap_or_else(|| Ok(answer("asked")))
        })
    }

    fn is_route_healthy(&self, model: &str) -> bool {
        !self.0.down.lock().contains(model)
    }

    fn check_answer(&self, _kept: &KeptRequest, body: &[u8]) -> Result<(), String> {
        self.0.checked.lock().push(body.to_vec());
        self.0.complaint.lock().clone().map_or(Ok(()), Err)
    }
}

pub(crate) fn answer(exchange: &str) -> StoredAnswer {
    StoredAnswer {
        exchange: exchange.to_owned(),
        outcome: "whole".to_owned(),
        status: 200,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: br#"{"said":"asked"}"#.to_vec(),
    }
}

pub(crate) struct Stage {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
    pub(crate) review: Review,
    pub(crate) vendors: Arc<Vendors>,
    pub(crate) now: Arc<AtomicI64>,
}

/// A caller that sees what is its own.
pub(crate) fn caller(scope: &str) -> Caller {
    Caller {
        scope: scope.to_owned(),
        reviewer: false,
    }
}

pub(crate) fn reviewer(scope: &str) -> Caller {
    Caller {
        scope: scope.to_owned(),
        reviewer: true,
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(Terms::default(), None).await
    }

    pub(crate) async fn with(terms: Terms, seal: Option<Seal>) -> Self {
        Self::on(tokio::runtime::Handle::current(), terms, seal).await
    }

    /// With a store that works on a runtime of its own.
    pub(crate) async fn on(
        runtime: tokio::runtime::Handle,
        terms: Terms,
        seal: Option<Seal>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(Place::Sqlite(dir.path().join("holdfast.db")));
        options.seal = seal;
        let store = Store::open(options, runtime).await.unwrap();
        let now = Arc::new(AtomicI64::new(START));
        let vendors = Arc::new(Vendors::new());
        let clock = {
            let now = now.clone();
            Arc::new(move || Wall(now.load(Ordering::SeqCst)))
        };
        let ask = Arc::new(Gateway(vendors.clone()));
        let review = Review::new(store.clone(), ask, terms, clock);
        Self {
            dir,
            store,
            review,
            vendors,
            now,
        }
    }

    pub(crate) fn wall(&self) -> Wall {
        Wall(self.now.load(Ordering::SeqCst))
    }

    pub(crate) fn turn(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        self.now.fetch_add(by, Ordering::SeqCst);
    }

    /// Asks the service; a fault is its status, code and message.
    pub(crate) async fn call(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Request {
            method,
            path: path.to_owned(),
            query: Some(query.to_owned()),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            caller: caller.clone(),
        };
        match self.review.handle(&request).unwrap().await {
            Ok(response) => {
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                (status, serde_json::from_slice(&body).unwrap())
            }
            Err(fault) => (
                fault.status,
                json!({"code": fault.code.number(), "message": fault.message}),
            ),
        }
    }

    pub(crate) async fn get(&self, caller: &Caller, path: &str) -> (u16, Value) {
        self.call(caller, Method::GET, path, "").await
    }

    pub(crate) async fn post(
        &self,
        caller: &Caller,
        id: &str,
        verb: &str,
        body: Value,
    ) -> (u16, Value) {
        let path = format!("/v1/tickets/{id}/{verb}");
        self.call(caller, Method::POST, &path, &body.to_string())
            .await
    }

    /// A keyed call of `ann` that every target failed.
    pub(crate) async fn failed_call(&self, key: &str, policy: RetryPolicy) -> String {
        let ticket = NewTicket {
            policy,
            ..self.ticket(key, "claude", false)
        };
        let fence = match self.store.claim_key(self.claim(key)).await.unwrap() {
            Claimed::Fresh { fence } => fence,
            other => panic!("{other:?}"),
        };
        let expires = self.wall() + WEEK;
        let id = key_id(key);
        let ticket = self
            .store
            .ticket_key(&id, fence, ticket, expires)
            .await
            .unwrap();
        ticket.unwrap()
    }

    pub(crate) fn claim(&self, key: &str) -> NewClaim {
        NewClaim {
            id: key_id(key),
            fingerprint: [7; 32],
            exchange: format!("exchange-{key}"),
            request: None,
            run: None,
            step: None,
            now: self.wall(),
            expires: self.wall() + WEEK,
        }
    }

    pub(crate) fn ticket(&self, subject: &str, route: &str, stream: bool) -> NewTicket {
        NewTicket {
            kind: TicketKind::Call,
            scope: "ann".to_owned(),
            subject: format!("exchange-{subject}"),
            key: Some(key_id(subject)),
            run: Some("run-1".to_owned()),
            step: Some("draft".to_owned()),
            route: Some(route.to_owned()),
            title: format!("{route}: every target failed"),
            facts: json!({"code": "HF-013", "exchange": {"attempts": [{"verdict": "broken"}]}}),
            content: Some(kept(subject, route, stream).to_bytes()),
            policy: RetryPolicy::OnRepeat,
            not_before: self.wall(),
            expires: self.wall() + WEEK,
            now: self.wall(),
        }
    }

    /// What a repeat of the call would get.
    pub(crate) async fn repeat(&self, key: &str) -> Claimed {
        self.store.claim_key(self.claim(key)).await.unwrap()
    }
}

pub(crate) fn key_id(key: &str) -> KeyId {
    KeyId {
        scope: "ann".to_owned(),
        key: key.to_owned(),
    }
}

pub(crate) fn kept(prompt: &str, route: &str, stream: bool) -> KeptRequest {
    let body = json!({
        "model": route, "max_tokens": 9, "stream": stream,
        "messages": [{"role": "user", "content": prompt}],
    });
    KeptRequest {
        path: "/v1/messages".to_owned(),
        dialect: "anthropic".to_owned(),
        route: route.to_owned(),
        stream,
        delivery: "whole".to_owned(),
        query: None,
        headers: vec![("anthropic-version".to_owned(), "2023-06-01".to_owned())],
        body: body.to_string().into_bytes(),
        ..KeptRequest::default()
    }
}
