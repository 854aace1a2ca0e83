//! Sessions of people in a browser, as they are stored.

use std::collections::BTreeSet;

use countersign_audit::Hash;
use countersign_gate::ledger::LedgerFault;
use countersign_rules::{GroupName, PersonId, ProviderName};
use serde::{Deserialize, Serialize};

use super::{Record, account::AccountRecord};
use crate::row::{Damage, SqlStatement, StoredRow, Value, json};

/// An identity provider has vouched for the person of a session so, at sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// This provider did.
    pub provider: ProviderName,
    /// The claim by which the configuration knows the person had this value.
    pub subject: String,
    /// The provider's own name of the person, by which it signs them out.
    pub sub: String,
    /// The provider's own name of its session, if it said one.
    pub sid: Option<String>,
    /// The person is in these groups of ours by what the provider said. There are none any more once it has ended the
    /// session.
    pub groups: BTreeSet<GroupName>,
}

/// The store has a session of a person so: without the token that is presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSessionRecord {
    /// This is the session's public id.
    pub id: String,
    /// This person signed in.
    pub person: PersonId,
    /// The session is good in this round of the account.
    pub round: u64,
    /// The person signed in at this time, in Unix milliseconds UTC.
    pub created_ms: i64,
    /// The session was used last at about this time, in Unix milliseconds UTC.
    pub seen_ms: i64,
    /// The session is over at this time at the latest, in Unix milliseconds UTC.
    pub expires_ms: i64,
    /// The person signed out at this time, in Unix milliseconds UTC; not yet when `None`.
    pub ended_ms: Option<i64>,
    /// A provider has vouched for the person; `None` where the person signed in with an account of ours.
    pub vouched: Option<Vouched>,
}

/// A session that opens nothing is refused for one of these reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebSessionRefusal {
    /// There is no such session, or it was forgotten long after it was over.
    Unknown,
    /// The person has signed out, here or everywhere, or the account was set up anew.
    SignedOut,
    /// The session is over: it lasted as long as it may, or was not used for too long.
    Expired,
    /// The account is disabled.
    Disabled,
}

impl WebSessionRecord {
    /// Tells whether the session is good at `now_ms` (Unix milliseconds UTC), as the account stands, where it may
    /// be unused for less than `idle_ms`.
    ///
    /// # Errors
    /// Returns why it is not.
    pub fn check(&self, account: &AccountRecord, now_ms: i64, idle_ms: i64) -> Result<(), WebSessionRefusal> {
        if !account.is_enabled() {
            return Err(WebSessionRefusal::Disabled);
        }
        if self.ended_ms.is_some() || account.round != self.round {
            return Err(WebSessionRefusal::SignedOut);
        }
        if now_ms >= self.expires_ms || now_ms.saturating_sub(self.seen_ms) >= idle_ms {
            return Err(WebSessionRefusal::Expired);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebSessionRow {
    pub(crate) record: WebSessionRecord,
    pub(crate) hash: Hash,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, hash, person, round, created_ms, seen_ms, expires_ms, ended_ms, vouched FROM web_session ",
            $rest
        )
    };
}

impl Record for WebSessionRow {
    type Key = String;

    fn select(id: &String) -> SqlStatement {
        SqlStatement::new(select!("WHERE id = $1"), vec![id.as_str().into()])
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        let record = WebSessionRecord {
            id: row.text(0)?.to_owned(),
            person: row.parse(2)?,
            round: row.count(3)?,
            created_ms: row.int(4)?,
            seen_ms: row.int(5)?,
            expires_ms: row.int(6)?,
            ended_ms: row.optional_int(7)?,
            vouched: row.optional_json(8)?,
        };
        let hash = Hash::from_slice(row.bytes(1)?).map_err(|why| Damage(why.to_string()))?;
        Ok(Self { record, hash })
    }

    fn insert(&self, id: &String) -> Result<SqlStatement, LedgerFault> {
        let Self { record, hash } = self;
        Ok(SqlStatement::one(
            "INSERT INTO web_session (id, hash, person, round, created_ms, seen_ms, expires_ms, ended_ms, vouched) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            vec![
                id.as_str().into(),
                hash.as_bytes().to_vec().into(),
                record.person.as_str().into(),
                record.round.into(),
                record.created_ms.into(),
                record.seen_ms.into(),
                record.expires_ms.into(),
                record.ended_ms.into(),
                vouched(record)?,
            ],
        ))
    }

    fn update(&self, id: &String) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "UPDATE web_session SET seen_ms = $1, ended_ms = $2, vouched = $3, round = $4 WHERE id = $5",
            vec![
                self.record.seen_ms.into(),
                self.record.ended_ms.into(),
                vouched(&self.record)?,
                self.record.round.into(),
                id.as_str().into(),
            ],
        ))
    }

    /// Returns false: what opens a door is read each time.
    fn is_kept(_session: Option<&Self>) -> bool {
        false
    }
}

fn vouched(record: &WebSessionRecord) -> Result<Value, LedgerFault> {
    record.vouched.as_ref().map_or(Ok(Value::Null), json)
}

/// Returns the statement that reads every session that is not forgotten, in no order that means anything.
pub(crate) fn select_all() -> SqlStatement {
    SqlStatement::new(select!("ORDER BY id"), Vec::new())
}
