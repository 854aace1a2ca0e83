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
use countersign_gate::ledger::{Bond, HaltRecord, LedgerFault};
use countersign_rules::{ApprovalId, ApprovalState, CallId, RetryKey, budget::Balance};

use crate::{
    cache::Cache,
    outbox::{self, Telling},
    record::{
        Changed, Record, Table,
        account::AccountRecord,
        approval::{self, ApprovalRow},
        call::{self, CallRow},
        key::KeyRow,
        link::LinkRow,
        outbox::Thread,
        rate::Due,
        session::{CounterRow, Session},
        sign_in::SignInMark,
        web_session::WebSessionRow,
    },
    row::{Damage, SqlStatement, StoredRow},
    tail::{Encoded, LogTail},
};

/// Makes, from one list of the kinds of records, what speaks of them all.
macro_rules! kinds {
    ($($table:ident: $Name:ident($Record:ty),)*) => {
        /// An operation names a record that it needs so.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Key {
            $($Name(<$Record as Record>::Key),)*
            /// This is the newest request of a requester for a digest.
            Newest(RetryKey),
            /// These are the open calls whose process is gone.
            Orphans,
        }

        /// An operation wants these changes.
        #[derive(Debug, Default)]
        pub(crate) struct Changes {
            $(pub(crate) $table: Changed<$Record>,)*
            /// These statements stand beside the records: erasing, pruning.
            pub(crate) statements: Vec<SqlStatement>,
            /// These entries are appended to the log, in this order.
            pub(crate) entries: Vec<Arc<Encoded>>,
            /// This is true if the head of the log is to be written even where nothing else is.
            pub(crate) touch: bool,
        }

        impl Changes {
            fn is_empty(&self) -> bool {
                let Self { $($table,)* statements, entries, touch } = self;
                statements.is_empty() && entries.is_empty() && !touch $(&& $table.is_empty())*
            }

            /// Tells whether others wait for such a change.
            fn is_watched(&self) -> bool {
                !self.statements.is_empty() $(|| (<$Record>::WATCHED && !self.$table.is_empty()))*
            }
        }

        /// These are the loaded records, with the end of the log.
        #[derive(Debug, Default)]
        pub(crate) struct Records {
            $(pub(crate) $table: Table<$Record>,)*
            /// Each is found by what makes two requests the same: the newest, with its place in the order of
            /// requests.
            newest: BTreeMap<RetryKey, Result<Option<(u64, ApprovalId)>, Damage>>,
            orphans: Option<Result<Vec<CallId>, Damage>>,
            statements: Vec<SqlStatement>,
            log: LogTail,
            /// This process committed this head last. As long as it stands, the records are what is stored.
            committed: Option<Committed>,
            /// The process that writes has this id.
            pub(crate) process: i64,
            /// People are told of what changes by these rules.
            telling: Arc<Telling>,
            watched: bool,
        }

        impl Records {
            /// Tells whether a record was read, or found absent.
            fn knows(&self, key: &Key) -> bool {
                match key {
                    $(Key::$Name(key) => self.$table.knows(key),)*
                    Key::Newest(key) => self.newest.contains_key(key),
                    Key::Orphans => self.orphans.is_some(),
                }
            }

            /// Returns the statement that reads a record. `orphans` reads the open calls whose process is gone,
            /// which is the one thing that each database tells in its own way.
            pub(crate) fn select(key: &Key, orphans: &SqlStatement) -> SqlStatement {
                match key {
                    $(Key::$Name(key) => <$Record>::select(key),)*
                    Key::Newest(key) => approval::select_newest(key),
                    Key::Orphans => orphans.clone(),
                }
            }

            /// Takes over what was read.
            pub(crate) fn load(&mut self, key: Key, rows: &[StoredRow]) {
                match key {
                    $(Key::$Name(key) => {
                        self.$table.load(key, rows.first().map(<$Record>::read).transpose());
                    })*
                    Key::Newest(key) => self.load_newest(key, rows),
                    Key::Orphans => self.orphans = Some(rows.iter().map(|row| row.parse(0)).collect()),
                }
            }

            /// Makes the changes of records part of the batch. Those of the log are made already.
            fn change_tables(&mut self, changes: Changes) {
                $(self.$table.change(changes.$table);)*
                self.statements.extend(changes.statements);
            }

            /// Adds the statements that write the records to `out`, kind by kind.
            fn write_tables(&self, out: &mut Vec<SqlStatement>) -> Result<(), LedgerFault> {
                $(self.$table.write(out)?;)*
                Ok(())
            }

            /// Takes what the batch has left for what is stored. Returns how many records are kept.
            fn settle_tables(&mut self) -> usize {
                $(self.$table.settle();)*
                [$(self.$table.len()),*].iter().sum()
            }
        }
    };
}

