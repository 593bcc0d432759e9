//! What an hour or a day of a server comes to; hours add up to days exactly.

use std::sync::Arc;

#[cfg(test)]
use super::bytes::unpack;
use super::bytes::{In, Out, pack_to_half, unzigzag, zigzag};
use super::coded::{PARTIES, status_number, status_of};
use super::words::Words;
use crate::model::{Phases, Reading, Status};
use crate::stats::error::{Errors, Facts};
use crate::stats::latency::{self, ByCheck, Digest};
use crate::stats::sketch::Encoded;
use crate::stats::uptime::Totals;

/// How long a roll-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Hour,
    Day,
}

/// The readings of a server that were taken within an hour or a day (UTC), added up.
///
/// An hour in which nothing was read and nothing held has no roll-up: all of it is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    pub readings: u64,
    /// By the rule of the timeline, with the interval known when it was rolled up and no maintenance
    /// but that of the readings.
    pub times: Totals,
    /// That interval, in milliseconds; 0 when none was known. The last one of several.
    pub interval_ms: i64,
    /// Sorted.
    pub samples: Vec<Counted>,
    pub latencies: ByCheck<Digest>,
}

/// How many samples were equal in these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub check: Arc<str>,
    pub status: Status,
    pub code: Option<Arc<str>>,
    pub counts: bool,
    pub http_status: Option<u16>,
    pub issue: Option<Arc<str>>,
    pub count: u64,
    /// Of all of them together.
    pub wire_bytes: u64,
}

impl Level {
    pub(super) fn number(self) -> i64 {
        match self {
            Level::Hour => 0,
            Level::Day => 1,
        }
    }

    /// How long it is, in milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        match self {
            Level::Hour => super::HOUR,
            Level::Day => super::DAY,
        }
    }
}

const FORM: u8 = 1;
const LEVEL: i32 = 3;

impl Rollup {
    /// Takes a reading in; its time is added apart, by [`times`](Rollup::times).
    pub fn add(&mut self, reading: &Reading) {
        self.readings += 1;
        for sample in &reading.samples {
            self.count(&Counted {
                check: sample.check.clone(),
                status: sample.status,
                code: sample.code.clone(),
                counts: sample.counts,
                http_status: sample.http_status,
                issue: sample.issue.clone(),
                count: 1,
                wire_bytes: sample.wire_bytes,
            });
            latency::add(&mut self.latencies, sample);
        }
    }

    fn count(&mut self, new: &Counted) {
        match self.samples.binary_search_by(|known| known.key().cmp(&new.key())) {
            Ok(at) => {
                if let Some(known) = self.samples.get_mut(at) {
                    known.count += new.count;
                    known.wire_bytes = known.wire_bytes.saturating_add(new.wire_bytes);
                }
            }
            Err(at) => self.samples.insert(at, new.clone()),
        }
    }

    /// Adds those of another time, or of another server.
    pub fn merge(&mut self, other: &Rollup) {
        self.readings += other.readings;
        self.times.merge(&other.times);
        if other.interval_ms != 0 {
            self.interval_ms = other.interval_ms;
        }
        for counted in &other.samples {
            self.count(counted);
        }
        for (check, phased) in &other.latencies {
            match self.latencies.get_mut(check) {
                Some(known) => known.merge(phased),
                None => drop(self.latencies.insert(check.clone(), phased.clone())),
            }
        }
    }

    /// What went wrong how often.
    #[must_use]
    pub fn errors(&self) -> Errors {
        let mut errors = Errors::default();
        for counted in &self.samples {
            let facts = Facts {
                check: &counted.check,
                status: counted.status,
                code: counted.code.as_ref(),
                counts: counted.counts,
                http_status: counted.http_status,
                issue: counted.issue.as_ref(),
            };
            errors.add_many(&facts, counted.count);
        }
        errors
    }

    /// `None` when a word has no number.
    pub(super) fn to_bytes(&self, words: &Words) -> Option<Vec<u8>> {
        let word = |word: &Option<Arc<str>>| word.as_ref().map_or(Some(0), |w| words.id(w));
        let mut out = Out::default();
        out.byte(FORM);
        out.number(self.readings);
        write_times(&mut out, &self.times, words)?;
        out.number(zigzag(self.interval_ms));
        out.number(self.samples.len() as u64);
        for counted in &self.samples {
            out.number(words.id(&counted.check)?);
            out.byte(status_number(counted.status) | u8::from(counted.counts) << 2);
            out.number(word(&counted.code)?);
            out.number(counted.http_status.map_or(0, |status| u64::from(status) + 1));
            out.number(word(&counted.issue)?);
            out.number(counted.count);
            out.number(counted.wire_bytes);
        }
        out.number(self.latencies.len() as u64);
        for (check, phased) in &self.latencies {
            out.number(words.id(check)?);
            for digest in std::iter::once(&phased.total).chain(&phased.phases) {
                write_digest(&mut out, digest);
            }
        }
        Some(pack_to_half(&out.0, LEVEL))
    }

