//! How much there is, how far it is packed and rolled up.

use jiff::civil::Date;

use super::db::on;
use super::{Place, Store, date_of, day_of};
use crate::model::Result;

/// The store in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// `sqlite` or `postgresql`.
    pub engine: &'static str,
    /// The layout of the database, a date.
    pub schema: i64,
    /// What it takes on the disk, without pages that are free to be used again.
    pub bytes: u64,
    pub servers: u64,
    pub runs: u64,
    /// Readings that are kept: in rows of their own, and in segments.
    pub readings: u64,
    pub packed: u64,
    pub segments: u64,
    pub segment_bytes: u64,
    pub hours: u64,
    pub days: u64,
    pub notes: u64,
    /// Values of gauges that are kept.
    pub gauges: u64,
    /// When the first and the last reading were taken, milliseconds since the epoch; the first at the
    /// earliest where what was before is no longer kept.
    pub first_at: Option<i64>,
    pub last_at: Option<i64>,
    /// Up to when every server is rolled up; `None` when one is not at all.
    pub rolled_to: Option<i64>,
    /// The first day of writing that is not packed yet.
    pub unpacked_from: Option<Date>,
    pub last_seal: Option<Date>,
}

impl Store {
    /// # Errors
    /// When the database cannot be read.
    pub async fn status(&self) -> Result<Overview> {
        let mut inner = self.inner().await?;
        let mut servers = on!(&mut inner.db, db => db.servers().await)?;
        let counts = on!(&mut inner.db, db => db.counts().await)?;
        servers.retain(|server| server.written > 0);
        let kept: i64 = servers.iter().map(|server| server.written - server.kept).sum();
        let rolled: Option<Vec<i64>> = servers.iter().map(|server| server.rolled_to).collect();
        Ok(Overview {
            engine: match self.place {
                Place::Sqlite(_) => "sqlite",
                Place::Postgres(_) => "postgresql",
            },
            schema: counts.schema,
            bytes: counts.bytes,
            servers: servers.len() as u64,
            runs: counts.runs,
            readings: kept.unsigned_abs(),
            packed: counts.packed,
            segments: counts.segments,
            segment_bytes: counts.packed_bytes,
            hours: counts.hours,
            days: counts.days,
            notes: counts.notes,
            gauges: counts.gauges,
            first_at: servers
                .iter()
                .filter_map(|server| server.first_at.max(server.pruned_to))
                .min(),
            last_at: servers.iter().filter_map(|server| server.last_at).max(),
            rolled_to: rolled.and_then(|rolled| rolled.into_iter().min()),
            unpacked_from: counts.oldest_fresh.and_then(|at| date_of(day_of(at))),
            last_seal: counts.last_seal.and_then(date_of),
        })
    }

    /// Gives the space of what was deleted back to the disk. It rewrites the database.
    ///
    /// # Errors
    /// When others hold the database, or the disk has no room for a second one.
    pub async fn vacuum(&self) -> Result<()> {
        let mut inner = self.inner().await?;
        on!(&mut inner.db, db => db.vacuum().await)
    }
}
