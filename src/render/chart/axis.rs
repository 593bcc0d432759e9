//! Where the marks of an axis stand: round figures, and instants that are round on the reader's clock.

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, Timestamp, Zoned};

use super::{Period, Unit};

/// An instant that is named on a time axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::render) struct Tick {
    pub(in crate::render) at_ms: i64,
    pub(in crate::render) label: String,
}

/// A vertical axis: what it holds, and which of its figures are named.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::render) struct Scale {
    pub(in crate::render) low: f64,
    pub(in crate::render) high: f64,
    pub(in crate::render) ticks: Vec<f64>,
}

impl Scale {
    /// Where a figure stands, 0 at the lower end and 1 at the upper; what is outside stays outside.
    pub(in crate::render) fn share(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        if span > 0.0 && span.is_finite() { (value - self.low) / span } else { 0.5 }
    }
}

/// An axis of round figures around what is drawn. It starts at zero unless everything lies in the
/// upper part of it, as availabilities do: a difference has to be seen, and not to be blown up.
pub(in crate::render) fn scale(extremes: Option<(f64, f64)>, unit: &Unit) -> Scale {
    let (low, high) = extremes.unwrap_or((0.0, 1.0));
    // What is further out is no figure that anybody measured; it must not break the arithmetic.
    let (low, high) = (low.clamp(-LARGEST, LARGEST), high.clamp(-LARGEST, LARGEST));
    let low = if low >= 0.0 && low < 0.6 * high { 0.0 } else { low };
    let flat = high - low <= high.abs() * 1e-9;
    let (low, high) = match flat {
        true if low == 0.0 => (0.0, 1.0),
        true if *unit == Unit::Percent => (low - 1.0, high + 1.0),
        true => (low.min(0.0), high.max(0.0)),
        false => (low, high),
    };
    let step = step((high - low) / STEPS, unit);
    let mut low = (low / step).floor() * step;
    let mut high = (high / step).ceil() * step;
    if *unit == Unit::Percent {
        // Nothing is up for more than all of the time.
        low = if low < 0.0 && extremes.is_some_and(|(least, _)| least >= 0.0) { 0.0 } else { low };
        high = if high > 100.0 && extremes.is_none_or(|(_, most)| most <= 100.0) {
            100.0
        } else {
            high
        };
    }
    let count = ((high - low) / step).round().clamp(1.0, 3.0 * STEPS) as usize;
    let ticks = (0..=count)
        .map(|at| low + at as f64 * step)
        .filter(|tick| *tick <= high + step * 1e-6)
        .collect();
    Scale { low, high, ticks }
}

const LARGEST: f64 = 1e18;
/// About how many steps an axis has.
const STEPS: f64 = 4.0;

/// The round step that is next above a rough one.
fn step(rough: f64, unit: &Unit) -> f64 {
    let base = unit.base(rough * STEPS);
    let rough = (rough / base).max(1e-12);
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .find(|nice| nice * power >= rough * 0.999_999)
        .unwrap_or(10.0);
    nice * power * base
}

/// How far apart instants on an axis may be, and how they are written.
#[derive(Clone, Copy, Debug)]
enum Beat {
    Minutes(i32),
    Hours(i32),
    Days(i32),
    Months(i32),
    Years(i32),
}

const BEATS: &[Beat] = &[
    Beat::Minutes(1),
    Beat::Minutes(5),
    Beat::Minutes(15),
    Beat::Minutes(30),
    Beat::Hours(1),
    Beat::Hours(3),
    Beat::Hours(6),
    Beat::Hours(12),
    Beat::Days(1),
    Beat::Days(2),
    Beat::Days(7),
    Beat::Days(14),
    Beat::Months(1),
    Beat::Months(3),
    Beat::Months(6),
    Beat::Years(1),
    Beat::Years(2),
    Beat::Years(5),
    Beat::Years(10),
    Beat::Years(100),
];

/// At most `most` instants within a period, round on the clock of its zone: midnights stay midnights
/// when the clocks change.
pub(in crate::render) fn time_ticks(period: &Period, most: usize) -> Vec<Tick> {
    let length = period.until_ms.saturating_sub(period.from_ms);
    let beat = BEATS
        .iter()
        .copied()
        .find(|beat| length / beat.about_ms() < i64::try_from(most).unwrap_or(i64::MAX));
    let (Some(beat), Ok(from), true) =
        (beat, Timestamp::from_millisecond(period.from_ms), length > 0)
    else {
        return Vec::new();
    };
    let mut ticks = Vec::new();
    let mut civil = beat.start(&from.to_zoned(period.zone.clone()));
    // The first may lie before the period; a clock that skips an hour makes two of one.
    for _ in 0..most + 3 {
        let Ok(zoned) = period.zone.to_zoned(civil) else { break };
        let at_ms = zoned.timestamp().as_millisecond();
        if at_ms > period.until_ms {
            break;
        }
        if at_ms >= period.from_ms && ticks.last().is_none_or(|tick: &Tick| tick.at_ms < at_ms) {
            let label = beat.label(&zoned, ticks.is_empty());
            ticks.push(Tick { at_ms, label });
        }
        let Some(next) = beat.next(civil) else { break };
        civil = next;
    }
    ticks
}

impl Beat {
    fn about_ms(self) -> i64 {
        let day = 86_400_000;
        match self {
            Beat::Minutes(count) => i64::from(count) * 60_000,
            Beat::Hours(count) => i64::from(count) * 3_600_000,
            Beat::Days(count) => i64::from(count) * day,
            Beat::Months(count) => i64::from(count) * 30 * day,
            Beat::Years(count) => i64::from(count) * 365 * day,
        }
    }

