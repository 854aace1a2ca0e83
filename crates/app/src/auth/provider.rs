//! Identity providers by which people sign in (OpenID Connect, code flow): where they are, what they say, and which of it
//! counts here.
//!
//! A provider vouches for a person by a subject that the configuration names, never by an address or a name that somebody
//! may choose there. Nothing here knows the ledger: [`super::Accounts`] begins and ends sessions.

mod discovery;
mod flight;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use countersign_gate::Clock;
use countersign_rules::GroupName;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;
use url::Url;

pub(super) use self::discovery::part;
use self::discovery::{Discovered, Discovery};
pub(super) use self::flight::{FLIGHT_MS, Flight, Sealing};
use super::jwks::{Claims, Expected, IssuerClient, IssuerKeys, TokenError};

/// ID tokens say that they are of this type, or of none.
const ID_TOKEN: &[&str] = &["jwt"];
/// Logout tokens say that they are of one of these types, or of none.
const LOGOUT_TOKEN: &[&str] = &["jwt", "logout+jwt", "application/logout+jwt"];
/// The event that a logout token is about.
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// A logout token that is good for longer is not taken: it would have to be remembered for as long.
const LOGOUT_MS_MAX: i64 = 86_400_000;
/// What a provider calls people, sessions and orders has at most so many bytes (OpenID Connect Core, 2).
const NAME_BYTES_MAX: usize = 255;
/// So many groups of one person are looked at.
const GROUPS_MAX: usize = 10_000;

/// A provider is configured so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderConfig {
    /// People know it by this name.
    pub title: String,
    /// `iss` names it so, and its metadata is below this address.
    pub issuer: Url,
    /// The issuer as it is written: `iss` must say it to the letter.
    pub issuer_written: String,
    /// The provider knows this server by this id.
    pub client_id: String,
    /// The provider sends people back to this address of ours.
    pub redirect_uri: String,
    /// These scopes are asked for.
    pub scopes: Vec<String>,
    /// This claim names the person.
    pub person_claim: String,
    /// This claim has the person's groups, if any count.
    pub groups_claim: Option<String>,
    /// Each of the provider's groups that counts, with those of ours that it stands for.
    pub groups: BTreeMap<String, BTreeSet<GroupName>>,
    /// Clocks may differ by so much.
    pub leeway: Duration,
    /// This PEM file has the certificates that the provider is trusted by; if there is none, those that the machine trusts
    /// are used.
    pub ca: Option<PathBuf>,
    /// Metadata and keys are used for so long before they are read again.
    pub keys_age_max: Duration,
    /// Between two readings passes at least this time.
    pub refetch_pause: Duration,
}

impl ProviderConfig {
    /// Returns the groups of ours that a sign-in may bring.
    #[must_use]
    pub fn brings(&self) -> BTreeSet<GroupName> {
        self.groups.values().flatten().cloned().collect()
    }
}

/// Something went wrong between us and a provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProviderFault {
    /// The provider cannot be asked, or answers what it should not.
    #[error("the provider cannot be asked now: {0}")]
    Away(String),
    /// The provider does not vouch for anybody.
    #[error("{0}")]
    Denied(String),
    /// What it signed is not accepted.
    #[error("what the provider signed is not accepted: {0}")]
    Token(#[from] TokenError),
}

/// What came back with a person from a provider, in the query.
#[derive(Debug, Default, Deserialize)]
pub struct CameBack {
    /// The sign-in that this is the end of.
    pub state: Option<String>,
    /// What the provider vouches by.
    pub code: Option<String>,
    /// The provider that says so (RFC 9207).
    pub iss: Option<String>,
    /// Why it does not vouch.
    pub error: Option<String>,
}

/// A provider vouches for somebody so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VouchedFor {
    pub(super) subject: String,
    pub(super) sub: String,
    pub(super) sid: Option<String>,
    pub(super) groups: BTreeSet<GroupName>,
    pub(super) issued_s: i64,
}

/// A provider orders to end sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogoutOrder {
    pub(super) sub: Option<String>,
    pub(super) sid: Option<String>,
    pub(super) jti: String,
    pub(super) issued_s: i64,
    pub(super) expires_ms: i64,
}

/// A provider, with what it has published.
pub(crate) struct Provider {
    pub(super) config: ProviderConfig,
    secret: Option<SecretString>,
    clock: Arc<dyn Clock>,
    client: IssuerClient,
    keys: IssuerKeys,
    discovery: Mutex<Discovery>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.config.issuer_written).finish_non_exhaustive()
    }
}

impl Provider {
    /// Makes a provider. Nothing is fetched before somebody signs in.
    pub(super) fn new(
        config: ProviderConfig,
        secret: Option<SecretString>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let client = IssuerClient::new(config.ca.as_deref())?;
        let keys = IssuerKeys::new(client.clone(), config.keys_age_max, config.refetch_pause);
        Ok(Self { config, secret, clock, client, keys, discovery: Mutex::default() })
    }

