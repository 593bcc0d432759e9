//! Segments and roll-ups.

use jiff::tz::TimeZone;
use tokio_postgres::Row;

use super::{Postgres, Raw, head};
use crate::history::db::{Packed, SegmentRow};
use crate::history::segment::Body;
use crate::model::Result;

impl Postgres {
    /// The segments of a server, in the order in which they were written.
    pub async fn segments(&mut self, server: i64) -> Result<Vec<SegmentRow>> {
        let rows = self
            .query(
                "SELECT id, server, position, readings, day, from_at, to_at, first_run, head_before, \
                 head_after FROM segment WHERE server = $1 ORDER BY position",
                &[&server],
            )
            .await?;
        let read: Raw<_> = rows.iter().map(segment_row).collect();
        read.map_err(|error| self.told(&error))
    }

    /// Up to which position readings of a server are packed, and the segments that a window needs: those
    /// with readings of it, and the last one before it.
    pub async fn segments_within(
        &mut self,
        server: i64,
        from: i64,
        to: i64,
    ) -> Result<(Option<i64>, Vec<SegmentRow>)> {
        let packed = self
            .value(
                "SELECT position + readings FROM segment WHERE server = $1 \
                 ORDER BY position DESC LIMIT 1",
                &[&server],
            )
            .await?;
        let rows = self
            .query(
                "(SELECT id, server, position, readings, day, from_at, to_at, first_run, \
                 head_before, head_after FROM segment WHERE server = $1 AND to_at < $2 \
                 ORDER BY to_at DESC, position DESC LIMIT 1) UNION ALL \
                 SELECT id, server, position, readings, day, from_at, to_at, first_run, head_before, \
                 head_after FROM segment WHERE server = $1 AND to_at >= $2 AND from_at < $3",
                &[&server, &from, &to],
            )
            .await?;
        let read: Raw<_> = rows.iter().map(segment_row).collect();
        Ok((packed, read.map_err(|error| self.told(&error))?))
    }

    pub async fn points(&mut self, segment: i64) -> Result<Vec<u8>> {
        let points = self.value("SELECT points FROM segment WHERE id = $1", &[&segment]).await?;
        Ok(points.unwrap_or_default())
    }

    pub async fn body(&mut self, segment: i64) -> Result<Body> {
        let sql = "SELECT points, samples, details FROM segment WHERE id = $1";
        let rows = self.query(sql, &[&segment]).await?;
        let Some(row) = rows.first() else { return Ok(Body::default()) };
        let read = || -> Raw<Body> {
            Ok(Body { points: row.try_get(0)?, samples: row.try_get(1)?, details: row.try_get(2)? })
        };
        read().map_err(|error| self.told(&error))
    }

