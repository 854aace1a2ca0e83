//! Requests to people: asked, answered, granted, expired, fetched.

use std::collections::BTreeSet;

use countersign_rules::{
    AgentId, AnswerVerb, ApprovalId, ApprovalRequest, ApprovalState, AskOf, Call, CallDigest, Code,
    DecisionId, Effect, Facts, GrantEnd, GroupName, PasskeyId, PersonId, Policies, Refusal, Signature,
    StoredCall,
    approval::{Alike, AnswerRefusal},
};
use futures::{StreamExt as _, stream};

use super::{
    Gate, GrantOffer,
    refusal::{
        answer_of, bad_id, blocked, expired, in_doubt, not_looked_up, pending, perhaps_asked, refused,
        refused_request, superseded, unavailable,
    },
    stop::Stop,
};
use crate::{
    answer::{Answer, Refused},
    clock::approval_id,
    entry::NewEntry,
    ledger::{ApprovalRecord, CallRecord, Ledger, LedgerFault, MakesWay, NotAnswered, NotParked, Parking},
    tool::{Evidence, Tool},
};

/// This is to be done about a person's no.
const REFUSED_HELP: &str = "do not repeat the same call; change what was objected to, or ask the people";

/// So many open requests are looked through at a time: more than there are, as each agent may have so many and no
/// more.
const APPROVALS_MAX: u32 = 100_000;

/// So many requests end at a time when the policies have changed: the ledger commits together what waits together.
const ENDING_AT_ONCE: usize = 64;

/// A request ends for this reason if its call would be decided by other policies, or performed by another tool, than
/// people were asked under.
pub(super) const CHANGED: &str =
    "its tool, its agent or a policy that can apply to it has changed since it was asked";

impl<L: Ledger> Gate<L> {
    pub(super) async fn park<A>(
        &self,
        (call, alike): (&Call<A>, Alike),
        of: &[AskOf],
        (decision, policies, facts): (DecisionId, &Policies, &Facts),
        evidence: Option<Evidence>,
        mut entries: Vec<NewEntry>,
        instead_of: Option<&ApprovalRecord>,
    ) -> Answer {
        let before = match self.ledger.answered(&call.requester.agent, &call.tool.name, alike.shape).await {
            Ok(records) => records.iter().filter_map(|record| record.answered(Some(&alike))).collect(),
            Err(fault) => return refused(call, None, unavailable(&fault)),
        };
        let id = match approval_id(&*self.entropy) {
            Ok(id) => id,
            Err(why) => return refused(call, None, bad_id(&why)),
        };
        let wait_ms = of.iter().map(|a| a.deadline_ms).min().unwrap_or(0);
        let expires_ms = facts.now_ms.saturating_add(i64::try_from(wait_ms).unwrap_or(i64::MAX));
        let request = ApprovalRequest {
            id,
            call: call.stored(),
            decision,
            bundle: policies.bundle().clone(),
            slice: policies.slice(&call.requester, &call.tool.name, &call.tool.version),
            reach: facts.reach.clone(),
            of: of.to_vec(),
            asked_ms: facts.now_ms,
            expires_ms,
            alike: Some(alike),
            before,
        };
        let makes_way = instead_of.zip(call.narrowed.as_ref()).map(|(before, narrowed)| {
            let why =
                format!("`{}` changed the call, and request `{}` asks about that", narrowed.by, request.id);
            let state = ApprovalState::Superseded;
            entries.push(NewEntry::request_ended(request.asked_ms, &before.request, state, None, &why));
            MakesWay { approval: before.request.id.clone(), why }
        });
        entries.push(NewEntry::asked(&request));
        let replaces = call.replaces.clone();
        let parking = Parking { request, replaces, makes_way, evidence, effect: facts.effect, entries };
        // A crash before this is durable leaves nobody asked. After it people are asked, though the agent was not
        // told: the same call again finds the request.
        match self.ledger.park(parking).await {
            // Another one was open meanwhile.
            Ok(record) if record.request.call.id != call.id && call.key.is_some() => pending(&record).again(),
            Ok(record) => pending(&record),
            Err(NotParked::KeyTaken(taken)) => self.told_at_last(call, &taken).await,
            Err(NotParked::Moved(state)) => {
                let message = format!("the request is {}, and nothing was changed", state.as_str());
                refused(
                    call,
                    None,
                    Refusal::new(Code::AnswerRefused, message).help("look at the request again"),
                )
            }
            // A request that nobody was told of may be approved all the same.
            Err(NotParked::Fault(fault @ LedgerFault::Unknown(_))) => {
                refused(call, None, perhaps_asked(&fault))
            }
            Err(NotParked::Fault(fault)) => refused(call, None, unavailable(&fault)),
        }
    }

