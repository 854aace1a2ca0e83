//! `countersign people`: who can sign in to the console, on the machine of the ledger.

use clap::Subcommand;
use countersign_app::{
    answer::timestamp,
    auth::account::{LINK_MS, SESSION_IDLE_MS, new_token},
    role::{Role, Roles},
};
use countersign_gate::Clock as _;
use countersign_rules::{PasskeyId, PersonId};
use countersign_store::{AccountRecord, KeyOwner, KeyRecord, NewLink, Store, StoreBeside, WebSessionRecord};
use serde::Serialize;
use serde_json::json;

use super::{
    Failure, FolderOption, Outcome, Output, audit,
    client::{address_of, cell, for_browsers},
    counted, keys, load,
};
use crate::{
    clock::{SystemClock, random},
    config::{Config, StorePlace},
    log_key,
    server::{StartError, store_options},
};

/// Entries of the log say that the command line did it.
const BY: &str = "cli";

/// Of the id of a passkey, so many characters are shown in a table.
const ID_CHARS: usize = 12;

#[derive(Debug, Subcommand)]
pub(super) enum People {
    /// List who is configured, in which groups, and how they can sign in
    #[command(
        after_help = "The configuration says who exists: `[person.NAME]` with groups. An account is how such a person signs in to a\n\
                      browser, and a key how a program does so for them. `made by` says who made the link by which the account was\n\
                      set up last: whoever that is may have it in their hands, so it answers for nothing that they request."
    )]
    List {
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Print a one-time link by which a person sets up an account, or a new password for it
    #[command(
        after_help = "Whoever opens the link sets the password, and is that person from then on: hand it over where only they read it.\n\
                      It is good for an hour, once. Opening it spends nothing; setting the password does, and ends the person's\n\
                      other sessions and links. A link is also the way back for who is locked out. It works while a server runs."
    )]
    Link {
        /// The person, as in `[person.NAME]`
        name: String,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Sign a person out of every browser, from the next request on
    #[command(
        after_help = "Links that were made for the person are good no more, too. The password is as it was: if somebody else knows it,\n\
                      `countersign people disable` keeps them out, and `enable` with `link` lets the person set another one.\n\
                      What `countersign login` got for the person is good no more, either. API keys that were made for them are another\n\
                      thing: `countersign keys list` and `revoke`. It works while a server runs."
    )]
    SignOut {
        /// The person
        name: String,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Disable a person's account: it signs nobody in, and no link sets it up
    #[command(
        after_help = "The person is signed out at once, and what they approved with the account alone does not count any more.\n\
                      What `countersign login` got for them is good no more, and stays so. API keys that were made for them stay good:\n\
                      `countersign keys revoke` ends those. Who is to go for good is taken out of the configuration. It works while a\n\
                      server runs."
    )]
    Disable {
        /// The person
        name: String,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Enable a disabled account again, with the password and the passkeys that it had
    #[command(after_help = "Sessions and links of before do not come back. It works while a server runs.")]
    Enable {
        /// The person
        name: String,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// List the passkeys of a person
    #[command(
        after_help = "People add passkeys in the console, on the page of their account or through a link. `for` says whether one signs\n\
                      in and confirms approvals, or confirms alone: that is so where it was added while a provider vouched."
    )]
    Passkeys {
        /// The person
        name: String,
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Remove a passkey of a person: it signs nobody in and confirms nothing any more
    #[command(
        after_help = "Sessions that it began go on: `countersign people sign-out` ends them. It works while a server runs."
    )]
    RemovePasskey {
        /// The person
        name: String,
        /// The passkey, as `countersign people passkeys` shows it; its first characters do
        passkey: String,
        #[command(flatten)]
        folder: FolderOption,
    },
}

impl People {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::List { folder } => list(&load(&folder.dir)?, out).await,
            Self::Link { name, folder } => link(&load(&folder.dir)?, &name, out).await,
            Self::SignOut { name, folder } => sign_out(&load(&folder.dir)?, &name, out).await,
            Self::Disable { name, folder } => enable(&load(&folder.dir)?, &name, false, out).await,
            Self::Enable { name, folder } => enable(&load(&folder.dir)?, &name, true, out).await,
            Self::Passkeys { name, folder } => passkeys(&load(&folder.dir)?, &name, out).await,
            Self::RemovePasskey { name, passkey, folder } => {
                remove_passkey(&load(&folder.dir)?, (&name, &passkey), out).await
            }
        }
    }
}

