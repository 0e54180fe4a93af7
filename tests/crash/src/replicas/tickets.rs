//! Tickets and approvals over two replicas: two can't decide one.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{Ask, Heard};
use crate::replicas::Pair;
use crate::scene::{Held, Stage, at_once, effect, effect_state, ensure, ticket_of, until, whole};
use crate::targets::{Mode, Order};

/// Races are lost and won by chance; one round shows nothing.
const ROUNDS: usize = 20;

/// An effect in doubt, and its ticket.
async fn doubt(stage: &Stage, pair: &Pair) -> Result<(Order, String), String> {
    let order = stage.order(Mode::Ill, 1);
    let at = pair.a.address();
    let shown = effect_state(&effect("plain", &order), at, &["doubt"]).await?;
    let ticket = ticket_of(&shown, at).await?;
    Ok((order, ticket))
}

fn decide(ticket: &str, outcome: &str, fence: Option<i64>) -> Ask {
    let mut body = json!({"outcome": outcome, "note": "looked it up"});
    if let Some(fence) = fence {
        body["fence"] = json!(fence);
    }
    Ask::post(format!("/v1/tickets/{ticket}/effect"), &body)
}

/// Who won (200), and that all others were told 409.
fn winner(heard: &[Heard]) -> Result<usize, String> {
    let statuses: Vec<_> = heard
        .iter()
        .map(|heard| match heard {
            Heard::Reply(reply) => reply.status.as_u16(),
            Heard::Refused | Heard::Lost => 0,
        })
        .collect();
    let won: Vec<_> = (0..heard.len())
        .filter(|n| statuses[*n] == 200 || statuses[*n] == 201)
        .collect();
    let lost = statuses.iter().filter(|status| **status == 409).count();
    match won[..] {
        [won] if lost + 1 == heard.len() => Ok(won),
        _ => {
            let briefs: Vec<_> = heard.iter().map(Heard::brief).collect();
            Err(format!("not one winner: {briefs:?}"))
        }
    }
}

pub(crate) async fn deciders(stage: &Stage) -> Held {
    let pair = stage.pair().await?;
    let (a, b) = (pair.a.address(), pair.b.address());
    for _ in 0..ROUNDS {
        let (order, ticket) = doubt(stage, &pair).await?;
        let asks = vec![
            (decide(&ticket, "done", None), a),
            (decide(&ticket, "not_done", None), b),
            (decide(&ticket, "done", None), b),
            (decide(&ticket, "not_done", None), a),
        ];
        let won = winner(&at_once(asks).await?)?;
        let outcome = ["done", "failed", "done", "failed"][won];
        for at in [a, b] {
            let shown = effect_state(&effect("plain", &order), at, &["done", "failed"]).await?;
            ensure(shown["state"] == outcome, || {
                format!("`{outcome}` was decided: {shown}")
            })?;
        }
        let requests = stage.requests(&order);
        ensure(requests == 1, || format!("sent {requests} times"))?;
    }
    Ok(())
}

async fn claim(ticket: &str, at: SocketAddr, span: &str) -> Result<i64, String> {
    let ask = Ask::post(format!("/v1/tickets/{ticket}/claim"), &json!({"for": span}));
    let reply = whole(ask.send(at).await)?;
    let fence = reply.json()["fence"].as_i64();
    fence
        .filter(|_| reply.status == 200)
        .ok_or_else(|| reply.brief())
}

pub(crate) async fn claimed(stage: &Stage) -> Held {
    let pair = stage.pair().await?;
    let (a, b) = (pair.a.address(), pair.b.address());
    for _ in 0..ROUNDS {
        let (_, ticket) = doubt(stage, &pair).await?;
        let ask = Ask::post(format!("/v1/tickets/{ticket}/claim"), &json!({"for": "1m"}));
        let heard = at_once(vec![(ask.clone(), a), (ask, b)]).await?;
        let won = winner(&heard)?;
        let shown = whole(heard[won].clone())?.json();
        let fence = shown["fence"].as_i64();
        let refused = whole(decide(&ticket, "done", None).send(b).await)?;
        ensure(refused.status == 409, || {
            format!("decided past a claim: {}", refused.brief())
        })?;
        // The claim holds at either replica.
        let decided = whole(decide(&ticket, "done", fence).send(a).await)?;
        ensure(decided.status == 200, || decided.brief())?;
    }
    Ok(())
}

pub(crate) async fn expired(stage: &Stage) -> Held {
    let pair = stage.pair().await?;
    let (a, b) = (pair.a.address(), pair.b.address());
    let (_, ticket) = doubt(stage, &pair).await?;
    let old = claim(&ticket, a, "1s").await?;
    until("the claim to end", async || {
        claim(&ticket, b, "1m").await.is_ok()
    })
    .await?;
    let late = whole(decide(&ticket, "done", Some(old)).send(a).await)?;
    ensure(
        late.status == 409 && late.code().as_deref() == Some("HF-032"),
        || format!("an old fence was taken: {}", late.brief()),
    )
}

pub(crate) async fn approvers(stage: &Stage) -> Held {
    let pair = stage.pair().await?;
    let (a, b) = (pair.a.address(), pair.b.address());
    for _ in 0..ROUNDS {
        let key = stage.name("a");
        let ask = Ask::post(
            "/v1/approvals",
            &json!({"question": "Send it?", "key": key}),
        );
        // Asked over both at once, it is one question.
        let asked = at_once(vec![(ask.clone(), a), (ask, b)]).await?;
        let ids: Vec<Value> = asked
            .into_iter()
            .map(|heard| whole(heard).map(|reply| reply.json()["id"].clone()))
            .collect::<Result<_, _>>()?;
        ensure(ids[0].is_string() && ids[0] == ids[1], || {
            format!("two questions: {ids:?}")
        })?;
        let id = ids[0].as_str().unwrap_or_default();
        let decide = |choice: &str| {
            Ask::post(
                format!("/v1/approvals/{id}/decide"),
                &json!({"choice": choice}),
            )
        };
        let asks = vec![(decide("approve"), a), (decide("reject"), b)];
        let won = winner(&at_once(asks).await?)?;
        let choice = ["approve", "reject"][won];
        for at in [a, b] {
            let reply = whole(Ask::get(format!("/v1/approvals/{id}")).send(at).await)?;
            let shown = reply.json();
            ensure(shown["choice"] == choice, || {
                format!("`{choice}` won: {}", reply.brief())
            })?;
        }
    }
    Ok(())
}
