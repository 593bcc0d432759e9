//! What an export has done so far, on the disk before the next step is made.
//!
//! An SQLite database in the state folder, one per export. A commit has reached the disk when it
//! comes back (`synchronous = FULL`); what is half written by a crash is rolled back on opening.

mod joined;
mod peek;
mod rows;
mod uploads;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::de::DeserializeOwned;

use super::database::{connect, fact_text, parse_fact, put, trouble};
use super::disk::{cannot_write, lock, private_folder, sync_folder};
use super::export::Identity;
use crate::model::{Error, Result};

pub use joined::Joined;
pub use peek::Peek;
pub use rows::{Done, Entry, FINDINGS_KEPT, FileRow, Finding, Kind, Severity, State, Totals};
use rows::{each_file, findings, put_finding, put_findings, row, signed, totals};
pub use uploads::Upload;

/// The layout of the database. A ledger of a newer program is refused.
const VERSION: i64 = 1;

/// The ledger of one export, open and locked.
pub struct Ledger {
    folder: PathBuf,
    connection: Mutex<Connection>,
    lock: File,
}

impl Ledger {
    /// Begins the ledger of a folder.
    ///
    /// # Errors
    /// Exit 73 or 74 when it cannot be written.
    pub fn begin(folder: &Path) -> Result<Ledger> {
        private_folder(folder)?;
        Ledger::with(folder, lock(folder, "export")?)
    }

    /// Opens the ledger in a folder.
    ///
    /// # Errors
    /// Exit 75 when another process works on this export, 78 when the ledger is of a newer program,
    /// 66 when there is none, 73 or 74 when it cannot be written.
    pub fn open(folder: &Path) -> Result<Ledger> {
        is_there(folder)?;
        Ledger::with(folder, lock(folder, "export")?)
    }

