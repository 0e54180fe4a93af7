//! Where effects may go, and who is told of events.

use crate::checked::{Backoff, BaseUrl, EffectKind, EffectTarget, Effects, SmtpSecurity, Webhook};
use crate::diagnostic::Problem;
use crate::draft::{EffectTargetDraft, EffectWord, EffectsDraft, WebhookDraft};
use crate::secret::Secret;
use crate::shape::{Field, Spanned};

use super::Checker;

/// The methods that an effect can have.
const METHODS: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
const DOUBT_HELP: &str = "write `true` only if the target performs a repeated `Idempotency-Key` once; \
                          with `false` nothing is ever sent twice, and what is lost on its way becomes a ticket";

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
    let kind = match draft.kind.get().copied().unwrap_or(EffectWord::Http) {
        EffectWord::Http => http(draft, checker),
        EffectWord::Smtp => smtp(draft, checker),
    };
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
        ca_file: draft.ca_file.get().map(|path| checker.files.resolve(path)),
    };
    draft.allow_private.put(&mut target.allow_private);
    draft.timeout.put(&mut target.timeout);
    draft.attempts.put(&mut target.attempts);
    draft.payload_bytes.put(&mut target.payload_bytes);
    if let Some(backoff) = draft.backoff.get() {
        backoff.base.put(&mut target.backoff.base);
        backoff.cap.put(&mut target.backoff.cap);
    }
    Some(target)
}

fn http(draft: &EffectTargetDraft, checker: &mut Checker<'_>) -> Option<EffectKind> {
    let url = checker.required(&draft.url, &draft.at, "the effect target has no `url`")?;
    let url = url_of(url, checker);
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
        sign: secret(&draft.sign, "signing secret", checker),
    })
}

fn smtp(draft: &EffectTargetDraft, checker: &mut Checker<'_>) -> Option<EffectKind> {
    let host = checker.required(&draft.host, &draft.at, "the mail target has no `host`")?;
    let from = checker.required(&draft.from, &draft.at, "the mail target has no `from`")?;
    if draft.allow_to.items().is_empty() {
        let problem = Problem::error(host.span.clone(), "the mail target has no `allow_to`");
        checker.report(problem.help("list addresses, or whole domains like `*@example.org`"));
    }
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

fn secret(
    field: &Field<crate::values::SecretText>,
    what: &str,
    checker: &mut Checker<'_>,
) -> Option<Secret> {
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
            url_of(&given.value, checker)
        } else {
            let message = "the webhook has no `url`";
            checker.report(Problem::error(name.span.clone(), message));
            None
        };
        let secret = if let Some(given) = item.secret.given() {
            checker.secret(given, "webhook's secret")
        } else {
            let help = "deliveries are signed; make one with `openssl rand -hex 32`";
            let problem = Problem::error(name.span.clone(), "the webhook has no `secret`");
            checker.report(problem.help(help));
            None
        };
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
