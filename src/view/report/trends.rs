//! `report trends`: where figures are heading; and the chart of one figure, with what is ahead of it.

use jiff::tz::TimeZone;

use super::Head;
use crate::probe::gauges::meaning;
use crate::render::chart::{
    Band, BandPoint, Chart, Lines, Mark, Plot, Point, Series, Threshold, Unit,
};
use crate::render::{Block, Cell, Output, Row, Tone};
use crate::report::{Line, Metric, Step, instant};
use crate::stats::capacity::Ahead;
use crate::stats::trend::Direction;
use crate::stats::window::zone;
use crate::view::human::{or_dash, table};

/// The report in every form.
#[must_use]
pub fn output(head: Head, lines: Vec<Line>) -> Output {
    let told = table(&COLUMNS, lines.iter().map(|line| row(&head, line)).collect());
    let mut blocks = vec![Block::Table(told), Block::Blank];
    blocks.extend(lines.iter().filter(|line| line.points.len() > 1).map(|line| chart(&head, line)));
    let rows = table(&FIGURES, lines.iter().map(figures).collect());
    head.output("Trends", lines, rows, blocks)
}

/// What a program reads of a line; values are in `unit`.
pub(super) const FIGURES: [&str; 25] = [
    "server",
    "metric",
    "check",
    "gauge",
    "of",
    "unit",
    "step",
    "days_of",
    "points",
    "newest_at",
    "newest",
    "level",
    "direction",
    "slope_per_day",
    "slope_low",
    "slope_high",
    "p_value",
    "change_at",
    "change_before",
    "change_after",
    "limit",
    "crossed_already",
    "crossing_at",
    "crossing_earliest",
    "crossing_latest",
];

pub(super) fn figures(line: &Line) -> Row {
    let trend = line.trend.as_ref();
    let change = trend.and_then(|trend| trend.change);
    let crossing = line.crossing;
    let ahead = crossing.filter(|crossing| !crossing.already);
    let at = |ms: Option<i64>| ms.map(|ms| instant(ms).to_string());
    let number = |value: Option<f64>| value.map(|value| value.to_string());
    let cells = [
        Some(line.server.clone()),
        Some(line.metric.as_str().to_owned()),
        line.check.clone(),
        line.gauge.clone(),
        line.of.clone(),
        Some(line.unit.to_owned()),
        Some(line.step.as_str().to_owned()),
        line.days_of.clone(),
        Some(line.points.len().to_string()),
        line.newest.map(|newest| newest.at.to_string()),
        number(line.newest.map(|newest| newest.value)),
        number(trend.map(|trend| trend.level)),
        trend.map(|trend| trend.direction.as_str().to_owned()),
        number(trend.map(|trend| trend.slope_per_day)),
        number(trend.and_then(|trend| trend.slope_low)),
        number(trend.and_then(|trend| trend.slope_high)),
        number(trend.and_then(|trend| trend.p_value)),
        at(change.map(|change| change.at)),
        number(change.map(|change| change.before)),
        number(change.map(|change| change.after)),
        number(line.limit.map(|limit| limit.value)),
        crossing.map(|crossing| crossing.already.to_string()),
        at(ahead.map(|crossing| crossing.at)),
        at(ahead.and_then(|crossing| crossing.earliest)),
        at(ahead.and_then(|crossing| crossing.latest)),
    ];
    cells.map(|cell| cell.map_or_else(Cell::nothing, Cell::plain)).into()
}

pub(super) const COLUMNS: [&str; 9] =
    ["server", "figure", "now", "trend", "a day", "95 % interval", "change", "limit", "crossed"];

