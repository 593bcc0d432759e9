//! Servers, words, runs and fresh readings.

use std::collections::BTreeMap;
use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{Params, Postgres, Raw, head, open, trouble};
use crate::history::batch::Batch;
use crate::history::chain;
use crate::history::db::{Advance, Fresh, RawRow, ServerRow};
use crate::model::{Error, Result};

/// The columns of a server, with what follows.
macro_rules! servers {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, born, head, written, kept, kept_head, first_at, last_at, ",
            "removed_at, rolled_to, pruned_to FROM server ",
            $rest
        )
    };
}

/// Bytes of a COPY that are sent at once.
const CHUNK: usize = 256 * 1024;

/// What came of one attempt to write a batch.
enum Attempt {
    Written,
    /// Its run is there already.
    Known,
    /// These servers have no row yet.
    Missing(Vec<String>),
}

impl Postgres {
    pub async fn servers(&mut self) -> Result<Vec<ServerRow>> {
        let rows = self.query(servers!("ORDER BY name COLLATE \"C\""), &[]).await?;
        self.server_rows(&rows)
    }

    pub async fn server(&mut self, name: String) -> Result<Option<ServerRow>> {
        let rows = self.query(servers!("WHERE name = $1"), &[&name]).await?;
        Ok(self.server_rows(&rows)?.pop())
    }

    /// Within a transaction that writes, nobody else changes it.
    pub async fn lock(&mut self, id: i64) -> Result<Option<ServerRow>> {
        let rows = self.query(servers!("WHERE id = $1 FOR UPDATE"), &[&id]).await?;
        Ok(self.server_rows(&rows)?.pop())
    }

    fn server_rows(&self, rows: &[Row]) -> Result<Vec<ServerRow>> {
        let read: Raw<_> = rows.iter().map(server_row).collect();
        read.map_err(|error| self.told(&error))
    }

    /// The server of that name, made when it is not there.
    pub async fn ensure_server(&mut self, name: String) -> Result<i64> {
        self.make_servers(std::slice::from_ref(&name)).await?;
        let id = self.value("SELECT id FROM server WHERE name = $1", &[&name]).await?;
        id.ok_or_else(|| Error::internal("a server that was made is not there"))
    }

    pub async fn rename(&mut self, id: i64, name: String) -> Result<()> {
        self.execute("UPDATE server SET name = $2 WHERE id = $1", &[&id, &name]).await.map(drop)
    }

    pub async fn archive(&mut self, id: i64, at: i64) -> Result<()> {
        self.execute("UPDATE server SET removed_at = $2 WHERE id = $1", &[&id, &at]).await.map(drop)
    }

    pub async fn words(&mut self) -> Result<Vec<(i64, String)>> {
        let rows = self.query("SELECT id, text FROM word", &[]).await?;
        self.words_of(&rows)
    }

    /// Gives words their numbers, for good: a batch that fails behind it takes none back.
    pub async fn add_words(&mut self, words: Vec<String>) -> Result<Vec<(i64, String)>> {
        // Sorted, so that none waits for one who waits for it.
        let sql = "INSERT INTO word (text) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";
        self.execute(sql, &[&words]).await?;
        let rows =
            self.query("SELECT id, text FROM word WHERE text = ANY($1::text[])", &[&words]).await?;
        self.words_of(&rows)
    }

    fn words_of(&self, rows: &[Row]) -> Result<Vec<(i64, String)>> {
        let read: Raw<_> = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
        read.map_err(|error| self.told(&error))
    }

