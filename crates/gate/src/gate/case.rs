//! A call under judgement: what is known of it, and a short method for each question that is asked before it may act. The
//! questions stand in [`Case::judge`] in their order; each lets the call go on or stops it.

use std::{collections::BTreeSet, sync::Arc};

use countersign_rules::{
    Allow, ApprovalFact, ApprovalId, ApprovalRequest, Ask, Call, CallDigest, Decision, DecisionId, Effect,
    Facts, Observed, Policies, Reach, Refusal, decide, decision::grantable,
};

use super::{
    Gate,
    refusal::{bad_id, beyond_tool, denial, halted, not_looked_up, refused},
    request::alike,
    stop::Stop,
};
use crate::{
    answer::Answer,
    clock::decision_id,
    entry::NewEntry,
    ledger::{ApprovalRecord, Closer, Ledger, Standing},
    tool::{Evidence, Tool},
    warrant::Permitted,
};

/// A round along the path starts from this.
#[derive(Debug, Default)]
pub(super) struct RoundStart<'a> {
    /// The request that people have approved, where the call comes from one.
    pub(super) granted: Option<&'a ApprovalRecord>,
    /// The call reached this far when it was performed, and was rolled back because that was further than allowed.
    pub(super) exceeded: Option<Reach>,
    /// This is true if the proposal of the call is to be recorded.
    proposed: bool,
    /// A person has looked at the call, which waits, or made it: no grant covers it.
    by_person: bool,
}

impl<'a> RoundStart<'a> {
    /// Of a call that is proposed, or that people have approved.
    pub(super) const fn of(granted: Option<&'a ApprovalRecord>) -> Self {
        Self { granted, exceeded: None, proposed: granted.is_none(), by_person: false }
    }

    /// Of what a person made of the call of a request that waits.
    pub(super) const fn changed() -> Self {
        Self { granted: None, exceeded: None, proposed: true, by_person: true }
    }

    /// Of a call that waits, and that a person looks at.
    pub(super) const fn looked_at() -> Self {
        Self { granted: None, exceeded: None, proposed: false, by_person: true }
    }

    /// Of a call that was performed before, reached so far, and was rolled back.
    pub(super) const fn after(exceeded: Reach) -> Self {
        Self { granted: None, exceeded: Some(exceeded), proposed: true, by_person: false }
    }
}

/// A call under judgement.
pub(super) struct Case<'a, L, T: Tool> {
    gate: &'a Gate<L>,
    tool: &'a T,
    seen: &'a Observed,
    start: &'a RoundStart<'a>,
    call: Call<T::Args>,
    policies: Arc<Policies>,
    standing: Standing,
    id: DecisionId,
    /// The rules look at these; they are complete once the last question is answered.
    facts: Facts,
    /// People granted calls of this shape with this request, and that is why it may run.
    grant: Option<(ApprovalId, CallDigest)>,
    /// Approvers will see this.
    evidence: Option<Evidence>,
    /// These are recorded with whatever comes of the call.
    entries: Vec<NewEntry>,
}

impl<'a, L: Ledger, T: Tool> Case<'a, L, T> {
    /// Gathers what is known of a call. Where the ledger cannot be read it is not known either whether the call is a retry of
    /// one that was performed, so that nothing is said of it.
    pub(super) async fn open(
        gate: &'a Gate<L>,
        tool: &'a T,
        call: Call<T::Args>,
        seen: &'a Observed,
        start: &'a RoundStart<'a>,
    ) -> Result<Self, Answer> {
        let now_ms = gate.clock.now_ms();
        let policies = gate.policies();
        let standing = match gate.ledger.standing(&call.requester, call.digest, now_ms).await {
            Ok(standing) => standing,
            Err(fault) => return Err(refused(&call, start.granted, not_looked_up(&fault))),
        };
        let id = match decision_id(now_ms, &*gate.entropy) {
            Ok(id) => id,
            Err(why) => return Err(refused(&call, start.granted, bad_id(&why))),
        };
        let facts = gate.facts((seen, &policies), &standing, start.granted, now_ms);
        let mut entries = Vec::with_capacity(4);
        if start.proposed {
            entries.push(NewEntry::call_proposed(now_ms, &call));
        }
        Ok(Self {
            gate,
            tool,
            seen,
            start,
            call,
            policies,
            standing,
            id,
            facts,
            grant: None,
            evidence: None,
            entries,
        })
    }

