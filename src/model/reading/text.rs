//! The text of a reading: what hash chains are made of, written and read.

use std::str::{FromStr, Split};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use uuid::Uuid;

use super::{Detail, Origin, Phases, Reading, Sample};
use crate::model::{Party, State, Status};

impl Reading {
    /// The text that the hash chain is made of: a line `r` for the reading, a line `s` for each sample
    /// and, behind one that is not healthy, a line `d` with its details. Fields are parted by `|`; `-`
    /// is a field that is not there.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(160 + self.samples.len() * 120);
        self.write_text(&mut text);
        text
    }

    /// Writes its [`text`](Reading::text) behind another one.
    pub fn write_text(&self, text: &mut String) {
        let mut line = Line::new(text, "r");
        line.at(self.at);
        line.term(self.origin.as_str());
        line.term(self.state.as_str());
        line.term(self.status.as_str());
        line.maybe(self.code.as_deref());
        line.term(self.party.map_or("-", Party::as_str));
        line.number(Some(self.duration_us));
        line.end();
        for sample in &self.samples {
            let mut line = Line::new(text, "s");
            line.word(&sample.check);
            line.term(sample.status.as_str());
            line.maybe(sample.code.as_deref());
            line.term(sample.party.map_or("-", Party::as_str));
            line.number(Some(u64::from(sample.counts)));
            line.number(Some(sample.attempts.into()));
            line.number(Some(sample.duration_us));
            for phase in sample.phases.all() {
                line.number(phase);
            }
            line.number(sample.http_status.map(u64::from));
            line.number(Some(sample.wire_bytes));
            line.maybe(sample.issue.as_deref());
            line.end();
            if sample.status != Status::Healthy
                && let Some(detail) = &sample.detail
            {
                let mut line = Line::new(text, "d");
                line.word(&detail.message);
                line.maybe(detail.request_id.as_deref());
                line.maybe(detail.server_request_id.as_deref());
                line.maybe(detail.remote_address.as_deref());
                line.end();
            }
        }
    }

    /// Reads what [`text`](Reading::text) wrote; `None` for any other text. Run and vantage are not in
    /// it, nor the details of what was healthy.
    #[must_use]
    pub fn from_text(server: &Arc<str>, text: &str) -> Option<Reading> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let mut fields = Fields(lines.next()?.strip_prefix("r|")?.split('|'));
        let mut reading = Reading {
            server: server.clone(),
            at: fields.word()?.parse().ok()?,
            run: Uuid::nil(),
            origin: Origin::find(&fields.word()?)?,
            vantage: None,
            state: State::find(&fields.word()?)?,
            status: Status::find(&fields.word()?)?,
            code: fields.maybe()?.map(Arc::from),
            party: fields.party()?,
            duration_us: fields.number()??,
            samples: Vec::new(),
        };
        fields.end()?;
        for line in lines {
            match line.split_once('|')? {
                ("s", rest) => reading.samples.push(Fields(rest.split('|')).sample()?),
                ("d", rest) => {
                    let sample = reading.samples.last_mut()?;
                    if sample.status == Status::Healthy || sample.detail.is_some() {
                        return None;
                    }
                    sample.detail = Some(Box::new(Fields(rest.split('|')).detail()?));
                }
                _ => return None,
            }
        }
        Some(reading)
    }
}

/// A line of fields, each escaped.
struct Line<'a>(&'a mut String);

impl Line<'_> {
    fn new<'a>(text: &'a mut String, kind: &str) -> Line<'a> {
        text.push_str(kind);
        Line(text)
    }

    /// A term of ours, in which nothing has to be escaped.
    fn term(&mut self, term: &str) {
        self.0.push('|');
        self.0.push_str(term);
    }

    fn word(&mut self, word: &str) {
        self.0.push('|');
        if word == "-" {
            // A dash that is there is not one that stands for nothing.
            self.0.push_str("\\-");
            return;
        }
        if !word.bytes().any(|byte| matches!(byte, b'|' | b'\\' | b'\n')) {
            self.0.push_str(word);
            return;
        }
        for c in word.chars() {
            match c {
                '|' => self.0.push_str("\\p"),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
    }

    fn maybe(&mut self, word: Option<&str>) {
        match word {
            Some(word) => self.word(word),
            None => self.term("-"),
        }
    }

    fn at(&mut self, at: Timestamp) {
        const MILLISECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        self.0.push('|');
        // Writing to a text does not fail.
        let _ = MILLISECONDS.print_timestamp(&at, &mut *self.0);
    }

    fn number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.term(itoa::Buffer::new().format(number)),
            None => self.term("-"),
        }
    }

    fn end(self) {
        self.0.push('\n');
    }
}

/// The fields of a line, one after the other; `None` where one is missing or none of its kind.
struct Fields<'a>(Split<'a, char>);

