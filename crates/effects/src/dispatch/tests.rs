//! A store that fails at the worst moment, and a process that slept too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_core::backoff::Backoff;
use holdfast_core::time::Wall;
use holdfast_store::{
    Effect, EffectEnd, EffectFilter, EffectState, Error, NewEffect, Options, Place, Recorded, Store,
};
use http::{HeaderName, Method};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::effects::{Effects, Limits, Parts};
use crate::failpoint::{AFTER_ANSWER, Failpoint};
use crate::outbox::{Doing, Outbox};
use crate::outgoing::Outgoing;
use crate::submit::Submission;
use crate::system_resolver;
use crate::target::{Http, Kind, Target, Targets};

/// Which calls fail, and how often.
#[derive(Debug, Default)]
struct Faults {
    claim: AtomicUsize,
    finish: AtomicUsize,
    /// It is too large, and stays so.
    too_large: AtomicUsize,
    /// The store can't be read when the claim is confirmed.
    confirm: AtomicUsize,
    /// Another process has taken over when the claim is confirmed.
    stolen: AtomicUsize,
    finished: Mutex<Vec<EffectEnd>>,
}

/// The real store behind them.
struct Flaky {
    store: Store,
    faults: Arc<Faults>,
}

fn takes(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    })
    .is_ok()
}

fn down<T: Send + 'static>() -> Doing<'static, T> {
    Box::pin(async { Err(Error::Unavailable("in this test".to_owned())) })
}

impl Outbox for Flaky {
    fn record(&self, effect: NewEffect) -> Doing<'_, Recorded> {
        self.store.record(effect)
    }

    fn waiting(&self, limit: usize) -> Doing<'_, Vec<(String, Wall)>> {
        self.store.waiting(limit)
    }

    fn claim<'a>(&'a self, target: &'a str, now: Wall, limit: usize) -> Doing<'a, Vec<Effect>> {
        if takes(&self.faults.claim) {
            return down();
        }
        self.store.claim(target, now, limit)
    }

    fn finish<'a>(&'a self, id: &'a str, fence: i64, end: EffectEnd, now: Wall) -> Doing<'a, bool> {
        if takes(&self.faults.finish) {
            return down();
        }
        if takes(&self.faults.too_large) {
            return Box::pin(async { Err(Error::TooLarge { bytes: 2, limit: 1 }) });
        }
        self.faults.finished.lock().push(end.clone());
        self.store.finish(id, fence, end, now)
    }

    fn stranded(&self, limit: usize) -> Doing<'_, Vec<Effect>> {
        self.store.stranded(limit)
    }

    fn cancel<'a>(&'a self, id: &'a str, attempts: i64, now: Wall) -> Doing<'a, Option<Effect>> {
        self.store.cancel(id, attempts, now)
    }

    fn effect<'a>(&'a self, id: &'a str) -> Doing<'a, Option<Effect>> {
        if takes(&self.faults.confirm) {
            return down();
        }
        let is_stolen = takes(&self.faults.stolen);
        Box::pin(async move {
            let mut found = Outbox::effect(&self.store, id).await?;
            if let Some(effect) = found.as_mut().filter(|_| is_stolen) {
                effect.fence += 1;
            }
            Ok(found)
        })
    }

    fn of_key<'a>(&'a self, scope: &'a str, key: &'a str) -> Doing<'a, Option<Effect>> {
        self.store.of_key(scope, key)
    }

    fn effects<'a>(&'a self, filter: &'a EffectFilter) -> Doing<'a, Vec<Effect>> {
        Outbox::effects(&self.store, filter)
    }
}

struct Stage {
    _dir: TempDir,
    effects: Arc<Effects>,
    faults: Arc<Faults>,
    requests: watch::Receiver<usize>,
    drain: watch::Sender<bool>,
}

/// A server that counts requests and answers each with 200.
async fn serve(requests: watch::Sender<usize>, listener: TcpListener) {
    loop {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if tcp.read_buf(&mut head).await.unwrap() == 0 {
                break;
            }
        }
        if !head.is_empty() {
            requests.send_modify(|count| *count += 1);
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let _ = tcp.write_all(answer).await;
    }
}

async fn stage(faults: Faults) -> Stage {
    stage_with(faults, false, Failpoint::default()).await
}

async fn stage_with(faults: Faults, honours_keys: bool, failpoint: Failpoint) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(dir.path().join("holdfast.db"));
    let store = Store::open(Options::new(place), Handle::current())
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = watch::Sender::new(0);
    let counted = requests.subscribe();
    tokio::spawn(serve(requests, listener));
    let faults = Arc::new(faults);
    let outbox = Arc::new(Flaky {
        store: store.clone(),
        faults: faults.clone(),
    });
    let parts = Parts {
        store: store.clone(),
        targets: Targets::new([Target {
            honours_keys,
            ..target(port)
        }]),
        clock: Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            Wall(i64::try_from(since.as_millis()).unwrap())
        }),
        limits: Limits {
            poll: Duration::from_millis(20),
            ..Limits::default()
        },
        verdicts: Arc::new(store),
        failpoint,
        resolve: system_resolver(),
    };
    Stage {
        _dir: dir,
        effects: Arc::new(Effects::with_outbox(parts, outbox)),
        faults,
        requests: counted,
        drain: watch::Sender::new(false),
    }
}

