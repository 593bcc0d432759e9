//! What an export has done so far, on the disk before the next step is made.
//!
//! An SQLite database in the state folder, one per export. A commit has reached the disk when it
//! comes back (`synchronous = FULL`); what is half written by a crash is rolled back on opening.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::error::io_reason;
use crate::model::{Error, ErrorKind, Result};

/// The layout of the database. A ledger of a newer program is refused.
const VERSION: i64 = 1;

/// Most findings that are kept for one file; the others are counted.
pub const FINDINGS_KEPT: usize = 100;

/// The ledger of one export, open and locked.
pub struct Ledger {
    folder: PathBuf,
    connection: Mutex<Connection>,
    _lock: File,
}

/// Which list of the manifest a file stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Output,
    Error,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Wanted,
    There,
    GivenUp,
}

/// One file of an export.
#[derive(Clone, Debug)]
pub struct FileRow {
    pub id: u32,
    pub page: u32,
    pub kind: Kind,
    pub position: u32,
    /// The resource type of the manifest; empty where it names none.
    pub resource_type: String,
    pub sequence: u32,
    pub url: String,
    /// The manifest's `count`.
    pub expected: Option<u64>,
    pub state: State,
    pub done: Option<Done>,
    /// Why it was given up: a reason code and our words.
    pub trouble: Option<(String, String)>,
}

/// What there is to say of a file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Below the export's folder.
    pub name: String,
    /// Which attempt at which file brought it; tells its ids from those of an attempt that failed.
    pub attempt: u64,
    pub lines: u64,
    /// As stored.
    pub bytes: u64,
    /// After decompression.
    pub content_bytes: u64,
    /// Of the stored bytes, in hex.
    pub sha256: String,
    pub duration_ms: u64,
    pub retries: u32,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Below the export's folder.
    pub file: Option<String>,
    /// Counts from 1.
    pub line: Option<u64>,
    pub code: String,
    pub severity: Severity,
    /// Our words; never what stands in the data.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Note,
    Warning,
    Error,
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }

    fn parse(text: &str) -> Severity {
        match text {
            "note" => Severity::Note,
            "warning" => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Output => "output",
            Kind::Error => "error",
            Kind::Deleted => "deleted",
        }
    }

    fn number(self) -> u8 {
        match self {
            Kind::Output => 0,
            Kind::Error => 1,
            Kind::Deleted => 2,
        }
    }

    fn of(number: u8) -> Kind {
        match number {
            0 => Kind::Output,
            1 => Kind::Error,
            _ => Kind::Deleted,
        }
    }
}

/// An entry of a manifest on its way into the ledger.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: Kind,
    pub position: u32,
    pub resource_type: String,
    pub url: String,
    pub expected: Option<u64>,
}

impl Ledger {
    /// Opens the ledger in a folder, or begins one.
    ///
    /// # Errors
    /// Exit 75 when another process works on this export, 78 when the ledger is of a newer program,
    /// 73 or 74 when it cannot be written.
    pub fn open(folder: &Path) -> Result<Ledger> {
        private_folder(folder)?;
        let lock = lock(folder, "export")?;
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
        Ok(Ledger { folder: folder.to_owned(), connection: Mutex::new(connection), _lock: lock })
    }

    /// Looks at a ledger that somebody else may be working on.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn look(folder: &Path) -> Result<Peek> {
        let path = folder.join("ledger.db");
        if !path.is_file() {
            return Err(Error::not_found(format!("there is no ledger in {}", folder.display())));
        }
        Ok(Peek { folder: folder.to_owned(), connection: connect(folder)? })
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
                .prepare("UPDATE file SET url = ?2, state = 0 WHERE id = ?1 AND state <> 1")
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

    /// Whether a page's chain has been at an address already.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn knows_url(&self, page: u32, url: &str) -> Result<bool> {
        self.run(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM file WHERE page = ?1 AND url = ?2 AND state = 1")?
                .exists(params![page, url])
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

/// How far an export is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub files: u64,
    pub files_done: u64,
    pub files_missing: u64,
    /// Lines of output files.
    pub resources: u64,
    /// As stored.
    pub bytes: u64,
    pub content_bytes: u64,
    /// Of files that name a count, lines that are expected.
    pub expected: u64,
    pub retries: u64,
}

/// A ledger that is looked at while another process may hold it.
pub struct Peek {
    folder: PathBuf,
    connection: Connection,
}

impl Peek {
    /// # Errors
    /// As [`Ledger::fact`].
    pub fn fact<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let text =
            fact_text(&self.connection, key).map_err(|error| trouble(&self.folder, &error))?;
        text.map(|text| parse_fact(&self.folder, key, &text)).transpose()
    }

    /// # Errors
    /// When the ledger cannot be read.
    pub fn totals(&self) -> Result<Totals> {
        totals(&self.connection, &self.folder)
    }

    /// # Errors
    /// When the ledger cannot be read.
    pub fn findings(&self) -> Result<Vec<Finding>> {
        findings(&self.connection, &self.folder)
    }

    /// The process that works on the export now.
    #[must_use]
    pub fn worker(&self) -> Option<u32> {
        let file = File::open(self.folder.join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                (&file).take(32).read_to_string(&mut text).ok()?;
                Some(text.trim().parse().unwrap_or(0))
            }
            _ => None,
        }
    }
}

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

