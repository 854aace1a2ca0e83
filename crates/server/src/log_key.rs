//! The key that signs the log, as a file.
//!
//! The file holds one line in the form of a note signer (`golang.org/x/mod/sumdb/note`), which other tools
//! for such logs read and write: `PRIVATE+KEY+<name>+<id>+<base64 of 0x01 and the seed>`.

use std::{io::Write as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_audit::{SigningKey, sha256};

use crate::{
    clock::random,
    config::{SecretFault, read_file},
};

const PREFIX: &str = "PRIVATE+KEY+";
/// The algorithm byte of Ed25519.
const ED25519: u8 = 1;

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogKeyError {
    /// It cannot be read, or others may read it.
    #[error(transparent)]
    Read(#[from] SecretFault),
    /// It cannot be written.
    #[error("the log key cannot be written")]
    Write(#[from] std::io::Error),
    /// It holds something else.
    #[error("the file `{0}` holds no signing key of a log")]
    Form(String),
    /// It is gone, and there is a log that it signed.
    #[error(
        "there is no file `{path}`, and a log was signed with that key (`{evidence}`): put the key back; nothing was made"
    )]
    Lost {
        /// The file.
        path: String,
        /// What says so: the log's key as vkey, or the file with its newest checkpoint.
        evidence: String,
    },
    /// It is the key of another log.
    #[error("the key in `{path}` belongs to log `{named}`, and the configuration says `{wanted}`")]
    OtherLog {
        /// The file.
        path: String,
        /// The name in the key.
        named: String,
        /// The configured origin.
        wanted: String,
    },
}

/// The key of a log, with a secret derived from it that every replica of the server shares.
#[derive(Debug)]
pub struct LogKey {
    /// Signs the log.
    pub signing: SigningKey,
    shared: SharedSecret,
}

/// Unpredictable, the same on every replica and after a restart.
struct SharedSecret([u8; 32]);

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret")
    }
}

impl LogKey {
    fn new(signing: SigningKey, seed: &[u8; 32]) -> Self {
        // One way: what is sealed with it says nothing about the signing key.
        let shared = sha256(&[b"countersign/shared-secret/v1\0".as_slice(), seed].concat());
        Self { signing, shared: SharedSecret(*shared.as_bytes()) }
    }

    /// What front doors seal with.
    #[must_use]
    pub const fn shared_secret(&self) -> &[u8; 32] {
        &self.shared.0
    }
}

/// Reads the key of the log `origin`.
///
/// # Errors
/// [`LogKeyError`], also when anybody but its owner may read the file.
pub fn read(path: &Path, origin: &str) -> Result<LogKey, LogKeyError> {
    let text = read_file(path, 0o077)?;
    let form = || LogKeyError::Form(path.display().to_string());
    let rest = text.trim().strip_prefix(PREFIX).ok_or_else(form)?;
    let mut parts = rest.splitn(3, '+');
    let (Some(name), Some(id), Some(data)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(form());
    };
    let bytes = STANDARD.decode(data).map_err(|_not_base64| form())?;
    let Some((&ED25519, seed)) = bytes.split_first() else { return Err(form()) };
    let seed: &[u8; 32] = seed.try_into().map_err(|_length| form())?;
    let key = SigningKey::from_seed(name, seed).map_err(|_name| form())?;
    if key.verifier().id().to_string() != id {
        return Err(form());
    }
    if name != origin {
        return Err(LogKeyError::OtherLog {
            path: path.display().to_string(),
            named: name.to_owned(),
            wanted: origin.to_owned(),
        });
    }
    Ok(LogKey::new(key, seed))
}

/// Reads the key of the log `origin`, and makes one when there is no such file. A ledger whose log was begun
/// with another key refuses the new one.
///
/// # Errors
/// [`LogKeyError`].
pub fn read_or_create(path: &Path, origin: &str) -> Result<LogKey, LogKeyError> {
    match create(path, origin) {
        Err(LogKeyError::Write(why)) if why.kind() == std::io::ErrorKind::AlreadyExists => read(path, origin),
        Ok(key) => {
            tracing::warn!(path = %path.display(), "made a new key for the log; keep a copy of it somewhere safe");
            Ok(key)
        }
        Err(why) => Err(why),
    }
}

/// Makes a key for the log `origin` in a new file that only its owner may read.
///
/// # Errors
/// [`LogKeyError::Write`], also when there is such a file: a log's key is never replaced.
pub fn create(path: &Path, origin: &str) -> Result<LogKey, LogKeyError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let seed: [u8; 32] = random();
    let key = SigningKey::from_seed(origin, &seed)
        .map_err(|_name| LogKeyError::Form(path.display().to_string()))?;
    let mut data = vec![ED25519];
    data.extend_from_slice(&seed);
    let line = format!("{PREFIX}{origin}+{}+{}\n", key.verifier().id(), STANDARD.encode(data));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    Ok(LogKey::new(key, &seed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_read_back_by_its_owner_for_its_log_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        let made = create(&path, "acme.example/log").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = read(&path, "acme.example/log").unwrap();
        assert_eq!(again.signing.verifier(), made.signing.verifier());
        assert_eq!(again.shared_secret(), made.shared_secret());
        assert!(matches!(read(&path, "other.example/log"), Err(LogKeyError::OtherLog { .. })));
        assert!(matches!(create(&path, "acme.example/log"), Err(LogKeyError::Write(_))));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path, "acme.example/log"), Err(LogKeyError::Read(_))));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        let good = {
            let path = folder.path().join("good.key");
            create(&path, "acme.example/log").unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        let other_id = good.replacen("acme.example/log+", "acme.example/log+0", 1);
        for text in ["", "PRIVATE+KEY+", "PRIVATE+KEY+a+00000000+AQ==", other_id.as_str()] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(read(&path, "acme.example/log"), Err(LogKeyError::Form(_))), "{text}");
        }
    }
}
