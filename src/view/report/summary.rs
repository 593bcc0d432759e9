//! `report summary`: every server in a line.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Head, percent, percent_text};
use crate::render::chart::{Bar, Bars, Chart, Plot};
use crate::render::{Block, Cell, Output, Table, Tone};
use crate::report::{LEAST_COVERAGE, Row};
use crate::stats::latency::Latency;
use crate::stats::uptime::Totals;
use crate::view::human::{Column, headed, lasting, length, named, table, took};

/// One server, or servers added up.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SummaryRow {
    pub name: String,
    /// How many servers are added up.
    pub servers: usize,
    pub vendor: Option<String>,
    pub readings: u64,
    /// From 0 to 1; null when nothing is known.
    pub availability: Option<f64>,
    pub coverage: Option<f64>,
    /// Whether enough is known to say (95 %).
    pub covered: bool,
    pub times: Totals,
    pub samples: u64,
    /// Failed ÷ samples, from 0 to 1.
    pub error_rate: Option<f64>,
    /// Of all checks together.
    pub latency: Option<Latency>,
}

const COLUMNS: [Column; 11] = [
    ("server", "server"),
    ("availability", "availability"),
    ("coverage", "coverage"),
    ("down", "down_ms"),
    ("degraded", "degraded_ms"),
    ("planned", "maintenance_ms"),
    ("errors", "error_rate"),
    ("p50", "p50_ms"),
    ("p95", "p95_ms"),
    ("p99", "p99_ms"),
    ("readings", "readings"),
];

/// The report in every form.
#[must_use]
pub fn output(head: Head, rows: Vec<Row>) -> Output {
    let rows: Vec<SummaryRow> = rows.into_iter().map(SummaryRow::of).collect();
    let cells = rows.iter().map(|row| {
        let p = |pick: fn(&Latency) -> f64| match &row.latency {
            Some(latency) => took(pick(latency)),
            None => Cell::nothing(),
        };
        vec![
            Cell::plain(&row.name),
            row.availability_cell(),
            percent(row.coverage),
            lasting(row.times.down_ms),
            lasting(row.times.degraded_ms),
            lasting(row.times.maintenance_ms),
            percent(row.error_rate),
            p(|latency| latency.p50_ms),
            p(|latency| latency.p95_ms),
            p(|latency| latency.p99_ms),
            row.readings.to_string().into(),
        ]
    });
    let cells: Vec<Vec<Cell>> = cells.collect();
    let table = headed(&COLUMNS, cells.clone());
    let mut blocks = vec![Block::Table(table)];
    let worst = worst(&rows);
    if !worst.is_empty() {
        blocks.push(Block::chart(Chart {
            title: "Time down".to_owned(),
            description: format!(
                "{} down for a time; the longest was {}, for {}.",
                match worst.len() {
                    1 => "1 server was".to_owned(),
                    many => format!("{many} servers were"),
                },
                worst[0].name,
                length(worst[0].times.down_ms)
            ),
            plot: Plot::Bars(Bars { bars: worst.iter().take(20).map(|row| bar(row)).collect() }),
            table: down_table(&worst),
        }));
    }
    head.output("Summary", rows, named(&COLUMNS, cells), blocks)
}

fn down_table(worst: &[&SummaryRow]) -> Table {
    let rows = worst.iter().map(|row| {
        vec![Cell::plain(&row.name), lasting(row.times.down_ms), percent(row.availability)]
    });
    table(&["server", "down", "availability"], rows.collect())
}

fn worst(rows: &[SummaryRow]) -> Vec<&SummaryRow> {
    let mut worst: Vec<&SummaryRow> = rows.iter().filter(|row| row.times.down_ms > 0).collect();
    worst.sort_by_key(|row| std::cmp::Reverse(row.times.down_ms));
    worst
}

fn bar(row: &SummaryRow) -> Bar {
    Bar {
        label: row.name.clone(),
        value: row.times.down_ms as f64,
        text: match row.availability {
            Some(share) => format!("{} ({})", length(row.times.down_ms), percent_text(share)),
            None => length(row.times.down_ms),
        },
        tone: Tone::Bad,
    }
}

impl SummaryRow {
    fn of(row: Row) -> SummaryRow {
        let times = row.figures.times().clone();
        let errors = row.figures.errors();
        let coverage = times.coverage();
        SummaryRow {
            availability: times.availability(),
            coverage,
            covered: coverage.is_some_and(|coverage| coverage >= LEAST_COVERAGE),
            readings: row.figures.rollup.readings,
            samples: errors.samples,
            error_rate: errors.error_rate,
            latency: row.figures.latency(),
            name: row.name,
            servers: row.servers,
            vendor: row.vendor,
            times,
        }
    }

    fn availability_cell(&self) -> Cell {
        let mut cell = percent(self.availability);
        if self.availability.is_some() && !self.covered {
            cell.tone = Tone::Unknown;
            cell.text.push_str(" ?");
        }
        cell
    }
}
