//! What is written to the log: one type for each kind of entry, by which it is written and read back, and one constructor,
//! so that its words are the same wherever it is made.
//!
//! Entries hold what decided and what happened. They do not hold results, credentials or row samples:
//! results appear as digests, samples as salted commitments whose data is kept beside the log and can be
//! erased.

mod call;
mod effect;
mod kind;
mod operation;
mod request;

use std::{borrow::Cow, sync::Arc};

use countersign_audit::{
    CanonicalBody, CanonicalError, Entry, EntryError, EntryKind, entry::Reference, sha256,
};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalState, BundleDigest, Call, CallId, Code, Decision, DecisionId, Facts,
    GrantEnd, GrantTerms, Money, PersonId, Reach, Refusal, Requester, SessionId, Signature, StoredCall,
    approval::ApprovalRequest, budget::HoldRequest,
};
use serde::Serialize;
use serde_json::Value;

pub use self::{
    call::{CallProposed, CallRejected, Decided, ReachMeasured, RefusalsCounted, Refused},
    effect::{DoubtEvidence, DoubtResolved, End, Held, InDoubt, Outcome, Undone, WarrantIssued},
    kind::{Kind, Told},
    operation::{EvidenceErased, Halted, Resumed, SessionOpened},
    request::{Answered, Asked, GrantEnded, GrantGiven, LookedCloser, RequestEnded},
};
use crate::{
    approval::Closer,
    halt::{HaltRecord, HaltScope},
    limits::Limits,
    outcome::{CallOutcome, CallRecord},
    refusals::RefusalCount,
};

/// Larger arguments of refused calls are kept as their digest: whoever is refused must not fill the log.
const REFUSED_BYTES_MAX: usize = 4 * 1_024;

/// So many characters are kept of a tool's name that is none.
const TOOL_CHARS_MAX: usize = 128;

/// An entry before it has its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry {
    /// It happened at this time, in Unix milliseconds UTC.
    pub at_ms: i64,
    /// This happened: the [`Kind::WORD`] of the entry's kind.
    pub kind: &'static str,
    /// The call is one of this agent.
    pub agent: Option<AgentId>,
    /// The entry is about this session.
    pub session: Option<SessionId>,
    /// The entry is about this call.
    pub call: Option<CallId>,
    /// The entry is about this request for approval.
    pub approval: Option<ApprovalId>,
    /// The details, as they stand in the log. Shared: an intent that is not issued leaves its entries to the refusal. What cannot
    /// be written cannot be encoded, and so what it records does not happen.
    body: Result<Arc<CanonicalBody>, CanonicalError>,
}

/// An entry about a request for approval names it beside its details.
#[derive(Serialize)]
struct Under<'a, K> {
    approval: &'a ApprovalId,
    #[serde(flatten)]
    body: &'a K,
}

impl NewEntry {
    /// Makes an entry of this kind, about nobody in particular.
    pub fn new<K: Kind>(at_ms: i64, body: &K) -> Self {
        Self::with(at_ms, K::WORD, CanonicalBody::of(body))
    }

    /// Makes an entry of this kind that names a request for approval, where there is one.
    fn under<K: Kind>(at_ms: i64, approval: Option<&ApprovalId>, body: &K) -> Self {
        let Some(approval) = approval else { return Self::new(at_ms, body) };
        let entry = Self::with(at_ms, K::WORD, CanonicalBody::of(&Under { approval, body }));
        Self { approval: Some(approval.clone()), ..entry }
    }

    fn with(at_ms: i64, kind: &'static str, body: Result<CanonicalBody, CanonicalError>) -> Self {
        let body = body.map(Arc::new);
        Self { at_ms, kind, agent: None, session: None, call: None, approval: None, body }
    }

    fn about(mut self, requester: &Requester, call: &CallId) -> Self {
        self.agent = Some(requester.agent.clone());
        self.session = Some(requester.session.clone());
        self.call = Some(call.clone());
        self
    }