impl Fields<'_> {
    fn word(&mut self) -> Option<String> {
        self.maybe()?
    }

    fn maybe(&mut self) -> Option<Option<String>> {
        let field = self.0.next()?;
        match field {
            "-" => return Some(None),
            "\\-" => return Some(Some("-".to_owned())),
            _ => {}
        }
        let mut word = String::with_capacity(field.len());
        let mut rest = field.chars();
        while let Some(c) = rest.next() {
            word.push(match c {
                '\\' => match rest.next()? {
                    'p' => '|',
                    '\\' => '\\',
                    'n' => '\n',
                    _ => return None,
                },
                c => c,
            });
        }
        Some(Some(word))
    }

    fn number<T: FromStr>(&mut self) -> Option<Option<T>> {
        match self.0.next()? {
            "-" => Some(None),
            number => number.parse().ok().map(Some),
        }
    }

    fn party(&mut self) -> Option<Option<Party>> {
        match self.maybe()? {
            None => Some(None),
            Some(party) => Party::find(&party).map(Some),
        }
    }

    fn sample(mut self) -> Option<Sample> {
        let sample = Sample {
            check: self.word()?.into(),
            status: Status::find(&self.word()?)?,
            code: self.maybe()?.map(Arc::from),
            party: self.party()?,
            counts: match self.number::<u8>()?? {
                0 => false,
                1 => true,
                _ => return None,
            },
            attempts: self.number()??,
            duration_us: self.number()??,
            phases: Phases {
                dns_us: self.number()?,
                connect_us: self.number()?,
                tls_us: self.number()?,
                first_byte_us: self.number()?,
                transfer_us: self.number()?,
            },
            http_status: self.number()?,
            wire_bytes: self.number()??,
            issue: self.maybe()?.map(Arc::from),
            detail: None,
        };
        self.end()?;
        Some(sample)
    }

    fn detail(mut self) -> Option<Detail> {
        let detail = Detail {
            message: self.word()?.into(),
            request_id: self.maybe()?.map(Arc::from),
            server_request_id: self.maybe()?.map(Arc::from),
            remote_address: self.maybe()?.map(Arc::from),
        };
        self.end()?;
        Some(detail)
    }

    fn end(mut self) -> Option<()> {
        self.0.next().is_none().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    #[test]
    fn the_text_of_a_reading_is_told_field_by_field() {
        let at: Timestamp = "2026-11-01T00:00:00.5Z".parse().unwrap();
        let reading = Reading {
            server: "a".into(),
            at,
            run: Uuid::nil(),
            origin: Origin::Check,
            vantage: None,
            state: State::Active,
            status: Status::Critical,
            code: Some("tcp.refused".into()),
            party: Some(Party::Vendor),
            duration_us: 1500,
            samples: vec![Sample {
                check: "metadata".into(),
                status: Status::Critical,
                code: Some("tcp.refused".into()),
                party: Some(Party::Vendor),
                counts: true,
                attempts: 1,
                duration_us: 1400,
                phases: Phases { connect_us: Some(3), ..Phases::default() },
                http_status: None,
                wire_bytes: 0,
                issue: None,
                detail: Some(Box::new(Detail {
                    message: "a|b\\c\nd".into(),
                    request_id: Some("-".into()),
                    ..Detail::default()
                })),
            }],
        };
        assert_eq!(
            reading.text(),
            "r|2026-11-01T00:00:00.500Z|check|active|critical|tcp.refused|vendor|1500\n\
             s|metadata|critical|tcp.refused|vendor|1|1|1400|-|3|-|-|-|-|0|-\n\
             d|a\\pb\\\\c\\nd|\\-|-|-\n"
        );
        let text = reading.text();
        for wrong in [
            text.trim_end().to_owned(),
            text.replacen("r|", "s|", 1),
            text.replacen("|active", "", 1),
            text.replacen("critical", "fine", 1),
            text.replacen("|1500", "|1500|", 1),
            text.replacen("\\p", "\\q", 1),
            format!("{text}d|again|-|-|-\n"),
        ] {
            assert_eq!(Reading::from_text(&reading.server, &wrong), None, "{wrong}");
        }
    }

    fn word() -> impl Strategy<Value = Arc<str>> {
        "(-|\\\\-|[a-z|\\\\\n-]{0,6})".prop_map(Arc::from)
    }

    fn sample() -> impl Strategy<Value = Sample> {
        let found = (select(&Status::ALL), option::of(word()), option::of(select(&Party::ALL)));
        let phases = proptest::array::uniform5(option::of(any::<u64>()));
        let sizes = (any::<bool>(), any::<u32>(), any::<[u64; 2]>(), option::of(any::<u16>()));
        let detail =
            option::of((word(), option::of(word()), option::of(word()), option::of(word())));
        (word(), found, sizes, phases, option::of(word()), detail).prop_map(
            |(
                check,
                (status, code, party),
                (counts, attempts, numbers, http_status),
                phases,
                issue,
                detail,
            )| {
                let [dns_us, connect_us, tls_us, first_byte_us, transfer_us] = phases;
                Sample {
                    check,
                    status,
                    code,
                    party,
                    counts,
                    attempts,
                    duration_us: numbers[0],
                    phases: Phases { dns_us, connect_us, tls_us, first_byte_us, transfer_us },
                    http_status,
                    wire_bytes: numbers[1],
                    issue,
                    // Those of what is healthy are in no text.
                    detail: detail.filter(|_| status != Status::Healthy).map(
                        |(message, request_id, server_request_id, remote_address)| {
                            Box::new(Detail {
                                message,
                                request_id,
                                server_request_id,
                                remote_address,
                            })
                        },
                    ),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_as_it_was(
            at in 0_i64..4_102_444_800_000,
            origin in select(&Origin::ALL),
            state in select(&State::ALL),
            status in select(&Status::ALL),
            code in option::of(word()),
            party in option::of(select(&Party::ALL)),
            duration_us in any::<u64>(),
            samples in vec(sample(), 0..3),
        ) {
            let reading = Reading {
                server: "a".into(),
                at: Timestamp::from_millisecond(at).unwrap(),
                run: Uuid::nil(),
                origin,
                vantage: None,
                state,
                status,
                code,
                party,
                duration_us,
                samples,
            };
            prop_assert_eq!(Reading::from_text(&reading.server, &reading.text()), Some(reading));
        }
    }
}
