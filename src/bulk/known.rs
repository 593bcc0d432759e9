//! The exports of a server that this machine knows of.

use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::export::{Conclusion, Identity, Mode, Stopped};
use super::ledger::{Finding, Ledger, Totals};
use super::place;
use crate::model::Result;
use crate::model::server::Server;

/// One export as its ledger has it.
#[derive(Debug)]
pub struct Known {
    pub identity: Identity,
    /// The job on the server, where there is one.
    pub job: Option<Job>,
    /// Whether the server has said what it made.
    pub has_manifest: bool,
    pub is_cancelled: bool,
    pub conclusion: Option<Conclusion>,
    pub totals: Totals,
    pub findings: Vec<Finding>,
    /// Why the last run stopped, where it did not end.
    pub stopped: Option<Stopped>,
    /// The process that works on it now.
    pub worker: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Job {
    pub status_url: Url,
    pub kicked_off_at: Timestamp,
}

/// The exports of a server, the newest first; what cannot be read is passed over.
///
/// # Errors
/// When the folder of the ledgers cannot be read.
pub fn of_server(state: &Path, server: &Server) -> Result<Vec<Known>> {
    let mut known: Vec<Known> = place::all(state)?
        .iter()
        .filter_map(|folder| read(folder).ok().flatten())
        .filter(|known| {
            known.identity.server == server.name && known.identity.url == server.url.as_str()
        })
        .collect();
    known.sort_by_key(|known| std::cmp::Reverse(known.identity.created_at));
    Ok(known)
}

fn read(folder: &Path) -> Result<Option<Known>> {
    let peek = Ledger::look(folder)?;
    let Some(identity) = peek.fact::<Identity>("export")? else { return Ok(None) };
    let job = peek.fact("job")?.filter(|_: &Job| identity.mode == Mode::Bulk);
    Ok(Some(Known {
        identity,
        job,
        has_manifest: peek.fact::<serde_json::Value>("manifest")?.is_some(),
        is_cancelled: peek.fact::<serde_json::Value>("cancelled_at")?.is_some(),
        conclusion: peek.fact("conclusion")?,
        totals: peek.totals()?,
        findings: peek.findings()?,
        stopped: peek.fact("stopped")?,
        worker: peek.worker(),
    }))
}
