//! Accounts: how a configured person signs in to a browser.
//!
//! The configuration says who exists, and in which groups; an account is no more than the means to show that one is
//! that person. It is set up by a one-time link, which somebody makes who may: on the machine of the server, or an
//! operator. What is set up through a link is in the hands of whoever made it, so nobody answers by such an account
//! for what its maker's agents ask ([`Accounts::may_answer`]).
//!
//! Nothing here can be presented again from what is stored: passwords, tokens and recovery codes are kept as hashes.

mod attempts;
mod command_line;
mod passkey;
mod password;
mod recovery;
mod vouched;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_gate::{
    Clock, Entropy,
    ledger::{ApprovalRecord, LedgerFault},
};
use countersign_rules::{Code, PersonId, Refusal};
use countersign_store::{
    AccountRecord, LinkRefusal, NewAccount, NewLink, NewWebSession, Store, WebSessionRecord,
    WebSessionRefusal,
};
use secrecy::SecretString;

pub(crate) use self::command_line::Hung;
pub use self::command_line::{COMMAND_LINE_SECONDS_MAX, CommandLine, CommandLineAsks, CommandLineLook};
pub use self::passkey::{Ceremony, PasswordShown, SteppedUp};
pub use self::vouched::{Leaving, ProviderWithSecret, Providers, look_at_provider};
use self::{
    attempts::Attempts,
    password::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, Passwords},
};
use super::{Person, passkey::PasskeySite};
use crate::principal::PersonConfig;

/// A link is good for so long, in milliseconds: an hour, so that it can be sent to somebody who is there.
pub const LINK_MS: i64 = 3_600_000;

/// The link of a first start is good for so long, in milliseconds: a day, for it is printed where nobody may look soon.
/// No link is good for longer.
pub const FIRST_LINK_MS: i64 = 86_400_000;

/// A session that is not used for so long is over, in milliseconds: a working day, so that nobody finds a browser signed
/// in that was left on the evening before.
pub const SESSION_IDLE_MS: i64 = 8 * 3_600_000;

/// A session lasts at most so long, in milliseconds: a week, so that a token that was stolen is worth something for no
/// longer, however much it is used.
pub const SESSION_MS: i64 = 7 * 86_400_000;

/// That a session is used is noted after so long, in milliseconds, so that not each request writes.
const SEEN_MS: i64 = 60_000;

/// A credential of a web session begins with this, and its public id follows.
pub const SESSION_CREDENTIAL: &str = "session:";

/// Who makes links on the machine of the server: the command line, and the server itself as it starts.
const MACHINE: [&str; 2] = ["cli", "server"];

/// A person is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSession {
    /// This person signed in, as the configuration has them now.
    pub person: Person,
    /// The session is over at this time at the latest, in Unix milliseconds UTC; sooner if it is not used for
    /// [`SESSION_IDLE_MS`].
    pub expires_ms: i64,
    /// This is the session's public id; it opens nothing.
    pub id: String,
}

/// A person has just signed in.
#[derive(Clone)]
pub struct SignedIn {
    /// This opens the session, and is for the browser's cookie alone. The store has only a hash of it.
    pub token: String,
    /// This is the session.
    pub session: WebSession,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedIn").field("session", &self.session).finish_non_exhaustive()
    }
}

/// People sign in by these accounts.
pub struct Accounts {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    people: Arc<BTreeMap<PersonId, PersonConfig>>,
    passwords: Passwords,
    attempts: Attempts,
    providers: Providers,
    /// Passkeys are made for this site, or there are none, for this reason.
    site: Result<PasskeySite, String>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

impl Accounts {
    pub(super) fn new(
        people: Arc<BTreeMap<PersonId, PersonConfig>>,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        providers: Providers,
        site: Result<PasskeySite, String>,
    ) -> Self {
        let passwords = Passwords::new(entropy.bytes());
        Self { store, clock, entropy, people, passwords, attempts: Attempts::default(), providers, site }
    }

