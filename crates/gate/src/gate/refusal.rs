//! What a call that does not happen is told, and how that is recorded.

use countersign_rules::{
    AgentId, ApprovalId, ApprovalState, BundleDigest, Call, CallId, Code, Decision, DecisionId, Deny,
    DenyReason, Facts, Reach, Refusal, Requester, ToolSpec,
};

use super::Gate;
use crate::{
    answer::{Answer, Done, Pending, Refused},
    clock::{BadId, call_id},
    entry::NewEntry,
    ledger::{ApprovalRecord, Bond, CallOutcome, HaltRecord, Ledger, LedgerFault, NotIssued},
};

impl<L: Ledger> Gate<L> {
    /// Refuses a call to a tool that does not exist for this agent, and records that.
    pub async fn refuse_unknown(&self, requester: &Requester, tool: &str) -> Answer {
        let name: String = tool.chars().take(128).collect();
        let refusal =
            Refusal::new(Code::UnknownTool, format!("no tool `{name}` may be called by this agent"))
                .help("list the tools to see which may be called");
        self.reject(requester, tool, refusal).await
    }

    /// Refuses a proposal before it is a call, and records that.
    pub async fn reject(&self, requester: &Requester, tool: &str, refusal: Refusal) -> Answer {
        let now_ms = self.clock.now_ms();
        let id = match call_id(now_ms, &*self.entropy) {
            Ok(id) => id,
            Err(why) => {
                return Answer::Refused(Refused::new(None, None, bad_id(&why)));
            }
        };
        if let Some(refusal) = self.beyond(&requester.agent, &refusal, now_ms) {
            return Answer::Refused(Refused::new(None, None, refusal));
        }
        let entry = NewEntry::call_rejected(now_ms, requester, &id, tool, &refusal);
        // A crash before this is durable leaves nothing done and nothing known of it; after it, a refusal that its
        // agent was not told of.
        let refusal = match self.ledger.record(vec![entry]).await {
            Ok(()) => refusal,
            Err(fault) => unavailable(&fault),
        };
        Answer::Refused(Refused::new(Some(id), None, refusal))
    }

    /// Returns what an agent is told of a refusal that is counted instead of recorded, because so many of its calls
    /// were refused of late. `None` where it is to be recorded.
    pub(super) fn beyond(&self, agent: &AgentId, refusal: &Refusal, now_ms: i64) -> Option<Refusal> {
        let most = self.settings.refusals_max;
        let again_ms = self.refusals.count(agent, refusal.code, most, now_ms)?;
        // What became of an equal call, and that a person stopped the agent, is told whatever happens.
        if matches!(refusal.code, Code::Halted | Code::InDoubt | Code::ResultRejected) {
            return Some(refusal.clone());
        }
        let message = format!(
            "more than {most} calls of agent `{agent}` were refused within a minute, so they are counted and not recorded \
             one by one; this one is refused because {}",
            refusal.message
        );
        let mut told = Refusal::new(Code::RateLimited, message)
            .help("nothing was done; do not repeat calls that are refused, and ask the people when you cannot go on");
        told.retry_after_ms = Some(again_ms);
        Some(told)
    }

    /// Records how many refusals were not recorded one by one, for each agent: of minutes that are over, or of all when the
    /// server ends. To be called every second or so.
    ///
    /// # Errors
    /// [`LedgerFault`]; then they are counted on.
    pub async fn sum_up_refusals(&self, of_all: bool) -> Result<(), LedgerFault> {
        let now_ms = self.clock.now_ms();
        let sums = self.refusals.sums(now_ms, of_all);
        if sums.is_empty() {
            return Ok(());
        }
        let entries = sums.iter().map(|sum| NewEntry::refusals_counted(now_ms, sum)).collect();
        // A crash before this is durable loses the counts of these minutes, whose calls were refused all the same.
        // After it nothing is counted twice, because the counts are kept in memory alone.
        let recorded = self.ledger.record(entries).await;
        if recorded.is_err() {
            self.refusals.again(sums);
        }
        recorded
    }

    /// Refuses a call that the policies deny, and records that.
    pub(super) async fn deny<A>(
        &self,
        call: &Call<A>,
        granted: Option<&ApprovalRecord>,
        mut entries: Vec<NewEntry>,
        (id, bundle, facts, deny): (&DecisionId, &BundleDigest, &Facts, Deny),
    ) -> Answer {
        let refusal = denial(call, facts, &deny);
        entries.push(NewEntry::decided(facts.now_ms, call, id, bundle, facts, &Decision::Deny(deny)));
        self.finish_refusal(call, granted, entries, refusal).await
    }

