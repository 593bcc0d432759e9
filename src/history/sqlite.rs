//! History in a file: SQLite, with a log ahead of every write and the disk awaited.
//!
//! SQLite blocks, so every call runs on a thread that may. The connection goes there and comes back; a
//! caller that is dropped in between takes it along, and with it whatever was not committed. A transaction
//! that reads waits for nobody, and has many short calls: they stay on the thread that asks.

mod gauges;
mod open;
mod packed;
mod readings;
mod rest;
mod trouble;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::db::Mode;
use crate::model::{Error, Result};

pub(super) struct Sqlite {
    path: PathBuf,
    /// How long it waits for others.
    patience: Duration,
    connection: Option<Connection>,
    read_only: bool,
    /// A transaction is open that only reads.
    is_reading: bool,
    /// Locked by whoever looks after the history alone.
    claim: Option<File>,
}

impl Sqlite {
    async fn call<T: Send + 'static>(
        &mut self,
        doing: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(connection) = self.connection.as_ref().filter(|_| self.is_reading)
            && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
        {
            return tokio::task::block_in_place(|| doing(connection))
                .map_err(|error| trouble::told(&self.path, &error));
        }
        let (path, patience) = (self.path.clone(), self.patience);
        let connection = self.connection.take();
        let task = tokio::task::spawn_blocking(move || {
            let connection = match connection {
                Some(connection) => connection,
                None => open::connect(&path, patience)?.0,
            };
            let result = doing(&connection).map_err(|error| trouble::told(&path, &error));
            Ok::<_, Error>((connection, result))
        });
        let (connection, result) = task.await.map_err(|error| {
            Error::internal(format!("a call of the history database broke off: {error}"))
        })??;
        self.connection = Some(connection);
        result
    }

    /// Whether nobody else looks after the history until this is dropped.
    pub async fn claim(&mut self) -> Result<bool> {
        let mut path = self.path.clone().into_os_string();
        path.push("-tidy");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        self.claim = options.open(path).ok().filter(|file| file.try_lock().is_ok());
        Ok(self.claim.is_some())
    }

    /// Begins a transaction; one that a dropped caller left open is rolled back first.
    pub async fn begin(&mut self, mode: Mode) -> Result<()> {
        if mode == Mode::Write && self.read_only {
            return Err(trouble::read_only(&self.path));
        }
        // The first call may have to open the file.
        self.is_reading = mode == Mode::Read && self.connection.is_some();
        self.call(move |connection| {
            rollback(connection);
            connection.execute_batch(match mode {
                Mode::Read => "BEGIN",
                Mode::Write => "BEGIN IMMEDIATE",
            })
        })
        .await?;
        self.is_reading = mode == Mode::Read;
        Ok(())
    }

    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.is_autocommit())
    }

    pub async fn commit(&mut self) -> Result<()> {
        let result = self
            .call(|connection| {
                let result = connection.execute_batch("COMMIT");
                rollback(connection);
                result
            })
            .await;
        self.is_reading = false;
        result
    }

    pub async fn rollback(&mut self) -> Result<()> {
        let result = self
            .call(|connection| {
                rollback(connection);
                Ok(())
            })
            .await;
        self.is_reading = false;
        result
    }
}

/// Ends what is open. That it fails is no news: what made it necessary was told.
fn rollback(connection: &Connection) {
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// A head as it is stored.
fn head(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<super::chain::Head> {
    row.get(column)
}
