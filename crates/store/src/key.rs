//! API keys of agents and people: shown once, kept as a hash.

use std::sync::Arc;

use countersign_audit::{Hash, sha256};
use countersign_gate::{Entry, entry::Kind, ledger::LedgerFault};
use countersign_rules::{AgentId, PersonId};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::{
    log::Encoded,
    queue::Operation,
    records::{Changes, Key, Needs, Records},
    row::{Damage, Query, Row, json},
    store::Store,
};

/// What every key begins with, so that scanners for leaked secrets find it.
pub const KEY_PREFIX: &str = "csk_";

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOwner {
    /// An agent's.
    Agent(AgentId),
    /// A person's.
    Person(PersonId),
}

/// A key as the store has it: without what could be presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public id; the part of the key after the prefix.
    pub id: String,
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it may be used for; words whose meaning is the front door's. Empty: everything its owner may.
    pub scopes: Vec<String>,
    /// When it was issued, in Unix milliseconds UTC.
    pub issued_ms: i64,
    /// When it stops being good, in Unix milliseconds UTC; never when `None`.
    pub expires_ms: Option<i64>,
    /// When it was revoked, in Unix milliseconds UTC.
    pub revoked_ms: Option<i64>,
}

impl KeyRecord {
    /// Whether it is neither revoked nor expired at a moment, in Unix milliseconds UTC.
    #[must_use]
    pub fn is_good(&self, now_ms: i64) -> bool {
        self.revoked_ms.is_none() && self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }
}

/// A key to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it may be used for; see [`KeyRecord::scopes`].
    pub scopes: Vec<String>,
    /// When it stops being good, in Unix milliseconds UTC; never when `None`.
    pub expires_ms: Option<i64>,
    /// Who issues it: a person, or the command line.
    pub by: String,
    /// When, in Unix milliseconds UTC.
    pub now_ms: i64,
}

/// The entry of a key that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyIssued {
    /// By whom: a person, or the command line.
    pub by: String,
    /// The key's public id.
    pub key: String,
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it may be used for; see [`KeyRecord::scopes`].
    pub scopes: Vec<String>,
    /// When it stops being good, in Unix milliseconds UTC; never when `None`.
    pub expires_ms: Option<i64>,
}

impl Kind for KeyIssued {
    const WORD: &'static str = "key_issued";
}

/// The entry of a key that was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// By whom: a person, or the command line.
    pub by: String,
    /// The key's public id.
    pub key: String,
}

impl Kind for KeyRevoked {
    const WORD: &'static str = "key_revoked";
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    record: KeyRecord,
    hash: Hash,
}

impl Store {
    /// Issues a key made of 32 random bytes and answers it. It is shown this once: the store keeps a hash.
    ///
    /// # Errors
    /// [`LedgerFault`]; then there is no such key, unless it is [`LedgerFault::Unknown`].
    pub async fn issue_key(&self, new: NewKey, random: [u8; 32]) -> Result<(KeyRecord, String), LedgerFault> {
        let id: String = sha256(&[b"countersign key id".as_slice(), &random].concat())
            .to_string()
            .chars()
            .take(12)
            .collect();
        let presented = format!("{KEY_PREFIX}{id}_{}", Hash::from_bytes(random));
        let record = KeyRecord {
            id,
            owner: new.owner,
            scopes: new.scopes,
            issued_ms: new.now_ms,
            expires_ms: new.expires_ms,
            revoked_ms: None,
        };
        let hash = sha256(presented.as_bytes());
        let issued = KeyIssued {
            by: new.by,
            expires_ms: record.expires_ms,
            key: record.id.clone(),
            owner: record.owner.clone(),
            scopes: record.scopes.clone(),
        };
        let entry = Entry::new(new.now_ms, &issued);
        self.submit(IssueKey { row: KeyRow { record: record.clone(), hash }, entry: Encoded::of(&entry)? })
            .await?;
        Ok((record, presented))
    }

    /// The key that is presented, when it is one, and is good at `now_ms`: neither expired nor revoked.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn find_key(&self, presented: &str, now_ms: i64) -> Result<Option<KeyRecord>, LedgerFault> {
        let id =
            presented.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _secret)| id);
        let Some(id) = id.filter(|id| id.len() == 12) else { return Ok(None) };
        let Some(KeyRow { record, hash }) = self.key(id).await? else { return Ok(None) };
        // In constant time: how much of a guess is right must not be measurable.
        let same = bool::from(sha256(presented.as_bytes()).as_bytes().ct_eq(hash.as_bytes()));
        Ok((same && record.is_good(now_ms)).then_some(record))
    }

    /// Whether the key of this id is good now; `None` when there is none.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn key_is_good(&self, id: &str, now_ms: i64) -> Result<Option<bool>, LedgerFault> {
        Ok(self.key(id).await?.map(|row| row.record.is_good(now_ms)))
    }

    /// Revokes a key. Answers whether there was one that was not revoked yet.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn revoke_key(&self, id: &str, by: &str, now_ms: i64) -> Result<bool, LedgerFault> {
        let entry = Entry::new(now_ms, &KeyRevoked { by: by.to_owned(), key: id.to_owned() });
        self.submit(RevokeKey { id: id.to_owned(), now_ms, entry: Encoded::of(&entry)? }).await
    }

    /// Every key that was ever issued, oldest first.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, LedgerFault> {
        let rows = self
            .scan(Query::new(
                "SELECT id, hash, owner, scopes, issued_ms, expires_ms, revoked_ms FROM api_key \
                 ORDER BY issued_ms, id",
                Vec::new(),
            ))
            .await?;
        rows.iter().map(|row| Ok(KeyRow::read(row)?.record)).collect()
    }
}

