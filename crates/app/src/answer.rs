//! An answer has one form: every front door writes it, and the command line reads it.

use countersign_audit::time::format_ms;
use countersign_gate::{Answer, Changed, Done, Pending, Refused, ledger::LedgerFault};
use countersign_rules::{
    ApprovalId, ApprovalState, AskOf, CallId, Code, GroupName, PolicyId, Reach, Refusal,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// This is an answer to a call; `status` says which form it has. Fields that do not apply to what happened are
/// `null`, so that a reader finds the same fields of a form each time. `repeated` alone is there only where it
/// is `true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AnswerBody {
    /// The call was performed.
    Done(DoneBody),
    /// There is no result yet: people are asked, or have approved and the call is being performed.
    Pending(PendingBody),
    /// There is no result.
    Refused(RefusedBody),
}

/// The call was performed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DoneBody {
    /// This is always `done`.
    pub status: IsDone,
    /// The call has this id.
    #[schema(value_type = String)]
    pub call: CallId,
    /// The call spent this request for approval, if it needed one.
    #[schema(value_type = Option<String>)]
    pub approval: Option<ApprovalId>,
    /// The call touched or returned so many rows.
    pub rows: u64,
    /// The tool replied this.
    #[schema(value_type = Object)]
    pub result: Value,
    /// People changed the call so before it was performed: it is not the one that was proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<ChangedBody>,
    /// This is `true` where the answer is that of an earlier call, which this one repeats: nothing was done for
    /// the repeat.
    #[serde(default, skip_serializing_if = "is_not")]
    pub repeated: bool,
}

/// There is no result yet: people are asked, or have approved and the call is being performed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PendingBody {
    /// This is always `pending`.
    pub status: IsPending,
    /// The call has this id.
    #[schema(value_type = String)]
    pub call: CallId,
    /// The call waits for this request for approval, or is performed on it.
    #[schema(value_type = String)]
    pub approval: ApprovalId,
    /// The request stands so: `waiting`, `approved` or `executing`.
    #[schema(value_type = String)]
    pub state: ApprovalState,
    /// These groups are asked, every one of them.
    pub of: Vec<AskedBody>,
    /// The call was measured to reach this far, if it was measured.
    #[schema(value_type = Option<Object>)]
    pub reach: Option<Reach>,
    /// The request expires at this time (RFC 3339).
    pub expires_at: Option<String>,
    /// The agent should do this next.
    pub next: String,
    /// People changed the call so: it is not the one that was proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<ChangedBody>,
    /// This is `true` where the answer is that of an earlier call, which this one repeats.
    #[serde(default, skip_serializing_if = "is_not")]
    pub repeated: bool,
}

/// People changed a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangedBody {
    /// The call has these arguments now.
    #[schema(value_type = Object)]
    pub arguments: Value,
    /// It was changed for this reason.
    pub because: Option<String>,
}

/// A group is asked, and the agent is told this of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskedBody {
    /// The group.
    #[schema(value_type = String)]
    pub group: GroupName,
    /// So many different people of the group must approve.
    pub quorum: u32,
    /// They are asked for this reason, where the policy gives one.
    pub because: Option<String>,
}

/// There is no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedBody {
    /// The status says why there is no result: `refused`, `expired`, `superseded`, `budget_exhausted`,
    /// `rate_limited`, `halted`, `blocked`, `in_doubt` or `failed`, among others.
    pub status: String,
    /// The refusal has this stable code, such as `R004`. It is a text, because a later server may have others.
    pub code: String,
    /// This was refused, for this reason.
    pub message: String,
    /// This would make the call pass, or is to be done next.
    pub help: Option<String>,
    /// These policies decided, where policies did.
    #[schema(value_type = Vec<String>)]
    pub policies: Vec<PolicyId>,
    /// The call has this id, where there was a call.
    #[schema(value_type = Option<String>)]
    pub call: Option<CallId>,
    /// People were asked by this request for approval, where they were asked.
    #[schema(value_type = Option<String>)]
    pub approval: Option<ApprovalId>,
    /// Trying again makes sense after this time, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
    /// This is `true` where the answer is that of an earlier call, which this one repeats.
    #[serde(default, skip_serializing_if = "is_not")]
    pub repeated: bool,
}

