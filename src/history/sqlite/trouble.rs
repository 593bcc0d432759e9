//! What a failure of the file means to somebody who is tired.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::model::{Error, ErrorKind};

pub(super) fn told(path: &Path, error: &rusqlite::Error) -> Error {
    let shown = path.display();
    let reason = reason(error);
    let code = if is_full(error) { Some(ErrorCode::DiskFull) } else { error.sqlite_error_code() };
    match code {
        Some(ErrorCode::DiskFull) => Error::new(
            ErrorKind::Resumable,
            format!("the disk is full: history in {shown} was not written"),
        )
        .hint("make room; what was written before stays, and nothing is half written"),
        Some(ErrorCode::NotADatabase) => no_database(path),
        Some(ErrorCode::DatabaseCorrupt) => damaged(path, &reason),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::new(
            ErrorKind::Resumable,
            format!("history in {shown} is locked by another process, and stayed so"),
        )
        .hint("see who holds it (fuser, lsof), then run the same command again"),
        Some(ErrorCode::ReadOnly) => read_only(path),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Error::new(ErrorKind::Io, format!("history in {shown} cannot be opened: {reason}"))
                .hint("check that the folder is there and that you may write to it")
        }
        _ => Error::new(ErrorKind::Io, format!("history in {shown} cannot be used: {reason}")),
    }
}

pub(super) fn read_only(path: &Path) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("history in {} can be read only: nothing was written", path.display()),
    )
    .hint("check the owner and mode of the file and its folder, and whether the disk is mounted read-only")
}

pub(super) fn no_database(path: &Path) -> Error {
    Error::new(ErrorKind::Data, format!("{} is no SQLite database", path.display())).hint(
        "name another file with --history sqlite:FILE, or move this one away; it is left as it is",
    )
}

pub(super) fn foreign(path: &Path) -> Error {
    Error::new(
        ErrorKind::Data,
        format!(
            "{} is a database of another program: it holds no history of fhirctl",
            path.display()
        ),
    )
    .hint("name another file with --history sqlite:FILE; this one is left as it is")
}

pub(super) fn damaged(path: &Path, reason: &str) -> Error {
    Error::new(ErrorKind::Data, format!("history in {} is damaged: {reason}", path.display()))
        .hint("restore it from a backup, or save what can be read: sqlite3 FILE .recover")
        .hint("or move it away, and the next run begins a new one; it is left as it is")
}

/// Where there is no room for what processes share of the log, SQLite tells it apart.
fn is_full(error: &rusqlite::Error) -> bool {
    let shared = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
    error.sqlite_error().is_some_and(|error| error.extended_code == shared)
}

/// SQLite's words.
fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        error => error.to_string(),
    }
}
