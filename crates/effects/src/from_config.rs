//! Targets from the configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast_config::checked::{
    self, BaseUrl, EffectKind, EffectTarget, Scheme, SmtpSecurity, Webhook,
};
use holdfast_config::secret::Secret;
use holdfast_core::backoff::Backoff;
use holdfast_upstream::{Http2, SystemRoots, TlsError, tls_config};
use http::{HeaderName, HeaderValue, Method};
use rustls::ClientConfig;
use secrecy::SecretString;

use crate::http::RESERVED;
use crate::sign::{SecretError, Signer};
use crate::target::{Http, Kind, Security, Smtp, Target, Targets};
use crate::webhooks;

/// The attempts at a webhook before a person is asked: with the waits between them about a day.
const WEBHOOK_ATTEMPTS: u32 = 16;
const WEBHOOK_BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(5),
    cap: Duration::from_hours(4),
};
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(15);
const WEBHOOK_PARALLEL: usize = 4;

/// Why a target can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the effect target `{target}`: {why}")]
pub struct TargetError {
    pub target: String,
    #[source]
    pub why: Why,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    #[error("`{0}` is no method")]
    Method(String),
    #[error("`{0}` is no header that a target can have")]
    Header(String),
    #[error("the value of the header `{0}` is no header's value")]
    Value(String),
    #[error("`{0}` is no mail address")]
    From(String),
    #[error("`username` and `password` belong together")]
    Login,
    #[error("signing secret: {0}")]
    Sign(#[from] SecretError),
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
}

impl Targets {
    /// Those of `effects` and of `webhooks`.
    pub fn from_config(
        effects: &checked::Effects,
        webhooks: &[Webhook],
        roots: &SystemRoots,
    ) -> Result<Self, TargetError> {
        let named = effects.targets.iter().map(|target| {
            self::target(target, roots).map_err(|why| TargetError {
                target: target.name.clone(),
                why,
            })
        });
        let told = webhooks.iter().map(|webhook| {
            webhook_target(webhook, roots).map_err(|why| TargetError {
                target: webhook.name.clone(),
                why,
            })
        });
        Ok(Self::new(named.chain(told).collect::<Result<Vec<_>, _>>()?))
    }
}

/// A webhook as a target: signed, and retried for about a day; its receiver knows a repetition by its
/// `webhook-id`.
pub fn webhook_target(webhook: &Webhook, roots: &SystemRoots) -> Result<Target, Why> {
    let tls = tls(webhook.url.scheme == Scheme::Https, roots, None)?;
    Ok(Target {
        name: webhooks::target_name(&webhook.name),
        kind: Kind::Http(Http {
            host: webhook.url.host.clone(),
            port: webhook.url.port,
            authority: webhook.url.authority(),
            tls,
            base: webhook.url.path.clone(),
            methods: vec![Method::POST],
            paths: Vec::new(),
            key_header: HeaderName::from_static("idempotency-key"),
            headers: Vec::new(),
            allow_headers: Vec::new(),
            sign: Some(Signer::new(webhook.secret.expose())?),
        }),
        honours_keys: true,
        allow_private: webhook.allow_private,
        timeout: WEBHOOK_TIMEOUT,
        attempts: WEBHOOK_ATTEMPTS,
        backoff: WEBHOOK_BACKOFF,
        payload_bytes: usize::MAX,
        parallel: WEBHOOK_PARALLEL,
    })
}

fn target(target: &EffectTarget, roots: &SystemRoots) -> Result<Target, Why> {
    Ok(Target {
        name: target.name.clone(),
        kind: kind(target, roots)?,
        honours_keys: target.honours_keys,
        allow_private: target.allow_private,
        timeout: target.timeout,
        attempts: target.attempts,
        backoff: Backoff {
            base: target.backoff.base,
            cap: target.backoff.cap,
        },
        payload_bytes: target.payload_bytes,
        parallel: target.parallel,
    })
}

fn kind(target: &EffectTarget, roots: &SystemRoots) -> Result<Kind, Why> {
    let ca_file = target.ca_file.as_deref();
    match &target.kind {
        EffectKind::Http {
            url,
            methods,
            paths,
            headers,
            allow_headers,
            key_header,
            sign,
        } => Ok(Kind::Http(Http {
            host: url.host.clone(),
            port: url.port,
            authority: BaseUrl::authority(url),
            tls: tls(url.scheme == Scheme::Https, roots, ca_file)?,
            base: url.path.clone(),
            methods: methods.iter().map(method).collect::<Result<_, _>>()?,
            paths: paths.clone(),
            key_header: header_name(key_header)?,
            headers: headers.iter().map(header).collect::<Result<_, _>>()?,
            allow_headers: allow_headers
                .iter()
                .map(|name| header_name(name))
                .collect::<Result<_, _>>()?,
            sign: sign
                .as_ref()
                .map(|secret| Signer::new(secret.expose()))
                .transpose()?,
        })),
        EffectKind::Smtp {
            host,
            port,
            security,
            username,
            password,
            from,
            allow_to,
        } => Ok(Kind::Smtp(Smtp {
            host: host.clone(),
            port: *port,
            security: self::security(*security, roots, ca_file)?,
            login: login(username.as_ref(), password.as_ref())?,
            from: from.parse().map_err(|_| Why::From(from.clone()))?,
            allow_to: allow_to.clone(),
        })),
    }
}

fn tls(
    wanted: bool,
    roots: &SystemRoots,
    ca_file: Option<&Path>,
) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    wanted
        .then(|| tls_config(roots, ca_file, Http2::Never))
        .transpose()
}