// Every kind of record, in the order in which they are written.
kinds! {
    halts: Halt(HaltRecord),
    sessions: Session(Session),
    counters: Counter(CounterRow),
    rates: Rate(Due),
    balances: Balance(Balance),
    calls: Call(CallRow),
    approvals: Approval(ApprovalRow),
    bonds: Bond(Bond),
    credentials: Credential(KeyRow),
    accounts: Account(AccountRecord),
    links: Link(LinkRow),
    web_sessions: WebSession(WebSessionRow),
    sign_in_marks: SignInMark(SignInMark),
    outbox: Outbox(Thread),
}

/// The operations of a batch need these records, which are not read yet.
#[derive(Debug, Default)]
pub(crate) struct Needs(BTreeSet<Key>);

impl Needs {
    /// Names a record; one that is known already is not read again.
    ///
    /// With a request come the threads in which channels are told of it: whatever changes it goes on with them.
    pub(crate) fn name(&mut self, records: &Records, key: &Key) {
        if let Key::Approval(approval) = key {
            let threads = outbox::keys(&records.telling.channels, approval);
            self.0.extend(threads.filter(|thread| !records.knows(thread)));
        }
        if !records.knows(key) && !self.0.contains(key) {
            self.0.insert(key.clone());
        }
    }

    /// Names several records as [`Needs::name`] does one.
    pub(crate) fn name_all<'a>(&mut self, records: &Records, keys: impl IntoIterator<Item = &'a Key>) {
        for key in keys {
            self.name(records, key);
        }
    }

    pub(crate) fn into_keys(self) -> Vec<Key> {
        self.0.into_iter().collect()
    }
}

/// At most so many records are kept from batch to batch; beyond, all are forgotten and read again.
const KEPT_MAX: usize = 20_000;

impl Changes {
    pub(crate) fn entries(entries: Vec<Arc<Encoded>>) -> Self {
        Self { entries, ..Self::default() }
    }
}

/// This is a head of the log, by what moves at every change.
#[derive(Debug, PartialEq, Eq)]
struct Committed {
    checkpoint: String,
    changed: u64,
}

impl Records {
    /// Begins a batch with the end of the log as it stands under the lock. Returns true if the records of the
    /// batches before are still what is stored; when somebody else has written since, or `disturbed` says so,
    /// they are forgotten.
    pub(crate) fn begin(
        &mut self,
        head: &StoredRow,
        key: &VerifierKey,
        disturbed: bool,
        (process, telling): (i64, &Arc<Telling>),
    ) -> Result<bool, LedgerFault> {
        let trusted = self.committed.take();
        let log = LogTail::read(head, key, trusted.as_ref().map(|committed| committed.checkpoint.as_str()))?;
        let still = !disturbed
            && trusted.as_ref().is_some_and(|trusted| log.is_at(&trusted.checkpoint, trusted.changed));
        if !still {
            *self = Self::default();
        }
        self.committed = trusted.filter(|_| still);
        self.log = log;
        self.process = process;
        self.telling = Arc::clone(telling);
        Ok(still)
    }

    /// Ends a batch that is committed, or has changed nothing. It tells `cache` what the batch has read and
    /// left of the records that decisions look at.
    pub(crate) fn settle(&mut self, cache: &mut Cache) {
        self.tell(cache);
        let kept = self.settle_tables();
        let rows_pruned = !self.statements.is_empty();
        self.newest.clear();
        self.orphans = None;
        self.statements.clear();
        self.watched = false;
        let (checkpoint, changed) = self.log.committed();
        self.committed = Some(Committed { checkpoint, changed });
        if rows_pruned || kept > KEPT_MAX {
            let committed = self.committed.take();
            *self = Self { committed, ..Self::default() };
            cache.forget_deleted();
        }
    }

