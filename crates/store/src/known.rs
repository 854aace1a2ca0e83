//! What every decision looks at, kept in memory by the one process that writes: halts, counters, good keys.
//!
//! Only for a ledger that no other process writes to. The writer tells what a batch has left after its commit
//! and before it answers anybody, so whoever was told of a change finds it here: a halt stops the next
//! decision, and a key that is revoked opens nothing any more. After a failed commit, or when somebody wrote
//! behind the writer's back, everything is forgotten and read again.

use std::collections::BTreeMap;

use countersign_gate::ledger::{HaltRecord, HaltScope, Standing};
use countersign_rules::{AgentId, Counters, Requester};

use crate::{halt, key::KeyRow, session::CounterKey};

/// The most records that are kept; beyond, all are forgotten.
const KEPT_MAX: usize = 20_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Moves whenever something is forgotten: what was read before may be what is forgotten.
    version: u64,
    /// Told to be in force, or not.
    halts: BTreeMap<HaltScope, Option<HaltRecord>>,
    counters: BTreeMap<CounterKey, Counters>,
    histories: BTreeMap<AgentId, u64>,
    keys: BTreeMap<String, KeyRow>,
}

impl Known {
    /// Everything that decides a call but its request; `None` when a part of it is not known.
    pub(crate) fn standing(&self, requester: &Requester, now_ms: i64) -> Option<Standing> {
        let mut halted = None;
        for scope in halt::scopes(&requester.agent) {
            halted = halted.or(self.halts.get(&scope)?.as_ref());
        }
        Some(Standing {
            history: *self.histories.get(&requester.agent)?,
            halted: halted.cloned(),
            session: self.counters.get(&CounterKey::session(requester))?.clone(),
            agent_today: self.counters.get(&CounterKey::agent(requester, now_ms))?.clone(),
            request: None,
        })
    }

    pub(crate) fn halt(&mut self, scope: &HaltScope, halt: Option<&HaltRecord>) {
        self.halts.insert(scope.clone(), halt.cloned());
    }

    pub(crate) fn count(&mut self, key: &CounterKey, counters: Option<&Counters>) {
        self.counters.insert(key.clone(), counters.cloned().unwrap_or_default());
    }

    pub(crate) fn history(&mut self, agent: &AgentId, version: Option<u64>) {
        self.histories.insert(agent.clone(), version.unwrap_or_default());
    }

    /// To be given to [`Known::learn_key`] with what was read afterwards.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn key(&self, id: &str) -> Option<&KeyRow> {
        self.keys.get(id)
    }

    /// Keeps a key that was read since `version`, unless something was forgotten meanwhile: it may have been
    /// revoked between the reading and now.
    pub(crate) fn learn_key(&mut self, version: u64, id: &str, row: &KeyRow) {
        if self.version == version {
            self.keys.insert(id.to_owned(), row.clone());
        }
    }

    /// A key was issued or revoked.
    pub(crate) fn forget_key(&mut self, id: &str) {
        self.version = self.version.wrapping_add(1);
        self.keys.remove(id);
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        *self = Self { version: self.version.wrapping_add(1), ..Self::default() };
    }

    /// Forgets everything when it has grown too large.
    pub(crate) fn bound(&mut self) {
        let sizes = [self.halts.len(), self.counters.len(), self.histories.len(), self.keys.len()];
        if sizes.iter().sum::<usize>() > KEPT_MAX {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_rules::SessionId;

    use super::*;
    use crate::key::{KeyOwner, KeyRecord};

    fn key() -> KeyRow {
        let record = KeyRecord {
            id: "0123456789ab".into(),
            owner: KeyOwner::Agent(AgentId::parse("bot").unwrap()),
            scopes: Vec::new(),
            issued_ms: 0,
            expires_ms: None,
            revoked_ms: None,
        };
        KeyRow::new(record, countersign_audit::sha256(b"secret"))
    }

    #[test]
    fn a_key_that_was_read_before_it_was_revoked_is_not_kept() {
        let mut known = Known::default();
        let before = known.version();
        known.forget_key("0123456789ab");
        known.learn_key(before, "0123456789ab", &key());
        assert_eq!(known.key("0123456789ab"), None);
        known.learn_key(known.version(), "0123456789ab", &key());
        assert!(known.key("0123456789ab").is_some());
        known.forget();
        assert_eq!(known.key("0123456789ab"), None);
        assert_ne!(known.version(), before);
    }

    #[test]
    fn a_standing_is_known_only_as_a_whole() {
        let mut known = Known::default();
        let agent = AgentId::parse("bot").unwrap();
        let requester = Requester {
            agent: agent.clone(),
            teams: Vec::new(),
            session: SessionId::parse("s").unwrap(),
            on_behalf_of: None,
        };
        let halt = HaltRecord { scope: HaltScope::All, why: "w".into(), by: "lea".into(), since_ms: 1 };
        let counters = Counters { calls: 3, ..Counters::default() };
        let steps: [&dyn Fn(&mut Known); 5] = [
            &|known| known.halt(&HaltScope::Agent(agent.clone()), None),
            &|known| known.halt(&HaltScope::All, Some(&halt)),
            &|known| known.history(&agent, Some(7)),
            &|known| known.count(&CounterKey::session(&requester), Some(&counters)),
            &|known| known.count(&CounterKey::agent(&requester, 0), None),
        ];
        for step in steps {
            assert_eq!(known.standing(&requester, 0), None);
            step(&mut known);
        }
        let standing = known.standing(&requester, 0).unwrap();
        assert_eq!((standing.halted, standing.history), (Some(halt), 7));
        assert_eq!((standing.session.calls, standing.agent_today.calls), (3, 0));
        // Another day has other counters.
        assert_eq!(known.standing(&requester, 86_400_000), None);
    }
}
