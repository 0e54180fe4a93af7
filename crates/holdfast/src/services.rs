//! The services behind the paths beside the model calls, put together over one store.

use std::sync::Arc;
use std::time::Duration;

use holdfast_config::Config;
use holdfast_effects::{
    Effects, EffectsApi, Failpoint, Judging, Limits, Parts, Subscription, Targets, Verdicts,
    system_resolver,
};
use holdfast_gateway::Handle;
use holdfast_ops::{Gates, Mount, NoStore, Ops};
use holdfast_review::{Ask, Asking, Review};
use holdfast_store::{KeptRequest, Retention, Store};
use holdfast_upstream::SystemRoots;
use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::env;

/// The longest rest between two automatic retries of a route.
const RETRY_CAP: Duration = Duration::from_mins(10);

/// Everything that stands over a store.
pub(crate) struct Services {
    ops: Arc<Ops>,
    effects: Arc<Effects>,
    subscriptions: watch::Sender<Arc<Vec<Subscription>>>,
}

impl Services {
    /// Begins all services and mounts them. Their tasks go into `tasks` and end with `drain`.
    pub(crate) fn start(
        store: &Store,
        config: &Config,
        gateway: &Handle,
        drain: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, String> {
        let clock = gateway.clock();
        let effects = Effects::new(Parts {
            store: store.clone(),
            targets: targets(config)?,
            clock: clock.clone(),
            limits: Limits {
                parallel: config.effects.parallel,
                expiry: config.effects.expiry,
                wait: config.limits.wait,
                ..Limits::default()
            },
            verdicts: Arc::new(Gateway(gateway.clone())),
            failpoint: env("HOLDFAST_FAILPOINT")
                .map_or_else(Failpoint::default, Failpoint::abort_at),
            resolve: system_resolver(),
        });
        let terms = holdfast_review::Terms {
            claim: config.review.claim,
            retry_interval: config.review.retry_interval,
            retry_cap: RETRY_CAP,
            retry_parallel: config.review.retry_parallel,
            // Forgetting is the upkeep of `ops`.
            retention: None,
        };
        let ask = Arc::new(Gateway(gateway.clone()));
        let review = Review::new(store.clone(), ask.clone(), terms, clock.clone());
        let mounts = vec![
            Mount::new(
                Arc::new(EffectsApi(effects.clone())),
                holdfast_effects::openapi(),
            ),
            Mount::new(Arc::new(review.clone()), holdfast_review::openapi()),
        ];
        let ops = Ops::new(store.clone(), mounts, ask, ops_terms(config), clock);
        let (subscriptions, subscribed) = watch::channel(Arc::new(subscriptions(config)));
        tasks.spawn(ops.clone().run(drain.clone()));
        tasks.spawn(review.run(drain.clone()));
        tasks.spawn(effects.clone().run(drain.clone()));
        tasks.spawn(effects.clone().run_webhooks(subscribed, drain.clone()));
        gateway.mount_services(ops.clone(), Runtime::current());
        Ok(Self {
            ops,
            effects,
            subscriptions,
        })
    }

    /// Takes a reloaded configuration into use; `Err` = the old targets stay.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), String> {
        self.effects.set_targets(targets(config)?);
        self.ops.set_terms(ops_terms(config));
        self.subscriptions
            .send_replace(Arc::new(subscriptions(config)));
        Ok(())
    }
}

/// There is no store to work with; `why` is told to whoever needs one.
pub(crate) fn refuse(gateway: &Handle, runtime: &Runtime, why: &str) {
    let documents = [holdfast_effects::openapi(), holdfast_review::openapi()];
    let told = format!("nothing can be kept now: {why}");
    let service = Arc::new(NoStore::because(&documents, told));
    gateway.mount_services(service, runtime.clone());
    gateway.refuse_store(why.to_owned());
}

/// The effect targets and webhooks, built.
pub(crate) fn targets(config: &Config) -> Result<Targets, String> {
    let roots = SystemRoots::load();
    Targets::from_config(&config.effects, &config.webhooks, &roots)
        .map_err(|error| error.to_string())
}

fn subscriptions(config: &Config) -> Vec<Subscription> {
    let webhooks = config.webhooks.iter();
    webhooks
        .map(|webhook| Subscription {
            name: webhook.name.clone(),
            events: webhook.events.clone(),
        })
        .collect()
}

fn ops_terms(config: &Config) -> holdfast_ops::Terms {
    holdfast_ops::Terms {
        wait: config.limits.wait,
        heartbeat: config.runs.heartbeat,
        check_every: config.runs.check_every,
        approval_expiry: config.review.approval_expiry,
        retention: retention(config),
        ..holdfast_ops::Terms::default()
    }
}

fn retention(config: &Config) -> Retention {
    config
        .store
        .as_ref()
        .map_or_else(Retention::default, |store| Retention {
            exchanges: store.retention.exchanges,
            tickets: store.retention.tickets,
            effects: store.retention.effects,
            runs: store.retention.runs,
            events: store.retention.events,
        })
}

/// The gateway as its services see it.
struct Gateway(Handle);

impl Ask for Gateway {
    fn ask(&self, request: KeptRequest, scope: &str, target: Option<&str>) -> Asking {
        let gateway = self.0.clone();
        let (scope, target) = (scope.to_owned(), target.map(str::to_owned));
        Box::pin(async move { gateway.ask(request, &scope, target.as_deref()).await })
    }

    fn is_route_healthy(&self, model: &str) -> bool {
        self.0.is_route_healthy(model)
    }

    fn check_answer(&self, kept: &KeptRequest, body: &[u8]) -> Result<(), String> {
        self.0.check_answer(kept, body)
    }
}

impl Gates for Gateway {
    fn check_step(&self, step: &str, result: &str) -> Result<(), String> {
        self.0.check_step(step, result)
    }
}

impl Verdicts for Gateway {
    fn verdict(&self, scope: &str, exchange: &str) -> Judging {
        let gateway = self.0.clone();
        let (scope, exchange) = (scope.to_owned(), exchange.to_owned());
        Box::pin(async move { gateway.verdict(&scope, &exchange).await })
    }
}
