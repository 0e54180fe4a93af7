//! Looking at tickets: lists, whose they are, what is refused before anything is stored, and that what
//! is shown is what is described.

use std::collections::BTreeSet;

use holdfast_store::{NewTicket, RetryPolicy};
use serde_json::{Value, json};

use crate::stage::{Stage, caller, reviewer};

fn names(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::Object(members) => members.keys().map(String::as_str).collect(),
        list => list
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_shown_as_it_is_described() {
    let stage = Stage::new().await;
    let ann = caller("ann");
    let ticket = NewTicket {
        key: None,
        ..stage.ticket("k1", "claude", false)
    };
    let id = stage.store.open_ticket(ticket).await.unwrap();
    let document = holdfast_review::openapi();
    let schema = &document["components"]["schemas"]["Ticket"];
    let (_, bare) = stage
        .get(&ann, &format!("/v1/tickets/{id}?content=false"))
        .await;
    assert_eq!(names(&bare), names(&schema["required"]));
    stage.post(&ann, &id, "answer", json!({"text": "x"})).await;
    let (_, whole) = stage.get(&ann, &format!("/v1/tickets/{id}")).await;
    assert_eq!(names(&whole), names(&schema["properties"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_paged_and_bounded() {
    let stage = Stage::new().await;
    let mut ids = Vec::new();
    for at in 0..7 {
        let route = if at % 2 == 0 { "claude" } else { "gpt" };
        let ticket = NewTicket {
            run: Some(format!("run{}", at % 3)),
            scope: if at == 6 { "bob" } else { "ann" }.to_owned(),
            key: None,
            ..stage.ticket(&format!("s{at}"), route, false)
        };
        ids.push(stage.store.open_ticket(ticket).await.unwrap());
    }
    let ids_of = |list: &Value| -> Vec<String> {
        let tickets = list["tickets"].as_array().unwrap().iter();
        tickets
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let ann = caller("ann");
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = stage
            .get(&ann, &format!("/v1/tickets?limit=2{after}"))
            .await;
        seen.extend(ids_of(&page));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let mut own: Vec<String> = ids[..6].to_vec();
    own.reverse();
    assert_eq!(seen, own);
    let (_, gpt) = stage.get(&ann, "/v1/tickets?route=gpt&limit=2").await;
    assert_eq!(ids_of(&gpt), [ids[5].clone(), ids[3].clone()]);
    let rest = format!(
        "/v1/tickets?route=gpt&limit=2&after={}",
        gpt["next"].as_str().unwrap()
    );
    let (_, gpt) = stage.get(&ann, &rest).await;
    assert_eq!(
        (ids_of(&gpt), &gpt["next"]),
        (vec![ids[1].clone()], &Value::Null)
    );
    let (_, run) = stage.get(&ann, "/v1/tickets?run=run1").await;
    assert_eq!(ids_of(&run), [ids[4].clone(), ids[1].clone()]);
    let (_, all) = stage.get(&reviewer("eve"), "/v1/tickets").await;
    assert_eq!(ids_of(&all).len(), 7);
    let (_, bobs) = stage.get(&reviewer("eve"), "/v1/tickets?scope=bob").await;
    assert_eq!(ids_of(&bobs), [ids[6].clone()]);
    let (_, none) = stage.get(&ann, "/v1/tickets?scope=bob").await;
    assert_eq!(ids_of(&none).len(), 0);
    for bad in ["limit=0", "limit=501", "limit=x", "kind=odd", "state=odd"] {
        let (status, _) = stage.get(&ann, &format!("/v1/tickets?{bad}")).await;
        assert_eq!(status, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_is_not_there() {
    let stage = Stage::new().await;
    let id = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    let before = stage.store.ticket(&id).await.unwrap();
    let bob = caller("bob");
    let (status, foreign) = stage.get(&bob, &format!("/v1/tickets/{id}")).await;
    let (_, missing) = stage.get(&bob, "/v1/tickets/0123").await;
    assert_eq!(status, 404);
    let told = |fault: &Value, id: &str| fault["message"].as_str().unwrap().replace(id, "?");
    assert_eq!(told(&foreign, &id), told(&missing, "0123"));
    let verbs = [
        ("claim", json!({})),
        ("release", json!({"fence": 1})),
        ("answer", json!({"text": "x"})),
        ("retry", json!({})),
        ("reject", json!({"reason": "x"})),
        ("choose", json!({"choice": "x"})),
        ("effect", json!({"outcome": "done"})),
        ("close", json!({})),
    ];
    for (verb, body) in verbs {
        let (status, fault) = stage.post(&bob, &id, verb, body).await;
        assert_eq!((status, &fault["code"]), (404, &json!("HF-031")), "{verb}");
    }
    assert_eq!(stage.store.ticket(&id).await.unwrap(), before);
    assert!(stage.vendors.asked().is_empty());
    let (status, _) = stage
        .get(&reviewer("eve"), &format!("/v1/tickets/{id}"))
        .await;
    assert_eq!(status, 200);
    for odd in ["%00", "..", "'--", &"a".repeat(200)] {
        let (status, _) = stage
            .get(&reviewer("eve"), &format!("/v1/tickets/{odd}"))
            .await;
        assert_eq!(status, 404, "{odd}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_store_nothing() {
    let stage = Stage::new().await;
    let id = stage.failed_call("k1", RetryPolicy::OnRepeat).await;
    let before = stage.store.ticket(&id).await.unwrap();
    let ann = caller("ann");
    let long = "x".repeat(20_000);
    let bodies = [
        ("claim", "{".to_owned()),
        ("claim", r#"{"fro":"5m"}"#.to_owned()),
        ("claim", r#"{"for":"5"}"#.to_owned()),
        ("claim", r#"{"for":"25h"}"#.to_owned()),
        ("claim", r#"{"for":"0s"}"#.to_owned()),
        ("claim", r#"{"by":"a\nb"}"#.to_owned()),
        ("release", "{}".to_owned()),
        ("answer", "[]".to_owned()),
        ("answer", "{}".to_owned()),
        ("answer", r#"{"text":"a","body":{}}"#.to_owned()),
        ("answer", r#"{"text":"a","fense":1}"#.to_owned()),
        ("reject", "{}".to_owned()),
        ("reject", format!(r#"{{"reason":"{long}"}}"#)),
        ("retry", r#"{"target":7}"#.to_owned()),
    ];
    for (verb, body) in bodies {
        let path = format!("/v1/tickets/{id}/{verb}");
        let (status, fault) = stage.call(&ann, http::Method::POST, &path, &body).await;
        assert_eq!(
            (status, &fault["code"]),
            (400, &json!("HF-001")),
            "{verb} {body}"
        );
    }
    assert_eq!(stage.store.ticket(&id).await.unwrap(), before);
    let (status, fault) = stage.get(&ann, &format!("/v1/tickets/{id}/claim")).await;
    assert_eq!((status, &fault["code"]), (405, &json!("HF-007")));
}
