//! Credentials of systems, read from where the configuration says they are kept, each time one is opened.
//!
//! Nothing is cached: a secret that is rotated in its file is the one used by the next call.

use std::collections::BTreeMap;

use countersign_gate::{Authority, Credential, Vault, VaultFault};
use countersign_rules::SystemName;

use crate::config::{Config, SecretSource};

/// The credentials of the configured systems.
#[derive(Debug, Clone)]
pub struct ConfigVault(BTreeMap<SystemName, BTreeMap<String, SecretSource>>);

impl ConfigVault {
    /// The vault over a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self(config.systems.iter().map(|(name, system)| (name.clone(), system.secrets.clone())).collect())
    }
}

impl Vault for ConfigVault {
    fn open(&self, authority: &dyn Authority) -> Result<Credential, VaultFault> {
        let system = authority.system();
        let fault = |why: String| VaultFault { system: system.clone(), why };
        let sources = self.0.get(system).ok_or_else(|| fault("the system is not configured".into()))?;
        let secrets = sources
            .iter()
            .map(|(name, source)| source.read().map(|secret| (name.clone(), secret)))
            .collect::<Result<_, _>>()
            .map_err(|why| fault(why.to_string()))?;
        Ok(Credential::new(secrets))
    }
}
