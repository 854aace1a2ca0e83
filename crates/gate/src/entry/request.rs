//! What is written of a request for approval.

use std::{borrow::Cow, collections::BTreeSet};

use countersign_rules::{
    ApprovalState, BundleDigest, CallDigest, Code, DecisionId, GroupName, PersonId, Reach, SliceDigest,
    decision::AskOf,
};
use serde::{Deserialize, Serialize};

/// People are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked<'a> {
    /// The decision that asks.
    pub decision: Cow<'a, DecisionId>,
    /// The policies under which it was made.
    pub bundle: Cow<'a, BundleDigest>,
    /// What of them and of the tools can decide about the call; absent in logs of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Cow<'a, SliceDigest>>,
    /// The digest that an approval is bound to.
    pub digest: CallDigest,
    /// What approvers are told that the call reaches.
    pub reach: Option<Cow<'a, Reach>>,
    /// Who must approve. Every one must be met.
    pub of: Cow<'a, [AskOf]>,
    /// When the request expires, in Unix milliseconds UTC.
    pub expires_ms: i64,
}

/// A person answered a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered<'a> {
    /// Who.
    pub person: Cow<'a, PersonId>,
    /// The groups that the person was in.
    pub groups: Cow<'a, BTreeSet<GroupName>>,
    /// Whether the person approved.
    pub approved: bool,
    /// What the person said.
    pub comment: Option<Cow<'a, str>>,
    /// The way the answer came: `cli`, `rest`, …
    pub channel: Cow<'a, str>,
    /// The digest that the answer is bound to.
    pub digest: CallDigest,
}

/// A request ended without being performed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEnded<'a> {
    /// How.
    pub state: ApprovalState,
    /// The code of the refusal that ended it, if one did.
    pub code: Option<Code>,
    /// Why.
    pub why: Cow<'a, str>,
}
