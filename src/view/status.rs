//! `status`: how every server stands, from history alone.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::bulk_export::Line;
use super::human::{Column, headed, named, or_dash, status, table};
use crate::model::{State, Status};
use crate::render::{Block, Cell, Output, Row, Tone};
use crate::report::Standing;

/// What the document says of itself.
pub struct Head {
    pub generated_at: Timestamp,
    pub inventory: String,
    /// Where the history is, without a credential.
    pub history: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct StatusDocument {
    /// `fhirctl/status/v1`
    pub schema: &'static str,
    pub fhirctl_version: &'static str,
    pub generated_at: Timestamp,
    pub inventory: String,
    pub history: String,
    /// The worst of the active servers.
    pub status: Status,
    pub servers: Vec<Standing>,
    /// Exports that are not over, as `bulk-export list` tells them.
    pub exports: Vec<Value>,
}

const COLUMNS: [Column; 8] = [
    ("server", "server"),
    ("status", "status"),
    ("since", "since"),
    ("seen", "last_seen"),
    ("party", "party"),
    ("reason", "code"),
    ("budget left", "budget_left"),
    ("what is wrong", "message"),
];

/// The state of affairs in every form.
#[must_use]
pub fn output(head: &Head, servers: Vec<Standing>, exports: &[Line]) -> Output {
    let active = servers.iter().filter(|one| one.state == State::Active);
    let document = StatusDocument {
        schema: "fhirctl/status/v1",
        fhirctl_version: super::FHIRCTL_VERSION,
        generated_at: head.generated_at,
        inventory: head.inventory.clone(),
        history: head.history.clone(),
        status: Status::worst(active.map(|one| one.status)),
        exports: exports.iter().map(Line::json).collect(),
        servers,
    };
    let rows: Vec<Row> = document.servers.iter().map(|one| row(one, head.generated_at)).collect();
    let mut blocks = vec![Block::Table(headed(&COLUMNS, rows.clone()))];
    if !exports.is_empty() {
        let lines = exports.iter().map(|line| {
            vec![
                Cell::plain(&line.identity.server),
                Cell::plain(line.phase),
                Cell::plain(format!("{}/{}", line.totals.files_done, line.totals.files)),
                Cell::plain(line.identity.place()),
            ]
        });
        blocks.push(Block::Blank);
        blocks.push(Block::Heading("Exports that are not over".to_owned()));
        blocks.push(Block::Table(table(&["server", "phase", "files", "folder"], lines.collect())));
    }
    Output {
        json: serde_json::to_value(document).unwrap_or_default(),
        rows: Some(named(&COLUMNS, rows)),
        ticket: Some(blocks.clone()),
        document: blocks,
        ..Output::default()
    }
}

fn row(one: &Standing, now: Timestamp) -> Row {
    let ago = |at: Option<Timestamp>| {
        at.map_or_else(Cell::nothing, |at| {
            Cell::plain(age(now.as_millisecond() - at.as_millisecond())).with_data(at)
        })
    };
    let state = match one.state {
        State::Active => status(one.status),
        State::Maintenance => Cell::toned("maintenance", Tone::Dim),
        State::Inactive => Cell::toned("inactive", Tone::Dim),
    };
    let left = one.budget.as_ref().and_then(|budget| {
        let (left, whole) = (budget.remaining_ms?, budget.budget_ms.filter(|whole| *whole > 0)?);
        let share = left as f64 / whole as f64;
        // Rounded down: nothing left looks like some.
        let text = format!("{:.1} %", (share * 1000.0).floor() / 10.0);
        let tone = if left < 0 { Tone::Bad } else { Tone::Plain };
        Some(Cell::toned(text, tone).with_data(share))
    });
    let future = one.future.map(|at| format!("there are readings of the future, up to {at}"));
    let message = match (one.stale, &one.message) {
        (true, _) => Some("not looked at for longer than its schedule says".to_owned()),
        (false, message) if one.status != Status::Healthy => message.clone(),
        _ => None,
    };
    let message: Vec<String> = message.into_iter().chain(future).collect();
    vec![
        Cell::plain(&one.server),
        state,
        ago(one.since),
        ago(one.last_seen),
        or_dash(one.party.map(|party| party.as_str())),
        or_dash(one.code.as_deref()),
        left.unwrap_or_else(Cell::nothing),
        Cell::plain(message.join("; ")),
    ]
}

/// How long ago, in the largest unit: `40 s`, `3 h`, `12 d`.
fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
