//! What an import has done so far. One SQLite database per import, in the state folder.
//!
//! A commit has reached the disk when it comes back. What is not in it is sent again, under the
//! same id; what may not be sent twice is noted before it is sent.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bulk::database::{connect, fact_text, parse_fact, put, trouble};
use crate::bulk::disk::{lock, private_folder, sync_folder};
use crate::model::{Error, Result};

/// The layout of the database. A ledger of a newer program is refused.
const VERSION: i64 = 1;

/// The ledger of one import, open and locked.
pub struct Ledger {
    folder: PathBuf,
    connection: Connection,
    _lock: File,
}

/// What became of the resources of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub accepted: u64,
    pub created: u64,
    pub deleted: u64,
    pub rejected: u64,
    pub retried: u64,
}

/// A resource that did not go in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reject {
    pub file: u32,
    pub line: u64,
    pub part: u32,
    pub resource_type: Option<String>,
    pub status: Option<u16>,
    pub code: String,
    pub issues: String,
    /// Our words.
    pub message: String,
}

/// What a chunk came to.
#[derive(Debug, Default)]
pub struct Settled {
    pub step: u32,
    pub number: u64,
    pub tallies: BTreeMap<String, Tally>,
    pub rejects: Vec<Reject>,
}

impl Ledger {
    /// Opens the ledger in a folder, or begins one.
    ///
    /// # Errors
    /// Exit 75 when another process works on this import or the disk is full, 78 when the ledger
    /// is of a newer program, 73 or 74 when it cannot be written.
    pub fn open(folder: &Path) -> Result<Ledger> {
        private_folder(folder)?;
        let lock = lock(folder, "import")?;
        let connection = connect(folder)?;
        let broken = |error: &rusqlite::Error| trouble(folder, error);
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| broken(&error))?;
        if version > VERSION {
            return Err(Error::config(format!(
                "the ledger {} was written by a newer fhirctl",
                folder.display()
            ))
            .hint("go on with the version that began this import"));
        }
        connection
            .execute_batch(include_str!("schema.sql"))
            .and_then(|()| connection.pragma_update(None, "user_version", VERSION))
            .map_err(|error| broken(&error))?;
        sync_folder(folder)?;
        Ok(Ledger { folder: folder.to_owned(), connection, _lock: lock })
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&mut self.connection).map_err(|error| trouble(&self.folder, &error))
    }

    /// # Errors
    /// When the ledger cannot be read, or holds something else under this key.
    pub fn fact<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        let text = self.run(|connection| fact_text(connection, key))?;
        text.map(|text| parse_fact(&self.folder, key, &text)).transpose()
    }

    /// Notes facts. They are on the disk when this comes back.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn note(&mut self, facts: &[(&str, Value)]) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for (key, value) in facts {
                put(&transaction, key, value)?;
            }
            transaction.commit()
        })
    }

    /// Forgets everything, so that the import begins anew.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn forget(&mut self) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for table in ["fact", "step", "chunk", "tally", "reject"] {
                transaction.execute(&format!("DELETE FROM {table}"), [])?;
            }
            transaction.commit()
        })
    }

    /// Replaces what was found unfit to be sent by what is said of it now.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn unfit(&mut self, is_first: bool, rejects: &[Reject]) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            if is_first {
                transaction.execute("DELETE FROM reject WHERE code = 'bulk.bad_line'", [])?;
            }
            put_rejects(&transaction, rejects)?;
            transaction.commit()
        })
    }

    /// # Errors
    /// When the ledger cannot be read.
    pub fn is_over(&mut self, step: u32) -> Result<bool> {
        self.run(|connection| {
            connection.prepare_cached("SELECT 1 FROM step WHERE number = ?1")?.exists([step])
        })
    }

    /// The chunks of a step that are done.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn done(&mut self, step: u32) -> Result<HashSet<u64>> {
        self.run(|connection| {
            connection
                .prepare_cached("SELECT number FROM chunk WHERE step = ?1 AND state = 1")?
                .query_map([step], |row| Ok(unsigned(row.get(0)?)))?
                .collect()
        })
    }

    /// Notes that a chunk is about to be sent; `false` when that was noted before and nothing is
    /// known of what came of it.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn sending(&mut self, step: u32, number: u64) -> Result<bool> {
        self.run(|connection| {
            let count = connection.execute(
                "INSERT OR IGNORE INTO chunk (step, number, state) VALUES (?1, ?2, 0)",
                params![step, signed(number)],
            )?;
            Ok(count == 1)
        })
    }

    /// Takes such a note back: nothing came of it.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn not_sent(&mut self, step: u32, number: u64) -> Result<()> {
        self.run(|connection| {
            let sql = "DELETE FROM chunk WHERE step = ?1 AND number = ?2 AND state = 0";
            connection.execute(sql, params![step, signed(number)]).map(drop)
        })
    }

    /// Notes chunks as done, with what came of them, all in one step.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn settle(&mut self, chunks: &[Settled]) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for chunk in chunks {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO chunk (step, number, state) VALUES (?1, ?2, 1)")?
                    .execute(params![chunk.step, signed(chunk.number)])?;
                put_rejects(&transaction, &chunk.rejects)?;
                let mut add = transaction.prepare_cached(
                    "INSERT INTO tally (type, accepted, created, deleted, rejected, retried)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (type) DO UPDATE SET
                         accepted = accepted + excluded.accepted, created = created + excluded.created,
                         deleted = deleted + excluded.deleted, rejected = rejected + excluded.rejected,
                         retried = retried + excluded.retried",
                )?;
                for (resource_type, tally) in &chunk.tallies {
                    add.execute(params![
                        resource_type,
                        signed(tally.accepted),
                        signed(tally.created),
                        signed(tally.deleted),
                        signed(tally.rejected),
                        signed(tally.retried)
                    ])?;
                }
            }
            transaction.commit()
        })
    }

    /// Notes that a step is over.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn over(&mut self, step: u32) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("INSERT OR IGNORE INTO step (number) VALUES (?1)", [step])?;
            transaction.execute("DELETE FROM chunk WHERE step = ?1", [step])?;
            transaction.commit()
        })
    }

    /// What became of each type's resources.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn tallies(&mut self) -> Result<BTreeMap<String, Tally>> {
        self.run(|connection| {
            let sql = "SELECT type, accepted, created, deleted, rejected, retried FROM tally";
            connection
                .prepare(sql)?
                .query_map([], |row| {
                    let number = |at: usize| Ok::<u64, rusqlite::Error>(unsigned(row.get(at)?));
                    let tally = Tally {
                        accepted: number(1)?,
                        created: number(2)?,
                        deleted: number(3)?,
                        rejected: number(4)?,
                        retried: number(5)?,
                    };
                    Ok((row.get(0)?, tally))
                })?
                .collect()
        })
    }

    /// Lines that were not fit to be sent, by type; under no name those without one.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn unfit_by_type(&mut self) -> Result<BTreeMap<String, u64>> {
        self.run(|connection| {
            let sql = "SELECT COALESCE(type, ''), COUNT(*) FROM reject
                       WHERE code = 'bulk.bad_line' GROUP BY 1";
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, unsigned(row.get(1)?)));
            connection.prepare(sql)?.query_map([], row)?.collect()
        })
    }

    /// Tells of every reject in the order of files and lines.
    ///
    /// # Errors
    /// When the ledger cannot be read, or what is told of them fails.
    pub fn each_reject(&mut self, tell: &mut dyn FnMut(Reject) -> Result<()>) -> Result<()> {
        let broken = |error: &rusqlite::Error| trouble(&self.folder, error);
        let sql = "SELECT file, line, part, type, status, code, issues, message FROM reject
                   ORDER BY file, line, part";
        let mut statement = self.connection.prepare(sql).map_err(|error| broken(&error))?;
        let rows = statement
            .query_map([], |row| {
                Ok(Reject {
                    file: row.get(0)?,
                    line: unsigned(row.get(1)?),
                    part: row.get(2)?,
                    resource_type: row.get(3)?,
                    status: row.get(4)?,
                    code: row.get(5)?,
                    issues: row.get(6)?,
                    message: row.get(7)?,
                })
            })
            .map_err(|error| broken(&error))?;
        for reject in rows {
            tell(reject.map_err(|error| broken(&error))?)?;
        }
        Ok(())
    }
}

