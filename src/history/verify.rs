//! Recomputing every chain from what is stored, and holding seals and roll-ups against it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::civil::Date;

use super::chain::{self, Head};
use super::coded::Coded;
use super::db::{Fresh, Mode, SealRow, SegmentRow, ServerRow, on};
use super::read::{Anonymous, EVERYTHING, Want};
use super::rollup::{Level, Written};
use super::seal::{self, Seal, Sealed};
use super::{Inner, Store, date_of, day_of, hour_of};
use crate::model::{Error, ErrorKind, Result};

/// What a look at the whole store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    pub servers: u64,
    pub readings: u64,
    pub segments: u64,
    /// Hours whose roll-ups were held against their readings.
    pub hours: u64,
    /// Each held against the chains; whoever keeps them elsewhere, too, compares them.
    pub seals: Vec<Seal>,
    /// The first thing that is not as it was written.
    pub problem: Option<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    pub server: Option<String>,
    /// On which it was written.
    pub day: Option<Date>,
    /// Which of the server's readings, from 0.
    pub position: Option<u64>,
    /// What is wrong, in a sentence without its full stop.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// Bytes that are none of ours.
    Unreadable,
    /// Readings are missing.
    Missing,
    /// A reading is not what its chain says.
    Chain,
    /// A seal is not what the chains say.
    Seal,
    /// A roll-up counts other readings than there are.
    Rollup,
}

/// Fresh rows that are read at once.
const AT_ONCE: usize = 2_000;

