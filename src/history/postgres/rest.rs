//! Seals, notes, what is pruned, and how much there is.

use tokio_postgres::Row;

use super::{Postgres, Raw, head, open};
use crate::history::chain::Head;
use crate::history::db::{Counts, SealRow};
use crate::history::note::NoteRow;
use crate::model::{Error, Result};

impl Postgres {
    pub async fn seals(&mut self) -> Result<Vec<SealRow>> {
        let rows = self
            .query("SELECT day, digest, sealed_at, heads FROM day_seal ORDER BY day", &[])
            .await?;
        let seal = |row: &Row| {
            Ok(SealRow {
                day: row.try_get("day")?,
                digest: head(row, "digest")?,
                sealed_at: row.try_get("sealed_at")?,
                heads: row.try_get("heads")?,
            })
        };
        let read: Raw<_> = rows.iter().map(seal).collect();
        read.map_err(|error| self.told(&error))
    }

    /// Keeps a seal; `false` when the day has one.
    pub async fn put_seal(&mut self, seal: SealRow) -> Result<bool> {
        let digest = seal.digest.as_slice();
        let sql = "INSERT INTO day_seal (day, digest, sealed_at, heads) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT DO NOTHING";
        let new = self.execute(sql, &[&seal.day, &digest, &seal.sealed_at, &seal.heads]).await?;
        Ok(new == 1)
    }

    /// The last day that is sealed, and when the first run that is kept was written.
    pub async fn sealed_and_begun(&mut self) -> Result<(Option<i64>, Option<i64>)> {
        let sql = "SELECT (SELECT max(day) FROM day_seal), \
                   (SELECT at FROM run ORDER BY seq LIMIT 1)";
        let rows = self.query(sql, &[]).await?;
        let Some(row) = rows.first() else { return Ok((None, None)) };
        let read = || -> Raw<_> { Ok((row.try_get(0)?, row.try_get(1)?)) };
        read().map_err(|error| self.told(&error))
    }

    /// Whether nobody else looks after the history until this is dropped.
    pub async fn claim(&mut self) -> Result<bool> {
        let sql = "SELECT pg_try_advisory_lock($1)";
        Ok(self.value(sql, &[&(open::LOCK + 1)]).await? == Some(true))
    }

    pub async fn notes(&mut self, server: Option<i64>, from: i64, to: i64) -> Result<Vec<NoteRow>> {
        let rows = self
            .query(
                "SELECT note.id, server.name, note.at, written_at, author, kind, cause, party, \
                 case_number, text FROM note LEFT JOIN server ON server.id = note.server \
                 WHERE note.at >= $2 AND note.at < $3 \
                 AND ($1::bigint IS NULL OR note.server = $1::bigint) ORDER BY note.at, note.id",
                &[&server, &from, &to],
            )
            .await?;
        let read: Raw<_> = rows.iter().map(note_row).collect();
        read.map_err(|error| self.told(&error))
    }

    pub async fn put_note(&mut self, server: Option<i64>, note: NoteRow) -> Result<i64> {
        let id = self
            .value(
                "INSERT INTO note (server, at, written_at, author, kind, cause, party, case_number, \
                 text) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id",
                &[
                    &server,
                    &note.at,
                    &note.written_at,
                    &note.author,
                    &note.kind,
                    &note.cause,
                    &note.party,
                    &note.case_number,
                    &note.text,
                ],
            )
            .await?;
        id.ok_or_else(|| Error::internal("a note that was kept has no number"))
    }

    /// From which position on a server's readings are kept, and before when they are gone.
    pub async fn set_kept(
        &mut self,
        server: i64,
        kept: i64,
        before: Head,
        pruned_to: i64,
    ) -> Result<()> {
        let sql = "UPDATE server SET kept = $2, kept_head = $3, pruned_to = $4 WHERE id = $1";
        self.execute(sql, &[&server, &kept, &before.as_slice(), &pruned_to]).await.map(drop)
    }

    /// Deletes the runs that no reading refers to any more.
    pub async fn prune_runs(&mut self) -> Result<u64> {
        self.execute(
            "DELETE FROM run WHERE seq < least((SELECT min(run) FROM reading), \
             (SELECT min(first_run) FROM segment), (SELECT max(seq) FROM run))",
            &[],
        )
        .await
    }

    pub async fn counts(&mut self) -> Result<Counts> {
        let rows = self
            .query(
                "SELECT (SELECT value FROM meta WHERE key = 'schema'), \
                 (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
                  WHERE relnamespace = to_regnamespace('fhirctl') AND relkind IN ('r', 'p')), \
                 (SELECT count(*) FROM run), (SELECT count(*) FROM reading), \
                 (SELECT count(*) FROM segment), \
                 (SELECT coalesce(sum(readings), 0)::bigint FROM segment), \
                 (SELECT coalesce(sum(octet_length(points) + octet_length(samples) + \
                  octet_length(details)), 0)::bigint FROM segment), \
                 (SELECT count(*) FROM rollup WHERE level = 0), \
                 (SELECT count(*) FROM rollup WHERE level = 1), \
                 (SELECT count(*) FROM note), (SELECT min(written) FROM reading), \
                 (SELECT max(day) FROM day_seal), (SELECT count(*) FROM gauge_value)",
                &[],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(Counts::default()) };
        let read = || -> Raw<Counts> {
            let number = |at: usize| row.try_get::<_, Option<i64>>(at);
            let count = |at: usize| number(at).map(|n| n.unwrap_or(0).unsigned_abs());
            Ok(Counts {
                schema: number(0)?.unwrap_or(0),
                bytes: count(1)?,
                runs: count(2)?,
                fresh: count(3)?,
                segments: count(4)?,
                packed: count(5)?,
                packed_bytes: count(6)?,
                hours: count(7)?,
                days: count(8)?,
                notes: count(9)?,
                oldest_fresh: number(10)?,
                last_seal: number(11)?,
                gauges: count(12)?,
            })
        };
        read().map_err(|error| self.told(&error))
    }

    /// Gives space back to the database, and its planner fresh figures.
    pub async fn vacuum(&mut self) -> Result<()> {
        self.run("VACUUM (ANALYZE) reading, segment, rollup, server, run, gauge, gauge_value").await
    }
}

fn note_row(row: &Row) -> Raw<NoteRow> {
    Ok(NoteRow {
        id: row.try_get(0)?,
        server: row.try_get(1)?,
        at: row.try_get(2)?,
        written_at: row.try_get(3)?,
        author: row.try_get(4)?,
        kind: row.try_get(5)?,
        cause: row.try_get(6)?,
        party: row.try_get(7)?,
        case_number: row.try_get(8)?,
        text: row.try_get(9)?,
    })
}