    /// An answer that is known already: a retry of the same call finds the same request.
    pub(super) async fn known<A>(
        &self,
        record: &ApprovalRecord,
        call: &Call<A>,
        policies: &Policies,
        now_ms: i64,
    ) -> Option<Answer> {
        let overdue = record.request.expires_ms <= now_ms;
        if let Some(changed) = self.changed(record).await {
            return self.known_of_its_change(changed, now_ms).await;
        }
        match record.state {
            ApprovalState::Waiting if overdue => {
                self.expire_one(record).await;
                None
            }
            // Its approval would be good for nothing: people are asked under the policies that hold now.
            ApprovalState::Waiting if !record.request.stands_under(policies) => {
                self.superseded(record, CHANGED, Vec::new()).await;
                None
            }
            // So it is where that was found before the retry came, at the start of the server.
            ApprovalState::Superseded if !record.request.stands_under(policies) && !record.delivered => None,
            ApprovalState::Waiting | ApprovalState::Approved | ApprovalState::Executing => {
                Some(pending(record))
            }
            // A refusal stays one until the request would have expired: asking again is not a way around.
            ApprovalState::Refused if !overdue => Some(self.settled(record).await),
            ApprovalState::Refused
            | ApprovalState::Expired
            | ApprovalState::Superseded
            | ApprovalState::Done
            | ApprovalState::Failed
            | ApprovalState::InDoubt
            | ApprovalState::Blocked => {
                // What came of another connection's call is news for a retry, and not for a call that happens
                // to be equal long after.
                let elsewhere = record.request.call.requester.session != call.requester.session;
                // What may have been performed answers every retry, as long as people could have been asked: an answer
                // that was lost on the way, or given to one of many retries, must not make the effect happen twice.
                let again = match record.state {
                    // An agent that has heard of it and gives a key that this one does not have means another call.
                    ApprovalState::Done if record.delivered && call.key.is_some() => false,
                    ApprovalState::Done | ApprovalState::InDoubt => self.answers_until_ms(record) > now_ms,
                    ApprovalState::Waiting
                    | ApprovalState::Approved
                    | ApprovalState::Executing
                    | ApprovalState::Refused
                    | ApprovalState::Expired
                    | ApprovalState::Superseded
                    | ApprovalState::Failed
                    | ApprovalState::Blocked => false,
                };
                if !again && (record.delivered || (elsewhere && overdue)) {
                    return None;
                }
                let answer = self.settled(record).await;
                if record.delivered {
                    return Some(answer.again());
                }
                self.delivered(record).await;
                Some(answer)
            }
        }
    }

    /// Returns the request about what people made of the call of this one in the end, if they changed it.
    async fn changed(&self, record: &ApprovalRecord) -> Option<Result<ApprovalRecord, LedgerFault>> {
        let mut last = None;
        let mut to = record.narrowed_to.clone();
        while let Some(id) = to.take() {
            let found = self.ledger.approval(&id).await;
            to = found.as_ref().ok().and_then(|found| found.as_ref()?.narrowed_to.clone());
            // The ledger forgets no request. Should it, nothing is said of the first one either.
            let lost = LedgerFault::Damaged(format!("request `{id}` is not there"));
            last = Some(found.and_then(|found| found.ok_or(lost)));
        }
        last
    }

