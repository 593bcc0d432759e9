//! Rolling up: what is new, and what came late.
//!
//! An hour is made anew as a whole from the readings of that hour, so that making it twice makes it the
//! same. Each pass begins a little before where the last one ended, and around every reading that came
//! late: how long a reading holds depends on the next one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::bytes::unpack;
use super::db::{Mode, ServerRow, on};
use super::read::{Anonymous, Known, Want};
use super::rollup::{Level, Rollup, Written};
use super::{DAY, HOUR, Inner, Store, Window, hour_of};
use crate::model::{ErrorKind, Reading, Result, State};
use crate::stats::span::{Span, Spans};
use crate::stats::uptime::{self, Kind, Rule, Totals};

/// What a pass rolled up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolledUp {
    pub hours: u64,
    pub days: u64,
}

/// Where no schedule says how often a server is looked at, an hour goes by the median gap of the day
/// that ends with it.
const LOOK_BACK: i64 = DAY;
/// How far a reading may reach then.
pub(super) const REACH: i64 = 36 * HOUR;
/// Servers of one transaction: a commit for each would be a wait for the disk for each.
const SERVERS_AT_ONCE: usize = 50;
/// What is made from one walk: a month of hours.
const PIECE: i64 = 31 * DAY;

impl Store {
    /// Rolls up every hour that is over, and every hour that a late reading changed.
    ///
    /// `interval_of` says by a server's name how often it is looked at, in milliseconds. A transaction
    /// is some servers or a month of one; it may be broken off at any time and called as often as one
    /// likes.
    ///
    /// # Errors
    /// When the database fails, or holds what cannot be read; then of every other server all is done
    /// that can be.
    pub async fn roll_up(
        &self,
        now: Timestamp,
        interval_of: &(dyn Fn(&str) -> Option<i64> + Sync),
    ) -> Result<RolledUp> {
        let mut inner = self.inner().await?;
        let mut done = RolledUp::default();
        let now = now.as_millisecond();
        let late = on!(&mut inner.db, db => db.late_servers().await)?;
        let mut open = Vec::new();
        for server in on!(&mut inner.db, db => db.servers().await)? {
            let interval = interval_of(&server.name).filter(|interval| *interval > 0);
            let is_due = due(&server, now, reach_of(interval)).is_some_and(|due| !due.is_empty());
            if is_due || late.contains(&server.id) {
                open.push((server.id, interval));
            }
        }
        // In the order in which writers wait for each other.
        open.sort_unstable();
        let mut first_error = None;
        for group in open.chunks(SERVERS_AT_ONCE) {
            let Err(error) = self.roll_group(&mut inner, group, now, &mut done).await else {
                continue;
            };
            if error.kind != ErrorKind::Data {
                return Err(error);
            }
            // One that cannot be read keeps no other from its roll-ups.
            for one in group {
                let one = std::slice::from_ref(one);
                match self.roll_group(&mut inner, one, now, &mut done).await {
                    Err(error) if error.kind != ErrorKind::Data => return Err(error),
                    Err(error) => drop(first_error.get_or_insert(error)),
                    Ok(()) => {}
                }
            }
        }
        first_error.map_or(Ok(done), Err)
    }

    /// Some servers, each with its interval, in one transaction and, where there is more, in further
    /// ones.
    async fn roll_group(
        &self,
        inner: &mut Inner,
        group: &[(i64, Option<i64>)],
        now: i64,
        done: &mut RolledUp,
    ) -> Result<()> {
        let mut rest = group.to_vec();
        while !rest.is_empty() {
            inner.begin(Mode::Write).await?;
            let result = self.roll_each(inner, &rest, now).await;
            let (rolled, more) = inner.end(result).await?;
            done.hours += rolled.hours;
            done.days += rolled.days;
            rest = more;
        }
        Ok(())
    }

