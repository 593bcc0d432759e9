//! The databases of ledgers: how they are opened, what their facts are, and what a failure means.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::de::DeserializeOwned;

use super::disk::cannot_write;
use crate::model::{Error, ErrorKind, Result};

pub(super) fn connect(folder: &Path) -> Result<Connection> {
    let path = folder.join("ledger.db");
    // SQLite would make it readable by others.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| cannot_write(&path, &error))?;
    let connection = Connection::open(&path).map_err(|error| trouble(folder, &error))?;
    connection
        .busy_timeout(std::time::Duration::from_secs(10))
        .and_then(|()| connection.pragma_update(None, "journal_mode", "WAL"))
        .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
        .map_err(|error| trouble(folder, &error))?;
    Ok(connection)
}

pub(super) fn trouble(folder: &Path, error: &rusqlite::Error) -> Error {
    let message = format!("the ledger {} cannot be used: {error}", folder.display());
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Error::new(ErrorKind::Resumable, message)
            .hint("make room and run the same command again: what is done stays done"),
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            Error::new(ErrorKind::Data, message)
                .hint("move it away and begin anew; it is left as it is")
        }
        _ => Error::new(ErrorKind::Io, message),
    }
}

pub(super) fn fact_text(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM fact WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

pub(super) fn parse_fact<T: DeserializeOwned>(folder: &Path, key: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(
            ErrorKind::Data,
            format!("the ledger {} holds no {key}: {error}", folder.display()),
        )
    })
}

pub(super) fn put(
    connection: &Connection,
    key: &str,
    value: &serde_json::Value,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO fact (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value.to_string()])
        .map(drop)
}
