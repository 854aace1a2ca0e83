//! The identity providers of a configuration, with their secrets.

use std::{collections::BTreeMap, sync::Arc};

use countersign_app::auth::{ProviderWithSecret, Providers, look_at_provider};
use countersign_gate::Clock;
use countersign_rules::ProviderName;

use crate::{
    config::{Config, SignInConfig},
    server::StartError,
};

/// The providers of a configuration. `secret` is the same on every server of the ledger.
///
/// # Errors
/// [`StartError`].
pub(crate) fn made(
    config: &Config,
    secret: &[u8; 32],
    clock: &Arc<dyn Clock>,
) -> Result<Providers, StartError> {
    let mut all: BTreeMap<ProviderName, ProviderWithSecret> = BTreeMap::new();
    for (name, SignInConfig { provider, secret }) in &config.providers {
        let secret = secret.as_ref().map(|secret| secret.read()).transpose();
        let secret = secret.map_err(|why| StartError::Provider(name.clone(), why.to_string()))?;
        all.insert(name.clone(), (provider.clone(), secret));
    }
    Providers::new(all, secret, clock).map_err(StartError::Client)
}

/// Checks that people could sign in by a provider: its secret is there, and it publishes what it should.
///
/// # Errors
/// Says what could not be used.
pub(crate) async fn look_at(config: &SignInConfig, clock: Arc<dyn Clock>) -> Result<(), String> {
    if let Some(secret) = &config.secret {
        secret.read().map_err(|why| format!("its client secret cannot be used: {why}"))?;
    }
    look_at_provider(&config.provider, clock).await
}
