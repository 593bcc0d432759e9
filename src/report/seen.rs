//! What history has of one server in a window, as points for the arithmetic.

use std::collections::HashMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::history::{Known, Store};
use crate::inventory::runs_per_day;
use crate::model::{Reading, Result, Schedule, Server, State};
use crate::stats::span::{Span, Spans};
use crate::stats::uptime::{self, Kind, Point, Rule};

/// Where there are too few readings to see an interval.
pub(super) const ASSUMED_MS: i64 = 300_000;
pub(super) const DAY_MS: i64 = 86_400_000;
/// How far beyond what was looked at the ends of a state are looked for, step by step.
pub(super) const FURTHER_DAYS: [i64; 4] = [1, 7, 31, 366];
/// Looked at beyond a window's ends where no schedule says how often readings come.
const UNSCHEDULED_MARGIN_MS: i64 = DAY_MS;

/// How often a reading is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Interval {
    pub interval_ms: i64,
    pub source: IntervalSource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntervalSource {
    /// The inventory says so.
    Schedule,
    /// The median gap between readings of the window.
    Seen,
    /// There are too few readings to see one.
    Assumed,
}

/// One server's readings in a window, with what lies just before and behind it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub window: Span,
    pub interval: Interval,
    pub rule: Rule,
    /// In order of time; also beyond the window, as far as readings can reach into it.
    pub points: Vec<Point>,
    /// Planned time: readings that were taken in it, and the inventory's windows, also those that
    /// were entered afterwards.
    pub planned: Spans,
}

/// One reading, and whether its server was in use.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) state: State,
    pub(super) point: Point,
}

impl Look {
    pub(super) fn of(reading: &Reading) -> Look {
        let point = Point {
            at: reading.at.as_millisecond(),
            kind: Kind::of(reading.status),
            party: reading.party,
            code: reading.code.clone(),
        };
        Look { state: reading.state, point }
    }
}

/// A window with as much at both ends as a reading can reach, or `margin_ms` where that is more.
pub(super) fn wide(window: Span, scheduled: Option<i64>, margin_ms: i64) -> Span {
    let reach = scheduled.map_or(UNSCHEDULED_MARGIN_MS, |ms| Rule::every(ms).reach_ms());
    let margin = reach.max(margin_ms);
    Span::new(window.from.saturating_sub(margin), window.to.saturating_add(margin))
}

/// What a history knows of its servers, by name.
///
/// # Errors
/// When the history cannot be read.
pub async fn known(store: &Store) -> Result<HashMap<String, Known>> {
    let known = store.servers().await?;
    Ok(known.into_iter().map(|known| (known.name.clone(), known)).collect())
}

/// What the inventory says of how often a server is looked at.
#[must_use]
pub fn expected_interval(server: &Server) -> Option<i64> {
    match server.schedule.as_ref()? {
        Schedule::Every(every) => i64::try_from(every.as_millis()).ok().filter(|ms| *ms > 0),
        Schedule::Cron { expression, .. } => {
            let runs = runs_per_day(expression).filter(|runs| *runs > 0.0)?;
            // A float is clamped by the cast.
            let ms = (DAY_MS as f64 / runs).round() as i64;
            Some(ms.max(1))
        }
    }
}

impl Seen {
    /// Reads the points of a window, and of `margin_ms` more at both ends.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub async fn load(
        store: &Store,
        server: &Server,
        is_known: bool,
        window: Span,
        margin_ms: i64,
    ) -> Result<Seen> {
        let scheduled = expected_interval(server);
        let wide = wide(window, scheduled, margin_ms);
        let mut looks = Vec::new();
        if is_known {
            store
                .points(&server.name, wide.from..wide.to, |point| {
                    let (kind, at) = (Kind::of(point.status), point.at);
                    let state = point.state;
                    let point = Point { at, kind, party: point.party, code: point.code };
                    looks.push(Look { state, point });
                    Ok(())
                })
                .await?;
        }
        Ok(Seen::of(looks, (scheduled, None), &windows_of(server, wide), window, wide))
    }

    /// The same of what was read already: the last look before the [`wide`] window, and all within it,
    /// in order of time. The interval is the scheduled one, else the one that was seen before, else the
    /// one that shows here.
    pub(super) fn of(
        looks: impl IntoIterator<Item = Look>,
        (scheduled, seen_ms): (Option<i64>, Option<i64>),
        windows: &Spans,
        window: Span,
        wide: Span,
    ) -> Seen {
        let mut points = Vec::new();
        let mut in_maintenance = Vec::new();
        // What was looked at out of use says nothing of the service.
        for look in looks.into_iter().filter(|look| look.state != State::Inactive) {
            in_maintenance.push(look.state == State::Maintenance);
            points.push(look.point);
        }
        let interval = interval(scheduled, seen_ms, &points, window);
        let rule = Rule::every(interval.interval_ms);
        let held = held(&points, &in_maintenance, wide, &rule);
        Seen { window, interval, rule, points, planned: held.union(windows) }
    }

    /// The readings of the window itself.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.points.iter().filter(|point| self.window.contains(point.at)).count()
    }
}

/// What looks in maintenance hold. Of several at one instant they stand, as in a roll-up.
fn held(points: &[Point], in_maintenance: &[bool], window: Span, rule: &Rule) -> Spans {
    if !in_maintenance.contains(&true) {
        return Spans::none();
    }
    let mut looks = points.to_vec();
    for (look, _) in looks.iter_mut().zip(in_maintenance).filter(|(_, planned)| **planned) {
        look.kind = Kind::Maintenance;
    }
    uptime::held(&looks, window, rule, |index| looks[index].kind == Kind::Maintenance)
}

fn interval(
    scheduled: Option<i64>,
    seen_ms: Option<i64>,
    points: &[Point],
    window: Span,
) -> Interval {
    if let Some(interval_ms) = scheduled {
        return Interval { interval_ms, source: IntervalSource::Schedule };
    }
    if let Some(interval_ms) = seen_ms {
        return Interval { interval_ms, source: IntervalSource::Seen };
    }
    let instants: Vec<i64> =
        points.iter().map(|point| point.at).filter(|at| window.contains(*at)).collect();
    match uptime::interval(&instants) {
        Some(interval_ms) => Interval { interval_ms, source: IntervalSource::Seen },
        None => Interval { interval_ms: ASSUMED_MS, source: IntervalSource::Assumed },
    }
}

/// The inventory's maintenance windows, cut to a window.
pub(super) fn windows_of(server: &Server, window: Span) -> Spans {
    cut(server.maintenance.iter().map(|planned| (planned.from, planned.until)), window)
}

/// Spans that may have no end, cut to a window.
pub(super) fn cut(
    spans: impl Iterator<Item = (Option<Timestamp>, Option<Timestamp>)>,
    window: Span,
) -> Spans {
    let inside = spans.map(|(from, until)| {
        let from = from.map_or(window.from, Timestamp::as_millisecond);
        let to = until.map_or(window.to, Timestamp::as_millisecond);
        Span::new(from, to).intersect(&window)
    });
    inside.collect()
}
