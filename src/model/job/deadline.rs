//! By when a job has to be done: a time of day, or a length from its beginning.

use std::fmt;
use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A job's deadline as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The next such time of day.
    At(Time),
    /// So long after the beginning.
    Within(Duration),
}

impl Deadline {
    /// Reads `06:00` or `4h`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Deadline, String> {
        let text = text.trim();
        if text.contains(':') {
            return time_of_day(text)
                .map(Deadline::At)
                .ok_or_else(|| "a time of day goes from 00:00 to 23:59, such as 06:00".to_owned());
        }
        match humantime::parse_duration(text) {
            Ok(length) if length.is_zero() => Err("it has to be longer than nothing".to_owned()),
            Ok(length) => Ok(Deadline::Within(length)),
            Err(_) => {
                Err("write a time of day such as \"06:00\", or a length such as 4h".to_owned())
            }
        }
    }

    /// The instant that it means for what begins now. A time of day that the clock of the zone has
    /// twice means the next of both, one that it leaves out the hour behind it. `None` beyond all
    /// calendars.
    #[must_use]
    pub fn after(&self, begin: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Deadline::Within(length) => {
                begin.checked_add(SignedDuration::try_from(*length).ok()?).ok()
            }
            Deadline::At(time) => {
                let mut day = begin.to_zoned(zone.clone()).date();
                loop {
                    let next = instants(day.to_datetime(*time), zone)
                        .into_iter()
                        .flatten()
                        .find(|at| *at > begin);
                    if next.is_some() {
                        return next;
                    }
                    day = day.tomorrow().ok()?;
                }
            }
        }
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deadline::At(time) if time.second() == 0 => {
                f.write_str(&time.strftime("%H:%M").to_string())
            }
            Deadline::At(time) => f.write_str(&time.strftime("%H:%M:%S").to_string()),
            Deadline::Within(length) => humantime::format_duration(*length).fmt(f),
        }
    }
}

fn time_of_day(text: &str) -> Option<Time> {
    let mut parts = text.split(':').map(|part| {
        let is_number = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if is_number { part.parse::<i8>().ok() } else { None }
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        Some(second) => second?,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

/// When the clock of a zone shows this, in order.
fn instants(at: DateTime, zone: &TimeZone) -> [Option<Timestamp>; 2] {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    match ambiguous.offset() {
        AmbiguousOffset::Fold { .. } => [ambiguous.earlier().ok(), ambiguous.later().ok()],
        _ => [ambiguous.compatible().ok(), None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_and_lengths_are_told_apart() {
        for (text, shown) in [
            ("06:00", "06:00"),
            ("6:05", "06:05"),
            ("23:59:30", "23:59:30"),
            ("4h", "4h"),
            ("90m", "1h 30m"),
        ] {
            assert_eq!(Deadline::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in
            ["", "6", "24:00", "12:60", "06:00:00:00", "06:00 AM", "-1:00", "soon", "0s", ":"]
        {
            assert!(Deadline::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_deadline_is_the_next_one_in_its_zone() {
        // Central European time as it is now: its rules need no list of zones.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for (deadline, begin, due) in [
            ("06:00", "2026-11-23T01:00:00+01:00", "2026-11-23T06:00:00+01:00"),
            ("06:00", "2026-11-23T06:00:00+01:00", "2026-11-24T06:00:00+01:00"),
            ("06:00", "2026-11-23T22:00:00+01:00", "2026-11-24T06:00:00+01:00"),
            ("00:00", "2026-12-31T23:59:59+01:00", "2027-01-01T00:00:00+01:00"),
            // Clocks go forward on 29 March 2026: the night is an hour shorter, 02:30 is left out.
            ("06:00", "2026-03-29T01:00:00+01:00", "2026-03-29T06:00:00+02:00"),
            ("02:30", "2026-03-29T01:00:00+01:00", "2026-03-29T03:30:00+02:00"),
            // They go back on 25 October 2026: 02:30 comes twice.
            ("02:30", "2026-10-25T01:00:00+02:00", "2026-10-25T02:30:00+02:00"),
            ("02:30", "2026-10-25T02:40:00+02:00", "2026-10-25T02:30:00+01:00"),
            ("02:30", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"),
            ("4h", "2026-10-25T01:00:00+02:00", "2026-10-25T04:00:00+01:00"),
        ] {
            let begin: Timestamp = begin.parse().unwrap();
            let expected: Timestamp = due.parse().unwrap();
            let found = Deadline::parse(deadline).unwrap().after(begin, &zone);
            assert_eq!(found, Some(expected), "{deadline} after {begin}");
        }
        let endless = Deadline::Within(Duration::MAX);
        assert_eq!(endless.after(Timestamp::UNIX_EPOCH, &zone), None);
    }
}
