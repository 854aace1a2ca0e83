//! `countersign keys`: an operator's work on the ledger itself, where no credential exists yet.

use clap::Subcommand;
use countersign_api::{KeyBody, KeysBody};
use countersign_app::{
    auth::{ROLE_SCOPE, TOOL_SCOPE},
    role::Role,
};
use countersign_gate::Clock as _;
use countersign_rules::{AgentId, PersonId, ToolName};
use countersign_store::{KeyOwner, KeyRecord, NewKey, Store, StoreBeside, StoreError};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::{
    Failure, FolderOption, Outcome, Output,
    approvals::segment,
    client::{Connect, cell},
    counted, load,
};
use crate::{
    clock::{SystemClock, random},
    config::{Config, StorePlace},
    log_key,
    server::{StartError, ledger_key, open_store, store_options},
};

/// A person's key expires after so many days where nobody says otherwise: a quarter, in which whoever uses it makes another.
const PERSON_DAYS: u32 = 90;

/// When a key stops being good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    Never,
    Days(u32),
}

fn expiry(text: &str) -> Result<Expiry, String> {
    match text.parse() {
        _ if text == "never" => Ok(Expiry::Never),
        Ok(days) if days > 0 => Ok(Expiry::Days(days)),
        Ok(_) | Err(_) => Err("say a number of days from 1 on, or `never`".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Issue a key and print it, this once
    #[command(
        group = clap::ArgGroup::new("owner").required(true).args(["agent", "person"]),
        after_help = "The owner must stand in the configuration. The key is printed once and kept as a hash.\n\
                      It is good at once, also with a server that runs. A person's key expires after 90 days unless\n\
                      `--expires` says otherwise: nobody looks for the one that was forgotten on some machine. An agent's\n\
                      does not: it would stop at night."
    )]
    Create {
        /// For this agent
        #[arg(long)]
        agent: Option<String>,
        /// For this person
        #[arg(long)]
        person: Option<String>,
        /// Reaches only this tool; may be repeated
        #[arg(long = "tool", value_name = "TOOL", requires = "agent")]
        tools: Vec<String>,
        /// Opens only what this role of the person may; may be repeated
        #[arg(long = "role", value_name = "ROLE", requires = "person", value_parser = role)]
        roles: Vec<Role>,
        /// Expires after so many days, or `never` [default: 90 for a person, never for an agent]
        #[arg(long, value_name = "DAYS", alias = "expires-days", value_parser = expiry)]
        expires: Option<Expiry>,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// List every key that was ever issued
    List {
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Print the log's public key, by which others verify it
    Log {
        /// Make the signing key first; one that is there is never replaced
        #[arg(long)]
        create: bool,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Revoke a key, from the next request on
    #[command(
        after_help = "With a ledger on SQLite that a server has open, that server is asked, with your key (admins)."
    )]
    Revoke {
        /// The key's id, as `list` prints it
        id: String,
        #[command(flatten)]
        connect: Connect,
    },
}

impl Keys {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::Create { agent, person, tools, roles, expires, folder } => {
                let config = load(&folder.dir)?;
                let owner = owner(&config, agent.as_deref(), person.as_deref())?;
                let mut scopes = Vec::new();
                for tool in &tools {
                    let name = ToolName::parse(tool)?;
                    if !config.tools.contains_key(&name) {
                        return Err(anyhow::anyhow!("there is no tool `{name}` in the configuration").into());
                    }
                    scopes.push(format!("{TOOL_SCOPE}{name}"));
                }
                if let KeyOwner::Person(person) = &owner {
                    scopes.extend(narrowed(&config, person, &roles)?);
                }
                let expires = expires.unwrap_or(match &owner {
                    KeyOwner::Agent(_) => Expiry::Never,
                    KeyOwner::Person(_) => Expiry::Days(PERSON_DAYS),
                });
                let (record, presented) = create(&config, owner, scopes, expires).await?;
                out.value(&Issued { key: KeyBody::from(&record), secret: &presented });
                out.line(presented);
                if !out.json() {
                    out.note(format!(
                        "key `{}` is printed this once: keep it where only its owner can read it",
                        record.id
                    ));
                    if let Expiry::Days(days) = expires {
                        out.note(format!("it expires in {}", counted(usize::try_from(days)?, "day", "days")));
                    }
                }
            }
            Self::List { folder } => {
                let config = load(&folder.dir)?;
                let store = super::audit::open_to_read(&config).await?;
                let keys = store.keys().await?;
                let body = KeysBody { keys: keys.iter().map(KeyBody::from).collect() };
                out.value(&body);
                out.table(
                    &["key", "owner", "scopes", "issued", "expires", "revoked"],
                    body.keys.into_iter().map(|key| {
                        vec![
                            key.key,
                            key.owner,
                            key.scopes.join(" "),
                            out.moment(&cell(key.issued_at)),
                            out.moment(&cell(key.expires_at)),
                            out.moment(&cell(key.revoked_at)),
                        ]
                    }),
                );
            }
            Self::Log { create, folder } => {
                let config = load(&folder.dir)?;
                let (path, origin) = (&config.log.key, &config.log.origin);
                let key = match create {
                    // Not beside a log that another key began.
                    true if !path.exists() => ledger_key(&config).await?,
                    true => log_key::create(path, origin).map_err(StartError::from)?,
                    false => log_key::read(path, origin).map_err(StartError::from)?,
                };
                let key = key.signing.verifier();
                out.value(&json!({ "key": key.to_string(), "log": origin }));
                out.line(key.to_string());
            }
            Self::Revoke { id, connect } => {
                let revoked = match open_alone(&load(connect.folder())?).await? {
                    Some(store) => {
                        let revoked = store.revoke_key(&id, "cli", SystemClock.now_ms()).await?;
                        store.close().await;
                        revoked
                    }
                    // It keeps good keys in mind, so it must hear of it itself.
                    None => {
                        let path = format!("/v1/keys/{}", segment(&id));
                        let reply = connect.client()?.reply(Method::DELETE, &path).await?;
                        if !reply.status.is_success() && reply.status != StatusCode::NOT_FOUND {
                            return Err(Failure::Refused(Box::new(reply.refusal())));
                        }
                        reply.status.is_success()
                    }
                };
                out.value(&json!({ "key": id, "revoked": revoked }));
                if !revoked {
                    if !out.json() {
                        out.note(format!("there is no key `{id}` that was not revoked already"));
                    }
                    return Err(Failure::No);
                }
                out.line(format!("key `{id}` is revoked"));
            }
        }
        Ok(())
    }
}

