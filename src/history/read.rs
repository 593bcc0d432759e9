//! Reading back, in the order of time, with one segment or a few thousand fresh rows in memory.

use std::sync::Arc;

use uuid::Uuid;

use super::coded::Coded;
use super::db::{Fresh, Mode, SegmentRow, ServerRow, on};
use super::roll_up::REACH;
use super::{Inner, Store, Window, hour_of, segment};
use crate::model::{Party, Reading, Result, State, Status};

/// A server that history knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    /// Of all its readings, also those that are no longer kept.
    pub first_at: Option<i64>,
    pub last_at: Option<i64>,
    /// How many readings are kept.
    pub readings: u64,
    /// When it was taken out of the inventory.
    pub removed_at: Option<i64>,
    /// Up to when its roll-ups hold: the end of an hour. What came late and is not in them yet is behind it.
    pub rolled_to: Option<i64>,
    /// Of what was before it, roll-ups are kept and no readings.
    pub pruned_to: Option<i64>,
    pub(super) id: i64,
}

/// When and how a server was: a reading without its samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub state: State,
    pub status: Status,
    pub party: Option<Party>,
    pub code: Option<Arc<str>>,
}

/// How much of a reading is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// No samples: they are not even unpacked.
    Points,
    Samples,
    /// Samples, and the ids of the runs.
    Runs,
}

/// For whoever needs all of a segment.
pub(super) const EVERYTHING: Window = i64::MIN..i64::MAX;
/// Fresh rows that are unpacked at once.
const FRESH_AT_ONCE: usize = 2_000;

