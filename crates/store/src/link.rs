//! One-time links, by which people set up their accounts.

use std::{collections::BTreeSet, sync::Arc};

use countersign_gate::{NewEntry, entry::Kind, ledger::LedgerFault};
use countersign_rules::PersonId;
use serde::{Deserialize, Serialize};

use crate::{
    queue::Operation,
    record::{
        Record as _,
        link::{LinkRecord, LinkRefusal, LinkRow},
    },
    records::{Changes, Key, Needs, Records},
    store::Store,
    tail::Encoded,
    token,
};

/// This is a link to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLink {
    /// The link is for this person.
    pub person: PersonId,
    /// The link is made by this person, by the command line or by the server.
    pub by: String,
    /// This is the person who makes it, if it is one.
    pub maker: Option<PersonId>,
    /// The link stops being good at this time, in Unix milliseconds UTC.
    pub expires_ms: i64,
    /// The link is made at this time, in Unix milliseconds UTC.
    pub now_ms: i64,
}

/// This entry says that a link was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkMade {
    by: String,
    expires_ms: i64,
    link: String,
    person: PersonId,
}

impl Kind for LinkMade {
    const WORD: &'static str = "link_made";
}

/// Returns the public id of the link of a token.
pub(crate) fn id_of(token: &str) -> String {
    token::id("link", token)
}

impl Store {
    /// Makes a link that is opened with `token`, a random text that nobody can guess. The store keeps a hash of it.
    /// Returns false, and makes none, if the person's account is disabled.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then there is no such link, unless it is [`LedgerFault::Unknown`].
    pub async fn make_link(&self, new: NewLink, token: &str) -> Result<bool, LedgerFault> {
        let id = id_of(token);
        let made = LinkMade {
            by: new.by.clone(),
            expires_ms: new.expires_ms,
            link: id.clone(),
            person: new.person.clone(),
        };
        let entry = Encoded::of(&NewEntry::new(new.now_ms, &made))?;
        // A crash before this is durable leaves no link; after it, one whose token nobody knows, until it expires.
        self.submit(MakeLink { id, hash: token::hash(token), new, entry }).await
    }

    /// Returns the link of a token, if it is good at `now_ms` (Unix milliseconds UTC), and why it is not otherwise.
    /// Nothing changes.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn look_at_link(
        &self,
        token: &str,
        now_ms: i64,
    ) -> Result<Result<LinkRecord, LinkRefusal>, LedgerFault> {
        let rows = self.select(LinkRow::select(&id_of(token))).await?;
        let row = rows.first().map(LinkRow::read).transpose()?;
        let Some(row) = row.filter(|row| token::fits(token, &row.hash)) else {
            return Ok(Err(LinkRefusal::Unknown));
        };
        let account = self.account(&row.record.person).await?;
        Ok(row.record.check(account.as_ref(), now_ms).map(|()| row.record))
    }
}

struct MakeLink {
    id: String,
    hash: countersign_audit::Hash,
    new: NewLink,
    entry: Arc<Encoded>,
}

impl Operation for MakeLink {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Link(self.id.clone()));
        needs.name(records, &Key::Account(self.new.person.clone()));
        if let Some(maker) = &self.new.maker {
            needs.name(records, &Key::Account(maker.clone()));
        }
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let NewLink { person, by, maker, expires_ms, now_ms: _ } = &self.new;
        if records.links.find(&self.id)?.is_some() {
            return Err(LedgerFault::Unavailable("a link of this id was made before".into()));
        }
        let account = records.accounts.find(person)?;
        if account.is_some_and(|account| !account.is_enabled()) {
            return Ok((false, Changes::default()));
        }
        // INVARIANT: who has an account in their hands has all in their hands that are set up through it.
        let mut makers = BTreeSet::new();
        if let Some(maker) = maker {
            makers.insert(maker.clone());
            let theirs = records.accounts.find(maker)?;
            makers.extend(theirs.into_iter().flat_map(|account| account.makers.iter().cloned()));
        }
        let record = LinkRecord {
            id: self.id.clone(),
            person: person.clone(),
            made_by: by.clone(),
            makers,
            round: account.map_or(0, |account| account.round),
            expires_ms: *expires_ms,
            spent_ms: None,
        };
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.links.put(self.id.clone(), LinkRow { record, hash: self.hash });
        Ok((true, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_entry_are_as_they_were() {
        let made = LinkMade {
            by: "carol".into(),
            expires_ms: 3_600_000,
            link: "0a1b2c3d4e5f".into(),
            person: PersonId::parse("ann").unwrap(),
        };
        let entry = NewEntry::new(0, &made);
        assert_eq!(
            String::from_utf8(entry.encode().unwrap()).unwrap(),
            r#"{"at":"1970-01-01T00:00:00.000Z","body":{"by":"carol","expires_ms":3600000,"link":"0a1b2c3d4e5f","person":"ann"},"kind":"link_made","v":1}"#
        );
        assert_eq!(entry.read(), Some(made));
    }
}
