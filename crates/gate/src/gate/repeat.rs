//! Calls that their agent repeats under an idempotency key: one key, one call, one answer.
//!
//! A key is bound in the transaction that issues, parks or refuses its call ([`Bond`]); nothing is claimed before, so that
//! nothing is left behind by a crash. What is told here is read from what the key stands for. Nothing is performed here.

use std::time::Duration;

use countersign_rules::{ApprovalState, Call, CallId, Code, Refusal};

use super::{
    Gate,
    refusal::{answer_of, expired, in_doubt, lasts, not_looked_up, refused, refused_request},
    request::CHANGED,
};
use crate::{
    answer::{Answer, Refused},
    entry::NewEntry,
    ledger::{Bond, CallOutcome, CallRecord, CallState, Ledger, LedgerFault},
    tool::Tool,
};

/// The longest that a repeat waits for the call that is under way.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The first pause between two looks at it, doubled each time.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// An idempotency key says one of these things about a call.
pub(super) enum KeyState {
    /// It is a repeat, and this is its answer.
    Answer(Answer),
    /// It is the first under its key, or has none.
    Free,
    /// Nothing came of the one before, for a reason that passes: this one may take its place.
    Nothing {
        /// The one before.
        before: CallId,
        /// The agent was told this.
        told: Answer,
    },
}

impl<L: Ledger> Gate<L> {
    /// Looks whether a call repeats another one.
    pub(super) async fn held<T: Tool>(&self, tool: &T, call: &Call<T::Args>) -> KeyState {
        let Some(key) = &call.key else { return KeyState::Free };
        let agent = &call.requester.agent;
        let bond = match self.ledger.bond(agent, key).await {
            Ok(Some(bond)) => bond,
            Ok(None) => return self.room_for_key(call).await,
            Err(fault) => return KeyState::Answer(refused(call, None, not_looked_up(&fault))),
        };
        // Where the system recognises repeats, it is not asked: it performs once what is sent twice.
        if bond.digest == call.digest
            && !call.tool.idempotent
            && let Ok(Some(record)) = self.ledger.call(&bond.call).await
            && record.state == CallState::InDoubt
            && let Err(why) = self.recall(tool, &record).await
        {
            tracing::warn!(%why, call = %bond.call, "a doubt could not be settled by the system's record");
        }
        self.told(call, &bond).await
    }

    /// Checks that the agent may have one more key. Calls that are made at the same moment may together have some
    /// more.
    async fn room_for_key<A>(&self, call: &Call<A>) -> KeyState {
        let most = self.settings.keys_max;
        match self.ledger.bonds(&call.requester.agent).await {
            Ok(count) if count < u64::from(most) => KeyState::Free,
            Ok(_) => {
                let message = format!("{most} idempotency keys of this agent are kept already");
                let refusal = Refusal::new(Code::RateLimited, message)
                    .help("nothing was done; keys are forgotten in time, and a call needs none");
                let entries = vec![NewEntry::call_proposed(self.clock.now_ms(), call)];
                KeyState::Answer(self.refuse(call, None, entries, refusal).await)
            }
            Err(fault) => KeyState::Answer(refused(call, None, not_looked_up(&fault))),
        }
    }

    /// Returns the answer of the call that a key stands for, to one that repeats it.
    pub(super) async fn told<A>(&self, call: &Call<A>, bond: &Bond) -> KeyState {
        if bond.digest != call.digest {
            return KeyState::Answer(self.reused(call, bond).await);
        }
        if let Some(refusal) = &bond.refusal {
            let (call, approval) = (Some(bond.call.clone()), bond.approval.clone());
            let refusal = refusal.clone();
            let refused = Refused::new(call, approval, refusal);
            return KeyState::Answer(once_more(Answer::Refused(refused)));
        }
        let held = match &bond.approval {
            Some(approval) => match self.ledger.approval(approval).await {
                Ok(Some(record)) => self.told_request(bond, &record, call.tool.idempotent).await,
                Ok(None) => Ok(KeyState::Answer(unknown(bond, in_doubt(&bond.call)))),
                Err(fault) => Err(fault),
            },
            None => self.told_call(bond, call.tool.idempotent).await,
        };
        held.unwrap_or_else(|fault| KeyState::Answer(unknown(bond, not_looked_up(&fault))))
    }

