//! A time on the command line, and as it is written into the inventory.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::model::{Error, Result};

/// An instant with the text that stands for it in the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::command) struct Moment {
    pub(in crate::command) instant: Timestamp,
    /// RFC 3339; with the offset in which it was given.
    pub(in crate::command) text: String,
}

impl Moment {
    /// An instant to the second, in UTC.
    ///
    /// # Errors
    /// At the end of the calendar.
    pub(in crate::command) fn at(instant: Timestamp) -> Result<Moment> {
        let instant = Timestamp::from_second(instant.as_second()).map_err(|_| beyond())?;
        Ok(Moment { instant, text: instant.to_string() })
    }

    /// Reads `2026-12-01T22:00:00-05:00`, or a date with a time in the zone of this machine.
    ///
    /// # Errors
    /// Exit 64 for anything else, and for a local time that does not exist or exists twice.
    pub(in crate::command) fn parse(text: &str) -> Result<Moment> {
        Moment::parse_in(text, &TimeZone::system())
    }

    fn parse_in(text: &str, zone: &TimeZone) -> Result<Moment> {
        let text = text.trim();
        if let Ok(instant) = text.parse::<Timestamp>() {
            // Kept as it was written, offset and all, where that is RFC 3339 itself.
            let text = text.replacen(' ', "T", 1);
            return Ok(Moment { instant, text });
        }
        let local: DateTime = text.parse().map_err(|_| {
            Error::usage(format!("{text:?} is no time"))
                .hint("write 2026-12-01T22:00:00-05:00, or local time such as 2026-12-01T22:00")
        })?;
        let zoned = zone.to_ambiguous_zoned(local).unambiguous().map_err(|_| {
            Error::usage(format!("{text:?} does not exist or exists twice: the clocks change then"))
                .hint("write it with its offset, such as 2026-11-01T01:30:00-04:00")
        })?;
        Ok(Moment::zoned(&zoned))
    }

    /// The instant a while later, in the same offset.
    ///
    /// # Errors
    /// Exit 64 beyond the end of the calendar.
    pub(in crate::command) fn after(&self, length: Duration) -> Result<Moment> {
        let length = SignedDuration::try_from(length).map_err(|_| beyond())?;
        Moment::at(self.instant.checked_add(length).map_err(|_| beyond())?)
    }

    fn zoned(zoned: &Zoned) -> Moment {
        let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        Moment { instant: zoned.timestamp(), text }
    }
}

fn beyond() -> Error {
    Error::usage("that time is beyond the calendar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_the_offset_in_which_they_were_given() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let cases = [
            ("2026-12-01T22:00:00-05:00", "2026-12-01T22:00:00-05:00"),
            ("2026-12-02T03:00:00Z", "2026-12-02T03:00:00Z"),
            ("2026-12-01T22:00", "2026-12-01T22:00:00-05:00"),
            ("2026-12-01 22:00", "2026-12-01T22:00:00-05:00"),
            ("2026-12-01", "2026-12-01T00:00:00-05:00"),
        ];
        for (text, written) in cases {
            let moment = Moment::parse_in(text, &zone).unwrap();
            assert_eq!(moment.text, written, "{text}");
            assert_eq!(moment.text.parse::<Timestamp>().unwrap(), moment.instant);
        }
    }

    #[test]
    fn a_local_time_that_exists_twice_or_never_is_refused() {
        let zone = TimeZone::get("America/New_York").unwrap();
        for text in ["2026-11-01T01:30", "2026-03-08T02:30", "tomorrow", ""] {
            assert_eq!(Moment::parse_in(text, &zone).unwrap_err().exit().0, 64, "{text}");
        }
    }
}
