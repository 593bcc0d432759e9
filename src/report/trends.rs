//! Where a server is heading: response times, availability, errors and sizes over days.

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Serialize;

use super::figures::{daily, figures};
use super::instant;
use crate::history::{Known, Rollup, Store};
use crate::model::{Result, Server};
use crate::stats::against::Against;
use crate::stats::capacity::{self, Ahead, Crossing, Limit, Side};
use crate::stats::span::Span;
use crate::stats::trend::{self, Direction, Trend};
use crate::stats::window::{self, Day};

/// One figure of one server over time.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Line {
    pub server: String,
    pub metric: Metric,
    /// Of which check; null for the whole server.
    pub check: Option<String>,
    /// Of what the server says of itself its name, such as `heap`; null for what checks measured.
    pub gauge: Option<String>,
    /// Which one of several: a disk, a pool, a type of resource.
    pub of: Option<String>,
    pub unit: &'static str,
    /// What a point stands for.
    pub step: Step,
    /// In whose days; null where points are no days.
    pub days_of: Option<String>,
    /// The last figure as it was read.
    pub newest: Option<Newest>,
    pub points: Vec<Point>,
    /// Null with too few points to say.
    pub trend: Option<Trend>,
    /// The line that must not be crossed, where there is one.
    pub limit: Option<Limit>,
    /// Who says so.
    pub limit_source: Option<LimitSource>,
    /// When it is crossed, if it goes on like that.
    pub crossing: Option<Crossing>,
    /// Where it goes, if it goes on like that; empty where nothing moves.
    pub forecast: Vec<Ahead>,
    /// Of a response time: how it moves with what the server has to do.
    pub load: Option<LoadEffect>,
}

/// The figure of one day, or of an hour or a reading, as `step` says.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Point {
    /// The beginning of the day; of what the server says of itself the middle of what was read.
    pub day: jiff::Timestamp,
    pub value: f64,
}

/// What a point stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Day,
    /// The median of an hour, where there are too few days.
    Hour,
    /// A figure as it was read, where there are too few hours.
    Reading,
}

impl Step {
    /// As it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Day => "day",
            Step::Hour => "hour",
            Step::Reading => "reading",
        }
    }
}

/// A figure as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Newest {
    pub at: jiff::Timestamp,
    pub value: f64,
}

/// Who says where a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    /// A threshold or an agreement.
    Inventory,
    /// Its own metrics: the size of a disk, the most of a pool.
    Server,
    /// `--line`.
    Flag,
}

/// How a response time moves with a load, hour by hour.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LoadEffect {
    /// By which figure of the server, such as `requests`.
    pub gauge: String,
    pub unit: &'static str,
    #[serde(flatten)]
    pub effect: Against,
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
    /// What the server says of its memory, pools, disks and queues.
    Gauge,
    /// How many resources of a type there are.
    Count,
}

impl Metric {
    /// As it is written in JSON, and after `--line`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Availability => "availability",
            Metric::ErrorRate => "error_rate",
            Metric::ResponseP50 => "response_p50",
            Metric::ResponseP95 => "response_p95",
            Metric::AnswerBytes => "answer_bytes",
            Metric::Gauge => "gauge",
            Metric::Count => "count",
        }
    }
}

/// How far ahead a crossing is looked for.
const HORIZON_MS: i64 = 366 * 86_400_000;
const HOUR_MS: i64 = 3_600_000;
const UTC: &str = "UTC";

/// Days are those of the zone, where its midnights are whole hours of UTC and hours are kept; else those
/// of UTC.
///
/// # Errors
/// When the history cannot be read.
pub async fn trends(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    window: Span,
    zone: &TimeZone,
) -> Result<Vec<Line>> {
    let mut days = daily(store, server, known, window).await?;
    let mut days_of = UTC;
    if let Some(own) = daily_in(store, server, known, window, zone).await?
        && readings(&own) == readings(&days)
    {
        days = own;
        days_of = zone.iana_name().unwrap_or(UTC);
    }
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
    for line in &mut lines {
        line.days_of = Some(days_of.to_owned());
    }
    Ok(lines)
}

