//! What a ledger knows of files that were joined, one for each type.

use rusqlite::params;

use super::Ledger;
use super::rows::{Done, FileRow, row, signed};
use crate::model::Result;

/// The page of rows that stand in no manifest.
const NO_PAGE: u32 = u32::MAX;

/// A file that takes the place of others.
#[derive(Clone, Debug)]
pub struct Joined {
    pub resource_type: String,
    /// What the manifest counts in its parts, where it counts in all of them.
    pub expected: Option<u64>,
    pub done: Done,
    /// The files that are in it, and how many lines stand before each; none where a part went into
    /// several.
    pub parts: Vec<(u32, u64)>,
}

impl Ledger {
    /// Puts joined files in the place of their parts, all in one step; `scattered` are parts whose
    /// lines went into several. What was found in a part is said of the file that it is in.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn joined(&self, files: &[Joined], scattered: &[u32]) -> Result<()> {
        self.run(|connection| {
            let transaction = connection.transaction()?;
            for file in files {
                let done = &file.done;
                transaction.execute(
                    "INSERT INTO file (page, kind, position, type, sequence, url, expected, state, name,
                         attempt, lines, bytes, content_bytes, sha256, duration_ms, retries)
                     VALUES (?1, 0, (SELECT COUNT(*) FROM file WHERE page = ?1), ?2, 0, '', ?3, 1, ?4,
                         ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                    params![
                        NO_PAGE,
                        file.resource_type,
                        file.expected.map(signed),
                        done.name,
                        signed(done.attempt),
                        signed(done.lines),
                        signed(done.bytes),
                        signed(done.content_bytes),
                        done.sha256,
                        signed(done.duration_ms),
                        done.retries
                    ],
                )?;
                let id = transaction.last_insert_rowid();
                for (part, offset) in &file.parts {
                    transaction
                        .prepare_cached(
                            "UPDATE file SET state = 4, joined_into = ?2, line_offset = ?3
                             WHERE id = ?1",
                        )?
                        .execute(params![part, id, signed(*offset)])?;
                    transaction
                        .prepare_cached(
                            "UPDATE finding SET file = ?2, line = line + ?3
                             WHERE file = ?1 AND overall = 0",
                        )?
                        .execute(params![part, id, signed(*offset)])?;
                }
            }
            for part in scattered {
                transaction.execute("UPDATE file SET state = 4 WHERE id = ?1", [part])?;
                transaction.execute(
                    "UPDATE finding SET file = NULL, line = NULL WHERE file = ?1 AND overall = 0",
                    [part],
                )?;
            }
            transaction.commit()
        })
    }

    /// The parts of a joined file in their order.
    ///
    /// # Errors
    /// When the ledger cannot be read, or whoever is told of one.
    pub fn each_part(&self, id: u32, tell: &mut dyn FnMut(FileRow) -> Result<()>) -> Result<()> {
        let connection = self.connection();
        let broken = |error: rusqlite::Error| super::super::database::trouble(&self.folder, &error);
        let mut all = connection
            .prepare_cached("SELECT * FROM file WHERE joined_into = ?1 ORDER BY line_offset, id")
            .map_err(broken)?;
        let mut rows = all.query([id]).map_err(broken)?;
        while let Some(next) = rows.next().map_err(broken)? {
            tell(row(next).map_err(broken)?)?;
        }
        Ok(())
    }
}

impl FileRow {
    /// Whether it stands in no manifest: others were joined in it.
    #[must_use]
    pub fn holds_others(&self) -> bool {
        self.page == NO_PAGE
    }
}
