//! An HTTP API as a system: its tools share it.

use std::{fmt, sync::Arc, time::Duration};

use countersign_gate::{Upkeep, Vault};
use countersign_rules::SystemSpec;
use reqwest::{
    Client,
    header::{HeaderMap, HeaderName},
};

use super::{
    client::{check_base, client},
    definition::headers,
    send::{authorization, chain},
};
use crate::{
    declared::check_kind,
    definition::{DefinitionError, HttpAuth, HttpTarget, SystemDefinition, Target},
    secret::Scrubbers,
};

/// An HTTP API with its connections, shared by the tools on it.
pub struct HttpSystem {
    pub(super) spec: SystemSpec,
    pub(super) target: HttpTarget,
    pub(super) headers: HeaderMap,
    pub(super) vault: Arc<dyn Vault>,
    pub(super) scrubbers: Scrubbers,
    pub(super) reading: Client,
    pub(super) writing: Client,
}

impl fmt::Debug for HttpSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSystem").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl HttpSystem {
    /// Looks whether the API can be used right now: its credential is there and can be sent, and something answers at its
    /// address. Nothing is asked of it but the headers of its base address, without the credential.
    ///
    /// # Errors
    /// Says why not, without secrets.
    pub async fn try_out(&self, upkeep: &Upkeep) -> Result<(), String> {
        let credential = self.vault.open(upkeep).map_err(|fault| fault.to_string())?;
        if let Some(auth) = &self.target.auth {
            authorization(auth, &credential)?;
        }
        let request = self
            .reading
            .head(self.target.base_url.clone())
            .timeout(Duration::from_millis(self.target.limits.timeout_ms));
        match request.send().await {
            Ok(_whatever) => Ok(()),
            Err(error) => Err(self.scrubbers.of(&credential).clean(&chain(&error.without_url()).0)),
        }
    }

    /// Prepares an API. Nothing is connected yet.
    ///
    /// # Errors
    /// [`DefinitionError`] when the base URL or a header cannot be used.
    pub fn new(definition: &SystemDefinition, vault: Arc<dyn Vault>) -> Result<Arc<Self>, DefinitionError> {
        check_kind(definition)?;
        let spec = definition.spec.clone();
        let bad = |key: &str, why: String| DefinitionError::system(&spec.name, key, why);
        let Target::Http(target) = &definition.target else {
            return Err(bad("kind", "is no HTTP API".into()));
        };
        check_base(&target.base_url, target.allow_private).map_err(|why| bad("base_url", why.into()))?;
        let headers = headers(target.headers.iter()).map_err(|why| bad("headers", why))?;
        if let Some(HttpAuth::Header { name, .. }) = &target.auth
            && HeaderName::from_bytes(name.as_bytes()).is_err()
        {
            return Err(bad("auth", format!("`{name}` is no header name")));
        }
        let timeout = Duration::from_millis(target.limits.connect_timeout_ms);
        let make = |follow| {
            client(timeout, target.allow_private, follow, target.ca.as_deref())
                .map_err(|e| bad("base_url", format!("no client: {e}")))
        };
        Ok(Arc::new(Self {
            reading: make(target.follow_redirects)?,
            writing: make(false)?,
            scrubbers: match &target.auth {
                Some(HttpAuth::Basic { user, .. }) => Scrubbers::sent_for(user),
                Some(HttpAuth::Bearer { .. } | HttpAuth::Header { .. }) | None => Scrubbers::default(),
            },
            target: target.clone(),
            headers,
            vault,
            spec,
        }))
    }
}
