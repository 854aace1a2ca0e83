//! Passkeys of people: added, used and removed; and a password that its person sets anew.
//!
//! What was signed is checked before by whoever knows the challenge. Here each challenge is spent once, in the transaction that
//! uses it, whichever server it reaches; and the account is looked at as it stands then.

use std::sync::Arc;

use countersign_audit::Hash;
use countersign_gate::{NewEntry, entry::Kind, ledger::LedgerFault};
use countersign_rules::{PasskeyId, PersonId};
use serde::{Deserialize, Serialize};

use crate::{
    queue::Operation,
    record::{
        Record as _,
        account::{self, AccountRecord, PasswordHash},
        passkey::PasskeyRecord,
        sign_in::SignInMark,
        web_session::WebSessionRecord,
    },
    records::{Changes, Key, Needs, Records},
    sign_in::mark,
    store::Store,
    tail::Encoded,
    web_session::{self, NewWebSession, RecoveryCodeUsed, SignedIn, With},
};

/// A person has at most so many passkeys.
const PASSKEYS_MAX: usize = 20;

/// This was signed, and is good once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpentChallenge {
    /// The random text that was signed.
    pub challenge: String,
    /// What is signed with it is refused by its age from this time on, in Unix milliseconds UTC.
    pub until_ms: i64,
    /// It is spent at this time, in Unix milliseconds UTC.
    pub now_ms: i64,
}

impl SpentChallenge {
    fn mark(&self) -> String {
        mark("passkey", &[&self.challenge])
    }

    pub(crate) fn key(&self) -> Key {
        Key::SignInMark(self.mark())
    }

    /// Spends it; returns false where it was spent before.
    fn spend(&self, records: &Records, changes: &mut Changes) -> Result<bool, LedgerFault> {
        if records.sign_in_marks.find(&self.mark())?.is_some() {
            return Ok(false);
        }
        let spent = SignInMark { at_s: self.now_ms.div_euclid(1_000), until_ms: self.until_ms };
        changes.sign_in_marks.put(self.mark(), spent);
        Ok(true)
    }
}

/// This passkey is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPasskey {
    /// The passkey.
    pub passkey: PasskeyRecord,
    /// It knows the account by this value; one that has another is of another account.
    pub handle: String,
    /// It was made with this challenge.
    pub challenge: SpentChallenge,
}

/// A passkey is not added or not good for one of these reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasskeyRefusal {
    /// The challenge was used before.
    Spent,
    /// The account is disabled, or was set up anew or signed out everywhere since.
    Over,
    /// The account has no such passkey, or knows its person by another value.
    Unknown,
    /// The account has this passkey already.
    Known,
    /// The account has as many as it may.
    TooMany,
    /// The authenticator has counted back: somebody may have a copy of it. The log says so.
    CountedBack,
}

impl NewPasskey {
    /// Adds it to an account that is about to be stored.
    pub(crate) fn add(
        &self,
        records: &Records,
        account: &mut AccountRecord,
        changes: &mut Changes,
    ) -> Result<Result<(), PasskeyRefusal>, LedgerFault> {
        let passkey = &self.passkey;
        if account.passkeys.len() >= PASSKEYS_MAX {
            return Ok(Err(PasskeyRefusal::TooMany));
        }
        if account.passkey(&passkey.id).is_some() {
            return Ok(Err(PasskeyRefusal::Known));
        }
        if account.handle.as_ref().is_some_and(|handle| *handle != self.handle) {
            return Ok(Err(PasskeyRefusal::Unknown));
        }
        if !self.challenge.spend(records, changes)? {
            return Ok(Err(PasskeyRefusal::Spent));
        }
        let added = PasskeyAdded {
            algorithm: passkey.algorithm,
            label: passkey.label.clone(),
            passkey: passkey.id.clone(),
            person: account.person.clone(),
            signs_in: passkey.signs_in,
            synced: passkey.synced,
        };
        changes.entries.push(Encoded::of(&NewEntry::new(passkey.made_ms, &added))?);
        account.handle = Some(self.handle.clone());
        account.passkeys.push(passkey.clone());
        Ok(Ok(()))
    }
}

/// A passkey has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyUse {
    /// The passkey is this person's.
    pub person: PersonId,
    /// It was checked against the account in this round.
    pub round: u64,
    /// This passkey has signed.
    pub passkey: PasskeyId,
    /// It has signed this.
    pub challenge: SpentChallenge,
    /// The authenticator has signed so often.
    pub counter: u32,
    /// It is on more than one device.
    pub synced: bool,
}

