//! Drives one exchange over real connections: the only place of the data path where the clock, the
//! sockets and the decisions meet.
//!
//! A [`Drive`] is polled by whoever wants the caller's bytes: first by the service until the response
//! head can be written, then by the response body. There is no task and no channel for it, so a slow
//! caller slows its vendor, and a caller that hangs up drops everything with it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use holdfast_core::classify;
use holdfast_core::exchange::{Action, Exchange, Finish, Head, Outcome, Send, Setup};
use holdfast_core::fault::Fault;
use holdfast_upstream::{Answer, Error as UpstreamError, Head as Said, Response};
use tokio::time::Sleep;

use crate::admit::Call;
use crate::clock::unix_seconds;
use crate::health::Selected;
use crate::keyed;
use crate::prepare;
use crate::redact;
use crate::settle::{self, settle};
use crate::worker::Worker;
use holdfast_core::time::Time;
use holdfast_wire::turn::Dialect;

type Sending = Pin<Box<dyn Future<Output = Result<Response, UpstreamError>>>>;

enum Upstream {
    None,
    Sending {
        attempt: u32,
        connected: Rc<Cell<bool>>,
        told: bool,
        future: Sending,
    },
    Flowing {
        attempt: u32,
        answer: Answer,
    },
}

/// What the caller is to be given next.
#[derive(Debug)]
pub(crate) enum Step {
    Release(Bytes),
    Finish(Finish),
}

/// One exchange and its connection.
pub(crate) struct Drive {
    worker: Rc<Worker>,
    pub(crate) call: Box<Call>,
    exchange: Exchange,
    health: Selected,
    upstream: Upstream,
    timer: Option<Pin<Box<Sleep>>>,
    timer_due: Time,
    losses: Vec<String>,
    settled: bool,
}

impl Drive {
    pub(crate) fn new(worker: Rc<Worker>, call: Box<Call>) -> Self {
        let now = worker.shared.clock.now();
        let route = &call.snapshot.routes[call.route];
        let mut policy = route.policy;
        policy.delivery = call.delivery;
        let prefix = match call.wishes.dialect {
            Dialect::Anthropic => "msg_",
            Dialect::OpenAi => "chatcmpl-",
        };
        let setup = Setup {
            policy,
            targets: call
                .targets
                .iter()
                .map(|place| route.targets[*place])
                .collect(),
            wishes: call.wishes,
            answer_id: [prefix, &*call.id].concat(),
            model: call.model.clone(),
            created: unix_seconds(),
            include_usage: call.include_usage,
            gate: call.gates().gated(),
        };
        let health = Selected(
            call.targets
                .iter()
                .map(|place| route.healths[*place].clone())
                .collect(),
        );
        Self {
            worker,
            call,
            exchange: Exchange::new(setup, now),
            health,
            upstream: Upstream::None,
            timer: None,
            timer_due: Time::default(),
            losses: Vec::new(),
            settled: false,
        }
    }

