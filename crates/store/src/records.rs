//! The part of the ledger that one batch of operations looks at, in memory.
//!
//! An operation names the records it needs, sees them as the operations before it in the batch left them,
//! and answers with the changes it wants or with a refusal and none. So an operation that is refused
//! changes nothing, by its type; and the databases only read records by key and write them back.
//!
//! What a batch leaves is what the next one finds, so counters, limits and open calls are not read again, as
//! long as nobody else has written: every change moves the head of the log, and the head is read under its
//! lock. After any failure everything is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use countersign_audit::{SigningKey, VerifierKey};
use countersign_gate::ledger::{Bond, HaltRecord, HaltScope, LedgerFault};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalState, CallId, Counters,
    budget::{Balance, BudgetAccount},
};

use crate::{
    approval::{self, ApprovalRow, RequestKey},
    bond::{self, BondKey},
    budget,
    cache::Cache,
    call::{self, CallRow},
    halt,
    key::{self, KeyRow},
    log::{Encoded, LogTail},
    rate,
    row::{Damage, Query, Row},
    session::{self, CounterKey},
};

/// The name of a record that an operation needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Halt(HaltScope),
    Session(String),
    Counters(CounterKey),
    History(AgentId),
    Rate(String),
    Balance(BudgetAccount),
    Call(CallId),
    Approval(ApprovalId),
    /// The newest request of a requester for a digest.
    Newest(RequestKey),
    Bond(BondKey),
    Credential(String),
    /// The open calls whose process is gone.
    Orphans,
}

/// The records that the operations of a batch need and that are not read yet.
#[derive(Debug, Default)]
pub(crate) struct Needs(BTreeSet<Key>);

impl Needs {
    /// Names a record; one that is known already is not read again.
    pub(crate) fn name(&mut self, records: &Records, key: &Key) {
        if !records.knows(key) && !self.0.contains(key) {
            self.0.insert(key.clone());
        }
    }

    /// Names several.
    pub(crate) fn name_all<'a>(&mut self, records: &Records, keys: impl IntoIterator<Item = &'a Key>) {
        for key in keys {
            self.name(records, key);
        }
    }

    pub(crate) fn into_keys(self) -> Vec<Key> {
        self.0.into_iter().collect()
    }
}

/// The most records that are kept from batch to batch; beyond, all are forgotten and read again.
const KEPT_MAX: usize = 20_000;

/// One record in memory.
#[derive(Debug, Clone)]
enum Slot<R> {
    Absent,
    Stored(R),
    /// To be inserted.
    Fresh(R),
    /// To be updated.
    Changed(R),
    /// To be deleted.
    Removed,
    Damaged(Damage),
}

