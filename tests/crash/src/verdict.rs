//! The end of a crash test: what clients, vendor and targets have seen is held against the promises.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

use crate::client::Ask;
use crate::load::Item;
use crate::plan::{Effect, Kind};
use crate::report::Report;
use crate::seen::{CallSeen, EffectSeen, End, StepSeen};
use crate::targets::{self, Mode};
use crate::vendor::{self, Ended};

/// What the gateway itself says at the end.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Tickets by id: kind, subject.
    pub(crate) tickets: HashMap<String, (String, String)>,
    /// Ids of effects in doubt, with their tickets.
    pub(crate) doubts: HashMap<String, Option<String>>,
    /// Effects that are neither ended nor in doubt.
    pub(crate) moving: u64,
}

/// What was counted of calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) accepted: u64,
    pub(crate) accepts: u64,
    pub(crate) made: u64,
    /// Calls made anew because a kill caught the one before, or the storing of its answer.
    pub(crate) again_after_kill: u64,
    /// Calls made anew because the vendor failed by its script.
    pub(crate) again_after_failure: u64,
    pub(crate) again_without_reason: u64,
    pub(crate) after_accepted: u64,
    pub(crate) differing: u64,
    pub(crate) unmarked: u64,
    pub(crate) halves: u64,
    pub(crate) stuck: u64,
    /// Told 202.
    pub(crate) promised: u64,
    /// Of these, not found afterwards, or never answered.
    pub(crate) broken_promises: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) doubts: u64,
    pub(crate) requests: u64,
    pub(crate) sent_again: u64,
    pub(crate) twice_honouring: u64,
    pub(crate) twice_plain: u64,
    pub(crate) done_but_not_performed: u64,
    pub(crate) performed_but_failed: u64,
    pub(crate) without_ticket: u64,
    pub(crate) without_reason: u64,
    pub(crate) differing: u64,
    pub(crate) unmarked: u64,
    pub(crate) stuck: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) done: u64,
    pub(crate) twice: u64,
    pub(crate) stuck: u64,
}

/// Everything counted.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) calls: Calls,
    pub(crate) effects: Effects,
    pub(crate) steps: Steps,
    pub(crate) tickets_without_doubt: u64,
    pub(crate) faults: Vec<String>,
}

// === impl Verdict ===

impl Verdict {
    pub(crate) fn of(
        items: &[impl AsRef<Item>],
        vendor: &vendor::Book,
        targets: &targets::Book,
        kills: &[Instant],
        said: &Said,
    ) -> Self {
        let mut verdict = Self::default();
        for item in items {
            let item = item.as_ref();
            let name = &item.work.name;
            match &item.work.kind {
                Kind::Call(_) => {
                    let fault = verdict
                        .calls
                        .add(&item.call.lock(), &vendor.calls(name), kills);
                    verdict.note(name, fault);
                }
                Kind::Effect(effect) => {
                    let seen = item.effect.lock();
                    let tally = targets.tally(name);
                    let fault = verdict.effects.add(effect, &seen, &tally, kills, said);
                    verdict.note(name, fault);
                }
                Kind::Step(_) => verdict.steps.add(&item.step.lock()),
            }
        }
        for (id, (kind, subject)) in &said.tickets {
            let doubt = said.doubts.get(subject).and_then(Option::as_ref);
            if kind == "effect" && doubt != Some(id) {
                verdict.tickets_without_doubt += 1;
                verdict.note(
                    id,
                    Some(format!("a ticket for {subject}, which is not in doubt")),
                );
            }
        }
        verdict
    }

    fn note(&mut self, name: &str, fault: Option<String>) {
        self.faults
            .extend(fault.map(|fault| format!("{name}: {fault}")));
    }

    pub(crate) fn put(&self, report: &mut Report) {
        self.calls.put(report);
        self.effects.put(report);
        report.zero(
            "tickets of effects that are not in doubt",
            self.tickets_without_doubt,
        );
        report.tell("steps completed", self.steps.done);
        report.zero("steps completed twice", self.steps.twice);
        report.zero("steps stuck", self.steps.stuck);
        for fault in &self.faults {
            report.fault(fault.as_str());
        }
    }
}