    /// Reads the details, by kind, as JSON, with the request for approval that the entry names; null if they cannot be written.
    #[must_use]
    pub fn body(&self) -> Value {
        self.text().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    fn text(&self) -> Option<&str> {
        self.body.as_ref().ok().map(|body| body.as_str())
    }

    /// Reads the details as what they are; `None` if the entry is of another kind.
    #[must_use]
    pub fn read<K: Kind>(&self) -> Option<K> {
        if self.kind == K::WORD { serde_json::from_str(self.text()?).ok() } else { None }
    }

    /// Returns the bytes that stand in the log: versioned canonical JSON.
    ///
    /// # Errors
    /// When the entry is larger than the log's format allows, or holds what canonical JSON cannot write.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let reference = |id: Option<&str>| id.map(Reference::new).transpose();
        let body = self.body.as_ref().map_err(CanonicalError::clone)?;
        let mut entry = Entry::new(self.at_ms, EntryKind::new(self.kind)?, Value::Null);
        entry.agent = reference(self.agent.as_ref().map(AgentId::as_str))?;
        entry.session = reference(self.session.as_ref().map(SessionId::as_str))?;
        entry.call = reference(self.call.as_ref().map(CallId::as_str))?;
        entry.to_bytes_with(body)
    }

    /// Tells that a session began.
    #[must_use]
    pub fn session_opened(at_ms: i64, requester: &Requester, front_door: &str, client: Option<&str>) -> Self {
        let body = SessionOpened {
            front_door: front_door.into(),
            client: client.map(Cow::Borrowed),
            teams: Cow::Borrowed(&requester.teams),
            on_behalf_of: requester.on_behalf_of.as_ref().map(Cow::Borrowed),
        };
        let mut entry = Self::new(at_ms, &body);
        entry.agent = Some(requester.agent.clone());
        entry.session = Some(requester.session.clone());
        entry
    }

    /// An agent proposed a call. The reason is the agent's claim.
    #[must_use]
    pub fn call_proposed<A>(at_ms: i64, call: &Call<A>) -> Self {
        let body = CallProposed {
            tool: Cow::Borrowed(&call.tool.name),
            version: Cow::Borrowed(&call.tool.version),
            system: Cow::Borrowed(&call.tool.system.name),
            arguments: Cow::Borrowed(&call.arguments),
            digest: call.digest,
            reason: call.reason.as_deref().map(Cow::Borrowed),
            idempotency_key: call.key.as_ref().map(Cow::Borrowed),
            narrowed: call.narrowed.as_ref().map(Cow::Borrowed),
            arguments_bytes: None,
            arguments_digest: None,
        };
        Self::new(at_ms, &body).about(&call.requester, &call.id)
    }

    /// A proposal was refused before it was a call: unknown tool, arguments that do not fit.
    #[must_use]
    pub fn call_rejected(
        at_ms: i64,
        requester: &Requester,
        call: &CallId,
        tool: &str,
        refusal: &Refusal,
    ) -> Self {
        let tool: String = tool.chars().take(TOOL_CHARS_MAX).collect();
        let message = Cow::Borrowed(refusal.message.as_str());
        let body = CallRejected { tool: tool.into(), code: refusal.code, message };
        Self::new(at_ms, &body).about(requester, call)
    }

    /// So many refusals were not recorded one by one.
    #[must_use]
    pub fn refusals_counted(at_ms: i64, sum: &RefusalCount) -> Self {
        let body = RefusalsCounted {
            codes: Cow::Borrowed(&sum.codes),
            count: sum.codes.values().fold(0_u64, |all, count| all.saturating_add(*count)),
            since_ms: sum.since_ms,
            until_ms: sum.until_ms,
        };
        let mut entry = Self::new(at_ms, &body);
        entry.agent = Some(sum.agent.clone());
        entry
    }

