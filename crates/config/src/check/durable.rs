//! The store, what keys and tickets do, gates, steps, the queue and the watch over runs.

use std::path::PathBuf;

use crate::checked::{
    Config, Delivery, GateTerms, MOST_STORED, MOST_STORED_REQUEST, Policy, Retention, Review,
    Route, Runs, Step, StorePlace, StoreTerms,
};
use crate::diagnostic::Problem;
use crate::draft::{
    Draft, GateDraft, PolicyFields, RetentionDraft, ReviewDraft, RunsDraft, StoreDraft,
};
use crate::secret::Secret;
use crate::shape::{Field, Spanned};
use crate::values::{AnyJson, SecretText};

use super::Checker;
use super::route::is_pattern;

const URL_HELP: &str =
    "write `sqlite:holdfast.db`, `postgres://user:password@host/database`, or `none`";

/// `None` = the file says that nothing is kept.
pub(super) fn store(field: &Field<StoreDraft>, checker: &mut Checker<'_>) -> Option<StoreTerms> {
    let mut terms = StoreTerms::default();
    if let StorePlace::Sqlite(path) = &mut terms.place {
        *path = checker.files.resolve(path);
    }
    let Some(draft) = field.get() else {
        return Some(terms);
    };
    terms.implied = false;
    draft.readers.put(&mut terms.readers);
    draft.connections.put(&mut terms.connections);
    draft.queue.put(&mut terms.queue);
    draft.timeout.put(&mut terms.timeout);
    draft.lease.put(&mut terms.lease);
    terms.encryption_key = draft
        .encryption_key
        .given()
        .and_then(|given| sealing_key(given, checker));
    let old = draft.old_keys.given();
    terms.old_keys = old.map_or_else(Vec::new, |old| {
        let keys = old.value.iter().filter_map(|key| {
            let given = Spanned {
                value: key.clone(),
                span: old.span.clone(),
            };
            sealing_key(&given, checker)
        });
        keys.collect()
    });
    terms.retention = retention(&draft.retention);
    let Some(url) = draft.url.given() else {
        return Some(terms);
    };
    checker.secrets.push(url.span.clone());
    let text = checker.secret(url, "address of the store")?;
    if text.expose() == "none" {
        return None;
    }
    match place(text.expose()) {
        Ok(StorePlace::Sqlite(path)) => {
            terms.place = StorePlace::Sqlite(checker.files.resolve(&path));
        }
        Ok(place) => terms.place = place,
        Err(message) => {
            let problem = Problem::error(url.span.clone(), message);
            checker.report(problem.help(URL_HELP));
        }
    }
    Some(terms)
}

fn place(url: &str) -> Result<StorePlace, &'static str> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path {
            "" => Err("the address of the store names no file"),
            ":memory:" => Err("a store in memory keeps nothing over a restart"),
            path if path.contains('?') => Err("the file of the store takes no options"),
            path => Ok(StorePlace::Sqlite(PathBuf::from(path))),
        };
    }
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or("the address of the store is of no known kind")?;
    if rest.is_empty() {
        return Err("the address of the store names no database");
    }
    Ok(StorePlace::Postgres(Secret::new(url)))
}

fn sealing_key(given: &Spanned<SecretText>, checker: &mut Checker<'_>) -> Option<Secret> {
    let key = checker.secret(given, "key of the store")?;
    let digits = key.expose().as_bytes();
    if digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit) {
        return Some(key);
    }
    let problem = Problem::error(
        given.span.clone(),
        "a key of the store is 64 hexadecimal digits (32 bytes)",
    );
    checker.report(problem.help("make one with `openssl rand -hex 32`"));
    None
}

fn retention(field: &Field<RetentionDraft>) -> Retention {
    let mut retention = Retention::default();
    if let Some(draft) = field.get() {
        draft.exchanges.put(&mut retention.exchanges);
        draft.tickets.put(&mut retention.tickets);
        draft.effects.put(&mut retention.effects);
        draft.runs.put(&mut retention.runs);
        draft.events.put(&mut retention.events);
    }
    retention
}

pub(super) fn review(field: &Field<ReviewDraft>) -> Review {
    let mut review = Review::default();
    if let Some(draft) = field.get() {
        draft.claim.put(&mut review.claim);
        draft.approval_expiry.put(&mut review.approval_expiry);
        draft.retry_interval.put(&mut review.retry_interval);
        draft.retry_parallel.put(&mut review.retry_parallel);
    }
    review
}

pub(super) fn runs(field: &Field<RunsDraft>) -> Runs {
    let mut runs = Runs::default();
    if let Some(draft) = field.get() {
        runs.heartbeat = draft.heartbeat.get().map(|time| time.0);
        draft.check_every.put(&mut runs.check_every);
    }
    runs
}

/// What a section says of keys, tickets and gates, over what it inherits.
pub(super) fn policy_over(
    policy: &mut Policy,
    fields: PolicyFields<'_>,
    checker: &mut Checker<'_>,
) {
    if let Some(draft) = fields.idempotency.get() {
        draft.expiry.put(&mut policy.idempotency.expiry);
        draft.repeats.put(&mut policy.idempotency.repeats);
        draft.derive.put(&mut policy.idempotency.derive);
    }
    fields.tickets.put(&mut policy.tickets);
    fields.ticket_retry.put(&mut policy.ticket_retry);
    fields.ticket_expiry.put(&mut policy.ticket_expiry);
    fields.retry_after.put(&mut policy.retry_after);
    if let Some(given) = fields.gate.given() {
        policy.gate = Some(gate(&given.value, checker));
        if policy.delivery != Delivery::Whole {
            let message = format!(
                "with `delivery: {}` a gate can only flag what was streamed already; calls without `stream` are held by it",
                policy.delivery
            );
            let problem = Problem::warning(given.span.clone(), message);
            checker.report(problem.help("`delivery: whole` holds a stream until it has passed"));
        }
    }
}

