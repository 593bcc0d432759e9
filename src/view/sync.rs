//! What `sync` shows: what came, what went, and what the directory holds now.

use serde_json::{Value, json};

use super::human::{duration, facts, table};
use crate::bulk::export::Report;
use crate::bulk::sync::{Applied, Pending};
use crate::model::Exit;
use crate::render::{Block, Cell, Output, Row, Tone};

/// The end of a run; without `applied` the directory is as it was.
#[must_use]
pub fn output(
    place: &str,
    current: &str,
    run: &Pending,
    report: &Report,
    applied: Option<&Applied>,
    exit: Exit,
) -> Output {
    let counts = applied.map(|applied| applied.counts.clone()).unwrap_or_default();
    let types: Vec<Value> =
        counts.iter().map(|(name, count)| json!({ "type": name, "count": count })).collect();
    let kind = if run.since.is_some() { "incremental" } else { "full" };
    let json = json!({
        "schema": "fhirctl/sync/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "server": report.identity.server,
        "output_dir": place,
        "run": run.number,
        "kind": kind,
        "since": run.since,
        "transaction_time": report.conclusion.transaction_time,
        "status": report.conclusion.status.as_str(),
        "applied": applied.is_some(),
        "exit_code": exit.0,
        "received": applied.map(|applied| applied.received),
        "deleted": applied.map(|applied| applied.deleted),
        "types": types,
        "findings": report.findings,
        "current": current,
        "duration_ms": report.conclusion.duration_ms,
    });
    let rows: Vec<Row> = counts
        .iter()
        .map(|(name, count)| vec![Cell::plain(name), count.to_string().into()])
        .collect();
    let mut document = vec![Block::Text(match applied {
        Some(_) => vec![
            Cell::plain(format!("{place} is ")),
            Cell::toned("current", Tone::Good),
            Cell::plain(" with "),
            Cell::plain(&report.identity.server),
            Cell::plain("."),
        ],
        None => vec![
            Cell::plain(format!("{place} is as it was: the export is ")),
            Cell::toned(report.conclusion.status.as_str().replace('_', " "), Tone::Bad),
            Cell::plain("."),
        ],
    })];
    document.push(Block::Blank);
    document.push(facts([
        ("run", Some(Cell::plain(format!("{} ({kind})", run.number)))),
        ("as of", report.conclusion.transaction_time.as_ref().map(Cell::plain)),
        ("received", applied.map(|applied| Cell::plain(applied.received.to_string()))),
        ("deleted", applied.map(|applied| Cell::plain(applied.deleted.to_string()))),
        ("took", Some(Cell::plain(duration(report.conclusion.duration_ms as f64)))),
    ]));
    if !rows.is_empty() {
        document.extend([Block::Blank, Block::Table(table(&["type", "resources"], rows.clone()))]);
    }
    if applied.is_none() {
        let receipt = report.identity.place_of(crate::bulk::receipt::NAME);
        document.push(Block::Blank);
        document.push(Block::text(format!("What is wrong stands in {receipt}.")));
    }
    Output { json, document, rows: Some(table(&["type", "resources"], rows)), ..Output::default() }
}