    /// Asks what the rules say about the call, unless something stops it before.
    pub(super) async fn judge(&mut self) -> Result<Decision, Stop> {
        self.nobody_halted_it()?;
        self.no_answer_is_known().await?;
        self.nobody_refused_its_equal().await?;
        self.no_equal_is_in_doubt().await?;
        self.nothing_forbids_it_whatever_it_reaches()?;
        self.take_the_reach_that_was_seen();
        self.measure_what_rules_look_at().await?;
        self.measure_what_budgets_reserve().await;
        let decision = self.decide();
        let decision = self.measure_for_people(decision).await?;
        let decision = self.rehearse_for_people(decision).await?;
        let decision = self.look_for_a_grant(decision).await?;
        self.tell(&decision);
        self.it_stays_within_its_tool(&decision)?;
        Ok(decision)
    }

    fn nobody_halted_it(&self) -> Result<(), Stop> {
        match &self.standing.halted {
            Some(halt) => Err(halted(halt).into()),
            None => Ok(()),
        }
    }

    /// A retry finds the request of the first try.
    async fn no_answer_is_known(&self) -> Result<(), Stop> {
        let Some(record) = self.standing.request.as_ref().filter(|_| self.is_proposed()) else {
            return Ok(());
        };
        let known = self.gate.known(record, &self.call, &self.policies, self.facts.now_ms).await;
        let Some(answer) = known else { return Ok(()) };
        Err(self.gate.joined(&self.call, record, answer).await.into())
    }

    /// A person's no to an equal call, however that was spelled, holds for this one.
    async fn nobody_refused_its_equal(&self) -> Result<(), Stop> {
        if self.start.granted.is_some() || !self.standing.refusals {
            return Ok(());
        }
        self.gate.refused_before(self.tool, &self.call, self.facts.now_ms).await
    }

    /// Beside an equal call of which nobody knows whether it happened, nothing is performed.
    async fn no_equal_is_in_doubt(&mut self) -> Result<(), Stop> {
        if self.start.exceeded.is_some() || !self.is_write() {
            return Ok(());
        }
        self.call.again = self.gate.doubtful(self.tool, &self.call, self.start.granted).await?;
        Ok(())
    }

    /// Cheapest first: what is refused whatever the reach is costs the system nothing. Where nothing can be measured nothing
    /// is saved, and [`Case::decide`] says the same.
    fn nothing_forbids_it_whatever_it_reaches(&self) -> Result<(), Stop> {
        if !self.call.tool.measurable {
            return Ok(());
        }
        match self.policies.forbidden_early(&self.call, &self.facts) {
            Some(deny) => Err(Stop::Denied(deny)),
            None => Ok(()),
        }
    }

    /// Takes the reach that people saw. What was found by running the call is not found out again when it is granted:
    /// the warrant is held to what people saw, in all and by table, and whatever reaches further is rolled back and
    /// decided again.
    fn take_the_reach_that_was_seen(&mut self) {
        let approved = self.start.granted.and_then(|record| record.request.reach.as_ref());
        let rehearsed = approved.filter(|reach| reach.rehearsed);
        self.facts.reach = self.start.exceeded.as_ref().or(rehearsed).cloned();
    }

    /// Measures the reach where a rule or a budget of money needs to know it. What cannot be measured is refused.
    async fn measure_what_rules_look_at(&mut self) -> Result<(), Stop> {
        let (gate, effect) = (self.gate, self.seen.effect);
        let looks = || {
            self.policies.reach_decides(&self.call, &self.facts)
                || gate.charges_measured(&self.call.tool, effect)
        };
        if self.facts.reach.is_some() || !self.call.tool.measurable || !self.is_write() || !looks() {
            return Ok(());
        }
        // Nor is a system asked to measure what is over its limits whatever it reaches.
        let counted = gate.counted(&self.call, effect, self.facts.now_ms);
        gate.room(&self.call, &counted, self.facts.now_ms).await?;
        Ok(self.measure().await?)
    }

