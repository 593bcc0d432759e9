//! `report incident` and the outages of other reports.

use super::Head;
use crate::model::Party;
use crate::render::chart::{Chart, Condition, Lane, LaneSpan, Plot, Timeline};
use crate::render::{Block, Cell, Output, Row, Table, Tone};
use crate::report::{Evidence, NoteFigures, Outage};
use crate::view::human::{count, lasting, length, or_dash, table};

/// The report in every form.
#[must_use]
pub fn output(head: Head, outages: Vec<Outage>) -> Output {
    let mut blocks = Vec::new();
    if outages.is_empty() {
        blocks.push(Block::text("No outage was seen."));
    } else {
        let mut names: Vec<&str> = outages.iter().map(|outage| outage.server.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        blocks.push(Block::chart(timeline(&head, "Outages", &names, &outages)));
        blocks.push(Block::Table(outage_table(&head, &outages)));
        for outage in &outages {
            blocks.push(Block::section(outage.id.clone(), told(&head, outage)));
        }
    }
    let rows = table(&COLUMNS, outages.iter().map(record).collect());
    head.output("Incidents", outages, rows, blocks)
}

const COLUMNS: [&str; 24] = [
    "incident",
    "server",
    "from",
    "until",
    "duration_ms",
    "down_ms",
    "unknown_ms",
    "maintenance_ms",
    "party",
    "party_seen",
    "party_changed_by",
    "code",
    "readings",
    "closed",
    "cause",
    "case_number",
    "check",
    "message",
    "http_status",
    "request_id",
    "server_request_id",
    "remote_address",
    "last_seen",
    "notes",
];

/// What a program reads of an outage, with the evidence of its first reading.
fn record(outage: &Outage) -> Row {
    let party = |party: Option<Party>| party.map(|party| party.as_str().to_owned());
    let first = outage.first.as_ref();
    let notes: Vec<String> = outage
        .notes
        .iter()
        .map(|note| format!("{} {}: {}", note.written_at, note.author, words(note)))
        .collect();
    let cells = [
        Some(outage.id.clone()),
        Some(outage.server.clone()),
        Some(outage.from.to_string()),
        outage.until.map(|until| until.to_string()),
        Some(outage.duration_ms.to_string()),
        Some(outage.bad_ms.to_string()),
        Some(outage.unknown_ms.to_string()),
        Some(outage.maintenance_ms.to_string()),
        party(outage.party),
        party(outage.party_seen),
        outage.party_changed.as_ref().map(|change| change.by.clone()),
        outage.code.clone(),
        Some(outage.readings.to_string()),
        Some(outage.closed.to_string()),
        outage.cause.clone(),
        outage.case_number.clone(),
        first.map(|evidence| evidence.check.clone()),
        first.map(|evidence| evidence.message.clone()),
        first.and_then(|evidence| evidence.http_status).map(|status| status.to_string()),
        first.and_then(|evidence| evidence.request_id.clone()),
        first.and_then(|evidence| evidence.server_request_id.clone()),
        first.and_then(|evidence| evidence.remote_address.clone()),
        outage.last.as_ref().map(|evidence| evidence.at.to_string()),
        Some(notes.join("; ")),
    ];
    cells.map(|cell| cell.map_or_else(Cell::nothing, Cell::plain)).into()
}

/// An outage in all that is known of it.
fn told(head: &Head, outage: &Outage) -> Vec<Block> {
    let mut facts: Vec<(String, Cell)> = vec![
        ("from".into(), Cell::plain(head.clock(outage.from))),
        ("until".into(), until(head, outage)),
        ("lasted".into(), Cell::plain(length(outage.duration_ms))),
        ("party".into(), party(outage)),
        ("reason".into(), or_dash(outage.code.as_deref())),
        ("readings".into(), outage.readings.to_string().into()),
    ];
    let mut may = |name: &str, text: Option<String>| {
        if let Some(text) = text {
            facts.push((name.to_owned(), Cell::plain(text)));
        }
    };
    may("not known", (outage.unknown_ms > 0).then(|| length(outage.unknown_ms)));
    may(
        "may have begun earlier",
        outage.begin_uncertainty_ms.map(|ms| format!("by {}", length(ms))),
    );
    may("may have ended earlier", outage.end_uncertainty_ms.map(|ms| format!("by {}", length(ms))));
    may("cause", outage.cause.clone());
    may("vendor's case", outage.case_number.clone());
    may("closed", outage.closed.then(|| "yes".to_owned()));
    let mut blocks = vec![Block::Facts(facts)];
    let seen: Vec<_> = [("first seen", &outage.first), ("last seen", &outage.last)]
        .into_iter()
        .filter_map(|(what, evidence)| Some(evidence_row(head, what, evidence.as_ref()?)))
        .collect();
    if !seen.is_empty() {
        let columns = ["", "at", "check", "message", "HTTP", "request id", "address"];
        blocks.push(Block::Table(table(&columns, seen)));
    }
    if let Some(change) = changed(head, outage) {
        blocks.push(Block::text(change));
    }
    for note in &outage.notes {
        let (at, words) = (head.clock(note.written_at), words(note));
        blocks.push(Block::text(format!("{at}, {} ({}): {words}", note.author, note.kind)));
    }
    blocks
}

/// All that a note says.
pub(super) fn words(note: &NoteFigures) -> String {
    let parts = [
        note.cause.as_ref().map(|cause| format!("cause {cause}")),
        note.party.map(|party| format!("party {}", party.as_str())),
        note.case_number.as_ref().map(|number| format!("case {number}")),
        (!note.text.is_empty()).then(|| note.text.clone()),
    ];
    let said: Vec<String> = parts.into_iter().flatten().collect();
    if said.is_empty() { "nothing further".to_owned() } else { said.join("; ") }
}

/// That people say another party than the readings.
pub(super) fn changed(head: &Head, outage: &Outage) -> Option<String> {
    let change = outage.party_changed.as_ref()?;
    let name = |party: Option<Party>| party.map_or("undetermined", Party::as_str);
    Some(format!(
        "{}: the party was changed afterwards, from {} to {}, by {} on {}.",
        outage.id,
        name(outage.party_seen),
        name(outage.party),
        change.by,
        head.clock(change.at)
    ))
}

fn party(outage: &Outage) -> Cell {
    let name = outage.party.map_or("undetermined", Party::as_str);
    match &outage.party_changed {
        None => Cell::plain(name),
        Some(_) => Cell::toned(format!("{name} (changed)"), Tone::Warning).with_data(name),
    }
}

fn evidence_row(head: &Head, what: &str, evidence: &Evidence) -> Vec<Cell> {
    let status = evidence.http_status.map(|status| status.to_string());
    vec![
        Cell::toned(what, Tone::Dim),
        Cell::plain(head.clock(evidence.at)),
        Cell::plain(&evidence.check),
        Cell::plain(&evidence.message),
        or_dash(status.as_deref()),
        or_dash(evidence.request_id.as_deref()),
        or_dash(evidence.remote_address.as_deref()),
    ]
}

fn until(head: &Head, outage: &Outage) -> Cell {
    match outage.until {
        Some(until) => head.at(until),
        None => Cell::toned("open", Tone::Bad).with_data(""),
    }
}

/// Outages in a line each.
pub(super) fn outage_table(head: &Head, outages: &[Outage]) -> Table {
    let rows = outages.iter().map(|outage| {
        vec![
            Cell::plain(&outage.server),
            head.at(outage.from),
            until(head, outage),
            lasted(outage),
            party(outage),
            or_dash(outage.code.as_deref()),
            or_dash(outage.case_number.as_deref()),
        ]
    });
    table(&["server", "from", "until", "lasted", "party", "reason", "case"], rows.collect())
}

/// How long it was, as far as it is known.
fn lasted(outage: &Outage) -> Cell {
    match outage.unknown_ms {
        0 => lasting(outage.duration_ms),
        unknown => {
            let text = format!("{} ({} unknown)", length(outage.duration_ms), length(unknown));
            Cell::plain(text).with_data(outage.duration_ms)
        }
    }
}

/// Outages on a time axis, a lane a server. Their table stands beside it.
pub(super) fn timeline(head: &Head, title: &str, names: &[&str], outages: &[Outage]) -> Chart {
    let lanes = names.iter().filter_map(|name| {
        let spans: Vec<LaneSpan> = outages
            .iter()
            .filter(|outage| outage.server == **name)
            .map(|outage| LaneSpan {
                from_ms: outage.from.as_millisecond(),
                until_ms: outage.until.map(|until| until.as_millisecond()),
                condition: Condition::Down,
                label: format!(
                    "{}, {}, {}",
                    head.clock(outage.from),
                    length(outage.duration_ms),
                    outage.code.as_deref().unwrap_or("-")
                ),
            })
            .collect();
        (!spans.is_empty()).then(|| Lane { label: (*name).to_owned(), spans })
    });
    let longest = outages.iter().map(|outage| outage.duration_ms).max().unwrap_or(0);
    Chart {
        title: title.to_owned(),
        description: format!(
            "{}, the longest of {}.",
            count(outages.len(), "outage"),
            length(longest)
        ),
        plot: Plot::Timeline(Timeline { period: head.period(), lanes: lanes.collect() }),
        table: Table::default(),
    }
}
