//! OAuth 2.1 access tokens are accepted: JSON Web Tokens of one configured issuer, for this server and no
//! other.

use std::sync::Arc;

use countersign_gate::Clock;

use super::{
    issuer::OauthConfig,
    jwks::{Claims, Expected, IssuerClient, IssuerKeys, TokenError},
};

/// Access tokens say that they are of one of these types, or of none.
const TYPES: &[&str] = &["jwt", "at+jwt", "application/at+jwt"];

/// An accepted token says this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The configured claim names this agent.
    pub(crate) agent: String,
    /// The token has this subject, for the record; where it has none, this is the agent.
    pub(crate) subject: String,
    /// The token is good no more from this time on, in Unix milliseconds UTC; the leeway for clocks is added.
    pub(crate) expires_ms: i64,
}

/// This accepts the access tokens of one issuer.
pub(crate) struct Tokens {
    config: OauthConfig,
    clock: Arc<dyn Clock>,
    keys: IssuerKeys,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Makes what accepts the tokens of one issuer. Keys are fetched when the first token comes.
    pub(crate) fn new(config: OauthConfig, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let client = IssuerClient::new(config.ca.as_deref())?;
        let keys = IssuerKeys::new(client, config.keys_age_max, config.refetch_pause);
        Ok(Self { config, clock, keys })
    }

    /// Returns the issuer, as it is configured.
    pub(crate) const fn issuer(&self) -> &OauthConfig {
        &self.config
    }

    /// Accepts a token or says why not.
    pub(crate) async fn accept(&self, token: &str) -> Result<Accepted, TokenError> {
        self.judge(&self.keys.verified(token, &self.config.jwks, TYPES).await?)
    }

    /// Reads the issuer's keys, and says why no token could be accepted with them.
    pub(crate) async fn try_out(&self) -> Result<(), String> {
        self.keys.try_out(&self.config.jwks).await
    }

    /// Judges everything about the token but its signature.
    fn judge(&self, claims: &Claims) -> Result<Accepted, TokenError> {
        let OauthConfig { issuer, audience, leeway, .. } = &self.config;
        let expected = Expected { issuer, audience, leeway: *leeway, now_ms: self.clock.now_ms() };
        let expires_ms = expected.judge(claims)?;
        if let Some(wanted) = &self.config.scope
            && !claims.text("scope").unwrap_or_default().split(' ').any(|scope| scope == wanted)
        {
            return Err(TokenError::Scope(wanted.clone()));
        }
        let claim = &self.config.agent_claim;
        let agent = claims.text(claim).ok_or_else(|| TokenError::Agent(claim.clone()))?.to_owned();
        let subject = claims.text("sub").map_or_else(|| agent.clone(), str::to_owned);
        Ok(Accepted { agent, subject, expires_ms })
    }
}