    /// Makes a one-time link for a configured person, good for `for_ms` milliseconds ([`LINK_MS`], or
    /// [`FIRST_LINK_MS`] at most), and returns its token. `by` says who makes it: a person's id, `cli` or `server`.
    /// Whether that person may is for the caller to know.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if no such person is configured, [`Code::Malformed`] if the account is disabled or
    /// `by` is nobody, and [`Code::LedgerUnavailable`] if the link cannot be recorded.
    pub async fn invite(&self, person: &PersonId, by: &str, for_ms: i64) -> Result<String, Refusal> {
        if !self.people.contains_key(person) {
            let message = format!("there is no `[person.{person}]` in the configuration");
            return Err(Refusal::new(Code::NotFound, message)
                .help("a person is configured first, with groups, and then gets an account"));
        }
        let (maker, now_ms) = (self.maker(by)?, self.clock.now_ms());
        let new = NewLink {
            person: person.clone(),
            by: by.to_owned(),
            maker,
            expires_ms: now_ms.saturating_add(for_ms.clamp(0, FIRST_LINK_MS)),
            now_ms,
        };
        let token = new_token([self.entropy.bytes(), self.entropy.bytes()]);
        if self.store.make_link(new, &token).await.map_err(|fault| not_recorded(&fault))? {
            return Ok(token);
        }
        let message = format!("the account of `{person}` is disabled");
        Err(Refusal::new(Code::Malformed, message)
            .help(format!("enable it first: `countersign people enable {person}`")))
    }

    /// Returns the person who makes a link, or `None` for the machine of the server. A person who is configured under
    /// the machine's word is that person.
    fn maker(&self, by: &str) -> Result<Option<PersonId>, Refusal> {
        let person = PersonId::parse(by)
            .map_err(|why| Refusal::new(Code::Malformed, format!("`{by}` makes no links: {why}")))?;
        let machine = MACHINE.contains(&by) && !self.people.contains_key(&person);
        Ok((!machine).then_some(person))
    }

    /// Tells for whom a link is. It changes nothing: a link that is merely opened, fetched ahead, or looked at by a
    /// mail filter is not spent.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if it is no good link, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn look_at_link(&self, token: &str) -> Result<PersonId, Refusal> {
        let link = self.store.look_at_link(token, self.clock.now_ms()).await;
        let link = link.map_err(|fault| not_read(&fault))?.map_err(link_refused)?;
        self.configured(&link.person)?;
        Ok(link.person)
    }

    /// Spends a link: sets the password, makes recovery codes, which are shown this once, ends the person's other
    /// sessions and links, and signs in. Of several who spend it at once, one does.
    ///
    /// # Errors
    /// Fails as [`Accounts::look_at_link`] does, and with [`Code::Malformed`] for a password that is too short or too
    /// long; then the link is not spent.
    pub async fn set_up(&self, token: &str, password: &str) -> Result<(SignedIn, Vec<String>), Refusal> {
        let person = self.look_at_link(token).await?;
        check_length(password)?;
        let salt = self.entropy.bytes();
        let password = self.passwords.hash(SecretString::from(password), salt).await?;
        let codes = recovery::new_codes(&*self.entropy);
        let hashes = codes.iter().map(|code| recovery::hash(code)).collect();
        let account = NewAccount { password, codes: hashes, passkey: None };
        let session_token = self.fresh_token();
        let set_up = self.store.set_up_account(token, account, self.new_session(&session_token)).await;
        let session = set_up.map_err(|fault| not_recorded(&fault))?.map_err(link_refused)?;
        // Whoever was kept from signing in by somebody else's guesses has a link to come back by.
        self.attempts.forget(person.as_str());
        Ok((SignedIn { token: session_token, session: self.web_session(&session)? }, codes))
    }