struct IssueKey {
    row: KeyRow,
    entry: Arc<Encoded>,
}

impl Operation for IssueKey {
    type Output = ();

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Credential(self.row.record.id.clone()));
    }

    fn apply(&self, records: &Records) -> Result<((), Changes), LedgerFault> {
        let id = &self.row.record.id;
        if records.credentials.find(id)?.is_some() {
            return Err(LedgerFault::Unavailable("a key of this id was issued before".into()));
        }
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.credentials.push((id.clone(), self.row.clone()));
        Ok(((), changes))
    }
}

struct RevokeKey {
    id: String,
    now_ms: i64,
    entry: Arc<Encoded>,
}

impl Operation for RevokeKey {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Credential(self.id.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let Some(row) = records.credentials.find(&self.id)?.filter(|row| row.record.revoked_ms.is_none())
        else {
            return Ok((false, Changes::default()));
        };
        let mut row = row.clone();
        row.record.revoked_ms = Some(self.now_ms);
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.credentials.push((self.id.clone(), row));
        Ok((true, changes))
    }
}

impl KeyRow {
    #[cfg(test)]
    pub(crate) const fn new(record: KeyRecord, hash: Hash) -> Self {
        Self { record, hash }
    }

    pub(crate) fn read(row: &Row) -> Result<Self, Damage> {
        let record = KeyRecord {
            id: row.text(0)?.to_owned(),
            owner: row.json(2)?,
            scopes: row.json(3)?,
            issued_ms: row.int(4)?,
            expires_ms: row.optional_int(5)?,
            revoked_ms: row.optional_int(6)?,
        };
        let hash = Hash::from_slice(row.bytes(1)?).map_err(|why| Damage(why.to_string()))?;
        Ok(Self { record, hash })
    }
}

pub(crate) fn select(id: &str) -> Query {
    Query::new(
        "SELECT id, hash, owner, scopes, issued_ms, expires_ms, revoked_ms FROM api_key WHERE id = $1",
        vec![id.into()],
    )
}

pub(crate) fn insert(id: &str, row: &KeyRow) -> Result<Query, LedgerFault> {
    let KeyRow { record, hash } = row;
    Ok(Query::one(
        "INSERT INTO api_key (id, hash, owner, scopes, issued_ms, expires_ms, revoked_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        vec![
            id.into(),
            hash.as_bytes().to_vec().into(),
            json(&record.owner)?,
            json(&record.scopes)?,
            record.issued_ms.into(),
            record.expires_ms.into(),
            record.revoked_ms.into(),
        ],
    ))
}

pub(crate) fn update(id: &str, row: &KeyRow) -> Result<Query, LedgerFault> {
    Ok(Query::one(
        "UPDATE api_key SET revoked_ms = $1 WHERE id = $2",
        vec![row.record.revoked_ms.into(), id.into()],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_each_kind_of_entry_are_as_they_were() {
        let issued = KeyIssued {
            by: "cli".into(),
            key: "0a1b2c3d4e5f".into(),
            owner: KeyOwner::Agent(AgentId::parse("ada").unwrap()),
            scopes: vec!["tool:refund".into()],
            expires_ms: None,
        };
        let revoked = KeyRevoked { by: "carol".into(), key: "0a1b2c3d4e5f".into() };
        let entries = [
            (
                Entry::new(0, &issued),
                r#"{"by":"cli","expires_ms":null,"key":"0a1b2c3d4e5f","owner":{"agent":"ada"},"scopes":["tool:refund"]}"#,
                "key_issued",
            ),
            (Entry::new(0, &revoked), r#"{"by":"carol","key":"0a1b2c3d4e5f"}"#, "key_revoked"),
        ];
        for (entry, body, kind) in &entries {
            let whole = format!(r#"{{"at":"1970-01-01T00:00:00.000Z","body":{body},"kind":"{kind}","v":1}}"#);
            assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), whole);
        }
        assert_eq!(entries[0].0.read(), Some(issued));
        assert_eq!(entries[1].0.read(), Some(revoked));
    }
}
