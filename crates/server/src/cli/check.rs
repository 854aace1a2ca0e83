//! `countersign check`: everything about a folder that can be known without touching a system.

use std::sync::Arc;

use countersign_gate::Vault;
use countersign_rules::schema::Untyped;
use serde_json::json;

use super::{Failure, Folder, Outcome, Output, load, policy};
use crate::{bundle::Bundle, config::Config, log_key, vault::ConfigVault};

/// `countersign check`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads the folder, checks tools against systems and policies against tools, and judges the scenarios.\n\
                        Opens no secret, no database and no connection."
)]
pub(super) struct Check {
    #[command(flatten)]
    folder: Folder,
}

impl Check {
    pub(super) fn run(self, out: &Output) -> Outcome {
        let config = load(self.folder.dir())?;
        let bundle = bundle(&config)?;
        let mut warnings = bundle.warnings.clone();
        if config.log.key.exists()
            && let Err(why) = log_key::read(&config.log.key, &config.log.origin)
        {
            warnings.push(format!("the server would not start: {why}"));
        }
        let judged = policy::judge(&config, &bundle)?;
        out.value(&json!({
            "agents": config.agents.len(),
            "bundle": bundle.policies.bundle(),
            "ok": judged.mismatches() == 0,
            "people": config.people.len(),
            "policies": config.policies.len(),
            "scenarios": judged,
            "systems": config.systems.len(),
            "tools": config.tools.len(),
            "untyped": bundle.policies.untyped().iter().map(untyped).collect::<Vec<_>>(),
            "warnings": warnings,
        }));
        out.line(format!(
            "{}, {}, {}, {} and {} fit together",
            counted(config.systems.len(), "system", "systems"),
            counted(config.tools.len(), "tool", "tools"),
            counted(config.agents.len(), "agent", "agents"),
            counted(config.people.len(), "person", "people"),
            counted(config.policies.len(), "policy file", "policy files"),
        ));
        for (name, _) in bundle.systems.journals() {
            out.line(format!(
                "system `{name}` keeps a journal: `countersign system prepare {name}` must have been run"
            ));
        }
        policy::print(&judged, out);
        for left_out in bundle.policies.untyped() {
            out.text(&format!("policies cannot look at {}", untyped(left_out)));
        }
        for warning in &warnings {
            out.line(format!("warning: {warning}"));
        }
        if judged.mismatches() == 0 { Ok(()) } else { Err(Failure::No) }
    }
}

/// An argument that policies cannot look at.
fn untyped(left_out: &Untyped) -> String {
    format!("`{}` of tool `{}`: {}", left_out.argument, left_out.tool, left_out.reason)
}

/// So many of something, in words.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The tools and policies of a configuration, checked offline.
pub(super) fn bundle(config: &Config) -> Result<Bundle, Failure> {
    let vault: Arc<dyn Vault> = Arc::new(ConfigVault::new(config));
    Bundle::new(config, &vault).map_err(|problems| Failure::Config(Box::new(problems)))
}
