//! Words for people: times, counts, tables; and beside them what a program reads.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::Status;
use crate::render::{Block, Cell, Row, Table};

/// A time for people from milliseconds: `0.4 ms`, `230 ms`, `6.2 s`, `3 min 20 s`.
#[must_use]
pub fn duration(ms: f64) -> String {
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else if ms < 119_950.0 {
        format!("{:.1} s", ms / 1000.0)
    } else {
        // A float is clamped by the cast.
        length(ms.round() as i64)
    }
}

/// An instant by the clock of a zone; with its offset in the hour that comes twice.
#[must_use]
pub fn clock(at: Timestamp, zone: &TimeZone) -> String {
    let local = at.to_zoned(zone.clone());
    let comes_twice = zone.to_ambiguous_zoned(local.datetime()).is_ambiguous();
    local.strftime(if comes_twice { "%F %T%:z" } else { "%F %T" }).to_string()
}

/// A length of time in milliseconds as a person says it: `2 d 3 h 5 min`, `43 min 12 s`, `-2.5 s`, `0`.
/// Rounded to the nearest tenth of a second up to ten seconds, then second, from a day on minute.
#[must_use]
pub fn length(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let size = ms.unsigned_abs();
    let step = match size {
        0..1_000 => 1,
        1_000..10_000 => 100,
        10_000..86_400_000 => 1_000,
        _ => 60_000,
    };
    let size = (size + step / 2) / step * step;
    let text = match size {
        0 => "0".to_owned(),
        1..1_000 => format!("{size} ms"),
        1_000..10_000 => format!("{:.1} s", size as f64 / 1000.0),
        _ => [
            (size / 86_400_000, "d"),
            (size / 3_600_000 % 24, "h"),
            (size / 60_000 % 60, "min"),
            (size / 1_000 % 60, "s"),
        ]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect::<Vec<_>>()
        .join(" "),
    };
    format!("{sign}{text}")
}

/// The same as a cell; a program reads milliseconds.
#[must_use]
pub fn lasting(ms: i64) -> Cell {
    Cell::plain(length(ms)).with_data(ms)
}

/// A measured time in milliseconds; a program reads them to the microsecond.
#[must_use]
pub fn took(ms: f64) -> Cell {
    Cell::plain(duration(ms)).with_data((ms * 1000.0).round() / 1000.0)
}

/// `1 server`, `2 servers`.
#[must_use]
pub fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Days until something ends: `in 61 days`, `tomorrow`, `today`, `3 days ago`.
#[must_use]
pub fn days(left: i64) -> String {
    match left {
        0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        -1 => "1 day ago".to_owned(),
        _ if left < 0 => format!("{} days ago", left.unsigned_abs()),
        _ => format!("in {left} days"),
    }
}

/// A status as a cell in its own tone.
#[must_use]
pub fn status(status: Status) -> Cell {
    Cell::toned(status.as_str(), status.into())
}

/// A column: its head for people, and what a program calls it, with the unit: `("down", "down_ms")`.
pub type Column = (&'static str, &'static str);

/// A table under the heads of its columns.
#[must_use]
pub fn headed(columns: &[Column], rows: Vec<Row>) -> Table {
    Table { head: columns.iter().map(|(head, _)| (*head).to_owned()).collect(), rows }
}

/// The same under the names that a program reads.
#[must_use]
pub fn named(columns: &[Column], rows: Vec<Row>) -> Table {
    Table { head: columns.iter().map(|(_, name)| (*name).to_owned()).collect(), rows }
}

/// A table; a missing text is a dim dash.
#[must_use]
pub fn table(head: &[&str], rows: Vec<Row>) -> Table {
    Table { head: head.iter().map(|name| (*name).to_owned()).collect(), rows }
}

/// Names with their values, without those that have none.
#[must_use]
pub fn facts<const N: usize>(facts: [(&str, Option<Cell>); N]) -> Block {
    Block::Facts(
        facts
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)))
            .collect(),
    )
}

/// A text that may be missing.
#[must_use]
pub fn or_dash(text: Option<&str>) -> Cell {
    match text {
        Some(text) if !text.is_empty() => Cell::plain(text),
        _ => Cell::nothing(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well_at_every_size() {
        for (ms, text) in [
            (0.42, "0.4 ms"),
            (9.96, "10 ms"),
            (230.4, "230 ms"),
            (999.6, "1.0 s"),
            (6204.1, "6.2 s"),
            (200_000.0, "3 min 20 s"),
            (13_620_000.0, "3 h 47 min"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn the_hour_that_comes_twice_is_told_apart() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (at, text) in [
            ("2026-10-25T00:30:00Z", "2026-10-25 02:30:00+02:00"),
            ("2026-10-25T01:30:00Z", "2026-10-25 02:30:00+01:00"),
            ("2026-10-25T02:30:00Z", "2026-10-25 03:30:00"),
        ] {
            assert_eq!(clock(at.parse().unwrap(), &berlin), text);
        }
    }

    #[test]
    fn lengths_are_rounded_and_cut_nothing_off() {
        for (ms, text) in [
            (0, "0"),
            (-40, "-40 ms"),
            (9_960, "10 s"),
            (59_000, "59 s"),
            (2_592_000, "43 min 12 s"),
            (7_260_000, "2 h 1 min"),
            (-8_939_400, "-2 h 28 min 59 s"),
            (86_399_600, "1 d"),
            (183_629_000, "2 d 3 h"),
            (183_631_000, "2 d 3 h 1 min"),
            (i64::MIN, "-106751991167 d 7 h 13 min"),
        ] {
            assert_eq!(length(ms), text);
        }
        assert_eq!(lasting(-61_000).data.as_deref(), Some("-61000"));
        assert_eq!(took(6204.1).data.as_deref(), Some("6204.1"));
    }
}
