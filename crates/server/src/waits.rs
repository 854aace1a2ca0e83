//! How many answers each agent waits for at a time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use countersign_rules::AgentId;

/// How many answers one agent may wait for: each wait looks at the ledger whenever that changes.
const WAITS_MAX: usize = 64;

/// The places in which agents wait.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<BTreeMap<AgentId, usize>>);

/// One place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waits: &'a Waits,
    agent: AgentId,
}

impl Waits {
    /// A place for an agent, unless it has all of its own.
    pub(crate) fn take(&self, agent: &AgentId) -> Option<Place<'_>> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = taken.entry(agent.clone()).or_default();
        if *taken >= WAITS_MAX {
            return None;
        }
        *taken = taken.saturating_add(1);
        Some(Place { waits: self, agent: agent.clone() })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.waits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.agent) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                all.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_waits_for_so_many_answers_and_others_have_places_of_their_own() {
        let (waits, agent) = (Waits::default(), |name| AgentId::parse(name).unwrap());
        let mut places: Vec<_> = (0..WAITS_MAX).map(|_| waits.take(&agent("bot")).unwrap()).collect();
        assert!(waits.take(&agent("bot")).is_none());
        assert!(waits.take(&agent("other")).is_some());
        places.pop();
        let last = waits.take(&agent("bot"));
        assert!(last.is_some() && waits.take(&agent("bot")).is_none());
        drop((places, last));
        assert!(waits.0.lock().unwrap().is_empty(), "nothing is kept of agents that do not wait");
    }
}