    /// Signs a person in by a password, or by a recovery code in its place, which is used up. `from` is the client's
    /// address. Nobody is told whether there is such a person or account: the words are the same, and so is the work.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if the person or password is wrong, [`Code::RateLimited`] if too many were
    /// from this address or for this person, whether or not this one would be right, [`Code::NotLookedUp`] if the
    /// ledger cannot be read, and [`Code::LedgerUnavailable`] if the session cannot be recorded.
    pub async fn sign_in(&self, person: &str, password: &str, from: IpAddr) -> Result<SignedIn, Refusal> {
        // Counted before it is known to have failed: many at once are not more than one after the other.
        let attempt = self.attempts.begin(person, from, self.clock.now_ms())?;
        let signed_in = self.check_and_begin(person, password).await;
        // What could not be looked at was no guess.
        if !signed_in.as_ref().is_err_and(|refusal| refusal.code == Code::Unauthenticated) {
            attempt.uncount();
        }
        signed_in
    }

    async fn check_and_begin(&self, person: &str, password: &str) -> Result<SignedIn, Refusal> {
        let account = self.account_of(person).await?;
        let kept = account.as_ref().map(|account| &account.password).filter(|password| !password.is_none());
        // What is too long to be a password is not hashed: it is wrong.
        let presented = if password.len() > PASSWORD_BYTES_MAX { "" } else { password };
        let right = self.passwords.fits(SecretString::from(presented), kept).await?;
        let code = recovery::find(password, account.as_ref().map_or(&[], |account| account.codes.as_slice()));
        let Some(account) = account.filter(|_| right || code.is_some()) else { return Err(wrong()) };
        let token = self.fresh_token();
        let code = code.filter(|_| !right);
        let begun = self.store.begin_web_session(&account, code, self.new_session(&token)).await;
        let session = begun.map_err(|fault| not_recorded(&fault))?.ok_or_else(wrong)?;
        Ok(SignedIn { token, session: self.web_session(&session)? })
    }

    /// Returns the account by which this person may sign in, if there is such a person and such an account.
    async fn account_of(&self, person: &str) -> Result<Option<AccountRecord>, Refusal> {
        let Ok(person) = PersonId::parse(person) else { return Ok(None) };
        let account = self.store.account(&person).await.map_err(|fault| not_read(&fault))?;
        Ok(account.filter(|account| account.is_enabled() && self.people.contains_key(&person)))
    }