    /// Refuses a call for another reason than the policies, and records that.
    pub(super) async fn refuse<A>(
        &self,
        call: &Call<A>,
        granted: Option<&ApprovalRecord>,
        mut entries: Vec<NewEntry>,
        refusal: Refusal,
    ) -> Answer {
        entries.push(NewEntry::refused(self.clock.now_ms(), call, &refusal));
        self.finish_refusal(call, granted, entries, refusal).await
    }

    pub(super) async fn finish_refusal<A>(
        &self,
        call: &Call<A>,
        granted: Option<&ApprovalRecord>,
        entries: Vec<NewEntry>,
        refusal: Refusal,
    ) -> Answer {
        if granted.is_none()
            && let Some(refusal) = self.beyond(&call.requester.agent, &refusal, self.clock.now_ms())
        {
            return Answer::Refused(Refused::new(None, None, refusal));
        }
        if granted.is_none()
            && lasts(refusal.code)
            && let Some(mut bond) = Bond::of(&call.stored(), None, self.clock.now_ms())
        {
            bond.refusal = Some(refusal.clone());
            let entries = entries.into_iter().map(NewEntry::of_a_refused_call).collect();
            // A crash before this is durable leaves nothing done and the key free; after it, a repeat under the key is
            // told the same refusal.
            return match self.ledger.bind(bond, call.replaces.as_ref(), entries).await {
                Ok(None) => refused(call, granted, refusal),
                // Boxed: an answer may be a refusal, and so comes back to here, once.
                Ok(Some(taken)) => Box::pin(self.told_at_last(call, &taken)).await,
                Err(fault) => refused(call, granted, unavailable(&fault)),
            };
        }
        // A crash before this is durable leaves nothing done, and a granted request still granted: the worker takes it
        // up again. After it, the refusal stands, and the agent is told when it asks for its request.
        match self.record_refusal(granted, entries, &refusal).await {
            Ok(()) => refused(call, granted, refusal),
            // That an equal call has happened is true whether or not it can be recorded.
            Err(fault) if refusal.code == Code::ResultRejected => {
                tracing::warn!(%fault, call = %call.id, "that a call was refused could not be recorded");
                refused(call, granted, refusal)
            }
            // What was granted stays granted, and may be performed by who tries next.
            Err(fault) if granted.is_some() => refused(call, granted, not_looked_up(&fault)),
            Err(fault) => refused(call, granted, unavailable(&fault)),
        }
    }

    /// Records a refusal, and ends the request that was granted, if it is about one.
    pub(super) async fn record_refusal(
        &self,
        granted: Option<&ApprovalRecord>,
        entries: Vec<NewEntry>,
        refusal: &Refusal,
    ) -> Result<(), LedgerFault> {
        match granted {
            Some(record) => {
                let code = Some(refusal.code);
                self.end(record, ApprovalState::Blocked, code, &refusal.to_string(), entries)
                    .await
                    .map(|_ended| ())
            }
            None => self.ledger.record(entries.into_iter().map(NewEntry::of_a_refused_call).collect()).await,
        }
    }

    pub(super) async fn not_issued<A>(
        &self,
        call: &Call<A>,
        granted: Option<&ApprovalRecord>,
        entries: Vec<NewEntry>,
        why: NotIssued,
    ) -> Answer {
        let refusal = match why {
            NotIssued::Halted(halt) => halted(&halt),
            NotIssued::RateLimited(too_often) => {
                let message = format!("tool `{}` was called too often: {too_often}", call.tool.name);
                let mut refusal = Refusal::new(Code::RateLimited, message)
                    .help(format!("wait {} ms; nothing was counted", too_often.retry_after_ms));
                refusal.retry_after_ms = Some(too_often.retry_after_ms);
                refusal
            }
            NotIssued::Exhausted(exhausted) => Refusal::new(Code::BudgetExhausted, exhausted.to_string())
                .help(self.more_room(call, &exhausted)),
            NotIssued::ApprovalSpent(state) => {
                // Somebody else performed it, or it ended meanwhile: theirs is the record.
                return refused(
                    call,
                    granted,
                    Refusal::new(Code::ApprovalSuperseded, format!("the approval is {}", state.as_str()))
                        .help("fetch the request to see what became of it"),
                );
            }
            NotIssued::KeyTaken(taken) => return Box::pin(self.told_at_last(call, &taken)).await,
            NotIssued::HistoryMoved | NotIssued::GrantSpent => crowded(),
            NotIssued::Fault(fault) if granted.is_some() => {
                return refused(call, granted, not_looked_up(&fault));
            }
            NotIssued::Fault(fault) => return refused(call, granted, unavailable(&fault)),
        };
        self.refuse(call, granted, entries, refusal).await
    }
}

