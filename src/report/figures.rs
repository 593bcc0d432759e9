//! Counts and response times of a window: whole hours and days from roll-ups, the rest from readings.

use schemars::JsonSchema;
use serde::Serialize;

use crate::history::{Level, Rollup, Store};
use crate::model::{Result, Server};
use crate::stats::error::Breakdown;
use crate::stats::latency::Latency;
use crate::stats::span::Span;

/// One check's response times: the whole, then its phases.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CheckLatency {
    pub check: String,
    /// `total`, `dns`, `connect`, `tls`, `first_byte` or `transfer`.
    pub phase: String,
    #[serde(flatten)]
    pub latency: Latency,
}

/// What a window comes to.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub rollup: Rollup,
}

impl Figures {
    #[must_use]
    pub fn errors(&self) -> Breakdown {
        self.rollup.errors().breakdown()
    }

    /// By check and phase, in the order of the checks' names.
    #[must_use]
    pub fn latencies(&self) -> Vec<CheckLatency> {
        let mut all = Vec::new();
        for (check, phased) in self.rollup.latencies.clone() {
            let mut phased = phased;
            for (phase, latency) in phased.latencies() {
                all.push(CheckLatency {
                    check: check.to_string(),
                    phase: phase.to_owned(),
                    latency,
                });
            }
        }
        all
    }
}

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Adds up a window: days and hours that are rolled up, and the readings of what is left at its ends.
/// Times by the timeline's rule are right only where the window begins and ends with an hour; for
/// anything that money hangs on, they are made from readings.
///
/// # Errors
/// When the history cannot be read.
pub async fn figures(store: &Store, server: &Server, window: Span) -> Result<Figures> {
    let mut figures = Figures::default();
    for (_, part) in by_hours(store, server, window, Step::Whole).await? {
        figures.rollup.merge(&part);
    }
    Ok(figures)
}

/// The same, day by day (UTC): the beginning of each day that has readings, with its figures.
///
/// # Errors
/// As [`figures`].
pub async fn daily(store: &Store, server: &Server, window: Span) -> Result<Vec<(i64, Rollup)>> {
    by_hours(store, server, window, Step::Days).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// As few parts as it takes.
    Whole,
    /// No part crosses midnight UTC, and parts of one day are one.
    Days,
}

async fn by_hours(
    store: &Store,
    server: &Server,
    window: Span,
    step: Step,
) -> Result<Vec<(i64, Rollup)>> {
    let known = store.servers().await?.into_iter().find(|known| known.name == server.name);
    let Some(known) = known else { return Ok(Vec::new()) };
    let name = &server.name;
    let up = |at: i64, to: i64| at.div_euclid(to) * to + if at.rem_euclid(to) == 0 { 0 } else { to };
    let down = |at: i64, to: i64| at.div_euclid(to) * to;
    // What is rolled up ends with an hour; nothing behind it is.
    let rolled_to = known.rolled_to.unwrap_or(i64::MIN).min(down(window.to, HOUR_MS));
    let hours = Span::new(up(window.from, HOUR_MS), rolled_to);
    let mut parts: Vec<(i64, Rollup)> = Vec::new();
    if hours.is_empty() {
        parts.push((window.from, raw(store, name, window).await?));
        return Ok(joined(parts, step));
    }
    let days = Span::new(up(hours.from, DAY_MS), down(hours.to, DAY_MS));
    if window.from < hours.from {
        parts.push((window.from, raw(store, name, Span::new(window.from, hours.from)).await?));
    }
    if days.is_empty() {
        parts.extend(store.rollups(name, Level::Hour, hours.from..hours.to).await?);
    } else {
        parts.extend(store.rollups(name, Level::Hour, hours.from..days.from).await?);
        parts.extend(store.rollups(name, Level::Day, days.from..days.to).await?);
        parts.extend(store.rollups(name, Level::Hour, days.to..hours.to).await?);
    }
    if hours.to < window.to {
        parts.push((hours.to, raw(store, name, Span::new(hours.to, window.to)).await?));
    }
    Ok(joined(parts, step))
}

fn joined(parts: Vec<(i64, Rollup)>, step: Step) -> Vec<(i64, Rollup)> {
    let mut all: Vec<(i64, Rollup)> = Vec::new();
    for (at, part) in parts {
        if part.readings == 0 && part.times == Default::default() {
            continue;
        }
        let day = at.div_euclid(DAY_MS) * DAY_MS;
        match all.last_mut() {
            Some((last, sum)) if step == Step::Whole || *last == day => sum.merge(&part),
            _ => all.push((if step == Step::Whole { at } else { day }, part)),
        }
    }
    all
}

async fn raw(store: &Store, name: &str, window: Span) -> Result<Rollup> {
    let mut sum = Rollup::default();
    store
        .readings(name, window.from..window.to, |reading| {
            if window.contains(reading.at.as_millisecond()) {
                sum.add(&reading);
            }
            Ok(())
        })
        .await?;
    Ok(sum)
}
