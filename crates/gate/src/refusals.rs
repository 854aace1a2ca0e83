//! Refusals of an agent that are told of by their number alone.

use std::collections::BTreeMap;

use countersign_rules::{AgentId, Code};

/// Refusals of an agent that were counted and not recorded one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalCount {
    /// The calls are those of this agent.
    pub agent: AgentId,
    /// So many were refused, by the code of the refusal.
    pub codes: BTreeMap<Code, u64>,
    /// The first one was refused at this time, in Unix milliseconds UTC.
    pub since_ms: i64,
    /// The last one was refused at this time, in Unix milliseconds UTC.
    pub until_ms: i64,
}

impl RefusalCount {
    pub(crate) fn new(agent: &AgentId, now_ms: i64) -> Self {
        Self { agent: agent.clone(), codes: BTreeMap::new(), since_ms: now_ms, until_ms: now_ms }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (code, count) in &other.codes {
            let codes = self.codes.entry(*code).or_default();
            *codes = codes.saturating_add(*count);
        }
        self.since_ms = self.since_ms.min(other.since_ms);
        self.until_ms = self.until_ms.max(other.until_ms);
    }
}
