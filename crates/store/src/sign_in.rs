//! Sessions that a provider vouches for, and its orders to end them.
//!
//! Each sign-in begins one session at most, and each order is followed once, whichever server they reach: what has happened
//! leaves a mark in the transaction in which it happens. An order also holds for a sign-in that was under way when it came.

use std::collections::BTreeSet;

use countersign_audit::{Hash, sha256};
use countersign_gate::{NewEntry, ledger::LedgerFault};
use countersign_rules::{PersonId, ProviderName};

use crate::{
    queue::Operation,
    record::{
        account::{AccountRecord, PasswordHash},
        sign_in::SignInMark,
        web_session::{Vouched, WebSessionRecord},
    },
    records::{Changes, Key, Needs, Records},
    store::Store,
    tail::Encoded,
    web_session::{self, NewWebSession, SignedIn, SignedOut, With},
};

/// This is a session to be begun for whom a provider has vouched.
#[derive(Debug, Clone)]
pub struct NewVouchedSession<'a> {
    /// The session is this person's.
    pub person: PersonId,
    /// The provider has vouched for them so.
    pub vouched: Vouched,
    /// The provider did so at this time, in Unix seconds UTC, by its own clock.
    pub vouched_s: i64,
    /// This is what the sign-in began with, which is good for one session.
    pub state: &'a str,
    /// A sign-in that began with it is refused by its age from this time on, in Unix milliseconds UTC.
    pub state_until_ms: i64,
    /// The session itself.
    pub session: NewWebSession<'a>,
}

/// A sign-in for which a provider has vouched begins no session for one of these reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VouchRefusal {
    /// A session was begun by this sign-in before.
    Spent,
    /// The provider has ended its session since it vouched.
    Ended,
    /// The person's account is disabled.
    Disabled,
}

/// This is a provider's order to end sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLogout {
    /// The order is of this provider.
    pub provider: ProviderName,
    /// The sessions are of the person whom the provider calls so; of anybody where it does not say.
    pub sub: Option<String>,
    /// It is the one that the provider calls so; all of the person where it does not say.
    pub sid: Option<String>,
    /// This names the order itself, which is followed once.
    pub jti: String,
    /// The order was given at this time, in Unix seconds UTC, by the provider's clock.
    pub at_s: i64,
    /// The order is refused by its age from this time on, and no sign-in from before it can be under way any more, in Unix
    /// milliseconds UTC.
    pub until_ms: i64,
    /// The time is this, in Unix milliseconds UTC.
    pub now_ms: i64,
}

impl NewLogout {
    /// Tells whether a session is meant.
    fn means(&self, vouched: &Vouched) -> bool {
        let same =
            |told: &Option<String>, kept: Option<&str>| told.as_deref().is_none_or(|told| Some(told) == kept);
        vouched.provider == self.provider
            && same(&self.sub, Some(&vouched.sub))
            && same(&self.sid, vouched.sid.as_deref())
            && (self.sub.is_some() || self.sid.is_some())
    }

    /// Where sign-ins look whether the provider has ended what they come from.
    fn mark(&self) -> Option<String> {
        match (&self.sid, &self.sub) {
            (Some(sid), _) => Some(ended(&self.provider, "sid", sid)),
            (None, Some(sub)) => Some(ended(&self.provider, "sub", sub)),
            (None, None) => None,
        }
    }
}

/// Names a mark. What others have chosen is hashed, so that it takes no more room and cannot be another's name.
pub(crate) fn mark(kind: &str, parts: &[&str]) -> String {
    let hashed: Vec<String> = parts.iter().map(|part| sha256(part.as_bytes()).to_string()).collect();
    let whole: Hash = sha256(hashed.join(" ").as_bytes());
    format!("{kind} {whole}")
}

fn ended(provider: &ProviderName, what: &str, name: &str) -> String {
    mark("ended", &[provider.as_str(), what, name])
}

/// How entries name a provider that ends a session.
fn by(provider: &ProviderName) -> String {
    format!("provider {provider}")
}

impl Store {
    /// Begins a session for whom a provider has vouched; a person who has no account gets one without a password.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, unless it is [`LedgerFault::Unknown`].
    pub async fn begin_vouched_session(
        &self,
        new: NewVouchedSession<'_>,
    ) -> Result<Result<WebSessionRecord, VouchRefusal>, LedgerFault> {
        let NewVouchedSession { person, vouched, vouched_s, state, state_until_ms, session } = new;
        let provider = &vouched.provider;
        let sid = vouched.sid.as_deref().map(|sid| ended(provider, "sid", sid));
        let begin = BeginVouched {
            state: mark("state", &[state]),
            ended: [ended(provider, "sub", &vouched.sub)].into_iter().chain(sid).collect(),
            person,
            vouched,
            vouched_s,
            state_until_ms,
            session: session.keep(),
        };
        // A crash before this is durable leaves no session; after it, one whose token nobody knows, and a sign-in that is spent:
        // the person signs in again.
        self.submit(begin).await
    }

    /// Ends the sessions that a provider means, with the groups that it gave them, and keeps those from beginning that it
    /// vouched for before. Returns how many were ended, and `None` for an order that was followed before.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then the sessions may still be good, and the provider gives the order again.
    pub async fn end_vouched_sessions(&self, new: NewLogout) -> Result<Option<u64>, LedgerFault> {
        // A crash before this is durable leaves the order to be given again.
        let Some(ended) =
            self.submit(EndVouched { ids: self.meant(&new).await?, once: true, new: new.clone() }).await?
        else {
            return Ok(None);
        };
        // One that began between the look and the mark. A crash before this is durable leaves it, until it is over.
        let late = self.meant(&new).await?;
        if late.is_empty() {
            return Ok(Some(ended));
        }
        let late = self.submit(EndVouched { ids: late, once: false, new }).await?;
        Ok(Some(ended.saturating_add(late.unwrap_or(0))))
    }