/// What a check stops with: a finding, or a database that fails.
enum Stop {
    Found(Problem),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// Heads that seals name, by server and by how many readings it had.
type Expected = HashMap<(i64, i64), (Head, i64)>;

impl Store {
    /// Recomputes all chains, and holds segments, seals and roll-ups against them; stops at the first
    /// thing that is not as it was written.
    ///
    /// # Errors
    /// When the database cannot be read at all; what is wrong in it is a [`Problem`].
    pub async fn verify(&self) -> Result<Verification> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Read).await?;
        let mut seen = Verification::default();
        let result = match self.look_through(&mut inner, &mut seen).await {
            Ok(()) => Ok(seen),
            Err(Stop::Found(problem)) => Ok(Verification { problem: Some(problem), ..seen }),
            Err(Stop::Failed(error)) if error.kind == ErrorKind::Data => {
                let mut problem = Problem::of(ProblemKind::Unreadable, error.message);
                problem.server = None;
                Ok(Verification { problem: Some(problem), ..seen })
            }
            Err(Stop::Failed(error)) => Err(error),
        };
        inner.end(result).await
    }

    /// Holds the ends of all segments against each other, and hashes nothing: a glance, where
    /// [`verify`](Store::verify) takes its time. The first place where they do not fit, or `None`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn glance(&self) -> Result<Option<Problem>> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Read).await?;
        let result = seams(&mut inner).await;
        inner.end(result).await
    }

    /// Begins to write and leaves everything as it is.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub async fn try_write(&self) -> Result<()> {
        let mut inner = self.inner().await?;
        inner.begin(Mode::Write).await?;
        let tried = on!(&mut inner.db, db => db.delete_segments(Vec::new()).await);
        let left = on!(&mut inner.db, db => db.rollback().await);
        tried.and(left)
    }

    async fn look_through(&self, inner: &mut Inner, seen: &mut Verification) -> Result<(), Stop> {
        let seals = on!(&mut inner.db, db => db.seals().await)?;
        let expected = expected(&seals)?;
        let servers = on!(&mut inner.db, db => db.servers().await)?;
        for server in &servers {
            self.look_at(inner, server, &expected, seen).await?;
            seen.servers += 1;
        }
        if let Some((_, (_, day))) =
            expected.iter().find(|((id, _), _)| servers.iter().all(|server| server.id != *id))
        {
            let mut problem =
                Problem::of(ProblemKind::Seal, "a server that was sealed is not there any more");
            problem.day = date_of(*day);
            return Err(Stop::Found(problem));
        }
        seen.seals = seals.iter().filter_map(seal::told).collect();
        Ok(())
    }

    async fn look_at(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        expected: &Expected,
        seen: &mut Verification,
    ) -> Result<(), Stop> {
        let segments = on!(&mut inner.db, db => db.segments(server.id).await)?;
        let packed = segments.last().map_or(server.kept, |last| last.position + last.readings);
        let fresh = on!(&mut inner.db, db => db.fresh(server, packed, i64::MIN).await)?;
        let mut walk = Walk {
            name: server.name.as_str().into(),
            head: server.kept_head,
            position: server.kept,
            hours: BTreeMap::new(),
        };
        if server.kept == 0 && server.kept_head != chain::start(&server.born) {
            return Err(walk.found(ProblemKind::Chain, None, "its chain begins with another name"));
        }
        walk.hold(server.id, expected, None)?;
        for row in &segments {
            self.look_at_segment(inner, server, row, expected, &mut walk).await?;
            seen.segments += 1;
            seen.readings += row.readings.unsigned_abs();
        }
        for rows in fresh.chunks(AT_ONCE) {
            self.look_at_fresh(inner, server, rows, expected, &mut walk).await?;
            seen.readings += rows.len() as u64;
        }
        if walk.position != server.written {
            let (there, written) = (walk.position, server.written);
            let message = format!("{there} readings are there where {written} were written");
            return Err(walk.found(ProblemKind::Missing, None, message));
        }
        if walk.head != server.head {
            let message = "the chain ends with another hash than the server's row says";
            return Err(walk.found(ProblemKind::Chain, None, message));
        }
        seen.hours += self.look_at_hours(inner, server, &walk).await?;
        Ok(())
    }

    async fn look_at_segment(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        row: &SegmentRow,
        expected: &Expected,
        walk: &mut Walk,
    ) -> Result<(), Stop> {
        let day = Some(row.day);
        if row.position != walk.position {
            let message = format!("the next segment begins with reading {}", row.position);
            return Err(walk.found(ProblemKind::Missing, day, message));
        }
        if row.before != walk.head {
            return Err(walk.found(
                ProblemKind::Chain,
                day,
                "a segment does not follow the one before",
            ));
        }
        let all = self.unpack(inner, &server.name, row, Want::Samples, &EVERYTHING).await;
        let readings = match all {
            Ok(readings) => readings,
            Err(error) if error.kind == ErrorKind::Data => {
                return Err(walk.found(
                    ProblemKind::Unreadable,
                    day,
                    "a segment cannot be unpacked",
                ));
            }
            Err(error) => return Err(Stop::Failed(error)),
        };
        for (_, coded) in &readings {
            self.step(inner, coded, day, walk).await?;
            walk.hold(server.id, expected, day)?;
        }
        if walk.head != row.after {
            walk.position = row.position;
            let message = format!(
                "the {} readings of a segment are not those that were packed",
                row.readings
            );
            return Err(walk.found(ProblemKind::Chain, day, message));
        }
        Ok(())
    }

    async fn look_at_fresh(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        rows: &[Fresh],
        expected: &Expected,
        walk: &mut Walk,
    ) -> Result<(), Stop> {
        let seqs = rows.iter().map(|row| row.seq).collect();
        let raw = on!(&mut inner.db, db => db.raw(server.id, seqs).await)?;
        for (fresh, raw) in rows.iter().zip(&raw) {
            let day = Some(day_of(fresh.written));
            if fresh.position != walk.position || raw.position != walk.position {
                return Err(walk.found(ProblemKind::Missing, day, "a reading is missing"));
            }
            let Some(coded) = Coded::from_bytes(raw.at, raw.run, &raw.body) else {
                return Err(walk.found(ProblemKind::Unreadable, day, "a reading cannot be read"));
            };
            self.step(inner, &coded, day, walk).await?;
            walk.hold(server.id, expected, day)?;
        }
        Ok(())
    }

    async fn step(
        &self,
        inner: &mut Inner,
        coded: &Coded,
        day: Option<i64>,
        walk: &mut Walk,
    ) -> Result<(), Stop> {
        let told = self.told(inner, &walk.name.clone(), walk.position, coded).await;
        let Anonymous(reading) = match told {
            Ok(told) => told,
            Err(error) if error.kind == ErrorKind::Data => {
                return Err(walk.found(
                    ProblemKind::Unreadable,
                    day,
                    "a reading's words are not there",
                ));
            }
            Err(error) => return Err(Stop::Failed(error)),
        };
        walk.head = chain::advance(&walk.head, &reading.text());
        walk.position += 1;
        *walk.hours.entry(hour_of(coded.at)).or_default() += 1;
        Ok(())
    }

    /// Holds the roll-ups of hours against how many readings there are.
    async fn look_at_hours(
        &self,
        inner: &mut Inner,
        server: &ServerRow,
        walk: &Walk,
    ) -> Result<u64, Stop> {
        let Some(rolled_to) = server.rolled_to else { return Ok(0) };
        let from = server.pruned_to.unwrap_or(i64::MIN);
        let late = on!(&mut inner.db, db => db.late(server.id).await)?;
        let hours = [(Level::Hour, from..rolled_to)];
        let mut rolled: BTreeMap<i64, u64> = BTreeMap::new();
        let count = |hour: &Written<'_>| {
            rolled.insert(hour.at, hour.readings);
        };
        self.rolled(inner, (&server.name, server.id), &hours, count).await?;
        let oldest = rolled.keys().next().map_or(rolled_to, |at| *at);
        let taken = walk.hours.range(from.max(oldest)..rolled_to);
        let hours = taken.map(|(hour, _)| *hour).chain(rolled.keys().copied());
        for hour in hours.filter(|hour| !late.contains(hour)) {
            let count = |of: &BTreeMap<i64, u64>| of.get(&hour).copied().unwrap_or(0);
            if count(&walk.hours) != count(&rolled) {
                let message = format!(
                    "the roll-up of an hour counts {} readings where there are {}",
                    count(&rolled),
                    count(&walk.hours)
                );
                let mut problem = Problem::of(ProblemKind::Rollup, message);
                problem.server = Some(server.name.clone());
                problem.day = date_of(day_of(hour));
                return Err(Stop::Found(problem));
            }
        }
        Ok(rolled.len() as u64)
    }
}