/// This is the status of a call that was performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum IsDone {
    /// The call was performed.
    #[serde(rename = "done")]
    Done,
}

/// This is the status of a call that waits for people, or is performed after they approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum IsPending {
    /// The call has no result yet.
    #[serde(rename = "pending")]
    Pending,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_not(flag: &bool) -> bool {
    !*flag
}

impl From<&Answer> for AnswerBody {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Done(Done { call, approval, reply, rows, changed, repeated }) => Self::Done(DoneBody {
                status: IsDone::Done,
                call: call.clone(),
                approval: approval.clone(),
                rows: *rows,
                result: reply.clone(),
                changed: changed.as_ref().map(ChangedBody::from),
                repeated: *repeated,
            }),
            Answer::Pending(pending) => Self::Pending(PendingBody {
                status: IsPending::Pending,
                call: pending.call.clone(),
                approval: pending.approval.clone(),
                state: pending.state,
                of: pending.of.iter().map(AskedBody::from).collect(),
                reach: pending.reach.clone(),
                expires_at: timestamp(pending.expires_ms),
                next: next(pending),
                changed: pending.changed.as_ref().map(ChangedBody::from),
                repeated: pending.repeated,
            }),
            Answer::Refused(Refused { call, approval, refusal, repeated }) => Self::Refused(RefusedBody {
                status: refusal.code.status().to_owned(),
                code: refusal.code.as_str().to_owned(),
                message: refusal.message.clone(),
                help: refusal.help.clone(),
                policies: refusal.policies.clone(),
                call: call.clone(),
                approval: approval.clone(),
                retry_after_ms: refusal.retry_after_ms,
                repeated: *repeated,
            }),
        }
    }
}

impl From<&Changed> for ChangedBody {
    fn from(changed: &Changed) -> Self {
        Self { arguments: changed.arguments.clone(), because: changed.why.clone() }
    }
}

impl From<&AskOf> for AskedBody {
    fn from(ask: &AskOf) -> Self {
        Self { group: ask.group.clone(), quorum: ask.quorum, because: ask.because.clone() }
    }
}

/// Writes an answer as JSON, as MCP sends it in structured content.
#[must_use]
pub fn answer_json(answer: &Answer) -> Value {
    // Names, numbers and values that were JSON: nothing of it can fail to be JSON again.
    serde_json::to_value(AnswerBody::from(answer)).unwrap_or_default()
}

/// Tells what an agent should do while people decide, or once they have approved.
#[must_use]
pub fn next(pending: &Pending) -> String {
    let approval = &pending.approval;
    if pending.state.is_granted() {
        return format!(
            "people have approved request `{approval}`, and the call is being performed: fetch its result"
        );
    }
    let changed = if pending.changed.is_some() { "people have changed the call (`changed`); " } else { "" };
    format!(
        "{changed}nothing was done yet: people are asked in request `{approval}`; fetch its result later, or repeat \
         the very same call, which finds the same request; do not try another way to the same effect"
    )
}

/// Refuses what would have to be looked up, where the ledger cannot be read.
#[must_use]
pub fn not_looked_up(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::NotLookedUp, fault.to_string()).help("try again when the ledger is back")
}

/// Says why evidence is not erased that people still have to see, until `until_ms` (Unix milliseconds UTC).
pub fn asked_still(approval: &ApprovalId, until_ms: i64) -> String {
    let until = timestamp(until_ms).unwrap_or_default();
    format!(
        "request `{approval}` waits for people until {until}, who would answer without its evidence: nothing was changed"
    )
}

/// This makes the erasure of such evidence pass.
pub const ASKED_STILL_HELP: &str =
    "refuse the request (`countersign approvals refuse`) or answer it, or let it expire, and erase then";

