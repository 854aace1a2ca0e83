//! A request for approval as it is shown: by REST, by the command line, and to whoever else asks people.

use countersign_audit::canonical::to_canonical_string;
use countersign_gate::{
    Ledger as _,
    ledger::{ApprovalRecord, LedgerFault},
};
use countersign_rules::{
    ApprovalRequest, ApprovalState, Code, Effect, Reach, Refusal, Signature, approval::Answered,
};
use countersign_store::EntryFilter;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    answer::timestamp,
    app::App,
    auth::Principal,
    story::{Deed, deeds},
};

/// How many entries of a session are read to show what it did so far.
const SESSION_ENTRIES_MAX: u32 = 400;

/// One group that is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AskBody {
    /// The group.
    pub group: String,
    /// How many different people of it must approve.
    pub quorum: u32,
    /// Why they are asked.
    pub because: Option<String>,
    /// The policy that asks.
    pub policy: String,
}

/// One person's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SignatureBody {
    /// Who.
    pub person: String,
    /// Whether they approved.
    pub approved: bool,
    /// What they said.
    pub comment: Option<String>,
    /// When (RFC 3339).
    pub at: Option<String>,
    /// How: `cli`, `rest`, …
    pub channel: String,
}

/// What people answered to an earlier call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnsweredBody {
    /// The earlier request.
    pub approval: String,
    /// Whether it was the same call, however spelled. Otherwise it had other values, or another shape and was refused.
    pub same_call: bool,
    /// What became of it.
    #[schema(value_type = String)]
    pub state: ApprovalState,
    /// Why it was not performed, where it was approved and was not: who approves it again should know.
    pub why: Option<String>,
    /// The last answer.
    #[serde(flatten)]
    pub answer: SignatureBody,
}

/// A request, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestBody {
    /// Its id.
    pub approval: String,
    /// `waiting`, `approved`, `refused`, `expired`, `superseded`, `executing`, `done`, `failed`, `in_doubt` or
    /// `blocked`.
    #[schema(value_type = String)]
    pub state: ApprovalState,
    /// The call.
    pub call: String,
    /// The agent that proposed it.
    pub agent: String,
    /// Its session.
    pub session: String,
    /// The tool.
    pub tool: String,
    /// `read`, `write` or `destructive`.
    #[schema(value_type = String)]
    pub effect: Effect,
    /// Rows it was measured to touch.
    pub rows: Option<u64>,
    /// Who is asked.
    pub of: Vec<AskBody>,
    /// The answers so far.
    pub signatures: Vec<SignatureBody>,
    /// What people answered to calls of the same agent that are like this one, newest first; when it was asked, or, where
    /// one request is shown, by now.
    pub answered_before: Vec<AnsweredBody>,
    /// Why it ended.
    pub why: Option<String>,
    /// When it was asked (RFC 3339).
    pub asked_at: Option<String>,
    /// When it expires (RFC 3339).
    pub expires_at: Option<String>,
}

/// A few of the rows that a call would touch, masked where the tool says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SampleBody {
    /// The table.
    pub table: String,
    /// The columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A request with everything an approver needs to judge it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestDetail {
    /// The request, in short.
    #[serde(flatten)]
    pub request: RequestBody,
    /// The teams of the agent.
    pub teams: Vec<String>,
    /// The person the agent acts for.
    pub on_behalf_of: Option<String>,
    /// What the tool does, as its author describes it.
    pub description: Option<String>,
    /// The system it acts on.
    pub system: Option<String>,
    /// That system's environment.
    pub environment: Option<String>,
    /// The arguments in canonical form, untruncated: exactly these are performed.
    pub arguments: String,
    /// What an approval is bound to: tool, version and arguments.
    pub digest: String,
    /// What was measured.
    #[schema(value_type = Option<Object>)]
    pub reach: Option<Reach>,
    /// Whether it can be undone from here, when its tool is still configured.
    pub reversible: Option<bool>,
    /// Some of the rows.
    pub sample: Option<SampleBody>,
    /// What the agent says it is for. The agent's claim; no rule looks at it.
    pub reason_claimed: Option<String>,
    /// The decision that asked.
    pub decision: String,
    /// The policies under which it was asked.
    pub bundle: String,
    /// What the session did so far, oldest first.
    pub session_so_far: Vec<Deed>,
}

