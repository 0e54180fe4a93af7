//! The end of a call: metrics, the ledger, one log line.

use std::sync::Arc;

use holdfast_core::exchange::{AttemptRecord, Record};
use holdfast_telemetry::metrics::{AttemptLabels, ExchangeLabels, TokenLabels};

use crate::admit::Call;
use crate::books::Booked;
use crate::clock::unix_seconds;
use crate::health::{TOKEN_KINDS, TargetHealth};
use crate::ledger::{Attempt, Entry};
use crate::redact;
use crate::worker::Shared;

/// Books a finished exchange. `losses` is what translations could not carry.
pub(crate) fn settle(shared: &Shared, call: &Call, record: &Record, losses: &[String]) {
    let route = &call.snapshot.routes[call.route].name;
    let code = record.code.unwrap_or_default();
    let metrics = &shared.metrics;
    let exchanges = || {
        metrics.exchanges.get_or_create_owned(&ExchangeLabels {
            route: route.clone(),
            outcome: record.outcome,
            code,
        })
    };
    if (record.outcome, code) == ("whole", "") {
        let whole = &call.snapshot.routes[call.route].whole;
        whole.get_or_init(exchanges).inc();
    } else {
        exchanges().inc();
    }
    metrics.duration.observe(record.lasted.as_secs_f64());
    metrics.joins.inc_by(u64::from(record.joins));
    let mut attempts = Vec::with_capacity(record.attempts.len());
    for attempt in &record.attempts {
        let target = target_name(call, attempt.target);
        // The callers' own model names are without end; a metric has its label from the route.
        let place = call.targets[attempt.target];
        let health = &call.snapshot.routes[call.route].healths[place];
        book_attempt(shared, health, attempt);
        attempts.push(Attempt {
            target,
            status: attempt.status,
            verdict: attempt.verdict.into(),
            flaw: attempt.flaw.map(Into::into),
            message: attempt
                .message
                .as_ref()
                .map(|message| redact::remembered(call, attempt.status, message)),
            began_millis: millis(attempt.began),
            millis: millis(attempt.lasted),
            first_token_millis: attempt.first_token.map(millis),
        });
    }
    log(call, record, route);
    let usage = record.usage();
    let entry = Arc::new(Entry {
        id: call.id.clone(),
        at: unix_seconds(),
        caller: call.caller.clone(),
        run: call.run.clone(),
        step: call.step.clone(),
        route: route.clone(),
        dialect: call.wishes.dialect.name().into(),
        stream: call.wishes.stream,
        delivery: call.delivery.name().into(),
        outcome: record.outcome.into(),
        code: record.code.map(Into::into),
        joins: record.joins,
        millis: millis(record.lasted),
        flagged: record.flagged.clone(),
        losses: record
            .losses
            .iter()
            .map(|loss| (*loss).to_owned())
            .chain(losses.iter().cloned())
            .collect(),
        input_tokens: usage.input,
        output_tokens: usage.output,
        attempts,
    });
    let booked = || Booked {
        entry: entry.clone(),
        stranger: call.caller.is_none().then(|| call.scope.clone()),
        at: shared.clock.wall(),
    };
    if !shared.books.put(booked) {
        metrics.ledger_dropped.inc();
    }
    shared.ledger.push(entry);
}

/// A call that went as it should is told at `debug` only: a formatted line costs more than judging a
/// short answer, and the ledger has it anyway.
fn log(call: &Call, record: &Record, route: &str) {
    let is_remarkable = record.attempts.len() != 1
        || record.code.is_some()
        || record.joins > 0
        || record.flagged.is_some();
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                exchange = call.id,
                route,
                outcome = record.outcome,
                code = record.code.unwrap_or_default(),
                attempts = record.attempts.len(),
                joins = record.joins,
                millis = millis(record.lasted),
                "exchange"
            )
        };
    }
    if is_remarkable {
        tell!(info);
    } else {
        tell!(debug);
    }
}

fn book_attempt(shared: &Shared, health: &TargetHealth, attempt: &AttemptRecord) {
    let (metrics, usual) = (&shared.metrics, &health.usual);
    let flaw = attempt.flaw.unwrap_or_default();
    let attempts = || {
        metrics.attempts.get_or_create_owned(&AttemptLabels {
            target: health.name.clone(),
            verdict: attempt.verdict,
            flaw,
        })
    };
    if (attempt.verdict, flaw) == ("whole", "") {
        usual.whole.get_or_init(attempts).inc();
    } else {
        attempts().inc();
    }
    if let Some(first) = attempt.first_token {
        metrics.first_token.observe(first.as_secs_f64());
    }
    let usage = attempt.usage;
    let counts = [
        usage.input,
        usage.cache_read,
        usage.cache_write,
        usage.output,
    ];
    for (place, kind) in TOKEN_KINDS.into_iter().enumerate() {
        let tokens = || {
            metrics.tokens.get_or_create_owned(&TokenLabels {
                target: health.name.clone(),
                kind,
            })
        };
        if let Some(count) = counts[place].filter(|count| *count > 0) {
            usual.tokens[place].get_or_init(tokens).inc_by(count);
        }
    }
}

/// `provider/model` of an exchange's target, with the caller's model where the route names none.
pub(crate) fn target_name(call: &Call, target: usize) -> Arc<str> {
    let place = call.targets[target];
    let config = &call.snapshot.config;
    let named = &config.routes[call.route].targets[place];
    if named.model.is_some() {
        return call.snapshot.routes[call.route].healths[place].name.clone();
    }
    let name = || [&config.provider(named).name, "/", &*call.model].concat();
    // Most calls ask one target, and name it twice.
    let (first, known) = call.first_asked.get_or_init(|| (target, name().into()));
    if *first == target {
        return known.clone();
    }
    name().into()
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