/// Records of one kind, by key.
#[derive(Debug)]
pub(crate) struct Table<K, R> {
    slots: BTreeMap<K, Slot<R>>,
    /// Those that the batch has read or changed.
    touched: BTreeSet<K>,
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), touched: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, R> Table<K, R> {
    fn knows(&self, key: &K) -> bool {
        self.slots.contains_key(key)
    }

    /// Takes over what was read, unless the record is known already.
    fn load(&mut self, key: K, read: Result<Option<R>, Damage>) {
        if self.slots.contains_key(&key) {
            return;
        }
        let slot = match read {
            Ok(Some(record)) => Slot::Stored(record),
            Ok(None) => Slot::Absent,
            Err(damage) => Slot::Damaged(damage),
        };
        self.touched.insert(key.clone());
        self.slots.insert(key, slot);
    }

    /// The record as the batch so far leaves it.
    pub(crate) fn find(&self, key: &K) -> Result<Option<&R>, LedgerFault> {
        match self.slots.get(key) {
            Some(Slot::Stored(record) | Slot::Fresh(record) | Slot::Changed(record)) => Ok(Some(record)),
            Some(Slot::Absent | Slot::Removed) => Ok(None),
            Some(Slot::Damaged(damage)) => Err(damage.clone().into()),
            // Fail closed: an operation that did not name what it needs must not see an empty ledger.
            None => Err(LedgerFault::Unavailable("a record was not read".into())),
        }
    }

    /// Whether the record is known to be there. For what is to be inserted under a new id and is not looked
    /// for: where the id is taken all the same, the database refuses it.
    pub(crate) fn has(&self, key: &K) -> bool {
        matches!(self.slots.get(key), Some(Slot::Stored(_) | Slot::Fresh(_) | Slot::Changed(_)))
    }

    fn put(&mut self, key: K, record: Option<R>) {
        let before = self.slots.remove(&key);
        let slot = match (before, record) {
            (None | Some(Slot::Absent | Slot::Fresh(_)), Some(record)) => Slot::Fresh(record),
            (Some(Slot::Stored(_) | Slot::Changed(_) | Slot::Removed | Slot::Damaged(_)), Some(record)) => {
                Slot::Changed(record)
            }
            (None | Some(Slot::Absent | Slot::Fresh(_)), None) => Slot::Absent,
            (Some(Slot::Stored(_) | Slot::Changed(_) | Slot::Removed | Slot::Damaged(_)), None) => {
                Slot::Removed
            }
        };
        self.touched.insert(key.clone());
        self.slots.insert(key, slot);
    }

    /// The records that are new in this batch.
    fn fresh(&self) -> impl Iterator<Item = &R> {
        self.slots.values().filter_map(|slot| match slot {
            Slot::Fresh(record) => Some(record),
            Slot::Absent | Slot::Stored(_) | Slot::Damaged(_) | Slot::Changed(_) | Slot::Removed => None,
        })
    }

    /// The statements that write this table, except that nothing is deleted.
    fn write(
        &self,
        out: &mut Vec<Query>,
        insert: impl Fn(&K, &R) -> Result<Query, LedgerFault>,
        update: impl Fn(&K, &R) -> Result<Query, LedgerFault>,
    ) -> Result<(), LedgerFault> {
        for key in &self.touched {
            match self.slots.get(key) {
                None | Some(Slot::Absent | Slot::Stored(_) | Slot::Damaged(_) | Slot::Removed) => {}
                Some(Slot::Fresh(record)) => out.push(insert(key, record)?),
                Some(Slot::Changed(record)) => out.push(update(key, record)?),
            }
        }
        Ok(())
    }

    /// The records to be deleted.
    fn removed(&self) -> impl Iterator<Item = &K> {
        self.touched.iter().filter(|key| matches!(self.slots.get(key), Some(Slot::Removed)))
    }

    /// Takes what the batch has left for what is stored: it is committed, or nothing was changed. Answers
    /// the records that the batch has touched through `see`, and keeps those that `keep` names.
    fn settle(&mut self, mut see: impl FnMut(&K, Option<&R>), keep: impl Fn(&R) -> bool) {
        for key in std::mem::take(&mut self.touched) {
            let record = match self.slots.remove(&key) {
                Some(Slot::Stored(record) | Slot::Fresh(record) | Slot::Changed(record)) => Some(record),
                Some(Slot::Absent | Slot::Removed) => None,
                // Read again by whoever needs it: it may have been mended.
                Some(Slot::Damaged(_)) | None => continue,
            };
            see(&key, record.as_ref());
            match record {
                Some(record) if keep(&record) => drop(self.slots.insert(key, Slot::Stored(record))),
                Some(_) => {}
                None => drop(self.slots.insert(key, Slot::Absent)),
            }
        }
    }

    fn len(&self) -> usize {
        self.slots.len()
    }
}

/// What an operation wants changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) halts: Vec<(HaltScope, Option<HaltRecord>)>,
    pub(crate) sessions: Vec<String>,
    pub(crate) counters: Vec<(CounterKey, Counters)>,
    pub(crate) histories: Vec<(AgentId, u64)>,
    pub(crate) rates: Vec<(String, i64)>,
    pub(crate) balances: Vec<(BudgetAccount, Balance)>,
    pub(crate) calls: Vec<(CallId, CallRow)>,
    pub(crate) approvals: Vec<(ApprovalId, ApprovalRow)>,
    pub(crate) bonds: Vec<Bond>,
    pub(crate) credentials: Vec<(String, KeyRow)>,
    /// Statements beside the records: erasing, pruning.
    pub(crate) statements: Vec<Query>,
    /// Appended to the log, in this order.
    pub(crate) entries: Vec<Arc<Encoded>>,
    /// Whether the head of the log is written even where nothing else is.
    pub(crate) touch: bool,
}

