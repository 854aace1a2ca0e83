//! Passkeys of people: made by who is signed in or follows a link, and used to sign in, to set a password, and to confirm one
//! approval.
//!
//! Each ceremony has a challenge of its own. The page keeps what it is for, sealed, and the challenge follows from that under a
//! secret of the server: so any server of the ledger can end it, nothing is written before somebody has signed, and what was
//! signed for one purpose is good for no other.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_audit::sha256;
use countersign_gate::ledger::ApprovalRecord;
use countersign_rules::{ApprovalId, Code, PasskeyId, PersonId, Refusal};
use countersign_store::{
    AccountRecord, NewAccount, NewPasskey, PasskeyRecord, PasskeyRefusal, PasskeyUse, PasswordProof,
    SpentChallenge, WebSessionRecord,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Accounts, PASSWORD_BYTES_MAX, SESSION_IDLE_MS, SignedIn, WebSession, check_length, link_refused,
    not_read, not_recorded, recovery, session_refused,
};
use crate::{
    approval::PersonAnswer,
    auth::passkey::{ALGORITHMS, PasskeyFault, PasskeySite, Signed, registered},
};

/// What is begun with a passkey is to be ended within so long, in milliseconds.
const CEREMONY_MS: i64 = 5 * 60_000;

/// Whoever signed in so long ago, in milliseconds, or less, adds a passkey, or lets a command line act as them, without showing
/// once more who they are.
pub(super) const FRESH_MS: i64 = 10 * 60_000;

/// A label of a passkey has at most so many characters.
const LABEL_CHARS_MAX: usize = 60;

/// What is sealed is for a passkey, and nothing else.
const SEALED_FOR: &str = "passkey";

/// What a passkey is made or asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub(super) enum Purpose {
    Add { person: PersonId, session: String, handle: String },
    Link { person: PersonId, link: String, handle: String },
    SignIn,
    Password { person: PersonId, session: String },
    Approve { person: PersonId, session: String, answer: String },
    CommandLine { person: PersonId, session: String, line: String },
}

/// What the page keeps, sealed, while its person is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    random: String,
    begun_ms: i64,
    purpose: Purpose,
}

/// A browser is to make a passkey, or to have one sign.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ceremony {
    /// This works on pages of this origin.
    pub origin: String,
    /// The page sends this back with what the browser said.
    pub sealed: String,
    /// The browser is asked so (`PublicKeyCredentialCreationOptions` or `PublicKeyCredentialRequestOptions`, as JSON).
    pub options: Value,
}

/// A person has confirmed one answer to one request with a passkey. It is made by [`Accounts::step_up`] alone, and is good for
/// that answer.
#[derive(Debug)]
pub struct SteppedUp {
    person: PersonId,
    answer: String,
    passkey: PasskeyId,
}

impl SteppedUp {
    /// Returns the passkey, if it has signed this very answer of this person to this request.
    pub(crate) fn into_passkey(
        self,
        person: &PersonId,
        id: &ApprovalId,
        answer: &PersonAnswer,
    ) -> Option<PasskeyId> {
        (self.person == *person && self.answer == digest_of(id, answer)).then_some(self.passkey)
    }
}

/// Everything of an answer, and the request that it is to, in short.
fn digest_of(id: &ApprovalId, answer: &PersonAnswer) -> String {
    let parts = match answer {
        PersonAnswer::Approve { comment, digest, grant } => {
            let grant = grant.map(|grant| (grant.calls, grant.ms));
            json!(["approve", id, digest, comment, grant])
        }
        PersonAnswer::Refuse { reason } => json!(["refuse", id, reason]),
    };
    sha256(parts.to_string().as_bytes()).to_string()
}

/// An answer to a request as it stands: somebody who looks closer meanwhile has it decided anew, on what is seen then.
fn shown(record: &ApprovalRecord, answer: &str) -> String {
    format!("{answer} {}", record.request.decision)
}

