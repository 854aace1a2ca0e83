//! From a proposal to its decision: parse, facts, reach, decide, and round again where the world moved.

use std::{collections::BTreeSet, sync::Arc};

use countersign_rules::{
    ApprovalFact, Call, CallDigest, Code, Decision, Effect, Facts, Observed, PolicyId, RawCall, Reach,
    Refusal, Requester, StoredCall, decide,
};
use serde_json::Value;

use super::{
    Gate,
    doubt::Before,
    refusal::{bad_id, beyond_tool, extent, halted, not_looked_up, refused},
    repeat::Held,
    request::alike,
    room::NoRoom,
};
use crate::{
    answer::Answer,
    clock::{call_id, decision_id},
    entry::Entry,
    form::Form,
    ledger::{ApprovalRecord, Ledger, Standing},
    tool::{Evidence, MeasureError, Measured, Tool},
    warrant::{Limits, Permitted, Probe},
};

/// How often a call is decided again because its session's history moved meanwhile, before it is refused.
const DECISIONS_MAX: u32 = 64;

/// How a round along the path ended.
pub(super) enum Round<A> {
    /// There is an answer.
    Answer(Answer),
    /// Decide again: the session's history moved.
    Again(Call<A>),
    /// It exceeded its warrant and was rolled back: decide again with the reach that was seen.
    Exceeded(Call<A>, Reach),
}

impl<L: Ledger> Gate<L> {
    pub(super) async fn propose<T: Tool>(&self, tool: &T, requester: Requester, raw: RawCall) -> Answer {
        let (mut call, seen) = match self.parse(tool, &requester, raw.arguments) {
            Ok((call, seen)) => (Call { key: raw.key, trace: raw.trace, ..call }, seen),
            Err(refusal) => return self.reject(&requester, &raw.tool, refusal).await,
        };
        tracing::Span::current().record("gen_ai.tool.call.id", call.id.as_str());
        let answer = match self.held(tool, &call).await {
            Held::Answer(answer) => answer,
            Held::Free => self.drive(tool, call, &seen, None).await,
            Held::Nothing { before, .. } => {
                call.replaces = Some(before);
                self.drive(tool, call, &seen, None).await
            }
        };
        tracing::Span::current().record("countersign.status", answer.status());
        answer
    }

    /// Parses arguments into a call: form only, no facts.
    pub(super) fn parse<T: Tool>(
        &self,
        tool: &T,
        requester: &Requester,
        arguments: Value,
    ) -> Result<(Call<T::Args>, Observed), Refusal> {
        let spec = tool.spec();
        let form = Form::read(tool, arguments)?;
        let digest = CallDigest::of_canonical(&spec.name, &spec.version, &form.canonical);
        let id = call_id(self.clock.now_ms(), &*self.entropy).map_err(|why| bad_id(&why))?;
        let call = Call {
            id,
            requester: requester.clone(),
            tool: Arc::clone(spec),
            arguments: form.arguments,
            digest,
            reason: form.reason,
            key: None,
            replaces: None,
            again: None,
            trace: None,
            parsed: form.parsed,
        };
        Ok((call, form.observed))
    }

    pub(super) fn parse_stored<T: Tool>(
        &self,
        tool: &T,
        stored: &StoredCall,
    ) -> Result<(Call<T::Args>, Observed), Refusal> {
        let (call, seen) = self.parse(tool, &stored.requester, stored.arguments.clone())?;
        let StoredCall { id, reason, key, again, trace, .. } = stored.clone();
        Ok((Call { id, reason, key, again, trace, ..call }, seen))
    }

    /// Takes a parsed call to its answer: facts, decision, and then refusal, request or effect.
    pub(super) async fn drive<T: Tool>(
        &self,
        tool: &T,
        mut call: Call<T::Args>,
        seen: &Observed,
        mut granted: Option<&ApprovalRecord>,
    ) -> Answer {
        let mut exceeded: Option<Reach> = None;
        let mut proposed = granted.is_none();
        for _ in 0..DECISIONS_MAX {
            match self.round(tool, call, seen, granted, exceeded.as_ref(), proposed).await {
                Round::Answer(answer) => return answer,
                Round::Again(same) => call = same,
                Round::Exceeded(same, reach) if exceeded.is_none() => {
                    // The first warrant is closed and its approval superseded. The new decision is about a
                    // new call with the reach that was really seen.
                    let id = match call_id(self.clock.now_ms(), &*self.entropy) {
                        Ok(id) => id,
                        Err(why) => return refused(&same, None, bad_id(&why)),
                    };
                    call = Call { replaces: Some(same.id), id, ..same };
                    exceeded = Some(reach);
                    granted = None;
                    proposed = true;
                }
                Round::Exceeded(same, reach) => {
                    let message = format!("the call reaches further than was allowed: {}", extent(&reach));
                    let refusal = Refusal::new(Code::ReachExceeded, message)
                        .help("what it touches grows while it is decided; narrow the call and try again");
                    return self.refuse(&same, granted, Vec::new(), refusal).await;
                }
            }
        }
        let refusal = Refusal::new(Code::RateLimited, "too many calls of this session are decided at once")
            .help("send fewer calls in parallel");
        self.refuse(&call, granted, Vec::new(), refusal).await
    }