impl Changes {
    pub(crate) fn entries(entries: Vec<Arc<Encoded>>) -> Self {
        Self { entries, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        let Self {
            halts,
            sessions,
            counters,
            histories,
            rates,
            balances,
            calls,
            approvals,
            bonds,
            credentials,
            statements,
            entries,
            touch,
        } = self;
        halts.is_empty()
            && sessions.is_empty()
            && counters.is_empty()
            && histories.is_empty()
            && rates.is_empty()
            && balances.is_empty()
            && calls.is_empty()
            && approvals.is_empty()
            && bonds.is_empty()
            && credentials.is_empty()
            && statements.is_empty()
            && entries.is_empty()
            && !touch
    }
}

/// The loaded records, with the end of the log.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) halts: Table<HaltScope, HaltRecord>,
    pub(crate) sessions: Table<String, ()>,
    pub(crate) counters: Table<CounterKey, Counters>,
    pub(crate) histories: Table<AgentId, u64>,
    pub(crate) rates: Table<String, i64>,
    pub(crate) balances: Table<BudgetAccount, Balance>,
    pub(crate) calls: Table<CallId, CallRow>,
    pub(crate) approvals: Table<ApprovalId, ApprovalRow>,
    newest: BTreeMap<RequestKey, Result<Option<ApprovalId>, Damage>>,
    pub(crate) bonds: Table<BondKey, Bond>,
    pub(crate) credentials: Table<String, KeyRow>,
    orphans: Option<Result<Vec<CallId>, Damage>>,
    statements: Vec<Query>,
    log: LogTail,
    /// The head that this process committed last. As long as it stands, the records are what is stored.
    committed: Option<Committed>,
    /// The process that writes.
    pub(crate) process: i64,
    watched: bool,
}

/// A head of the log by what moves at every change.
#[derive(Debug, PartialEq, Eq)]
struct Committed {
    checkpoint: String,
    changed: u64,
}

impl Records {
    /// None, and an empty log.
    pub(crate) fn new() -> Self {
        Self {
            halts: Table::default(),
            sessions: Table::default(),
            counters: Table::default(),
            histories: Table::default(),
            rates: Table::default(),
            balances: Table::default(),
            calls: Table::default(),
            approvals: Table::default(),
            newest: BTreeMap::new(),
            bonds: Table::default(),
            credentials: Table::default(),
            orphans: None,
            statements: Vec::new(),
            log: LogTail::default(),
            committed: None,
            process: 0,
            watched: false,
        }
    }

    /// Begins a batch with the end of the log as it stands under the lock. Answers whether the records of
    /// the batches before are still what is stored; when somebody else has written since, or `disturbed`
    /// says so, they are forgotten.
    pub(crate) fn begin(
        &mut self,
        head: &Row,
        key: &VerifierKey,
        disturbed: bool,
        process: i64,
    ) -> Result<bool, LedgerFault> {
        let trusted = self.committed.take();
        let log = LogTail::read(head, key, trusted.as_ref().map(|committed| committed.checkpoint.as_str()))?;
        let still = !disturbed
            && trusted.as_ref().is_some_and(|trusted| log.is_at(&trusted.checkpoint, trusted.changed));
        if !still {
            *self = Self::new();
        }
        self.committed = trusted.filter(|_| still);
        self.log = log;
        self.process = process;
        Ok(still)
    }

    /// Ends a batch that is committed, or has changed nothing. What it has read and left of the records that
    /// decisions look at is told to `cache`.
    pub(crate) fn settle(&mut self, cache: &mut Cache) {
        let rows_pruned = !self.statements.is_empty();
        self.halts.settle(|scope, halt| cache.halt(scope, halt), |_| true);
        self.counters.settle(|key, counters| cache.count(key, counters), |_| true);
        self.histories.settle(|agent, version| cache.history(agent, version.copied()), |_| true);
        self.sessions.settle(|_, _| {}, |()| true);
        self.rates.settle(|_, _| {}, |_| true);
        self.balances.settle(|_, _| {}, |_| true);
        self.calls.settle(|_, _| {}, CallRow::is_open);
        // Requests and keys are few, and read by others than the operations: they are read anew each time.
        self.credentials.settle(|id, _| cache.forget_key(id), |_| false);
        self.credentials = Table::default();
        self.approvals.fresh().for_each(|row| cache.ask(row.record.request.call.digest));
        self.approvals.settle(
            |_, row| {
                if let Some(ApprovalRow { record, .. }) = row
                    && record.state == ApprovalState::Refused
                {
                    cache.refuse(&record.request.call.requester.agent);
                }
            },
            |_| false,
        );
        self.approvals = Table::default();
        self.bonds = Table::default();
        self.newest.clear();
        self.orphans = None;
        self.statements.clear();
        self.watched = false;
        let (checkpoint, changed) = self.log.committed();
        self.committed = Some(Committed { checkpoint, changed });
        let kept = [
            self.halts.len(),
            self.counters.len(),
            self.histories.len(),
            self.sessions.len(),
            self.rates.len(),
            self.balances.len(),
            self.calls.len(),
        ];
        if rows_pruned || kept.iter().sum::<usize>() > KEPT_MAX {
            let committed = self.committed.take();
            *self = Self { committed, ..Self::new() };
            cache.forget_deleted();
        }
    }

