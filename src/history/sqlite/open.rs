//! Opening the file: whose it is, which layout it has, and whether it can be written.

use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, OpenFlags};

use super::{Sqlite, rollback, trouble};
use crate::history::migrations::{self, Migration};
use crate::model::{Error, Result};

/// `fhir` in ASCII, in the header of the file: what SQLite's `application_id` is for.
const APPLICATION: i64 = 0x6668_6972;
/// Pages of the log before they are brought into the file: pages that every run touches are written
/// back once for many runs.
const CHECKPOINT_PAGES: i64 = 8_000;

static MIGRATIONS: &[Migration] = &[
    Migration {
        version: 20_261_129,
        sql: include_str!("../migrations/sqlite/20261129_readings.sql"),
    },
    Migration {
        version: 20_261_130,
        sql: include_str!("../migrations/sqlite/20261130_gauges.sql"),
    },
];

impl Sqlite {
    /// Opens the file. `None` when it is not there and shall not be made.
    pub async fn open(path: PathBuf, create: bool, patience: Duration) -> Result<Option<Sqlite>> {
        let task = tokio::task::spawn_blocking(move || {
            let has_something = |file: Metadata| file.is_file() && file.len() > 0;
            if !create && !std::fs::metadata(&path).is_ok_and(has_something) {
                return Ok(None);
            }
            let (connection, read_only) = connect(&path, patience)?;
            let connection = Some(connection);
            Ok(Some(Sqlite {
                path,
                patience,
                connection,
                read_only,
                is_reading: false,
                claim: None,
            }))
        });
        task.await.map_err(|error| Error::internal(format!("history was not opened: {error}")))?
    }
}

/// A connection, and whether it can only read.
///
/// What is there is opened by SQLite alone: when a process closes any handle of a file, POSIX takes all
/// of its locks on that file away, and another connection of this process may have some.
pub(super) fn connect(path: &Path, patience: Duration) -> Result<(Connection, bool)> {
    make(path)?;
    let read_only = !is_writable(path);
    let connection = if read_only { reading(path)? } else { writing(path)? };
    let prepared = patiently(patience, |left| prepare(&connection, path, read_only, left));
    prepared.map_err(|error| match error {
        Problem::Sql(error) => trouble::told(path, &error),
        Problem::Told(error) => error,
    })?;
    connection.busy_timeout(patience).map_err(|error| trouble::told(path, &error))?;
    Ok((connection, read_only))
}

/// Makes the file where there is none; SQLite would make it readable by others.
fn make(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    // A link that leads nowhere yet is followed.
    options.write(true).create(true).truncate(false).create_new(!path.is_symlink()).mode(0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::cannot_create(path, &error)
            .hint("name another file with --history sqlite:FILE, or record nothing: --no-record")),
    }
}

/// Whether it can be written, and a log beside it.
fn is_writable(path: &Path) -> bool {
    let may_write = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    let real = real(path);
    may_write(&real) && real.parent().is_none_or(may_write)
}

/// Where it leads to, if it is a link.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn writing(path: &Path) -> Result<Connection> {
    Connection::open(path).map_err(|error| trouble::told(path, &error))
}

/// Without a log beside it the file is all there is, and can be read where nothing can be written.
fn reading(path: &Path) -> Result<Connection> {
    let whole = std::fs::metadata(log_of(path)).map_or(true, |log| log.len() == 0);
    let escaped =
        path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let name = format!("file:{escaped}?mode=ro{}", if whole { "&immutable=1" } else { "" });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(name, flags).map_err(|error| trouble::told(path, &error))
}

/// Where SQLite keeps what is not in the file yet.
fn log_of(path: &Path) -> PathBuf {
    let mut log = real(path).into_os_string();
    log.push("-wal");
    log.into()
}

enum Problem {
    Sql(rusqlite::Error),
    Told(Error),
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Problem {
        Problem::Sql(error)
    }
}

/// Where SQLite gives up at once when somebody else is first: turning to the log, and its recovery.
/// What is done is told how long it may still wait.
fn patiently(
    patience: Duration,
    mut doing: impl FnMut(Duration) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let end = Instant::now() + patience;
    loop {
        match doing(end.saturating_duration_since(Instant::now())) {
            Err(Problem::Sql(error))
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && Instant::now() < end =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

fn prepare(
    connection: &Connection,
    path: &Path,
    read_only: bool,
    patience: Duration,
) -> Result<(), Problem> {
    rollback(connection);
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -24_000)?;
    let is_ours = whose(connection, path)?;
    if !read_only {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    }
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if migrations::is_known(MIGRATIONS, version)
        .map_err(|error| Problem::Told(error(path.display().to_string())))?
        && is_ours
    {
        return whole(connection, path);
    }
    if read_only {
        return Err(Problem::Told(trouble::read_only(path)));
    }
    migrate(connection, path)
}

/// Holds the length of the file against its own header: SQLite counts a page that is cut off as one, and
/// would find out when it reads it.
fn whole(connection: &Connection, path: &Path) -> Result<(), Problem> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    connection.execute_batch("BEGIN")?;
    let says = (number("PRAGMA page_count")? * number("PRAGMA page_size")?).unsigned_abs();
    // Within a transaction nobody takes the log away in which a part of it is.
    let is_all = length(&log_of(path)) == 0;
    let found = length(path);
    rollback(connection);
    if is_all && found < says {
        let reason = format!("it is {found} bytes long where its header says {says}");
        return Err(Problem::Told(trouble::damaged(path, &reason)));
    }
    Ok(())
}

/// Whether it is ours. A fresh one is nobody's.
fn whose(connection: &Connection, path: &Path) -> Result<bool, Problem> {
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match application {
        APPLICATION => Ok(true),
        0 if tables == 0 => Ok(false),
        _ => Err(Problem::Told(trouble::foreign(path))),
    }
}

fn migrate(connection: &Connection, path: &Path) -> Result<(), Problem> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let result = (|| {
        // Somebody else may have been first, with this or with another database.
        whose(connection, path)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        for migration in migrations::missing(MIGRATIONS, version) {
            connection.execute_batch(migration.sql)?;
            connection.pragma_update(None, "user_version", migration.version)?;
        }
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.execute_batch("COMMIT")?;
        Ok(())
    })();
    rollback(connection);
    result
}
