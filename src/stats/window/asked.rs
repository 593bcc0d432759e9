//! What a user asks a report for, as a window: `--last`, `--month`, `--from` and `--to`.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::{DAY_MS, HOUR_MS, Period};
use crate::model::{Error, Result};
use crate::stats::span::Span;

/// The longest window there is, in days: a century. Per-day figures of it still fit.
const LONGEST_DAYS: i64 = 36_525;

/// The words of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// So long up to now, such as `30d`: units s, m, h, d and w, a day being 24 hours.
    Last(&'a str),
    /// A month of the zone's calendar, `YYYY-MM`.
    Month(&'a str),
    /// From an instant up to another, or up to now. An instant is RFC 3339, or date and time, or a
    /// date alone (its beginning), in the zone.
    Between { from: &'a str, to: Option<&'a str> },
}

/// The window `[from, to)` that is asked for.
///
/// A time that the clock skips is the one as much later, a time that it shows twice is the first.
///
/// # Errors
/// When a text is no time, and for a window that ends before it begins or is longer than a century.
pub fn window(asked: Asked<'_>, now: Timestamp, zone: &TimeZone) -> Result<Span> {
    let now = now.as_millisecond();
    let span = match asked {
        Asked::Last(length) => Span { from: now - last(length)?, to: now },
        Asked::Month(month) => calendar_month(month, zone)?,
        Asked::Between { from, to } => Span {
            from: moment("--from", from, zone)?,
            to: to.map_or(Ok(now), |to| moment("--to", to, zone))?,
        },
    };
    if span.from >= span.to {
        return Err(Error::usage("the window ends before it begins")
            .hint("a window goes from --from up to --to, or up to now where --to is left out"));
    }
    if span.ms() > LONGEST_DAYS * DAY_MS {
        return Err(Error::usage("the window is longer than a century"));
    }
    Ok(span)
}

fn last(text: &str) -> Result<i64> {
    let text = text.trim();
    let wrong = || {
        Error::usage(format!("\"{}\" is no length of time", text.escape_debug()))
            .hint("write a number and a unit (s, m, h, d, w), such as 24h, 30d or 12w")
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "s" => 1000,
        "m" => 60_000,
        "h" => HOUR_MS,
        "d" => DAY_MS,
        "w" => 7 * DAY_MS,
        _ => return Err(wrong()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let length = digits.parse::<i64>().ok().and_then(|number| number.checked_mul(unit));
    match length {
        Some(0) => Err(wrong()),
        Some(ms) if ms <= LONGEST_DAYS * DAY_MS => Ok(ms),
        _ => Err(Error::usage("the window is longer than a century")),
    }
}

fn calendar_month(text: &str, zone: &TimeZone) -> Result<Span> {
    let first = (text.len() == 7).then(|| format!("{text}-01").parse::<Date>().ok()).flatten();
    let first = first.ok_or_else(|| {
        Error::usage(format!("\"{}\" is no month", text.escape_debug()))
            .hint("write year and month, such as 2026-10")
    })?;
    Ok(Period::CalendarMonth.containing(super::midnight(first, zone), zone))
}

fn moment(option: &str, text: &str, zone: &TimeZone) -> Result<i64> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    // A date and time with a zone of its own was none that could be read; its zone is not left out.
    let is_civil = text.bytes().all(|byte| byte.is_ascii_digit() || b"-T :.".contains(&byte));
    if is_civil && text.len() == 10 {
        if let Ok(date) = text.parse::<Date>() {
            return Ok(super::midnight(date, zone));
        }
    } else if is_civil && let Ok(civil) = text.parse::<DateTime>() {
        let at = zone.to_ambiguous_timestamp(civil).compatible();
        return at.map(Timestamp::as_millisecond).map_err(|_| {
            Error::usage(format!("{option}: \"{text}\" is outside of the time that can be told"))
        });
    }
    Err(Error::usage(format!("{option}: \"{}\" is no time", text.escape_debug())).hint(
        "write a date (2026-10-01), a date and time in the report's zone (2026-10-01T08:00), or an instant (2026-10-01T08:00:00Z)",
    ))
}