    /// Measures the reach where only a budget of rows looks at it. Where it cannot be told, as much is reserved as
    /// one call may touch.
    async fn measure_what_budgets_reserve(&mut self) {
        if self.facts.reach.is_none()
            && self.call.tool.measurable
            && self.is_write()
            && self.tool.measurable(&self.call.parsed)
            && self.gate.charges_rows(&self.call.tool, self.seen.effect)
            && let Err(refusal) = self.measure().await
        {
            tracing::debug!(%refusal, call = %self.call.id, "rows are reserved without having been counted");
        }
    }

    /// Approvers need to see the reach even where no rule does. What cannot be counted may be run instead.
    async fn measure_for_people(&mut self, decision: Decision) -> Result<Decision, Stop> {
        let Decision::Ask(ask) = &decision else { return Ok(decision) };
        let countable = self.tool.measurable(&self.call.parsed);
        if self.facts.reach.is_some() || !self.is_write() || !(countable || ask.rehearsal().is_none()) {
            return Ok(decision);
        }
        self.measure().await?;
        Ok(if self.facts.reach.is_some() { self.decide() } else { decision })
    }

    /// Runs the call and rolls it back before people are asked, where a policy wants that. What was found out when it
    /// was performed, and rolled back, is not found out again.
    async fn rehearse_for_people(&mut self, decision: Decision) -> Result<Decision, Stop> {
        let Decision::Ask(ask) = &decision else { return Ok(decision) };
        let Some(policy) = ask.rehearsal() else { return Ok(decision) };
        let ran =
            self.start.exceeded.is_some() || self.facts.reach.as_ref().is_some_and(|reach| reach.rehearsed);
        if ran || !self.is_write() {
            return Ok(decision);
        }
        let rehearsed = self.gate.rehearsed(self.tool, &self.call, &self.facts, policy, &mut self.entries);
        let (reach, evidence) = rehearsed.await?;
        self.facts.reach = Some(reach);
        self.evidence = evidence.or_else(|| self.evidence.take());
        Ok(self.decide())
    }

    /// People may have granted calls like this one, so that nobody has to be asked again. What was rolled back because it
    /// reached further than was allowed is for people to look at.
    ///
    /// INVARIANT: a grant stands in for people's answer alone. The call is measured and decided as any other, and those who
    /// gave the grant must still be able to approve.
    async fn look_for_a_grant(&mut self, decision: Decision) -> Result<Decision, Stop> {
        let Decision::Ask(ask) = &decision else { return Ok(decision) };
        if !self.is_proposed() || self.start.by_person || grantable(&ask.of).is_none() {
            return Ok(decision);
        }
        let (stored, shape) = (self.call.stored(), alike(self.tool, &self.call).shape);
        for record in
            self.gate.grants(&stored, shape, self.effect(), &self.policies, self.facts.now_ms).await?
        {
            self.facts.approval = Some(self.gate.approval_fact(&self.policies, &record, true));
            let granted = self.decide();
            if matches!(granted, Decision::Allow(_)) {
                self.grant = Some((record.request.id, shape));
                return Ok(granted);
            }
        }
        self.facts.approval = None;
        Ok(decision)
    }

    /// INVARIANT: no call touches more rows than its tool's author lets one call touch, whatever policies and people say.
    /// What policies forbid is told first: no other limit would change it.
    fn it_stays_within_its_tool(&self, decision: &Decision) -> Result<(), Stop> {
        if !self.is_write() || matches!(decision, Decision::Deny(_)) {
            return Ok(());
        }
        match self.facts.reach.as_ref().filter(|reach| reach.rows > self.call.tool.rows_max) {
            Some(reach) => Err(beyond_tool(&self.call.tool, reach).into()),
            None => Ok(()),
        }
    }

    /// Ends the case without an effect.
    pub(super) async fn stop(self, stop: Stop) -> Answer {
        let Self { gate, call, entries, policies, id, facts, .. } = self;
        let granted = self.start.granted;
        match stop {
            Stop::Answered(answer) => *answer,
            Stop::Denied(deny) => {
                gate.deny(&call, granted, entries, (&id, policies.bundle(), &facts, deny)).await
            }
            Stop::Refused(refusal) => gate.refuse(&call, granted, entries, refusal).await,
            Stop::NotIssued(why) => gate.not_issued(&call, granted, entries, why).await,
        }
    }