    /// What was made, and those that there is more of.
    async fn roll_each(
        &self,
        inner: &mut Inner,
        group: &[(i64, Option<i64>)],
        now: i64,
    ) -> Result<(RolledUp, Vec<(i64, Option<i64>)>)> {
        let mut done = RolledUp::default();
        let mut rest = Vec::new();
        for (server, interval) in group {
            let (rolled, more) = self.roll_some(inner, *server, now, *interval).await?;
            done.hours += rolled.hours;
            done.days += rolled.days;
            if more {
                rest.push((*server, *interval));
            }
        }
        Ok((done, rest))
    }

    /// A month of a server at most; whether there may be more.
    async fn roll_some(
        &self,
        inner: &mut Inner,
        server: i64,
        now: i64,
        interval: Option<i64>,
    ) -> Result<(RolledUp, bool)> {
        let nothing = (RolledUp::default(), false);
        let Some(server) = on!(&mut inner.db, db => db.lock(server).await)? else {
            return Ok(nothing);
        };
        let reach = reach_of(interval);
        let Some(due) = due(&server, now, reach) else { return Ok(nothing) };
        let late = on!(&mut inner.db, db => db.late(server.id).await)?;
        let (done_to, over) = (due.start, due.end);
        let end = over.min(done_to.saturating_add(PIECE));
        let more = end < over;
        if late.is_empty() && end == done_to {
            return Ok(nothing);
        }
        // Late hours wait until the rest is there.
        let late = if more { Vec::new() } else { late };
        let hours = hours_to_make(&server, &late, done_to..end, reach, interval.is_none());
        let mut rolled = RolledUp::default();
        let mut days = BTreeSet::new();
        for piece in pieces(&hours) {
            days.extend(piece.clone().step_by_hours().map(|hour| hour.div_euclid(DAY) * DAY));
            let made = self.make_hours(inner, &server, &piece, reach, interval).await?;
            rolled.hours += made.len() as u64;
            let all = piece.step_by_hours();
            renew(inner, &server, Level::Hour, all, made).await?;
        }
        let made = self.make_days(inner, &server, &days).await?;
        rolled.days = made.len() as u64;
        renew(inner, &server, Level::Day, days.into_iter(), made).await?;
        on!(&mut inner.db, db => db.set_rolled(server.id, end, late).await)?;
        Ok((rolled, more))
    }

    async fn make_hours(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        piece: &Window,
        reach: i64,
        interval: Option<i64>,
    ) -> Result<Vec<(i64, Vec<u8>)>> {
        let before = if interval.is_none() { LOOK_BACK.max(reach) } else { reach };
        let window = piece.start.saturating_sub(before)..piece.end.saturating_add(reach + 1);
        let mut hours: BTreeMap<i64, Rollup> = BTreeMap::new();
        let mut points = Vec::new();
        let mut visit = |Anonymous(reading): Anonymous| {
            let at = reading.at.as_millisecond();
            points.extend(point(&reading));
            if piece.contains(&at) {
                hours.entry(hour_of(at)).or_default().add(&reading);
            }
            Ok(())
        };
        self.walk(inner, server, &window, Want::Samples, &mut visit).await?;
        let mut made = Vec::new();
        for hour in piece.clone().step_by_hours() {
            let (times, interval_ms) = times(&points, hour, reach, interval);
            let rollup = hours.remove(&hour);
            if rollup.is_none() && times.unknown_ms == times.window_ms {
                continue;
            }
            let rollup = Rollup { times, interval_ms, ..rollup.unwrap_or_default() };
            made.push((hour, self.written(inner, server, &rollup)?));
        }
        Ok(made)
    }

    async fn make_days(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        days: &BTreeSet<i64>,
    ) -> Result<Vec<(i64, Vec<u8>)>> {
        let mut made = Vec::new();
        for day in days.iter().copied() {
            let mut sum: Option<Rollup> = None;
            let part = [(Level::Hour, day..day + DAY)];
            let add = |hour: &Written<'_>| hour.add_to(sum.get_or_insert_default());
            self.rolled(inner, (&server.name, server.id), &part, add).await?;
            if let Some(sum) = sum {
                made.push((day, self.written(inner, server, &sum)?));
            }
        }
        Ok(made)
    }