    /// The next thing for the caller. After `Step::Finish` it must not be polled again.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        // One moment for all that has come: the clock is asked once for each turn.
        let now = self.worker.shared.clock.now();
        loop {
            if let Some(step) = self.act(now) {
                return Poll::Ready(step);
            }
            // What has come counts before what is late.
            if self.poll_upstream(now, cx).is_ready() {
                continue;
            }
            ready!(self.poll_timer(cx));
        }
    }

    /// What it releases can't be kept: it ends, and its caller is told why. Not after `Step::Finish`.
    pub(crate) fn give_up(&mut self, fault: Fault) {
        let now = self.worker.shared.clock.now();
        self.exchange.handle_no_place(fault, now);
    }

    /// `provider/model` of the target that is being asked, and how many were asked.
    pub(crate) fn progress(&self) -> (Option<Arc<str>>, usize) {
        let record = self.exchange.record();
        let running = usize::from(self.exchange.current_target().is_some());
        let target = self
            .exchange
            .current_target()
            .or_else(|| record.attempts.last().map(|attempt| attempt.target));
        (
            target.map(|target| settle::target_name(&self.call, target)),
            record.attempts.len() + running,
        )
    }

    pub(crate) fn losses(&self) -> &[String] {
        &self.losses
    }

    /// What the last answer said that a gate held back.
    pub(crate) fn held_back(&self) -> Option<&str> {
        self.exchange.held_back()
    }

    /// Performs what the exchange decides, until it waits or has something for the caller.
    fn act(&mut self, now: Time) -> Option<Step> {
        loop {
            let action = self
                .exchange
                .poll_action(now, &mut self.health, &mut || fastrand::u64(..))?;
            match action {
                Action::Send(send) => self.send(&send),
                Action::Abort { .. } => self.upstream = Upstream::None,
                Action::Release(bytes) => return Some(Step::Release(bytes)),
                Action::Finish(mut finish) => {
                    if let Outcome::Told(fault) = &mut finish.outcome {
                        redact::fault(&self.call, fault);
                    }
                    self.close(&finish);
                    return Some(Step::Finish(finish));
                }
            }
        }
    }

    fn send(&mut self, send: &Send) {
        let prepared = match prepare::prepare(&self.call, send) {
            Ok(prepared) => prepared,
            Err(why) => return self.exchange.handle_untranslatable(send.attempt, &why),
        };
        if let Some(back) = prepared.back {
            self.exchange.handle_translated(send.attempt, back);
        }
        for loss in prepared.losses {
            if !self.losses.contains(&loss) {
                self.losses.push(loss);
            }
        }
        let snapshot = &self.call.snapshot;
        let place = self.call.targets[send.target];
        let provider = snapshot.config.routes[self.call.route].targets[place].provider;
        let pool = self.worker.pool(snapshot, provider);
        let connected = Rc::new(Cell::new(false));
        let flag = connected.clone();
        let request = prepared.request;
        // Opening a connection takes a large future; most calls find one.
        let future: Sending = if let Some(connection) = pool.kept() {
            flag.set(true);
            Box::pin(connection.send(request))
        } else {
            Box::pin(async move {
                let connection = pool.connect().await?;
                flag.set(true);
                connection.send(request).await
            })
        };
        self.upstream = Upstream::Sending {
            attempt: send.attempt,
            connected,
            told: false,
            future,
        };
    }

    /// Ready = the exchange was told something.
    fn poll_upstream(&mut self, now: Time, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.upstream {
            Upstream::None => Poll::Pending,
            Upstream::Sending {
                attempt,
                connected,
                told,
                future,
            } => {
                let attempt = *attempt;
                let poll = future.as_mut().poll(cx);
                if connected.get() && !*told {
                    *told = true;
                    self.exchange.handle_connected(attempt, now);
                }
                match ready!(poll) {
                    Ok(Response { head, answer }) => {
                        self.upstream = Upstream::Flowing { attempt, answer };
                        self.exchange.handle_head(attempt, read_head(head), now);
                    }
                    Err(error) => {
                        self.upstream = Upstream::None;
                        self.exchange
                            .handle_send_failed(attempt, &error.to_string());
                    }
                }
                Poll::Ready(())
            }
            Upstream::Flowing { attempt, answer } => {
                let attempt = *attempt;
                match ready!(answer.poll_data(cx)) {
                    Some(Ok(chunk)) => self.exchange.handle_chunk(attempt, chunk, now),
                    Some(Err(error)) => {
                        self.upstream = Upstream::None;
                        self.exchange
                            .handle_end(attempt, Err(error.to_string()), now);
                    }
                    None => {
                        self.upstream = Upstream::None;
                        self.exchange.handle_end(attempt, Ok(()), now);
                    }
                }
                Poll::Ready(())
            }
        }
    }

    /// Ready = a timeout was handled. The timer is set anew only where it would ring too late: a
    /// token moves the due time, not the timer.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.worker.shared.clock;
        loop {
            let Some(due) = self.exchange.poll_timeout() else {
                return Poll::Pending;
            };
            match &mut self.timer {
                Some(_) if self.timer_due <= due => {}
                Some(timer) => {
                    timer.as_mut().reset(clock.instant(due));
                    self.timer_due = due;
                }
                None => {
                    self.timer = Some(Box::pin(tokio::time::sleep_until(clock.instant(due))));
                    self.timer_due = due;
                }
            }
            let Some(timer) = &mut self.timer else {
                return Poll::Pending;
            };
            ready!(timer.as_mut().poll(cx));
            let now = clock.now();
            if now >= due {
                self.exchange.handle_timeout(now);
                self.timer = None;
                return Poll::Ready(());
            }
            timer.as_mut().reset(clock.instant(due));
            self.timer_due = due;
        }
    }

    fn close(&mut self, finish: &Finish) {
        self.settled = true;
        settle(
            &self.worker.shared,
            &self.call,
            self.exchange.record(),
            &self.losses,
        );
        if let Outcome::Told(fault) = &finish.outcome {
            let refused = self.exchange.held_back();
            keyed::keep_unkeyed(&self.worker, &self.call, fault, refused);
        }
        let upstream = std::mem::replace(&mut self.upstream, Upstream::None);
        if let (Upstream::Flowing { answer, .. }, Outcome::Delivered(_)) =
            (upstream, &finish.outcome)
        {
            drain(answer);
        }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let now = self.worker.shared.clock.now();
        self.exchange.handle_caller_gone(now);
        while self
            .exchange
            .poll_action(now, &mut self.health, &mut || 0)
            .is_some()
        {}
        settle(
            &self.worker.shared,
            &self.call,
            self.exchange.record(),
            &self.losses,
        );
    }
}

/// How long an answered vendor may take to end its body, so that its connection can be kept.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Reads the rest of a delivered answer's body, which is all but always its end, for the sake of the
/// connection.
fn drain(mut answer: Answer) {
    let waker = std::task::Waker::noop();
    let mut cx = Context::from_waker(waker);
    while let Poll::Ready(Some(Ok(_))) = answer.poll_data(&mut cx) {}
    if answer.is_done() {
        return;
    }
    tokio::task::spawn_local(async move {
        let rest = std::future::poll_fn(|cx| {
            while let Some(Ok(_)) = ready!(answer.poll_data(cx)) {}
            Poll::Ready(())
        });
        // What does not end in time is closed by the drop.
        let _ = tokio::time::timeout(DRAIN, rest).await;
    });
}

fn read_head(said: Said) -> Head {
    let (millis, seconds) = (said.retry_after_ms.as_deref(), said.retry_after.as_deref());
    Head {
        status: said.status.as_u16(),
        retry_after: classify::retry_after(millis, seconds),
        content_type: said.content_type,
        encoding: said
            .content_encoding
            .filter(|encoding| !encoding.eq_ignore_ascii_case("identity")),
    }
}
