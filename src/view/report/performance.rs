//! `report performance`: how long answers took.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Head;
use crate::render::chart::{Chart, Lines, Plot, Point, Series, Unit};
use crate::render::{Block, Cell, Output, Tone};
use crate::report::{CheckLatency, Row, instant, step_ms};
use crate::stats::latency::Latency;
use crate::view::human::{Column, duration, headed, named, table, took};

/// One server's response times.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PerformanceRow {
    pub name: String,
    pub servers: usize,
    pub vendor: Option<String>,
    /// Of all checks together.
    pub overall: Option<Latency>,
    /// By check and phase.
    pub checks: Vec<CheckLatency>,
    /// Of all checks together, by hour for windows of up to three days and by day (UTC) for longer
    /// ones; those without an answer are left out.
    pub over_time: Vec<Moment>,
}

/// The response times of an hour or a day.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Moment {
    /// Its beginning.
    pub at: Timestamp,
    pub count: u64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
}

const COLUMNS: [Column; 11] = [
    ("server", "server"),
    ("check", "check"),
    ("phase", "phase"),
    ("samples", "samples"),
    ("mean", "mean_ms"),
    ("min", "min_ms"),
    ("p50", "p50_ms"),
    ("p90", "p90_ms"),
    ("p95", "p95_ms"),
    ("p99", "p99_ms"),
    ("max", "max_ms"),
];

/// The report in every form.
#[must_use]
pub fn output(head: Head, rows: Vec<Row>) -> Output {
    let rows: Vec<PerformanceRow> = rows
        .into_iter()
        .map(|row| PerformanceRow {
            overall: row.figures.latency(),
            checks: row.figures.latencies(),
            over_time: moments(&row),
            name: row.name,
            servers: row.servers,
            vendor: row.vendor,
        })
        .collect();
    let mut cells = Vec::new();
    for row in &rows {
        for line in &row.checks {
            let mut cell = vec![
                Cell::plain(&row.name),
                Cell::plain(&line.check),
                match line.phase == "total" {
                    true => Cell::plain(&line.phase),
                    false => Cell::toned(line.phase.clone(), Tone::Dim),
                },
                line.latency.count.to_string().into(),
            ];
            let l = &line.latency;
            for ms in [l.mean_ms, l.min_ms, l.p50_ms, l.p90_ms, l.p95_ms, l.p99_ms, l.max_ms] {
                cell.push(took(ms));
            }
            cells.push(cell);
        }
    }
    let mut blocks = vec![Block::Table(headed(&COLUMNS, cells.clone()))];
    let charts = rows.iter().filter(|row| row.over_time.len() > 1);
    blocks.extend(charts.map(|row| Block::chart(chart(&head, row))));
    blocks.push(
        Block::Text(vec![Cell::toned(
            "Percentiles follow the nearest rank; those of whole hours come from sketches and are within 1 %.",
            Tone::Dim,
        )]),
    );
    head.output("Response times", rows, named(&COLUMNS, cells), blocks)
}

fn moments(row: &Row) -> Vec<Moment> {
    let parts = row.figures.over_time.iter();
    let moments = parts.filter_map(|(at, part)| {
        let latency = part.latency()?;
        Some(Moment {
            at: instant(*at),
            count: latency.count,
            p50_ms: latency.p50_ms,
            p95_ms: latency.p95_ms,
            p99_ms: latency.p99_ms,
        })
    });
    moments.collect()
}

fn chart(head: &Head, row: &PerformanceRow) -> Chart {
    let step = step_ms(head.window);
    let by_hour = step < 86_400_000;
    let moments = &row.over_time;
    let mut period = head.period();
    if let (Some(first), Some(last)) = (moments.first(), moments.last()) {
        period.from_ms = first.at.as_millisecond();
        period.until_ms = last.at.as_millisecond();
    }
    let series = |name: &str, pick: fn(&Moment) -> f64| Series {
        name: name.to_owned(),
        points: points(moments, step, pick),
        is_reckoned: false,
    };
    let series = [
        series("p50", |moment| moment.p50_ms),
        series("p95", |moment| moment.p95_ms),
        series("p99", |moment| moment.p99_ms),
    ];
    let told = |at: Timestamp| {
        let form = if by_hour { "%F %H:%M" } else { "%F" };
        at.strftime(form).to_string()
    };
    let rows = moments.iter().map(|moment| {
        vec![
            Cell::plain(told(moment.at)),
            moment.count.to_string().into(),
            took(moment.p50_ms),
            took(moment.p95_ms),
            took(moment.p99_ms),
        ]
    });
    Chart {
        title: format!("{}: response times", row.name),
        description: description(row, if by_hour { "hour" } else { "day" }, told),
        plot: Plot::Lines(Lines {
            period,
            unit: Unit::Milliseconds,
            series: series.into(),
            thresholds: Vec::new(),
            band: None,
            marks: Vec::new(),
        }),
        table: table(
            &[if by_hour { "hour (UTC)" } else { "day (UTC)" }, "samples", "p50", "p95", "p99"],
            rows.collect(),
        ),
    }
}

/// Figures in order of time, with a gap where there is none for an hour or a day.
fn points(moments: &[Moment], step: i64, pick: fn(&Moment) -> f64) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(moments.len());
    for moment in moments {
        let at_ms = moment.at.as_millisecond();
        let last = points.last().map(|last| last.at_ms);
        if let Some(last) = last.filter(|last| at_ms - last > step) {
            points.push(Point { at_ms: last + step, value: None });
        }
        points.push(Point { at_ms, value: Some(pick(moment)) });
    }
    points
}

fn description(row: &PerformanceRow, part: &str, told: impl Fn(Timestamp) -> String) -> String {
    let slowest = row.over_time.iter().max_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms));
    let (Some(overall), Some(slowest)) = (&row.overall, slowest) else { return String::new() };
    format!(
        "Percentiles of all checks by {part}; over all p50 is {}, p95 {} and p99 {}. The highest p99 was {} ({}).",
        duration(overall.p50_ms),
        duration(overall.p95_ms),
        duration(overall.p99_ms),
        duration(slowest.p99_ms),
        told(slowest.at)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_drawn_over_an_hour_without_an_answer() {
        let moments = [0, 1, 3].map(|hour| Moment {
            at: instant(hour * 3_600_000),
            count: 1,
            p50_ms: 1.0,
            p95_ms: 2.0,
            p99_ms: 3.0,
        });
        let points = points(&moments, 3_600_000, |moment| moment.p95_ms);
        let hours = points.iter().map(|point| (point.at_ms / 3_600_000, point.value));
        let wanted = [(0, Some(2.0)), (1, Some(2.0)), (2, None), (3, Some(2.0))];
        assert_eq!(hours.collect::<Vec<_>>(), wanted);
    }
}
