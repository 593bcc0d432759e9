//! What a chart shows, in figures and words; where its ink goes is each renderer's business.
//!
//! A view fills these types in. A page draws them as SVG, a terminal as sparklines and bars, and
//! Markdown says the table that stands behind every one of them.

mod axis;
pub(super) mod terminal;
mod unit;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) use axis::{Scale, Tick, scale, time_ticks};
pub use unit::Unit;

use super::{Table, Tone};

/// A chart without a single coordinate.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    /// What is to be seen in it, in one sentence, for whoever does not see it.
    pub description: String,
    pub plot: Plot,
    /// The figures behind it, for whoever wants to copy or check them.
    pub table: Table,
}

#[derive(Clone, Debug)]
pub enum Plot {
    Strip(Strip),
    Lines(Lines),
    Timeline(Timeline),
    Bars(Bars),
    BurnDown(BurnDown),
}

/// What a server was for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    Up,
    Degraded,
    Down,
    Unknown,
    Maintenance,
}

/// Availability day by day: one row a server, one cell a day.
#[derive(Clone, Debug)]
pub struct Strip {
    /// In whose days it is told.
    pub zone: TimeZone,
    pub rows: Vec<StripRow>,
}

#[derive(Clone, Debug)]
pub struct StripRow {
    /// Such as the server.
    pub label: String,
    /// What stands behind the row, such as `99.95 %`.
    pub summary: String,
    pub cells: Vec<StripCell>,
}

/// One day of one server.
#[derive(Clone, Debug, Default)]
pub struct StripCell {
    /// Such as `25 Oct`; the labels of the first row stand below the strip.
    pub label: String,
    /// How long each condition held, in milliseconds; all zero draws nothing.
    pub held: Held,
    /// What is told of it, such as `99.86 %, down for 2 min 3 s`.
    pub text: String,
}

/// Milliseconds of each condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub up: u64,
    pub degraded: u64,
    pub down: u64,
    pub unknown: u64,
    pub maintenance: u64,
}

/// Figures over time.
#[derive(Clone, Debug)]
pub struct Lines {
    pub period: Period,
    pub unit: Unit,
    /// Told apart by dashes as well as by colour; more than six are hard to follow.
    pub series: Vec<Series>,
    /// Such as an objective or what a disk holds.
    pub thresholds: Vec<Threshold>,
    /// Such as the interval of a forecast.
    pub band: Option<Band>,
    /// Such as the instant at which the level changed.
    pub marks: Vec<Mark>,
}

#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<Point>,
    /// Whether it was not measured but reckoned, such as a forecast.
    pub is_reckoned: bool,
}

/// A figure at an instant, in milliseconds since the epoch; `None` is a gap, over which no line is
/// drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at_ms: i64,
    pub value: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Threshold {
    pub label: String,
    pub value: f64,
    pub tone: Tone,
}

/// Where figures are expected.
#[derive(Clone, Debug)]
pub struct Band {
    pub label: String,
    pub points: Vec<BandPoint>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BandPoint {
    pub at_ms: i64,
    pub low: f64,
    pub high: f64,
}

#[derive(Clone, Debug)]
pub struct Mark {
    pub at_ms: i64,
    pub label: String,
}

/// What happened when: one lane a server, one span an incident.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub period: Period,
    pub lanes: Vec<Lane>,
}

#[derive(Clone, Debug)]
pub struct Lane {
    pub label: String,
    pub spans: Vec<LaneSpan>,
}

#[derive(Clone, Debug)]
pub struct LaneSpan {
    pub from_ms: i64,
    /// `None`: it lasts.
    pub until_ms: Option<i64>,
    pub condition: Condition,
    /// Such as `3 Oct 04:12, 12 min, tls.expired`.
    pub label: String,
}

/// Amounts beside each other, in the order in which they come.
#[derive(Clone, Debug)]
pub struct Bars {
    pub bars: Vec<Bar>,
}

#[derive(Clone, Debug)]
pub struct Bar {
    pub label: String,
    pub value: f64,
    /// The value as it is told, such as `1,204 (63 %)`.
    pub text: String,
    pub tone: Tone,
}

/// What is left of an error budget over its period, against spending it evenly.
#[derive(Clone, Debug)]
pub struct BurnDown {
    pub period: Period,
    /// The whole budget as it is told, such as `43 min 12 s`.
    pub budget: String,
    /// Share of the budget that is left, 1 at the start; below 0 the objective is missed.
    pub left: Vec<Point>,
}

