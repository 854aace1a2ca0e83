//! The one place where a call becomes an effect: issue, perform, close.

use std::{panic::AssertUnwindSafe, time::Duration};

use countersign_rules::{ApprovalId, Code, Effect, Facts, Refusal, StoredCall, settlement::Settlement};
use futures::FutureExt as _;

use super::{
    Gate,
    path::Round,
    refusal::{answer_of, extent},
    room::rate_keys,
};
use crate::{
    answer::{Answer, Refused},
    entry::Entry,
    ledger::{
        ApprovalRecord, CallOutcome, CallState, Closing, Intent, Issued, Ledger, LedgerFault, NotIssued, Wait,
    },
    tool::{Performed, Tool, ToolError},
    warrant::{Permitted, Warrant},
};

/// How often recording an outcome is tried again before the call is left in doubt.
const CLOSE_TRIES: u32 = 5;

/// The first pause between these tries, doubled each time.
const CLOSE_PAUSE: Duration = Duration::from_millis(25);

impl<L: Ledger> Gate<L> {
    /// From permission to effect: issue (record), perform, close (record).
    pub(super) async fn act<T: Tool>(
        &self,
        tool: &T,
        permitted: Permitted<T::Args>,
        facts: &Facts,
        granted: Option<&ApprovalRecord>,
        if_history: Option<u64>,
        mut entries: Vec<Entry>,
    ) -> Round<T::Args> {
        let now_ms = facts.now_ms;
        let amount = facts.reach.as_ref().and_then(|r| r.amount);
        let call = &permitted.call;
        let holds = match self.holds(call, facts.effect, &permitted.limits, now_ms) {
            Ok(holds) => holds,
            Err(refusal) => return Round::Answer(self.refuse(call, granted, entries, refusal).await),
        };
        let journal = match facts.effect {
            Effect::Read => None,
            Effect::Write | Effect::Destructive => tool.journal(&self.upkeep(tool.spec())).await,
        };
        let approval = granted.map(|record| record.request.id.clone());
        let without_intent = entries.clone();
        let named: Vec<(String, u64)> = holds.iter().map(|h| (h.account.budget.clone(), h.amount)).collect();
        entries.push(Entry::warrant_issued(
            now_ms,
            call,
            &permitted.decision,
            approval.as_ref(),
            &permitted.limits,
            &named,
            journal.as_deref(),
        ));
        let stored = call.stored();
        let undoes = tool.undoes(&call.parsed);
        let intent = Intent {
            call: stored.clone(),
            system: call.tool.system.name.clone(),
            journal,
            effect: facts.effect,
            decision: permitted.decision.clone(),
            rates: rate_keys(call),
            holds,
            rows: facts.reach.as_ref().map_or(0, |r| r.rows),
            amount,
            if_history,
            approval: approval.clone(),
            replaces: call.replaces.clone(),
            now_ms,
            entries,
        };
        let (warrant, open, issued) = match Warrant::issue(permitted, intent, &*self.ledger).await {
            Ok(issued) => issued,
            Err((call, NotIssued::HistoryMoved)) => return Round::Again(call),
            Err((call, why)) => {
                if matches!(why, NotIssued::Fault(LedgerFault::Unknown(_))) {
                    self.void(stored, approval).await;
                }
                return Round::Answer(self.not_issued(&call, granted, without_intent, why).await);
            }
        };
        if let Issued { halted: Some(halt) } = &issued {
            tracing::warn!(%halt, "a budget reached its threshold");
        }
        // The warrant takes the call along; what a second round needs is parsed again from the stored form.
        let performed = AssertUnwindSafe(tool.perform(warrant))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(ToolError::InDoubt { message: "the tool failed while it acted".into() }));
        let ended_ms = self.clock.now_ms();
        let exceeded = match &performed {
            Err(ToolError::Exceeded { reach }) => Some((**reach).clone()),
            Ok(_)
            | Err(
                ToolError::Failed { .. }
                | ToolError::Unavailable { .. }
                | ToolError::InDoubt { .. }
                | ToolError::ResultRejected { .. },
            ) => None,
        };
        let (outcome, settlement) = outcome_of(performed);
        let used = match settlement {
            Settlement::Used { rows, amount } => Some((rows, amount)),
            Settlement::Reserved | Settlement::Released | Settlement::Kept => None,
        };
        let duration_ms = u64::try_from(ended_ms.saturating_sub(now_ms)).unwrap_or(0);
        let entry = Entry::outcome(ended_ms, &stored, approval.as_ref(), &outcome, used, duration_ms);
        // Reads may join the next commit: a crash leaves only a read in doubt.
        let wait =
            if facts.effect == Effect::Read && approval.is_none() { Wait::Queued } else { Wait::Durable };
        let mut closing = open.closing(outcome.clone(), settlement, entry, ended_ms);
        if let Some(undone) = undoes.filter(|_| outcome.state() == CallState::Done) {
            let left = match &outcome {
                CallOutcome::Done { reply } => tool.not_undone(reply),
                CallOutcome::DoneWithoutResult { .. }
                | CallOutcome::Failed { .. }
                | CallOutcome::SentAgain { .. }
                | CallOutcome::InDoubt { .. } => None,
            };
            closing.entries.push(Entry::undone(ended_ms, &undone, &stored, left));
        }
        if let Err(fault) = self.close_call(closing, wait).await {
            let refusal = Refusal::new(
                Code::InDoubt,
                format!("call `{}` was performed, and its outcome could not be recorded: {fault}", stored.id),
            )
            .help("do not repeat it; ask a person to look at the calls in doubt");
            return Round::Answer(Answer::Refused(Refused::new(Some(stored.id), approval, refusal)));
        }
        if outcome.state() == CallState::Done {
            self.end_doubts(&stored).await;
        }
        if let Some(reach) = exceeded {
            return match self.parse_stored(tool, &stored) {
                Ok((call, _)) => Round::Exceeded(call, reach),
                Err(refusal) => {
                    Round::Answer(Answer::Refused(Refused::new(Some(stored.id), approval, refusal)))
                }
            };
        }
        Round::Answer(answer_of(&stored.id, approval, outcome, used.map_or(0, |(rows, _)| rows)))
    }

    /// Closes an intent that may have been recorded without our knowing: nothing was performed under it.
    /// Where even that cannot be recorded, the call ends up in doubt once this process is gone.
    pub(super) async fn void(&self, call: StoredCall, approval: Option<ApprovalId>) {
        let now_ms = self.clock.now_ms();
        let message = String::from("not performed, because its intent was not confirmed");
        let outcome = CallOutcome::Failed { code: Code::LedgerUnavailable, message, superseded: true };
        let entry = Entry::outcome(now_ms, &call, approval.as_ref(), &outcome, None, 0);
        let closing = Closing {
            call: call.id,
            approval,
            outcome,
            settlement: Settlement::Released,
            now_ms,
            entries: vec![entry],
        };
        if let Err(fault) = self.close_call(closing, Wait::Durable).await {
            tracing::warn!(%fault, "an unconfirmed intent could not be closed");
        }
    }

    /// Records an outcome, and tries again for a while when the ledger fails: the effect has happened.
    pub(super) async fn close_call(&self, closing: Closing, wait: Wait) -> Result<(), LedgerFault> {
        let mut tries = 0_u32;
        loop {
            match self.ledger.close(closing.clone(), wait).await {
                Ok(()) => return Ok(()),
                Err(fault) if tries >= CLOSE_TRIES => {
                    tracing::error!(%fault, call = %closing.call, "an outcome is not recorded");
                    return Err(fault);
                }
                Err(fault) => {
                    tracing::warn!(%fault, call = %closing.call, "recording an outcome failed, trying again");
                    tries = tries.saturating_add(1);
                    let pause = CLOSE_PAUSE.saturating_mul(2_u32.saturating_pow(tries));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// What a tool's answer means for the record and for the holds.
pub(super) fn outcome_of(performed: Result<Performed, ToolError>) -> (CallOutcome, Settlement) {
    let failed = |code, message| CallOutcome::Failed { code, message, superseded: false };
    match performed {
        Ok(Performed { reply, rows, amount }) => {
            (CallOutcome::Done { reply }, Settlement::Used { rows, amount })
        }
        Err(ToolError::Failed { message }) => (failed(Code::ToolFailed, message), Settlement::Released),
        Err(ToolError::Unavailable { message }) => {
            (failed(Code::SystemUnavailable, message), Settlement::Released)
        }
        Err(ToolError::Exceeded { reach }) => {
            let message = format!("it would have reached {}; nothing was changed", extent(&reach));
            (
                CallOutcome::Failed { code: Code::ReachExceeded, message, superseded: true },
                Settlement::Released,
            )
        }
        Err(ToolError::InDoubt { message }) => (CallOutcome::InDoubt { message }, Settlement::Kept),
        Err(ToolError::ResultRejected { message, rows, amount }) => {
            (CallOutcome::DoneWithoutResult { message }, Settlement::Used { rows, amount })
        }
    }
}