/// A person, and how they can sign in.
#[derive(Debug, Serialize)]
struct PersonLine {
    person: String,
    /// This is `None` for whoever has an account and is not configured any more: it opens nothing.
    groups: Option<Vec<String>>,
    roles: Vec<Role>,
    account: Option<AccountLine>,
    keys: usize,
}

#[derive(Debug, Serialize)]
struct AccountLine {
    disabled: bool,
    created_at: Option<String>,
    changed_at: Option<String>,
    made_by: String,
    recovery_codes: usize,
    passkeys: usize,
    sessions: usize,
    seen_at: Option<String>,
}

/// What the ledger says of people.
#[derive(Default)]
struct Known {
    accounts: Vec<AccountRecord>,
    sessions: Vec<WebSessionRecord>,
    keys: Vec<KeyRecord>,
}

impl Known {
    /// Reads the ledger; there is nothing in one that there is not yet.
    async fn read(config: &Config) -> Result<Self, Failure> {
        let Some(store) = audit::opened_to_read(config).await? else { return Ok(Self::default()) };
        let (accounts, sessions) = (store.accounts().await?, store.web_sessions().await?);
        Ok(Self { accounts, sessions, keys: store.keys().await? })
    }

    fn account(&self, person: &PersonId, now_ms: i64) -> Option<AccountLine> {
        let account = self.accounts.iter().find(|account| account.person == *person)?;
        let theirs = || self.sessions.iter().filter(|session| session.person == *person);
        Some(AccountLine {
            disabled: !account.is_enabled(),
            created_at: timestamp(account.created_ms),
            changed_at: timestamp(account.changed_ms),
            made_by: account.made_by.clone(),
            recovery_codes: account.codes.len(),
            passkeys: account.passkeys.len(),
            sessions: theirs().filter(|one| one.check(account, now_ms, SESSION_IDLE_MS).is_ok()).count(),
            seen_at: theirs().map(|session| session.seen_ms).max().and_then(timestamp),
        })
    }

    /// How many good keys a person has.
    fn keys(&self, person: &PersonId, now_ms: i64) -> usize {
        let theirs = |key: &&KeyRecord| matches!(&key.owner, KeyOwner::Person(owner) if owner == person);
        self.keys.iter().filter(theirs).filter(|key| key.is_good(now_ms)).count()
    }
}

async fn list(config: &Config, out: &Output) -> Outcome {
    let (known, now_ms) = (Known::read(config).await?, SystemClock.now_ms());
    let gone = known.accounts.iter().map(|account| &account.person);
    let gone = gone.filter(|person| !config.people.contains_key(*person));
    let lines: Vec<PersonLine> = config
        .people
        .keys()
        .chain(gone)
        .map(|person| {
            let configured = config.people.get(person);
            PersonLine {
                person: person.to_string(),
                groups: configured.map(|one| one.groups.iter().map(ToString::to_string).collect()),
                roles: configured.into_iter().flat_map(|one| one.roles.iter()).collect(),
                account: known.account(person, now_ms),
                keys: known.keys(person, now_ms),
            }
        })
        .collect();
    out.value(&json!({ "people": lines }));
    out.table(
        &["person", "groups", "roles", "account", "since", "made by", "signed in", "last seen", "keys"],
        lines.into_iter().map(|line| {
            let groups = line.groups.map_or_else(|| "(not configured)".to_owned(), |groups| groups.join(" "));
            let roles: Roles = line.roles.into_iter().collect();
            let (mut row, keys) = (vec![line.person, groups, roles.to_string()], line.keys.to_string());
            row.extend(match line.account {
                None => ["no", "-", "-", "-", "-"].map(str::to_owned),
                Some(account) => [
                    if account.disabled { "disabled" } else { "yes" }.to_owned(),
                    out.moment(&cell(account.changed_at)),
                    account.made_by,
                    account.sessions.to_string(),
                    out.moment(&cell(account.seen_at)),
                ],
            });
            row.push(keys);
            row
        }),
    );
    Ok(())
}

