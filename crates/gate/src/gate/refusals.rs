//! How many refusals of an agent are recorded: an agent that is refused again and again must not fill the log.
//!
//! Refusals that end a request which people granted are not counted here; they are always recorded. What is counted and not
//! yet summed up is lost in a crash: refused calls, which had no effect.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use countersign_rules::{AgentId, Code};

use super::window::Window;

/// The refusals of each agent of late.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    agents: Mutex<BTreeMap<AgentId, Refused>>,
}

/// Those of one agent.
#[derive(Debug)]
struct Refused {
    /// This window counts those that are recorded.
    recorded: Window,
    beyond: Option<RefusalCount>,
}

impl Refused {
    const fn since(since_ms: i64) -> Self {
        Self { recorded: Window::new(since_ms), beyond: None }
    }

    fn add(&mut self, sum: RefusalCount) {
        match &mut self.beyond {
            Some(beyond) => beyond.add(&sum),
            None => self.beyond = Some(sum),
        }
    }
}

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
    fn new(agent: &AgentId, now_ms: i64) -> Self {
        Self { agent: agent.clone(), codes: BTreeMap::new(), since_ms: now_ms, until_ms: now_ms }
    }

    fn add(&mut self, other: &Self) {
        for (code, count) in &other.codes {
            let codes = self.codes.entry(*code).or_default();
            *codes = codes.saturating_add(*count);
        }
        self.since_ms = self.since_ms.min(other.since_ms);
        self.until_ms = self.until_ms.max(other.until_ms);
    }
}

impl Refusals {
    /// A call of an agent is refused. `None` when that is to be recorded; otherwise it was counted, and refusals are
    /// recorded again in so many milliseconds.
    pub(super) fn count(&self, agent: &AgentId, code: Code, most: u32, now_ms: i64) -> Option<u64> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = agents.entry(agent.clone()).or_insert_with(|| Refused::since(now_ms));
        let again_ms = refused.recorded.take(most, now_ms).err()?;
        refused.add(RefusalCount { codes: BTreeMap::from([(code, 1)]), ..RefusalCount::new(agent, now_ms) });
        Some(again_ms)
    }

    /// Takes what was counted in windows that are over, or in all.
    pub(super) fn sums(&self, now_ms: i64, of_all: bool) -> Vec<RefusalCount> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = agents.extract_if(.., |_, refused| of_all || refused.recorded.is_over(now_ms));
        gone.filter_map(|(_agent, refused)| refused.beyond).collect()
    }

    /// Takes back sums that could not be recorded, and counts on from them.
    pub(super) fn again(&self, sums: Vec<RefusalCount>) {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        for sum in sums {
            agents.entry(sum.agent.clone()).or_insert_with(|| Refused::since(sum.since_ms)).add(sum);
        }
    }
}
