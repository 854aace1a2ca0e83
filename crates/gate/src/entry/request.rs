//! What is written of a request for approval.

use std::{borrow::Cow, collections::BTreeSet};

use countersign_rules::{
    ApprovalState, BundleDigest, CallDigest, Code, DecisionId, GrantTerms, GroupName, PasskeyId, PersonId,
    Reach, SliceDigest, decision::AskOf,
};
use serde::{Deserialize, Serialize};

/// People are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked<'a> {
    /// The decision that asks.
    pub decision: Cow<'a, DecisionId>,
    /// The policies under which it was made.
    pub bundle: Cow<'a, BundleDigest>,
    /// This digest covers what of the policies and tools can decide about the call; it is absent in logs of older
    /// releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Cow<'a, SliceDigest>>,
    /// The digest that an approval is bound to.
    pub digest: CallDigest,
    /// Approvers are told that the call reaches this far.
    pub reach: Option<Cow<'a, Reach>>,
    /// These groups must approve, every one of them.
    pub of: Cow<'a, [AskOf]>,
    /// The request expires at this time, in Unix milliseconds UTC.
    pub expires_ms: i64,
}

/// A person answered a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered<'a> {
    /// This person answered.
    pub person: Cow<'a, PersonId>,
    /// The groups that the person was in.
    pub groups: Cow<'a, BTreeSet<GroupName>>,
    /// This is true if the person approved, and false if the person refused.
    pub approved: bool,
    /// The person said this.
    pub comment: Option<Cow<'a, str>>,
    /// The answer came this way: `cli`, `rest`, …
    pub channel: Cow<'a, str>,
    /// The digest that the answer is bound to.
    pub digest: CallDigest,
    /// The person grants this beside the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantTerms>,
    /// The person confirmed this very answer with this passkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<Cow<'a, PasskeyId>>,
}

/// A person had the call run and rolled back, to see all that it touches before answering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedCloser<'a> {
    /// This person wanted to see it.
    pub person: Cow<'a, PersonId>,
    /// The decision that looked at what was found.
    pub decision: Cow<'a, DecisionId>,
    /// Approvers are shown from now on that the call reaches this far.
    pub reach: Cow<'a, Reach>,
}

/// People granted calls like the one they approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantGiven<'a> {
    /// These people granted them.
    pub people: BTreeSet<Cow<'a, PersonId>>,
    /// So many calls may run, until this time.
    pub terms: GrantTerms,
    /// The calls are of this shape.
    pub shape: Option<CallDigest>,
    /// Each of them may reach no further than this.
    pub reach: Option<Cow<'a, Reach>>,
}

/// A person ended a grant before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantEnded<'a> {
    /// This person ended it.
    pub by: Cow<'a, PersonId>,
    /// It was ended for this reason.
    pub why: Cow<'a, str>,
}

/// A request ended without being performed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEnded<'a> {
    /// The request ended in this state.
    pub state: ApprovalState,
    /// The code of the refusal that ended it, if one did.
    pub code: Option<Code>,
    /// The request ended for this reason.
    pub why: Cow<'a, str>,
}