impl From<&ApprovalRecord> for RequestBody {
    fn from(record: &ApprovalRecord) -> Self {
        let request = &record.request;
        Self {
            approval: request.id.to_string(),
            state: record.state,
            call: request.call.id.to_string(),
            agent: request.call.requester.agent.to_string(),
            session: request.call.requester.session.to_string(),
            tool: request.call.tool.to_string(),
            effect: record.effect,
            rows: request.reach.as_ref().map(|reach| reach.rows),
            of: request
                .of
                .iter()
                .map(|ask| AskBody {
                    group: ask.group.to_string(),
                    quorum: ask.quorum,
                    because: ask.because.clone(),
                    policy: ask.policy.to_string(),
                })
                .collect(),
            signatures: record.signatures.iter().map(SignatureBody::from).collect(),
            answered_before: request.before.iter().map(AnsweredBody::from).collect(),
            why: record.why.clone(),
            asked_at: timestamp(request.asked_ms),
            expires_at: timestamp(request.expires_ms),
        }
    }
}

impl From<&Signature> for SignatureBody {
    fn from(signature: &Signature) -> Self {
        Self {
            person: signature.person.to_string(),
            approved: signature.approved,
            comment: signature.comment.clone(),
            at: timestamp(signature.at_ms),
            channel: signature.channel.clone(),
        }
    }
}

impl From<&Answered> for AnsweredBody {
    fn from(before: &Answered) -> Self {
        Self {
            approval: before.approval.to_string(),
            same_call: before.same,
            state: before.state,
            why: before.why.clone(),
            answer: SignatureBody::from(&before.answer),
        }
    }
}

impl App {
    /// A request with everything an approver needs to judge it, for whoever looks: rows are other people's data, and what a
    /// session did is for people alone.
    ///
    /// # Errors
    /// [`Code::NotLookedUp`] when the ledger cannot be read; [`Code::Internal`] for arguments that have no canonical form.
    pub async fn detail(&self, record: &ApprovalRecord, who: &Principal) -> Result<RequestDetail, Refusal> {
        let person = matches!(who, Principal::Person(_));
        let session_so_far =
            if person { self.so_far(record).await.map_err(|fault| unread(&fault))? } else { Vec::new() };
        let answered_before = self.answered_by_now(record).await.map_err(|fault| unread(&fault))?;
        let request = &record.request;
        let offer = self.tool(&request.call.tool);
        let spec = offer.map(|offer| offer.spec());
        let arguments = to_canonical_string(&request.call.arguments)
            .map_err(|why| Refusal::new(Code::Internal, why.to_string()))?;
        let sample = record.evidence.as_ref().filter(|_| person).map(|evidence| SampleBody {
            table: evidence.sample.table.clone(),
            columns: evidence.sample.columns.clone(),
            rows: evidence.sample.rows.clone(),
        });
        Ok(RequestDetail {
            teams: request.call.requester.teams.iter().map(ToString::to_string).collect(),
            on_behalf_of: request.call.requester.on_behalf_of.as_ref().map(ToString::to_string),
            description: spec.map(|spec| spec.description.clone()),
            system: spec.map(|spec| spec.system.name.to_string()),
            environment: spec.map(|spec| spec.system.environment.clone()),
            arguments,
            digest: request.call.digest.to_string(),
            reach: request.reach.clone(),
            reversible: offer.map(|offer| offer.tool.reversible(&request.call.arguments)),
            sample,
            reason_claimed: request.call.reason.clone(),
            decision: request.decision.to_string(),
            bundle: request.bundle.to_string(),
            session_so_far,
            request: RequestBody { answered_before, ..RequestBody::from(record) },
        })
    }

    /// What people have answered by now to calls of the same agent that are like this one.
    async fn answered_by_now(&self, record: &ApprovalRecord) -> Result<Vec<AnsweredBody>, LedgerFault> {
        let ApprovalRequest { id, call, alike, .. } = &record.request;
        let Some(alike) = alike else { return Ok(Vec::new()) };
        let records = self.store().answered(&call.requester.agent, &call.tool, alike.shape).await?;
        let others = records.iter().filter(|other| other.request.id != *id);
        Ok(others
            .filter_map(|other| other.answered(Some(alike)))
            .map(|one| AnsweredBody::from(&one))
            .collect())
    }

    /// What the session of a request did so far, from the log.
    async fn so_far(&self, record: &ApprovalRecord) -> Result<Vec<Deed>, LedgerFault> {
        let requester = &record.request.call.requester;
        let filter = EntryFilter {
            session: Some(requester.session.clone()),
            agent: Some(requester.agent.clone()),
            ..EntryFilter::default()
        };
        let mut entries = self.store().last_entries(&filter, SESSION_ENTRIES_MAX).await?;
        entries.reverse();
        Ok(deeds(&entries))
    }
}

fn unread(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::NotLookedUp, fault.to_string()).help("try again when the ledger is back")
}
