//! The file under the edit: locked, replaced in one step, never half written.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::model::{Error, ErrorKind, Result};

/// How long another edit is waited for. One takes milliseconds; a stopped one should not hang us.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest inventory that is read.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Changes a file under an exclusive lock. `change` gets the text as it stands and gives the new
/// one; the same text leaves the file untouched. A symbolic link stays and its target changes;
/// mode and owner stay. Gives the new text.
///
/// # Errors
/// What `change` says; exit 66 when there is no such file, 73 when it or its folder is not
/// writable, 74 when reading or writing fails. The old file is then as it was.
pub fn edit(path: &Path, change: impl FnOnce(&str) -> Result<String>) -> Result<String> {
    let held = Held::take(path)?;
    let changed = change(&held.text)?;
    if changed != held.text {
        held.stage(&changed)?.commit()?;
    }
    Ok(changed)
}

/// Reads a file without a lock: a replacement in one step never shows half of it.
///
/// # Errors
/// Exit 66 when there is none, 74 when it cannot be read, 78 when it is no text.
pub fn read(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|error| Error::io("read", path, &error))?;
    read_text(&file, path)
}

/// A candidate beside a file: the same folder and mode, so that what it names is found. It is
/// deleted when it is dropped.
///
/// # Errors
/// Exit 73 or 74 when it cannot be written.
pub fn candidate(path: &Path, text: &str) -> Result<Staged> {
    let target = target_of(path)?;
    let metadata = fs::metadata(&target).map_err(|error| Error::io("read", path, &error))?;
    Staged::write(&target, Some(&metadata), text)
}

/// Writes a file that must not be there yet; with `replace` it may.
///
/// # Errors
/// Exit 73 when it is there, or its folder is missing or not writable; 74 when writing fails.
pub fn create(path: &Path, text: &str, replace: bool) -> Result<()> {
    if replace && path.exists() {
        return edit(path, |_| Ok(text.to_owned())).map(drop);
    }
    let staged = Staged::write(path, None, text)?;
    match fs::hard_link(&staged.path, path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::new(ErrorKind::CannotCreate, format!("{} is already there", path.display())))
        }
        // A file system without links: not in one step, but still never over another file.
        Err(_) => OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|error| Error::cannot_create(path, &error)),
    }
}

/// A file with its lock and its text.
struct Held {
    /// The lock ends when it is closed.
    _file: File,
    target: PathBuf,
    metadata: fs::Metadata,
    text: String,
}

impl Held {
    fn take(path: &Path) -> Result<Held> {
        let target = target_of(path)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&target)
                .map_err(|error| unwritable(path, &error))?;
            lock(&file, path, deadline)?;
            let metadata = file.metadata().map_err(|error| Error::io("read", path, &error))?;
            // The one who held the lock before us may have put another file in its place.
            let current = fs::metadata(&target).ok();
            if current.is_some_and(|now| now.ino() == metadata.ino() && now.dev() == metadata.dev())
            {
                clear_leftovers(&target);
                let text = read_text(&file, path)?;
                return Ok(Held { _file: file, target, metadata, text });
            }
            if Instant::now() > deadline {
                return Err(busy(path));
            }
        }
    }

    fn stage(&self, text: &str) -> Result<Staged> {
        Staged::write(&self.target, Some(&self.metadata), text)
    }
}

/// A complete file under a temporary name beside its target; deleted unless it is committed.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    target: PathBuf,
}

