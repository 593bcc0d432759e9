//! A reading with numbers in the place of words, and as the bytes of a fresh row.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::bytes::{In, Out};
use super::words::Words;
use crate::model::{Detail, Origin, Party, Phases, Reading, Sample, State, Status};

/// A reading whose words are their numbers in the table of words; zero is no word.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Coded {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// The row of the run.
    pub run: i64,
    pub origin: Origin,
    pub vantage: u64,
    pub state: State,
    pub status: Status,
    pub code: u64,
    pub party: Option<Party>,
    pub duration: u64,
    pub samples: Vec<CodedSample>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct CodedSample {
    pub check: u64,
    pub status: Status,
    pub code: u64,
    pub party: Option<Party>,
    pub counts: bool,
    pub attempts: u64,
    pub duration: u64,
    /// Each with one added; zero is a phase that did not happen.
    pub phases: [u64; 5],
    /// With one added.
    pub http: u64,
    pub wire: u64,
    pub issue: u64,
    pub detail: Option<Box<Detail>>,
}

/// The form of a fresh row.
const FORM: u8 = 1;
/// A reading has no more samples than that, whatever its bytes say.
pub(super) const MOST_SAMPLES: u64 = 100_000;

impl Coded {
    /// With the numbers of its words; `None` when one of them has none yet.
    pub fn of(reading: &Reading, run: i64, words: &Words) -> Option<Coded> {
        let word = |word: &Option<Arc<str>>| word.as_ref().map_or(Some(0), |w| words.id(w));
        let samples = reading.samples.iter().map(|sample| {
            Some(CodedSample {
                check: words.id(&sample.check)?,
                status: sample.status,
                code: word(&sample.code)?,
                party: sample.party,
                counts: sample.counts,
                attempts: sample.attempts.into(),
                duration: sample.duration_us,
                phases: sample.phases.all().map(|phase| phase.map_or(0, |us| us + 1)),
                http: sample.http_status.map_or(0, |status| u64::from(status) + 1),
                wire: sample.wire_bytes,
                issue: word(&sample.issue)?,
                detail: sample.detail.clone(),
            })
        });
        Some(Coded {
            at: reading.at.as_millisecond(),
            run,
            origin: reading.origin,
            vantage: word(&reading.vantage)?,
            state: reading.state,
            status: reading.status,
            code: word(&reading.code)?,
            party: reading.party,
            duration: reading.duration_us,
            samples: samples.collect::<Option<_>>()?,
        })
    }

    /// With its words; `None` when a number stands for none.
    pub fn reading(&self, server: &Arc<str>, run: Uuid, words: &Words) -> Option<Reading> {
        let samples = self.samples.iter().map(|sample| {
            let [dns_us, connect_us, tls_us, first_byte_us, transfer_us] =
                sample.phases.map(|phase| phase.checked_sub(1));
            Some(Sample {
                check: words.text(sample.check)?,
                status: sample.status,
                code: words.maybe(sample.code)?,
                party: sample.party,
                counts: sample.counts,
                attempts: u32::try_from(sample.attempts).ok()?,
                duration_us: sample.duration,
                phases: Phases { dns_us, connect_us, tls_us, first_byte_us, transfer_us },
                http_status: match sample.http.checked_sub(1) {
                    Some(status) => Some(u16::try_from(status).ok()?),
                    None => None,
                },
                wire_bytes: sample.wire,
                issue: words.maybe(sample.issue)?,
                detail: sample.detail.clone(),
            })
        });
        Some(Reading {
            server: server.clone(),
            at: Timestamp::from_millisecond(self.at).ok()?,
            run,
            origin: self.origin,
            vantage: words.maybe(self.vantage)?,
            state: self.state,
            status: self.status,
            code: words.maybe(self.code)?,
            party: self.party,
            duration_us: self.duration,
            samples: samples.collect::<Option<_>>()?,
        })
    }

    /// Everything but `at` and the run, which are columns.
    pub fn write(&self, out: &mut Out) {
        out.byte(FORM);
        out.byte(flags(self.origin, self.state, self.status));
        out.byte(party_number(self.party));
        out.number(self.code);
        out.number(self.vantage);
        out.number(self.duration);
        out.number(self.samples.len() as u64);
        for sample in &self.samples {
            out.number(sample.check);
            out.byte(sample.flags() | u8::from(sample.detail.is_some()) << 6);
            out.number(sample.code);
            out.number(sample.attempts);
            out.number(sample.duration);
            for phase in sample.phases {
                out.number(phase);
            }
            out.number(sample.http);
            out.number(sample.wire);
            out.number(sample.issue);
            if let Some(detail) = &sample.detail {
                write_detail(out, detail);
            }
        }
    }

    pub fn from_bytes(at: i64, run: i64, bytes: &[u8]) -> Option<Coded> {
        let mut input = In(bytes);
        if input.byte()? != FORM {
            return None;
        }
        let (origin, state, status) = unflags(input.byte()?)?;
        let party = party_of(input.byte()?)?;
        let (code, vantage, duration) = (input.number()?, input.number()?, input.number()?);
        let count = input.number()?;
        // A sample takes at least a byte a field.
        if count > MOST_SAMPLES || count > input.0.len() as u64 {
            return None;
        }
        let samples = (0..count).map(|_| CodedSample::read(&mut input)).collect::<Option<_>>()?;
        input.end()?;
        Some(Coded { at, run, origin, vantage, state, status, code, party, duration, samples })
    }
}

