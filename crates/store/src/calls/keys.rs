//! Idempotency keys.

use std::borrow::Borrow;
use std::fmt::{self, Display};

use holdfast_core::time::Wall;

use crate::engine::job::{Quick, Shape};
use crate::engine::undo::Undo;
use crate::error::{Error, Result};
use crate::model::key::{Abandoned, Claimed, KeyId, KeyRow, KeyState, NewClaim, StoredAnswer};
use crate::model::ticket::NewTicket;
use crate::ops::keys::{self, Answer, Claim, Completion, Kept, Outcome, State};
use crate::store::{Store, names, new_id};

/// Fences of new keys start anywhere, so that one of a forgotten key fits no later one. They stay
/// below 2^53 because they may travel as JSON numbers.
const FENCES: std::ops::Range<i64> = 1..1 << 52;

impl Store {
    /// Claims a key: free, expired, or its owner dead -> `Fresh`; else what it is. A sign of life of
    /// the run that it names.
    pub async fn claim_key(&self, claim: NewClaim) -> Result<Claimed> {
        let id = claim.id.clone();
        names(&[&id.scope, &id.key, &claim.exchange])?;
        names(&[
            claim.run.as_deref().unwrap_or_default(),
            claim.step.as_deref().unwrap_or_default(),
        ])?;
        let request = claim
            .request
            .as_ref()
            .map(|request| self.seal("requests", place(&id), request))
            .transpose()?;
        if !self.is_healthy() {
            // What is kept can be told even where nothing can be written.
            let looked = self
                .read((id.clone(), claim.fingerprint, claim.now), |tx, call| {
                    Box::pin(keys::look(tx, call))
                })
                .await?;
            if let Some(outcome) = looked {
                return self.claimed(outcome);
            }
        }
        let undo = Undo::Key {
            scope: id.scope.clone(),
            key: id.key.clone(),
            exchange: claim.exchange.clone(),
        };
        let claim = Claim {
            fence: fastrand::i64(FENCES),
            request,
            new: NewClaim {
                request: None,
                ..claim
            },
        };
        // One of a run has that run to see to.
        let quick = claim.new.run.is_none().then_some(Quick {
            statement: keys::INSERT,
            values: keys::claim_values,
            out: |claim: &Claim| Outcome::Fresh { fence: claim.fence },
        });
        let outcome = self
            .write_quickly(claim, quick, Some(undo), |tx, claim| {
                Box::pin(keys::claim(tx, claim))
            })
            .await?;
        self.claimed(outcome)
    }

    /// Stores the answer; `expires` = when it is forgotten, if not as the claim said. `false` = fenced off.
    pub async fn complete_key(
        &self,
        id: &KeyId,
        fence: i64,
        answer: impl Borrow<StoredAnswer> + Send,
        now: Wall,
        expires: impl Into<Option<Wall>> + Send,
    ) -> Result<bool> {
        let done = Completion {
            id: id.clone(),
            fence,
            answer: self.answer_for(id, answer.borrow())?,
            now,
            expires: expires.into(),
        };
        let quick = Quick {
            statement: match done.expires {
                Some(_) => keys::COMPLETION,
                None => keys::PROMPT_COMPLETION,
            },
            values: keys::completion_values,
            out: |_: &Completion| true,
        };
        self.write_quickly(done, Some(quick), None, |tx, done| {
            Box::pin(keys::complete(tx, done))
        })
        .await
    }

    /// Makes the key free again (it goes back to its ticket where it came from one). `false` = fenced
    /// off.
    pub async fn release_key(&self, id: &KeyId, fence: i64) -> Result<bool> {
        self.write(Shape::Many, (id.clone(), fence), |tx, claim| {
            Box::pin(keys::release(tx, claim))
        })
        .await
    }

    /// Gives a running key back, soon, for whoever wants it: this process no longer works on what it
    /// claimed under `exchange`.
    pub fn give_back_key(&self, id: &KeyId, exchange: &str) {
        self.give_back(Undo::Key {
            scope: id.scope.clone(),
            key: id.key.clone(),
            exchange: exchange.to_owned(),
        });
    }

    /// Puts the call into the review queue: an open ticket of the key is updated and keeps its id.
    /// `None` = fenced off.
    pub async fn ticket_key(
        &self,
        id: &KeyId,
        fence: i64,
        ticket: NewTicket,
        expires: Wall,
    ) -> Result<Option<String>> {
        let call = keys::Ticketing {
            id: id.clone(),
            fence,
            content: self.ticket_content(&ticket)?,
            ticket: NewTicket {
                content: None,
                key: Some(id.clone()),
                ..ticket
            },
            ticket_id: new_id(),
            expires,
        };
        self.write(Shape::Many, call, |tx, call| {
            Box::pin(keys::ticket(tx, call))
        })
        .await
    }

