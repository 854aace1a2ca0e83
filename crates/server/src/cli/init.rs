//! `countersign init`: a folder that works as it stands, and says what to do with it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use countersign_rules::{AgentId, PersonId, source::DEFAULT_PACK};
use countersign_store::KeyOwner;
use serde_json::json;

use super::{Failure, Outcome, Output, keys, load};
use crate::{
    config::{MAIN, REFERENCE, SchemaOf, schema},
    log_key,
};

/// `countersign init`
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// The folder to write; made if there is none
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// The first agent's name
    #[arg(long, default_value = "assistant")]
    agent: String,
    /// The first approver's name
    #[arg(long, default_value = "alice")]
    person: String,
    /// The name of the log, unlike every other log's
    #[arg(long, default_value = "localhost/countersign")]
    origin: String,
    /// Write only the reference of all keys, to standard output
    #[arg(long)]
    reference: bool,
    /// Write only the JSON Schema of `countersign.toml`, or of tool files, to standard output, for editors
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "main",
        conflicts_with = "reference"
    )]
    schema: Option<SchemaOf>,
}

const FILES: &[(&str, &str)] = &[
    (MAIN, include_str!("init_folder/countersign.toml")),
    ("tools/billing.toml", include_str!("init_folder/tools.toml")),
    ("policies/default.cedar", DEFAULT_PACK),
    ("scenarios/billing.toml", include_str!("init_folder/scenarios.toml")),
    (".gitignore", include_str!("init_folder/gitignore")),
];

impl Init {
    pub(super) fn run(self, out: &Output) -> Outcome {
        if self.reference {
            out.raw(REFERENCE.as_bytes());
            return Ok(());
        }
        if let Some(file) = self.schema {
            let text = serde_json::to_string_pretty(&schema(file))?;
            out.raw(format!("{text}\n").as_bytes());
            return Ok(());
        }
        let (agent, person) = (AgentId::parse(&self.agent)?, PersonId::parse(&self.person)?);
        if agent.as_str() == person.as_str() {
            return Err(anyhow::anyhow!("the agent and the approver need different names").into());
        }
        let dir = &self.dir;
        for (name, _) in FILES.iter().chain([&("log.key", ""), &("billing.db", "")]) {
            let path = dir.join(name);
            if path.exists() && *name != ".gitignore" {
                return Err(
                    anyhow::anyhow!("`{}` exists already; nothing was written", path.display()).into()
                );
            }
        }
        for (name, text) in FILES {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            if path.exists() {
                continue;
            }
            let text = text
                .replace("@AGENT@", agent.as_str())
                .replace("@PERSON@", person.as_str())
                .replace("@ORIGIN@", &self.origin);
            fs::write(path, text)?;
        }
        log_key::create(&dir.join("log.key"), &self.origin)?;
        sample(&dir.join("billing.db"))?;
        let key_files = super::wait_for(issue(dir, &agent, &person))?;
        out.value(&json!({ "agent_key": key_files.0, "folder": dir, "person_key": key_files.1 }));
        out.line(next(dir, &key_files.0, &key_files.1));
        Ok(())
    }
}

/// Issues the first two keys into files that only their owner may read.
async fn issue(dir: &Path, agent: &AgentId, person: &PersonId) -> Result<(PathBuf, PathBuf), Failure> {
    let config = load(dir)?;
    let store = keys::open(&config).await?;
    let folder = dir.join("keys");
    fs::create_dir_all(&folder)?;
    let (_, agents) =
        keys::issue(&store, KeyOwner::Agent(agent.clone()), Vec::new(), keys::Expiry::Never).await?;
    let (_, peoples) =
        keys::issue(&store, KeyOwner::Person(person.clone()), Vec::new(), keys::Expiry::Never).await?;
    store.close().await;
    let files = (folder.join(format!("{agent}.key")), folder.join(format!("{person}.key")));
    secret_file(&files.0, &agents)?;
    secret_file(&files.1, &peoples)?;
    Ok(files)
}

fn secret_file(path: &Path, text: &str) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    Ok(())
}

/// A small database to try things on: 40 customers with ten invoices each, three of them for tests.
#[expect(clippy::disallowed_methods, reason = "makes the sample database; no system is opened here")]
fn sample(path: &Path) -> Result<(), Failure> {
    let mut database = rusqlite::Connection::open(path)?;
    let transaction = database.transaction()?;
    transaction.execute_batch(
        "create table customer (id integer primary key, name text not null, email text not null);
         create table invoice (
           id integer primary key,
           customer integer not null references customer (id) on delete cascade,
           total integer not null,           -- in cents
           currency text not null,
           issued text not null,             -- a date
           is_test integer not null
         );
         create index invoice_customer on invoice (customer);",
    )?;
    for customer in 1..=40_u32 {
        transaction.execute(
            "insert into customer values (?1, 'Customer ' || ?1, 'customer' || ?1 || '@example.com')",
            [customer],
        )?;
        for n in 0..10_u32 {
            let id = customer.saturating_mul(10).saturating_add(n);
            transaction.execute(
                "insert into invoice values (?1, ?2, ?3, 'EUR', date('2026-01-01', '+' || ?4 || ' days'), ?5)",
                [id, customer, id.saturating_mul(37).wrapping_rem(50_000), id.wrapping_rem(90), u32::from(n < 3)],
            )?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn next(dir: &Path, agent_key: &Path, person_key: &Path) -> String {
    let (dir, agent, person) = (dir.display(), agent_key.display(), person_key.display());
    format!(
        "`{dir}` is ready: a sample database, three tools, the default policies, a scenario and two keys.\n\n\
         Check it, then serve it:\n\
         \x20  countersign check {dir}\n\
         \x20  countersign serve {dir}\n\n\
         In a second terminal, be the agent:\n\
         \x20  countersign call -C {dir} --key-file {agent} customer_invoices '{{\"customer\": 7}}'\n\
         \x20  countersign call -C {dir} --key-file {agent} delete_test_invoices '{{\"customer\": 7}}' --reason 'clean up'\n\n\
         And the approver:\n\
         \x20  countersign approvals list -C {dir} --key-file {person}\n\
         \x20  countersign approvals approve REQUEST -C {dir} --key-file {person}\n\n\
         An MCP client connects to http://127.0.0.1:7780/mcp with the agent's key as bearer token.\n\
         What happened stands in the log:\n\
         \x20  countersign audit show REQUEST -C {dir}\n\
         \x20  countersign audit verify -C {dir}"
    )
}