impl Accounts {
    /// Returns the site of this server, for which passkeys are made.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] with what to set, if browsers make none for it.
    pub fn passkey_site(&self) -> Result<&PasskeySite, Refusal> {
        self.site.as_ref().map_err(|why| {
            Refusal::new(Code::NotFound, format!("there are no passkeys here: {why}")).help(
                "set `[server] public_url` to `https` and a name, such as `https://countersign.example.com`",
            )
        })
    }

    /// Asks any passkey of this site to sign its person in.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if there are no passkeys here.
    pub fn begin_passkey_sign_in(&self) -> Result<Ceremony, Refusal> {
        self.ask(Purpose::SignIn, &[])
    }

    /// Signs in whose passkey has signed what [`Accounts::begin_passkey_sign_in`] began.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if what was signed does not hold, or is of nobody here, [`Code::RateLimited`] if too
    /// much of that was from this address or of this person, [`Code::NotFound`] if there are no passkeys here,
    /// [`Code::NotLookedUp`] if the ledger cannot be read, and [`Code::LedgerUnavailable`] if the session cannot be recorded.
    pub async fn sign_in_by_passkey(
        &self,
        sealed: &str,
        said: &str,
        from: IpAddr,
    ) -> Result<SignedIn, Refusal> {
        let signed = Signed::read(said);
        let handle = signed.as_ref().ok().and_then(Signed::handle);
        let account = match handle {
            Some(handle) => self.store.account_of_handle(handle).await.map_err(|fault| not_read(&fault))?,
            None => None,
        };
        let person = account.as_ref().map(|account| account.person.as_str());
        let attempt = self.attempts.begin_passkey(person, from, self.clock.now_ms())?;
        let signed_in = self.check_passkey_and_begin(sealed, signed, account).await;
        if !signed_in.as_ref().is_err_and(|refusal| refusal.code == Code::Unauthenticated) {
            attempt.uncount();
        }
        signed_in
    }

    async fn check_passkey_and_begin(
        &self,
        sealed: &str,
        signed: Result<Signed, PasskeyFault>,
        account: Option<AccountRecord>,
    ) -> Result<SignedIn, Refusal> {
        let signed = signed.map_err(|fault| refused(&fault))?;
        let opened = self.opened(sealed, |purpose| *purpose == Purpose::SignIn)?;
        let account = account.filter(|account| self.people.contains_key(&account.person));
        let account = account.ok_or_else(|| refused(&PasskeyFault::Credential))?;
        if !account.is_enabled() {
            return Err(Refusal::new(Code::Unauthenticated, "the account is disabled"));
        }
        let (used, passkey) = self.used(&account, &signed, opened)?;
        if !passkey.signs_in {
            let message = "this passkey confirms answers, and signs nobody in: it was added while a provider vouched for you";
            return Err(Refusal::new(Code::Unauthenticated, message).help("sign in by the provider"));
        }
        let token = self.fresh_token();
        let begun = self.store.begin_passkey_session(used, self.new_session(&token)).await;
        let session = begun.map_err(|fault| not_recorded(&fault))?.map_err(not_used)?;
        Ok(SignedIn { token, session: self.web_session(&session)? })
    }

