//! Many readings of one server, column by column: what a finished day is packed into.
//!
//! Three parts, so that a question reads no more than it needs: points (when and how a server was),
//! samples, and details, which are kept for what was not healthy and for the first and last of each
//! run of equal results.

use std::collections::HashMap;

use super::Window;
use super::bytes::{In, Out, pack, unpack, unzigzag, zigzag};
use super::coded::{self, Coded, CodedSample, MOST_SAMPLES};
use crate::model::{Detail, Party, State, Status};

/// The form of all three parts.
const FORM: u8 = 1;
/// A good deal of the gain for a third of the time that level 9 takes.
const LEVEL: i32 = 5;
/// The most readings of one segment: what is in memory at once when history is read.
pub(super) const MOST: usize = 4_096;

/// A segment's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    pub points: Vec<u8>,
    pub samples: Vec<u8>,
    pub details: Vec<u8>,
}

/// When and how a server was, with the number of the code's word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CodedPoint {
    pub at: i64,
    pub state: State,
    pub status: Status,
    pub code: u64,
    pub party: Option<Party>,
}

#[cfg(test)]
impl CodedPoint {
    fn of(reading: &Coded) -> CodedPoint {
        CodedPoint {
            at: reading.at,
            state: reading.state,
            status: reading.status,
            code: reading.code,
            party: reading.party,
        }
    }
}

/// Which reading, and which sample of it.
type Place = (usize, usize);

/// Leaves the details of a healthy sample out, but for the first and last of each run of equal
/// results of its check.
pub(super) fn drop_details(readings: &mut [Coded]) {
    // By check: the result that goes on, and where it was seen last.
    let mut runs: HashMap<u64, (_, Place)> = HashMap::new();
    let mut kept: Vec<Place> = Vec::new();
    for (at, reading) in readings.iter().enumerate() {
        for (nth, sample) in reading.samples.iter().enumerate() {
            let now = (sample.result(), (at, nth));
            match runs.get_mut(&sample.check) {
                Some(run) if run.0 == now.0 => run.1 = now.1,
                Some(run) => {
                    kept.extend([run.1, now.1]);
                    *run = now;
                }
                None => {
                    kept.push(now.1);
                    runs.insert(sample.check, now);
                }
            }
        }
    }
    kept.extend(runs.values().map(|(_, last)| *last));
    kept.sort_unstable();
    for (at, reading) in readings.iter_mut().enumerate() {
        for (nth, sample) in reading.samples.iter_mut().enumerate() {
            if sample.status == Status::Healthy && kept.binary_search(&(at, nth)).is_err() {
                sample.detail = None;
            }
        }
    }
}

pub(super) fn encode(readings: &[Coded]) -> Body {
    let samples: Vec<&CodedSample> = readings.iter().flat_map(|r| &r.samples).collect();
    Body {
        points: pack(&points(readings), LEVEL),
        samples: pack(&sample_columns(readings, &samples), LEVEL),
        details: pack(&details(&samples), LEVEL),
    }
}

fn points(readings: &[Coded]) -> Vec<u8> {
    let mut out = Out::default();
    let column = |of: &dyn Fn(&Coded) -> u64| readings.iter().map(of).collect::<Vec<_>>();
    out.byte(FORM);
    out.number(readings.len() as u64);
    let mut before = 0;
    out.number(zigzag(readings.first().map_or(0, |reading| reading.at)));
    out.signed_column(readings.iter().enumerate().map(|(nth, reading)| {
        let step = if nth == 0 { 0 } else { reading.at.wrapping_sub(before) };
        before = reading.at;
        step
    }));
    out.column(&column(&|r| coded::flags(r.origin, r.state, r.status).into()));
    out.column(&column(&|r| r.code));
    out.column(&column(&|r| coded::party_number(r.party).into()));
    out.0
}