impl Store {
    /// Every server that history knows, by name; removed ones too.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn servers(&self) -> Result<Vec<Known>> {
        let mut inner = self.inner().await?;
        let rows = on!(&mut inner.db, db => db.servers().await)?;
        let late = on!(&mut inner.db, db => db.late_servers().await)?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut known = Known::of(row);
            if late.contains(&row.id) {
                let hours = on!(&mut inner.db, db => db.late(row.id).await)?;
                // Of what is gone nothing is made anew.
                let gone = row.pruned_to.unwrap_or(i64::MIN);
                let changed =
                    hours.first().map(|hour| hour_of(hour.saturating_sub(REACH).max(gone)));
                known.rolled_to = known.rolled_to.min(changed);
            }
            all.push(known);
        }
        Ok(all)
    }

    /// The newest reading of a server, by when it was taken.
    ///
    /// # Errors
    /// 66 when history does not know the server.
    pub async fn last(&self, server: &str) -> Result<Option<Reading>> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Read).await?;
        let result = self.newest(&mut inner, server).await;
        inner.end(result).await
    }

    async fn newest(&self, inner: &mut Inner, server: &str) -> Result<Option<Reading>> {
        let row = inner.server(server).await?;
        let Some(last_at) = row.last_at else { return Ok(None) };
        let name: Arc<str> = server.into();
        if let Some(tail) = row.tail {
            let fresh = on!(&mut inner.db, db => db.raw(row.id, vec![tail]).await)?;
            if let [fresh] = fresh.as_slice()
                && fresh.at == last_at
                && fresh.position == row.written - 1
            {
                let coded = Coded::from_bytes(fresh.at, fresh.run, &fresh.body)
                    .ok_or_else(|| self.damaged(server, fresh.position))?;
                inner.learn_runs(vec![fresh.run]).await?;
                return self.told(inner, &name, fresh.position, &coded).await.map(Some);
            }
        }
        let mut newest = None;
        let window = last_at..last_at.saturating_add(1);
        self.walk(inner, &row, &window, Want::Runs, &mut |reading: Reading| {
            newest = Some(reading);
            Ok(())
        })
        .await?;
        Ok(newest)
    }

    /// Visits the readings of a server in the order of time: the last one before the window, then all
    /// within it. At equal instants they come in the order in which they were written.
    ///
    /// # Errors
    /// 66 when history does not know the server, 65 when what is stored cannot be read, and those of
    /// the visitor.
    pub async fn readings(
        &self,
        server: &str,
        window: Window,
        mut visit: impl FnMut(Reading) -> Result<()> + Send,
    ) -> Result<()> {
        self.told_to(server, window, Want::Runs, &mut visit).await
    }

    /// The same without the ids of the runs, for whoever adds up: they are nil.
    ///
    /// # Errors
    /// As those of [`readings`](Store::readings).
    pub async fn samples(
        &self,
        server: &str,
        window: Window,
        mut visit: impl FnMut(Reading) -> Result<()> + Send,
    ) -> Result<()> {
        let mut visit = |Anonymous(reading): Anonymous| visit(reading);
        self.told_to(server, window, Want::Samples, &mut visit).await
    }

    /// Visits when and how a server was, as [`readings`](Store::readings) does, and unpacks no sample.
    ///
    /// # Errors
    /// As those of [`readings`](Store::readings).
    pub async fn points(
        &self,
        server: &str,
        window: Window,
        mut visit: impl FnMut(Point) -> Result<()> + Send,
    ) -> Result<()> {
        self.told_to(server, window, Want::Points, &mut visit).await
    }

    /// A walk in a transaction of its own.
    async fn told_to<T: Told>(
        &self,
        server: &str,
        window: Window,
        want: Want,
        visit: &mut (dyn FnMut(T) -> Result<()> + Send),
    ) -> Result<()> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Read).await?;
        let result = match inner.server(server).await {
            Ok(row) => self.walk(&mut inner, &row, &window, want, visit).await,
            Err(error) => Err(error),
        };
        inner.end(result).await
    }

    /// The walk under all of them: sources in the order of their first instant, each opened when the
    /// walk has come to it, and what is open kept sorted.
    pub(super) async fn walk<T: Told>(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        window: &Window,
        want: Want,
        visit: &mut (dyn FnMut(T) -> Result<()> + Send),
    ) -> Result<()> {
        let name: Arc<str> = server.name.as_str().into();
        let sources = sources(inner, server, window).await?;
        let mut open: Vec<(i64, i64, T)> = Vec::new();
        let mut before: Option<T> = None;
        let mut emit = |at: i64, item: T| -> Result<()> {
            if at < window.start {
                before = Some(item);
                return Ok(());
            }
            if let Some(before) = before.take() {
                visit(before)?;
            }
            visit(item)
        };
        for source in sources {
            // Nothing that comes later is before this source's first instant.
            let due = open.partition_point(|(at, ..)| *at < source.begins());
            for (at, _, item) in open.drain(..due) {
                emit(at, item)?;
            }
            let coded = self.load(inner, server, &source, want, window).await?;
            if want == Want::Runs {
                inner.learn_runs(coded.iter().map(|(_, coded)| coded.run).collect()).await?;
            }
            open.reserve(coded.len());
            for (position, coded) in coded {
                if coded.at >= window.end {
                    continue;
                }
                let item = self.told(inner, &name, position, &coded).await?;
                open.push((coded.at, position, item));
            }
            open.sort_by_key(|(at, position, _)| (*at, *position));
        }
        for (at, _, item) in open {
            emit(at, item)?;
        }
        match before {
            Some(before) => visit(before),
            None => Ok(()),
        }
    }

    async fn load(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        source: &Source,
        want: Want,
        window: &Window,
    ) -> Result<Vec<(i64, Coded)>> {
        match source {
            Source::Segment(row) => self.unpack(inner, &server.name, row, want, window).await,
            Source::Fresh(rows) => {
                let seqs = rows.iter().map(|fresh| fresh.seq).collect();
                let rows = on!(&mut inner.db, db => db.raw(server.id, seqs).await)?;
                let read = rows.into_iter().map(|row| {
                    Coded::from_bytes(row.at, row.run, &row.body)
                        .map(|coded| (row.position, coded))
                        .ok_or_else(|| self.damaged(&server.name, row.position))
                });
                read.collect()
            }
        }
    }

    /// The readings of a segment that a window needs, each with its position, in the order in which they
    /// were written.
    pub(super) async fn unpack(
        &self,
        inner: &mut Inner,
        server: &str,
        row: &SegmentRow,
        want: Want,
        window: &Window,
    ) -> Result<Vec<(i64, Coded)>> {
        let part = if want == Want::Points {
            let bytes = on!(&mut inner.db, db => db.points(row.id).await)?;
            segment::decode_points(&bytes, window).map(|part| segment::Part {
                count: part.count,
                found: part.found.iter().map(|(nth, point)| (*nth, Coded::from(point))).collect(),
            })
        } else {
            let body = on!(&mut inner.db, db => db.body(row.id).await)?;
            segment::decode(&body, window)
        };
        let part = part
            .filter(|part| i64::try_from(part.count) == Ok(row.readings))
            .ok_or_else(|| self.damaged(server, row.position))?;
        let placed = |(nth, coded)| Some((row.position + i64::try_from(nth).ok()?, coded));
        Ok(part.found.into_iter().filter_map(placed).collect())
    }

    /// A reading in the form in which it is wanted; words that are new here are looked up.
    pub(super) async fn told<T: Told>(
        &self,
        inner: &mut Inner,
        server: &Arc<str>,
        position: i64,
        coded: &Coded,
    ) -> Result<T> {
        if let Some(told) = T::told(inner, server, coded) {
            return Ok(told);
        }
        inner.learn_words().await?;
        T::told(inner, server, coded).ok_or_else(|| self.damaged(server, position))
    }
}