    /// Asks the browser of who is signed in to make a passkey. They signed in a moment ago, or show the password once more: who
    /// comes by a session that is left open makes no way back in.
    ///
    /// # Errors
    /// Returns [`Code::Malformed`] if the person has to show who they are, [`Code::Unauthenticated`] if the password is wrong
    /// or the session is good no more, [`Code::RateLimited`] if too many were, [`Code::NotFound`] if there are no passkeys
    /// here, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn begin_adding_passkey(
        &self,
        session: &WebSession,
        password: &str,
        from: IpAddr,
    ) -> Result<Ceremony, Refusal> {
        self.passkey_site()?;
        let (record, account) = self.session_and_account(session).await?;
        let now_ms = self.clock.now_ms();
        if now_ms.saturating_sub(record.created_ms) > FRESH_MS {
            if password.is_empty() {
                return Err(Refusal::new(
                    Code::Malformed,
                    "you signed in more than ten minutes ago: type your password as well",
                )
                .help("without a password, sign out and in again, and then add the passkey"));
            }
            self.check_password(&account, password, from).await?;
        }
        let handle = account.handle.clone().unwrap_or_else(|| self.fresh_token());
        let purpose = Purpose::Add { person: account.person.clone(), session: session.id.clone(), handle };
        self.make(purpose, &account.person, &account.passkeys)
    }

    /// Adds the passkey that a browser has made. One that is added while a provider vouches for its person confirms answers
    /// and signs nobody in.
    ///
    /// # Errors
    /// Returns [`Code::Malformed`] if it does not hold or cannot be added, [`Code::Unauthenticated`] if the session is good no
    /// more, [`Code::NotLookedUp`] if the ledger cannot be read, and [`Code::LedgerUnavailable`] if it cannot be recorded.
    pub async fn add_passkey(
        &self,
        session: &WebSession,
        sealed: &str,
        said: &str,
        label: &str,
    ) -> Result<PasskeyId, Refusal> {
        let (record, account) = self.session_and_account(session).await?;
        let opened = self.opened(sealed, |purpose| {
            matches!(purpose, Purpose::Add { person, session: of, .. } if *person == account.person && *of == session.id)
        });
        let opened = opened.map_err(malformed)?;
        let new = self.new_passkey(&opened, said, label, record.vouched.is_none())?;
        let id = new.passkey.id.clone();
        let added = self.store.add_passkey(&account.person, record.round, new).await;
        added.map_err(|fault| not_recorded(&fault))?.map_err(|why| malformed(not_used(why)))?;
        Ok(id)
    }

    /// Asks the browser of who follows a link to make a passkey, in place of a password.
    ///
    /// # Errors
    /// Fails as [`Accounts::look_at_link`] does, and with [`Code::NotFound`] if there are no passkeys here.
    pub async fn begin_link_passkey(&self, token: &str) -> Result<Ceremony, Refusal> {
        self.passkey_site()?;
        let person = self.look_at_link(token).await?;
        let account = self.store.account(&person).await.map_err(|fault| not_read(&fault))?;
        let handle = account.as_ref().and_then(|account| account.handle.clone());
        let handle = handle.unwrap_or_else(|| self.fresh_token());
        let purpose = Purpose::Link { person: person.clone(), link: link_of(token), handle };
        // Those of before go with the link: the authenticator may replace what it has.
        self.make(purpose, &person, &[])
    }

    /// Spends a link as [`Accounts::set_up`] does, with a passkey in place of the password.
    ///
    /// # Errors
    /// Fails as [`Accounts::set_up`] does, with [`Code::Malformed`] for a passkey that does not hold; then the link is not
    /// spent.
    pub async fn set_up_with_passkey(
        &self,
        token: &str,
        sealed: &str,
        said: &str,
        label: &str,
    ) -> Result<(SignedIn, Vec<String>), Refusal> {
        let person = self.look_at_link(token).await?;
        let of_link = |purpose: &Purpose| matches!(purpose, Purpose::Link { person: of, link, .. } if *of == person && *link == link_of(token));
        let opened = self.opened(sealed, of_link).map_err(malformed)?;
        let passkey = Some(self.new_passkey(&opened, said, label, true)?);
        let codes = recovery::new_codes(&*self.entropy);
        let hashes = codes.iter().map(|code| recovery::hash(code)).collect();
        let account =
            NewAccount { password: countersign_store::PasswordHash::none(), codes: hashes, passkey };
        let session_token = self.fresh_token();
        let set_up = self.store.set_up_account(token, account, self.new_session(&session_token)).await;
        let session = set_up.map_err(|fault| not_recorded(&fault))?.map_err(link_refused)?;
        self.attempts.forget(person.as_str());
        Ok((SignedIn { token: session_token, session: self.web_session(&session)? }, codes))
    }

    /// Returns the passkeys of a person, the oldest first.
    ///
    /// # Errors
    /// Returns [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn passkeys(&self, person: &PersonId) -> Result<Vec<PasskeyRecord>, Refusal> {
        let account = self.store.account(person).await.map_err(|fault| not_read(&fault))?;
        Ok(account.map(|account| account.passkeys).unwrap_or_default())
    }

    /// Removes a passkey of who is signed in.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if they have none of this id, and [`Code::LedgerUnavailable`] if it cannot be recorded.
    pub async fn remove_passkey(&self, session: &WebSession, passkey: &str) -> Result<(), Refusal> {
        let person = &session.person.id;
        let unknown = || Refusal::new(Code::NotFound, "you have no such passkey");
        let passkey = PasskeyId::parse(passkey).map_err(|_no_id| unknown())?;
        let by = person.as_str();
        let removed = self.store.remove_passkey(person, &passkey, by, self.clock.now_ms()).await;
        if removed.map_err(|fault| not_recorded(&fault))? { Ok(()) } else { Err(unknown()) }
    }

    /// Asks a passkey of who is signed in to show who they are, so that a password can be set anew.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if there are no passkeys here or the person has none, [`Code::Unauthenticated`] if the session
    /// is good no more, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn begin_password_change(&self, session: &WebSession) -> Result<Ceremony, Refusal> {
        let (_record, account) = self.session_and_account(session).await?;
        let theirs: Vec<_> = account.passkeys.into_iter().filter(|passkey| passkey.signs_in).collect();
        self.ask(Purpose::Password { person: account.person, session: session.id.clone() }, &theirs)
    }

    /// Sets the password of who is signed in, which ends their other sessions, and links that were made for them. They show who
    /// they are by the password of before, by a recovery code, which is used up, or by a passkey: `proof` is what was typed,
    /// or what is sealed and what the browser said.
    ///
    /// # Errors
    /// Returns [`Code::Malformed`] for a new password that is too short or too long, [`Code::Unauthenticated`] if what the
    /// person shows is wrong, [`Code::RateLimited`] if too much of that was, [`Code::NotLookedUp`] if the ledger cannot be
    /// read, and [`Code::LedgerUnavailable`] if it cannot record the change.
    pub async fn change_password(
        &self,
        session: &WebSession,
        proof: PasswordShown<'_>,
        password: &str,
        from: IpAddr,
    ) -> Result<(), Refusal> {
        check_length(password)?;
        let (_record, account) = self.session_and_account(session).await?;
        let proof = match proof {
            PasswordShown::Typed(typed) => self.check_password(&account, typed, from).await?,
            PasswordShown::Passkey { sealed, said } => {
                let used = self.used_to_show(&account, (sealed, said), |purpose| {
                    matches!(purpose, Purpose::Password { person, session: of } if *person == account.person && *of == session.id)
                })?;
                PasswordProof::Passkey(used)
            }
        };
        let salt = self.entropy.bytes();
        let hash = self.passwords.hash(SecretString::from(password), salt).await?;
        let now_ms = self.clock.now_ms();
        let changed = self.store.change_password(&account, &session.id, proof, hash, now_ms).await;
        if changed.map_err(|fault| not_recorded(&fault))? {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Unauthenticated,
            "what you have shown is good no more, or your session is not",
        )
        .help("nothing was changed: sign in, and try again"))
    }

    /// Checks that a passkey that signs in has shown for this purpose who is signed in.
    pub(super) fn used_to_show(
        &self,
        account: &AccountRecord,
        (sealed, said): (&str, &str),
        is: impl FnOnce(&Purpose) -> bool,
    ) -> Result<PasskeyUse, Refusal> {
        let opened = self.opened(sealed, is)?;
        let signed = Signed::read(said).map_err(|fault| refused(&fault))?;
        let (used, passkey) = self.used(account, &signed, opened)?;
        if passkey.signs_in { Ok(used) } else { Err(refused(&PasskeyFault::Credential)) }
    }

    /// Asks a passkey of who is signed in to sign one answer to one request.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if there are no passkeys here or the person has none, [`Code::Unauthenticated`] if the session
    /// is good no more, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn begin_step_up(
        &self,
        session: &WebSession,
        record: &ApprovalRecord,
        answer: &PersonAnswer,
    ) -> Result<Ceremony, Refusal> {
        let (_record, account) = self.session_and_account(session).await?;
        let answer = shown(record, &digest_of(&record.request.id, answer));
        let purpose = Purpose::Approve { person: account.person, session: session.id.clone(), answer };
        self.ask(purpose, &account.passkeys)
    }

    /// Checks that a passkey has signed this answer of who is signed in, and spends what it has signed: it is good for this
    /// one answer, which is given next or not at all.
    ///
    /// # Errors
    /// Returns [`Code::AnswerRefused`] if what was signed does not hold, [`Code::Unauthenticated`] if the session is good no
    /// more, [`Code::NotLookedUp`] if the ledger cannot be read, and [`Code::LedgerUnavailable`] if it cannot be recorded.
    pub async fn step_up(
        &self,
        session: &WebSession,
        record: &ApprovalRecord,
        answer: &PersonAnswer,
        (sealed, said): (&str, &str),
    ) -> Result<SteppedUp, Refusal> {
        let (_record, account) = self.session_and_account(session).await?;
        let digest = digest_of(&record.request.id, answer);
        let seen = shown(record, &digest);
        let not_confirmed = |why: Refusal| Refusal { code: Code::AnswerRefused, ..why };
        let opened = self.opened(sealed, |purpose| {
            matches!(purpose, Purpose::Approve { person, session: of, answer }
                if *person == account.person && *of == session.id && *answer == seen)
        });
        let opened = opened.map_err(not_confirmed)?;
        let signed = Signed::read(said).map_err(|fault| not_confirmed(refused(&fault)))?;
        let (used, passkey) = self.used(&account, &signed, opened).map_err(not_confirmed)?;
        let passkey = passkey.id.clone();
        let noted = self.store.use_passkey(used).await.map_err(|fault| not_recorded(&fault))?;
        noted.map_err(|why| not_confirmed(not_used(why)))?;
        Ok(SteppedUp { person: account.person, answer: digest, passkey })
    }

    /// Checks the password of an account, or a recovery code in its place, and counts what is wrong.
    pub(super) async fn check_password(
        &self,
        account: &AccountRecord,
        typed: &str,
        from: IpAddr,
    ) -> Result<PasswordProof, Refusal> {
        let attempt = self.attempts.begin(account.person.as_str(), from, self.clock.now_ms())?;
        let kept = Some(&account.password).filter(|password| !password.is_none());
        let presented = if typed.len() > PASSWORD_BYTES_MAX { "" } else { typed };
        let right = self.passwords.fits(SecretString::from(presented), kept).await;
        let proof = match right {
            Ok(true) => Ok(PasswordProof::Password),
            Ok(false) => recovery::find(typed, &account.codes).map(PasswordProof::Code).ok_or_else(|| {
                Refusal::new(Code::Unauthenticated, "the password is wrong")
                    .help("a recovery code does in its place, once")
            }),
            Err(refusal) => Err(refusal),
        };
        if !proof.as_ref().is_err_and(|refusal| refusal.code == Code::Unauthenticated) {
            attempt.uncount();
        }
        proof
    }

    /// Reads the session and its account again: they must be those that act.
    pub(super) async fn session_and_account(
        &self,
        session: &WebSession,
    ) -> Result<(WebSessionRecord, AccountRecord), Refusal> {
        let found = self.store.web_session(&session.id).await.map_err(|fault| not_read(&fault))?;
        let unknown = || session_refused(countersign_store::WebSessionRefusal::Unknown);
        let (record, account) = found.ok_or_else(unknown)?;
        record.check(&account, self.clock.now_ms(), SESSION_IDLE_MS).map_err(session_refused)?;
        Ok((record, account))
    }

    fn begin(
        &self,
        purpose: Purpose,
        options: impl FnOnce(&PasskeySite, &str) -> Value,
    ) -> Result<Ceremony, Refusal> {
        let site = self.passkey_site()?;
        let kept = Kept { random: self.fresh_token(), begun_ms: self.clock.now_ms(), purpose };
        let sealed = self.providers.sealing().seal(SEALED_FOR, &kept);
        let (challenge, sealed) =
            sealed.ok_or_else(|| Refusal::new(Code::Internal, "what a passkey is asked for is too long"))?;
        Ok(Ceremony { origin: site.origin.clone(), options: options(site, &challenge), sealed })
    }

    /// Asks for a signature: of one of these passkeys, or of any where there are none.
    pub(super) fn ask(&self, purpose: Purpose, of: &[PasskeyRecord]) -> Result<Ceremony, Refusal> {
        if purpose != Purpose::SignIn && of.is_empty() {
            self.passkey_site()?;
            return Err(Refusal::new(Code::NotFound, "you have no passkey yet")
                .help("add one on the page of your account: `/console/account`"));
        }
        self.begin(purpose, |site, challenge| {
            json!({
                "challenge": challenge, "rpId": site.host, "timeout": CEREMONY_MS, "userVerification": "required",
                "allowCredentials": described(of),
            })
        })
    }

    /// Asks for a passkey of a person, on an authenticator that has none of these.
    fn make(&self, purpose: Purpose, person: &PersonId, but: &[PasskeyRecord]) -> Result<Ceremony, Refusal> {
        let handle = match &purpose {
            Purpose::Add { handle, .. } | Purpose::Link { handle, .. } => handle.clone(),
            Purpose::SignIn
            | Purpose::Password { .. }
            | Purpose::Approve { .. }
            | Purpose::CommandLine { .. } => String::new(),
        };
        let algorithms = ALGORITHMS.map(|alg| json!({ "type": "public-key", "alg": alg }));
        self.begin(purpose, |site, challenge| {
            json!({
                "challenge": challenge,
                "rp": { "id": site.host, "name": "Countersign" },
                "user": { "id": handle, "name": person, "displayName": person },
                "pubKeyCredParams": algorithms,
                "timeout": CEREMONY_MS,
                "attestation": "none",
                "authenticatorSelection": { "residentKey": "required", "requireResidentKey": true, "userVerification": "required" },
                "excludeCredentials": described(but),
            })
        })
    }

    /// Opens what was sealed here a moment ago for this purpose.
    fn opened(&self, sealed: &str, is: impl FnOnce(&Purpose) -> bool) -> Result<Opened, Refusal> {
        let (challenge, kept): (String, Kept) =
            self.providers.sealing().unseal(SEALED_FOR, sealed).ok_or_else(not_begun)?;
        let now_ms = self.clock.now_ms();
        let age_ms = now_ms.saturating_sub(kept.begun_ms);
        // Servers' clocks may differ a little.
        if !(-60_000..CEREMONY_MS).contains(&age_ms) || !is(&kept.purpose) {
            return Err(not_begun());
        }
        let until_ms = kept.begun_ms.saturating_add(CEREMONY_MS).saturating_add(CEREMONY_MS);
        let challenge = SpentChallenge { challenge, until_ms, now_ms };
        Ok(Opened { challenge, purpose: kept.purpose })
    }

    fn new_passkey(
        &self,
        opened: &Opened,
        said: &str,
        label: &str,
        signs_in: bool,
    ) -> Result<NewPasskey, Refusal> {
        let site = self.passkey_site()?;
        let made = registered(site, &opened.challenge.challenge, said);
        let made = made.map_err(|fault| malformed(refused(&fault)))?;
        let (Purpose::Add { handle, .. } | Purpose::Link { handle, .. }) = &opened.purpose else {
            return Err(malformed(not_begun()));
        };
        let label: String = crate::text::one_line(label.trim()).chars().take(LABEL_CHARS_MAX).collect();
        let passkey = PasskeyRecord {
            id: made.id,
            credential: made.credential,
            key: made.key,
            algorithm: made.algorithm,
            counter: made.counter,
            label: if label.is_empty() { "passkey".into() } else { label },
            syncable: made.syncable,
            synced: made.synced,
            signs_in,
            made_ms: opened.challenge.now_ms,
            used_ms: None,
        };
        Ok(NewPasskey { passkey, handle: handle.clone(), challenge: opened.challenge.clone() })
    }

    /// Checks that a passkey of an account has signed what was opened.
    fn used<'a>(
        &self,
        account: &'a AccountRecord,
        signed: &Signed,
        opened: Opened,
    ) -> Result<(PasskeyUse, &'a PasskeyRecord), Refusal> {
        let site = self.passkey_site()?;
        let id = signed.passkey().map_err(|fault| refused(&fault))?;
        let passkey = account.passkey(&id).ok_or_else(|| refused(&PasskeyFault::Credential))?;
        // One that knows the account by another value is of another account.
        if signed.handle().is_some_and(|handle| account.handle.as_deref() != Some(handle)) {
            return Err(refused(&PasskeyFault::Credential));
        }
        let assertion = signed.check(site, &opened.challenge.challenge, passkey);
        let assertion = assertion.map_err(|fault| refused(&fault))?;
        let used = PasskeyUse {
            person: account.person.clone(),
            round: account.round,
            passkey: id,
            challenge: opened.challenge,
            counter: assertion.counter,
            synced: assertion.synced,
        };
        Ok((used, passkey))
    }
}

