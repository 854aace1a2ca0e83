//! Where a secret is kept: never in the configuration itself.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use toml::de::DeValue;

use super::section::{Complaint, kind};

/// Longest secret that is read from a file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable of the server.
    Env(String),
    /// A file; what surrounds its text as white space does not count.
    File(PathBuf),
}

/// A secret could not be had. Never carries it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// The variable is not set, or is no text.
    #[error("the environment variable `{0}` is not set")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("the file `{}` cannot be read: {why}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Others may read the file.
    #[error("the file `{}` can be read or changed by others (mode {mode:o})", .path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is nothing in it.
    #[error("{0} holds nothing")]
    Empty(SecretSource),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable `{name}`"),
            Self::File(path) => write!(f, "the file `{}`", path.display()),
        }
    }
}

impl SecretSource {
    /// Reads the secret as it is now.
    ///
    /// # Errors
    /// [`SecretFault`], also when others may read the file.
    #[expect(clippy::disallowed_methods, reason = "the one place where secrets come from the environment")]
    pub fn read(&self) -> Result<SecretString, SecretFault> {
        let text = match self {
            Self::Env(name) => {
                std::env::var(name).map_err(|_not_set| SecretFault::NoVariable(name.clone()))?
            }
            Self::File(path) => read_file(path, 0o027)?,
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretFault::Empty(self.clone()));
        }
        Ok(text.into())
    }

    /// How it is written in the log and in reports: where it is, not what it is.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Env(name) => serde_json::json!({ "env": name }),
            Self::File(path) => serde_json::json!({ "file": path.to_string_lossy() }),
        }
    }
}

/// Reads a file that none of `forbidden` (permission bits) may be set on.
///
/// # Errors
/// [`SecretFault`].
pub fn read_file(path: &Path, forbidden: u32) -> Result<String, SecretFault> {
    use std::{io::Read as _, os::unix::fs::PermissionsExt as _};
    let fault = |why: std::io::Error| SecretFault::File { path: path.to_owned(), why: why.to_string() };
    // The opened file is checked, so that it cannot be exchanged between the check and the reading.
    let file = std::fs::File::open(path).map_err(fault)?;
    let mode = file.metadata().map_err(fault)?.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(SecretFault::Mode { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(fault)?;
    Ok(text)
}

/// Reads `{ env = "NAME" }` or `{ file = "path" }`.
pub(super) fn secret(folder: &Path) -> impl Fn(&DeValue<'_>) -> Result<SecretSource, Complaint> + '_ {
    const HELP: &str = "write `{ env = \"NAME\" }` or `{ file = \"path\" }`, and keep the secret there";
    move |value| {
        let Some(table) = value.as_table() else {
            let message = match value.as_str() {
                Some(_) => "a secret does not stand in the configuration".to_owned(),
                None => format!("must say where the secret is kept, not {}", kind(value)),
            };
            return Err(Complaint::new(message).help(HELP));
        };
        let mut entries = table.iter();
        let (Some((key, place)), None) = (entries.next(), entries.next()) else {
            return Err(Complaint::new("must say one place where the secret is kept").help(HELP));
        };
        let place = place.get_ref().as_str().filter(|place| !place.is_empty());
        match (key.get_ref().as_ref(), place) {
            ("env", Some(name)) if !name.contains(['=', '\0']) => Ok(SecretSource::Env(name.to_owned())),
            ("file", Some(path)) => Ok(SecretSource::File(folder.join(path))),
            _ => Err(Complaint::new("must say where the secret is kept").help(HELP)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, " s3cret\n").unwrap();
        let source = SecretSource::File(path.clone());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), "s3cret");
        for mode in [0o644, 0o660, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(source.read().unwrap_err(), SecretFault::Mode { path: path.clone(), mode });
        }
    }

    #[test]
    fn a_missing_or_empty_secret_is_a_fault_that_names_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, "\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(SecretSource::File(path).read(), Err(SecretFault::Empty(_))));
        let none = SecretSource::Env("COUNTERSIGN_TEST_NO_SUCH_VARIABLE".into());
        assert!(matches!(none.read(), Err(SecretFault::NoVariable(_))));
    }
}
