//! How many sessions an agent begins: each is an entry of the log and a row, so that one that names a new one in each call must
//! not fill either.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use countersign_rules::{AgentId, Code, Refusal, Requester};

use super::{Gate, window::Window};
use crate::{
    entry::NewEntry,
    ledger::{Ledger, LedgerFault},
};

/// Each agent began so many sessions of late.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    windows: Mutex<BTreeMap<AgentId, Window>>,
}

impl Sessions {
    /// Takes the place of one more.
    ///
    /// # Errors
    /// In how many milliseconds there is room again.
    fn take(&self, agent: &AgentId, most: u32, now_ms: i64) -> Result<(), u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|_, window| !window.is_over(now_ms));
        windows.entry(agent.clone()).or_insert_with(|| Window::new(now_ms)).take(most, now_ms)
    }

    /// Gives a place back: the session was there already, or could not be opened.
    fn give_back(&self, agent: &AgentId) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = windows.get_mut(agent) {
            window.give_back();
        }
    }
}

impl<L: Ledger> Gate<L> {
    /// Opens a session, unless its agent has begun too many of late. One that was opened before is never refused.
    ///
    /// # Errors
    /// [`Code::RateLimited`], counted with the agent's other refusals and not recorded by itself; [`Code::NotLookedUp`]:
    /// without a record there is no session.
    pub async fn open_session(
        &self,
        requester: &Requester,
        front_door: &str,
        client: Option<&str>,
    ) -> Result<(), Refusal> {
        let (agent, now_ms) = (&requester.agent, self.clock.now_ms());
        let most = self.settings.sessions_max;
        if let Err(again_ms) = self.sessions.take(agent, most, now_ms) {
            if self.ledger.has_session(requester).await.map_err(|fault| not_opened(&fault))? {
                return Ok(());
            }
            self.refusals.count(agent, Code::RateLimited, 0, now_ms);
            let message = format!("agent `{agent}` has begun {most} sessions within a minute");
            let mut refusal = Refusal::new(Code::RateLimited, message).help(
                "nothing was done; go on in a session that was begun: name one for each conversation, not for each call",
            );
            refusal.retry_after_ms = Some(again_ms);
            return Err(refusal);
        }
        let entry = NewEntry::session_opened(now_ms, requester, front_door, client);
        // A crash before this is durable leaves no session, and the next call opens it; after it, a session without a
        // call.
        let opened = self.ledger.open_session(requester, entry).await;
        // One that may have been kept is counted.
        if matches!(opened, Ok(false) | Err(LedgerFault::Unavailable(_))) {
            self.sessions.give_back(agent);
        }
        opened.map(drop).map_err(|fault| not_opened(&fault))
    }
}

fn not_opened(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::NotLookedUp, format!("the session cannot be opened: {fault}"))
        .help("what cannot be recorded does not begin; try again when the ledger is back")
}
