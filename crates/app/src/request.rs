//! A request for approval is shown so: by REST, by the command line, and to whoever else asks people.

use countersign_audit::canonical::to_canonical_string;
use countersign_gate::{
    Ledger as _,
    ledger::{ApprovalRecord, LedgerFault},
};
use countersign_rules::{
    ApprovalRequest, ApprovalState, Code, Effect, Reach, Refusal, Signature,
    approval::EarlierAnswer,
    decision::{grantable, step_up},
};
use countersign_store::EntryFilter;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    answer::{not_looked_up, timestamp},
    app::App,
    auth::Principal,
    grant::{GrantBody, GrantBoundBody},
    narrow::NarrowedBody,
    story::{Deed, deeds, of_objects, touched},
};

/// So many entries of a session, the newest, are read to show what it did so far.
const SESSION_ENTRIES_MAX: u32 = 400;

/// One group is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AskBody {
    /// The group.
    pub group: String,
    /// So many different people of the group must approve.
    pub quorum: u32,
    /// They are asked for this reason, where the policy gives one.
    pub because: Option<String>,
    /// This policy asks them.
    pub policy: String,
}

/// One person answered this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SignatureBody {
    /// This person answered.
    pub person: String,
    /// This is `true` if the person approved, and `false` if the person refused.
    pub approved: bool,
    /// The person said this.
    pub comment: Option<String>,
    /// The person answered at this time (RFC 3339).
    pub at: Option<String>,
    /// The answer came this way: `cli`, `rest`, …
    pub channel: String,
    /// The person confirmed it with this passkey, if with any: the SHA-256 of its credential id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<String>,
}

/// People answered this to an earlier call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnsweredBody {
    /// The earlier request has this id.
    pub approval: String,
    /// This is `true` if it was the same call, however spelled. Otherwise it had other values, or another shape
    /// and was refused.
    pub same_call: bool,
    /// The earlier request stands so.
    #[schema(value_type = String)]
    pub state: ApprovalState,
    /// The earlier call was not performed for this reason, where it was approved and was not: who approves it
    /// again should know.
    pub why: Option<String>,
    /// The last person to answer said this.
    #[serde(flatten)]
    pub answer: SignatureBody,
}

/// This is a request, in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestBody {
    /// The request has this id.
    pub approval: String,
    /// The request stands so: `waiting`, `approved`, `refused`, `expired`, `superseded`, `executing`, `done`,
    /// `failed`, `in_doubt` or `blocked`.
    #[schema(value_type = String)]
    pub state: ApprovalState,
    /// The call has this id.
    pub call: String,
    /// This agent proposed the call.
    pub agent: String,
    /// The call came in this session.
    pub session: String,
    /// The call is one of this tool.
    pub tool: String,
    /// The call has this effect: `read`, `write` or `destructive`.
    #[schema(value_type = String)]
    pub effect: Effect,
    /// The call was measured to touch so many rows, if it was measured.
    pub rows: Option<u64>,
    /// These groups are asked, every one of them.
    pub of: Vec<AskBody>,
    /// People have answered this so far.
    pub signatures: Vec<SignatureBody>,
    /// People answered this to calls of the same agent that are like this one, newest first: as far as they had
    /// when the request was made, or, where one request is shown, by now.
    pub answered_before: Vec<AnsweredBody>,
    /// So far those who approve may grant calls like it; nobody may where it is absent.
    pub grantable: Option<GrantBoundBody>,
    /// This policy wants each approval confirmed with a passkey, in the console; none does where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<String>,
    /// People granted this beside their approval.
    pub grant: Option<GrantBody>,
    /// The request ended for this reason, if one is noted.
    pub why: Option<String>,
    /// A person made the call out of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed: Option<NarrowedBody>,
    /// A person changed the call, and people are asked about that by this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed_to: Option<String>,
    /// People were asked at this time (RFC 3339).
    pub asked_at: Option<String>,
    /// The request expires at this time (RFC 3339).
    pub expires_at: Option<String>,
}

/// These are a few of the rows that a call would touch, masked where the tool says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SampleBody {
    /// The rows stand in this table.
    pub table: String,
    /// The rows have these columns.
    pub columns: Vec<String>,
    /// Each row has a text for each of the columns, in their order, or `null` where there is no value.
    pub rows: Vec<Vec<Option<String>>>,
}

