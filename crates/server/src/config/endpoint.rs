//! Where others are: their URLs, their names, and the certificates that they are trusted by.

use std::path::{Path, PathBuf};

use toml::de::DeValue;
use url::Url;

use super::section::{Complaint, text};

/// An absolute `http` or `https` URL.
pub(super) fn http_url(text: &str) -> Result<Url, Complaint> {
    let bad = |why: String| {
        Complaint::new(format!("`{text}` is no URL that can be used here: {why}"))
            .help("write it in full, such as `https://api.example.com`")
    };
    let url = Url::parse(text).map_err(|why| bad(why.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad(format!("the scheme is `{}`", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds credentials".into()));
    }
    Ok(url)
}

/// A URL whose answer is trusted: encrypted, or on this machine.
pub(super) fn guarded_url(text: &str) -> Result<Url, Complaint> {
    let url = http_url(text)?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "https" || loopback {
        return Ok(url);
    }
    Err(Complaint::new(format!("`{text}` is not encrypted, and whoever answers it could sign any token"))
        .help("use `https`"))
}

pub(super) fn origin_url(text: &str) -> Result<Url, Complaint> {
    let url = http_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Complaint::new(format!("`{text}` has a query or a fragment")));
    }
    Ok(url)
}

pub(super) fn origin(text: &str) -> Result<String, Complaint> {
    let url = http_url(text)?;
    let origin = url.origin().ascii_serialization();
    if origin == text {
        return Ok(origin);
    }
    Err(Complaint::new(format!("`{text}` is no origin")).help(format!("write `{origin}`")))
}

pub(super) fn host(text: &str) -> Result<String, Complaint> {
    match url::Host::parse(text) {
        Ok(host) if !text.is_empty() => Ok(host.to_string()),
        Ok(_) | Err(_) => Err(Complaint::new(format!("`{text}` is no host name"))
            .help("write the name alone, without scheme and port")),
    }
}

/// A PEM file with certificates to trust.
pub(super) fn ca(folder: &Path) -> impl FnOnce(&DeValue<'_>) -> Result<PathBuf, Complaint> {
    let folder = folder.to_owned();
    move |value| {
        let path = folder.join(text(value)?);
        countersign_tools::tls::authorities(&path).map(|_certificates| path).map_err(|why| {
            Complaint::new(format!("the certificates cannot be read: {why}"))
                .help("name a PEM file with the certificates of the authorities to trust")
        })
    }
}
