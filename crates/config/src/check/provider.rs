//! Providers: addresses, credentials, quirks.

use holdfast_wire::turn::Dialect;

use crate::checked::{
    Auth, AuthStyle, BaseUrl, Connections, Http2, Kind, Prefill, Provider, Quirks, Scheme, Tls,
    UrlError,
};
use crate::diagnostic::{Problem, list, suggest};
use crate::draft::{AuthWord, Draft, ProviderDraft};
use crate::secret::Secret;
use crate::shape::{Field, Spanned};
use crate::values::SecretText;
use crate::words::Words as _;
use crate::yaml::Span;

use super::{Checker, policy};

/// Headers that belong to the gateway or to the transport.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
];

/// The providers, with what routes need to know of their drafts.
pub(super) struct Providers<'a> {
    pub(super) list: Vec<Named<'a>>,
    /// Every name that the file gives, also of providers that are wrong.
    pub(super) names: Vec<&'a str>,
    /// Some provider's name is not known: say nothing about unknown names.
    pub(super) unsure: bool,
}

pub(super) struct Named<'a> {
    pub(super) provider: Provider,
    pub(super) draft: &'a ProviderDraft,
}

pub(super) fn all<'a>(draft: &'a Draft, checker: &mut Checker<'_>) -> Providers<'a> {
    let mut providers = Providers {
        list: Vec::new(),
        names: Vec::new(),
        unsure: matches!(draft.providers, Field::Bad),
    };
    if draft.providers.items().is_empty() && !matches!(draft.providers, Field::Bad) {
        let problem = Problem::error(draft.providers.span(), "the file has no providers");
        checker.report(problem.help("`holdfast init` writes a file to begin with"));
    }
    for item in draft.providers.items() {
        let name = name(item, checker);
        match name {
            None => providers.unsure = true,
            Some(name) if providers.names.contains(&name.value.as_str()) => {
                let message = format!("two providers have the name `{}`", name.value);
                checker.report(Problem::error(name.span.clone(), message));
            }
            Some(name) => providers.names.push(&name.value),
        }
        let provider = provider(item, name.map_or("", |name| &name.value), checker);
        if let (Some(provider), Some(_)) = (provider, name) {
            providers.list.push(Named {
                provider,
                draft: item,
            });
        }
    }
    providers
}

fn name<'a>(draft: &'a ProviderDraft, checker: &mut Checker<'_>) -> Option<&'a Spanned<String>> {
    let name = checker.required(&draft.name, &draft.at, "the provider has no `name`")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.bytes().all(fits) && name.len() <= 64 {
        return Some(name);
    }
    let message = "a provider's name holds letters, digits, `-`, `_` and `.` only, at most 64";
    checker.report(Problem::error(name.span.clone(), message));
    None
}

fn provider(draft: &ProviderDraft, name: &str, checker: &mut Checker<'_>) -> Option<Provider> {
    let kind = kind(draft, name, checker);
    let headers = headers(draft, checker);
    let tls = tls(draft, checker);
    let key = match draft.key.given() {
        Some(given) => {
            let secret = checker.secret(given, "key");
            if secret.is_some() {
                check_key(given, checker);
            }
            secret
        }
        None => None,
    };
    if let Some(attempt) = draft.timeouts.get().and_then(|times| times.attempt.get()) {
        policy::check_times(&draft.timeouts, attempt.0, checker);
    }
    let kind = kind?;
    let dialect = draft
        .dialect
        .get()
        .copied()
        .unwrap_or_else(|| kind.dialect());
    let base_url = base_url(draft, kind, dialect, checker);
    let auth = auth(draft, kind, key, checker);
    let quirks = quirks(draft, kind, dialect, checker);
    let (base_url, auth) = (base_url?, auth?);
    check_transport(draft, &base_url, &auth, checker);
    check_version(draft, dialect, checker);
    Some(Provider {
        name: name.to_owned(),
        kind,
        dialect,
        auth,
        auth_style: draft
            .auth_style
            .get()
            .copied()
            .unwrap_or(match (kind, dialect) {
                (Kind::OpenRouter, _) | (_, Dialect::OpenAi) => AuthStyle::Bearer,
                (_, Dialect::Anthropic) => AuthStyle::XApiKey,
            }),
        domain: draft
            .domain
            .get()
            .cloned()
            .unwrap_or_else(|| base_url.domain()),
        base_url,
        anthropic_version: draft.anthropic_version.get().cloned(),
        headers,
        quirks,
        http2: draft.http2.get().copied().unwrap_or(Http2::Auto),
        connections: connections(draft),
        tls,
    })
}

