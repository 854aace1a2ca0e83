//! `countersign tools`

use std::sync::Arc;

use clap::Subcommand;
use countersign_app::text::visible;
use countersign_gate::{Gate, Vault};
use countersign_rules::{SystemName, ToolSpec};
use countersign_store::Store;
use countersign_tools::Systems;
use serde_json::{Value, json};

use super::{FolderOption, Outcome, Output, bundle, client::cell, load};
use crate::{config::Config, vault::ConfigVault};

#[derive(Debug, Subcommand)]
pub(super) enum Tools {
    /// List the tools of the folder with their classes and versions
    List {
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Connect to an upstream MCP server and print what it offers, for review
    #[command(
        after_help = "Read each definition before you declare its tool: what stands in a tool's `digest` is what you reviewed.\n\
                            A definition that changes later switches its tool off."
    )]
    Digest {
        /// The system, of kind `mcp`
        system: String,
        #[command(flatten)]
        folder: FolderOption,
    },
}

impl Tools {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        match self {
            Self::List { folder } => {
                let config = load(&folder.dir)?;
                let bundle = bundle(&config)?;
                let specs: Vec<&ToolSpec> =
                    bundle.tools.values().map(|offer| offer.spec().as_ref()).collect();
                let told = |spec: &&ToolSpec| {
                    json!({
                        "categories": spec.categories,
                        "description": spec.description,
                        "effect": spec.effect,
                        "environment": spec.system.environment,
                        "name": spec.name,
                        "system": spec.system.name,
                        "version": spec.version,
                    })
                };
                out.value(&json!({ "tools": specs.iter().map(told).collect::<Vec<_>>() }));
                out.table(
                    &["tool", "effect", "system", "environment", "version"],
                    specs.iter().map(|spec| {
                        vec![
                            spec.name.to_string(),
                            spec.effect.as_str().to_owned(),
                            spec.system.name.to_string(),
                            spec.system.environment.clone(),
                            spec.version.to_string(),
                        ]
                    }),
                );
                Ok(())
            }
            Self::Digest { system, folder } => digest(&system, &load(&folder.dir)?, out).await,
        }
    }
}

async fn digest(system: &str, config: &Config, out: &Output) -> Outcome {
    let name = SystemName::parse(system)?;
    let Some(configured) = config.systems.get(&name) else {
        return Err(anyhow::anyhow!("there is no `[system.{name}]` in the configuration").into());
    };
    let vault: Arc<dyn Vault> = Arc::new(ConfigVault::new(config));
    // Without tools: theirs may have no digest yet.
    let definitions = [configured.definition.clone()];
    let systems = Systems::new(&definitions, &vault).map_err(|errors| {
        let first = errors.into_iter().next();
        first.map_or_else(|| anyhow::anyhow!("the system cannot be used"), anyhow::Error::new)
    })?;
    let upkeep = Gate::<Store>::review(&name);
    let offered = systems.definitions(&name, upkeep).await.map_err(anyhow::Error::msg);
    systems.stop().await;
    let offered = offered?;
    let list: Vec<Value> = offered
        .iter()
        .map(|one| match &one.digest {
            Ok(digest) => json!({ "definition": one.definition, "digest": digest, "name": one.name }),
            // Such a tool cannot be declared: nobody could tell whether it changed.
            Err(why) => json!({ "definition": one.definition, "digest": null, "name": one.name, "why": why }),
        })
        .collect();
    out.value(&list);
    for one in &offered {
        let definition = serde_json::to_string_pretty(&one.definition)?;
        let digest = cell(one.digest.as_ref().ok());
        out.line(visible(&format!("{}\n   digest = \"{digest}\"\n{definition}\n", one.name)));
    }
    Ok(())
}