    /// Reads what the provider publishes, and says why nobody could sign in by it.
    pub(super) async fn try_out(&self) -> Result<(), String> {
        let found = self.discovered().await.map_err(|why| why.to_string())?;
        self.keys.try_out(&found.jwks).await
    }

    async fn discovered(&self) -> Result<Arc<Discovered>, ProviderFault> {
        let mut discovery = self.discovery.lock().await;
        discovery.get(&self.client, &self.config).await.map_err(ProviderFault::Away)
    }

    /// Returns where a person goes to sign in.
    pub(super) async fn leave_for(&self, flight: &Flight) -> Result<Url, ProviderFault> {
        let mut url = self.discovered().await?.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", &self.config.redirect_uri)
            .append_pair("scope", &self.config.scopes.join(" "))
            .append_pair("state", &flight.state)
            .append_pair("nonce", &flight.nonce)
            .append_pair("code_challenge", &flight.challenge())
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Tells for whom the provider vouches that this browser was sent to.
    pub(super) async fn vouched_for(
        &self,
        flight: &Flight,
        back: &CameBack,
    ) -> Result<VouchedFor, ProviderFault> {
        let found = self.discovered().await?;
        let same = match &back.iss {
            Some(iss) => *iss == self.config.issuer_written,
            // Who promises to say it and does not is somebody else.
            None => !found.says_iss,
        };
        if !same {
            return Err(ProviderFault::Denied("the answer is of another provider".into()));
        }
        if let Some(error) = &back.error {
            return Err(ProviderFault::Denied(format!("the provider says `{}`", error_code(error))));
        }
        let code = back.code.as_deref().filter(|code| !code.is_empty());
        let code = code.ok_or_else(|| ProviderFault::Denied("the provider vouches for nobody".into()))?;
        let token = self.redeem(&found, flight, code).await?;
        let claims = self.keys.verified(&token, &found.jwks, ID_TOKEN).await?;
        self.judge(flight, &claims)
    }

    /// Exchanges a code for an ID token, server to server.
    async fn redeem(&self, found: &Discovered, flight: &Flight, code: &str) -> Result<String, ProviderFault> {
        let request = self.redemption(found, flight, code);
        // The body has the code and the verifier, and is no part of what is said.
        let away = |why: &dyn std::fmt::Display| ProviderFault::Away(format!("`{}`: {why}", found.token));
        let answer = request.send().await.map_err(|why| away(&why.without_url()))?;
        let status = answer.status();
        let bytes = IssuerClient::read(answer).await.map_err(|why| away(&why))?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success()
            && let Some(token) = body.get("id_token").and_then(Value::as_str)
        {
            return Ok(token.to_owned());
        }
        match body.get("error").and_then(Value::as_str) {
            // The code, and so whoever brought it, is at fault. Everything else is between the provider and us.
            Some("invalid_grant") => {
                Err(ProviderFault::Denied("the provider does not know the code any more".into()))
            }
            Some(error) => Err(away(&format_args!("it says `{}`", error_code(error)))),
            None if status.is_success() => Err(away(&"the answer has no `id_token`")),
            None => Err(away(&format_args!("the answer is {status}"))),
        }
    }

    fn redemption(&self, found: &Discovered, flight: &Flight, code: &str) -> reqwest::RequestBuilder {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &self.config.redirect_uri)
            .append_pair("code_verifier", &flight.verifier);
        let mut request = self.client.post(&found.token);
        match &self.secret {
            // Both are escaped before they are joined (RFC 6749, 2.3.1).
            Some(secret) => {
                let id = escaped(&self.config.client_id);
                request = request.basic_auth(id, Some(escaped(secret.expose_secret())));
            }
            None => {
                form.append_pair("client_id", &self.config.client_id);
            }
        }
        request
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(http::header::ACCEPT, "application/json")
            .body(form.finish())
    }