    /// As [`Gate::known`], of a call that people have changed since: what becomes of that one answers a retry, for as long as
    /// people could have been asked about it.
    async fn known_of_its_change(
        &self,
        changed: Result<ApprovalRecord, LedgerFault>,
        now_ms: i64,
    ) -> Option<Answer> {
        match changed {
            Ok(changed) if changed.delivered && self.answers_until_ms(&changed) <= now_ms => None,
            Ok(changed) if changed.delivered => Some(self.settled(&changed).await.again()),
            Ok(changed) => Some(self.tell(&changed).await),
            Err(fault) => Some(Answer::Refused(Refused::new(None, None, not_looked_up(&fault)))),
        }
    }

    /// A person's no to an equal call, however that was spelled and in whichever session: it holds for as long as the request
    /// could have been open.
    pub(super) async fn refused_before<T: Tool>(
        &self,
        tool: &T,
        call: &Call<T::Args>,
        now_ms: i64,
    ) -> Result<(), Stop> {
        let normal = alike(tool, call).normal;
        let record = match self.ledger.refused(&call.requester.agent, (normal, call.digest), now_ms).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(()),
            Err(fault) => return Err(refused(call, None, not_looked_up(&fault)).into()),
        };
        let why = record.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("a person refused the same call (request `{}`){why}", record.request.id);
        Err(Refusal::new(Code::ApprovalRefused, message).help(REFUSED_HELP).into())
    }

    /// Records a person's answer. The identity and groups come from authentication.
    ///
    /// # Errors
    /// [`NotAnswered`], and then nothing changes.
    pub async fn answer(
        &self,
        approval: &ApprovalId,
        person: PersonId,
        groups: BTreeSet<GroupName>,
        (approved, grant): (bool, Option<GrantOffer>),
        comment: Option<String>,
        channel: &str,
    ) -> Result<ApprovalRecord, NotAnswered> {
        self.answer_with(approval, (person, groups), (approved, grant), comment, channel, None).await
    }

    /// Records a person's answer as [`Gate::answer`] does, which the person confirmed with this passkey, if with any.
    ///
    /// # Errors
    /// [`NotAnswered`], and then nothing changes.
    pub async fn answer_with(
        &self,
        approval: &ApprovalId,
        (person, groups): (PersonId, BTreeSet<GroupName>),
        (approved, grant): (bool, Option<GrantOffer>),
        comment: Option<String>,
        channel: &str,
        passkey: Option<PasskeyId>,
    ) -> Result<ApprovalRecord, NotAnswered> {
        let record = self.ledger.approval(approval).await?.ok_or(NotAnswered::NotFound)?;
        if approved {
            self.still_asks(&record).await?;
        } else {
            self.in_time(&record).await?;
        }
        let at_ms = self.clock.now_ms();
        let asked = record.request.may_answer(record.state, (&person, &groups), at_ms).is_ok();
        let verbs = match (approved, &grant) {
            (false, _) => &[AnswerVerb::Refuse][..],
            (true, None) => &[AnswerVerb::Approve],
            (true, Some(_)) => &[AnswerVerb::Approve, AnswerVerb::Grant],
        };
        // Who is not asked at all is told that, by the ledger.
        for verb in verbs.iter().filter(|_verb| asked) {
            let who = (&person, &groups);
            self.policies().may_answer((&record.request, record.effect), who, *verb, at_ms)?;
        }
        let comment = comment.map(|text| text.chars().take(2_000).collect());
        let grant = grant.map(|offer| offer.terms(at_ms));
        let channel = channel.to_owned();
        let signature = Signature { person, groups, approved, comment, at_ms, channel, grant, passkey };
        let entry = NewEntry::answered(&record.request, &signature);
        // A crash before this is durable leaves the request as it was. After it the answer counts, though the person
        // was not told, and the worker performs what is granted.
        self.ledger.answer(approval, signature, entry).await
    }

    async fn in_time(&self, record: &ApprovalRecord) -> Result<(), NotAnswered> {
        if record.state == ApprovalState::Waiting && record.request.expires_ms <= self.clock.now_ms() {
            self.expire_one(record).await;
            return Err(AnswerRefusal::Expired.into());
        }
        Ok(())
    }

    /// Checks that a request, if it waits, waits for what may still be approved. Another replica, with other policies, may have
    /// asked since this one started.
    pub(super) async fn still_asks(&self, record: &ApprovalRecord) -> Result<(), NotAnswered> {
        self.in_time(record).await?;
        if record.state == ApprovalState::Waiting && !record.request.stands_under(&self.policies()) {
            self.supersede(record, CHANGED).await?;
            return Err(AnswerRefusal::NotOpen(ApprovalState::Superseded).into());
        }
        Ok(())
    }

    /// Returns the requests with which people granted calls like `call`, as far as that may still stand in for their answer.
    pub(super) async fn grants(
        &self,
        call: &StoredCall,
        shape: CallDigest,
        effect: Effect,
        policies: &Policies,
        now_ms: i64,
    ) -> Result<Vec<ApprovalRecord>, Stop> {
        let fault = |fault: &LedgerFault| Stop::Refused(not_looked_up(fault));
        let Some(signers) = self.signers.get() else { return Ok(Vec::new()) };
        let granting = self.ledger.granting(&call.requester, shape, now_ms).await;
        let mut found = Vec::new();
        for record in granting.map_err(|why| fault(&why))? {
            let fits = record.covers(call, shape, now_ms)
                && effect <= record.effect
                && record.request.stands_under(policies);
            if fits && signers.still_approve(&record).await.map_err(|why| fault(&why))? {
                found.push(record);
            }
        }
        Ok(found)
    }

    /// Ends the grant that people gave with a request, before its time. Returns whether there was one.
    ///
    /// # Errors
    /// [`LedgerFault`], and then the grant stays.
    pub async fn end_grant(
        &self,
        record: &ApprovalRecord,
        by: PersonId,
        why: &str,
    ) -> Result<bool, LedgerFault> {
        let end = GrantEnd { by, at_ms: self.clock.now_ms(), why: why.to_owned() };
        let entry = NewEntry::grant_ended(&record.request, &end);
        // A crash before this is durable leaves the grant, and whoever ended it was not told that it is; after it no call
        // is covered any more.
        self.ledger.end_grant(&record.request.id, end, entry).await
    }

    /// Ends the requests whose time is over. To be called every second or so, by any replica.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn expire(&self) -> Result<(), LedgerFault> {
        let now_ms = self.clock.now_ms();
        for record in self.ledger.overdue(now_ms, APPROVALS_MAX).await? {
            self.expire_one(&record).await;
        }
        for record in self.granted().await? {
            if self.grant_expires_ms(&record) <= now_ms {
                self.expire_one(&record).await;
            }
        }
        Ok(())
    }

    pub(super) async fn expire_one(&self, record: &ApprovalRecord) {
        let why = if record.state == ApprovalState::Waiting {
            "nobody answered in time"
        } else {
            "it was granted, and not performed in time"
        };
        match self.end(record, ApprovalState::Expired, None, why, Vec::new()).await {
            Ok(true) if record.state == ApprovalState::Waiting => {
                if let Some(told) = self.expired.get() {
                    told(record);
                }
            }
            Ok(_ended) => {}
            Err(fault) => {
                tracing::warn!(%fault, approval = %record.request.id, "an overdue request could not be ended");
            }
        }
    }

    /// Requests that people have granted and nobody has performed yet.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn granted(&self) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        self.ledger.approvals(&[ApprovalState::Approved], APPROVALS_MAX).await
    }

    /// Ends every request whose tool, agent or policies are others than when it was asked: its approval would be good for
    /// nothing. What changed elsewhere is no matter ([`Policies::slice`]). Answers how many there were. To be called before
    /// people can answer.
    ///
    /// # Errors
    /// [`LedgerFault`]; then some of them may be left.
    pub async fn supersede_changed(&self) -> Result<usize, LedgerFault> {
        let policies = self.policies();
        let open = [ApprovalState::Waiting, ApprovalState::Approved];
        let mut changed = self.ledger.approvals(&open, APPROVALS_MAX).await?;
        changed.retain(|record| !record.request.stands_under(&policies));
        let count = changed.len();
        let mut ending = stream::iter(&changed)
            .map(|record| self.supersede(record, CHANGED))
            .buffer_unordered(ENDING_AT_ONCE);
        while let Some(ended) = ending.next().await {
            ended?;
        }
        Ok(count)
    }

    /// Ends a granted request that can no longer be performed: its tool is gone or switched off, or its signers no longer count.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn supersede(&self, record: &ApprovalRecord, why: &str) -> Result<(), LedgerFault> {
        self.end(record, ApprovalState::Superseded, None, why, Vec::new()).await.map(|_ended| ())
    }

    /// Ends a request that was not performed. One that has moved on meanwhile stays as it is. Returns whether it was ended.
    pub(super) async fn end(
        &self,
        record: &ApprovalRecord,
        state: ApprovalState,
        code: Option<Code>,
        why: &str,
        mut entries: Vec<NewEntry>,
    ) -> Result<bool, LedgerFault> {
        let ApprovalRecord { request, .. } = record;
        entries.push(NewEntry::request_ended(self.clock.now_ms(), request, state, code, why));
        // A crash before this is durable leaves the request open, and whoever ended it, the worker or a start, ends it
        // again; after it, the agent is told when it asks.
        self.ledger.end(&request.id, state, code, why, entries).await
    }

    pub(super) async fn grant<T: Tool>(&self, tool: &T, record: ApprovalRecord) -> Answer {
        let request = &record.request;
        let now_ms = self.clock.now_ms();
        if self.grant_expires_ms(&record) <= now_ms {
            self.expire_one(&record).await;
            return refused_request(&record, expired());
        }
        let spec = tool.spec();
        if spec.name != request.call.tool || spec.version != request.call.version {
            return self.superseded(&record, "the tool has changed since it was approved", Vec::new()).await;
        }
        if !request.stands_under(&self.policies()) {
            return self.superseded(&record, CHANGED, Vec::new()).await;
        }
        match self.parse_stored(tool, &request.call) {
            Ok((call, seen)) if call.digest == request.call.digest => {
                let answer = self.drive(tool, call, &seen, Some(&record)).await;
                tracing::Span::current().record("countersign.status", answer.status());
                answer
            }
            Ok(_) => {
                self.superseded(&record, "the stored call no longer has the approved digest", Vec::new())
                    .await
            }
            Err(refusal) => self.superseded(&record, &refusal.message, Vec::new()).await,
        }
    }

    pub(super) async fn superseded(
        &self,
        record: &ApprovalRecord,
        why: &str,
        entries: Vec<NewEntry>,
    ) -> Answer {
        let refusal = match self.end(record, ApprovalState::Superseded, None, why, entries).await {
            Ok(_ended) => superseded(why),
            Err(fault) => not_looked_up(&fault),
        };
        refused_request(record, refusal)
    }

    pub(super) fn grant_expires_ms(&self, record: &ApprovalRecord) -> i64 {
        let last = record.signatures.iter().map(|s| s.at_ms).max().unwrap_or(record.request.asked_ms);
        last.saturating_add(i64::try_from(self.settings.grant_ms).unwrap_or(i64::MAX))
    }

    /// Until when what was granted answers its retries: it was open until then, had it not been performed.
    pub(super) fn answers_until_ms(&self, record: &ApprovalRecord) -> i64 {
        record.request.expires_ms.max(self.grant_expires_ms(record))
    }

    /// Tells the agent that made a request what became of it. A final answer counts as fetched.
    pub async fn fetch(&self, agent: &AgentId, approval: &ApprovalId) -> Answer {
        let not_found = || {
            let refusal = Refusal::new(Code::NotFound, format!("no request `{approval}` of this agent"));
            Answer::Refused(Refused::new(None, Some(approval.clone()), refusal))
        };
        let record = match self.ledger.approval(approval).await {
            Ok(Some(record)) if record.request.call.requester.agent == *agent => record,
            Ok(_) => return not_found(),
            Err(fault) => {
                return Answer::Refused(Refused::new(None, Some(approval.clone()), not_looked_up(&fault)));
            }
        };
        self.tell(&record).await
    }

    /// As [`Gate::fetch`], of a request that was just read for its agent.
    pub async fn tell(&self, record: &ApprovalRecord) -> Answer {
        let now_ms = self.clock.now_ms();
        if !record.state.is_final() {
            if record.state == ApprovalState::Waiting && record.request.expires_ms <= now_ms {
                self.expire_one(record).await;
                return refused_request(record, expired());
            }
            return pending(record);
        }
        let answer = match self.changed(record).await {
            Some(Ok(changed)) => Box::pin(self.tell(&changed)).await,
            Some(Err(fault)) => refused_request(record, not_looked_up(&fault)),
            None => self.settled(record).await,
        };
        self.delivered(record).await;
        answer
    }

    /// Notes that the agent was told. Where that cannot be noted it is told again, which harms nobody.
    pub(super) async fn delivered(&self, record: &ApprovalRecord) {
        // A crash on either side of this leaves nothing undone: the answer is told again.
        if let Err(fault) = self.ledger.deliver(&record.request.id).await {
            tracing::warn!(%fault, approval = %record.request.id, "that an answer was fetched could not be noted");
        }
    }

    /// Returns the answer of a final request.
    pub(super) async fn settled(&self, record: &ApprovalRecord) -> Answer {
        let why = record.why.clone();
        let refusal = match record.state {
            ApprovalState::Waiting | ApprovalState::Approved | ApprovalState::Executing => {
                return pending(record);
            }
            ApprovalState::Done | ApprovalState::Failed | ApprovalState::InDoubt => {
                match self.ledger.call(&record.request.call.id).await {
                    Ok(Some(CallRecord { outcome: Some(outcome), rows, .. })) => {
                        let approval = Some(record.request.id.clone());
                        return answer_of(&record.request.call.id, approval, outcome, rows)
                            .of_changed(&record.request.call);
                    }
                    Ok(_) => in_doubt(&record.request.call.id),
                    Err(fault) => not_looked_up(&fault),
                }
            }
            ApprovalState::Refused => Refusal::new(
                Code::ApprovalRefused,
                match why {
                    Some(why) => format!("a person refused it: {why}"),
                    None => "a person refused it".into(),
                },
            )
            .help(REFUSED_HELP),
            ApprovalState::Expired => expired(),
            ApprovalState::Superseded => match self.told_of_its_other(record).await {
                Ok(Some(answer)) => return answer,
                Ok(None) => superseded(why.as_deref().unwrap_or("it changed since")),
                Err(fault) => not_looked_up(&fault),
            },
            ApprovalState::Blocked => blocked(record.code, why.as_deref().unwrap_or_default()),
        };
        refused_request(record, refusal)
    }
}

/// Returns what makes other calls the same as this one to people.
pub(super) fn alike<T: Tool>(tool: &T, call: &Call<T::Args>) -> Alike {
    tool.likeness(&call.parsed, &call.arguments).alike(&call.tool)
}
