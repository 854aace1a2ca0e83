//! `countersign system`: databases that agents reach, seen by the people who answer for them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Subcommand;
use countersign_gate::{Gate, Vault};
use countersign_rules::SystemName;
use countersign_sql::{
    Action, Catalog, Difference, Relation, RelationKind, Routine, RoutineKind, Snapshot, Volatility,
};
use countersign_store::Store;
use countersign_tools::Systems;
use serde_json::json;

use super::{
    Failure, FolderOption, Outcome, Output,
    journal::{Prepare, Prune},
    load,
};
use crate::{bundle, config::Config, vault::ConfigVault};
use countersign_app::text::visible;

#[derive(Debug, Subcommand)]
pub(super) enum System {
    /// Read what a database holds: a catalog snapshot to review, and to sharpen what is said of statements
    #[command(
        after_help = "Reads tables, keys, views, triggers, rules, row security, functions, operators and types, and no rows.\n\
                            Name the file in the system's configuration (`catalog = \"catalog/shop.json\"`) to use it.\n\n\
                            Exit codes: 0 done, or nothing differs · 1 --check found differences · 2 it could not be read."
    )]
    Inspect(Inspect),
    /// Prepare a database to record calls and keep the rows they change, so that calls can be undone
    Prepare(Prepare),
    /// Forget rows that were kept longer than the journal's retention
    Prune(Prune),
}

#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// The system: a database
    system: String,
    /// Write the snapshot to this file
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Compare with the snapshot that the configuration names, and fail when the database is another
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    folder: FolderOption,
}

impl System {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::Inspect(inspect) => inspect.run(out).await,
            Self::Prepare(prepare) => prepare.run(out).await,
            Self::Prune(prune) => prune.run(out).await,
        }
    }
}

impl Inspect {
    async fn run(self, out: &Output) -> Outcome {
        let config = load(&self.folder.dir)?;
        let name = SystemName::parse(&self.system)?;
        let snapshot = inspected(&config, &name).await?;
        if self.check {
            return check(&config, &name, &snapshot, out);
        }
        if let Some(path) = &self.out {
            write(path, &snapshot.text()?)?;
        }
        out.value(&snapshot);
        summary(&name, &snapshot, out);
        match &self.out {
            Some(path) => out.note(format!("wrote `{}`: review it like code", path.display())),
            None => out.note("nothing was written; `--out FILE` writes the snapshot, `--json` prints it"),
        }
        Ok(())
    }
}

/// Reads what the database holds, with the credential of its system.
async fn inspected(config: &Config, name: &SystemName) -> Result<Snapshot, Failure> {
    let Some(configured) = config.systems.get(name) else {
        return Err(anyhow::anyhow!("there is no `[system.{name}]` in the configuration").into());
    };
    let vault: Arc<dyn Vault> = Arc::new(ConfigVault::new(config));
    let systems = Systems::new(std::slice::from_ref(&configured.definition), &vault).map_err(|errors| {
        let first = errors.into_iter().next();
        first.map_or_else(|| anyhow::anyhow!("the system cannot be used"), anyhow::Error::new)
    })?;
    let database = systems.database(name).map_err(anyhow::Error::msg)?;
    let upkeep = Gate::<Store>::review(name);
    Ok(database.inspect(&upkeep).await.map_err(anyhow::Error::msg)?)
}

fn check(config: &Config, name: &SystemName, now: &Snapshot, out: &Output) -> Outcome {
    let named = config.systems.get(name).and_then(|system| system.catalog.as_deref());
    let Some(path) = named else {
        let why = format!("`[system.{name}]` names no `catalog` to compare with");
        return Err(anyhow::anyhow!(why).into());
    };
    let kept = bundle::catalog(path).map_err(anyhow::Error::msg)?;
    let differences = kept.differences(now);
    out.value(&json!({ "catalog": path, "differences": differences, "ok": differences.is_empty() }));
    for difference in &differences {
        out.line(visible(&Difference::to_string(difference)));
    }
    if differences.is_empty() {
        out.line(format!("the database is as `{}` says", path.display()));
        return Ok(());
    }
    out.note(format!(
        "the database is not what `{}` says; review the differences and write it again with `--out`",
        path.display()
    ));
    Err(Failure::No)
}