    #[cfg(test)]
    fn from_bytes(bytes: &[u8], words: &Words) -> Option<Rollup> {
        let plain = unpack(bytes)?;
        let mut rollup = Rollup::default();
        Written::read(0, &plain, words)?.add_to(&mut rollup);
        Some(rollup)
    }
}

/// A roll-up as it is written: whole, and ready to be added to another.
///
/// A report reads a hundred a server, and makes nothing of them one by one.
pub struct Written<'a> {
    /// The beginning of its hour or day.
    pub at: i64,
    pub readings: u64,
    pub times: Totals,
    pub interval_ms: i64,
    samples: Vec<Counted>,
    latencies: Vec<(Arc<str>, [WrittenDigest<'a>; 1 + PHASES])>,
}

#[derive(Clone, Copy, Default)]
struct WrittenDigest<'a> {
    sum_us: u64,
    min_us: u64,
    max_us: u64,
    sketch: Option<Encoded<'a>>,
}

const PHASES: usize = Phases::NAMES.len();

impl Written<'_> {
    /// Reads what [`Rollup::to_bytes`] wrote, unpacked; `None` where it is damaged, or has a word that is
    /// not known here.
    pub(super) fn read<'a>(at: i64, plain: &'a [u8], words: &Words) -> Option<Written<'a>> {
        let mut input = In(plain);
        if input.byte()? != FORM {
            return None;
        }
        let readings = input.number()?;
        let times = read_times(&mut input, words)?;
        let interval_ms = unzigzag(input.number()?);
        let mut samples = Vec::new();
        for _ in 0..input.number()? {
            let check = words.text(input.number()?)?;
            let flags = input.byte()?;
            samples.push(Counted {
                check,
                status: status_of(flags & 3),
                counts: flags & 4 != 0,
                code: words.maybe(input.number()?)?,
                http_status: match input.number()?.checked_sub(1) {
                    Some(status) => Some(u16::try_from(status).ok()?),
                    None => None,
                },
                issue: words.maybe(input.number()?)?,
                count: input.number()?,
                wire_bytes: input.number()?,
            });
        }
        let mut latencies = Vec::new();
        for _ in 0..input.number()? {
            let check = words.text(input.number()?)?;
            let mut digests = [WrittenDigest::default(); 1 + PHASES];
            for digest in &mut digests {
                *digest = read_digest(&mut input)?;
            }
            latencies.push((check, digests));
        }
        input.end()?;
        Some(Written { at, readings, times, interval_ms, samples, latencies })
    }

    /// Adds it to another.
    pub fn add_to(&self, sum: &mut Rollup) {
        sum.readings += self.readings;
        sum.times.merge(&self.times);
        if self.interval_ms != 0 {
            sum.interval_ms = self.interval_ms;
        }
        for counted in &self.samples {
            sum.count(counted);
        }
        for (check, digests) in &self.latencies {
            let known = match sum.latencies.get_mut(check) {
                Some(known) => known,
                None => sum.latencies.entry(check.clone()).or_default(),
            };
            let mine = std::iter::once(&mut known.total).chain(&mut known.phases);
            for (mine, digest) in mine.zip(digests) {
                if let Some(sketch) = digest.sketch {
                    mine.absorb(digest.sum_us, digest.min_us, digest.max_us, sketch);
                }
            }
        }
    }

    /// Response times of all its checks together, added to others.
    pub fn add_latency_to(&self, sum: &mut Digest) {
        for (_, [digest, ..]) in &self.latencies {
            if let Some(sketch) = digest.sketch {
                sum.absorb(digest.sum_us, digest.min_us, digest.max_us, sketch);
            }
        }
    }
}

impl Counted {
    fn key(&self) -> (&str, u8, Option<&str>, bool, Option<u16>, Option<&str>) {
        let (code, issue) = (self.code.as_deref(), self.issue.as_deref());
        (&self.check, status_number(self.status), code, self.counts, self.http_status, issue)
    }
}

