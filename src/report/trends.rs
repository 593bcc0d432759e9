//! Where a server is heading: response times, availability, errors and sizes over days.

use schemars::JsonSchema;
use serde::Serialize;

use super::figures::daily;
use super::instant;
use crate::history::{Known, Rollup, Store};
use crate::model::{Result, Server};
use crate::stats::capacity::{self, Crossing, Limit, Side};
use crate::stats::span::Span;
use crate::stats::trend::{self, Trend};

/// One figure of one server over days.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Line {
    pub server: String,
    pub metric: Metric,
    /// Of which check; null for the whole server.
    pub check: Option<String>,
    pub unit: &'static str,
    pub points: Vec<Point>,
    /// Null with too few days to say.
    pub trend: Option<Trend>,
    /// The line that must not be crossed, where there is one.
    pub limit: Option<Limit>,
    /// When it is crossed, if it goes on like that.
    pub crossing: Option<Crossing>,
}

/// The figure of one day (UTC).
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Point {
    pub day: jiff::Timestamp,
    pub value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// In percent of the time that is known.
    Availability,
    /// Failed samples, in percent.
    ErrorRate,
    /// The median response time.
    ResponseP50,
    ResponseP95,
    /// The mean size of an answer as it was sent.
    AnswerBytes,
}

/// How far ahead a crossing is looked for.
const HORIZON_MS: i64 = 366 * 86_400_000;

/// # Errors
/// When the history cannot be read.
pub async fn trends(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    window: Span,
) -> Result<Vec<Line>> {
    let days = daily(store, server, known, window).await?;
    let objective = match &server.agreement {
        Some(agreement) => super::sla::objective(agreement)?.availability,
        None => None,
    };
    let least = objective.map(|share| Limit { value: share.share() * 100.0, side: Side::Below });
    let mut lines = vec![
        line(server, Metric::Availability, None, "percent", &days, least, |day| {
            day.times.availability().map(|share| share * 100.0)
        }),
        line(server, Metric::ErrorRate, None, "percent", &days, None, |day| {
            day.errors().breakdown().error_rate.map(|share| share * 100.0)
        }),
    ];
    for check in checks(&days) {
        let limit = limit_of(server, &check);
        let quantile = |day: &Rollup, q: f64| {
            day.latencies.get(check.as_str())?.total.sketch.quantile(q).map(|us| us / 1000.0)
        };
        for (metric, q) in [(Metric::ResponseP50, 0.5), (Metric::ResponseP95, 0.95)] {
            lines.push(line(server, metric, Some(&check), "ms", &days, limit, |day| {
                quantile(day, q)
            }));
        }
        lines.push(line(server, Metric::AnswerBytes, Some(&check), "bytes", &days, None, |day| {
            let of = day.samples.iter().filter(|counted| *counted.check == *check);
            let (bytes, count) = of.fold((0_u64, 0_u64), |(bytes, count), counted| {
                (bytes.saturating_add(counted.wire_bytes), count + counted.count)
            });
            (bytes > 0 && count > 0).then(|| bytes as f64 / count as f64)
        }));
    }
    lines.retain(|line| !line.points.is_empty());
    Ok(lines)
}

fn line(
    server: &Server,
    metric: Metric,
    check: Option<&str>,
    unit: &'static str,
    days: &[(i64, Rollup)],
    limit: Option<Limit>,
    value: impl Fn(&Rollup) -> Option<f64>,
) -> Line {
    let points: Vec<(i64, f64)> =
        days.iter().filter_map(|(at, day)| Some((*at, value(day)?))).collect();
    let trend = trend::trend(&points);
    let crossing = limit.and_then(|limit| {
        let ends = points.last()?.0;
        capacity::crossing(&points, limit, ends, HORIZON_MS)
    });
    Line {
        server: server.name.clone(),
        metric,
        check: check.map(str::to_owned),
        unit,
        points: points
            .iter()
            .map(|(at, value)| Point { day: instant(*at), value: *value })
            .collect(),
        trend,
        limit,
        crossing,
    }
}

/// The checks that have response times, by name.
fn checks(days: &[(i64, Rollup)]) -> Vec<String> {
    let mut names: Vec<String> = days
        .iter()
        .flat_map(|(_, day)| day.latencies.keys())
        .map(|check| check.to_string())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Above this an answer of the check is slow, in milliseconds.
fn limit_of(server: &Server, check: &str) -> Option<Limit> {
    let thresholds = &server.thresholds;
    let threshold = match check.split('[').next().unwrap_or_default() {
        "health" => thresholds.health,
        "metadata" => thresholds.metadata,
        "search" | "read" | "assert" => thresholds.search,
        _ => return None,
    };
    Some(Limit { value: threshold.warning.as_secs_f64() * 1000.0, side: Side::Above })
}
