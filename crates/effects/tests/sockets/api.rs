//! `/v1/effects` as callers use and misuse it.

use std::time::Duration;

use holdfast_core::fault::Code;
use holdfast_core::time::Wall;
use holdfast_effects::{Failpoint, Kind, system_resolver};
use holdfast_store::{BookedExchange, Retention};
use http::Method;

use crate::house::{House, dir, now, target};
use crate::site::{Play, Site};

const EFFECT: &str = r#"{"target":"t","path":"/v1/a","payload":{"a":1},"key":"k"}"#;

/// Bodies, what they are refused with, and a word of the message.
fn bad_bodies() -> Vec<(String, Code, &'static str)> {
    let long = "x".repeat(1001);
    let key = "k".repeat(256);
    vec![
        ("{".to_owned(), Code::InvalidRequest, "body"),
        ("[]".to_owned(), Code::InvalidRequest, "body"),
        ("{}".to_owned(), Code::InvalidRequest, "target"),
        (
            r#"{"target":"u"}"#.to_owned(),
            Code::InvalidRequest,
            "no effect target `u`",
        ),
        (
            r#"{"target":"http://127.0.0.1/"}"#.to_owned(),
            Code::InvalidRequest,
            "no effect target",
        ),
        (
            r#"{"target":"t","url":"http://x"}"#.to_owned(),
            Code::InvalidRequest,
            "url",
        ),
        (
            r#"{"target":"t"}"#.to_owned(),
            Code::InvalidRequest,
            "needs a `path`",
        ),
        (
            r#"{"target":"exact","path":"/v1/a"}"#.to_owned(),
            Code::InvalidRequest,
            "does not allow the path",
        ),
        (
            r#"{"target":"t","path":"/admin"}"#.to_owned(),
            Code::InvalidRequest,
            "does not allow the path",
        ),
        (
            r#"{"target":"t","path":"/v1/../admin"}"#.to_owned(),
            Code::InvalidRequest,
            "`path`",
        ),
        (
            r#"{"target":"t","path":"/v1/%2e%2e/admin"}"#.to_owned(),
            Code::InvalidRequest,
            "`path`",
        ),
        (
            r#"{"target":"t","path":"/v1/a","method":"DELETE"}"#.to_owned(),
            Code::InvalidRequest,
            "method",
        ),
        (
            r#"{"target":"t","path":"/v1/a","headers":{"authorization":"mine"}}"#.to_owned(),
            Code::InvalidRequest,
            "authorization",
        ),
        (
            r#"{"target":"t","path":"/v1/a","headers":{"idempotency-key":"x"}}"#.to_owned(),
            Code::InvalidRequest,
            "idempotency-key",
        ),
        (
            r#"{"target":"t","path":"/v1/a","headers":{"x-tenant":"a\r\nhost: b"}}"#.to_owned(),
            Code::InvalidRequest,
            "x-tenant",
        ),
        (
            r#"{"target":"t","path":"/v1/a","headers":{"x-tenant":"a","X-Tenant":"b"}}"#.to_owned(),
            Code::InvalidRequest,
            "same name",
        ),
        (
            format!(r#"{{"target":"t","path":"/v1/a","payload":"{long}"}}"#),
            Code::BodyTooLarge,
            "1001",
        ),
        (
            format!(r#"{{"target":"t","path":"/v1/a","key":"{key}"}}"#),
            Code::KeyInvalid,
            "256",
        ),
        (
            r#"{"target":"t","path":"/v1/a","key":""}"#.to_owned(),
            Code::KeyInvalid,
            "empty",
        ),
        (
            r#"{"target":"t","path":"/v1/a","key":"a\u0000b"}"#.to_owned(),
            Code::KeyInvalid,
            "control",
        ),
        (
            r#"{"target":"t","path":"/v1/a","requires":["../x"]}"#.to_owned(),
            Code::InvalidRequest,
            "requires",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_and_nothing_is_kept() {
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let mut exact = target("exact", &site, true);
    let Kind::Http(http) = &mut exact.kind else {
        unreachable!()
    };
    http.paths.clear();
    let house = House::open(&path, [target("t", &site, true), exact]).await;
    for (body, code, word) in bad_bodies() {
        let fault = house.post(&body).await.unwrap_err();
        assert_eq!(fault.code, code, "{body}: {}", fault.message);
        assert!(fault.message.contains(word), "{body}: {}", fault.message);
    }
    let two = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let fault = house
        .ask(Method::POST, "/v1/effects", &two, EFFECT)
        .await
        .unwrap_err();
    assert_eq!(fault.code, Code::KeyInvalid);
    let other = [("idempotency-key", "other")];
    let fault = house
        .ask(Method::POST, "/v1/effects", &other, EFFECT)
        .await
        .unwrap_err();
    assert_eq!(fault.code, Code::KeyInvalid);
    for path in ["/v1/effects?limit=0", "/v1/effects?state=lost"] {
        assert_eq!(
            house.get(path).await.unwrap_err().code,
            Code::InvalidRequest
        );
    }
    let fault = house.ask(Method::PUT, "/v1/effects", &[], "").await;
    assert_eq!(fault.unwrap_err().code, Code::MethodNotAllowed);
    let list = house.get("/v1/effects").await.unwrap();
    assert_eq!(list.json["effects"].as_array().unwrap().len(), 0);
    assert_eq!(site.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_result_and_another_body_is_refused() {
    let site = Site::start([Play::Answer(201, r#"{"n":1}"#)]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [target("t", &site, false)]).await;
    let first = house.post(EFFECT).await.unwrap();
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let header = [("idempotency-key", "\"k\"")];
    let keyless = EFFECT.replace(r#","key":"k""#, "");
    let again = house
        .ask(Method::POST, "/v1/effects", &header, &keyless)
        .await
        .unwrap();
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.json, first.json);
    for (from, to) in [
        (r#""a":1"#, r#""a":2"#),
        ("/v1/a", "/v1/b"),
        (r#""payload""#, r#""method":"PUT","payload""#),
        (r#""payload""#, r#""headers":{"x-tenant":"1"},"payload""#),
    ] {
        let fault = house.post(&EFFECT.replace(from, to)).await.unwrap_err();
        assert_eq!((fault.code, fault.status), (Code::KeyReused, 422), "{to}");
    }
    assert_eq!(site.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_are_one() {
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [target("t", &site, false)]).await;
    let calls = (0..20).map(|_| house.post(EFFECT));
    let mut ids = Vec::new();
    for call in futures(calls).await {
        let reply = call.unwrap();
        assert_eq!(reply.text("state"), "done");
        ids.push(reply.text("id").to_owned());
    }
    ids.dedup();
    assert_eq!((ids.len(), site.count()), (1, 1));
}

/// All at once, in one task.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(move |cx| {
        let mut is_ready = true;
        for (one, output) in &mut pending {
            if output.is_none() {
                match one.as_mut().poll(cx) {
                    std::task::Poll::Ready(found) => *output = Some(found),
                    std::task::Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready {
            let outputs = pending.iter_mut().filter_map(|(_, output)| output.take());
            std::task::Poll::Ready(outputs.collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_another_callers_is_not_there() {
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [target("t", &site, true)]).await;
    let ask = |scope: &'static str, method: Method, path: String, body: &'static str| {
        let house = &house;
        async move { house.ask_as(scope, method, &path, &[], body).await }
    };
    let effects = "/v1/effects".to_owned();
    let mine = ask("a", Method::POST, effects.clone(), EFFECT)
        .await
        .unwrap();
    let theirs = ask("b", Method::POST, effects.clone(), EFFECT)
        .await
        .unwrap();
    assert_ne!(mine.text("id"), theirs.text("id"));
    // Two callers with one key are two effects, also for a target that honours keys.
    let keys: Vec<_> = site
        .seen()
        .iter()
        .map(|seen| seen.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["a:k", "b:k"]);
    let place = format!("/v1/effects/{}", mine.text("id"));
    let fault = ask("b", Method::GET, place.clone(), "").await.unwrap_err();
    assert_eq!((fault.code, fault.status), (Code::NotFound, 404));
    let fault = ask("b", Method::POST, format!("{place}/cancel"), "")
        .await
        .unwrap_err();
    assert_eq!(fault.status, 404);
    let list = ask("b", Method::GET, effects.clone(), "").await.unwrap();
    assert_eq!(list.json["effects"].as_array().unwrap().len(), 1);
    let list = ask("b", Method::GET, format!("{effects}?scope=a"), "")
        .await
        .unwrap();
    assert_eq!(list.json["effects"].as_array().unwrap().len(), 0);
    let list = ask("", Method::GET, effects, "").await.unwrap();
    assert_eq!(list.json["effects"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_means_that_nothing_is_sent() {
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [target("t", &site, true)]).await;
    house.store.close().await;
    let fault = house.post(EFFECT).await.unwrap_err();
    assert_eq!((fault.code, fault.status), (Code::StoreUnavailable, 503));
    assert_eq!(site.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_requires_must_have_been_whole() {
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [target("t", &site, true)]).await;
    let booked = |id: &str, scope: &str, outcome: &str| BookedExchange {
        id: id.to_owned(),
        at: now(),
        scope: scope.to_owned(),
        route: "r".to_owned(),
        run: None,
        step: None,
        outcome: outcome.to_owned(),
        json: "{}".to_owned(),
    };
    let exchanges = vec![
        booked("w", "", "whole"),
        booked("t", "", "tools"),
        booked("b", "", "incomplete"),
        booked("f", "other", "whole"),
    ];
    house.store.book(exchanges).await.unwrap();
    for (requires, word) in [
        (r#"["w","b"]"#, Some("`incomplete`")),
        (r#"["f"]"#, Some("no exchange `f`")),
        (r#"["nothing"]"#, Some("no exchange")),
        (r#"["w","t"]"#, None),
    ] {
        let body = format!(r#"{{"target":"t","path":"/v1/a","requires":{requires}}}"#);
        match (house.post(&body).await, word) {
            (Ok(reply), None) => assert_eq!(reply.text("state"), "done"),
            (Err(fault), Some(word)) => {
                assert_eq!((fault.code, fault.status), (Code::RequirementUnmet, 424));
                assert!(fault.message.contains(word), "{}", fault.message);
                assert_eq!(site.count(), 0);
            }
            (other, _) => panic!("{requires}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_not_judged_again_by_a_ledger_that_forgot() {
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [target("t", &site, true)]).await;
    // Of the year 1970.
    let begun = format!("{:032x}", 7);
    let booked = BookedExchange {
        id: begun.clone(),
        at: Wall(0),
        scope: String::new(),
        route: "r".to_owned(),
        run: None,
        step: None,
        outcome: "whole".to_owned(),
        json: "{}".to_owned(),
    };
    house.store.book(vec![booked]).await.unwrap();
    let body = |path: &str| {
        format!(r#"{{"target":"t","path":"/v1/{path}","key":"k","requires":["{begun}"]}}"#)
    };
    let first = house.post(&body("a")).await.unwrap();
    let retention = Retention::default();
    house.store.expire(now(), &retention, 100).await.unwrap();
    assert_eq!(house.store.exchange(&begun).await, Ok(None));
    let again = house.post(&body("a")).await.unwrap();
    assert_eq!(first.text("id"), again.text("id"));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    // Another effect is another matter.
    let fault = house.post(&body("b")).await.unwrap_err();
    assert_eq!(fault.code, Code::RequirementUnmet);
    assert_eq!(site.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_holds_up_no_other() {
    let hanging = Site::start([Play::Hang, Play::Hang, Play::Hang]).await;
    let quick = Site::start([]).await;
    let (_dir, path) = dir();
    let mut slow = target("slow", &hanging, true);
    slow.parallel = 2;
    let house = House::open(&path, [slow, target("quick", &quick, true)]).await;
    for at in 0..100 {
        let body = format!(r#"{{"target":"slow","path":"/v1/{at}"}}"#);
        let recorded = house.ask(Method::POST, "/v1/effects?wait=0s", &[], &body);
        assert_eq!(recorded.await.unwrap().status, 202);
    }
    hanging.reached(2).await;
    let reply = house.post(r#"{"target":"quick","path":"/v1/a"}"#).await;
    assert_eq!(reply.unwrap().text("state"), "done");
    assert_eq!(hanging.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_made_by_its_first_effect_and_gives_it_a_key() {
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [target("t", &site, true)]).await;
    let body = r#"{"target":"t","path":"/v1/a"}"#;
    let step = [("holdfast-run", "night"), ("holdfast-step", "pay")];
    let ask = |headers: [(&'static str, &'static str); 2]| {
        let house = &house;
        async move {
            let reply = house.ask(Method::POST, "/v1/effects", &headers, body).await;
            reply.unwrap()
        }
    };
    let first = ask(step).await;
    let again = ask(step).await;
    assert_eq!(first.text("id"), again.text("id"));
    assert_eq!(first.text("key"), "night/pay/t");
    let other = ask([("holdfast-run", "night"), ("holdfast-step", "mail")]).await;
    assert_ne!(first.text("id"), other.text("id"));
    let run = house.store.run("", "night").await.unwrap();
    assert!(run.is_some());
    let list = house.get("/v1/effects?run=night").await.unwrap();
    assert_eq!(list.json["effects"].as_array().unwrap().len(), 2);
    // Without a key and a run, each call is an effect of its own.
    let one = house.post(body).await.unwrap();
    let two = house.post(body).await.unwrap();
    assert_ne!(one.text("id"), two.text("id"));
    assert_eq!(site.count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_may_have_happened_is_not_cancelled() {
    let site = Site::start([Play::Close]).await;
    let (_dir, path) = dir();
    let mut slow = target("t", &site, true);
    slow.backoff.base = Duration::from_hours(1);
    slow.backoff.cap = Duration::from_hours(1);
    let house = House::open(&path, [slow]).await;
    let reply = house
        .ask(Method::POST, "/v1/effects?wait=0s", &[], EFFECT)
        .await
        .unwrap();
    assert_eq!(reply.status, 202);
    site.reached(1).await;
    let place = format!("/v1/effects/{}", reply.text("id"));
    // Until the lost answer is written down.
    while house.get(&place).await.unwrap().text("state") == "sending" {
        tokio::task::yield_now().await;
    }
    let fault = house
        .ask(Method::POST, &format!("{place}/cancel"), &[], "")
        .await
        .unwrap_err();
    assert_eq!((fault.code, fault.status), (Code::Conflict, 409));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_is_a_persons_matter() {
    let site = Site::start([]).await;
    let (_dir, path) = dir();
    let mut house = House::with(
        &path,
        [target("t", &site, true)],
        Failpoint::default(),
        system_resolver(),
    )
    .await;
    let reply = house
        .ask(Method::POST, "/v1/effects?wait=0s", &[], EFFECT)
        .await
        .unwrap();
    house
        .effects
        .set_targets(holdfast_effects::Targets::default());
    house.begin();
    let place = format!("/v1/effects/{}?wait=30s", reply.text("id"));
    let after = house.get(&place).await.unwrap();
    assert_eq!((after.text("state"), site.count()), ("doubt", 0));
    assert!(after.text("error").contains("no longer configured"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_again_on_a_persons_word() {
    use holdfast_store::{Decided, Decision};
    let site = Site::start([Play::Close]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [target("t", &site, false)]).await;
    let reply = house.post(EFFECT).await.unwrap();
    assert_eq!(reply.text("state"), "doubt");
    let again = Decision::EffectSendAgain {
        note: "looked it up".to_owned(),
    };
    let decided = house
        .store
        .decide(reply.text("ticket"), None, "ann", again, now())
        .await
        .unwrap();
    assert!(matches!(decided, Decided::Done(_)), "{decided:?}");
    let place = format!("/v1/effects/{}?wait=30s", reply.text("id"));
    let after = house.get(&place).await.unwrap();
    assert_eq!((after.text("state"), site.count()), ("done", 2));
}
