//! Where effects may go, and who is told of events.

use std::net::IpAddr;

use crate::checked::{Backoff, BaseUrl, EffectKind, EffectTarget, Effects, SmtpSecurity, Webhook};
use crate::diagnostic::Problem;
use crate::draft::{EffectTargetDraft, EffectWord, EffectsDraft, WebhookDraft};
use crate::secret::Secret;
use crate::shape::{Field, Spanned};
use crate::values::SecretText;

use super::Checker;

/// The methods that an effect can have.
const METHODS: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
const DOUBT_HELP: &str = "write `true` only if the target performs a repeated `Idempotency-Key` once; \
                          with `false` nothing is ever sent twice, and what is lost on its way becomes a ticket";

/// Headers that belong to the transport.
const RESERVED: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "forwarded",
    "x-forwarded-for",
];
/// What the kinds of events begin with.
const SUBJECTS: [&str; 5] = ["approval", "effect", "run", "step", "ticket"];
/// The fewest bytes of a signing secret.
const SHORTEST_SECRET: usize = 16;

pub(super) fn all(field: &Field<EffectsDraft>, checker: &mut Checker<'_>) -> Effects {
    let mut effects = Effects::default();
    let Some(draft) = field.get() else {
        return effects;
    };
    draft.parallel.put(&mut effects.parallel);
    draft.expiry.put(&mut effects.expiry);
    for item in draft.targets.items() {
        let Some(name) = name(&item.name, &item.at, "effect target", checker) else {
            continue;
        };
        if effects
            .targets
            .iter()
            .any(|target| target.name == *name.value)
        {
            let message = format!("two effect targets have the name `{}`", name.value);
            checker.report(Problem::error(name.span.clone(), message));
        }
        if let Some(target) = target(item, name, checker) {
            effects.targets.push(target);
        }
    }
    effects
}

fn name<'a>(
    field: &'a Field<String>,
    at: &crate::yaml::Span,
    what: &str,
    checker: &mut Checker<'_>,
) -> Option<&'a Spanned<String>> {
    let name = checker.required(field, at, &format!("the {what} has no `name`"))?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.bytes().all(fits) && name.len() <= 64 {
        return Some(name);
    }
    let message = "a name holds letters, digits, `-`, `_` and `.` only, at most 64";
    checker.report(Problem::error(name.span.clone(), message));
    None
}

fn target(
    draft: &EffectTargetDraft,
    name: &Spanned<String>,
    checker: &mut Checker<'_>,
) -> Option<EffectTarget> {
    let word = match &draft.kind {
        Field::Given(given) => Some(given.value),
        Field::Absent => Some(EffectWord::Http),
        Field::Bad => None,
    };
    let kind = word.and_then(|word| match word {
        EffectWord::Http => http(draft, checker),
        EffectWord::Smtp => smtp(draft, checker),
    });
    let honours_keys = match &draft.honours_keys {
        Field::Given(given) => Some(given.value),
        Field::Bad => None,
        Field::Absent => {
            let message = format!(
                "the effect target `{}` does not say `honours_keys`",
                name.value
            );
            checker.report(Problem::error(name.span.clone(), message).help(DOUBT_HELP));
            None
        }
    };
    let mut target = EffectTarget {
        name: name.value.clone(),
        kind: kind?,
        honours_keys: honours_keys?,
        allow_private: false,
        timeout: std::time::Duration::from_secs(30),
        attempts: 8,
        backoff: Backoff::default(),
        payload_bytes: 1 << 20,
        parallel: 8,
        ca_file: draft.ca_file.get().map(|path| checker.files.resolve(path)),
    };
    draft.allow_private.put(&mut target.allow_private);
    draft.timeout.put(&mut target.timeout);
    draft.attempts.put(&mut target.attempts);
    draft.payload_bytes.put(&mut target.payload_bytes);
    draft.parallel.put(&mut target.parallel);
    if let Some(backoff) = draft.backoff.get() {
        backoff.base.put(&mut target.backoff.base);
        backoff.cap.put(&mut target.backoff.cap);
    }
    Some(target)
}