/// What is told of one figure in a line.
pub(super) fn row(head: &Head, line: &Line) -> Row {
    let unit = unit(line);
    let trend = line.trend.as_ref();
    let per_day = |value: Option<f64>| value.map(|value| unit.say(value));
    let interval = trend.and_then(|trend| {
        Some(format!("{} to {}", per_day(trend.slope_low)?, per_day(trend.slope_high)?))
    });
    let change = trend.and_then(|trend| trend.change).map(|change| {
        format!(
            "{}: {} to {}",
            moment(head, line, change.at),
            unit.say(change.before),
            unit.say(change.after)
        )
    });
    let crossing = line.crossing.map(|crossing| match crossing.already {
        true => "crossed already".to_owned(),
        false => moment(head, line, crossing.at),
    });
    vec![
        Cell::plain(&line.server),
        Cell::plain(name(line)),
        or_dash(trend.map(|trend| unit.say(trend.level)).as_deref()),
        match trend.map(|trend| trend.direction) {
            // What moves by less than can be shown.
            Some(Direction::Rising | Direction::Falling) if stands(line) => {
                Cell::toned("steady", Tone::Dim)
            }
            Some(Direction::Rising) => Cell::plain("rising"),
            Some(Direction::Falling) => Cell::plain("falling"),
            Some(Direction::Steady) => Cell::toned("steady", Tone::Dim),
            Some(Direction::Unclear) | None => match line.step {
                Step::Day => Cell::toned("too few days", Tone::Unknown),
                Step::Hour | Step::Reading => Cell::toned("too few figures", Tone::Unknown),
            },
        },
        or_dash(trend.and_then(|trend| per_day(Some(trend.slope_per_day))).as_deref()),
        or_dash(interval.as_deref()),
        or_dash(change.as_deref()),
        or_dash(line.limit.map(|limit| unit.say(limit.value)).as_deref()),
        or_dash(crossing.as_deref()),
    ]
}

/// Whether the slope of a line is nothing, as it is shown.
fn stands(line: &Line) -> bool {
    let unit = unit(line);
    let slope = line.trend.as_ref().map(|trend| trend.slope_per_day);
    slope.is_some_and(|slope| unit.say(slope.abs()) == unit.say(0.0))
}

/// The figure over time, its limit, and where it goes with the interval of that.
pub(super) fn chart(head: &Head, line: &Line) -> Block {
    let unit = unit(line);
    let points: Vec<Point> = line
        .points
        .iter()
        .map(|point| Point { at_ms: point.day.as_millisecond(), value: Some(point.value) })
        .collect();
    let first = points.first().map_or(head.window.from, |point| point.at_ms);
    let thresholds = line.limit.map(|limit| Threshold {
        label: format!("limit {}", unit.say(limit.value)),
        value: limit.value,
        tone: Tone::Warning,
    });
    let marks = line.trend.as_ref().and_then(|trend| trend.change).map(|change| Mark {
        at_ms: change.at,
        label: format!("{} to {}", unit.say(change.before), unit.say(change.after)),
    });
    let rows = line.points.iter().map(|point| {
        vec![
            Cell::plain(moment(head, line, point.day.as_millisecond())),
            Cell::plain(format!("{:.3}", point.value)),
        ]
    });
    let mut period = head.period();
    period.from_ms = period.from_ms.max(first);
    let mut series = vec![Series { name: name(line), points, is_reckoned: false }];
    let mut band = None;
    if let Some(end) = line.forecast.last() {
        period.until_ms = period.until_ms.max(end.at);
        let ahead = |value: fn(&Ahead) -> f64| {
            line.forecast.iter().map(move |ahead| (ahead.at, value(ahead)))
        };
        series.push(Series {
            name: "if it goes on like that".to_owned(),
            points: ahead(|ahead| ahead.value)
                .map(|(at_ms, value)| Point { at_ms, value: Some(value) })
                .collect(),
            is_reckoned: true,
        });
        band = Some(Band {
            label: "95 % interval".to_owned(),
            points: line
                .forecast
                .iter()
                .map(|ahead| BandPoint { at_ms: ahead.at, low: ahead.low, high: ahead.high })
                .collect(),
        });
    }
    let forecast = line.forecast.iter().map(|ahead| {
        vec![
            Cell::plain(moment(head, line, ahead.at)),
            Cell::toned(
                format!("{:.3} expected, {:.3} to {:.3}", ahead.value, ahead.low, ahead.high),
                Tone::Dim,
            ),
        ]
    });
    Block::chart(Chart {
        title: format!("{}: {}", line.server, name(line)),
        description: line.trend.as_ref().map_or_else(
            || "Too few figures for a trend.".to_owned(),
            |trend| {
                format!(
                    "{} {}; now at {}, changing by {} a day.{}",
                    trend.points,
                    match line.step {
                        Step::Day => "days",
                        Step::Hour => "hours",
                        Step::Reading => "figures",
                    },
                    unit.say(trend.level),
                    unit.say(trend.slope_per_day),
                    crossed(head, line).map(|text| format!(" {text}")).unwrap_or_default()
                )
            },
        ),
        plot: Plot::Lines(Lines {
            period,
            unit,
            series,
            thresholds: thresholds.into_iter().collect(),
            band,
            marks: marks.into_iter().collect(),
        }),
        table: table(
            &[
                &line
                    .days_of
                    .as_ref()
                    .map_or_else(|| "at".to_owned(), |zone| format!("day ({zone})")),
                line.unit,
            ],
            rows.chain(forecast).collect(),
        ),
    })
}