/// This is a request with everything an approver needs to judge it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestDetail {
    /// This is the request, in short.
    #[serde(flatten)]
    pub request: RequestBody,
    /// The agent belongs to these teams.
    pub teams: Vec<String>,
    /// The agent acts for this person, if it acts for one.
    pub on_behalf_of: Option<String>,
    /// The tool does this, as its author describes it; absent when it is no longer configured.
    pub description: Option<String>,
    /// The tool acts on this system; absent when it is no longer configured.
    pub system: Option<String>,
    /// The system is of this environment, such as `production`; absent when the tool is no longer configured.
    pub environment: Option<String>,
    /// These are the arguments in canonical form, untruncated: exactly these are performed.
    pub arguments: String,
    /// An approval is bound to this digest of tool, version and arguments.
    pub digest: String,
    /// The call was measured to reach this far, if it was measured.
    #[schema(value_type = Option<Object>)]
    pub reach: Option<Reach>,
    /// This is `true` if the call can be undone from here; absent when its tool is no longer configured.
    pub reversible: Option<bool>,
    /// These are some of the rows; only people are shown them.
    pub sample: Option<SampleBody>,
    /// The agent says that the call is for this. It is the agent's claim; no rule looks at it.
    pub reason_claimed: Option<String>,
    /// This decision asked people.
    pub decision: String,
    /// People were asked under the policies that have this digest.
    pub bundle: String,
    /// The session did this so far, oldest first; only people are shown it.
    pub session_so_far: Vec<Deed>,
}

impl RequestDetail {
    /// Returns what others wrote and an approver goes by: names and arguments, and the claim.
    #[must_use]
    pub fn written(&self) -> String {
        let RequestBody { agent, session, tool, .. } = &self.request;
        let mut texts: Vec<&str> = vec![agent, session, tool, &self.arguments];
        texts.extend(self.reason_claimed.as_deref());
        texts.extend(self.on_behalf_of.as_deref());
        texts.extend(self.reach.iter().flat_map(|reach| reach.tables.keys()).map(String::as_str));
        if let Some(sample) = &self.sample {
            texts.push(&sample.table);
            texts.extend(sample.columns.iter().map(String::as_str));
        }
        texts.join("\n")
    }
}

/// Says how far a call reaches, and how that is known.
#[must_use]
pub fn reach_words(reach: &Reach) -> String {
    let known = match (reach.rehearsed, reach.exact, reach.unbounded) {
        (true, _, _) => "exactly: it was run and rolled back",
        (false, _, true) => "or more: not all of them were counted",
        (false, true, false) => "exactly: they were counted",
        (false, false, false) if !reach.triggers.is_empty() => "and what the triggers below do",
        (false, false, false) => "at most",
    };
    let (touched, objects) = (touched(reach), of_objects(reach));
    match reach.amount {
        // What an API tells was not counted by us.
        Some(amount) if objects => format!("{amount} on {touched}, as the system tells"),
        Some(amount) => format!("{touched}, {known}; {amount}"),
        None if objects => format!("{touched}, as the system tells"),
        None => format!("{touched}, {known}"),
    }
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
            grantable: grantable(&request.of)
                .filter(|_| request.alike.is_some())
                .map(|bound| GrantBoundBody { calls: bound.calls, seconds: bound.ms / 1_000 }),
            step_up: step_up(&request.of).map(ToString::to_string),
            grant: record.grant.as_ref().map(GrantBody::from),
            why: record.why.clone(),
            narrowed: request.call.narrowed.as_ref().map(|narrowed| NarrowedBody {
                from: narrowed.from.to_string(),
                by: narrowed.by.to_string(),
                why: narrowed.why.clone(),
                free: narrowed.free,
                less: narrowed.less,
            }),
            narrowed_to: record.narrowed_to.as_ref().map(ToString::to_string),
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
            passkey: signature.passkey.as_ref().map(ToString::to_string),
        }
    }
}

impl From<&EarlierAnswer> for AnsweredBody {
    fn from(before: &EarlierAnswer) -> Self {
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
    /// Returns a request with everything an approver needs to judge it, for whoever looks: rows are other
    /// people's data, and what a session did is for people alone.
    ///
    /// # Errors
    /// Returns [`Code::NotLookedUp`] if the ledger cannot be read, and [`Code::Internal`] for arguments that
    /// have no canonical form.
    pub async fn detail(&self, record: &ApprovalRecord, who: &Principal) -> Result<RequestDetail, Refusal> {
        let person = matches!(who, Principal::Person(_));
        let session_so_far = if person {
            self.so_far(record).await.map_err(|fault| not_looked_up(&fault))?
        } else {
            Vec::new()
        };
        let answered_before = self.answered_by_now(record).await.map_err(|fault| not_looked_up(&fault))?;
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

    /// Reads what people have answered by now to calls of the same agent that are like this one.
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

    /// Reads what the session of a request did so far, from the log.
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
