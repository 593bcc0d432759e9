//! What a ledger knows of uploads into an object store: which object has which parts there already.

use rusqlite::{OptionalExtension as _, params};

use super::Ledger;
use super::rows::{FileRow, row, signed};
use crate::model::Result;

/// An upload in several parts that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The store's name for it; `None` when the process died before it was known.
    pub id: Option<String>,
    pub part_bytes: u64,
    /// Number and the store's name of every part that is there.
    pub parts: Vec<(usize, String)>,
}

impl Ledger {
    /// Files that are complete here and not in the store yet, behind an id.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn staged(&self, after: u32, most: u32) -> Result<Vec<FileRow>> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM file WHERE state = 1 AND id > ?1 ORDER BY id LIMIT ?2",
                )?
                .query_map(params![after, most], row)?
                .collect()
        })
    }

    /// Notes that a file is in the store; its upload is over.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn stored(&self, id: u32, name: &str) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("UPDATE file SET state = 3 WHERE id = ?1", [id])?;
            transaction.execute("DELETE FROM upload WHERE name = ?1", [name])?;
            transaction.execute("DELETE FROM upload_part WHERE name = ?1", [name])?;
            transaction.commit()
        })
    }

    /// The upload of an object that was begun.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn upload(&self, name: &str) -> Result<Option<Upload>> {
        self.run(|connection| {
            let found: Option<(Option<String>, i64)> = connection
                .prepare_cached("SELECT upload, part_bytes FROM upload WHERE name = ?1")?
                .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((id, part_bytes)) = found else { return Ok(None) };
            let parts = connection
                .prepare_cached("SELECT number, part FROM upload_part WHERE name = ?1")?
                .query_map([name], |row| Ok((row.get::<_, u32>(0)? as usize, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Some(Upload { id, part_bytes: part_bytes.unsigned_abs(), parts }))
        })
    }

    /// The objects whose upload was begun and is not over.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn uploads(&self) -> Result<Vec<String>> {
        self.run(|connection| {
            connection
                .prepare("SELECT name FROM upload")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// Notes that an upload is about to be begun: the store's name for it comes later.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn upload_begins(&self, name: &str, part_bytes: u64) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM upload_part WHERE name = ?1", [name])?;
            transaction.execute(
                "INSERT OR REPLACE INTO upload (name, upload, part_bytes) VALUES (?1, NULL, ?2)",
                params![name, signed(part_bytes)],
            )?;
            transaction.commit()
        })
    }

    /// Notes the store's name for an upload.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn upload_named(&self, name: &str, id: &str) -> Result<()> {
        self.run(|connection| {
            connection
                .execute("UPDATE upload SET upload = ?2 WHERE name = ?1", params![name, id])
                .map(drop)
        })
    }

    /// Notes a part that is there.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn part_there(&self, name: &str, number: usize, part: &str) -> Result<()> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO upload_part (name, number, part) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![name, signed(number as u64), part])
                .map(drop)
        })
    }

    /// Notes that an upload is over: joined, or given up.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn upload_ended(&self, name: &str) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM upload WHERE name = ?1", [name])?;
            transaction.execute("DELETE FROM upload_part WHERE name = ?1", [name])?;
            transaction.commit()
        })
    }
}
