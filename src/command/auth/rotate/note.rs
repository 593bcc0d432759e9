//! The note of a rotation that is under way, in the state folder.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::context::replace_file;
use crate::model::{Error, Result};

/// Which secret is being replaced by which. References, never secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub field: String,
    pub old: String,
    pub new: String,
    pub key_id: Option<String>,
    /// Whether the new secret was put there by us.
    pub ours: bool,
}

/// The place of one server's note; held by one process at a time.
pub(super) struct Notes {
    path: PathBuf,
    _lock: File,
}

impl Notes {
    /// # Errors
    /// Exit 73 when the folder cannot be used, 75 when another process rotates the same server.
    pub(super) fn open(state: &Path, server: &str) -> Result<Notes> {
        let folder = state.join("rotate");
        let unusable = |error: &std::io::Error| Error::cannot_create(&folder, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| unusable(&error))?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(format!("{server}.lock")))
            .map_err(|error| unusable(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::credential(format!(
                    "another process is rotating a credential of {server}"
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&error)),
        }
        Ok(Notes { path: folder.join(format!("{server}.json")), _lock: lock })
    }

    /// # Errors
    /// Exit 74 when it cannot be read. A note that is torn counts as none.
    pub(super) fn read(&self) -> Result<Option<Note>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &self.path, &error)),
        }
    }

    /// # Errors
    /// Exit 73 when it cannot be written.
    pub(super) fn write(&self, note: &Note) -> Result<()> {
        let text = serde_json::to_vec(note).map_err(|error| Error::internal(error.to_string()))?;
        replace_file(&self.path, &text)
    }

    /// # Errors
    /// Exit 74 when it cannot be deleted.
    pub(super) fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("delete", &self.path, &error))
            }
            _ => Ok(()),
        }
    }
}
