//! The keys that `countersign login` got, one file for each server, in the user's own folder.

use std::{
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Failure;
use crate::{
    clock::random,
    config::{read_file, user_folder},
};

/// A key, with whose and where it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) server: String,
    pub(super) person: String,
    pub(super) key: String,
    pub(super) expires_at: Option<String>,
    pub(super) secret: String,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("server", &self.server).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Kept {
    /// Returns true if the key has expired, which saves asking.
    pub(super) fn is_over(&self, now_ms: i64) -> bool {
        let at = self.expires_at.as_ref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        at.is_some_and(|at| at.as_millisecond() <= now_ms)
    }
}

/// How a server is named in its file.
pub(super) fn named(server: &Url) -> &str {
    server.as_str().trim_end_matches('/')
}

/// The file of a server. Other signs than these could lead elsewhere; what else would be called the same says so itself.
pub(super) fn place(server: &Url) -> Result<PathBuf, Failure> {
    let folder =
        user_folder().context("neither `XDG_CONFIG_HOME` nor `HOME` says where your own files are")?;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' };
    let name: String = named(server).chars().take(200).map(plain).collect();
    Ok(folder.join("countersign").join("keys").join(format!("{name}.json")))
}

/// The key for a server, with its file, if there is one. A file that is no file, or that others can read or change, is not used.
pub(super) fn read(server: &Url) -> Result<Option<(PathBuf, Kept)>, Failure> {
    // Who has no folder has no key in it.
    let Ok(path) = place(server) else { return Ok(None) };
    Ok(read_from(&path, server)?.map(|kept| (path, kept)))
}

fn read_from(path: &Path, server: &Url) -> Result<Option<Kept>, Failure> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            return Err(anyhow::anyhow!(
                "`{}` is no file but leads elsewhere, and is not used: remove it, and `countersign login`",
                path.display()
            )
            .into());
        }
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(anyhow::Error::new(why).context(path.display().to_string()).into()),
    }
    let text = read_file(path, 0o077).context("the key of your sign-in is not used")?;
    let kept: Option<Kept> = serde_json::from_str(&text).ok();
    let kept = kept.filter(|kept| kept.server == named(server));
    let kept = kept.with_context(|| {
        format!("`{}` holds no key for {server}: remove it, and `countersign login`", path.display())
    })?;
    Ok(Some(kept))
}

/// Keeps a key, in place of the one before.
pub(super) fn write(path: &Path, kept: &Kept) -> Result<(), Failure> {
    let folder = path.parent().context("a file has a folder")?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = folder.join(format!(".{}", countersign_audit::Hash::from_bytes(random())));
    // A file of its own from the first byte on, which then takes the other's place, also that of a link.
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(&serde_json::to_vec(kept)?).and_then(|()| file.sync_all());
    if let Err(why) = written.and_then(|()| std::fs::rename(&beside, path)) {
        drop(std::fs::remove_file(&beside));
        return Err(anyhow::Error::new(why).context(path.display().to_string()).into());
    }
    Ok(())
}

/// Removes the key of a server. Returns true if there was one.
pub(super) fn remove(path: &Path) -> Result<bool, Failure> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(false),
        Err(why) => Err(anyhow::Error::new(why).context(path.display().to_string()).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_kept_for_one_server_in_a_file_that_nobody_else_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("countersign/keys/here.json");
        let server: Url = "https://here.example/".parse().unwrap();
        assert_eq!(read_from(&path, &server).unwrap(), None);
        let kept = Kept {
            server: named(&server).to_owned(),
            person: "alice".into(),
            key: "0a1b2c3d4e5f".into(),
            expires_at: Some("2026-12-01T12:00:00Z".into()),
            secret: "csk_x".into(),
        };
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write(&path, &kept).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(read_from(&path, &server).unwrap(), Some(kept.clone()));
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        assert!(!format!("{kept:?}").contains("csk_"));
        let at: jiff::Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        assert!(kept.is_over(at.as_millisecond()) && !kept.is_over(at.as_millisecond() - 1));

        // Not for another server, whatever its file is called.
        assert!(read_from(&path, &"https://there.example/".parse().unwrap()).is_err());
        for bad in [0o644, 0o640, 0o604, 0o660, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bad)).unwrap();
            assert!(read_from(&path, &server).is_err(), "{bad:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_from(&link, &server).is_err(), "a link, also to a good file");
        // What is written takes the link's place, and goes nowhere through it.
        write(&link, &Kept { person: "bob".into(), ..kept.clone() }).unwrap();
        assert_eq!(read_from(&link, &server).unwrap().unwrap().person, "bob");
        assert_eq!(read_from(&path, &server).unwrap(), Some(kept));
        std::fs::write(&path, "csk_x").unwrap();
        assert!(read_from(&path, &server).is_err(), "no such file of ours");
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
    }

    #[test]
    fn a_file_s_name_leads_nowhere_else() {
        let name = |server: &str| {
            place(&server.parse().unwrap()).unwrap().file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name("https://here.example/"), "https___here.example.json");
        assert_eq!(name("http://127.0.0.1:7780/a/../../b"), "http___127.0.0.1_7780_b.json");
        assert_eq!(name("https://[::1]/%2e%2e/x?y=../z"), "https______1__x_y_.._z.json");
    }
}