    pub(super) async fn round<T: Tool>(
        &self,
        tool: &T,
        mut call: Call<T::Args>,
        seen: &Observed,
        granted: Option<&ApprovalRecord>,
        exceeded: Option<&Reach>,
        proposed: bool,
    ) -> Round<T::Args> {
        let now_ms = self.clock.now_ms();
        let policies = self.policies();
        let standing = match self.ledger.standing(&call.requester, call.digest, now_ms).await {
            Ok(standing) => standing,
            // Nor is it known whether it is a retry of a call that was performed.
            Err(fault) => return Round::Answer(refused(&call, granted, not_looked_up(&fault))),
        };
        let mut entries = Vec::with_capacity(4);
        if proposed {
            entries.push(Entry::call_proposed(now_ms, &call));
        }
        if let Some(halt) = &standing.halted {
            return Round::Answer(self.refuse(&call, granted, entries, halted(halt)).await);
        }
        if granted.is_none()
            && exceeded.is_none()
            && let Some(record) = &standing.request
            && let Some(answer) = self.known(record, &call, &policies, now_ms).await
        {
            return Round::Answer(self.joined(&call, record, answer).await);
        }
        if granted.is_none()
            && standing.refusals
            && let Some(answer) = self.refused_before(tool, &call, &mut entries, now_ms).await
        {
            return Round::Answer(answer);
        }
        if exceeded.is_none() && seen.effect >= Effect::Write {
            match self.doubtful(tool, &call, granted, &mut entries).await {
                Before::Nothing => call.again = None,
                Before::Again(first) => call.again = Some(first),
                Before::Answer(answer) => return Round::Answer(answer),
            }
        }

        let mut facts = self.facts(seen, &standing, granted, now_ms);
        let id = match decision_id(now_ms, &*self.entropy) {
            Ok(id) => id,
            Err(why) => return Round::Answer(refused(&call, granted, bad_id(&why))),
        };
        // Cheapest first: what is refused whatever the reach is costs the system nothing. Where nothing can be
        // measured nothing is saved, and `decide` says the same.
        let measurable = call.tool.measurable;
        if measurable && let Some(deny) = policies.forbidden_early(&call, &facts) {
            let decision = Decision::Deny(deny);
            return Round::Answer(
                self.deny(&call, granted, entries, (&id, policies.bundle(), &facts, &decision)).await,
            );
        }
        let mut evidence = None;
        // What was found by running it is not found out again when it is granted: the warrant is held to what people saw,
        // in all and by table, and whatever reaches further is rolled back and decided again.
        let rehearsed =
            granted.and_then(|record| record.request.reach.as_ref()).filter(|reach| reach.rehearsed);
        facts.reach = exceeded.or(rehearsed).cloned();
        let needed = measurable
            && seen.effect >= Effect::Write
            && (policies.reach_decides(&call, &facts) || self.charges_measured(&call.tool, seen.effect));
        if facts.reach.is_none() && needed {
            // Nor is a system asked to measure what is over its limits whatever it reaches.
            let counted = self.counted(&call, seen.effect, now_ms);
            if let Err(why) = self.room(&call, &counted, now_ms).await {
                return Round::Answer(self.not_issued(&call, granted, entries, why).await);
            }
            match self.measure(tool, &call, now_ms, &mut entries).await {
                Ok((reach, found)) => (facts.reach, evidence) = (reach, found),
                Err(refusal) => return Round::Answer(self.refuse(&call, granted, entries, refusal).await),
            }
        }
        if facts.reach.is_none()
            && measurable
            && seen.effect >= Effect::Write
            && tool.measurable(&call.parsed)
            && self.charges_rows(&call.tool, seen.effect)
            // No rule needs it: where it cannot be told, as much is reserved as one call may touch.
            && let Ok((reach, found)) = self.measure(tool, &call, now_ms, &mut entries).await
        {
            (facts.reach, evidence) = (reach, found);
        }
        let mut decision = decide(&call, &facts, &policies);
        let rehearses = matches!(&decision, Decision::Ask(ask) if ask.rehearsal().is_some());
        if matches!(decision, Decision::Ask(_))
            && facts.reach.is_none()
            && seen.effect >= Effect::Write
            // What cannot be counted may be run.
            && (tool.measurable(&call.parsed) || !rehearses)
        {
            // The approver needs to see the reach even where no rule does.
            match self.measure(tool, &call, now_ms, &mut entries).await {
                Ok((Some(reach), found)) => {
                    facts.reach = Some(reach);
                    evidence = found;
                    decision = decide(&call, &facts, &policies);
                }
                Ok((None, _)) => {}
                Err(refusal) => return Round::Answer(self.refuse(&call, granted, entries, refusal).await),
            }
        }
        // What was found out when it was performed, and rolled back, need not be found out again.
        if let Decision::Ask(ask) = &decision
            && let Some(policy) = ask.rehearsal().cloned()
            && seen.effect >= Effect::Write
            && exceeded.is_none()
            && facts.reach.as_ref().is_none_or(|reach| !reach.rehearsed)
        {
            match self.rehearsed(tool, &call, &facts, &policy, &mut entries).await {
                Ok((reach, found)) => {
                    facts.reach = Some(reach);
                    evidence = found.or(evidence);
                    decision = decide(&call, &facts, &policies);
                }
                Err(NoRoom::Limit(why)) => {
                    return Round::Answer(self.not_issued(&call, granted, entries, why).await);
                }
                Err(NoRoom::Unmeasured(refusal)) => {
                    return Round::Answer(self.refuse(&call, granted, entries, refusal).await);
                }
            }
        }
        tracing::info!(
            decision = decision.as_str(),
            effect = %facts.effect,
            rows = facts.reach.as_ref().map(|r| r.rows),
            bundle = %policies.bundle(),
            "decided"
        );
        // INVARIANT: no call touches more rows than its tool's author lets one call touch, whatever policies and
        // people say. What policies forbid is told first: no other limit would change it.
        if seen.effect >= Effect::Write
            && !matches!(decision, Decision::Deny(_))
            && let Some(reach) = facts.reach.as_ref().filter(|reach| reach.rows > call.tool.rows_max)
        {
            let refusal = beyond_tool(&call.tool, reach);
            return Round::Answer(self.refuse(&call, granted, entries, refusal).await);
        }
        match decision {
            Decision::Deny(_) => Round::Answer(
                self.deny(&call, granted, entries, (&id, policies.bundle(), &facts, &decision)).await,
            ),
            Decision::Ask(ref ask) => {
                entries.push(Entry::decided(now_ms, &call, &id, policies.bundle(), &facts, &decision));
                Round::Answer(match granted {
                    // What was approved is not what would be done now.
                    Some(record) => {
                        self.superseded(record, "it would now reach further than was approved", entries).await
                    }
                    None => match self.room_to_ask(&call, &facts).await {
                        Ok(()) => {
                            let asked = (&call, alike(tool, &call));
                            self.park(asked, ask, (id, &policies, &facts), evidence, entries).await
                        }
                        Err(NoRoom::Limit(why)) => self.not_issued(&call, None, entries, why).await,
                        Err(NoRoom::Unmeasured(refusal)) => self.refuse(&call, None, entries, refusal).await,
                    },
                })
            }
            Decision::Allow(ref allow) => {
                entries.push(Entry::decided(now_ms, &call, &id, policies.bundle(), &facts, &decision));
                let limits = Limits::new(allow, &call.tool, seen.effect);
                let history = policies.uses_history(&call.tool.name).then_some(standing.history);
                let permitted = Permitted { call, decision: id, limits };
                self.act(tool, permitted, &facts, granted, history, entries).await
            }
        }
    }

