//! Counts and response times of a window: whole hours and days from roll-ups, the rest from readings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::seen::{Look, Seen, expected_interval, wide, windows_of};
use crate::history::{Known, Level, Rollup, Store, Written};
use crate::model::{Result, Server};
use crate::stats::error::Breakdown;
use crate::stats::latency::{Digest, Latency, took_time};
use crate::stats::span::{Span, Spans};
use crate::stats::uptime::{Totals, timeline};

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
    /// Response times of all checks together, by the beginning of each hour or day; empty where nobody
    /// asked for them ([`over_time`]).
    pub over_time: BTreeMap<i64, Digest>,
}

impl Figures {
    /// How the time of the window was spent.
    #[must_use]
    pub fn times(&self) -> &Totals {
        &self.rollup.times
    }

    #[must_use]
    pub fn errors(&self) -> Breakdown {
        self.rollup.errors().breakdown()
    }

    /// By check and phase, in the order of the checks' names.
    #[must_use]
    pub fn latencies(&self) -> Vec<CheckLatency> {
        let mut all = Vec::new();
        for (check, mut phased) in self.rollup.latencies.clone() {
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

    /// Of all checks together.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        let mut all = Digest::default();
        for phased in self.rollup.latencies.values() {
            all.merge(&phased.total);
        }
        all.latency()
    }

    /// Those of another server are added.
    pub fn merge(&mut self, other: &Figures) {
        self.rollup.merge(&other.rollup);
        for (at, part) in &other.over_time {
            self.over_time.entry(*at).or_default().merge(part);
        }
    }
}

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Up to so long a window is told by hours.
const SHORT_MS: i64 = 3 * DAY_MS;

/// Adds up a window: days and hours that are rolled up, and the readings of what is left at its ends.
///
/// `known` is what the history knows of the server, asked for after the last rolling up. Time that no
/// roll-up covers is unknown. Where the inventory has maintenance windows in the window, the times are
/// made from readings, since a window may have been entered after the roll-up, as far as readings are kept.
///
/// # Errors
/// When the history cannot be read.
pub async fn figures(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    window: Span,
) -> Result<Figures> {
    let gone = pruned_to(known).clamp(window.from, window.to);
    let (mut figures, mut gone_times) = (Figures::default(), Totals::default());
    let edges = rolled(store, known, window, Level::Day, |part| {
        part.add_to(&mut figures.rollup);
        if part.at < gone {
            gone_times.merge(&part.times);
        }
    });
    for edge in edges.await? {
        figures.rollup.merge(&added(store, server, known, &edge).await?);
    }
    if !windows_of(server, window).is_empty() {
        let left = Span::new(gone, window.to);
        gone_times.merge(&totals(&Seen::load(store, server, known.is_some(), left, 0).await?));
        figures.rollup.times = gone_times;
    }
    let times = &mut figures.rollup.times;
    let missing = window.ms() - times.window_ms;
    times.window_ms += missing;
    times.unknown_ms += missing;
    Ok(figures)
}

/// The same, day by day (UTC): the beginning of each day that has readings, with its figures. Time of a day
/// of which nothing is known is not in them.
///
/// # Errors
/// As [`figures`].
pub async fn daily(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    window: Span,
) -> Result<Vec<(i64, Rollup)>> {
    let mut all = Vec::new();
    let edges = rolled(store, known, window, Level::Day, |part| {
        let mut rollup = Rollup::default();
        part.add_to(&mut rollup);
        all.push((part.at, rollup));
    });
    let edges = edges.await?;
    if known.is_some() {
        for edge in edges {
            for span in days_of(edge.span) {
                let rollup = added(store, server, known, &Edge { span, ..edge }).await?;
                all.push((span.from, rollup));
            }
        }
    }
    all.sort_by_key(|(at, _)| *at);
    let mut days: Vec<(i64, Rollup)> = Vec::new();
    for (at, part) in all {
        let day = at.div_euclid(DAY_MS) * DAY_MS;
        match days.last_mut() {
            Some((last, sum)) if *last == day => sum.merge(&part),
            _ => days.push((day, part)),
        }
    }
    days.retain(|(_, day)| day.readings > 0);
    for (day, sum) in &mut days {
        let day = Span::new(*day, *day + DAY_MS).intersect(&window);
        if day.from >= pruned_to(known) && !windows_of(server, day).is_empty() {
            sum.times = totals(&Seen::load(store, server, known.is_some(), day, 0).await?);
        }
    }
    Ok(days)
}

/// The length of the parts that [`over_time`] tells of a window: hours of a short one, days of others.
#[must_use]
pub fn step_ms(window: Span) -> i64 {
    if window.ms() <= SHORT_MS { HOUR_MS } else { DAY_MS }
}

/// Response times of all checks together, by the beginning of each hour or day (UTC) that has any.
///
/// # Errors
/// When the history cannot be read.
pub async fn over_time(
    store: &Store,
    known: Option<&Known>,
    window: Span,
) -> Result<BTreeMap<i64, Digest>> {
    let step = step_ms(window);
    let coarsest = if step == HOUR_MS { Level::Hour } else { Level::Day };
    let begin = |at: i64| at.div_euclid(step) * step;
    let mut all: BTreeMap<i64, Digest> = BTreeMap::new();
    let edges = rolled(store, known, window, coarsest, |part| {
        part.add_latency_to(all.entry(begin(part.at)).or_default());
    });
    for edge in edges.await? {
        let (Some(known), edge) = (known, edge.span) else { continue };
        store
            .samples(&known.name, edge.from..edge.to, |reading| {
                let at = reading.at.as_millisecond();
                for sample in reading.samples.iter().filter(|sample| took_time(sample)) {
                    if edge.contains(at) {
                        all.entry(begin(at)).or_default().add(sample.duration_us);
                    }
                }
                Ok(())
            })
            .await?;
    }
    all.retain(|_, part| part.count() > 0);
    Ok(all)
}

/// Time at an end of a window that no roll-up covers: it is made from readings.
#[derive(Clone, Copy)]
struct Edge {
    span: Span,
    /// That of the roll-up beside it.
    interval_ms: Option<i64>,
}

/// Visits the days and hours of a window that are rolled up, in order, and tells what is left.
async fn rolled(
    store: &Store,
    known: Option<&Known>,
    window: Span,
    coarsest: Level,
    mut visit: impl FnMut(&Written<'_>) + Send,
) -> Result<Vec<Edge>> {
    let whole = vec![Edge { span: window, interval_ms: None }];
    let Some(known) = known else { return Ok(whole) };
    let up = |at: i64, step: i64| at.saturating_add(step - 1).div_euclid(step) * step;
    let down = |at: i64, step: i64| at.div_euclid(step) * step;
    // What is rolled up ends with an hour; nothing behind it is.
    let rolled_to = known.rolled_to.unwrap_or(i64::MIN).min(down(window.to, HOUR_MS));
    let hours = Span::new(up(window.from, HOUR_MS), rolled_to);
    if hours.is_empty() {
        return Ok(whole);
    }
    let days = Span::new(up(hours.from, DAY_MS), down(hours.to, DAY_MS));
    let wanted = if days.is_empty() || coarsest == Level::Hour {
        vec![(Level::Hour, hours.from..hours.to)]
    } else {
        vec![
            (Level::Hour, hours.from..days.from),
            (Level::Day, days.from..days.to),
            (Level::Hour, days.to..hours.to),
        ]
    };
    let (mut first, mut last) = (None, None);
    let visit = |part: &Written<'_>| {
        if part.interval_ms > 0 {
            last = Some(part.interval_ms);
            first = first.or(last);
        }
        visit(part);
    };
    store.rollups_of(known, &wanted, visit).await?;
    let edges = [
        Edge { span: Span::new(window.from, hours.from), interval_ms: first },
        Edge { span: Span::new(hours.to, window.to), interval_ms: last },
    ];
    Ok(edges.into_iter().filter(|edge| !edge.span.is_empty()).collect())
}

/// A span cut at midnight UTC.
fn days_of(span: Span) -> Vec<Span> {
    let mut days = Vec::new();
    let mut from = span.from;
    while from < span.to {
        let to = ((from.div_euclid(DAY_MS) + 1) * DAY_MS).min(span.to);
        days.push(Span::new(from, to));
        from = to;
    }
    days
}

/// The readings of an edge, added up.
async fn added(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    edge: &Edge,
) -> Result<Rollup> {
    let (span, intervals) = (edge.span, (expected_interval(server), edge.interval_ms));
    let wide = wide(span, intervals.0.or(intervals.1), 0);
    let (mut sum, mut looks) = (Rollup::default(), Vec::new());
    if let Some(known) = known {
        store
            .samples(&known.name, wide.from..wide.to, |reading| {
                if span.contains(reading.at.as_millisecond()) {
                    sum.add(&reading);
                }
                looks.push(Look::of(&reading));
                Ok(())
            })
            .await?;
    }
    let seen = Seen::of(looks, intervals, &windows_of(server, wide), span, wide);
    sum.times = totals(&seen);
    Ok(sum)
}

/// From when on readings are kept.
fn pruned_to(known: Option<&Known>) -> i64 {
    known.and_then(|known| known.pruned_to).unwrap_or(i64::MIN)
}

/// By the timeline's rule.
fn totals(seen: &Seen) -> Totals {
    let pieces = timeline(&seen.points, seen.window, &seen.rule, &seen.planned);
    Totals::of(&pieces, &Spans::one(seen.window), &[])
}
