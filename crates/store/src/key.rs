//! API keys of agents and people: shown once, kept as a hash.

use std::sync::Arc;

use countersign_audit::{Hash, sha256};
use countersign_gate::{NewEntry, entry::Kind, ledger::LedgerFault};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::{
    queue::Operation,
    record::{
        Record as _,
        key::{self, KeyOwner, KeyRecord, KeyRow, NewKey},
    },
    records::{Changes, Key, Needs, Records},
    store::Store,
    tail::Encoded,
};

/// Every key begins with this, so that scanners for leaked secrets find it.
pub const KEY_PREFIX: &str = "csk_";

/// This entry says that a key was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyIssued {
    /// The key was issued by this person, or by the command line.
    pub by: String,
    /// The key has this public id.
    pub key: String,
    /// The key belongs to this agent or person.
    pub owner: KeyOwner,
    /// The key may be used for this; see [`KeyRecord::scopes`].
    pub scopes: Vec<String>,
    /// The key stops being good at this time, in Unix milliseconds UTC; never when `None`.
    pub expires_ms: Option<i64>,
}

impl Kind for KeyIssued {
    const WORD: &'static str = "key_issued";
}

/// This entry says that a key was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// The key was revoked by this person, or by the command line.
    pub by: String,
    /// The key has this public id.
    pub key: String,
}

impl Kind for KeyRevoked {
    const WORD: &'static str = "key_revoked";
}

impl Store {
    /// Issues a key made of 32 random bytes, and returns it. It is shown this once: the store keeps a hash.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then there is no such key, unless it is [`LedgerFault::Unknown`].
    pub async fn issue_key(&self, new: NewKey, random: [u8; 32]) -> Result<(KeyRecord, String), LedgerFault> {
        let id = id_of(b"countersign key id", &random);
        let (issue, record, presented) = issue(new, id, random)?;
        // A crash before this is durable leaves no key; after it, a key that nobody knows and nobody can
        // present: an operator sees it in the list, and revokes it.
        if self.submit(issue).await? {
            return Ok((record, presented));
        }
        Err(LedgerFault::Unavailable("a key of this id was issued before".into()))
    }

    /// Issues a key as [`Store::issue_key`] does, once for what `of` names, whoever asks how often and at which server of the
    /// ledger. Returns `None` if it was issued before.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then there is no such key, unless it is [`LedgerFault::Unknown`].
    pub async fn issue_key_once(
        &self,
        new: NewKey,
        of: &str,
        random: [u8; 32],
    ) -> Result<Option<(KeyRecord, String)>, LedgerFault> {
        // Keys are never forgotten, and so is nothing of what one was issued for.
        let id = id_of(b"countersign key id of ", of.as_bytes());
        let (issue, record, presented) = issue(new, id, random)?;
        // A crash before this is durable leaves no key; after it, one that nobody knows, until it expires.
        Ok(self.submit(issue).await?.then_some((record, presented)))
    }

    /// Returns the record of the key that is presented, when it is one, and is good at `now_ms` (Unix
    /// milliseconds UTC): neither expired nor revoked.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn find_key(&self, presented: &str, now_ms: i64) -> Result<Option<KeyRecord>, LedgerFault> {
        let id =
            presented.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _secret)| id);
        let Some(id) = id.filter(|id| id.len() == 12) else { return Ok(None) };
        let Some(KeyRow { record, hash }) = self.key(id).await? else { return Ok(None) };
        // In constant time: how much of a guess is right must not be measurable.
        let same = bool::from(sha256(presented.as_bytes()).as_bytes().ct_eq(hash.as_bytes()));
        Ok((same && record.is_good(now_ms)).then_some(record))
    }

    /// Returns the key of a public id, good or not.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn key_of_id(&self, id: &str) -> Result<Option<KeyRecord>, LedgerFault> {
        Ok(self.key(id).await?.map(|row| row.record))
    }

    /// Tells whether the key of this id is good at `now_ms` (Unix milliseconds UTC); `None` when there is no
    /// such key.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn key_is_good(&self, id: &str, now_ms: i64) -> Result<Option<bool>, LedgerFault> {
        Ok(self.key(id).await?.map(|row| row.record.is_good(now_ms)))
    }

    /// Revokes a key. Returns true if there was one that was not revoked yet.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then the key is as it was, unless it is [`LedgerFault::Unknown`].
    pub async fn revoke_key(&self, id: &str, by: &str, now_ms: i64) -> Result<bool, LedgerFault> {
        let entry = NewEntry::new(now_ms, &KeyRevoked { by: by.to_owned(), key: id.to_owned() });
        // A crash before this is durable leaves the key good, and whoever asked was not told otherwise; after
        // it, it is good for nothing.
        self.submit(RevokeKey { id: id.to_owned(), now_ms, entry: Encoded::of(&entry)? }).await
    }

    /// Returns every key that was ever issued, oldest first.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, LedgerFault> {
        let rows = self.scan(key::select_all()).await?;
        rows.iter().map(|row| Ok(KeyRow::read(row)?.record)).collect()
    }
}

fn id_of(kind: &[u8], of: &[u8]) -> String {
    sha256(&[kind, of].concat()).to_string().chars().take(12).collect()
}

fn issue(new: NewKey, id: String, random: [u8; 32]) -> Result<(IssueKey, KeyRecord, String), LedgerFault> {
    let presented = format!("{KEY_PREFIX}{id}_{}", Hash::from_bytes(random));
    let record = KeyRecord {
        id,
        owner: new.owner,
        scopes: new.scopes,
        issued_ms: new.now_ms,
        expires_ms: new.expires_ms,
        revoked_ms: None,
    };
    let issued = KeyIssued {
        by: new.by,
        expires_ms: record.expires_ms,
        key: record.id.clone(),
        owner: record.owner.clone(),
        scopes: record.scopes.clone(),
    };
    let entry = Encoded::of(&NewEntry::new(new.now_ms, &issued))?;
    let row = KeyRow { record: record.clone(), hash: sha256(presented.as_bytes()) };
    Ok((IssueKey { row, entry }, record, presented))
}

struct IssueKey {
    row: KeyRow,
    entry: Arc<Encoded>,
}

impl Operation for IssueKey {
    /// Whether it was issued: there was none of this id.
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Credential(self.row.record.id.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let id = &self.row.record.id;
        if records.credentials.find(id)?.is_some() {
            return Ok((false, Changes::default()));
        }
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.credentials.put(id.clone(), self.row.clone());
        Ok((true, changes))
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
        changes.credentials.put(self.id.clone(), row);
        Ok((true, changes))
    }
}

#[cfg(test)]
mod tests {
    use countersign_rules::AgentId;

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
                NewEntry::new(0, &issued),
                r#"{"by":"cli","expires_ms":null,"key":"0a1b2c3d4e5f","owner":{"agent":"ada"},"scopes":["tool:refund"]}"#,
                "key_issued",
            ),
            (NewEntry::new(0, &revoked), r#"{"by":"carol","key":"0a1b2c3d4e5f"}"#, "key_revoked"),
        ];
        for (entry, body, kind) in &entries {
            let whole = format!(r#"{{"at":"1970-01-01T00:00:00.000Z","body":{body},"kind":"{kind}","v":1}}"#);
            assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), whole);
        }
        assert_eq!(entries[0].0.read(), Some(issued));
        assert_eq!(entries[1].0.read(), Some(revoked));
    }
}
