//! The store of readings: SQLite in a file beside the inventory, or PostgreSQL for many machines.
//!
//! Enters: [`Reading`](crate::model::Reading)s, a run at a time, and notes on incidents. Leaves: readings in the order of
//! time, points of a timeline, roll-ups of hours and days, seals of finished days, and a
//! [`Verification`] of all of it. Called by context and the commands; it knows no inventory and reads
//! no clock. Our words only: no secret and no patient's data enters.
//!
//! Written: a run is one transaction. Each reading is a row of bytes (`coded.rs`) and the next link of
//! its server's chain (`chain.rs`). Packed: the rows of a finished day become segments of columns
//! (`segment.rs`), which changes no hash. Rolled up: hours, then days (`rollup.rs`), made anew from
//! readings wherever something came late.
//!
//! Beside the chain: gauges, what servers say of themselves over time (`gauge.rs`).
//!
//! Everything that decides is above the two engines: `sqlite` and `postgres` move rows, and so reports
//! from both are the same.

mod append;
mod batch;
mod bytes;
pub mod chain;
mod chained;
mod coded;
mod compact;
mod db;
mod gauge;
mod import;
mod migrations;
mod note;
mod place;
mod postgres;
mod prune;
mod read;
mod roll_up;
mod rollup;
mod seal;
mod segment;
mod servers;
mod sqlite;
mod status;
mod verify;
mod words;

#[cfg(test)]
mod arbitrary;

pub use append::Run;
pub use chained::Chained;
pub use compact::Compacted;
pub use gauge::{Gauge, GaugeSeries, GaugeValue, GaugesAsked};
pub use import::{
    Exported, Foreign, Survey, assemble, gauges_csv, readings, rows_csv, survey_csv, usual_code,
};
pub use note::{LONGEST, Note, NoteKind};
pub use place::{Host, Place, Server, Settings};
pub use prune::{Pruned, Retention};
pub use read::{Known, Point};
pub use roll_up::RolledUp;
pub use rollup::{Counted, Level, Rollup, Written};
pub use seal::Seal;
pub use status::Overview;
pub use verify::{Problem, ProblemKind, Verification};

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::model::{Error, ErrorKind, Result};
use db::{Db, Mode, ServerRow, on};
use words::Words;

/// History, open.
///
/// Calls may come from many tasks; one works at a time.
pub struct Store {
    place: Place,
    inner: Mutex<Inner>,
}

struct Inner {
    db: Db,
    words: Words,
    /// Rows of runs that were asked for before.
    runs: HashMap<i64, Uuid>,
}

/// How long a store waits for others who hold what it needs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const HOUR: i64 = 3_600_000;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The beginning of the hour of an instant, UTC, in milliseconds.
pub(crate) fn hour_of(at: i64) -> i64 {
    at.div_euclid(HOUR) * HOUR
}

/// The day of an instant, UTC, since the epoch.
pub(crate) fn day_of(at: i64) -> i64 {
    at.div_euclid(DAY)
}

pub(crate) fn date_of(day: i64) -> Option<Date> {
    Some(Timestamp::from_millisecond(day.checked_mul(DAY)?).ok()?.to_zoned(TimeZone::UTC).date())
}

impl Store {
    /// Opens the history, and begins one where none is.
    ///
    /// # Errors
    /// 65 what lies there is damaged or another program's; 69 PostgreSQL cannot be reached; 73 or 74
    /// the file cannot be made or read; 75 it is locked or the disk is full; 77 PostgreSQL refuses the
    /// credential; 78 a newer program made it.
    pub async fn open(settings: &Settings) -> Result<Store> {
        Store::open_within(settings, PATIENCE).await
    }

    /// The same for somebody who waits for other users of a file no longer than this.
    ///
    /// # Errors
    /// As [`open`](Store::open).
    pub async fn open_within(settings: &Settings, patience: Duration) -> Result<Store> {
        match Store::connect(settings, true, patience).await? {
            Some(store) => Ok(store),
            None => Err(Error::internal("history was not made")),
        }
    }

