//! Sessions of people in a browser: begun by a password, a recovery code or a link; [`crate::sign_in`] has those that a
//! provider vouches for.

use std::collections::BTreeSet;

use countersign_audit::Hash;
use countersign_gate::{NewEntry, entry::Kind, ledger::LedgerFault};
use countersign_rules::{GroupName, PasskeyId, PersonId, ProviderName};
use serde::{Deserialize, Serialize};

use crate::{
    queue::Operation,
    record::{
        Record as _,
        account::AccountRecord,
        web_session::{self, Vouched, WebSessionRecord, WebSessionRow},
    },
    records::{Changes, Key, Needs, Records},
    store::Store,
    tail::Encoded,
    token,
};

/// This is a session to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewWebSession<'a> {
    /// The session is opened with this random text, which nobody can guess. The store keeps a hash of it.
    pub token: &'a str,
    /// The session begins at this time, in Unix milliseconds UTC.
    pub now_ms: i64,
    /// The session is over at this time at the latest, in Unix milliseconds UTC.
    pub expires_ms: i64,
}

/// A person signs in with one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum With {
    Password,
    RecoveryCode,
    Link,
    Passkey,
    Provider,
}

/// This entry says that a person signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedIn {
    /// The groups that the person is in by what a provider said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<BTreeSet<GroupName>>,
    /// The person signed in with this passkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passkey: Option<PasskeyId>,
    pub(crate) person: PersonId,
    /// The provider that has vouched for the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<ProviderName>,
    pub(crate) session: String,
    pub(crate) with: With,
}

impl SignedIn {
    /// With an account of ours.
    pub(crate) const fn new(person: PersonId, session: String, with: With) -> Self {
        Self { groups: None, passkey: None, person, provider: None, session, with }
    }
}

impl Kind for SignedIn {
    const WORD: &'static str = "signed_in";
}

/// This entry says that a person signed out, or was signed out: of one session, or of all when that is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedOut {
    pub(crate) by: String,
    pub(crate) person: PersonId,
    pub(crate) session: Option<String>,
}

impl Kind for SignedOut {
    const WORD: &'static str = "signed_out";
}

/// This entry says that a recovery code was used, and how many are left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryCodeUsed {
    pub(crate) left: usize,
    pub(crate) person: PersonId,
}

impl Kind for RecoveryCodeUsed {
    const WORD: &'static str = "recovery_code_used";
}

/// This is kept of a session that is to be begun.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) id: String,
    hash: Hash,
    pub(crate) now_ms: i64,
    expires_ms: i64,
}

impl NewWebSession<'_> {
    pub(crate) fn keep(self) -> Kept {
        let Self { token, now_ms, expires_ms } = self;
        Kept { id: id_of(token), hash: token::hash(token), now_ms, expires_ms }
    }
}

impl Kept {
    /// Returns the session as it begins in the round of an account.
    pub(crate) fn begin(
        &self,
        records: &Records,
        account: &AccountRecord,
        vouched: Option<Vouched>,
    ) -> Result<WebSessionRow, LedgerFault> {
        if records.web_sessions.find(&self.id)?.is_some() {
            return Err(LedgerFault::Unavailable("a session of this id was begun before".into()));
        }
        let record = WebSessionRecord {
            id: self.id.clone(),
            person: account.person.clone(),
            round: account.round,
            created_ms: self.now_ms,
            seen_ms: self.now_ms,
            expires_ms: self.expires_ms,
            ended_ms: None,
            vouched,
        };
        Ok(WebSessionRow { record, hash: self.hash })
    }
}

fn id_of(token: &str) -> String {
    token::id("web session", token)
}