impl PasskeyUse {
    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Account(self.person.clone()));
        needs.name(records, &self.challenge.key());
    }

    /// Takes note of it. Returns the account as it is to be stored. What is refused changes nothing, but that an authenticator
    /// has counted back is noted.
    fn note(
        &self,
        records: &Records,
        changes: &mut Changes,
    ) -> Result<Result<AccountRecord, PasskeyRefusal>, LedgerFault> {
        let account = records.accounts.find(&self.person)?;
        let Some(account) = account.filter(|account| account.is_enabled() && account.round == self.round)
        else {
            return Ok(Err(PasskeyRefusal::Over));
        };
        let mut account = account.clone();
        let Some(passkey) = account.passkeys.iter_mut().find(|passkey| passkey.id == self.passkey) else {
            return Ok(Err(PasskeyRefusal::Unknown));
        };
        if !self.challenge.spend(records, changes)? {
            return Ok(Err(PasskeyRefusal::Spent));
        }
        let now_ms = self.challenge.now_ms;
        if (self.counter > 0 || passkey.counter > 0) && self.counter <= passkey.counter {
            let refused = PasskeyRefused {
                counter: self.counter,
                kept: passkey.counter,
                passkey: self.passkey.clone(),
                person: self.person.clone(),
            };
            changes.entries.push(Encoded::of(&NewEntry::new(now_ms, &refused))?);
            return Ok(Err(PasskeyRefusal::CountedBack));
        }
        passkey.counter = self.counter;
        passkey.synced = self.synced;
        passkey.used_ms = Some(now_ms);
        Ok(Ok(account))
    }
}

/// The person who sets a password anew has shown who they are so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordProof {
    /// With the password of before.
    Password,
    /// With a recovery code of this hash, which is used up.
    Code(Hash),
    /// With a passkey.
    Passkey(PasskeyUse),
}

/// This entry says that a person has a passkey more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PasskeyAdded {
    algorithm: i64,
    label: String,
    passkey: PasskeyId,
    person: PersonId,
    signs_in: bool,
    synced: bool,
}

impl Kind for PasskeyAdded {
    const WORD: &'static str = "passkey_added";
}

/// This entry says that a passkey is good no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PasskeyRemoved {
    by: String,
    passkey: PasskeyId,
    person: PersonId,
}

impl Kind for PasskeyRemoved {
    const WORD: &'static str = "passkey_removed";
}

/// This entry says that a passkey was refused, because its authenticator had counted further before: there may be two of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PasskeyRefused {
    counter: u32,
    kept: u32,
    passkey: PasskeyId,
    person: PersonId,
}

impl Kind for PasskeyRefused {
    const WORD: &'static str = "passkey_refused";
}

/// This entry says that a person who was signed in has set a password anew, which ended their other sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PasswordChanged {
    /// The person showed who they are with this passkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passkey: Option<PasskeyId>,
    person: PersonId,
    session: String,
    with: With,
}

impl Kind for PasswordChanged {
    const WORD: &'static str = "password_changed";
}

/// Says that a passkey is good no more.
pub(crate) fn removed(
    person: &PersonId,
    passkey: PasskeyId,
    by: &str,
    now_ms: i64,
) -> Result<Arc<Encoded>, LedgerFault> {
    let removed = PasskeyRemoved { by: by.to_owned(), passkey, person: person.clone() };
    Encoded::of(&NewEntry::new(now_ms, &removed))
}