    /// Asks people. Where they have approved already, this is no longer what they approved.
    pub(super) async fn ask(mut self, decision: &Decision, ask: &Ask) -> Answer {
        self.record(decision);
        if let Some(record) = self.start.granted {
            let why = "it would now reach further than was approved";
            return self.gate.superseded(record, why, self.entries).await;
        }
        if let Err(why) = self.gate.room_to_ask(&self.call, &self.facts).await {
            return self.stop(why.into()).await;
        }
        let Self { gate, tool, call, policies, id, facts, evidence, entries, .. } = self;
        gate.park((&call, alike(tool, &call)), &ask.of, (id, &policies, &facts), evidence, entries, None)
            .await
    }

    /// Asks people about what a person made of the call of the request `before`, in place of that. Where the rules ask nobody,
    /// those look at it who were asked about the first one: nothing runs by the word of whoever wrote it.
    pub(super) async fn ask_instead(mut self, before: &ApprovalRecord) -> Answer {
        let of = match self.judge_what_was_changed().await {
            Ok(Decision::Ask(ask)) => {
                self.record(&Decision::Ask(ask.clone()));
                let less = self.takes_away(before);
                if let Some(narrowed) = self.call.narrowed.as_mut() {
                    narrowed.less = less;
                }
                ask.of
            }
            Ok(allowed @ Decision::Allow(_)) => {
                self.record(&allowed);
                if let Some(narrowed) = self.call.narrowed.as_mut() {
                    narrowed.free = true;
                }
                before.request.of.clone()
            }
            Ok(Decision::Deny(deny)) => return self.stop(Stop::Denied(deny)).await,
            Err(stop) => return self.stop(stop).await,
        };
        if let Err(why) = self.gate.room_once_approved(&self.call, &self.facts).await {
            return self.stop(why.into()).await;
        }
        let Self { gate, tool, call, policies, id, facts, evidence, entries, .. } = self;
        let why = (id, &*policies, &facts);
        gate.park((&call, alike(tool, &call)), &of, why, evidence, entries, Some(before)).await
    }

    /// Returns true if the changed call does less than the agent's, by the word of its tool and by what was measured of both.
    /// Less than what a person made of it is not that: whoever changed it at will would take away a little and approve the rest.
    fn takes_away(&self, before: &ApprovalRecord) -> bool {
        let (now, then) = (self.facts.reach.as_ref(), before.request.reach.as_ref());
        before.request.call.narrowed.as_ref().is_none_or(|changed| changed.less)
            && self.facts.effect <= before.effect
            && now.zip(then).is_some_and(|(now, then)| now.within(then))
            && self.tool.takes_away(&before.request.call.arguments, &self.call.arguments)
    }

    /// As [`Case::judge`], and measured for people whatever the rules say.
    async fn judge_what_was_changed(&mut self) -> Result<Decision, Stop> {
        let decision = self.judge().await?;
        let unseen = self.facts.reach.is_none() && self.is_write() && self.tool.measurable(&self.call.parsed);
        if !unseen || !matches!(decision, Decision::Allow(_)) {
            return Ok(decision);
        }
        self.measure().await?;
        let decision = self.decide();
        self.it_stays_within_its_tool(&decision)?;
        Ok(decision)
    }

