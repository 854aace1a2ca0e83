//! OAuth 2.1 access tokens are accepted: JSON Web Tokens of one configured issuer, for this server and no
//! other.
//!
//! Keys are never taken from the token: `jku`, `jwk` and `x5c` are not looked at. Only asymmetric algorithms
//! are accepted, so that a public key cannot be used as the secret of a symmetric one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_gate::Clock;
use jsonwebtoken::{
    Algorithm, DecodingKey, TokenData, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, RwLock};
use url::Url;

use super::issuer::{JwksPlace, OauthConfig};

/// These algorithms are accepted.
const ALGORITHMS: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// A token of more bytes is not looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// A key set that is fetched may have at most so many bytes.
const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Fetching the keys may take this long.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A token is not accepted for one of these reasons, none of which helps to forge one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the access token is no signed JSON Web Token")]
    Form,
    #[error("the access token is signed in a way that is not accepted")]
    Algorithm,
    #[error("the access token names no key of its issuer")]
    Key,
    #[error("the issuer's keys cannot be read: {0}")]
    Keys(String),
    #[error("the signature of the access token does not hold")]
    Signature,
    #[error("the access token is from another issuer")]
    Issuer,
    #[error("the access token is for another audience")]
    Audience,
    #[error("the access token has expired")]
    Expired,
    #[error("the access token is not valid yet")]
    NotYet,
    #[error("the access token has no `{0}` that names an agent")]
    Agent(String),
    #[error("the access token lacks scope `{0}`")]
    Scope(String),
}

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

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    nbf: Option<i64>,
    #[serde(default)]
    scope: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(audience) => audience == wanted,
            Self::Several(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

/// This accepts the access tokens of one issuer.
pub(crate) struct Tokens {
    config: OauthConfig,
    clock: Arc<dyn Clock>,
    client: reqwest::Client,
    keys: RwLock<Option<Keys>>,
    /// This is held while fetching, with the time of the last attempt.
    fetching: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Keys {
    set: Arc<JwkSet>,
    since: Instant,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Makes what accepts the tokens of one issuer. Keys are fetched when the first token comes.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one client that reads an issuer's keys: one fixed URL"
    )]
    pub(crate) fn new(config: OauthConfig, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder();
        if let Some(ca) = &config.ca {
            let trusted = countersign_tools::tls::authorities(ca)?;
            let trusted = trusted.iter().map(|certificate| reqwest::Certificate::from_der(certificate));
            let trusted: Vec<_> = trusted.collect::<Result<_, _>>().map_err(|why| why.to_string())?;
            builder = builder.tls_certs_only(trusted);
        }
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(FETCH_TIMEOUT)
            .build()
            .map_err(|why| why.to_string())?;
        Ok(Self { config, clock, client, keys: RwLock::new(None), fetching: Mutex::new(None) })
    }

    /// Returns the issuer, as it is configured.
    pub(crate) const fn issuer(&self) -> &OauthConfig {
        &self.config
    }

    /// Accepts a token or says why not.
    pub(crate) async fn accept(&self, token: &str) -> Result<Accepted, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Form);
        }
        let header = decode_header(token).map_err(|_form| TokenError::Form)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        // An extension that must be understood and is not: refuse (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(TokenError::Form);
        }
        let typ = header.typ.as_deref().unwrap_or("jwt").to_ascii_lowercase();
        if !matches!(typ.as_str(), "jwt" | "at+jwt" | "application/at+jwt") {
            return Err(TokenError::Form);
        }
        let key = self.key(header.kid.as_deref(), header.alg).await?;
        let claims = verify(token, &key, header.alg)?;
        self.judge(&claims)
    }

    /// Reads the issuer's keys, and says why no token could be accepted with them.
    pub(crate) async fn try_out(&self) -> Result<(), String> {
        let set = self.fetch(None).await.map_err(|why| why.to_string())?;
        let signs = |jwk: &&Jwk| !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
        let usable =
            set.keys.iter().filter(signs).any(|jwk| ALGORITHMS.iter().any(|&algorithm| fits(jwk, algorithm)));
        if usable { Ok(()) } else { Err("the issuer has no key for RS256, ES256 or EdDSA".into()) }
    }

    /// Judges everything about the token but its signature.
    fn judge(&self, claims: &Claims) -> Result<Accepted, TokenError> {
        let config = &self.config;
        if claims.iss != config.issuer {
            return Err(TokenError::Issuer);
        }
        if !claims.aud.names(&config.audience) {
            return Err(TokenError::Audience);
        }
        let leeway = i64::try_from(config.leeway.as_millis()).unwrap_or(0);
        let now_ms = self.clock.now_ms();
        let expires_ms = claims.exp.saturating_mul(1_000).saturating_add(leeway);
        if expires_ms <= now_ms {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf.saturating_mul(1_000).saturating_sub(leeway) > now_ms) {
            return Err(TokenError::NotYet);
        }
        if let Some(wanted) = &config.scope
            && !claims.scope.split(' ').any(|scope| scope == wanted)
        {
            return Err(TokenError::Scope(wanted.clone()));
        }
        let text = |claim: &str| claims.more.get(claim).and_then(Value::as_str).map(str::to_owned);
        let agent = text(&config.agent_claim).ok_or_else(|| TokenError::Agent(config.agent_claim.clone()))?;
        Ok(Accepted { subject: text("sub").unwrap_or_else(|| agent.clone()), agent, expires_ms })
    }

    async fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Jwk, TokenError> {
        let known = self.keys.read().await.clone();
        if let Some(keys) = &known
            && keys.since.elapsed() < self.config.keys_age_max
            && let Some(jwk) = choose(&keys.set, kid, algorithm)
        {
            return Ok(jwk);
        }
        let set = self.fetch(known.as_ref()).await?;
        choose(&set, kid, algorithm).ok_or(TokenError::Key)
    }

    /// Reads the keys again, unless somebody just did.
    async fn fetch(&self, seen: Option<&Keys>) -> Result<Arc<JwkSet>, TokenError> {
        let mut last = self.fetching.lock().await;
        let current = self.keys.read().await.clone();
        if let Some(keys) = current
            && seen.is_none_or(|seen| keys.since > seen.since)
        {
            return Ok(keys.set);
        }
        if last.is_some_and(|last| last.elapsed() < self.config.refetch_pause) {
            // Too soon: what is known counts as long as it is fresh.
            return match seen {
                Some(keys) if keys.since.elapsed() < self.config.keys_age_max => Ok(Arc::clone(&keys.set)),
                Some(_) | None => Err(TokenError::Keys("trying again in a moment".into())),
            };
        }
        let now = Instant::now();
        *last = Some(now);
        let set = match &self.config.jwks {
            JwksPlace::File(path) => {
                let bytes = tokio::fs::read(path)
                    .await
                    .map_err(|why| TokenError::Keys(format!("`{}`: {why}", path.display())))?;
                key_set(&bytes)?
            }
            JwksPlace::Url(url) => key_set(&self.download(url).await?)?,
        };
        let keys = Keys { set: Arc::new(set), since: now };
        *self.keys.write().await = Some(keys.clone());
        Ok(keys.set)
    }

    async fn download(&self, url: &Url) -> Result<Vec<u8>, TokenError> {
        let fault = |why: &dyn std::fmt::Display| TokenError::Keys(format!("`{url}`: {why}"));
        let mut answer = self.client.get(url.clone()).send().await.map_err(|why| fault(&why))?;
        if !answer.status().is_success() {
            return Err(fault(&format_args!("the answer is {}", answer.status())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|why| fault(&why))? {
            if bytes.len().saturating_add(chunk.len()) > JWKS_BYTES_MAX {
                return Err(fault(&format_args!("the answer is larger than {JWKS_BYTES_MAX} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn key_set(bytes: &[u8]) -> Result<JwkSet, TokenError> {
    serde_json::from_slice(bytes).map_err(|why| TokenError::Keys(format!("this is no key set: {why}")))
}

/// Returns the key a token names. A token may leave its name out only when there is one key.
fn choose(set: &JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<Jwk> {
    let fits = |jwk: &&Jwk| fits(jwk, algorithm);
    match (kid, set.keys.as_slice()) {
        (Some(kid), _) => set.find(kid).filter(fits).cloned(),
        (None, [one]) => Some(one).filter(fits).cloned(),
        (None, _) => None,
    }
}

/// Tells whether a key is for signatures of an algorithm that is accepted, as far as it says.
fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let use_fits = !matches!(&jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
    let wanted = if algorithm == Algorithm::RS256 {
        KeyAlgorithm::RS256
    } else if algorithm == Algorithm::ES256 {
        KeyAlgorithm::ES256
    } else if algorithm == Algorithm::EdDSA {
        KeyAlgorithm::EdDSA
    } else {
        return false;
    };
    use_fits && jwk.common.key_algorithm.is_none_or(|named| named == wanted)
}

fn verify(token: &str, jwk: &Jwk, algorithm: Algorithm) -> Result<Claims, TokenError> {
    let key = DecodingKey::from_jwk(jwk).map_err(|_unusable| TokenError::Key)?;
    let mut validation = Validation::new(algorithm);
    // The claims are judged here, with our clock and our words.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let TokenData { claims, .. } = decode::<Claims>(token, &key, &validation).map_err(|why| {
        if matches!(why.kind(), ErrorKind::InvalidSignature) {
            TokenError::Signature
        } else if matches!(why.kind(), ErrorKind::InvalidAlgorithm) {
            TokenError::Algorithm
        } else {
            TokenError::Form
        }
    })?;
    Ok(claims)
}
