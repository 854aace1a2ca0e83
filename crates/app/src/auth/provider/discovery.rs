//! What a provider publishes of itself (OpenID Connect Discovery 1.0), read when it is needed and kept for a while.

use std::{sync::Arc, time::Instant};

use serde::Deserialize;
use url::Url;

use super::ProviderConfig;
use crate::auth::{issuer::JwksPlace, jwks::IssuerClient};

/// Where the parts of a provider are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Discovered {
    pub(super) authorization: Url,
    pub(super) token: Url,
    pub(super) jwks: JwksPlace,
    /// The provider says with each answer who it is (RFC 9207).
    pub(super) says_iss: bool,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// What was read last, and when it was tried.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    found: Option<(Arc<Discovered>, Instant)>,
    tried: Option<(Instant, String)>,
}

impl Discovery {
    pub(super) async fn get(
        &mut self,
        client: &IssuerClient,
        config: &ProviderConfig,
    ) -> Result<Arc<Discovered>, String> {
        if let Some((found, since)) = &self.found
            && since.elapsed() < config.keys_age_max
        {
            return Ok(Arc::clone(found));
        }
        if let Some((since, why)) = &self.tried
            && since.elapsed() < config.refetch_pause
        {
            return Err(why.clone());
        }
        let now = Instant::now();
        match read(client, config).await {
            Ok(found) => {
                let found = Arc::new(found);
                self.found = Some((Arc::clone(&found), now));
                Ok(found)
            }
            Err(why) => {
                self.tried = Some((now, why.clone()));
                Err(why)
            }
        }
    }
}

async fn read(client: &IssuerClient, config: &ProviderConfig) -> Result<Discovered, String> {
    let base = config.issuer_written.trim_end_matches('/');
    let place = format!("{base}/.well-known/openid-configuration");
    let url = Url::parse(&place).map_err(|why| format!("`{place}`: {why}"))?;
    let bytes = client.get(&url).await?;
    let metadata: Metadata =
        serde_json::from_slice(&bytes).map_err(|why| format!("`{place}` describes no provider: {why}"))?;
    if metadata.issuer != config.issuer_written {
        return Err(format!("`{place}` describes another provider"));
    }
    let endpoint = |name: &str, text: &str| {
        part(text, &config.issuer)
            .ok_or_else(|| format!("the `{name}` in `{place}` is not encrypted, or no address"))
    };
    Ok(Discovered {
        authorization: endpoint("authorization_endpoint", &metadata.authorization_endpoint)?,
        token: endpoint("token_endpoint", &metadata.token_endpoint)?,
        jwks: JwksPlace::Url(endpoint("jwks_uri", &metadata.jwks_uri)?),
        says_iss: metadata.authorization_response_iss_parameter_supported,
    })
}

/// Returns the address of a part of a provider: encrypted, or on this machine where the provider is.
pub(in crate::auth) fn part(text: &str, issuer: &Url) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let here = |url: &Url| match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let guarded =
        url.scheme() == "https" || (url.scheme() == "http" && here(&url) && issuer.scheme() == "http");
    (plain && guarded).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_provider_are_encrypted_or_here() {
        let (far, here) =
            (Url::parse("https://idp.example").unwrap(), Url::parse("http://127.0.0.1:1").unwrap());
        assert!(part("https://elsewhere.example/keys", &far).is_some());
        assert!(
            part("http://127.0.0.1:2/keys", &here).is_some() && part("http://localhost/", &here).is_some()
        );
        for bad in [
            "http://idp.example/keys",
            "http://127.0.0.1/keys",
            "file:///etc/passwd",
            "/keys",
            "https://a:b@c/",
        ] {
            assert!(part(bad, &far).is_none(), "{bad}");
        }
        assert!(part("http://idp.example/", &here).is_none());
    }
}
