//! TLS of the server itself: its certificate and key, read again when their files change.
//!
//! Connections keep what they began with; new ones have what was read last. A pair that cannot be used changes nothing but
//! what the log and the console's *Health* say.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use countersign_app::certificate::CertificateState;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::config::{TlsConfig, read_file};

/// The files are looked at after each such time.
const LOOK: Duration = Duration::from_secs(1);

/// The first byte of a client that speaks TLS: a record of a handshake.
const HANDSHAKE: u8 = 0x16;

/// So much of a request that is not encrypted is read before it is answered, in bytes.
const PLAIN_MAX: usize = 16 * 1024;

/// A client that does not speak TLS is told so, and waited for no longer than this.
const PLAIN_PATIENCE: Duration = Duration::from_secs(2);

/// This is told a client that speaks HTTP without TLS.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 56\r\n\
     Connection: close\r\n\r\nthis port speaks TLS: ask with https:// instead of http\n";

/// The certificate and key that the server shows.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: TlsConfig,
    current: RwLock<(Arc<ServerConfig>, Option<Stamps>)>,
    state: Arc<CertificateState>,
}

/// What tells a file from what stood there before: when it was changed, its length and its number.
type Stamp = (Option<SystemTime>, u64, u64, u32);

/// Those of the certificate and the key.
type Stamps = (Stamp, Stamp);

impl Certificates {
    /// Reads the certificate and key of a server.
    ///
    /// # Errors
    /// Says what is wrong with them: also when the key is another certificate's, or others may read it.
    pub(crate) fn open(files: &TlsConfig) -> Result<Arc<Self>, String> {
        // Looked at before they are read: what changes in between is read again.
        let stamps = stamps(files);
        let current = RwLock::new((read(files)?, stamps));
        Ok(Arc::new(Self { files: files.clone(), current, state: Arc::default() }))
    }

    /// Returns how the certificate stands.
    pub(crate) fn state(&self) -> Arc<CertificateState> {
        Arc::clone(&self.state)
    }

    /// Looks at the files again and again, until the server stops.
    pub(crate) async fn watch(self: Arc<Self>, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let certificates = Arc::clone(&self);
            // Files may be on a disk that takes its time.
            if tokio::task::spawn_blocking(move || certificates.look()).await.is_err() {
                tracing::error!("the certificate could not be looked at");
            }
        }
    }

    /// Reads the files where they are others than before. One that was exchanged before the other is tried again.
    fn look(&self) {
        let stamps = stamps(&self.files);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).1 == stamps {
            // What stood there before stands there again.
            self.state.note(None);
            return;
        }
        match read(&self.files) {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = (config, stamps);
                self.state.note(None);
                tracing::info!("a new certificate is in use");
            }
            Err(why) => {
                if self.state.note(Some(why.clone())) {
                    tracing::error!(%why, "the new certificate cannot be used: the one before stays in use");
                }
            }
        }
    }

    /// Begins TLS with a client, through what `around` puts between. `None` for one that does not speak it, and has been told.
    pub(crate) async fn accept<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
        &self,
        stream: TcpStream,
        around: impl FnOnce(TcpStream) -> S,
    ) -> io::Result<Option<TlsStream<S>>> {
        let mut first = [0; 1];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        if first != [HANDSHAKE] {
            tracing::debug!("a client speaks no TLS");
            tokio::time::timeout(PLAIN_PATIENCE, turn_away(stream)).await??;
            return Ok(None);
        }
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0);
        TlsAcceptor::from(config).accept(around(stream)).await.map(Some)
    }
}

/// Tells a client that it speaks to a port of TLS. Its request is read first, for an answer is lost where what was sent is not.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 1_024];
    while request.len() < PLAIN_MAX && !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut part).await?;
        if read == 0 {
            break;
        }
        request.extend_from_slice(part.get(..read).unwrap_or_default());
    }
    stream.write_all(PLAIN.as_bytes()).await?;
    stream.shutdown().await?;
    let mut left = stream.take(1024 * 1024);
    tokio::io::copy(&mut left, &mut tokio::io::sink()).await.map(|_read| ())
}

/// Looks at a certificate and key as a start does.
///
/// # Errors
/// Why a start would fail for the sake of them.
pub(crate) fn look(files: &TlsConfig) -> Result<(), String> {
    read(files).map(|_config| ())
}

fn stamps(files: &TlsConfig) -> Option<Stamps> {
    Some((stamp(&files.cert)?, stamp(&files.key)?))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len(), metadata.ino(), metadata.mode()))
}

/// Reads a certificate, with those that lead to its authority behind it, and its key.
fn read(TlsConfig { cert, key }: &TlsConfig) -> Result<Arc<ServerConfig>, String> {
    let of_cert = |why: &dyn std::fmt::Display| format!("the certificate `{}`: {why}", cert.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|why: rustls::pki_types::pem::Error| of_cert(&why))?;
    if chain.is_empty() {
        return Err(of_cert(&"there is no certificate in it"));
    }
    let text = read_file(key, 0o027).map_err(|why| why.to_string())?;
    // What the parser says may quote what it read.
    let private = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_why| format!("the key `{}` is no private key in PEM", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|why| {
            format!("the certificate `{}` and the key `{}`: {why}", cert.display(), key.display())
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plain_clients_are_told_is_as_long_as_it_says() {
        let (head, body) = PLAIN.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
