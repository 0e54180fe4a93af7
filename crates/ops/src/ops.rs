//! The one service: finds who answers, and runs the tasks of this room.

use std::sync::Arc;

use holdfast_api::{Answer, Answering, Clock, Request, Service, json};
use holdfast_store::{Error, Store};
use http::StatusCode;
use serde_json::Value;
use tokio::sync::watch;

use crate::document::{Directory, Known, merged};
use crate::gates::Gates;
use crate::mount::Mount;
use crate::routes::{self, Op};
use crate::shared::Shared;
use crate::terms::Terms;
use crate::upkeep::{self, Checked};
use crate::{approvals, events, runs, wait};

/// Runs, approvals, events, and all that is mounted beside them.
pub struct Ops {
    shared: Arc<Shared>,
    mounts: Vec<Mount>,
    directory: Directory,
}

impl Ops {
    /// Answers its own paths and those of `mounts`. [`Self::run`] is to be called once: without it no
    /// long poll is woken.
    pub fn new(
        store: Store,
        mounts: Vec<Mount>,
        gates: Arc<dyn Gates>,
        terms: Terms,
        clock: Clock,
    ) -> Arc<Self> {
        let documents: Vec<Value> = mounts.iter().map(|mount| mount.document.clone()).collect();
        let document = merged(&documents);
        Arc::new(Self {
            directory: Directory::new(&document),
            shared: Arc::new(Shared::new(store, gates, terms, clock, document)),
            mounts,
        })
    }

    /// Takes new terms, after a reload. What waits already waits on by the old ones.
    pub fn set_terms(&self, terms: Terms) {
        self.shared.set_terms(terms);
    }

    /// Watches over runs, deadlines and retention until `drain` says `true` (or its sender has gone);
    /// then ends long polls and streams of events, and returns when all is over.
    pub async fn run(self: Arc<Self>, mut drain: watch::Receiver<bool>) {
        let shared = &self.shared;
        let going_down = async {
            // Nobody is left to say so: the same.
            let _ = drain.wait_for(|drain| *drain).await;
            shared.drain.send_replace(true);
        };
        tokio::join!(
            going_down,
            wait::relay(shared),
            upkeep::watch(shared),
            upkeep::forget(shared)
        );
        let mut streams = std::mem::take(&mut *shared.streams.lock());
        while streams.join_next().await.is_some() {}
    }

    /// Looks once for quiet runs and for approvals whose deadline has passed; [`Self::run`] does so all
    /// the time.
    pub async fn check(&self) -> Result<Checked, Error> {
        upkeep::check(&self.shared).await
    }

    /// Forgets once what may be forgotten, and gives the number of rows; [`Self::run`] does so all the
    /// time.
    pub async fn expire(&self) -> Result<u64, Error> {
        upkeep::expire(&self.shared).await
    }

    /// How many streams of events are open; for metrics.
    pub fn streams(&self) -> usize {
        self.shared.open_streams()
    }

    /// Each method and path template that is answered here.
    pub fn routes() -> impl Iterator<Item = (String, String)> {
        let routes = routes::ROUTES.iter();
        routes.map(|(method, path, _)| (method.to_string(), (*path).to_owned()))
    }

    /// The whole `OpenAPI` document.
    pub fn document(&self) -> &Value {
        &self.shared.document
    }
}

impl Service for Ops {
    fn handle(&self, request: &Request) -> Option<Answering> {
        if let Some((op, names)) = routes::find(&request.method, &request.segments()) {
            return Some(Box::pin(serve(
                self.shared.clone(),
                op,
                names,
                request.clone(),
            )));
        }
        let mounted = self.mounts.iter();
        if let Some(answering) = mounted
            .clone()
            .find_map(|mount| mount.service.handle(request))
        {
            return Some(answering);
        }
        match self.directory.look(request) {
            Known::Refused(fault) => Some(Box::pin(std::future::ready(Err(fault)))),
            Known::Yes | Known::No => None,
        }
    }
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ops")
            .field("mounts", &self.mounts.len())
            .finish_non_exhaustive()
    }
}

async fn serve(shared: Arc<Shared>, op: Op, names: Vec<String>, request: Request) -> Answer {
    let name = |place: usize| names.get(place).map_or("", String::as_str);
    match op {
        Op::DeclareRun => runs::declare(&shared, &request).await,
        Op::ListRuns => runs::list(&shared, &request).await,
        Op::ShowRun => runs::show(&shared, &request, name(0)).await,
        Op::Heartbeat => runs::heartbeat(&shared, &request, name(0)).await,
        Op::EndRun => runs::end(&shared, &request, name(0)).await,
        Op::MoveStep => runs::steps::change(&shared, &request, name(0), name(1)).await,
        Op::ShowStep => runs::steps::show(&shared, &request, name(0), name(1)).await,
        Op::Ask => approvals::ask(&shared, &request).await,
        Op::ListApprovals => approvals::list(&shared, &request).await,
        Op::ShowApproval => approvals::show(&shared, &request, name(0)).await,
        Op::Decide => approvals::decide(&shared, &request, name(0)).await,
        Op::Events => events::open(&shared, &request).await,
        Op::Document => json(StatusCode::OK, &shared.document),
    }
}
