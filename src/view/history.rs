//! `history`: how much there is, whether it is whole, what was done to it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::human::{facts, length, table};
use crate::history::{Compacted, Overview, Pruned, RolledUp, Seal, Verification};
use crate::inventory::Retention;
use crate::model::Exit;
use crate::render::{Block, Cell, Output, Tone};
use crate::report::instant;

/// The store in numbers.
#[must_use]
pub fn status(place: &str, status: &Overview) -> Output {
    let at = |ms: Option<i64>| ms.map(instant);
    let text = |at: Option<Timestamp>| at.map(|at| Cell::plain(at.to_string()));
    let json = json!({
        "schema": "fhirctl/history-status/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "history": place,
        "engine": status.engine,
        "schema_version": status.schema,
        "size_bytes": status.bytes,
        "servers": status.servers,
        "runs": status.runs,
        "readings": status.readings,
        "packed_readings": status.packed,
        "segments": status.segments,
        "segment_bytes": status.segment_bytes,
        "hours": status.hours,
        "days": status.days,
        "notes": status.notes,
        "gauges": status.gauges,
        "first_at": at(status.first_at),
        "last_at": at(status.last_at),
        "rolled_to": at(status.rolled_to),
        "unpacked_from": status.unpacked_from,
        "last_seal": status.last_seal,
    });
    let day = |day: Option<jiff::civil::Date>| day.map(|day| Cell::plain(day.to_string()));
    let number = |number: u64| Some(Cell::plain(number.to_string()));
    let document = vec![facts([
        ("history", Some(Cell::plain(place))),
        ("engine", Some(Cell::plain(format!("{}, layout {}", status.engine, status.schema)))),
        ("size", Some(Cell::plain(size(status.bytes)))),
        ("servers", number(status.servers)),
        ("runs", number(status.runs)),
        ("readings", number(status.readings)),
        (
            "of them packed",
            Some(Cell::plain(format!(
                "{} in {} segments, {}",
                status.packed,
                status.segments,
                size(status.segment_bytes)
            ))),
        ),
        ("roll-ups", Some(Cell::plain(format!("{} hours, {} days", status.hours, status.days)))),
        ("notes", number(status.notes)),
        ("values of gauges", number(status.gauges)),
        ("first reading", text(at(status.first_at))),
        ("last reading", text(at(status.last_at))),
        ("rolled up to", text(at(status.rolled_to))),
        ("not packed from", day(status.unpacked_from)),
        ("last seal", day(status.last_seal)),
    ])];
    Output { json, document, ..Output::default() }
}

/// Whether it is as it was written.
#[must_use]
pub fn verified(place: &str, found: &Verification, unsealed: &[String], exit: Exit) -> Output {
    let problem = found.problem.as_ref();
    let mut problems: Vec<String> = problem
        .map(|problem| match &problem.server {
            Some(server) => format!("{server}: {}", problem.message),
            None => problem.message.clone(),
        })
        .into_iter()
        .collect();
    problems.extend(unsealed.iter().cloned());
    let json = json!({
        "schema": "fhirctl/history-verify/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "history": place,
        "verified": problems.is_empty(),
        "exit_code": exit.0,
        "servers": found.servers,
        "readings": found.readings,
        "segments": found.segments,
        "hours": found.hours,
        "seals": found.seals.len(),
        "problem": problem.map(|problem| json!({
            "kind": format!("{:?}", problem.kind).to_lowercase(),
            "server": problem.server,
            "day": problem.day,
            "position": problem.position,
            "message": problem.message,
        })),
        "problems": problems,
    });
    let verdict = match problems.is_empty() {
        true => Cell::toned("verifies", Tone::Good),
        false => Cell::toned("does not verify", Tone::Bad),
    };
    let mut document = vec![
        Block::Text(vec![Cell::plain(format!("{place} ")), verdict, Cell::plain(".")]),
        facts([
            ("servers", Some(Cell::plain(found.servers.to_string()))),
            ("readings", Some(Cell::plain(found.readings.to_string()))),
            ("segments", Some(Cell::plain(found.segments.to_string()))),
            ("rolled-up hours", Some(Cell::plain(found.hours.to_string()))),
            ("seals", Some(Cell::plain(found.seals.len().to_string()))),
        ]),
    ];
    document.extend(problems.iter().map(Block::text));
    Output { json, document, ..Output::default() }
}

