//! The one place that makes HTTP clients.

use std::{net::IpAddr, path::Path, time::Duration};

use reqwest::{Client, redirect};
use url::{Host, Url};

use super::address::{GuardedResolver, is_public};
use crate::tls::authorities;

/// How many redirects a read follows.
const REDIRECTS_MAX: usize = 3;
/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(60);

/// Checks that a URL can be the base of a system.
///
/// # Errors
/// Says what the URL is or has that no base may.
pub fn check_base(url: &Url, allow_private: bool) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "https" | "http") || url.cannot_be_a_base() {
        return Err("must start with `https://`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds credentials; they belong into the system's secrets");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or fragment");
    }
    if url.scheme() == "http" && !allow_private {
        return Err("is not `https://`, which only a system with `allow_private` may do without");
    }
    // A literal address never reaches the resolver.
    let literal: Option<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        Some(Host::Domain(_)) => None,
        None => return Err("names no host"),
    };
    if literal.is_some_and(|address| !allow_private && !is_public(address)) {
        return Err("is not a public address, which only a system with `allow_private` may name");
    }
    Ok(())
}

/// A client that connects only where it may, and trusts the certificates of `ca` alone where that is given. Proxies of the
/// environment are not used, cookies not kept.
///
/// # Errors
/// Says what is wrong with the file `ca`, or with the machine's own certificates.
#[expect(clippy::disallowed_methods, reason = "the one place that makes HTTP clients")]
pub fn client(
    connect_timeout: Duration,
    allow_private: bool,
    follow_redirects: bool,
    ca: Option<&Path>,
) -> Result<Client, String> {
    let redirects =
        if follow_redirects { redirect::Policy::custom(same_origin) } else { redirect::Policy::none() };
    let builder = match ca {
        None => Client::builder(),
        Some(ca) => {
            let trusted = authorities(ca)?;
            let trusted = trusted.iter().map(|certificate| reqwest::Certificate::from_der(certificate));
            let trusted: Vec<_> = trusted.collect::<Result<_, _>>().map_err(|why| why.to_string())?;
            Client::builder().tls_certs_only(trusted)
        }
    };
    builder
        .no_proxy()
        .redirect(redirects)
        .referer(false)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE)
        .dns_resolver(GuardedResolver { allow_private })
        .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|why| why.to_string())
}

/// Follows a few redirects, and only to where the credential may go anyway.
fn same_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let known = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
    if known && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_https_and_public_unless_said_otherwise() {
        for (url, fits_public, fits_private) in [
            ("https://api.example/v1", true, true),
            ("http://api.example/v1", false, true),
            ("https://127.0.0.1/", false, true),
            ("https://[::1]/", false, true),
            ("https://169.254.169.254/", false, true),
            // The parser knows these for the loopback addresses they are.
            ("https://0x7f.1/", false, true),
            ("https://2130706433/", false, true),
            ("https://user@api.example/", false, false),
            ("https://api.example/?a=b", false, false),
            ("ftp://api.example/", false, false),
            ("unix:/run/x", false, false),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(check_base(&parsed, false).is_ok(), fits_public, "{url}");
            assert_eq!(check_base(&parsed, true).is_ok(), fits_private, "{url}");
        }
    }
}