    /// A new round for a key in the review queue: `Fresh` if its ticket is open, nobody has claimed it
    /// and its `not_before` has passed; else what it is. A key whose ticket is decided or gone is
    /// `Fresh` too. One that does not exist is `Unavailable`: claim it instead.
    ///
    /// `request` as in [`NewClaim`].
    pub async fn reopen_key(
        &self,
        id: &KeyId,
        exchange: &str,
        request: Option<&[u8]>,
        now: Wall,
    ) -> Result<Claimed> {
        names(&[exchange])?;
        let request = request
            .map(|request| self.seal("requests", place(id), request))
            .transpose()?;
        let undo = Undo::Key {
            scope: id.scope.clone(),
            key: id.key.clone(),
            exchange: exchange.to_owned(),
        };
        let call = keys::Reopening {
            id: id.clone(),
            exchange: exchange.to_owned(),
            request,
            now,
        };
        let outcome = self
            .take(Shape::Many, call, undo, |tx, call| {
                Box::pin(keys::reopen(tx, call))
            })
            .await?;
        match outcome {
            Some(outcome) => self.claimed(outcome),
            None => Err(Error::Unavailable("the key was just forgotten".to_owned())),
        }
    }

    /// The key as it stands.
    pub async fn key(&self, id: &KeyId) -> Result<Option<KeyRow>> {
        let kept = self
            .read(id.clone(), |tx, id| Box::pin(keys::get(tx, id)))
            .await?;
        let Some(kept) = kept else { return Ok(None) };
        let (fingerprint, exchange, fence) = (kept.fingerprint, kept.exchange.clone(), kept.fence);
        let (run, step) = (kept.run.clone(), kept.step.clone());
        let (created, expires) = (kept.created, kept.expires);
        let state = match kept.state {
            State::Running => KeyState::Running {
                owner: kept.owner,
                alive: kept.alive,
            },
            State::Done => KeyState::Done(self.stored(kept)?),
            State::Ticket => KeyState::Ticketed {
                ticket: kept.ticket.unwrap_or_default(),
            },
        };
        Ok(Some(KeyRow {
            id: id.clone(),
            state,
            fingerprint,
            exchange,
            fence,
            run,
            step,
            created,
            expires,
        }))
    }

    /// Makes a running call an asynchronous one: somebody is to be answered later who was not the first.
    /// `false` = it does not run any more, or is another request's.
    pub async fn keep_request(
        &self,
        id: &KeyId,
        fingerprint: [u8; 32],
        request: &[u8],
    ) -> Result<bool> {
        let call = keys::Keeping {
            id: id.clone(),
            fingerprint,
            request: self.seal("requests", place(id), request)?,
        };
        self.write(Shape::One, call, |tx, call| {
            Box::pin(keys::keep_request(tx, call))
        })
        .await
    }

    /// Takes over asynchronous calls of dead owners.
    pub async fn abandoned_calls(&self, limit: usize) -> Result<Vec<Abandoned>> {
        let token = new_id();
        let undo = Undo::Calls {
            token: token.clone(),
        };
        let given_back = undo.clone();
        let mine = self
            .take(
                Shape::Many,
                (token, crate::store::list_limit(limit)),
                undo,
                |tx, args| Box::pin(keys::abandoned(tx, args)),
            )
            .await?;
        let open = |kept: Kept| {
            let sealed = kept.request.unwrap_or_default();
            Ok(Abandoned {
                request: self.unseal("requests", place(&kept.id), sealed)?,
                id: kept.id,
                fence: kept.fence,
                exchange: kept.exchange,
                fingerprint: kept.fingerprint,
                run: kept.run,
                step: kept.step,
                expires: kept.expires,
            })
        };
        self.or_give_back(mine.into_iter().map(open).collect(), given_back)
    }

    fn claimed(&self, outcome: Outcome) -> Result<Claimed> {
        let kept = match outcome {
            Outcome::Fresh { fence } => return Ok(Claimed::Fresh { fence }),
            Outcome::Mismatch => return Ok(Claimed::Mismatch),
            Outcome::Known(kept) => *kept,
        };
        Ok(match kept.state {
            State::Running => Claimed::Running {
                owner: kept.owner,
                fence: kept.fence,
                exchange: kept.exchange,
            },
            State::Ticket => Claimed::Ticketed {
                ticket: kept.ticket.unwrap_or_default(),
                exchange: kept.exchange,
            },
            State::Done => Claimed::Done(self.stored(kept)?),
        })
    }

    fn stored(&self, kept: Kept) -> Result<StoredAnswer> {
        let headers = kept.headers.unwrap_or_default();
        let outcome = kept.outcome.unwrap_or_default();
        let bad = || Error::Corrupt("a stored answer that can't be read".to_owned());
        Ok(StoredAnswer {
            exchange: kept.exchange,
            outcome,
            status: u16::try_from(kept.status).map_err(|_| bad())?,
            headers: serde_json::from_str(&headers).map_err(|_| bad())?,
            body: self.unseal("keys", place(&kept.id), kept.body.unwrap_or_default())?,
        })
    }

    /// An answer as it lies under its key.
    pub(crate) fn answer_for(&self, id: &KeyId, answer: &StoredAnswer) -> Result<Answer> {
        Answer::new(answer, self.seal("keys", place(id), &answer.body)?)
    }
}

/// A key in one text; the length keeps two of them apart.
fn place(id: &KeyId) -> impl Display {
    fmt::from_fn(|f| write!(f, "{}/{}/{}", id.scope.len(), id.scope, id.key))
}
