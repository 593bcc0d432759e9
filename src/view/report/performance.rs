//! `report performance`: how long answers took.

use schemars::JsonSchema;
use serde::Serialize;

use super::Head;
use crate::render::{Block, Cell, Output, Tone};
use crate::report::{CheckLatency, Row};
use crate::stats::latency::Latency;
use crate::view::human::{duration, table};

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
}

/// The report in every form.
#[must_use]
pub fn output(head: Head, rows: Vec<Row>) -> Output {
    let rows: Vec<PerformanceRow> = rows
        .into_iter()
        .map(|row| PerformanceRow {
            overall: row.figures.latency(),
            checks: row.figures.latencies(),
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
                cell.push(Cell::plain(duration(ms)));
            }
            cells.push(cell);
        }
    }
    let head_row =
        ["server", "check", "phase", "samples", "mean", "min", "p50", "p90", "p95", "p99", "max"];
    let table = table(&head_row, cells);
    let blocks = vec![
        Block::Table(table.clone()),
        Block::Text(vec![Cell::toned(
            "Percentiles follow the nearest rank; those of whole hours come from sketches and are within 1 %.",
            Tone::Dim,
        )]),
    ];
    head.output("Response times", rows, table, blocks)
}