    /// The end of the log.
    pub(crate) const fn log_tail(&self) -> &LogTail {
        &self.log
    }

    /// The place that the next new request takes in the order of requests.
    pub(crate) const fn next_order(&self) -> u64 {
        self.log.changed().saturating_add(1)
    }

    /// The newest request of a requester for a digest.
    pub(crate) fn newest(&self, key: &RequestKey) -> Result<Option<&ApprovalRow>, LedgerFault> {
        match self.newest.get(key) {
            Some(Ok(Some(id))) => self.approvals.find(id),
            Some(Ok(None)) => Ok(None),
            Some(Err(damage)) => Err(damage.clone().into()),
            None => Err(LedgerFault::Unavailable("a record was not read".into())),
        }
    }

    /// The open calls whose process is gone; none before they were looked for.
    pub(crate) fn orphans(&self) -> Result<&[CallId], LedgerFault> {
        match &self.orphans {
            Some(Ok(calls)) => Ok(calls),
            Some(Err(damage)) => Err(damage.clone().into()),
            None => Ok(&[]),
        }
    }

    /// Whether a record was read, or found absent.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        match key {
            Key::Halt(key) => self.halts.knows(key),
            Key::Session(key) => self.sessions.knows(key),
            Key::Counters(key) => self.counters.knows(key),
            Key::History(key) => self.histories.knows(key),
            Key::Rate(key) => self.rates.knows(key),
            Key::Balance(key) => self.balances.knows(key),
            Key::Call(key) => self.calls.knows(key),
            Key::Approval(key) => self.approvals.knows(key),
            Key::Newest(key) => self.newest.contains_key(key),
            Key::Bond(key) => self.bonds.knows(key),
            Key::Credential(key) => self.credentials.knows(key),
            Key::Orphans => self.orphans.is_some(),
        }
    }

    /// The statement that reads a record. `orphans` reads the open calls whose process is gone, which is
    /// the one thing that each database tells in its own way.
    pub(crate) fn select(key: &Key, orphans: &Query) -> Query {
        match key {
            Key::Halt(scope) => halt::select(scope),
            Key::Session(session) => session::select(session),
            Key::Counters(key) => session::select_counters(key),
            Key::History(agent) => session::select_history(agent),
            Key::Rate(key) => rate::select(key),
            Key::Balance(account) => budget::select(account),
            Key::Call(id) => call::select(id),
            Key::Approval(id) => approval::select(id),
            Key::Newest(key) => approval::select_newest(key),
            Key::Bond(key) => bond::select(key),
            Key::Credential(id) => key::select(id),
            Key::Orphans => orphans.clone(),
        }
    }

    /// Takes over what was read.
    pub(crate) fn load(&mut self, key: Key, rows: &[Row]) {
        fn first<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Damage>) -> Result<Option<T>, Damage> {
            rows.first().map(read).transpose()
        }
        match key {
            Key::Halt(scope) => self.halts.load(scope, first(rows, halt::read)),
            Key::Session(session) => self.sessions.load(session, Ok(rows.first().map(|_row| ()))),
            Key::Counters(key) => self.counters.load(key, first(rows, |row| row.json(0))),
            Key::History(agent) => self.histories.load(agent, first(rows, |row| row.count(0))),
            Key::Rate(key) => self.rates.load(key, first(rows, |row| row.int(0))),
            Key::Balance(account) => self.balances.load(account, first(rows, budget::read)),
            Key::Call(id) => self.calls.load(id, first(rows, CallRow::read)),
            Key::Approval(id) => self.approvals.load(id, first(rows, ApprovalRow::read)),
            Key::Newest(key) => {
                let row = first(rows, ApprovalRow::read);
                let id = row.as_ref().map(|row| row.as_ref().map(|row| row.record.request.id.clone()));
                let id = id.map_err(Clone::clone);
                if let Ok(Some(row)) = row {
                    self.approvals.load(row.record.request.id.clone(), Ok(Some(row)));
                }
                self.newest.insert(key, id);
            }
            Key::Bond(key) => self.bonds.load(key, first(rows, bond::read)),
            Key::Credential(id) => self.credentials.load(id, first(rows, KeyRow::read)),
            Key::Orphans => self.orphans = Some(rows.iter().map(|row| row.parse(0)).collect()),
        }
    }

    /// Makes an operation's changes part of the batch.
    ///
    /// # Errors
    /// When an entry cannot be written to the log; then nothing has changed.
    pub(crate) fn change(&mut self, changes: Changes) -> Result<(), LedgerFault> {
        if changes.is_empty() {
            return Ok(());
        }
        self.log.append(changes.entries)?;
        self.watched |= !changes.halts.is_empty()
            || !changes.calls.is_empty()
            || !changes.approvals.is_empty()
            || !changes.statements.is_empty();
        for (scope, record) in changes.halts {
            self.halts.put(scope, record);
        }
        for session in changes.sessions {
            self.sessions.put(session, Some(()));
        }
        for (key, counters) in changes.counters {
            self.counters.put(key, Some(counters));
        }
        for (agent, version) in changes.histories {
            self.histories.put(agent, Some(version));
        }
        for (key, due_us) in changes.rates {
            self.rates.put(key, Some(due_us));
        }
        for (account, balance) in changes.balances {
            self.balances.put(account, Some(balance));
        }
        for (id, row) in changes.calls {
            self.calls.put(id, Some(row));
        }
        for (id, row) in changes.approvals {
            let request = RequestKey::of(&row.record.request.call);
            let newer = match self.newest.get(&request) {
                Some(Ok(Some(known))) => {
                    self.approvals.find(known)?.is_none_or(|known| known.order <= row.order)
                }
                Some(Ok(None)) => true,
                Some(Err(_)) | None => false,
            };
            if newer {
                self.newest.insert(request, Ok(Some(id.clone())));
            }
            self.approvals.put(id, Some(row));
        }
        for bond in changes.bonds {
            self.bonds.put((bond.agent.clone(), bond.key.clone()), Some(bond));
        }
        for (id, row) in changes.credentials {
            self.credentials.put(id, Some(row));
        }
        self.statements.extend(changes.statements);
        Ok(())
    }

    /// Whether the batch changes anything.
    pub(crate) const fn is_changed(&self) -> bool {
        self.log.is_changed()
    }

    /// Whether the batch changes what people and agents wait for.
    pub(crate) const fn is_watched(&self) -> bool {
        self.watched
    }

    /// The statements that write the batch, the signed head of the log among them.
    pub(crate) fn write(&mut self, key: &SigningKey) -> Result<Vec<Query>, LedgerFault> {
        let mut out = Vec::new();
        self.log.write(key, &mut out)?;
        self.halts.write(&mut out, halt::insert, halt::update)?;
        out.extend(self.halts.removed().map(halt::delete));
        self.sessions.write(
            &mut out,
            |key, ()| Ok(session::insert(key)),
            |key, ()| Ok(session::insert(key)),
        )?;
        self.counters.write(&mut out, session::insert_counters, session::update_counters)?;
        self.histories.write(
            &mut out,
            |agent, version| Ok(session::insert_history(agent, *version)),
            |agent, version| Ok(session::update_history(agent, *version)),
        )?;
        self.rates.write(
            &mut out,
            |key, due| Ok(rate::insert(key, *due)),
            |key, due| Ok(rate::update(key, *due)),
        )?;
        self.balances.write(
            &mut out,
            |account, balance| Ok(budget::insert(account, *balance)),
            |account, balance| Ok(budget::update(account, *balance)),
        )?;
        self.calls.write(&mut out, call::insert, call::update)?;
        self.approvals.write(&mut out, approval::insert, approval::update)?;
        out.extend(self.approvals.fresh().flat_map(approval::insert_groups));
        self.bonds.write(&mut out, |_key, bond| bond::insert(bond), |_key, bond| bond::update(bond))?;
        self.credentials.write(&mut out, |id, row| key::insert(id, row), |id, row| key::update(id, row))?;
        out.extend(self.statements.iter().cloned());
        Ok(out)
    }
}