impl Store {
    /// Begins a session of a person whose password was found to be right for the account as it is here, or who
    /// presented a recovery code with this hash, which is used up. Returns `None` if the account was set up anew,
    /// disabled or signed out everywhere since, or the code is none of it any more; then nothing has changed.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn begin_web_session(
        &self,
        account: &AccountRecord,
        code: Option<Hash>,
        session: NewWebSession<'_>,
    ) -> Result<Option<WebSessionRecord>, LedgerFault> {
        let begin =
            Begin { person: account.person.clone(), round: account.round, code, session: session.keep() };
        // A crash before this is durable leaves no session; after it, one whose token nobody knows.
        self.submit(begin).await
    }

    /// Returns the session of a token, whether or not it is good, with the account as it stands.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn find_web_session(
        &self,
        token: &str,
    ) -> Result<Option<(WebSessionRecord, AccountRecord)>, LedgerFault> {
        let Some(row) = self.web_session_row(&id_of(token)).await? else { return Ok(None) };
        if !token::fits(token, &row.hash) {
            return Ok(None);
        }
        let account = self.account(&row.record.person).await?;
        Ok(account.map(|account| (row.record, account)))
    }

    /// Returns the session of a public id, as [`Store::find_web_session`] does that of a token.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn web_session(
        &self,
        id: &str,
    ) -> Result<Option<(WebSessionRecord, AccountRecord)>, LedgerFault> {
        let Some(row) = self.web_session_row(id).await? else { return Ok(None) };
        let account = self.account(&row.record.person).await?;
        Ok(account.map(|account| (row.record, account)))
    }

    async fn web_session_row(&self, id: &str) -> Result<Option<WebSessionRow>, LedgerFault> {
        let rows = self.select(WebSessionRow::select(&id.to_owned())).await?;
        Ok(rows.first().map(WebSessionRow::read).transpose()?)
    }

    /// Returns every session that is not forgotten yet, good or not.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn web_sessions(&self) -> Result<Vec<WebSessionRecord>, LedgerFault> {
        let rows = self.scan(web_session::select_all()).await?;
        rows.iter().map(|row| Ok(WebSessionRow::read(row)?.record)).collect()
    }

    /// Notes that a session was used, and returns once that is queued.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when nothing can be queued.
    pub async fn use_web_session(&self, id: &str, now_ms: i64) -> Result<(), LedgerFault> {
        // A crash before this is durable lets the session be over a minute early.
        self.leave(Use { id: id.to_owned(), now_ms }).await
    }

    /// Ends a session. Returns true if there was one that was not ended yet.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then the session is as it was, unless it is [`LedgerFault::Unknown`].
    pub async fn end_web_session(&self, id: &str, by: &str, now_ms: i64) -> Result<bool, LedgerFault> {
        // A crash before this is durable leaves the session, and whoever asked was not told otherwise.
        self.submit(End { id: id.to_owned(), by: by.to_owned(), now_ms }).await
    }
}

struct Begin {
    person: PersonId,
    round: u64,
    code: Option<Hash>,
    session: Kept,
}

impl Operation for Begin {
    type Output = Option<WebSessionRecord>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Account(self.person.clone()));
        needs.name(records, &Key::WebSession(self.session.id.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let account = records.accounts.find(&self.person)?;
        let Some(account) = account.filter(|account| account.is_enabled() && account.round == self.round)
        else {
            return Ok((None, Changes::default()));
        };
        let (mut changes, now_ms) = (Changes::default(), self.session.now_ms);
        if let Some(code) = &self.code {
            let mut left = account.clone();
            left.codes.retain(|kept| kept != code);
            if left.codes.len() == account.codes.len() {
                return Ok((None, Changes::default()));
            }
            let used = RecoveryCodeUsed { left: left.codes.len(), person: self.person.clone() };
            changes.entries.push(Encoded::of(&NewEntry::new(now_ms, &used))?);
            changes.accounts.put(self.person.clone(), left);
        }
        let session = self.session.begin(records, account, None)?;
        let begun = session.record.clone();
        let with = if self.code.is_some() { With::RecoveryCode } else { With::Password };
        let signed_in = SignedIn::new(self.person.clone(), begun.id.clone(), with);
        changes.entries.push(Encoded::of(&NewEntry::new(now_ms, &signed_in))?);
        changes.web_sessions.put(begun.id.clone(), session);
        Ok((Some(begun), changes))
    }
}

