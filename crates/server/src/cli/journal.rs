//! `countersign system prepare` and `prune`: what undo needs in the database itself.

use std::collections::BTreeSet;

use countersign_gate::Gate;
use countersign_rules::{DeclaredEffect, SystemName};
use countersign_store::Store;
use countersign_tools::{AnyTool, definition::Target};
use serde_json::json;

use super::{FolderOption, Outcome, Output, bundle, load};
use crate::{
    bundle::Bundle,
    config::{Config, SecretSource},
};
use countersign_app::text::{one_line, visible};

/// `countersign system prepare`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is created keeps each call's record, and the rows that calls changed, beside your own tables:\n\
                        so a call can be undone, and what became of it is known after a crash. Your tables stay as they\n\
                        are, but for triggers on PostgreSQL that do nothing unless a call sets them off.\n\n\
                        PostgreSQL: an administrator must run it, because the account of the tools must not own what it\n\
                        is held to. Print the SQL for them, or name the variable with their connection string.\n\
                        May be run again, and must be after tables or foreign keys came."
)]
pub(super) struct Prepare {
    /// The system: a database with `[system.NAME.journal]`
    system: String,
    /// Tables to keep rows of, as `table` or `schema.table` [default: those that reversible tools write]
    #[arg(long, value_delimiter = ',', value_name = "TABLES")]
    tables: Vec<String>,
    /// Print the SQL and run nothing
    #[arg(long)]
    print: bool,
    /// PostgreSQL: the environment variable with the administrator's connection string
    #[arg(long, value_name = "VAR", conflicts_with = "print")]
    admin_url_env: Option<String>,
    #[command(flatten)]
    folder: FolderOption,
}

/// `countersign system prune`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A running server does so by itself, every hour. That a call happened is not forgotten by this."
)]
pub(super) struct Prune {
    /// The system: a database with `[system.NAME.journal]`
    system: String,
    #[command(flatten)]
    folder: FolderOption,
}

impl Prepare {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let (config, bundle, name) = read(&self.folder, &self.system)?;
        let database = bundle.systems.journal(&name).map_err(anyhow::Error::msg)?;
        let postgres =
            config.systems.get(&name).is_some_and(|s| matches!(s.definition.target, Target::Postgres(_)));
        let tables = self.covered(&bundle, &name, postgres);
        let upkeep = Gate::<Store>::review(&name);
        if self.print {
            let sql = database.prepare_sql(&upkeep, &tables).map_err(anyhow::Error::msg)?;
            out.value(&json!({ "sql": sql, "system": name, "tables": tables }));
            if !out.json() {
                out.raw(sql.as_bytes());
            }
            return Ok(());
        }
        let admin =
            self.admin_url_env.clone().map(|variable| SecretSource::Env(variable).read()).transpose()?;
        if postgres && admin.is_none() {
            return Err(anyhow::anyhow!(
                "system `{name}` is prepared by its administrator: print the SQL for them with `--print`, or name the variable with their connection string with `--admin-url-env VAR`"
            )
            .into());
        }
        if postgres && tables.is_empty() {
            out.note("no reversible tool writes here, so calls are recorded and no rows are kept; `--tables` names more");
        }
        let kept = database.prepare(&upkeep, admin.as_ref(), &tables).await.map_err(anyhow::Error::msg)?;
        out.value(&json!({ "prepared": true, "said": kept, "system": name, "tables": tables }));
        out.line(format!("system `{name}` is prepared: calls are recorded in it"));
        for line in &kept {
            let line = one_line(line);
            // What is kept, what is left out, and what would let the account around it.
            out.line(visible(&format!("  {line}")));
        }
        Ok(())
    }

    fn covered(&self, bundle: &Bundle, name: &SystemName, postgres: bool) -> Vec<String> {
        if !self.tables.is_empty() || !postgres {
            return self.tables.clone();
        }
        let mut tables = BTreeSet::new();
        for offer in bundle.tools.values() {
            let spec = offer.spec();
            if let AnyTool::Sql(tool) = &offer.tool
                && spec.system.name == *name
                && spec.reversible
                && spec.effect != DeclaredEffect::Read
            {
                tables.extend(tool.tables_written());
            }
        }
        tables.into_iter().collect()
    }
}

impl Prune {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let (_, bundle, name) = read(&self.folder, &self.system)?;
        let database = bundle.systems.journal(&name).map_err(anyhow::Error::msg)?;
        let upkeep = Gate::<Store>::review(&name);
        let rows = database.prune(&upkeep).await.map_err(anyhow::Error::msg)?;
        out.value(&json!({ "rows": rows, "system": name }));
        out.line(format!("system `{name}`: {rows} kept rows were past their time and are gone"));
        Ok(())
    }
}

fn read(folder: &FolderOption, system: &str) -> Result<(Config, Bundle, SystemName), super::Failure> {
    let config = load(&folder.dir)?;
    let name = SystemName::parse(system)?;
    let bundle = bundle(&config)?;
    Ok((config, bundle, name))
}
