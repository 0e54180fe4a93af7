//! `/v1/effects`: record, list, look at, wait for, cancel.

use std::sync::Arc;
use std::time::Duration;

use holdfast_api::{Answer, Answering, Request, Service, json, not_found};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency;
use holdfast_core::run::moment::parse_span;
use holdfast_store::{Effect, EffectFilter, EffectState, NewEffect, Recorded};
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use crate::effects::Effects;
use crate::shown::{Shown, shown};
use crate::submit::{self, Submission};
use crate::verdicts;

/// How long `POST` waits where the caller does not say.
const USUAL_WAIT: Duration = Duration::from_secs(30);
/// The most rows of one list, and how many there are where the caller does not say.
const MOST: usize = 500;
const USUAL: usize = 50;
/// A waiting caller looks again after this long even if no bell was heard: one of another process can
/// be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A list, newest first.
#[derive(Serialize)]
struct List<'a> {
    effects: Vec<Shown<'a>>,
    /// What `after` takes to go on; `null` at the end.
    next: Option<&'a str>,
}

/// `/v1/effects` as a [`Service`].
pub struct EffectsApi(pub Arc<Effects>);

impl Service for EffectsApi {
    fn handle(&self, request: &Request) -> Option<Answering> {
        let segments = request.segments();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let route = route(&request.method, &segments)?;
        let (effects, request) = (self.0.clone(), request.clone());
        Some(Box::pin(async move {
            match route {
                Route::Submit => effects.submit(&request).await,
                Route::List => effects.list(&request).await,
                Route::Look(id) => effects.look(&request, &id).await,
                Route::Cancel(id) => effects.cancel(&request, &id).await,
                Route::WrongMethod => Err(request.wrong_method()),
            }
        }))
    }
}

/// What is asked for; `None` = not one of these paths.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Route {
    Submit,
    List,
    Look(String),
    Cancel(String),
    WrongMethod,
}

fn route(method: &Method, segments: &[&str]) -> Option<Route> {
    let ["effects", rest @ ..] = segments else {
        return None;
    };
    Some(match (method.as_str(), rest) {
        ("POST", []) => Route::Submit,
        ("GET", []) => Route::List,
        ("GET", [id]) => Route::Look((*id).to_owned()),
        ("POST", [id, "cancel"]) => Route::Cancel((*id).to_owned()),
        (_, [] | [_] | [_, "cancel"]) => Route::WrongMethod,
        _ => return None,
    })
}

