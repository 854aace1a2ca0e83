//! Signing in by a provider: the session is like any other, and says who has vouched for whom.
//!
//! The configuration says which subject of which provider a person is; nobody is recognised by an address or a name. The
//! groups that the provider's own stand for are added to the configured ones, for this session.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use countersign_gate::{Clock, ledger::LedgerFault};
use countersign_rules::{Code, GroupName, PersonId, ProviderName, Refusal};
use countersign_store::{NewLogout, NewVouchedSession, VouchRefusal, Vouched};
use secrecy::SecretString;
use subtle::ConstantTimeEq as _;

use super::{Accounts, SignedIn, not_recorded};
use crate::{
    auth::provider::{CameBack, FLIGHT_MS, Provider, ProviderConfig, ProviderFault, Sealing},
    text::one_line,
};

/// A provider with its secret, if this server has one there.
pub type ProviderWithSecret = (ProviderConfig, Option<SecretString>);

/// The providers by which people sign in.
pub struct Providers {
    all: BTreeMap<ProviderName, Provider>,
    sealing: Sealing,
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers").field("all", &self.all).finish_non_exhaustive()
    }
}

/// A person goes to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// To this address.
    pub location: String,
    /// The browser keeps this in a cookie until its person is back. It opens nothing by itself.
    pub kept: String,
}

impl Providers {
    /// Makes providers. `secret` is the same on every server of the ledger and after a restart.
    ///
    /// # Errors
    /// Returns why the client that asks one of them cannot be made.
    pub fn new(
        all: BTreeMap<ProviderName, ProviderWithSecret>,
        secret: &[u8; 32],
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let all = all.into_iter().map(|(name, (config, secret))| {
            let provider = Provider::new(config, secret, Arc::clone(clock));
            provider
                .map(|provider| (name.clone(), provider))
                .map_err(|why| format!("provider `{name}`: {why}"))
        });
        Ok(Self { all: all.collect::<Result<_, _>>()?, sealing: Sealing::derive(secret) })
    }

    /// Returns the name and the title of each.
    pub fn titles(&self) -> impl Iterator<Item = (&ProviderName, &str)> {
        self.all.iter().map(|(name, provider)| (name, provider.config.title.as_str()))
    }

    pub(super) const fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    fn find(&self, name: &str) -> Result<(&ProviderName, &Provider), Refusal> {
        let found = self.all.iter().find(|(known, _)| known.as_str() == name);
        found.ok_or_else(|| Refusal::new(Code::NotFound, "nobody signs in by this provider here"))
    }
}

/// Reads what a provider publishes, and says why nobody could sign in by it.
///
/// # Errors
/// Returns why not, in words.
pub async fn look_at_provider(config: &ProviderConfig, clock: Arc<dyn Clock>) -> Result<(), String> {
    Provider::new(config.clone(), None, clock)?.try_out().await
}

impl Accounts {
    /// Returns the providers by which people sign in.
    #[must_use]
    pub const fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Sends a person to a provider, from where they come back to `next`.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if there is no such provider, [`Code::NotLookedUp`] if it cannot be asked, and
    /// [`Code::Malformed`] if `next` is too long.
    pub async fn leave_for(&self, provider: &str, next: &str) -> Result<Leaving, Refusal> {
        let (name, provider) = self.providers.find(provider)?;
        let begun = self.providers.sealing.begin(self.fresh_token(), name, next, self.clock.now_ms());
        let (flight, kept) =
            begun.ok_or_else(|| Refusal::new(Code::Malformed, "the address of the page is too long"))?;
        let location = provider.leave_for(&flight).await.map_err(|fault| refused(name, &fault))?;
        Ok(Leaving { location: location.into(), kept })
    }

    /// Signs in whom a provider vouches for, in the browser that was sent there. Returns the session with the page to go
    /// on to.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if this browser has begun no such sign-in, the provider does not vouch, or not for
    /// a person of this server, [`Code::RateLimited`] if too many were from this address, [`Code::NotFound`] if there is no
    /// such provider, [`Code::NotLookedUp`] if it cannot be asked, and [`Code::LedgerUnavailable`] if the session cannot be
    /// recorded.
    pub async fn came_back(
        &self,
        provider: &str,
        kept: Option<&str>,
        back: &CameBack,
        from: IpAddr,
    ) -> Result<(SignedIn, String), Refusal> {
        let (name, provider) = self.providers.find(provider)?;
        let attempt = self.attempts.begin_from(from, self.clock.now_ms())?;
        let signed_in = self.check_and_vouch(name, provider, kept, back).await;
        if !signed_in.as_ref().is_err_and(|refusal| refusal.code == Code::Unauthenticated) {
            attempt.uncount();
        }
        signed_in
    }

