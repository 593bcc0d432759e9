//! A lock between processes: whoever holds the file's lock is the only one at work on it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a taken lock is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Held until it is dropped, also by a process that is killed.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Why a lock was not had.
#[derive(Debug)]
pub(super) enum NotLocked {
    /// Somebody else held it until the deadline.
    Taken,
    /// The file cannot be used, such as on a disk that is full or read-only.
    Unusable,
}

/// Waits for the lock of a file until the deadline; makes the file when it is not there.
pub(super) async fn take(path: &Path, deadline: Instant) -> Result<Lock, NotLocked> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|_| NotLocked::Unusable)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(NotLocked::Taken);
            }
            Err(TryLockError::WouldBlock) => {
                tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
            }
            Err(TryLockError::Error(_)) => return Err(NotLocked::Unusable),
        }
    }
}

/// Makes a folder for its owner alone, with those above it.
pub(super) fn private_folder(path: &Path) -> std::io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Replaces a file for its owner alone: a reader sees the old or the new content, never a half.
pub(super) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary =
        path.with_extension(format!("{}-{:x}.tmp", std::process::id(), fastrand::u64(..)));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}
