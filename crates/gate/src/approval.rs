//! Requests to people as they are kept: what was asked, what was answered, and where it stands.

use countersign_rules::{
    ApprovalRequest, ApprovalState, CallDigest, Code, Effect, Grant, GrantEnd, GrantTerms, Signature,
    StoredCall,
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