/// From when until when, in milliseconds since the epoch, and in whose days it is told.
#[derive(Clone, Debug)]
pub struct Period {
    pub from_ms: i64,
    pub until_ms: i64,
    pub zone: TimeZone,
}

impl Condition {
    /// From the best to the worst.
    pub const ALL: [Condition; 5] = [
        Condition::Up,
        Condition::Maintenance,
        Condition::Degraded,
        Condition::Unknown,
        Condition::Down,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Degraded => "degraded",
            Condition::Down => "down",
            Condition::Unknown => "unknown",
            Condition::Maintenance => "maintenance",
        }
    }

    pub(super) fn tone(self) -> Tone {
        match self {
            Condition::Up => Tone::Good,
            Condition::Degraded => Tone::Warning,
            Condition::Down => Tone::Bad,
            Condition::Unknown => Tone::Unknown,
            Condition::Maintenance => Tone::Dim,
        }
    }
}

impl Held {
    #[must_use]
    pub fn of(&self, condition: Condition) -> u64 {
        match condition {
            Condition::Up => self.up,
            Condition::Degraded => self.degraded,
            Condition::Down => self.down,
            Condition::Unknown => self.unknown,
            Condition::Maintenance => self.maintenance,
        }
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        Condition::ALL.iter().fold(0, |sum, condition| sum.saturating_add(self.of(*condition)))
    }

    /// The worst condition that held at all.
    #[must_use]
    pub fn worst(&self) -> Option<Condition> {
        Condition::ALL.into_iter().rev().find(|condition| self.of(*condition) > 0)
    }

    pub(super) fn and(self, other: Held) -> Held {
        Held {
            up: self.up.saturating_add(other.up),
            degraded: self.degraded.saturating_add(other.degraded),
            down: self.down.saturating_add(other.down),
            unknown: self.unknown.saturating_add(other.unknown),
            maintenance: self.maintenance.saturating_add(other.maintenance),
        }
    }
}

impl Period {
    /// Where an instant stands in it, 0 at its start and 1 at its end.
    pub(super) fn share(&self, at_ms: i64) -> f64 {
        let length = self.until_ms.saturating_sub(self.from_ms);
        if length <= 0 {
            return 0.0;
        }
        at_ms.saturating_sub(self.from_ms) as f64 / length as f64
    }

    /// The day of an instant, such as `12 Oct 2026`.
    #[must_use]
    pub fn day(&self, at_ms: i64) -> String {
        Timestamp::from_millisecond(at_ms).map_or_else(
            |_| at_ms.to_string(),
            |at| at.to_zoned(self.zone.clone()).strftime("%-d %b %Y").to_string(),
        )
    }

    /// Whose clock its times are told by, such as `America/New_York`.
    pub(super) fn clock(&self) -> String {
        clock(&self.zone)
    }
}

/// The name of a time zone, or how far it is from UTC where it has none.
pub(super) fn clock(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => match zone.to_fixed_offset() {
            Ok(offset) => format!("UTC{offset}"),
            Err(_) => "local time".to_owned(),
        },
    }
}

impl BurnDown {
    /// The share that would be left at an instant if the budget were spent evenly.
    pub(super) fn even(&self, at_ms: i64) -> f64 {
        (1.0 - self.period.share(at_ms)).clamp(0.0, 1.0)
    }

    /// The last share that is known, and when that was.
    pub(super) fn last(&self) -> Option<(i64, f64)> {
        self.left.iter().rev().find_map(|point| Some((point.at_ms, point.known()?)))
    }
}

impl Point {
    /// Its value, where it is a number.
    pub(super) fn known(&self) -> Option<f64> {
        self.value.filter(|value| value.is_finite())
    }
}

impl Lines {
    /// The least and the greatest of all that is drawn.
    pub(super) fn extremes(&self) -> Option<(f64, f64)> {
        let points = self.series.iter().flat_map(|series| &series.points).filter_map(Point::known);
        let band = self.band.iter().flat_map(|band| &band.points).flat_map(|p| [p.low, p.high]);
        let lines = self.thresholds.iter().map(|threshold| threshold.value);
        extremes(points.chain(band).chain(lines))
    }
}

/// The least and the greatest of some figures; `None` when there is none.
pub(super) fn extremes(figures: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    figures.filter(|figure| figure.is_finite()).fold(None, |known, figure| match known {
        None => Some((figure, figure)),
        Some((low, high)) => Some((figure.min(low), figure.max(high))),
    })
}
