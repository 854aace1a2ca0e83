//! Calls of which nobody knows whether they happened: found, asked about, settled.

use std::panic::AssertUnwindSafe;

use countersign_rules::{Call, CallId, Code, Effect, PersonId, Refusal, settlement::Settlement};
use futures::FutureExt as _;

use super::{
    Gate,
    refusal::{answer_of, not_looked_up, refused},
    stop::Stop,
};
use crate::{
    entry::NewEntry,
    ledger::{ApprovalRecord, CallOutcome, CallRecord, CallState, Ledger, LedgerFault},
    tool::{Doubt, MeasureError, Recalled, Tool},
};

/// Among how many of the newest calls a witness is looked for.
const WITNESSES_MAX: u32 = 1_000;
/// For how long a call whose doubt was settled as something that happened answers its equals, in milliseconds: an agent that
/// never heard of it repeats it soon. Another idempotency key says that it is another call.
const RETOLD_MS: i64 = 60 * 60 * 1_000;

/// One call may end so many doubts.
const ENDED_MAX: u32 = 100;

impl<L: Ledger> Gate<L> {
    /// Settles a call in doubt by a person's finding. Returns whether there was such a call.
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
        let entries = vec![NewEntry::doubt_resolved(now_ms, &record.call, person, happened, comment)];
        let (outcome, settlement) = if happened {
            let message = format!("`{person}` found that it happened");
            // What was reserved is what it may have used.
            (CallOutcome::DoneWithoutResult { message }, Settlement::Reserved)
        } else {
            let message = format!("`{person}` found that it did not happen");
            (CallOutcome::Failed { code: Code::ToolFailed, message, superseded: false }, Settlement::Released)
        };
        // A crash before this is durable leaves the call in doubt; after it, the call is settled, whether or not the
        // person was told.
        self.ledger.resolve(call, outcome, settlement, now_ms, entries).await
    }

    /// Finds calls in doubt after a crash, here or in another replica.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn sweep(&self) -> Result<Vec<CallRecord>, LedgerFault> {
        // A crash before this is durable leaves the calls open, and the next sweep finds them; after it, they are in
        // doubt.
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
        let mut entries = vec![NewEntry::doubt_recalled(now_ms, record, used)];
        if used.is_some()
            && let Ok(parsed) = tool.parse(&record.call.arguments)
            && let Some(undone) = tool.undoes(&parsed.args)
        {
            entries.push(NewEntry::undone(now_ms, &undone, (&record.call.requester, &record.call.id), None));
        }
        // A crash here leaves the call in doubt, and the system's record answers the same again.
        let settled = self.ledger.resolve(&record.call.id, outcome, settlement, now_ms, entries).await?;
        if settled {
            tracing::info!(call = %record.call.id, happened = used.is_some(), "a doubt was settled by the system's record");
        }
        Ok(recalled)
    }

    /// Closes a read in doubt: it had no effect, so that there is nothing to find out. What was reserved counts as used.
    /// Returns whether it was one.
    ///
    /// # Errors
    /// [`LedgerFault`], and then it stays in doubt.
    pub async fn end_read(&self, record: &CallRecord) -> Result<bool, LedgerFault> {
        if record.state != CallState::InDoubt || record.effect >= Effect::Write {
            return Ok(false);
        }
        let now_ms = self.clock.now_ms();
        let message = "its answer was lost; it was a read, and may be repeated".to_owned();
        let outcome = CallOutcome::Failed { code: Code::ToolFailed, message, superseded: false };
        let entries = vec![NewEntry::read_ended(now_ms, record)];
        // A crash before this is durable leaves the read in doubt, and the worker ends it again.
        self.ledger.resolve(&record.call.id, outcome, Settlement::Reserved, now_ms, entries).await
    }

    /// Stops a call where an earlier, equal one of the same agent was or is in doubt: it is not performed beside it.
    /// The system's own record settles the doubt where there is one; otherwise a person has to. What turned out to have
    /// happened answers its equals for an hour, because its agent may never have heard of it. Where the system recognises
    /// repeated calls, nothing stops it: answers the id of the first one, under which the system performs both once.
    pub(super) async fn doubtful<T: Tool>(
        &self,
        tool: &T,
        call: &Call<T::Args>,
        granted: Option<&ApprovalRecord>,
    ) -> Result<Option<CallId>, Stop> {
        let since_ms = self.clock.now_ms().saturating_sub(RETOLD_MS);
        let record = match self.ledger.doubted(&call.requester.agent, call.digest, since_ms).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(fault) => return Err(refused(call, granted, not_looked_up(&fault)).into()),
        };
        // An agent that gives another key means another call, and knows of the first or does not care.
        let another = call.key.is_some() && call.key != record.call.key;
        if record.state == CallState::Done && another {
            return Ok(None);
        }
        if call.tool.idempotent {
            return Ok(Some(sent_as(&record).clone()));
        }
        if record.state == CallState::Done {
            return Err(match (&record.outcome, granted) {
                (Some(outcome @ CallOutcome::Done { .. }), None) => {
                    let (id, approval) = (&record.call.id, record.approval.clone());
                    answer_of(id, approval, outcome.clone(), record.rows).into()
                }
                _ => happened(&record).into(),
            });
        }
        let id = &record.call.id;
        match self.recall(tool, &record).await {
            // It cannot happen any more, so that this one may.
            Ok(Recalled::Never) => return Ok(None),
            Ok(Recalled::Happened { .. }) => return Err(happened(&record).into()),
            Ok(Recalled::Unknown) => {}
            Err(why) => {
                tracing::warn!(%why, call = %id, "a doubt could not be settled by the system's record")
            }
        }
        let message = format!("an equal call, `{id}`, is in doubt: whether it had its effect is not known");
        let help = "nothing was done for this one; a person has to settle the other (`countersign calls resolve`) before it \
                    is repeated";
        Err(Refusal::new(Code::InDoubt, message).help(help).into())
    }

    /// Ends the doubts about the calls under whose id a call was sent that is done now. What cannot be recorded stays in doubt,
    /// for a person or the next equal call.
    pub(super) async fn end_doubts<A>(&self, by: &Call<A>) {
        let Some(first) = &by.again else { return };
        for _ in 0..ENDED_MAX {
            let record = match self.ledger.doubted(&by.requester.agent, by.digest, i64::MAX).await {
                Ok(Some(record)) if record.state == CallState::InDoubt && sent_as(&record) == first => record,
                Ok(_) => return,
                Err(fault) => {
                    return tracing::warn!(%fault, call = %by.id, "the doubt that a call ended cannot be looked up");
                }
            };
            let message = format!(
                "call `{}` was sent under its id and is done: the system performed it once, then or now, and it is counted there",
                by.id
            );
            // What it reserved is counted once, with the call that is done.
            let outcome = CallOutcome::SentAgain { by: by.id.clone(), message };
            let now_ms = self.clock.now_ms();
            let entries = vec![NewEntry::sent_again(now_ms, &record, &by.id)];
            // A crash before this is durable leaves the doubt open although its effect is known to be had once: a
            // person or the next equal call ends it. What the earlier call reserved stays held until then.
            let ended =
                self.ledger.resolve(&record.call.id, outcome, Settlement::Released, now_ms, entries).await;
            match ended {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => {
                    return tracing::warn!(%fault, call = %record.call.id, "a doubt that is over could not be closed");
                }
            }
        }
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

/// A system was not asked about a call in doubt, or its answer was not kept, for one of these reasons.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotRecalled {
    /// The system could not be asked.
    #[error(transparent)]
    System(#[from] MeasureError),
    /// The answer could not be recorded.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// The refusal of a call whose equal has happened.
fn happened(equal: &CallRecord) -> Refusal {
    let message =
        format!("an equal call, `{}`, was performed, and its answer may have been lost", equal.call.id);
    Refusal::new(Code::ResultRejected, message).help(
        "do not repeat it; the effect has happened. If it is wanted once more, propose it in an hour, or with an idempotency \
         key of its own",
    )
}

/// The id under which a call was sent.
pub(super) fn sent_as(record: &CallRecord) -> &CallId {
    record.call.again.as_ref().unwrap_or(&record.call.id)
}
