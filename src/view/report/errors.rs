//! `report errors`: what failed how often.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Head, percent, percent_text};
use crate::model::text::counted;
use crate::render::chart::{Bar, Bars, Chart, Plot};
use crate::render::{Block, Cell, Output, Tone};
use crate::report::Row;
use crate::stats::error::{Breakdown, Share};
use crate::view::human::{Column, headed, named, table};

/// One server's errors.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorRow {
    pub name: String,
    pub servers: usize,
    pub vendor: Option<String>,
    #[serde(flatten)]
    pub errors: Breakdown,
}

const COLUMNS: [Column; 5] = [
    ("server", "server"),
    ("by", "by"),
    ("what", "what"),
    ("samples", "samples"),
    ("share", "share"),
];

/// The report in every form.
#[must_use]
pub fn output(head: Head, rows: Vec<Row>) -> Output {
    let rows: Vec<ErrorRow> = rows
        .into_iter()
        .map(|row| ErrorRow {
            errors: row.figures.errors(),
            name: row.name,
            servers: row.servers,
            vendor: row.vendor,
        })
        .collect();
    let mut cells = Vec::new();
    for row in &rows {
        let mut add = |kind: &str, shares: &[Share]| {
            for share in shares {
                cells.push(vec![
                    Cell::plain(&row.name),
                    Cell::toned(kind, Tone::Dim),
                    Cell::plain(&share.name),
                    share.count.to_string().into(),
                    percent(Some(share.rate)),
                ]);
            }
        };
        add("reason code", &row.errors.by_code);
        add("HTTP class", &row.errors.by_http_class);
        add("HTTP status", &row.errors.by_http_status);
        add("FHIR issue", &row.errors.by_issue);
    }
    let all = headed(&COLUMNS, cells.clone());
    let overview = table(
        &["server", "samples", "failed", "warned", "not judged", "error rate"],
        rows.iter()
            .map(|row| {
                vec![
                    Cell::plain(&row.name),
                    row.errors.samples.to_string().into(),
                    row.errors.failed.to_string().into(),
                    row.errors.warned.to_string().into(),
                    row.errors.unknown.to_string().into(),
                    percent(row.errors.error_rate),
                ]
            })
            .collect(),
    );
    let mut blocks = vec![Block::Table(overview), Block::Blank];
    for row in rows.iter().filter(|row| !row.errors.by_code.is_empty()) {
        let bars = row.errors.by_code.iter().take(15).map(|share| Bar {
            label: share.name.clone(),
            value: share.count as f64,
            text: format!("{} ({})", share.count, percent_text(share.rate)),
            tone: Tone::Bad,
        });
        blocks.push(Block::chart(Chart {
            title: format!("{}: what was wrong", row.name),
            description: format!(
                "The most frequent of {} is {}, in {} of {} samples.",
                counted(row.errors.by_code.len(), "reason code"),
                row.errors.by_code[0].name,
                row.errors.by_code[0].count,
                row.errors.samples
            ),
            plot: Plot::Bars(Bars { bars: bars.collect() }),
            table: crate::render::Table {
                head: all.head.clone(),
                rows: all.rows.iter().filter(|cells| cells[0].text == row.name).cloned().collect(),
            },
        }));
    }
    head.output("Errors", rows, named(&COLUMNS, cells), blocks)
}
