//! Everything that each decision looks at, kept in memory by the one process that writes: halts, counters, good
//! keys, and which calls people were asked about or were ever in doubt.
//!
//! Only for a ledger that no other process writes to. The writer tells what a batch has left after its commit
//! and before it answers anybody, so whoever was told of a change finds it here: a halt stops the next
//! decision, and a key that is revoked opens nothing any more. After a failed commit, or when somebody wrote
//! behind the writer's back, everything is forgotten and read again.

use std::collections::{BTreeMap, BTreeSet};

use countersign_gate::ledger::{HaltRecord, HaltScope, Standing};
use countersign_rules::{AgentId, CallDigest, Requester};

use crate::record::{
    call::doubt,
    halt::scopes,
    key::KeyRow,
    session::{CounterKey, CounterRow, history},
};

/// At most so many halts, counters and keys are kept; beyond, all of them are forgotten.
const KEPT_MAX: usize = 20_000;

/// At most so many digests of requests are kept, so many agents and so many calls that were in doubt; with more, they are
/// looked for in the database each time.
pub(crate) const DIGESTS_MAX: u32 = 20_000;

/// This is everything that is kept in memory, with a number that moves whenever something of it is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// This moves whenever something is forgotten: what was read before may be what is forgotten.
    version: u64,
    /// Each is known to be in force, or known not to be.
    halts: BTreeMap<HaltScope, Option<HaltRecord>>,
    counters: BTreeMap<CounterKey, CounterRow>,
    keys: BTreeMap<String, KeyRow>,
    /// This is `None` before they were read.
    asked: Option<Asked>,
}

/// This says which calls people were ever asked about, which agents they ever refused something, and which calls were ever
/// in doubt.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// These are the digests of all calls that people were ever asked about, and perhaps of some that are gone.
    /// They are not all there when there are more than [`DIGESTS_MAX`].
    pub(crate) digests: BTreeSet<CallDigest>,
    /// People ever refused these agents something. They are not all there when there are more than
    /// [`DIGESTS_MAX`].
    pub(crate) refused: BTreeSet<AgentId>,
    /// These are found by, as [`doubt`] has it, all calls that are or were in doubt, and perhaps some that are gone.
    /// They are not all there when there are more than [`DIGESTS_MAX`].
    pub(crate) doubted: BTreeSet<String>,
}

impl Cache {
    /// Returns everything that decides a call but its request and refusals; `None` when a part of it is not
    /// known.
    pub(crate) fn standing(&self, requester: &Requester, now_ms: i64) -> Option<Standing> {
        let mut halted = None;
        for scope in scopes(&requester.agent) {
            halted = halted.or(self.halts.get(&scope)?.as_ref());
        }
        let session = self.counters.get(&CounterKey::session(requester))?;
        let agent_today = self.counters.get(&CounterKey::agent(requester, now_ms))?;
        Some(Standing {
            history: history(session, agent_today),
            halted: halted.cloned(),
            session: session.counters.clone(),
            agent_today: agent_today.counters.clone(),
            request: None,
            refusals: false,
        })
    }

    pub(crate) fn halt(&mut self, scope: &HaltScope, halt: Option<&HaltRecord>) {
        self.halts.insert(scope.clone(), halt.cloned());
    }

    pub(crate) fn count(&mut self, key: &CounterKey, counters: Option<&CounterRow>) {
        self.counters.insert(key.clone(), counters.cloned().unwrap_or_default());
    }

    /// Tells whether people were ever asked about calls of this digest; `None` when that is not known.
    pub(crate) fn asked(&self, digest: CallDigest) -> Option<bool> {
        let asked = self.asked.as_ref()?;
        complete(asked.digests.len()).then(|| asked.digests.contains(&digest))
    }

    /// Tells whether people ever refused this agent something; `None` when that is not known.
    pub(crate) fn refused(&self, agent: &AgentId) -> Option<bool> {
        let asked = self.asked.as_ref()?;
        complete(asked.refused.len()).then(|| asked.refused.contains(agent))
    }