    fn with(folder: &Path, lock: File) -> Result<Ledger> {
        let connection = connect(folder)?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| trouble(folder, &error))?;
        if version > VERSION {
            return Err(Error::config(format!(
                "the ledger {} was written by a newer fhirctl",
                folder.display()
            ))
            .hint("go on with the version that began this export"));
        }
        connection
            .execute_batch(include_str!("ledger/schema.sql"))
            .and_then(|()| connection.pragma_update(None, "user_version", VERSION))
            .map_err(|error| trouble(folder, &error))?;
        sync_folder(folder)?;
        Ok(Ledger { folder: folder.to_owned(), connection: Mutex::new(connection), lock })
    }

    /// Looks at a ledger that somebody else may be working on.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn look(folder: &Path) -> Result<Peek> {
        is_there(folder)?;
        Ok(Peek { folder: folder.to_owned(), connection: connect(folder)? })
    }

    /// Gives the ledger's folder another name.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn named(self, folder: &Path) -> Result<Ledger> {
        // The database finds its own files by their names.
        drop(self.connection);
        std::fs::rename(&self.folder, folder).map_err(|error| cannot_write(folder, &error))?;
        sync_folder(folder.parent().unwrap_or(folder))?;
        Ledger::with(folder, self.lock)
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&mut self.connection()).map_err(|error| trouble(&self.folder, &error))
    }

    /// A fact that was noted; `None` when it was not.
    ///
    /// # Errors
    /// When the ledger cannot be read, or holds something else under this key.
    pub fn fact<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let text = self.run(|connection| fact_text(connection, key))?;
        text.map(|text| parse_fact(&self.folder, key, &text)).transpose()
    }

    /// Notes a fact, or several at once. They are on the disk when this comes back.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn note(&self, facts: &[(&str, serde_json::Value)]) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for (key, value) in facts {
                put(&transaction, key, value)?;
            }
            transaction.commit()
        })
    }

    /// Takes facts back.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn unnote(&self, keys: &[&str]) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for key in keys {
                transaction.execute("DELETE FROM fact WHERE key = ?1", [key])?;
            }
            transaction.commit()
        })
    }

    /// Forgets everything but the place, and begins another export there.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn begin_anew(&self, export: &Identity) -> Result<()> {
        let ids = self.folder.join("ids");
        match std::fs::remove_file(&ids) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot_write(&ids, &error));
            }
            _ => {}
        }
        self.run(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute_batch(
                "DELETE FROM finding; DELETE FROM file; DELETE FROM fact WHERE key <> 'marked';",
            )?;
            put(&transaction, "export", &serde_json::json!(export))?;
            transaction.commit()
        })
    }

    /// Takes in a manifest page: new files are wanted, known ones that are still wanted or given up
    /// get their new address. The facts are noted in the same step.
    ///
    /// # Errors
    /// What the entries' source says, or that the ledger cannot be written.
    pub fn take_page(
        &self,
        page: u32,
        entries: impl FnOnce(&mut dyn FnMut(Entry) -> Result<()>) -> Result<()>,
        facts: &mut dyn FnMut() -> Vec<(&'static str, serde_json::Value)>,
    ) -> Result<u64> {
        let mut connection = self.connection();
        let broken = |error: &rusqlite::Error| trouble(&self.folder, error);
        let transaction = connection.transaction().map_err(|error| broken(&error))?;
        let mut new = 0;
        {
            let mut sequences = std::collections::HashMap::<(u8, String), u32>::new();
            let mut known = transaction
                .prepare(
                    "SELECT COALESCE(MAX(sequence) + 1, 0) FROM file WHERE kind = ?1 AND type = ?2",
                )
                .map_err(|error| broken(&error))?;
            let mut find = transaction
                .prepare("SELECT id FROM file WHERE page = ?1 AND kind = ?2 AND position = ?3")
                .map_err(|error| broken(&error))?;
            let mut renew = transaction
                .prepare(
                    "UPDATE file SET url = ?2, state = 0 WHERE id = ?1 AND state NOT IN (1, 3, 4)",
                )
                .map_err(|error| broken(&error))?;
            let mut insert = transaction
                .prepare(
                    "INSERT INTO file (page, kind, position, type, sequence, url, expected)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )
                .map_err(|error| broken(&error))?;
            entries(&mut |entry: Entry| {
                let kind = entry.kind.number();
                let id: Option<i64> = find
                    .query_row(params![page, kind, entry.position], |row| row.get(0))
                    .optional()
                    .map_err(|error| broken(&error))?;
                if let Some(id) = id {
                    renew.execute(params![id, entry.url]).map_err(|error| broken(&error))?;
                    return Ok(());
                }
                let key = (kind, entry.resource_type);
                let sequence = match sequences.get_mut(&key) {
                    Some(next) => next,
                    None => {
                        let first: u32 = known
                            .query_row(params![key.0, key.1], |row| row.get(0))
                            .map_err(|error| broken(&error))?;
                        sequences.entry(key.clone()).or_insert(first)
                    }
                };
                let expected = entry.expected.and_then(|count| i64::try_from(count).ok());
                insert
                    .execute(params![
                        page,
                        key.0,
                        entry.position,
                        key.1,
                        *sequence,
                        entry.url,
                        expected
                    ])
                    .map_err(|error| broken(&error))?;
                *sequence += 1;
                new += 1;
                Ok(())
            })?;
        }
        for (key, value) in facts() {
            put(&transaction, key, &value).map_err(|error| broken(&error))?;
        }
        transaction.commit().map_err(|error| broken(&error))?;
        Ok(new)
    }

    /// The next files that are wanted, behind an id.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn wanted(&self, after: u32, most: u32) -> Result<Vec<FileRow>> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM file WHERE state = 0 AND id > ?1 ORDER BY id LIMIT ?2",
                )?
                .query_map(params![after, most], row)?
                .collect()
        })
    }

    /// Whether a chain of pages was at an address before a place in it. What comes behind that place
    /// may be there already: a run that was interrupted knows both and fetches them in any order.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn was_at(&self, page: u32, url: &str, position: u32) -> Result<bool> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "SELECT 1 FROM file WHERE page = ?1 AND url = ?2 AND position <= ?3",
                )?
                .exists(params![page, url, position])
        })
    }

    /// # Errors
    /// When the ledger cannot be read, or knows no such file.
    pub fn file(&self, id: u32) -> Result<FileRow> {
        self.run(|connection| connection.query_row("SELECT * FROM file WHERE id = ?1", [id], row))
    }

    /// Every file in the order of its kind, type and sequence.
    ///
    /// # Errors
    /// When the ledger cannot be read, or whoever is told of a file.
    pub fn each_file(&self, tell: &mut dyn FnMut(FileRow) -> Result<()>) -> Result<()> {
        each_file(&self.connection(), &self.folder, tell)
    }

    /// Notes files as being there, all in one step. What was found in them comes along.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn sealed(&self, files: &[(u32, Done, Vec<Finding>)]) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            {
                let mut update = transaction.prepare_cached(
                    "UPDATE file SET state = 1, name = ?2, attempt = ?3, lines = ?4, bytes = ?5,
                         content_bytes = ?6, sha256 = ?7, duration_ms = ?8, retries = ?9,
                         code = NULL, message = NULL
                     WHERE id = ?1",
                )?;
                for (id, done, findings) in files {
                    update.execute(params![
                        id,
                        done.name,
                        signed(done.attempt),
                        signed(done.lines),
                        signed(done.bytes),
                        signed(done.content_bytes),
                        done.sha256,
                        signed(done.duration_ms),
                        done.retries
                    ])?;
                    put_findings(&transaction, *id, findings)?;
                }
            }
            transaction.commit()
        })
    }

    /// Notes that a file is given up, and why.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn given_up(&self, id: u32, code: &str, message: &str) -> Result<()> {
        self.run(|connection| {
            connection
                .execute(
                    "UPDATE file SET state = 2, code = ?2, message = ?3 WHERE id = ?1",
                    params![id, code, message],
                )
                .map(drop)
        })
    }

    /// Wants again what was given up.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn want_again(&self) -> Result<()> {
        self.run(|connection| {
            connection.execute("UPDATE file SET state = 0 WHERE state = 2", []).map(drop)
        })
    }

    /// Replaces what was found in the whole, in one step; a finding may name a file by its id.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn conclude(&self, findings: &[(Option<u32>, Finding)]) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM finding WHERE overall = 1", [])?;
            for (file, finding) in findings {
                put_finding(&transaction, *file, true, finding)?;
            }
            transaction.commit()
        })
    }

    /// Everything that was found, worst first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn findings(&self) -> Result<Vec<Finding>> {
        findings(&self.connection(), &self.folder)
    }

    /// # Errors
    /// When the ledger cannot be read.
    pub fn totals(&self) -> Result<Totals> {
        totals(&self.connection(), &self.folder)
    }
}

fn is_there(folder: &Path) -> Result<()> {
    match folder.join("ledger.db").is_file() {
        true => Ok(()),
        false => Err(Error::not_found(format!("there is no ledger in {}", folder.display()))),
    }
}
