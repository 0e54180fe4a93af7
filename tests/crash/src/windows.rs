//! `holdfast-crash windows`: the process dies in each crash window by a failpoint, and what is promised
//! afterwards holds. The windows are named in docs/effects.md and docs/idempotency.md.

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use serde_json::json;

use crate::binary;
use crate::client::Ask;
use crate::process::{self, Gateway, Recipe};
use crate::report::{Report, say};
use crate::scene::{
    Held, Scene, Stage, effect, effect_async, effect_state, ensure, ticket_of, told, until, whole,
};
use crate::seen::{After, CallSeen};
use crate::stand::{Stand, Terms};
use crate::targets::Mode;
use crate::words::Dialect;

/// Let the process die in each crash window, and check what is promised afterwards
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// On this database instead of `SQLite`
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// The gateway's binary [default: that of `HOLDFAST_BIN`, else the one beside this program]
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  holdfast-crash windows
  url=$(tests/postgres start /tmp/pg 55432)
  holdfast-crash windows --postgres \"$url\"

Exit code 1 if a window broke a promise.";

/// Where an effect's sender dies, and the requests that have left by then.
const EFFECT_WINDOWS: [(&str, u32); 4] = [
    ("effect.after_claim", 0),
    ("effect.after_send", 1),
    ("effect.after_answer", 1),
    ("effect.before_finish", 1),
];

/// Where a call's process dies, the vendor's calls by then, and those at the end.
const KEY_WINDOWS: [(&str, usize, usize); 3] = [
    ("key.after_claim", 0, 1),
    ("key.before_store", 1, 2),
    ("key.after_store", 1, 1),
];

pub(crate) async fn run(args: Args) -> Result<bool, process::Error> {
    let stand = Stand::new(binary::find(args.bin)?).await?;
    let place = if args.postgres.is_some() {
        "PostgreSQL"
    } else {
        "SQLite"
    };
    let terms = Terms {
        postgres: args.postgres,
        ..Terms::default()
    };
    let stage = Stage::new(stand, terms);
    let mut report = Report::new(format!("crash windows on {place}"));
    let mut scenes: Vec<Scene<'_>> = Vec::new();
    for window in EFFECT_WINDOWS {
        for target in ["honours", "plain"] {
            let name = format!("{} ({target})", window.0);
            scenes.push((name, Box::pin(effect_window(&stage, window, target))));
        }
    }
    for window in KEY_WINDOWS {
        for stream in [false, true] {
            let name = format!("{} ({})", window.0, if stream { "stream" } else { "plain" });
            scenes.push((name, Box::pin(key_window(&stage, window, stream))));
        }
        let name = format!("{} (respond-async)", window.0);
        scenes.push((name, Box::pin(async_window(&stage, window))));
    }
    scenes.push((
        "effect waits to be sent again".to_owned(),
        Box::pin(waiting(&stage)),
    ));
    scenes.push((
        "effect ended, then killed".to_owned(),
        Box::pin(ended(&stage)),
    ));
    scenes.push((
        "ticket decided, then killed".to_owned(),
        Box::pin(decided(&stage)),
    ));
    Stage::play(scenes, &mut report).await;
    let is_good = report.is_good();
    report.print(args.json);
    if !is_good {
        say(&format!(
            "everything is kept in {}",
            stage.stand.keep().display()
        ));
    }
    Ok(is_good)
}

/// A gateway that dies at `place`, and the recipe for the one after it.
async fn doomed(stage: &Stage, place: &str) -> Result<(Gateway, Recipe), String> {
    let after = stage.recipe(&stage.terms)?;
    let before = Recipe {
        failpoint: Some(place.to_owned()),
        ..after.clone()
    };
    Ok((before.start().await.map_err(told)?, after))
}

async fn effect_window(stage: &Stage, (place, sent): (&str, u32), target: &str) -> Held {
    let (mut gateway, after) = doomed(stage, place).await?;
    let order = stage.order(Mode::Fine, 20);
    effect_async(target, &order).send(gateway.address()).await;
    gateway.wait().await.map_err(told)?;
    // What had left arrives, whoever sent it.
    stage.target_has(&order, sent).await?;
    let requests = stage.requests(&order);
    ensure(requests == sent, || {
        format!("{requests} requests had left, not {sent}")
    })?;
    let gateway = after.start().await.map_err(told)?;
    let at = gateway.address();
    let ask = effect(target, &order);
    let shown = effect_state(&ask, at, &["done", "failed", "doubt"]).await?;
    if target == "honours" {
        ensure(shown["state"] == "done", || format!("not done: {shown}"))?;
        let performed = stage.performed(&order);
        return ensure(performed == 1, || format!("performed {performed} times"));
    }
    ensure(shown["state"] == "doubt", || {
        format!("not in doubt: {shown}")
    })?;
    ticket_of(&shown, at).await?;
    let requests = stage.requests(&order);
    ensure(requests == sent, || format!("sent {requests} times"))
}

async fn key_window(
    stage: &Stage,
    (place, by_then, total): (&str, usize, usize),
    stream: bool,
) -> Held {
    let (mut gateway, after) = doomed(stage, place).await?;
    let keyed = stage.keyed(Dialect::Anthropic, stream, 30);
    let mut seen = CallSeen::default();
    let invoked = Instant::now();
    let heard = keyed.ask().send(gateway.address()).await;
    let told_so = keyed.note(&mut seen, invoked, &heard);
    ensure(matches!(told_so, After::Again(_)), || {
        format!("the caller of a dying process got {told_so:?}")
    })?;
    gateway.wait().await.map_err(told)?;
    let calls = stage.vendor_calls(&keyed);
    ensure(calls == by_then, || {
        format!("{calls} vendor calls, not {by_then}")
    })?;
    let gateway = after.start().await.map_err(told)?;
    for _ in 0..3 {
        keyed.settle(gateway.address(), &mut seen).await?;
    }
    let calls = stage.vendor_calls(&keyed);
    ensure(calls == total, || {
        format!("{calls} vendor calls, not {total}")
    })
}