    /// Tells whether a call of this agent with this digest is or was ever in doubt; `None` when that is not known.
    pub(crate) fn doubted(&self, agent: &AgentId, digest: CallDigest) -> Option<bool> {
        let asked = self.asked.as_ref()?;
        let known = complete(asked.doubted.len());
        known.then(|| !asked.doubted.is_empty() && asked.doubted.contains(&doubt(agent, digest)))
    }

    /// Tells whether [`Cache::learn_asked`] is waited for.
    pub(crate) const fn wants_asked(&self) -> bool {
        self.asked.is_none()
    }

    /// Keeps what was read since `version`, unless people were asked of another call or refused one, or one came into
    /// doubt meanwhile.
    pub(crate) fn learn_asked(&mut self, version: u64, asked: Asked) {
        if self.version == version {
            self.asked = Some(asked);
        }
    }

    /// Takes note that people are asked about a call of this digest.
    pub(crate) fn ask(&mut self, digest: CallDigest) {
        match &mut self.asked {
            Some(asked) => drop(asked.digests.insert(digest)),
            None => self.version = self.version.wrapping_add(1),
        }
    }

    /// Takes note that people have refused an agent something.
    pub(crate) fn refuse(&mut self, agent: &AgentId) {
        match &mut self.asked {
            Some(asked) => drop(asked.refused.insert(agent.clone())),
            None => self.version = self.version.wrapping_add(1),
        }
    }

    /// Takes note of what a call in doubt is found by.
    pub(crate) fn doubt(&mut self, found_by: String) {
        match &mut self.asked {
            Some(asked) => drop(asked.doubted.insert(found_by)),
            None => self.version = self.version.wrapping_add(1),
        }
    }

    /// Returns the number that is to be given to [`Cache::learn_key`] or [`Cache::learn_asked`] with what is
    /// read afterwards.
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

    /// Forgets a key that was issued or revoked.
    pub(crate) fn forget_key(&mut self, id: &str) {
        self.version = self.version.wrapping_add(1);
        self.keys.remove(id);
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        *self = Self { version: self.version.wrapping_add(1), ..Self::default() };
    }

    /// Forgets everything but what people were asked about and refused, because this process deleted records.
    /// If some of what stays is about a record that is gone, that does no harm.
    pub(crate) fn forget_deleted(&mut self) {
        let asked = self.asked.take();
        self.forget();
        self.asked = asked;
    }

    /// Forgets everything but what people were asked about and refused, when there are more than [`KEPT_MAX`]
    /// other records.
    pub(crate) fn bound(&mut self) {
        let sizes = [self.halts.len(), self.counters.len(), self.keys.len()];
        if sizes.iter().sum::<usize>() > KEPT_MAX {
            self.forget_deleted();
        }
    }
}

fn complete(kept: usize) -> bool {
    u32::try_from(kept).is_ok_and(|kept| kept <= DIGESTS_MAX)
}

#[cfg(test)]
mod tests {
    use countersign_rules::{Counters, SessionId};

