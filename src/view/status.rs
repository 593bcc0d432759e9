//! `status`: how every server stands, from history alone.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::bulk_export::Line;
use super::human::{or_dash, status, table};
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
    let names =
        ["server", "status", "since", "seen", "party", "reason", "budget left", "what is wrong"];
    let overview = table(&names, rows);
    let mut blocks = vec![Block::Table(overview.clone())];
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
        rows: Some(overview),
        document: blocks,
        ..Output::default()
    }
}

fn row(one: &Standing, now: Timestamp) -> Row {
    let ago = |at: Option<Timestamp>| at.map(|at| age(now.as_millisecond() - at.as_millisecond()));
    let state = match one.state {
        State::Active => status(one.status),
        State::Maintenance => Cell::toned("maintenance", Tone::Dim),
        State::Inactive => Cell::toned("inactive", Tone::Dim),
    };
    let left = one.budget.as_ref().and_then(|budget| {
        let (left, whole) = (budget.remaining_ms?, budget.budget_ms.filter(|whole| *whole > 0)?);
        let text = format!("{:.0} %", left as f64 / whole as f64 * 100.0);
        Some(Cell::toned(text, if left < 0 { Tone::Bad } else { Tone::Plain }))
    });
    let message = match (one.stale, &one.message) {
        (true, _) => Some("not looked at for longer than its schedule says".to_owned()),
        (false, message) if one.status != Status::Healthy => message.clone(),
        _ => None,
    };
    vec![
        Cell::plain(&one.server),
        state,
        or_dash(ago(one.since).as_deref()),
        or_dash(ago(one.last_seen).as_deref()),
        or_dash(one.party.map(|party| party.as_str())),
        or_dash(one.code.as_deref()),
        left.unwrap_or_else(|| Cell::toned("-", Tone::Dim)),
        Cell::plain(message.unwrap_or_default()),
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