/// Writes an instant, in Unix milliseconds UTC, in RFC 3339; `None` for one outside its years.
pub fn timestamp(unix_ms: i64) -> Option<String> {
    format_ms(unix_ms).ok()
}

/// Returns the HTTP status of a code, which every door that speaks HTTP answers with.
#[must_use]
pub const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Malformed => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::DeniedByPolicy
        | Code::OutOfScope
        | Code::Halted
        | Code::BudgetExhausted
        | Code::ApprovalRefused
        | Code::ToolSwitchedOff
        | Code::AnswerRefused => StatusCode::FORBIDDEN,
        Code::UnknownTool | Code::NotFound => StatusCode::NOT_FOUND,
        Code::ApprovalSuperseded | Code::ReachExceeded => StatusCode::CONFLICT,
        Code::ApprovalExpired => StatusCode::GONE,
        Code::InvalidArguments | Code::StatementRefused | Code::ReachUnmeasurable | Code::KeyReused => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::ApprovalPending => StatusCode::ACCEPTED,
        Code::ShuttingDown | Code::LedgerUnavailable | Code::NotLookedUp => StatusCode::SERVICE_UNAVAILABLE,
        Code::SystemUnavailable | Code::ToolFailed | Code::ResultRejected | Code::CredentialUnavailable => {
            StatusCode::BAD_GATEWAY
        }
        Code::InDoubt | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call() -> CallId {
        CallId::parse("call-1").unwrap()
    }

    /// The answer is these bytes, the same through JSON, and read back as what it was.
    fn is(answer: &Answer, text: &str) {
        let body = AnswerBody::from(answer);
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
        assert_eq!(answer_json(answer), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(serde_json::from_str::<AnswerBody>(text).unwrap(), body);
    }

    #[test]
    fn a_result_a_wait_and_a_refusal_are_told_apart_and_read_back() {
        for (repeated, end) in [(false, "}"), (true, r#","repeated":true}"#)] {
            let reply = json!({ "n": 1 });
            let done =
                Answer::Done(Done { call: call(), approval: None, reply, rows: 3, changed: None, repeated });
            let text = r#"{"status":"done","call":"call-1","approval":null,"rows":3,"result":{"n":1}"#;
            is(&done, &format!("{text}{end}"));

            let approval = ApprovalId::parse("apr-1").unwrap();
            let pending = Answer::Pending(Pending {
                call: call(),
                approval: approval.clone(),
                state: ApprovalState::Waiting,
                of: vec![AskOf {
                    group: GroupName::parse("dba").unwrap(),
                    quorum: 2,
                    deadline_ms: 1,
                    because: Some("deletes".into()),
                    policy: PolicyId::parse("default:deletes").unwrap(),
                    rehearse: false,
                    step_up: None,
                    grant: None,
                    shared: false,
                }],
                reach: None,
                expires_ms: 1_767_225_600_000,
                changed: None,
                repeated,
            });
            let text = r#"{"status":"pending","call":"call-1","approval":"apr-1","state":"waiting","of":[{"group":"dba","quorum":2,"because":"deletes"}],"reach":null,"expires_at":"2026-01-01T00:00:00.000Z","next":"nothing was done yet: people are asked in request `apr-1`; fetch its result later, or repeat the very same call, which finds the same request; do not try another way to the same effect""#;
            is(&pending, &format!("{text}{end}"));

            let mut refusal = Refusal::new(Code::RateLimited, "too often").help("wait");
            refusal.retry_after_ms = Some(20);
            let mut refused = Refused::new(Some(call()), Some(approval), refusal);
            refused.repeated = repeated;
            let text = r#"{"status":"rate_limited","code":"R007","message":"too often","help":"wait","policies":[],"call":"call-1","approval":"apr-1","retry_after_ms":20"#;
            is(&Answer::Refused(refused), &format!("{text}{end}"));
        }
    }
}