    async fn check_and_vouch(
        &self,
        name: &ProviderName,
        provider: &Provider,
        kept: Option<&str>,
        back: &CameBack,
    ) -> Result<(SignedIn, String), Refusal> {
        let not_begun = || {
            Refusal::new(Code::Unauthenticated, format!("this browser has begun no sign-in by `{name}` that is still good"))
                .help("begin again: a sign-in takes ten minutes at most, ends once, and ends in the browser that began it")
        };
        let flight = kept.and_then(|kept| self.providers.sealing.open(kept, name, self.clock.now_ms()));
        let flight = flight.ok_or_else(not_begun)?;
        let state = back.state.as_deref().unwrap_or_default();
        if !bool::from(flight.state.as_bytes().ct_eq(state.as_bytes())) {
            return Err(not_begun());
        }
        let said = provider.vouched_for(&flight, back).await.map_err(|fault| refused(name, &fault))?;
        let person = self.subject(name, &said.subject).ok_or_else(|| {
            let subject = one_line(&said.subject);
            Refusal::new(
                Code::Unauthenticated,
                format!("`{name}` has signed you in as `{subject}`, and no person of this server is that"),
            )
            .help(format!("ask for `subject = {{ {name} = \"{subject}\" }}` in your `[person.NAME]`"))
        })?;
        let token = self.fresh_token();
        let new = NewVouchedSession {
            person: person.clone(),
            vouched_s: said.issued_s,
            vouched: Vouched {
                provider: name.clone(),
                subject: said.subject,
                sub: said.sub,
                sid: said.sid,
                groups: said.groups,
            },
            state: &flight.state,
            state_until_ms: flight.begun_ms.saturating_add(FLIGHT_MS).saturating_add(FLIGHT_MS),
            session: self.new_session(&token),
        };
        let begun = self.store.begin_vouched_session(new).await.map_err(|fault| not_recorded(&fault))?;
        let session = begun.map_err(|why| match why {
            VouchRefusal::Spent => not_begun(),
            VouchRefusal::Ended => {
                Refusal::new(Code::Unauthenticated, format!("`{name}` has signed you out meanwhile"))
                    .help("sign in again")
            }
            VouchRefusal::Disabled => Refusal::new(Code::Unauthenticated, "the account is disabled")
                .help(format!("`countersign people enable {person}` enables it")),
        })?;
        Ok((SignedIn { token, session: self.web_session(&session)? }, flight.next))
    }

    /// Follows a provider's order to end sessions. Returns how many were ended; an order that was followed before ends none.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if it is no order of this provider, [`Code::NotFound`] if there is no such
    /// provider, [`Code::NotLookedUp`] if its keys cannot be read, and [`Code::LedgerUnavailable`] if the end cannot be
    /// recorded.
    pub async fn ordered_out(&self, provider: &str, token: &str) -> Result<u64, Refusal> {
        let (name, provider) = self.providers.find(provider)?;
        let order = provider.ordered(token).await.map_err(|fault| refused(name, &fault))?;
        let now_ms = self.clock.now_ms();
        // As long as the order is good, and as any sign-in that was under way.
        let until_ms = order.expires_ms.max(now_ms.saturating_add(FLIGHT_MS).saturating_add(FLIGHT_MS));
        let new = NewLogout {
            provider: name.clone(),
            sub: order.sub,
            sid: order.sid,
            jti: order.jti,
            at_s: order.issued_s,
            until_ms,
            now_ms,
        };
        let ended = self.store.end_vouched_sessions(new).await.map_err(|fault| not_recorded(&fault))?;
        ended.ok_or_else(|| Refusal::new(Code::Unauthenticated, "the order was followed before"))
    }

    /// Returns the person who is a subject of a provider, to the letter.
    fn subject(&self, provider: &ProviderName, subject: &str) -> Option<&PersonId> {
        let is = |config: &crate::principal::PersonConfig| {
            config.subjects.get(provider).is_some_and(|known| known == subject)
        };
        self.people.iter().find(|(_, config)| is(config)).map(|(person, _)| person)
    }

    /// Returns the groups that a provider gave a person at sign-in and that it may still give; `None` if the configuration
    /// does not know the provider, or not this person by that subject, any more.
    pub(super) fn brought(&self, person: &PersonId, vouched: &Vouched) -> Option<BTreeSet<GroupName>> {
        let provider = self.providers.all.get(&vouched.provider)?;
        let known = self.people.get(person)?.subjects.get(&vouched.provider);
        let brings = provider.config.brings();
        (known == Some(&vouched.subject)).then(|| vouched.groups.intersection(&brings).cloned().collect())
    }

    /// Returns the groups in which a person is by their newest sign-in by a provider, as long as its session could last,
    /// signed out or not: only who has left has no groups any more.
    pub(in crate::auth) async fn groups_of_last_sign_in(
        &self,
        person: &PersonId,
    ) -> Result<BTreeSet<GroupName>, LedgerFault> {
        let now_ms = self.clock.now_ms();
        let Some(account) = self.store.account(person).await? else { return Ok(BTreeSet::new()) };
        let sessions = self.store.web_sessions().await?;
        let theirs = sessions.iter().filter(|session| session.person == *person);
        let newest =
            theirs.filter(|session| session.vouched.is_some()).max_by_key(|session| session.created_ms);
        let good = newest.filter(|session| session.round == account.round && now_ms < session.expires_ms);
        let vouched = good.and_then(|session| session.vouched.as_ref());
        Ok(vouched.and_then(|vouched| self.brought(person, vouched)).unwrap_or_default())
    }
}

fn refused(name: &ProviderName, fault: &ProviderFault) -> Refusal {
    match fault {
        ProviderFault::Away(_) | ProviderFault::Token(crate::auth::jwks::TokenError::Keys(_)) => {
            tracing::warn!(provider = %name, %fault, "a sign-in failed");
            // Where its parts are, and what they answered, is for whoever runs this server.
            Refusal::new(Code::NotLookedUp, format!("`{name}` cannot be asked now who you are"))
                .help("try again in a moment; the server's own log says what it answered")
        }
        ProviderFault::Denied(_) | ProviderFault::Token(_) => {
            tracing::info!(provider = %name, %fault, "a sign-in was refused");
            Refusal::new(Code::Unauthenticated, format!("`{name}` did not sign you in: {fault}"))
                .help("sign in again")
        }
    }
}
