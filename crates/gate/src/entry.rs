//! What is written to the log: one constructor per kind of entry, so that its words are the same
//! wherever it is made.
//!
//! Entries hold what decided and what happened. They do not hold results, credentials or row samples:
//! results appear as digests, samples as salted commitments whose data is kept beside the log and can be
//! erased.

use std::sync::Arc;

use countersign_audit::{Entry as LogEntry, EntryError, EntryKind, entry::Reference, sha256};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalState, BundleDigest, Call, CallId, Code, Decision, DecisionId, Facts,
    IdempotencyKey, Money, PersonId, Reach, Refusal, Requester, SessionId, Signature, SliceDigest,
    StoredCall, approval::ApprovalRequest,
};
use serde_json::{Value, json};

use crate::{
    gate::Sum,
    ledger::{CallOutcome, CallRecord, HaltRecord, HaltScope},
    warrant::Limits,
};

/// Larger arguments of refused calls are kept as their digest: whoever is refused must not fill the log.
const REFUSED_BYTES_MAX: usize = 4 * 1_024;

/// An entry before it has its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When, in Unix milliseconds UTC.
    pub at_ms: i64,
    /// What happened; a stable word.
    pub kind: &'static str,
    /// Whose call.
    pub agent: Option<AgentId>,
    /// In which session.
    pub session: Option<SessionId>,
    /// Which call.
    pub call: Option<CallId>,
    /// Which request for approval.
    pub approval: Option<ApprovalId>,
    /// The details, by kind. Shared: an intent that is not issued leaves its entries to the refusal.
    pub body: Arc<Value>,
}

impl Entry {
    fn new(at_ms: i64, kind: &'static str, body: Value) -> Self {
        let body = Arc::new(body);
        Self { at_ms, kind, agent: None, session: None, call: None, approval: None, body }
    }

    fn about(mut self, requester: &Requester, call: &CallId) -> Self {
        self.agent = Some(requester.agent.clone());
        self.session = Some(requester.session.clone());
        self.call = Some(call.clone());
        self
    }

    fn under(mut self, approval: Option<&ApprovalId>) -> Self {
        self.approval = approval.cloned();
        self
    }

