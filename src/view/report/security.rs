//! `report security`: sign-ins refused, certificates, pins, addresses.

use super::Head;
use crate::render::{Block, Cell, Output, Row, Tone};
use crate::report::SecurityEvent;
use crate::view::human::{Column, headed, named};

const COLUMNS: [Column; 7] = [
    ("server", "server"),
    ("check", "check"),
    ("code", "code"),
    ("first", "first"),
    ("ended", "ended"),
    ("samples", "samples"),
    ("message", "message"),
];

/// The report in every form.
#[must_use]
pub fn output(head: Head, events: Vec<SecurityEvent>) -> Output {
    let rows = events.iter().map(|event| {
        vec![
            Cell::plain(&event.server),
            Cell::plain(&event.check),
            Cell::plain(&event.code),
            head.at(event.first),
            match event.ended {
                Some(ended) => head.at(ended),
                None => Cell::toned("lasts", Tone::Bad).with_data(""),
            },
            event.samples.to_string().into(),
            Cell::plain(&event.message),
        ]
    });
    let rows: Vec<Row> = rows.collect();
    let blocks = match events.is_empty() {
        true => vec![Block::text(
            "No sign-in was refused, and no certificate, pin or address was wrong.",
        )],
        false => vec![Block::Table(headed(&COLUMNS, rows.clone()))],
    };
    head.output("Security events", events, named(&COLUMNS, rows), blocks)
}