    pub(super) fn facts(
        &self,
        seen: &Observed,
        standing: &Standing,
        granted: Option<&ApprovalRecord>,
        now_ms: i64,
    ) -> Facts {
        Facts {
            effect: seen.effect,
            categories: seen.categories.clone(),
            reversible: seen.reversible,
            reach: None,
            statement: seen.statement.clone(),
            session: standing.session.clone(),
            agent_today: standing.agent_today.clone(),
            provenance: BTreeSet::new(),
            now_ms,
            approval: granted.map(|record| ApprovalFact {
                id: record.request.id.clone(),
                signers: record
                    .signatures
                    .iter()
                    .filter(|s| s.approved)
                    .map(|s| (s.person.clone(), s.groups.clone()))
                    .collect(),
                reach: record.request.reach.clone(),
                expires_ms: self.grant_expires_ms(record),
            }),
        }
    }

    /// Measures the reach. A tool whose calls cannot be measured at all yields none; one whose calls can,
    /// and this one could not, refuses.
    pub(super) async fn measure<T: Tool>(
        &self,
        tool: &T,
        call: &Call<T::Args>,
        now_ms: i64,
        entries: &mut Vec<Entry>,
    ) -> Result<(Option<Reach>, Option<Evidence>), Refusal> {
        if !call.tool.measurable {
            return Ok((None, None));
        }
        let unmeasurable = |why: String| {
            Refusal::new(
                Code::ReachUnmeasurable,
                format!("how far the call reaches cannot be measured: {why}"),
            )
            .help("narrow the call so that what it touches can be counted before it runs")
        };
        if !tool.measurable(&call.parsed) {
            return Err(unmeasurable("calls of this form cannot be counted".into()));
        }
        let measured = tool.measure(Probe::new(call)).await.map_err(|why| unmeasured(why, unmeasurable))?;
        let (reach, evidence) = self.record(call, measured, now_ms, entries)?;
        Ok((Some(reach), evidence))
    }