/// Whether a kill fell between two moments.
fn killed_between(kills: &[Instant], from: Instant, to: Instant) -> bool {
    let next = kills.partition_point(|kill| *kill < from);
    kills.get(next).is_some_and(|kill| *kill <= to)
}

// === impl Calls ===

impl Calls {
    fn add(
        &mut self,
        seen: &CallSeen,
        calls: &[vendor::Call],
        kills: &[Instant],
    ) -> Option<String> {
        let mut fault = None;
        self.accepts += seen.accepts;
        self.differing += seen.differing;
        self.unmarked += seen.unmarked;
        self.halves += seen.halves;
        self.made += calls.len() as u64;
        if seen.promised.is_some() {
            self.promised += 1;
            let is_broken = seen.forgotten > 0 || seen.accepted.is_none();
            self.broken_promises += u64::from(is_broken);
        }
        for pair in calls.windows(2) {
            let (before, again) = (&pair[0], &pair[1]);
            if before.ended == Ended::Failed {
                self.again_after_failure += 1;
            } else if killed_between(kills, before.start, again.start) {
                self.again_after_kill += 1;
            } else {
                self.again_without_reason += 1;
                fault = Some(format!("called again without a kill between: {calls:?}"));
            }
        }
        let Some(accepted) = &seen.accepted else {
            self.stuck += 1;
            return Some(format!("no accepted answer; vendor calls: {calls:?}"));
        };
        self.accepted += 1;
        let late = calls.iter().filter(|call| call.start > accepted.at).count();
        if late > 0 {
            self.after_accepted += late as u64;
            fault = Some(format!("{late} vendor calls after the answer was accepted"));
        }
        if !calls.iter().any(|call| call.number == accepted.call) {
            self.differing += 1;
            fault = Some(format!("call {} was never made for it", accepted.call));
        }
        fault
    }

    fn put(&self, report: &mut Report) {
        report.tell("accepted answers", self.accepted);
        report.tell("  heard, repeats included", self.accepts);
        report.zero("answers that differ between two accepts", self.differing);
        report.zero(
            "repeats of an accepted answer that are not marked",
            self.unmarked,
        );
        report.zero("parts delivered as a whole", self.halves);
        report.zero("keys stuck", self.stuck);
        report.tell("calls accepted with 202", self.promised);
        report.zero("calls accepted with 202 and lost", self.broken_promises);
        report.tell("vendor calls", self.made);
        report.tell(
            "  made again because a kill caught the first",
            self.again_after_kill,
        );
        report.tell(
            "  made again because the vendor failed by script",
            self.again_after_failure,
        );
        report.zero(
            "vendor calls made again without either",
            self.again_without_reason,
        );
        report.zero("vendor calls after an accepted answer", self.after_accepted);
    }
}

// === impl Effects ===

impl Effects {
    fn add(
        &mut self,
        effect: &Effect,
        seen: &EffectSeen,
        tally: &targets::Tally,
        kills: &[Instant],
        said: &Said,
    ) -> Option<String> {
        let mut fault = None;
        self.differing += seen.differing;
        self.unmarked += seen.unmarked;
        self.requests += u64::from(tally.requests);
        // What was refused or put off did not happen and may be sent again.
        let sent = tally.requests - tally.put_off;
        self.sent_again += u64::from(sent.saturating_sub(1));
        if effect.honours {
            if tally.performed > 1 || tally.keys.len() > 1 {
                self.twice_honouring += 1;
                fault = Some(format!("performed twice: {tally:?}"));
            }
        } else if sent > 1 {
            self.twice_plain += 1;
            fault = Some(format!("sent twice: {tally:?}"));
        }
        let Some(ended) = &seen.ended else {
            self.stuck += 1;
            return Some(format!("no end; at the target: {tally:?}"));
        };
        match ended.end {
            End::Done => {
                self.done += 1;
                let told = ended.result["body"]["performance"].as_u64();
                if tally.performed == 0 || told != tally.result {
                    self.done_but_not_performed += 1;
                    fault = Some(format!("done, but {tally:?}: {ended:?}"));
                }
            }
            End::Failed => {
                self.failed += 1;
                if tally.performed > 0 || effect.order.mode != Mode::Refuses {
                    self.performed_but_failed += 1;
                    fault = Some(format!("failed, but {tally:?}: {ended:?}"));
                }
            }
            End::Doubt => {
                self.doubts += 1;
                fault = self.doubt(effect, seen, kills, said).or(fault);
            }
        }
        fault
    }

