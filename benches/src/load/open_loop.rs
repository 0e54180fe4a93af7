//! Calls that begin when they are due, whatever became of those before.
//!
//! A latency is counted from the moment at which a request was written: the runtime's timers have a
//! grain of a millisecond, and what they are late by is told beside it. Gaps are drawn from a fixed
//! seed, so that every proxy gets the same calls.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::call::Template;
use super::{Args, Report, Signs, call, warm};
use crate::Error;

/// Connections that are there before the first call; more come when they are needed.
const WARM: usize = 16;

pub(super) async fn run(args: Args, mut signs: Signs) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut template = Template::new(&args, 0);
    let mut idle = Vec::new();
    for _ in 0..WARM {
        match warm(&args, &mut template).await {
            Ok(connection) => idle.push(connection),
            Err(error) => report.wrong(&error),
        }
    }
    let idle = Arc::new(Mutex::new(idle));
    signs.warm.send_modify(|warm| *warm += args.connections);
    signs.start.wait_for(|start| *start).await?;

    let (mut calls, mut dice) = (JoinSet::new(), Rng::with_seed(1));
    let begun = Instant::now();
    let (rate, seconds) = (args.rate.unwrap_or(1.0), args.seconds.unwrap_or(1.0));
    let mut due = Duration::ZERO;
    while due.as_secs_f64() < seconds {
        sleep_until(begun + due).await;
        let mut sent = Report::default();
        sent.late((begun + due).elapsed());
        let (args, request, idle) = (args.clone(), template.next().to_vec(), idle.clone());
        calls.spawn(async move {
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut kept = lock().pop();
            let mut check = args.check();
            let asked = Instant::now();
            match call(&args, &mut kept, &request, &mut check, || ()).await {
                Ok(seen) => sent.right(&seen, asked.elapsed(), None, 0),
                Err(error) => sent.wrong(&error),
            }
            lock().extend(kept);
            sent
        });
        while let Some(part) = calls.try_join_next() {
            report.merge(part?);
        }
        due += Duration::from_secs_f64(dice.f64() * 2.0 / rate);
    }
    while let Some(part) = calls.join_next().await {
        report.merge(part?);
    }
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}
