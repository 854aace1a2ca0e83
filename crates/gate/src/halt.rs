//! Halts: who is stopped, by whom and why.

use std::collections::BTreeMap;

use countersign_rules::{AgentId, charge::Charge};
use serde::{Deserialize, Serialize};

/// A scope says who is halted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltScope {
    /// One agent is halted.
    Agent(AgentId),
    /// Every agent is halted.
    All,
}

impl std::fmt::Display for HaltScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "agent `{agent}`"),
            Self::All => f.write_str("every agent"),
        }
    }
}

/// A halt is in force until it is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltRecord {
    /// These are halted: one agent, or all.
    pub scope: HaltScope,
    /// It was ordered for this reason.
    pub why: String,
    /// This person halted them, or the budget that set it off.
    pub by: String,
    /// They are halted since this time, in Unix milliseconds UTC.
    pub since_ms: i64,
}

impl HaltRecord {
    /// The halts that a charge of this agent's sets off, one for each scope.
    #[must_use]
    pub fn set_off(charge: &Charge<'_>, agent: &AgentId, now_ms: i64) -> Vec<Self> {
        let mut halts: BTreeMap<HaltScope, Self> = BTreeMap::new();
        for (hold, after) in &charge.crossed {
            let scope = match hold.account.subject.as_str() {
                "all" => HaltScope::All,
                _one => HaltScope::Agent(agent.clone()),
            };
            halts.entry(scope.clone()).or_insert_with(|| Self {
                scope,
                why: format!("{} of {} {} are used", after.used(), hold.limit, hold.unit),
                by: format!("budget `{}`", hold.account.budget),
                since_ms: now_ms,
            });
        }
        halts.into_values().collect()
    }
}

impl std::fmt::Display for HaltRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is halted by {}: {}", self.scope, self.by, self.why)
    }
}
