//! Kinds of records: how a record stands in its table, and those of one kind in memory.
//!
//! A new kind is a file below this one, a line in the list of [`crate::records`], and a step in
//! [`crate::migration`].

pub(crate) mod account;
pub(crate) mod approval;
pub(crate) mod bond;
pub(crate) mod budget;
pub(crate) mod call;
pub(crate) mod halt;
pub(crate) mod key;
pub(crate) mod link;
pub(crate) mod outbox;
pub(crate) mod passkey;
pub(crate) mod rate;
pub(crate) mod session;
pub(crate) mod sign_in;
pub(crate) mod web_session;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use countersign_gate::ledger::LedgerFault;

use crate::row::{Damage, SqlStatement, StoredRow};

/// A record is found by its key and changed as a whole.
pub(crate) trait Record: Debug + Sized {
    type Key: Debug + Clone + Ord;

    /// This is true if people and agents wait for changes of such records.
    const WATCHED: bool = false;

    /// Returns the statement that reads the record of a key.
    fn select(key: &Self::Key) -> SqlStatement;
    /// Reads what the statement of [`Record::select`] answers.
    fn read(row: &StoredRow) -> Result<Self, Damage>;
    fn insert(&self, key: &Self::Key) -> Result<SqlStatement, LedgerFault>;
    fn update(&self, key: &Self::Key) -> Result<SqlStatement, LedgerFault>;

    /// Returns what is inserted beside a new record, in other tables.
    fn beside(&self) -> Vec<SqlStatement> {
        Vec::new()
    }

    /// Tells whether a record is kept in memory from batch to batch, or, of `None`, that there is none. What is
    /// not kept is read anew by each batch that needs it.
    fn is_kept(_record: Option<&Self>) -> bool {
        true
    }
}

/// Such a record can be removed again.
pub(crate) trait Removable: Record {
    fn delete(key: &Self::Key) -> SqlStatement;
}

/// One record is changed so.
#[derive(Debug)]
enum Change<R> {
    Put(R),
    /// This statement removes the record, where it is stored.
    Remove(SqlStatement),
}

/// An operation wants these changes in the records of one kind, in this order.
#[derive(Debug)]
pub(crate) struct Changed<R: Record>(Vec<(R::Key, Change<R>)>);

impl<R: Record> Default for Changed<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R: Record> Changed<R> {
    /// Adds that there is this record from now on.
    pub(crate) fn put(&mut self, key: R::Key, record: R) {
        self.0.push((key, Change::Put(record)));
    }

    /// Adds that there is no record of this key from now on.
    pub(crate) fn remove(&mut self, key: R::Key)
    where
        R: Removable,
    {
        let delete = R::delete(&key);
        self.0.push((key, Change::Remove(delete)));
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the records that there are from now on, with their keys.
    pub(crate) fn puts(&self) -> impl Iterator<Item = (&R::Key, &R)> {
        self.0.iter().filter_map(|(key, change)| match change {
            Change::Put(record) => Some((key, record)),
            Change::Remove(_) => None,
        })
    }
}

/// One record in memory is in one of these states.
#[derive(Debug, Clone)]
enum Slot<R> {
    Absent,
    Stored(R),
    /// The record is to be inserted.
    Fresh(R),
    /// The record is to be updated.
    Changed(R),
    /// The record is to be deleted by this statement.
    Removed(SqlStatement),
    Damaged(Damage),
}

/// These are the records of one kind in memory, by key.
#[derive(Debug)]
pub(crate) struct Table<R: Record> {
    slots: BTreeMap<R::Key, Slot<R>>,
    /// The batch has read or changed these.
    touched: BTreeSet<R::Key>,
}

impl<R: Record> Default for Table<R> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), touched: BTreeSet::new() }
    }
}

impl<R: Record> Table<R> {
    pub(crate) fn knows(&self, key: &R::Key) -> bool {
        self.slots.contains_key(key)
    }

