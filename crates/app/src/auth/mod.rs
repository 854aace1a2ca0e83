//! This finds out who is calling: agents by API key or OAuth 2.1 access token, people by their key or, in a browser, by
//! their account, for which a provider may vouch.
//!
//! An identity comes from a credential and from nothing else. What an agent or person may do is configured;
//! a credential of somebody who is not configured (any more) opens nothing.

pub mod account;
mod connector;
mod identity;
mod issuer;
mod jwks;
mod oauth;
mod passkey;
mod provider;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use countersign_gate::{
    Clock, Entropy,
    ledger::{ApprovalRecord, LedgerFault},
};
use countersign_rules::{AgentId, Code, GroupName, PersonId, Refusal, Signature, ToolName};
use countersign_store::{KEY_PREFIX, KeyOwner, KeyRecord, Store};
use http::{HeaderMap, header::AUTHORIZATION};

use self::account::Hung;
pub use self::{
    account::{
        Accounts, COMMAND_LINE_SECONDS_MAX, Ceremony, CommandLine, CommandLineAsks, CommandLineLook,
        PasswordShown, ProviderWithSecret, Providers, SignedIn, SteppedUp, WebSession, look_at_provider,
    },
    connector::{Connector, ConnectorConfig},
    identity::{Identity, Scopes},
    issuer::{JwksPlace, OauthConfig},
    passkey::PasskeySite,
    provider::{CameBack, ProviderConfig},
};
use crate::{
    principal::{AgentConfig, PersonConfig},
    role::{Right, Role, Roles},
};

/// A scope of a key begins with this, and the tool's name follows.
pub const TOOL_SCOPE: &str = "tool:";

/// A scope of a person's key begins with this, and a role's name follows: the key opens what that role may, and nothing else of
/// what its person may.
pub const ROLE_SCOPE: &str = "role:";

/// A principal is somebody whose credential is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// An agent may propose calls.
    Agent(Identity),
    /// A person may answer requests.
    Person(Person),
}

/// This is an authenticated person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The person has this id.
    pub id: PersonId,
    /// The person is in these groups: by configuration, and in a browser also by what a provider said at sign-in.
    pub groups: BTreeSet<GroupName>,
    /// The person has these roles: by configuration, and no others than those that their key is narrowed to.
    pub roles: Roles,
    /// This is the id of the person's key, or of the session in a browser after `session:`, or the user of Slack or Teams after
    /// `slack:` or `teams:`; it is never the secret.
    pub credential: String,
}

/// The authenticator tells by a credential who presents it.
pub struct Authenticator {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    agents: BTreeMap<AgentId, AgentConfig>,
    people: Arc<BTreeMap<PersonId, PersonConfig>>,
    tokens: Option<oauth::Tokens>,
    accounts: Accounts,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// Reads the keys of a configured issuer, and says why no token of it could be accepted with them.
///
/// # Errors
/// Returns why not, in words.
pub async fn look_at_issuer(issuer: &OauthConfig, clock: Arc<dyn Clock>) -> Result<(), String> {
    oauth::Tokens::new(issuer.clone(), clock)?.try_out().await
}

impl Authenticator {
    /// Makes an authenticator for agents and people, and the issuer whose access tokens agents may present.
    ///
    /// # Errors
    /// Returns why the client that reads the issuer's keys cannot be made.
    pub fn new(
        agents: BTreeMap<AgentId, AgentConfig>,
        people: BTreeMap<PersonId, PersonConfig>,
        issuer: Option<OauthConfig>,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        (providers, site): (Providers, Result<PasskeySite, String>),
    ) -> Result<Self, String> {
        let tokens = match issuer {
            Some(issuer) => Some(oauth::Tokens::new(issuer, Arc::clone(&clock))?),
            None => None,
        };
        let people = Arc::new(people);
        let accounts = {
            let (people, store, clock) = (Arc::clone(&people), Arc::clone(&store), Arc::clone(&clock));
            Accounts::new(people, store, clock, entropy, providers, site)
        };
        Ok(Self { store, clock, agents, people, tokens, accounts })
    }