    fn written(&self, inner: &Inner, server: &ServerRow, rollup: &Rollup) -> Result<Vec<u8>> {
        rollup.to_bytes(&inner.words).ok_or_else(|| self.damaged(&server.name, server.kept))
    }

    /// The roll-ups of a server that begin within a window, in the order of time, each with its
    /// beginning.
    ///
    /// # Errors
    /// 66 when history does not know the server, 65 when one cannot be read.
    pub async fn rollups(
        &self,
        server: &str,
        level: Level,
        window: Window,
    ) -> Result<Vec<(i64, Rollup)>> {
        let mut inner = self.inner().await?;
        let row = inner.server(server).await?;
        let mut all = Vec::new();
        let keep = |written: &Written<'_>| {
            let mut rollup = Rollup::default();
            written.add_to(&mut rollup);
            all.push((written.at, rollup));
        };
        self.rolled(&mut inner, (&row.name, row.id), &[(level, window)], keep).await?;
        Ok(all)
    }

    /// Visits those of a server that was asked for before, of several parts of time at once, part by part.
    ///
    /// # Errors
    /// 65 when one cannot be read.
    pub async fn rollups_of(
        &self,
        server: &Known,
        parts: &[(Level, Window)],
        visit: impl FnMut(&Written<'_>) + Send,
    ) -> Result<()> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Read).await?;
        let result = self.rolled(&mut inner, (&server.name, server.id), parts, visit).await;
        inner.end(result).await
    }

    pub(super) async fn rolled(
        &self,
        inner: &mut Inner,
        (name, id): (&str, i64),
        parts: &[(Level, Window)],
        mut visit: impl FnMut(&Written<'_>) + Send,
    ) -> Result<()> {
        let parts = parts
            .iter()
            .filter(|(_, window)| !window.is_empty())
            .map(|(level, window)| (level.number(), window.start, window.end));
        let parts = parts.collect();
        let rows = on!(&mut inner.db, db => db.rollups(id, parts).await)?;
        for (at, bytes) in rows {
            let damaged = || self.damaged_rollup(name, at);
            let plain = unpack(&bytes).ok_or_else(damaged)?;
            let mut written = Written::read(at, &plain, &inner.words);
            if written.is_none() {
                inner.learn_words().await?;
                written = Written::read(at, &plain, &inner.words);
            }
            visit(&written.ok_or_else(damaged)?);
        }
        Ok(())
    }
}

/// Puts what was made in the place of what was there. What comes late may also show that nothing held any
/// more in an hour that no reading is in: such a one goes.
async fn renew(
    inner: &mut Inner,
    server: &ServerRow,
    level: Level,
    all: impl Iterator<Item = i64>,
    made: Vec<(i64, Vec<u8>)>,
) -> Result<()> {
    let was_there = |at: &i64| server.rolled_to.is_some_and(|rolled| *at < rolled);
    let is_made = |at: &i64| made.binary_search_by_key(at, |(at, _)| *at).is_ok();
    let gone: Vec<i64> = all.filter(|at| was_there(at) && !is_made(at)).collect();
    if !gone.is_empty() {
        on!(&mut inner.db, db => db.delete_rollups(server.id, level.number(), gone).await)?;
    }
    on!(&mut inner.db, db => db.put_rollups(server.id, level.number(), made).await)
}

fn reach_of(interval: Option<i64>) -> i64 {
    interval.map_or(REACH, |interval| Rule::every(interval).reach_ms())
}

