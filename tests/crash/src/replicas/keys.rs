//! Keys over two replicas.

use std::time::Instant;

use crate::client::{Ask, Heard};
use crate::proxy::Line;
use crate::scene::{Held, Keyed, Stage, at_once, ensure, told, until, whole};
use crate::seen::{After, CallSeen};
use crate::words::Dialect;

/// One vendor call, twenty equal answers.
pub(crate) async fn twenty(stage: &Stage, dialect: Dialect, stream: bool) -> Held {
    let pair = stage.pair().await?;
    let keyed = stage.keyed(dialect, stream, 400);
    let both = [pair.a.address(), pair.b.address()];
    let asks = (0..20).map(|n| (keyed.ask(), both[n % 2])).collect();
    let invoked = Instant::now();
    let mut seen = CallSeen::default();
    for heard in at_once(asks).await? {
        let after = keyed.note(&mut seen, invoked, &heard);
        ensure(after == After::Settled, || {
            format!("a caller got: {after:?}")
        })?;
    }
    let calls = stage.vendor_calls(&keyed);
    ensure(calls == 1, || format!("{calls} vendor calls"))
}

/// The other one takes over, and both have its answer.
pub(crate) async fn killed(stage: &Stage, dialect: Dialect, stream: bool) -> Held {
    let mut pair = stage.pair().await?;
    let keyed = stage.keyed(dialect, stream, 700);
    let first = keyed.begin(pair.a.address());
    stage.vendor_has(&keyed, 1).await?;
    // Begun before the death: it waits for the dead one's end first.
    let second = keyed.begin(pair.b.address());
    pair.a.kill().await.map_err(told)?;
    let mut seen = CallSeen::default();
    nothing_whole(&keyed, &first.await.map_err(told)?)?;
    let heard = second.await.map_err(told)?;
    if keyed.note(&mut seen, Instant::now(), &heard) != After::Settled {
        return Err(format!("the survivor did not take over: {}", heard.brief()));
    }
    let calls = stage.vendor_calls(&keyed);
    ensure(calls == 2, || format!("{calls} vendor calls"))?;
    let again = stage.gateway().await?;
    keyed.settle(again.address(), &mut seen).await?;
    let calls = stage.vendor_calls(&keyed);
    ensure(calls == 2, || {
        format!("{calls} vendor calls after a repeat")
    })
}

/// The other one takes over; the sleeper delivers nothing as whole and stores nothing over it.
pub(crate) async fn frozen(stage: &Stage, dialect: Dialect, stream: bool) -> Held {
    let pair = stage.pair().await?;
    let keyed = stage.keyed(dialect, stream, 700);
    let first = keyed.begin(pair.a.address());
    stage.vendor_has(&keyed, 1).await?;
    pair.a.freeze().map_err(told)?;
    let mut seen = CallSeen::default();
    keyed.settle(pair.b.address(), &mut seen).await?;
    pair.a.wake().map_err(told)?;
    let heard = first.await.map_err(told)?;
    let invoked = Instant::now();
    if let After::Wrong(what) = keyed.note(&mut seen, invoked, &heard)
        && !is_taken_over(&heard)
    {
        return Err(format!("the sleeper's caller got: {what}"));
    }
    for gateway in [&pair.a, &pair.b, &pair.a] {
        keyed.settle(gateway.address(), &mut seen).await?;
    }
    let calls = stage.vendor_calls(&keyed);
    ensure(calls == 2, || format!("{calls} vendor calls"))
}

/// Keyed calls are refused before anything is sent, unkeyed ones go on, and all is well again after.
pub(crate) async fn cut_off(stage: &Stage, line: Line) -> Held {
    let pair = stage.cut_pair().await?;
    let far = pair.far.address();
    let mut seen = CallSeen::default();
    let before = stage.keyed(Dialect::OpenAi, false, 5);
    before.settle(far, &mut seen).await?;
    pair.line.set(line);
    let refused = stage.keyed(Dialect::Anthropic, false, 5);
    for _ in 0..3 {
        let reply = whole(refused.ask().send(far).await)?;
        let code = reply.code().unwrap_or_default();
        ensure(reply.status == 503 && code == "HF-029", || {
            format!("a keyed call got {}", reply.brief())
        })?;
    }
    let calls = stage.vendor_calls(&refused);
    ensure(calls == 0, || "a refused call was sent".to_owned())?;
    for stream in [false, true] {
        let unkeyed = stage.keyed(Dialect::OpenAi, stream, 20);
        let reply = whole(unkeyed.unkeyed().send(far).await)?;
        ensure(reply.status == 200, || {
            format!("an unkeyed call got {}", reply.brief())
        })?;
    }
    not_ready_for_keys(far).await?;
    let meanwhile = stage.keyed(Dialect::OpenAi, false, 5);
    meanwhile
        .settle(pair.straight.address(), &mut CallSeen::default())
        .await?;
    pair.line.set(Line::Whole);
    refused.settle(far, &mut CallSeen::default()).await?;
    before.settle(far, &mut seen).await
}

/// Metrics or readiness say that nothing can be kept.
async fn not_ready_for_keys(at: std::net::SocketAddr) -> Held {
    let ready = whole(Ask::get("/readyz").send(at).await)?;
    let metrics = whole(Ask::get("/metrics").send(at).await)?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let says = |text: &str| text.to_lowercase().contains("store");
    let is_said = says(&String::from_utf8_lossy(&ready.body)) || says(&metrics);
    ensure(is_said, || {
        format!(
            "neither readiness nor metrics speak of the store: {}",
            ready.brief()
        )
    })
}

/// The answer that can't be stored is not told as whole; one answer remains, whoever gives it.
pub(crate) async fn cut_in_the_middle(stage: &Stage, line: Line) -> Held {
    let pair = stage.cut_pair().await?;
    let keyed = stage.keyed(Dialect::Anthropic, true, 300);
    let first = keyed.begin(pair.far.address());
    stage.vendor_has(&keyed, 1).await?;
    pair.line.set(line);
    let heard = first.await.map_err(told)?;
    nothing_whole(&keyed, &heard)?;
    // The other one sees it as dead, and makes the call.
    let mut seen = CallSeen::default();
    keyed.settle(pair.straight.address(), &mut seen).await?;
    pair.line.set(Line::Whole);
    let far = pair.far.address();
    let probe = stage.keyed(Dialect::OpenAi, false, 5);
    probe.settle(far, &mut CallSeen::default()).await?;
    keyed.settle(far, &mut seen).await?;
    keyed.settle(pair.straight.address(), &mut seen).await?;
    until("two vendor calls at most", async || {
        stage.vendor_calls(&keyed) <= 2
    })
    .await
}

fn is_taken_over(heard: &Heard) -> bool {
    matches!(heard, Heard::Reply(reply) if reply.code().as_deref() == Some("HF-035"))
}

/// What a caller heard is no whole answer.
fn nothing_whole(keyed: &Keyed, heard: &Heard) -> Held {
    let mut seen = CallSeen::default();
    let after = keyed.note(&mut seen, Instant::now(), heard);
    ensure(after != After::Settled && seen.halves == 0, || {
        format!(
            "a caller got a whole answer that was not stored: {}",
            heard.brief()
        )
    })
}