impl CodedSample {
    fn read(input: &mut In<'_>) -> Option<CodedSample> {
        let check = input.number()?;
        let flags = input.byte()?;
        let (status, party, counts) = CodedSample::unflags(flags & 0x3f)?;
        let (code, attempts, duration) = (input.number()?, input.number()?, input.number()?);
        let mut phases = [0; 5];
        for phase in &mut phases {
            *phase = input.number()?;
        }
        let (http, wire, issue) = (input.number()?, input.number()?, input.number()?);
        let detail = match flags >> 6 {
            0 => None,
            1 => Some(Box::new(read_detail(input)?)),
            _ => return None,
        };
        Some(CodedSample {
            check,
            status,
            code,
            party,
            counts,
            attempts,
            duration,
            phases,
            http,
            wire,
            issue,
            detail,
        })
    }

    /// Status, whether it counts, party: six bits.
    pub fn flags(&self) -> u8 {
        status_number(self.status) | u8::from(self.counts) << 2 | party_number(self.party) << 3
    }

    pub fn unflags(flags: u8) -> Option<(Status, Option<Party>, bool)> {
        Some((status_of(flags & 3), party_of(flags >> 3)?, flags & 4 != 0))
    }

    /// What makes two results of a check equal.
    pub fn result(&self) -> (Status, u64, u64) {
        (self.status, self.code, self.http)
    }
}

pub(super) fn write_detail(out: &mut Out, detail: &Detail) {
    out.text(&detail.message);
    out.maybe_text(detail.request_id.as_deref());
    out.maybe_text(detail.server_request_id.as_deref());
    out.maybe_text(detail.remote_address.as_deref());
}

pub(super) fn read_detail(input: &mut In<'_>) -> Option<Detail> {
    Some(Detail {
        message: input.text()?.into(),
        request_id: input.maybe_text()?.map(Into::into),
        server_request_id: input.maybe_text()?.map(Into::into),
        remote_address: input.maybe_text()?.map(Into::into),
    })
}

/// Origin, state and status of a reading: six bits.
pub(super) fn flags(origin: Origin, state: State, status: Status) -> u8 {
    let origin = match origin {
        Origin::Check => 0,
        Origin::Test => 1,
        Origin::Monitor => 2,
        Origin::Import => 3,
    };
    let state = match state {
        State::Active => 0,
        State::Maintenance => 1,
        State::Inactive => 2,
    };
    origin | state << 2 | status_number(status) << 4
}

pub(super) fn unflags(flags: u8) -> Option<(Origin, State, Status)> {
    let origin = match flags & 3 {
        0 => Origin::Check,
        1 => Origin::Test,
        2 => Origin::Monitor,
        _ => Origin::Import,
    };
    let state = match flags >> 2 & 3 {
        0 => State::Active,
        1 => State::Maintenance,
        2 => State::Inactive,
        _ => return None,
    };
    (flags < 0x40).then_some((origin, state, status_of(flags >> 4)))
}

pub(super) fn status_number(status: Status) -> u8 {
    match status {
        Status::Healthy => 0,
        Status::Warning => 1,
        Status::Critical => 2,
        Status::Unknown => 3,
    }
}

pub(super) fn status_of(bits: u8) -> Status {
    match bits & 3 {
        0 => Status::Healthy,
        1 => Status::Warning,
        2 => Status::Critical,
        _ => Status::Unknown,
    }
}

/// The parties as they are numbered in bytes, behind zero for none.
pub(super) const PARTIES: [Party; 5] =
    [Party::Ours, Party::Network, Party::IdentityProvider, Party::Vendor, Party::Undetermined];

pub(super) fn party_number(party: Option<Party>) -> u8 {
    match party {
        None => 0,
        Some(Party::Ours) => 1,
        Some(Party::Network) => 2,
        Some(Party::IdentityProvider) => 3,
        Some(Party::Vendor) => 4,
        Some(Party::Undetermined) => 5,
    }
}

pub(super) fn party_of(number: u8) -> Option<Option<Party>> {
    match number {
        0 => Some(None),
        number => PARTIES.get(usize::from(number) - 1).copied().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::arbitrary::{reading, words_of};

    fn bytes_of(coded: &Coded) -> Vec<u8> {
        let mut out = Out::default();
        coded.write(&mut out);
        out.0
    }

    proptest! {
        #[test]
        fn a_row_reads_back_as_it_was_written(reading in reading()) {
            let words = words_of([&reading]);
            let coded = Coded::of(&reading, 7, &words).unwrap();
            let back = Coded::from_bytes(coded.at, 7, &bytes_of(&coded)).unwrap();
            prop_assert_eq!(back.reading(&reading.server, reading.run, &words).unwrap(), reading);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            reading in reading(),
            cut in 0.0..1.0f64,
            byte in any::<u8>(),
            noise in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = Coded::from_bytes(0, 0, &noise);
            let mut bytes = bytes_of(&Coded::of(&reading, 7, &words_of([&reading])).unwrap());
            let at = (bytes.len() as f64 * cut) as usize;
            let _ = Coded::from_bytes(0, 0, &bytes[..at]);
            bytes[at] = byte;
            let _ = Coded::from_bytes(0, 0, &bytes);
        }
    }
}