fn http(draft: &EffectTargetDraft, checker: &mut Checker<'_>) -> Option<EffectKind> {
    let url = checker.required(&draft.url, &draft.at, "the effect target has no `url`")?;
    let url = url_of(url, checker);
    check_private(
        url.as_ref(),
        &draft.allow_private,
        draft.url.span(),
        checker,
    );
    check_names(draft, checker);
    let methods = match draft.methods.given() {
        None => vec!["POST".to_owned()],
        Some(given) => {
            for method in &given.value {
                if !METHODS.contains(&method.as_str()) {
                    let message = format!("an effect can't have the method `{method}`");
                    let help = format!("it is one of {}", METHODS.join(", "));
                    checker.report(Problem::error(given.span.clone(), message).help(help));
                }
            }
            given.value.clone()
        }
    };
    if let Some(paths) = draft.paths.given()
        && let Some(bad) = paths.value.iter().find(|path| !path.starts_with('/'))
    {
        let message = format!("the path `{bad}` does not begin with `/`");
        checker.report(Problem::error(paths.span.clone(), message));
    }
    let mut headers = Vec::new();
    if let Some(named) = draft.headers.get() {
        for (name, value) in &named.0 {
            if let Some(secret) = checker.secret(value, "header") {
                headers.push((name.value.to_ascii_lowercase(), secret));
            }
        }
    }
    Some(EffectKind::Http {
        url: url?,
        methods,
        paths: draft.paths.items().to_vec(),
        headers,
        allow_headers: draft.allow_headers.items().to_vec(),
        key_header: draft
            .key_header
            .get()
            .cloned()
            .unwrap_or_else(|| "Idempotency-Key".to_owned()),
        sign: draft
            .sign
            .given()
            .and_then(|given| signing_secret(given, checker)),
    })
}

/// Header names: those that are sent, those that callers may set, the one for the key.
fn check_names(draft: &EffectTargetDraft, checker: &mut Checker<'_>) {
    let named = draft.headers.get().map_or(&[][..], |named| &named.0);
    let sent = named.iter().map(|(name, _)| (&name.value, &name.span));
    let allowed = draft.allow_headers.given().into_iter();
    let allowed = allowed.flat_map(|given| given.value.iter().map(|name| (name, &given.span)));
    let key = draft.key_header.given().into_iter();
    let key = key.map(|given| (&given.value, &given.span));
    for (name, span) in sent.chain(allowed).chain(key) {
        let lower = name.to_ascii_lowercase();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let message = if lower.is_empty() || !lower.bytes().all(fits) {
            "this is not a valid header name".to_owned()
        } else if RESERVED.contains(&lower.as_str()) || lower.starts_with("proxy-") {
            format!("the header `{lower}` is set by Holdfast itself")
        } else {
            continue;
        };
        checker.report(Problem::error(span.clone(), message));
    }
}

/// An address that is written out and can never be reached. Names are looked up when something is
/// sent, and checked then.
fn check_private(
    url: Option<&BaseUrl>,
    allowed: &Field<bool>,
    span: Option<crate::yaml::Span>,
    checker: &mut Checker<'_>,
) {
    let Some(url) = url.filter(|_| allowed.get() != Some(&true)) else {
        return;
    };
    let is_private = match url.host.parse() {
        Ok(IpAddr::V4(v4)) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => url.host == "localhost" || url.host.ends_with(".localhost"),
    };
    if is_private {
        let message = "this is a private address: whatever is sent there will be refused";
        let problem = Problem::warning(span, message);
        checker.report(problem.help("`allow_private: true` permits it"));
    }
}

fn signing_secret(given: &Spanned<SecretText>, checker: &mut Checker<'_>) -> Option<Secret> {
    let secret = checker.secret(given, "signing secret")?;
    if secret.expose().len() >= SHORTEST_SECRET {
        return Some(secret);
    }
    let message = format!("a signing secret has at least {SHORTEST_SECRET} bytes");
    let problem = Problem::error(given.span.clone(), message);
    checker.report(problem.help("make one with `openssl rand -hex 32`"));
    None
}

