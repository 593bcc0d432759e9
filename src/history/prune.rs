//! Letting go of what is older than it is kept for.

use std::time::Duration;

use jiff::Timestamp;

use super::db::{Mode, on};
use super::rollup::Level;
use super::{DAY, Inner, Store, gauge};
use crate::model::Result;

/// For how long readings and roll-ups are kept; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub raw: Option<Duration>,
    pub hourly: Option<Duration>,
    pub daily: Option<Duration>,
}

/// What was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub readings: u64,
    pub hours: u64,
    pub days: u64,
    /// Values of gauges.
    pub gauges: u64,
}

impl Store {
    /// Deletes what is older than it is kept for, in whole segments and whole days (UTC): pack and roll
    /// up first. The chain goes on from the first segment that is kept. Of gauges that are older than
    /// readings are kept one value a day stays, for as long as days do.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn prune(&self, retention: &Retention, now: Timestamp) -> Result<Pruned> {
        let cuts = Cuts::of(retention, now);
        let mut inner = self.inner().await?;
        let mut pruned = Pruned::default();
        if let Some(before) = cuts.raw {
            for server in on!(&mut inner.db, db => db.servers().await)? {
                inner.begin(Mode::Write).await?;
                let result = prune_server(&mut inner, server.id, before).await;
                pruned.readings += inner.end(result).await?;
            }
        }
        prune_rest(&mut inner, &cuts, &mut pruned).await?;
        Ok(pruned)
    }

    /// What [`prune`](Store::prune) would delete as things are packed now: it is done and taken back.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn prunable(&self, retention: &Retention, now: Timestamp) -> Result<Pruned> {
        let cuts = Cuts::of(retention, now);
        let mut inner = self.inner().await?;
        inner.begin(Mode::Write).await?;
        let result = prunable(&mut inner, &cuts).await;
        on!(&mut inner.db, db => db.rollback().await)?;
        result
    }
}

/// What was before is not kept, in milliseconds since the epoch; `None` keeps all.
struct Cuts {
    raw: Option<i64>,
    hourly: Option<i64>,
    daily: Option<i64>,
}

impl Cuts {
    fn of(retention: &Retention, now: Timestamp) -> Cuts {
        let cut = |kept: Option<Duration>| {
            let ms = i64::try_from(kept?.as_millis()).ok()?;
            Some(now.as_millisecond().checked_sub(ms)?.div_euclid(DAY) * DAY)
        };
        let raw = cut(retention.raw);
        // An hour that may have to be made anew makes its day anew from all its hours.
        let hourly = raw.and_then(|raw| Some(cut(retention.hourly)?.min(raw)));
        // And whole days are told by days.
        let daily = hourly.and_then(|hourly| Some(cut(retention.daily)?.min(hourly)));
        Cuts { raw, hourly, daily }
    }
}

async fn prunable(inner: &mut Inner, cuts: &Cuts) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    if let Some(before) = cuts.raw {
        for server in on!(&mut inner.db, db => db.servers().await)? {
            pruned.readings += prune_server(inner, server.id, before).await?;
        }
    }
    prune_rest(inner, cuts, &mut pruned).await?;
    Ok(pruned)
}

/// Everything but readings.
async fn prune_rest(inner: &mut Inner, cuts: &Cuts, pruned: &mut Pruned) -> Result<()> {
    if cuts.raw.is_some() {
        on!(&mut inner.db, db => db.prune_runs().await)?;
    }
    if let Some(before) = cuts.hourly {
        pruned.hours =
            on!(&mut inner.db, db => db.prune_rollups(Level::Hour.number(), before).await)?;
    }
    pruned.gauges = gauge::prune(inner, cuts.raw, cuts.daily).await?;
    if let Some(before) = cuts.daily {
        pruned.days =
            on!(&mut inner.db, db => db.prune_rollups(Level::Day.number(), before).await)?;
    }
    Ok(())
}

async fn prune_server(inner: &mut Inner, server: i64, before: i64) -> Result<u64> {
    let Some(server) = on!(&mut inner.db, db => db.lock(server).await)? else { return Ok(0) };
    let segments = on!(&mut inner.db, db => db.segments(server.id).await)?;
    // What is not rolled up yet is not let go. From the front only: the chain has no holes.
    let before = before.min(server.rolled_to.unwrap_or(i64::MIN));
    let gone: Vec<_> = segments.into_iter().take_while(|row| row.to_at < before).collect();
    let Some(last) = gone.last() else { return Ok(0) };
    let kept = last.position + last.readings;
    let (head, ids) = (last.after, gone.iter().map(|row| row.id).collect());
    let pruned_to = server.pruned_to.map_or(before, |known| known.max(before));
    on!(&mut inner.db, db => db.delete_segments(ids).await)?;
    on!(&mut inner.db, db => db.set_kept(server.id, kept, head, pruned_to).await)?;
    Ok((kept - server.kept).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_are_made_from_never_outlives_them() {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        let now = Timestamp::from_millisecond(100 * DAY + 1).unwrap();
        for (raw, hourly, daily, cuts) in [
            (days(10), days(20), days(30), [90, 80, 70]),
            (days(30), days(20), days(10), [70, 70, 70]),
            (days(10), days(30), days(20), [90, 70, 70]),
        ] {
            let found = Cuts::of(&Retention { raw, hourly, daily }, now);
            assert_eq!([found.raw, found.hourly, found.daily], cuts.map(|cut| Some(cut * DAY)));
        }
        let found = Cuts::of(&Retention { raw: days(10), hourly: None, daily: days(20) }, now);
        assert_eq!((found.hourly, found.daily), (None, None));
    }
}
