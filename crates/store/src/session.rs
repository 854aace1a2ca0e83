//! Sessions, and what they and their agents did so far.

use std::sync::Arc;

use countersign_gate::ledger::{LedgerFault, session_key};
use countersign_rules::{Counters, Requester};

use crate::{
    queue::Operation,
    record::session::{CounterKey, CounterRow, Session, history},
    records::{Changes, Key, Needs, Records},
    tail::Encoded,
};

/// Opens a session, once. Returns true if it is new.
pub(crate) struct OpenSession {
    pub(crate) requester: Requester,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for OpenSession {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        let key = session_key(&self.requester.agent, &self.requester.session);
        needs.name(records, &Key::Session(key));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let key = session_key(&self.requester.agent, &self.requester.session);
        if records.sessions.find(&key)?.is_some() {
            return Ok((false, Changes::default()));
        }
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.sessions.put(key, Session);
        Ok((true, changes))
    }
}

/// Writes the head of the log, with one more change and nothing else: what could not be written now could not
/// be recorded either.
pub(crate) struct Touch;

impl Operation for Touch {
    type Output = ();

    fn needs(&self, _records: &Records, _needs: &mut Needs) {}

    fn apply(&self, _records: &Records) -> Result<((), Changes), LedgerFault> {
        Ok(((), Changes { touch: true, ..Changes::default() }))
    }
}

/// Appends entries that change nothing else.
pub(crate) struct Record {
    pub(crate) entries: Vec<Arc<Encoded>>,
}

impl Operation for Record {
    type Output = ();

    fn needs(&self, _records: &Records, _needs: &mut Needs) {}

    fn apply(&self, _records: &Records) -> Result<((), Changes), LedgerFault> {
        Ok(((), Changes::entries(self.entries.clone())))
    }
}

/// Returns the counters that a call of this requester at this time (Unix milliseconds UTC) belongs to.
pub(crate) fn keys(requester: &Requester, at_ms: i64) -> [Key; 2] {
    [Key::Counter(CounterKey::session(requester)), Key::Counter(CounterKey::agent(requester, at_ms))]
}

/// Changes both counters of a call, and moves the version of each that has changed.
pub(crate) fn count(
    records: &Records,
    requester: &Requester,
    at_ms: i64,
    change: impl Fn(&mut Counters),
    changes: &mut Changes,
) -> Result<(), LedgerFault> {
    for key in [CounterKey::session(requester), CounterKey::agent(requester, at_ms)] {
        let before = records.counters.find(&key)?.cloned().unwrap_or_default();
        let mut after = before.counters.clone();
        change(&mut after);
        if after != before.counters {
            changes
                .counters
                .put(key, CounterRow { counters: after, version: records.next_order(), ..before });
        }
    }
    Ok(())
}

/// Returns [`history`] as a call of this requester at this time (Unix milliseconds UTC) finds it.
pub(crate) fn history_at(records: &Records, requester: &Requester, at_ms: i64) -> Result<u64, LedgerFault> {
    let absent = CounterRow::default();
    let session = records.counters.find(&CounterKey::session(requester))?;
    let agent_today = records.counters.find(&CounterKey::agent(requester, at_ms))?;
    Ok(history(session.unwrap_or(&absent), agent_today.unwrap_or(&absent)))
}
