//! A person lets a command line act as them: in the browser, where they are signed in, by a code that is exchanged once for a key
//! of theirs that expires (authorization code with PKCE, RFC 7636, for a native application, RFC 8252).
//!
//! Nothing is written before the exchange. The code is what was agreed on, sealed, so that any server of the ledger exchanges it,
//! also after a restart; the key's id follows from the code, so that of all exchanges one issues a key.
//!
//! Such a key says in its scopes what it hangs on: the round of the account, the session where a provider has vouched, and the
//! machine. It is looked at each time it is presented, so that it opens nothing once that is over.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_audit::sha256;
use countersign_gate::ledger::{ApprovalRecord, LedgerFault};
use countersign_rules::{Code, PersonId, Refusal};
use countersign_store::{
    AccountRecord, KeyOwner, KeyRecord, NewKey, PasswordProof, Store, WebSessionRecord, WebSessionRefusal,
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::{
    Accounts, PasswordShown, WebSession, by_its_maker, not_read, not_recorded,
    passkey::{FRESH_MS, Purpose, not_used},
    session_refused,
};

/// A code is good for so long, in milliseconds: the browser hands it over at once.
const CODE_MS: i64 = 60_000;

/// A key that a command line gets is good for so long at the most, in seconds.
pub const COMMAND_LINE_SECONDS_MAX: i64 = 30 * 86_400;

/// What is sealed is a code, and nothing else.
const SEALED_FOR: &str = "command line";

/// A command line listens for its code here, at a port of the loopback address.
const LISTENS_AT: (&str, &str) = ("http://127.0.0.1:", "/signed-in");

/// A machine's name has at most so many characters.
const MACHINE_CHARS_MAX: usize = 63;

/// What a key that a command line got hangs on, as it stands in its scopes.
const ACCOUNT_SCOPE: &str = "account:";
const SESSION_SCOPE: &str = "session:";
const MACHINE_SCOPE: &str = "machine:";

/// A command line asks to act as whoever is signed in, in the words of its address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLineAsks {
    /// The hash of what it will show to get its key (RFC 7636, 4.2).
    #[serde(default)]
    pub code_challenge: String,
    /// How that was hashed: `S256`.
    #[serde(default)]
    pub code_challenge_method: String,
    /// Where it listens.
    #[serde(default)]
    pub redirect_uri: String,
    /// By this it knows the answer as one to its own question.
    #[serde(default)]
    pub state: String,
    /// The machine that it says it is on.
    #[serde(default)]
    pub machine: String,
    /// For how many seconds it wants to act.
    #[serde(default)]
    pub seconds: String,
}

/// A command line asks what can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    asks: CommandLineAsks,
    seconds: i64,
}

/// A page that asks a person about a command line says this of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLineLook {
    /// The key would be good until this time, in Unix milliseconds UTC.
    pub until_ms: i64,
    /// The person signed in long ago, and shows once more who they are.
    pub show: bool,
    /// The person has a password.
    pub password: bool,
    /// The person has a passkey that signs in.
    pub passkey: bool,
}

impl CommandLineAsks {
    /// Checks what is asked.
    ///
    /// # Errors
    /// Returns [`Code::Malformed`] with what is wrong.
    pub fn checked(self) -> Result<CommandLine, Refusal> {
        let wrong = |why: &str| {
            Err(Refusal::new(Code::Malformed, why)
                .help("begin again with `countersign login` at the command line"))
        };
        let word =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
        if self.code_challenge_method != "S256" {
            return wrong("a command line shows who it is by PKCE with `S256`, and by nothing else");
        }
        if self.code_challenge.len() != 43 || !word(&self.code_challenge) {
            return wrong("the command line's challenge is no hash");
        }
        if port(&self.redirect_uri).is_none() {
            return wrong(
                "a key goes to a program on the machine of the browser, and nowhere else: `http://127.0.0.1:PORT/signed-in`",
            );
        }
        if !(16..=128).contains(&self.state.len()) || !word(&self.state) {
            return wrong("the command line does not say by what it will know the answer");
        }
        let named =
            !self.machine.is_empty() && self.machine.len() <= MACHINE_CHARS_MAX && word(&self.machine);
        if !named {
            return wrong("a machine's name is 1 to 63 letters, digits, `.`, `-` and `_`");
        }
        match self.seconds.parse() {
            Ok(seconds) if (60..=COMMAND_LINE_SECONDS_MAX).contains(&seconds) => {
                Ok(CommandLine { asks: self, seconds })
            }
            Ok(_) | Err(_) => wrong("a command line acts for a minute at least and 30 days at most"),
        }
    }
}

