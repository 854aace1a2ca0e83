//! The issuer of agents' access tokens, as it is configured.

use std::{path::PathBuf, time::Duration};

use url::Url;

/// The issuer whose access tokens agents may present, and what of them is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthConfig {
    /// The authorization server, as `iss` names it.
    pub issuer: String,
    /// What `aud` must name: this server (RFC 8707).
    pub audience: String,
    /// Where the issuer's keys are.
    pub jwks: JwksPlace,
    /// The claim that names the agent.
    pub agent_claim: String,
    /// A scope that every token must have.
    pub scope: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// A PEM file with the certificates that `jwks_url` is trusted by; those that the machine trusts if not said.
    pub ca: Option<PathBuf>,
    /// How long keys are used before they are read again, so that a withdrawn one goes out of use.
    pub keys_age_max: Duration,
    /// How often a token with an unknown key makes us read the keys again: tokens are free to make up.
    pub refetch_pause: Duration,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksPlace {
    /// Fetched, and again when a token names a key that is not there.
    Url(Url),
    /// Read once.
    File(PathBuf),
}