    fn doubt(
        &mut self,
        effect: &Effect,
        seen: &EffectSeen,
        kills: &[Instant],
        said: &Said,
    ) -> Option<String> {
        let ended = seen.ended.as_ref()?;
        let ticket = ended.ticket.as_ref();
        let has_ticket = ticket
            .and_then(|ticket| said.tickets.get(ticket))
            .is_some_and(|(kind, subject)| kind == "effect" && *subject == ended.id);
        let is_listed = said.doubts.get(&ended.id).map(Option::as_ref) == Some(ticket);
        let first_asked = seen.first_asked.unwrap_or(ended.at);
        let has_reason = !effect.honours
            && (effect.order.mode == Mode::Ill || killed_between(kills, first_asked, ended.at));
        if !has_reason {
            self.without_reason += 1;
            return Some(format!("in doubt without a reason: {ended:?}"));
        }
        if !has_ticket || !is_listed {
            self.without_ticket += 1;
            return Some(format!("in doubt without a ticket: {ended:?}"));
        }
        None
    }

    fn put(&self, report: &mut Report) {
        report.tell("effects done", self.done);
        report.tell("effects refused by their target", self.failed);
        report.tell(
            "effects in doubt, each with a ticket",
            self.doubts - self.without_ticket,
        );
        report.tell("  requests at the targets", self.requests);
        report.tell("  sent again under the same key", self.sent_again);
        report.zero(
            "effects performed twice at the honouring target",
            self.twice_honouring,
        );
        report.zero("effects sent twice to the other target", self.twice_plain);
        report.zero(
            "effects told as done that were not performed",
            self.done_but_not_performed,
        );
        report.zero(
            "effects told as failed that were not refused",
            self.performed_but_failed,
        );
        report.zero("effects in doubt without a ticket", self.without_ticket);
        report.zero(
            "effects in doubt without a kill or a 500",
            self.without_reason,
        );
        report.zero("effects with two different ends", self.differing);
        report.zero(
            "repeats of an ended effect that are not marked",
            self.unmarked,
        );
        report.zero("effects stuck", self.stuck);
    }
}

// === impl Steps ===

impl Steps {
    fn add(&mut self, seen: &StepSeen) {
        if !seen.is_done {
            self.stuck += 1;
        } else if seen.results.len() > 1 {
            self.twice += 1;
        } else {
            self.done += 1;
        }
    }
}

/// Asks the gateway for all its tickets and doubtful effects.
pub(crate) async fn listen(gateway: std::net::SocketAddr) -> Result<Said, String> {
    let mut said = Said::default();
    for ticket in list(gateway, "/v1/tickets?state=open", "tickets").await? {
        let text = |name: &str| ticket[name].as_str().unwrap_or_default().to_owned();
        said.tickets
            .insert(text("id"), (text("kind"), text("subject")));
    }
    for effect in list(gateway, "/v1/effects?state=doubt", "effects").await? {
        let id = effect["id"].as_str().unwrap_or_default().to_owned();
        let ticket = effect["ticket"].as_str().map(str::to_owned);
        said.doubts.insert(id, ticket);
    }
    for state in ["recorded", "sending"] {
        let path = format!("/v1/effects?state={state}");
        said.moving += list(gateway, &path, "effects").await?.len() as u64;
    }
    Ok(said)
}