async fn link(config: &Config, name: &str, out: &Output) -> Outcome {
    let (person, now_ms) = (configured(config, name)?, SystemClock.now_ms());
    let token = new_token([random(), random()]);
    let expires_ms = now_ms.saturating_add(LINK_MS);
    let new = NewLink { person: person.clone(), by: BY.to_owned(), maker: None, expires_ms, now_ms };
    let ledger = Ledger::open(config).await?;
    let made = ledger.make_link(new, &token).await;
    ledger.close().await;
    if !made? {
        let why = format!(
            "the account of `{person}` is disabled: `countersign people enable {person}` comes before a link"
        );
        return Err(anyhow::anyhow!(why).into());
    }
    // Behind `#`, so that no server, log and referrer ever has it.
    let url = format!("{}/console/link#{token}", for_browsers(address_of(config)?.as_str()));
    out.value(&json!({ "person": person, "link": url, "expires_at": timestamp(expires_ms) }));
    out.line(&url);
    if !out.json() {
        out.note(format!(
            "whoever opens it within an hour is `{person}` from then on: hand it to nobody else"
        ));
    }
    Ok(())
}

async fn sign_out(config: &Config, name: &str, out: &Output) -> Outcome {
    let (person, now_ms) = (PersonId::parse(name)?, SystemClock.now_ms());
    let before = Known::read(config).await?.account(&person, now_ms);
    let sessions = before.as_ref().map_or(0, |account| account.sessions);
    let ledger = Ledger::open(config).await?;
    let ended = ledger.sign_out_everywhere(&person, now_ms).await;
    ledger.close().await;
    let ended = ended?;
    out.value(&json!({ "person": person, "account": ended, "sessions": sessions }));
    if !ended {
        return no_account(config, &person, out);
    }
    out.line(format!(
        "`{person}` is signed out of {} and signs in again with the password",
        counted(sessions, "browser", "browsers")
    ));
    Ok(())
}

async fn enable(config: &Config, name: &str, enabled: bool, out: &Output) -> Outcome {
    let (person, now_ms) = (PersonId::parse(name)?, SystemClock.now_ms());
    let ledger = Ledger::open(config).await?;
    let changed = ledger.enable_account(&person, enabled, now_ms).await;
    ledger.close().await;
    let changed = changed?;
    out.value(
        &json!({ "person": person, "enabled": changed.map(|_| enabled), "changed": changed == Some(true) }),
    );
    let state = if enabled { "enabled" } else { "disabled" };
    match changed {
        None => no_account(config, &person, out),
        Some(false) => {
            if !out.json() {
                out.note(format!("the account of `{person}` is {state} already"));
            }
            Err(Failure::No)
        }
        Some(true) => {
            out.line(format!("the account of `{person}` is {state}"));
            if !enabled && !out.json() && Known::read(config).await?.keys(&person, now_ms) > 0 {
                out.note(format!("API keys of `{person}` stay good: `countersign keys list` shows them"));
            }
            Ok(())
        }
    }
}

#[derive(Debug, Serialize)]
struct PasskeyLine {
    id: String,
    label: String,
    added_at: Option<String>,
    used_at: Option<String>,
    synced: bool,
    signs_in: bool,
}

async fn passkeys(config: &Config, name: &str, out: &Output) -> Outcome {
    let person = PersonId::parse(name)?;
    let known = Known::read(config).await?;
    let account = known.accounts.into_iter().find(|account| account.person == person);
    let Some(account) = account else { return no_account(config, &person, out) };
    let lines: Vec<PasskeyLine> = account
        .passkeys
        .into_iter()
        .map(|passkey| PasskeyLine {
            id: passkey.id.to_string(),
            label: passkey.label,
            added_at: timestamp(passkey.made_ms),
            used_at: passkey.used_ms.and_then(timestamp),
            synced: passkey.synced,
            signs_in: passkey.signs_in,
        })
        .collect();
    out.value(&json!({ "person": person, "passkeys": lines }));
    out.table(
        &["passkey", "label", "added", "last used", "kept", "for"],
        lines.into_iter().map(|line| {
            vec![
                line.id.chars().take(ID_CHARS).collect(),
                line.label,
                out.moment(&cell(line.added_at)),
                out.moment(&cell(line.used_at)),
                if line.synced { "on several devices" } else { "on one device" }.to_owned(),
                if line.signs_in { "signing in" } else { "confirming" }.to_owned(),
            ]
        }),
    );
    Ok(())
}

