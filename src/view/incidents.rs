//! `incidents`: outages, and what was written of them.

use jiff::tz::TimeZone;
use serde_json::json;

use super::human::{Column, clock, headed, lasting, named, or_dash};
use crate::history::Note;
use crate::render::{Block, Cell, Output, Row, Tone};
use crate::report::{Outage, instant};
use crate::stats::span::Span;

const COLUMNS: [Column; 8] = [
    ("incident", "incident"),
    ("until", "until"),
    ("lasted", "duration_ms"),
    ("party", "party"),
    ("reason", "code"),
    ("cause", "cause"),
    ("case", "case_number"),
    ("state", "state"),
];

/// Outages of a window.
#[must_use]
pub fn list(zone: &TimeZone, window: Span, outages: &[Outage]) -> Output {
    let rows = outages.iter().map(|outage| {
        vec![
            Cell::plain(&outage.id),
            match outage.until {
                Some(until) => Cell::plain(clock(until, zone)).with_data(until),
                None => Cell::toned("open", Tone::Bad).with_data(""),
            },
            lasting(outage.duration_ms),
            Cell::plain(outage.party.map_or("undetermined", |party| party.as_str())),
            or_dash(outage.code.as_deref()),
            or_dash(outage.cause.as_deref()),
            or_dash(outage.case_number.as_deref()),
            Cell::plain(if outage.closed { "closed" } else { "" }),
        ]
    });
    let rows: Vec<Row> = rows.collect();
    let document = match outages.is_empty() {
        true => vec![Block::text("No outage was seen.")],
        false => vec![Block::Table(headed(&COLUMNS, rows.clone()))],
    };
    let json = json!({
        "schema": "fhirctl/incidents/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "window": {"from": instant(window.from), "to": instant(window.to)},
        "incidents": outages,
    });
    Output {
        json,
        rows: Some(named(&COLUMNS, rows)),
        ticket: Some(document.clone()),
        document,
        ..Output::default()
    }
}

/// What was kept.
#[must_use]
pub fn kept(incident: &str, note: &Note) -> Output {
    let json = json!({
        "schema": "fhirctl/incidents-note/v1",
        "incident": incident,
        "server": note.server,
        "kind": note.kind.as_str(),
        "author": note.author,
        "written_at": note.written_at,
        "cause": note.cause,
        "party": note.party,
        "case_number": note.case_number,
        "text": note.text,
    });
    let text = match note.kind {
        crate::history::NoteKind::Close => format!("{incident} is closed."),
        _ => format!("Kept about {incident}."),
    };
    Output { json, document: vec![Block::text(text)], ..Output::default() }
}