    /// Returns the accounts by which people sign in to a browser.
    #[must_use]
    pub const fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Returns the issuer whose access tokens agents may present, if there is one.
    #[must_use]
    pub fn issuer(&self) -> Option<&OauthConfig> {
        self.tokens.as_ref().map(oauth::Tokens::issuer)
    }

    /// Returns every agent that is configured, in the order of their names.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        self.agents.keys()
    }

    /// Returns every person who is configured, in the order of their names.
    pub fn people(&self) -> impl Iterator<Item = (&PersonId, &PersonConfig)> {
        self.people.iter()
    }

    /// Tells whether an agent is configured to act for a person.
    #[must_use]
    pub fn acts_for(&self, agent: &AgentId, person: &PersonId) -> bool {
        self.agents.get(agent).is_some_and(|agent| agent.on_behalf_of.as_ref() == Some(person))
    }

    /// Tells whether any agent is configured to act for a person.
    #[must_use]
    pub fn any_acts_for(&self, person: &PersonId) -> bool {
        self.agents.keys().any(|agent| self.acts_for(agent, person))
    }

    /// Tells who presents these headers.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] for everything that is no good credential, and [`Code::NotLookedUp`]
    /// if the ledger cannot be read.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        self.principal(bearer(headers)?).await
    }

    /// Tells which agent presents these headers.
    ///
    /// # Errors
    /// Fails as [`Authenticator::authenticate`] does, and with [`Code::OutOfScope`] for a person.
    pub async fn agent(&self, headers: &HeaderMap) -> Result<Identity, Refusal> {
        match self.authenticate(headers).await? {
            Principal::Agent(identity) => Ok(identity),
            Principal::Person(person) => {
                let message = format!("`{}` is a person, and only agents propose calls", person.id);
                Err(Refusal::new(Code::OutOfScope, message).help("present the key of an agent"))
            }
        }
    }

    /// Tells which person presents these headers.
    ///
    /// # Errors
    /// Fails as [`Authenticator::authenticate`] does, and with [`Code::OutOfScope`] for an agent.
    pub async fn person(&self, headers: &HeaderMap) -> Result<Person, Refusal> {
        match self.authenticate(headers).await? {
            Principal::Person(person) => Ok(person),
            Principal::Agent(identity) => {
                let message = format!("`{}` is an agent, and this is for people", identity.agent);
                Err(Refusal::new(Code::OutOfScope, message).help("present the key of a person"))
            }
        }
    }

    /// Tells who presents a credential.
    ///
    /// # Errors
    /// Fails as [`Authenticator::authenticate`] does.
    pub async fn principal(&self, credential: &str) -> Result<Principal, Refusal> {
        if credential.starts_with(KEY_PREFIX) {
            return self.key(credential).await;
        }
        let Some(tokens) = &self.tokens else {
            return Err(unauthenticated("the credential is no key of this server"));
        };
        let accepted = tokens.accept(credential).await.map_err(|why| unauthenticated(&why.to_string()))?;
        let (agent, config) = AgentId::parse(&accepted.agent)
            .ok()
            .and_then(|agent| self.agents.get_key_value(&agent))
            .ok_or_else(|| unauthenticated("the access token names no configured agent"))?;
        let mut identity = identity(agent, config, Scopes::All, accepted.subject);
        identity.expires_ms = Some(accepted.expires_ms);
        Ok(Principal::Agent(identity))
    }

    /// Checks that the credential of an agent, which was good when it was presented, still is.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if it is not, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn still_good(&self, who: &Identity) -> Result<(), Refusal> {
        let now_ms = self.clock.now_ms();
        if who.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
            return Err(unauthenticated("the access token has expired"));
        }
        match self.store.key_is_good(&who.credential, now_ms).await {
            Ok(Some(false)) => Err(unauthenticated("the key has expired or was revoked")),
            Ok(Some(true) | None) => Ok(()),
            Err(fault) => Err(not_checked(&fault)),
        }
    }

    /// Returns the answers to a request of those who may still answer, each with the groups that the person is still in. Who
    /// has no good key any more and no account that is enabled, left the group, or is no approver any more, no longer counts.
    ///
    /// # Errors
    /// Returns a [`LedgerFault`] if keys and accounts cannot be read.
    pub async fn still_signed(&self, record: &ApprovalRecord) -> Result<Vec<Signature>, LedgerFault> {
        let now_ms = self.clock.now_ms();
        let keys = self.store.keys().await?;
        let mut signatures = Vec::new();
        for signature in &record.signatures {
            if has_key(&keys, &signature.person, now_ms)
                || self.accounts.may_sign_in(&signature.person).await?
            {
                signatures.push(signature.clone());
            }
        }
        signatures.retain(|signature| {
            self.people.get(&signature.person).is_some_and(|person| person.roles.may(Right::Answer))
        });
        for signature in &mut signatures {
            let config = self.people.get(&signature.person);
            let configured = |group: &GroupName| config.is_some_and(|person| person.groups.contains(group));
            let brought = if signature.groups.iter().all(configured) {
                BTreeSet::new()
            } else {
                self.accounts.groups_of_last_sign_in(&signature.person).await?
            };
            signature.groups.retain(|group| configured(group) || brought.contains(group));
        }
        Ok(signatures)
    }

    /// Tells which person is a user of Slack (`TEAM/USER`), whom Slack itself has authenticated: by configuration, and never by
    /// a name or an address.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] if nobody is, or the person has neither a good key nor an account that is
    /// enabled, without which no signature counts; and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn slack_user(&self, user: &str) -> Result<Person, Refusal> {
        self.user_of(("Slack", "slack"), user, |config| config.slack.as_deref()).await
    }

    /// Tells which person is a user of Microsoft Teams (`TENANT/OBJECT`, in lower case), as [`Authenticator::slack_user`] does.
    ///
    /// # Errors
    /// Fails as that does.
    pub async fn teams_user(&self, user: &str) -> Result<Person, Refusal> {
        self.user_of(("Teams", "teams"), user, |config| config.teams.as_deref()).await
    }

    async fn user_of(
        &self,
        (messenger, key): (&str, &str),
        user: &str,
        known: impl Fn(&PersonConfig) -> Option<&str>,
    ) -> Result<Person, Refusal> {
        let found = self.people.iter().find(|(_, config)| known(config) == Some(user));
        let (id, config) = found.ok_or_else(|| {
            unauthenticated(&format!("no person of this server is the {messenger} user `{user}`"))
                .help(format!("ask for `{key} = \"{user}\"` in your `[person.NAME]`"))
        })?;
        let now_ms = self.clock.now_ms();
        let keys = self.store.keys().await.map_err(|fault| not_checked(&fault))?;
        if !has_key(&keys, id, now_ms)
            && !self.accounts.may_sign_in(id).await.map_err(|fault| not_checked(&fault))?
        {
            let why = format!(
                "`{id}` has neither a good key nor an account that is enabled, so that no answer would count"
            );
            return Err(unauthenticated(&why).help("ask an operator for a key or an account"));
        }
        Ok(Person {
            id: id.clone(),
            groups: config.groups.clone(),
            roles: config.roles.clone(),
            credential: format!("{key}:{user}"),
        })
    }

    async fn key(&self, presented: &str) -> Result<Principal, Refusal> {
        let found = self.store.find_key(presented, self.clock.now_ms()).await;
        let record = found
            .map_err(|fault| not_checked(&fault))?
            .ok_or_else(|| unauthenticated("the key is unknown, expired or revoked"))?;
        let KeyRecord { id, owner, scopes, .. } = record;
        match owner {
            KeyOwner::Agent(agent) => {
                let config = self
                    .agents
                    .get(&agent)
                    .ok_or_else(|| unauthenticated("the key belongs to no configured agent"))?;
                Ok(Principal::Agent(identity(&agent, config, tool_scopes(&scopes)?, id)))
            }
            KeyOwner::Person(person) => {
                let config = self
                    .people
                    .get(&person)
                    .ok_or_else(|| unauthenticated("the key belongs to no configured person"))?;
                let scopes = match Hung::read(&scopes) {
                    Some(hung) => {
                        self.accounts.stands(&hung, &person).await?;
                        Hung::others(&scopes)
                    }
                    None => scopes,
                };
                let roles = key_roles(&scopes)
                    .map_err(unauthenticated)?
                    .map_or_else(|| config.roles.clone(), |narrow| config.roles.narrowed_to(&narrow));
                if roles.is_empty() {
                    let why = format!("the key is narrowed to roles that `{person}` does not have");
                    return Err(unauthenticated(&why));
                }
                Ok(Principal::Person(Person {
                    id: person,
                    groups: config.groups.clone(),
                    roles,
                    credential: id,
                }))
            }
        }
    }
}

