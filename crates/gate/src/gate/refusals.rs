//! How many refusals of an agent are recorded: an agent that is refused again and again must not fill the log.
//!
//! Refusals that end a request which people granted are not counted here; they are always recorded. What is counted and not
//! yet summed up is lost in a crash: refused calls, which had no effect.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use countersign_rules::{AgentId, Code};

/// How long refusals are counted before the count begins anew.
const WINDOW_MS: i64 = 60_000;

/// The refusals of each agent of late.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    windows: Mutex<BTreeMap<AgentId, Window>>,
}

#[derive(Debug)]
struct Window {
    since_ms: i64,
    recorded: u32,
    beyond: Option<Sum>,
}

impl Window {
    const fn new(since_ms: i64) -> Self {
        Self { since_ms, recorded: 0, beyond: None }
    }

    fn add(&mut self, sum: Sum) {
        match &mut self.beyond {
            Some(beyond) => beyond.add(&sum),
            None => self.beyond = Some(sum),
        }
    }
}

/// Refusals of an agent that were counted and not recorded one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Whose calls.
    pub agent: AgentId,
    /// How many, by the code of the refusal.
    pub codes: BTreeMap<Code, u64>,
    /// When the first one was refused, in Unix milliseconds UTC.
    pub since_ms: i64,
    /// When the last one was refused.
    pub until_ms: i64,
}

impl Sum {
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
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(agent.clone()).or_insert_with(|| Window::new(now_ms));
        // A clock that was set back begins a window as well.
        if !(0..WINDOW_MS).contains(&now_ms.saturating_sub(window.since_ms)) {
            window.since_ms = now_ms;
            window.recorded = 0;
        }
        if window.recorded < most {
            window.recorded = window.recorded.saturating_add(1);
            return None;
        }
        let one = Sum { codes: BTreeMap::from([(code, 1)]), ..Sum::new(agent, now_ms) };
        window.add(one);
        u64::try_from(window.since_ms.saturating_add(WINDOW_MS).saturating_sub(now_ms)).ok()
    }

    /// Takes what was counted in windows that are over, or in all.
    pub(super) fn sums(&self, now_ms: i64, of_all: bool) -> Vec<Sum> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let over =
            |window: &Window| of_all || !(0..WINDOW_MS).contains(&now_ms.saturating_sub(window.since_ms));
        let gone = windows.extract_if(.., |_, window| over(window));
        gone.filter_map(|(_agent, window)| window.beyond).collect()
    }

    /// What could not be recorded is counted on.
    pub(super) fn again(&self, sums: Vec<Sum>) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        for sum in sums {
            let window = windows.entry(sum.agent.clone()).or_insert_with(|| Window::new(sum.since_ms));
            window.add(sum);
        }
    }
}
