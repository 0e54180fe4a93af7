//! The outbox.

use holdfast_core::time::Wall;

use crate::engine::job::Shape;
use crate::engine::undo::Undo;
use crate::error::{Error, Result};
use crate::model::effect::{Effect, EffectEnd, EffectFilter, EffectResult, NewEffect, Recorded};
use crate::model::ticket::NewTicket;
use crate::ops::effects::{self, Answered, Claiming, End, Finishing, Kept, Outcome, Recording};
use crate::ops::to_json;
use crate::store::{Store, list_limit, names, new_id, texts};

impl Store {
    /// Records an effect before it is sent.
    pub async fn record_effect(&self, effect: NewEffect) -> Result<Recorded> {
        names(&[&effect.id, &effect.scope, &effect.key, &effect.target])?;
        for name in [&effect.run, &effect.step] {
            names(&[name.as_deref().unwrap_or_default()])?;
        }
        texts(&[&to_json(&effect.headers)?, &to_json(&effect.requires)?])?;
        let recording = Recording {
            payload: self.seal("effects", &effect.id, &effect.payload)?,
            new: NewEffect {
                payload: Vec::new(),
                ..effect
            },
        };
        let outcome = self
            .write(Shape::Many, recording, |tx, recording| {
                Box::pin(effects::record(tx, recording))
            })
            .await?;
        Ok(match outcome {
            Outcome::Fresh(kept) => Recorded::Fresh(self.whole_effect(*kept)?),
            Outcome::Known(kept) => Recorded::Known(self.whole_effect(*kept)?),
            Outcome::Mismatch => Recorded::Mismatch,
        })
    }

    /// Takes effects of a target that are due, longest due first: they count as sent from here on.
    pub async fn claim_effects(
        &self,
        target: &str,
        now: Wall,
        limit: usize,
    ) -> Result<Vec<Effect>> {
        let token = new_id();
        let undo = Undo::Effects {
            token: token.clone(),
        };
        let given_back = undo.clone();
        let claim = Claiming {
            target: target.to_owned(),
            now,
            limit: list_limit(limit),
            token,
        };
        let mine = self
            .take(Shape::Many, claim, undo, |tx, claim| {
                Box::pin(effects::claim(tx, claim))
            })
            .await?;
        self.or_give_back(self.whole_effects(mine), given_back)
    }

    /// Tells how a sending ended. `false` = fenced off.
    pub async fn finish_effect(
        &self,
        id: &str,
        fence: i64,
        end: EffectEnd,
        now: Wall,
    ) -> Result<bool> {
        let end = match end {
            EffectEnd::Done(result) => End::Done(self.answered(id, &result)?),
            EffectEnd::Failed { error, result } => {
                let result = result
                    .map(|result| self.answered(id, &result))
                    .transpose()?;
                End::Failed(error, result)
            }
            EffectEnd::Retry { due, error } => End::Retry { due, error },
            EffectEnd::Doubt(ticket, error) => End::Doubt {
                id: new_id(),
                content: self.ticket_content(&ticket)?,
                ticket: Box::new(NewTicket {
                    content: None,
                    ..ticket
                }),
                error,
            },
        };
        match &end {
            End::Failed(error, _) | End::Retry { error, .. } | End::Doubt { error, .. } => {
                texts(&[error])?;
            }
            End::Done(_) => {}
        }
        let call = Finishing {
            id: id.to_owned(),
            fence,
            end,
            now,
        };
        self.write(Shape::Many, call, |tx, call| {
            Box::pin(effects::finish(tx, call))
        })
        .await
    }

    /// Takes effects whose sender died; each must be finished at once.
    pub async fn stranded_effects(&self, limit: usize) -> Result<Vec<Effect>> {
        let token = new_id();
        let undo = Undo::Stranded {
            token: token.clone(),
        };
        let given_back = undo.clone();
        let mine = self
            .take(Shape::Many, (token, list_limit(limit)), undo, |tx, args| {
                Box::pin(effects::stranded(tx, args))
            })
            .await?;
        self.or_give_back(self.whole_effects(mine), given_back)
    }

    /// Cancels an effect that is not on its way and was attempted so many times; its state afterwards
    /// tells whether it was in time (still `Recorded`: it was attempted once more).
    pub async fn cancel_effect(
        &self,
        id: &str,
        attempts: i64,
        now: Wall,
    ) -> Result<Option<Effect>> {
        let kept = self
            .write(Shape::Many, (id.to_owned(), attempts, now), |tx, call| {
                Box::pin(effects::cancel(tx, call))
            })
            .await?;
        kept.map(|kept| self.whole_effect(kept)).transpose()
    }

    /// An effect with payload and result.
    pub async fn effect(&self, id: &str) -> Result<Option<Effect>> {
        let kept = self
            .read(id.to_owned(), |tx, id| Box::pin(effects::get(tx, id)))
            .await?;
        kept.map(|kept| self.whole_effect(kept)).transpose()
    }

    /// The effect under a key, with payload and result, its time over or not.
    pub async fn effect_of_key(&self, scope: &str, key: &str) -> Result<Option<Effect>> {
        let key = (scope.to_owned(), key.to_owned());
        let kept = self
            .read(key, |tx, key| Box::pin(effects::of_key(tx, key)))
            .await?;
        kept.map(|kept| self.whole_effect(kept)).transpose()
    }

    /// Effects without payload and result, newest first.
    pub async fn effects(&self, filter: &EffectFilter) -> Result<Vec<Effect>> {
        self.read(filter.clone(), |tx, filter| {
            Box::pin(effects::list(tx, filter))
        })
        .await
    }

    /// The targets that effects wait for, each with the moment when the first of them is due.
    pub async fn waiting_targets(&self, limit: usize) -> Result<Vec<(String, Wall)>> {
        self.read(list_limit(limit), |tx, limit| {
            Box::pin(effects::waiting_targets(tx, limit))
        })
        .await
    }

    fn answered(&self, id: &str, result: &EffectResult) -> Result<Answered> {
        let headers = to_json(&result.headers)?;
        texts(&[&headers])?;
        Ok(Answered {
            status: i64::from(result.status),
            headers,
            body: self.seal("results", id, &result.body)?,
        })
    }

    fn whole_effects(&self, mine: Vec<Kept>) -> Result<Vec<Effect>> {
        mine.into_iter()
            .map(|kept| self.whole_effect(kept))
            .collect()
    }

    fn whole_effect(&self, kept: Kept) -> Result<Effect> {
        let mut effect = kept.effect;
        if let Some(payload) = kept.payload {
            effect.payload = self.unseal("effects", &effect.id, payload)?;
        }
        if let (Some(status), Some(headers), Some(body)) = (kept.status, kept.headers, kept.body) {
            let bad = || Error::Corrupt("an effect's result that can't be read".to_owned());
            effect.result = Some(EffectResult {
                status: u16::try_from(status).map_err(|_| bad())?,
                headers: serde_json::from_str(&headers).map_err(|_| bad())?,
                body: self.unseal("results", &effect.id, body)?,
            });
        }
        Ok(effect)
    }
}