/// The hours that are over and not rolled up.
fn due(server: &ServerRow, now: i64, reach: i64) -> Option<Window> {
    let done_to = server.rolled_to.unwrap_or(hour_of(server.first_at?));
    // An hour is over when a reading behind it was taken, or none can come that changes it.
    let last = server.last_at?;
    let over = hour_of(last.min(now)).max(hour_of(now.saturating_sub(reach)));
    // Nothing holds beyond: a server that nobody looks at any more is done with.
    let end = hour_of(last.saturating_add(reach)).saturating_add(HOUR);
    Some(done_to..over.min(end).max(done_to))
}

impl Known {
    /// Whether a server was looked at in a window, as far as its first and last reading tell.
    #[must_use]
    pub fn is_within(&self, window: &Window) -> bool {
        self.first_at.is_some_and(|first| first < window.end)
            && self.last_at.is_some_and(|last| last >= window.start)
    }
}

/// The hours of a window that begins and ends with one.
trait Hours {
    fn step_by_hours(self) -> impl Iterator<Item = i64>;
}

impl Hours for Window {
    fn step_by_hours(self) -> impl Iterator<Item = i64> {
        std::iter::successors(Some(self.start), |hour| hour.checked_add(HOUR))
            .take_while(move |hour| *hour < self.end)
    }
}

/// What is new and what a late reading changed, without the hours whose readings are gone.
fn hours_to_make(
    server: &ServerRow,
    late: &[i64],
    new: Window,
    reach: i64,
    by_median: bool,
) -> BTreeSet<i64> {
    // The median of a day changes for a day.
    let after = reach + if by_median { LOOK_BACK } else { 0 };
    let first = server.first_at.map_or(new.start, hour_of);
    let first = server.pruned_to.map_or(first, |gone| first.max(hour_of(gone)));
    let around = |from: i64, to: i64| {
        let from = hour_of(from.saturating_sub(reach)).max(first);
        from..to.min(new.end)
    };
    let mut hours: BTreeSet<i64> = around(new.start, new.end).step_by_hours().collect();
    for hour in late {
        hours.extend(around(*hour, hour.saturating_add(HOUR + after)).step_by_hours());
    }
    hours
}

/// Hours in a row, at most a month of them.
fn pieces(hours: &BTreeSet<i64>) -> Vec<Window> {
    let mut pieces: Vec<Window> = Vec::new();
    for hour in hours {
        match pieces.last_mut() {
            Some(last) if last.end == *hour && last.end - last.start < PIECE => last.end += HOUR,
            _ => pieces.push(*hour..hour.saturating_add(HOUR)),
        }
    }
    pieces
}

/// What a reading says of availability; one of a server that is out of use says nothing.
fn point(reading: &Reading) -> Option<uptime::Point> {
    let kind = match reading.state {
        State::Active => Kind::of(reading.status),
        State::Maintenance => Kind::Maintenance,
        State::Inactive => return None,
    };
    Some(uptime::Point {
        at: reading.at.as_millisecond(),
        kind,
        party: reading.party,
        code: reading.code.clone(),
    })
}

/// How the time of an hour was spent, and the interval that this goes by.
fn times(points: &[uptime::Point], hour: i64, reach: i64, interval: Option<i64>) -> (Totals, i64) {
    let end = hour + HOUR;
    let within = |from: i64, to: i64| {
        let first = points.partition_point(|point| point.at < from);
        let last = points.partition_point(|point| point.at < to);
        points.get(first..last).unwrap_or_default()
    };
    let interval = interval.or_else(|| {
        let day: Vec<i64> = within(end - LOOK_BACK, end).iter().map(|point| point.at).collect();
        uptime::interval(&day)
    });
    let interval = interval.unwrap_or(0);
    let rule = Rule::every(interval);
    let span = Span::new(hour, end);
    let near = within(hour.saturating_sub(reach), end.saturating_add(reach + 1));
    let pieces = uptime::timeline(near, span, &rule, &Spans::none());
    (Totals::of(&pieces, &Spans::one(span), &[]), interval)
}