    /// Runs the call and rolls it back for a person who looks at its request, and decides it anew. Returns what to show, what to
    /// record of it, and why the request ends, if what was found means that.
    pub(super) async fn look_closer(
        mut self,
        request: &ApprovalRequest,
    ) -> Result<(Closer, Vec<NewEntry>, Option<&'static str>), Refusal> {
        // What may not run is not run to be looked at.
        if let Some(halt) = &self.standing.halted {
            return Err(halted(halt));
        }
        if let Some(deny) = self.policies.forbidden_early(&self.call, &self.facts) {
            return Err(denial(&self.call, &self.facts, &deny));
        }
        let shown = request.reach.as_ref();
        let ran = self.gate.rehearsed_for_a_person(self.tool, &self.call, shown, &mut self.entries).await?;
        let (reach, evidence) = ran;
        self.facts.reach = Some(reach.clone());
        let decision = self.decide();
        self.record(&decision);
        let why = match &decision {
            Decision::Deny(_) => Some("it was run and rolled back, and the rules forbid what that found"),
            Decision::Ask(ask) if ask.of.iter().any(|of| !request.of.contains(of)) => {
                Some("it was run and rolled back, and the rules ask others about what that found")
            }
            Decision::Allow(_) | Decision::Ask(_) if reach.rows > self.call.tool.rows_max => {
                Some("it was run and rolled back, and reaches further than one call of its tool may")
            }
            Decision::Allow(_) | Decision::Ask(_) => None,
        };
        Ok((Closer { reach, decision: self.id, evidence }, self.entries, why))
    }

    /// Permits the call, within the obligations of the decision.
    pub(super) fn permit(mut self, decision: &Decision, allow: &Allow) -> Permitted<T::Args> {
        self.record(decision);
        let history = self.policies.uses_history(&self.call.tool.name).then_some(self.standing.history);
        let approval = self.start.granted.map(|record| record.request.id.clone());
        let Self { call, id, facts, grant, entries, .. } = self;
        Permitted::new(call, id, allow, &facts, (approval, grant), history, entries)
    }

    const fn effect(&self) -> Effect {
        self.seen.effect
    }

    fn is_write(&self) -> bool {
        self.effect() >= Effect::Write
    }

    /// Returns true if the agent has just proposed it: people have not approved it, and it was not performed before.
    fn is_proposed(&self) -> bool {
        self.start.granted.is_none() && self.start.exceeded.is_none()
    }

    fn decide(&self) -> Decision {
        decide(&self.call, &self.facts, &self.policies)
    }

    async fn measure(&mut self) -> Result<(), Refusal> {
        let (reach, evidence) =
            self.gate.measure(self.tool, &self.call, self.facts.now_ms, &mut self.entries).await?;
        if reach.is_some() {
            (self.facts.reach, self.evidence) = (reach, evidence);
        }
        Ok(())
    }

    fn record(&mut self, decision: &Decision) {
        let entry = NewEntry::decided(
            self.facts.now_ms,
            &self.call,
            &self.id,
            self.policies.bundle(),
            &self.facts,
            decision,
        );
        self.entries.push(entry);
    }

    fn tell(&self, decision: &Decision) {
        tracing::info!(
            decision = decision.as_str(),
            effect = %self.facts.effect,
            rows = self.facts.reach.as_ref().map(|reach| reach.rows),
            bundle = %self.policies.bundle(),
            "decided"
        );
    }
}

impl<L: Ledger> Gate<L> {
    fn facts(
        &self,
        (seen, policies): (&Observed, &Policies),
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
            approval: granted.map(|record| self.approval_fact(policies, record, false)),
        }
    }

    /// Returns people's approval of a call as the rules see it, or else the grant that they gave with it. Whom the policies
    /// in force forbid that is none of those who gave it.
    fn approval_fact(&self, policies: &Policies, record: &ApprovalRecord, grant: bool) -> ApprovalFact {
        let narrowed = record.request.call.narrowed.as_ref();
        let granted_until_ms = record.grant.as_ref().map(|given| given.terms.until_ms);
        ApprovalFact {
            id: record.request.id.clone(),
            signers: record
                .signatures
                .iter()
                // Whoever changed a call is none of those who approve it, unless it does nothing but less.
                .filter(|s| {
                    s.approved && narrowed.is_none_or(|changed| changed.less || changed.by != s.person)
                })
                .filter(|s| policies.counts((&record.request, record.effect), s, grant))
                .map(|s| (s.person.clone(), s.groups.clone()))
                .collect(),
            reach: record.request.reach.clone(),
            expires_ms: granted_until_ms.filter(|_| grant).unwrap_or_else(|| self.grant_expires_ms(record)),
            grant,
            stepped_up: record.signatures.iter().all(|s| !s.approved || s.passkey.is_some()),
        }
    }
}