impl Staged {
    fn write(target: &Path, like: Option<&fs::Metadata>, text: &str) -> Result<Staged> {
        let mark = uuid::Uuid::new_v4().simple();
        let path = folder(target).join(format!("{}{mark}.tmp", leftover_prefix(target)));
        // Nobody may read it before it has the mode of the file that it replaces.
        let mode = if like.is_some() { 0o600 } else { 0o666 };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(|error| Error::cannot_create(target, &error))?;
        let staged = Staged { path, target: target.to_owned() };
        if let Some(like) = like {
            staged.dress(&file, like)?;
        }
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| Error::io("write", target, &error))?;
        Ok(staged)
    }

    /// Gives it the owner, the group and the mode of the old file.
    fn dress(&self, file: &File, like: &fs::Metadata) -> Result<()> {
        let mine = file.metadata().map_err(|error| Error::io("read", &self.path, &error))?;
        if (mine.uid(), mine.gid()) != (like.uid(), like.gid()) {
            std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid())).map_err(|_| {
                Error::new(
                    ErrorKind::CannotCreate,
                    format!("cannot keep the owner of {}", self.target.display()),
                )
                .hint("the file belongs to another user or group: run this as that user")
            })?;
        }
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))
            .map_err(|error| Error::cannot_create(&self.target, &error))
    }

    /// Where the candidate stands.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn commit(self) -> Result<()> {
        fs::rename(&self.path, &self.target)
            .map_err(|error| Error::cannot_create(&self.target, &error))?;
        sync_folder(&self.target)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(file: &File, path: &Path, deadline: Instant) -> Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => return Err(busy(path)),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, &error)),
        }
    }
}

fn busy(path: &Path) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("another program has held the lock on {} for 30 s", path.display()),
    )
    .hint("wait for the other fhirctl to end, or look for one that hangs")
}

/// The file that a link leads to.
fn target_of(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::io("read", path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Error::cannot_create(path, error)
                .hint("give yourself write permission, or edit the file where it comes from")
        }
        _ => Error::io("open", path, error),
    }
}

fn read_text(file: &File, path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::config(format!("{} is larger than 64 MiB", path.display())));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::config(format!("{} is not UTF-8 text", path.display())))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn leftover_prefix(target: &Path) -> String {
    let name = target.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    format!(".{name}.fhirctl-")
}

/// Deletes what a killed edit left. Only edits make these files and we hold the lock, but a
/// candidate may be under test by another process: those that are young stay.
fn clear_leftovers(target: &Path) {
    let prefix = leftover_prefix(target);
    let Ok(entries) = fs::read_dir(folder(target)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let old = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()).is_some_and(
            |modified| modified.elapsed().is_ok_and(|age| age > Duration::from_secs(3600)),
        );
        if old && name.starts_with(&prefix) && name.ends_with(".tmp") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes the new name itself survive a power cut.
fn sync_folder(path: &Path) -> Result<()> {
    File::open(folder(path))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("write", folder(path), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("servers.yaml");
        fs::write(&path, "old").unwrap();
        (dir, path)
    }

    #[test]
    fn an_end_between_write_and_rename_leaves_the_old_file() {
        let (dir, path) = desk();
        let staged = Held::take(&path).unwrap().stage("new").unwrap();
        let leftover = staged.path().to_owned();
        // A kill runs no destructors.
        std::mem::forget(staged);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_to_string(&leftover).unwrap(), "new");

        edit(&path, |text| Ok(format!("{text}er"))).unwrap();
        assert!(leftover.exists(), "it may be a candidate under test");
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
        File::open(&leftover).unwrap().set_modified(long_ago).unwrap();
        edit(&path, |text| Ok(format!("{text}!"))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "older!");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_edit_that_fails_or_changes_nothing_leaves_the_file_itself() {
        let (dir, path) = desk();
        let inode = fs::metadata(&path).unwrap().ino();
        edit(&path, |text| Ok(text.to_owned())).unwrap();
        edit(&path, |_| Err(Error::config("no"))).unwrap_err();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_candidate_has_the_mode_of_its_file_and_goes() {
        let (dir, path) = desk();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let staged = candidate(&path, "new").unwrap();
        assert_eq!(staged.path().parent().unwrap(), dir.path().canonicalize().unwrap());
        assert_eq!(fs::metadata(staged.path()).unwrap().mode() & 0o777, 0o600);
        drop(staged);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_not_created_over() {
        let (dir, path) = desk();
        assert_eq!(create(&path, "new", false).unwrap_err().exit().0, 73);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        create(&path, "new", true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(edit(&dir.path().join("none"), |_| unreachable!()).unwrap_err().exit().0, 66);
    }
}