/// Who sets a password anew shows this.
#[derive(Clone, Copy)]
pub enum PasswordShown<'a> {
    /// The password of before, or a recovery code.
    Typed(&'a str),
    /// A passkey.
    Passkey {
        /// What the page kept of what [`Accounts::begin_password_change`] began.
        sealed: &'a str,
        /// What the browser said, as JSON.
        said: &'a str,
    },
}

impl std::fmt::Debug for PasswordShown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordShown(..)")
    }
}

/// What was sealed, with its challenge.
struct Opened {
    challenge: SpentChallenge,
    purpose: Purpose,
}

fn described(passkeys: &[PasskeyRecord]) -> Vec<Value> {
    let one = |passkey: &PasskeyRecord| json!({ "type": "public-key", "id": passkey.credential });
    passkeys.iter().map(one).collect()
}

/// Names a link without giving it away.
fn link_of(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(&[b"countersign passkey link\0", token.as_bytes()].concat()).as_bytes())
}

fn malformed(why: Refusal) -> Refusal {
    Refusal { code: Code::Malformed, ..why }
}

fn refused(fault: &PasskeyFault) -> Refusal {
    Refusal::new(Code::Unauthenticated, format!("the passkey is not accepted: {fault}"))
        .help("try again; another passkey, the password or a recovery code may do")
}

fn not_begun() -> Refusal {
    Refusal::new(Code::Unauthenticated, "this was not begun here, or more than five minutes ago").help(
        "begin again: each time a passkey signs something new, for what it is asked for and nothing else",
    )
}

pub(super) fn not_used(why: PasskeyRefusal) -> Refusal {
    let message = match why {
        PasskeyRefusal::Spent => "what the passkey has signed was used before",
        PasskeyRefusal::Over => "the account was disabled, set up anew or signed out meanwhile",
        PasskeyRefusal::Unknown => "the passkey is none of this account",
        PasskeyRefusal::Known => "the account has this passkey already",
        PasskeyRefusal::TooMany => "you have 20 passkeys, and no more are kept: remove one first",
        PasskeyRefusal::CountedBack => {
            "the passkey has counted back, as a copy of it would: it was refused, and the log says so"
        }
    };
    Refusal::new(Code::Unauthenticated, message)
}

#[cfg(test)]
mod tests;