    use super::*;
    use crate::record::key::{KeyOwner, KeyRecord};

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
        let mut cache = Cache::default();
        let before = cache.version();
        cache.forget_key("0123456789ab");
        cache.learn_key(before, "0123456789ab", &key());
        assert_eq!(cache.key("0123456789ab"), None);
        cache.learn_key(cache.version(), "0123456789ab", &key());
        assert!(cache.key("0123456789ab").is_some());
        cache.forget();
        assert_eq!(cache.key("0123456789ab"), None);
        assert_ne!(cache.version(), before);
    }

    #[test]
    fn a_request_that_was_opened_while_the_others_were_read_is_not_missed() {
        let digest = |byte| CallDigest::from_bytes([byte; 32]);
        let mut cache = Cache::default();
        assert_eq!(cache.asked(digest(1)), None);
        let before = cache.version();
        cache.ask(digest(1));
        cache.learn_asked(before, Asked::default());
        assert_eq!(cache.asked(digest(1)), None);
        let digests = BTreeSet::from([digest(1)]);
        cache.learn_asked(cache.version(), Asked { digests, ..Asked::default() });
        cache.ask(digest(2));
        assert_eq!([1, 2, 3].map(|byte| cache.asked(digest(byte))), [Some(true), Some(true), Some(false)]);
        // What is deleted may still be named; what was never read is not known.
        cache.forget_deleted();
        assert_eq!(cache.asked(digest(2)), Some(true));
        cache.forget();
        assert_eq!(cache.asked(digest(3)), None);
        // Beyond the limit nothing is said, because not all were read.
        let many = (0..=DIGESTS_MAX).map(|n| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            CallDigest::from_bytes(bytes)
        });
        cache.learn_asked(cache.version(), Asked { digests: many.collect(), ..Asked::default() });
        assert_eq!(cache.asked(digest(3)), None);
    }

    #[test]
    fn a_call_that_came_into_doubt_while_the_others_were_read_is_not_missed() {
        let digest = |byte| CallDigest::from_bytes([byte; 32]);
        let [ada, bob] = ["ada", "bob"].map(|name| AgentId::parse(name).unwrap());
        let mut cache = Cache::default();
        assert_eq!(cache.doubted(&ada, digest(1)), None);
        let before = cache.version();
        cache.doubt(doubt(&ada, digest(1)));
        cache.learn_asked(before, Asked::default());
        assert_eq!(cache.doubted(&ada, digest(1)), None);
        let doubted = BTreeSet::from([doubt(&ada, digest(1))]);
        cache.learn_asked(cache.version(), Asked { doubted, ..Asked::default() });
        cache.doubt(doubt(&bob, digest(2)));
        let told = |cache: &Cache| {
            [(&ada, 1), (&ada, 2), (&bob, 1), (&bob, 2)]
                .map(|(agent, byte)| cache.doubted(agent, digest(byte)))
        };
        assert_eq!(told(&cache), [Some(true), Some(false), Some(false), Some(true)]);
        cache.forget_deleted();
        assert_eq!(told(&cache), [Some(true), Some(false), Some(false), Some(true)]);
        cache.forget();
        assert_eq!(told(&cache), [None; 4]);
        // Beyond the limit nothing is said, because not all were read.
        let doubted = (0..=DIGESTS_MAX).map(|n| n.to_string()).collect();
        cache.learn_asked(cache.version(), Asked { doubted, ..Asked::default() });
        assert_eq!(told(&cache), [None; 4]);
    }

    #[test]
    fn a_standing_is_known_only_as_a_whole() {
        let mut cache = Cache::default();
        let agent = AgentId::parse("bot").unwrap();
        let requester = Requester {
            agent: agent.clone(),
            teams: Vec::new(),
            session: SessionId::parse("s").unwrap(),
            on_behalf_of: None,
        };
        let halt = HaltRecord { scope: HaltScope::All, why: "w".into(), by: "lea".into(), since_ms: 1 };
        let counters = CounterRow {
            counters: Counters { calls: 3, ..Counters::default() },
            version: 7,
            ..CounterRow::default()
        };
        let steps: [&dyn Fn(&mut Cache); 4] = [
            &|cache| cache.halt(&HaltScope::Agent(agent.clone()), None),
            &|cache| cache.halt(&HaltScope::All, Some(&halt)),
            &|cache| cache.count(&CounterKey::session(&requester), Some(&counters)),
            &|cache| cache.count(&CounterKey::agent(&requester, 0), None),
        ];
        for step in steps {
            assert_eq!(cache.standing(&requester, 0), None);
            step(&mut cache);
        }
        let standing = cache.standing(&requester, 0).unwrap();
        assert_eq!((standing.halted, standing.history), (Some(halt), 7));
        assert_eq!((standing.session.calls, standing.agent_today.calls), (3, 0));
        // Another day has other counters.
        assert_eq!(cache.standing(&requester, 86_400_000), None);
    }
}