fn sample_columns(readings: &[Coded], samples: &[&CodedSample]) -> Vec<u8> {
    let mut out = Out::default();
    out.byte(FORM);
    out.number(zigzag(readings.first().map_or(0, |reading| reading.run)));
    let mut before = readings.first().map_or(0, |reading| reading.run);
    out.signed_column(readings.iter().map(|reading| {
        let step = reading.run.wrapping_sub(before);
        before = reading.run;
        step
    }));
    let column = |of: &dyn Fn(&Coded) -> u64| readings.iter().map(of).collect::<Vec<_>>();
    out.column(&column(&|r| r.vantage));
    out.column(&column(&|r| r.samples.len() as u64));
    // What is nearly the sum of its parts is kept as what it differs by.
    out.signed_column(readings.iter().map(|r| differs(r.duration, sum_of_samples(r))));
    let column =
        |of: &dyn Fn(&CodedSample) -> u64| samples.iter().map(|s| of(s)).collect::<Vec<_>>();
    out.column(&column(&|s| s.check));
    out.column(&column(&|s| s.flags().into()));
    out.column(&column(&|s| s.code));
    out.column(&column(&|s| s.attempts));
    out.signed_column(samples.iter().map(|s| differs(s.duration, sum_of_phases(s))));
    for phase in 0..5 {
        out.column(&column(&|s| s.phases[phase]));
    }
    out.column(&column(&|s| s.http));
    out.column(&column(&|s| s.wire));
    out.column(&column(&|s| s.issue));
    out.0
}

fn details(samples: &[&CodedSample]) -> Vec<u8> {
    let mut out = Out::default();
    out.byte(FORM);
    let mut next = 0;
    for (nth, sample) in samples.iter().enumerate() {
        if let Some(detail) = &sample.detail {
            out.number((nth - next) as u64);
            next = nth + 1;
            coded::write_detail(&mut out, detail);
        }
    }
    out.0
}

fn sum_of_samples(reading: &Coded) -> u64 {
    reading.samples.iter().fold(0, |sum, sample| sum.wrapping_add(sample.duration))
}

fn sum_of_phases(sample: &CodedSample) -> u64 {
    sample.phases.iter().fold(0, |sum, phase| sum.wrapping_add(phase.saturating_sub(1)))
}

// It wraps back when it is read.
fn differs(is: u64, expected: u64) -> i64 {
    is.wrapping_sub(expected) as i64
}

// It wraps back when it is read.
fn restored(differs: i64, expected: u64) -> u64 {
    expected.wrapping_add(differs as u64)
}

/// What was read of a segment: how many readings it has, and those of a window, each with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part<T> {
    pub count: usize,
    pub found: Vec<(usize, T)>,
}

/// The points of a window, and the last one before it, in the order in which they were written.
pub(super) fn decode_points(bytes: &[u8], window: &Window) -> Option<Part<CodedPoint>> {
    let columns = PointColumns::read(bytes)?;
    let point = |nth: usize| CodedPoint {
        at: columns.at[nth],
        state: columns.flags[nth].1,
        status: columns.flags[nth].2,
        code: columns.code[nth],
        party: columns.party[nth],
    };
    let found = within(&columns.at, window).into_iter().map(|nth| (nth, point(nth))).collect();
    Some(Part { count: columns.at.len(), found })
}

/// Which ones lie in a window, and the last one before it, ascending.
fn within(at: &[i64], window: &Window) -> Vec<usize> {
    let before = (0..at.len()).filter(|nth| at[*nth] < window.start).max_by_key(|nth| at[*nth]);
    (0..at.len()).filter(|nth| window.contains(&at[*nth]) || Some(*nth) == before).collect()
}

struct PointColumns {
    at: Vec<i64>,
    flags: Vec<(crate::model::Origin, State, Status)>,
    code: Vec<u64>,
    party: Vec<Option<Party>>,
}

impl PointColumns {
    fn read(bytes: &[u8]) -> Option<PointColumns> {
        let plain = unpack(bytes)?;
        let mut input = In(&plain);
        if input.byte()? != FORM {
            return None;
        }
        let count = usize::try_from(input.number()?).ok().filter(|count| *count <= MOST)?;
        let mut at = unzigzag(input.number()?);
        let steps = input.signed_column(count)?;
        let at = steps.iter().map(|step| {
            at = at.wrapping_add(*step);
            at
        });
        let columns = PointColumns {
            at: at.collect(),
            flags: bytes_of(&input.column(count)?, coded::unflags)?,
            code: input.column(count)?,
            party: bytes_of(&input.column(count)?, coded::party_of)?,
        };
        input.end()?;
        Some(columns)
    }
}