struct Use {
    id: String,
    now_ms: i64,
}

impl Operation for Use {
    type Output = ();

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::WebSession(self.id.clone()));
    }

    fn apply(&self, records: &Records) -> Result<((), Changes), LedgerFault> {
        let mut changes = Changes::default();
        let row = records.web_sessions.find(&self.id)?;
        if let Some(row) = row.filter(|row| row.record.seen_ms < self.now_ms) {
            let mut row = row.clone();
            row.record.seen_ms = self.now_ms;
            changes.web_sessions.put(self.id.clone(), row);
        }
        Ok(((), changes))
    }
}

struct End {
    id: String,
    by: String,
    now_ms: i64,
}

impl Operation for End {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::WebSession(self.id.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let row = records.web_sessions.find(&self.id)?;
        let Some(row) = row.filter(|row| row.record.ended_ms.is_none()) else {
            return Ok((false, Changes::default()));
        };
        let mut row = row.clone();
        row.record.ended_ms = Some(self.now_ms);
        let person = row.record.person.clone();
        let signed_out = SignedOut { by: self.by.clone(), person, session: Some(self.id.clone()) };
        let mut changes = Changes::entries(vec![Encoded::of(&NewEntry::new(self.now_ms, &signed_out))?]);
        changes.web_sessions.put(self.id.clone(), row);
        Ok((true, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_each_kind_of_entry_are_as_they_were() {
        let ann = || PersonId::parse("ann").unwrap();
        let id = || "0a1b2c3d4e5f".to_owned();
        let signed_in = SignedIn::new(ann(), id(), With::RecoveryCode);
        let signed_out = SignedOut { by: "ann".into(), person: ann(), session: Some(id()) };
        let everywhere = SignedOut { by: "cli".into(), person: ann(), session: None };
        let used = RecoveryCodeUsed { left: 9, person: ann() };
        let vouched = SignedIn {
            groups: Some([GroupName::parse("dba").unwrap()].into()),
            provider: Some(ProviderName::parse("corp").unwrap()),
            ..SignedIn::new(ann(), id(), With::Provider)
        };
        let entries = [
            (
                NewEntry::new(0, &vouched),
                r#"{"groups":["dba"],"person":"ann","provider":"corp","session":"0a1b2c3d4e5f","with":"provider"}"#,
                "signed_in",
            ),
            (
                NewEntry::new(0, &signed_in),
                r#"{"person":"ann","session":"0a1b2c3d4e5f","with":"recovery_code"}"#,
                "signed_in",
            ),
            (
                NewEntry::new(0, &signed_out),
                r#"{"by":"ann","person":"ann","session":"0a1b2c3d4e5f"}"#,
                "signed_out",
            ),
            (NewEntry::new(0, &everywhere), r#"{"by":"cli","person":"ann","session":null}"#, "signed_out"),
            (NewEntry::new(0, &used), r#"{"left":9,"person":"ann"}"#, "recovery_code_used"),
        ];
        for (entry, body, kind) in &entries {
            let whole = format!(r#"{{"at":"1970-01-01T00:00:00.000Z","body":{body},"kind":"{kind}","v":1}}"#);
            assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), whole);
        }
        assert_eq!(entries[0].0.read(), Some(vouched));
        assert_eq!(entries[1].0.read(), Some(signed_in));
        assert_eq!(entries[2].0.read(), Some(signed_out));
        assert_eq!(entries[3].0.read(), Some(everywhere));
        assert_eq!(entries[4].0.read(), Some(used));
        for (with, word) in [(With::Password, r#""password""#), (With::Link, r#""link""#)] {
            assert_eq!(serde_json::to_string(&with).unwrap(), word);
        }
    }
}
