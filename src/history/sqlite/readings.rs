//! Servers, words, runs and fresh readings.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::{Sqlite, rollback, trouble};
use crate::history::batch::Batch;
use crate::history::chain;
use crate::history::db::{Advance, Fresh, RawRow, ServerRow};
use crate::model::Result;

const SERVER: &str = "SELECT id, name, born, head, written, kept, kept_head, tail, first_at, last_at, removed_at, \
     rolled_to, pruned_to FROM server";

impl Sqlite {
    pub async fn servers(&mut self) -> Result<Vec<ServerRow>> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SERVER} ORDER BY name"))?;
            statement.query_map([], server_row)?.collect()
        })
        .await
    }

    pub async fn server(&mut self, name: String) -> Result<Option<ServerRow>> {
        self.call(move |connection| by_name(connection, &name)).await
    }

    /// Within a transaction that writes, nobody else changes it.
    pub async fn lock(&mut self, id: i64) -> Result<Option<ServerRow>> {
        self.call(move |connection| {
            connection
                .prepare_cached(&format!("{SERVER} WHERE id = ?1"))?
                .query_row([id], server_row)
                .optional()
        })
        .await
    }

    /// The server of that name, made when it is not there.
    pub async fn ensure_server(&mut self, name: String) -> Result<i64> {
        self.call(move |connection| {
            if let Some(server) = by_name(connection, &name)? {
                return Ok(server.id);
            }
            // Outside of a transaction somebody else may be quicker.
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO server (name, born, head, kept_head) \
                     VALUES (?1, ?1, ?2, ?2)",
                )?
                .execute(params![name, chain::start(&name)])?;
            connection
                .prepare_cached("SELECT id FROM server WHERE name = ?1")?
                .query_row([&name], |row| row.get(0))
        })
        .await
    }

    pub async fn rename(&mut self, id: i64, name: String) -> Result<()> {
        self.call(move |connection| {
            connection
                .prepare_cached("UPDATE server SET name = ?2 WHERE id = ?1")?
                .execute(params![id, name])
                .map(drop)
        })
        .await
    }

    pub async fn archive(&mut self, id: i64, at: i64) -> Result<()> {
        self.call(move |connection| {
            connection
                .prepare_cached("UPDATE server SET removed_at = ?2 WHERE id = ?1")?
                .execute(params![id, at])
                .map(drop)
        })
        .await
    }

    pub async fn words(&mut self) -> Result<Vec<(i64, String)>> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, text FROM word")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .await
    }

    /// Gives words their numbers, for good: a batch that fails behind it takes none back.
    pub async fn add_words(&mut self, words: Vec<String>) -> Result<Vec<(i64, String)>> {
        if self.read_only {
            return Err(trouble::read_only(&self.path));
        }
        self.call(move |connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let result = (|| {
                let mut numbered = Vec::new();
                for word in words {
                    connection
                        .prepare_cached("INSERT OR IGNORE INTO word (text) VALUES (?1)")?
                        .execute([&word])?;
                    let id = connection
                        .prepare_cached("SELECT id FROM word WHERE text = ?1")?
                        .query_row([&word], |row| row.get(0))?;
                    numbered.push((id, word));
                }
                connection.execute_batch("COMMIT")?;
                Ok(numbered)
            })();
            rollback(connection);
            result
        })
        .await
    }

    /// Writes a batch; `false` when its run is there already.
    pub async fn append(&mut self, batch: Batch) -> Result<bool> {
        if self.read_only {
            return Err(trouble::read_only(&self.path));
        }
        self.call(move |connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let result = append(connection, &batch).and_then(|new| {
                if new {
                    connection.execute_batch("COMMIT")?;
                }
                Ok(new)
            });
            rollback(connection);
            result
        })
        .await
    }

    /// The fresh rows of a server that are in no segment, in the order in which they were written: those
    /// that were taken from an instant on, the last one before it, and what was written since.
    pub async fn fresh(
        &mut self,
        server: &ServerRow,
        packed: i64,
        from: i64,
    ) -> Result<Vec<Fresh>> {
        let (id, tail, written) = (server.id, server.tail, server.written);
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT prev, at, written, newest FROM reading \
                 WHERE seq = ?1 AND server = ?2 AND position = ?3",
            )?;
            let mut rows = Vec::new();
            let mut next = tail;
            let mut position = written - 1;
            while position >= packed
                && let Some(seq) = next
            {
                let found = statement.query_row(params![seq, id, position], |row| {
                    let fresh = Fresh { seq, position, at: row.get(1)?, written: row.get(2)? };
                    Ok((row.get(0)?, fresh, row.get::<_, i64>(3)?))
                });
                let Some((prev, fresh, newest)) = found.optional()? else { break };
                rows.push(fresh);
                // Nothing older was taken later.
                if fresh.at == newest && newest < from {
                    break;
                }
                next = prev;
                position -= 1;
            }
            rows.reverse();
            Ok(rows)
        })
        .await
    }

    pub async fn raw(&mut self, _server: i64, seqs: Vec<i64>) -> Result<Vec<RawRow>> {
        self.call(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT position, at, run, body FROM reading WHERE seq = ?1")?;
            let mut rows = Vec::with_capacity(seqs.len());
            for seq in seqs {
                let row = statement.query_row([seq], |row| {
                    Ok(RawRow {
                        seq,
                        position: row.get(0)?,
                        at: row.get(1)?,
                        run: row.get(2)?,
                        body: row.get(3)?,
                    })
                });
                rows.extend(row.optional()?);
            }
            Ok(rows)
        })
        .await
    }

    pub async fn runs(&mut self, rows: Vec<i64>) -> Result<Vec<(i64, Uuid)>> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached("SELECT id FROM run WHERE seq = ?1")?;
            let mut found = Vec::with_capacity(rows.len());
            for seq in rows {
                let id: Option<[u8; 16]> =
                    statement.query_row([seq], |row| row.get(0)).optional()?;
                found.extend(id.map(|id| (seq, Uuid::from_bytes(id))));
            }
            Ok(found)
        })
        .await
    }
}

