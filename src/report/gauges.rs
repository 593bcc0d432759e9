//! What a server says of itself over time, and how response times move with what it has to do.

use std::collections::BTreeMap;

use super::trends::{LimitSource, Line, LoadEffect, Metric, Newest, Step, trends};
use super::{instant, line};
use crate::history::{GaugeSeries, Known, Level, Store};
use crate::model::{Result, Server};
use crate::probe::gauges::{COUNT, PAGE, Unit, meaning, names, parts};
use crate::stats::against::against;
use crate::stats::capacity::{Limit, Side};
use crate::stats::span::Span;
use crate::stats::trend;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Everything of a server that may run full or slow: what checks measured, what it says of its memory,
/// pools, disks and queues, and how many resources it holds.
///
/// # Errors
/// When the history cannot be read.
pub async fn capacity(
    store: &Store,
    server: &Server,
    known: Option<&Known>,
    window: Span,
    zone: &jiff::tz::TimeZone,
) -> Result<Vec<Line>> {
    let mut lines = trends(store, server, known, window, zone).await?;
    let series = store.gauges(&server.name, window.from..window.to).await?;
    if let Some(load) = load(&series) {
        let hours = store.rollups(&server.name, Level::Hour, window.from..window.to).await?;
        for line in lines.iter_mut().filter(|line| line.metric == Metric::ResponseP95) {
            let Some(check) = line.check.as_deref() else { continue };
            let pairs: Vec<(f64, f64)> = hours
                .iter()
                .filter_map(|(hour, rollup)| {
                    let p95 = rollup.latencies.get(check)?.total.sketch.quantile(0.95)?;
                    Some((*load.hours.get(hour)?, p95 / 1000.0))
                })
                .collect();
            line.load = against(&pairs).map(|effect| LoadEffect {
                gauge: load.gauge.clone(),
                unit: load.unit,
                effect,
            });
        }
    }
    let mut said: Vec<Line> =
        series.iter().filter_map(|series| said(&server.name, series)).collect();
    let order: Vec<String> = names().collect();
    said.sort_by_key(|line| {
        let place = line.gauge.as_ref().and_then(|name| order.iter().position(|n| n == name));
        (place.unwrap_or(order.len()), line.of.clone())
    });
    lines.extend(said);
    Ok(lines)
}

/// One gauge as a line; `None` for what no figure is made of.
fn said(server: &str, series: &GaugeSeries) -> Option<Line> {
    let (name, of) = parts(&series.name);
    if name == PAGE {
        return None;
    }
    let (metric, unit, is_counter) = match name {
        COUNT => (Metric::Count, "count", false),
        _ => {
            let meaning = meaning(name)?;
            (Metric::Gauge, line::unit_of(&meaning), meaning.is_counter)
        }
    };
    let values = figures(series, is_counter, unit == "percent");
    let (step, points) = stepped(&values);
    let newest = values.last().map(|(at, value)| Newest { at: instant(*at), value: *value })?;
    let limit = series.values.last().and_then(|value| value.limit).filter(|_| !is_counter);
    let made = Line {
        gauge: (metric == Metric::Gauge).then(|| name.to_owned()),
        of: of.map(str::to_owned),
        step,
        days_of: (step == Step::Day).then(|| "UTC".to_owned()),
        newest: Some(newest),
        ..Line::of(server, metric, unit, &points)
    };
    let limit = limit.map(|value| Limit { value, side: Side::Above });
    Some(made.limited(limit, LimitSource::Server))
}

/// The values as they are told: of a counter its speed per second, of a share percent.
fn figures(series: &GaugeSeries, is_counter: bool, is_share: bool) -> Vec<(i64, f64)> {
    if is_counter {
        let pairs = series.values.windows(2).filter_map(|pair| {
            let [before, after] = pair else { return None };
            let grown = after.value - before.value;
            let seconds = (after.at - before.at) as f64 / 1000.0;
            // Smaller than before: the server was started again.
            (grown >= 0.0 && seconds > 0.0).then(|| (after.at, grown / seconds))
        });
        return pairs.collect();
    }
    let factor = if is_share { 100.0 } else { 1.0 };
    series.values.iter().map(|value| (value.at, value.value * factor)).collect()
}

/// The median of each day, where there are enough days for a trend; else of each hour; else what was
/// read. Figures of minutes hang on each other, and a trend of them would be surer than it may be.
fn stepped(values: &[(i64, f64)]) -> (Step, Vec<(i64, f64)>) {
    for (step, length) in [(Step::Day, DAY_MS), (Step::Hour, HOUR_MS)] {
        let points = medians(values, length);
        if points.len() >= trend::LEAST {
            return (step, points.into_iter().map(|point| (point.middle, point.median)).collect());
        }
    }
    (Step::Reading, values.to_vec())
}

/// What a stretch of time comes to.
struct Median {
    /// Its beginning.
    from: i64,
    /// Between its first and its last reading.
    middle: i64,
    median: f64,
}

fn medians(values: &[(i64, f64)], length: i64) -> Vec<Median> {
    values
        .chunk_by(|a, b| a.0.div_euclid(length) == b.0.div_euclid(length))
        .filter_map(|part| {
            let (first, last) = (part.first()?.0, part.last()?.0);
            let mut sorted: Vec<f64> = part.iter().map(|(_, value)| *value).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let upper = *sorted.get(sorted.len() / 2)?;
            let lower = *sorted.get((sorted.len() - 1) / 2)?;
            Some(Median {
                from: first.div_euclid(length) * length,
                middle: first + (last - first) / 2,
                median: lower + (upper - lower) / 2.0,
            })
        })
        .collect()
}