    /// The sessions that are meant and have groups or are not ended.
    async fn meant(&self, new: &NewLogout) -> Result<Vec<String>, LedgerFault> {
        let sessions = self.web_sessions().await?.into_iter();
        let meant = sessions.filter(|session| {
            session.vouched.as_ref().is_some_and(|vouched| {
                new.means(vouched) && (session.ended_ms.is_none() || !vouched.groups.is_empty())
            })
        });
        Ok(meant.map(|session| session.id).collect())
    }
}

struct BeginVouched {
    person: PersonId,
    vouched: Vouched,
    vouched_s: i64,
    state: String,
    state_until_ms: i64,
    /// Where it stands whether the provider has ended its session since.
    ended: BTreeSet<String>,
    session: web_session::Kept,
}

impl Operation for BeginVouched {
    type Output = Result<WebSessionRecord, VouchRefusal>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Account(self.person.clone()));
        needs.name(records, &Key::WebSession(self.session.id.clone()));
        for mark in self.ended.iter().chain([&self.state]) {
            needs.name(records, &Key::SignInMark(mark.clone()));
        }
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let refused = |why| Ok((Err(why), Changes::default()));
        if records.sign_in_marks.find(&self.state)?.is_some() {
            return refused(VouchRefusal::Spent);
        }
        for mark in &self.ended {
            // What was vouched for in the very second of the end may be from before it.
            if records.sign_in_marks.find(mark)?.is_some_and(|end| end.at_s >= self.vouched_s) {
                return refused(VouchRefusal::Ended);
            }
        }
        let (mut changes, now_ms) = (Changes::default(), self.session.now_ms);
        let provider = &self.vouched.provider;
        let account = match records.accounts.find(&self.person)? {
            Some(account) if !account.is_enabled() => return refused(VouchRefusal::Disabled),
            Some(account) => account.clone(),
            None => {
                // In the round of a link that was made before, which is still good for setting a password.
                let account = AccountRecord {
                    person: self.person.clone(),
                    password: PasswordHash::none(),
                    codes: Vec::new(),
                    round: 0,
                    created_ms: now_ms,
                    changed_ms: now_ms,
                    made_by: by(provider),
                    makers: BTreeSet::new(),
                    disabled_ms: None,
                    handle: None,
                    passkeys: Vec::new(),
                };
                changes.accounts.put(self.person.clone(), account.clone());
                account
            }
        };
        let session = self.session.begin(records, &account, Some(self.vouched.clone()))?;
        let begun = session.record.clone();
        let signed_in = SignedIn {
            groups: Some(self.vouched.groups.clone()),
            provider: Some(provider.clone()),
            ..SignedIn::new(self.person.clone(), begun.id.clone(), With::Provider)
        };
        changes.entries.push(Encoded::of(&NewEntry::new(now_ms, &signed_in))?);
        changes.web_sessions.put(begun.id.clone(), session);
        let spent = SignInMark { at_s: self.vouched_s, until_ms: self.state_until_ms };
        changes.sign_in_marks.put(self.state.clone(), spent);
        Ok((Ok(begun), changes))
    }
}

struct EndVouched {
    new: NewLogout,
    ids: Vec<String>,
    /// Whether the order must not have been followed before.
    once: bool,
}

impl EndVouched {
    fn order(&self) -> String {
        mark("order", &[self.new.provider.as_str(), &self.new.jti])
    }
}

impl Operation for EndVouched {
    type Output = Option<u64>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        for id in &self.ids {
            needs.name(records, &Key::WebSession(id.clone()));
        }
        for mark in [Some(self.order()), self.new.mark()].into_iter().flatten() {
            needs.name(records, &Key::SignInMark(mark));
        }
    }

    fn apply(&self, records: &Records) -> Result<(Option<u64>, Changes), LedgerFault> {
        let (new, order) = (&self.new, self.order());
        if self.once && records.sign_in_marks.find(&order)?.is_some() {
            return Ok((None, Changes::default()));
        }
        let (mut changes, mut ended) = (Changes::default(), 0_u64);
        for id in &self.ids {
            let Some(row) = records.web_sessions.find(id)? else { continue };
            let mut row = row.clone();
            if let Some(vouched) = &mut row.record.vouched {
                vouched.groups.clear();
            }
            if row.record.ended_ms.is_none() {
                row.record.ended_ms = Some(new.now_ms);
                ended = ended.saturating_add(1);
                let person = row.record.person.clone();
                let out = SignedOut { by: by(&new.provider), person, session: Some(id.clone()) };
                changes.entries.push(Encoded::of(&NewEntry::new(new.now_ms, &out))?);
            }
            changes.web_sessions.put(id.clone(), row);
        }
        if self.once {
            changes.sign_in_marks.put(order, SignInMark { at_s: new.at_s, until_ms: new.until_ms });
            if let Some(mark) = new.mark() {
                let newest =
                    records.sign_in_marks.find(&mark)?.map_or(new.at_s, |end| end.at_s.max(new.at_s));
                changes.sign_in_marks.put(mark, SignInMark { at_s: newest, until_ms: new.until_ms });
            }
        }
        Ok((Some(ended), changes))
    }
}
