//! Systems behind TLS with certificates of an authority of our own: what is trusted, and what is not.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::StatusCode;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::server::rig::{MAIN, Rig};

/// An authority that certifies whatever a test needs.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Its certificate in a file.
    pub(crate) fn file(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, &self.pem).unwrap();
        path
    }

    pub(crate) fn identity(&self, names: &[&str]) -> Identity {
        self.identity_until(names, 4_000)
    }

    fn identity_until(&self, names: &[&str], year: i32) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Serves over TLS on loopback, as somebody with these names.
    pub(crate) async fn serve(&self, names: &[&str], router: axum::Router) -> SocketAddr {
        serve(&self.identity(names), router).await
    }
}

impl Identity {
    pub(crate) fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    pub(crate) fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

/// Takes TLS connections as somebody.
pub(crate) fn acceptor(identity: &Identity) -> TlsAcceptor {
    let certificate: CertificateDer<'static> = identity.certificate.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(identity: &Identity, router: axum::Router) -> SocketAddr {
    let acceptor = acceptor(identity);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _from)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                // A client that does not trust us hangs up.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let http = hyper::server::conn::http1::Builder::new();
                drop(http.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

/// A system of kind `http` at an address, and a tool that reads from it.
fn main(address: SocketAddr, ca: &str) -> String {
    format!(
        "{MAIN}
[system.api]
kind = \"http\"
environment = \"production\"
account = \"acme\"
base_url = \"https://localhost:{}\"
allow_private = true
retries_max = 0
{ca}
[tool.weather]
system = \"api\"
description = \"The weather.\"
effect = \"read\"
request = {{ method = \"GET\", path = \"/weather\" }}
",
        address.port()
    )
}

async fn weather(main: &str) -> (StatusCode, Value) {
    Rig::with(main).await.call("weather", json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_tool_speaks_to_whom_the_configured_authority_vouches_for_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let router = axum::Router::new().route(
        "/weather",
        axum::routing::get(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { axum::Json(json!({ "sky": "clear" })) }
        }),
    );
    let (trusted, stranger) = (Authority::new(), Authority::new());
    let ca = |authority: &Authority, name: &str| {
        format!("ca = '{}'", authority.file(folder.path(), name).display())
    };
    let ours = ca(&trusted, "trusted.pem");

    let good = trusted.serve(&["localhost"], router.clone()).await;
    let (status, body) = weather(&main(good, &ours)).await;
    assert_eq!((status, &body["result"]["sky"]), (StatusCode::OK, &json!("clear")), "{body}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    let elsewhere = trusted.serve(&["api.example.test"], router.clone()).await;
    let expired = serve(&trusted.identity_until(&["localhost"], 2_020), router.clone()).await;
    for (what, main) in [
        ("another authority is trusted", main(good, &ca(&stranger, "stranger.pem"))),
        ("only the machine's authorities are trusted", main(good, "")),
        ("the certificate is for another name", main(elsewhere, &ours)),
        ("the certificate has expired", main(expired, &ours)),
    ] {
        let (status, body) = weather(&main).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_GATEWAY, &json!("F002")), "{what}: {body}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "nothing is sent to somebody who cannot prove their name");
}
