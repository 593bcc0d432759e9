//! What servers say of themselves over time.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::{Postgres, Raw};
use crate::history::GaugeValue;
use crate::history::db::GaugeRow;
use crate::model::Result;

impl Postgres {
    /// Keeps values, and tells how many; one that is there already stays as it is.
    pub async fn put_gauges(&mut self, rows: Vec<GaugeRow>) -> Result<u64> {
        // Each once and sorted, so that none waits for one who waits for it.
        let mut asked: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for row in &rows {
            let at = asked.entry((row.server, row.word)).or_insert(row.at);
            *at = row.at.max(*at);
        }
        let servers: Vec<i64> = asked.keys().map(|(server, _)| *server).collect();
        let words: Vec<i64> = asked.keys().map(|(_, word)| *word).collect();
        let instants: Vec<i64> = asked.into_values().collect();
        self.execute(
            "INSERT INTO gauge (server, word, asked_at) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) \
             ON CONFLICT (server, word) DO UPDATE \
             SET asked_at = greatest(gauge.asked_at, excluded.asked_at)",
            &[&servers, &words, &instants],
        )
        .await?;
        let rows: Vec<(&GaugeRow, f64)> =
            rows.iter().filter_map(|row| Some((row, row.value?))).collect();
        let numbers = |of: fn(&GaugeRow) -> i64| -> Vec<i64> {
            rows.iter().map(|(row, _)| of(row)).collect()
        };
        let (servers, words) = (numbers(|row| row.server), numbers(|row| row.word));
        let instants = numbers(|row| row.at);
        let values: Vec<f64> = rows.iter().map(|(_, value)| *value).collect();
        let limits: Vec<Option<f64>> = rows.iter().map(|(row, _)| row.limit).collect();
        self.execute(
            "INSERT INTO gauge_value (gauge, at, value, bound) \
             SELECT gauge.id, new.at, new.value, new.bound FROM unnest($1::bigint[], $2::bigint[], \
             $3::bigint[], $4::double precision[], $5::double precision[]) \
             AS new (server, word, at, value, bound) \
             JOIN gauge ON gauge.server = new.server AND gauge.word = new.word \
             ON CONFLICT DO NOTHING",
            &[&servers, &words, &instants, &values, &limits],
        )
        .await
    }

    /// The gauges of a server with their names.
    pub async fn gauge_names(&mut self, server: i64) -> Result<Vec<(i64, String)>> {
        let rows = self
            .query(
                "SELECT gauge.id, word.text FROM gauge JOIN word ON word.id = gauge.word \
                 WHERE gauge.server = $1",
                &[&server],
            )
            .await?;
        let read: Raw<_> = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
        read.map_err(|error| self.told(&error))
    }

    /// The values of a server's gauges in a window, each gauge's in order of time.
    pub async fn gauge_values(
        &mut self,
        server: i64,
        from: i64,
        to: i64,
    ) -> Result<Vec<(i64, GaugeValue)>> {
        let rows = self
            .query(
                "SELECT gauge, at, value, bound FROM gauge_value \
                 WHERE gauge IN (SELECT id FROM gauge WHERE server = $1) AND at >= $2 AND at < $3 \
                 ORDER BY gauge, at",
                &[&server, &from, &to],
            )
            .await?;
        let value = |row: &Row| {
            let value =
                GaugeValue { at: row.try_get(1)?, value: row.try_get(2)?, limit: row.try_get(3)? };
            Ok((row.try_get(0)?, value))
        };
        let read: Raw<_> = rows.iter().map(value).collect();
        read.map_err(|error| self.told(&error))
    }

    /// Server, gauge, and when it was last asked for.
    pub async fn gauges_asked(&mut self) -> Result<Vec<(String, String, i64)>> {
        let rows = self
            .query(
                "SELECT server.name, word.text, gauge.asked_at FROM gauge \
                 JOIN server ON server.id = gauge.server JOIN word ON word.id = gauge.word",
                &[],
            )
            .await?;
        let asked = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let read: Raw<_> = rows.iter().map(asked).collect();
        read.map_err(|error| self.told(&error))
    }

    /// Of the values before an instant the last of each step of time stays; how many are gone.
    pub async fn thin_gauges(&mut self, before: i64, step: i64) -> Result<u64> {
        self.execute(
            "DELETE FROM gauge_value AS old WHERE at < $1 AND EXISTS (SELECT 1 FROM gauge_value AS next \
             WHERE next.gauge = old.gauge AND next.at > old.at AND next.at < (old.at / $2 + 1) * $2)",
            &[&before, &step],
        )
        .await
    }

    /// Deletes values before an instant, and the gauges that nobody asks for since; how many values.
    pub async fn prune_gauges(&mut self, before: i64) -> Result<u64> {
        let gone = self.execute("DELETE FROM gauge_value WHERE at < $1", &[&before]).await?;
        self.execute(
            "DELETE FROM gauge WHERE asked_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM gauge_value WHERE gauge_value.gauge = gauge.id)",
            &[&before],
        )
        .await?;
        Ok(gone)
    }
}
