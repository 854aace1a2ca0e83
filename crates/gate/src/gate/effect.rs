//! The one place where a call becomes an effect: issue, perform, close.

use std::{panic::AssertUnwindSafe, time::Duration};

use countersign_rules::{ApprovalId, Call, CallId, Code, Effect, Reach, Refusal, settlement::Settlement};
use futures::FutureExt as _;

use super::{
    Gate,
    path::Round,
    refusal::{answer_of, extent},
    room::rate_keys,
};
use crate::{
    answer::{Answer, Refused},
    entry::NewEntry,
    ledger::{ApprovalRecord, CallOutcome, CallState, Closing, Issued, Ledger, LedgerFault, NotIssued, Wait},
    tool::{Performed, Tool, ToolError},
    warrant::{OpenCall, Permitted, Reservation, Unissued, Warrant},
};

/// Recording an outcome is tried again so often before the call is left in doubt.
const CLOSE_TRIES: u32 = 5;

/// The first pause between these tries, doubled each time.
const CLOSE_PAUSE: Duration = Duration::from_millis(25);

impl<L: Ledger> Gate<L> {
    /// From permission to effect: issue (record), perform, close (record).
    pub(super) async fn act<T: Tool>(
        &self,
        tool: &T,
        permitted: Permitted<T::Args>,
        granted: Option<&ApprovalRecord>,
    ) -> Round<T::Args> {
        let undoes = tool.undoes(&permitted.call.parsed);
        let (warrant, open) = match self.issue(tool, permitted, granted).await {
            Ok(issued) => issued,
            Err(round) => return *round,
        };
        let performed = perform(tool, warrant).await;
        self.close_open(tool, open, performed, undoes).await
    }

    /// Records the intent with all that the call takes, or tells why there is none.
    async fn issue<T: Tool>(
        &self,
        tool: &T,
        permitted: Permitted<T::Args>,
        granted: Option<&ApprovalRecord>,
    ) -> Result<(Warrant<T::Args>, OpenCall<T::Args>), Box<Round<T::Args>>> {
        let Permitted { call, effect, limits, now_ms, .. } = &permitted;
        let holds = match self.holds(call, *effect, limits, *now_ms) {
            Ok(holds) => holds,
            Err(refusal) => {
                let Permitted { call, entries, .. } = permitted;
                return Err(Box::new(Round::Answer(self.refuse(&call, granted, entries, refusal).await)));
            }
        };
        let journal = match effect {
            Effect::Read => None,
            Effect::Write | Effect::Destructive => tool.journal(&self.upkeep(tool.spec())).await,
        };
        let reservation = Reservation { rates: rate_keys(call), holds, journal };
        let unissued = match Warrant::issue(permitted, reservation, &*self.ledger).await {
            Ok((warrant, open, Issued { halted })) => {
                if let Some(halt) = halted {
                    tracing::warn!(%halt, "a budget reached its threshold");
                }
                return Ok((warrant, open));
            }
            Err(unissued) => *unissued,
        };
        let Unissued { call, entries, why } = unissued;
        // What was left of a grant has gone to another call: the policies ask people again.
        if matches!(why, NotIssued::HistoryMoved | NotIssued::GrantSpent) {
            return Err(Box::new(Round::Again(call)));
        }
        if matches!(why, NotIssued::Fault(LedgerFault::Unknown(_))) {
            self.void(&call, granted.map(|record| record.request.id.clone())).await;
        }
        Err(Box::new(Round::Answer(self.not_issued(&call, granted, entries, why).await)))
    }