    /// Runs the call and has it rolled back, because this policy wants its reach found out so before people are
    /// asked. What would find no room is not run.
    async fn rehearsed<T: Tool>(
        &self,
        tool: &T,
        call: &Call<T::Args>,
        facts: &Facts,
        policy: &PolicyId,
        entries: &mut Vec<Entry>,
    ) -> Result<(Reach, Option<Evidence>), NoRoom> {
        let refusal = |why: String| {
            let message = format!(
                "policy `{policy}` wants the call rehearsed before people are asked, and that is not possible: {why}"
            );
            let help = "narrow the call, or ask the system's author to allow rehearsals of it (`rehearse`)";
            Refusal::new(Code::ReachUnmeasurable, message).help(help)
        };
        // So many rows are not locked for the sake of a number.
        if facts.reach.as_ref().is_some_and(|reach| reach.unbounded) {
            return Err(NoRoom::Unmeasured(refusal("it reaches further than is counted".into())));
        }
        self.room_to_ask(call, facts).await?;
        let measured = tool.rehearse(Probe::new(call)).await;
        let measured = measured.map_err(|why| NoRoom::Unmeasured(unmeasured(why, refusal)))?;
        self.record(call, measured, facts.now_ms, entries).map_err(NoRoom::Unmeasured)
    }

    /// Keeps what was measured, with a commitment to the rows in the log and not the rows.
    fn record<A>(
        &self,
        call: &Call<A>,
        measured: Measured,
        now_ms: i64,
        entries: &mut Vec<Entry>,
    ) -> Result<(Reach, Option<Evidence>), Refusal> {
        let evidence = measured.sample.map(|sample| {
            let mut salt = [0_u8; 32];
            let halves = [self.entropy.bytes(), self.entropy.bytes()];
            for (to, from) in salt.iter_mut().zip(halves.iter().flatten()) {
                *to = *from;
            }
            Evidence::new(sample, salt)
        });
        let evidence = evidence.transpose().map_err(|why| Refusal::new(Code::Internal, why.to_string()))?;
        let commitment = evidence.as_ref().map(|e| e.commitment.as_str());
        entries.push(Entry::reach_measured(now_ms, call, &measured.reach, commitment));
        Ok((measured.reach, evidence))
    }
}

/// Why nothing is done where the reach is not known. `unknown` words what neither the call nor the system can be
/// blamed for.
fn unmeasured(why: MeasureError, unknown: impl FnOnce(String) -> Refusal) -> Refusal {
    match why {
        MeasureError::Rejected(why) => {
            Refusal::new(Code::ToolFailed, why).help("nothing was done; correct the call")
        }
        MeasureError::System(why) => {
            Refusal::new(Code::SystemUnavailable, why).help("nothing was done; try again later")
        }
        MeasureError::NotMeasurable(_) | MeasureError::Limit(_) => unknown(why.to_string()),
    }
}
