//! `incidents`: outages, and what was written of them.

use jiff::tz::TimeZone;
use serde_json::json;

use super::human::{or_dash, table};
use crate::history::Note;
use crate::render::{Block, Cell, Output, Tone};
use crate::report::{Outage, instant};
use crate::stats::span::Span;

/// Outages of a window.
#[must_use]
pub fn list(zone: &TimeZone, window: Span, outages: &[Outage]) -> Output {
    let clock = |at: jiff::Timestamp| at.to_zoned(zone.clone()).strftime("%F %T").to_string();
    let rows = outages.iter().map(|outage| {
        vec![
            Cell::plain(&outage.id),
            match outage.until {
                Some(until) => Cell::plain(clock(until)),
                None => Cell::toned("open", Tone::Bad),
            },
            Cell::plain(super::human::duration(outage.duration_ms as f64)),
            Cell::plain(outage.party.map_or("undetermined", |party| party.as_str())),
            or_dash(outage.code.as_deref()),
            or_dash(outage.cause.as_deref()),
            or_dash(outage.case_number.as_deref()),
            Cell::plain(if outage.closed { "closed" } else { "" }),
        ]
    });
    let head = ["incident", "until", "lasted", "party", "reason", "cause", "case", "state"];
    let table = table(&head, rows.collect());
    let document = match outages.is_empty() {
        true => vec![Block::text("No outage was seen.")],
        false => vec![Block::Table(table.clone())],
    };
    let json = json!({
        "schema": "fhirctl/incidents/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "window": {"from": instant(window.from), "to": instant(window.to)},
        "incidents": outages,
    });
    Output { json, rows: Some(table), document, ..Output::default() }
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
