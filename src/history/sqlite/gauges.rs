//! What servers say of themselves over time.

use rusqlite::params;

use super::Sqlite;
use crate::history::GaugeValue;
use crate::history::db::GaugeRow;
use crate::model::Result;

impl Sqlite {
    /// Keeps values, and tells how many; one that is there already stays as it is.
    pub async fn put_gauges(&mut self, rows: Vec<GaugeRow>) -> Result<u64> {
        self.call(move |connection| {
            let mut ask = connection.prepare_cached(
                "INSERT INTO gauge (server, word, asked_at) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (server, word) DO UPDATE SET asked_at = max(asked_at, excluded.asked_at) \
                 RETURNING id",
            )?;
            let mut insert = connection.prepare_cached(
                "INSERT OR IGNORE INTO gauge_value (gauge, at, value, bound) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut new = 0;
            for row in rows {
                let id: i64 = ask
                    .query_row(params![row.server, row.word, row.at], |found| found.get(0))?;
                if let Some(value) = row.value {
                    new += insert.execute(params![id, row.at, value, row.limit])? as u64;
                }
            }
            Ok(new)
        })
        .await
    }

    /// The gauges of a server with their names.
    pub async fn gauge_names(&mut self, server: i64) -> Result<Vec<(i64, String)>> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT gauge.id, word.text FROM gauge JOIN word ON word.id = gauge.word \
                 WHERE gauge.server = ?1",
            )?;
            statement.query_map([server], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .await
    }

    /// The values of a server's gauges in a window, each gauge's in order of time.
    pub async fn gauge_values(
        &mut self,
        server: i64,
        from: i64,
        to: i64,
    ) -> Result<Vec<(i64, GaugeValue)>> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT gauge, at, value, bound FROM gauge_value \
                 WHERE gauge IN (SELECT id FROM gauge WHERE server = ?1) AND at >= ?2 AND at < ?3 \
                 ORDER BY gauge, at",
            )?;
            statement
                .query_map([server, from, to], |row| {
                    let value =
                        GaugeValue { at: row.get(1)?, value: row.get(2)?, limit: row.get(3)? };
                    Ok((row.get(0)?, value))
                })?
                .collect()
        })
        .await
    }

    /// Server, gauge, and when it was last asked for.
    pub async fn gauges_asked(&mut self) -> Result<Vec<(String, String, i64)>> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT server.name, word.text, gauge.asked_at FROM gauge \
                 JOIN server ON server.id = gauge.server JOIN word ON word.id = gauge.word",
            )?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
        .await
    }

    /// Of the values before an instant the last of each step of time stays; how many are gone.
    pub async fn thin_gauges(&mut self, before: i64, step: i64) -> Result<u64> {
        self.call(move |connection| {
            connection
                .execute(
                    "DELETE FROM gauge_value WHERE at < ?1 AND EXISTS (SELECT 1 FROM gauge_value AS next \
                     WHERE next.gauge = gauge_value.gauge AND next.at > gauge_value.at \
                     AND next.at < (gauge_value.at / ?2 + 1) * ?2)",
                    [before, step],
                )
                .map(|count| count as u64)
        })
        .await
    }

    /// Deletes values before an instant, and the gauges that nobody asks for since; how many values.
    pub async fn prune_gauges(&mut self, before: i64) -> Result<u64> {
        self.call(move |connection| {
            let gone = connection.execute("DELETE FROM gauge_value WHERE at < ?1", [before])?;
            connection.execute(
                "DELETE FROM gauge WHERE asked_at < ?1 \
                 AND NOT EXISTS (SELECT 1 FROM gauge_value WHERE gauge_value.gauge = gauge.id)",
                [before],
            )?;
            Ok(gone as u64)
        })
        .await
    }
}