/// Returns true if a person has a key that is good, and good for answering. One that a command line got is not looked at: it is
/// good while the account is, which counts by itself.
fn has_key(keys: &[KeyRecord], person: &PersonId, now_ms: i64) -> bool {
    let answers = |key: &KeyRecord| match key_roles(&key.scopes) {
        Ok(narrow) => narrow.is_none_or(|roles| roles.may(Right::Answer)),
        Err(_unknown) => false,
    };
    keys.iter().any(|key| {
        matches!(&key.owner, KeyOwner::Person(owner) if owner == person)
            && key.is_good(now_ms)
            && answers(key)
    })
}

/// Returns the roles that a person's key is narrowed to, if it is. A word that is not known narrows nothing, so it refuses.
fn key_roles(scopes: &[String]) -> Result<Option<Roles>, &'static str> {
    if scopes.is_empty() {
        return Ok(None);
    }
    let role = |scope: &String| scope.strip_prefix(ROLE_SCOPE).and_then(Role::parse);
    let roles: Option<Roles> = scopes.iter().map(role).collect();
    roles.map(Some).ok_or("the key has a scope that is not known")
}

fn identity(agent: &AgentId, config: &AgentConfig, scopes: Scopes, credential: String) -> Identity {
    Identity {
        agent: agent.clone(),
        teams: config.teams.iter().cloned().collect(),
        on_behalf_of: config.on_behalf_of.clone(),
        scopes,
        credential,
        expires_ms: None,
    }
}

/// Returns the tools a key reaches. A word that is not known narrows nothing, so it refuses.
fn tool_scopes(scopes: &[String]) -> Result<Scopes, Refusal> {
    if scopes.is_empty() {
        return Ok(Scopes::All);
    }
    let tool = |scope: &String| scope.strip_prefix(TOOL_SCOPE).and_then(|name| ToolName::parse(name).ok());
    let tools: Option<BTreeSet<ToolName>> = scopes.iter().map(tool).collect();
    tools.map(Scopes::Tools).ok_or_else(|| unauthenticated("the key has a scope that is not known"))
}

/// Returns the credential in `Authorization: Bearer …` (RFC 6750, 2.1). It is never taken from a query or a
/// body.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(unauthenticated("no credential was presented")
            .help("send `Authorization: Bearer` with an API key or an access token"));
    };
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, credential)| credential.trim())
        .filter(|credential| !credential.is_empty())
        .ok_or_else(|| unauthenticated("the credential is not of the form `Bearer …`"))
}

fn not_checked(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::NotLookedUp, format!("the credential cannot be checked: {fault}"))
}

fn unauthenticated(message: &str) -> Refusal {
    Refusal::new(Code::Unauthenticated, message)
}