impl Store {
    /// Returns the account that passkeys know by this value, if there is one.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn account_of_handle(&self, handle: &str) -> Result<Option<AccountRecord>, LedgerFault> {
        let rows = self.select(account::select_handle(handle)).await?;
        Ok(rows.first().map(AccountRecord::read).transpose()?)
    }

    /// Adds a passkey to the account of a person who is signed in in this round of it.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn add_passkey(
        &self,
        person: &PersonId,
        round: u64,
        new: NewPasskey,
    ) -> Result<Result<(), PasskeyRefusal>, LedgerFault> {
        // A crash before this is durable leaves the account as it was, and a passkey that opens nothing.
        self.submit(Add { person: person.clone(), round, new }).await
    }

    /// Removes a passkey. Returns false if the person has none of this id.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn remove_passkey(
        &self,
        person: &PersonId,
        passkey: &PasskeyId,
        by: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerFault> {
        let entry = removed(person, passkey.clone(), by, now_ms)?;
        // A crash before this is durable leaves the passkey, and whoever asked was not told otherwise.
        self.submit(Remove { person: person.clone(), passkey: passkey.clone(), entry }).await
    }

    /// Takes note that a passkey has signed what is about to be done.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn use_passkey(&self, used: PasskeyUse) -> Result<Result<(), PasskeyRefusal>, LedgerFault> {
        // A crash after this leaves a challenge that is spent for nothing: the person signs another.
        self.submit(Confirm(used)).await
    }

    /// Begins a session of a person by a passkey.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn begin_passkey_session(
        &self,
        used: PasskeyUse,
        session: NewWebSession<'_>,
    ) -> Result<Result<WebSessionRecord, PasskeyRefusal>, LedgerFault> {
        // A crash before this is durable leaves no session; after it, one whose token nobody knows.
        self.submit(SignIn { used, session: session.keep() }).await
    }

    /// Sets the password of a person who is signed in in this session, and ends all others and all links. Returns false if
    /// the account was set up anew, disabled or signed out everywhere since it was looked at, in this round, or what the
    /// person has shown is good no more.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn change_password(
        &self,
        account: &AccountRecord,
        session: &str,
        proof: PasswordProof,
        password: PasswordHash,
        now_ms: i64,
    ) -> Result<bool, LedgerFault> {
        let (person, round, session) = (account.person.clone(), account.round, session.to_owned());
        // A crash before this is durable leaves the password of before.
        self.submit(ChangePassword { person, round, session, proof, password, now_ms }).await
    }
}

struct Add {
    person: PersonId,
    round: u64,
    new: NewPasskey,
}

impl Operation for Add {
    type Output = Result<(), PasskeyRefusal>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Account(self.person.clone()));
        needs.name(records, &self.new.challenge.key());
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let account = records.accounts.find(&self.person)?;
        let Some(account) = account.filter(|account| account.is_enabled() && account.round == self.round)
        else {
            return Ok((Err(PasskeyRefusal::Over), Changes::default()));
        };
        let (mut account, mut changes) = (account.clone(), Changes::default());
        if let Err(why) = self.new.add(records, &mut account, &mut changes)? {
            return Ok((Err(why), Changes::default()));
        }
        changes.accounts.put(self.person.clone(), account);
        Ok((Ok(()), changes))
    }
}

struct Remove {
    person: PersonId,
    passkey: PasskeyId,
    entry: Arc<Encoded>,
}

impl Operation for Remove {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Account(self.person.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let account = records.accounts.find(&self.person)?;
        let Some(account) = account.filter(|account| account.passkey(&self.passkey).is_some()) else {
            return Ok((false, Changes::default()));
        };
        let mut account = account.clone();
        account.passkeys.retain(|passkey| passkey.id != self.passkey);
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.accounts.put(self.person.clone(), account);
        Ok((true, changes))
    }
}

struct Confirm(PasskeyUse);

impl Operation for Confirm {
    type Output = Result<(), PasskeyRefusal>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        self.0.needs(records, needs);
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let mut changes = Changes::default();
        let noted = self.0.note(records, &mut changes)?.map(|account| {
            changes.accounts.put(self.0.person.clone(), account);
        });
        Ok((noted, changes))
    }
}

struct SignIn {
    used: PasskeyUse,
    session: web_session::Kept,
}

