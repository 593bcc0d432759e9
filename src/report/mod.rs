//! From history and agreements to the figures of a report.
//!
//! Enters: a history, servers of an inventory, a window of time. Leaves: plain figures, one type a
//! kind of report, all of them made by the arithmetic of [`stats`](crate::stats). Called by the
//! commands that look back: report, status, incidents. Nothing here asks a server.

mod availability;
mod figures;
mod gauges;
mod incident;
mod line;
mod proof;
mod row;
mod security;
mod seen;
mod sla;
mod standing;
mod trends;
mod vendor;

pub use availability::{Availability, DayFigures, Expected, LEAST_COVERAGE, availability};
pub use figures::{CheckLatency, Figures, daily, figures, over_time, step_ms};
pub use gauges::capacity;
pub use incident::{Evidence, NoteFigures, Outage, PartyChange, incidents_of, key_of, parse_key};
pub use line::{Asked, drawn};
pub use proof::{Checked, CheckedPeriod, CheckedServer, Proof, prove};
pub use row::Row;
pub use security::{SecurityEvent, security};
pub use seen::{Interval, IntervalSource, Seen, expected_interval, known};
pub use sla::{
    Agreed, Burned, LeftOut, PeriodFigures, Planned, PlannedWork, Settled, Terms, WhyLeftOut,
    calendar, running, settle, sla, worst,
};
pub use standing::{Budget, Standing, standing};
pub use trends::{LimitSource, Line, LoadEffect, Metric, Newest, Step, trends};
pub use vendor::{for_vendor, proof_for_vendor};

use jiff::Timestamp;

/// Milliseconds since the epoch as an instant; the ends of time for what lies beyond them.
#[must_use]
pub fn instant(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// The rules by which time is added up, a sentence each, as they are printed under a report.
pub const FORMULA: &[&str] = &[
    "A reading is the worst of the checks of one run: healthy is up, warning is degraded, critical is down, unknown is unknown.",
    "A reading holds until the next one when that comes within 1.5 intervals; otherwise it holds for one interval, and what is left is unknown: a gap is never uptime.",
    "Of several readings at one instant the worst stands. Planned maintenance lies over what was seen.",
    "availability = (up + degraded) / (up + degraded + down)",
    "coverage = 1 - unknown / (window - maintenance); below 95 % there is no verdict, nor where readings of the period are no longer kept.",
];

#[cfg(test)]
mod tests;
