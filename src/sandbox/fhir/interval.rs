//! Dates of any precision as stretches of time, and how a search compares them.

use jiff::civil::Date as Day;
use jiff::{Span, Timestamp};
use serde_json::Value;

/// A stretch of time, `[from, until)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    from: Timestamp,
    until: Timestamp,
}

impl Interval {
    /// A value of a search: an optional prefix and a date of any precision.
    pub(super) fn asked(text: &str) -> Option<(&str, Interval)> {
        let prefixes = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"];
        let (prefix, date) = match text.get(..2) {
            Some(prefix) if prefixes.contains(&prefix) => (prefix, &text[2..]),
            _ => ("eq", text),
        };
        Some((prefix, Interval::parse(date)?))
    }

    /// What an element covers: a date, a dateTime, an instant or a Period.
    pub(super) fn of(value: &Value) -> Option<Interval> {
        match value {
            Value::String(text) => Interval::parse(text),
            Value::Object(period) => {
                let end = |name| period.get(name).and_then(Value::as_str).and_then(Interval::parse);
                Some(Interval {
                    from: end("start").map_or(Timestamp::MIN, |start| start.from),
                    until: end("end").map_or(Timestamp::MAX, |end| end.until),
                })
            }
            _ => None,
        }
    }

    /// `2024`, `2024-05`, `2024-05-06`, or a time with a zone (without one: UTC).
    fn parse(text: &str) -> Option<Interval> {
        let digits = |text: &str| text.parse::<i16>().ok();
        let days = |first: Day, length: Span| {
            let start = |day: Day| {
                day.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
            };
            let end = first.checked_add(length).ok()?;
            Some(Interval { from: start(first)?, until: start(end)? })
        };
        match text.len() {
            4 => days(Day::new(digits(text)?, 1, 1).ok()?, Span::new().years(1)),
            7 => {
                let (year, month) = text.split_once('-')?;
                let first = Day::new(digits(year)?, month.parse().ok()?, 1).ok()?;
                days(first, Span::new().months(1))
            }
            10 => days(text.parse().ok()?, Span::new().days(1)),
            _ => {
                let from: Timestamp = text.parse().or_else(|_| format!("{text}Z").parse()).ok()?;
                // To the second, unless a fraction was written.
                let length = match text.contains('.') {
                    true => Span::new().milliseconds(1),
                    false => Span::new().seconds(1),
                };
                Some(Interval { from, until: from.checked_add(length).ok()? })
            }
        }
    }

    /// Whether what an element covers fits what was asked for (FHIR, section 3.1.1.4.8).
    pub(super) fn fits(self, prefix: &str, asked: Interval) -> bool {
        let within = asked.from <= self.from && self.until <= asked.until;
        match prefix {
            "ne" => !within,
            "gt" => self.until > asked.until,
            "lt" => self.from < asked.from,
            "ge" => self.until > asked.until || within,
            "le" => self.from < asked.from || within,
            "sa" => self.from >= asked.until,
            "eb" => self.until <= asked.from,
            "ap" => self.from < asked.until && asked.from < self.until,
            _ => within,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_date_covers_as_much_as_it_says() {
        for (text, from, until) in [
            ("2024", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
            ("2024-02", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("2024-02-29T10:00:00+02:00", "2024-02-29T08:00:00Z", "2024-02-29T08:00:01Z"),
            ("2024-02-29T10:00:00", "2024-02-29T10:00:00Z", "2024-02-29T10:00:01Z"),
        ] {
            let covered = Interval::parse(text).unwrap();
            let expected = Interval { from: from.parse().unwrap(), until: until.parse().unwrap() };
            assert_eq!(covered, expected, "{text}");
        }
        for text in ["", "20", "2024-13", "2023-02-29", "soon", "é024", "9999"] {
            assert_eq!(Interval::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_period_without_an_end_goes_on() {
        let open = Interval::of(&json!({"start": "2024-01-01"})).unwrap();
        let (prefix, asked) = Interval::asked("gt2100").unwrap();
        assert!(open.fits(prefix, asked));
    }
}