/// The figures of each day of a zone that has readings, by its beginning; `None` where roll-ups, which
/// are by the hour of UTC, do not come to its days.
async fn daily_in(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    window: Span,
    zone: &TimeZone,
) -> Result<Option<Vec<(i64, Rollup)>>> {
    let days = window::days(window, zone);
    let is_hour = |day: &Day| day.span.from.rem_euclid(HOUR_MS) == 0;
    if *zone == TimeZone::UTC || !days.iter().skip(1).all(is_hour) {
        return Ok(None);
    }
    let mut all = Vec::with_capacity(days.len());
    for day in days {
        let sum = figures(store, server, known, day.span).await?.rollup;
        if sum.readings > 0 {
            all.push((day.span.from, sum));
        }
    }
    Ok(Some(all))
}

fn readings(days: &[(i64, Rollup)]) -> u64 {
    days.iter().map(|(_, day)| day.readings).sum()
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
    Line { check: check.map(str::to_owned), ..Line::of(&server.name, metric, unit, &points) }
        .limited(limit, LimitSource::Inventory)
}

impl Line {
    /// Points in order of time, with their trend; without a limit.
    pub(super) fn of(
        server: &str,
        metric: Metric,
        unit: &'static str,
        points: &[(i64, f64)],
    ) -> Line {
        let newest = points.last().map(|(at, value)| Newest { at: instant(*at), value: *value });
        Line {
            server: server.to_owned(),
            metric,
            check: None,
            gauge: None,
            of: None,
            unit,
            step: Step::Day,
            days_of: Some(UTC.to_owned()),
            newest,
            points: points
                .iter()
                .map(|(at, value)| Point { day: instant(*at), value: *value })
                .collect(),
            trend: trend::trend(points),
            limit: None,
            limit_source: None,
            crossing: None,
            forecast: Vec::new(),
            load: None,
        }
    }

    /// The same with a limit, when that is crossed, and the way there.
    pub(super) fn limited(mut self, limit: Option<Limit>, source: LimitSource) -> Line {
        self.limit = limit;
        self.limit_source = limit.map(|_| source);
        let points: Vec<(i64, f64)> =
            self.points.iter().map(|point| (point.day.as_millisecond(), point.value)).collect();
        let Some(first) = points.first().map(|(at, _)| *at) else { return self };
        let now = self.newest.map_or(first, |newest| newest.at.as_millisecond());
        let direction = self.trend.as_ref().map(|trend| trend.direction);
        let moves = matches!(direction, Some(Direction::Rising | Direction::Falling));
        self.crossing = limit
            .and_then(|limit| capacity::crossing(&points, limit, now, HORIZON_MS))
            // Memory goes up and down all day long: what does not move as a whole crosses nothing.
            .filter(|crossing| crossing.already || moves || !self.is_said_by_server());
        self.forecast = match moves {
            true => capacity::ahead(&points, now, self.foreseen(first, now)),
            false => Vec::new(),
        };
        self
    }

    /// Whether it comes from the server, and not from checks.
    #[must_use]
    pub fn is_said_by_server(&self) -> bool {
        matches!(self.metric, Metric::Gauge | Metric::Count)
    }

    /// Whether it is told of where things run full: what has a limit, what the server says of itself,
    /// sizes, and response times that can be held against a load.
    #[must_use]
    pub fn tells_capacity(&self) -> bool {
        self.limit.is_some()
            || self.load.is_some()
            || self.is_said_by_server()
            || self.metric == Metric::AnswerBytes
    }

    /// How far a forecast is drawn: a little beyond the crossing, else half as far as was seen.
    fn foreseen(&self, first: i64, now: i64) -> i64 {
        let ahead = match self.crossing.filter(|crossing| !crossing.already) {
            Some(crossing) => crossing.latest.unwrap_or(crossing.at) - now,
            None => (now - first) / 2,
        };
        now.saturating_add((ahead + ahead / 10).min(HORIZON_MS))
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