/// A call that was accepted with 202 is made even if nobody repeats it.
async fn async_window(stage: &Stage, (place, _, total): (&str, usize, usize)) -> Held {
    let (mut gateway, after) = doomed(stage, place).await?;
    let keyed = stage.keyed(Dialect::OpenAi, false, 30);
    let ask = keyed.ask().with("prefer", "respond-async");
    let heard = ask.send(gateway.address()).await;
    gateway.wait().await.map_err(told)?;
    let gateway = after.start().await.map_err(told)?;
    let at = gateway.address();
    let is_accepted = whole(heard).is_ok_and(|reply| reply.status == 202);
    if !is_accepted {
        // It died before it could say so: the caller repeats.
        whole(ask.send(at).await)?;
    }
    let fetch = Ask::get(format!("/v1/calls/{}", keyed.key));
    until(
        "the answer of an accepted call",
        async || matches!(whole(fetch.send(at).await), Ok(reply) if reply.status == 200),
    )
    .await?;
    let invoked = Instant::now();
    let mut seen = CallSeen::default();
    let heard = fetch.send(at).await;
    let after = keyed.note(&mut seen, invoked, &heard);
    ensure(after == After::Settled, || format!("fetched {after:?}"))?;
    keyed.settle(at, &mut seen).await?;
    let calls = stage.vendor_calls(&keyed);
    ensure(calls == total, || {
        format!("{calls} vendor calls, not {total}")
    })
}

/// W7: only what certainly did not happen waits, and it goes out after the crash.
async fn waiting(stage: &Stage) -> Held {
    for target in ["honours", "plain"] {
        let recipe = stage.recipe(&stage.terms)?;
        let mut gateway = recipe.start().await.map_err(told)?;
        let order = stage.order(Mode::Busy, 1);
        effect_async(target, &order).send(gateway.address()).await;
        stage.target_has(&order, 1).await?;
        gateway.kill().await.map_err(told)?;
        let gateway = recipe.start().await.map_err(told)?;
        let at = gateway.address();
        let shown = effect_state(&effect(target, &order), at, &["done", "failed", "doubt"]).await?;
        let performed = stage.performed(&order);
        // Killed before the 429 was written down, or when it was out a second time already: from
        // outside both look like a performance. The first sending never was one.
        let is_unlucky = target == "plain"
            && shown["state"] == "doubt"
            && u64::from(performed) < shown["attempts"].as_u64().unwrap_or(0);
        if is_unlucky {
            ticket_of(&shown, at).await?;
        }
        ensure(
            is_unlucky || (shown["state"] == "done" && performed == 1),
            || format!("{target}: performed {performed} times: {shown}"),
        )?;
        ensure(performed <= 1, || {
            format!("{target}: performed {performed} times")
        })?;
    }
    Ok(())
}

/// W6: stored, caller not told.
async fn ended(stage: &Stage) -> Held {
    for target in ["honours", "plain"] {
        let recipe = stage.recipe(&stage.terms)?;
        let mut gateway = recipe.start().await.map_err(told)?;
        let order = stage.order(Mode::Fine, 1);
        let ask = effect(target, &order);
        let before = effect_state(&ask, gateway.address(), &["done"]).await?;
        gateway.kill().await.map_err(told)?;
        let gateway = recipe.start().await.map_err(told)?;
        let reply = whole(ask.send(gateway.address()).await)?;
        ensure(reply.is_replayed() && reply.json() == before, || {
            format!("{before}, and after the kill {}", reply.brief())
        })?;
        let requests = stage.requests(&order);
        ensure(requests == 1, || format!("sent {requests} times"))?;
    }
    Ok(())
}

/// W9: the decision and what it does are one commit. A decision that was heard stays; one that was not
/// heard can be made again, and then it is the same or a conflict, never a second effect.
async fn decided(stage: &Stage) -> Held {
    let recipe = stage.recipe(&stage.terms)?;
    let mut gateway = recipe.start().await.map_err(told)?;
    for round in 0..5 {
        let order = stage.order(Mode::Ill, 1);
        let ask = effect("plain", &order);
        let shown = effect_state(&ask, gateway.address(), &["doubt"]).await?;
        let ticket = ticket_of(&shown, gateway.address()).await?;
        let decision = Ask::post(
            format!("/v1/tickets/{ticket}/effect"),
            &json!({"outcome": "send_again", "note": "it did not happen"}),
        );
        let at = gateway.address();
        let deciding = tokio::spawn(async move { decision.send(at).await });
        if round % 2 == 0 {
            whole(deciding.await.map_err(told)?)?;
            gateway.kill().await.map_err(told)?;
        } else {
            gateway.kill().await.map_err(told)?;
            let _ = deciding.await.map_err(told)?;
        }
        gateway = recipe.start().await.map_err(told)?;
        let shown = effect_state(&ask, gateway.address(), &["done", "doubt"]).await?;
        let requests = stage.requests(&order);
        let is_consistent = match shown["state"].as_str() {
            Some("done") => requests == 2,
            // The kill came before the decision, or in the middle of the second sending.
            _ => requests <= 2,
        };
        ensure(is_consistent, || format!("sent {requests} times: {shown}"))?;
        if shown["state"] == "doubt" {
            ticket_of(&shown, gateway.address()).await?;
        }
    }
    Ok(())
}