impl Operation for SignIn {
    type Output = Result<WebSessionRecord, PasskeyRefusal>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        self.used.needs(records, needs);
        needs.name(records, &Key::WebSession(self.session.id.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let mut changes = Changes::default();
        let account = match self.used.note(records, &mut changes)? {
            Ok(account) => account,
            Err(why) => return Ok((Err(why), changes)),
        };
        if !account.passkey(&self.used.passkey).is_some_and(|passkey| passkey.signs_in) {
            return Ok((Err(PasskeyRefusal::Unknown), Changes::default()));
        }
        let session = self.session.begin(records, &account, None)?;
        let begun = session.record.clone();
        let signed_in = SignedIn {
            passkey: Some(self.used.passkey.clone()),
            ..SignedIn::new(self.used.person.clone(), begun.id.clone(), With::Passkey)
        };
        changes.entries.push(Encoded::of(&NewEntry::new(self.session.now_ms, &signed_in))?);
        changes.accounts.put(self.used.person.clone(), account);
        changes.web_sessions.put(begun.id.clone(), session);
        Ok((Ok(begun), changes))
    }
}

struct ChangePassword {
    person: PersonId,
    round: u64,
    session: String,
    proof: PasswordProof,
    password: PasswordHash,
    now_ms: i64,
}

impl Operation for ChangePassword {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Account(self.person.clone()));
        needs.name(records, &Key::WebSession(self.session.clone()));
        if let PasswordProof::Passkey(used) = &self.proof {
            used.needs(records, needs);
        }
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let no = || Ok((false, Changes::default()));
        let account = records.accounts.find(&self.person)?;
        let account = account.filter(|account| account.is_enabled() && account.round == self.round);
        let session = records.web_sessions.find(&self.session)?.filter(|row| {
            let record = &row.record;
            record.ended_ms.is_none() && record.round == self.round && record.person == self.person
        });
        let (Some(account), Some(session)) = (account, session) else { return no() };
        let (mut account, mut session, mut changes) = (account.clone(), session.clone(), Changes::default());
        let (with, passkey) = match &self.proof {
            PasswordProof::Password => (With::Password, None),
            PasswordProof::Code(code) => {
                let before = account.codes.len();
                account.codes.retain(|kept| kept != code);
                if account.codes.len() == before {
                    return no();
                }
                let used = RecoveryCodeUsed { left: account.codes.len(), person: self.person.clone() };
                changes.entries.push(Encoded::of(&NewEntry::new(self.now_ms, &used))?);
                (With::RecoveryCode, None)
            }
            PasswordProof::Passkey(used) => match used.note(records, &mut changes)? {
                Ok(noted) if used.person == self.person => {
                    account = noted;
                    (With::Passkey, Some(used.passkey.clone()))
                }
                Ok(_) => return no(),
                // That it has counted back stays noted.
                Err(_why) => return Ok((false, changes)),
            },
        };
        account.password = self.password.clone();
        account.changed_ms = self.now_ms;
        // INVARIANT: sessions and links of before are of another round, and good no more; this session goes on in the new one.
        account.round = account.round.saturating_add(1);
        session.record.round = account.round;
        let (person, id) = (self.person.clone(), self.session.clone());
        let changed = PasswordChanged { passkey, person: person.clone(), session: id.clone(), with };
        changes.entries.push(Encoded::of(&NewEntry::new(self.now_ms, &changed))?);
        changes.accounts.put(person, account);
        changes.web_sessions.put(id, session);
        Ok((true, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_each_kind_of_entry_are_as_they_were() {
        let (ann, key) = (|| PersonId::parse("ann").unwrap(), || PasskeyId::parse("0a1b").unwrap());
        let added = PasskeyAdded {
            algorithm: -7,
            label: "laptop".into(),
            passkey: key(),
            person: ann(),
            signs_in: true,
            synced: false,
        };
        let removed = PasskeyRemoved { by: "cli".into(), passkey: key(), person: ann() };
        let refused = PasskeyRefused { counter: 3, kept: 4, passkey: key(), person: ann() };
        let changed =
            PasswordChanged { passkey: None, person: ann(), session: "s".into(), with: With::RecoveryCode };
        let by_key = PasswordChanged { passkey: Some(key()), with: With::Passkey, ..changed.clone() };
        let signed_in = SignedIn { passkey: Some(key()), ..SignedIn::new(ann(), "s".into(), With::Passkey) };
        for (entry, body, kind) in [
            (
                NewEntry::new(0, &added),
                r#"{"algorithm":-7,"label":"laptop","passkey":"0a1b","person":"ann","signs_in":true,"synced":false}"#,
                "passkey_added",
            ),
            (
                NewEntry::new(0, &removed),
                r#"{"by":"cli","passkey":"0a1b","person":"ann"}"#,
                "passkey_removed",
            ),
            (
                NewEntry::new(0, &refused),
                r#"{"counter":3,"kept":4,"passkey":"0a1b","person":"ann"}"#,
                "passkey_refused",
            ),
            (
                NewEntry::new(0, &changed),
                r#"{"person":"ann","session":"s","with":"recovery_code"}"#,
                "password_changed",
            ),
            (
                NewEntry::new(0, &by_key),
                r#"{"passkey":"0a1b","person":"ann","session":"s","with":"passkey"}"#,
                "password_changed",
            ),
            (
                NewEntry::new(0, &signed_in),
                r#"{"passkey":"0a1b","person":"ann","session":"s","with":"passkey"}"#,
                "signed_in",
            ),
        ] {
            let whole = format!(r#"{{"at":"1970-01-01T00:00:00.000Z","body":{body},"kind":"{kind}","v":1}}"#);
            assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), whole);
        }
        assert_eq!(NewEntry::new(0, &added).read(), Some(added));
    }
}