/// What a walk can tell a reading as.
pub(super) trait Told: Sized + Send {
    fn told(inner: &Inner, server: &Arc<str>, coded: &Coded) -> Option<Self>;
}

impl Told for Reading {
    fn told(inner: &Inner, server: &Arc<str>, coded: &Coded) -> Option<Reading> {
        let run = inner.runs.get(&coded.run).copied()?;
        coded.reading(server, run, &inner.words)
    }
}

/// A reading whose run nobody asked for.
pub(super) struct Anonymous(pub Reading);

impl Told for Anonymous {
    fn told(inner: &Inner, server: &Arc<str>, coded: &Coded) -> Option<Anonymous> {
        coded.reading(server, Uuid::nil(), &inner.words).map(Anonymous)
    }
}

impl Told for Point {
    fn told(inner: &Inner, _server: &Arc<str>, coded: &Coded) -> Option<Point> {
        Some(Point {
            at: coded.at,
            state: coded.state,
            status: coded.status,
            party: coded.party,
            code: inner.words.maybe(coded.code)?,
        })
    }
}

impl Known {
    fn of(row: &ServerRow) -> Known {
        Known {
            name: row.name.clone(),
            first_at: row.first_at,
            last_at: row.last_at,
            readings: (row.written - row.kept).unsigned_abs(),
            removed_at: row.removed_at,
            rolled_to: row.rolled_to,
            pruned_to: row.pruned_to,
            id: row.id,
        }
    }
}

enum Source {
    Segment(SegmentRow),
    /// Sorted by when they were taken.
    Fresh(Vec<Fresh>),
}

impl Source {
    fn begins(&self) -> i64 {
        match self {
            Source::Segment(row) => row.from_at,
            Source::Fresh(rows) => rows.first().map_or(i64::MAX, |row| row.at),
        }
    }
}

/// Where the readings of a window are, and the last one before it.
async fn sources(inner: &mut Inner, server: &ServerRow, window: &Window) -> Result<Vec<Source>> {
    let (from, to) = (window.start, window.end);
    let (packed, segments) =
        on!(&mut inner.db, db => db.segments_within(server.id, from, to).await)?;
    let packed = packed.unwrap_or(server.kept);
    let mut fresh = on!(&mut inner.db, db => db.fresh(server, packed, from).await)?;
    let mut sources: Vec<Source> = segments.into_iter().map(Source::Segment).collect();
    fresh.sort_by_key(|row| (row.at, row.position));
    let first = fresh.partition_point(|row| row.at < window.start).saturating_sub(1);
    let end = fresh.partition_point(|row| row.at < window.end);
    let fresh = fresh.get(first..end).unwrap_or_default();
    sources.extend(fresh.chunks(FRESH_AT_ONCE).map(|rows| Source::Fresh(rows.to_vec())));
    sources.sort_by_key(Source::begins);
    Ok(sources)
}

impl From<&segment::CodedPoint> for Coded {
    fn from(point: &segment::CodedPoint) -> Coded {
        Coded {
            at: point.at,
            run: 0,
            origin: crate::model::Origin::Check,
            vantage: 0,
            state: point.state,
            status: point.status,
            code: point.code,
            party: point.party,
            duration: 0,
            samples: Vec::new(),
        }
    }
}