/// Keeps every other process from the same work (`export`, `import`).
pub(super) fn lock(folder: &Path, work: &str) -> Result<File> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| cannot_write(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = (&file).take(32).read_to_string(&mut text);
            return Err(Error::new(
                ErrorKind::Resumable,
                format!("process {} works on this {work} already", text.trim()),
            )
            .hint("wait for its end, or stop it and run the same command again"));
        }
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path, &error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(|error| cannot_write(&path, &error))?;
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

fn put_findings(connection: &Connection, file: u32, findings: &[Finding]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM finding WHERE file = ?1 AND overall = 0")?
        .execute([file])?;
    findings.iter().try_for_each(|finding| put_finding(connection, Some(file), false, finding))
}

fn put_finding(
    connection: &Connection,
    file: Option<u32>,
    overall: bool,
    finding: &Finding,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO finding (file, overall, line, code, severity, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            file,
            overall,
            finding.line.map(signed),
            finding.code,
            finding.severity.as_str(),
            finding.message
        ])
        .map(drop)
}

fn findings(connection: &Connection, folder: &Path) -> Result<Vec<Finding>> {
    let read = || -> rusqlite::Result<Vec<Finding>> {
        connection
            .prepare_cached(
                "SELECT file.name, finding.line, finding.code, finding.severity, finding.message
                 FROM finding LEFT JOIN file ON file.id = finding.file
                 ORDER BY CASE finding.severity WHEN 'error' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
                     finding.file IS NOT NULL, finding.file, finding.id",
            )?
            .query_map([], |row| {
                Ok(Finding {
                    file: row.get(0)?,
                    line: row.get::<_, Option<i64>>(1)?.map(i64::unsigned_abs),
                    code: row.get(2)?,
                    severity: Severity::parse(&row.get::<_, String>(3)?),
                    message: row.get(4)?,
                })
            })?
            .collect()
    };
    read().map_err(|error| trouble(folder, &error))
}

fn totals(connection: &Connection, folder: &Path) -> Result<Totals> {
    connection
        .query_row(
            "SELECT COUNT(*), COALESCE(SUM(state = 1), 0), COALESCE(SUM(state = 2), 0),
                 COALESCE(SUM(CASE WHEN kind = 0 THEN lines END), 0), COALESCE(SUM(bytes), 0),
                 COALESCE(SUM(content_bytes), 0), COALESCE(SUM(expected), 0),
                 COALESCE(SUM(retries), 0)
             FROM file",
            [],
            |row| {
                let number = |index: usize| row.get::<_, i64>(index).map(i64::unsigned_abs);
                Ok(Totals {
                    files: number(0)?,
                    files_done: number(1)?,
                    files_missing: number(2)?,
                    resources: number(3)?,
                    bytes: number(4)?,
                    content_bytes: number(5)?,
                    expected: number(6)?,
                    retries: number(7)?,
                })
            },
        )
        .map_err(|error| trouble(folder, &error))
}

fn each_file(
    connection: &Connection,
    folder: &Path,
    tell: &mut dyn FnMut(FileRow) -> Result<()>,
) -> Result<()> {
    let broken = |error: rusqlite::Error| trouble(folder, &error);
    let mut all = connection
        .prepare_cached("SELECT * FROM file ORDER BY kind, type, sequence")
        .map_err(broken)?;
    let mut rows = all.query([]).map_err(broken)?;
    while let Some(next) = rows.next().map_err(broken)? {
        tell(row(next).map_err(broken)?)?;
    }
    Ok(())
}

fn row(row: &Row<'_>) -> rusqlite::Result<FileRow> {
    let number = |name: &str| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(name)?.map(i64::unsigned_abs))
    };
    let state = match row.get::<_, u8>("state")? {
        0 => State::Wanted,
        1 => State::There,
        _ => State::GivenUp,
    };
    let done = match (state, row.get::<_, Option<String>>("name")?) {
        (State::There, Some(name)) => Some(Done {
            name,
            attempt: number("attempt")?.unwrap_or(0),
            lines: number("lines")?.unwrap_or(0),
            bytes: number("bytes")?.unwrap_or(0),
            content_bytes: number("content_bytes")?.unwrap_or(0),
            sha256: row.get::<_, Option<String>>("sha256")?.unwrap_or_default(),
            duration_ms: number("duration_ms")?.unwrap_or(0),
            retries: row.get::<_, Option<u32>>("retries")?.unwrap_or(0),
        }),
        _ => None,
    };
    let trouble = match (state, row.get::<_, Option<String>>("code")?) {
        (State::GivenUp, Some(code)) => {
            Some((code, row.get::<_, Option<String>>("message")?.unwrap_or_default()))
        }
        _ => None,
    };
    Ok(FileRow {
        id: row.get("id")?,
        page: row.get("page")?,
        kind: Kind::of(row.get("kind")?),
        position: row.get("position")?,
        resource_type: row.get("type")?,
        sequence: row.get("sequence")?,
        url: row.get("url")?,
        expected: number("expected")?,
        state,
        done,
        trouble,
    })
}

/// SQLite's integers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
