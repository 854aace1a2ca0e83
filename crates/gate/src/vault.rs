//! Credentials, opened only by an authority that this crate issued.

use std::{collections::BTreeMap, fmt, sync::Arc};

use countersign_rules::SystemName;
use secrecy::SecretString;

use crate::warrant::{Probe, Warrant};

mod sealed {
    #[expect(unnameable_types, reason = "that nobody else can name it is what seals it")]
    pub trait ByGate {}
    impl<A> ByGate for crate::warrant::Warrant<A> {}
    impl<A> ByGate for crate::warrant::Probe<'_, A> {}
    impl ByGate for super::Upkeep {}
}

/// An authority entitles its holder to one system's credential. Only this crate makes values of types that implement
/// it, and nobody else can add one.
pub trait Authority: sealed::ByGate + Send + Sync {
    /// The system it is good for.
    fn system(&self) -> &SystemName;
}

impl<A: Send + Sync> Authority for Warrant<A> {
    fn system(&self) -> &SystemName {
        &self.call().tool.system.name
    }
}

impl<A: Send + Sync> Authority for Probe<'_, A> {
    fn system(&self) -> &SystemName {
        &self.call().tool.system.name
    }
}

/// Authority to look after a connection without any call: check that an upstream is there, read the
/// definitions it offers, keep our own records there (see [`Tool::recall`](crate::Tool::recall)). Never to act.
#[derive(Debug)]
pub struct Upkeep {
    system: SystemName,
}

impl Upkeep {
    pub(crate) const fn new(system: SystemName) -> Self {
        Self { system }
    }
}

impl Authority for Upkeep {
    fn system(&self) -> &SystemName {
        &self.system
    }
}

/// The secrets of one system, by the name its configuration gives them (`url`, `token`, …).
#[derive(Clone)]
pub struct Credential(Arc<BTreeMap<String, SecretString>>);

impl Credential {
    /// Wraps secrets.
    #[must_use]
    pub fn new(secrets: BTreeMap<String, SecretString>) -> Self {
        Self(Arc::new(secrets))
    }

    /// Returns one secret.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// Returns every secret with its name.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Keeps the credentials that agents and approvers never see.
///
/// Contract: returns the current secrets of the authority's system and of no other; may read a file or an
/// environment variable at each call; never logs what it returns.
pub trait Vault: Send + Sync + 'static {
    /// Opens the credential of the system that the authority is good for.
    ///
    /// # Errors
    /// [`VaultFault`] when there is none or it cannot be read.
    fn open(&self, authority: &dyn Authority) -> Result<Credential, VaultFault>;
}

/// A credential could not be opened. The fault carries no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the credential of system `{system}` cannot be opened: {why}")]
pub struct VaultFault {
    /// The credential is that of this system.
    pub system: SystemName,
    /// It could not be opened for this reason, without the secret.
    pub why: String,
}
