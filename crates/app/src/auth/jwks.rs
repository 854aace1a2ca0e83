//! What an issuer signs is verified here, by keys that come from the issuer's own place and from no token: `jku`, `jwk` and
//! `x5c` are not looked at. Only asymmetric algorithms are accepted, so that a public key cannot be used as the secret of a
//! symmetric one. Access tokens of agents, ID tokens and logout tokens of people's providers are all verified so.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, TokenData, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, RwLock};
use url::Url;

use super::issuer::JwksPlace;

/// These algorithms are accepted.
const ALGORITHMS: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// A token of more bytes is not looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// What is fetched of an issuer may have at most so many bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Fetching may take this long.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A token is not accepted for one of these reasons, none of which helps to forge one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token is no signed JSON Web Token")]
    Form,
    #[error("the token is signed in a way that is not accepted")]
    Algorithm,
    #[error("the token names no key of its issuer")]
    Key,
    #[error("the issuer's keys cannot be read: {0}")]
    Keys(String),
    #[error("the signature of the token does not hold")]
    Signature,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the access token has no `{0}` that names an agent")]
    Agent(String),
    #[error("the access token lacks scope `{0}`")]
    Scope(String),
}

/// A token whose signature holds says this.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    nbf: Option<i64>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Claims {
    /// Returns a claim beside those that every token has.
    pub(crate) fn get(&self, claim: &str) -> Option<&Value> {
        self.more.get(claim)
    }

    /// Returns a claim that is a text.
    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.get(claim).and_then(Value::as_str)
    }

    /// Returns true if the token is for others as well.
    pub(crate) fn has_other_audiences(&self) -> bool {
        matches!(&self.aud, Audience::Several(audiences) if audiences.len() > 1)
    }

    fn is_for(&self, wanted: &str) -> bool {
        match &self.aud {
            Audience::One(audience) => audience == wanted,
            Audience::Several(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

/// A token must be of this issuer, for this audience, and good now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) leeway: Duration,
    pub(crate) now_ms: i64,
}

impl Expected<'_> {
    /// Judges what every token says. Returns until when it is good, in Unix milliseconds UTC.
    pub(crate) fn judge(&self, claims: &Claims) -> Result<i64, TokenError> {
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        if !claims.is_for(self.audience) {
            return Err(TokenError::Audience);
        }
        let leeway = i64::try_from(self.leeway.as_millis()).unwrap_or(0);
        let expires_ms = claims.exp.saturating_mul(1_000).saturating_add(leeway);
        if expires_ms <= self.now_ms {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf.saturating_mul(1_000).saturating_sub(leeway) > self.now_ms) {
            return Err(TokenError::NotYet);
        }
        Ok(expires_ms)
    }
}

/// Asks issuers: for keys, metadata and tokens. It follows no redirect and uses no proxy.
#[derive(Debug, Clone)]
pub(crate) struct IssuerClient(reqwest::Client);

impl IssuerClient {
    /// Makes a client that trusts the certificates in `ca`, or what the machine trusts.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one client that asks issuers: at their configured addresses"
    )]
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder();
        if let Some(ca) = ca {
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
        Ok(Self(client))
    }

    /// Begins a request that changes something.
    pub(crate) fn post(&self, url: &Url) -> reqwest::RequestBuilder {
        self.0.post(url.clone())
    }

    /// Fetches a document.
    pub(crate) async fn get(&self, url: &Url) -> Result<Vec<u8>, String> {
        let fault = |why: &dyn std::fmt::Display| format!("`{url}`: {why}");
        let answer = self.0.get(url.clone()).send().await.map_err(|why| fault(&why))?;
        if !answer.status().is_success() {
            return Err(fault(&format_args!("the answer is {}", answer.status())));
        }
        Self::read(answer).await.map_err(|why| fault(&why))
    }

    /// Reads an answer that is no larger than it should be.
    pub(crate) async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|why| why.to_string())? {
            if bytes.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
                return Err(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The keys of one issuer, as they are published.
pub(crate) struct IssuerKeys {
    client: IssuerClient,
    age_max: Duration,
    refetch_pause: Duration,
    /// Only keys that are endorsed for this are keys at all; every key where there is none.
    endorsement: Option<&'static str>,
    keys: RwLock<Option<Keys>>,
    /// This is held while fetching, with the time of the last attempt.
    fetching: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Keys {
    set: Arc<JwkSet>,
    place: JwksPlace,
    since: Instant,
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerKeys").finish_non_exhaustive()
    }
}

impl IssuerKeys {
    /// Keys are read when the first token comes, again after `age_max`, and not within `refetch_pause` of the last time.
    pub(crate) fn new(client: IssuerClient, age_max: Duration, refetch_pause: Duration) -> Self {
        let (keys, fetching) = (RwLock::new(None), Mutex::new(None));
        Self { client, age_max, refetch_pause, endorsement: None, keys, fetching }
    }

    /// Takes only keys whose `endorsements` name this, as the Bot Framework publishes them.
    pub(crate) const fn endorsed_for(mut self, endorsement: &'static str) -> Self {
        self.endorsement = Some(endorsement);
        self
    }

    /// Returns what a token says whose signature holds by a key in this place, where its header says that it is of one of
    /// these types, in lower case; one that says no type is a `jwt`.
    pub(crate) async fn verified(
        &self,
        token: &str,
        place: &JwksPlace,
        types: &[&str],
    ) -> Result<Claims, TokenError> {
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
        if !types.contains(&typ.as_str()) {
            return Err(TokenError::Form);
        }
        let key = self.key(place, header.kid.as_deref(), header.alg).await?;
        verify(token, &key, header.alg)
    }

    /// Reads the keys, and says why no token could be accepted with them.
    pub(crate) async fn try_out(&self, place: &JwksPlace) -> Result<(), String> {
        let set = self.fetch(place, None).await.map_err(|why| why.to_string())?;
        let signs = |jwk: &&Jwk| !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
        let usable =
            set.keys.iter().filter(signs).any(|jwk| ALGORITHMS.iter().any(|&algorithm| fits(jwk, algorithm)));
        if usable { Ok(()) } else { Err("the issuer has no key for RS256, ES256 or EdDSA".into()) }
    }

    async fn known(&self, place: &JwksPlace) -> Option<Keys> {
        self.keys.read().await.clone().filter(|keys| keys.place == *place)
    }

    async fn key(
        &self,
        place: &JwksPlace,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Jwk, TokenError> {
        let known = self.known(place).await;
        if let Some(keys) = &known
            && keys.since.elapsed() < self.age_max
            && let Some(jwk) = choose(&keys.set, kid, algorithm)
        {
            return Ok(jwk);
        }
        let set = self.fetch(place, known.as_ref()).await?;
        choose(&set, kid, algorithm).ok_or(TokenError::Key)
    }

    /// Reads the keys again, unless somebody just did.
    async fn fetch(&self, place: &JwksPlace, seen: Option<&Keys>) -> Result<Arc<JwkSet>, TokenError> {
        let mut last = self.fetching.lock().await;
        if let Some(keys) = self.known(place).await
            && seen.is_none_or(|seen| keys.since > seen.since)
        {
            return Ok(keys.set);
        }
        if last.is_some_and(|last| last.elapsed() < self.refetch_pause) {
            // Too soon: what is known counts as long as it is fresh.
            return match seen {
                Some(keys) if keys.since.elapsed() < self.age_max => Ok(Arc::clone(&keys.set)),
                Some(_) | None => Err(TokenError::Keys("trying again in a moment".into())),
            };
        }
        let now = Instant::now();
        *last = Some(now);
        let set = match place {
            JwksPlace::File(path) => {
                let bytes = tokio::fs::read(path)
                    .await
                    .map_err(|why| TokenError::Keys(format!("`{}`: {why}", path.display())))?;
                key_set(&bytes, self.endorsement)?
            }
            JwksPlace::Url(url) => {
                let bytes = self.client.get(url).await.map_err(TokenError::Keys)?;
                key_set(&bytes, self.endorsement)?
            }
        };
        let keys = Keys { set: Arc::new(set), place: place.clone(), since: now };
        *self.keys.write().await = Some(keys.clone());
        Ok(keys.set)
    }
}

fn key_set(bytes: &[u8], endorsement: Option<&str>) -> Result<JwkSet, TokenError> {
    let no_set = |why: serde_json::Error| TokenError::Keys(format!("this is no key set: {why}"));
    let Some(wanted) = endorsement else { return serde_json::from_slice(bytes).map_err(no_set) };
    let mut set: Value = serde_json::from_slice(bytes).map_err(no_set)?;
    let endorsed = |key: &Value| {
        let endorsements = key.get("endorsements").and_then(Value::as_array);
        endorsements.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(wanted)))
    };
    if let Some(keys) = set.get_mut("keys").and_then(Value::as_array_mut) {
        keys.retain(endorsed);
    }
    serde_json::from_value(set).map_err(no_set)
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
