//! Events are told to webhooks, each once.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_effects::{
    Failpoint, Kind, Signer, Subscription, Target, WEBHOOK_SCOPE, system_resolver,
    webhook_target_name,
};
use holdfast_store::EffectFilter;
use serde_json::Value;
use tokio::sync::watch;

use crate::house::{House, dir, target};
use crate::site::{Play, Seen, Site};

fn receiver(site: &Site) -> Target {
    let mut target = target(&webhook_target_name("w"), site, true);
    let Kind::Http(http) = &mut target.kind else {
        unreachable!()
    };
    http.paths.clear();
    http.sign = Some(Signer::new("a secret of many letters").unwrap());
    target
}

fn subscribed(events: &[&str]) -> watch::Sender<Arc<Vec<Subscription>>> {
    watch::Sender::new(Arc::new(vec![Subscription {
        name: "w".to_owned(),
        events: events.iter().map(|&event| event.to_owned()).collect(),
    }]))
}

async fn deliveries(house: &House) -> usize {
    let filter = EffectFilter {
        scope: Some(WEBHOOK_SCOPE.to_owned()),
        ..EffectFilter::default()
    };
    house.store.effects(&filter).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_told_once_however_many_tell() {
    const EFFECTS: usize = 10;
    let site = Site::start([]).await;
    let hook = Site::start([Play::Close, Play::Answer(500, "")]).await;
    let targets = || [target("t", &site, true), receiver(&hook)];
    let (_dir, path) = dir();
    let mut house = House::open(&path, targets()).await;
    let twin = House::on(
        house.store.clone(),
        targets(),
        Failpoint::default(),
        system_resolver(),
    );
    let told = subscribed(&["effect.done"]);
    let tellers: Vec<_> = [&house, &twin]
        .map(|house| {
            let run = house.effects.clone();
            tokio::spawn(run.run_webhooks(told.subscribe(), house.drain.subscribe()))
        })
        .into_iter()
        .collect();
    for at in 0..EFFECTS {
        let body = format!(r#"{{"target":"t","path":"/v1/a","key":"k-{at}"}}"#);
        house.post(&body).await.unwrap();
    }
    // Two deliveries were played badly and came again.
    hook.reached(EFFECTS + 2).await;
    for house in [&house, &twin] {
        house.drain.send_replace(true);
    }
    for teller in tellers {
        teller.await.unwrap();
    }
    house.task.take().unwrap().await.unwrap();
    assert_eq!(deliveries(&house).await, EFFECTS);
    for seen in hook.seen() {
        assert_eq!(
            (seen.method.as_str(), seen.path.as_str()),
            ("POST", "/base")
        );
        let body: Value = serde_json::from_str(&seen.body).unwrap();
        assert_eq!(body["type"], "effect.done");
    }
    assert_eq!(ids(&hook.seen()).len(), EFFECTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn telling_goes_on_where_it_stood() {
    let site = Site::start([]).await;
    let hook = Site::start([]).await;
    let targets = || [target("t", &site, true), receiver(&hook)];
    let told = subscribed(&[]);
    let (_dir, path) = dir();
    for round in 1..=3 {
        let house = House::open(&path, targets()).await;
        let run = house.effects.clone();
        let teller = tokio::spawn(run.run_webhooks(told.subscribe(), house.drain.subscribe()));
        let body = format!(r#"{{"target":"t","path":"/v1/a","key":"k-{round}"}}"#);
        house.post(&body).await.unwrap();
        // Recorded and done; what was on its way when a house died comes again under its id.
        hook.until(|seen| ids(seen).len() == round * 2).await;
        teller.abort();
        let _ = teller.await;
        house.die().await;
    }
    assert_eq!(ids(&hook.seen()).len(), 6);
}

fn ids(seen: &[Seen]) -> BTreeSet<String> {
    seen.iter()
        .map(|seen| seen.header("webhook-id").unwrap().to_owned())
        .collect()
}

/// Callers can't use a webhook's target, nor its signature.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_nobodys_target() {
    let hook = Site::start([]).await;
    let (_dir, path) = dir();
    let house = House::open(&path, [receiver(&hook)]).await;
    let fault = house.post(r#"{"target":"webhook:w","payload":{}}"#).await;
    assert!(fault.unwrap_err().message.contains("no effect target"));
    assert_eq!(hook.count(), 0);
}
