//! `countersign tools`

use std::sync::Arc;

use clap::Subcommand;
use countersign_gate::{Gate, Settings};
use countersign_rules::SystemName;
use serde_json::{Value, json};

use super::{FolderOption, Outcome, Output, check, keys, load};
use crate::clock::{OsEntropy, SystemClock};

#[derive(Debug, Subcommand)]
pub(super) enum Tools {
    /// List the tools of the folder with their classes and versions
    List {
        #[command(flatten)]
        folder: FolderOption,
    },
    /// Connect to an upstream MCP server, and print what it offers with the digest to write into a tool
    #[command(
        after_help = "Read the definition before you write its digest: what is declared with it may be called.\n\
                      With a ledger on SQLite, stop the server first: it alone writes to the file."
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
                            .map(|pointer| super::client::text(tool, pointer))
                            .to_vec()
                    }),
                );
                Ok(())
            }
            Self::Digest { system, folder } => {
                let config = load(&folder.dir)?;
                let bundle = check::bundle(&config)?;
                let store = Arc::new(keys::open(&config).await?);
                let gate = Gate::new(
                    Arc::clone(&store),
                    Arc::new(SystemClock),
                    Arc::new(OsEntropy),
                    Arc::clone(&bundle.policies),
                    Settings::default(),
                );
                let system = SystemName::parse(&system)?;
                let found = bundle.systems.definitions(&system, gate.review(&system)).await;
                bundle.systems.stop().await;
                store.close().await;
                let found: Vec<Value> = found
                    .map_err(anyhow::Error::msg)?
                    .into_iter()
                    .map(|tool| {
                        let (digest, why) =
                            tool.digest.map_or_else(|why| (None, Some(why)), |d| (Some(d), None));
                        json!({
                            "definition": tool.definition,
                            "digest": digest,
                            "name": tool.name,
                            "why": why,
                        })
                    })
                    .collect();
                for tool in &found {
                    let part = |name: &str| tool.get(name).unwrap_or(&Value::Null);
                    out.line(format!("{:#}", part("definition")));
                    out.line(format!("upstream = {}\ndigest   = {}\n", part("name"), part("digest")));
                }
                out.value(&Value::from(found));
                Ok(())
            }
        }
    }
}
