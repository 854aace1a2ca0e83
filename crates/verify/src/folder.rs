//! An exported log on disk, in the layout that `countersign_audit::export` describes.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use countersign_audit::{
    BundleId, LogReader, TileId, VerifierKey, export,
    note::NOTE_BYTES_MAX,
    tile::{BUNDLE_BYTES_MAX, TILE_WIDTH},
};

use crate::{arguments::Key, shown};

/// The folder of an exported log.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// The note of the log's state. Without it there is nothing to verify.
    pub(crate) fn checkpoint(&self) -> Result<Vec<u8>, String> {
        let missing = || format!("{} is not an exported log: it has no file `checkpoint`", named(&self.0));
        self.read(export::CHECKPOINT, NOTE_BYTES_MAX).and_then(|note| note.ok_or_else(missing))
    }

    /// The key that the folder says it is of, which is never believed.
    pub(crate) fn vkey(&self) -> Result<Option<String>, String> {
        let bytes = self.read(export::VKEY, NOTE_BYTES_MAX)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The earlier checkpoints, as file names and notes, in the order of their names.
    pub(crate) fn checkpoints(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut notes = Vec::new();
        for path in self.list(Path::new(export::CHECKPOINTS))? {
            if let Some(note) = self.read(&path, NOTE_BYTES_MAX)? {
                notes.push((path, note));
            }
        }
        Ok(notes)
    }

    /// All files below the folder, as paths with `/`.
    pub(crate) fn files(&self) -> Result<Vec<String>, String> {
        self.list(Path::new(""))
    }

    /// All files below a folder in it, in order; none if there is no such folder.
    fn list(&self, below: &Path) -> Result<Vec<String>, String> {
        let mut files = Vec::new();
        let mut open = vec![below.to_path_buf()];
        while let Some(folder) = open.pop() {
            let path = self.0.join(&folder);
            let failed = |error| format!("{} cannot be listed: {error}", named(&path));
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(failed(error)),
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let inside = folder.join(entry.file_name());
                // A link to a folder counts as a file, so that a circle ends.
                if entry.file_type().map_err(failed)?.is_dir() {
                    open.push(inside);
                } else {
                    files.push(inside.to_string_lossy().replace('\\', "/"));
                }
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
        let path = self.0.join(path);
        // Opening a pipe that nobody writes to would wait for ever. What is named on the
        // command line may be a pipe; what lies in an export may not.
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Ok(None);
        }
        read(&path, bytes_max)
    }
}

impl LogReader for Folder {
    type Error = String;

    fn bundle(&mut self, id: BundleId) -> Result<Option<Vec<u8>>, String> {
        self.read(&id.path(), BUNDLE_BYTES_MAX)
    }

    fn tile(&mut self, id: TileId) -> Result<Option<Vec<u8>>, String> {
        self.read(&id.path(), usize::from(TILE_WIDTH) * 32)
    }
}

/// Reads a file that the user named; it must be there.
pub(crate) fn read_named(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    read(path, bytes_max)?.ok_or_else(|| format!("there is no file {}", named(path)))
}

/// The trusted key, from the command line or from the file named there.
pub(crate) fn key(key: &Key) -> Result<VerifierKey, String> {
    match key {
        Key::Given(key) => Ok(key.clone()),
        Key::File(path) => {
            let bytes = read_named(path, NOTE_BYTES_MAX)?;
            let text = String::from_utf8_lossy(&bytes);
            text.trim().parse().map_err(|error| format!("{} is not a verifier key: {error}", named(path)))
        }
    }
}

pub(crate) fn named(path: &Path) -> String {
    format!("`{}`", shown(&path.to_string_lossy()))
}

/// At most one byte more than a well-formed file can have, so that a huge one is seen to be
/// malformed without being read.
fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_length) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", named(path))),
    }
}

/// A folder in place of a file is as good as no file.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}
