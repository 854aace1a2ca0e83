//! What is written of a call until it is decided.

use std::{borrow::Cow, collections::BTreeMap};

use countersign_rules::{
    BundleDigest, CallDigest, Code, Decision, DecisionId, Facts, IdempotencyKey, Narrowed, PolicyId, Reach,
    SystemName, ToolName, ToolVersion,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An agent proposed a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallProposed<'a> {
    /// The agent named this tool.
    pub tool: Cow<'a, ToolName>,
    /// The tool's definition had this version.
    pub version: Cow<'a, ToolVersion>,
    /// The system that the tool acts on.
    pub system: Cow<'a, SystemName>,
    /// The canonical arguments; null where the call was refused and they are large.
    pub arguments: Cow<'a, Value>,
    /// The call has this digest over tool, version and arguments.
    pub digest: CallDigest,
    /// The agent says that the call is for this. It is the agent's claim.
    pub reason: Option<Cow<'a, str>>,
    /// The key by which the agent can repeat the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Cow<'a, IdempotencyKey>>,
    /// A person made the call out of one that the agent had proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed: Option<Cow<'a, Narrowed>>,
    /// The length of the arguments' canonical form, in bytes, where they are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_bytes: Option<usize>,
    /// That form has this SHA-256, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<String>,
}

/// A proposal was refused before it was a call: its tool is unknown, or its arguments do not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRejected<'a> {
    /// The agent named the tool so, 128 characters at the most.
    pub tool: Cow<'a, str>,
    /// The refusal has this code.
    pub code: Code,
    /// This was refused, for this reason.
    pub message: Cow<'a, str>,
}

/// Refusals of one agent that were not recorded one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalsCounted<'a> {
    /// So many calls were refused, by the code of the refusal.
    pub codes: Cow<'a, BTreeMap<Code, u64>>,
    /// So many calls were refused in all.
    pub count: u64,
    /// The first of them was refused at this time, in Unix milliseconds UTC.
    pub since_ms: i64,
    /// The last of them was refused at this time, in Unix milliseconds UTC.
    pub until_ms: i64,
}

/// The reach of a call was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachMeasured<'a> {
    /// The call would touch this.
    pub reach: Cow<'a, Reach>,
    /// The commitment to the sample of rows that approvers are shown; the sample itself is kept beside the log.
    pub sample_commitment: Option<Cow<'a, str>>,
}

/// The rules decided a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided<'a> {
    /// The decision has this id.
    pub id: Cow<'a, DecisionId>,
    /// The policies under which it was made.
    pub bundle: Cow<'a, BundleDigest>,
    /// The rules looked at all of this.
    pub facts: Cow<'a, Facts>,
    /// The rules said this.
    pub decision: Cow<'a, Decision>,
}

/// Something else than the policies refused a call: a limit, a halt, a reach that cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused<'a> {
    /// The refusal has this code.
    pub code: Code,
    /// This was refused, for this reason.
    pub message: Cow<'a, str>,
    /// The policies that refused, where some did.
    pub policies: Cow<'a, [PolicyId]>,
    /// The word under which agents are told.
    pub status: Cow<'a, str>,
}