    /// As it is told, for the caller that has found the key taken meanwhile.
    pub(super) async fn told_at_last<A>(&self, call: &Call<A>, bond: &Bond) -> Answer {
        match self.told(call, bond).await {
            KeyState::Answer(answer) | KeyState::Nothing { told: answer, .. } => answer,
            KeyState::Free => unknown(bond, in_doubt(&bond.call)),
        }
    }

    async fn told_request(
        &self,
        bond: &Bond,
        record: &crate::ledger::ApprovalRecord,
        recognised: bool,
    ) -> Result<KeyState, LedgerFault> {
        let before = bond.call.clone();
        let now_ms = self.clock.now_ms();
        let overdue = record.request.expires_ms <= now_ms;
        if record.state == ApprovalState::Waiting && overdue {
            self.expire_one(record).await;
            return Ok(KeyState::Answer(once_more(refused_request(record, expired()))));
        }
        // Its approval would be good for nothing: people are asked under the policies that hold now.
        if record.state == ApprovalState::Waiting && !record.request.stands_under(&self.policies()) {
            let told = self.superseded(record, CHANGED, Vec::new()).await;
            self.delivered(record).await;
            return Ok(KeyState::Nothing { before, told: told.again() });
        }
        if record.narrowed_to.is_some() {
            return Ok(KeyState::Answer(once_more(self.tell(record).await)));
        }
        if let Some(told) = self.told_of_its_other(record).await? {
            return Ok(KeyState::Answer(once_more(told)));
        }
        let passed = match record.state {
            ApprovalState::Blocked => record.code.is_some_and(passes),
            // What changed since had nothing to do with the call: people are asked about what holds now.
            ApprovalState::Superseded => true,
            ApprovalState::Failed => {
                self.ledger.call(&record.request.call.id).await?.is_some_and(|call| came_to_nothing(&call))
            }
            // Then people are asked whether it may be sent once more, as for a call without a key.
            ApprovalState::InDoubt => recognised && self.answers_until_ms(record) <= now_ms,
            ApprovalState::Waiting
            | ApprovalState::Approved
            | ApprovalState::Executing
            | ApprovalState::Refused
            | ApprovalState::Expired
            | ApprovalState::Done => false,
        };
        let told = self.tell(record).await;
        Ok(if passed {
            KeyState::Nothing { before, told: told.again() }
        } else {
            KeyState::Answer(once_more(told))
        })
    }