fn kind(draft: &ProviderDraft, name: &str, checker: &mut Checker<'_>) -> Option<Kind> {
    match &draft.kind {
        Field::Given(kind) => return Some(kind.value),
        Field::Bad => return None,
        Field::Absent => {}
    }
    let of_name = Kind::WORDS.iter().find(|(word, _)| *word == name);
    if let Some((_, kind)) = of_name {
        return Some(*kind);
    }
    if !name.is_empty() {
        let words: Vec<&str> = Kind::WORDS.iter().map(|(word, _)| *word).collect();
        let message = format!("the provider `{name}` has no `kind`");
        let help = match suggest(name, &words) {
            near if near.starts_with("did you mean") => format!("{near} Else add `kind:`"),
            _ => format!("add `kind:` with one of {}", list(&words)),
        };
        let span = draft.name.span().unwrap_or_else(|| draft.at.clone());
        checker.report(Problem::error(span, message).help(help));
    }
    None
}

fn base_url(
    draft: &ProviderDraft,
    kind: Kind,
    dialect: Dialect,
    checker: &mut Checker<'_>,
) -> Option<BaseUrl> {
    let usual = kind.base_url();
    let (text, span) = match (&draft.base_url, usual) {
        (Field::Given(given), _) => (given.value.as_str(), given.span.clone()),
        (Field::Bad, _) => return None,
        (Field::Absent, Some(text)) => (text, draft.at.clone()),
        (Field::Absent, None) => {
            let message = format!("a provider of kind `{kind}` needs a `base_url`");
            let help = "add the server's address: `base_url: http://127.0.0.1:8000/v1`";
            checker.report(Problem::error(draft.at.clone(), message).help(help));
            return None;
        }
    };
    match BaseUrl::parse(text, dialect) {
        Ok(url) => Some(url),
        Err(error) => {
            if text.contains('@') {
                checker.secrets.push(span.clone());
            }
            let problem = Problem::error(span, error.to_string());
            checker.report(match error {
                UrlError::Credentials => problem.help("put the credential under `key`"),
                UrlError::Scheme => problem.help("write it like `http://localhost:8000/v1`"),
                UrlError::Host | UrlError::Port | UrlError::Query | UrlError::Character => problem,
            });
            None
        }
    }
}

fn auth(
    draft: &ProviderDraft,
    kind: Kind,
    key: Option<Secret>,
    checker: &mut Checker<'_>,
) -> Option<Auth> {
    let word = match &draft.auth {
        Field::Bad => return None,
        Field::Absent => None,
        Field::Given(given) => Some(given.value),
    };
    let key_absent = draft.key.is_absent();
    match (word, key) {
        (None | Some(AuthWord::Key), Some(key)) => Some(Auth::Key(key)),
        (Some(word @ (AuthWord::Caller | AuthWord::None)), _) => {
            if !key_absent {
                let span = draft.key.span().unwrap_or_else(|| draft.at.clone());
                let message = format!("`key` has no effect with `auth: {word}`");
                checker.report(Problem::error(span, message).help("remove one of the two"));
            }
            Some(match word {
                AuthWord::Caller => Auth::Caller,
                AuthWord::Key | AuthWord::None => Auth::None,
            })
        }
        // The key was given and is wrong: that was reported.
        (None | Some(AuthWord::Key), None) if !key_absent => None,
        (None, None) if !kind.wants_key() => Some(Auth::None),
        (None | Some(AuthWord::Key), None) => {
            let message = format!("a provider of kind `{kind}` needs a `key`");
            let help = format!(
                "add `key: ${{{}}}`, or `auth: caller` to pass on each caller's own credential",
                variable(kind)
            );
            checker.report(Problem::error(draft.at.clone(), message).help(help));
            None
        }
    }
}

/// The usual name of the variable that holds a vendor's key.
fn variable(kind: Kind) -> String {
    let name = kind.name().to_uppercase().replace('-', "_");
    format!("{name}_API_KEY")
}

fn check_key(given: &Spanned<SecretText>, checker: &mut Checker<'_>) {
    if let SecretText::Inline(text) = &given.value
        && text.contains(' ')
    {
        let message = "the key holds a blank, as no vendor's does";
        checker.report(Problem::warning(given.span.clone(), message));
    }
}

fn quirks(
    draft: &ProviderDraft,
    kind: Kind,
    dialect: Dialect,
    checker: &mut Checker<'_>,
) -> Quirks {
    let mut quirks = kind.quirks();
    if dialect != kind.dialect() {
        // The quirks are known of the usual side of the server only.
        quirks = match dialect {
            Dialect::Anthropic => Kind::Anthropic.quirks(),
            Dialect::OpenAi => Kind::OpenAiCompatible.quirks(),
        };
    }
    if let Some(own) = draft.quirks.get() {
        own.stop_limit.put(&mut quirks.stop_limit);
        own.tool_id_alnum9.put(&mut quirks.tool_id_alnum9);
        own.max_tokens_field.put(&mut quirks.max_tokens_field);
        own.prefill.put(&mut quirks.prefill);
        own.stream_options.put(&mut quirks.stream_options);
        if let Some(prefill) = own.prefill.given() {
            check_prefill(prefill.value, &prefill.span, kind, dialect, checker);
        }
    }
    quirks
}