fn security(
    word: SmtpSecurity,
    roots: &SystemRoots,
    ca_file: Option<&Path>,
) -> Result<Security, TlsError> {
    let config = || {
        // Mail servers negotiate no protocol, and some refuse one that they do not know.
        let config = tls_config(roots, ca_file, Http2::Never)?;
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols.clear();
        Ok::<_, TlsError>(Arc::new(config))
    };
    Ok(match word {
        SmtpSecurity::Tls => Security::Tls(config()?),
        SmtpSecurity::StartTls => Security::StartTls(config()?),
        SmtpSecurity::None => Security::None,
    })
}

fn login(
    username: Option<&String>,
    password: Option<&Secret>,
) -> Result<Option<(String, SecretString)>, Why> {
    match (username, password) {
        (Some(user), Some(password)) => {
            let password = SecretString::from(password.expose().to_owned());
            Ok(Some((user.clone(), password)))
        }
        (None, None) => Ok(None),
        _ => Err(Why::Login),
    }
}

fn method(text: &String) -> Result<Method, Why> {
    Method::from_bytes(text.as_bytes()).map_err(|_| Why::Method(text.clone()))
}

fn header_name(text: &str) -> Result<HeaderName, Why> {
    HeaderName::try_from(text)
        .ok()
        .filter(|name| !RESERVED.contains(&name.as_str()))
        .ok_or_else(|| Why::Header(text.to_owned()))
}

fn header((name, value): &(String, Secret)) -> Result<(HeaderName, HeaderValue), Why> {
    let parsed = header_name(name)?;
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| Why::Value(name.clone()))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    use std::io;

    use holdfast_config::{Config, Files, parse};

    use super::*;

    struct NoFiles;

    impl Files for NoFiles {
        fn read(&self, _path: &Path) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// The configuration finds most mistakes by itself.
    fn config(rest: &str) -> Result<Config, String> {
        let head = "providers: [{name: a, kind: anthropic, auth: none}]\nroutes: [{model: m, targets: [{provider: a}]}]\n";
        let env = |_: &str| Some("a-secret-of-many-letters".to_owned());
        match parse("test.yaml", &format!("{head}{rest}"), &env, &NoFiles) {
            Ok(loaded) => Ok(loaded.config),
            Err(rejected) => Err(rejected.render(false)),
        }
    }

    fn targets(rest: &str) -> Result<Targets, String> {
        let config = config(rest)?;
        Targets::from_config(&config.effects, &config.webhooks, &SystemRoots::load())
            .map_err(|error| error.to_string())
    }

    /// The example of the documentation.
    #[test]
    fn the_documented_targets_are_what_they_say() {
        let page = include_str!("../../../docs/effects.md");
        let example = page.split("```").find(|block| block.starts_with("yaml"));
        let example = example.unwrap().strip_prefix("yaml\n").unwrap();
        let targets = targets(example).unwrap();
        let names: Vec<&str> = targets.names().collect();
        assert_eq!(names, ["billing", "crm", "mail"]);
        let billing = targets.get("billing").unwrap();
        let Kind::Http(http) = &billing.kind else {
            panic!("{billing:?}")
        };
        assert!(billing.honours_keys && http.tls.is_some() && http.sign.is_none());
        assert_eq!(
            (http.host.as_str(), http.port),
            ("api.billing.example", 443)
        );
        assert_eq!(http.authority, "api.billing.example");
        assert_eq!(http.headers[0].0, "authorization");
        assert!(!format!("{targets:?}").contains("many-letters"));
        let Kind::Http(crm) = &targets.get("crm").unwrap().kind else {
            panic!("not http")
        };
        assert_eq!((crm.base.as_str(), crm.paths.len()), ("/hooks/new-lead", 0));
        assert!(crm.sign.is_some());
        let Kind::Smtp(mail) = &targets.get("mail").unwrap().kind else {
            panic!("not mail")
        };
        assert!(matches!(mail.security, Security::StartTls(_)) && mail.login.is_some());
        assert_eq!(mail.port, 587);
    }

    #[test]
    fn a_webhook_is_a_signed_target() {
        let text = "webhooks: [{name: w, url: \"https://ops.example/hook\", secret: \"${S}\"}]\n";
        let targets = targets(text).unwrap();
        let target = targets.get("webhook:w").unwrap();
        let Kind::Http(http) = &target.kind else {
            panic!("{target:?}")
        };
        assert!(target.honours_keys && http.sign.is_some() && !target.allow_private);
        assert!(targets.of_callers("webhook:w").is_none());
    }

    #[test]
    fn what_cant_be_used_is_named() {
        let target = |fields: &str| {
            format!("effects: {{targets: [{{name: t, honours_keys: true, {fields}}}]}}\n")
        };
        for (fields, word) in [
            ("url: \"http://x\", sign: \"short\"", "signing secret"),
            ("url: \"http://x\", key_header: \"a b\"", "a b"),
            (
                "url: \"http://x\", key_header: Content-Length",
                "content-length",
            ),
            ("url: \"http://x\", headers: {Host: y}", "host"),
            (
                "url: \"http://x\", allow_headers: [Transfer-Encoding]",
                "transfer-encoding",
            ),
            (
                "kind: smtp, host: x, from: nobody, allow_to: [\"*@x\"]",
                "mail address",
            ),
            (
                "kind: smtp, host: x, from: a@x.org, allow_to: [\"*@x\"], username: u",
                "username",
            ),
        ] {
            let error = targets(&target(fields)).unwrap_err();
            assert!(error.to_lowercase().contains(word), "{fields}: {error}");
        }
    }
}
