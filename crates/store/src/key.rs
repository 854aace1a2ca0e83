//! API keys of agents and people: shown once, kept as a hash.

use std::sync::Arc;

use countersign_audit::{Hash, sha256};
use countersign_gate::{Entry, ledger::LedgerFault};
use countersign_rules::{AgentId, PersonId};
use serde::{Deserialize, Serialize};
use serde_json::json as body;
use subtle::ConstantTimeEq as _;

use crate::{
    image::{Changes, Image, Key, Needs},
    log::Encoded,
    row::{Damage, Query, Row, json},
    store::Store,
    writer::Operation,
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
        let entry = Entry::administered(
            new.now_ms,
            "key_issued",
            body!({
                "by": new.by,
                "expires_ms": record.expires_ms,
                "key": record.id,
                "owner": record.owner,
                "scopes": record.scopes,
            }),
        );
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
        let entry = Entry::administered(now_ms, "key_revoked", body!({ "by": by, "key": id }));
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

    fn needs(&self, image: &Image, needs: &mut Needs) {
        needs.name(image, &Key::Credential(self.row.record.id.clone()));
    }

    fn apply(&self, image: &Image) -> Result<((), Changes), LedgerFault> {
        let id = &self.row.record.id;
        if image.credentials.find(id)?.is_some() {
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

    fn needs(&self, image: &Image, needs: &mut Needs) {
        needs.name(image, &Key::Credential(self.id.clone()));
    }

    fn apply(&self, image: &Image) -> Result<(bool, Changes), LedgerFault> {
        let Some(row) = image.credentials.find(&self.id)?.filter(|row| row.record.revoked_ms.is_none())
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
