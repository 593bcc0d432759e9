//! Opening the file: whose it is, which layout it has, and whether it is whole.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{Sqlite, rollback, trouble};
use crate::history::migrations::{self, Migration};
use crate::model::{Error, Result};

/// `fhir` in ASCII, in the header of the file: what SQLite's `application_id` is for.
const APPLICATION: i64 = 0x6668_6972;
/// How long a writer waits for another one.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
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
    pub async fn open(path: PathBuf, create: bool) -> Result<Option<Sqlite>> {
        let task = tokio::task::spawn_blocking(move || {
            if !create && !path.is_file() {
                return Ok(None);
            }
            let (connection, read_only) = connect(&path)?;
            Ok(Some(Sqlite { path, connection: Some(connection), read_only }))
        });
        task.await.map_err(|error| Error::internal(format!("history was not opened: {error}")))?
    }
}

/// A connection, and whether it can only read.
pub(super) fn connect(path: &Path) -> Result<(Connection, bool)> {
    // SQLite would make it readable by others.
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let read_only = match made {
        Ok(_) => false,
        Err(error) if path.is_file() => {
            if !matches!(
                error.kind(),
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
            ) {
                return Err(Error::io("open the history", path, &error));
            }
            true
        }
        Err(error) => {
            return Err(Error::cannot_create(path, &error).hint(
                "name another file with --history sqlite:FILE, or record nothing: --no-record",
            ));
        }
    };
    look_twice(path)?;
    let connection = if read_only {
        reading(path)?
    } else {
        Connection::open(path).map_err(|e| trouble::told(path, &e))?
    };
    patiently(|| prepare(&connection, path, read_only)).map_err(|error| match error {
        Problem::Sql(error) => trouble::told(path, &error),
        Problem::Told(error) => error,
    })?;
    Ok((connection, read_only))
}

/// Without a log beside it the file is all there is, and can be read where nothing can be written.
fn reading(path: &Path) -> Result<Connection> {
    let log = PathBuf::from(format!("{}-wal", path.display()));
    let whole = std::fs::metadata(log).map_or(true, |log| log.len() == 0);
    let escaped =
        path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let name = format!("file:{escaped}?mode=ro{}", if whole { "&immutable=1" } else { "" });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(name, flags).map_err(|error| trouble::told(path, &error))
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
fn patiently(mut doing: impl FnMut() -> Result<(), Problem>) -> Result<(), Problem> {
    let began = Instant::now();
    loop {
        match doing() {
            Err(Problem::Sql(error))
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && began.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

fn prepare(connection: &Connection, path: &Path, read_only: bool) -> Result<(), Problem> {
    rollback(connection);
    connection.busy_timeout(PATIENCE)?;
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
        return Ok(());
    }
    if read_only {
        return Err(Problem::Told(trouble::read_only(path)));
    }
    migrate(connection, path)
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

/// Looks again at what seems to be cut off: the last one to close a history brings its log into the file
/// and takes the log away, and for a moment the header may be ahead of the rest.
fn look_twice(path: &Path) -> Result<()> {
    const LOOKS: usize = 4;
    const APART: Duration = Duration::from_millis(50);
    for _ in 1..LOOKS {
        if look_at(path).is_ok() {
            return Ok(());
        }
        std::thread::sleep(APART);
    }
    look_at(path)
}

/// Holds the file's own header against its size: SQLite would find out when it reads the missing part.
fn look_at(path: &Path) -> Result<()> {
    let mut header = Vec::new();
    let file = File::open(path).map_err(|error| Error::io("open the history", path, &error))?;
    (&file)
        .take(100)
        .read_to_end(&mut header)
        .map_err(|error| Error::io("read the history", path, &error))?;
    // Behind the header: a file that grows meanwhile is not too short.
    let length = file.metadata().map_or(0, |meta| meta.len());
    if header.is_empty() {
        return Ok(());
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(trouble::no_database(path));
    }
    let log = std::fs::metadata(format!("{}-wal", path.display())).map_or(0, |log| log.len());
    let number = |at: usize, count: usize| {
        header
            .get(at..at + count)
            .map(|bytes| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b)))
    };
    let (Some(size), Some(pages)) = (number(16, 2), number(28, 4)) else {
        return Err(trouble::damaged(path, "it ends within its header"));
    };
    // 1 stands for 65,536, which two bytes do not hold.
    let size = if size == 1 { 65_536 } else { size };
    if log == 0 && length < size * pages {
        return Err(trouble::damaged(
            path,
            &format!("it is {length} bytes long where its header says {}", size * pages),
        ));
    }
    Ok(())
}