    /// `recognised` says that the system performs once what is sent twice under one id: a call in doubt is sent again then.
    async fn told_call(&self, bond: &Bond, recognised: bool) -> Result<KeyState, LedgerFault> {
        let before = bond.call.clone();
        let (mut waited, mut pause) = (Duration::ZERO, PAUSE);
        loop {
            let Some(record) = self.ledger.call(&bond.call).await? else {
                return Ok(KeyState::Answer(unknown(bond, in_doubt(&bond.call))));
            };
            if let Some(told) = self.told_of_the_other(&record).await? {
                return Ok(KeyState::Answer(once_more(told)));
            }
            let nothing = came_to_nothing(&record) || (recognised && record.state == CallState::InDoubt);
            if let Some(outcome) = record.outcome {
                let told = answer_of(&bond.call, None, outcome, record.rows);
                return Ok(if nothing {
                    KeyState::Nothing { before, told: told.again() }
                } else {
                    KeyState::Answer(once_more(told))
                });
            }
            if record.state == CallState::InDoubt {
                let told = unknown(bond, in_doubt(&bond.call));
                return Ok(if nothing { KeyState::Nothing { before, told } } else { KeyState::Answer(told) });
            }
            if waited >= WAIT_MAX {
                let message = format!("call `{}` of this idempotency key is still under way", bond.call);
                let mut refusal = Refusal::new(Code::NotLookedUp, message)
                    .help("repeat the very same call, with the same key, to hear what came of it");
                refusal.retry_after_ms = Some(1_000);
                return Ok(KeyState::Answer(unknown(bond, refusal)));
            }
            tokio::time::sleep(pause).await;
            waited = waited.saturating_add(pause);
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// Tells an agent what became of an issued call; `None` while it is under way.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn tell_call(&self, record: &CallRecord) -> Result<Option<Answer>, LedgerFault> {
        if let Some(told) = self.told_of_the_other(record).await? {
            return Ok(Some(told));
        }
        let (call, approval) = (&record.call.id, record.approval.clone());
        Ok(match &record.outcome {
            Some(outcome) => {
                let answer = answer_of(call, approval, outcome.clone(), record.rows);
                Some(answer.of_changed(&record.call))
            }
            None if record.state == CallState::InDoubt => {
                Some(Answer::Refused(Refused::new(Some(call.clone()), approval, in_doubt(call))))
            }
            None => None,
        })
    }

    /// As [`Gate::told_of_the_other`], of a request whose call was in doubt.
    pub(super) async fn told_of_its_other(
        &self,
        record: &crate::ledger::ApprovalRecord,
    ) -> Result<Option<Answer>, LedgerFault> {
        if record.state != ApprovalState::Superseded {
            return Ok(None);
        }
        match self.ledger.call(&record.request.call.id).await? {
            Some(call) => self.told_of_the_other(&call).await,
            None => Ok(None),
        }
    }

    /// The answer of the call that was sent under the id of this one and ended its doubt so: the system performed both once.
    async fn told_of_the_other(&self, record: &CallRecord) -> Result<Option<Answer>, LedgerFault> {
        let Some(sent_again @ CallOutcome::SentAgain { by, .. }) = &record.outcome else { return Ok(None) };
        Ok(Some(match self.ledger.call(by).await? {
            Some(CallRecord { call, approval, outcome: Some(outcome), rows, .. }) => {
                answer_of(&call.id, approval, outcome, rows)
            }
            // The ledger forgets no call; should it, nothing is said to be undone.
            Some(_) | None => {
                answer_of(&record.call.id, record.approval.clone(), sent_again.clone(), record.rows)
            }
        }))
    }

    /// Refuses a call whose key stands for another one, and records that.
    async fn reused<A>(&self, call: &Call<A>, bond: &Bond) -> Answer {
        let message = format!("the idempotency key was used for another call, `{}`", bond.call);
        let refusal = Refusal::new(Code::KeyReused, message)
            .help("nothing was done for this one; give each call a key of its own, and repeat a call with the very same arguments");
        let entries = vec![NewEntry::call_proposed(self.clock.now_ms(), call)];
        self.refuse(call, None, entries, refusal).await
    }

    /// Lets the key of a call stand for this answer, which is that of another call, from now on.
    pub(super) async fn joined<A>(
        &self,
        call: &Call<A>,
        record: &crate::ledger::ApprovalRecord,
        answer: Answer,
    ) -> Answer {
        let request = &record.request;
        let Some(bond) = Bond::of(&call.stored(), None, self.clock.now_ms()) else { return answer };
        // A crash before this is durable leaves the key free, and a repeat finds the same request by its digest; after
        // it, the key stands for that request's call.
        match self.ledger.bind(bond.joining(request), call.replaces.as_ref(), Vec::new()).await {
            Ok(None) => answer.again(),
            Ok(Some(taken)) => self.told_at_last(call, &taken).await,
            Err(fault) => refused(call, None, not_looked_up(&fault)),
        }
    }
}

/// Returns true if nothing was done for a reason that passes.
const fn passes(code: Code) -> bool {
    !lasts(code) && !matches!(code, Code::InDoubt | Code::ResultRejected)
}

/// Returns true if it is known that a call had no effect, and trying again makes sense: its system was away, or it
/// was in doubt and turned out never to have happened.
fn came_to_nothing(record: &CallRecord) -> bool {
    match &record.outcome {
        Some(CallOutcome::Failed { code, .. }) => passes(*code) || record.doubted,
        Some(
            CallOutcome::Done { .. }
            | CallOutcome::DoneWithoutResult { .. }
            | CallOutcome::SentAgain { .. }
            | CallOutcome::InDoubt { .. },
        )
        | None => false,
    }
}

/// The answer to a repeat, which says how to be heard anew where nothing was done.
fn once_more(mut answer: Answer) -> Answer {
    if let Answer::Refused(refused) = &mut answer
        && (lasts(refused.refusal.code))
    {
        let help = refused.refusal.help.take().map(|help| format!("{help}; ")).unwrap_or_default();
        let anew = "this is the answer to the first call with this idempotency key: a call that is meant anew needs a new one";
        refused.refusal.help = Some(format!("{help}{anew}"));
    }
    answer.again()
}

fn unknown(bond: &Bond, refusal: Refusal) -> Answer {
    let (call, approval) = (Some(bond.call.clone()), bond.approval.clone());
    Answer::Refused(Refused { call, approval, refusal, repeated: true })
}