    /// Writes a batch; `false` when its run is there already. Where the connection is lost on the way,
    /// it is tried once more on another one: the run's id says whether the first attempt came through.
    pub async fn append(&mut self, batch: Batch) -> Result<bool> {
        let mut is_again = false;
        loop {
            self.rollback().await?;
            self.ready().await?;
            self.make_month(batch.at).await?;
            let error = match self.attempt(&batch).await {
                Ok(Attempt::Written) => return Ok(true),
                Ok(Attempt::Known) => return Ok(false),
                Ok(Attempt::Missing(names)) => {
                    self.make_servers(&names).await?;
                    continue;
                }
                Err(error) => error,
            };
            let no_partition = error.code() == Some(&SqlState::CHECK_VIOLATION);
            if is_again || !(no_partition || trouble::is_lost(&error)) {
                let told = self.told(&error);
                // The first error is the one to be told.
                let _ = self.rollback().await;
                return Err(told);
            }
            is_again = true;
            self.months.clear();
            if !no_partition {
                self.in_transaction = false;
                self.line = open::connect(&self.server, self.tls.as_ref()).await?;
            }
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Raw<Attempt> {
        let line = &mut self.line;
        let new_run = line
            .statement(
                "INSERT INTO run (id, at, vantage, origin) VALUES ($1::text::uuid, $2, $3, $4) \
                 ON CONFLICT DO NOTHING RETURNING seq",
            )
            .await?;
        let servers =
            line.statement(servers!("WHERE name = ANY($1::text[]) ORDER BY id FOR UPDATE")).await?;
        // As in `begin`.
        self.in_transaction = true;
        // They go out in this order, and none waits for an answer: the INSERT waits for another writer of
        // the same run, until that one has come through or given up, and only then are servers locked.
        let (id, client) = (batch.run.to_string(), &line.client);
        let of_run: Params<'_> = &[&id, &batch.at, &batch.vantage, &batch.origin];
        let names: Params<'_> = &[&batch.servers];
        let ((), run, rows) = tokio::try_join!(
            biased;
            client.batch_execute("BEGIN"),
            client.query(&new_run, of_run),
            client.query(&servers, names),
        )?;
        let Some(run) = run.first() else {
            client.batch_execute("ROLLBACK").await?;
            self.in_transaction = false;
            return Ok(Attempt::Known);
        };
        let run: i64 = run.try_get(0)?;
        let mut known: BTreeMap<String, Advance> = BTreeMap::new();
        for row in &rows {
            let row = server_row(row)?;
            known.insert(row.name.clone(), Advance::new(row));
        }
        let missing: Vec<String> =
            batch.servers.iter().filter(|name| !known.contains_key(*name)).cloned().collect();
        if !missing.is_empty() {
            client.batch_execute("ROLLBACK").await?;
            self.in_transaction = false;
            return Ok(Attempt::Missing(missing));
        }
        // Both are sorted by name, and each has what the other has.
        let mut servers: Vec<Advance> = known.into_values().collect();
        servers.sort_by(|a, b| a.server.name.cmp(&b.server.name));
        self.copy(batch, run, &mut servers).await?;
        self.advance(servers).await?;
        self.line.client.batch_execute("COMMIT").await?;
        self.in_transaction = false;
        Ok(Attempt::Written)
    }

    async fn copy(&mut self, batch: &Batch, run: i64, servers: &mut [Advance]) -> Raw<()> {
        let sql =
            "COPY reading (server, position, run, at, written, newest, body) FROM STDIN BINARY";
        let statement = self.line.statement(sql).await?;
        let mut sink = pin!(self.line.client.copy_in::<_, Bytes>(&statement).await?);
        let mut bytes = BytesMut::with_capacity(CHUNK + 4096);
        // Signature, flags, and no extension of the header.
        bytes.put_slice(b"PGCOPY\n\xff\r\n\0");
        bytes.put_slice(&[0; 8]);
        for row in batch.rows() {
            let Some(advance) = servers.get_mut(row.server) else { continue };
            let position = advance.take(row.at, row.text);
            bytes.put_i16(7);
            let newest = advance.server.last_at.unwrap_or(row.at);
            for number in [advance.server.id, position, run, row.at, batch.at, newest] {
                bytes.put_i32(8);
                bytes.put_i64(number);
            }
            bytes.put_i32(i32::try_from(row.body.len()).unwrap_or(i32::MAX));
            bytes.put_slice(row.body);
            if bytes.len() > CHUNK {
                sink.send(bytes.split().freeze()).await?;
            }
        }
        bytes.put_i16(-1);
        sink.send(bytes.freeze()).await?;
        sink.finish().await.map(drop)
    }

    async fn advance(&mut self, servers: Vec<Advance>) -> Raw<()> {
        let numbers = |of: &dyn Fn(&ServerRow) -> Option<i64>| {
            servers.iter().map(|advance| of(&advance.server)).collect::<Vec<_>>()
        };
        let ids = numbers(&|row| Some(row.id));
        let heads: Vec<Vec<u8>> =
            servers.iter().map(|advance| advance.server.head.to_vec()).collect();
        let written = numbers(&|row| Some(row.written));
        let (first, last) = (numbers(&|row| row.first_at), numbers(&|row| row.last_at));
        self.line
            .execute(
                "UPDATE server SET head = new.head, written = new.written, first_at = new.first_at, \
                 last_at = new.last_at, removed_at = NULL \
                 FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[]) \
                 AS new (id, head, written, first_at, last_at) WHERE server.id = new.id",
                &[&ids, &heads, &written, &first, &last],
            )
            .await?;
        let late: Vec<(i64, i64)> = servers
            .iter()
            .flat_map(|advance| advance.late.iter().map(|hour| (advance.server.id, *hour)))
            .collect();
        if late.is_empty() {
            return Ok(());
        }
        let (ids, hours): (Vec<i64>, Vec<i64>) = late.into_iter().unzip();
        let sql = "INSERT INTO late (server, hour) SELECT * FROM unnest($1::bigint[], $2::bigint[]) \
                   ON CONFLICT DO NOTHING";
        self.line.execute(sql, &[&ids, &hours]).await.map(drop)
    }

    /// Gives servers their rows, outside of any transaction that may fail; sorted by their names.
    async fn make_servers(&mut self, names: &[String]) -> Result<()> {
        let heads: Vec<Vec<u8>> = names.iter().map(|name| chain::start(name).to_vec()).collect();
        let sql = "INSERT INTO server (name, born, head, kept_head) \
                   SELECT name, name, head, head FROM unnest($1::text[], $2::bytea[]) AS new (name, head) \
                   ON CONFLICT DO NOTHING";
        self.execute(sql, &[&names, &heads]).await.map(drop)
    }

    /// Sees to the partition of the month of an instant.
    async fn make_month(&mut self, at: i64) -> Result<()> {
        let Some((month, name, from, to)) = month_of(at) else {
            return Err(Error::internal("a run was written at no time that there is"));
        };
        if self.months.contains(&month) {
            return Ok(());
        }
        let there: Option<bool> =
            self.value("SELECT to_regclass('fhirctl.' || $1::text) IS NOT NULL", &[&name]).await?;
        if there != Some(true) {
            // Sent as one, it is one transaction, of which nothing stays open when it fails.
            self.run(&format!(
                "SELECT pg_advisory_xact_lock({}); CREATE TABLE IF NOT EXISTS {name} \
                 PARTITION OF reading FOR VALUES FROM ({from}) TO ({to})",
                open::LOCK
            ))
            .await?;
        }
        self.months.insert(month);
        Ok(())
    }

    /// The fresh rows of a server that are in no segment, in the order in which they were written: those
    /// that were taken from an instant on, the last one before it, and what was written since.
    pub async fn fresh(
        &mut self,
        server: &ServerRow,
        packed: i64,
        from: i64,
    ) -> Result<Vec<Fresh>> {
        // What lies before a newest one was not taken later.
        let rows = self
            .query(
                "SELECT position, at, written FROM reading WHERE server = $1 AND position >= \
                 coalesce((SELECT position FROM reading WHERE server = $1 AND position >= $2 \
                 AND newest < $3 AND at = newest ORDER BY position DESC LIMIT 1), $2) \
                 ORDER BY position",
                &[&server.id, &packed, &from],
            )
            .await?;
        let fresh = |row: &Row| {
            let position = row.try_get(0)?;
            Ok(Fresh { seq: position, position, at: row.try_get(1)?, written: row.try_get(2)? })
        };
        let read: Raw<_> = rows.iter().map(fresh).collect();
        read.map_err(|error| self.told(&error))
    }

    pub async fn raw(&mut self, server: i64, seqs: Vec<i64>) -> Result<Vec<RawRow>> {
        let rows = self
            .query(
                "SELECT position, at, run, body FROM reading \
                 WHERE server = $1 AND position = ANY($2::bigint[]) ORDER BY position",
                &[&server, &seqs],
            )
            .await?;
        let raw = |row: &Row| {
            let position = row.try_get(0)?;
            Ok(RawRow {
                seq: position,
                position,
                at: row.try_get(1)?,
                run: row.try_get(2)?,
                body: row.try_get(3)?,
            })
        };
        let read: Raw<_> = rows.iter().map(raw).collect();
        read.map_err(|error| self.told(&error))
    }

    pub async fn runs(&mut self, rows: Vec<i64>) -> Result<Vec<(i64, Uuid)>> {
        let sql = "SELECT seq, id::text FROM run WHERE seq = ANY($1::bigint[])";
        let rows = self.query(sql, &[&rows]).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: Raw<&str> = row.try_get(1);
            let id = Uuid::parse_str(id.map_err(|error| self.told(&error))?);
            let seq: Raw<i64> = row.try_get(0);
            found.extend(id.ok().zip(seq.ok()).map(|(id, seq)| (seq, id)));
        }
        Ok(found)
    }
}

/// The month of an instant (UTC): its number, the name of its partition, its ends in milliseconds.
fn month_of(at: i64) -> Option<(i64, String, i64, i64)> {
    let date = Timestamp::from_millisecond(at).ok()?.to_zoned(TimeZone::UTC).date();
    let first = date.first_of_month();
    let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
    let ms = |date: jiff::civil::Date| {
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
    };
    let number = i64::from(first.year()) * 100 + i64::from(first.month());
    // A year before the first would make a name with a sign in it.
    let name = format!("reading_{}", number.to_string().replace('-', "b"));
    Some((number, name, ms(first)?, ms(next)?))
}

fn server_row(row: &Row) -> Raw<ServerRow> {
    let written: i64 = row.try_get("written")?;
    Ok(ServerRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        born: row.try_get("born")?,
        head: head(row, "head")?,
        written,
        kept: row.try_get("kept")?,
        kept_head: head(row, "kept_head")?,
        tail: written.checked_sub(1).filter(|tail| *tail >= 0),
        first_at: row.try_get("first_at")?,
        last_at: row.try_get("last_at")?,
        removed_at: row.try_get("removed_at")?,
        rolled_to: row.try_get("rolled_to")?,
        pruned_to: row.try_get("pruned_to")?,
    })
}
