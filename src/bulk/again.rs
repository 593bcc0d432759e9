//! How long ago a server was asked for an export, as the ledgers on this machine know it.
//!
//! Some vendors take the same export only once in a while, and count from the last kick-off.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::export::{Identity, Mode};
use super::ledger::Ledger;
use super::objects::Destination;
use super::place;
use super::request::Level;
use crate::model::Result;
use crate::model::server::Server;

/// The part of a job that counts here.
#[derive(Deserialize)]
struct Job {
    kicked_off_at: Timestamp,
}

/// When the export of a destination was taken by its server; `None` where none was begun, or the server
/// did not take it.
///
/// # Errors
/// When its marker or ledger cannot be read.
pub fn kicked_off(state: &Path, destination: &Destination) -> Result<Option<Timestamp>> {
    match place::known_in(state, destination)? {
        Some(identity) => {
            let peek = Ledger::look(&place::ledgers(state).join(identity.id))?;
            Ok(peek.fact::<Job>("job")?.map(|job| job.kicked_off_at))
        }
        None => Ok(None),
    }
}

/// When a server last took an export of this level, or of this group.
///
/// # Errors
/// When the folder of the ledgers cannot be read. A ledger that cannot is passed over.
pub fn last_kick_off(state: &Path, server: &Server, level: &Level) -> Result<Option<Timestamp>> {
    let of_ledger = |folder: &PathBuf| -> Option<Timestamp> {
        let peek = Ledger::look(folder).ok()?;
        let identity: Identity = peek.fact("export").ok()??;
        let is_same = identity.server == server.name
            && identity.url == server.url.as_str()
            && identity.request.level == *level
            // Searches are no exports to a vendor.
            && identity.mode == Mode::Bulk;
        if !is_same {
            return None;
        }
        peek.fact::<Job>("job").ok()?.map(|job| job.kicked_off_at)
    };
    Ok(place::all(state)?.iter().filter_map(of_ledger).max())
}
