//! Effects over two replicas.

use crate::proxy::Line;
use crate::replicas::Pair;
use crate::scene::{
    Held, Stage, at_once, effect, effect_async, effect_state, ensure, ticket_of, told, whole,
};
use crate::seen::{After, passing};
use crate::targets::{Mode, Order};

/// Each of many is performed once, whoever claims it.
pub(crate) async fn many(stage: &Stage) -> Held {
    let pair = stage.pair().await?;
    let both = [pair.a.address(), pair.b.address()];
    let orders: Vec<_> = (0..200).map(|_| stage.order(Mode::Fine, 10)).collect();
    let target = |n: usize| {
        if n.is_multiple_of(2) {
            "honours"
        } else {
            "plain"
        }
    };
    // Every effect over both at once.
    let asks = orders
        .iter()
        .enumerate()
        .flat_map(|(n, order)| both.map(|at| (effect_async(target(n), order), at)));
    for heard in at_once(asks.collect()).await? {
        let reply = whole(heard)?;
        // Four hundred at once may be more than the store takes in its time; then it says so.
        let is_taken = reply.status == 200 || reply.status == 202;
        let is_taken = is_taken || matches!(passing(&reply), After::Again(_));
        ensure(is_taken, || reply.brief())?;
    }
    for (n, order) in orders.iter().enumerate() {
        let ask = effect(target(n), order);
        let a = effect_state(&ask, both[0], &["done"]).await?;
        let b = effect_state(&ask, both[1], &["done"]).await?;
        ensure(a["result"] == b["result"] && a["id"] == b["id"], || {
            format!("{a} and {b}")
        })?;
        let requests = stage.requests(order);
        ensure(requests == 1, || {
            format!("{} sent {requests} times", order.marker)
        })?;
    }
    Ok(())
}

/// An effect that `pair.a` has sent, and nobody has heard of since.
async fn sent_by_a(stage: &Stage, pair: &Pair, target: &str) -> Result<Order, String> {
    let order = stage.order(Mode::Fine, 400);
    // Whoever is awake claims it: so the other one is not.
    pair.b.freeze().map_err(told)?;
    let heard = effect_async(target, &order).send(pair.a.address()).await;
    let sent = match whole(heard) {
        Ok(_) => stage.target_has(&order, 1).await,
        Err(what) => Err(what),
    };
    pair.a.freeze().map_err(told)?;
    pair.b.wake().map_err(told)?;
    sent.map(|()| order)
}

pub(crate) async fn killed(stage: &Stage, target: &str) -> Held {
    let mut pair = stage.pair().await?;
    let order = sent_by_a(stage, &pair, target).await?;
    pair.a.kill().await.map_err(told)?;
    let b = pair.b.address();
    let shown = effect_state(&effect(target, &order), b, &["done", "doubt"]).await?;
    check(stage, target, &order, &shown, b).await
}

pub(crate) async fn frozen(stage: &Stage, target: &str) -> Held {
    let pair = stage.pair().await?;
    let order = sent_by_a(stage, &pair, target).await?;
    let (a, b) = (pair.a.address(), pair.b.address());
    let ask = effect(target, &order);
    let shown = effect_state(&ask, b, &["done", "doubt"]).await?;
    check(stage, target, &order, &shown, b).await?;
    pair.a.wake().map_err(told)?;
    // What the sleeper computed is thrown away, and it knows no other end.
    let after = effect_state(&ask, a, &["done", "doubt", "failed"]).await?;
    let again = effect_state(&ask, b, &["done", "doubt", "failed"]).await?;
    for later in [after, again] {
        ensure(
            later["state"] == shown["state"] && later["result"] == shown["result"],
            || format!("{shown}, and after it woke {later}"),
        )?;
    }
    check(stage, target, &order, &shown, b).await
}

/// What is promised of an effect whose sender died or froze in the middle.
async fn check(
    stage: &Stage,
    target: &str,
    order: &Order,
    shown: &serde_json::Value,
    at: std::net::SocketAddr,
) -> Held {
    let performed = stage.performed(order);
    ensure(performed == 1, || format!("performed {performed} times"))?;
    if target == "honours" {
        return ensure(shown["state"] == "done", || format!("not done: {shown}"));
    }
    let requests = stage.requests(order);
    ensure(requests == 1, || format!("sent {requests} times"))?;
    ticket_of(shown, at).await.map(drop)
}

pub(crate) async fn cut_off(stage: &Stage, line: Line) -> Held {
    let pair = stage.cut_pair().await?;
    let far = pair.far.address();
    pair.line.set(line);
    let order = stage.order(Mode::Fine, 5);
    let ask = effect("plain", &order);
    for _ in 0..3 {
        let reply = whole(ask.send(far).await)?;
        let code = reply.code().unwrap_or_default();
        ensure(reply.status == 503 && code == "HF-029", || reply.brief())?;
    }
    let requests = stage.requests(&order);
    ensure(requests == 0, || {
        format!("a refused effect was sent {requests} times")
    })?;
    pair.line.set(Line::Whole);
    effect_state(&ask, far, &["done"]).await?;
    let requests = stage.requests(&order);
    ensure(requests == 1, || format!("sent {requests} times"))
}

/// The sender can't store its result; the other one settles it, and nothing is sent again.
pub(crate) async fn cut_in_the_middle(stage: &Stage, line: Line) -> Held {
    let pair = stage.cut_pair().await?;
    let (far, straight) = (pair.far.address(), pair.straight.address());
    let order = stage.order(Mode::Fine, 300);
    let ask = effect("plain", &order);
    pair.straight.freeze().map_err(told)?;
    let heard = effect_async("plain", &order).send(far).await;
    let sent = match whole(heard) {
        Ok(_) => stage.target_has(&order, 1).await,
        Err(what) => Err(what),
    };
    pair.line.set(line);
    pair.straight.wake().map_err(told)?;
    sent?;
    let shown = effect_state(&ask, straight, &["done", "doubt"]).await?;
    check(stage, "plain", &order, &shown, straight).await?;
    pair.line.set(Line::Whole);
    let later = effect_state(&ask, far, &["done", "doubt", "failed"]).await?;
    ensure(later["state"] == shown["state"], || {
        format!("{shown}, and after the cut {later}")
    })?;
    check(stage, "plain", &order, &shown, straight).await
}
