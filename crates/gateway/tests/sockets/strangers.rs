//! Who is nobody's caller: a vendor's own key, or a gateway that is open without `callers`. Such a one
//! makes its own calls at its own cost, and reaches nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_api::{Answering, Caller, Request, Service};
use holdfast_core::fault::Code;
use holdfast_sim::Sim;
use holdfast_store::{KeptRequest, TicketFilter};
use http::{Method, StatusCode};
use parking_lot::Mutex;

use crate::keyed::{Kept, kept};
use crate::rig::{Answer, Running, messages, parse, send, vendor};

const TEAM: &str = "key-of-the-team-0123";

/// What lies behind the paths beside the model calls; it notes who comes.
#[derive(Default)]
struct Behind {
    came: Mutex<Vec<Caller>>,
}

impl Service for Behind {
    fn handle(&self, request: &Request) -> Option<Answering> {
        self.came.lock().push(request.caller.clone());
        let answer = holdfast_api::json(StatusCode::OK, &serde_json::json!({}));
        Some(Box::pin(std::future::ready(answer)))
    }
}

impl Behind {
    fn mount(gateway: &Running) -> Arc<Self> {
        let behind = Arc::new(Self::default());
        let runtime = tokio::runtime::Handle::current();
        gateway.handle.mount_services(behind.clone(), runtime);
        behind
    }
}

/// The paths by which money is spent, or others' things are seen.
const BESIDE: [(Method, &str); 7] = [
    (Method::POST, "/v1/effects"),
    (Method::GET, "/v1/effects"),
    (Method::POST, "/v1/runs"),
    (Method::PUT, "/v1/runs/r/steps/s"),
    (Method::POST, "/v1/approvals"),
    (Method::GET, "/v1/tickets"),
    (Method::GET, "/v1/events"),
];

/// The first vendor takes its callers' own keys, the second one is paid by the house.
fn with_callers(one: &Sim, two: &Sim) -> String {
    let (one, two) = (one.url(), two.url());
    format!(
        "listen: 127.0.0.1:0
callers: [{{name: team, key: {TEAM}}}]
providers:
  - {{name: own, kind: anthropic, base_url: '{one}', auth: caller, domain: one}}
  - {{name: house, kind: anthropic, base_url: '{two}', key: key-of-two, domain: two}}
routes:
  - {{model: claude, targets: [own, house], attempts_per_target: 1}}
"
    )
}

/// Reached from other machines, and everybody brings a vendor's key along.
fn open(one: &Sim) -> String {
    format!(
        "listen: 0.0.0.0:0
providers: [{{name: own, kind: anthropic, base_url: '{}', auth: caller}}]
routes: [{{model: claude, targets: [own]}}]
",
        one.url()
    )
}

fn near(gateway: &Running) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], gateway.address.port()))
}

