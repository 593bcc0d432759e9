//! History on PostgreSQL, for many machines at once.
//!
//! Writers of different servers do not wait for each other; those of one server wait at its row, in
//! the order of the rows' numbers, so that none waits for one who waits for it.

mod gauges;
mod open;
mod packed;
mod readings;
mod rest;
mod tls;
mod trouble;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::db::Mode;
use super::place::Server;
use crate::model::Result;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];
/// Until it is told to somebody, a failure keeps its kind.
type Raw<T> = std::result::Result<T, tokio_postgres::Error>;

pub(super) struct Postgres {
    server: Server,
    tls: Option<Arc<rustls::ClientConfig>>,
    line: Line,
    /// Within a transaction there is no going on with another connection.
    in_transaction: bool,
    /// Months that have their partition.
    months: HashSet<i64>,
}

/// A connection, and the task that moves its bytes.
struct Line {
    client: Client,
    task: JoinHandle<()>,
    prepared: HashMap<&'static str, Statement>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    async fn statement(&mut self, sql: &'static str) -> Raw<Statement> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }

    async fn query(&mut self, sql: &'static str, params: Params<'_>) -> Raw<Vec<Row>> {
        let statement = self.statement(sql).await?;
        self.client.query(&statement, params).await
    }

    async fn execute(&mut self, sql: &'static str, params: Params<'_>) -> Raw<u64> {
        let statement = self.statement(sql).await?;
        self.client.execute(&statement, params).await
    }
}

impl Postgres {
    /// Begins a transaction; one that a dropped caller left open is rolled back first.
    pub async fn begin(&mut self, mode: Mode) -> Result<()> {
        self.rollback().await?;
        self.ready().await?;
        let sql = match mode {
            Mode::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Mode::Write => "BEGIN",
        };
        // Said before it is sent: whoever is dropped while it is on its way leaves it open.
        self.in_transaction = true;
        let result = self.line.client.batch_execute(sql).await;
        self.in_transaction = result.is_ok();
        result.map_err(|error| self.told(&error))
    }

    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        self.in_transaction
    }

    pub async fn commit(&mut self) -> Result<()> {
        let result = self.line.client.batch_execute("COMMIT").await;
        self.in_transaction = false;
        result.map_err(|error| self.told(&error))
    }

    pub async fn rollback(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.in_transaction) || self.line.client.is_closed() {
            return Ok(());
        }
        let result = self.line.client.batch_execute("ROLLBACK").await;
        result.map_err(|error| self.told(&error))
    }

    /// Sees to a connection that lives, unless a transaction went down with it.
    async fn ready(&mut self) -> Result<()> {
        if self.line.client.is_closed() && !self.in_transaction {
            self.line = open::connect(&self.server, self.tls.as_ref()).await?;
        }
        Ok(())
    }

    async fn query(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>> {
        self.ready().await?;
        let result = self.line.query(sql, params).await;
        result.map_err(|error| self.told(&error))
    }

    async fn execute(&mut self, sql: &'static str, params: Params<'_>) -> Result<u64> {
        self.ready().await?;
        let result = self.line.execute(sql, params).await;
        result.map_err(|error| self.told(&error))
    }

    /// The one value of the one row of an answer.
    async fn value<T>(&mut self, sql: &'static str, params: Params<'_>) -> Result<Option<T>>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let rows = self.query(sql, params).await?;
        match rows.first() {
            Some(row) => row.try_get(0).map_err(|error| self.told(&error)),
            None => Ok(None),
        }
    }

    fn told(&self, error: &tokio_postgres::Error) -> crate::model::Error {
        trouble::told(&self.server, error)
    }
}

/// A head as it is stored.
fn head(row: &Row, column: &str) -> Raw<super::chain::Head> {
    let bytes: &[u8] = row.try_get(column)?;
    // Of another length it is nobody's head, and no chain leads to it.
    Ok(bytes.try_into().unwrap_or_default())
}