    /// The bytes that stand in the log: versioned canonical JSON.
    ///
    /// # Errors
    /// When the entry is larger than the log's format allows, or holds a number that canonical JSON cannot
    /// write.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let reference = |id: Option<&str>| id.map(Reference::new).transpose();
        let mut entry = LogEntry::new(self.at_ms, EntryKind::new(self.kind)?, Value::Null);
        entry.agent = reference(self.agent.as_ref().map(AgentId::as_str))?;
        entry.session = reference(self.session.as_ref().map(SessionId::as_str))?;
        entry.call = reference(self.call.as_ref().map(CallId::as_str))?;
        match (&self.approval, &*self.body) {
            (Some(approval), Value::Object(members)) => {
                let mut members = members.clone();
                members.insert("approval".into(), Value::from(approval.as_str()));
                entry.to_bytes_with(&Value::Object(members))
            }
            (_, body) => entry.to_bytes_with(body),
        }
    }

    /// A session began.
    #[must_use]
    pub fn session_opened(at_ms: i64, requester: &Requester, front_door: &str, client: Option<&str>) -> Self {
        let body = json!({
            "client": client,
            "front_door": front_door,
            "on_behalf_of": requester.on_behalf_of,
            "teams": requester.teams,
        });
        let mut entry = Self::new(at_ms, "session_opened", body);
        entry.agent = Some(requester.agent.clone());
        entry.session = Some(requester.session.clone());
        entry
    }

    /// An agent proposed a call. The reason is the agent's claim.
    #[must_use]
    pub fn call_proposed<A>(at_ms: i64, call: &Call<A>) -> Self {
        let mut body = json!({
            "arguments": call.arguments,
            "digest": call.digest,
            "reason": call.reason,
            "system": call.tool.system.name,
            "tool": call.tool.name,
            "version": call.tool.version,
        });
        put(&mut body, "idempotency_key", call.key.as_ref().map(IdempotencyKey::as_str));
        Self::new(at_ms, "call_proposed", body).about(&call.requester, &call.id)
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
        let tool: String = tool.chars().take(128).collect();
        let body = json!({ "code": refusal.code, "message": refusal.message, "tool": tool });
        Self::new(at_ms, "call_rejected", body).about(requester, call)
    }

    /// So many refusals were not recorded one by one.
    #[must_use]
    pub fn refusals_counted(at_ms: i64, sum: &Sum) -> Self {
        let codes: serde_json::Map<String, Value> =
            sum.codes.iter().map(|(code, count)| (code.as_str().to_owned(), json!(count))).collect();
        let body = json!({
            "codes": codes,
            "count": sum.codes.values().fold(0_u64, |all, count| all.saturating_add(*count)),
            "since_ms": sum.since_ms,
            "until_ms": sum.until_ms,
        });
        let mut entry = Self::new(at_ms, "refusals_counted", body);
        entry.agent = Some(sum.agent.clone());
        entry
    }

    /// The entry as it is kept of a call that was refused and had no effect: large arguments by their size and digest.
    #[must_use]
    pub fn of_a_refused_call(mut self) -> Self {
        if self.kind != "call_proposed" {
            return self;
        }
        let arguments = self.body.get("arguments").map(countersign_audit::to_canonical_vec);
        let Some(Ok(arguments)) =
            arguments.filter(|bytes| bytes.as_ref().is_ok_and(|b| b.len() > REFUSED_BYTES_MAX))
        else {
            return self;
        };
        let mut body = Arc::unwrap_or_clone(self.body);
        put(&mut body, "arguments_bytes", Some(arguments.len()));
        put(&mut body, "arguments_digest", Some(sha256(&arguments).to_string()));
        put(&mut body, "arguments", Some(Value::Null));
        self.body = Arc::new(body);
        self
    }

    /// The reach was measured. `sample` is the commitment to the sample of rows.
    #[must_use]
    pub fn reach_measured<A>(at_ms: i64, call: &Call<A>, reach: &Reach, sample: Option<&str>) -> Self {
        let body = json!({ "reach": reach, "sample_commitment": sample });
        Self::new(at_ms, "reach_measured", body).about(&call.requester, &call.id)
    }

    /// The rules decided, on these facts under these policies.
    #[must_use]
    pub fn decided<A>(
        at_ms: i64,
        call: &Call<A>,
        id: &DecisionId,
        bundle: &BundleDigest,
        facts: &Facts,
        decision: &Decision,
    ) -> Self {
        let body = json!({ "bundle": bundle, "decision": decision, "facts": facts, "id": id });
        Self::new(at_ms, "decided", body).about(&call.requester, &call.id)
    }

    /// Something else than the policies refused: a limit, a halt, an unmeasurable reach.
    #[must_use]
    pub fn refused<A>(at_ms: i64, call: &Call<A>, refusal: &Refusal) -> Self {
        let body = json!({
            "code": refusal.code,
            "message": refusal.message,
            "policies": refusal.policies,
            "status": refusal.code.status(),
        });
        Self::new(at_ms, "refused", body).about(&call.requester, &call.id)
    }

    /// People are asked.
    #[must_use]
    pub fn asked(request: &ApprovalRequest) -> Self {
        let mut body = json!({
            "bundle": request.bundle,
            "decision": request.decision,
            "digest": request.call.digest,
            "expires_ms": request.expires_ms,
            "of": request.of,
            "reach": request.reach,
        });
        put(&mut body, "slice", request.slice.as_ref().map(SliceDigest::as_str));
        Self::new(request.asked_ms, "asked", body)
            .about(&request.call.requester, &request.call.id)
            .under(Some(&request.id))
    }

    /// A person answered.
    #[must_use]
    pub fn answered(request: &ApprovalRequest, signature: &Signature) -> Self {
        let body = json!({
            "approved": signature.approved,
            "channel": signature.channel,
            "comment": signature.comment,
            "digest": request.call.digest,
            "groups": signature.groups,
            "person": signature.person,
        });
        Self::new(signature.at_ms, "answered", body)
            .about(&request.call.requester, &request.call.id)
            .under(Some(&request.id))
    }

    /// A request ended without being performed. `code` is that of the refusal that ended it, if one did.
    #[must_use]
    pub fn request_ended(
        at_ms: i64,
        request: &ApprovalRequest,
        state: ApprovalState,
        code: Option<Code>,
        why: &str,
    ) -> Self {
        Self::new(at_ms, "request_ended", json!({ "code": code, "state": state, "why": why }))
            .about(&request.call.requester, &request.call.id)
            .under(Some(&request.id))
    }

    /// The intent: after this is durable, and not before, the system may be touched.
    #[must_use]
    pub fn warrant_issued<A>(
        at_ms: i64,
        call: &Call<A>,
        decision: &DecisionId,
        approval: Option<&ApprovalId>,
        limits: &Limits,
        holds: &[(String, u64)],
        journal: Option<&str>,
    ) -> Self {
        let holds: Vec<Value> =
            holds.iter().map(|(budget, amount)| json!({ "amount": amount, "budget": budget })).collect();
        let mut body = json!({
            "decision": decision,
            "digest": call.digest,
            "holds": holds,
            "limits": limits,
            "system": call.tool.system.name,
        });
        put(&mut body, "journal", journal);
        put(&mut body, "sent_as", call.again.as_ref().map(CallId::as_str));
        Self::new(at_ms, "warrant_issued", body).about(&call.requester, &call.id).under(approval)
    }

    /// What became of a call. A result stands in the log as its digest.
    #[must_use]
    pub fn outcome(
        at_ms: i64,
        call: &StoredCall,
        approval: Option<&ApprovalId>,
        outcome: &CallOutcome,
        used: Option<(u64, Option<Money>)>,
        duration_ms: u64,
    ) -> Self {
        let (status, detail) = match outcome {
            CallOutcome::Done { reply } => ("done", json!({ "result_digest": digest(reply) })),
            CallOutcome::DoneWithoutResult { message } => {
                ("done_without_result", json!({ "message": message }))
            }
            CallOutcome::Failed { code, message, .. } => {
                ("failed", json!({ "code": code, "message": message }))
            }
            CallOutcome::SentAgain { by, message } => ("failed", json!({ "by": by, "message": message })),
            CallOutcome::InDoubt { message } => ("in_doubt", json!({ "message": message })),
        };
        let (rows, amount) = used.map_or((None, None), |(rows, amount)| (Some(rows), amount));
        let body = json!({
            "amount": amount,
            "detail": detail,
            "duration_ms": duration_ms,
            "rows": rows,
            "status": status,
        });
        Self::new(at_ms, "outcome", body).about(&call.requester, &call.id).under(approval)
    }

    /// A call whose process is gone: its effect may or may not have happened.
    #[must_use]
    pub fn in_doubt(at_ms: i64, call: &StoredCall, approval: Option<&ApprovalId>) -> Self {
        let body =
            json!({ "message": "the process that issued the call is gone, and no outcome is recorded" });
        Self::new(at_ms, "in_doubt", body).about(&call.requester, &call.id).under(approval)
    }

    /// A person found out what became of a call in doubt.
    #[must_use]
    pub fn doubt_resolved(
        at_ms: i64,
        call: &StoredCall,
        person: &PersonId,
        happened: bool,
        comment: &str,
    ) -> Self {
        let body =
            json!({ "comment": comment, "evidence": "person", "happened": happened, "person": person });
        Self::new(at_ms, "doubt_resolved", body).about(&call.requester, &call.id)
    }

    /// The system's own record told what became of a call in doubt: `used` when it happened, and nothing
    /// when it did not and cannot any more.
    #[must_use]
    pub fn doubt_recalled(at_ms: i64, record: &CallRecord, used: Option<(u64, Option<Money>)>) -> Self {
        let (rows, amount) = used.map_or((None, None), |(rows, amount)| (Some(rows), amount));
        let body = json!({
            "amount": amount,
            "evidence": "system_record",
            "happened": used.is_some(),
            "rows": rows,
            "system": record.system,
        });
        Self::new(at_ms, "doubt_resolved", body)
            .about(&record.call.requester, &record.call.id)
            .under(record.approval.as_ref())
    }

    /// A call in doubt is over, because `by` was sent under its id and is done: the system performed it once.
    #[must_use]
    pub fn sent_again(at_ms: i64, record: &CallRecord, by: &CallId) -> Self {
        let body = json!({ "by": by, "evidence": "sent_again", "happened": false, "system": record.system });
        Self::new(at_ms, "doubt_resolved", body)
            .about(&record.call.requester, &record.call.id)
            .under(record.approval.as_ref())
    }

    /// A read whose answer was lost was closed: it had no effect.
    #[must_use]
    pub fn read_ended(at_ms: i64, record: &CallRecord) -> Self {
        let body = json!({ "evidence": "read", "happened": false, "system": record.system });
        Self::new(at_ms, "doubt_resolved", body)
            .about(&record.call.requester, &record.call.id)
            .under(record.approval.as_ref())
    }

    /// An earlier call was taken back by another one, but for what is `left`. Stands under the earlier one's id.
    #[must_use]
    pub fn undone(at_ms: i64, undone: &CallId, by: &StoredCall, left: Option<Value>) -> Self {
        let mut body = json!({ "by": by.id, "on_behalf_of": by.requester.on_behalf_of });
        put(&mut body, "left", left);
        Self::new(at_ms, "undone", body).about(&by.requester, undone)
    }

    /// An agent, or every agent, was halted.
    #[must_use]
    pub fn halted(halt: &HaltRecord) -> Self {
        Self::new(halt.since_ms, "halted", json!({ "by": halt.by, "scope": halt.scope, "why": halt.why }))
    }

    /// A halt was ended.
    #[must_use]
    pub fn resumed(at_ms: i64, scope: &HaltScope, by: &str) -> Self {
        Self::new(at_ms, "resumed", json!({ "by": by, "scope": scope }))
    }

    /// The server started with this configuration.
    #[must_use]
    pub fn configured(at_ms: i64, body: Value) -> Self {
        Self::new(at_ms, "configured", body)
    }

    /// What approvers were shown with a request was erased.
    #[must_use]
    pub fn evidence_erased(at_ms: i64, approval: &ApprovalId, by: &str, reason: &str) -> Self {
        let body = json!({ "by": by, "erased": ["evidence"], "reason": reason });
        Self { approval: Some(approval.clone()), ..Self::new(at_ms, "evidence_erased", body) }
    }

    /// Something administrative happened: a key issued or revoked, a tool switched off or on.
    #[must_use]
    pub fn administered(at_ms: i64, kind: &'static str, body: Value) -> Self {
        Self::new(at_ms, kind, body)
    }
}

/// Adds a field that is only there when it says something.
fn put(body: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(body), Some(value)) = (body.as_object_mut(), value) {
        body.insert(name.into(), value.into());
    }
}

/// The digest under which a result stands in the log: SHA-256 over its canonical form, in hexadecimal.
fn digest(reply: &Value) -> Option<String> {
    countersign_audit::canonical::canonical_digest(reply).ok().map(|hash| hash.to_string())
}