/// Whether a server of this kind can take a begun answer in this way (wire facts 5.1).
pub(super) fn check_prefill(
    prefill: Prefill,
    span: &Span,
    kind: Kind,
    dialect: Dialect,
    checker: &mut Checker<'_>,
) {
    let special = matches!(prefill, Prefill::Prefix | Prefill::ContinueFinalMessage);
    if special && dialect == Dialect::Anthropic {
        let message = format!("`prefill: {prefill}` does not exist in the Anthropic dialect");
        let help = "use `trailing` where the model takes it, else `none`";
        checker.report(Problem::error(span.clone(), message).help(help));
    }
    if kind == Kind::OpenAi && prefill != Prefill::None {
        let message = "OpenAI begins a new message instead of going on with a begun one";
        checker.report(Problem::error(span.clone(), message).help("use `prefill: none`"));
    }
}

fn headers(draft: &ProviderDraft, checker: &mut Checker<'_>) -> Vec<(String, Secret)> {
    let mut headers: Vec<(String, Secret)> = Vec::new();
    let given = draft.headers.get().map_or(&[][..], |named| &named.0);
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let problem = if lower.is_empty() || !lower.bytes().all(fits) {
            Some("this is not a valid header name".to_owned())
        } else if RESERVED.contains(&lower.as_str()) || lower.starts_with("proxy-") {
            Some(format!("the header `{lower}` is set by Holdfast itself"))
        } else if headers.iter().any(|(known, _)| *known == lower) {
            Some(format!("the header `{lower}` is given twice"))
        } else {
            None
        };
        match problem {
            Some(message) => {
                let mut problem = Problem::error(name.span.clone(), message);
                if lower == "authorization" || lower == "x-api-key" {
                    problem = problem.help("use `key` and `auth_style`");
                }
                checker.report(problem);
            }
            None => {
                if let Some(secret) = checker.secret(value, "header's value") {
                    headers.push((lower, secret));
                }
            }
        }
    }
    headers
}

fn tls(draft: &ProviderDraft, checker: &mut Checker<'_>) -> Tls {
    let given = draft.tls.get().and_then(|tls| tls.ca_file.given());
    let Some(given) = given else {
        return Tls::default();
    };
    if let Some(text) = checker.file(&given.value, &given.span)
        && !text.contains("-----BEGIN CERTIFICATE-----")
    {
        let message = format!("`{}` holds no PEM certificate", given.display());
        checker.report(Problem::error(given.span.clone(), message));
    }
    Tls {
        ca_file: Some(checker.files.resolve(&given.value)),
    }
}

fn connections(draft: &ProviderDraft) -> Connections {
    let mut connections = Connections::default();
    if let Some(own) = draft.connections.get() {
        own.max_h1_idle.put(&mut connections.max_h1_idle);
        own.h2_streams_per_connection
            .put(&mut connections.h2_streams_per_connection);
        own.h2_max_connections
            .put(&mut connections.h2_max_connections);
    }
    connections
}

fn check_transport(draft: &ProviderDraft, url: &BaseUrl, auth: &Auth, checker: &mut Checker<'_>) {
    if url.scheme == Scheme::Https {
        return;
    }
    if let Some(tls) = draft.tls.given() {
        let message = "`tls` has no effect: the address begins with `http://`";
        checker.report(Problem::warning(tls.span.clone(), message));
    }
    let bare = matches!(auth, Auth::Key(_) | Auth::Caller) && !url.is_loopback();
    if bare {
        let span = draft.base_url.span().unwrap_or_else(|| draft.at.clone());
        let message = "the credential goes over the network unencrypted";
        checker.report(Problem::warning(span, message).help("use `https://`"));
    }
}

fn check_version(draft: &ProviderDraft, dialect: Dialect, checker: &mut Checker<'_>) {
    let Some(version) = draft.anthropic_version.given() else {
        return;
    };
    if dialect != Dialect::Anthropic {
        let message = "`anthropic_version` has no effect: this provider speaks another dialect";
        checker.report(Problem::warning(version.span.clone(), message));
    }
    if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "this is not a version, like `2023-06-01`";
        checker.report(Problem::error(version.span.clone(), message));
    }
}
