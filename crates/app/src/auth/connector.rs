//! What people do in Microsoft Teams is brought by the Bot Framework's connector, which shows a token of its own: who signs it,
//! and with which keys, is in its metadata (OpenID Connect Discovery).
//!
//! The token says who brings something, for which bot, and from which service. It does not sign what is brought.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_gate::Clock;
use countersign_rules::Refusal;
use http::HeaderMap;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::{
    bearer,
    issuer::JwksPlace,
    jwks::{Expected, IssuerClient, IssuerKeys},
    provider::part,
    unauthenticated,
};

/// Its tokens say that they are of this type, or of none.
const TYPES: &[&str] = &["jwt"];
/// A key must be endorsed for this channel of the Bot Framework: others sign for other messengers.
const ENDORSED_FOR: &str = "msteams";
/// The claim with the address of the service, in the spellings that are in use.
const SERVICE_CLAIMS: [&str; 2] = ["serviceurl", "serviceUrl"];

/// The connector that brings what people do is configured so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorConfig {
    /// `iss` names it so.
    pub issuer: String,
    /// Its metadata is here.
    pub metadata: Url,
    /// `aud` must name this bot.
    pub app_id: String,
    /// The service that brings it, as the token says it, without a slash at the end.
    pub service: String,
    /// Clocks may differ by so much.
    pub leeway: Duration,
    /// This PEM file has the certificates that it is trusted by; if there is none, those that the machine trusts are used.
    pub ca: Option<PathBuf>,
    /// Metadata and keys are used for so long before they are read again.
    pub keys_age_max: Duration,
    /// Between two readings passes at least this time.
    pub refetch_pause: Duration,
}

/// Tells whether the connector has brought something.
pub struct Connector {
    config: ConnectorConfig,
    clock: Arc<dyn Clock>,
    client: IssuerClient,
    keys: IssuerKeys,
    published: Mutex<Published>,
}

/// Where the keys are, as it was read last; and when that was tried.
#[derive(Default)]
struct Published {
    found: Option<(JwksPlace, Instant)>,
    tried: Option<Instant>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Connector {
    /// Makes what looks at the connector's tokens. Metadata and keys are read when the first one comes.
    ///
    /// # Errors
    /// Returns why the client that reads them cannot be made.
    pub fn new(config: ConnectorConfig, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let client = IssuerClient::new(config.ca.as_deref())?;
        let keys = IssuerKeys::new(client.clone(), config.keys_age_max, config.refetch_pause)
            .endorsed_for(ENDORSED_FOR);
        Ok(Self { config, clock, client, keys, published: Mutex::default() })
    }

    /// Checks the token in these headers. Returns until when it is good, in Unix milliseconds UTC.
    ///
    /// # Errors
    /// Returns [`countersign_rules::Code::Unauthenticated`] for everything that is no good token of the connector.
    pub async fn accept(&self, headers: &HeaderMap) -> Result<i64, Refusal> {
        let token = bearer(headers)?;
        let place = self.place().await.map_err(|why| {
            unauthenticated(&format!("who brings what people do in Teams cannot be looked up: {why}"))
        })?;
        let not_accepted = |why: &dyn std::fmt::Display| unauthenticated(&why.to_string());
        let claims = self.keys.verified(token, &place, TYPES).await.map_err(|why| not_accepted(&why))?;
        let ConnectorConfig { issuer, app_id, leeway, service, .. } = &self.config;
        let expected = Expected { issuer, audience: app_id, leeway: *leeway, now_ms: self.clock.now_ms() };
        let expires_ms = expected.judge(&claims).map_err(|why| not_accepted(&why))?;
        if claims.has_other_audiences() {
            return Err(unauthenticated("the token is for others as well"));
        }
        let said = SERVICE_CLAIMS.iter().find_map(|claim| claims.text(claim)).unwrap_or_default();
        if said.trim_end_matches('/') != service {
            return Err(unauthenticated("the token is of another service"));
        }
        Ok(expires_ms)
    }

    /// Returns where the keys are.
    async fn place(&self) -> Result<JwksPlace, String> {
        let mut known = self.published.lock().await;
        if let Some((place, since)) = &known.found
            && since.elapsed() < self.config.keys_age_max
        {
            return Ok(place.clone());
        }
        if known.tried.is_some_and(|since| since.elapsed() < self.config.refetch_pause) {
            return Err("trying again in a moment".into());
        }
        let now = Instant::now();
        known.tried = Some(now);
        let place = self.read().await?;
        known.found = Some((place.clone(), now));
        Ok(place)
    }

    async fn read(&self) -> Result<JwksPlace, String> {
        let url = &self.config.metadata;
        let bytes = self.client.get(url).await?;
        let metadata: Metadata =
            serde_json::from_slice(&bytes).map_err(|why| format!("`{url}` describes no issuer: {why}"))?;
        if metadata.issuer != self.config.issuer {
            return Err(format!("`{url}` describes another issuer"));
        }
        let keys = part(&metadata.jwks_uri, url)
            .ok_or_else(|| format!("the `jwks_uri` in `{url}` is not encrypted, or no address"))?;
        Ok(JwksPlace::Url(keys))
    }
}
