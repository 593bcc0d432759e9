//! Seals, notes, what is pruned, and how much there is.

use rusqlite::{Connection, Row, params};

use super::{Sqlite, head};
use crate::history::chain::Head;
use crate::history::db::{Counts, SealRow};
use crate::history::note::NoteRow;
use crate::model::Result;

impl Sqlite {
    pub async fn seals(&mut self) -> Result<Vec<SealRow>> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT day, digest, sealed_at, heads FROM day_seal ORDER BY day",
            )?;
            let row = |row: &Row<'_>| {
                Ok(SealRow {
                    day: row.get("day")?,
                    digest: head(row, "digest")?,
                    sealed_at: row.get("sealed_at")?,
                    heads: row.get("heads")?,
                })
            };
            statement.query_map([], row)?.collect()
        })
        .await
    }

    /// Keeps a seal; `false` when the day has one.
    pub async fn put_seal(&mut self, seal: SealRow) -> Result<bool> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO day_seal (day, digest, sealed_at, heads) \
                     VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![seal.day, seal.digest, seal.sealed_at, seal.heads])
                .map(|count| count == 1)
        })
        .await
    }

    /// The last day that is sealed, and when the first run that is kept was written.
    pub async fn sealed_and_begun(&mut self) -> Result<(Option<i64>, Option<i64>)> {
        self.call(|connection| {
            connection
                .prepare_cached(
                    "SELECT (SELECT max(day) FROM day_seal), \
                     (SELECT at FROM run ORDER BY seq LIMIT 1)",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
    }

    pub async fn notes(&mut self, server: Option<i64>, from: i64, to: i64) -> Result<Vec<NoteRow>> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT note.id, server.name, note.at, written_at, author, kind, cause, party, \
                 case_number, text FROM note LEFT JOIN server ON server.id = note.server \
                 WHERE note.at >= ?2 AND note.at < ?3 AND (?1 IS NULL OR note.server = ?1) \
                 ORDER BY note.at, note.id",
            )?;
            statement.query_map(params![server, from, to], note_row)?.collect()
        })
        .await
    }

    pub async fn put_note(&mut self, server: Option<i64>, note: NoteRow) -> Result<i64> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO note (server, at, written_at, author, kind, cause, party, \
                     case_number, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    server,
                    note.at,
                    note.written_at,
                    note.author,
                    note.kind,
                    note.cause,
                    note.party,
                    note.case_number,
                    note.text
                ])?;
            Ok(connection.last_insert_rowid())
        })
        .await
    }

    /// From which position on a server's readings are kept, and before when they are gone.
    pub async fn set_kept(
        &mut self,
        server: i64,
        kept: i64,
        before: Head,
        pruned_to: i64,
    ) -> Result<()> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE server SET kept = ?2, kept_head = ?3, pruned_to = ?4 WHERE id = ?1",
                )?
                .execute(params![server, kept, before, pruned_to])
                .map(drop)
        })
        .await
    }

    /// Deletes the runs that no reading refers to any more.
    pub async fn prune_runs(&mut self) -> Result<u64> {
        self.call(|connection| {
            connection
                .execute(
                    "DELETE FROM run WHERE seq < min( \
                     ifnull((SELECT min(run) FROM reading), 9223372036854775807), \
                     ifnull((SELECT min(first_run) FROM segment), 9223372036854775807), \
                     (SELECT ifnull(max(seq), 0) FROM run))",
                    [],
                )
                .map(|count| count as u64)
        })
        .await
    }

    pub async fn counts(&mut self) -> Result<Counts> {
        self.call(|connection| {
            let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            let count = |sql: &str| number(sql).map(i64::unsigned_abs);
            let maybe = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
            Ok(Counts {
                schema: number("PRAGMA user_version")?,
                bytes: size(connection)?,
                runs: count("SELECT count(*) FROM run")?,
                fresh: count("SELECT count(*) FROM reading")?,
                segments: count("SELECT count(*) FROM segment")?,
                packed: count("SELECT ifnull(sum(readings), 0) FROM segment")?,
                packed_bytes: count(
                    "SELECT ifnull(sum(length(points) + length(samples) + length(details)), 0) FROM segment",
                )?,
                hours: count("SELECT count(*) FROM rollup WHERE level = 0")?,
                days: count("SELECT count(*) FROM rollup WHERE level = 1")?,
                notes: count("SELECT count(*) FROM note")?,
                gauges: count("SELECT count(*) FROM gauge_value")?,
                oldest_fresh: maybe(
                    "SELECT written FROM reading ORDER BY seq LIMIT 1",
                )
                .or_else(none)?,
                last_seal: maybe("SELECT max(day) FROM day_seal")?,
            })
        })
        .await
    }

    /// Gives free pages back to the disk.
    pub async fn vacuum(&mut self) -> Result<()> {
        self.call(|connection| connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)"))
            .await
    }
}

fn none(error: rusqlite::Error) -> rusqlite::Result<Option<i64>> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(None),
        error => Err(error),
    }
}

/// What is in use; free pages are used again before the file grows.
fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
    Ok((pages * number("PRAGMA page_size")?).unsigned_abs())
}

fn note_row(row: &Row<'_>) -> rusqlite::Result<NoteRow> {
    Ok(NoteRow {
        id: row.get(0)?,
        server: row.get(1)?,
        at: row.get(2)?,
        written_at: row.get(3)?,
        author: row.get(4)?,
        kind: row.get(5)?,
        cause: row.get(6)?,
        party: row.get(7)?,
        case_number: row.get(8)?,
        text: row.get(9)?,
    })
}
