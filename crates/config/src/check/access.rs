//! Who may call, and from where.

use std::net::{Ipv4Addr, SocketAddr};

use crate::checked::{Auth, Caller, Config, Route, STRANGER};
use crate::diagnostic::{Problem, suggest};
use crate::draft::{CallerDraft, Draft};
use crate::secret::KeyHash;
use crate::shape::{Field, Spanned};

use super::Checker;

/// The port of the default address.
pub(crate) const PORT: u16 = 4000;

/// A caller's key with fewer characters can be guessed.
const SHORT_KEY: usize = 16;

pub(super) fn listen(draft: &Draft, checker: &mut Checker<'_>) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for given in draft.listen.items() {
        match given.parse::<SocketAddr>() {
            Ok(address) if addresses.contains(&address) => {
                let message = format!("the address `{address}` is given twice");
                checker.report(Problem::error(given.span.clone(), message));
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                let message = "this is not an address with a port";
                let help = listen_help(&given.value);
                checker.report(Problem::error(given.span.clone(), message).help(help));
            }
        }
    }
    if let Field::Given(list) = &draft.listen
        && list.is_empty()
    {
        checker.report(Problem::error(
            list.span.clone(),
            "`listen` names no address",
        ));
    }
    if addresses.is_empty() {
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    }
    addresses
}

fn listen_help(text: &str) -> String {
    match text
        .strip_prefix("localhost:")
        .or_else(|| text.strip_prefix(':'))
    {
        Some(port) if port.parse::<u16>().is_ok() => format!("write `127.0.0.1:{port}`"),
        _ if text.parse::<u16>().is_ok() => format!("write `127.0.0.1:{text}`"),
        _ => "write it like `127.0.0.1:4000` or `[::1]:4000`".to_owned(),
    }
}

/// Anybody on the network could spend the money of whoever holds the keys: refused.
pub(super) fn exposure(draft: &Draft, config: &Config, checker: &mut Checker<'_>) {
    let open = config
        .listen
        .iter()
        .find(|address| !address.ip().is_loopback());
    let guarded = !matches!(draft.callers, Field::Absent) && !draft.callers.items().is_empty();
    let (Some(address), false) = (open, guarded || matches!(draft.callers, Field::Bad)) else {
        return;
    };
    let mut used = config.routes.iter().flat_map(|route| &route.targets);
    if used.all(|target| config.provider(target).auth == Auth::Caller) {
        return;
    }
    let message =
        format!("`{address}` can be reached from other machines, and there are no `callers`");
    let help = "add `callers`, listen on `127.0.0.1`, or use `auth: caller` for every provider";
    checker.report(Problem::error(draft.listen.span(), message).help(help));
}

pub(super) fn callers(
    draft: &Draft,
    routes: &[Spanned<Route>],
    checker: &mut Checker<'_>,
) -> Vec<Caller> {
    let mut callers: Vec<Caller> = Vec::new();
    for item in draft.callers.items() {
        let name = checker.required(&item.name, &item.at, "the caller has no `name`");
        let key = key(item, checker);
        let models = models(item, routes, checker);
        let (Some(name), Some(key)) = (name, key) else {
            continue;
        };
        if callers.iter().any(|caller| caller.name == name.value) {
            let message = format!("two callers have the name `{}`", name.value);
            checker.report(Problem::error(name.span.clone(), message));
        }
        if name.value.starts_with(STRANGER) {
            let message = format!("the name of a caller does not begin with `{STRANGER}`");
            let help = "what belongs to callers with a vendor's own key is kept under such names";
            checker.report(Problem::error(name.span.clone(), message).help(help));
        }
        if let Some(other) = callers.iter().find(|caller| caller.key == key) {
            let message = format!("`{}` and `{}` have the same key", other.name, name.value);
            checker.report(Problem::error(name.span.clone(), message));
        }
        callers.push(Caller {
            name: name.value.clone(),
            key,
            routes: models,
            reviewer: item.reviewer.get().copied().unwrap_or(false),
        });
    }
    callers
}

fn key(draft: &CallerDraft, checker: &mut Checker<'_>) -> Option<KeyHash> {
    match (&draft.key, &draft.key_sha256) {
        (Field::Bad, _) | (_, Field::Bad) => None,
        (Field::Given(key), Field::Absent) => {
            let secret = checker.secret(key, "key")?;
            if secret.expose().len() < SHORT_KEY {
                let message = format!("the key has fewer than {SHORT_KEY} characters");
                let help = "make one with `openssl rand -hex 24`";
                checker.report(Problem::warning(key.span.clone(), message).help(help));
            }
            Some(KeyHash::of(secret.expose()))
        }
        (Field::Absent, Field::Given(hex)) => {
            let hash = KeyHash::from_hex(hex);
            if hash.is_none() {
                checker.secrets.push(hex.span.clone());
                let message = "a SHA-256 is 64 hexadecimal digits";
                checker.report(Problem::error(hex.span.clone(), message));
            }
            hash
        }
        (Field::Given(_), Field::Given(hex)) => {
            let message = "a caller has a `key` or a `key_sha256`, not both";
            checker.report(Problem::error(hex.span.clone(), message));
            None
        }
        (Field::Absent, Field::Absent) => {
            let span = draft.name.span().unwrap_or_else(|| draft.at.clone());
            let problem = Problem::error(span, "the caller has no key");
            checker.report(problem.help("add `key: ${NAME}` or `key_sha256:`"));
            None
        }
    }
}

fn models(
    draft: &CallerDraft,
    routes: &[Spanned<Route>],
    checker: &mut Checker<'_>,
) -> Option<Vec<String>> {
    let given = draft.routes.get()?;
    let known: Vec<&str> = routes.iter().map(|route| route.model.as_str()).collect();
    for model in given {
        if !known.contains(&model.value.as_str()) {
            let message = format!("there is no route with the model `{}`", model.value);
            let help = suggest(&model.value, &known);
            checker.report(Problem::error(model.span.clone(), message).help(help));
        }
    }
    Some(given.iter().map(|model| model.value.clone()).collect())
}