impl Effects {
    async fn submit(&self, request: &Request) -> Answer {
        let submission = submit::parse(request, &self.targets())?;
        let wait = wait(request, USUAL_WAIT.min(self.limits.wait), self.limits.wait)?;
        let wait = if responds_async(request) {
            Duration::ZERO
        } else {
            wait
        };
        let scope = &request.caller.scope;
        let (effect, is_known) = if let Some(effect) = self.repeated(scope, &submission).await? {
            (effect, true)
        } else {
            verdicts::require(&*self.verdicts, scope, &submission.requires).await?;
            self.record(scope, submission).await?
        };
        let effect = self.settled(effect, wait).await?;
        let mut response = resource(&effect)?;
        if is_known {
            response
                .headers_mut()
                .insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        Ok(response)
    }

    /// The effect that these requirements were judged for when it was recorded: they are not judged
    /// again, the ledger may have forgotten them.
    async fn repeated(
        &self,
        scope: &str,
        submission: &Submission,
    ) -> Result<Option<Effect>, Fault> {
        let Some(key) = submission.key.as_deref() else {
            return Ok(None);
        };
        if submission.requires.is_empty() {
            return Ok(None);
        }
        let known = self.outbox.of_key(scope, key).await?;
        let (now, fingerprint) = (self.now(), submission.fingerprint());
        Ok(known.filter(|effect| effect.expires > now && effect.fingerprint == fingerprint))
    }

    /// Keeps an effect, or finds the one that has its key. Nothing is sent before this has committed.
    pub(crate) async fn record(
        &self,
        scope: &str,
        submission: Submission,
    ) -> Result<(Effect, bool), Fault> {
        let now = self.now();
        if let Some(run) = &submission.run {
            self.store.touch_run(scope, run, now).await?;
        }
        let id = uuid::Uuid::now_v7().simple().to_string();
        let fingerprint = submission.fingerprint();
        let effect = NewEffect {
            key: submission.key.unwrap_or_else(|| idempotency::own_key(&id)),
            id,
            scope: scope.to_owned(),
            fingerprint,
            target: submission.target,
            payload: submission.outgoing.to_bytes(),
            headers: submission.headers,
            run: submission.run,
            step: submission.step,
            requires: submission.requires,
            due: now,
            expires: now + self.limits.expiry,
            now,
        };
        match self.outbox.record(effect).await? {
            Recorded::Fresh(effect) => {
                self.wake();
                Ok((effect, false))
            }
            Recorded::Known(effect) => Ok((effect, true)),
            Recorded::Mismatch => Err(Fault::new(
                Code::KeyReused,
                "the key belongs to an effect with another target, method, path, payload, header or requirement",
            )),
        }
    }

    /// Waits until the effect needs no more from this process: it ended, or a person is asked.
    async fn settled(&self, effect: Effect, wait: Duration) -> Result<Effect, Fault> {
        if !is_moving(&effect) || wait.is_zero() {
            return Ok(effect);
        }
        let end = Instant::now() + wait;
        let mut listener = self.bell.listen(&effect.id);
        let mut drain = self.drain.subscribe();
        let mut last = effect;
        loop {
            if let Some(found) = self.outbox.effect(&last.id).await? {
                last = found;
            }
            let now = Instant::now();
            if !is_moving(&last) || now >= end || *drain.borrow_and_update() {
                return Ok(last);
            }
            tokio::select! {
                () = listener.rung() => {}
                _ = drain.changed() => {}
                () = tokio::time::sleep_until(end.min(now + LOOK_AGAIN)) => {}
            }
        }
    }

    async fn look(&self, request: &Request, id: &str) -> Answer {
        let wait = wait(request, Duration::ZERO, self.limits.wait)?;
        let effect = self.visible(request, id).await?;
        let effect = self.settled(effect, wait).await?;
        json(StatusCode::OK, &shown(&effect))
    }

    async fn cancel(&self, request: &Request, id: &str) -> Answer {
        let mut effect = self.visible(request, id).await?;
        loop {
            self.refuse_late_cancel(&effect)?;
            let after = self.outbox.cancel(id, effect.attempts, self.now()).await?;
            effect = after.ok_or_else(|| not_found("effect", id))?;
            match effect.state {
                EffectState::Cancelled => break,
                // Attempted meanwhile: what that means is looked at anew.
                EffectState::Recorded => {}
                _ => return Err(too_late(&effect)),
            }
        }
        self.bell.ring(id);
        json(StatusCode::OK, &shown(&effect))
    }

    /// An effect that was sent before and waits to be sent again may have happened: calling it
    /// cancelled would be a lie.
    fn refuse_late_cancel(&self, effect: &Effect) -> Result<(), Fault> {
        let may_have_happened = effect.state == EffectState::Recorded
            && effect.attempts > 0
            && self
                .targets()
                .get(&effect.target)
                .is_none_or(|target| target.honours_keys);
        if may_have_happened {
            return Err(Fault::new(
                Code::Conflict,
                "it was sent already and may have happened; it is sent again under the same key until the target tells",
            ));
        }
        Ok(())
    }

    async fn list(&self, request: &Request) -> Answer {
        let limit = limit(request)?;
        let state = match request.param("state") {
            None => None,
            Some(word) => Some(state(&word)?),
        };
        let scope = match request.param("scope") {
            Some(scope) if request.caller.may_see(&scope) => Some(scope),
            // Another caller's list is empty, like that of a caller who does not exist.
            Some(_) => {
                return json(
                    StatusCode::OK,
                    &List {
                        effects: Vec::new(),
                        next: None,
                    },
                );
            }
            None => request.caller.limit().map(str::to_owned),
        };
        let filter = EffectFilter {
            scope,
            state,
            target: request.param("target"),
            run: request.param("run"),
            after: request.param("after"),
            limit,
        };
        let found = self.outbox.effects(&filter).await?;
        let next = (found.len() == limit)
            .then(|| found.last())
            .flatten()
            .map(|effect| effect.id.as_str());
        let effects = found.iter().map(shown).collect();
        json(StatusCode::OK, &List { effects, next })
    }

    /// The effect, if the caller may see it.
    async fn visible(&self, request: &Request, id: &str) -> Result<Effect, Fault> {
        let found = self.outbox.effect(id).await?;
        found
            .filter(|effect| request.caller.may_see(&effect.scope))
            .ok_or_else(|| not_found("effect", id))
    }
}

/// Whether the machine has still something to do about it.
fn is_moving(effect: &Effect) -> bool {
    match effect.state {
        EffectState::Recorded | EffectState::Sending => true,
        EffectState::Done | EffectState::Failed | EffectState::Doubt | EffectState::Cancelled => {
            false
        }
    }
}

/// 200 when it is over, 202 while the machine or a person has to do with it.
fn resource(effect: &Effect) -> Answer {
    let is_over = !is_moving(effect) && effect.state != EffectState::Doubt;
    let status = if is_over {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let mut response = json(status, &shown(effect))?;
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/effects/{}", effect.id)) {
        response.headers_mut().insert(http::header::LOCATION, place);
    }
    Ok(response)
}

fn too_late(effect: &Effect) -> Fault {
    Fault::new(
        Code::Conflict,
        format!("too late to cancel: it is `{}`", effect.state),
    )
}

fn state(word: &str) -> Result<EffectState, Fault> {
    EffectState::find(word).ok_or_else(|| {
        let words: Vec<&str> = EffectState::ALL.iter().map(|one| one.as_str()).collect();
        Fault::new(
            Code::InvalidRequest,
            format!("`state` is one of `{}`", words.join("`, `")),
        )
    })
}

fn limit(request: &Request) -> Result<usize, Fault> {
    let Some(text) = request.param("limit") else {
        return Ok(USUAL);
    };
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| {
            let message = format!("`limit` is a number from 1 to {MOST}");
            Fault::new(Code::InvalidRequest, message)
        })
}

