//! What a vendor's preset says of exports, applied to a request and told.

use std::time::Duration;

use crate::bulk::request::{ExportRequest, Level, Verb};
use crate::inventory::preset::{self, Bulk, BulkLevel, BulkMethod};
use crate::model::server::Server;
use crate::model::{Error, Result};

fn bulk(server: &Server) -> Option<(&'static str, &'static Bulk)> {
    let preset = preset::preset(server.vendor.as_deref()?)?;
    Some((preset.title.as_str(), &preset.bulk))
}

/// What is exported when nobody says.
///
/// # Errors
/// Exit 64 where it has to be said.
pub(in crate::command) fn usual_level(server: &Server) -> Result<Level> {
    let Some((title, bulk)) = bulk(server) else { return Ok(Level::Patient) };
    if bulk.levels.is_empty() || bulk.levels.contains(&BulkLevel::Patient) {
        return Ok(Level::Patient);
    }
    if bulk.levels.contains(&BulkLevel::System) {
        return Ok(Level::System);
    }
    Err(Error::usage(format!("{title} exports groups only; which one?"))
        .hint("--group ID; the organisation that runs the server knows it"))
}

/// What is exported when all of a server is meant and nobody says more.
///
/// # Errors
/// Exit 64 where it has to be said.
pub(in crate::command) fn widest_level(server: &Server) -> Result<Level> {
    match bulk(server) {
        Some((_, bulk)) if !bulk.levels.is_empty() && !bulk.levels.contains(&BulkLevel::System) => {
            usual_level(server)
        }
        _ => Ok(Level::System),
    }
}

/// The pause between two looks that the vendor asks for, where the server itself says nothing.
pub(in crate::command) fn pause(server: &Server) -> Option<Duration> {
    bulk(server).and_then(|(_, bulk)| bulk.poll_every).map(|every| every.0)
}

/// How soon the vendor takes the same export again, where it is known to mind.
pub(in crate::command) fn again_after(server: &Server) -> Option<Duration> {
    bulk(server).and_then(|(_, bulk)| bulk.again_after).map(|after| after.0)
}

/// Whether the vendor is known not to take `_since`: then every export is a full one.
pub(in crate::command) fn has_no_since(server: &Server) -> bool {
    bulk(server).is_some_and(|(_, bulk)| {
        bulk.since == Some(false) && !bulk.unconfirmed.iter().any(|it| it == "since")
    })
}

/// Fits a request to what the vendor is known to take; what cannot be fitted is said.
///
/// # Errors
/// Exit 64 for what the vendor is known to refuse.
pub(in crate::command) fn apply(
    server: &Server,
    request: &mut ExportRequest,
) -> Result<Vec<String>> {
    let Some((title, bulk)) = bulk(server) else { return Ok(Vec::new()) };
    let mut notes = Vec::new();
    let is_sure = |key: &str| !bulk.unconfirmed.iter().any(|it| it == key);
    if bulk.levels.is_empty() {
        notes.push(format!("{title} is not known to have $export"));
    } else {
        let asked = match request.level {
            Level::System => BulkLevel::System,
            Level::Patient => BulkLevel::Patient,
            Level::Group(_) => BulkLevel::Group,
        };
        if !bulk.levels.contains(&asked) {
            notes.push(format!("{title} is not known to export at this level"));
        }
    }
    if request.since.is_some() && bulk.since == Some(false) {
        let message = format!("{title} does not take _since");
        if is_sure("since") {
            return Err(
                Error::usage(message).hint("leave --since away; compare full exports instead")
            );
        }
        notes.push(format!("{message} (not confirmed); it is sent all the same"));
    }
    if request.verb.is_none() && bulk.methods == [BulkMethod::Post] {
        request.verb = Some(Verb::Post);
        notes.push(format!("{title} takes an export by POST"));
    }
    if let Some(every) = bulk.poll_every {
        let every = every.to_string();
        notes.push(format!("{title} is asked for the status every {every}, unless it says itself"));
    }
    if let Some(number) = bulk.concurrent {
        notes.push(format!("{title} runs {number} export at a time; a busy server is waited for"));
    }
    if let Some(after) = bulk.again_after {
        let after = after.to_string();
        notes.push(format!("{title} takes the same export again after {after}"));
    }
    Ok(notes)
}
