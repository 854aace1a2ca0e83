//! Accounts, with which people sign in to a browser: setting one up by a link, and ending what it opens.

use std::sync::Arc;

use countersign_audit::Hash;
use countersign_gate::{NewEntry, entry::Kind, ledger::LedgerFault};
use countersign_rules::PersonId;
use serde::{Deserialize, Serialize};

use crate::{
    link,
    passkey::{self, NewPasskey},
    queue::Operation,
    record::{
        Record as _,
        account::{self, AccountRecord, PasswordHash},
        link::LinkRefusal,
        web_session::WebSessionRecord,
    },
    records::{Changes, Key, Needs, Records},
    store::Store,
    tail::Encoded,
    token,
    web_session::{self, NewWebSession, SignedIn, SignedOut, With},
};

/// This is what an account is set up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// This is kept of the password.
    pub password: PasswordHash,
    /// These are the SHA-256 of the recovery codes.
    pub codes: Vec<Hash>,
    /// The person signs in with this passkey from the beginning.
    pub passkey: Option<NewPasskey>,
}

/// This entry says that an account was set up, or set up anew, by a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AccountSetUp {
    anew: bool,
    by: String,
    link: String,
    person: PersonId,
}

impl Kind for AccountSetUp {
    const WORD: &'static str = "account_set_up";
}

/// This entry says that an account was disabled: it opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AccountDisabled {
    by: String,
    person: PersonId,
}

impl Kind for AccountDisabled {
    const WORD: &'static str = "account_disabled";
}

/// This entry says that an account that was disabled opens again what it opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AccountEnabled {
    by: String,
    person: PersonId,
}

impl Kind for AccountEnabled {
    const WORD: &'static str = "account_enabled";
}

impl Store {
    /// Returns a person's account, if there is one.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn account(&self, person: &PersonId) -> Result<Option<AccountRecord>, LedgerFault> {
        let rows = self.select(AccountRecord::select(person)).await?;
        Ok(rows.first().map(AccountRecord::read).transpose()?)
    }

    /// Returns every account, by person.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn accounts(&self) -> Result<Vec<AccountRecord>, LedgerFault> {
        let rows = self.scan(account::select_all()).await?;
        rows.iter().map(|row| Ok(AccountRecord::read(row)?)).collect()
    }

    /// Spends a link: sets up the account of whom it is for, ends the person's other sessions and links, and begins a
    /// session. Of several who spend it at once, one does.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn set_up_account(
        &self,
        link: &str,
        account: NewAccount,
        session: NewWebSession<'_>,
    ) -> Result<Result<WebSessionRecord, LinkRefusal>, LedgerFault> {
        let session = session.keep();
        // A crash before this is durable leaves the link to be spent; after it, the account with a session whose token
        // nobody knows: the person signs in.
        self.submit(SetUp { link: link.to_owned(), account, session }).await
    }

    /// Ends every session of a person, and every link that was made for them. Returns false if the person has no
    /// account.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn sign_out_everywhere(
        &self,
        person: &PersonId,
        by: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerFault> {
        let signed_out = SignedOut { by: by.to_owned(), person: person.clone(), session: None };
        let entry = Encoded::of(&NewEntry::new(now_ms, &signed_out))?;
        // A crash before this is durable leaves the sessions, and whoever asked was not told otherwise.
        self.submit(SignOutEverywhere { person: person.clone(), entry }).await
    }

    /// Disables a person's account, which ends every session and link of it, or enables it again. Returns what there
    /// was: `None` if the person has no account, and otherwise whether anything has changed.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn enable_account(
        &self,
        person: &PersonId,
        enabled: bool,
        by: &str,
        now_ms: i64,
    ) -> Result<Option<bool>, LedgerFault> {
        let (by, whose) = (by.to_owned(), person.clone());
        let entry = if enabled {
            NewEntry::new(now_ms, &AccountEnabled { by, person: whose })
        } else {
            NewEntry::new(now_ms, &AccountDisabled { by, person: whose })
        };
        let entry = Encoded::of(&entry)?;
        // A crash before this is durable leaves the account as it was, and whoever asked was not told otherwise.
        self.submit(Enable { person: person.clone(), enabled, now_ms, entry }).await
    }
}

struct SetUp {
    link: String,
    account: NewAccount,
    session: web_session::Kept,
}

