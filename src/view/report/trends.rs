//! `report trends` and `report capacity`: where figures are heading, and when they cross a limit.

use super::Head;
use crate::render::chart::{Chart, Lines, Mark, Plot, Point, Series, Threshold, Unit};
use crate::render::{Block, Cell, Output, Table, Tone};
use crate::report::{Line, Metric, instant};
use crate::stats::trend::Direction;
use crate::view::human::{or_dash, table};

/// The report in every form.
#[must_use]
pub fn output(head: Head, lines: Vec<Line>) -> Output {
    let rows = rows(&head, &lines);
    let mut blocks = vec![Block::Table(rows.clone()), Block::Blank];
    blocks.extend(lines.iter().filter(|line| line.points.len() > 1).map(|line| chart(&head, line)));
    head.output("Trends", lines, rows, blocks)
}

/// Only lines that have a limit.
#[must_use]
pub fn capacity(head: Head, lines: Vec<Line>) -> Output {
    let rows = rows(&head, &lines);
    let mut blocks = vec![Block::Table(rows.clone()), Block::Blank];
    if lines.iter().all(|line| line.crossing.is_none()) {
        blocks.push(Block::text("No limit is going to be crossed within what can be foreseen."));
    }
    blocks.extend(lines.iter().filter(|line| line.points.len() > 1).map(|line| chart(&head, line)));
    head.output("Capacity", lines, rows, blocks)
}

fn rows(head: &Head, lines: &[Line]) -> Table {
    let rows = lines.iter().map(|line| {
        let unit = unit(line);
        let trend = line.trend.as_ref();
        let per_day = |value: Option<f64>| value.map(|value| unit.say(value));
        let interval = trend.and_then(|trend| {
            Some(format!("{} to {}", per_day(trend.slope_low)?, per_day(trend.slope_high)?))
        });
        let change = trend.and_then(|trend| trend.change).map(|change| {
            format!(
                "{}: {} to {}",
                day(head, change.at),
                unit.say(change.before),
                unit.say(change.after)
            )
        });
        let crossing = line.crossing.map(|crossing| match crossing.already {
            true => "crossed already".to_owned(),
            false => day(head, crossing.at),
        });
        vec![
            Cell::plain(&line.server),
            Cell::plain(name(line)),
            or_dash(trend.map(|trend| unit.say(trend.level)).as_deref()),
            match trend.map(|trend| trend.direction) {
                Some(Direction::Rising) => Cell::plain("rising"),
                Some(Direction::Falling) => Cell::plain("falling"),
                Some(Direction::Steady) => Cell::toned("steady", Tone::Dim),
                Some(Direction::Unclear) | None => Cell::toned("too few days", Tone::Unknown),
            },
            or_dash(trend.and_then(|trend| per_day(Some(trend.slope_per_day))).as_deref()),
            or_dash(interval.as_deref()),
            or_dash(change.as_deref()),
            or_dash(line.limit.map(|limit| unit.say(limit.value)).as_deref()),
            or_dash(crossing.as_deref()),
        ]
    });
    table(
        &[
            "server",
            "figure",
            "now",
            "trend",
            "a day",
            "95 % interval",
            "change",
            "limit",
            "crossed",
        ],
        rows.collect(),
    )
}

fn chart(head: &Head, line: &Line) -> Block {
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
            Cell::plain(day(head, point.day.as_millisecond())),
            Cell::plain(format!("{:.3}", point.value)),
        ]
    });
    let mut period = head.period();
    period.from_ms = period.from_ms.max(first);
    Block::chart(Chart {
        title: format!("{}: {}", line.server, name(line)),
        description: line.trend.as_ref().map_or_else(
            || "Too few days for a trend.".to_owned(),
            |trend| {
                format!(
                    "{} days; now at {}, changing by {} a day.",
                    trend.points,
                    unit.say(trend.level),
                    unit.say(trend.slope_per_day)
                )
            },
        ),
        plot: Plot::Lines(Lines {
            period,
            unit,
            series: vec![Series { name: name(line), points, is_reckoned: false }],
            thresholds: thresholds.into_iter().collect(),
            band: None,
            marks: marks.into_iter().collect(),
        }),
        table: table(&["day (UTC)", line.unit], rows.collect()),
    })
}

fn day(head: &Head, at_ms: i64) -> String {
    instant(at_ms).to_zoned(head.zone.clone()).strftime("%F").to_string()
}

fn unit(line: &Line) -> Unit {
    match line.metric {
        Metric::Availability | Metric::ErrorRate => Unit::Percent,
        Metric::ResponseP50 | Metric::ResponseP95 => Unit::Milliseconds,
        Metric::AnswerBytes => Unit::Bytes,
    }
}

fn name(line: &Line) -> String {
    let what = match line.metric {
        Metric::Availability => "availability",
        Metric::ErrorRate => "error rate",
        Metric::ResponseP50 => "median response",
        Metric::ResponseP95 => "p95 response",
        Metric::AnswerBytes => "size of an answer",
    };
    match &line.check {
        Some(check) => format!("{what}, {check}"),
        None => what.to_owned(),
    }
}
