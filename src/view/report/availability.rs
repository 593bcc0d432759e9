//! `report availability`: how long servers were there, day by day.

use super::incident::{outage_table, timeline};
use super::{Head, percent, percent_text};
use crate::render::chart::{Chart, Held, Plot, Strip, StripCell, StripRow};
use crate::render::{Block, Cell, Output, Row, Tone};
use crate::report::{Availability, DayFigures};
use crate::stats::uptime::Totals;
use crate::view::human::{Column, headed, lasting, length, named, table};

const COLUMNS: [Column; 11] = [
    ("server", "server"),
    ("availability", "availability"),
    ("coverage", "coverage"),
    ("up", "up_ms"),
    ("degraded", "degraded_ms"),
    ("down", "down_ms"),
    ("planned", "maintenance_ms"),
    ("unknown", "unknown_ms"),
    ("outages", "outages"),
    ("MTTR", "mttr_ms"),
    ("MTBF", "mtbf_ms"),
];

/// The report in every form.
#[must_use]
pub fn output(head: Head, all: Vec<Availability>) -> Output {
    let rows = all.iter().map(|one| {
        let mut availability = percent(one.availability);
        if one.availability.is_some() && !one.covered {
            availability.text.push_str(" ?");
            availability.tone = Tone::Unknown;
        }
        let mean = |ms: Option<f64>| match ms {
            // A float is clamped by the cast.
            Some(ms) => lasting(ms.round() as i64),
            None => Cell::nothing(),
        };
        vec![
            Cell::plain(&one.server),
            availability,
            percent(one.coverage),
            lasting(one.totals.up_ms),
            lasting(one.totals.degraded_ms),
            lasting(one.totals.down_ms),
            lasting(one.totals.maintenance_ms),
            lasting(one.totals.unknown_ms),
            one.outages.count.to_string().into(),
            mean(one.outages.mttr_ms),
            mean(one.outages.mtbf_ms),
        ]
    });
    let rows: Vec<Row> = rows.collect();
    let summary = headed(&COLUMNS, rows.clone());
    let mut blocks = vec![Block::Table(summary.clone()), Block::Blank];
    if all.iter().any(|one| !one.days.is_empty()) {
        blocks.push(Block::chart(strip(&head, &all)));
    }
    let outages: Vec<_> = all.iter().flat_map(|one| one.incidents.iter().cloned()).collect();
    if outages.is_empty() {
        blocks.push(Block::text("No outage was seen."));
    } else {
        let names: Vec<&str> = all.iter().map(|one| one.server.as_str()).collect();
        blocks.push(Block::chart(timeline(&head, "Outages", &names, &outages)));
        blocks.push(Block::Table(outage_table(&head, &outages)));
    }
    head.output("Availability", all, named(&COLUMNS, rows), blocks)
}

/// A cell a day, a row a server.
pub(super) fn strip(head: &Head, all: &[Availability]) -> Chart {
    let mut rows = Vec::new();
    for one in all {
        for day in &one.days {
            rows.push(vec![
                Cell::plain(&one.server),
                Cell::plain(day.date.to_string()),
                percent(day.availability),
                lasting(day.totals.down_ms),
                lasting(day.totals.degraded_ms),
                lasting(day.totals.maintenance_ms),
                lasting(day.totals.unknown_ms),
            ]);
        }
    }
    let down: i64 = all.iter().map(|one| one.totals.down_ms).sum();
    Chart {
        title: "Day by day".to_owned(),
        description: format!(
            "One cell a day and one row a server; all together were down for {}.",
            length(down)
        ),
        plot: Plot::Strip(Strip {
            zone: head.zone.clone(),
            rows: all
                .iter()
                .map(|one| StripRow {
                    label: one.server.clone(),
                    summary: one.availability.map_or_else(|| "-".to_owned(), percent_text),
                    cells: one.days.iter().map(cell).collect(),
                })
                .collect(),
        }),
        table: table(
            &["server", "day", "availability", "down", "degraded", "planned", "unknown"],
            rows,
        ),
    }
}

fn cell(day: &DayFigures) -> StripCell {
    let told = |what: &str, ms: i64| (ms > 0).then(|| format!("{what} for {}", length(ms)));
    let parts = [
        day.availability.map(percent_text),
        told("down", day.totals.down_ms),
        told("degraded", day.totals.degraded_ms),
        told("planned work", day.totals.maintenance_ms),
        told("not known", day.totals.unknown_ms),
    ];
    StripCell {
        label: day.date.strftime("%-d %b").to_string(),
        held: held(&day.totals),
        text: parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
    }
}

fn held(totals: &Totals) -> Held {
    let ms = |ms: i64| u64::try_from(ms).unwrap_or(0);
    Held {
        up: ms(totals.up_ms),
        degraded: ms(totals.degraded_ms),
        down: ms(totals.down_ms),
        unknown: ms(totals.unknown_ms),
        maintenance: ms(totals.maintenance_ms),
    }
}