    /// Opens the history for somebody who only looks; `None` where there is none.
    ///
    /// # Errors
    /// As [`open`](Store::open).
    pub async fn look(settings: &Settings) -> Result<Option<Store>> {
        Store::look_within(settings, PATIENCE).await
    }

    /// The same for somebody who waits for other users of a file no longer than this.
    ///
    /// # Errors
    /// As [`open`](Store::open).
    pub async fn look_within(settings: &Settings, patience: Duration) -> Result<Option<Store>> {
        Store::connect(settings, false, patience).await
    }

    async fn connect(
        settings: &Settings,
        create: bool,
        patience: Duration,
    ) -> Result<Option<Store>> {
        let db = match &settings.place {
            Place::Sqlite(path) => {
                sqlite::Sqlite::open(path.clone(), create, patience).await?.map(Db::Sqlite)
            }
            Place::Postgres(server) => {
                let open = postgres::Postgres::open(server.clone(), settings.tls.clone(), create);
                open.await?.map(|open| Db::Postgres(Box::new(open)))
            }
        };
        let Some(db) = db else { return Ok(None) };
        let inner = Inner { db, words: Words::default(), runs: HashMap::new() };
        Ok(Some(Store { place: settings.place.clone(), inner: Mutex::new(inner) }))
    }

    /// Where it lies, without a credential.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The connection. What a caller left open who was dropped is rolled back.
    async fn inner(&self) -> Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner.lock().await;
        if on!(&inner.db, db => db.is_open()) {
            on!(&mut inner.db, db => db.rollback().await)?;
        }
        Ok(inner)
    }

    /// What the store holds is not what it wrote.
    fn damaged(&self, server: &str, position: i64) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "history in {} is damaged: {server}, reading {position}, cannot be read",
                self.place
            ),
        )
        .hint("fhirctl history verify shows how far it is whole; restore it from a backup")
    }

    fn damaged_rollup(&self, server: &str, at: i64) -> Error {
        let at =
            Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_string());
        Error::new(
            ErrorKind::Data,
            format!(
                "history in {} is damaged: the roll-up of {server} at {at} cannot be read",
                self.place
            ),
        )
        .hint("fhirctl history verify shows how far it is whole; restore it from a backup")
    }
}

impl Inner {
    /// Does something within a transaction that sees one state, or writes all or nothing.
    async fn begin(&mut self, mode: Mode) -> Result<()> {
        on!(&mut self.db, db => db.begin(mode).await)
    }

    /// Ends a transaction as its result asks for.
    async fn end<T>(&mut self, result: Result<T>) -> Result<T> {
        match result {
            Ok(value) => {
                on!(&mut self.db, db => db.commit().await)?;
                Ok(value)
            }
            Err(error) => {
                // The first error is the one to be told.
                let _ = on!(&mut self.db, db => db.rollback().await);
                Err(error)
            }
        }
    }

    async fn server(&mut self, name: &str) -> Result<ServerRow> {
        let found = on!(&mut self.db, db => db.server(name.to_owned()).await)?;
        found.ok_or_else(|| Error::not_found(format!("history knows no server {name}")))
    }

    async fn learn_words(&mut self) -> Result<()> {
        for (id, text) in on!(&mut self.db, db => db.words().await)? {
            self.words.learn(id.unsigned_abs(), &text);
        }
        Ok(())
    }

    /// The ids of runs by their rows.
    async fn learn_runs(&mut self, mut rows: Vec<i64>) -> Result<()> {
        /// A day of a thousand servers that are looked at one by one.
        const MOST_KEPT: usize = 200_000;
        rows.sort_unstable();
        rows.dedup();
        rows.retain(|row| !self.runs.contains_key(row));
        if rows.is_empty() {
            return Ok(());
        }
        if self.runs.len() > MOST_KEPT {
            self.runs.clear();
        }
        self.runs.extend(on!(&mut self.db, db => db.runs(rows).await)?);
        Ok(())
    }
}

/// From (included) to (excluded), milliseconds since the epoch.
pub type Window = Range<i64>;