    /// The round instant at or before another one.
    fn start(self, at: &Zoned) -> DateTime {
        let date = at.date();
        let first = |year: i16, month: i8| Date::new(year, month, 1).unwrap_or(date);
        let hour = |hour: i8, minute: i8| Time::new(hour, minute, 0, 0).unwrap_or_default();
        match self {
            Beat::Minutes(count) => {
                let minute = i32::from(at.minute()) / count * count;
                date.to_datetime(hour(at.hour(), i8::try_from(minute).unwrap_or(0)))
            }
            Beat::Hours(count) => {
                let whole = i32::from(at.hour()) / count * count;
                date.to_datetime(hour(i8::try_from(whole).unwrap_or(0), 0))
            }
            Beat::Days(7 | 14) => {
                let back = date.weekday().to_monday_zero_offset();
                date.saturating_sub(Span::new().days(back)).into()
            }
            Beat::Days(_) => date.into(),
            Beat::Months(count) => {
                let month = (i32::from(date.month()) - 1) / count * count + 1;
                first(date.year(), i8::try_from(month).unwrap_or(1)).into()
            }
            Beat::Years(count) => {
                let year = i32::from(date.year()) / count * count;
                first(i16::try_from(year).unwrap_or(date.year()), 1).into()
            }
        }
    }

    fn next(self, civil: DateTime) -> Option<DateTime> {
        let span = match self {
            Beat::Minutes(count) => Span::new().minutes(count),
            Beat::Hours(count) => Span::new().hours(count),
            Beat::Days(count) => Span::new().days(count),
            Beat::Months(count) => Span::new().months(count),
            Beat::Years(count) => Span::new().years(count),
        };
        civil.checked_add(span).ok()
    }

    fn label(self, at: &Zoned, is_first: bool) -> String {
        let format = match self {
            Beat::Years(_) => "%Y",
            Beat::Months(_) => "%b %Y",
            Beat::Days(_) => "%-d %b",
            Beat::Minutes(_) | Beat::Hours(_) if at.time() == Time::midnight() => "%-d %b",
            Beat::Minutes(_) | Beat::Hours(_) if is_first => "%-d %b %H:%M",
            Beat::Minutes(_) | Beat::Hours(_) => "%H:%M",
        };
        at.strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn period(from: &str, until: &str, zone: &str) -> Period {
        let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        Period { from_ms: ms(from), until_ms: ms(until), zone: TimeZone::get(zone).unwrap() }
    }

    fn labels(period: &Period, most: usize) -> Vec<String> {
        time_ticks(period, most).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn a_day_of_25_hours_keeps_its_midnights() {
        let autumn = period("2026-10-31T04:00:00Z", "2026-11-03T05:00:00Z", "America/New_York");
        assert_eq!(
            labels(&autumn, 8),
            ["31 Oct", "12:00", "1 Nov", "12:00", "2 Nov", "12:00", "3 Nov"]
        );
        let at: Vec<i64> = time_ticks(&autumn, 8).iter().map(|tick| tick.at_ms).collect();
        assert_eq!(at[3] - at[2], 13 * 3_600_000, "from midnight to noon the clock went back");
    }

    #[test]
    fn ticks_are_few_and_round_for_every_length() {
        for (from, until, expected) in [
            (
                "2026-10-01T00:00:00Z",
                "2026-11-01T00:00:00Z",
                &["5 Oct", "12 Oct", "19 Oct", "26 Oct"][..],
            ),
            (
                "2026-01-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
                &["Jan 2026", "Apr 2026", "Jul 2026", "Oct 2026", "Jan 2027"],
            ),
            (
                "2026-10-01T10:02:00Z",
                "2026-10-01T10:20:00Z",
                &["1 Oct 10:05", "10:10", "10:15", "10:20"],
            ),
            ("2026-10-01T00:00:00Z", "2026-10-01T00:00:00Z", &[]),
            ("2026-10-02T00:00:00Z", "2026-10-01T00:00:00Z", &[]),
        ] {
            assert_eq!(labels(&period(from, until, "UTC"), 6), expected, "{from} to {until}");
        }
        let all = Period { from_ms: i64::MIN, until_ms: i64::MAX, zone: TimeZone::UTC };
        assert!(time_ticks(&all, 6).is_empty(), "beyond the calendar nothing is named");
    }

    #[test]
    fn an_axis_is_round_and_holds_what_is_drawn() {
        for (extremes, unit, low, high) in [
            (None, Unit::Count, 0.0, 1.0),
            (Some((120.0, 2300.0)), Unit::Milliseconds, 0.0, 3000.0),
            (Some((99.2, 99.99)), Unit::Percent, 99.2, 100.0),
            (Some((100.0, 100.0)), Unit::Percent, 99.0, 100.0),
            (Some((0.0, 0.0)), Unit::Percent, 0.0, 1.0),
            (Some((7.0, 7.0)), Unit::Count, 0.0, 8.0),
            (Some((-0.3, 1.0)), Unit::Percent, -0.5, 1.0),
            (Some((0.0, 3_221_225_472.0)), Unit::Bytes, 0.0, 3_221_225_472.0),
        ] {
            let scale = scale(extremes, &unit);
            assert!(
                (scale.low - low).abs() < 1e-9 && (scale.high - high).abs() < 1e-9,
                "{scale:?}"
            );
            assert!((2..=13).contains(&scale.ticks.len()), "{scale:?}");
        }
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 1e15, -1e-300] {
            let scale = scale(extremes(value), &Unit::Bytes);
            assert!(scale.low.is_finite() && scale.high > scale.low, "{value}: {scale:?}");
            assert!(scale.ticks.iter().all(|tick| tick.is_finite()), "{value}: {scale:?}");
        }
    }

    fn extremes(value: f64) -> Option<(f64, f64)> {
        Some((value, value))
    }
}
