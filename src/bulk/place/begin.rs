//! How an export takes a folder: first its ledger, then the marker that binds the folder to it.
//!
//! The ledger grows hidden, and gets its own name when the folder is marked. A folder is marked only
//! once: of two processes that begin in it at the same moment one makes the marker, and it holds the
//! ledger's lock already; the other finds itself shut out.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use serde_json::json;
use uuid::Uuid;

use super::super::disk::{cannot_write, lock, private_folder, sync_folder};
use super::super::export::Identity;
use super::super::ledger::Ledger;
use super::{MARKER, ledgers, marked, marker};
use crate::model::{Error, ErrorKind, Result};

/// What is younger may be in the making, between two steps of a process that runs.
const HALF_MADE: Duration = Duration::from_secs(60);

/// Where a ledger grows before it has its name.
pub(in crate::bulk) fn unfinished(ledgers: &Path, id: &str) -> PathBuf {
    ledgers.join(format!(".{id}.new"))
}

/// Begins an export in its folder; `None` where another process was faster.
///
/// # Errors
/// Exit 73 when the folder holds other data or cannot be made.
pub(super) fn begin(state: &Path, identity: &Identity) -> Result<Option<Ledger>> {
    let (root, folder) = (ledgers(state), identity.folder.as_path());
    private_folder(folder)?;
    if let Some(other) = other_data(folder)? {
        // What was listed may be of the one who was faster.
        if marked(folder)?.is_some() {
            return Ok(None);
        }
        return Err(Error::new(
            ErrorKind::CannotCreate,
            format!("{} holds something else already: {other}", folder.display()),
        )
        .hint("choose an empty folder, or one that is not there yet"));
    }
    make_private(folder);
    sweep(&root);
    let new = unfinished(&root, &identity.id);
    let ledger = Ledger::begin(&new)?;
    ledger.note(&[("export", json!(identity))])?;
    sync_folder(&root)?;
    if mark(folder, &identity.id)? {
        return ledger.named(&root.join(&identity.id)).map(Some);
    }
    std::fs::remove_dir_all(&new).map_err(|error| Error::io("remove", &new, &error))?;
    Ok(None)
}

/// Gives a ledger its name whose process died when the folder was marked already.
///
/// # Errors
/// Exit 75 when that process works on it.
pub(super) fn settle(root: &Path, id: &str) -> Result<()> {
    let new = unfinished(root, id);
    if !new.is_dir() {
        return Ok(());
    }
    let _lock = match lock(&new, "export") {
        Ok(lock) => lock,
        // It has just got its name.
        Err(_) if !new.is_dir() => return Ok(()),
        Err(error) => return Err(error),
    };
    let named = root.join(id);
    std::fs::rename(&new, &named).map_err(|error| cannot_write(&named, &error))?;
    sync_folder(root)
}

/// Removes the ledgers that were begun by processes that died before they were whole.
pub fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let hidden = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
        let id = hidden.unwrap_or(&name);
        if Uuid::parse_str(id).is_err() || !is_old(&path) {
            continue;
        }
        if hidden.is_some() && binds(&path, id) {
            let _ = settle(root, id);
            continue;
        }
        if (hidden.is_some() || says_nothing(&path))
            && let Ok(_lock) = lock(&path, "export")
        {
            // One that cannot be removed is as harmless as before.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

fn is_old(ledger: &Path) -> bool {
    let begun = std::fs::metadata(ledger.join("lock")).or_else(|_| std::fs::metadata(ledger));
    let age = begun.and_then(|facts| facts.modified()).map(|at| at.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age > HALF_MADE)
}

/// Whether the folder of a ledger is marked as its own.
fn binds(ledger: &Path, id: &str) -> bool {
    let known = Ledger::look(ledger).and_then(|peek| peek.fact::<Identity>("export"));
    let Ok(Some(known)) = known else { return false };
    known.address.is_none() && marked(&known.folder).ok().flatten().as_deref() == Some(id)
}

/// Whether a ledger holds nothing at all, not even of what it is.
fn says_nothing(ledger: &Path) -> bool {
    if ledger.join("ledger.db").is_file() {
        return Ledger::look(ledger).and_then(|peek| peek.is_blank()).unwrap_or(false);
    }
    let Ok(mut entries) = std::fs::read_dir(ledger) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lock"))
}

/// Marks a folder as that of an export, unless it is marked.
fn mark(folder: &Path, id: &str) -> Result<bool> {
    use std::io::ErrorKind as Io;
    let path = folder.join(MARKER);
    let part = folder.join(format!("{MARKER}.{id}.part"));
    let write = |path: &Path| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(marker(id).as_bytes())?;
        file.sync_all()
    };
    let made = write(&part).and_then(|()| match std::fs::hard_link(&part, &path) {
        // Some file systems know no second name; there a crash may leave half a marker.
        Err(error) if !matches!(error.kind(), Io::AlreadyExists | Io::NotFound) => write(&path),
        made => made,
    });
    let _ = std::fs::remove_file(&part);
    match made {
        Ok(()) => sync_folder(folder).map(|()| true),
        // Not found: the one who was faster has swept up behind it, or taken the folder away.
        Err(error) if matches!(error.kind(), Io::AlreadyExists | Io::NotFound) => Ok(false),
        Err(error) => Err(cannot_write(&path, &error)),
    }
}

/// What stands in a folder that an export would begin in. One folder is of one export, and what it
/// holds is its own: nothing is verified and nothing purged that somebody else has put there.
fn other_data(folder: &Path) -> Result<Option<String>> {
    let entries = std::fs::read_dir(folder).map_err(|error| cannot_write(folder, &error))?;
    let mut names = entries.flatten().map(|it| it.file_name().to_string_lossy().into_owned());
    Ok(names.find(|name| {
        // A disk's own folder, and what a process leaves that was killed while it marked.
        name != "lost+found" && !(name.starts_with(MARKER) && name.ends_with(".part"))
    }))
}

/// Makes a folder that was there its owner's alone. Another's folder is as that one wants it, and
/// some file systems have no such modes.
fn make_private(folder: &Path) {
    let Ok(facts) = std::fs::metadata(folder) else { return };
    let mut permissions = facts.permissions();
    if facts.uid() == geteuid().as_raw() && permissions.mode() & 0o077 != 0 {
        permissions.set_mode(permissions.mode() & !0o077);
        let _ = std::fs::set_permissions(folder, permissions);
    }
}
