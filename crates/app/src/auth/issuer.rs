//! The issuer of agents' access tokens is configured so.

use std::{path::PathBuf, time::Duration};

use url::Url;

/// Agents may present access tokens of this issuer, and this of them is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthConfig {
    /// `iss` names the authorization server so.
    pub issuer: String,
    /// `aud` must name this server so (RFC 8707).
    pub audience: String,
    /// The issuer's keys are in this place.
    pub jwks: JwksPlace,
    /// This claim names the agent.
    pub agent_claim: String,
    /// Every token must have this scope, if one is set.
    pub scope: Option<String>,
    /// Clocks may differ by so much.
    pub leeway: Duration,
    /// This PEM file has the certificates that `jwks_url` is trusted by; if there is none, those that the
    /// machine trusts are used.
    pub ca: Option<PathBuf>,
    /// Keys are used for so long before they are read again, so that a withdrawn one goes out of use.
    pub keys_age_max: Duration,
    /// Between two readings of the keys passes at least this time, however many tokens name an unknown key:
    /// tokens are free to make up.
    pub refetch_pause: Duration,
}

/// An issuer's keys are in one of these places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksPlace {
    /// They are fetched, and again when they are too old or a token names a key that is not there.
    Url(Url),
    /// They are read from this file, and again on the same occasions.
    File(PathBuf),
}
