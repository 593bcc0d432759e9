//! How long a server was there, day by day, and what interrupted it.

use schemars::JsonSchema;
use serde::Serialize;

use super::incident::{Outage, incidents_of};
use super::seen::{Interval, Seen};
use crate::history::Store;
use crate::model::{Result, Server};
use crate::stats::incident::{Confirmation, Level, Summary, incidents, summary};
use crate::stats::span::{Span, Spans};
use crate::stats::uptime::{Piece, Totals, timeline};
use crate::stats::window::days;

/// One server's availability in a window.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Availability {
    pub server: String,
    pub vendor: Option<String>,
    pub organization: Option<String>,
    pub interval: Interval,
    /// From 0 to 1; null when nothing is known.
    pub availability: Option<f64>,
    pub coverage: Option<f64>,
    /// Whether enough is known to say (95 %).
    pub covered: bool,
    pub totals: Totals,
    pub readings: Expected,
    pub outages: Summary,
    pub incidents: Vec<Outage>,
    pub days: Vec<DayFigures>,
}

/// How many readings there should be, and are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Expected {
    pub expected: u64,
    pub taken: u64,
    /// Expected and not taken; more than expected are not missing.
    pub missing: u64,
}

/// A day in the report's time zone.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DayFigures {
    pub date: jiff::civil::Date,
    pub availability: Option<f64>,
    pub totals: Totals,
}

/// The least coverage at which a figure is said to be one.
pub const LEAST_COVERAGE: f64 = 0.95;

/// # Errors
/// When the history cannot be read.
pub async fn availability(
    store: &Store,
    server: &Server,
    is_known: bool,
    window: Span,
    zone: &jiff::tz::TimeZone,
    now: i64,
) -> Result<Availability> {
    let seen = Seen::load(store, server, is_known, window, 0).await?;
    let pieces = timeline(&seen.points, window, &seen.rule, &seen.planned);
    let whole = Spans::one(window);
    let totals = Totals::of(&pieces, &whole, &[]);
    let found = incidents(&pieces, &seen.points, Level::Down, Confirmation::default());
    Ok(Availability {
        server: server.name.clone(),
        vendor: server.vendor.clone(),
        organization: server.organization.clone(),
        interval: seen.interval,
        availability: totals.availability(),
        coverage: totals.coverage(),
        covered: totals.coverage().is_some_and(|coverage| coverage >= LEAST_COVERAGE),
        readings: Expected::of(&seen, &whole),
        outages: summary(&found, &totals),
        incidents: incidents_of(store, server, &seen, &pieces, None, now).await?,
        days: by_day(&pieces, window, zone),
        totals,
    })
}

/// The days of a window, each with its share of a timeline.
pub(super) fn by_day(pieces: &[Piece], window: Span, zone: &jiff::tz::TimeZone) -> Vec<DayFigures> {
    let mut first = 0;
    days(window, zone)
        .into_iter()
        .map(|day| {
            while pieces.get(first).is_some_and(|piece| piece.span.to <= day.span.from) {
                first += 1;
            }
            let rest = &pieces[first..];
            let last = rest.partition_point(|piece| piece.span.from < day.span.to);
            let totals = Totals::of(&rest[..last], &Spans::one(day.span), &[]);
            DayFigures { date: day.date, availability: totals.availability(), totals }
        })
        .collect()
}

impl Expected {
    /// Of the time that counts, planned work aside.
    pub(super) fn of(seen: &Seen, counted: &Spans) -> Expected {
        let due = counted.clip(seen.window).subtract(&seen.planned).total();
        let expected = u64::try_from(due / seen.interval.interval_ms.max(1)).unwrap_or(0);
        let within = seen
            .points
            .iter()
            .filter(|point| counted.contains(point.at) && !seen.planned.contains(point.at));
        let taken = within.count() as u64;
        Expected { expected, taken, missing: expected.saturating_sub(taken) }
    }
}
