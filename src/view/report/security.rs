//! `report security`: sign-ins refused, certificates, pins, addresses.

use super::Head;
use crate::render::{Block, Cell, Output, Tone};
use crate::report::SecurityEvent;
use crate::view::human::table;

/// The report in every form.
#[must_use]
pub fn output(head: Head, events: Vec<SecurityEvent>) -> Output {
    let rows = events.iter().map(|event| {
        vec![
            Cell::plain(&event.server),
            Cell::plain(&event.check),
            Cell::plain(&event.code),
            Cell::plain(head.clock(event.first)),
            match event.ended {
                Some(ended) => Cell::plain(head.clock(ended)),
                None => Cell::toned("lasts", Tone::Bad),
            },
            event.samples.to_string().into(),
            Cell::plain(&event.message),
        ]
    });
    let table =
        table(&["server", "check", "code", "first", "ended", "samples", "message"], rows.collect());
    let blocks = match events.is_empty() {
        true => vec![Block::text(
            "No sign-in was refused, and no certificate, pin or address was wrong.",
        )],
        false => vec![Block::Table(table.clone())],
    };
    head.output("Security events", events, table, blocks)
}
