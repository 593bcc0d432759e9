//! `report incident` and the outages of other reports.

use super::{Head, length};
use crate::render::chart::{Chart, Condition, Lane, LaneSpan, Plot, Timeline};
use crate::render::{Block, Cell, Output, Table, Tone};
use crate::report::{Evidence, Outage};
use crate::view::human::{count, or_dash, table};

/// The report in every form.
#[must_use]
pub fn output(head: Head, outages: Vec<Outage>) -> Output {
    let rows = outage_table(&head, &outages);
    let mut blocks = Vec::new();
    if outages.is_empty() {
        blocks.push(Block::text("No outage was seen."));
    } else {
        let mut names: Vec<&str> = outages.iter().map(|outage| outage.server.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        blocks.push(Block::chart(timeline(&head, &names, &outages)));
        for outage in &outages {
            blocks.push(Block::section(outage.id.clone(), told(&head, outage)));
        }
    }
    head.output("Incidents", outages, rows, blocks)
}

/// An outage in all that is known of it.
fn told(head: &Head, outage: &Outage) -> Vec<Block> {
    let mut facts: Vec<(String, Cell)> = vec![
        ("from".into(), Cell::plain(head.clock(outage.from))),
        ("until".into(), until(head, outage)),
        ("lasted".into(), Cell::plain(length(outage.duration_ms))),
        ("party".into(), Cell::plain(outage.party.map_or("undetermined", |party| party.as_str()))),
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
    for note in &outage.notes {
        blocks.push(Block::text(format!(
            "{}, {} ({}): {}",
            head.clock(note.written_at),
            note.author,
            note.kind,
            note.text
        )));
    }
    blocks
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
        Some(until) => Cell::plain(head.clock(until)),
        None => Cell::toned("open", Tone::Bad),
    }
}

/// Outages in a line each.
pub(super) fn outage_table(head: &Head, outages: &[Outage]) -> Table {
    let rows = outages.iter().map(|outage| {
        vec![
            Cell::plain(&outage.server),
            Cell::plain(head.clock(outage.from)),
            until(head, outage),
            Cell::plain(length(outage.duration_ms)),
            Cell::plain(outage.party.map_or("undetermined", |party| party.as_str())),
            or_dash(outage.code.as_deref()),
            or_dash(outage.case_number.as_deref()),
        ]
    });
    table(&["server", "from", "until", "lasted", "party", "reason", "case"], rows.collect())
}

/// Outages on a time axis, a lane a server.
pub(super) fn timeline(head: &Head, names: &[&str], outages: &[Outage]) -> Chart {
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
        title: "Outages".to_owned(),
        description: format!(
            "{}, the longest of {}.",
            count(outages.len(), "outage"),
            length(longest)
        ),
        plot: Plot::Timeline(Timeline { period: head.period(), lanes: lanes.collect() }),
        table: outage_table(head, outages),
    }
}
