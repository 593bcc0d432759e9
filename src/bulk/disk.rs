//! Folders and locks of this user alone, and what a disk that says no means.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::model::error::io_reason;
use crate::model::{Error, ErrorKind, Result};

/// The lock of a folder: one process works on it at a time (`export`, `import`).
///
/// # Errors
/// Exit 75 when another process has it.
pub fn lock(folder: &Path, work: &str) -> Result<File> {
    lock_file(&folder.join("lock"), work)
}

/// The same by a file of any name.
///
/// # Errors
/// Exit 75 when another process has it.
pub fn lock_file(path: &Path, work: &str) -> Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| cannot_write(path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = (&file).take(32).read_to_string(&mut text);
            // It may not have written its number yet.
            let who = match text.trim() {
                "" => "another process".to_owned(),
                number => format!("process {number}"),
            };
            return Err(Error::new(
                ErrorKind::Resumable,
                format!("{who} works on this {work} already"),
            )
            .hint("wait for its end, or stop it and run the same command again"));
        }
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, &error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(|error| cannot_write(path, &error))?;
    Ok(file)
}

/// Makes a folder for its owner alone, with those above it.
///
/// # Errors
/// Exit 73 when it cannot be made, 75 when the disk is full.
pub fn private_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| cannot_write(path, &error))
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// Exit 74.
pub fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("sync", path, &error))
}

/// What cannot be written: exit 75 where making room helps, else 73.
pub fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Error::new(
            ErrorKind::Resumable,
            format!("cannot write {}: {}", path.display(), io_reason(error)),
        )
        .hint("make room and run the same command again: what is done stays done"),
        _ => Error::cannot_create(path, error),
    }
}