impl Operation for SetUp {
    type Output = Result<WebSessionRecord, LinkRefusal>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        let id = link::id_of(&self.link);
        needs.name(records, &Key::Link(id.clone()));
        needs.name(records, &Key::WebSession(self.session.id.clone()));
        if let Some(passkey) = &self.account.passkey {
            needs.name(records, &passkey.challenge.key());
        }
        if let Ok(Some(link)) = records.links.find(&id) {
            needs.name(records, &Key::Account(link.record.person.clone()));
        }
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let refused = |why| Ok((Err(why), Changes::default()));
        let Some(row) = records.links.find(&link::id_of(&self.link))? else {
            return refused(LinkRefusal::Unknown);
        };
        if !token::fits(&self.link, &row.hash) {
            return refused(LinkRefusal::Unknown);
        }
        let (mut row, now_ms) = (row.clone(), self.session.now_ms);
        let person = row.record.person.clone();
        let before = records.accounts.find(&person)?;
        if let Err(why) = row.record.check(before, now_ms) {
            return refused(why);
        }
        let mut account = AccountRecord {
            person: person.clone(),
            password: self.account.password.clone(),
            codes: self.account.codes.clone(),
            // INVARIANT: sessions and links of before are of another round, and good no more.
            round: row.record.round.saturating_add(1),
            created_ms: before.map_or(now_ms, |before| before.created_ms),
            changed_ms: now_ms,
            made_by: row.record.made_by.clone(),
            makers: row.record.makers.clone(),
            disabled_ms: None,
            // What others may have added before is good no more.
            handle: before.and_then(|before| before.handle.clone()),
            passkeys: Vec::new(),
        };
        let gone = before.map(|before| before.passkeys.clone()).unwrap_or_default();
        let set_up = AccountSetUp {
            anew: before.is_some(),
            by: row.record.made_by.clone(),
            link: row.record.id.clone(),
            person: person.clone(),
        };
        row.record.spent_ms = Some(now_ms);
        let session = self.session.begin(records, &account, None)?;
        let signed_in = SignedIn::new(person.clone(), session.record.id.clone(), With::Link);
        let mut changes = Changes::entries(vec![Encoded::of(&NewEntry::new(now_ms, &set_up))?]);
        for passkey in gone {
            changes.entries.push(passkey::removed(&person, passkey.id, &row.record.made_by, now_ms)?);
        }
        if let Some(new) = &self.account.passkey
            && new.add(records, &mut account, &mut changes)?.is_err()
        {
            return refused(LinkRefusal::Unknown);
        }
        changes.entries.push(Encoded::of(&NewEntry::new(now_ms, &signed_in))?);
        let begun = session.record.clone();
        changes.accounts.put(person, account);
        changes.links.put(row.record.id.clone(), row);
        changes.web_sessions.put(begun.id.clone(), session);
        Ok((Ok(begun), changes))
    }
}

struct SignOutEverywhere {
    person: PersonId,
    entry: Arc<Encoded>,
}

impl Operation for SignOutEverywhere {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Account(self.person.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let Some(account) = records.accounts.find(&self.person)? else {
            return Ok((false, Changes::default()));
        };
        let mut account = account.clone();
        account.round = account.round.saturating_add(1);
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.accounts.put(self.person.clone(), account);
        Ok((true, changes))
    }
}

struct Enable {
    person: PersonId,
    enabled: bool,
    now_ms: i64,
    entry: Arc<Encoded>,
}

impl Operation for Enable {
    type Output = Option<bool>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Account(self.person.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Option<bool>, Changes), LedgerFault> {
        let Some(account) = records.accounts.find(&self.person)? else {
            return Ok((None, Changes::default()));
        };
        if account.is_enabled() == self.enabled {
            return Ok((Some(false), Changes::default()));
        }
        let mut account = account.clone();
        account.disabled_ms = (!self.enabled).then_some(self.now_ms);
        // What was open when it was disabled does not come back with it.
        account.round = account.round.saturating_add(1);
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.accounts.put(self.person.clone(), account);
        Ok((Some(true), changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_each_kind_of_entry_are_as_they_were() {
        let ann = || PersonId::parse("ann").unwrap();
        let set_up =
            AccountSetUp { anew: false, by: "cli".into(), link: "0a1b2c3d4e5f".into(), person: ann() };
        let disabled = AccountDisabled { by: "carol".into(), person: ann() };
        let enabled = AccountEnabled { by: "cli".into(), person: ann() };
        let entries = [
            (
                NewEntry::new(0, &set_up),
                r#"{"anew":false,"by":"cli","link":"0a1b2c3d4e5f","person":"ann"}"#,
                "account_set_up",
            ),
            (NewEntry::new(0, &disabled), r#"{"by":"carol","person":"ann"}"#, "account_disabled"),
            (NewEntry::new(0, &enabled), r#"{"by":"cli","person":"ann"}"#, "account_enabled"),
        ];
        for (entry, body, kind) in &entries {
            let whole = format!(r#"{{"at":"1970-01-01T00:00:00.000Z","body":{body},"kind":"{kind}","v":1}}"#);
            assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), whole);
        }
        assert_eq!(entries[0].0.read(), Some(set_up));
        assert_eq!(entries[1].0.read(), Some(disabled));
        assert_eq!(entries[2].0.read(), Some(enabled));
    }
}