    /// Takes over what was read, unless the record is known already.
    pub(crate) fn load(&mut self, key: R::Key, read: Result<Option<R>, Damage>) {
        if self.knows(&key) {
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

    /// Returns the record as the batch so far leaves it. It is a fault when the record was not read, or is
    /// damaged.
    pub(crate) fn find(&self, key: &R::Key) -> Result<Option<&R>, LedgerFault> {
        match self.slots.get(key) {
            Some(Slot::Stored(record) | Slot::Fresh(record) | Slot::Changed(record)) => Ok(Some(record)),
            Some(Slot::Absent | Slot::Removed(_)) => Ok(None),
            Some(Slot::Damaged(damage)) => Err(damage.clone().into()),
            // Fail closed: an operation that did not name what it needs must not see an empty ledger.
            None => Err(LedgerFault::Unavailable("a record was not read".into())),
        }
    }

    /// Tells whether the record is known to be there. This is for what is to be inserted under a new id and is
    /// not looked for: where the id is taken all the same, the database refuses it.
    pub(crate) fn has(&self, key: &R::Key) -> bool {
        matches!(self.slots.get(key), Some(Slot::Stored(_) | Slot::Fresh(_) | Slot::Changed(_)))
    }

    /// Makes an operation's changes part of the batch.
    pub(crate) fn change(&mut self, changes: Changed<R>) {
        for (key, change) in changes.0 {
            let before = self.slots.remove(&key);
            let stored = match before {
                None | Some(Slot::Absent | Slot::Fresh(_)) => false,
                Some(Slot::Stored(_) | Slot::Changed(_) | Slot::Removed(_) | Slot::Damaged(_)) => true,
            };
            let slot = match (stored, change) {
                (false, Change::Put(record)) => Slot::Fresh(record),
                (true, Change::Put(record)) => Slot::Changed(record),
                (false, Change::Remove(_)) => Slot::Absent,
                (true, Change::Remove(delete)) => Slot::Removed(delete),
            };
            self.touched.insert(key.clone());
            self.slots.insert(key, slot);
        }
    }

    /// Returns the records that are new in this batch.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = &R> {
        self.touched.iter().filter_map(|key| match self.slots.get(key) {
            Some(Slot::Fresh(record)) => Some(record),
            Some(Slot::Absent | Slot::Stored(_) | Slot::Damaged(_) | Slot::Changed(_) | Slot::Removed(_))
            | None => None,
        })
    }

    /// Returns what the batch has read or changed, as it leaves it; `None` stands for no record. What is
    /// damaged may be mended, and is not said.
    pub(crate) fn left(&self) -> impl Iterator<Item = (&R::Key, Option<&R>)> {
        self.touched.iter().filter_map(|key| match self.slots.get(key) {
            Some(Slot::Stored(record) | Slot::Fresh(record) | Slot::Changed(record)) => {
                Some((key, Some(record)))
            }
            Some(Slot::Absent | Slot::Removed(_)) => Some((key, None)),
            Some(Slot::Damaged(_)) | None => None,
        })
    }

    /// Adds the statements that write this table to `out`, with what stands beside it.
    pub(crate) fn write(&self, out: &mut Vec<SqlStatement>) -> Result<(), LedgerFault> {
        let mut deletes = Vec::new();
        for key in &self.touched {
            match self.slots.get(key) {
                None | Some(Slot::Absent | Slot::Stored(_) | Slot::Damaged(_)) => {}
                Some(Slot::Fresh(record)) => out.push(record.insert(key)?),
                Some(Slot::Changed(record)) => out.push(record.update(key)?),
                Some(Slot::Removed(delete)) => deletes.push(delete.clone()),
            }
        }
        out.extend(deletes);
        out.extend(self.fresh().flat_map(R::beside));
        Ok(())
    }

    /// Takes what the batch has left for what is stored: it is committed, or nothing was changed.
    pub(crate) fn settle(&mut self) {
        for key in std::mem::take(&mut self.touched) {
            let record = match self.slots.remove(&key) {
                Some(Slot::Stored(record) | Slot::Fresh(record) | Slot::Changed(record)) => Some(record),
                Some(Slot::Absent | Slot::Removed(_)) => None,
                // Read again by whoever needs it: it may have been mended.
                Some(Slot::Damaged(_)) | None => continue,
            };
            if R::is_kept(record.as_ref()) {
                self.slots.insert(key, record.map_or(Slot::Absent, Slot::Stored));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use countersign_gate::ledger::{HaltRecord, HaltScope};

    use super::*;

    fn put(why: &str) -> Changed<HaltRecord> {
        let halt = HaltRecord { scope: HaltScope::All, why: why.into(), by: "lea".into(), since_ms: 1 };
        let mut changed = Changed::default();
        changed.put(HaltScope::All, halt);
        changed
    }

    fn remove() -> Changed<HaltRecord> {
        let mut changed = Changed::default();
        changed.remove(HaltScope::All);
        changed
    }

    /// The first word of each statement that writes the batch, which is committed then.
    fn commit(table: &mut Table<HaltRecord>, batch: Vec<Changed<HaltRecord>>) -> Vec<&'static str> {
        batch.into_iter().for_each(|changes| table.change(changes));
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        table.settle();
        out.iter().map(|query| query.sql.split(' ').next().unwrap()).collect()
    }

    #[test]
    fn what_a_batch_does_to_one_record_is_written_once() {
        let mut table = Table::default();
        assert!(table.find(&HaltScope::All).is_err(), "what was not read is not absent");
        table.load(HaltScope::All, Ok(None));
        assert_eq!(commit(&mut table, vec![put("a"), remove()]), Vec::<&str>::new());
        assert_eq!(commit(&mut table, vec![put("a"), put("b")]), ["INSERT"]);
        assert_eq!(commit(&mut table, vec![]), Vec::<&str>::new());
        assert_eq!(commit(&mut table, vec![remove(), put("c"), put("d")]), ["UPDATE"]);
        assert_eq!(table.find(&HaltScope::All).unwrap().unwrap().why, "d");
        assert_eq!(commit(&mut table, vec![put("e"), remove()]), ["DELETE"]);
        assert_eq!(table.find(&HaltScope::All).unwrap(), None);
    }

    #[test]
    fn a_damaged_record_is_a_fault_and_is_read_again_by_the_next_batch() {
        let mut table: Table<HaltRecord> = Table::default();
        table.load(HaltScope::All, Err(Damage("odd".into())));
        assert!(matches!(table.find(&HaltScope::All), Err(LedgerFault::Damaged(_))));
        assert_eq!(table.left().count(), 0, "nothing is said of it");
        table.settle();
        assert!(!table.knows(&HaltScope::All));
    }
}
