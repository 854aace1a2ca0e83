//! Accounts, with which people sign in to a browser, as they are stored.

use std::{collections::BTreeSet, fmt};

use countersign_audit::Hash;
use countersign_gate::ledger::LedgerFault;
use countersign_rules::{PasskeyId, PersonId};

use super::{Record, passkey::PasskeyRecord};
use crate::row::{Damage, SqlStatement, StoredRow, Value, json};

/// This is what is kept of a password. It is not shown: guesses could be tried on it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// What is kept where there is no password: nothing that is presented fits it.
    #[must_use]
    pub const fn none() -> Self {
        Self(String::new())
    }

    /// Takes a hash in the form of the Password Hashing Competition: `$argon2id$v=19$…`.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns true if nothing is kept, because there is no password.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the hash as it was given.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// A configured person signs in with this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// The account is this person's.
    pub person: PersonId,
    /// This is kept of the password.
    pub password: PasswordHash,
    /// These are the SHA-256 of the recovery codes that were not used yet.
    pub codes: Vec<Hash>,
    /// Sessions and links are good only in the round in which they were made. A new one begins when the account is
    /// set up, disabled, or signed out everywhere.
    pub round: u64,
    /// The account was set up first at this time, in Unix milliseconds UTC.
    pub created_ms: i64,
    /// The password was set last at this time, in Unix milliseconds UTC.
    pub changed_ms: i64,
    /// The link by which the account was set up last was made by this person, by the command line or by the server; or it is
    /// the provider by which its person signed in first, after `provider `.
    pub made_by: String,
    /// These people had the account in their hands when it was set up last: whoever made the link, and whoever had
    /// had that person's account.
    pub makers: BTreeSet<PersonId>,
    /// The account was disabled at this time, in Unix milliseconds UTC; it is not disabled when `None`.
    pub disabled_ms: Option<i64>,
    /// Passkeys know the account by this random value, in base64url; there is none before the first.
    pub handle: Option<String>,
    /// The person has these passkeys, the oldest first.
    pub passkeys: Vec<PasskeyRecord>,
}

impl AccountRecord {
    /// Tells whether the person may sign in with it.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.disabled_ms.is_none()
    }

    /// Returns the passkey of this id, if the person has it.
    #[must_use]
    pub fn passkey(&self, id: &PasskeyId) -> Option<&PasskeyRecord> {
        self.passkeys.iter().find(|passkey| passkey.id == *id)
    }

    fn values(&self) -> Result<Vec<Value>, LedgerFault> {
        let codes: Vec<String> = self.codes.iter().map(Hash::to_string).collect();
        Ok(vec![
            self.password.expose().into(),
            json(&codes)?,
            self.round.into(),
            self.created_ms.into(),
            self.changed_ms.into(),
            self.made_by.as_str().into(),
            json(&self.makers)?,
            self.disabled_ms.into(),
            self.handle.as_deref().into(),
            json(&self.passkeys)?,
        ])
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT person, password, codes, round, created_ms, changed_ms, made_by, makers, disabled_ms, handle, \
             passkeys FROM account ",
            $rest
        )
    };
}

impl Record for AccountRecord {
    type Key = PersonId;

    fn select(person: &PersonId) -> SqlStatement {
        SqlStatement::new(select!("WHERE person = $1"), vec![person.as_str().into()])
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        let codes: Vec<String> = row.json(2)?;
        let codes: Result<Vec<Hash>, _> = codes.iter().map(|code| code.parse()).collect();
        Ok(Self {
            person: row.parse(0)?,
            password: PasswordHash(row.text(1)?.to_owned()),
            codes: codes.map_err(|_why| Damage("what is kept of a recovery code is no hash".into()))?,
            round: row.count(3)?,
            created_ms: row.int(4)?,
            changed_ms: row.int(5)?,
            made_by: row.text(6)?.to_owned(),
            makers: row.json(7)?,
            disabled_ms: row.optional_int(8)?,
            handle: row.optional_text(9)?.map(ToOwned::to_owned),
            passkeys: row.optional_json(10)?.unwrap_or_default(),
        })
    }

    fn insert(&self, person: &PersonId) -> Result<SqlStatement, LedgerFault> {
        let mut params = vec![person.as_str().into()];
        params.extend(self.values()?);
        Ok(SqlStatement::one(
            "INSERT INTO account (person, password, codes, round, created_ms, changed_ms, made_by, makers, \
             disabled_ms, handle, passkeys) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            params,
        ))
    }

    fn update(&self, person: &PersonId) -> Result<SqlStatement, LedgerFault> {
        let mut params = self.values()?;
        params.push(person.as_str().into());
        Ok(SqlStatement::one(
            "UPDATE account SET password = $1, codes = $2, round = $3, created_ms = $4, changed_ms = $5, \
             made_by = $6, makers = $7, disabled_ms = $8, handle = $9, passkeys = $10 WHERE person = $11",
            params,
        ))
    }

    /// Returns false: what opens a door is read each time.
    fn is_kept(_account: Option<&Self>) -> bool {
        false
    }
}

/// Returns the statement that reads the account that passkeys know by a handle.
pub(crate) fn select_handle(handle: &str) -> SqlStatement {
    SqlStatement::new(select!("WHERE handle = $1"), vec![handle.into()])
}

/// Returns the statement that reads every account.
pub(crate) fn select_all() -> SqlStatement {
    SqlStatement::new(select!("ORDER BY person"), Vec::new())
}