/// When the limit is crossed, as a sentence.
fn crossed(head: &Head, line: &Line) -> Option<String> {
    let limit = unit(line).say(line.limit?.value);
    let crossing = line.crossing?;
    if crossing.already {
        return Some(format!("{limit} is crossed already."));
    }
    let day = moment(head, line, crossing.at);
    Some(match between(head, line) {
        Some(between) => format!("{limit} is crossed on {day} ({between})."),
        None => format!("{limit} is crossed on {day}."),
    })
}

/// The interval of a crossing that is ahead.
pub(super) fn between(head: &Head, line: &Line) -> Option<String> {
    let crossing = line.crossing.filter(|crossing| !crossing.already)?;
    let day = |at: i64| moment(head, line, at);
    match (crossing.earliest, crossing.latest) {
        (Some(earliest), Some(latest)) => Some(format!("{} to {}", day(earliest), day(latest))),
        (Some(earliest), None) => Some(format!("{} at the earliest", day(earliest))),
        _ => None,
    }
}

/// An instant as exactly as the points are; a day is one of the line's zone.
pub(super) fn moment(head: &Head, line: &Line, at_ms: i64) -> String {
    let (zone, form) = match &line.days_of {
        Some(name) => (zone(name).unwrap_or(TimeZone::UTC), "%F"),
        None => (head.zone.clone(), "%F %H:%M"),
    };
    instant(at_ms).to_zoned(zone).strftime(form).to_string()
}

pub(super) fn unit(line: &Line) -> Unit {
    unit_named(line.unit)
}

pub(super) fn unit_named(unit: &str) -> Unit {
    match unit {
        "percent" => Unit::Percent,
        "ms" => Unit::Milliseconds,
        "bytes" => Unit::Bytes,
        "per_second" => Unit::Other("/s".to_owned()),
        "seconds" => Unit::Other("s".to_owned()),
        _ => Unit::Count,
    }
}

pub(super) fn name(line: &Line) -> String {
    let what = match line.metric {
        Metric::Availability => "availability".to_owned(),
        Metric::ErrorRate => "error rate".to_owned(),
        Metric::ResponseP50 => "median response".to_owned(),
        Metric::ResponseP95 => "p95 response".to_owned(),
        Metric::AnswerBytes => "size of an answer".to_owned(),
        Metric::Count => "resources".to_owned(),
        Metric::Gauge => title(line.gauge.as_deref().unwrap_or_default()),
    };
    match line.check.as_ref().or(line.of.as_ref()) {
        Some(which) => format!("{what}, {which}"),
        None => what,
    }
}

/// What a gauge is called.
pub(super) fn title(gauge: &str) -> String {
    meaning(gauge).map_or_else(|| gauge.to_owned(), |meaning| meaning.title)
}