    pub async fn put_segments(&mut self, segments: Vec<Packed>) -> Result<()> {
        for (row, body) in segments {
            self.execute(
                "INSERT INTO segment (server, position, readings, day, from_at, to_at, first_run, \
                 head_before, head_after, points, samples, details) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                &[
                    &row.server,
                    &row.position,
                    &row.readings,
                    &row.day,
                    &row.from_at,
                    &row.to_at,
                    &row.first_run,
                    &row.before.as_slice(),
                    &row.after.as_slice(),
                    &body.points,
                    &body.samples,
                    &body.details,
                ],
            )
            .await?;
        }
        Ok(())
    }

    pub async fn delete_segments(&mut self, ids: Vec<i64>) -> Result<()> {
        self.execute("DELETE FROM segment WHERE id = ANY($1::bigint[])", &[&ids]).await.map(drop)
    }

    /// Deletes the fresh rows that segments hold now, and the partitions of past months that are empty
    /// then; how many rows.
    pub async fn sweep(&mut self) -> Result<u64> {
        let swept = self
            .execute(
                "DELETE FROM reading USING \
                 (SELECT server, max(position + readings) AS packed FROM segment GROUP BY server) AS done \
                 WHERE reading.server = done.server AND reading.position < done.packed",
                &[],
            )
            .await?;
        let rows = self
            .query(
                "SELECT child.relname::text, extract(epoch FROM now())::bigint FROM pg_inherits \
                 JOIN pg_class AS child ON child.oid = inhrelid \
                 WHERE inhparent = 'fhirctl.reading'::regclass",
                &[],
            )
            .await?;
        for row in &rows {
            let read = || -> Raw<(String, i64)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
            let (name, now) = read().map_err(|error| self.told(&error))?;
            if is_past(&name, now) {
                self.drop_empty(&name).await?;
            }
        }
        Ok(swept)
    }

    /// Drops a partition that has no row. Whoever writes into its month makes it anew.
    async fn drop_empty(&mut self, name: &str) -> Result<()> {
        let empty: Raw<_> = self
            .line
            .client
            .query_one(&format!("SELECT NOT EXISTS (SELECT FROM {name})"), &[])
            .await;
        let empty: Raw<bool> = empty.and_then(|row| row.try_get(0));
        if !empty.map_err(|error| self.told(&error))? {
            return Ok(());
        }
        self.months.clear();
        // The whole table first, as writers do; looked at again, since one may have been quicker. Sent as
        // one, it is one transaction. Where others are busy, the next sweep will do.
        let _ = self
            .line
            .client
            .batch_execute(&format!(
                "SET LOCAL lock_timeout = '1s'; LOCK TABLE reading IN ACCESS EXCLUSIVE MODE; \
                 DO $$ BEGIN IF NOT EXISTS (SELECT FROM {name}) THEN DROP TABLE {name}; END IF; END $$"
            ))
            .await;
        Ok(())
    }

    /// The roll-ups of a server that begin within parts of time (level, from, to), part by part.
    pub async fn rollups(
        &mut self,
        server: i64,
        parts: Vec<(i64, i64, i64)>,
    ) -> Result<Vec<(i64, Vec<u8>)>> {
        let levels: Vec<i64> = parts.iter().map(|part| part.0).collect();
        let begins: Vec<i64> = parts.iter().map(|part| part.1).collect();
        let ends: Vec<i64> = parts.iter().map(|part| part.2).collect();
        let rows = self
            .query(
                "SELECT at, body FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) \
                 WITH ORDINALITY AS part (level, begins, ends, nth) JOIN rollup \
                 ON rollup.server = $1 AND rollup.level = part.level AND at >= begins AND at < ends \
                 ORDER BY nth, at",
                &[&server, &levels, &begins, &ends],
            )
            .await?;
        let read: Raw<_> = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
        read.map_err(|error| self.told(&error))
    }

    pub async fn put_rollups(
        &mut self,
        server: i64,
        level: i64,
        rows: Vec<(i64, Vec<u8>)>,
    ) -> Result<()> {
        let (at, bodies): (Vec<i64>, Vec<Vec<u8>>) = rows.into_iter().unzip();
        self.execute(
            "INSERT INTO rollup (server, level, at, body) \
             SELECT $1, $2, at, body FROM unnest($3::bigint[], $4::bytea[]) AS new (at, body) \
             ON CONFLICT (server, level, at) DO UPDATE SET body = excluded.body",
            &[&server, &level, &at, &bodies],
        )
        .await
        .map(drop)
    }

    pub async fn delete_rollups(&mut self, server: i64, level: i64, at: Vec<i64>) -> Result<()> {
        let sql = "DELETE FROM rollup WHERE server = $1 AND level = $2 AND at = ANY($3::bigint[])";
        self.execute(sql, &[&server, &level, &at]).await.map(drop)
    }

    pub async fn late(&mut self, server: i64) -> Result<Vec<i64>> {
        let rows =
            self.query("SELECT hour FROM late WHERE server = $1 ORDER BY hour", &[&server]).await?;
        let read: Raw<_> = rows.iter().map(|row| row.try_get(0)).collect();
        read.map_err(|error| self.told(&error))
    }

    /// The servers for which something came late.
    pub async fn late_servers(&mut self) -> Result<Vec<i64>> {
        let rows = self.query("SELECT DISTINCT server FROM late", &[]).await?;
        let read: Raw<_> = rows.iter().map(|row| row.try_get(0)).collect();
        read.map_err(|error| self.told(&error))
    }

    /// The servers with fresh rows that were written or taken before an instant, lowest first.
    pub async fn packable(&mut self, before: i64) -> Result<Vec<i64>> {
        let rows = self
            .query(
                "SELECT DISTINCT server FROM reading WHERE written < $1 OR at < $1 ORDER BY server",
                &[&before],
            )
            .await?;
        let read: Raw<_> = rows.iter().map(|row| row.try_get(0)).collect();
        read.map_err(|error| self.told(&error))
    }

    /// How far a server is rolled up, and which late hours are done with.
    pub async fn set_rolled(&mut self, server: i64, to: i64, done: Vec<i64>) -> Result<()> {
        self.execute("UPDATE server SET rolled_to = $2 WHERE id = $1", &[&server, &to]).await?;
        let sql = "DELETE FROM late WHERE server = $1 AND hour = ANY($2::bigint[])";
        self.execute(sql, &[&server, &done]).await.map(drop)
    }

    pub async fn prune_rollups(&mut self, level: i64, before: i64) -> Result<u64> {
        self.execute("DELETE FROM rollup WHERE level = $1 AND at < $2", &[&level, &before]).await
    }
}

/// Whether a partition is of a month that nobody writes into any more, by the database's clock.
fn is_past(name: &str, now: i64) -> bool {
    let month: Option<i64> = name.strip_prefix("reading_").and_then(|month| month.parse().ok());
    // A clock may be behind, and a run may take its time.
    let Ok(yesterday) = jiff::Timestamp::from_second(now - 86_400) else { return false };
    let date = yesterday.to_zoned(TimeZone::UTC).date();
    month.is_some_and(|month| month < i64::from(date.year()) * 100 + i64::from(date.month()))
}

fn segment_row(row: &Row) -> Raw<SegmentRow> {
    Ok(SegmentRow {
        id: row.try_get("id")?,
        server: row.try_get("server")?,
        position: row.try_get("position")?,
        readings: row.try_get("readings")?,
        day: row.try_get("day")?,
        from_at: row.try_get("from_at")?,
        to_at: row.try_get("to_at")?,
        first_run: row.try_get("first_run")?,
        before: head(row, "head_before")?,
        after: head(row, "head_after")?,
    })
}
