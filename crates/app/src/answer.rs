//! The one JSON form of an answer, for every front door.

use countersign_audit::time::format_ms;
use countersign_gate::{Answer, Done, Pending, Refused};
use countersign_rules::{ApprovalId, ApprovalState};
use serde_json::{Value, json};

/// An answer as JSON, as REST and MCP (structured content) send it.
///
/// `status` is `done`, `pending`, or why there is no result; see [`Answer::status`]. Fields that do not
/// apply are `null`, so that a reader finds the same fields each time. `repeated` alone is there only where it is `true`.
#[must_use]
pub fn answer_json(answer: &Answer) -> Value {
    let mut form = plain(answer);
    if answer.is_repeated()
        && let Some(form) = form.as_object_mut()
    {
        form.insert("repeated".into(), Value::Bool(true));
    }
    form
}

fn plain(answer: &Answer) -> Value {
    match answer {
        Answer::Done(Done { call, approval, reply, rows, repeated: _ }) => json!({
            "status": "done",
            "call": call,
            "approval": approval,
            "rows": rows,
            "result": reply,
        }),
        Answer::Pending(pending) => {
            let of: Vec<Value> = pending
                .of
                .iter()
                .map(|ask| json!({ "group": ask.group, "quorum": ask.quorum, "because": ask.because }))
                .collect();
            json!({
                "status": "pending",
                "call": pending.call,
                "approval": pending.approval,
                "state": pending.state,
                "of": of,
                "reach": pending.reach,
                "expires_at": timestamp(pending.expires_ms),
                "next": next(pending),
            })
        }
        Answer::Refused(Refused { call, approval, refusal, repeated: _ }) => json!({
            "status": refusal.code.status(),
            "code": refusal.code,
            "message": refusal.message,
            "help": refusal.help,
            "policies": refusal.policies,
            "call": call,
            "approval": approval,
            "retry_after_ms": refusal.retry_after_ms,
        }),
    }
}

/// What an agent should do while people decide.
#[must_use]
pub fn next(pending: &Pending) -> String {
    let approval = &pending.approval;
    match pending.state {
        ApprovalState::Approved | ApprovalState::Executing => {
            format!(
                "people have approved request `{approval}`, and the call is being performed: fetch its result"
            )
        }
        ApprovalState::Waiting
        | ApprovalState::Refused
        | ApprovalState::Expired
        | ApprovalState::Superseded
        | ApprovalState::Done
        | ApprovalState::Failed
        | ApprovalState::InDoubt
        | ApprovalState::Blocked => format!(
            "nothing was done yet: people are asked in request `{approval}`; fetch its result later, or repeat \
             the very same call, which finds the same request; do not try another way to the same effect"
        ),
    }
}

/// Why evidence is not erased that people still have to see.
pub fn asked_still(approval: &ApprovalId, until_ms: i64) -> String {
    let until = timestamp(until_ms).unwrap_or_default();
    format!(
        "request `{approval}` waits for people until {until}, who would answer without its evidence: nothing was changed"
    )
}

/// What makes it pass.
pub const ASKED_STILL_HELP: &str =
    "refuse the request (`countersign approvals refuse`) or answer it, or let it expire, and erase then";

/// An instant in RFC 3339, or nothing for one outside its years.
pub fn timestamp(unix_ms: i64) -> Option<String> {
    format_ms(unix_ms).ok()
}

#[cfg(test)]
mod tests {
    use countersign_rules::{ApprovalId, AskOf, CallId, Code, GroupName, PolicyId, Refusal};

    use super::*;

    fn call() -> CallId {
        CallId::parse("call-1").unwrap()
    }

    #[test]
    fn a_result_a_wait_and_a_refusal_are_told_apart() {
        let done = Answer::Done(Done {
            call: call(),
            approval: None,
            reply: json!({ "n": 1 }),
            rows: 3,
            repeated: false,
        });
        assert_eq!(
            answer_json(&done),
            json!({ "status": "done", "call": "call-1", "approval": null, "rows": 3, "result": { "n": 1 } })
        );

        let approval = ApprovalId::parse("apr-1").unwrap();
        let pending = answer_json(&Answer::Pending(Pending {
            call: call(),
            approval,
            state: ApprovalState::Waiting,
            of: vec![AskOf {
                group: GroupName::parse("dba").unwrap(),
                quorum: 2,
                deadline_ms: 1,
                because: Some("deletes".into()),
                policy: PolicyId::parse("default:deletes").unwrap(),
                rehearse: false,
                shared: false,
            }],
            reach: None,
            expires_ms: 1_767_225_600_000,
            repeated: true,
        }));
        assert_eq!(pending["repeated"], true);
        assert_eq!(pending["status"], "pending");
        assert_eq!(pending["state"], "waiting");
        assert_eq!(pending["of"], json!([{ "group": "dba", "quorum": 2, "because": "deletes" }]));
        assert_eq!(pending["expires_at"], "2026-01-01T00:00:00.000Z");
        assert!(pending["next"].as_str().unwrap().contains("apr-1"));

        let mut refusal = Refusal::new(Code::RateLimited, "too often").help("wait");
        refusal.retry_after_ms = Some(20);
        let refused = answer_json(&Answer::Refused(Refused::new(Some(call()), None, refusal)));
        assert_eq!((&refused["status"], refused.get("repeated")), (&json!("rate_limited"), None));
        assert_eq!(refused["code"], "R007");
        assert_eq!(refused["retry_after_ms"], 20);
        assert_eq!(refused["policies"], json!([]));
    }
}