fn append(connection: &Connection, batch: &Batch) -> rusqlite::Result<bool> {
    let new = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO run (id, at, vantage, origin) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![batch.run.as_bytes(), batch.at, batch.vantage, batch.origin])?;
    if new == 0 {
        return Ok(false);
    }
    let run = connection.last_insert_rowid();
    let mut servers = Vec::with_capacity(batch.servers.len());
    for name in &batch.servers {
        let row = match by_name(connection, name)? {
            Some(row) => row,
            None => new_server(connection, name)?,
        };
        servers.push(Advance::new(row));
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO reading (server, prev, position, run, at, written, newest, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for row in batch.rows() {
        let Some(advance) = servers.get_mut(row.server) else { continue };
        let position = advance.take(row.at, row.text);
        let server = &mut advance.server;
        insert.execute(params![
            server.id,
            server.tail,
            position,
            run,
            row.at,
            batch.at,
            server.last_at,
            row.body
        ])?;
        server.tail = Some(connection.last_insert_rowid());
    }
    let mut update = connection.prepare_cached(
        "UPDATE server SET head = ?2, written = ?3, tail = ?4, first_at = ?5, last_at = ?6, \
         removed_at = NULL WHERE id = ?1",
    )?;
    let mut late =
        connection.prepare_cached("INSERT OR IGNORE INTO late (server, hour) VALUES (?1, ?2)")?;
    for Advance { server, late: hours } in servers {
        update.execute(params![
            server.id,
            server.head,
            server.written,
            server.tail,
            server.first_at,
            server.last_at
        ])?;
        for hour in hours.into_iter().collect::<HashSet<_>>() {
            late.execute(params![server.id, hour])?;
        }
    }
    Ok(true)
}

fn by_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<ServerRow>> {
    connection
        .prepare_cached(&format!("{SERVER} WHERE name = ?1"))?
        .query_row([name], server_row)
        .optional()
}

fn new_server(connection: &Connection, name: &str) -> rusqlite::Result<ServerRow> {
    let head = chain::start(name);
    connection
        .prepare_cached("INSERT INTO server (name, born, head, kept_head) VALUES (?1, ?1, ?2, ?2)")?
        .execute(params![name, head])?;
    Ok(ServerRow {
        id: connection.last_insert_rowid(),
        name: name.to_owned(),
        born: name.to_owned(),
        head,
        written: 0,
        kept: 0,
        kept_head: head,
        tail: None,
        first_at: None,
        last_at: None,
        removed_at: None,
        rolled_to: None,
        pruned_to: None,
    })
}

/// In the order of `SERVER`: by name, SQLite would compare each for every row.
fn server_row(row: &Row<'_>) -> rusqlite::Result<ServerRow> {
    Ok(ServerRow {
        id: row.get(0)?,
        name: row.get(1)?,
        born: row.get(2)?,
        head: row.get(3)?,
        written: row.get(4)?,
        kept: row.get(5)?,
        kept_head: row.get(6)?,
        tail: row.get(7)?,
        first_at: row.get(8)?,
        last_at: row.get(9)?,
        removed_at: row.get(10)?,
        rolled_to: row.get(11)?,
        pruned_to: row.get(12)?,
    })
}
