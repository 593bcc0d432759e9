//! Windows of time: what a report is asked for, the periods of an agreement, service hours, days.
//!
//! A wall clock in a zone is taken apart at its changes: between two of them it is a fixed number of
//! seconds ahead of UTC, and hours of the day are plain arithmetic. So a day of 25 hours has two hours
//! from 01:00 to 02:00 that both are within service hours, and one of 23 hours has none.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span as Calendar, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::span::Span;
use crate::model::{Error, Result};

mod asked;
mod hours;

pub use asked::{Asked, window};
pub use hours::ServiceHours;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How often an agreement is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    CalendarMonth,
    CalendarQuarter,
    CalendarYear,
    #[serde(rename = "rolling-30d")]
    Rolling30d,
    #[serde(rename = "rolling-90d")]
    Rolling90d,
}

/// One day of a window, as the calendar of its zone has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    pub date: Date,
    /// Cut at the window's ends; 23 to 25 hours where clocks change.
    pub span: Span,
}

/// One hour of a window, as the clock of its zone shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// What the clock shows at its beginning; twice the same where it is put back.
    pub clock: DateTime,
    /// Cut at the window's ends and where clocks change.
    pub span: Span,
}

/// A zone by its name in the time zone database, such as `America/New_York`.
///
/// # Errors
/// When there is none of that name.
pub fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        Error::usage(format!("no time zone is named \"{}\"", name.escape_debug())).hint(
            "write a name of the time zone database, such as America/New_York, Europe/Berlin or UTC",
        )
    })
}

impl Period {
    pub const ALL: [Period; 5] = [
        Period::CalendarMonth,
        Period::CalendarQuarter,
        Period::CalendarYear,
        Period::Rolling30d,
        Period::Rolling90d,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Period::CalendarMonth => "calendar-month",
            Period::CalendarQuarter => "calendar-quarter",
            Period::CalendarYear => "calendar-year",
            Period::Rolling30d => "rolling-30d",
            Period::Rolling90d => "rolling-90d",
        }
    }

    #[must_use]
    pub fn find(text: &str) -> Option<Period> {
        Period::ALL.into_iter().find(|period| period.as_str() == text)
    }

    /// How many days it has at most: raw samples have to be kept that long to judge it.
    #[must_use]
    pub fn longest_days(self) -> u32 {
        match self {
            Period::CalendarMonth => 31,
            Period::CalendarQuarter => 92,
            Period::CalendarYear => 366,
            Period::Rolling30d => 30,
            Period::Rolling90d => 90,
        }
    }

    /// The period that an instant lies in: a calendar one from midnight to midnight in the zone; a
    /// rolling one of so many times 24 hours that end with the instant.
    #[must_use]
    pub fn containing(self, at: i64, zone: &TimeZone) -> Span {
        let rolling = |days: i64| Span::new(at.saturating_sub(days * DAY_MS), at);
        let date = date_at(at, zone);
        let month = date.month();
        let (first, months) = match self {
            Period::Rolling30d => return rolling(30),
            Period::Rolling90d => return rolling(90),
            Period::CalendarMonth => (date.first_of_month(), 1),
            Period::CalendarQuarter => (month_of(date, month - (month - 1) % 3), 3),
            Period::CalendarYear => (month_of(date, 1), 12),
        };
        let end = first.saturating_add(Calendar::new().months(months));
        Span::new(midnight(first, zone), midnight(end, zone))
    }

    /// The periods that a window meets, in order and whole; of a rolling one the last alone.
    #[must_use]
    pub fn within(self, window: Span, zone: &TimeZone) -> Vec<Span> {
        if matches!(self, Period::Rolling30d | Period::Rolling90d) {
            return vec![self.containing(window.to, zone)];
        }
        let mut periods: Vec<Span> = Vec::new();
        let mut at = window.from;
        while at < window.to {
            let period = self.containing(at, zone);
            periods.push(period);
            if period.to <= at {
                break;
            }
            at = period.to;
        }
        periods
    }
}

/// The days of a window, in order, the first and the last cut at its ends.
#[must_use]
pub fn days(window: Span, zone: &TimeZone) -> Vec<Day> {
    let mut days = Vec::new();
    let mut date = date_at(window.from, zone);
    let mut from = window.from;
    while from < window.to {
        let Ok(next) = date.tomorrow() else { break };
        let to = midnight(next, zone);
        let span = Span::new(from, to).intersect(&window);
        // A zone that moves over the date line skips a whole day.
        if !span.is_empty() {
            days.push(Day { date, span });
        }
        from = from.max(to);
        date = next;
    }
    days
}

/// The hours of a window, in order, as its clock shows them.
#[must_use]
pub fn hours(window: Span, zone: &TimeZone) -> Vec<Hour> {
    let mut hours = Vec::new();
    for steady in steadies(window, zone) {
        let mut from = steady.span.from;
        while from < steady.span.to {
            let local = from + steady.ahead_ms;
            let begin = local - local.rem_euclid(HOUR_MS);
            let span = Span::new(from, begin - steady.ahead_ms + HOUR_MS).intersect(&steady.span);
            let begun = instant(begin).map(|begun| TimeZone::UTC.to_datetime(begun));
            hours.push(Hour { clock: begun.unwrap_or_default(), span });
            from = span.to;
        }
    }
    hours
}

/// A part of a window in which the clock runs steadily.
#[derive(Clone, Copy, Debug)]
struct Steady {
    span: Span,
    /// How far the clock is ahead of UTC.
    ahead_ms: i64,
}

/// A window cut where the clock of a zone changes.
fn steadies(window: Span, zone: &TimeZone) -> Vec<Steady> {
    let mut parts = Vec::new();
    let Ok(start) = instant(window.from) else { return parts };
    let mut from = window.from;
    let mut ahead_ms = i64::from(zone.to_offset(start).seconds()) * 1000;
    for change in zone.following(start) {
        let at = change.timestamp().as_millisecond();
        if at >= window.to {
            break;
        }
        let span = Span::new(from, at);
        if !span.is_empty() {
            parts.push(Steady { span, ahead_ms });
        }
        (from, ahead_ms) = (at, i64::from(change.offset().seconds()) * 1000);
    }
    let last = Span::new(from, window.to);
    if !last.is_empty() {
        parts.push(Steady { span: last, ahead_ms });
    }
    parts
}

fn instant(ms: i64) -> Result<Timestamp, jiff::Error> {
    Timestamp::from_millisecond(ms)
}

/// The date that the calendar of a zone shows; the last or first one for what is outside of time.
fn date_at(at: i64, zone: &TimeZone) -> Date {
    let ends = if at < 0 { Timestamp::MIN } else { Timestamp::MAX };
    zone.to_datetime(instant(at).unwrap_or(ends)).date()
}

/// The first instant of a day, which need not be 00:00 where clocks change at midnight.
fn midnight(date: Date, zone: &TimeZone) -> i64 {
    let first = date.to_zoned(zone.clone()).and_then(|day| day.start_of_day());
    first.map_or(i64::MAX, |first| first.timestamp().as_millisecond())
}

fn month_of(date: Date, month: i8) -> Date {
    Date::new(date.year(), month, 1).unwrap_or(date)
}

#[cfg(test)]
mod tests;
