//! One-time links, by which people set up their accounts, as they are stored.

use std::collections::BTreeSet;

use countersign_audit::Hash;
use countersign_gate::ledger::LedgerFault;
use countersign_rules::PersonId;

use super::{Record, account::AccountRecord};
use crate::row::{Damage, SqlStatement, StoredRow, json};

/// The store has a link so: without the token that is presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    /// This is the link's public id.
    pub id: String,
    /// The link is for this person.
    pub person: PersonId,
    /// The link was made by this person, by the command line or by the server.
    pub made_by: String,
    /// These people have the account in their hands by it; see [`AccountRecord::makers`].
    pub makers: BTreeSet<PersonId>,
    /// The link is good in this round of the account; 0 where there was none yet.
    pub round: u64,
    /// The link stops being good at this time, in Unix milliseconds UTC.
    pub expires_ms: i64,
    /// The link was spent at this time, in Unix milliseconds UTC; it is not spent when `None`.
    pub spent_ms: Option<i64>,
}

/// A link that sets up nothing is refused for one of these reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRefusal {
    /// There is no such link, or it was forgotten long after it expired.
    Unknown,
    /// The link was spent.
    Spent,
    /// The link has expired.
    Expired,
    /// The account was set up by another link since, or signed out everywhere.
    Overtaken,
    /// The account is disabled.
    Disabled,
}

impl LinkRecord {
    /// Tells whether the link sets up the account, as that stands at `now_ms` (Unix milliseconds UTC).
    pub(crate) fn check(&self, account: Option<&AccountRecord>, now_ms: i64) -> Result<(), LinkRefusal> {
        if self.spent_ms.is_some() {
            return Err(LinkRefusal::Spent);
        }
        if now_ms >= self.expires_ms {
            return Err(LinkRefusal::Expired);
        }
        match account {
            Some(account) if !account.is_enabled() => Err(LinkRefusal::Disabled),
            Some(account) if account.round != self.round => Err(LinkRefusal::Overtaken),
            Some(_) | None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkRow {
    pub(crate) record: LinkRecord,
    pub(crate) hash: Hash,
}

impl Record for LinkRow {
    type Key = String;

    fn select(id: &String) -> SqlStatement {
        SqlStatement::new(
            "SELECT id, hash, person, made_by, makers, round, expires_ms, spent_ms FROM account_link \
             WHERE id = $1",
            vec![id.as_str().into()],
        )
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        let record = LinkRecord {
            id: row.text(0)?.to_owned(),
            person: row.parse(2)?,
            made_by: row.text(3)?.to_owned(),
            makers: row.json(4)?,
            round: row.count(5)?,
            expires_ms: row.int(6)?,
            spent_ms: row.optional_int(7)?,
        };
        let hash = Hash::from_slice(row.bytes(1)?).map_err(|why| Damage(why.to_string()))?;
        Ok(Self { record, hash })
    }

    fn insert(&self, id: &String) -> Result<SqlStatement, LedgerFault> {
        let Self { record, hash } = self;
        Ok(SqlStatement::one(
            "INSERT INTO account_link (id, hash, person, made_by, makers, round, expires_ms, spent_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            vec![
                id.as_str().into(),
                hash.as_bytes().to_vec().into(),
                record.person.as_str().into(),
                record.made_by.as_str().into(),
                json(&record.makers)?,
                record.round.into(),
                record.expires_ms.into(),
                record.spent_ms.into(),
            ],
        ))
    }

    fn update(&self, id: &String) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "UPDATE account_link SET spent_ms = $1 WHERE id = $2",
            vec![self.record.spent_ms.into(), id.as_str().into()],
        ))
    }

    /// Returns false: a link is looked for twice in its life.
    fn is_kept(_link: Option<&Self>) -> bool {
        false
    }
}