    /// Tells whose session a token opens, and notes that it is used.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if it is none, was signed out, or is over, or if the person is not configured
    /// any more or may not sign in, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn session(&self, token: &str) -> Result<WebSession, Refusal> {
        let (session, web_session) = self.good_session(token).await?;
        let now_ms = self.clock.now_ms();
        if now_ms.saturating_sub(session.seen_ms) >= SEEN_MS
            && let Err(fault) = self.store.use_web_session(&session.id, now_ms).await
        {
            tracing::warn!(%fault, session = session.id, "that a session is used cannot be noted");
        }
        Ok(web_session)
    }

    /// Tells whose session a token opens. What a page asks by itself, while nobody is there, is no use of it.
    ///
    /// # Errors
    /// Fails as [`Accounts::session`] does.
    pub async fn look_at_session(&self, token: &str) -> Result<WebSession, Refusal> {
        Ok(self.good_session(token).await?.1)
    }

    async fn good_session(&self, token: &str) -> Result<(WebSessionRecord, WebSession), Refusal> {
        let found = self.store.find_web_session(token).await.map_err(|fault| not_read(&fault))?;
        let (session, account) = found.ok_or_else(|| session_refused(WebSessionRefusal::Unknown))?;
        session.check(&account, self.clock.now_ms(), SESSION_IDLE_MS).map_err(session_refused)?;
        let web_session = self.web_session(&session)?;
        Ok((session, web_session))
    }

    /// Ends the session of a token. It is no error if there is none.
    ///
    /// # Errors
    /// Returns [`Code::NotLookedUp`] if the ledger cannot be read, and [`Code::LedgerUnavailable`] if it cannot record
    /// the end; then the session may still be good.
    pub async fn sign_out(&self, token: &str) -> Result<(), Refusal> {
        let found = self.store.find_web_session(token).await.map_err(|fault| not_read(&fault))?;
        let Some((session, _account)) = found else { return Ok(()) };
        let ended =
            self.store.end_web_session(&session.id, session.person.as_str(), self.clock.now_ms()).await;
        ended.map(drop).map_err(|fault| not_recorded(&fault))
    }

    /// Ends every session of a person, and every link that was made for them. Returns how many sessions that were.
    /// `by` is who does it: a person's id, or `cli`.
    ///
    /// # Errors
    /// Returns [`Code::NotLookedUp`] if the ledger cannot be read, and [`Code::LedgerUnavailable`] if it cannot record
    /// the end; then the sessions may still be good.
    pub async fn sign_out_everywhere(&self, person: &PersonId, by: &str) -> Result<u64, Refusal> {
        let now_ms = self.clock.now_ms();
        let good = good_sessions(&self.store, person, now_ms).await.map_err(|fault| not_read(&fault))?;
        let ended = self.store.sign_out_everywhere(person, by, now_ms).await;
        ended.map(|ended| if ended { good } else { 0 }).map_err(|fault| not_recorded(&fault))
    }

    /// Returns true if no configured person has an account yet.
    ///
    /// # Errors
    /// Returns a [`LedgerFault`] if the ledger cannot be read.
    pub async fn none_yet(&self) -> Result<bool, LedgerFault> {
        let accounts = self.store.accounts().await?;
        Ok(!accounts.iter().any(|account| self.people.contains_key(&account.person)))
    }

    /// Checks that whoever is signed in may answer a request, as far as their account goes; the gate checks the rest.
    /// Whoever made the link by which the account was set up may be the one who is signed in, so the account answers
    /// for nothing that this person asked for.
    ///
    /// # Errors
    /// Returns [`Code::AnswerRefused`] if the account was made by who requested the call, [`Code::Unauthenticated`] if
    /// the session is good no more, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn may_answer(&self, session: &WebSession, record: &ApprovalRecord) -> Result<(), Refusal> {
        // Read again: the session and the account that it is of must be those that answer.
        let found = self.store.web_session(&session.id).await.map_err(|fault| not_read(&fault))?;
        let (found, account) = found.ok_or_else(|| session_refused(WebSessionRefusal::Unknown))?;
        found.check(&account, self.clock.now_ms(), SESSION_IDLE_MS).map_err(session_refused)?;
        // A provider's word is in nobody's hands who made a link.
        if found.vouched.is_some() {
            return Ok(());
        }
        by_its_maker(&account, record)
    }

    /// Checks that a person who has no key may still approve: has an account that is not disabled.
    pub(super) async fn may_sign_in(&self, person: &PersonId) -> Result<bool, LedgerFault> {
        Ok(self.store.account(person).await?.is_some_and(|account| account.is_enabled()))
    }

    fn fresh_token(&self) -> String {
        new_token([self.entropy.bytes(), self.entropy.bytes()])
    }

    fn new_session<'a>(&self, token: &'a str) -> NewWebSession<'a> {
        let now_ms = self.clock.now_ms();
        NewWebSession { token, now_ms, expires_ms: now_ms.saturating_add(SESSION_MS) }
    }

    fn configured(&self, person: &PersonId) -> Result<&PersonConfig, Refusal> {
        self.people.get(person).ok_or_else(|| {
            Refusal::new(Code::Unauthenticated, format!("`{person}` is not in the configuration any more"))
        })
    }

    fn web_session(&self, session: &WebSessionRecord) -> Result<WebSession, Refusal> {
        let config = self.configured(&session.person)?;
        let brought = match &session.vouched {
            None => BTreeSet::new(),
            Some(vouched) => self.brought(&session.person, vouched).ok_or_else(|| {
                let provider = &vouched.provider;
                let why = format!("`{}` does not sign in by `{provider}` any more", session.person);
                Refusal::new(Code::Unauthenticated, why)
            })?,
        };
        let person = Person {
            id: session.person.clone(),
            groups: config.groups.union(&brought).cloned().collect(),
            roles: config.roles.clone(),
            credential: format!("{SESSION_CREDENTIAL}{}", session.id),
        };
        Ok(WebSession { person, expires_ms: session.expires_ms, id: session.id.clone() })
    }
}

