//! Requests to people as they are kept: what was asked, what was answered, and where it stands.

use countersign_rules::{
    ApprovalId, ApprovalRequest, ApprovalState, CallDigest, Code, DecisionId, Effect, Grant, GrantEnd,
    GrantTerms, Reach, Signature, StoredCall,
    approval::{Alike, AnswerRefusal, EarlierAnswer},
};
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;

/// A request is kept with everything that happened to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    /// People were asked this.
    pub request: ApprovalRequest,
    /// The call has this effect.
    pub effect: Effect,
    /// It stands so now.
    pub state: ApprovalState,
    /// People have answered this so far.
    pub signatures: Vec<Signature>,
    /// Approvers are shown this evidence.
    pub evidence: Option<Evidence>,
    /// It ended for this reason, in words for the agent: the refusal's comment, what superseded it.
    pub why: Option<String>,
    /// The code of the refusal that ended it after it was granted: what the agent is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// People granted calls like it beside their approval, and so much of that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// A person changed its call: people were asked about what came of that by this request instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed_to: Option<ApprovalId>,
    /// This is true if the agent has fetched the final answer.
    pub delivered: bool,
}

impl ApprovalRecord {
    /// The last answer as those see it who are asked about another call; `None` where nobody has answered.
    #[must_use]
    pub fn answered(&self, alike: Option<&Alike>) -> Option<EarlierAnswer> {
        let same = self.request.alike.zip(alike).is_some_and(|(own, other)| own.normal == other.normal);
        Some(EarlierAnswer {
            approval: self.request.id.clone(),
            same,
            state: self.state,
            // A refusal's reason is the comment of the answer.
            why: self.why.clone().filter(|_| self.state != ApprovalState::Refused),
            answer: self.signatures.last()?.clone(),
        })
    }

    /// Ends it in favour of a request about what a person made of its call. Returns false if it does not wait for people any
    /// more, and then nothing changes.
    pub fn make_way(&mut self, to: &MakesWay, by: &ApprovalId) -> bool {
        if self.state != ApprovalState::Waiting {
            return false;
        }
        self.state = ApprovalState::Superseded;
        self.why = Some(to.why.clone());
        self.narrowed_to = Some(by.clone());
        true
    }

    /// Takes what was found by running its call and rolling that back, in place of what people were shown before.
    ///
    /// # Errors
    /// Returns [`AnswerRefusal`] if it does not wait for people any more, or somebody has approved what was shown before, and
    /// then nothing changes.
    pub fn look_closer(&mut self, seen: Closer) -> Result<(), AnswerRefusal> {
        if self.state != ApprovalState::Waiting {
            return Err(AnswerRefusal::NotOpen(self.state));
        }
        if let Some(signature) = self.signatures.first() {
            return Err(AnswerRefusal::Approved(signature.person.clone()));
        }
        self.request.reach = Some(seen.reach);
        self.request.decision = seen.decision;
        self.evidence = seen.evidence.or_else(|| self.evidence.take());
        Ok(())
    }

    /// Adds a person's answer, by [`ApprovalRequest::answer`]. Returns what people have granted together with this one, which is
    /// the last that was needed.
    ///
    /// # Errors
    /// Returns [`AnswerRefusal`], and then nothing changes.
    pub fn sign(&mut self, signature: Signature) -> Result<Option<GrantTerms>, AnswerRefusal> {
        self.state = self.request.answer(self.state, &self.signatures, &signature)?;
        if self.state == ApprovalState::Refused {
            self.why.clone_from(&signature.comment);
        }
        self.signatures.push(signature);
        let given =
            if self.state == ApprovalState::Approved { self.request.granted(&self.signatures) } else { None };
        self.grant = given.map(Grant::new);
        Ok(given)
    }

    /// Takes one more call, `call` of this `shape`, from the grant that was given with it, at `now_ms` (Unix milliseconds UTC).
    /// Returns false if there is none that covers it, and then nothing changes.
    pub fn take_granted(&mut self, call: &StoredCall, shape: CallDigest, now_ms: i64) -> bool {
        if !self.covers(call, shape, now_ms) {
            return false;
        }
        let spent = self.grant.as_ref().and_then(|grant| grant.spend(now_ms));
        spent.map(|grant| self.grant = Some(grant)).is_some()
    }

    /// Ends the grant that was given with it. Returns false if there is none that has not ended, and then nothing changes.
    pub fn end_grant(&mut self, end: GrantEnd) -> bool {
        match self.grant.as_mut().filter(|grant| grant.ended.is_none()) {
            Some(grant) => {
                grant.ended = Some(end);
                true
            }
            None => false,
        }
    }

    /// Returns true if the grant that was given with it covers one more call, `call` of this `shape`, at `now_ms` (Unix
    /// milliseconds UTC). Whether its reach is within the grant is left to the decision.
    #[must_use]
    pub fn covers(&self, call: &StoredCall, shape: CallDigest, now_ms: i64) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.holds(now_ms)) && self.request.grants(call, shape)
    }
}

/// A request makes way for another one: people are asked about what a person made of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakesWay {
    /// This request ends.
    pub approval: ApprovalId,
    /// It ends for this reason.
    pub why: String,
}

/// The call of a request was run and rolled back because a person wanted to see more of it before answering.
#[derive(Debug, Clone, PartialEq)]
pub struct Closer {
    /// It reaches so far.
    pub reach: Reach,
    /// It was decided anew by this decision, which looked at that.
    pub decision: DecisionId,
    /// Approvers are shown this evidence. Where there is none they see what they saw before.
    pub evidence: Option<Evidence>,
}
