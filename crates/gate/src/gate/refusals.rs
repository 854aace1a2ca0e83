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
use crate::refusals::RefusalCount;

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