/// One that does not honour keys, so that everything careful applies.
fn target(port: u16) -> Target {
    Target {
        name: "t".to_owned(),
        kind: Kind::Http(Http {
            host: "127.0.0.1".to_owned(),
            port,
            authority: "t".to_owned(),
            tls: None,
            base: String::new(),
            methods: vec![Method::POST],
            paths: Vec::new(),
            key_header: HeaderName::from_static("idempotency-key"),
            headers: Vec::new(),
            allow_headers: Vec::new(),
            sign: None,
        }),
        honours_keys: false,
        allow_private: true,
        timeout: Duration::from_secs(20),
        attempts: 5,
        backoff: Backoff {
            base: Duration::from_millis(1),
            cap: Duration::from_millis(1),
        },
        payload_bytes: 100,
        parallel: 2,
    }
}

fn submission() -> Submission {
    Submission {
        target: "t".to_owned(),
        key: Some("k".to_owned()),
        outgoing: Outgoing {
            method: "POST".to_owned(),
            ..Outgoing::default()
        },
        headers: Vec::new(),
        requires: Vec::new(),
        run: None,
        step: None,
    }
}

impl Stage {
    /// Records one effect and sends until it is over.
    async fn play(&self) -> Effect {
        let (effect, _) = self.effects.record("", submission()).await.unwrap();
        let mut listener = self.effects.bell.listen(&effect.id);
        let run = tokio::spawn(self.effects.clone().run(self.drain.subscribe()));
        let over = loop {
            let found = self.effects.store.effect(&effect.id).await.unwrap();
            let found = found.unwrap();
            if !matches!(found.state, EffectState::Recorded | EffectState::Sending) {
                break found;
            }
            // Turns a hang into a failure; nothing is measured by it.
            let rung = tokio::time::timeout(Duration::from_mins(1), listener.rung());
            rung.await.expect("it hangs");
        };
        self.drain.send_replace(true);
        run.await.unwrap();
        over
    }

    fn requests(&self) -> usize {
        *self.requests.borrow()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cant_be_stored_is_kept_and_nothing_is_sent_again() {
    let stage = stage(Faults {
        finish: AtomicUsize::new(3),
        ..Faults::default()
    })
    .await;
    let effect = stage.play().await;
    assert_eq!((effect.state, stage.requests()), (EffectState::Done, 1));
    assert_eq!(
        (effect.attempts, stage.faults.finished.lock().len()),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_can_never_be_stored_lies_before_a_person() {
    let stage = stage(Faults {
        too_large: AtomicUsize::new(1),
        ..Faults::default()
    })
    .await;
    let effect = stage.play().await;
    assert_eq!((effect.state, stage.requests()), (EffectState::Doubt, 1));
    assert!(effect.error.unwrap().contains("can't be stored"));
    let ticket = stage.effects.store.ticket(&effect.ticket.unwrap()).await;
    assert_eq!(ticket.unwrap().unwrap().subject, effect.id);
}

/// A hole in Holdfast itself, after the request left.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_leaves_no_effect_on_its_way() {
    for (honours_keys, state, requests) in
        [(false, EffectState::Doubt, 1), (true, EffectState::Done, 2)]
    {
        let is_over = AtomicUsize::new(1);
        let failpoint = Failpoint::new(move |place| {
            assert!(place != AFTER_ANSWER || !takes(&is_over), "in this test");
        });
        let stage = stage_with(Faults::default(), honours_keys, failpoint).await;
        let effect = stage.play().await;
        assert_eq!((effect.state, stage.requests()), (state, requests));
        assert_eq!(effect.ticket.is_some(), !honours_keys);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cant_be_claimed_is_not_sent() {
    let stage = stage(Faults {
        claim: AtomicUsize::new(3),
        ..Faults::default()
    })
    .await;
    let effect = stage.play().await;
    assert_eq!((effect.state, stage.requests()), (EffectState::Done, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cant_be_confirmed_sends_nothing_and_is_tried_again() {
    let stage = stage(Faults {
        confirm: AtomicUsize::new(2),
        ..Faults::default()
    })
    .await;
    let effect = stage.play().await;
    assert_eq!((effect.state, stage.requests()), (EffectState::Done, 1));
    assert_eq!(effect.attempts, 3);
}

/// A process that was stopped after its claim wakes up: the effect lies before a person already.
#[tokio::test(flavor = "multi_thread")]
async fn who_slept_past_its_lease_sends_nothing() {
    let stage = stage(Faults {
        stolen: AtomicUsize::new(usize::MAX),
        ..Faults::default()
    })
    .await;
    let effect = stage.play().await;
    assert_eq!((effect.state, stage.requests()), (EffectState::Doubt, 0));
    for end in stage.faults.finished.lock().iter() {
        let error = match end {
            EffectEnd::Retry { error, .. } | EffectEnd::Doubt(_, error) => error,
            EffectEnd::Done(_) | EffectEnd::Failed { .. } => panic!("{end:?}"),
        };
        assert!(error.contains("another process"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_not_kept_when_it_goes_down() {
    use holdfast_api::{Caller, Request, Service as _};
    let stage = stage(Faults {
        claim: AtomicUsize::new(usize::MAX),
        ..Faults::default()
    })
    .await;
    let (effect, _) = stage.effects.record("", submission()).await.unwrap();
    let run = tokio::spawn(stage.effects.clone().run(stage.drain.subscribe()));
    let request = Request {
        method: Method::GET,
        path: format!("/v1/effects/{}", effect.id),
        query: Some("wait=60s".to_owned()),
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::new(),
        caller: Caller {
            scope: String::new(),
            reviewer: true,
        },
    };
    let waiting = crate::EffectsApi(stage.effects.clone()).handle(&request);
    let waiting = tokio::spawn(waiting.unwrap());
    stage.drain.send_replace(true);
    run.await.unwrap();
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(stage.requests(), 0);
}