fn bytes_of<T>(column: &[u64], read: impl Fn(u8) -> Option<T>) -> Option<Vec<T>> {
    column.iter().map(|number| read(u8::try_from(*number).ok()?)).collect()
}

/// The readings of a window, and the last one before it, in the order in which they were written.
pub(super) fn decode(body: &Body, window: &Window) -> Option<Part<Coded>> {
    let points = PointColumns::read(&body.points)?;
    let count = points.at.len();
    let plain = unpack(&body.samples)?;
    let mut input = In(&plain);
    if input.byte()? != FORM {
        return None;
    }
    let mut run = unzigzag(input.number()?);
    let runs = input.signed_column(count)?;
    let vantages = input.column(count)?;
    let lengths = input.column(count)?;
    let durations = input.signed_column(count)?;
    let total = lengths.iter().try_fold(0u64, |sum, length| sum.checked_add(*length))?;
    // Columns of equal numbers take no bytes: the sum is bounded by itself.
    if total > MOST_SAMPLES * 10 {
        return None;
    }
    let samples = SampleColumns::read(&mut input, usize::try_from(total).ok()?, &body.details)?;
    input.end()?;
    let wanted = within(&points.at, window);
    let mut wanted = wanted.into_iter().peekable();
    let mut found = Vec::with_capacity(wanted.len());
    let mut first = 0;
    for nth in 0..count {
        run = run.wrapping_add(runs[nth]);
        let own = first..first + usize::try_from(lengths[nth]).ok()?;
        first = own.end;
        if wanted.next_if_eq(&nth).is_none() {
            continue;
        }
        let (origin, state, status) = points.flags[nth];
        let mut reading = Coded {
            at: points.at[nth],
            run,
            origin,
            vantage: vantages[nth],
            state,
            status,
            code: points.code[nth],
            party: points.party[nth],
            duration: 0,
            samples: own.map(|sample| samples.sample(sample)).collect(),
        };
        reading.duration = restored(durations[nth], sum_of_samples(&reading));
        found.push((nth, reading));
    }
    Some(Part { count, found })
}

struct SampleColumns {
    check: Vec<u64>,
    flags: Vec<(Status, Option<Party>, bool)>,
    code: Vec<u64>,
    attempts: Vec<u64>,
    durations: Vec<i64>,
    phases: [Vec<u64>; 5],
    http: Vec<u64>,
    wire: Vec<u64>,
    issue: Vec<u64>,
    /// By sample, ascending.
    details: Vec<(usize, Detail)>,
}

impl SampleColumns {
    fn read(input: &mut In<'_>, total: usize, details: &[u8]) -> Option<SampleColumns> {
        Some(SampleColumns {
            check: input.column(total)?,
            flags: bytes_of(&input.column(total)?, CodedSample::unflags)?,
            code: input.column(total)?,
            attempts: input.column(total)?,
            durations: input.signed_column(total)?,
            phases: {
                let mut phases: [Vec<u64>; 5] = Default::default();
                for phase in &mut phases {
                    *phase = input.column(total)?;
                }
                phases
            },
            http: input.column(total)?,
            wire: input.column(total)?,
            issue: input.column(total)?,
            details: read_details(details, total)?,
        })
    }

    fn sample(&self, nth: usize) -> CodedSample {
        let (status, party, counts) = self.flags[nth];
        let detail = self.details.binary_search_by_key(&nth, |(nth, _)| *nth).ok();
        let mut sample = CodedSample {
            check: self.check[nth],
            status,
            code: self.code[nth],
            party,
            counts,
            attempts: self.attempts[nth],
            duration: 0,
            phases: std::array::from_fn(|phase| self.phases[phase][nth]),
            http: self.http[nth],
            wire: self.wire[nth],
            issue: self.issue[nth],
            detail: detail.map(|at| Box::new(self.details[at].1.clone())),
        };
        sample.duration = restored(self.durations[nth], sum_of_phases(&sample));
        sample
    }
}

