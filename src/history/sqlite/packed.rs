//! Segments and roll-ups.

use rusqlite::{OptionalExtension as _, Row, params};

use super::{Sqlite, head};
use crate::history::db::{Packed, SegmentRow};
use crate::history::segment::Body;
use crate::model::Result;

/// Fresh rows that are swept in one transaction.
const SWEPT_AT_ONCE: i64 = 50_000;

impl Sqlite {
    /// The segments of a server, in the order in which they were written.
    pub async fn segments(&mut self, server: i64) -> Result<Vec<SegmentRow>> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, server, position, readings, day, from_at, to_at, first_run, head_before, \
                 head_after FROM segment WHERE server = ?1 ORDER BY position",
            )?;
            statement.query_map([server], segment_row)?.collect()
        })
        .await
    }

    /// Up to which position readings of a server are packed, and the segments that a window needs: those
    /// with readings of it, and the last one before it.
    pub async fn segments_within(
        &mut self,
        server: i64,
        from: i64,
        to: i64,
    ) -> Result<(Option<i64>, Vec<SegmentRow>)> {
        self.call(move |connection| {
            let packed = connection
                .prepare_cached(
                    "SELECT position + readings FROM segment WHERE server = ?1 \
                     ORDER BY position DESC LIMIT 1",
                )?
                .query_row([server], |row| row.get(0))
                .optional()?;
            let mut before = connection.prepare_cached(
                "SELECT id, server, position, readings, day, from_at, to_at, first_run, head_before, \
                 head_after FROM segment WHERE server = ?1 AND to_at < ?2 \
                 ORDER BY to_at DESC, position DESC LIMIT 1",
            )?;
            let mut within = connection.prepare_cached(
                "SELECT id, server, position, readings, day, from_at, to_at, first_run, head_before, \
                 head_after FROM segment WHERE server = ?1 AND to_at >= ?2 AND from_at < ?3",
            )?;
            let mut rows: Vec<SegmentRow> =
                before.query_map([server, from], segment_row)?.collect::<Result<_, _>>()?;
            for row in within.query_map([server, from, to], segment_row)? {
                rows.push(row?);
            }
            Ok((packed, rows))
        })
        .await
    }

    pub async fn points(&mut self, segment: i64) -> Result<Vec<u8>> {
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT points FROM segment WHERE id = ?1")?
                .query_row([segment], |row| row.get(0))
        })
        .await
    }

    pub async fn body(&mut self, segment: i64) -> Result<Body> {
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT points, samples, details FROM segment WHERE id = ?1")?
                .query_row([segment], |row| {
                    Ok(Body { points: row.get(0)?, samples: row.get(1)?, details: row.get(2)? })
                })
        })
        .await
    }

    pub async fn put_segments(&mut self, segments: Vec<Packed>) -> Result<()> {
        self.call(move |connection| {
            let mut insert = connection.prepare_cached(
                "INSERT INTO segment (server, position, readings, day, from_at, to_at, first_run, \
                 head_before, head_after, points, samples, details) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?;
            for (row, body) in segments {
                insert.execute(params![
                    row.server,
                    row.position,
                    row.readings,
                    row.day,
                    row.from_at,
                    row.to_at,
                    row.first_run,
                    row.before,
                    row.after,
                    body.points,
                    body.samples,
                    body.details
                ])?;
            }
            Ok(())
        })
        .await
    }

    pub async fn delete_segments(&mut self, ids: Vec<i64>) -> Result<()> {
        self.call(move |connection| {
            let mut delete = connection.prepare_cached("DELETE FROM segment WHERE id = ?1")?;
            for id in ids {
                delete.execute([id])?;
            }
            Ok(())
        })
        .await
    }

    /// Deletes the fresh rows that segments hold now; how many.
    ///
    /// In the order in which they lie: by server every page would be written as often as it has rows.
    pub async fn sweep(&mut self) -> Result<u64> {
        let mut swept = 0;
        let (mut from, to): (i64, i64) = self
            .call(|connection| {
                connection.query_row(
                    "SELECT ifnull((SELECT min(seq) FROM reading), 0), \
                     ifnull((SELECT max(seq) FROM reading), -1)",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
            })
            .await?;
        while from <= to {
            let end = from.saturating_add(SWEPT_AT_ONCE);
            swept += self
                .call(move |connection| {
                    connection
                        .prepare_cached(
                            "DELETE FROM reading WHERE seq >= ?1 AND seq < ?2 AND position < \
                             (SELECT position + readings FROM segment \
                              WHERE segment.server = reading.server ORDER BY position DESC LIMIT 1)",
                        )?
                        .execute([from, end])
                })
                .await? as u64;
            from = end;
        }
        Ok(swept)
    }

    /// The roll-ups of a server that begin within parts of time (level, from, to), part by part.
    pub async fn rollups(
        &mut self,
        server: i64,
        parts: Vec<(i64, i64, i64)>,
    ) -> Result<Vec<(i64, Vec<u8>)>> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT at, body FROM rollup WHERE server = ?1 AND level = ?2 AND at >= ?3 AND at < ?4 \
                 ORDER BY at",
            )?;
            let mut found = Vec::new();
            for (level, from, to) in parts {
                let rows = statement.query_map([server, level, from, to], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
                for row in rows {
                    found.push(row?);
                }
            }
            Ok(found)
        })
        .await
    }

    pub async fn put_rollups(
        &mut self,
        server: i64,
        level: i64,
        rows: Vec<(i64, Vec<u8>)>,
    ) -> Result<()> {
        self.call(move |connection| {
            let mut insert = connection.prepare_cached(
                "INSERT OR REPLACE INTO rollup (server, level, at, body) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (at, body) in rows {
                insert.execute(params![server, level, at, body])?;
            }
            Ok(())
        })
        .await
    }

    pub async fn delete_rollups(&mut self, server: i64, level: i64, at: Vec<i64>) -> Result<()> {
        self.call(move |connection| {
            let mut delete = connection.prepare_cached(
                "DELETE FROM rollup WHERE server = ?1 AND level = ?2 AND at = ?3",
            )?;
            for at in at {
                delete.execute([server, level, at])?;
            }
            Ok(())
        })
        .await
    }

    pub async fn late(&mut self, server: i64) -> Result<Vec<i64>> {
        self.call(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT hour FROM late WHERE server = ?1 ORDER BY hour")?;
            statement.query_map([server], |row| row.get(0))?.collect()
        })
        .await
    }

    /// The servers for which something came late.
    pub async fn late_servers(&mut self) -> Result<Vec<i64>> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached("SELECT DISTINCT server FROM late")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
        .await
    }

    /// The servers with fresh rows that were written or taken before an instant, lowest first.
    pub async fn packable(&mut self, before: i64) -> Result<Vec<i64>> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT DISTINCT server FROM reading WHERE written < ?1 OR at < ?1 ORDER BY server",
            )?;
            statement.query_map([before], |row| row.get(0))?.collect()
        })
        .await
    }

    /// How far a server is rolled up, and which late hours are done with.
    pub async fn set_rolled(&mut self, server: i64, to: i64, done: Vec<i64>) -> Result<()> {
        self.call(move |connection| {
            connection
                .prepare_cached("UPDATE server SET rolled_to = ?2 WHERE id = ?1")?
                .execute([server, to])?;
            let mut delete =
                connection.prepare_cached("DELETE FROM late WHERE server = ?1 AND hour = ?2")?;
            for hour in done {
                delete.execute([server, hour])?;
            }
            Ok(())
        })
        .await
    }

    pub async fn prune_rollups(&mut self, level: i64, before: i64) -> Result<u64> {
        self.call(move |connection| {
            connection
                .prepare_cached("DELETE FROM rollup WHERE level = ?1 AND at < ?2")?
                .execute([level, before])
                .map(|count| count as u64)
        })
        .await
    }
}

fn segment_row(row: &Row<'_>) -> rusqlite::Result<SegmentRow> {
    Ok(SegmentRow {
        id: row.get("id")?,
        server: row.get("server")?,
        position: row.get("position")?,
        readings: row.get("readings")?,
        day: row.get("day")?,
        from_at: row.get("from_at")?,
        to_at: row.get("to_at")?,
        first_run: row.get("first_run")?,
        before: head(row, "head_before")?,
        after: head(row, "head_after")?,
    })
}