/// What a server had to do, hour by hour.
struct Load {
    gauge: String,
    unit: &'static str,
    hours: BTreeMap<i64, f64>,
}

/// The first counter among what tells of load, else the first that is there; several of one kind, such
/// as pools of threads, are added up.
fn load(series: &[GaugeSeries]) -> Option<Load> {
    let known = |name: &String| {
        let found = meaning(name).filter(|meaning| meaning.is_load)?;
        let is_there = series.iter().any(|one| parts(&one.name).0 == name);
        is_there.then(|| (name.clone(), found))
    };
    let mut all: Vec<_> = names().filter_map(|name| known(&name)).collect();
    all.sort_by_key(|(_, meaning)| !meaning.is_counter);
    let (gauge, meaning) = all.into_iter().next()?;
    let mut hours: BTreeMap<i64, f64> = BTreeMap::new();
    for one in series.iter().filter(|one| parts(&one.name).0 == gauge) {
        let values = figures(one, meaning.is_counter, meaning.unit == Unit::Share);
        for hour in medians(&values, HOUR_MS) {
            *hours.entry(hour.from).or_default() += hour.median;
        }
    }
    Some(Load { gauge, unit: line::unit_of(&meaning), hours })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::GaugeValue;
    use crate::stats::trend::Direction;

    const GIB: f64 = 1_073_741_824.0;

    fn series(name: &str, count: i64, apart: i64, value: impl Fn(i64) -> f64) -> GaugeSeries {
        let values = (0..count)
            .map(|n| GaugeValue { at: n * apart, value: value(n), limit: Some(100.0 * GIB) })
            .collect();
        GaugeSeries { name: name.into(), values }
    }

    #[test]
    fn a_disk_that_fills_up_is_full_on_a_day_with_an_interval() {
        // A GiB a day, read every hour, with a nightly file that comes and goes.
        let rough = |n: i64| if n % 24 < 3 { 2.0 } else { (n % 5) as f64 / 10.0 };
        let disk =
            series("disk:/var", 40 * 24, HOUR_MS, |n| (20.0 + n as f64 / 24.0 + rough(n)) * GIB);
        let line = said("s", &disk).unwrap();
        assert_eq!((line.gauge.as_deref(), line.of.as_deref()), (Some("disk"), Some("/var")));
        assert_eq!((line.step, line.points.len(), line.unit), (Step::Day, 40, "bytes"));
        let crossing = line.crossing.unwrap();
        let day = crossing.at / DAY_MS;
        assert!((79..=80).contains(&day), "{day}");
        assert!(crossing.earliest.unwrap() <= crossing.at);
        assert!(crossing.at <= crossing.latest.unwrap());
        let end = line.forecast.last().unwrap();
        assert!(end.at > crossing.at && end.low <= end.value && end.value <= end.high);
    }

    #[test]
    fn memory_that_goes_up_and_down_fills_nothing() {
        let heap = series("heap", 20 * 24, HOUR_MS, |n| (40 + n * 7 % 50) as f64 * GIB);
        let line = said("s", &heap).unwrap();
        assert_eq!(line.trend.as_ref().unwrap().direction, Direction::Steady);
        assert_eq!((line.crossing, line.forecast.len()), (None, 0));
        assert!(line.limit.is_some());
    }

    #[test]
    fn few_days_are_told_by_the_hour_and_few_hours_as_they_were_read() {
        let of = |count, apart| said("s", &series("heap", count, apart, |n| n as f64)).unwrap();
        assert_eq!(of(60, HOUR_MS).step, Step::Hour);
        assert_eq!(of(5, 60_000).step, Step::Reading);
        assert_eq!(of(1, 60_000).trend, None);
        assert!(said("s", &series("page", 9, DAY_MS, |_| 1.0)).is_none());
        assert!(said("s", &series("of_a_newer_version", 9, DAY_MS, |_| 1.0)).is_none());
    }

    #[test]
    fn a_counter_is_told_by_its_speed_whatever_starts_anew() {
        let restarted = series("requests", 10, 60_000, |n| ((n % 6) * 120) as f64);
        let speeds = figures(&restarted, true, false);
        assert_eq!(speeds.len(), 8, "the restart is left out");
        assert!(speeds.iter().all(|(_, speed)| *speed == 2.0));
        assert_eq!(said("s", &restarted).unwrap().unit, "per_second");
    }

    #[test]
    fn load_is_the_rate_of_requests_or_what_is_there_added_up() {
        let threads =
            |pool: &str| series(&format!("web_threads:{pool}"), 48, HOUR_MS, |n| n as f64);
        let both = [threads("a"), threads("b")];
        let found = load(&both).unwrap();
        assert_eq!((found.gauge.as_str(), found.hours.len()), ("web_threads", 48));
        assert_eq!(found.hours.get(&(10 * HOUR_MS)), Some(&20.0));
        let [a, b] = both;
        let with_rate = [a, b, series("requests", 48, HOUR_MS, |n| (n * 7200) as f64)];
        let found = load(&with_rate).unwrap();
        assert_eq!((found.gauge.as_str(), found.unit), ("requests", "per_second"));
        assert!(load(&[series("heap", 9, HOUR_MS, |n| n as f64)]).is_none());
    }
}
