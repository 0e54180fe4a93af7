//! Routes: model names, targets, what they promise together.

use std::collections::BTreeSet;

use crate::checked::{Auth, Policy, Prefill, Route, Target, Timeouts, UpstreamStream};
use crate::diagnostic::{Problem, suggest};
use crate::draft::{Draft, RouteDraft, TargetFields};
use crate::shape::{Field, Spanned};

use super::provider::{Named, Providers, check_prefill};
use super::{Checker, policy};

pub(super) fn all(
    draft: &Draft,
    providers: &Providers<'_>,
    defaults: &Policy,
    checker: &mut Checker<'_>,
) -> Vec<Spanned<Route>> {
    if draft.routes.items().is_empty() && !matches!(draft.routes, Field::Bad) {
        let help = "add for example `routes: [{ model: \"*\", targets: [<provider>] }]`";
        checker.report(Problem::error(draft.routes.span(), "the file has no routes").help(help));
    }
    let mut routes: Vec<Spanned<Route>> = Vec::new();
    for item in draft.routes.items() {
        let Some(model) = model(item, checker) else {
            // Its targets may be wrong too: say so now.
            targets(item, providers, &Policy::default(), checker);
            continue;
        };
        if routes.iter().any(|route| route.model == model.value) {
            let message = format!("two routes have the model `{}`", model.value);
            checker.report(Problem::error(model.span.clone(), message));
        }
        let policy = policy::over(defaults, item.policy(), checker);
        let targets = targets(item, providers, &policy, checker);
        check_together(item, &targets, providers, &policy, checker);
        routes.push(Spanned {
            value: Route {
                model: model.value.clone(),
                targets,
                policy,
            },
            span: model.span.clone(),
        });
    }
    warn_of_unused(draft, providers, checker);
    routes
}

fn model<'a>(draft: &'a RouteDraft, checker: &mut Checker<'_>) -> Option<&'a Spanned<String>> {
    let model = checker.required(&draft.model, &draft.at, "the route has no `model`")?;
    is_pattern(model, "a model name", "claude*", checker).then_some(model)
}

/// Whether this is a name, or the beginning of names with a `*` at its end; reported where not.
pub(super) fn is_pattern(
    given: &Spanned<String>,
    what: &str,
    example: &str,
    checker: &mut Checker<'_>,
) -> bool {
    let prefix = given.strip_suffix('*').unwrap_or(given);
    if prefix.contains('*') {
        let message = format!("{what} takes one `*`, at its end");
        let help = match prefix.split('*').next() {
            Some(start) if !start.is_empty() => format!("write `{start}*`"),
            _ => format!("names are matched by their beginning: `{example}`, or `*` for all"),
        };
        checker.report(Problem::error(given.span.clone(), message).help(help));
        return false;
    }
    if given.bytes().any(|byte| byte.is_ascii_control()) || given.trim() != given.as_str() {
        let message = format!("{what} has no blanks around it and no control characters");
        checker.report(Problem::error(given.span.clone(), message));
        return false;
    }
    true
}

fn targets(
    draft: &RouteDraft,
    providers: &Providers<'_>,
    policy: &Policy,
    checker: &mut Checker<'_>,
) -> Vec<Target> {
    if draft.targets.items().is_empty() && !matches!(draft.targets, Field::Bad) {
        let span = draft.model.span().unwrap_or_else(|| draft.at.clone());
        let problem = Problem::error(span, "the route has no targets");
        checker.report(problem.help("add `targets:` with at least one provider"));
    }
    let mut targets = Vec::new();
    let mut seen = BTreeSet::new();
    for item in draft.targets.items() {
        let fields = &item.0;
        let Some(place) = find_provider(fields, providers, checker) else {
            continue;
        };
        let model = fields
            .model
            .get()
            .cloned()
            .filter(|model| !model.is_empty());
        if let (Some(given), None) = (fields.model.given(), &model) {
            let message = "the target's `model` is empty";
            let problem = Problem::error(given.span.clone(), message);
            checker.report(problem.help("leave it out to pass the caller's model name on"));
        }
        if !seen.insert((place, model.clone())) {
            let message = "the route names this target twice";
            let help = "to ask it more often, raise `attempts_per_target`";
            checker.report(Problem::error(fields.at.clone(), message).help(help));
        }
        targets.push(target(
            fields,
            place,
            model,
            &providers.list[place],
            policy,
            checker,
        ));
    }
    targets
}

fn find_provider(
    fields: &TargetFields,
    providers: &Providers<'_>,
    checker: &mut Checker<'_>,
) -> Option<usize> {
    let message = "the target has no `provider`";
    let given = checker.required(&fields.provider, &fields.at, message)?;
    let is_it = |named: &Named<'_>| named.provider.name == given.value;
    if let Some(place) = providers.list.iter().position(is_it) {
        return Some(place);
    }
    // A provider that is there but wrong was reported already.
    let sure = !providers.unsure && !providers.names.is_empty();
    if sure && !providers.names.contains(&given.value.as_str()) {
        let message = format!("there is no provider `{}`", given.value);
        let help = suggest(&given.value, &providers.names);
        checker.report(Problem::error(given.span.clone(), message).help(help));
    }
    None
}