/// Whoever made the link by which an account was set up may be the one who uses it.
fn by_its_maker(account: &AccountRecord, record: &ApprovalRecord) -> Result<(), Refusal> {
    let requester = &record.request.call.requester;
    let Some(maker) = account.makers.iter().find(|maker| requester.is_own(maker)) else { return Ok(()) };
    let person = &account.person;
    let message = format!(
        "`{person}` cannot answer for this call: it was requested for `{maker}`, who made the account of `{person}`"
    );
    Err(Refusal::new(Code::AnswerRefused, message).help(format!(
        "somebody else answers; or the account is set up anew by a link of the server's machine (`countersign people link {person}`)"
    )))
}

/// Returns how many sessions of a person are good.
///
/// # Errors
/// Returns a [`LedgerFault`] if the ledger cannot be read.
pub async fn good_sessions(store: &Store, person: &PersonId, now_ms: i64) -> Result<u64, LedgerFault> {
    let Some(account) = store.account(person).await? else { return Ok(0) };
    let sessions = store.web_sessions().await?;
    let theirs = sessions.iter().filter(|session| session.person == *person);
    let good = theirs.filter(|session| session.check(&account, now_ms, SESSION_IDLE_MS).is_ok()).count();
    Ok(u64::try_from(good).unwrap_or(u64::MAX))
}

/// Makes a token of a link or a session from 32 random bytes.
#[must_use]
pub fn new_token(random: [[u8; 16]; 2]) -> String {
    URL_SAFE_NO_PAD.encode(random.as_flattened())
}

fn check_length(password: &str) -> Result<(), Refusal> {
    let (chars, bytes) = (password.chars().count(), password.len());
    let message = if chars < PASSWORD_CHARS_MIN {
        format!("the password has {chars} characters, and needs {PASSWORD_CHARS_MIN}")
    } else if bytes > PASSWORD_BYTES_MAX {
        format!("the password has {bytes} bytes, and may have {PASSWORD_BYTES_MAX}")
    } else {
        return Ok(());
    };
    Err(Refusal::new(Code::Malformed, message).help("several words in a row are long, and easy to remember"))
}

fn wrong() -> Refusal {
    Refusal::new(Code::Unauthenticated, "the name or the password is wrong")
        .help("a recovery code does in place of the password, once; or ask for a link, by which the password is set anew")
}

fn link_refused(why: LinkRefusal) -> Refusal {
    let message = match why {
        LinkRefusal::Unknown => "this is no link of this server, or one that expired long ago",
        LinkRefusal::Spent => "the link was used already",
        LinkRefusal::Expired => "the link has expired",
        LinkRefusal::Overtaken => {
            "the link is good no more: the account was set up or signed out since it was made"
        }
        LinkRefusal::Disabled => "the account is disabled",
    };
    Refusal::new(Code::Unauthenticated, message)
        .help("ask for another one: an operator makes it, or `countersign people link NAME` on the server's machine")
}

fn session_refused(why: WebSessionRefusal) -> Refusal {
    let message = match why {
        WebSessionRefusal::Unknown => "nobody is signed in here",
        WebSessionRefusal::SignedOut => "you were signed out",
        WebSessionRefusal::Expired => "the session is over",
        WebSessionRefusal::Disabled => "the account is disabled",
    };
    Refusal::new(Code::Unauthenticated, message).help("sign in")
}

fn not_read(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::NotLookedUp, format!("who signs in cannot be looked up: {fault}"))
}

fn not_recorded(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::LedgerUnavailable, format!("it cannot be recorded: {fault}"))
        .help("try again when the ledger is back")
}

#[cfg(test)]
mod tests;