    /// Records what became of a call, and makes that the answer. `undoes` is the call that it takes back.
    async fn close_open<T: Tool>(
        &self,
        tool: &T,
        open: OpenCall<T::Args>,
        performed: Result<Performed, ToolError>,
        undoes: Option<CallId>,
    ) -> Round<T::Args> {
        let ended_ms = self.clock.now_ms();
        let exceeded =
            if let Err(ToolError::Exceeded { reach }) = &performed { Some(reach.clone()) } else { None };
        let (outcome, settlement) = outcome_of(performed);
        let used = match settlement {
            Settlement::Used { rows, amount } => Some((rows, amount)),
            Settlement::Reserved | Settlement::Released | Settlement::Kept => None,
        };
        let (call, approval) = (&*open.call, open.approval.as_ref());
        let who = (&call.requester, &call.id);
        let duration_ms = u64::try_from(ended_ms.saturating_sub(open.decided_ms)).unwrap_or(0);
        let mut entries = vec![NewEntry::outcome(ended_ms, who, approval, &outcome, used, duration_ms)];
        if let Some(undone) = undoes.filter(|_| outcome.state() == CallState::Done) {
            let left = match &outcome {
                CallOutcome::Done { reply } => tool.not_undone(reply),
                CallOutcome::DoneWithoutResult { .. }
                | CallOutcome::Failed { .. }
                | CallOutcome::SentAgain { .. }
                | CallOutcome::InDoubt { .. } => None,
            };
            entries.push(NewEntry::undone(ended_ms, &undone, who, left));
        }
        let closing = open.closing(outcome.clone(), settlement, entries, ended_ms);
        // Reads may join the next commit: a crash leaves only a read in doubt.
        let wait =
            if open.effect == Effect::Read && approval.is_none() { Wait::Queued } else { Wait::Durable };
        // A crash before this is durable leaves the call in doubt, whether or not it had its effect.
        if let Err(fault) = self.close_call(closing, wait).await {
            let refusal = Refusal::new(
                Code::InDoubt,
                format!("call `{}` was performed, and its outcome could not be recorded: {fault}", call.id),
            )
            .help("do not repeat it; ask a person to look at the calls in doubt");
            return Round::Answer(Answer::Refused(Refused::new(
                Some(call.id.clone()),
                approval.cloned(),
                refusal,
            )));
        }
        if outcome.state() == CallState::Done {
            self.end_doubts(call).await;
        }
        match exceeded {
            Some(reach) => self.once_more(tool, &open, *reach),
            None => {
                let rows = used.map_or(0, |(rows, _)| rows);
                Round::Answer(answer_of(&call.id, approval.cloned(), outcome, rows))
            }
        }
    }

    /// Has a call decided again that reached further than it may and was rolled back. Its warrant took what the tool had made
    /// of the arguments along.
    fn once_more<T: Tool>(&self, tool: &T, open: &OpenCall<T::Args>, reach: Reach) -> Round<T::Args> {
        match self.parse_stored(tool, &open.call.stored()) {
            Ok((call, _)) => Round::Exceeded(call, reach),
            Err(refusal) => {
                let (call, approval) = (open.call.id.clone(), open.approval.clone());
                Round::Answer(Answer::Refused(Refused::new(Some(call), approval, refusal)))
            }
        }
    }

    /// Closes an intent that may have been recorded without our knowing: nothing was performed under it.
    /// Where even that cannot be recorded, the call ends up in doubt once this process is gone.
    pub(super) async fn void<A>(&self, call: &Call<A>, approval: Option<ApprovalId>) {
        let now_ms = self.clock.now_ms();
        let message = String::from("not performed, because its intent was not confirmed");
        let outcome = CallOutcome::Failed { code: Code::LedgerUnavailable, message, superseded: true };
        let who = (&call.requester, &call.id);
        let entry = NewEntry::outcome(now_ms, who, approval.as_ref(), &outcome, None, 0);
        let closing = Closing {
            call: call.id.clone(),
            outcome,
            settlement: Settlement::Released,
            now_ms,
            entries: vec![entry],
        };
        // A crash before this is durable leaves an intent, if it was kept, whose call is in doubt although nothing was
        // done.
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

/// Has a tool act under its warrant. One that panics may have acted.
async fn perform<T: Tool>(tool: &T, warrant: Warrant<T::Args>) -> Result<Performed, ToolError> {
    AssertUnwindSafe(tool.perform(warrant))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(ToolError::InDoubt { message: "the tool failed while it acted".into() }))
}

/// Tells what a tool's answer means for the record and for the holds.
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