fn target(
    fields: &TargetFields,
    place: usize,
    model: Option<String>,
    named: &Named<'_>,
    policy: &Policy,
    checker: &mut Checker<'_>,
) -> Target {
    let provider = &named.provider;
    let mut prefill = provider.quirks.prefill;
    fields.prefill.put(&mut prefill);
    if let Some(given) = fields.prefill.given() {
        check_prefill(
            given.value,
            &given.span,
            provider.kind,
            provider.dialect,
            checker,
        );
        if !policy.join && given.value != Prefill::None {
            let message = "`prefill` has no effect: `join` is off for this route";
            checker.report(Problem::warning(given.span.clone(), message));
        }
    }
    let mut upstream_stream = UpstreamStream::Auto;
    fields.upstream_stream.put(&mut upstream_stream);
    let mut max_output_tokens = None;
    fields.max_output_tokens.put(&mut max_output_tokens);
    let mut context_window = None;
    fields.context_window.put(&mut context_window);
    if let (Some(output), Some(window)) = (max_output_tokens, context_window)
        && output > window
    {
        let message = "`max_output_tokens` is larger than the whole `context_window`";
        let span = fields
            .max_output_tokens
            .span()
            .unwrap_or_else(|| fields.at.clone());
        checker.report(Problem::error(span, message));
    }
    Target {
        provider: place,
        model,
        max_output_tokens,
        context_window,
        images: fields.images.get().copied().unwrap_or(true),
        documents: fields.documents.get().copied().unwrap_or(true),
        upstream_stream,
        prefill,
        timeouts: timeouts(fields, named, policy.timeouts, checker),
    }
}

fn timeouts(
    fields: &TargetFields,
    named: &Named<'_>,
    of_route: Timeouts,
    checker: &mut Checker<'_>,
) -> Timeouts {
    let of_provider = policy::times_over(of_route, &named.draft.timeouts);
    let times = policy::times_over(of_provider, &fields.timeouts);
    policy::check_times(&fields.timeouts, times.attempt, checker);
    times
}

fn check_together(
    draft: &RouteDraft,
    targets: &[Target],
    providers: &Providers<'_>,
    policy: &Policy,
    checker: &mut Checker<'_>,
) {
    let span = draft.model.span().unwrap_or_else(|| draft.at.clone());
    let of = |target: &Target| &providers.list[target.provider].provider;
    let all_callers = targets.iter().all(|target| of(target).auth == Auth::Caller);
    let domains: BTreeSet<&str> = targets.iter().map(|t| of(t).domain.as_str()).collect();
    if all_callers && domains.len() > 1 {
        let message = "every target takes the caller's own credential, and they are of different \
                       vendors: a caller has a credential for one of them, so there is no fallback";
        let help = "give the fallback a `key` of its own";
        checker.report(Problem::warning(span.clone(), message).help(help));
    }
    let attempts = usize::try_from(policy.max_attempts).unwrap_or(usize::MAX);
    if attempts < targets.len() {
        let message = format!(
            "the route has {} targets but `max_attempts` is {attempts}: the last ones are never asked",
            targets.len()
        );
        let span = draft.max_attempts.span().unwrap_or_else(|| span.clone());
        checker.report(Problem::warning(span, message));
    }
    let Some(first) = targets.first() else {
        return;
    };
    for (target, item) in targets.iter().zip(draft.targets.items()) {
        let foreign = of(target).kind != of(first).kind;
        if foreign && target.model.is_none() && targets.len() == draft.targets.items().len() {
            let message = format!(
                "the caller's model name goes unchanged to `{}`, which is of another vendor than \
                 the first target",
                of(target).name
            );
            let help = format!("name its model: `{}/<model>`", of(target).name);
            checker.report(Problem::warning(item.0.at.clone(), message).help(help));
        }
    }
}

fn warn_of_unused(draft: &Draft, providers: &Providers<'_>, checker: &mut Checker<'_>) {
    // Where something is wrong, a target may have been meant for it.
    if !matches!(draft.routes, Field::Given(_)) || !checker.is_clean() {
        return;
    }
    for named in &providers.list {
        let used = draft.routes.items().iter().any(|route| {
            let mut targets = route.targets.items().iter();
            targets.any(|target| target.0.provider.get() == Some(&named.provider.name))
        });
        if !used {
            let message = format!("no route uses the provider `{}`", named.provider.name);
            let span = named.draft.name.span();
            checker.report(Problem::warning(span, message));
        }
    }
}