fn put_rejects(connection: &Connection, rejects: &[Reject]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO reject (file, line, part, type, status, code, issues, message)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for it in rejects {
        put.execute(params![
            it.file,
            signed(it.line),
            it.part,
            it.resource_type,
            it.status,
            it.code,
            it.issues,
            it.message
        ])?;
    }
    Ok(())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_settled_is_there_after_opening_again_and_nobody_else_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        assert_eq!(Ledger::open(folder.path()).err().unwrap().exit().0, 75);
        let tally = Tally { accepted: 2, created: 1, rejected: 1, ..Tally::default() };
        let reject = Reject {
            file: 0,
            line: 7,
            part: 0,
            resource_type: Some("Patient".into()),
            status: Some(422),
            code: "bulk.rejected".into(),
            issues: "invalid".into(),
            message: "refused".into(),
        };
        let chunk = |number| Settled {
            step: 1,
            number,
            tallies: [("Patient".to_owned(), tally)].into(),
            rejects: vec![reject.clone()],
        };
        ledger.settle(&[chunk(0), chunk(2)]).unwrap();
        assert!(ledger.sending(1, 5).unwrap());
        drop(ledger);
        let mut ledger = Ledger::open(folder.path()).unwrap();
        assert_eq!(ledger.done(1).unwrap(), HashSet::from([0, 2]));
        assert_eq!(ledger.tallies().unwrap()["Patient"].accepted, 4);
        assert!(!ledger.sending(1, 5).unwrap());
        let mut rejects = Vec::new();
        ledger
            .each_reject(&mut |it| {
                rejects.push(it);
                Ok(())
            })
            .unwrap();
        assert_eq!(rejects, [reject]);
        ledger.over(1).unwrap();
        assert!(ledger.is_over(1).unwrap() && ledger.done(1).unwrap().is_empty());
    }
}