    /// The entry as it is kept of a call that was refused and had no effect: large arguments by their size and digest.
    #[must_use]
    pub fn of_a_refused_call(self) -> Self {
        // Nearly all are small, with everything around them.
        if self.text().is_none_or(|text| text.len() <= REFUSED_BYTES_MAX) {
            return self;
        }
        let Some(proposed) = self.read::<CallProposed<'_>>() else { return self };
        let Ok(arguments) = countersign_audit::to_canonical_vec(&proposed.arguments) else { return self };
        if arguments.len() <= REFUSED_BYTES_MAX {
            return self;
        }
        let kept = CallProposed {
            arguments: Cow::Owned(Value::Null),
            arguments_bytes: Some(arguments.len()),
            arguments_digest: Some(sha256(&arguments).to_string()),
            ..proposed
        };
        Self { body: Self::new(self.at_ms, &kept).body, ..self }
    }

    /// The reach was measured. `sample` is the commitment to the sample of rows.
    #[must_use]
    pub fn reach_measured<A>(at_ms: i64, call: &Call<A>, reach: &Reach, sample: Option<&str>) -> Self {
        let body =
            ReachMeasured { reach: Cow::Borrowed(reach), sample_commitment: sample.map(Cow::Borrowed) };
        Self::new(at_ms, &body).about(&call.requester, &call.id)
    }

    /// Tells that the rules decided, on these facts under these policies.
    #[must_use]
    pub fn decided<A>(
        at_ms: i64,
        call: &Call<A>,
        id: &DecisionId,
        bundle: &BundleDigest,
        facts: &Facts,
        decision: &Decision,
    ) -> Self {
        let body = Decided {
            id: Cow::Borrowed(id),
            bundle: Cow::Borrowed(bundle),
            facts: Cow::Borrowed(facts),
            decision: Cow::Borrowed(decision),
        };
        Self::new(at_ms, &body).about(&call.requester, &call.id)
    }

    /// Tells that something else than the policies refused: a limit, a halt, an unmeasurable reach.
    #[must_use]
    pub fn refused<A>(at_ms: i64, call: &Call<A>, refusal: &Refusal) -> Self {
        let body = Refused {
            code: refusal.code,
            message: Cow::Borrowed(&refusal.message),
            policies: Cow::Borrowed(&refusal.policies),
            status: refusal.code.status().into(),
        };
        Self::new(at_ms, &body).about(&call.requester, &call.id)
    }

    /// People are asked.
    #[must_use]
    pub fn asked(request: &ApprovalRequest) -> Self {
        let body = Asked {
            decision: Cow::Borrowed(&request.decision),
            bundle: Cow::Borrowed(&request.bundle),
            slice: request.slice.as_ref().map(Cow::Borrowed),
            digest: request.call.digest,
            reach: request.reach.as_ref().map(Cow::Borrowed),
            of: Cow::Borrowed(&request.of),
            expires_ms: request.expires_ms,
        };
        Self::of(request, request.asked_ms, &body)
    }

    /// Tells that a person answered.
    #[must_use]
    pub fn answered(request: &ApprovalRequest, signature: &Signature) -> Self {
        let body = Answered {
            person: Cow::Borrowed(&signature.person),
            groups: Cow::Borrowed(&signature.groups),
            approved: signature.approved,
            comment: signature.comment.as_deref().map(Cow::Borrowed),
            channel: Cow::Borrowed(&signature.channel),
            digest: request.call.digest,
            grant: signature.grant,
            passkey: signature.passkey.as_ref().map(Cow::Borrowed),
        };
        Self::of(request, signature.at_ms, &body)
    }

    /// Tells that a person had the call run and rolled back, with what was found.
    #[must_use]
    pub fn looked_closer(at_ms: i64, request: &ApprovalRequest, person: &PersonId, seen: &Closer) -> Self {
        let body = LookedCloser {
            person: Cow::Borrowed(person),
            decision: Cow::Borrowed(&seen.decision),
            reach: Cow::Borrowed(&seen.reach),
        };
        Self::of(request, at_ms, &body)
    }