/// Returns true if a refusal holds for its key: one that passes by itself leaves the key free for the next try.
pub(super) const fn lasts(code: Code) -> bool {
    match code {
        Code::InvalidArguments
        | Code::StatementRefused
        | Code::DeniedByPolicy
        | Code::ReachUnmeasurable
        | Code::ApprovalRefused
        | Code::ApprovalExpired
        | Code::ApprovalSuperseded
        | Code::ReachExceeded
        | Code::ToolFailed => true,
        Code::UnknownTool
        | Code::Halted
        | Code::RateLimited
        | Code::BudgetExhausted
        | Code::ApprovalPending
        | Code::ToolSwitchedOff
        | Code::Unauthenticated
        | Code::OutOfScope
        | Code::ShuttingDown
        | Code::NotFound
        | Code::AnswerRefused
        | Code::Malformed
        | Code::KeyReused
        | Code::LedgerUnavailable
        | Code::SystemUnavailable
        | Code::InDoubt
        // Said of an equal call, as is the one before: this one may be performed once that is settled, or past.
        | Code::ResultRejected
        | Code::CredentialUnavailable
        | Code::Internal
        | Code::NotLookedUp => false,
    }
}

/// The refusal of a call whose session's history moved again and again while it was decided.
pub(super) fn crowded() -> Refusal {
    Refusal::new(Code::RateLimited, "too many calls of this session are decided at once")
        .help("send fewer calls in parallel")
}

/// Words how far something reaches.
pub(super) fn extent(reach: &Reach) -> String {
    let more = reach.bound();
    match reach.amount {
        Some(amount) => format!("{more}{} rows and {amount}", reach.rows),
        None => format!("{more}{} rows", reach.rows),
    }
}

/// Returns the refusal of a call that reaches further than its tool lets one call reach.
pub(super) fn beyond_tool(tool: &ToolSpec, reach: &Reach) -> Refusal {
    let message = format!(
        "the call reaches {}, and one call of `{}` may touch {} rows at most",
        extent(reach),
        tool.name,
        tool.rows_max
    );
    Refusal::new(Code::ReachExceeded, message)
        .help("narrow the call, or split it; only the tool's author can raise its `rows_max`")
}

/// Returns the refusal of a call that the policies deny, without the fields of the rule that a caller could probe.
pub(super) fn denial<A>(call: &Call<A>, facts: &Facts, deny: &Deny) -> Refusal {
    let what = format!(
        "`{}` on system `{}` ({}, {})",
        call.tool.name, call.tool.system.name, facts.effect, call.tool.system.environment
    );
    let (message, help) = match &deny.reason {
        DenyReason::Forbidden { message: Some(said) } => (
            format!("{what} is forbidden: {said}"),
            "no approval can change this; propose something the policy permits",
        ),
        DenyReason::Forbidden { message: None } => (
            format!("{what} is forbidden"),
            "no approval can change this; propose something the policy permits",
        ),
        DenyReason::NothingPermits => {
            (format!("{what} is permitted by no policy"), "a policy that permits it must be added by people")
        }
        DenyReason::EvaluationError { message } => (
            format!("{what} is refused, because a policy could not be evaluated: {message}"),
            "people must mend the policy",
        ),
        DenyReason::InvalidRequest { message } => (
            format!("{what} is refused, because it does not fit the policies' schema: {message}"),
            "people must mend the tool or the policies",
        ),
        DenyReason::ReachUnknown => (
            format!("{what} is refused: a rule looks at how far it reaches, and that cannot be measured"),
            "use a tool whose reach can be measured before it runs",
        ),
    };
    let code = match &deny.reason {
        DenyReason::ReachUnknown => Code::ReachUnmeasurable,
        DenyReason::Forbidden { .. }
        | DenyReason::NothingPermits
        | DenyReason::EvaluationError { .. }
        | DenyReason::InvalidRequest { .. } => Code::DeniedByPolicy,
    };
    let mut refusal = Refusal::new(code, message).help(help);
    refusal.policies.clone_from(&deny.policies);
    refusal
}