async fn remove_passkey(config: &Config, (name, begins): (&str, &str), out: &Output) -> Outcome {
    let (person, now_ms) = (PersonId::parse(name)?, SystemClock.now_ms());
    let known = Known::read(config).await?;
    let account = known.accounts.into_iter().find(|account| account.person == person);
    let Some(account) = account else { return no_account(config, &person, out) };
    let mut fitting = account.passkeys.iter().filter(|passkey| passkey.id.as_str().starts_with(begins));
    let (Some(passkey), None) = (fitting.next().filter(|_| !begins.is_empty()), fitting.next()) else {
        let why = format!(
            "`{person}` has not one passkey that begins with `{begins}`: `countersign people passkeys {person}` lists them"
        );
        return Err(anyhow::anyhow!(why).into());
    };
    let ledger = Ledger::open(config).await?;
    let removed = ledger.remove_passkey(&person, &passkey.id, now_ms).await;
    ledger.close().await;
    let removed = removed?;
    out.value(&json!({ "person": person, "passkey": passkey.id, "removed": removed }));
    out.line(format!("the passkey `{}` of `{person}` is removed", passkey.label));
    Ok(())
}

/// Says that there is no account, and how there is one or none.
fn no_account(config: &Config, person: &PersonId, out: &Output) -> Outcome {
    if !out.json() {
        let then = if config.people.contains_key(person) {
            "`countersign people link` makes a link to set one up; who shall have none is taken out of the configuration"
        } else {
            "nor is there such a `[person.…]` in the configuration"
        };
        out.note(format!("`{person}` has no account; {then}"));
    }
    Err(Failure::No)
}

fn configured(config: &Config, name: &str) -> Result<PersonId, Failure> {
    let person = PersonId::parse(name)?;
    if config.people.contains_key(&person) {
        return Ok(person);
    }
    Err(anyhow::anyhow!("there is no `[person.{person}]` in the configuration").into())
}

/// The ledger, whether or not a server has it open.
enum Ledger {
    Alone(Store),
    Beside(StoreBeside),
}

impl Ledger {
    async fn open(config: &Config) -> Result<Self, Failure> {
        if let Some(store) = keys::open_alone(config).await? {
            return Ok(Self::Alone(store));
        }
        let StorePlace::Sqlite(path) = &config.store.place else {
            return Err(anyhow::anyhow!("the ledger is in use by another process").into());
        };
        let key = log_key::read(&config.log.key, &config.log.origin).map_err(StartError::from)?;
        let beside = StoreBeside::open(path, key.signing, &store_options(config)).await;
        Ok(Self::Beside(beside.map_err(StartError::from)?))
    }

    async fn make_link(&self, new: NewLink, token: &str) -> Result<bool, Failure> {
        Ok(match self {
            Self::Alone(store) => store.make_link(new, token).await?,
            Self::Beside(beside) => beside.make_link(new, token).await?,
        })
    }

    async fn sign_out_everywhere(&self, person: &PersonId, now_ms: i64) -> Result<bool, Failure> {
        Ok(match self {
            Self::Alone(store) => store.sign_out_everywhere(person, BY, now_ms).await?,
            Self::Beside(beside) => beside.sign_out_everywhere(person, BY, now_ms).await?,
        })
    }

    async fn enable_account(
        &self,
        person: &PersonId,
        enabled: bool,
        now_ms: i64,
    ) -> Result<Option<bool>, Failure> {
        Ok(match self {
            Self::Alone(store) => store.enable_account(person, enabled, BY, now_ms).await?,
            Self::Beside(beside) => beside.enable_account(person, enabled, BY, now_ms).await?,
        })
    }

    async fn remove_passkey(
        &self,
        person: &PersonId,
        passkey: &PasskeyId,
        now_ms: i64,
    ) -> Result<bool, Failure> {
        Ok(match self {
            Self::Alone(store) => store.remove_passkey(person, passkey, BY, now_ms).await?,
            Self::Beside(beside) => beside.remove_passkey(person, passkey, BY, now_ms).await?,
        })
    }

    async fn close(self) {
        match self {
            Self::Alone(store) => store.close().await,
            Self::Beside(beside) => beside.close().await,
        }
    }
}
