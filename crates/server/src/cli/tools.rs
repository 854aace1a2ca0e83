//! `countersign tools`

use clap::Subcommand;
use serde_json::json;

use super::{FolderOption, Outcome, Output, check, load};

#[derive(Debug, Subcommand)]
pub(super) enum Tools {
    /// List the tools of the folder with their classes and versions
    List {
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
        }
    }
}
