//! A person who is asked about a call does more than answer: changes it, or has it run and rolled back to see what it touches.
//!
//! What a person changes is a call of its own. It is the agent's, as the one before it was, and decided anew like any other;
//! those whom the rules ask approve it, or else the groups that were asked before. Its author is one of them only where the
//! change took away and nothing else ([`Narrowed`]). Nothing is performed here.

use std::collections::BTreeSet;

use countersign_rules::{
    AnswerVerb, ApprovalId, ApprovalState, Call, Code, GroupName, Narrowed, PersonId, Refusal,
    approval::AnswerRefusal,
};
use serde_json::Value;

use super::{
    Gate,
    case::{Case, RoundStart},
    request::CHANGED,
};
use crate::{
    answer::Answer,
    entry::NewEntry,
    ledger::{ApprovalRecord, Ledger, NotAnswered},
    tool::Tool,
};

/// The person is asked by a request, and so may do something about its call. Identity and groups come from authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedPerson {
    /// This person.
    pub id: PersonId,
    /// The person is in these groups now.
    pub groups: BTreeSet<GroupName>,
}

/// A person changes a call so.
#[derive(Debug, Clone, PartialEq)]
pub struct Narrowing {
    /// The call is to have these arguments, all of them.
    pub arguments: Value,
    /// It is changed for this reason, which reaches the agent.
    pub why: Option<String>,
}

impl<L: Ledger> Gate<L> {
    /// Asks people about what a person makes of the call of a request, in place of that request. Returns the new one.
    ///
    /// # Errors
    /// [`NotAnswered`] if the person may not answer the request, or the changed call is refused. Then the request is as it was.
    pub async fn narrow<T: Tool>(
        &self,
        tool: &T,
        approval: &ApprovalId,
        person: &AskedPerson,
        narrowing: Narrowing,
    ) -> Result<ApprovalRecord, NotAnswered> {
        let record = self.asking(approval, person, AnswerVerb::Narrow).await?;
        let stored = &record.request.call;
        self.is_of(tool, &record).await?;
        let (call, seen) = self.parse(tool, &stored.requester, narrowing.arguments)?;
        if call.digest == stored.digest {
            let same = Refusal::new(Code::Malformed, "these are the arguments that the call has already");
            return Err(same.help("change one of them, or approve the request as it is").into());
        }
        let why = narrowing.why.map(|why| why.chars().take(2_000).collect());
        let (from, by) = (record.request.id.clone(), person.id.clone());
        let narrowed = Narrowed { from, by, why, free: false, less: false };
        let (reason, trace) = (stored.reason.clone(), stored.trace.clone());
        let call = Call { reason, trace, narrowed: Some(narrowed), ..call };
        let start = RoundStart::changed();
        let case = Case::open(self, tool, call, &seen, &start).await.map_err(told)?;
        // Boxed: it is some kilobytes long, and waits in the tasks of front doors.
        match Box::pin(case.ask_instead(&record)).await {
            Answer::Pending(pending) => {
                let asked = self.ledger.approval(&pending.approval).await?.ok_or(NotAnswered::NotFound)?;
                // Where an equal call of the agent waits already, that one was found.
                let new = asked.request.call.narrowed.as_ref().is_some_and(|new| new.from == *approval);
                if new { Ok(asked) } else { Err(told(Answer::Pending(pending))) }
            }
            answer @ (Answer::Done(_) | Answer::Refused(_)) => Err(told(answer)),
        }
    }

    /// Has the call of a request run and rolled back, and shows people what that found in place of what they were shown before.
    /// Returns the request as it is then: one that the rules deny now, or ask others about, has ended.
    ///
    /// # Errors
    /// [`NotAnswered`] if the person may not answer the request, somebody has approved what it shows already, or the call cannot
    /// be rehearsed. Then the request is as it was.
    pub async fn look_closer<T: Tool>(
        &self,
        tool: &T,
        approval: &ApprovalId,
        person: &AskedPerson,
    ) -> Result<ApprovalRecord, NotAnswered> {
        let record = self.asking(approval, person, AnswerVerb::LookCloser).await?;
        if let Some(signature) = record.signatures.first() {
            return Err(AnswerRefusal::Approved(signature.person.clone()).into());
        }
        self.is_of(tool, &record).await?;
        let (call, seen) = self.parse_stored(tool, &record.request.call)?;
        if record.request.reach.as_ref().is_some_and(|reach| reach.rehearsed) {
            let done = Refusal::new(Code::AnswerRefused, "the call was run and rolled back already");
            return Err(done.help("what the request shows was found out so").into());
        }
        let start = RoundStart::looked_at();
        let case = Case::open(self, tool, call, &seen, &start).await.map_err(told)?;
        let (seen, mut entries, why) = Box::pin(case.look_closer(&record.request)).await?;
        entries.push(NewEntry::looked_closer(self.clock.now_ms(), &record.request, &person.id, &seen));
        // A crash before either is durable leaves what people were shown; after it they see what was found.
        match why {
            None => self.ledger.look_closer(approval, seen, entries).await,
            Some(why) => {
                self.end(&record, ApprovalState::Superseded, None, why, entries).await?;
                self.ledger.approval(approval).await?.ok_or(NotAnswered::NotFound)
            }
        }
    }

    /// Finds a request that asks this person now, whom no policy forbids to do this about it.
    async fn asking(
        &self,
        approval: &ApprovalId,
        person: &AskedPerson,
        verb: AnswerVerb,
    ) -> Result<ApprovalRecord, NotAnswered> {
        let record = self.ledger.approval(approval).await?.ok_or(NotAnswered::NotFound)?;
        self.still_asks(&record).await?;
        let (who, now_ms) = ((&person.id, &person.groups), self.clock.now_ms());
        record.request.may_answer(record.state, who, now_ms)?;
        self.policies().may_answer((&record.request, record.effect), who, verb, now_ms)?;
        Ok(record)
    }

    /// Checks that a tool is the one that the request is about.
    async fn is_of<T: Tool>(&self, tool: &T, record: &ApprovalRecord) -> Result<(), NotAnswered> {
        let (spec, call) = (tool.spec(), &record.request.call);
        if spec.name == call.tool && spec.version == call.version {
            return Ok(());
        }
        self.supersede(record, CHANGED).await?;
        Err(AnswerRefusal::NotOpen(ApprovalState::Superseded).into())
    }
}

/// Says why people are not asked about what a person made of a call.
fn told(answer: Answer) -> NotAnswered {
    let refusal = match answer {
        Answer::Refused(refused) => refused.refusal,
        Answer::Pending(pending) => {
            let message = format!("the agent asks for this very call in request `{}`", pending.approval);
            Refusal::new(Code::AnswerRefused, message).help("answer that one, and refuse this one")
        }
        Answer::Done(done) => {
            let message = format!("the agent has made this very call already (`{}`)", done.call);
            Refusal::new(Code::AnswerRefused, message).help("refuse this one")
        }
    };
    NotAnswered::Call(Box::new(refusal))
}

impl From<Refusal> for NotAnswered {
    fn from(refusal: Refusal) -> Self {
        Self::Call(Box::new(refusal))
    }
}