    /// Tells that people granted calls like the one they approved, with the last of these answers.
    #[must_use]
    pub fn grant_given(request: &ApprovalRequest, signatures: &[Signature], terms: GrantTerms) -> Self {
        let approving = signatures.iter().filter(|signature| signature.approved);
        let body = GrantGiven {
            people: approving.clone().map(|signature| Cow::Borrowed(&signature.person)).collect(),
            terms,
            shape: request.alike.map(|alike| alike.shape),
            reach: request.reach.as_ref().map(Cow::Borrowed),
        };
        let at_ms = approving.map(|signature| signature.at_ms).max().unwrap_or(request.asked_ms);
        Self::of(request, at_ms, &body)
    }

    /// Tells that a person ended a grant before its time.
    #[must_use]
    pub fn grant_ended(request: &ApprovalRequest, end: &GrantEnd) -> Self {
        let body = GrantEnded { by: Cow::Borrowed(&end.by), why: Cow::Borrowed(&end.why) };
        Self::of(request, end.at_ms, &body)
    }

    /// Tells that a request ended without being performed. `code` is that of the refusal that ended it, if one did.
    #[must_use]
    pub fn request_ended(
        at_ms: i64,
        request: &ApprovalRequest,
        state: ApprovalState,
        code: Option<Code>,
        why: &str,
    ) -> Self {
        Self::of(request, at_ms, &RequestEnded { state, code, why: why.into() })
    }

    fn of<K: Kind>(request: &ApprovalRequest, at_ms: i64, body: &K) -> Self {
        Self::under(at_ms, Some(&request.id), body).about(&request.call.requester, &request.call.id)
    }

    /// Tells the intent: after this is durable, and not before, the system may be touched.
    #[must_use]
    pub fn warrant_issued<A>(
        at_ms: i64,
        call: &Call<A>,
        decision: &DecisionId,
        (approval, grant): (Option<&ApprovalId>, Option<&ApprovalId>),
        limits: &Limits,
        holds: &[HoldRequest],
        journal: Option<&str>,
    ) -> Self {
        let body = WarrantIssued {
            decision: Cow::Borrowed(decision),
            digest: call.digest,
            system: Cow::Borrowed(&call.tool.system.name),
            limits: Cow::Borrowed(limits),
            holds: holds.iter().map(Held::of).collect(),
            journal: journal.map(Cow::Borrowed),
            grant: grant.map(Cow::Borrowed),
            sent_as: call.again.as_ref().map(Cow::Borrowed),
        };
        Self::under(at_ms, approval, &body).about(&call.requester, &call.id)
    }

    /// Tells what became of a call. A result stands in the log as its digest.
    #[must_use]
    pub fn outcome(
        at_ms: i64,
        (requester, call): (&Requester, &CallId),
        approval: Option<&ApprovalId>,
        outcome: &CallOutcome,
        used: Option<(u64, Option<Money>)>,
        duration_ms: u64,
    ) -> Self {
        let end = match outcome {
            CallOutcome::Done { reply } => End::Done { result_digest: digest(reply) },
            CallOutcome::DoneWithoutResult { message } => End::DoneWithoutResult { message: message.into() },
            CallOutcome::Failed { code, message, .. } => End::Failed { code: *code, message: message.into() },
            CallOutcome::SentAgain { by, message } => {
                End::SentAgain { by: Cow::Borrowed(by), message: message.into() }
            }
            CallOutcome::InDoubt { message } => End::InDoubt { message: message.into() },
        };
        let (rows, amount) = used.unzip();
        let body = Outcome { end, rows, amount: amount.flatten(), duration_ms };
        Self::under(at_ms, approval, &body).about(requester, call)
    }

    /// A call whose process is gone: its effect may or may not have happened.
    #[must_use]
    pub fn in_doubt(at_ms: i64, call: &StoredCall, approval: Option<&ApprovalId>) -> Self {
        let message = "the process that issued the call is gone, and no outcome is recorded".into();
        Self::under(at_ms, approval, &InDoubt { message }).about(&call.requester, &call.id)
    }

