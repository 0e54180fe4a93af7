//! A configuration made ready for use: endpoints, decisions' data, health, looked up once.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use holdfast_config::checked::{self, Auth, AuthStyle, Config, Http2, Scheme};
use holdfast_core::{backoff, breaker, budget, policy};
use holdfast_telemetry::metrics::Counter;
use holdfast_upstream::{Endpoint, SystemRoots, TlsError, tls_config};
use holdfast_wire::turn::Dialect;
use http::{HeaderName, HeaderValue, Uri, header};

use crate::clock::Clock;
use crate::gates::{Gates, ReadyGate};
use crate::health::{Healths, TargetHealth};
use crate::names;

/// One immutable configuration with what is derived from it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) config: Arc<Config>,
    pub(crate) providers: Vec<Provider>,
    /// In the configuration's order.
    pub(crate) routes: Vec<Route>,
    /// The gates of steps, in the configuration's order.
    steps: Vec<ReadyGate>,
    /// Differs from that of every other snapshot of this process.
    pub(crate) generation: u64,
    /// Whether other machines reach the listeners. They stay as they were at the start, whatever a
    /// later configuration says.
    pub(crate) open: bool,
}

/// What is asked of vendors, below their base.
const ENDPOINTS: [&str; 3] = ["/messages", "/chat/completions", "/messages/count_tokens"];

/// A provider, ready to be called.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) endpoint: Endpoint,
    /// Where its endpoints are; one whose path is none is missing.
    pub(crate) uris: Vec<(&'static str, Uri)>,
    pub(crate) domain: u32,
    /// What every request carries, in this order: the host, the gateway's own credential, the
    /// version of the dialect, and what is configured, which may replace them.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// A route, ready for decisions.
#[derive(Debug)]
pub(crate) struct Route {
    /// The model name that callers use, as configured.
    pub(crate) name: Arc<str>,
    pub(crate) policy: policy::Policy,
    pub(crate) targets: Vec<policy::Target>,
    pub(crate) healths: Vec<Arc<TargetHealth>>,
    /// Its counter of whole answers, looked up once.
    pub(crate) whole: OnceLock<Counter>,
    gate: Option<ReadyGate>,
}

/// Why a checked configuration can't be used on this machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("provider `{provider}`: {source}")]
    Tls { provider: String, source: TlsError },
    #[error("provider `{provider}`: header `{header}` can't be sent")]
    Header { provider: String, header: String },
    #[error("route `{route}`: {source}")]
    Gate {
        route: String,
        source: holdfast_gate::Error,
    },
    #[error("step `{step}`: {source}")]
    StepGate {
        step: String,
        source: holdfast_gate::Error,
    },
}

impl Snapshot {
    pub(crate) fn new(
        config: Arc<Config>,
        healths: &Healths,
        clock: Clock,
        generation: u64,
        open: bool,
    ) -> Result<Self, Error> {
        let roots = OnceCell::new();
        let mut domains: HashMap<&str, u32> = HashMap::new();
        let mut providers = Vec::with_capacity(config.providers.len());
        for provider in &config.providers {
            let count = u32::try_from(domains.len()).unwrap_or(u32::MAX);
            let domain = *domains.entry(&provider.domain).or_insert(count);
            providers.push(ready_provider(provider, domain, &roots)?);
        }
        let routes = config
            .routes
            .iter()
            .map(|route| ready_route(route, &config, &providers, healths, clock))
            .collect::<Result<_, _>>()?;
        let steps = config.steps.iter().map(ready_step);
        let steps = steps.collect::<Result<_, _>>()?;
        Ok(Self {
            config,
            providers,
            routes,
            steps,
            generation,
            open,
        })
    }

    /// The place of the route for a model name.
    pub(crate) fn route(&self, model: &str) -> Option<usize> {
        let found = self.config.route(model)?;
        self.config
            .routes
            .iter()
            .position(|route| std::ptr::eq(route, found))
    }

    /// What an answer must pass that came by this route, for this step.
    pub(crate) fn gates(&self, route: usize, step: Option<&str>) -> Gates<'_> {
        Gates {
            route: self.routes[route].gate.as_ref(),
            step: step.and_then(|step| self.step_gate(step)),
        }
    }

    /// The gate of a step.
    pub(crate) fn step_gate(&self, step: &str) -> Option<&ReadyGate> {
        let found = self.config.step(step)?;
        let mut steps = self.config.steps.iter();
        let place = steps.position(|step| std::ptr::eq(step, found))?;
        self.steps.get(place)
    }
}

