//! The `OpenAPI` document says what is served, and what is served is in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_api::{Answering, Request, Service, json};
use holdfast_core::fault::Code;
use holdfast_core::time::Wall;
use holdfast_ops::{Mount, NoStore, Ops, Terms};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{ask, get, open, post};

const METHODS: [Method; 5] = [
    Method::GET,
    Method::PUT,
    Method::POST,
    Method::DELETE,
    Method::PATCH,
];

/// Each documented method of each path, with names put in.
fn documented(document: &Value) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            if item.get(method.as_str().to_lowercase()).is_some() {
                all.insert((method.to_string(), path.clone()));
            }
        }
    }
    all
}

fn filled(template: &str) -> String {
    let parts = template
        .split('/')
        .map(|part| if part.starts_with('{') { "name" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_is_served_and_the_other_way_round() {
    let bench = open().await;
    let document = holdfast_ops::openapi();
    let documented = documented(&document);
    assert_eq!(documented.len(), 13);
    let mut served = BTreeSet::new();
    for (_, template) in &documented {
        for method in METHODS {
            let path = filled(template);
            let sent = match path.as_str() {
                // Endless.
                "/v1/events" if method == Method::GET => {
                    bench.ops_head(get(&path)).await;
                    None
                }
                _ => Some(
                    bench
                        .try_send(ask(method.clone(), &path, ""))
                        .await
                        .unwrap(),
                ),
            };
            let code = sent.and_then(Result::err).map(|fault| fault.code);
            assert_ne!(code, Some(Code::UnknownPath), "{method} {path}");
            if code != Some(Code::MethodNotAllowed) {
                served.insert((method.to_string(), template.clone()));
            }
        }
    }
    assert_eq!(served, documented);
    // Its own table of routes has nothing else.
    assert_eq!(Ops::routes().collect::<BTreeSet<_>>(), documented);
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_refused_in_clear_words() {
    let bench = open().await;
    let (code, message) = bench.refused(ask(Method::DELETE, "/v1/runs/a", "")).await;
    assert_eq!(code, Code::MethodNotAllowed);
    assert_eq!(message, "`/v1/runs/a` takes GET, not DELETE");
    let (code, message) = bench.refused(get("/v1/approvals/a/b")).await;
    assert_eq!(code, Code::UnknownPath);
    assert!(message.contains("`/v1/approvals/{id}/decide`"), "{message}");
    for path in [
        "/v1/models",
        "/v1/messages",
        "/healthz",
        "/",
        "/v1/",
        "/v2/runs",
    ] {
        assert!(bench.try_send(get(path)).await.is_none(), "{path}");
    }
    bench.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_lead_somewhere_and_names_are_unique() {
    let bench = open().await;
    let document = bench.ok(get("/v1/openapi.json")).await;
    check_document(&document);
    assert_eq!(&document, bench.ops.document());
    bench.down().await;
}

pub(crate) fn check_document(document: &Value) {
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let codes = &document["components"]["headers"]["Holdfast-Code"]["schema"]["enum"];
    assert_eq!(codes.as_array().unwrap().len(), Code::ALL.len());
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            let id = operation["operationId"]
                .as_str()
                .unwrap_or_else(|| panic!("{method} {path}"));
            assert!(operations.insert(id.to_owned()), "{id} twice");
            let names = path.split('/').filter(|part| part.starts_with('{')).count();
            let parameters = [&item["parameters"], &operation["parameters"]];
            let given = parameters
                .iter()
                .filter_map(|list| list.as_array())
                .flatten();
            let in_path = given.filter(|one| one["in"] == "path").count();
            assert_eq!(in_path, names, "{method} {path}");
        }
    }
    follow(document, document);
}

fn follow(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref") {
                let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            members.values().for_each(|member| follow(document, member));
        }
        Value::Array(members) => members.iter().for_each(|member| follow(document, member)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A service of another room.
struct Effects;

impl Service for Effects {
    fn handle(&self, request: &Request) -> Option<Answering> {
        let is_mine = request.path == "/v1/effects" && request.method == Method::GET;
        is_mine.then(|| -> Answering {
            Box::pin(std::future::ready(json(
                StatusCode::OK,
                &json!({"effects": []}),
            )))
        })
    }
}

fn effects_document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {"title": "effects", "version": "9"},
        "tags": [{"name": "effects"}],
        "paths": {"/v1/effects": {"get": {"operationId": "listEffects", "responses": {}}}},
        "components": {"schemas": {"Effect": {"type": "object"}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_is_served_and_documented() {
    let bench = open().await;
    let mount = Mount::new(Arc::new(Effects), effects_document());
    let clock = Arc::new(|| Wall(0));
    let ops = Ops::new(
        bench.store.clone(),
        vec![mount],
        Arc::new(()),
        Terms::default(),
        clock,
    );
    check_document(ops.document());
    assert_eq!(ops.document()["info"]["title"], "Holdfast");
    assert!(ops.document()["components"]["schemas"]["Effect"].is_object());
    let seen = bench.with(ops);
    assert_eq!(seen.ok(get("/v1/effects")).await, json!({"effects": []}));
    let (code, message) = seen.refused(post("/v1/effects", "{}")).await;
    assert_eq!(code, Code::MethodNotAllowed);
    assert_eq!(message, "`/v1/effects` takes GET, not POST");
    assert_eq!(
        seen.refused(get("/v1/effects/a/b")).await.0,
        Code::UnknownPath
    );
    seen.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_each_path_says_so() {
    let none = NoStore::new(&[effects_document()]);
    let bench = open().await;
    let answer = |asked: crate::harness::Asked| {
        let answering = none.handle(asked.request());
        async move {
            match answering {
                None => None,
                Some(answering) => Some(answering.await.map(|answer| answer.status())),
            }
        }
    };
    for asked in [
        get("/v1/runs"),
        get("/v1/effects"),
        post("/v1/approvals", "{}"),
    ] {
        let fault = answer(asked).await.unwrap().unwrap_err();
        assert_eq!(fault.code, Code::StoreUnavailable);
        assert!(fault.message.contains("no store is configured"));
    }
    let refused = answer(post("/v1/effects", "")).await.unwrap().unwrap_err();
    assert_eq!(refused.code, Code::MethodNotAllowed);
    assert_eq!(
        answer(get("/v1/openapi.json")).await,
        Some(Ok(StatusCode::OK))
    );
    assert_eq!(answer(get("/v1/models")).await, None);
    let away = NoStore::because(&[], "the store is away");
    let answering = away.handle(get("/v1/runs").request()).unwrap();
    assert_eq!(answering.await.unwrap_err().message, "the store is away");
    bench.down().await;
}

/// The document in `docs` is the one that is served. `HOLDFAST_BLESS=1` writes it anew.
#[test]
fn the_document_in_the_docs_is_current() {
    let others = [holdfast_effects::openapi(), holdfast_review::openapi()];
    let document = holdfast_ops::merged(&others);
    check_document(&document);
    let own = holdfast_ops::openapi();
    check_clashes(&[own, others[0].clone(), others[1].clone()]);
    let paths = document["paths"].as_object().unwrap();
    for family in [
        "effects",
        "runs",
        "approvals",
        "tickets",
        "events",
        "openapi.json",
    ] {
        let is_there = paths
            .keys()
            .any(|path| path.split('/').nth(2) == Some(family));
        assert!(is_there, "{family}");
    }
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::env::var_os("HOLDFAST_BLESS").is_some() {
        std::fs::write(place, &text).unwrap();
    }
    let kept = std::fs::read_to_string(place).unwrap_or_default();
    assert!(
        kept == text,
        "docs/openapi.json is old: run the tests with HOLDFAST_BLESS=1"
    );
}

/// Two families may not describe two things under one name.
fn check_clashes(documents: &[Value]) {
    for (place, one) in documents.iter().enumerate() {
        for other in &documents[place + 1..] {
            for (kind, members) in one["components"].as_object().into_iter().flatten() {
                for (name, member) in members.as_object().into_iter().flatten() {
                    let theirs = &other["components"][kind.as_str()][name.as_str()];
                    assert!(
                        theirs.is_null() || theirs == member,
                        "{kind} `{name}` clashes"
                    );
                }
            }
            for path in one["paths"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(path, _)| path)
            {
                assert!(other["paths"].get(path).is_none(), "{path} twice");
            }
        }
    }
}