    /// Tells `cache` what decisions look at.
    fn tell(&self, cache: &mut Cache) {
        self.halts.left().for_each(|(scope, halt)| cache.halt(scope, halt));
        self.counters.left().for_each(|(key, counters)| cache.count(key, counters));
        self.credentials.left().for_each(|(id, _row)| cache.forget_key(id));
        self.approvals.fresh().for_each(|row| cache.ask(row.record.request.call.digest));
        let calls = self.calls.left().filter_map(|(_id, row)| row);
        calls.filter_map(|row| call::doubted(&row.record)).for_each(|found_by| cache.doubt(found_by));
        for (_id, row) in self.approvals.left() {
            if let Some(ApprovalRow { record, .. }) = row
                && record.state == ApprovalState::Refused
            {
                cache.refuse(&record.request.call.requester.agent);
            }
        }
    }

    /// Returns the end of the log.
    pub(crate) const fn log_tail(&self) -> &LogTail {
        &self.log
    }

    /// Returns the place that the next new request takes in the order of requests.
    pub(crate) const fn next_order(&self) -> u64 {
        self.log.changed().saturating_add(1)
    }

    /// Returns the newest request of a requester for a digest. It is a fault when that was not read.
    pub(crate) fn newest(&self, key: &RetryKey) -> Result<Option<&ApprovalRow>, LedgerFault> {
        match self.newest.get(key) {
            Some(Ok(Some((_order, id)))) => self.approvals.find(id),
            Some(Ok(None)) => Ok(None),
            Some(Err(damage)) => Err(damage.clone().into()),
            None => Err(LedgerFault::Unavailable("a record was not read".into())),
        }
    }

    /// Returns the open calls whose process is gone; none before they were looked for.
    pub(crate) fn orphans(&self) -> Result<&[CallId], LedgerFault> {
        match &self.orphans {
            Some(Ok(calls)) => Ok(calls),
            Some(Err(damage)) => Err(damage.clone().into()),
            None => Ok(&[]),
        }
    }

    /// Takes over the newest request of a requester for a digest, under its own id as well.
    fn load_newest(&mut self, key: RetryKey, rows: &[StoredRow]) {
        let row = rows.first().map(ApprovalRow::read).transpose();
        let newest =
            row.as_ref().map(|row| row.as_ref().map(|row| (row.order, row.record.request.id.clone())));
        let newest = newest.map_err(Clone::clone);
        if let Ok(Some(row)) = row {
            self.approvals.load(row.record.request.id.clone(), Ok(Some(row)));
        }
        self.newest.insert(key, newest);
    }

    /// Makes an operation's changes part of the batch.
    ///
    /// # Errors
    /// Fails when an entry cannot be written to the log; then nothing has changed.
    pub(crate) fn change(&mut self, mut changes: Changes) -> Result<(), LedgerFault> {
        if changes.is_empty() {
            return Ok(());
        }
        outbox::tell(self, &Arc::clone(&self.telling), &mut changes);
        self.log.append(std::mem::take(&mut changes.entries))?;
        self.watched |= changes.is_watched();
        for (id, row) in changes.approvals.puts() {
            // One that was not looked for is read where it is needed.
            if let Some(Ok(newest)) = self.newest.get_mut(&row.record.request.call.retry_key())
                && newest.as_ref().is_none_or(|(order, _id)| *order <= row.order)
            {
                *newest = Some((row.order, id.clone()));
            }
        }
        self.change_tables(changes);
        Ok(())
    }

    /// Tells whether the batch changes anything.
    pub(crate) const fn is_changed(&self) -> bool {
        self.log.is_changed()
    }

    /// Tells whether the batch changes what people and agents wait for.
    pub(crate) const fn is_watched(&self) -> bool {
        self.watched
    }

    /// Returns the statements that write the batch, the signed head of the log among them. Where it completes tiles of the
    /// log, `filing` files what stands in them.
    pub(crate) fn write(
        &mut self,
        key: &SigningKey,
        filing: &[&'static str],
    ) -> Result<Vec<SqlStatement>, LedgerFault> {
        let mut out = Vec::new();
        self.log.write(key, &mut out)?;
        self.write_tables(&mut out)?;
        out.extend(self.statements.iter().cloned());
        if let Some((from, end)) = self.log.completed() {
            out.extend(filing.iter().map(|sql| SqlStatement::new(sql, vec![from.into(), end.into()])));
        }
        Ok(out)
    }
}