    /// Tells that a person found out what became of a call in doubt.
    #[must_use]
    pub fn doubt_resolved(
        at_ms: i64,
        call: &StoredCall,
        person: &PersonId,
        happened: bool,
        comment: &str,
    ) -> Self {
        let evidence = DoubtEvidence::Person { person: Cow::Borrowed(person), comment: comment.into() };
        Self::new(at_ms, &DoubtResolved { happened, evidence }).about(&call.requester, &call.id)
    }

    /// Tells that the system's own record told what became of a call in doubt: `used` when it happened, and nothing
    /// when it did not and cannot any more.
    #[must_use]
    pub fn doubt_recalled(at_ms: i64, record: &CallRecord, used: Option<(u64, Option<Money>)>) -> Self {
        let (rows, amount) = used.unzip();
        let system = Cow::Borrowed(&record.system);
        let evidence = DoubtEvidence::SystemRecord { system, rows, amount: amount.flatten() };
        Self::resolved(at_ms, record, used.is_some(), evidence)
    }

    /// A call in doubt is over, because `by` was sent under its id and is done: the system performed it once.
    #[must_use]
    pub fn sent_again(at_ms: i64, record: &CallRecord, by: &CallId) -> Self {
        let evidence =
            DoubtEvidence::SentAgain { system: Cow::Borrowed(&record.system), by: Cow::Borrowed(by) };
        Self::resolved(at_ms, record, false, evidence)
    }

    /// A read whose answer was lost was closed: it had no effect.
    #[must_use]
    pub fn read_ended(at_ms: i64, record: &CallRecord) -> Self {
        Self::resolved(at_ms, record, false, DoubtEvidence::Read { system: Cow::Borrowed(&record.system) })
    }

    fn resolved(at_ms: i64, record: &CallRecord, happened: bool, evidence: DoubtEvidence<'_>) -> Self {
        Self::under(at_ms, record.approval.as_ref(), &DoubtResolved { happened, evidence })
            .about(&record.call.requester, &record.call.id)
    }

    /// An earlier call was taken back by another one, but for what is `left`. Stands under the earlier one's id.
    #[must_use]
    pub fn undone(
        at_ms: i64,
        undone: &CallId,
        (requester, by): (&Requester, &CallId),
        left: Option<Value>,
    ) -> Self {
        let on_behalf_of = requester.on_behalf_of.as_ref().map(Cow::Borrowed);
        let body = Undone { by: Cow::Borrowed(by), on_behalf_of, left };
        Self::new(at_ms, &body).about(requester, undone)
    }

    /// An agent, or every agent, was halted.
    #[must_use]
    pub fn halted(halt: &HaltRecord) -> Self {
        let body = Halted {
            scope: Cow::Borrowed(&halt.scope),
            by: Cow::Borrowed(&halt.by),
            why: Cow::Borrowed(&halt.why),
        };
        Self::new(halt.since_ms, &body)
    }

    /// A halt was ended.
    #[must_use]
    pub fn resumed(at_ms: i64, scope: &HaltScope, by: &str) -> Self {
        Self::new(at_ms, &Resumed { scope: Cow::Borrowed(scope), by: by.into() })
    }

    /// Tells that the evidence which approvers were shown with a request was erased.
    #[must_use]
    pub fn evidence_erased(at_ms: i64, approval: &ApprovalId, by: &str, reason: &str) -> Self {
        let body = EvidenceErased { by: by.into(), erased: vec!["evidence".into()], reason: reason.into() };
        Self::under(at_ms, Some(approval), &body)
    }
}

/// Returns the digest under which a result stands in the log: SHA-256 over its canonical form, in hexadecimal.
fn digest(reply: &Value) -> Option<String> {
    countersign_audit::canonical::canonical_digest(reply).ok().map(|hash| hash.to_string())
}
