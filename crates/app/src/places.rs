//! Each caller has so many places: what one of them takes, nobody else lacks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// These places are taken, each by somebody. A clone is of the same places.
#[derive(Debug, Clone)]
pub struct Places<K> {
    taken: Arc<Mutex<BTreeMap<K, usize>>>,
    each_max: usize,
}

/// One place is taken, and is free again when this is dropped.
#[derive(Debug)]
pub struct Place<K: Ord> {
    places: Places<K>,
    key: K,
}

impl<K: Ord + Clone> Places<K> {
    /// Makes places, so many for each.
    pub fn new(each_max: usize) -> Self {
        Self { taken: Arc::default(), each_max }
    }

    /// Returns how many each has.
    pub const fn each_max(&self) -> usize {
        self.each_max
    }

    /// Takes a place for this one; `None` if it has taken all of its own.
    pub fn take(&self, key: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(key.clone()).or_default();
        if *count >= self.each_max {
            return None;
        }
        *count = count.saturating_add(1);
        drop(taken);
        Some(Place { places: self.clone(), key })
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_rules::AgentId;

    use super::*;
    use crate::app::WAITS_MAX;

    #[test]
    fn an_agent_waits_for_so_many_answers_and_others_have_places_of_their_own() {
        let (waits, agent) = (Places::new(WAITS_MAX), |name| AgentId::parse(name).unwrap());
        let mut places: Vec<_> = (0..WAITS_MAX).map(|_| waits.take(agent("bot")).unwrap()).collect();
        assert!(waits.take(agent("bot")).is_none());
        assert!(waits.take(agent("other")).is_some());
        places.pop();
        let last = waits.take(agent("bot"));
        assert!(last.is_some() && waits.take(agent("bot")).is_none());
        drop((places, last));
        assert!(waits.taken.lock().unwrap().is_empty(), "nothing is kept of agents that do not wait");
    }
}
