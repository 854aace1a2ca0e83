//! Where a secret is kept: never in the configuration itself.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use toml::de::DeValue;

use super::section::{Complaint, Shaped, kind};

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// Shortest secret, in bytes: a shorter one is part of too many texts to be kept out of answers and the log.
const SECRET_BYTES_MIN: usize = 3;

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
    /// It is too short to be kept out of what is said.
    #[error(
        "{0} holds fewer than {SECRET_BYTES_MIN} bytes: so short a secret cannot be kept out of answers and the log"
    )]
    Short(SecretSource),
    /// It is longer than a secret may be.
    #[error("{0} holds more than {SECRET_BYTES_MAX} bytes")]
    Long(SecretSource),
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
        match text.len() {
            ..SECRET_BYTES_MIN => Err(SecretFault::Short(self.clone())),
            SECRET_BYTES_MIN..=SECRET_BYTES_MAX => Ok(text.into()),
            _ => Err(SecretFault::Long(self.clone())),
        }
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

impl Shaped for SecretSource {
    fn shape() -> serde_json::Value {
        let place = |key: &str| {
            serde_json::json!({
                "type": "object",
                "additionalProperties": false,
                "properties": { key: { "type": "string" } },
                "required": [key],
            })
        };
        serde_json::json!({ "oneOf": [place("env"), place("file")] })
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
    let most = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    // One byte beyond the longest: what is longer is refused, not cut.
    file.take(most).read_to_string(&mut text).map_err(fault)?;
    if text.len() > SECRET_BYTES_MAX {
        return Err(SecretFault::Long(SecretSource::File(path.to_owned())));
    }
    Ok(text)
}

/// Returns the folder where programs keep what is the user's own (XDG Base Directory Specification), if there is one.
#[expect(clippy::disallowed_methods, reason = "the command line keeps its user's keys there")]
pub fn user_folder() -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))
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
    fn a_secret_that_is_missing_empty_too_short_or_too_long_is_a_fault_that_names_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, "\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(SecretSource::File(path).read(), Err(SecretFault::Empty(_))));
        let of = |text: &str| {
            let path = folder.path().join("odd");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            SecretSource::File(path).read()
        };
        assert!(matches!(of("ab\n"), Err(SecretFault::Short(_))));
        assert!(of(&"x".repeat(64 * 1024)).is_ok());
        assert!(matches!(of(&"x".repeat(64 * 1024 + 1)), Err(SecretFault::Long(_))));
        let none = SecretSource::Env("COUNTERSIGN_TEST_NO_SUCH_VARIABLE".into());
        assert!(matches!(none.read(), Err(SecretFault::NoVariable(_))));
    }
}