fn ready_provider(
    provider: &checked::Provider,
    domain: u32,
    roots: &OnceCell<SystemRoots>,
) -> Result<Provider, Error> {
    let url = &provider.base_url;
    let http2 = match provider.http2 {
        Http2::Auto => holdfast_upstream::Http2::Auto,
        Http2::Never => holdfast_upstream::Http2::Never,
        Http2::PriorKnowledge => holdfast_upstream::Http2::PriorKnowledge,
    };
    let tls = match url.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(
            tls_config(
                roots.get_or_init(SystemRoots::load),
                provider.tls.ca_file.as_deref(),
                http2,
            )
            .map_err(|source| Error::Tls {
                provider: provider.name.clone(),
                source,
            })?,
        ),
    };
    let connections = &provider.connections;
    let endpoint = Endpoint {
        host: url.host.clone(),
        port: url.port,
        tls,
        http2,
        max_idle: connections.max_h1_idle as usize,
        streams_per_connection: connections.h2_streams_per_connection as usize,
        max_connections: connections.h2_max_connections as usize,
    };
    let bad = |header: &str| Error::Header {
        provider: provider.name.clone(),
        header: header.to_owned(),
    };
    let host = HeaderValue::from_str(&url.authority()).map_err(|_| bad("host"))?;
    let mut headers = vec![(header::HOST, host)];
    if let Auth::Key(key) = &provider.auth {
        let (name, text) = match provider.auth_style {
            AuthStyle::Bearer => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
            AuthStyle::XApiKey => (names::X_API_KEY.clone(), key.expose().to_owned()),
        };
        let value = sensitive(&text).ok_or_else(|| bad(name.as_str()))?;
        headers.push((name, value));
    }
    let version = provider.anthropic_version.as_ref();
    if let Some(version) = version.filter(|_| provider.dialect == Dialect::Anthropic) {
        let value = HeaderValue::from_str(version).map_err(|_| bad("anthropic-version"))?;
        headers.push((names::ANTHROPIC_VERSION.clone(), value));
    }
    for (name, value) in &provider.headers {
        let value = sensitive(value.expose()).ok_or_else(|| bad(name))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(name))?;
        headers.push((name, value));
    }
    let uris = ENDPOINTS
        .iter()
        .filter_map(|path| Some((*path, url.join(path).parse().ok()?)))
        .collect();
    Ok(Provider {
        endpoint,
        uris,
        domain,
        headers,
    })
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn ready_route(
    route: &checked::Route,
    config: &Config,
    providers: &[Provider],
    healths: &Healths,
    clock: Clock,
) -> Result<Route, Error> {
    let gate = route.policy.gate.as_ref().map(ReadyGate::new).transpose();
    let gate = gate.map_err(|source| Error::Gate {
        route: route.model.clone(),
        source,
    })?;
    let targets = route
        .targets
        .iter()
        .map(|target| {
            let provider = config.provider(target);
            policy::Target {
                dialect: provider.dialect,
                domain: providers[target.provider].domain,
                context_window: target.context_window,
                names_model: target.model.is_some(),
                caller_auth: provider.auth == Auth::Caller,
                streams_plain_calls: streams_plain_calls(target, provider),
                timeouts: timeouts(&target.timeouts),
            }
        })
        .collect();
    let healths = route
        .targets
        .iter()
        .map(|target| {
            let provider = config.provider(target);
            let name = format!(
                "{}/{}",
                provider.name,
                target.model.as_deref().unwrap_or("*")
            );
            healths.of(
                name.into(),
                breaker_terms(&config.breaker),
                budget_terms(&config.budget),
                clock.now(),
            )
        })
        .collect();
    Ok(Route {
        name: route.model.as_str().into(),
        policy: ready_policy(&route.policy, &config.limits),
        targets,
        whole: OnceLock::new(),
        healths,
        gate,
    })
}

fn ready_step(step: &checked::Step) -> Result<ReadyGate, Error> {
    ReadyGate::new(&step.gate).map_err(|source| Error::StepGate {
        step: step.step.clone(),
        source,
    })
}

/// `auto`: where the fold of a stream into one body is exact, usage included.
fn streams_plain_calls(target: &checked::Target, provider: &checked::Provider) -> bool {
    match target.upstream_stream {
        checked::UpstreamStream::Always => true,
        checked::UpstreamStream::Never => false,
        checked::UpstreamStream::Auto => {
            provider.dialect == Dialect::Anthropic || provider.quirks.stream_options
        }
    }
}

fn ready_policy(from: &checked::Policy, limits: &checked::Limits) -> policy::Policy {
    policy::Policy {
        delivery: match from.delivery {
            checked::Delivery::Live => policy::Delivery::Live,
            checked::Delivery::Guarded => policy::Delivery::Guarded,
            checked::Delivery::Whole => policy::Delivery::Whole,
        },
        join: from.join,
        attempts_per_target: from.attempts_per_target,
        max_attempts: from.max_attempts,
        deadline: from.deadline,
        backoff: backoff::Backoff {
            base: from.backoff.base,
            cap: from.backoff.cap,
        },
        on_refusal: match from.on_refusal {
            checked::OnRefusal::Deliver => policy::OnRefusal::Deliver,
            checked::OnRefusal::Next => policy::OnRefusal::Next,
        },
        empty_is_whole: from.empty_answer == checked::EmptyAnswer::Whole,
        heartbeat: from.heartbeat,
        max_continuations: from.max_continuations,
        answer_limit: limits.answer_bytes,
        event_limit: limits.event_bytes,
    }
}

fn timeouts(from: &checked::Timeouts) -> policy::Timeouts {
    policy::Timeouts {
        connect: from.connect,
        head: from.head,
        first_token: from.first_token,
        idle: from.idle,
        attempt: from.attempt,
        after_finish: from.after_finish,
    }
}

fn breaker_terms(from: &checked::Breaker) -> breaker::Terms {
    breaker::Terms {
        consecutive: from.consecutive,
        share: from.share,
        window: from.window,
        min_calls: from.min_calls,
        open: from.open,
        open_max: from.open_max,
        money: from.money,
    }
}

fn budget_terms(from: &checked::Budget) -> budget::Terms {
    budget::Terms {
        share: from.share,
        floor_per_second: from.floor_per_second,
    }
}