/// What steps demand.
pub(super) fn steps(
    draft: &Draft,
    routes: &[Spanned<Route>],
    checker: &mut Checker<'_>,
) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for item in draft.steps.items() {
        let name = checker.required(&item.step, &item.at, "the step has no name: `step`");
        let name = name.filter(|name| is_pattern(name, "a step's name", "draft*", checker));
        // Its gate may be wrong too: say so now.
        let terms = item.gate.given().map(|given| {
            warn_of_streams(given, routes, checker);
            gate(&given.value, checker)
        });
        if let (None, Some(name), Field::Absent) = (&terms, name, &item.gate) {
            let message = format!("the step `{}` has no `gate`", name.value);
            checker.report(Problem::error(name.span.clone(), message));
        }
        let (Some(name), Some(gate)) = (name, terms) else {
            continue;
        };
        if steps.iter().any(|step| step.step == name.value) {
            let message = format!("two steps have the name `{}`", name.value);
            checker.report(Problem::error(name.span.clone(), message));
        }
        let step = name.value.clone();
        steps.push(Step { step, gate });
    }
    steps
}

/// A call of a step may come by any route.
fn warn_of_streams(
    given: &Spanned<GateDraft>,
    routes: &[Spanned<Route>],
    checker: &mut Checker<'_>,
) {
    let streaming = routes
        .iter()
        .find(|route| route.policy.delivery != Delivery::Whole);
    if let Some(route) = streaming {
        let message = format!(
            "with `delivery: {}` of the route `{}` a step's gate can only flag what was streamed already; calls without `stream` are held by it",
            route.policy.delivery, route.model
        );
        let problem = Problem::warning(given.span.clone(), message);
        checker.report(problem.help(
            "`delivery: whole`, or the header `Holdfast-Delivery: whole`, holds a stream until it has passed",
        ));
    }
}

fn gate(draft: &GateDraft, checker: &mut Checker<'_>) -> GateTerms {
    let mut terms = GateTerms {
        asks: 1,
        ..GateTerms::default()
    };
    terms.json_schema = draft
        .json_schema
        .given()
        .and_then(|given| schema(given, checker));
    terms.cel = draft.cel.items().to_vec();
    terms.min_length = draft.min_length.get().map_or(0, |count| count.0 as usize);
    terms.must_contain = draft.must_contain.items().to_vec();
    draft.no_refusal.put(&mut terms.no_refusal);
    terms.asks = draft.asks.get().map_or(terms.asks, |count| count.0);
    draft.on.put(&mut terms.on);
    let checks = terms.json_schema.is_some()
        || !terms.cel.is_empty()
        || terms.min_length > 0
        || !terms.must_contain.is_empty()
        || terms.no_refusal
        || terms.on == crate::checked::GateOn::Json;
    if !checks && checker.is_clean() {
        let message = "the gate checks nothing";
        checker.report(Problem::warning(draft.at.clone(), message));
    }
    terms
}

fn schema(given: &Spanned<AnyJson>, checker: &mut Checker<'_>) -> Option<String> {
    match &given.value {
        AnyJson::Inline(value) => Some(value.to_string()),
        AnyJson::File(path) => {
            let text = checker.file(path, &given.span)?;
            if let Err(error) = serde_json::from_str::<&serde_json::value::RawValue>(&text) {
                let message = format!("`{}` is not JSON: {error}", path.display());
                checker.report(Problem::error(given.span.clone(), message));
                return None;
            }
            Some(text)
        }
    }
}

/// A keyed call's answer and, for the review queue, its request are stored whole. Larger ones could be
/// taken in, and never kept.
pub(super) fn storable(draft: &Draft, config: &Config, checker: &mut Checker<'_>) {
    let Some(limits) = draft.limits.get().filter(|_| config.store.is_some()) else {
        return;
    };
    let sizes = [
        ("answer_bytes", &limits.answer_bytes, MOST_STORED),
        ("body_bytes", &limits.body_bytes, MOST_STORED_REQUEST),
    ];
    for (name, size, most) in sizes {
        if let Some(given) = size.given()
            && given.value.0 > most
        {
            let most = most >> 20;
            let message = format!("`{name}` is over {most}MiB, the most that can be stored");
            let problem = Problem::error(given.span.clone(), message);
            checker.report(problem.help("only with `store: { url: none }` it may be more"));
        }
    }
}

/// What needs a store, and there is none.
pub(super) fn without_store(draft: &Draft, config: &Config, checker: &mut Checker<'_>) {
    if config.store.is_some() {
        return;
    }
    let needs: [(&str, Option<crate::yaml::Span>); 2] = [
        ("effects", draft.effects.span()),
        ("webhooks", draft.webhooks.span()),
    ];
    for (what, span) in needs {
        if let Some(span) = span {
            let message = format!("`{what}` need a store, and `store` says `none`");
            checker.report(Problem::error(span, message));
        }
    }
    let sections = std::iter::once(draft.defaults.get().map(|defaults| defaults.policy()));
    let routes = draft.routes.items().iter();
    let sections = sections.flatten().chain(routes.map(|route| route.policy()));
    for fields in sections {
        let useless = [
            ("idempotency", fields.idempotency.span()),
            ("tickets", fields.tickets.span()),
            ("ticket_retry", fields.ticket_retry.span()),
            ("ticket_expiry", fields.ticket_expiry.span()),
        ];
        for (what, span) in useless {
            if let Some(span) = span {
                let message = format!("`{what}` has no effect: `store` says `none`");
                checker.report(Problem::warning(span, message));
            }
        }
    }
}
