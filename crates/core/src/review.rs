//! The review queue: what may be decided about a ticket, by whom, and what comes of it.
//!
//! A ticket stands for something that could not be finished: a call, an effect, a failed gate, a
//! question, a run. [`check`] says whether a decision fits and whether the one who makes it is in
//! time; [`consequence`] says what a decision makes of the thing behind. When calls are asked again
//! without a person is in [`retries`]. Nothing is stored here, and no ticket is read.

pub mod retries;

use crate::time::Wall;

/// What a ticket is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// A call that every target failed.
    Call,
    /// An effect of which nobody knows whether it happened.
    Effect,
    /// An answer that did not pass its gate.
    Gate,
    /// A question that a workflow asked.
    Approval,
    /// A run that went quiet.
    Run,
}

/// Where a ticket is, as it is kept.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    Open,
    Claimed,
    Retrying,
    Resolved,
    Expired,
}

/// What can be done about a ticket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Deed {
    /// An answer is written by hand.
    Answer,
    /// The call is made once more, now.
    Retry,
    /// The call's caller is refused.
    Reject,
    /// One of the choices is made.
    Choose,
    /// Somebody looked whether the effect happened.
    Effect,
    /// Nothing more is done.
    Close,
}

/// What a ticket is, as far as it limits what can be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct About {
    pub kind: Kind,
    /// Somebody may come back for it: a call has a key, or its caller fetches the answer later.
    pub awaited: bool,
}

/// The claim on a ticket, as it is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Raised by each claim.
    pub fence: i64,
    pub until: Wall,
}

/// How a ticket stands towards somebody who wants to decide it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Nobody has it.
    Free,
    /// It is claimed under the fence that was said.
    Mine,
    /// It is claimed by somebody else.
    Held,
    /// A fence was said, and its claim is over.
    Lapsed,
    /// It is being asked again at this moment.
    Retrying,
    Decided,
    Expired,
}

/// Why a decision is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No such decision for such a ticket; these fit.
    Unfit(&'static [Deed]),
    /// Too late, or somebody else has it. Never `Free` or `Mine`.
    Conflict(Standing),
}

/// A decision, as far as it matters what follows from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision<'a> {
    /// By hand, or because the call was made once more.
    Answer,
    Reject,
    /// The effect happened.
    Done,
    /// The effect did not happen, and is not wanted any more.
    NotDone,
    SendAgain,
    Choose(&'a str),
    Close,
}

/// What becomes of the thing behind a ticket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consequence {
    /// The call is answered: whoever comes back for it gets the answer.
    Answered,
    /// The call is answered with an error: whoever comes back for it is told.
    Refused,
    EffectDone,
    EffectFailed,
    /// The effect is sent once more, under its key.
    EffectRecorded,
    ApprovalDecided,
    RunDone,
    RunFailed,
    /// The run is open again.
    RunResumed,
    /// It stays as it is; nobody is reminded of it any more.
    LeftAsItIs,
}

/// What a run's ticket takes as a choice.
pub const RUN_CHOICES: [&str; 3] = ["done", "failed", "resume"];

// === impl Deed ===

impl Deed {
    pub const ALL: [Self; 6] = [
        Self::Answer,
        Self::Retry,
        Self::Reject,
        Self::Choose,
        Self::Effect,
        Self::Close,
    ];

    /// The word in paths and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Choose => "choose",
            Self::Effect => "effect",
            Self::Close => "close",
        }
    }
}

// === impl Consequence ===

impl Consequence {
    /// The word in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::EffectDone => "effect_done",
            Self::EffectFailed => "effect_failed",
            Self::EffectRecorded => "effect_sent_again",
            Self::ApprovalDecided => "approval_decided",
            Self::RunDone => "run_done",
            Self::RunFailed => "run_failed",
            Self::RunResumed => "run_resumed",
            Self::LeftAsItIs => "left_as_it_is",
        }
    }
}

/// What can be done about such a ticket, the usual first.
pub fn fitting(about: About) -> &'static [Deed] {
    use Deed::{Answer, Choose, Close, Effect, Reject, Retry};
    match (about.kind, about.awaited) {
        // Closed without an answer, its caller would come back to nothing.
        (Kind::Call | Kind::Gate, true) => &[Answer, Retry, Reject],
        (Kind::Call | Kind::Gate, false) => &[Answer, Retry, Reject, Close],
        // An effect in doubt stays in doubt until somebody looked.
        (Kind::Effect, _) => &[Effect],
        (Kind::Approval, _) => &[Choose],
        (Kind::Run, _) => &[Close, Choose],
    }
}

/// How a ticket stands towards somebody who said `fence`, or none.
pub fn standing(state: State, claim: Option<Claim>, fence: Option<i64>, now: Wall) -> Standing {
    match state {
        State::Resolved => Standing::Decided,
        State::Expired => Standing::Expired,
        State::Retrying => Standing::Retrying,
        State::Open => free_unless(fence),
        State::Claimed => match claim.filter(|claim| claim.until > now) {
            None => free_unless(fence),
            Some(claim) if fence == Some(claim.fence) => Standing::Mine,
            Some(_) => Standing::Held,
        },
    }
}

/// Who says a fence believes to have a claim: that is not silently taken for a decision without one.
fn free_unless(fence: Option<i64>) -> Standing {
    match fence {
        Some(_) => Standing::Lapsed,
        None => Standing::Free,
    }
}

/// Whether this can be done about a ticket that stands so.
pub fn check(about: About, deed: Deed, standing: Standing) -> Result<(), Refusal> {
    let fits = fitting(about);
    if !fits.contains(&deed) {
        return Err(Refusal::Unfit(fits));
    }
    match standing {
        Standing::Free | Standing::Mine => Ok(()),
        Standing::Held
        | Standing::Lapsed
        | Standing::Retrying
        | Standing::Decided
        | Standing::Expired => Err(Refusal::Conflict(standing)),
    }
}

/// What a decision makes of the thing behind; `None` = it does not fit.
pub fn consequence(about: About, decision: Decision<'_>) -> Option<Consequence> {
    let made = match (about.kind, decision) {
        (Kind::Call | Kind::Gate, Decision::Answer) => Consequence::Answered,
        (Kind::Call | Kind::Gate, Decision::Reject) => Consequence::Refused,
        (Kind::Call | Kind::Gate, Decision::Close) if !about.awaited => Consequence::LeftAsItIs,
        (Kind::Effect, Decision::Done) => Consequence::EffectDone,
        (Kind::Effect, Decision::NotDone) => Consequence::EffectFailed,
        (Kind::Effect, Decision::SendAgain) => Consequence::EffectRecorded,
        (Kind::Approval, Decision::Choose(_)) => Consequence::ApprovalDecided,
        (Kind::Run, Decision::Choose("done")) => Consequence::RunDone,
        (Kind::Run, Decision::Choose("failed")) => Consequence::RunFailed,
        (Kind::Run, Decision::Choose("resume")) => Consequence::RunResumed,
        (Kind::Run, Decision::Close) => Consequence::LeftAsItIs,
        (Kind::Call | Kind::Gate | Kind::Effect | Kind::Approval | Kind::Run, _) => return None,
    };
    Some(made)
}

#[cfg(test)]
mod tests;