/// Replaces the file as a whole, so that nobody reads half of it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let shown = || format!("`{}` cannot be written", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(shown)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    fs::write(&beside, text).with_context(shown)?;
    fs::rename(&beside, path).with_context(shown)
}

fn summary(name: &SystemName, snapshot: &Snapshot, out: &Output) {
    let catalog = &snapshot.catalog;
    let of = |kind: RelationKind| catalog.relations.iter().filter(|relation| relation.kind == kind).count();
    out.line(format!(
        "{name} ({}): {} tables, {} views, {} materialized views, {} foreign tables, {} functions",
        snapshot.dialect,
        of(RelationKind::Table).saturating_add(of(RelationKind::VirtualTable)),
        of(RelationKind::View),
        of(RelationKind::MaterializedView),
        of(RelationKind::ForeignTable),
        catalog.routines.len(),
    ));
    let relations = catalog.relations.iter().map(|relation| {
        let kind = serde_json::to_value(relation.kind).unwrap_or_default();
        vec![
            visible(&format!("{}.{}", relation.schema, relation.name)),
            kind.as_str().unwrap_or_default().replace('_', " "),
            visible(&remarks(catalog, relation).join("; ")),
        ]
    });
    out.table(&["relation", "kind", "what statements on it set off"], relations);
    if !catalog.routines.is_empty() {
        let routines = catalog.routines.iter().map(|routine| {
            vec![
                visible(&format!("{}.{}({})", routine.schema, routine.name, routine.arguments)),
                visible(&declared(routine)),
            ]
        });
        out.table(&["function", "declared"], routines);
    }
}

/// What a statement on a relation does beside what it says.
fn remarks(catalog: &Catalog, relation: &Relation) -> Vec<String> {
    let mut remarks = Vec::new();
    let acts = |action: Action| action != Action::Refuse;
    for child in &catalog.relations {
        for key in &child.foreign_keys {
            if (&key.schema, &key.table) == (&relation.schema, &relation.name)
                && (acts(key.on_delete) || acts(key.on_update))
            {
                let word =
                    serde_json::to_value(if acts(key.on_delete) { key.on_delete } else { key.on_update });
                let word = word.unwrap_or_default();
                remarks.push(format!(
                    "{} to {}",
                    word.as_str().unwrap_or_default().replace('_', " "),
                    child.name
                ));
            }
        }
    }
    remarks.extend(relation.triggers.iter().map(|trigger| {
        let events: Vec<&str> = trigger.events.iter().map(String::as_str).collect();
        format!("trigger {} ({})", trigger.name, events.join(", "))
    }));
    remarks.extend(relation.rules.iter().map(|rule| format!("rule {}", rule.name)));
    if relation.row_security {
        remarks.push(format!("row security, {} policies", relation.policies.len()));
    }
    let columns = |which: fn(&countersign_sql::Column) -> bool| {
        let names = relation.columns.iter().filter(|column| which(column)).map(|column| column.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    for (word, names) in [("generated", columns(|c| c.generated)), ("identity", columns(|c| c.identity))] {
        if !names.is_empty() {
            remarks.push(format!("{word} {names}"));
        }
    }
    if relation.kind == RelationKind::Table && relation.primary_key.is_empty() {
        remarks.push("no primary key".into());
    }
    remarks
}

fn declared(routine: &Routine) -> String {
    let mut words = vec![match routine.volatility {
        Volatility::Immutable => "immutable",
        Volatility::Stable => "stable",
        Volatility::Volatile => "volatile",
    }];
    match routine.kind {
        RoutineKind::Function => {}
        RoutineKind::Procedure => words.push("procedure"),
        RoutineKind::Aggregate => words.push("aggregate"),
    }
    if routine.security_definer {
        words.push("security definer");
    }
    words.push(&routine.language);
    words.join(", ")
}