/// `?wait=`, cut to the longest; `0s` = not at all.
fn wait(request: &Request, usual: Duration, longest: Duration) -> Result<Duration, Fault> {
    match request.param("wait").as_deref() {
        None => Ok(usual),
        Some("" | "0" | "0s" | "0ms") => Ok(Duration::ZERO),
        Some(text) => parse_span(text)
            .map(|wait| wait.min(longest))
            .map_err(|why| Fault::new(Code::InvalidRequest, format!("`wait`: {why}"))),
    }
}

/// `Prefer: respond-async` (RFC 7240, 4.1).
fn responds_async(request: &Request) -> bool {
    let values = request.headers.get_all("prefer").iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("respond-async"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_and_the_document_have_the_same_paths() {
        let document = crate::openapi();
        let mut documented = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            let path = path.replace("{id}", "0190");
            let segments: Vec<&str> = path.strip_prefix("/v1/").unwrap().split('/').collect();
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                let is_documented = methods.get(method.to_ascii_lowercase()).is_some();
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let found = route(&method, &segments).unwrap();
                assert_eq!(
                    found != Route::WrongMethod,
                    is_documented,
                    "{method} {path}"
                );
                documented += usize::from(is_documented);
            }
        }
        assert_eq!(documented, 4);
        for segments in [
            &["runs"][..],
            &["effects", "x", "y"],
            &["effects", "x", "cancel", "y"],
        ] {
            assert_eq!(route(&Method::GET, segments), None);
        }
    }

    #[test]
    fn every_state_is_documented() {
        let document = crate::openapi();
        let states = &document["components"]["schemas"]["Effect"]["properties"]["state"]["enum"];
        let known: Vec<&str> = EffectState::ALL.iter().map(|one| one.as_str()).collect();
        assert_eq!(states, &serde_json::json!(known));
    }
}
