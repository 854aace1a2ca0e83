//! Whose certificates a connection trusts: those that the machine trusts, or those of one file and no others.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// The certificates in a PEM file.
///
/// # Errors
/// Says what is wrong with the file; also when no certificate is in it.
pub fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |why: &dyn std::fmt::Display| format!("`{}`: {why}", path.display());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|why: rustls::pki_types::pem::Error| bad(&why))?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|why| bad(&why))?;
    }
    if roots.is_empty() {
        return Err(bad(&"there is no certificate in it"));
    }
    Ok(certificates)
}

/// TLS as a client. Certificates are always checked, names included.
///
/// # Errors
/// Says what is wrong with the file, or with the machine's own certificates.
pub fn config(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?;
    let builder = match ca {
        None => builder.with_platform_verifier().map_err(|why| why.to_string())?,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in authorities(path)? {
                roots.add(certificate).map_err(|why| why.to_string())?;
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(builder.with_no_client_auth())
}