fn role(text: &str) -> Result<Role, String> {
    let known = || Role::ALL.map(Role::as_str).join("`, `");
    Role::parse(text).ok_or_else(|| format!("there are `{}`", known()))
}

/// The scopes of a key that opens some roles of its person.
fn narrowed(config: &Config, person: &PersonId, roles: &[Role]) -> Result<Vec<String>, Failure> {
    let has: Vec<Role> =
        config.people.get(person).into_iter().flat_map(|person| person.roles.iter()).collect();
    if let Some(role) = roles.iter().find(|role| !has.contains(*role)) {
        return Err(
            anyhow::anyhow!("`{person}` is no {role}: a key opens nothing that its person may not").into()
        );
    }
    Ok(roles.iter().map(|role| format!("{ROLE_SCOPE}{role}")).collect())
}

fn owner(config: &Config, agent: Option<&str>, person: Option<&str>) -> Result<KeyOwner, Failure> {
    match (agent, person) {
        (Some(agent), None) => {
            let agent = AgentId::parse(agent)?;
            if !config.agents.contains_key(&agent) {
                return Err(anyhow::anyhow!("there is no `[agent.{agent}]` in the configuration").into());
            }
            Ok(KeyOwner::Agent(agent))
        }
        (None, Some(person)) => {
            let person = PersonId::parse(person)?;
            if !config.people.contains_key(&person) {
                return Err(anyhow::anyhow!("there is no `[person.{person}]` in the configuration").into());
            }
            Ok(KeyOwner::Person(person))
        }
        (None, None) | (Some(_), Some(_)) => {
            Err(anyhow::anyhow!("say either `--agent` or `--person`").into())
        }
    }
}

/// Issues a key, beside a running server where there is one.
async fn create(
    config: &Config,
    owner: KeyOwner,
    scopes: Vec<String>,
    expires: Expiry,
) -> Result<(KeyRecord, String), Failure> {
    let Some(store) = open_alone(config).await? else {
        let StorePlace::Sqlite(path) = &config.store.place else {
            return Err(anyhow::anyhow!("the ledger is in use by another process").into());
        };
        let key = log_key::read(&config.log.key, &config.log.origin).map_err(StartError::from)?;
        let new = new_key(owner, scopes, expires);
        let options = store_options(config);
        let beside = StoreBeside::open(path, key.signing, &options).await.map_err(StartError::from)?;
        let issued = beside.issue_key(new, random()).await;
        beside.close().await;
        return Ok(issued?);
    };
    let issued = issue(&store, owner, scopes, expires).await;
    store.close().await;
    issued
}

/// The ledger, unless it is a file that another process has open.
pub(super) async fn open_alone(config: &Config) -> Result<Option<Store>, Failure> {
    let key = ledger_key(config).await?;
    match open_store(config, key).await {
        Ok(store) => Ok(Some(store)),
        Err(StartError::Store(StoreError::InUse { .. })) => Ok(None),
        Err(why) => Err(why.into()),
    }
}

/// Issues a key.
pub(super) async fn issue(
    store: &Store,
    owner: KeyOwner,
    scopes: Vec<String>,
    expires: Expiry,
) -> Result<(KeyRecord, String), Failure> {
    Ok(store.issue_key(new_key(owner, scopes, expires), random()).await?)
}

fn new_key(owner: KeyOwner, scopes: Vec<String>, expires: Expiry) -> NewKey {
    let now_ms = SystemClock.now_ms();
    let expires_ms = match expires {
        Expiry::Never => None,
        Expiry::Days(days) => Some(now_ms.saturating_add(i64::from(days).saturating_mul(86_400_000))),
    };
    NewKey { owner, scopes, expires_ms, by: "cli".into(), now_ms }
}

/// Opens the ledger to write.
pub(super) async fn open(config: &Config) -> Result<Store, Failure> {
    let key = ledger_key(config).await?;
    Ok(open_store(config, key).await?)
}

/// A new key, with what is to be presented.
#[derive(Debug, Serialize)]
struct Issued<'a> {
    #[serde(flatten)]
    key: KeyBody,
    secret: &'a str,
}