fn write_times(out: &mut Out, times: &Totals, words: &Words) -> Option<()> {
    for ms in [
        times.window_ms,
        times.up_ms,
        times.degraded_ms,
        times.down_ms,
        times.unknown_ms,
        times.maintenance_ms,
    ] {
        out.number(zigzag(ms));
    }
    for party in PARTIES {
        out.number(zigzag(times.down_by_party.of(party)));
    }
    out.number(times.down_by_code.len() as u64);
    for (code, ms) in &times.down_by_code {
        out.number(words.id(code)?);
        out.number(zigzag(*ms));
    }
    Some(())
}

fn read_times(input: &mut In<'_>, words: &Words) -> Option<Totals> {
    let mut ms = || input.number().map(unzigzag);
    let mut times = Totals {
        window_ms: ms()?,
        up_ms: ms()?,
        degraded_ms: ms()?,
        down_ms: ms()?,
        unknown_ms: ms()?,
        maintenance_ms: ms()?,
        ..Totals::default()
    };
    for party in PARTIES {
        times.down_by_party.add(Some(party), ms()?);
    }
    for _ in 0..input.number()? {
        let code = words.text(input.number()?)?.to_string();
        times.down_by_code.insert(code, unzigzag(input.number()?));
    }
    Some(times)
}

fn write_digest(out: &mut Out, digest: &Digest) {
    let Some(min) = digest.min_us() else {
        out.byte(0);
        return;
    };
    out.byte(1);
    out.number(digest.sum_us);
    out.number(min);
    out.number(digest.max_us().unwrap_or(min));
    out.bytes(&digest.sketch.to_bytes());
}

fn read_digest<'a>(input: &mut In<'a>) -> Option<WrittenDigest<'a>> {
    match input.byte()? {
        0 => Some(WrittenDigest::default()),
        1 => {
            let (sum_us, min_us, max_us) = (input.number()?, input.number()?, input.number()?);
            let sketch = Encoded::read(input.bytes()?).filter(|it| !it.is_empty())?;
            let sketch = Some(sketch);
            (min_us <= max_us).then_some(WrittenDigest { sum_us, min_us, max_us, sketch })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::arbitrary::{reading, words_of};
    use crate::history::bytes::pack;
    use crate::stats::Sketch;

    #[test]
    fn a_digest_that_contradicts_itself_is_refused() {
        let mut sketch = Sketch::new();
        sketch.add(7);
        for ((min, max), sketch, is_digest) in
            [((7, 7), &sketch, true), ((8, 7), &sketch, false), ((0, 0), &Sketch::new(), false)]
        {
            let mut out = Out::default();
            out.byte(1);
            [7, min, max].into_iter().for_each(|number| out.number(number));
            out.bytes(&sketch.to_bytes());
            assert_eq!(read_digest(&mut In(&out.0)).is_some(), is_digest, "{min} to {max}");
        }
    }

    proptest! {
        #[test]
        fn a_rollup_reads_back_and_hostile_bytes_do_no_harm(
            readings in prop::collection::vec(reading(), 0..8),
            cut in 0.0..1.0f64,
            byte in any::<u8>(),
        ) {
            let words = words_of(&readings);
            let mut rollup = Rollup::default();
            readings.iter().for_each(|reading| rollup.add(reading));
            let bytes = rollup.to_bytes(&words).unwrap();
            prop_assert_eq!(Rollup::from_bytes(&bytes, &words).unwrap(), rollup);
            let mut plain = unpack(&bytes).unwrap().into_owned();
            let at = (plain.len() as f64 * cut) as usize;
            let _ = Rollup::from_bytes(&pack(&plain[..at], 1), &words);
            plain[at] = byte;
            let _ = Rollup::from_bytes(&pack(&plain, 1), &words);
        }

        #[test]
        fn parts_add_up_to_the_whole(
            readings in prop::collection::vec(reading(), 0..8),
            cut in 0..8usize,
        ) {
            let cut = cut.min(readings.len());
            let sum = |readings: &[Reading]| {
                let mut rollup = Rollup::default();
                readings.iter().for_each(|reading| rollup.add(reading));
                rollup
            };
            let mut parts = sum(&readings[..cut]);
            parts.merge(&sum(&readings[cut..]));
            prop_assert_eq!(parts, sum(&readings));
        }
    }
}
