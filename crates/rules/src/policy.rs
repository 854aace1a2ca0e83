//! Policies: placeholder that denies everything, until the engine lands.

use alloc::vec::Vec;

use crate::{
    Call, Decision, Deny, DenyReason, Facts,
    id::{AgentId, BundleDigest, ToolName},
};

/// The policies in force.
#[derive(Debug)]
pub struct Policies {
    bundle: BundleDigest,
}

impl Policies {
    /// Their digest.
    #[must_use]
    pub const fn bundle(&self) -> &BundleDigest {
        &self.bundle
    }
    /// Whether a rule needs the reach of a tool's calls.
    #[must_use]
    pub const fn needs_reach(&self, _tool: &ToolName) -> bool {
        true
    }
    /// Whether a rule looks at what was done so far.
    #[must_use]
    pub const fn uses_history(&self, _tool: &ToolName) -> bool {
        true
    }
    /// A denial that is sure before measuring.
    #[must_use]
    pub const fn forbidden_early<A>(&self, _call: &Call<A>, _facts: &Facts) -> Option<Deny> {
        None
    }
    /// Whether the agent may ever call the tool.
    #[must_use]
    pub const fn may_ever(&self, _agent: &AgentId, _tool: &ToolName) -> bool {
        false
    }
}

/// Decides.
#[must_use]
pub const fn decide<A>(_call: &Call<A>, _facts: &Facts, _policies: &Policies) -> Decision {
    Decision::Deny(Deny { policies: Vec::new(), reason: DenyReason::NothingPermits })
}
