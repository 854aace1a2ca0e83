//! `countersign tools`

use std::sync::Arc;

use clap::Subcommand;
use countersign_gate::{Gate, Vault};
use countersign_rules::SystemName;
use countersign_store::Store;
use countersign_tools::Systems;
use serde_json::{Value, json};

use super::{FolderOption, Outcome, Output, check, client::text, load};
use crate::{config::Config, vault::ConfigVault};
use countersign_app::text::visible;

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
                let bundle = check::bundle(&config)?;
                let tools: Vec<_> = bundle
                    .tools
                    .values()
                    .map(|offer| {
                        let spec = offer.spec();
                        json!({
                            "categories": spec.categories,
                            "description": spec.description,
                            "effect": spec.effect,
                            "environment": spec.system.environment,
                            "name": spec.name,
                            "system": spec.system.name,
                            "version": spec.version,
                        })
                    })
                    .collect();
                out.value(&json!({ "tools": tools }));
                out.table(
                    &["tool", "effect", "system", "environment", "version"],
                    tools.iter().map(|tool| {
                        ["/name", "/effect", "/system", "/environment", "/version"]
                            .map(|pointer| text(tool, pointer))
                            .to_vec()
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
    let list: Vec<Value> = offered?
        .into_iter()
        .map(|one| match one.digest {
            Ok(digest) => json!({ "definition": one.definition, "digest": digest, "name": one.name }),
            // Such a tool cannot be declared: nobody could tell whether it changed.
            Err(why) => json!({ "definition": one.definition, "digest": null, "name": one.name, "why": why }),
        })
        .collect();
    out.value(&list);
    for one in &list {
        let definition = serde_json::to_string_pretty(one.get("definition").unwrap_or(&Value::Null))?;
        out.line(visible(&format!(
            "{}\n   digest = \"{}\"\n{definition}\n",
            text(one, "/name"),
            text(one, "/digest")
        )));
    }
    Ok(())
}
