//! Requests to people as they are kept: what was asked, what was answered, and where it stands.

use countersign_rules::{
    ApprovalRequest, ApprovalState, CallDigest, Code, Effect, Grant, Signature, StoredCall,
    approval::{Alike, EarlierAnswer},
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

    /// Returns the grant that was given with it, if that covers one more call, `call` of this `shape`, at `now_ms` (Unix
    /// milliseconds UTC). Whether its reach is within the grant is left to the decision.
    #[must_use]
    pub fn covers(&self, call: &StoredCall, shape: CallDigest, now_ms: i64) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.holds(now_ms)) && self.request.grants(call, shape)
    }
}
