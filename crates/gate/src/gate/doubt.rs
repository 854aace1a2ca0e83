//! Calls of which nobody knows whether they happened: found, asked about, settled.

use std::panic::AssertUnwindSafe;

use countersign_rules::{Call, CallId, Code, Effect, PersonId, Refusal};
use futures::FutureExt as _;

use super::{
    Gate,
    refusal::{not_looked_up, refused},
};
use crate::{
    answer::Answer,
    entry::Entry,
    ledger::{CallOutcome, CallRecord, CallState, Ledger, LedgerFault, Settlement},
    tool::{Doubt, MeasureError, Recalled, Tool},
};

/// Among how many of the newest calls a witness is looked for.
const WITNESSES_MAX: u32 = 1_000;
/// Among how many calls in doubt an equal one is looked for.
const DOUBTS_MAX: u32 = 10_000;

impl<L: Ledger> Gate<L> {
    /// A person's finding about a call in doubt. Returns whether there was such a call.
    ///
    /// # Errors
    /// [`LedgerFault`], and then the call stays in doubt.
    pub async fn resolve_doubt(
        &self,
        call: &CallId,
        person: &PersonId,
        happened: bool,
        comment: &str,
    ) -> Result<bool, LedgerFault> {
        let Some(record) = self.ledger.call(call).await? else { return Ok(false) };
        let now_ms = self.clock.now_ms();
        let entries = vec![Entry::doubt_resolved(now_ms, &record.call, person, happened, comment)];
        let (outcome, settlement) = if happened {
            let message = format!("`{person}` found that it happened");
            // What was reserved is what it may have used.
            (CallOutcome::DoneWithoutResult { message }, Settlement::Reserved)
        } else {
            let message = format!("`{person}` found that it did not happen");
            (CallOutcome::Failed { code: Code::ToolFailed, message, superseded: false }, Settlement::Released)
        };
        self.ledger.resolve(call, outcome, settlement, now_ms, entries).await
    }

    /// Finds calls in doubt after a crash, here or in another replica.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn sweep(&self) -> Result<Vec<CallRecord>, LedgerFault> {
        self.ledger.sweep(self.clock.now_ms()).await
    }

    /// Asks the system of a call in doubt for its own record of it, and settles the call by that. What the
    /// system does not know stays in doubt, and so does a call of another version of the tool: where that
    /// one kept its records is not known. Nothing is ever performed here. May be repeated, and run in
    /// several replicas at once: the answer is the same, and the ledger takes it once.
    ///
    /// # Errors
    /// [`NotRecalled`]: the call stays in doubt; try again later.
    pub async fn recall<T: Tool>(&self, tool: &T, record: &CallRecord) -> Result<Recalled, NotRecalled> {
        let spec = tool.spec();
        let same = spec.version == record.call.version && spec.system.name == record.system;
        // A read leaves no record of itself.
        if record.state != CallState::InDoubt || record.effect < Effect::Write || !same {
            return Ok(Recalled::Unknown);
        }
        let upkeep = self.upkeep(spec);
        let doubt = Doubt {
            call: record.call.id.clone(),
            journal: record.journal.clone(),
            witness: self.witness(record).await?,
        };
        let asked = AssertUnwindSafe(tool.recall(&upkeep, &doubt)).catch_unwind().await;
        let recalled = asked.unwrap_or_else(|_| Err(MeasureError::System("the tool failed".into())))?;
        let now_ms = self.clock.now_ms();
        let (outcome, settlement, used) = match &recalled {
            Recalled::Unknown => return Ok(Recalled::Unknown),
            Recalled::Happened { rows, amount } => {
                let message = format!(
                    "the record of system `{}` shows that it happened; its answer was lost",
                    record.system
                );
                let used = (*rows, *amount);
                let settlement = Settlement::Used { rows: used.0, amount: used.1 };
                (CallOutcome::DoneWithoutResult { message }, settlement, Some(used))
            }
            Recalled::Never => {
                let message = format!(
                    "the record of system `{}` shows that it never happened and no longer can; propose it again if it is still wanted",
                    record.system
                );
                let outcome = CallOutcome::Failed { code: Code::ToolFailed, message, superseded: false };
                (outcome, Settlement::Released, None)
            }
        };
        let mut entries = vec![Entry::doubt_recalled(now_ms, record, used)];
        if used.is_some()
            && let Ok(parsed) = tool.parse(&record.call.arguments)
            && let Some(undone) = tool.undoes(&parsed.args)
        {
            entries.push(Entry::undone(now_ms, &undone, &record.call, None));
        }
        // A crash here leaves the call in doubt, and the system's record answers the same again.
        let settled = self.ledger.resolve(&record.call.id, outcome, settlement, now_ms, entries).await?;
        if settled {
            tracing::info!(call = %record.call.id, happened = used.is_some(), "a doubt was settled by the system's record");
        }
        Ok(recalled)
    }

    /// The answer to a call that an earlier, equal one of the same agent leaves in doubt: it is not performed beside it. The
    /// system's own record settles the doubt where there is one; otherwise a person has to. A tool that says its calls can
    /// be repeated is performed again.
    pub(super) async fn doubtful<T: Tool>(&self, tool: &T, call: &Call<T::Args>) -> Option<Answer> {
        if call.tool.idempotent {
            return None;
        }
        let doubts = match self.ledger.calls(Some(CallState::InDoubt), DOUBTS_MAX).await {
            Ok(doubts) => doubts,
            Err(fault) => return Some(refused(call, None, not_looked_up(&fault))),
        };
        let mine = |record: &&CallRecord| {
            record.call.digest == call.digest && record.call.requester.agent == call.requester.agent
        };
        let record = doubts.iter().find(mine)?;
        let id = &record.call.id;
        match self.recall(tool, record).await {
            // It cannot happen any more, so that this one may.
            Ok(Recalled::Never) => return None,
            Ok(Recalled::Happened { .. }) => {
                let message = format!("an equal call, `{id}`, was performed, and its answer was lost");
                let refusal = Refusal::new(Code::ResultRejected, message)
                    .help("do not repeat it; the effect has happened");
                return Some(refused(call, None, refusal));
            }
            Ok(Recalled::Unknown) => {}
            Err(why) => {
                tracing::warn!(%why, call = %id, "a doubt could not be settled by the system's record")
            }
        }
        let message = format!("an equal call, `{id}`, is in doubt: whether it had its effect is not known");
        let refusal = Refusal::new(Code::InDoubt, message)
            .help("nothing was done for this one; a person has to settle the other (`countersign calls resolve`) before it is repeated");
        let entry = vec![Entry::call_proposed(self.clock.now_ms(), call)];
        Some(self.refuse(call, None, entry, refusal).await)
    }

    /// The newest call that took effect on the same system under the same record, if it is not too long ago.
    async fn witness(&self, record: &CallRecord) -> Result<Option<CallId>, LedgerFault> {
        let Some(journal) = &record.journal else { return Ok(None) };
        let done = self.ledger.calls(Some(CallState::Done), WITNESSES_MAX).await?;
        // Only those whose effect is sure: what a person found is no proof of what the system keeps.
        let sure = done.into_iter().find(|done| {
            done.system == record.system
                && done.effect >= Effect::Write
                && done.journal.as_ref() == Some(journal)
                && matches!(done.outcome, Some(CallOutcome::Done { .. }))
        });
        Ok(sure.map(|done| done.call.id))
    }
}

/// Why a system was not asked about a call in doubt, or its answer not kept.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotRecalled {
    /// The system could not be asked.
    #[error(transparent)]
    System(#[from] MeasureError),
    /// The answer could not be recorded.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}
