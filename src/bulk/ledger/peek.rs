//! A look at a ledger that another process may be working on.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::path::PathBuf;

use rusqlite::Connection;
use serde::de::DeserializeOwned;

use super::super::database::{fact_text, parse_fact, trouble};
use super::rows::{Finding, Totals, findings, totals};
use crate::model::Result;

/// A ledger that is looked at while another process may hold it.
pub struct Peek {
    pub(super) folder: PathBuf,
    pub(super) connection: Connection,
}

impl Peek {
    /// # Errors
    /// When the ledger cannot be read, or holds something else under this key.
    pub fn fact<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let text =
            fact_text(&self.connection, key).map_err(|error| trouble(&self.folder, &error))?;
        text.map(|text| parse_fact(&self.folder, key, &text)).transpose()
    }

    /// Whether nothing was ever noted.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn is_blank(&self) -> Result<bool> {
        let count = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let tables = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'fact'";
        count(tables)
            .and_then(|tables| Ok(tables == 0 || count("SELECT COUNT(*) FROM fact")? == 0))
            .map_err(|error| trouble(&self.folder, &error))
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
