//! Words for people: times, counts, tables.

use crate::model::Status;
use crate::render::{Block, Cell, Row, Table, Tone};

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
        let seconds = (ms / 1000.0).round();
        format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
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
        _ => Cell::toned("-", Tone::Dim),
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
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