async fn seams(inner: &mut Inner) -> Result<Option<Problem>> {
    for server in on!(&mut inner.db, db => db.servers().await)? {
        let (mut position, mut head) = (server.kept, server.kept_head);
        let mut fits = true;
        for row in on!(&mut inner.db, db => db.segments(server.id).await)? {
            fits &= row.position == position && row.before == head;
            (position, head) = (row.position + row.readings, row.after);
        }
        fits &= position < server.written || (position == server.written && head == server.head);
        if !fits {
            let mut problem = Problem::of(ProblemKind::Chain, "segments do not follow each other");
            problem.server = Some(server.name);
            return Ok(Some(problem));
        }
    }
    Ok(None)
}

/// How far a chain was followed.
struct Walk {
    name: Arc<str>,
    head: Head,
    position: i64,
    hours: BTreeMap<i64, u64>,
}

impl Walk {
    fn found(&self, kind: ProblemKind, day: Option<i64>, message: impl Into<String>) -> Stop {
        let mut problem = Problem::of(kind, message);
        problem.server = Some(self.name.to_string());
        problem.day = day.and_then(date_of);
        problem.position = u64::try_from(self.position).ok();
        Stop::Found(problem)
    }

    /// Holds the head against the seal that names it, where one does.
    fn hold(&self, server: i64, expected: &Expected, day: Option<i64>) -> Result<(), Stop> {
        match expected.get(&(server, self.position)) {
            Some((head, sealed)) if *head != self.head => {
                let sealed = date_of(*sealed).map_or_else(String::new, |day| day.to_string());
                Err(self.found(
                    ProblemKind::Seal,
                    day,
                    format!("the readings up to here are not those that were sealed on {sealed}"),
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Problem {
    fn of(kind: ProblemKind, message: impl Into<String>) -> Problem {
        Problem { kind, server: None, day: None, position: None, message: message.into() }
    }
}

fn expected(seals: &[SealRow]) -> Result<Expected, Stop> {
    let mut expected = Expected::new();
    for row in seals {
        let broken = |message: &str| {
            let mut problem = Problem::of(ProblemKind::Seal, message);
            problem.day = date_of(row.day);
            Stop::Found(problem)
        };
        let heads = seal::read_heads(&row.heads).ok_or_else(|| broken("a seal cannot be read"))?;
        let digest = chain::seal(heads.iter().map(|sealed| (sealed.name.as_str(), sealed.head)));
        if digest != row.digest {
            return Err(broken("the digest of a seal is not that of its heads"));
        }
        for Sealed { server, written, head, .. } in heads {
            let known = expected.insert((server, written), (head, row.day));
            if known.is_some_and(|(known, _)| known != head) {
                return Err(broken("two seals name different heads for the same reading"));
            }
        }
    }
    Ok(expected)
}