/// All rows of a list, page by page.
pub(crate) async fn list(
    gateway: std::net::SocketAddr,
    path: &str,
    member: &str,
) -> Result<Vec<Value>, String> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let page = Ask::get(format!("{path}&limit=500{after}"))
            .send(gateway)
            .await;
        let brief = page.brief();
        let page = page.whole().filter(|page| page.status == 200);
        let mut page = page.ok_or_else(|| format!("{path}: {brief}"))?.json();
        if let Some(more) = page[member].as_array_mut() {
            rows.append(more);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::seen::EffectEnd;
    use crate::targets::{Order, Tally};

    fn at(zero: Instant, millis: u64) -> Instant {
        zero + Duration::from_millis(millis)
    }

    fn call(number: u64, start: Instant, ended: Ended) -> vendor::Call {
        vendor::Call {
            number,
            start,
            ended,
        }
    }

    #[test]
    fn a_second_vendor_call_needs_a_kill_or_a_failure_between() {
        let zero = Instant::now();
        let judge = |first: Ended, kills: &[u64]| {
            let kills: Vec<_> = kills.iter().map(|kill| at(zero, *kill)).collect();
            let calls = [
                call(1, at(zero, 10), first),
                call(2, at(zero, 20), Ended::Whole),
            ];
            let mut counts = Calls::default();
            counts.add(&CallSeen::default(), &calls, &kills);
            (
                counts.again_after_kill,
                counts.again_after_failure,
                counts.again_without_reason,
            )
        };
        assert_eq!(judge(Ended::Whole, &[15]), (1, 0, 0));
        assert_eq!(judge(Ended::Failed, &[]), (0, 1, 0));
        assert_eq!(judge(Ended::Whole, &[]), (0, 0, 1));
        assert_eq!(judge(Ended::Left, &[5, 25]), (0, 0, 1));
    }

    fn judge_effect(honours: bool, tally: &Tally, end: Option<End>, kill: bool) -> Effects {
        let zero = Instant::now();
        let effect = Effect {
            honours,
            order: Order {
                marker: "m".to_owned(),
                mode: Mode::Fine,
                slow: 0,
            },
        };
        let seen = EffectSeen {
            first_asked: Some(zero),
            ended: end.map(|end| EffectEnd {
                end,
                at: at(zero, 20),
                id: "e".to_owned(),
                result: serde_json::json!({"body": {"performance": 1}}),
                ticket: Some("t".to_owned()),
            }),
            ..EffectSeen::default()
        };
        let said = Said {
            tickets: [("t".to_owned(), ("effect".to_owned(), "e".to_owned()))].into(),
            doubts: [("e".to_owned(), Some("t".to_owned()))].into(),
            moving: 0,
        };
        let kills: Vec<_> = kill.then_some(at(zero, 10)).into_iter().collect();
        let mut counts = Effects::default();
        counts.add(&effect, &seen, tally, &kills, &said);
        counts
    }

    fn tally(requests: u32, performed: u32) -> Tally {
        Tally {
            requests,
            performed,
            keys: vec!["k".to_owned()],
            result: (performed > 0).then_some(1),
            ..Tally::default()
        }
    }

    #[test]
    fn effects_are_judged_by_what_reached_the_target() {
        let good = judge_effect(true, &tally(3, 1), Some(End::Done), true);
        assert_eq!(
            (good.done, good.twice_honouring, good.sent_again),
            (1, 0, 2)
        );
        assert_eq!(
            judge_effect(true, &tally(3, 2), Some(End::Done), true).twice_honouring,
            1
        );
        assert_eq!(
            judge_effect(false, &tally(2, 2), Some(End::Doubt), true).twice_plain,
            1
        );
        assert_eq!(
            judge_effect(false, &tally(0, 0), Some(End::Done), true).done_but_not_performed,
            1
        );
        assert_eq!(
            judge_effect(false, &tally(1, 1), Some(End::Failed), true).performed_but_failed,
            1
        );
        assert_eq!(
            judge_effect(false, &tally(1, 1), Some(End::Doubt), false).without_reason,
            1
        );
        assert_eq!(
            judge_effect(true, &tally(1, 1), Some(End::Doubt), true).without_reason,
            1
        );
        assert_eq!(judge_effect(false, &tally(1, 1), None, true).stuck, 1);
        let doubt = judge_effect(false, &tally(1, 1), Some(End::Doubt), true);
        assert_eq!(
            (doubt.doubts, doubt.without_ticket, doubt.without_reason),
            (1, 0, 0)
        );
    }

    #[test]
    fn two_results_are_a_step_done_twice() {
        let mut steps = Steps::default();
        let mut seen = StepSeen::default();
        steps.add(&seen);
        seen.result(&Value::from(1));
        seen.result(&Value::from(1));
        steps.add(&seen);
        seen.result(&Value::from(2));
        steps.add(&seen);
        assert_eq!((steps.stuck, steps.done, steps.twice), (1, 1, 1));
    }
}
