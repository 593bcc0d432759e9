//! Packing what was written or taken on finished days into segments.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::chain::{self, Head};
use super::coded::Coded;
use super::db::{Fresh, Mode, Packed, SegmentRow, ServerRow, on};
use super::read::Anonymous;
use super::{DAY, Inner, Store, day_of, gauge, segment};
use crate::model::{ErrorKind, Result};

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub readings: u64,
    pub segments: u64,
}

/// Readings of one transaction, and of one server at once.
const AT_ONCE: usize = 4 * segment::MOST;
/// Samples of one segment; a reading has few.
const MOST_SAMPLES: usize = 200_000;

impl Store {
    /// Packs what was written or taken on days (UTC) before `now`'s. Details of healthy samples are
    /// dropped, but for the first and last of each run of equal results; no hash changes.
    ///
    /// Of gauges that are older than two weeks one value an hour is kept.
    ///
    /// A transaction is some servers or a part of one, so that it may be broken off at any time, and
    /// others may write meanwhile.
    ///
    /// # Errors
    /// 65 when what is stored of a server is not what its chain says; nothing of that server is packed
    /// then, and all of the others.
    pub async fn compact(&self, now: Timestamp) -> Result<Compacted> {
        let today = day_of(now.as_millisecond());
        let mut inner = self.inner().await?;
        gauge::thin(&mut inner, now.as_millisecond()).await?;
        let mut done = Compacted::default();
        let open = on!(&mut inner.db, db => db.packable(today * DAY).await)?;
        if open.is_empty() {
            return Ok(done);
        }
        let mut open = VecDeque::from(open);
        let mut first_error = None;
        while !open.is_empty() {
            let mut taken = Vec::new();
            inner.begin(Mode::Write).await?;
            let result = self.pack_some(&mut inner, &mut open, &mut taken, today).await;
            match inner.end(result).await {
                Ok(packed) => {
                    done.readings += packed.readings;
                    done.segments += packed.segments;
                }
                Err(error) if error.kind == ErrorKind::Data => {
                    // One that is damaged keeps no other from being packed.
                    taken.pop();
                    open.extend(taken);
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        on!(&mut inner.db, db => db.sweep().await)?;
        first_error.map_or(Ok(done), Err)
    }

    /// One transaction of it: servers off the front, which are `taken` then. One of which there is more
    /// goes to the end.
    async fn pack_some(
        &self,
        inner: &mut Inner,
        open: &mut VecDeque<i64>,
        taken: &mut Vec<i64>,
        today: i64,
    ) -> Result<Compacted> {
        let mut done = Compacted::default();
        while done.readings < AT_ONCE as u64
            && let Some(server) = open.pop_front()
        {
            taken.push(server);
            let (packed, more) = self.pack(inner, server, today).await?;
            done.readings += packed.readings;
            done.segments += packed.segments;
            if more {
                open.push_back(server);
                break;
            }
        }
        Ok(done)
    }

    async fn pack(&self, inner: &mut Inner, server: i64, today: i64) -> Result<(Compacted, bool)> {
        let nothing = (Compacted::default(), false);
        let Some(server) = on!(&mut inner.db, db => db.lock(server).await)? else {
            return Ok(nothing);
        };
        let segments = on!(&mut inner.db, db => db.segments(server.id).await)?;
        let (packed, head) = segments.last().map_or((server.kept, server.kept_head), |last| {
            (last.position + last.readings, last.after)
        });
        let fresh = on!(&mut inner.db, db => db.fresh(&server, packed, i64::MIN).await)?;
        // The chain is kept in its order: a day that a jumping clock put between others is packed too.
        let finished = fresh.iter().rposition(|row| day_of(row.written.min(row.at)) < today);
        let Some(finished) = finished else { return Ok(nothing) };
        if fresh.first().is_some_and(|row| row.position != packed) {
            return Err(self.damaged(&server.name, packed));
        }
        let finished = fresh.get(..=finished).unwrap_or_default();
        let taken = finished.get(..AT_ONCE.min(finished.len())).unwrap_or_default();
        let rows = self.segments_of(inner, &server, taken, head).await?;
        let done = Compacted { readings: taken.len() as u64, segments: rows.len() as u64 };
        on!(&mut inner.db, db => db.put_segments(rows).await)?;
        Ok((done, taken.len() < finished.len()))
    }

    async fn segments_of(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        fresh: &[Fresh],
        mut head: Head,
    ) -> Result<Vec<Packed>> {
        let name: Arc<str> = server.name.as_str().into();
        let mut rows = Vec::new();
        for day in fresh.chunk_by(|a, b| day_of(a.written) == day_of(b.written)) {
            for part in day.chunks(segment::MOST) {
                let raw = {
                    let seqs = part.iter().map(|row| row.seq).collect();
                    on!(&mut inner.db, db => db.raw(server.id, seqs).await)?
                };
                let readings = part.iter().zip(&raw).map(|(fresh, raw)| {
                    (fresh.seq == raw.seq && fresh.position == raw.position)
                        .then(|| Coded::from_bytes(raw.at, raw.run, &raw.body))
                        .flatten()
                        .ok_or_else(|| self.damaged(&server.name, fresh.position))
                });
                let mut readings = readings.collect::<Result<Vec<Coded>>>()?;
                if readings.len() != part.len() {
                    return Err(
                        self.damaged(&server.name, part.first().map_or(0, |row| row.position))
                    );
                }
                let mut position = part.first().map_or(0, |row| row.position);
                while !readings.is_empty() {
                    let rest = readings.split_off(fitting(&readings));
                    let before = head;
                    for (nth, coded) in (position..).zip(&readings) {
                        let Anonymous(told) = self.told(inner, &name, nth, coded).await?;
                        head = chain::advance(&head, &told.text());
                    }
                    rows.push(packed(server.id, position, day, &mut readings, before, head));
                    position += i64::try_from(readings.len()).unwrap_or_default();
                    readings = rest;
                }
            }
        }
        let end = fresh.last().map_or(0, |row| row.position + 1);
        if end == server.written && head != server.head {
            return Err(self.damaged(&server.name, end - 1));
        }
        Ok(rows)
    }
}

/// How many of them make a segment that is not too large; at least one.
fn fitting(readings: &[Coded]) -> usize {
    let mut samples = 0;
    let fits = readings.iter().take_while(|reading| {
        samples += reading.samples.len();
        samples <= MOST_SAMPLES
    });
    fits.count().max(1)
}

fn packed(
    server: i64,
    position: i64,
    day: &[Fresh],
    readings: &mut [Coded],
    before: Head,
    after: Head,
) -> Packed {
    segment::drop_details(readings);
    let row = SegmentRow {
        id: 0,
        server,
        position,
        readings: i64::try_from(readings.len()).unwrap_or_default(),
        day: day.first().map_or(0, |row| day_of(row.written)),
        from_at: readings.iter().map(|reading| reading.at).min().unwrap_or_default(),
        to_at: readings.iter().map(|reading| reading.at).max().unwrap_or_default(),
        first_run: readings.iter().map(|reading| reading.run).min().unwrap_or_default(),
        before,
        after,
    };
    (row, segment::encode(readings))
}