/// Returns the port that a command line listens at. There is one way to write the place: no other host, name, scheme, user or
/// path, and nothing that a browser reads as another.
fn port(redirect_uri: &str) -> Option<u16> {
    let (before, after) = LISTENS_AT;
    let digits = redirect_uri.strip_prefix(before)?.strip_suffix(after)?;
    let port: u16 = digits.parse().ok()?;
    (port > 0 && port.to_string() == digits).then_some(port)
}

impl CommandLine {
    /// Returns what was asked.
    #[must_use]
    pub const fn asks(&self) -> &CommandLineAsks {
        &self.asks
    }

    /// Returns a few letters that the command line shows as well, so that a person sees that it is theirs.
    #[must_use]
    pub fn check_word(&self) -> String {
        self.asks.code_challenge.chars().take(8).collect()
    }

    /// Returns where a browser goes to say that the person does not let it.
    #[must_use]
    pub fn refused(&self) -> String {
        format!("{}?error=access_denied&state={}", self.asks.redirect_uri, self.asks.state)
    }

    fn digest(&self) -> String {
        let CommandLineAsks { code_challenge, redirect_uri, state, machine, .. } = &self.asks;
        let whole = [code_challenge, redirect_uri, state, machine].map(String::as_str).join("\n");
        sha256(format!("{whole}\n{}", self.seconds).as_bytes()).to_string()
    }
}

/// What a code says, sealed.
#[derive(Debug, Serialize, Deserialize)]
struct Agreed {
    random: String,
    made_ms: i64,
    person: PersonId,
    session: String,
    /// A provider has vouched for the person in that session.
    vouched: bool,
    round: u64,
    machine: String,
    challenge: String,
    redirect_uri: String,
    expires_ms: i64,
}

/// What a key that a command line got hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hung<'a> {
    round: u64,
    session: Option<&'a str>,
}

impl<'a> Hung<'a> {
    /// Reads it from a key's scopes; `None` for a key that an operator made. Where a word is odd or there twice, it is left among
    /// the others, of which it is none: such a key opens nothing.
    pub(crate) fn read(scopes: &'a [String]) -> Option<Self> {
        let mut rounds = scopes.iter().filter_map(|scope| scope.strip_prefix(ACCOUNT_SCOPE));
        let mut sessions = scopes.iter().filter_map(|scope| scope.strip_prefix(SESSION_SCOPE));
        let (round, session) = (rounds.next()?.parse().ok()?, sessions.next());
        (rounds.next().is_none() && sessions.next().is_none()).then_some(Self { round, session })
    }

    /// Returns the scopes that narrow what the key opens.
    pub(crate) fn others(scopes: &[String]) -> Vec<String> {
        let hung = |scope: &String| {
            [ACCOUNT_SCOPE, SESSION_SCOPE, MACHINE_SCOPE].iter().any(|word| scope.starts_with(word))
        };
        scopes.iter().filter(|scope| !hung(scope)).cloned().collect()
    }

    /// Tells whether the account, and the session where a provider vouched, are as they were when the key was made. Returns them.
    pub(crate) async fn stands(
        &self,
        store: &Store,
        person: &PersonId,
    ) -> Result<Result<(AccountRecord, Option<WebSessionRecord>), &'static str>, LedgerFault> {
        let Some(account) = store.account(person).await? else { return Ok(Err("there is no such account")) };
        if !account.is_enabled() {
            return Ok(Err("the account is disabled"));
        }
        if account.round != self.round {
            return Ok(Err(
                "the person was signed out everywhere, changed the password or set up the account anew since the key was made",
            ));
        }
        let Some(session) = self.session else { return Ok(Ok((account, None))) };
        match store.web_session(session).await? {
            Some((session, _)) if session.ended_ms.is_none() && session.person == *person => {
                Ok(Ok((account, Some(session))))
            }
            Some(_) | None => Ok(Err("the sign-in by a provider, in which the key was made, was ended")),
        }
    }
}

