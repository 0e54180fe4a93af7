//! The task of one keyed call: it claims the key, runs the call or fetches what is stored, and settles.
//!
//! The order is the promise: claimed in the store before anything is sent, the whole answer in the
//! store before its end is published, a ticket in the store before the error is told. A write that
//! fails is told, and tried again until the store takes it: the call itself is never made again here.
//! What the store can never take is told as an error, and its key is free again.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use holdfast_config::checked::{KeepTickets, Policy, Repeats, TicketRetry};
use holdfast_core::exchange::{Finish, Outcome};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency::{Afterwards, afterwards};
use holdfast_core::judge::Flaw;
use holdfast_core::time::Wall;
use holdfast_store::{
    Abandoned, Claimed, Error, KeptRequest, KeyId, MAX_CONTENT_BYTES, NewClaim, NewTicket,
    RetryPolicy, Store, StoredAnswer, TicketKind,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::in_hand::InHand;
use super::in_use;
use super::kept;
use super::recording::{Head, Recording, no_room};
use super::registry::Asked;
use crate::admit::Call;
use crate::drive::{Drive, Step};
use crate::emit;
use crate::failpoint;
use crate::worker::Worker;

/// How often another process's call is looked at.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// How often a write that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// What came of a vendor that never lets us wait is published when it is that much.
const MOST_AT_ONCE: usize = 64 << 10;

/// The check of a configuration speaks of the store's own limit.
const _: () = assert!(holdfast_config::checked::MOST_STORED == MAX_CONTENT_BYTES);

/// What the task of a call works with.
struct Pursuit {
    worker: Rc<Worker>,
    store: Arc<Store>,
    asked: Asked,
    /// The exchange under which the key is claimed.
    exchange: String,
    recording: Arc<Recording>,
}

/// A key that this process has.
#[derive(Clone, Copy)]
struct Hold {
    fence: i64,
    /// Until when the claim says that it is kept; `None` = it was claimed before.
    expires: Option<Wall>,
}

/// What became of a write that was insisted on.
enum Insisted<T> {
    /// The store has it.
    Kept(T),
    /// The store will never take it.
    Never(Error),
    /// The gateway ends before the store took it.
    Ends,
}

/// Begins the task. `later` = the request is kept with the key, so that it can be run after a crash.
pub(super) fn spawn(
    worker: &Rc<Worker>,
    call: Box<Call>,
    asked: Asked,
    recording: Arc<Recording>,
    later: bool,
) {
    let task = pursue(worker.clone(), call, asked, recording, later);
    // Boxed: it is large, and on its way to the runtime it would be moved five times.
    worker.spawn(Box::pin(task));
}

async fn pursue(
    worker: Rc<Worker>,
    call: Box<Call>,
    asked: Asked,
    recording: Arc<Recording>,
    later: bool,
) {
    let in_hand = InHand::new(&worker, &asked, &call.id).followed(&recording);
    match worker.shared.durable.store() {
        Ok(store) => {
            let pursuit = Pursuit {
                worker,
                store,
                asked,
                exchange: call.id.clone(),
                recording,
            };
            match pursuit.claim(&call, later).await {
                Ok(Some(hold)) => pursuit.run(call, hold).await,
                Ok(None) => {}
                Err(fault) => pursuit.recording.fail(fault),
            }
        }
        Err(fault) => recording.fail(fault),
    }
    in_hand.settled();
}

/// Runs a call whose key this process has taken over: one that was to be answered later.
pub(super) async fn run_claimed(
    worker: &Rc<Worker>,
    store: Arc<Store>,
    call: Box<Call>,
    in_hand: InHand,
    abandoned: Abandoned,
) {
    let asked = (abandoned.id, abandoned.fingerprint);
    let recording = Recording::new(&worker.shared, call.wishes.dialect, &call.id);
    worker.shared.registry.replace(&asked, recording.clone());
    let in_hand = in_hand.followed(&recording);
    let pursuit = Pursuit {
        worker: worker.clone(),
        store,
        asked,
        exchange: abandoned.exchange,
        recording,
    };
    let hold = Hold {
        fence: abandoned.fence,
        expires: None,
    };
    pursuit.run(call, hold).await;
    in_hand.settled();
}

impl Pursuit {
    fn id(&self) -> &KeyId {
        &self.asked.0
    }

    /// The hold on a call to run; `None` = it was answered from the store.
    async fn claim(&self, call: &Call, later: bool) -> Result<Option<Hold>, Fault> {
        let clock = self.worker.shared.clock;
        let terms = call.policy();
        let deadline = clock.now() + terms.deadline;
        let request = later.then(|| kept::request(call).to_bytes());
        let mut pause = LOOK;
        loop {
            let now = clock.wall();
            let expires = kept_until(now, terms.idempotency.expiry);
            let mut hold_until = Some(expires);
            let claim = NewClaim {
                id: self.id().clone(),
                fingerprint: self.asked.1,
                exchange: call.id.clone(),
                request: request.clone(),
                run: call.run.clone(),
                step: call.step.clone(),
                now,
                expires,
            };
            let claimed = self.store.claim_key(claim).await?;
            let claimed = match claimed {
                Claimed::Ticketed { .. } if terms.ticket_retry == TicketRetry::OnRepeat => {
                    let request = request.as_deref();
                    hold_until = None;
                    self.store
                        .reopen_key(self.id(), &call.id, request, now)
                        .await?
                }
                claimed => claimed,
            };
            match claimed {
                Claimed::Fresh { fence } => {
                    let expires = hold_until;
                    return Ok(Some(Hold { fence, expires }));
                }
                Claimed::Done(answer) => {
                    self.replay(answer);
                    return Ok(None);
                }
                Claimed::Mismatch => return Err(mismatch()),
                Claimed::Ticketed { ticket, .. } => {
                    return Err(in_review(&ticket, terms.retry_after));
                }
                Claimed::Running { .. } if terms.idempotency.repeats == Repeats::Refuse => {
                    return Err(in_use("another process runs it"));
                }
                Claimed::Running { .. } if clock.now() >= deadline => {
                    return Err(in_use("another process runs it still"));
                }
                Claimed::Running { .. } => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LOOK_MAX);
                }
            }
        }
    }

    fn replay(&self, answer: StoredAnswer) {
        self.worker.shared.metrics.keyed("replayed");
        let exchange = answer.exchange.clone();
        let (head, body) = unpack(answer);
        self.recording.replay(&exchange, head, body);
    }

    /// Makes the call and records it.
    async fn run(&self, call: Box<Call>, hold: Hold) {
        failpoint::reached("key.after_claim");
        self.worker.shared.metrics.keyed("run");
        self.recording.runs_here();
        let mut drive = Box::new(Drive::new(self.worker.clone(), call));
        match std::future::poll_fn(|cx| drive.poll_step(cx)).await {
            Step::Release(first) => self.stream(drive, first, hold).await,
            Step::Finish(finish) => {
                let mut head = Head {
                    status: StatusCode::OK,
                    headers: HeaderMap::new(),
                };
                let json = HeaderValue::from_static("application/json");
                head.headers.insert(header::CONTENT_TYPE, json);
                emit::mark_all(&mut head.headers, &drive);
                let body = finish.body.clone().unwrap_or_default();
                self.close(drive, Some(head), vec![body], finish, hold)
                    .await;
            }
        }
    }

    /// Publishes what comes, except what came together with the end, as long as it can be kept.
    async fn stream(&self, mut drive: Box<Drive>, first: Bytes, hold: Hold) {
        let head = Head {
            status: StatusCode::OK,
            headers: emit::stream_headers(&drive),
        };
        let mut head = Some(head);
        let (mut bytes, mut waiting) = (first.len(), first.len());
        let mut batch = vec![first];
        loop {
            let step = std::future::poll_fn(|cx| match drive.poll_step(cx) {
                Poll::Ready(step) => Poll::Ready(Some(step)),
                Poll::Pending if batch.is_empty() => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            })
            .await;
            match step {
                Some(Step::Release(more)) if bytes + more.len() > MAX_CONTENT_BYTES => {
                    drive.give_up(too_large(MAX_CONTENT_BYTES));
                }
                Some(Step::Release(more)) => {
                    bytes += more.len();
                    waiting += more.len();
                    if waiting > MOST_AT_ONCE {
                        waiting = more.len();
                        if !self.show(&mut head, &mut batch) {
                            drive.give_up(no_room());
                        }
                    }
                    // It may be the last: that one goes with the end.
                    batch.push(more);
                }
                Some(Step::Finish(finish)) => {
                    return self.close(drive, head, batch, finish, hold).await;
                }
                None => {
                    waiting = 0;
                    if !self.show(&mut head, &mut batch) {
                        drive.give_up(no_room());
                    }
                }
            }
        }
    }

    /// Publishes what waits. `false` = there is no room for more.
    fn show(&self, head: &mut Option<Head>, batch: &mut Vec<Bytes>) -> bool {
        if let Some(head) = head.take() {
            self.recording.begin(head);
        }
        self.recording.publish(batch.drain(..))
    }

    /// The end: kept first, told then. `head` = it was not published yet.
    async fn close(
        &self,
        drive: Box<Drive>,
        head: Option<Head>,
        batch: Vec<Bytes>,
        finish: Finish,
        hold: Hold,
    ) {
        match finish.outcome {
            Outcome::Delivered(verdict) => {
                let outcome = verdict.name();
                self.deliver(drive, head, batch, outcome, hold).await;
            }
            Outcome::Told(fault) => {
                // What nobody saw need not be shown: the error then has a head of its own.
                if self.recording.head().is_some() {
                    self.recording.publish(batch);
                }
                let recording = self.recording.clone();
                let (call, refused) = (&drive.call, drive.held_back());
                Box::pin(self.tell(call, fault, refused, hold.fence, recording)).await;
            }
            // Nobody can hang up on a recording.
            Outcome::CallerGone => self
                .recording
                .fail(Fault::new(Code::Internal, "the call was given up")),
        }
    }

    async fn deliver(
        &self,
        drive: Box<Drive>,
        head: Option<Head>,
        batch: Vec<Bytes>,
        outcome: &str,
        hold: Hold,
    ) {
        let published = self.recording.head();
        let shown = head.as_ref().or(published.as_deref());
        let shown = shown.expect("invariant: a head is published or at hand");
        let answer = StoredAnswer {
            exchange: drive.call.id.clone(),
            outcome: outcome.to_owned(),
            status: shown.status.as_u16(),
            headers: pairs(&shown.headers),
            body: self.recording.body_with(&batch),
        };
        let expires = kept_until(self.wall(), drive.call.policy().idempotency.expiry);
        // The usual call ends in the step of time in which it began.
        let expires = (hold.expires != Some(expires)).then_some(expires);
        let fence = hold.fence;
        failpoint::reached("key.before_store");
        let write = || {
            let (id, now) = (self.id(), self.wall());
            self.store.complete_key(id, fence, &answer, now, expires)
        };
        let (kept, recording) = self
            .insist(&drive.call, self.recording.clone(), write)
            .await;
        failpoint::reached("key.after_store");
        match kept {
            Insisted::Kept(true) if !Arc::ptr_eq(&recording, &self.recording) => {
                // Those who were there were told; whoever came since gets it now.
                let (head, body) = unpack(answer);
                recording.replay(&drive.call.id, head, body);
            }
            Insisted::Kept(true) => {
                recording.end(head, batch);
            }
            Insisted::Kept(false) => recording.fail(taken_over()),
            Insisted::Never(error) => {
                let fault = unstorable(error);
                Box::pin(self.tell(&drive.call, fault, None, fence, recording)).await;
            }
            Insisted::Ends => {}
        }
    }

    /// There is no answer: a ticket where the route keeps one, else the key is free again.
    /// `refused` = what the last answer said that a gate held back.
    async fn tell(
        &self,
        call: &Call,
        mut fault: Fault,
        refused: Option<&str>,
        fence: i64,
        mut recording: Arc<Recording>,
    ) {
        let policy = call.policy();
        let keeps =
            policy.tickets != KeepTickets::Never && afterwards(fault.code) == Afterwards::Ticket;
        if keeps {
            let expires = self.wall() + policy.ticket_expiry;
            let ticket = NewTicket {
                key: Some(self.id().clone()),
                ..new_ticket(&self.worker, call, &fault, refused)
            };
            let write = || {
                let ticket = ticket.clone();
                self.store.ticket_key(self.id(), fence, ticket, expires)
            };
            let kept;
            (kept, recording) = self.insist(call, recording, write).await;
            match kept {
                Insisted::Kept(Some(ticket)) => {
                    fault.message =
                        format!("{}; kept for review as ticket {ticket}", fault.message);
                    fault.retry_after = Some(policy.retry_after);
                    return recording.fail(fault);
                }
                Insisted::Kept(None) => return recording.fail(taken_over()),
                Insisted::Never(error) => {
                    fault.message = format!("{}; no ticket is kept: {error}", fault.message);
                }
                Insisted::Ends => return,
            }
        }
        let write = || self.store.release_key(self.id(), fence);
        let (kept, recording) = self.insist(call, recording, write).await;
        match kept {
            Insisted::Kept(true) => recording.fail(fault),
            Insisted::Kept(false) => recording.fail(taken_over()),
            Insisted::Never(_) => {
                self.store.give_back_key(self.id(), &self.exchange);
                recording.fail(fault);
            }
            Insisted::Ends => {}
        }
    }

    /// Writes until the store takes it, or says that it never will. When it does not take it at once,
    /// those who wait are told, and whoever comes later follows another recording: the one that is
    /// given back.
    async fn insist<T, F>(
        &self,
        call: &Call,
        mut recording: Arc<Recording>,
        write: impl Fn() -> F,
    ) -> (Insisted<T>, Arc<Recording>)
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut is_told = false;
        let mut pause = AGAIN;
        loop {
            match write().await {
                Ok(written) => return (Insisted::Kept(written), recording),
                Err(error) if error.is_lasting() => {
                    tracing::error!(exchange = call.id, %error, "an outcome can't be stored");
                    return (Insisted::Never(error), recording);
                }
                Err(error) => {
                    tracing::warn!(exchange = call.id, %error, "an outcome can't be stored yet");
                    if !std::mem::replace(&mut is_told, true) {
                        recording.fail(Fault::from(error));
                        let shared = &self.worker.shared;
                        recording = Recording::new(shared, call.wishes.dialect, &call.id);
                        shared.registry.replace(&self.asked, recording.clone());
                    }
                }
            }
            if self.worker.shared.is_draining() {
                // The next process finds the key with a dead owner and runs the call anew: nobody was
                // given this answer.
                return (Insisted::Ends, recording);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    fn wall(&self) -> Wall {
        self.worker.shared.clock.wall()
    }
}

/// Keeps a call without a key that nobody could answer, where its route keeps all. Its caller is not
/// held up: it was told already that there is no answer.
pub(crate) fn keep_unkeyed(worker: &Worker, call: &Call, fault: &Fault, refused: Option<&str>) {
    let wanted = call.policy().tickets == KeepTickets::All
        && !call.kept_elsewhere
        && afterwards(fault.code) == Afterwards::Ticket;
    let Some(store) = worker.shared.durable.mounted().filter(|_| wanted) else {
        return;
    };
    let ticket = new_ticket(worker, call, fault, refused);
    worker.spawn(async move {
        if let Err(error) = store.open_ticket(ticket).await {
            tracing::warn!(%error, "a call that nobody could answer could not be kept");
        }
    });
}

/// The ticket of a call without a key that found no answer; `refused` = what the last one said that a
/// gate held back.
fn new_ticket(worker: &Worker, call: &Call, fault: &Fault, refused: Option<&str>) -> NewTicket {
    let content = KeptRequest {
        refused: refused.map(str::to_owned),
        ..kept::request(call)
    };
    let broken = Broken {
        scope: call.scope.clone(),
        exchange: call.id.clone(),
        key: None,
        run: call.run.clone(),
        step: call.step.clone(),
        route: call.snapshot.config.routes[call.route].model.clone(),
        model: call.model.clone(),
        content: content.to_bytes(),
    };
    broken.ticket(worker, call.policy(), fault)
}

/// A call without an answer, on its way into the review queue.
pub(super) struct Broken {
    pub(super) scope: String,
    pub(super) exchange: String,
    pub(super) key: Option<KeyId>,
    pub(super) run: Option<String>,
    pub(super) step: Option<String>,
    pub(super) route: String,
    pub(super) model: String,
    /// The kept request.
    pub(super) content: Vec<u8>,
}

impl Broken {
    pub(super) fn ticket(self, worker: &Worker, policy: &Policy, fault: &Fault) -> NewTicket {
        let now = worker.shared.clock.wall();
        let exchange = worker.shared.ledger.find(&self.exchange);
        NewTicket {
            kind: match fault.code {
                Code::GateFailed => TicketKind::Gate,
                _ => TicketKind::Call,
            },
            scope: self.scope,
            subject: self.exchange,
            key: self.key,
            run: self.run,
            step: self.step,
            route: Some(self.route),
            title: format!("{}: {}", self.model, fault.message),
            facts: serde_json::json!({
                "code": fault.code.number(),
                "message": fault.message,
                "exchange": exchange.as_deref(),
            }),
            content: Some(self.content),
            policy: match policy.ticket_retry {
                TicketRetry::OnRepeat => RetryPolicy::OnRepeat,
                TicketRetry::WhenHealthy => RetryPolicy::WhenHealthy,
                TicketRetry::Never => RetryPolicy::Never,
            },
            not_before: now + policy.retry_after,
            expires: now + policy.ticket_expiry,
            now,
        }
    }
}

/// Until when a key is kept: at least as long as asked for, and at most a thousandth longer. Whatever comes
/// in one such step of time has the same end, and the store need not move it.
fn kept_until(now: Wall, expiry: Duration) -> Wall {
    let step = i64::try_from(expiry.as_millis() / 1000)
        .unwrap_or(i64::MAX)
        .max(1);
    let at = (now + expiry).0;
    Wall(at.saturating_add(step - 1) / step * step)
}

/// More than the store takes for one answer.
pub(crate) fn too_large(limit: usize) -> Fault {
    let flaw = Flaw::TooLarge { limit };
    Fault::new(Code::UpstreamIncomplete, flaw.to_string())
}

/// A whole answer that the store never takes can't be given once, and so is none.
fn unstorable(error: Error) -> Fault {
    match error {
        Error::TooLarge { limit, .. } => too_large(limit),
        error => error.into(),
    }
}

fn mismatch() -> Fault {
    Fault::new(
        Code::KeyReused,
        "the key was used with another request; a new request needs a new key",
    )
}

fn in_review(ticket: &str, retry_after: Duration) -> Fault {
    let message = format!("the call is kept for review as ticket {ticket}");
    let mut fault = Fault::new(Code::InReview, message);
    fault.retry_after = Some(retry_after);
    fault
}

fn taken_over() -> Fault {
    Fault::new(
        Code::TakenOver,
        "another process took this call over while this one was silent; repeat it with the same key",
    )
}

/// Headers as they are stored.
pub(crate) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// A stored answer as it is sent.
pub(super) fn unpack(answer: StoredAnswer) -> (Head, Bytes) {
    let headers = answer.headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    });
    let head = Head {
        status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK),
        headers: headers.collect(),
    };
    (head, Bytes::from(answer.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_as_long_as_asked_for_and_a_thousandth() {
        let day = Duration::from_hours(24);
        for (now, expiry, until) in [
            (0, day, 86_400_000),
            (1, day, 86_400_000 + 86_400),
            (86_400, day, 86_400_000 + 86_400),
            (86_401, day, 86_400_000 + 2 * 86_400),
            (7, Duration::from_millis(1), 8),
            (7, Duration::from_millis(1999), 2006),
            (7, Duration::from_secs(2), 2008),
        ] {
            assert_eq!(
                kept_until(Wall(now), expiry),
                Wall(until),
                "{now} {expiry:?}"
            );
        }
        let forever = kept_until(Wall(1), Duration::MAX);
        assert!(forever.0 > i64::MAX / 2, "{forever:?}");
    }
}