/// What packing did.
#[must_use]
pub fn compacted(place: &str, rolled: &RolledUp, packed: &Compacted, seals: &[Seal]) -> Output {
    let sealed: Vec<_> =
        seals.iter().map(|seal| json!({"day": seal.day, "digest": seal.digest})).collect();
    let json = json!({
        "schema": "fhirctl/history-compact/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "history": place,
        "hours": rolled.hours,
        "days": rolled.days,
        "readings": packed.readings,
        "segments": packed.segments,
        "sealed": sealed,
    });
    let mut document = vec![Block::text(format!(
        "{} readings packed into {} segments; {} hours and {} days rolled up.",
        packed.readings, packed.segments, rolled.hours, rolled.days
    ))];
    document.extend(seals.iter().map(|seal| {
        Block::text(format!(
            "{} is sealed, and its seal is in the audit log: {}",
            seal.day, seal.digest
        ))
    }));
    Output { json, document, ..Output::default() }
}

/// What was let go, or would be.
#[must_use]
pub fn pruned(place: &str, kept: &Retention, pruned: &Pruned, is_dry: bool) -> Output {
    let days = |kept: Duration| kept.as_secs() / 86_400;
    let json = json!({
        "schema": "fhirctl/history-prune/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "history": place,
        "dry_run": is_dry,
        "kept_days": {"raw": days(kept.raw), "hourly": days(kept.hourly), "daily": days(kept.daily)},
        "readings": pruned.readings,
        "hours": pruned.hours,
        "days": pruned.days,
        "gauges": pruned.gauges,
    });
    let kept_for = |kept: Duration| length(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    let document = [
        format!(
            "{} readings, {} hours, {} days and {} values of gauges {}.",
            pruned.readings,
            pruned.hours,
            pruned.days,
            pruned.gauges,
            if is_dry { "would go, as things are packed now" } else { "are gone" }
        ),
        format!(
            "Kept are readings for {}, hours for {} and days for {}, each in whole days.",
            kept_for(kept.raw),
            kept_for(kept.hourly.max(kept.raw)),
            kept_for(kept.daily.max(kept.hourly).max(kept.raw))
        ),
    ];
    Output { json, document: document.map(Block::text).into(), ..Output::default() }
}

/// What came in.
#[must_use]
pub fn imported(source: &str, counts: &[(String, u64, u64)]) -> Output {
    taken_in(source, "readings", counts)
}

/// The same of `history import --gauges`.
#[must_use]
pub fn gauges_imported(source: &str, counts: &[(String, u64, u64)]) -> Output {
    taken_in(source, "values", counts)
}

fn taken_in(source: &str, what: &str, counts: &[(String, u64, u64)]) -> Output {
    let servers: Vec<_> = counts
        .iter()
        .map(|(server, new, known)| json!({"server": server, what: new, "known_already": known}))
        .collect();
    let rows = counts.iter().map(|(server, new, known)| {
        vec![Cell::plain(server), new.to_string().into(), known.to_string().into()]
    });
    let table = table(&["server", "imported", "known already"], rows.collect());
    let json = json!({
        "schema": "fhirctl/history-import/v1",
        "fhirctl_version": super::FHIRCTL_VERSION,
        "source": source,
        "servers": servers,
    });
    Output {
        json,
        rows: Some(table.clone()),
        document: vec![Block::Table(table)],
        ..Output::default()
    }
}

#[must_use]
pub fn size(bytes: u64) -> String {
    crate::render::chart::Unit::Bytes.say(bytes as f64)
}