async fn keyed(at: SocketAddr, credential: &str, key: &str) -> Answer {
    let headers = [("x-api-key", credential), ("idempotency-key", key)];
    let body = messages("claude", false, "tell me").to_string();
    send(at, Method::POST, "/v1/messages", &headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_key_opens_nothing_but_its_vendor() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let gateway = Running::start(&with_callers(&one, &two));
    let behind = Behind::mount(&gateway);
    for (method, path) in BESIDE {
        for headers in [
            &[][..],
            &[("authorization", "Bearer junk")],
            &[("x-api-key", "junk")],
        ] {
            let answer = send(gateway.address, method.clone(), path, headers, "{}").await;
            answer.assert_fault(401, "HF-005");
        }
    }
    assert!(behind.came.lock().is_empty());
    let team = [("x-api-key", TEAM)];
    let answer = send(gateway.address, Method::POST, "/v1/effects", &team, "{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let came = behind.came.lock().pop().unwrap();
    assert_eq!((came.scope.as_str(), came.reviewer), ("team", false));
}

/// On one person's machine everything is that person's.
#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_without_callers_everybody_is_at_home() {
    let one = vendor("one").await;
    let config = open(&one).replace("0.0.0.0", "127.0.0.1");
    let gateway = Running::start(&config);
    let behind = Behind::mount(&gateway);
    for headers in [&[][..], &[("x-api-key", "callers-own")]] {
        let answer = send(gateway.address, Method::GET, "/v1/tickets", headers, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let came = behind.came.lock().pop().unwrap();
        assert_eq!((came.scope.as_str(), came.reviewer), ("", true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_gateway_without_callers_takes_model_calls_only() {
    let one = vendor("one").await;
    let gateway = Running::start(&open(&one));
    let behind = Behind::mount(&gateway);
    for (method, path) in BESIDE {
        for headers in [&[][..], &[("x-api-key", "callers-own")]] {
            let answer = send(near(&gateway), method.clone(), path, headers, "{}").await;
            answer.assert_fault(403, "HF-006");
            assert!(answer.text.contains("`callers`"), "{answer:?}");
        }
    }
    assert!(behind.came.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_open_gateway_each_credential_has_keys_of_its_own() {
    let one = vendor("one").await;
    let kept = kept(&open(&one)).await;
    let at = near(&kept.gateway);
    let replayed = |answer: &Answer| answer.header("idempotent-replayed") == "true";
    for (credential, again) in [("of-a", false), ("of-b", false), ("of-a", true)] {
        let answer = keyed(at, credential, "k").await;
        answer.assert_whole();
        assert_eq!(replayed(&answer), again, "{credential}");
    }
    assert_eq!(one.requests().len(), 2);
    for (credential, status) in [("of-a", 200), ("of-c", 404)] {
        let headers = [("x-api-key", credential)];
        let answer = send(at, Method::GET, "/v1/calls/k", &headers, "").await;
        assert_eq!(answer.status, status, "{credential}: {answer:?}");
    }
    let nobody = send(at, Method::GET, "/v1/calls/k", &[], "").await;
    nobody.assert_fault(401, "HF-005");
    let headers = [("idempotency-key", "k")];
    let body = messages("claude", false, "tell me").to_string();
    let nobody = send(at, Method::POST, "/v1/messages", &headers, body).await;
    nobody.assert_fault(401, "HF-005");
    assert_eq!(one.requests().len(), 2);
}

/// A file may say `127.0.0.1` where `--listen` or an earlier file said otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_began_open_stays_so_whatever_is_reloaded() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&open(&one)).await;
    let behind = Behind::mount(&kept.gateway);
    let local = format!(
        "listen: 127.0.0.1:0
providers: [{{name: house, kind: anthropic, base_url: '{}', key: key-of-two}}]
routes: [{{model: claude, targets: [house]}}]
",
        two.url()
    );
    kept.gateway.handle.reload(parse(&local)).unwrap();
    let at = near(&kept.gateway);
    keyed(at, "callers-own", "k")
        .await
        .assert_fault(401, "HF-005");
    let tickets = send(at, Method::GET, "/v1/tickets", &[], "").await;
    tickets.assert_fault(403, "HF-006");
    let list = send(at, Method::GET, "/holdfast/exchanges", &[], "").await;
    list.assert_fault(403, "HF-006");
    assert_eq!((two.requests().len(), behind.came.lock().len()), (0, 0));
}

/// The call of `credential` that nobody answered, as it is kept.
async fn failed(kept: &Kept, at: SocketAddr, credential: &str) -> (KeptRequest, String) {
    let failed = keyed(at, credential, "k").await;
    assert!(failed.text.contains("ticket"), "{failed:?}");
    let tickets = kept.store.tickets(&TicketFilter::default()).await.unwrap();
    let ticket = kept.store.ticket(&tickets[0].id).await.unwrap().unwrap();
    let content = ticket.content.unwrap();
    (KeptRequest::from_bytes(&content).unwrap(), ticket.scope)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_call_is_asked_again_at_the_houses_cost() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let kept = kept(&with_callers(&one, &two)).await;
    one.set_fault(&"status:529".parse().unwrap());
    let (request, scope) = failed(&kept, kept.gateway.address, "callers-own").await;
    assert!(scope.starts_with("key:"), "{scope}");
    let handle = &kept.gateway.handle;
    // The stranger, whoever was a caller once, and who was at home before there were callers.
    for scope in [scope.as_str(), "gone", ""] {
        let refused = handle.ask(request.clone(), scope, None).await.unwrap_err();
        assert_eq!(refused.code, Code::Forbidden, "{scope}: {refused:?}");
    }
    assert_eq!(two.requests().len(), 0);
    handle.ask(request.clone(), "team", None).await.unwrap();
    assert_eq!(two.requests().len(), 1);
    // What came from strangers stays theirs, with callers or without.
    let config =
        with_callers(&one, &two).replace(&format!("callers: [{{name: team, key: {TEAM}}}]"), "");
    handle.reload(parse(&config)).unwrap();
    let refused = handle.ask(request.clone(), &scope, None).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden, "{refused:?}");
    handle.ask(request, "", None).await.unwrap();
    assert_eq!(two.requests().len(), 2);
}

/// The credential of whoever asks again is in order: it is told what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_only_its_callers_credential_can_make_says_so() {
    let one = vendor("one").await;
    let config = open(&one).replace("0.0.0.0", "127.0.0.1");
    let kept = kept(&config).await;
    one.set_fault(&"status:529".parse().unwrap());
    let (request, scope) = failed(&kept, kept.gateway.address, "callers-own").await;
    let asked = kept.gateway.handle.ask(request, &scope, None).await;
    let refused = asked.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    assert!(refused.message.contains("was not kept"), "{refused:?}");
}