fn read_details(bytes: &[u8], total: usize) -> Option<Vec<(usize, Detail)>> {
    let plain = unpack(bytes)?;
    let mut input = In(&plain);
    if input.byte()? != FORM {
        return None;
    }
    let mut details = Vec::new();
    let mut at = 0usize;
    while input.end().is_none() {
        at = at.checked_add(usize::try_from(input.number()?).ok()?).filter(|at| *at < total)?;
        details.push((at, coded::read_detail(&mut input)?));
        at += 1;
    }
    Some(details)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::arbitrary::{reading, words_of};

    fn coded(readings: &[crate::model::Reading]) -> Vec<Coded> {
        let words = words_of(readings);
        readings.iter().map(|reading| Coded::of(reading, 3, &words).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_segment_reads_back_as_it_was_packed(
            readings in prop::collection::vec(reading(), 0..12),
        ) {
            let readings = coded(&readings);
            let body = encode(&readings);
            let everything = i64::MIN..i64::MAX;
            let part = decode(&body, &everything).unwrap();
            prop_assert_eq!(part.count, readings.len());
            let all: Vec<_> = readings.iter().cloned().enumerate().collect();
            prop_assert_eq!(&part.found, &all);
            let points: Vec<_> =
                readings.iter().map(CodedPoint::of).enumerate().collect();
            prop_assert_eq!(decode_points(&body.points, &everything).unwrap().found, points);
            // A window of it is what lies in it, and the last one before it.
            if let [first, .., last] = &readings[..] {
                let window = first.at.min(last.at)..first.at.max(last.at);
                let before = all.iter().filter(|one| one.1.at < window.start);
                let before = before.max_by_key(|one| (one.1.at, one.0)).map(|one| one.0);
                let wanted: Vec<_> = all
                    .iter()
                    .filter(|one| window.contains(&one.1.at) || Some(one.0) == before)
                    .cloned()
                    .collect();
                prop_assert_eq!(decode(&body, &window).unwrap().found, wanted);
            }
        }

        #[test]
        fn compaction_changes_no_text(readings in prop::collection::vec(reading(), 0..12)) {
            let words = words_of(&readings);
            let mut coded = coded(&readings);
            drop_details(&mut coded);
            for (coded, reading) in coded.iter().zip(&readings) {
                let back = coded.reading(&reading.server, reading.run, &words).unwrap();
                prop_assert_eq!(back.text(), reading.text());
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            readings in prop::collection::vec(reading(), 0..4),
            part in 0..3usize,
            cut in 0.0..1.0f64,
            byte in any::<u8>(),
        ) {
            // Broken behind the compression, where a bad disk's bytes never come.
            let readings = coded(&readings);
            let samples: Vec<_> = readings.iter().flat_map(|r| &r.samples).collect();
            let mut parts =
                [points(&readings), sample_columns(&readings, &samples), details(&samples)];
            let at = (parts[part].len() as f64 * cut) as usize;
            parts[part][at] = byte;
            for end in [at, parts[part].len()] {
                let mut parts = parts.clone();
                parts[part].truncate(end);
                let [points, samples, details] = parts.map(|part| pack(&part, 1));
                let _ = decode(&Body { points, samples, details }, &(i64::MIN..i64::MAX));
            }
        }
    }

    #[test]
    fn details_are_kept_for_trouble_and_for_the_ends_of_what_was_equal() {
        use crate::history::arbitrary::plain;
        use crate::model::Status::{Critical, Healthy};
        let readings: Vec<_> = [Healthy, Healthy, Healthy, Critical, Critical, Critical, Healthy]
            .into_iter()
            .enumerate()
            .map(|(nth, status)| plain("a", 60_000 * nth as i64, status))
            .collect();
        let mut coded = coded(&readings);
        drop_details(&mut coded);
        let kept: Vec<bool> = coded.iter().map(|r| r.samples[0].detail.is_some()).collect();
        assert_eq!(kept, [true, false, true, true, true, true, true]);
    }

    #[test]
    fn a_healthy_sample_takes_few_bytes() {
        use crate::history::arbitrary::plain;
        let readings: Vec<_> =
            (0..1440).map(|nth| plain("a", 60_000 * nth, crate::model::Status::Healthy)).collect();
        let mut coded = coded(&readings);
        drop_details(&mut coded);
        let body = encode(&coded);
        let bytes = body.points.len() + body.samples.len() + body.details.len();
        assert!(bytes < 40 * readings.len(), "{bytes}");
    }
}