fn smtp(draft: &EffectTargetDraft, checker: &mut Checker<'_>) -> Option<EffectKind> {
    let host = checker.required(&draft.host, &draft.at, "the mail target has no `host`")?;
    let from = checker.required(&draft.from, &draft.at, "the mail target has no `from`")?;
    if draft.allow_to.items().is_empty() {
        let problem = Problem::error(host.span.clone(), "the mail target has no `allow_to`");
        checker.report(problem.help("list addresses, or whole domains like `*@example.org`"));
    }
    check_login(draft, checker);
    let security = draft.security.get().copied().unwrap_or(SmtpSecurity::Tls);
    if security == SmtpSecurity::None && draft.password.given().is_some() {
        let message = "the password would cross the network in the clear";
        checker.report(Problem::warning(draft.security.span(), message));
    }
    let usual = match security {
        SmtpSecurity::Tls => 465,
        SmtpSecurity::StartTls => 587,
        SmtpSecurity::None => 25,
    };
    let port = match draft.port.given() {
        None => Some(usual),
        Some(given) => {
            let port = u16::try_from(given.value.0).ok();
            if port.is_none() {
                let message = "a port is a number from 1 to 65535";
                checker.report(Problem::error(given.span.clone(), message));
            }
            port
        }
    };
    Some(EffectKind::Smtp {
        host: host.value.clone(),
        port: port?,
        security,
        username: draft.username.get().cloned(),
        password: secret(&draft.password, "password", checker),
        from: from.value.clone(),
        allow_to: draft.allow_to.items().to_vec(),
    })
}

fn check_login(draft: &EffectTargetDraft, checker: &mut Checker<'_>) {
    if let Some(from) = draft.from.given()
        && !from.contains('@')
        && !from.is_empty()
    {
        let message = "the sender is no mail address";
        checker.report(Problem::error(from.span.clone(), message));
    }
    if draft.username.is_absent() != draft.password.is_absent() {
        let span = draft.username.span().or_else(|| draft.password.span());
        let message = "`username` and `password` belong together";
        checker.report(Problem::error(span, message));
    }
}

fn secret(field: &Field<SecretText>, what: &str, checker: &mut Checker<'_>) -> Option<Secret> {
    let given = field.given()?;
    checker.secret(given, what)
}

fn url_of(given: &Spanned<String>, checker: &mut Checker<'_>) -> Option<BaseUrl> {
    match BaseUrl::plain(&given.value) {
        Ok(url) => Some(url),
        Err(error) => {
            let message = format!("this is no address: {error}");
            checker.report(Problem::error(given.span.clone(), message));
            None
        }
    }
}

pub(super) fn webhooks(
    field: &Field<Vec<WebhookDraft>>,
    checker: &mut Checker<'_>,
) -> Vec<Webhook> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    for item in field.items() {
        let Some(name) = name(&item.name, &item.at, "webhook", checker) else {
            continue;
        };
        if webhooks.iter().any(|webhook| webhook.name == name.value) {
            let message = format!("two webhooks have the name `{}`", name.value);
            checker.report(Problem::error(name.span.clone(), message));
        }
        let url = if let Some(given) = item.url.given() {
            let url = url_of(&given.value, checker);
            let span = Some(given.span.clone());
            check_private(url.as_ref(), &item.allow_private, span, checker);
            url
        } else {
            let message = "the webhook has no `url`";
            checker.report(Problem::error(name.span.clone(), message));
            None
        };
        let secret = if let Some(given) = item.secret.given() {
            signing_secret(given, checker)
        } else {
            let help = "deliveries are signed; make one with `openssl rand -hex 32`";
            let problem = Problem::error(name.span.clone(), "the webhook has no `secret`");
            checker.report(problem.help(help));
            None
        };
        check_events(&item.events, checker);
        if let (Some(url), Some(secret)) = (url, secret) {
            webhooks.push(Webhook {
                name: name.value.clone(),
                url,
                secret,
                events: item.events.items().to_vec(),
                allow_private: item.allow_private.get().copied().unwrap_or(false),
            });
        }
    }
    webhooks
}

fn check_events(field: &Field<Vec<String>>, checker: &mut Checker<'_>) {
    let Some(given) = field.given() else {
        return;
    };
    for event in &given.value {
        let subject = event.split_once('.').map(|(subject, _)| subject);
        if !subject.is_some_and(|subject| SUBJECTS.contains(&subject)) {
            let message = format!("there are no events `{event}`");
            let help = "write them like `ticket.opened` or `effect.*`";
            checker.report(Problem::warning(given.span.clone(), message).help(help));
        }
    }
}