impl Accounts {
    /// Says what a page asks a person who is signed in about a command line.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if the session is good no more, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn look_at_command_line(
        &self,
        session: &WebSession,
        line: &CommandLine,
    ) -> Result<CommandLineLook, Refusal> {
        let (record, account) = self.session_and_account(session).await?;
        Ok(CommandLineLook {
            until_ms: self.until_ms(&record, line),
            show: self.is_stale(&record),
            password: !account.password.is_none(),
            passkey: self.passkey_site().is_ok() && account.passkeys.iter().any(|passkey| passkey.signs_in),
        })
    }

    fn is_stale(&self, session: &WebSessionRecord) -> bool {
        self.clock.now_ms().saturating_sub(session.created_ms) > FRESH_MS
    }

    /// A provider's word lasts as long as the session that it began.
    fn until_ms(&self, session: &WebSessionRecord, line: &CommandLine) -> i64 {
        let wanted = self.clock.now_ms().saturating_add(line.seconds.saturating_mul(1_000));
        if session.vouched.is_some() { wanted.min(session.expires_ms) } else { wanted }
    }

    /// Asks a passkey of who is signed in to show who they are, so that a command line may act as them.
    ///
    /// # Errors
    /// Fails as [`Accounts::begin_password_change`] does.
    pub async fn begin_command_line(
        &self,
        session: &WebSession,
        line: &CommandLine,
    ) -> Result<super::Ceremony, Refusal> {
        let (_record, account) = self.session_and_account(session).await?;
        let theirs: Vec<_> = account.passkeys.into_iter().filter(|passkey| passkey.signs_in).collect();
        let (person, session) = (account.person, session.id.clone());
        self.ask(Purpose::CommandLine { person, session, line: line.digest() }, &theirs)
    }

    /// Lets a command line act as who is signed in: they signed in a moment ago, or show once more who they are, by the password
    /// or a passkey that signs in. Returns where the browser goes with the code.
    ///
    /// # Errors
    /// Returns [`Code::Malformed`] if the person has to show who they are, [`Code::Unauthenticated`] if what they show is wrong
    /// or the session is good no more, [`Code::RateLimited`] if too much of that was, [`Code::NotLookedUp`] if the ledger cannot
    /// be read, and [`Code::LedgerUnavailable`] if it cannot record what a passkey has signed.
    pub async fn let_command_line(
        &self,
        session: &WebSession,
        line: &CommandLine,
        shown: PasswordShown<'_>,
        from: IpAddr,
    ) -> Result<String, Refusal> {
        let (record, account) = self.session_and_account(session).await?;
        if self.is_stale(&record) {
            self.show(&record, &account, line, shown, from).await?;
        }
        let now_ms = self.clock.now_ms();
        let CommandLineAsks { code_challenge, redirect_uri, state, machine, .. } = &line.asks;
        let agreed = Agreed {
            random: self.fresh_token(),
            made_ms: now_ms,
            person: account.person,
            session: record.id.clone(),
            vouched: record.vouched.is_some(),
            round: record.round,
            machine: machine.clone(),
            challenge: code_challenge.clone(),
            redirect_uri: redirect_uri.clone(),
            expires_ms: self.until_ms(&record, line),
        };
        let sealed = self.providers.sealing().seal(SEALED_FOR, &agreed);
        let (_name, code) = sealed.ok_or_else(|| Refusal::new(Code::Internal, "the code is too long"))?;
        Ok(format!("{redirect_uri}?code={code}&state={state}"))
    }

    async fn show(
        &self,
        record: &WebSessionRecord,
        account: &AccountRecord,
        line: &CommandLine,
        shown: PasswordShown<'_>,
        from: IpAddr,
    ) -> Result<(), Refusal> {
        match shown {
            PasswordShown::Typed("") => Err(Refusal::new(
                Code::Malformed,
                "you signed in more than ten minutes ago: show once more that it is you",
            )
            .help("type your password, use a passkey, or sign out and in again")),
            PasswordShown::Typed(typed) => match self.check_password(account, typed, from).await? {
                PasswordProof::Password => Ok(()),
                // It would have to be used up, for something that a sign-in does as well.
                PasswordProof::Code(_) | PasswordProof::Passkey(_) => Err(Refusal::new(
                    Code::Unauthenticated,
                    "a recovery code signs in, and does nothing else here",
                )
                .help("sign out, and in again with it")),
            },
            PasswordShown::Passkey { sealed, said } => {
                let (digest, session) = (line.digest(), &record.id);
                let used = self.used_to_show(account, (sealed, said), |purpose| {
                    matches!(purpose, Purpose::CommandLine { person, session: of, line }
                        if *person == account.person && of == session && *line == digest)
                })?;
                let noted = self.store.use_passkey(used).await.map_err(|fault| not_recorded(&fault))?;
                noted.map(drop).map_err(not_used)
            }
        }
    }

    /// Exchanges a code for a key, once: for the command line that can show what its challenge was made of.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if the code is not good, was exchanged before, or is another's,
    /// [`Code::NotLookedUp`] if the ledger cannot be read, and [`Code::LedgerUnavailable`] if the key cannot be recorded.
    pub async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<(KeyRecord, String), Refusal> {
        let not_good = |why: &str| {
            Refusal::new(Code::Unauthenticated, format!("the code is exchanged for no key: {why}"))
                .help("begin again: `countersign login`")
        };
        let unsealed = self.providers.sealing().unseal::<Agreed>(SEALED_FOR, code);
        let (name, agreed) = unsealed.ok_or_else(|| not_good("it is none of this server"))?;
        let now_ms = self.clock.now_ms();
        // Servers' clocks may differ a little.
        if !(-CODE_MS..CODE_MS).contains(&now_ms.saturating_sub(agreed.made_ms)) {
            return Err(not_good("it is older than a minute"));
        }
        let hashed = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()).as_bytes());
        let shown = hashed.as_bytes().ct_eq(agreed.challenge.as_bytes());
        if !bool::from(shown) || !(43..=128).contains(&verifier.len()) {
            return Err(not_good("another command line asked for it"));
        }
        if redirect_uri != agreed.redirect_uri {
            return Err(not_good("it was sent to another place"));
        }
        // Also with what a provider said: the person is still who they were a moment ago.
        let found = self.store.web_session(&agreed.session).await.map_err(|fault| not_read(&fault))?;
        let (session, account) = found.ok_or_else(|| session_refused(WebSessionRefusal::Unknown))?;
        session.check(&account, now_ms, super::SESSION_IDLE_MS).map_err(session_refused)?;
        let person = self.web_session(&session)?.person.id;
        if account.round != agreed.round || person != agreed.person {
            return Err(session_refused(WebSessionRefusal::SignedOut));
        }
        let mut scopes = vec![format!("{ACCOUNT_SCOPE}{}", agreed.round)];
        if agreed.vouched {
            scopes.push(format!("{SESSION_SCOPE}{}", agreed.session));
        }
        scopes.push(format!("{MACHINE_SCOPE}{}", agreed.machine));
        let by = person.to_string();
        let expires_ms = Some(agreed.expires_ms);
        let new = NewKey { owner: KeyOwner::Person(person), scopes, expires_ms, by, now_ms };
        let mut random = [0; 32];
        let (first, second) = random.split_at_mut(16);
        first.copy_from_slice(&self.entropy.bytes());
        second.copy_from_slice(&self.entropy.bytes());
        let issued = self.store.issue_key_once(new, &name, random).await;
        issued.map_err(|fault| not_recorded(&fault))?.ok_or_else(|| {
            not_good("it was exchanged before; if not by you, `countersign keys list` shows the key")
        })
    }

    /// Checks that a key which a command line got is good: the account and what vouched for the person are as they were.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if not, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub(in crate::auth) async fn stands(&self, hung: &Hung<'_>, person: &PersonId) -> Result<(), Refusal> {
        let over = |why: &str| {
            Refusal::new(Code::Unauthenticated, format!("the key opens nothing any more: {why}"))
                .help("sign in again: `countersign login`")
        };
        let stands = hung.stands(&self.store, person).await.map_err(|fault| not_read(&fault))?;
        let (_account, session) = stands.map_err(over)?;
        // Also that the provider and the person's subject there are what they were.
        session.map_or(Ok(()), |session| self.web_session(&session).map(drop))
    }

    /// Checks that a key may answer a request, as far as the account goes that it was got by: as [`Accounts::may_answer`] does.
    ///
    /// # Errors
    /// Fails as that does.
    pub(crate) async fn key_may_answer(&self, key: &str, record: &ApprovalRecord) -> Result<(), Refusal> {
        let key = self.store.key_of_id(key).await.map_err(|fault| not_read(&fault))?;
        let Some(KeyRecord { owner: KeyOwner::Person(person), scopes, .. }) = key else { return Ok(()) };
        // A provider's word is in nobody's hands who made a link.
        let Some(Hung { session: None, .. }) = Hung::read(&scopes) else { return Ok(()) };
        let account = self.store.account(&person).await.map_err(|fault| not_read(&fault))?;
        account.map_or(Ok(()), |account| by_its_maker(&account, record))
    }

    /// Revokes the key that is presented, if a command line got it.
    ///
    /// # Errors
    /// Returns [`Code::Malformed`] if an operator made it, and [`Code::LedgerUnavailable`] if it cannot be recorded.
    pub async fn end_command_line(&self, key: &str, person: &PersonId) -> Result<(), Refusal> {
        let record = self.store.key_of_id(key).await.map_err(|fault| not_read(&fault))?;
        if record.is_none_or(|record| Hung::read(&record.scopes).is_none()) {
            let message = "this key was made by an operator, and no command line signed in with it";
            return Err(Refusal::new(Code::Malformed, message)
                .help(format!("an operator revokes it: `countersign keys revoke {key}`")));
        }
        let revoked = self.store.revoke_key(key, person.as_str(), self.clock.now_ms()).await;
        revoked.map(drop).map_err(|fault| not_recorded(&fault))
    }
}

#[cfg(test)]
mod tests;
