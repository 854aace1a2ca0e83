//! Tasks (SEP-2663): a request for approval, seen as a task.
//!
//! A task is nothing of its own: its id is the request's, its state is read from the ledger each time, and so
//! it is the same task after a restart, on another replica and in another session of the same agent. For any
//! other agent there is no such task.
//!
//! `tasks/cancel` is acknowledged and changes nothing: the agent no longer waits, but people may still approve,
//! and what they approve is performed. The task therefore stays `working` until the request is final, and a
//! client that looks again is told what really happened. `cancelled` is never claimed. The state
//! `input_required` is not used either: the input that is missing is not the client's to give.

use countersign_app::answer::timestamp;
use countersign_gate::{Answer, ledger::ApprovalRecord};
use countersign_rules::Code;
use rmcp::model::{DetailedTask, ErrorData, JsonObject, Task, TaskPayload, TaskStatus};
use serde_json::Value;

use super::Refusals;
use super::outcome;

/// A client should look after each such time, in milliseconds.
const POLL_MS: u64 = 2_000;

/// Returns the task for a request. It is kept as long as the request, which has no fixed end.
pub(super) fn of(record: &ApprovalRecord, answer: &Answer) -> Task {
    let asked_ms = record.request.asked_ms;
    let updated_ms = record.signatures.iter().map(|signature| signature.at_ms).fold(asked_ms, i64::max);
    let at = |ms| timestamp(ms).unwrap_or_default();
    let task = Task::new(record.request.id.as_str(), TaskStatus::Working, at(asked_ms), at(updated_ms))
        .with_poll_interval_ms(POLL_MS);
    match answer {
        Answer::Pending(pending) => task.with_status_message(outcome::standing(pending)),
        Answer::Refused(refused) => task.with_status_message(refused.refusal.message.clone()),
        Answer::Done(_) => task,
    }
}

/// Returns the task with what became of it.
///
/// # Errors
/// Returns the fault that keeps us from saying: the ledger's, or our own.
pub(super) fn detailed(
    record: &ApprovalRecord,
    answer: &Answer,
    refusals: Refusals,
) -> Result<DetailedTask, ErrorData> {
    let payload = match answer {
        Answer::Pending(_) => TaskPayload::Working,
        Answer::Refused(refused)
            if matches!(
                refused.refusal.code,
                Code::LedgerUnavailable | Code::NotLookedUp | Code::ShuttingDown
            ) =>
        {
            return Err(ErrorData::internal_error(refused.refusal.message.clone(), None));
        }
        // A refusal is the result of the call, and the task that waited for it is completed.
        Answer::Done(_) | Answer::Refused(_) => TaskPayload::Completed { result: result(answer, refusals)? },
    };
    Ok(DetailedTask::new(of(record, answer), payload))
}

/// Returns what the call itself would have answered.
fn result(answer: &Answer, refusals: Refusals) -> Result<JsonObject, ErrorData> {
    match serde_json::to_value(outcome::result(answer, refusals)) {
        Ok(Value::Object(result)) => Ok(result),
        Ok(_) | Err(_) => Err(ErrorData::internal_error("the result cannot be written", None)),
    }
}