pub(super) fn halted(halt: &HaltRecord) -> Refusal {
    Refusal::new(Code::Halted, halt.to_string()).help("wait until a person resumes; nothing was done")
}

/// A request that was granted and then refused, told by the code of that refusal.
pub(super) fn blocked(code: Option<Code>, why: &str) -> Refusal {
    let message = format!("it was approved and then refused: {why}");
    Refusal::new(code.unwrap_or(Code::DeniedByPolicy), message)
        .help("nothing was done; repeat the same call to have it decided anew")
}

pub(super) fn expired() -> Refusal {
    Refusal::new(Code::ApprovalExpired, "nobody answered in time, and nothing was done")
        .help("repeat the same call to ask again")
}

pub(super) fn superseded(why: &str) -> Refusal {
    Refusal::new(Code::ApprovalSuperseded, format!("the approval no longer fits: {why}"))
        .help("nothing was done; repeat the same call to ask again with what holds now")
}

pub(super) fn in_doubt(call: &CallId) -> Refusal {
    Refusal::new(Code::InDoubt, format!("whether call `{call}` had its effect is not known"))
        .help("do not repeat it; a person has to look")
}

pub(super) fn unavailable(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::LedgerUnavailable, format!("nothing was done: {fault}"))
        .help("what cannot be recorded is not performed; try again when the ledger is back")
}

/// Makes the refusal for a ledger that cannot say what became of something: then nothing is said of it.
pub(super) fn not_looked_up(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::NotLookedUp, format!("it cannot be looked up now: {fault}"))
        .help("this does not say whether the call was performed; fetch the result, or repeat the very same call, when the ledger is back")
}

/// Makes the refusal for a ledger that did not confirm that people are asked: they may be, and may approve.
pub(super) fn perhaps_asked(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::NotLookedUp, format!("it is not known whether people were asked: {fault}"))
        .help("repeat the very same call when the ledger is back: it finds the request, if there is one")
}

pub(super) fn bad_id(why: &BadId) -> Refusal {
    Refusal::new(Code::Internal, why.to_string())
}

pub(super) fn answer_of(
    call: &CallId,
    approval: Option<ApprovalId>,
    outcome: CallOutcome,
    rows: u64,
) -> Answer {
    let refusal = match outcome {
        CallOutcome::Done { reply } => {
            return Answer::Done(Done {
                call: call.clone(),
                approval,
                reply,
                rows,
                changed: None,
                repeated: false,
            });
        }
        CallOutcome::Failed { code, message, .. } => {
            Refusal::new(code, message).help("nothing was changed and nothing was charged")
        }
        CallOutcome::DoneWithoutResult { message } => Refusal::new(
            Code::ResultRejected,
            format!("the call was performed, and its result is withheld: {message}"),
        )
        .help("do not repeat it; the effect has happened"),
        // The answer itself is told of the call that is done; see `repeat.rs`.
        CallOutcome::SentAgain { by, .. } => {
            let message = format!(
                "call `{call}` was performed once, by call `{by}`, which was sent under its id, and the answer is not at hand"
            );
            Refusal::new(Code::ResultRejected, message).help(
                "do not repeat it; the effect has happened. What is meant anew needs a new idempotency key",
            )
        }
        CallOutcome::InDoubt { message } => {
            let mut refusal = in_doubt(call);
            refusal.message = format!("{}: {message}", refusal.message);
            refusal
        }
    };
    Answer::Refused(Refused::new(Some(call.clone()), approval, refusal))
}

pub(super) fn pending(record: &ApprovalRecord) -> Answer {
    let request = &record.request;
    Answer::Pending(Pending {
        call: request.call.id.clone(),
        approval: request.id.clone(),
        state: record.state,
        of: request.of.clone(),
        reach: request.reach.clone(),
        expires_ms: request.expires_ms,
        changed: None,
        repeated: false,
    })
    .of_changed(&request.call)
}

pub(super) fn refused<A>(call: &Call<A>, granted: Option<&ApprovalRecord>, refusal: Refusal) -> Answer {
    let approval = granted.map(|record| record.request.id.clone());
    Answer::Refused(Refused::new(Some(call.id.clone()), approval, refusal))
}

pub(super) fn refused_request(record: &ApprovalRecord, refusal: Refusal) -> Answer {
    let (call, approval) = (record.request.call.id.clone(), record.request.id.clone());
    Answer::Refused(Refused::new(Some(call), Some(approval), refusal))
}