    fn expected(&self, now_ms: i64) -> Expected<'_> {
        let ProviderConfig { issuer_written, client_id, leeway, .. } = &self.config;
        Expected { issuer: issuer_written.as_str(), audience: client_id.as_str(), leeway: *leeway, now_ms }
    }

    /// Judges everything about an ID token but its signature.
    fn judge(&self, flight: &Flight, claims: &Claims) -> Result<VouchedFor, ProviderFault> {
        let denied = |why: &str| Err(ProviderFault::Denied(why.to_owned()));
        let now_ms = self.clock.now_ms();
        self.expected(now_ms).judge(claims)?;
        match claims.get("azp").map(Value::as_str) {
            Some(azp) if azp != Some(self.config.client_id.as_str()) => {
                return denied("the ID token was made for another client");
            }
            None if claims.has_other_audiences() => {
                return denied("the ID token is for several clients and does not say for which it was made");
            }
            Some(_) | None => {}
        }
        let nonce = claims.text("nonce").unwrap_or_default();
        if !bool::from(nonce.as_bytes().ct_eq(flight.nonce.as_bytes())) {
            return denied("the ID token is not of this sign-in");
        }
        let issued_s = issued_s(claims)?;
        let leeway = i64::try_from(self.config.leeway.as_millis()).unwrap_or(0);
        let issued_ms = issued_s.saturating_mul(1_000);
        // It is made when the code is exchanged, or a little before; its seconds are whole.
        if issued_ms > now_ms.saturating_add(leeway)
            || issued_ms < flight.begun_ms.saturating_sub(leeway).saturating_sub(1_000)
        {
            return denied(
                "the ID token was issued at another time: clocks differ, or it is not of this sign-in",
            );
        }
        let sub = named(claims, "sub")?;
        let subject = named(claims, &self.config.person_claim)?;
        let sid = match claims.get("sid") {
            Some(_) => Some(named(claims, "sid")?),
            None => None,
        };
        Ok(VouchedFor { subject, sub, sid, groups: self.groups(claims)?, issued_s })
    }

    /// Returns the groups of ours that the person's groups there stand for. What nobody mapped is nothing here.
    fn groups(&self, claims: &Claims) -> Result<BTreeSet<GroupName>, ProviderFault> {
        let Some(claim) = &self.config.groups_claim else { return Ok(BTreeSet::new()) };
        let odd =
            || ProviderFault::Denied(format!("the claim `{claim}` of the ID token is no list of texts"));
        let theirs = match claims.get(claim) {
            None => return Ok(BTreeSet::new()),
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(several)) if several.len() <= GROUPS_MAX => {
                several.iter().map(|group| group.as_str().ok_or_else(odd)).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(odd()),
        };
        Ok(theirs.into_iter().filter_map(|group| self.config.groups.get(group)).flatten().cloned().collect())
    }

    /// Reads an order to end sessions (OpenID Connect Back-Channel Logout 1.0, 2.6).
    pub(super) async fn ordered(&self, token: &str) -> Result<LogoutOrder, ProviderFault> {
        let found = self.discovered().await?;
        let claims = self.keys.verified(token, &found.jwks, LOGOUT_TOKEN).await?;
        let denied = |why: &str| Err(ProviderFault::Denied(why.to_owned()));
        let now_ms = self.clock.now_ms();
        let expires_ms = self.expected(now_ms).judge(&claims)?;
        let issued_s = issued_s(&claims)?;
        let leeway = i64::try_from(self.config.leeway.as_millis()).unwrap_or(0);
        if issued_s.saturating_mul(1_000) > now_ms.saturating_add(leeway) {
            return denied("the logout token is not valid yet");
        }
        if expires_ms.saturating_sub(now_ms) > LOGOUT_MS_MAX.saturating_add(leeway) {
            return denied("the logout token is good for more than a day");
        }
        if !claims.get("events").and_then(|events| events.get(LOGOUT_EVENT)).is_some_and(Value::is_object) {
            return denied("the token is about no logout");
        }
        // An ID token has one; a logout token must not, so that neither passes for the other.
        if claims.get("nonce").is_some() {
            return denied("a logout token has no `nonce`");
        }
        let optional = |claim: &str| match claims.get(claim) {
            Some(_) => named(&claims, claim).map(Some),
            None => Ok(None),
        };
        let (sub, sid) = (optional("sub")?, optional("sid")?);
        if sub.is_none() && sid.is_none() {
            return denied("the logout token says neither `sub` nor `sid`");
        }
        Ok(LogoutOrder { sub, sid, jti: named(&claims, "jti")?, issued_s, expires_ms })
    }
}

/// Returns when a token was issued, in Unix seconds UTC.
fn issued_s(claims: &Claims) -> Result<i64, ProviderFault> {
    let issued = claims.get("iat").and_then(Value::as_number);
    let whole = issued.and_then(|at| at.as_i64().or_else(|| at.to_string().split('.').next()?.parse().ok()));
    whole.ok_or_else(|| ProviderFault::Denied("the token does not say when it was issued".into()))
}

/// Returns a claim that names something: a text that is neither empty nor too long.
fn named(claims: &Claims, claim: &str) -> Result<String, ProviderFault> {
    let text = claims.text(claim).filter(|text| !text.is_empty() && text.len() <= NAME_BYTES_MAX);
    text.map(str::to_owned)
        .ok_or_else(|| ProviderFault::Denied(format!("the token has no `{claim}` that names anything")))
}

/// Returns what may be shown of the code of an error that somebody sent.
fn error_code(error: &str) -> String {
    let shown: String =
        error.chars().take(60).filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).collect();
    if shown.is_empty() { "an error".into() } else { shown }
}

fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
